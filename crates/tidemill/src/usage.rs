//! What this process has cost so far, as the kernel tells it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Ticks of the kernel's accounts in a second, the same on every Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU seconds in the program.
    pub(crate) user_seconds: f64,
    /// CPU seconds in the kernel.
    pub(crate) system_seconds: f64,
    /// Page faults that needed no disk.
    pub(crate) page_faults: u64,
    /// The most memory that it had at once.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// The cost of this process; zeros where the kernel does not tell.
    pub(crate) fn now() -> Usage {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Usage::parse(&stat, &status)
    }

    fn parse(stat: &str, status: &str) -> Usage {
        // The second field is the name in parentheses, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kib = peak.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Usage {
            user_seconds: field(14) as f64 / TICKS_PER_SECOND,
            system_seconds: field(15) as f64 / TICKS_PER_SECOND,
            page_faults: field(10),
            peak_bytes: peak_kib.unwrap_or(0) * 1024,
        }
    }
}

/// What a run has cost and done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunCost {
    /// Wall seconds of the run itself.
    pub(crate) seconds: f64,
    /// Records taken in.
    pub(crate) records: u64,
    /// Rows that left the circuit.
    pub(crate) rows_out: u64,
    /// What the process has cost.
    #[serde(flatten)]
    pub(crate) usage: Usage,
}

impl RunCost {
    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    /// Reads what was written.
    pub(crate) fn read(path: &Path) -> std::io::Result<RunCost> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_accounts() {
        let stat = "123 (a) b) c) R 1 2 3 4 5 6 777 8 9 10 1234 56 0 0 20 0 1 0 0 0 0";
        let status = "Name:\ttidemill\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n";
        let usage = Usage::parse(stat, status);
        let expected = Usage { user_seconds: 12.34, system_seconds: 0.56, page_faults: 777, peak_bytes: 2_097_152 };
        assert_eq!(usage, expected);
        assert_eq!(Usage::parse("", ""), Usage::default());
    }
}

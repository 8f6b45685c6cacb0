//! Where a record stands ([`Sequence`]) and what it has survived ([`Level`]).

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The number of a record in its journal: the first is 1, and the next one's is one more, through restarts too.
///
/// As a watermark it says "every record up to and including this one"; [`Sequence::NONE`] is before all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before every record.
    pub const NONE: Sequence = Sequence(0);
    /// The first record of a journal.
    pub const FIRST: Sequence = Sequence(1);
    /// After every record.
    pub const MAX: Sequence = Sequence(u64::MAX);

    /// The one after.
    pub fn next(self) -> Sequence {
        Sequence(self.0.saturating_add(1))
    }

    /// The one before; that of [`Sequence::NONE`] is itself.
    pub fn previous(self) -> Sequence {
        Sequence(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an acknowledged record survives.
///
/// | level | survives | may lose |
/// |---|---|---|
/// | `process` | a panic, SIGKILL, the OOM killer, an upgrade | in a power cut, what came after the last flush (50 ms) |
/// | `flushed` | a kernel panic and a power cut too | the disk itself |
///
/// A record at level `process` is in pages that the kernel owns. A record at level `flushed` has seen a flush that
/// covers it and every record before it; many records share one flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// It outlives the process.
    Process,
    /// It outlives the machine's power.
    #[default]
    Flushed,
}

impl Level {
    /// Both, the weaker first.
    pub const ALL: [Level; 2] = [Level::Process, Level::Flushed];

    /// The word in options, headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Process => "process",
            Level::Flushed => "flushed",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Level, Error> {
        let level = Level::ALL.into_iter().find(|level| level.as_str() == text);
        level.ok_or_else(|| Error::Level { text: text.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_reads_as_it_is_written() {
        for level in Level::ALL {
            assert!(matches!(level.to_string().parse::<Level>(), Ok(read) if read == level));
        }
        let error = "fsync".parse::<Level>().expect_err("no such level");
        assert_eq!(error.to_string(), "'fsync' is no level of durability");
    }
}

//! `tidemill bench nexmark`: the queries of Nexmark, each in a process of its own.
//!
//! A query runs as `tidemill run` would run it, and reports what the kernel says it cost: CPU time in the program and in
//! the kernel apart, because page faults hide in the latter, and the most memory it had.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::arguments::{Bench, Nexmark, Output, Suite};
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::usage::RunCost;

/// The tables, made up on the spot.
const GENERATOR: &str = include_str!("../../../../bench/nexmark/generator.sql");

/// The tables, read from files.
const TABLES: &str = include_str!("../../../../bench/nexmark/tables.sql");

/// Names the files of queries.
macro_rules! queries {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../../bench/nexmark/", $name, ".sql")))),*]
    };
}

/// The queries by name.
const QUERIES: [(&str, &str); 24] = queries!(
    "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10", "q11", "q12", "q13", "q14", "q15", "q16", "q17",
    "q18", "q19", "q20", "q21", "q22", "q23"
);

/// The table that q13 looks rows up in, below the folder of the data.
const SIDE_INPUT: &str = "side_input";

/// The rows of [`SIDE_INPUT`], where the data comes without it.
const SIDE_ROWS: u32 = 10_000;

/// What one query has cost.
#[derive(Debug, Serialize)]
struct Measured {
    query: &'static str,
    #[serde(flatten)]
    cost: RunCost,
    records_per_second: f64,
    cpu_seconds: f64,
}

/// Measures.
pub(crate) fn run(bench: &Bench) -> Result<(), Failure> {
    let Suite::Nexmark(nexmark) = &bench.suite;
    let queries = chosen(&nexmark.queries)?;
    let scratch = Scratch::new()?;
    let (mut measurements, mut failed) = (Vec::new(), 0);
    if nexmark.output == Output::Text {
        console::put(header().as_bytes())?;
    } else if nexmark.output == Output::Csv {
        console::put(b"query,seconds,records,records_per_second,user_seconds,system_seconds,page_faults,peak_bytes\n")?;
    }
    for (query, sql) in queries {
        match measure(query, sql, nexmark, &scratch.0) {
            Ok(measured) => match nexmark.output {
                Output::Json => measurements.push(measured),
                output => console::put(line(&measured, output).as_bytes())?,
            },
            Err(problem) => {
                failed += 1;
                console::say(&format!("{query} did not run: {}", problem.trim_end()));
            }
        }
    }
    if nexmark.output == Output::Json {
        console::put(
            serde_json::to_string_pretty(&measurements).map(|text| text + "\n").unwrap_or_default().as_bytes(),
        )?;
    }
    match failed {
        0 => Ok(()),
        count => Err(Failure::environment(format!("{count} of the queries did not run"))),
    }
}

/// The queries that were asked for, in the order in which they were.
fn chosen(names: &[String]) -> Result<Vec<(&'static str, &'static str)>, Failure> {
    if names.is_empty() {
        return Ok(QUERIES.to_vec());
    }
    let find = |name: &String| {
        let found = QUERIES.into_iter().find(|(query, _)| query == name);
        found.ok_or_else(|| {
            let all: Vec<&str> = QUERIES.iter().map(|(query, _)| *query).collect();
            Failure::Usage(format!("there is no query '{name}'; there are {}", all.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// Runs a query in a process of its own.
fn measure(query: &'static str, sql: &str, nexmark: &Nexmark, scratch: &Path) -> Result<Measured, String> {
    let failed = |error: std::io::Error| error.to_string();
    let (pipeline, usage, out) = (scratch.join("query.sql"), scratch.join("usage.json"), scratch.join("out"));
    if sql.contains(SIDE_INPUT) {
        side_input(scratch).map_err(failed)?;
    }
    std::fs::write(&pipeline, composed(sql, nexmark, scratch, &out)).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("run").arg(&pipeline).arg("--usage").arg(&usage);
    if let Some(lanes) = nexmark.lanes {
        command.arg("--lanes").arg(lanes.to_string());
    }
    let ran = command.output().map_err(failed)?;
    // What a query has written is not looked at.
    let _ = std::fs::remove_dir_all(&out);
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into_owned());
    }
    let cost = RunCost::read(&usage).map_err(failed)?;
    let records_per_second = cost.records as f64 / cost.seconds.max(1e-6);
    let cpu_seconds = cost.usage.user_seconds + cost.usage.system_seconds;
    Ok(Measured { query, cost, records_per_second, cpu_seconds })
}

/// Writes the table that q13 looks rows up in.
fn side_input(scratch: &Path) -> std::io::Result<()> {
    let rows: String = (0..SIDE_ROWS).map(|key| format!("{key},side-{key}\n")).collect();
    std::fs::create_dir_all(scratch.join(SIDE_INPUT))?;
    std::fs::write(scratch.join(SIDE_INPUT).join("side_input.csv"), rows)
}

/// The query behind the tables that it reads.
fn composed(sql: &str, nexmark: &Nexmark, scratch: &Path, out: &Path) -> String {
    let data = nexmark.data.as_ref().map(|data| std::path::absolute(data).unwrap_or_else(|_| data.clone()));
    let (tables, data) = match &data {
        Some(data) => (TABLES, quoted(data)),
        None => (GENERATOR, String::new()),
    };
    let side = format!("{}/{SIDE_INPUT}", quoted(scratch));
    format!("{tables}\n{sql}")
        .replace(&format!("${{DATA}}/{SIDE_INPUT}"), &side)
        .replace("${DATA}", &data)
        .replace("${EVENTS}", &nexmark.events.to_string())
        .replace("${OUT}", &quoted(out))
}

/// A path as it stands between quotes.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\'', "''")
}

fn header() -> String {
    format!(
        "{:<6} {:>14} {:>9} {:>9} {:>9} {:>12} {:>9}\n",
        "query", "records/s", "seconds", "user s", "system s", "page faults", "peak MB"
    )
}

fn line(measured: &Measured, output: Output) -> String {
    let Measured { query, cost, records_per_second, .. } = measured;
    let usage = &cost.usage;
    match output {
        Output::Text => format!(
            "{query:<6} {:>14} {:>9.2} {:>9.2} {:>9.2} {:>12} {:>9.1}\n",
            thousands(*records_per_second as u64),
            cost.seconds,
            usage.user_seconds,
            usage.system_seconds,
            thousands(usage.page_faults),
            usage.peak_bytes as f64 / 1e6
        ),
        Output::Csv => format!(
            "{query},{},{},{records_per_second:.0},{},{},{},{}\n",
            cost.seconds, cost.records, usage.user_seconds, usage.system_seconds, usage.page_faults, usage.peak_bytes
        ),
        Output::Ndjson | Output::Json => serde_json::to_string(measured).map(|text| text + "\n").unwrap_or_default(),
    }
}

/// A folder that goes away.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("tidemill-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::environment(format!("{} cannot be made: {error}", folder.display())))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder of measurements that stays behind does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_what_was_asked_for() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| name.to_string()).collect() };
        let found =
            |list: &[&str]| chosen(&names(list)).ok().map(|all| all.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert_eq!(found(&["q2", "q0"]), Some(vec!["q2", "q0"]));
        assert_eq!(found(&[]).map(|all| all.len()), Some(24));
        assert_eq!(found(&["q99"]), None);
    }
}

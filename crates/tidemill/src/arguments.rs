//! What can be asked of the command.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Real-time computing: events in, exact incremental SQL over them, answers out.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a pipeline file: to its end when every source has one, else until Ctrl-C
    Run(Run),
    /// Run a recorded run again, and check that every step gives what it gave
    Replay(Replay),
    /// Say whether a pipeline file can be run, without running it
    Check(Check),
    /// Show what a pipeline file becomes: operators, what each keeps, and what bounds that
    Explain(Explain),
    /// Type statements and see what they answer
    Sql(Sql),
    /// Measure
    Bench(Bench),
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned tables
    Text,
    /// One array of objects a SELECT
    Json,
    /// One object a row
    Ndjson,
    /// Comma-separated values with a header
    Csv,
}

/// Run a pipeline file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// The pipeline: SQL statements
    pub(crate) file: PathBuf,
    /// Threads that decode and compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = lanes())]
    pub(crate) lanes: Option<u64>,
    /// How the rows of bare SELECTs are printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
    /// Write down what every step takes in and gives, for `tidemill replay`
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Where the HTTP door listens [default: 127.0.0.1:8080, when a table comes in over HTTP]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Listen on an address that other machines can reach, though nothing asks who they are
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The seed of RAND and UUID [default: from the clock]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Write what the run cost to a file, as JSON
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) usage: Option<PathBuf>,
}

/// Run a recorded run again.
#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    /// The record, as `tidemill run --record FILE` wrote it
    pub(crate) file: PathBuf,
}

/// Check a pipeline file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    /// The pipeline: SQL statements
    pub(crate) file: PathBuf,
}

/// Explain a pipeline file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Explain {
    /// The pipeline: SQL statements
    pub(crate) file: PathBuf,
    /// How it is shown
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Drawing,
}

/// How a circuit is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Drawing {
    /// A tree for each output
    Text,
    /// One object
    Json,
    /// A flowchart for mermaid
    Mermaid,
}

/// The shell.
#[derive(Debug, Clone, Args)]
pub(crate) struct Sql {
    /// Statements to begin with, such as tables
    pub(crate) file: Option<PathBuf>,
    /// Threads that decode and compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = lanes())]
    pub(crate) lanes: Option<u64>,
    /// How rows are printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// Measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bench {
    /// What to measure
    #[command(subcommand)]
    pub(crate) suite: Suite,
}

/// What can be measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Suite {
    /// The queries of Nexmark, each in a process of its own
    Nexmark(Nexmark),
}

/// The queries of Nexmark.
#[derive(Debug, Clone, Args)]
pub(crate) struct Nexmark {
    /// Which queries [default: all that can be run]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) queries: Vec<String>,
    /// How many events are made up
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..), conflicts_with = "data")]
    pub(crate) events: u64,
    /// Threads that decode and compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = lanes())]
    pub(crate) lanes: Option<u64>,
    /// Read NDJSON files from the folders person, auction and bid in here instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// How the measurements are printed
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

fn lanes() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=256)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        Arguments::command().debug_assert();
    }
}

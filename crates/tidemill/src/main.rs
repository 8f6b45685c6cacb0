//! The tidemill command: one verb a file under `verb`, all of them thin over the crates below.
//!
//! Data goes to stdout and everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 SQL or configuration
//! is wrong, 130 interrupted.

mod answers;
mod arguments;
mod buckets;
mod console;
mod failure;
mod interrupt;
mod pipeline;
mod progress;
mod sheet;
mod shell;
mod usage;
mod verb;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Verb};

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(arguments::folder_first(std::env::args_os().collect()));
    log();
    let result = match arguments.verb {
        Verb::Run(run) => verb::run::run(&run),
        Verb::Replay(replay) => verb::replay::run(&replay),
        Verb::Table(table) => verb::table::run(&table),
        Verb::Journal(journal) => verb::journal::run(&journal),
        Verb::Versions(versions) => verb::versions::run(&versions),
        Verb::Check(check) => verb::check::run(&check),
        Verb::Explain(explain) => verb::explain::run(&explain),
        Verb::Proto(proto) => verb::proto::run(&proto),
        Verb::Sql(sql) => verb::sql::run(&sql),
        Verb::Token(token) => verb::token::run(&token),
        Verb::Bench(bench) => verb::bench::run(&bench),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

/// Sends logs to stderr; `TIDEMILL_LOG` says which, such as `info` or `tidemill_gateway=debug`.
fn log() {
    let filter = EnvFilter::try_from_env("TIDEMILL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second logger in one process is impossible here, and would not matter.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).try_init();
}

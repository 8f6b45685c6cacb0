//! [`Failure`]: why a verb did not do what it was asked, and the exit code that says so.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use tidemill_base::{Explain, Kind};

use crate::console;

/// Why a verb ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments cannot be followed. Exit code 2.
    Usage(String),
    /// Something is wrong, as shown. Exit code 3 when it is the SQL or the configuration, else 1.
    Shown {
        /// What is printed.
        text: String,
        /// What the reader has to do.
        kind: Kind,
    },
    /// Someone stopped it. Exit code 130.
    Interrupted,
    /// Nobody reads what is printed any more; not an error.
    ReaderGone,
}

impl Failure {
    /// An error about a text: `name` is what the text is called.
    pub(crate) fn explained(error: &(impl Explain + 'static), name: &str, text: &str) -> Self {
        if is_broken_pipe(error) {
            return Failure::ReaderGone;
        }
        Failure::Shown { text: tidemill_sql::error::render(error, name, text), kind: error.kind() }
    }

    /// An error that is about no text.
    pub(crate) fn plain(error: &(impl Explain + 'static)) -> Self {
        Failure::explained(error, "", "")
    }

    /// Something outside is in the way.
    pub(crate) fn environment(text: impl std::fmt::Display) -> Self {
        Failure::Shown { text: format!("error: {text}\n"), kind: Kind::Environment }
    }

    /// Says what is wrong, and gives the exit code.
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Failure::Usage(text) => {
                console::say(&format!("error: {text}"));
                ExitCode::from(2)
            }
            Failure::Shown { text, kind } => {
                console::say(text.trim_end());
                ExitCode::from(if kind == Kind::Config { 3 } else { 1 })
            }
            Failure::Interrupted => ExitCode::from(130),
            Failure::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

impl From<io::Error> for Failure {
    /// An error of writing to stdout.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::environment(format!("stdout cannot be written: {error}")),
        }
    }
}

/// Whether an error is that of a sink whose reader has gone.
fn is_broken_pipe(error: &(dyn StdError + 'static)) -> bool {
    let Some(tidemill_node::Error::Stage(tidemill_stage::Error::Failed { cause, .. })) = error.downcast_ref() else {
        return false;
    };
    let cause: &(dyn StdError + 'static) = cause.as_ref();
    match cause.downcast_ref() {
        Some(tidemill_connect::Error::Io { error, path, .. }) => {
            error.kind() == io::ErrorKind::BrokenPipe && path.as_os_str() == "stdout"
        }
        _ => false,
    }
}

//! Why a stage ends early ([`Halt`]), and what a graph says about it ([`Error`]).

use std::fmt;

use tidemill_base::{Explain, Kind, Position};

use crate::channel::Stopped;

/// The error of a stage, whatever its type.
pub type Cause = Box<dyn Explain + Send + Sync>;

/// Why a stage ends before its input does.
#[derive(Debug)]
pub enum Halt {
    /// It was told to; nobody's fault.
    Stopped,
    /// It failed; the graph is aborted.
    Failed(Cause),
}

impl Halt {
    /// A failure whose error has no code of its own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Halt::Failed(Box::new(Other(error.into())))
    }
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Self {
        Halt::Stopped
    }
}

impl<E: Explain + Send + Sync + 'static> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Failed(Box::new(error))
    }
}

/// An error that cannot explain itself.
#[derive(Debug)]
struct Other(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Other {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Explain for Other {
    fn code(&self) -> &'static str {
        "TM3101"
    }

    fn kind(&self) -> Kind {
        Kind::Environment
    }
}

/// Why a graph did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A stage failed; the first one to do so.
    #[error("stage '{stage}': {cause}")]
    Failed {
        /// The stage.
        stage: String,
        /// What it said.
        cause: Cause,
        /// What other stages said after it.
        others: Vec<Error>,
    },
    /// A stage panicked, before any other failed.
    #[error("stage '{stage}' panicked: {message}")]
    Panicked {
        /// The stage.
        stage: String,
        /// The panic's message.
        message: String,
        /// What other stages said after it.
        others: Vec<Error>,
    },
    /// The machine gave no thread for a stage.
    #[error("no thread could be started for stage '{stage}': {cause}")]
    NoThread {
        /// The stage.
        stage: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Someone aborted the graph.
    #[error("stopped at once, as asked: what was in flight is dropped")]
    Aborted,
}

impl Error {
    /// The stage that it is about.
    pub fn stage(&self) -> Option<&str> {
        match self {
            Error::Failed { stage, .. } | Error::Panicked { stage, .. } | Error::NoThread { stage, .. } => Some(stage),
            Error::Aborted => None,
        }
    }

    /// What other stages said after the first.
    pub fn others(&self) -> &[Error] {
        match self {
            Error::Failed { others, .. } | Error::Panicked { others, .. } => others,
            Error::NoThread { .. } | Error::Aborted => &[],
        }
    }

    /// The first of errors in the order in which they happened, holding the rest.
    pub(crate) fn first(errors: Vec<Error>) -> Option<Error> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        if let Error::Failed { others, .. } | Error::Panicked { others, .. } = &mut first {
            others.extend(errors);
        }
        Some(first)
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Failed { cause, .. } => cause.code(),
            Error::Panicked { .. } => "TM3102",
            Error::NoThread { .. } => "TM3103",
            Error::Aborted => "TM3104",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Failed { cause, .. } => cause.kind(),
            Error::Panicked { .. } => Kind::Bug,
            Error::NoThread { .. } | Error::Aborted => Kind::Environment,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Error::Failed { cause, .. } => cause.help(),
            Error::Panicked { .. } => Some("this is a bug in tidemill: please report it with the SQL".to_string()),
            Error::NoThread { .. } => Some("raise the limit of threads (ulimit -u), or use fewer sources".to_string()),
            Error::Aborted => None,
        }
    }

    fn position(&self) -> Option<Position> {
        match self {
            Error::Failed { cause, .. } => cause.position(),
            _ => None,
        }
    }
}

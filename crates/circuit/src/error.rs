//! What stops a circuit, and where in the query it happened.

use tidemill_base::{Explain, Kind, Position};

/// Why a step could not be finished. The circuit stays as it was told to stop; it takes no further step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// An expression failed on a row and `on-error` is `stop`.
    #[error("{operator} failed on row {row}: {message}")]
    Row {
        /// The operator, as `explain` names it.
        operator: String,
        /// Where the query says so.
        position: Option<Position>,
        /// The row as JSON, cut to a readable length.
        row: String,
        /// What the expression said.
        message: String,
    },
    /// A record of a source is not what was declared.
    #[error("source '{origin}': {message}")]
    Record {
        /// The table of the record.
        origin: String,
        /// The partition of the record; the shell knows its name.
        partition: u32,
        /// What is wrong, and where.
        message: String,
    },
    /// A panic in a lane was caught.
    #[error("{operator} panicked: {message}")]
    Panic {
        /// The operator that ran.
        operator: String,
        /// Where the query asks for it.
        position: Option<Position>,
        /// The panic's message.
        message: String,
    },
    /// An operator found one of its own promises broken, or Arrow refused a batch it made.
    #[error("{operator}: {message}")]
    Broken {
        /// The operator.
        operator: String,
        /// The broken promise.
        message: String,
    },
    /// A plan asks for something that no operator does.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Where the query asks for it.
        position: Option<Position>,
    },
    /// Saved state is damaged, or is not this operator's.
    #[error("the saved state of {operator} cannot be restored: {message}")]
    Saved {
        /// The operator, or the part of the circuit.
        operator: String,
        /// What is wrong with it.
        message: String,
    },
    /// The rows of a versioned table cannot be looked up in.
    #[error("the versioned table '{table}' cannot be read: {message}")]
    Lookup {
        /// The table.
        table: String,
        /// What is wrong with it.
        message: String,
    },
    /// The circuit failed in an earlier step and takes no further one.
    #[error("the circuit has stopped after an error")]
    Stopped,
}

impl Error {
    /// A broken promise of `operator`.
    pub fn broken(operator: &str, message: impl ToString) -> Self {
        Error::Broken { operator: operator.to_string(), message: message.to_string() }
    }

    /// Saved state of `operator` that cannot be restored.
    pub(crate) fn saved(operator: &str, damage: crate::keep::wire::Damage) -> Self {
        Error::Saved { operator: operator.to_string(), message: damage.0 }
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Row { .. } => "TM2001",
            Error::Record { .. } => "TM2002",
            Error::Panic { .. } => "TM2003",
            Error::Broken { .. } => "TM2004",
            Error::Unsupported { .. } => "TM2005",
            Error::Stopped => "TM2006",
            Error::Saved { .. } => "TM2007",
            Error::Lookup { .. } => "TM2008",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Row { .. } | Error::Record { .. } => Kind::Input,
            Error::Panic { .. } | Error::Broken { .. } => Kind::Bug,
            Error::Unsupported { .. } => Kind::Config,
            Error::Stopped | Error::Lookup { .. } => Kind::Environment,
            Error::Saved { .. } => Kind::Restore,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Error::Row { .. } => Some(
                "correct the row, guard the expression (TRY_CAST, NULLIF, CASE), or say \
                 SET 'on-error' = 'null'; or SET 'on-error' = 'dead-letter';"
                    .to_string(),
            ),
            Error::Record { .. } => {
                Some("correct the record, or set '<format>.ignore-parse-errors' = 'true' on the table".to_string())
            }
            Error::Panic { .. } | Error::Broken { .. } => {
                Some("this is a bug in tidemill: please report it with the SQL and the row".to_string())
            }
            Error::Saved { .. } => Some("go back to an earlier snapshot, or rebuild from the journal".to_string()),
            Error::Lookup { table, .. } => Some(format!(
                "see what the table holds: tidemill table show {table}, and its changes: tidemill table log {table}"
            )),
            Error::Unsupported { .. } | Error::Stopped => None,
        }
    }

    fn position(&self) -> Option<Position> {
        match self {
            Error::Row { position, .. } | Error::Panic { position, .. } | Error::Unsupported { position, .. } => {
                *position
            }
            Error::Record { .. }
            | Error::Broken { .. }
            | Error::Saved { .. }
            | Error::Lookup { .. }
            | Error::Stopped => None,
        }
    }
}

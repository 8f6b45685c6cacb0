//! Why a pipeline could not be started, or did not come to its end.

use std::io;
use std::path::PathBuf;

use tidemill_base::{Explain, Kind, Position};

/// Why a pipeline could not be started, or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table's connector cannot be opened.
    #[error("{error}")]
    Connect {
        /// What is wrong.
        error: Box<tidemill_connect::Error>,
        /// Where the table, or the option, is declared.
        position: Option<Position>,
    },
    /// The circuit cannot be built, or has stopped.
    #[error(transparent)]
    Circuit(#[from] tidemill_circuit::Error),
    /// A record is not what its table declares.
    #[error("table '{table}', {origin}: {message}")]
    Record {
        /// The table.
        table: String,
        /// The file, or the connector.
        origin: String,
        /// What is wrong, and where.
        message: String,
    },
    /// A stage failed.
    #[error("{}", Stage(.0))]
    Stage(#[from] tidemill_stage::Error),
    /// A view cannot be kept or read.
    #[error(transparent)]
    View(#[from] tidemill_circuit::view::Error),
    /// A door cannot be opened.
    #[error(transparent)]
    Gateway(#[from] tidemill_gateway::Error),
    /// The SQL cannot be planned.
    #[error(transparent)]
    Sql(#[from] tidemill_sql::error::Error),
    /// Rows are taken back, and the sink cannot.
    #[error("table '{table}' only takes rows that stay, but {operator} takes rows back")]
    Retraction {
        /// The table.
        table: String,
        /// The operator.
        operator: String,
        /// Where the query asks for it.
        position: Option<Position>,
    },
    /// A side output goes to a table that cannot take it.
    #[error("the side output '{setting}' cannot go to table '{table}': {problem}")]
    Side {
        /// The setting.
        setting: &'static str,
        /// The table.
        table: String,
        /// What is in the way.
        problem: String,
    },
    /// An inbox is declared in a format that the door does not speak.
    #[error("table '{table}': rows cannot come in over HTTP in the format '{format}'")]
    Inbox {
        /// The table.
        table: String,
        /// The format.
        format: &'static str,
    },
    /// The address to listen on cannot be read.
    #[error("'{value}' is no address to listen on")]
    Listen {
        /// The address as it was written.
        value: String,
    },
    /// The journal cannot do its part.
    #[error(transparent)]
    Journal(#[from] tidemill_journal::Error),
    /// A record of the journal is not what the pipeline can use.
    #[error("record {sequence} of the journal cannot be used: {problem}")]
    Journaled {
        /// The record.
        sequence: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// State cannot be kept or read.
    #[error(transparent)]
    State(#[from] tidemill_state::Error),
    /// State could not be kept.
    #[error("the pipeline's state cannot be kept: {0}")]
    Keep(String),
    /// The state in a folder is not this pipeline's to go on with.
    #[error("the state in {} cannot be gone on with: {problem}", path.display())]
    Resume {
        /// The folder.
        path: PathBuf,
        /// What is in the way.
        problem: String,
        /// How to get on.
        help: String,
    },
    /// A record of a run cannot be written.
    #[error("the record {} cannot be written: {source}", path.display())]
    RecordWrite {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record of a run cannot be read.
    #[error("the record {} cannot be read: {problem}", path.display())]
    RecordRead {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A replay gave something else than the run.
    #[error("step {step} of the replay differs from the record: {difference}")]
    Differs {
        /// The step.
        step: u64,
        /// What differs.
        difference: String,
    },
}

impl From<tidemill_connect::Error> for Error {
    fn from(error: tidemill_connect::Error) -> Self {
        Error::Connect { error: Box::new(error), position: None }
    }
}

/// A stage's error; the stage is named where the error does not say itself what it is about.
struct Stage<'a>(&'a tidemill_stage::Error);

impl std::fmt::Display for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            tidemill_stage::Error::Failed { cause, others, .. } => {
                write!(f, "{cause}")?;
                others.iter().try_for_each(|other| write!(f, "\n  and then: {other}"))
            }
            other => write!(f, "{other}"),
        }
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Connect { error, .. } => error.code(),
            Error::Circuit(error) => error.code(),
            Error::Record { .. } => "TM2002",
            Error::Stage(error) => error.code(),
            Error::View(_) => "TM6001",
            Error::Gateway(error) => error.code(),
            Error::Sql(error) => error.code(),
            Error::Retraction { .. } => "TM6002",
            Error::Side { .. } => "TM6003",
            Error::Inbox { .. } => "TM6008",
            Error::Listen { .. } => "TM6004",
            Error::RecordWrite { .. } => "TM6005",
            Error::RecordRead { .. } => "TM6006",
            Error::Differs { .. } => "TM6007",
            Error::Journal(error) => error.code(),
            Error::State(error) => error.code(),
            Error::Journaled { .. } => "TM6009",
            Error::Keep(_) => "TM6010",
            Error::Resume { .. } => "TM6011",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Connect { error, .. } => error.kind(),
            Error::Circuit(error) => error.kind(),
            Error::Record { .. } => Kind::Input,
            Error::Stage(error) => error.kind(),
            Error::View(_) => Kind::Bug,
            Error::Gateway(error) => error.kind(),
            Error::Sql(error) => error.kind(),
            Error::Retraction { .. } | Error::Side { .. } => Kind::Config,
            Error::Inbox { .. } | Error::Listen { .. } => Kind::Config,
            Error::Journal(error) => error.kind(),
            Error::State(error) => error.kind(),
            Error::Keep(_) => Kind::Environment,
            Error::Journaled { .. } | Error::Resume { .. } => Kind::Restore,
            Error::RecordWrite { .. } => Kind::Environment,
            Error::RecordRead { .. } | Error::Differs { .. } => Kind::Restore,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Error::Connect { error, .. } => error.help(),
            Error::Circuit(error) => error.help(),
            Error::Record { .. } => {
                Some("correct the record, or set '<format>.ignore-parse-errors' = 'true' on the table".to_string())
            }
            Error::Stage(error) => error.help(),
            Error::View(_) => Some("this is a bug in tidemill: please report it with the SQL".to_string()),
            Error::Gateway(error) => error.help(),
            Error::Sql(error) => error.help(),
            Error::Retraction { .. } => Some(
                "write to a table with 'format' = 'debezium-json' or 'connector' = 'print', or let a window close \
                 before its rows leave"
                    .to_string(),
            ),
            Error::Side { .. } => {
                Some(format!("declare it with some of the columns {}", crate::side::COLUMNS.join(", ")))
            }
            Error::Inbox { .. } => Some("declare it with 'format' = 'json' or 'debezium-json'".to_string()),
            Error::Listen { .. } => Some("write it as HOST:PORT, such as 127.0.0.1:8080".to_string()),
            Error::Journal(error) => error.help(),
            Error::State(error) => error.help(),
            Error::Journaled { .. } => Some(
                "look at it with `tidemill journal inspect`; a copy of the state folder from before can be run instead"
                    .to_string(),
            ),
            Error::Keep(_) => Some("see that the state folder can be written to, and start again".to_string()),
            Error::Resume { help, .. } => Some(help.clone()),
            Error::RecordWrite { .. } | Error::RecordRead { .. } => None,
            Error::Differs { .. } => Some(
                "the same input and version give the same output: replay with the version that recorded it, or report \
                 a bug"
                    .to_string(),
            ),
        }
    }

    fn position(&self) -> Option<Position> {
        match self {
            Error::Connect { position, .. } | Error::Retraction { position, .. } => *position,
            Error::Circuit(error) => error.position(),
            Error::Stage(error) => error.position(),
            Error::Sql(error) => error.position(),
            _ => None,
        }
    }
}

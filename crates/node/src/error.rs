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
    /// A table knows rows by a key that several rows of its query may have.
    #[error("table '{table}' keeps one row for each ({key}), and several rows of the query may have the same ({key})")]
    Upserts {
        /// The table.
        table: String,
        /// The columns of its key.
        key: String,
        /// Columns by which the query's rows are unique, when any are known.
        unique: Option<String>,
        /// Where the query stands.
        position: Position,
    },
    /// More state is held than may be.
    #[error("the pipeline holds {held} of state, and 'state.memory' allows {limit}{most}")]
    OverBudget {
        /// What all circuits hold.
        held: String,
        /// What they may hold.
        limit: String,
        /// What holds most of it, and its largest keys.
        most: String,
        /// The last step.
        step: u64,
        /// Where the query asks for what holds most.
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
    /// There is no folder in which versioned tables could be.
    #[error("there are no versioned tables in '{address}': there is no such folder")]
    NoTables {
        /// The address.
        address: String,
    },
    /// A versioned table that is declared is not there.
    #[error("there is no versioned table '{table}' in '{address}'")]
    TableMissing {
        /// The table.
        table: String,
        /// Where it was looked for.
        address: String,
        /// What makes it.
        command: String,
        /// Where it is declared.
        position: Option<Position>,
    },
    /// A versioned table is another than is declared.
    #[error("the versioned table '{table}' in '{address}' is another than declared: {difference}")]
    TableDiffers {
        /// The table.
        table: String,
        /// Where it is.
        address: String,
        /// What differs.
        difference: String,
        /// The declaration that goes with it.
        declaration: String,
        /// Where it is declared.
        position: Option<Position>,
    },
    /// A version of a versioned table that a step read cannot be read any more.
    #[error("version {version} of table '{table}', which a step has read, cannot be read again: {error}")]
    TableLost {
        /// The table.
        table: String,
        /// The version.
        version: String,
        /// Why not.
        error: Box<Error>,
    },
    /// Nothing says where a versioned table is kept.
    #[error("nothing says where the versioned table '{table}' is kept")]
    TableNowhere {
        /// The table.
        table: String,
        /// Where it is declared.
        position: Option<Position>,
    },
    /// A versioned table has an option that it does not know.
    #[error("the versioned table '{table}' has no option '{option}'")]
    TableOption {
        /// The table.
        table: String,
        /// The option.
        option: String,
        /// Where it stands.
        position: Option<Position>,
    },
    /// The columns of a versioned table cannot be read.
    #[error("'{text}' cannot be read: {problem}")]
    Declared {
        /// The column, or how it is merged.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be imported.
    #[error("{} cannot be imported: {problem}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// What is said to be a key of a versioned table is none.
    #[error("this is no key of table '{table}': {problem}")]
    TableKey {
        /// The table.
        table: String,
        /// What is wrong with it.
        problem: String,
        /// The key's columns.
        key: Vec<String>,
    },
    /// A version is part of the head already.
    #[error("version {version} of table '{table}' need not be merged: the head rests on it")]
    Merged {
        /// The table.
        table: String,
        /// The version.
        version: String,
    },
    /// A body does not ask for a change.
    #[error("the body does not ask for a change: {problem}")]
    Submission {
        /// What is wrong with it, and where.
        problem: String,
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
    /// There is no circuit of that name.
    #[error("there is no circuit '{name}'")]
    NoCircuit {
        /// The name.
        name: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// A run with endpoints cannot be written down as a record.
    #[error("a record is of one circuit, and '{endpoint}' has its own beside it")]
    RecordEndpoint {
        /// The first endpoint.
        endpoint: String,
        /// Where it is declared.
        position: Option<Position>,
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
            Error::Upserts { .. } => "TM6040",
            Error::OverBudget { .. } => "TM6041",
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
            Error::TableMissing { .. } => "TM6020",
            Error::TableDiffers { .. } => "TM6021",
            Error::TableLost { .. } => "TM6022",
            Error::TableNowhere { .. } | Error::TableOption { .. } => "TM6023",
            Error::Declared { .. } => "TM6024",
            Error::Import { .. } => "TM6025",
            Error::NoTables { .. } => "TM6026",
            Error::TableKey { .. } => "TM6027",
            Error::Submission { .. } => "TM6028",
            Error::Merged { .. } => "TM6029",
            Error::NoCircuit { .. } => "TM6030",
            Error::RecordEndpoint { .. } => "TM6031",
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
            Error::Retraction { .. } | Error::Upserts { .. } | Error::Side { .. } => Kind::Config,
            Error::Inbox { .. } | Error::Listen { .. } => Kind::Config,
            Error::Journal(error) => error.kind(),
            Error::State(error) => error.kind(),
            Error::TableMissing { .. }
            | Error::TableDiffers { .. }
            | Error::TableNowhere { .. }
            | Error::TableOption { .. }
            | Error::NoTables { .. } => Kind::Config,
            Error::Declared { .. } | Error::Import { .. } | Error::TableKey { .. } => Kind::Input,
            Error::Merged { .. } | Error::Submission { .. } => Kind::Input,
            Error::TableLost { .. } => Kind::Restore,
            Error::NoCircuit { .. } | Error::RecordEndpoint { .. } => Kind::Config,
            Error::Keep(_) | Error::OverBudget { .. } => Kind::Environment,
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
                "write to a table with 'format' = 'debezium-json' or 'connector' = 'print', or with 'format' = 'json' and \
                 a PRIMARY KEY, whose rows are upserts; or let a window close before its rows leave"
                    .to_string(),
            ),
            Error::OverBudget { step, .. } => Some(format!(
                "SET 'state.memory' to more, or 'state.ttl' to forget what does not change; everything up to step {step} is \
                 kept, and a run with a state folder goes on from there"
            )),
            Error::Upserts { unique: Some(unique), .. } if !unique.is_empty() => {
                Some(format!("declare PRIMARY KEY ({unique}) NOT ENFORCED, or use 'format' = 'debezium-json'"))
            }
            Error::Upserts { key, .. } => {
                Some(format!("group or rank the query by {key}, or use 'format' = 'debezium-json'"))
            }
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
            Error::TableMissing { command, .. } => Some(format!("make it: {command}")),
            Error::TableDiffers { declaration, .. } => Some(format!("declare it as it is: ({declaration})")),
            Error::TableLost { .. } => Some(
                "bring the table's folder back from a copy; what a step has read is needed until a later snapshot is \
                 taken"
                    .to_string(),
            ),
            Error::TableNowhere { .. } => {
                Some("give it a 'path', or keep the pipeline's state with --state FOLDER".to_string())
            }
            Error::TableOption { .. } => Some("its options are 'connector' and 'path'".to_string()),
            Error::Declared { .. } => {
                Some("write columns as in SQL: --columns \"ip STRING, score INT NOT NULL\"".to_string())
            }
            Error::Import { .. } => Some("correct the file; nothing of it was taken".to_string()),
            Error::NoTables { .. } => {
                Some("name the state folder of a pipeline, or make a table there: tidemill table create".to_string())
            }
            Error::TableKey { key, .. } => Some(match key.as_slice() {
                [_] => "the key is one value".to_string(),
                key => format!("name {}", key.iter().map(|name| format!("{name}=VALUE")).collect::<Vec<_>>().join(" ")),
            }),
            Error::Submission { .. } => Some(
                "send an object such as {\"deps\": [\"3-1-7\"], \"puts\": [{..}], \"deletes\": [{..}], \"message\": \"why\"}"
                    .to_string(),
            ),
            Error::Merged { .. } => {
                Some("a version that was rolled back can be merged: tidemill table log".to_string())
            }
            Error::NoCircuit { names, .. } => Some(format!("there are '{}'", names.join("', '"))),
            Error::RecordEndpoint { .. } => {
                Some("keep state with --state FOLDER: `tidemill replay FOLDER` runs its steps again".to_string())
            }
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
            Error::Upserts { position, .. } => Some(*position),
            Error::OverBudget { position, .. } => *position,
            Error::RecordEndpoint { position, .. } => *position,
            Error::TableMissing { position, .. }
            | Error::TableDiffers { position, .. }
            | Error::TableOption { position, .. }
            | Error::TableNowhere { position, .. } => *position,
            Error::Circuit(error) => error.position(),
            Error::Stage(error) => error.position(),
            Error::Sql(error) => error.position(),
            _ => None,
        }
    }
}

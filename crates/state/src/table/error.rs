//! What can be wrong with a versioned table, or with what is asked of it.

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tidemill_base::{Explain, Kind};

use crate::Version;

/// Why something asked of a versioned table is not done.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table cannot be declared so.
    #[error("{message}")]
    BadSchema {
        /// What is wrong with it.
        message: String,
    },
    /// The table was declared differently before.
    #[error("table '{table}' is there already and is another one: {difference}")]
    SchemaChanged {
        /// The table.
        table: String,
        /// What differs.
        difference: String,
    },
    /// A value is not of its column's type.
    #[error("column '{column}' wants {expected}, not {got}")]
    BadValue {
        /// The column.
        column: String,
        /// Its type.
        expected: String,
        /// The value.
        got: String,
    },
    /// A name that is no column's.
    #[error("there is no column '{column}'")]
    UnknownColumn {
        /// The name.
        column: String,
        /// A column's name that looks alike.
        meant: Option<String>,
        /// The names there are.
        known: String,
    },
    /// A row or a key with too few or too many values.
    #[error("{expected} values are wanted, not {got}")]
    ValueCount {
        /// The number of columns.
        expected: usize,
        /// The number of values.
        got: usize,
    },
    /// A row that is larger than rows may be.
    #[error("a row of {bytes} bytes is larger than {most}")]
    RowTooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size.
        most: usize,
    },
    /// A row or a key that another table's schema made.
    #[error("the row is not one of this table")]
    BadRow,
    /// One key is changed twice in one submit.
    #[error("key {key} is changed twice in one submit")]
    DuplicateKey {
        /// The key as JSON.
        key: String,
    },
    /// There is no such table.
    #[error("there is no versioned table '{table}' in {store}")]
    NoTable {
        /// The name.
        table: String,
        /// Where it was looked for.
        store: String,
    },
    /// There is no such version of the table.
    #[error("table '{table}' has no version {version}")]
    NoVersion {
        /// The table.
        table: String,
        /// The version.
        version: Version,
    },
    /// The version is older than what is kept.
    #[error("version {version} of table '{table}' is no longer kept; the oldest is {oldest}")]
    Pruned {
        /// The table.
        table: String,
        /// The version.
        version: Version,
        /// The oldest that is kept.
        oldest: Version,
    },
    /// A version that was given to another change.
    #[error("version {version} is already that of another change")]
    VersionTaken {
        /// The version.
        version: Version,
    },
    /// A version that is not later than what it rests on.
    #[error("version {version} is not later than {than}")]
    VersionTooEarly {
        /// The version.
        version: Version,
        /// A version it rests on, or the newest that is no longer kept.
        than: Version,
    },
    /// Two changes were merged into a value that its column cannot hold.
    #[error("merging key {key} by {merge} gives column '{column}' a value beyond {expected}")]
    MergeOverflow {
        /// The key as JSON.
        key: String,
        /// The column.
        column: String,
        /// Its merge function.
        merge: String,
        /// Its type.
        expected: String,
    },
    /// Others committed first, again and again.
    #[error("table '{table}' was changed by others {attempts} times while this was submitted")]
    Busy {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The rules of submitting say no.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl TableError {
    pub(crate) fn schema(message: impl Into<String>) -> Self {
        TableError::BadSchema { message: message.into() }
    }
}

/// A submit that was refused for what others did: HTTP's 409.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "reason")]
pub enum Conflict {
    /// A later owner has taken over.
    #[error("epoch {epoch} is over: the table is owned under epoch {current}")]
    Fenced {
        /// The submit's epoch.
        epoch: u64,
        /// The table's.
        current: u64,
    },
    /// The submit rests on versions that cannot be built upon.
    #[error("the submit rests on versions that are not reachable:{}", list(missing, rolled_back, pruned))]
    Unreachable {
        /// Those that nobody knows.
        missing: Vec<Version>,
        /// Those that were rolled back.
        rolled_back: Vec<Version>,
        /// Those that are older than what is kept.
        pruned: Vec<Version>,
    },
    /// Both sides changed the same keys.
    #[error("{count} keys were changed both by {version} and between {base} and {head}")]
    Overlap {
        /// Up to [`Conflict::KEYS_MAX`] of the keys, with the rows of both sides.
        keys: Vec<Overlap>,
        /// How many keys there are.
        count: usize,
        /// The version both sides started from.
        base: Version,
        /// The head.
        head: Version,
        /// The version that the submit has, or would have had.
        version: Version,
    },
    /// The submit rests on an older version and does not ask to be merged.
    #[error("the submit rests on {}, and the head is {head}", join(deps))]
    Stale {
        /// What the submit rests on.
        deps: Vec<Version>,
        /// The head.
        head: Version,
    },
}

/// A key that both sides changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overlap {
    /// The key's columns.
    pub key: Map<String, Json>,
    /// The row both sides started from.
    pub base: Option<Map<String, Json>>,
    /// The head's row; none when it was deleted.
    pub head: Option<Map<String, Json>>,
    /// The submit's row; none when it deletes it.
    pub submitted: Option<Map<String, Json>>,
}

impl Conflict {
    /// The most keys that [`Conflict::Overlap`] names.
    pub const KEYS_MAX: usize = 100;

    /// The word for it in answers: `Fenced`, `Unreachable`, `Overlap` or `Stale`.
    pub fn reason(&self) -> &'static str {
        match self {
            Conflict::Fenced { .. } => "Fenced",
            Conflict::Unreachable { .. } => "Unreachable",
            Conflict::Overlap { .. } => "Overlap",
            Conflict::Stale { .. } => "Stale",
        }
    }
}

fn join(versions: &[Version]) -> String {
    versions.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")
}

fn list(missing: &[Version], rolled_back: &[Version], pruned: &[Version]) -> String {
    let words = [("unknown", missing), ("rolled back", rolled_back), ("no longer kept", pruned)];
    let named = words.iter().filter(|(_, versions)| !versions.is_empty());
    named.map(|(word, versions)| format!(" {} ({word})", join(versions))).collect::<Vec<_>>().join(",")
}

impl Explain for Conflict {
    fn code(&self) -> &'static str {
        match self {
            Conflict::Fenced { .. } => "TM1210",
            Conflict::Unreachable { .. } => "TM1211",
            Conflict::Overlap { .. } => "TM1212",
            Conflict::Stale { .. } => "TM1213",
        }
    }

    fn kind(&self) -> Kind {
        Kind::Input
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Conflict::Fenced { .. } => "stop: another owner writes this table now".to_string(),
            Conflict::Unreachable { .. } => "read the head and submit the change again, resting on it".to_string(),
            Conflict::Overlap { head, .. } => {
                format!("look at the rows of both sides, decide, and submit again resting on {head}")
            }
            Conflict::Stale { head, .. } => format!("submit again resting on {head}, or ask for a merge"),
        })
    }
}

impl Explain for TableError {
    fn code(&self) -> &'static str {
        match self {
            TableError::BadSchema { .. } => "TM1201",
            TableError::SchemaChanged { .. } => "TM1202",
            TableError::BadValue { .. } | TableError::ValueCount { .. } => "TM1203",
            TableError::UnknownColumn { .. } => "TM1204",
            TableError::RowTooLarge { .. } => "TM1205",
            TableError::BadRow => "TM1206",
            TableError::DuplicateKey { .. } => "TM1207",
            TableError::NoTable { .. } => "TM1208",
            TableError::NoVersion { .. } => "TM1209",
            TableError::Conflict(conflict) => conflict.code(),
            TableError::Pruned { .. } => "TM1214",
            TableError::VersionTaken { .. } => "TM1215",
            TableError::VersionTooEarly { .. } => "TM1216",
            TableError::MergeOverflow { .. } => "TM1217",
            TableError::Busy { .. } => "TM1218",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            TableError::BadSchema { .. } | TableError::SchemaChanged { .. } | TableError::NoTable { .. } => {
                Kind::Config
            }
            TableError::BadRow => Kind::Bug,
            TableError::Busy { .. } => Kind::Environment,
            TableError::Conflict(conflict) => conflict.kind(),
            _ => Kind::Input,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            TableError::BadSchema { .. } => "correct the table's declaration".to_string(),
            TableError::SchemaChanged { .. } => "declare it as it is, or give the new table another name".to_string(),
            TableError::BadValue { .. } | TableError::ValueCount { .. } => "correct the value".to_string(),
            TableError::UnknownColumn { meant: Some(meant), .. } => format!("did you mean '{meant}'?"),
            TableError::UnknownColumn { known, .. } => format!("the columns are {known}"),
            TableError::RowTooLarge { .. } => "keep large values elsewhere, and their address in the table".to_string(),
            TableError::BadRow => return None,
            TableError::DuplicateKey { .. } => "change each key once in a submit".to_string(),
            TableError::NoTable { .. } => "declare it by CREATE TABLE with 'connector' = 'versioned'".to_string(),
            TableError::NoVersion { .. } => "the versions there are: `tidemill table log`".to_string(),
            TableError::Pruned { .. } => "ask for a version that is kept: `tidemill table log`".to_string(),
            TableError::VersionTaken { .. } => "leave the version out, and one is given".to_string(),
            TableError::VersionTooEarly { .. } => "leave the version out, or give a later one".to_string(),
            TableError::MergeOverflow { .. } => "submit the wanted value, resting on the head".to_string(),
            TableError::Busy { .. } => "submit again".to_string(),
            TableError::Conflict(conflict) => return conflict.help(),
        })
    }
}

//! What can go wrong between tidemill and the world outside, and how to mend it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tidemill_base::{Explain, Kind, options};
use tidemill_journal::ring::Error as RingError;

use crate::http::inbox::Full;

/// What a table is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Rows are read from it.
    Source,
    /// Rows are written to it.
    Sink,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Source => "source",
            Role::Sink => "sink",
        })
    }
}

/// Why a connector could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is unknown, missing, or has a wrong value.
    #[error("table '{table}': {error}")]
    Options {
        /// The table.
        table: String,
        /// The option and what is wrong with it.
        error: options::Error,
    },
    /// There is no such connector.
    #[error("table '{table}': there is no connector '{connector}'")]
    UnknownConnector {
        /// The table.
        table: String,
        /// The connector as it was written.
        connector: String,
        /// The nearest one there is.
        suggestion: Option<String>,
    },
    /// The connector is planned, but not there yet.
    #[error("table '{table}': the connector '{connector}' is not built yet")]
    NotBuiltYet {
        /// The table.
        table: String,
        /// The connector.
        connector: String,
    },
    /// A connector is used as what it cannot be.
    #[error("table '{table}': {what} is no {role}")]
    WrongRole {
        /// The table.
        table: String,
        /// The connector, with what makes it what it is.
        what: String,
        /// What it was asked to be.
        role: Role,
    },
    /// The declared columns or options do not go with the connector.
    #[error("table '{table}': {message}")]
    Schema {
        /// The table.
        table: String,
        /// What does not go together.
        message: String,
        /// What would.
        help: String,
    },
    /// Bytes could not become columns, or columns bytes.
    #[error("table '{table}'{}: {error}", In(path))]
    Format {
        /// The table.
        table: String,
        /// The file, when it is one.
        path: Option<PathBuf>,
        /// What is wrong.
        error: tidemill_format::Error,
    },
    /// A file or folder that was named is not there.
    #[error("table '{table}': {} does not exist", path.display())]
    Missing {
        /// The table.
        table: String,
        /// The file or folder.
        path: PathBuf,
        /// What it is wanted for.
        role: Role,
    },
    /// A folder or a pattern has no file to read.
    #[error("table '{table}': no file matches {}", path.display())]
    NoFiles {
        /// The table.
        table: String,
        /// The folder or pattern.
        path: PathBuf,
    },
    /// The system does not let us.
    #[error("table '{table}': permission denied to {action} {}", path.display())]
    Denied {
        /// The table.
        table: String,
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// There is no room left.
    #[error("table '{table}': no space left to {action} {}", path.display())]
    DiskFull {
        /// The table.
        table: String,
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// The system failed in another way.
    #[error("table '{table}': cannot {action} {}: {error}", path.display())]
    Io {
        /// The table.
        table: String,
        /// What was tried.
        action: &'static str,
        /// The file, folder or stream.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A record does not end.
    #[error("table '{table}': the record at byte {from} of {} is longer than {limit} bytes", path.display())]
    RecordTooLong {
        /// The table.
        table: String,
        /// The file or stream.
        path: PathBuf,
        /// Where the record begins.
        from: u64,
        /// The longest record.
        limit: usize,
    },
    /// A file is not what it was when the run was recorded.
    #[error("table '{table}': {} has changed since it was recorded: {change}", path.display())]
    Changed {
        /// The table.
        table: String,
        /// The file.
        path: PathBuf,
        /// What has changed.
        change: String,
    },
    /// A source cannot give the same rows again.
    #[error("table '{table}': {what} cannot be read again")]
    NotReplayable {
        /// The table.
        table: String,
        /// The connector, with what makes it so.
        what: String,
    },
    /// A source cannot go on where an earlier run stopped.
    #[error("table '{table}': {what} cannot go on where an earlier run stopped")]
    NotResumable {
        /// The table.
        table: String,
        /// The connector, with what makes it so.
        what: String,
    },
    /// A file that was staged for a version is gone.
    #[error("sink '{table}': {} was staged to become {}, and neither is there", staged.display(), path.display())]
    StagedLost {
        /// The table.
        table: String,
        /// The temporary file.
        staged: PathBuf,
        /// The name it was to get.
        path: PathBuf,
    },
    /// A row is taken back, and the sink can only add.
    #[error(
        "sink '{table}': {what} cannot hold retractions, and this query updates or deletes rows it has given before"
    )]
    Retraction {
        /// The table.
        table: String,
        /// The connector and format.
        what: String,
    },
    /// The other side could not be reached, or failed, as often as it was tried.
    #[error("sink '{table}': {url} failed {attempts} times, at last: {message}")]
    Unreachable {
        /// The table.
        table: String,
        /// The address.
        url: String,
        /// How often it was tried.
        attempts: u64,
        /// What happened the last time.
        message: String,
    },
    /// The other side does not take what it was sent.
    #[error("sink '{table}': {url} answered {status}: {body}")]
    Refused {
        /// The table.
        table: String,
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// A ring cannot be opened or read.
    #[error("table '{table}': {error}")]
    Ring {
        /// The table.
        table: String,
        /// What is wrong.
        error: Box<RingError>,
    },
    /// What was read cannot be kept.
    #[error("table '{table}': what was read cannot be kept: {error}")]
    NotKept {
        /// The table.
        table: String,
        /// Why not.
        error: Full,
    },
    /// What was kept for a reader that is behind cannot be read again.
    #[error("table '{table}': what was kept cannot be read again: {problem}")]
    NotReread {
        /// The table.
        table: String,
        /// Why not.
        problem: String,
    },
    /// Writing was stopped before it was done, because the pipeline was aborted.
    #[error("sink '{table}': stopped before all rows were written")]
    Stopped {
        /// The table.
        table: String,
    },
}

/// ` in PATH`, when there is one.
struct In<'a>(&'a Option<PathBuf>);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " in {}", path.display()),
            None => Ok(()),
        }
    }
}

impl Error {
    /// What the system said when `action` was tried on `path`.
    pub(crate) fn io(table: &str, role: Role, action: &'static str, path: &Path, error: io::Error) -> Self {
        let (table, path) = (table.to_string(), path.to_path_buf());
        match error.kind() {
            io::ErrorKind::NotFound => Error::Missing { table, path, role },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::Denied { table, action, path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { table, action, path },
            _ => Error::Io { table, action, path, error },
        }
    }

    /// The option that is wrong, when one is.
    pub fn option(&self) -> Option<&str> {
        match self {
            Error::Options { error, .. } => Some(error.key()),
            Error::UnknownConnector { .. } | Error::NotBuiltYet { .. } => Some("connector"),
            _ => None,
        }
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Options { .. } => "TM3001",
            Error::UnknownConnector { .. } => "TM3002",
            Error::NotBuiltYet { .. } => "TM3003",
            Error::WrongRole { .. } => "TM3004",
            Error::Schema { .. } => "TM3005",
            Error::Format { error, .. } => error.code(),
            Error::Missing { .. } => "TM3006",
            Error::NoFiles { .. } => "TM3007",
            Error::Denied { .. } => "TM3008",
            Error::DiskFull { .. } => "TM3009",
            Error::Io { .. } => "TM3010",
            Error::RecordTooLong { .. } => "TM3011",
            Error::Changed { .. } => "TM3012",
            Error::NotReplayable { .. } => "TM3013",
            Error::Retraction { .. } => "TM3014",
            Error::Unreachable { .. } => "TM3015",
            Error::Refused { .. } => "TM3016",
            Error::Stopped { .. } => "TM3017",
            Error::NotResumable { .. } => "TM3018",
            Error::StagedLost { .. } => "TM3019",
            Error::Ring { error, .. } => error.code(),
            Error::NotKept { .. } => "TM3020",
            Error::NotReread { .. } => "TM3021",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Options { .. }
            | Error::UnknownConnector { .. }
            | Error::NotBuiltYet { .. }
            | Error::WrongRole { .. }
            | Error::Schema { .. }
            | Error::NotReplayable { .. }
            | Error::NotResumable { .. }
            | Error::Retraction { .. } => Kind::Config,
            Error::Format { error, .. } => error.kind(),
            Error::Ring { error, .. } => error.kind(),
            Error::RecordTooLong { .. } => Kind::Input,
            Error::Changed { .. } | Error::StagedLost { .. } | Error::NotReread { .. } => Kind::Restore,
            Error::Missing { .. }
            | Error::NoFiles { .. }
            | Error::Denied { .. }
            | Error::DiskFull { .. }
            | Error::Io { .. }
            | Error::Unreachable { .. }
            | Error::Refused { .. }
            | Error::NotKept { .. }
            | Error::Stopped { .. } => Kind::Environment,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Error::Options { error, .. } => error.help(),
            Error::UnknownConnector { suggestion: Some(suggestion), .. } => format!("did you mean '{suggestion}'?"),
            Error::UnknownConnector { .. } | Error::NotBuiltYet { .. } => {
                format!("the connectors are '{}'", crate::catalogue::NAMES.join("', '"))
            }
            Error::WrongRole { role: Role::Source, .. } => {
                "read from 'filesystem', 'stdin', 'http' (without 'url'), 'ring', 'datagen' or 'nexmark'".to_string()
            }
            Error::WrongRole { role: Role::Sink, .. } => {
                "write to 'print', 'filesystem', 'http' (with 'url') or 'blackhole'".to_string()
            }
            Error::Schema { help, .. } => help.clone(),
            Error::Format { error, .. } => return error.help(),
            Error::Missing { path, role: Role::Sink, .. } => {
                format!("create the folder: mkdir -p '{}'", path.display())
            }
            Error::Missing { .. } => {
                "check the table's 'path'; a relative one starts at the working folder".to_string()
            }
            Error::NoFiles { .. } => {
                "check the table's 'path' (names that begin with '.' or '_' do not count), or set \
                'source.monitor-interval' to wait for files"
                    .to_string()
            }
            Error::Denied { path, action, .. } => {
                format!("let this user {action} it: ls -ld '{}'", path.display())
            }
            Error::DiskFull { path, .. } => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(path);
                format!("make room or choose another 'path': df -h '{}'", folder.display())
            }
            Error::RecordTooLong { .. } => {
                "check that the records end in newlines and that no quote stands open".to_string()
            }
            Error::Changed { .. } => "restore the file as it was, or record the run again".to_string(),
            Error::NotReplayable { .. } => "record a run that reads from files or generators".to_string(),
            Error::NotResumable { .. } => {
                "run it without a state folder (--state none), or read from files, http, a ring or a generator"
                    .to_string()
            }
            Error::StagedLost { .. } => {
                "put the file back from a backup, or roll back to a version before it".to_string()
            }
            Error::Retraction { .. } => {
                "use 'format' = 'debezium-json', or 'json' with a PRIMARY KEY, or 'print', or a query that only adds rows".to_string()
            }
            Error::Unreachable { .. } => {
                "check that the server runs, and 'sink.retries' and 'sink.timeout'".to_string()
            }
            Error::Refused { .. } => {
                "check 'url', 'method', the 'header.*' options and what the server takes".to_string()
            }
            Error::Ring { error, .. } if matches!(**error, RingError::Damaged(_)) => {
                "have its producer send it again, and set '<format>.ignore-parse-errors' = 'true' to count it as a bad \
                 record and read on"
                    .to_string()
            }
            Error::Ring { error, .. } => return error.help(),
            Error::NotKept { error: Full::TooLarge { .. }, .. } => {
                "set 'journal.segment-size' to several times the largest record".to_string()
            }
            Error::NotKept { .. } => {
                "see why the journal cannot be written, and start again: the ring still has it".to_string()
            }
            Error::NotReread { .. } => {
                "run `tidemill journal verify` on the state folder; a start reads it again from its newest snapshot"
                    .to_string()
            }
            Error::Io { .. } | Error::Stopped { .. } => return None,
        })
    }
}

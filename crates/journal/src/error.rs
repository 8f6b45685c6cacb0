//! What can go wrong with a journal, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidemill_base::{Explain, Kind};

use crate::format::Defect;
use crate::level::Sequence;

/// The result of the journal's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the journal did not do what it was asked.
///
/// It can be cloned, for everyone who waits on one flush is told of its failure.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage refused something.
    #[error("the journal cannot {action} {path}: {cause}")]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file, below the journal's folder.
        path: String,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A file was written by a later version.
    #[error("{path} has journal format {found}; this version reads up to {known}")]
    Format {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A segment belongs to another journal.
    #[error("{path} belongs to journal {found:032x}, not to {expected:032x}")]
    Foreign {
        /// The file.
        path: String,
        /// The journal it names.
        found: u128,
        /// The journal it was found in.
        expected: u128,
    },
    /// Bytes that were durable are not what was written.
    #[error("segment {segment} of the journal is damaged at byte {offset}: {defect}")]
    Corrupt {
        /// The segment's number.
        segment: u64,
        /// Where, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        defect: Defect,
    },
    /// The file that names the journal is missing or damaged.
    #[error("the journal's identity cannot be read: {reason}")]
    Identity {
        /// Why.
        reason: String,
    },
    /// A flush failed, so nothing can be acknowledged any more.
    #[error("the journal stopped: {action} failed: {cause}")]
    Poisoned {
        /// What failed, such as `flushing segment 7`.
        action: String,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// The quota is used up by records that are still needed.
    #[error("the journal is full: {used} of {quota} bytes hold records that are still needed{}", by(.holder))]
    Full {
        /// Bytes in segments.
        used: u64,
        /// Bytes allowed.
        quota: u64,
        /// The reader that is furthest behind.
        holder: Option<String>,
    },
    /// The disk has no room for another segment.
    #[error("the disk has no room for a segment of {bytes} bytes: {cause}")]
    NoSpace {
        /// The bytes wanted.
        bytes: u64,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A record does not fit into a segment.
    #[error("a record of {bytes} bytes is too large for the journal; {limit} fit into a segment")]
    TooLarge {
        /// The payload's bytes.
        bytes: u64,
        /// The most a payload may have.
        limit: u64,
    },
    /// What was reserved and what came differ.
    #[error("{reserved} bytes were reserved in the journal, but {given} came")]
    Length {
        /// Bytes reserved.
        reserved: u64,
        /// Bytes given.
        given: u64,
    },
    /// Another process uses the folder.
    #[error("{} is in use by process {owner}", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process, as it wrote itself down.
        owner: String,
    },
    /// A record was asked for that is gone.
    #[error("record {sequence} is no longer in the journal, which begins with {first}")]
    Retired {
        /// The record asked for.
        sequence: Sequence,
        /// The oldest there is.
        first: Sequence,
    },
    /// The options cannot stand together.
    #[error("the journal's option {option} {reason}")]
    Options {
        /// Its name.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The level of durability is not known.
    #[error("'{text}' is no level of durability")]
    Level {
        /// What was written.
        text: String,
    },
    /// The journal was closed while something waited for it.
    #[error("the journal is closed")]
    Closed,
}

fn by(holder: &Option<String>) -> String {
    holder.as_ref().map(|holder| format!(" by '{holder}'")).unwrap_or_default()
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |cause| Error::Io { action, path, cause: Arc::new(cause) }
    }

    /// Whether the same call may succeed later, when there is room again.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Full { .. } | Error::NoSpace { .. })
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Io { .. } => "TM1101",
            Error::Format { .. } => "TM1102",
            Error::Foreign { .. } => "TM1103",
            Error::Corrupt { .. } => "TM1104",
            Error::Identity { .. } => "TM1105",
            Error::Poisoned { .. } => "TM1106",
            Error::Full { .. } => "TM1107",
            Error::NoSpace { .. } => "TM1108",
            Error::TooLarge { .. } => "TM1109",
            Error::Locked { .. } => "TM1110",
            Error::Retired { .. } => "TM1111",
            Error::Options { .. } => "TM1112",
            Error::Level { .. } => "TM1113",
            Error::Closed => "TM1114",
            Error::Length { .. } => "TM1115",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::Poisoned { .. } | Error::Full { .. } | Error::NoSpace { .. } => Kind::Environment,
            Error::Format { .. } | Error::Locked { .. } | Error::Closed => Kind::Environment,
            Error::Foreign { .. } | Error::Corrupt { .. } | Error::Identity { .. } | Error::Retired { .. } => {
                Kind::Restore
            }
            Error::TooLarge { .. } => Kind::Input,
            Error::Options { .. } | Error::Level { .. } => Kind::Config,
            Error::Length { .. } => Kind::Bug,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Error::Io { .. } => "mend what the system complains about and start again".to_string(),
            Error::Format { .. } => "use the version of tidemill that wrote it, or a later one".to_string(),
            Error::Foreign { path, .. } => format!("move {path} back to the folder it came from"),
            Error::Corrupt { .. } => "restore the folder from a copy, or run `tidemill journal repair`, which cuts \
                 the journal there, keeps the cut bytes in a .cut file and says what is lost"
                .to_string(),
            Error::Identity { .. } => {
                "restore the file 'identity' from a copy, or run `tidemill journal repair`".to_string()
            }
            Error::Poisoned { .. } => "nothing after the last flush was acknowledged as flushed; look after the disk \
                 and start again: the journal recovers from what is on it"
                .to_string(),
            Error::Full { .. } => "let the slow reader catch up, or raise the journal's quota".to_string(),
            Error::NoSpace { .. } => "make room on the disk; the journal goes on by itself".to_string(),
            Error::TooLarge { .. } => "send smaller records, or raise the journal's segment size".to_string(),
            Error::Locked { .. } => "stop that process, or use another folder".to_string(),
            Error::Retired { first, .. } => format!("start from record {first}, or from a snapshot that covers it"),
            Error::Options { .. } => "correct it".to_string(),
            Error::Level { .. } => "use 'process' or 'flushed'".to_string(),
            Error::Closed => "open it again".to_string(),
            Error::Length { .. } => return None,
        };
        Some(help)
    }
}

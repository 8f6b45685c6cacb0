//! What can go wrong with a ring, and what to do about it.

use std::io;
use std::path::PathBuf;

use tidemill_base::{Explain, Kind};

/// The result of a ring's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a record was not appended; the ring is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All slots of this producer hold records that the consumer has not released.
    #[error("the ring is full: none of this producer's {slots} records is released yet")]
    Full {
        /// The slots of a producer.
        slots: u32,
    },
    /// The record does not fit into a slot.
    #[error("a record of {bytes} bytes does not fit into a slot, which takes {limit}")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The largest record the ring takes.
        limit: usize,
    },
}

impl Explain for Refused {
    fn code(&self) -> &'static str {
        match self {
            Refused::Full { .. } => "TM1157",
            Refused::TooLarge { .. } => "TM1158",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Refused::Full { .. } => Kind::Environment,
            Refused::TooLarge { .. } => Kind::Input,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Refused::Full { .. } => {
                "append again once the reader has caught up, or make the ring with more slots".into()
            }
            Refused::TooLarge { bytes, .. } => {
                format!(
                    "split the record, or make the ring with slots of {} bytes",
                    super::shape::slot_bytes_for(*bytes)
                )
            }
        })
    }
}

/// A position of the ring whose record is not whole; the consumer goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring's record at position {position} is damaged")]
pub struct Damaged {
    /// The position, from 0.
    pub position: u64,
}

impl Explain for Damaged {
    fn code(&self) -> &'static str {
        "TM1153"
    }

    fn kind(&self) -> Kind {
        Kind::Restore
    }

    fn help(&self) -> Option<String> {
        Some("have its producer send it again; what follows it is read".into())
    }
}

/// Why a ring cannot be made, opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine refused something.
    #[error("cannot {action} the ring {path}: {cause}")]
    Io {
        /// What was tried, such as `map`.
        action: &'static str,
        /// The ring's file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file is something else.
    #[error("{path} is no ring")]
    NotARing {
        /// The file.
        path: PathBuf,
    },
    /// The ring was made by a later version.
    #[error("the ring {path} has format {found}; this version knows up to {known}")]
    Format {
        /// The ring's file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// What the ring says about itself is damaged.
    #[error("the ring {path} is damaged: {what}")]
    BadHeader {
        /// The ring's file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A record is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// No ring can have this shape.
    #[error("no ring has {field} = {value}: it must be {rule}")]
    BadShape {
        /// The field of [`Shape`](super::Shape).
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        rule: &'static str,
    },
    /// The ring has its reader.
    #[error("the ring {path} is being read already")]
    ReaderTaken {
        /// The ring's file.
        path: PathBuf,
    },
    /// As many producers as the ring is made for are attached.
    #[error("all {producers} places for producers of the ring {path} are taken")]
    PlacesTaken {
        /// The ring's file.
        path: PathBuf,
        /// The places there are.
        producers: u32,
    },
    /// A record was not appended.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A caller from C broke the rules of the interface.
    #[error("{what}")]
    BadArgument {
        /// Which rule.
        what: &'static str,
    },
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Io { .. } => "TM1150",
            Error::NotARing { .. } => "TM1151",
            Error::Format { .. } => "TM1152",
            Error::BadHeader { .. } => "TM1153",
            Error::Damaged(damaged) => damaged.code(),
            Error::BadShape { .. } => "TM1154",
            Error::ReaderTaken { .. } => "TM1155",
            Error::PlacesTaken { .. } => "TM1156",
            Error::Refused(refused) => refused.code(),
            Error::BadArgument { .. } => "TM1159",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::ReaderTaken { .. } | Error::PlacesTaken { .. } => Kind::Environment,
            Error::NotARing { .. } | Error::Format { .. } | Error::BadShape { .. } => Kind::Config,
            Error::BadHeader { .. } => Kind::Restore,
            Error::Damaged(damaged) => damaged.kind(),
            Error::Refused(refused) => refused.kind(),
            Error::BadArgument { .. } => Kind::Config,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Error::Io { cause, path, .. } => match cause.kind() {
                io::ErrorKind::NotFound => {
                    format!("start its reader first, which makes it, or check the path {}", path.display())
                }
                io::ErrorKind::AlreadyExists => format!("open it, or remove {} when nobody uses it", path.display()),
                io::ErrorKind::PermissionDenied => "let this user read and write the file".into(),
                io::ErrorKind::StorageFull => "make room, or make the ring with fewer or smaller slots".into(),
                _ => "mend what the system names and try again".into(),
            },
            Error::NotARing { .. } => "name the file that the ring's reader has made".into(),
            Error::Format { .. } => "use the version that made it, or a later one".into(),
            Error::BadHeader { path, .. } => {
                format!("stop its users, remove {} and make it anew", path.display())
            }
            Error::Damaged(damaged) => return damaged.help(),
            Error::BadShape { rule, field, .. } => format!("choose {field} to be {rule}"),
            Error::ReaderTaken { .. } => "stop the other reader: a ring has one".into(),
            Error::PlacesTaken { producers, .. } => {
                format!("close a producer, or make the ring with more than {producers} places")
            }
            Error::Refused(refused) => return refused.help(),
            Error::BadArgument { .. } => "call as tidemill_ring.h says".into(),
        };
        Some(help)
    }
}

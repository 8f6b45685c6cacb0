//! What can go wrong with versioned state.

use tidemill_base::{Explain, Kind};

use crate::store::StoreError;
use crate::table::TableError;
use crate::version::Version;

/// Why state could not be kept, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A versioned table, or what was asked of it, is not as it should be.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A text that is no version.
    #[error("'{text}' is no version")]
    BadVersion {
        /// The text.
        text: String,
    },
    /// Something that was written down cannot be read again as it was written.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// What it is: an object by its name, or the part of one.
        name: String,
        /// What is wrong with it, and at which byte where that is known.
        reason: String,
    },
    /// Something was written down by a later build.
    #[error("{name} has format {format}; this build reads up to {known}")]
    Newer {
        /// What it is: an object by its name, or the part of one.
        name: String,
        /// Its format.
        format: u16,
        /// The newest format that can be read.
        known: u16,
    },
    /// Someone else has written the snapshot that was to be written.
    #[error("snapshot {sequence} of instance '{instance}' was written by someone else")]
    Fenced {
        /// The instance.
        instance: String,
        /// The snapshot.
        sequence: u64,
    },
    /// A snapshot cannot be used.
    #[error("snapshot {sequence} of instance '{instance}' cannot be used: {name} in {store} is damaged: {reason}")]
    DamagedSnapshot {
        /// The store.
        store: String,
        /// The instance.
        instance: String,
        /// The snapshot.
        sequence: u64,
        /// The object that is damaged.
        name: String,
        /// What is wrong with it, and at which byte.
        reason: String,
        /// The snapshot before it.
        before: Option<u64>,
    },
    /// There is no such snapshot, or not any more.
    #[error("instance '{instance}' has no snapshot {wanted}")]
    NoSnapshot {
        /// The instance.
        instance: String,
        /// Its number, version or savepoint.
        wanted: String,
    },
    /// The name of a savepoint is taken.
    #[error("instance '{instance}' has a savepoint '{savepoint}' already")]
    SavepointExists {
        /// The instance.
        instance: String,
        /// The savepoint.
        savepoint: String,
    },
    /// Something is too large for a snapshot.
    #[error("{what} has {bytes} bytes; at most {limit} fit into a snapshot")]
    TooLarge {
        /// What it is.
        what: String,
        /// Its size.
        bytes: u64,
        /// The largest size there may be.
        limit: u64,
    },
    /// A snapshot's version is not later than what it rests on.
    #[error("version {version} is not later than {head}, which it rests on")]
    NotLater {
        /// The version.
        version: Version,
        /// What it rests on.
        head: Version,
    },
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Store(error) => error.code(),
            Error::Table(error) => error.code(),
            Error::BadVersion { .. } => "TM1200",
            Error::Damaged { .. } => "TM1220",
            Error::Newer { .. } => "TM1221",
            Error::Fenced { .. } => "TM1240",
            Error::DamagedSnapshot { .. } => "TM1241",
            Error::NoSnapshot { .. } => "TM1242",
            Error::SavepointExists { .. } => "TM1243",
            Error::TooLarge { .. } => "TM1244",
            Error::NotLater { .. } => "TM1245",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Store(error) => error.kind(),
            Error::Table(error) => error.kind(),
            Error::BadVersion { .. } | Error::Newer { .. } => Kind::Config,
            Error::Damaged { .. } | Error::DamagedSnapshot { .. } => Kind::Restore,
            Error::Fenced { .. } => Kind::Environment,
            Error::NoSnapshot { .. } | Error::SavepointExists { .. } => Kind::Config,
            Error::TooLarge { .. } | Error::NotLater { .. } => Kind::Bug,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Error::Store(error) => error.help(),
            Error::Table(error) => error.help(),
            Error::BadVersion { .. } => {
                Some("a version is LAMPORT-NODE-INCARNATION, such as 17-3-42; two are compared as A..B".to_string())
            }
            Error::Damaged { name, .. } => Some(format!("bring {name} back from a copy of the store")),
            Error::Newer { .. } => Some("use the build that wrote it, or a later one".to_string()),
            Error::Fenced { instance, .. } => {
                Some(format!("'{instance}' runs somewhere else: stop it there, or leave it there and stop this one"))
            }
            Error::DamagedSnapshot { name, before: Some(before), .. } => Some(format!(
                "bring {name} back from a copy of the store, or give up what came after snapshot {before}: \
                 tidemill versions rollback FOLDER {before} --past-damage"
            )),
            Error::DamagedSnapshot { name, before: None, .. } => {
                Some(format!("bring {name} back from a copy of the store; there is no snapshot before it"))
            }
            Error::NoSnapshot { .. } => Some("see what there is: tidemill versions ls FOLDER".to_string()),
            Error::SavepointExists { .. } => Some("take another name, or drop that savepoint first".to_string()),
            Error::TooLarge { .. } | Error::NotLater { .. } => {
                Some("this is a bug in tidemill: please report it with the SQL".to_string())
            }
        }
    }
}

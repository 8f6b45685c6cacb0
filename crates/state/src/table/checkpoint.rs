//! Checkpoints: the versions of a table, each with what it rests on and what it changed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_base::Timestamp;

use super::schema::{Key, Row};
use crate::digest::Sum;
use crate::{Error, Version};

/// What made a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The empty table.
    Genesis,
    /// A submit.
    Commit,
    /// The merging of a submit with the head it did not rest on.
    Merge,
    /// A return to an older version, forward.
    Rollback {
        /// The version whose content came back.
        target: Version,
    },
}

/// A version of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its version.
    pub version: Version,
    /// The versions it rests on, sorted.
    pub deps: Vec<Version>,
    /// What made it.
    pub kind: Kind,
    /// The version whose content its edits lead on from.
    pub parent: Version,
    /// The root of its rows' trie.
    pub root: Sum,
    /// The digest of what was submitted, by which a submit is known again.
    pub digest: Sum,
    /// The number of its rows.
    pub rows: u64,
    /// The number of keys that it gave a row.
    pub puts: u64,
    /// The number of keys whose row it took away.
    pub deletes: u64,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub message: String,
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// The number of its record in the log.
    pub sequence: u64,
}

impl Checkpoint {
    /// The empty table.
    pub fn genesis() -> Self {
        Checkpoint {
            version: Version::GENESIS,
            deps: Vec::new(),
            kind: Kind::Genesis,
            parent: Version::GENESIS,
            root: Sum::ZERO,
            digest: Sum::ZERO,
            rows: 0,
            puts: 0,
            deletes: 0,
            author: String::new(),
            message: String::new(),
            time: 0,
            sequence: 0,
        }
    }

    /// When it was made.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.time)
    }

    /// The versions whose content went into its own: its deps, but of a rollback the target alone.
    pub fn content_deps(&self) -> &[Version] {
        match &self.kind {
            Kind::Rollback { target } => std::slice::from_ref(target),
            _ => &self.deps,
        }
    }
}

/// A key, and the rows it had before and after a change; the two may be equal, for a change that says so changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The key.
    pub key: Key,
    /// Its row before.
    pub before: Option<Row>,
    /// Its row after.
    pub after: Option<Row>,
}

/// The edits of one checkpoint.
pub type Edits = Arc<[Edit]>;

/// Where the edits of checkpoints are had from; only those of a few are in memory.
pub trait Past {
    /// The edits that lead from a checkpoint's parent to it.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn edits(&self, checkpoint: &Checkpoint) -> Result<Edits, Error>;
}

/// A change that a submit asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The row takes its key's place.
    Put(Row),
    /// The key has no row.
    Delete(Key),
}

impl Change {
    /// The key it changes.
    pub fn key(&self) -> Key {
        match self {
            Change::Put(row) => row.key(),
            Change::Delete(key) => key.clone(),
        }
    }

    /// The row that the key has then.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Change::Put(row) => Some(row),
            Change::Delete(_) => None,
        }
    }
}

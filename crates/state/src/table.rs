//! Versioned tables: reference data that several people and services edit at once, and pipelines read.
//!
//! The one idea: a table is a pure state machine over *records*. [`Table`] judges a submit against the head by the rules
//! of [`crate::submit`] and says which record would make it true; [`Table::apply`] takes a record and becomes the next
//! table. Whoever writes records down in one order ([`TableStore`] does, by a store in which a name is given once) has
//! a linearizable table, and whoever reads them again has the same one.
//!
//! Every version has its content, its root and its place in the graph; see [`history`].

mod checkpoint;
mod codec;
mod durable;
mod error;
pub mod history;
mod parking;
mod record;
mod rows;
mod schema;
mod snapshot;
mod text;
mod types;
mod value;

use std::sync::Arc;

use tidemill_base::hash;

pub use checkpoint::{Change, Checkpoint, Edit, Edits, Kind, Past};
pub use durable::{Answer, Answered, TableStore, tables};
pub use error::{Conflict, Overlap, TableError};
pub use history::{History, Standing};
pub use parking::{PARKED_MAX, Parking, Ticket, WAIT};
pub use record::{Record, Written, decode_base};
pub use rows::Rows;
pub use schema::{Column, Key, Merge, Row, Schema};
pub use snapshot::{Reader, Snapshot};
pub use types::{NoType, Type};
pub use value::Value;

use crate::digest::{self, Sum};
use crate::trie::{Depth, Trie};
use crate::{Error, Version};

/// The number of a table's trie's buckets.
const DEPTH: Depth = Depth::SMALL;

/// A versioned table at its head.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    head: Arc<Snapshot>,
    trie: Trie,
    history: History,
    epoch: u64,
    /// The number of the record that was applied last.
    sequence: u64,
}

/// A key whose row differs between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: Key,
    /// Its row at the first version.
    pub before: Option<Row>,
    /// Its row at the second version.
    pub after: Option<Row>,
}

impl Table {
    /// The empty table, at version [`Version::GENESIS`].
    pub fn new(name: &str, schema: Arc<Schema>) -> Self {
        let genesis = Checkpoint::genesis();
        let head = Snapshot::new(genesis.version, genesis.root, schema, Rows::default());
        Table {
            name: name.to_string(),
            head: Arc::new(head),
            trie: Trie::new(DEPTH),
            history: History::new(genesis),
            epoch: 0,
            sequence: 0,
        }
    }

    /// The table whose head has these rows.
    ///
    /// # Errors
    /// [`Error::Damaged`] when they do not give the head's root.
    pub(crate) fn from_parts(
        name: &str,
        schema: Arc<Schema>,
        history: History,
        rows: Rows,
        epoch: u64,
        sequence: u64,
    ) -> Result<Self, Error> {
        let mut trie = Trie::new(DEPTH);
        for row in rows.iter() {
            trie.put(hash::bytes(row.key_bytes()), digest::entry(row.bytes()));
        }
        let head = history.head().clone();
        let table = Table {
            name: name.to_string(),
            head: Arc::new(Snapshot::new(head.version, head.root, schema, rows)),
            trie,
            history,
            epoch,
            sequence,
        };
        table.check_root(table.trie.clone().root(), head.root, head.version)?;
        Ok(table)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn schema(&self) -> &Arc<Schema> {
        self.head.schema()
    }

    /// Its rows at the head.
    pub fn head(&self) -> &Arc<Snapshot> {
        &self.head
    }

    /// Its checkpoints.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The epoch of its owner; submits under an older one are refused.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the record that was applied last.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn trie(&self) -> &Trie {
        &self.trie
    }

    /// A version that is kept.
    ///
    /// # Errors
    /// [`TableError::NoVersion`] or [`TableError::Pruned`].
    pub fn checkpoint(&self, version: Version) -> Result<&Checkpoint, TableError> {
        self.history.get(version).ok_or_else(|| match self.history.standing(version) {
            Standing::Pruned => TableError::Pruned { table: self.name.clone(), version, oldest: self.history.oldest() },
            _ => TableError::NoVersion { table: self.name.clone(), version },
        })
    }

    /// The table at a version that is kept.
    ///
    /// # Errors
    /// [`TableError::NoVersion`], [`TableError::Pruned`], what [`Past`] says, or [`Error::Damaged`] when the content is
    /// not what the version's root says.
    pub fn at(&self, version: Version, past: &dyn Past) -> Result<Arc<Snapshot>, Error> {
        let checkpoint = self.checkpoint(version)?;
        if version == self.head.version() {
            return Ok(Arc::clone(&self.head));
        }
        let (mut rows, mut trie) = (self.head.rows().clone(), self.trie.clone());
        for (key, change) in self.history.changes(self.head.version(), version, past)? {
            edit_trie(&mut trie, &key, change.before.as_ref(), change.after.as_ref());
            rows.set(&key, change.after);
        }
        self.check_root(trie.root(), checkpoint.root, version)?;
        Ok(Arc::new(Snapshot::new(version, checkpoint.root, Arc::clone(self.schema()), rows)))
    }

    /// The keys whose rows differ between two versions, in the order of their bytes.
    ///
    /// # Errors
    /// As of [`Table::at`].
    pub fn diff(&self, from: Version, to: Version, past: &dyn Past) -> Result<Vec<Difference>, Error> {
        self.checkpoint(from)?;
        self.checkpoint(to)?;
        let changes = self.history.changes(from, to, past)?.into_iter();
        let mut differences: Vec<Difference> = changes
            .filter(|(_, change)| change.before != change.after)
            .map(|(key, change)| Difference { key, before: change.before, after: change.after })
            .collect();
        differences.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(differences)
    }

    /// Takes the record that follows the last one.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it does not follow from this table; the table is then unchanged.
    pub fn apply(&mut self, record: Record) -> Result<(), Error> {
        let sequence = self.sequence + 1;
        match record {
            Record::Create { .. } => return Err(self.damaged(sequence, "it creates a table that is there")),
            Record::Fence { epoch, .. } => self.epoch = self.epoch.max(epoch),
            Record::Prune { boundary, .. } => {
                if self.history.prune(boundary).is_none() {
                    return Err(self.damaged(sequence, "it prunes to a version that was never the head"));
                }
            }
            Record::Commit { epoch, written } => {
                self.take(sequence, written)?;
                self.epoch = self.epoch.max(epoch);
            }
        }
        self.sequence = sequence;
        Ok(())
    }

    /// Takes a checkpoint that follows the head, or a commit and the merge of it that follows the head.
    fn take(&mut self, sequence: u64, mut written: Vec<Written>) -> Result<(), Error> {
        let Some(next) = written.pop() else { return Err(self.damaged(sequence, "it has no checkpoint")) };
        let beside = written.pop();
        if !written.is_empty() || next.checkpoint.parent != self.head.version() {
            return Err(self.damaged(sequence, "it does not follow the head"));
        }
        let known = |parent| self.history.get(parent).is_some();
        if beside.as_ref().is_some_and(|beside| !known(beside.checkpoint.parent)) {
            return Err(self.damaged(sequence, "its commit rests on what is not kept"));
        }
        let (mut rows, mut trie) = (self.head.rows().clone(), self.trie.clone());
        for edit in next.edits.iter() {
            if rows.set(&edit.key, edit.after.clone()) != edit.before {
                return Err(self.damaged(sequence, "a row is not what it says it was"));
            }
            edit_trie(&mut trie, &edit.key, edit.before.as_ref(), edit.after.as_ref());
        }
        self.check_root(trie.root(), next.checkpoint.root, next.checkpoint.version)?;
        if next.checkpoint.rows != rows.count() {
            return Err(self.damaged(sequence, "it does not have as many rows as it says"));
        }
        let (version, root) = (next.checkpoint.version, next.checkpoint.root);
        self.head = Arc::new(Snapshot::new(version, root, Arc::clone(self.schema()), rows));
        self.trie = trie;
        let numbered = |checkpoint| Checkpoint { sequence, ..checkpoint };
        if let Some(beside) = beside {
            self.history.push_beside(numbered(beside.checkpoint));
        }
        self.history.push(numbered(next.checkpoint));
        Ok(())
    }

    fn check_root(&self, found: Sum, wanted: Sum, version: Version) -> Result<(), Error> {
        if found == wanted {
            return Ok(());
        }
        Err(Error::Damaged {
            name: format!("version {version} of table '{}'", self.name),
            reason: format!("its rows have root {found}, not {wanted}"),
        })
    }

    fn damaged(&self, sequence: u64, reason: &str) -> Error {
        Error::Damaged { name: format!("record {sequence} of table '{}'", self.name), reason: reason.to_string() }
    }
}

/// Puts a key's other row into a trie.
pub(crate) fn edit_trie(trie: &mut Trie, key: &Key, before: Option<&Row>, after: Option<&Row>) {
    let digest = |row: Option<&Row>| row.map_or(Sum::ZERO, |row| digest::entry(row.bytes()));
    if before != after {
        trie.replace(hash::bytes(key.bytes()), digest(before), digest(after));
    }
}

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;

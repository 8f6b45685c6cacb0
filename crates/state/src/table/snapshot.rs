//! A table at one version, for whoever reads: [`Snapshot`], and [`Reader`], which hands out the newest.
//!
//! A snapshot never changes. A running pipeline takes one at a step's beginning and joins with it to the step's end; its
//! version goes into the step's header and names what was read.

use std::sync::{Arc, PoisonError, RwLock};

use super::error::TableError;
use super::rows::Rows;
use super::schema::{Key, Row, Schema};
use super::value::Value;
use crate::Version;
use crate::digest::Sum;

/// A table's rows at one version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    version: Version,
    root: Sum,
    schema: Arc<Schema>,
    rows: Rows,
}

impl Snapshot {
    pub(crate) fn new(version: Version, root: Sum, schema: Arc<Schema>, rows: Rows) -> Self {
        Snapshot { version, root, schema, rows }
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The root of its rows' trie.
    pub fn root(&self) -> Sum {
        self.root
    }

    /// The table's columns.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Its rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The number of its rows.
    pub fn count(&self) -> u64 {
        self.rows.count()
    }

    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key.bytes())
    }

    /// The values of the row whose key has these values, in the columns' declared order.
    ///
    /// # Errors
    /// [`TableError::BadValue`] when they are no values of the key.
    pub fn lookup(&self, key: &[Value]) -> Result<Option<Vec<Value>>, TableError> {
        let key = self.schema.key(key)?;
        self.get(&key).map(|row| self.schema.values(row)).transpose()
    }
}

/// Hands out the newest snapshot of a table; clones hand out the same.
#[derive(Debug, Clone)]
pub struct Reader {
    newest: Arc<RwLock<Arc<Snapshot>>>,
}

impl Reader {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Reader { newest: Arc::new(RwLock::new(snapshot)) }
    }

    /// The newest snapshot.
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

//! Versioned tables as people and services work with them: where they are kept, and what is asked of one, in JSON.
//!
//! The one idea: the command, the doors and running pipelines all open the same history in a store and follow it. A name
//! in the store is given once, so it does not matter who edits from where: [`Table`] submits, the rules decide, and every
//! other [`Table`] of that name reads what came of it.
//!
//! Reading order: [`Place`] and [`Table`] here, [`declare`] what a table looks like, [`import`] CSV into one, [`columns`]
//! its rows for queries, [`feed`] how running pipelines follow it, [`door`] how it is edited over HTTP.

mod columns;
mod declare;
pub(crate) mod door;
pub(crate) mod feed;
mod import;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tidemill_base::hash;
use tidemill_base::time::{Clock, SystemClock};
use tidemill_state::store::{self, S3, Store};
use tidemill_state::submit::{self, Accepted, Submit};
use tidemill_state::table::{
    self, Answer, Answered, Change, Checkpoint, Conflict, Key, Row, Schema, Snapshot, Standing, TableError, TableStore,
    Ticket, Value,
};
use tidemill_state::{Replica, Version};

pub use declare::declared;

use crate::error::Error;

/// The node number of versions that are made here; its incarnation tells processes apart.
const NODE: u64 = 1;

/// How often a change that rests on whatever the head is is tried on a newer one.
const ATTEMPTS: u32 = 16;

/// How long somebody who waits for a version sleeps between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Where versioned tables are kept.
#[derive(Clone)]
pub struct Place {
    store: Arc<dyn Store>,
}

impl Place {
    /// The tables at an address: a folder that is there, or `s3://bucket/folder`.
    ///
    /// # Errors
    /// When there is no such folder or bucket.
    pub fn open(address: &str) -> Result<Place, Error> {
        Place::open_with(address, &S3::default())
    }

    /// The same, where it was said how buckets are reached.
    ///
    /// # Errors
    /// As of [`Place::open`].
    pub fn open_with(address: &str, s3: &S3) -> Result<Place, Error> {
        let folder = if address.contains("://") { address.strip_prefix("file://") } else { Some(address) };
        match folder {
            Some(folder) if !Path::new(folder).is_dir() => Err(Error::NoTables { address: address.to_string() }),
            _ => Place::make(address, s3),
        }
    }

    /// The tables at an address, whose folder is made when it is not there.
    ///
    /// # Errors
    /// When there can be none.
    pub fn make(address: &str, s3: &S3) -> Result<Place, Error> {
        let store = store::open(address, s3).map_err(tidemill_state::Error::from)?;
        Ok(Place { store })
    }

    /// The names of the tables, sorted.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        Ok(table::tables(self.store.as_ref())?)
    }

    /// A table.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be read.
    pub fn table(&self, name: &str) -> Result<Table, Error> {
        let clock = SystemClock::new();
        let store = TableStore::open(self.store.clone(), name, replica(&clock))?;
        Ok(Table { store, clock: Arc::new(clock) })
    }

    /// Makes a table, or opens it when it is there with the same columns.
    ///
    /// # Errors
    /// When it is there with others, or cannot be written.
    pub fn create(&self, name: &str, schema: &Schema, author: &str) -> Result<Table, Error> {
        let clock = SystemClock::new();
        let (replica, now) = (replica(&clock), clock.now());
        let store = TableStore::create(self.store.clone(), name, schema, replica, author, now)?;
        Ok(Table { store, clock: Arc::new(clock) })
    }
}

/// A replica of this process. The store's order makes versions unique; this keeps two equal changes of two processes in
/// one millisecond apart.
fn replica(clock: &dyn Clock) -> Replica {
    let process = u64::from(std::process::id());
    let mixed = hash::words(hash::words(clock.now().millis() as u64, process), clock.monotonic().as_nanos() as u64);
    Replica::new(NODE, mixed & Replica::INCARNATION_MAX).unwrap_or_default()
}

/// A versioned table, opened.
pub struct Table {
    store: TableStore,
    clock: Arc<dyn Clock>,
}

/// A change that someone asks for, as JSON has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submission {
    /// Its version; left out to be given one.
    pub version: Option<Version>,
    /// The versions it was made on; left out for whatever the head is.
    pub deps: Option<Vec<Version>>,
    /// The epoch of the owner who asks.
    pub epoch: u64,
    /// Rows that take their keys' places; a column that is left out is NULL.
    pub puts: Vec<Map<String, Json>>,
    /// Keys whose rows go.
    pub deletes: Vec<Map<String, Json>>,
    /// Whether it shall be merged when it rests on an older version.
    pub merge: bool,
    /// Who asks for it.
    pub author: String,
    /// Why.
    pub message: String,
}

/// A return to an older version, as JSON has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Return {
    /// The version whose content shall come back.
    pub version: Version,
    /// What the head must be; left out for whatever it is.
    #[serde(default)]
    pub head: Option<Version>,
    /// The epoch of the owner who asks.
    #[serde(default)]
    pub epoch: u64,
    /// Who asks for it.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub message: String,
}

/// Rows at a version, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowsAt {
    /// The version.
    pub version: Version,
    /// The rows.
    pub rows: Vec<Map<String, Json>>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// What is forgotten of a table's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The oldest version that is kept.
    pub oldest: Version,
    /// How many versions are not kept any more.
    pub forgotten: usize,
    /// How many are kept.
    pub kept: usize,
}

/// A key whose rows differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differs {
    /// The key.
    pub key: Map<String, Json>,
    /// Its row at the first version.
    pub before: Option<Map<String, Json>>,
    /// Its row at the second version.
    pub after: Option<Map<String, Json>>,
}

/// How two versions differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The first version.
    pub from: Version,
    /// The second version.
    pub to: Version,
    /// The keys whose rows differ.
    pub changes: Vec<Differs>,
}

impl Table {
    /// Its name.
    pub fn name(&self) -> &str {
        self.store.table().name()
    }

    /// Its columns.
    pub fn schema(&self) -> &Arc<Schema> {
        self.store.table().schema()
    }

    /// The newest version that is known here.
    pub fn head(&self) -> &Arc<Snapshot> {
        self.store.table().head()
    }

    /// The version of a name: itself, or `newest`.
    ///
    /// # Errors
    /// When it is no version.
    pub fn version(&self, name: &str) -> Result<Version, Error> {
        match name {
            "newest" => Ok(self.head().version()),
            other => Ok(other.parse::<Version>()?),
        }
    }

    /// Submits a change; it may have to wait for a version that it rests on.
    fn begin(&mut self, submission: &Submission) -> Result<Answer, Error> {
        let changes = self.changes(submission)?;
        self.offer(submission, &changes)
    }

    fn offer(&mut self, submission: &Submission, changes: &[Change]) -> Result<Answer, Error> {
        for attempt in 1.. {
            let head = || vec![self.head().version()];
            let submit = Submit {
                version: submission.version,
                deps: submission.deps.clone().unwrap_or_else(head),
                epoch: submission.epoch,
                changes: changes.to_vec(),
                merge: submission.merge,
                author: submission.author.clone(),
                message: submission.message.clone(),
            };
            match self.store.submit(submit, self.clock.now()) {
                Err(error) if submission.deps.is_none() && attempt < ATTEMPTS && is_behind(&error) => {}
                other => return Ok(other?),
            }
        }
        Err(Error::Keep("a change was tried for ever".to_string()))
    }

    /// Submits a change and waits for what becomes of it.
    ///
    /// # Errors
    /// Why it is refused, or that it cannot be written.
    pub fn submit(&mut self, submission: &Submission) -> Result<Accepted, Error> {
        let answer = self.begin(submission)?;
        self.settle(answer)
    }

    /// Submits changes that were read elsewhere, as [`Table::submit`] does.
    fn submit_changes(&mut self, submission: &Submission, changes: &[Change]) -> Result<Accepted, Error> {
        let answer = self.offer(submission, changes)?;
        self.settle(answer)
    }

    fn settle(&mut self, answer: Answer) -> Result<Accepted, Error> {
        let waits_for = match answer {
            Answer::Accepted(accepted) => return Ok(accepted),
            Answer::Parked { ticket, .. } => ticket,
        };
        loop {
            std::thread::sleep(LOOK_INTERVAL);
            if let Some((_, answer)) = self.poll()?.into_iter().find(|(ticket, _)| *ticket == waits_for) {
                return Ok(answer?);
            }
        }
    }

    fn poll(&mut self) -> Result<Vec<Answered>, Error> {
        Ok(self.store.poll(self.clock.now())?)
    }

    fn forget(&mut self, ticket: Ticket) {
        self.store.forget(ticket);
    }

    /// Reads what others have written; whether there was anything.
    fn refresh(&mut self) -> Result<bool, Error> {
        Ok(self.store.refresh()?)
    }

    fn reader(&self) -> table::Reader {
        self.store.reader()
    }

    fn changes(&self, submission: &Submission) -> Result<Vec<Change>, Error> {
        let schema = self.schema();
        let puts = submission.puts.iter().map(|row| schema.row_from_json(row).map(Change::Put));
        let deletes = submission.deletes.iter().map(|key| schema.key_from_json(key).map(Change::Delete));
        Ok(puts.chain(deletes).collect::<Result<_, TableError>>().map_err(tidemill_state::Error::from)?)
    }

    /// Merges a version that was rolled back onto the head: what it changed since the last version that both rest on.
    ///
    /// # Errors
    /// When the head rests on it already, both sides changed the same keys, or it cannot be read.
    pub fn merge(&mut self, version: Version, submission: &Submission) -> Result<Accepted, Error> {
        let history = self.store.table().history();
        let mut base = version;
        while history.standing(base) != Standing::Live {
            base = self.store.table().checkpoint(base).map_err(tidemill_state::Error::from)?.parent;
        }
        if base == version {
            return Err(Error::Merged { table: self.name().to_string(), version: version.to_string() });
        }
        let changes = self.store.diff(base, version)?.into_iter().map(|difference| match difference.after {
            Some(row) => Change::Put(row),
            None => Change::Delete(difference.key),
        });
        let changes: Vec<Change> = changes.collect();
        let message = format!("merge {version}");
        let message = if submission.message.is_empty() { message } else { submission.message.clone() };
        let submission = Submission { deps: Some(vec![base]), merge: true, message, ..submission.clone() };
        self.submit_changes(&submission, &changes)
    }

    /// Returns to an older version's content, as a new version.
    ///
    /// # Errors
    /// When there is no such version, the head is another than was said, or it cannot be written.
    pub fn roll_back(&mut self, back: &Return) -> Result<Accepted, Error> {
        let rollback = submit::Rollback {
            target: back.version,
            head: back.head,
            epoch: back.epoch,
            author: back.author.clone(),
            message: back.message.clone(),
        };
        Ok(self.store.roll_back(&rollback, self.clock.now())?)
    }

    /// Forgets the versions that are older than one that was once the newest: it stays, and all that came after it.
    /// What was made beside the line and does not rest on it goes too.
    ///
    /// With `dry` it is only told what would go.
    ///
    /// # Errors
    /// When the version was never the newest or is not kept any more, or it cannot be written.
    pub fn prune(&mut self, boundary: Version, author: &str, dry: bool) -> Result<Pruned, Error> {
        self.refresh()?;
        let (table, before) = (self.store.table(), self.store.table().history().count());
        table.checkpoint(boundary).map_err(tidemill_state::Error::from)?;
        let mut trial = table.history().clone();
        if trial.prune(boundary).is_none() {
            let never = TableError::NoVersion { table: table.name().to_string(), version: boundary };
            return Err(tidemill_state::Error::from(never).into());
        }
        if !dry {
            self.store.prune(boundary, author, self.clock.now())?;
        }
        let kept = if dry { trial.count() } else { self.store.table().history().count() };
        Ok(Pruned { oldest: boundary, forgotten: before.saturating_sub(kept), kept })
    }

    /// Rows at a version, in the order of their keys: the one of a key, or at most `limit` of all. A part of the key is its
    /// column's name, or none for the next in the key's order, and a value as text.
    ///
    /// # Errors
    /// When there is no such version, or the key is none of the table's.
    pub fn rows(&self, version: Version, key: &[(Option<&str>, &str)], limit: usize) -> Result<RowsAt, Error> {
        let snapshot = self.store.at(version)?;
        let schema = self.schema();
        let mut found: Vec<&Row> = match key {
            [] => snapshot.rows().iter().collect(),
            parts => snapshot.get(&self.key(parts)?).into_iter().collect(),
        };
        let mut keyed = Vec::with_capacity(found.len());
        for row in found.drain(..) {
            keyed.push((key_values(row), row));
        }
        keyed.sort_by(|(a, _), (b, _)| order(a, b));
        let more = keyed.len() > limit;
        let rows = keyed.into_iter().take(limit).map(|(_, row)| schema.row_to_json(row));
        let rows = rows.collect::<Result<_, _>>().map_err(tidemill_state::Error::from)?;
        Ok(RowsAt { version, rows, more })
    }

    /// The key of these texts.
    ///
    /// # Errors
    /// When they are no key of the table.
    pub fn key(&self, parts: &[(Option<&str>, &str)]) -> Result<Key, Error> {
        let schema = self.schema();
        let names: Vec<&str> = schema.key_names().iter().map(String::as_str).collect();
        let wrong = |problem: String| Error::TableKey {
            table: self.name().to_string(),
            problem,
            key: names.iter().map(|name| name.to_string()).collect(),
        };
        if let Some(name) = parts.iter().filter_map(|part| part.0).find(|name| !names.contains(name)) {
            return Err(wrong(format!("'{name}' is no column of the key")));
        }
        if parts.len() != names.len() {
            return Err(wrong(format!("the key has {} columns, not {}", names.len(), parts.len())));
        }
        let mut unnamed = parts.iter().filter(|part| part.0.is_none());
        let mut values = Vec::with_capacity(names.len());
        for column in schema.key_columns() {
            let named = parts.iter().find(|part| part.0 == Some(&column.name));
            let (_, text) = named
                .or_else(|| unnamed.next())
                .ok_or_else(|| wrong(format!("it lacks its column '{}'", column.name)))?;
            values.push(schema.value_from_text(column, text).map_err(tidemill_state::Error::from)?);
        }
        Ok(schema.key(&values).map_err(tidemill_state::Error::from)?)
    }

    /// The key of these texts, as an object.
    ///
    /// # Errors
    /// When they are no key of the table.
    pub fn key_object(&self, parts: &[(Option<&str>, &str)]) -> Result<Map<String, Json>, Error> {
        let key = self.key(parts)?;
        Ok(self.schema().key_to_json(&key).map_err(tidemill_state::Error::from)?)
    }

    /// How two versions differ, key by key.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn diff(&self, from: Version, to: Version) -> Result<Difference, Error> {
        let schema = self.schema();
        let json = |row: Option<&Row>| row.map(|row| schema.row_to_json(row)).transpose();
        let changes = self.store.diff(from, to)?.into_iter().map(|one| {
            let key = schema.key_to_json(&one.key)?;
            Ok(Differs { key, before: json(one.before.as_ref())?, after: json(one.after.as_ref())? })
        });
        let changes = changes.collect::<Result<_, TableError>>().map_err(tidemill_state::Error::from)?;
        Ok(Difference { from, to, changes })
    }

    /// The newest versions, at most so many.
    pub fn log(&self, most: usize) -> Vec<Checkpoint> {
        self.store.log(most)
    }

    /// All versions as a graph: each with what it rests on, and whether the head rests on it.
    pub fn graph(&self) -> Json {
        self.store.graph()
    }

    fn at(&mut self, version: Version) -> Result<Arc<Snapshot>, Error> {
        match self.store.at(version) {
            // Another process may have written it since this one has looked.
            Err(tidemill_state::Error::Table(TableError::NoVersion { .. })) if self.store.refresh()? => {
                Ok(self.store.at(version)?)
            }
            other => Ok(other?),
        }
    }
}

/// Whether a refusal says no more than that the head is a newer one.
fn is_behind(error: &tidemill_state::Error) -> bool {
    let tidemill_state::Error::Table(TableError::Conflict(conflict)) = error else { return false };
    matches!(conflict, Conflict::Stale { .. } | Conflict::Overlap { .. })
}

/// The values of a row's key, in the key's order.
fn key_values(row: &Row) -> Vec<Value> {
    let mut rest = row.key_bytes();
    std::iter::from_fn(|| Value::read(&mut rest)).collect()
}

/// The order of keys as people read them.
fn order(a: &[Value], b: &[Value]) -> Ordering {
    let one = |(a, b): (&Value, &Value)| match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Integer(a), Value::Integer(b))
        | (Value::Time(a), Value::Time(b))
        | (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    a.iter().zip(b).map(one).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests;

//! A versioned table in a store.
//!
//! Below `tables/NAME/`, the log is an object a record, `log/` and the record's number in 20 digits. A name is given once
//! ([`Store::put_new`]), and that alone decides the order: of two processes that write record 7 one succeeds, and the
//! other reads what was written and judges its submit again by the rules. `base/` and a number holds the whole table up
//! to that record, so that opening reads a base and the few records after it.
//!
//! Pruning writes its record and a base first and removes old records then. A process that had fallen behind could write
//! a number that was removed; so each write is confirmed by looking for later bases, and taken back when it did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value as Json};
use tidemill_base::Timestamp;

use super::checkpoint::{Checkpoint, Edits, Kind, Past};
use super::error::{Conflict, TableError};
use super::parking::{Parked, Parking, Ticket, WAIT};
use super::record::{Record, decode_base, encode_base};
use super::schema::Schema;
use super::snapshot::{Reader, Snapshot};
use super::{Difference, Table};
use crate::store::{Store, StoreError};
use crate::submit::{Accepted, By, Rollback, Submit, Verdict};
use crate::{Error, Replica, Version};

/// How often something is tried again because others were quicker.
const ATTEMPTS: u32 = 64;

/// A base is written after so many records...
const RECORDS_MAX: u64 = 256;
/// ...or after so many, when they have as many bytes as the last base.
const RECORDS_MIN: u64 = 16;

/// The bases that are kept: the newest, and one for whoever is reading it at this moment.
const BASES: usize = 2;

/// The most edits of old checkpoints in memory, and the most checkpoints.
const CACHED_EDITS: usize = 1 << 18;
const CACHED_CHECKPOINTS: usize = 256;

/// The most snapshots of old versions in memory.
const CACHED_SNAPSHOTS: usize = 4;

/// A versioned table in a store: submits become durable here, and readers get their snapshots.
pub struct TableStore {
    archive: Archive,
    replica: Replica,
    table: Table,
    reader: Reader,
    parking: Parking,
    snapshots: Mutex<VecDeque<Arc<Snapshot>>>,
    /// Records and their bytes since the last base, and that base's bytes.
    since: (u64, u64),
    base_bytes: u64,
}

/// What a submit is answered with, unless it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is durable.
    Accepted(Accepted),
    /// It rests on versions that nobody knows yet: [`TableStore::poll`] answers it, at its deadline at the latest.
    Parked {
        /// Its name.
        ticket: Ticket,
        /// The versions.
        missing: Vec<Version>,
        /// The deadline.
        deadline: Timestamp,
    },
}

/// A submit that waited, and what it is answered with.
pub type Answered = (Ticket, Result<Accepted, Error>);

/// The names of the tables in a store, sorted.
///
/// # Errors
/// Why they cannot be listed.
pub fn tables(store: &dyn Store) -> Result<Vec<String>, Error> {
    let first = format!("/log/{:020}", 0);
    let names = store.list("tables")?.into_iter().filter_map(|name| {
        let folder = name.strip_prefix("tables/")?.strip_suffix(&first)?;
        table_of(folder)
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    Ok(names)
}

/// A table's folder: its name, with `=` and two hexadecimal digits for a byte that not every store takes.
fn folder_of(table: &str) -> String {
    let mut folder = "tables/".to_string();
    for byte in table.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(byte as char),
            _ => folder.push_str(&format!("={byte:02x}")),
        }
    }
    folder
}

fn table_of(folder: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'=' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl TableStore {
    /// Opens a table.
    ///
    /// # Errors
    /// [`TableError::NoTable`], [`Error::Damaged`], [`Error::Newer`], or what the store says.
    pub fn open(store: Arc<dyn Store>, table: &str, replica: Replica) -> Result<Self, Error> {
        let archive = Archive { folder: folder_of(table), store, cache: Mutex::default() };
        let (table, since, base_bytes) = archive.load(table)?;
        let reader = Reader::new(Arc::clone(table.head()));
        let snapshots = Mutex::default();
        let parking = Parking::default();
        Ok(TableStore { archive, replica, table, reader, parking, snapshots, since, base_bytes })
    }

    /// Makes a table, or opens it when it is there with the same columns.
    ///
    /// # Errors
    /// [`TableError::SchemaChanged`] when it is there with others, and as of [`TableStore::open`].
    pub fn create(
        store: Arc<dyn Store>,
        table: &str,
        schema: &Schema,
        replica: Replica,
        author: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let record = Record::Create { schema: schema.clone(), author: author.to_string(), time: now.0 };
        let first = format!("{}/log/{:020}", folder_of(table), 0);
        match store.put_new(&first, record.encode().into()) {
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let opened = TableStore::open(store, table, replica)?;
        match opened.table.schema().difference(schema) {
            None => Ok(opened),
            Some(difference) => Err(TableError::SchemaChanged { table: table.to_string(), difference }.into()),
        }
    }

    /// The table at the newest head that this process knows.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Hands out the newest snapshot from then on, without asking this again.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Reads what other processes have written; whether there was anything.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Newer`], or what the store says.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        let before = self.table.sequence();
        loop {
            let news = self.archive.records_from(self.table.sequence() + 1)?;
            // One who had fallen behind can have written a number that was pruned; then there is a base after it.
            if self.archive.bases()?.last().is_some_and(|&base| base > self.table.sequence()) {
                self.reload()?;
                continue;
            }
            if news.is_empty() {
                break;
            }
            for (record, bytes) in news {
                self.take(record, bytes)?;
            }
        }
        Ok(self.table.sequence() != before)
    }

    /// Submits a change. It is durable once it is accepted.
    ///
    /// # Errors
    /// [`Conflict`], what is wrong with the submit, [`TableError::Busy`], or what the store says; after
    /// [`StoreError::Failed`] it may have been written or not, and can be sent again if it names its version.
    pub fn submit(&mut self, submit: Submit, now: Timestamp) -> Result<Answer, Error> {
        let missing = match self.decide(&submit, now)? {
            Decision::Accepted(accepted) => return Ok(Answer::Accepted(accepted)),
            Decision::Missing(missing) => missing,
        };
        let deadline = Timestamp(now.0.saturating_add(WAIT));
        match self.parking.park(submit, missing.clone(), deadline) {
            Some(ticket) => Ok(Answer::Parked { ticket, missing, deadline }),
            None => Err(unreachable(missing)),
        }
    }

    /// Looks again at the submits that wait, and answers those whose time has come either way. To be called after an
    /// accepted submit, and every few tens of milliseconds while [`TableStore::deadline`] names a deadline.
    ///
    /// # Errors
    /// What the store says; those that wait go on waiting.
    pub fn poll(&mut self, now: Timestamp) -> Result<Vec<Answered>, Error> {
        let mut answers = Vec::new();
        if self.parking.deadline().is_none() {
            return Ok(answers);
        }
        self.refresh()?;
        loop {
            let known = |version| self.table.history().standing(version) != super::Standing::Unknown;
            let ready = self.parking.ready(known);
            if ready.is_empty() {
                break;
            }
            for parked in ready {
                match self.decide(&parked.submit, now) {
                    Ok(Decision::Accepted(accepted)) => answers.push((parked.ticket, Ok(accepted))),
                    Ok(Decision::Missing(missing)) => {
                        self.parking.park_again(Parked { missing, ..parked });
                    }
                    Err(error) => answers.push((parked.ticket, Err(error))),
                }
            }
        }
        for parked in self.parking.expired(now) {
            answers.push((parked.ticket, Err(unreachable(parked.missing))));
        }
        Ok(answers)
    }

    /// The first deadline of the submits that wait.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.parking.deadline()
    }

    /// Forgets a submit that waits, because nobody waits for its answer any more.
    pub fn forget(&mut self, ticket: Ticket) {
        self.parking.forget(ticket);
    }

    /// Returns to an older version's content, as a new version.
    ///
    /// # Errors
    /// As of [`Table::roll_back`], [`TableError::Busy`], or what the store says.
    pub fn roll_back(&mut self, rollback: &Rollback, now: Timestamp) -> Result<Accepted, Error> {
        let by = By { replica: self.replica, now };
        self.retry(|this| match this.table.roll_back(rollback, by, &this.archive) {
            Ok(decided) => Ok(Some(decided)),
            Err(error) => this.unless_stale(error),
        })
    }

    /// Takes the table over: from then on every submit under an older epoch is refused, in every process.
    ///
    /// # Errors
    /// [`Conflict::Fenced`] when a later epoch has begun, [`TableError::Busy`], or what the store says.
    pub fn fence(&mut self, epoch: u64, author: &str, now: Timestamp) -> Result<(), Error> {
        if epoch == self.table.epoch() {
            self.refresh()?;
            if epoch == self.table.epoch() {
                return Ok(());
            }
        }
        let record = Record::Fence { epoch, author: author.to_string(), time: now.0 };
        self.retry(|this| match this.table.check_epoch(epoch) {
            Ok(()) => Ok(Some(((), record.clone()))),
            Err(error) => this.unless_stale(error),
        })
    }

    /// Forgets what is older than a version that was once the head; its content stays, and all that came after. Returns
    /// how many records were removed.
    ///
    /// # Errors
    /// [`TableError::NoVersion`], [`TableError::Pruned`], [`TableError::Busy`], or what the store says.
    pub fn prune(&mut self, boundary: Version, author: &str, now: Timestamp) -> Result<u64, Error> {
        let record = Record::Prune { boundary, author: author.to_string(), time: now.0 };
        self.retry(|this| {
            let mut trial = this.table.clone();
            let known = this.table.checkpoint(boundary).map_err(Error::from).and_then(|_| trial.apply(record.clone()));
            match known {
                Ok(()) => Ok(Some(((), record.clone()))),
                Err(_) => {
                    let table = this.table.name().to_string();
                    this.unless_stale(TableError::NoVersion { table, version: boundary }.into())
                }
            }
        })?;
        self.compact()?;
        self.archive.remove_before(self.table.history().first_record())
    }

    /// The table at a version that is kept.
    ///
    /// # Errors
    /// As of [`Table::at`].
    pub fn at(&self, version: Version) -> Result<Arc<Snapshot>, Error> {
        let cache = || self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cache().iter().find(|snapshot| snapshot.version() == version) {
            return Ok(Arc::clone(found));
        }
        let snapshot = self.table.at(version, &self.archive)?;
        let mut cached = cache();
        cached.truncate(CACHED_SNAPSHOTS - 1);
        cached.push_front(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// The keys whose rows differ between two versions.
    ///
    /// # Errors
    /// As of [`Table::diff`].
    pub fn diff(&self, from: Version, to: Version) -> Result<Vec<Difference>, Error> {
        self.table.diff(from, to, &self.archive)
    }

    /// The newest checkpoints, at most so many.
    pub fn log(&self, most: usize) -> Vec<Checkpoint> {
        self.table.history().newest_first().into_iter().take(most).cloned().collect()
    }

    /// All checkpoints as a graph: each with what it rests on and whether it is live, newest first.
    pub fn graph(&self) -> Json {
        let history = self.table.history();
        let nodes = history.newest_first().into_iter().map(|checkpoint| {
            let mut node = match serde_json::to_value(checkpoint) {
                Ok(Json::Object(node)) => node,
                _ => Map::new(),
            };
            let live = history.standing(checkpoint.version) == super::Standing::Live;
            node.insert("live".to_string(), Json::Bool(live));
            Json::Object(node)
        });
        serde_json::json!({
            "table": self.table.name(),
            "head": history.head().version,
            "epoch": self.table.epoch(),
            "checkpoints": nodes.collect::<Vec<_>>(),
        })
    }

    fn decide(&mut self, submit: &Submit, now: Timestamp) -> Result<Decision, Error> {
        let by = By { replica: self.replica, now };
        self.retry(|this| match this.table.judge(submit, by, &this.archive) {
            Ok(Verdict::Write(accepted, record)) => Ok(Some((Decision::Accepted(accepted), Some(record)))),
            Ok(Verdict::Again(accepted)) => Ok(Some((Decision::Accepted(accepted), None))),
            Ok(Verdict::Missing(missing)) => {
                Ok(if this.refresh()? { None } else { Some((Decision::Missing(missing), None)) })
            }
            Err(error) => this.unless_stale(error),
        })
    }

    /// Nothing, to try again, when an error came of not having read what others wrote; else the error.
    fn unless_stale<T>(&mut self, error: Error) -> Result<Option<T>, Error> {
        // A record that is not there, or is another one, was perhaps pruned.
        let stale = matches!(error, Error::Store(StoreError::NotFound { .. }) | Error::Damaged { .. });
        let settled = matches!(error, Error::Store(_) | Error::Newer { .. }) && !stale;
        if !settled && self.refresh()? { Ok(None) } else { Err(error) }
    }

    /// Decides and writes down what was decided, until nobody else was quicker.
    fn retry<T, R: Into<Option<Record>>>(
        &mut self,
        mut decide: impl FnMut(&mut Self) -> Result<Option<(T, R)>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            let Some((decided, record)) = decide(self)? else { continue };
            let Some(record) = record.into() else { return Ok(decided) };
            if self.write(record)? {
                return Ok(decided);
            }
        }
        Err(TableError::Busy { table: self.table.name().to_string(), attempts: ATTEMPTS }.into())
    }

    /// Writes a record as the next one; false when someone else did, whose record is read then.
    fn write(&mut self, record: Record) -> Result<bool, Error> {
        let sequence = self.table.sequence() + 1;
        let name = self.archive.log_name(sequence);
        let bytes = Bytes::from(record.encode());
        match self.archive.store.put_new(&name, bytes.clone()) {
            Ok(()) => {}
            // A store that tries again by itself can find its own writing; one that failed can have written.
            Err(error @ (StoreError::Exists { .. } | StoreError::Failed { .. })) => {
                match self.archive.store.get(&name) {
                    Ok(there) if there == bytes => {}
                    Ok(_) => {
                        self.refresh()?;
                        return Ok(false);
                    }
                    Err(_) if matches!(error, StoreError::Exists { .. }) => {
                        self.refresh()?;
                        return Ok(false);
                    }
                    Err(_) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        if self.archive.bases()?.last().is_some_and(|&base| base >= sequence) {
            return self.confirm(&record, sequence);
        }
        self.take(record, bytes.len() as u64)?;
        let due = self.since.0 >= RECORDS_MAX || (self.since.0 >= RECORDS_MIN && self.since.1 >= self.base_bytes);
        if let Some(error) = due.then(|| self.compact()).and_then(Result::err) {
            tracing::warn!(table = self.table.name(), %error, "A base could not be written; the log is whole.");
        }
        Ok(true)
    }

    /// Whether a record that was written is of the table, though there is a base after it: others may have read it
    /// already, or it may have taken a number that pruning removed, and is taken back then.
    fn confirm(&mut self, record: &Record, sequence: u64) -> Result<bool, Error> {
        self.reload()?;
        let known = |written: &super::Written| self.table.history().get(written.checkpoint.version).is_some();
        let is_there = match record {
            Record::Commit { written, .. } => written.iter().any(known),
            _ => false,
        };
        // Numbers from the first record on that is still needed are never removed.
        if is_there || sequence >= self.table.history().first_record() {
            return Ok(true);
        }
        self.archive.store.delete(&self.archive.log_name(sequence))?;
        Ok(false)
    }

    /// Applies a record that is durable.
    fn take(&mut self, record: Record, bytes: u64) -> Result<(), Error> {
        let written: Vec<(Version, Edits)> = match &record {
            Record::Commit { written, .. } => {
                written.iter().map(|written| (written.checkpoint.version, Arc::clone(&written.edits))).collect()
            }
            _ => Vec::new(),
        };
        self.table.apply(record)?;
        for (version, edits) in written {
            self.archive.remember(version, edits);
        }
        self.since = (self.since.0 + 1, self.since.1 + bytes);
        self.reader.publish(Arc::clone(self.table.head()));
        Ok(())
    }

    /// Reads the table anew, from a base that is later than what this process knows.
    fn reload(&mut self) -> Result<(), Error> {
        let (table, since, base_bytes) = self.archive.load(self.table.name())?;
        (self.table, self.since, self.base_bytes) = (table, since, base_bytes);
        self.reader.publish(Arc::clone(self.table.head()));
        Ok(())
    }

    /// Writes a base and removes those that nobody needs any more.
    fn compact(&mut self) -> Result<(), Error> {
        let bytes = Bytes::from(encode_base(&self.table));
        let size = bytes.len() as u64;
        match self.archive.store.put_new(&self.archive.base_name(self.table.sequence()), bytes) {
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        (self.since, self.base_bytes) = ((0, 0), size);
        let bases = self.archive.bases()?;
        for &base in &bases[..bases.len().saturating_sub(BASES)] {
            self.archive.store.delete(&self.archive.base_name(base))?;
        }
        Ok(())
    }
}

enum Decision {
    Accepted(Accepted),
    Missing(Vec<Version>),
}

fn unreachable(missing: Vec<Version>) -> Error {
    let conflict = Conflict::Unreachable { missing, rolled_back: Vec::new(), pruned: Vec::new() };
    TableError::Conflict(conflict).into()
}

/// The objects of a table, and some of them in memory.
struct Archive {
    store: Arc<dyn Store>,
    folder: String,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// The newest last.
    checkpoints: VecDeque<(Version, Edits)>,
    edits: usize,
}

type Loaded = (Table, (u64, u64), u64);

impl Archive {
    fn log_name(&self, sequence: u64) -> String {
        format!("{}/log/{sequence:020}", self.folder)
    }

    fn base_name(&self, sequence: u64) -> String {
        format!("{}/base/{sequence:020}", self.folder)
    }

    fn record(&self, sequence: u64) -> Result<(Record, u64), Error> {
        let name = self.log_name(sequence);
        let bytes = self.store.get(&name)?;
        Ok((Record::decode(&name, &bytes)?, bytes.len() as u64))
    }

    /// The records from a number on, as far as they are there.
    fn records_from(&self, first: u64) -> Result<Vec<(Record, u64)>, Error> {
        let mut records = Vec::new();
        loop {
            match self.record(first + records.len() as u64) {
                Ok(record) => records.push(record),
                Err(Error::Store(StoreError::NotFound { .. })) => return Ok(records),
                Err(error) => return Err(error),
            }
        }
    }

    /// The numbers of the bases, ascending.
    fn bases(&self) -> Result<Vec<u64>, Error> {
        self.numbers("base")
    }

    fn numbers(&self, kind: &str) -> Result<Vec<u64>, Error> {
        let folder = format!("{}/{kind}", self.folder);
        let names = self.store.list(&folder)?;
        let number = |name: &String| name.rsplit('/').next().filter(|name| name.len() == 20)?.parse().ok();
        Ok(names.iter().filter_map(number).collect())
    }

    /// Reads the table: its newest base and the records after it, with their number and bytes, and the base's bytes.
    fn load(&self, table: &str) -> Result<Loaded, Error> {
        let mut attempt = 1;
        loop {
            match self.load_once(table) {
                // What was listed may have been pruned before it was read; then there is a later base.
                Err(Error::Store(StoreError::NotFound { .. })) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    fn load_once(&self, name: &str) -> Result<Loaded, Error> {
        let log = self.numbers("log")?;
        let (mut table, base_bytes) = match self.bases()?.last() {
            Some(&base) => {
                let object = self.base_name(base);
                let bytes = self.store.get(&object)?;
                (decode_base(&object, name, &bytes)?, bytes.len() as u64)
            }
            None if log.is_empty() => {
                return Err(TableError::NoTable { table: name.to_string(), store: self.store.describe() }.into());
            }
            None => match self.record(0)? {
                (Record::Create { schema, .. }, bytes) => (Table::new(name, Arc::new(schema)), bytes),
                _ => return Err(damaged(self.log_name(0), "it does not create the table")),
            },
        };
        let mut since = (0, 0);
        for &sequence in log.iter().filter(|&&sequence| sequence > table.sequence()).collect::<Vec<_>>() {
            if sequence != table.sequence() + 1 {
                return Err(damaged(self.log_name(table.sequence() + 1), "it is missing, and later ones are there"));
            }
            let (record, bytes) = self.record(sequence)?;
            table.apply(record)?;
            since = (since.0 + 1, since.1 + bytes);
        }
        Ok((table, since, base_bytes))
    }

    /// Removes the records before a number, but for the first, which keeps the table's name taken.
    fn remove_before(&self, sequence: u64) -> Result<u64, Error> {
        let mut removed = 0;
        for number in self.numbers("log")?.into_iter().filter(|&number| 0 < number && number < sequence) {
            self.store.delete(&self.log_name(number))?;
            removed += 1;
        }
        Ok(removed)
    }

    fn remember(&self, version: Version, edits: Edits) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.edits += edits.len();
        cache.checkpoints.push_back((version, edits));
        while cache.checkpoints.len() > CACHED_CHECKPOINTS
            || (cache.edits > CACHED_EDITS && cache.checkpoints.len() > 1)
        {
            if let Some((_, edits)) = cache.checkpoints.pop_front() {
                cache.edits -= edits.len();
            }
        }
    }
}

impl Past for Archive {
    fn edits(&self, checkpoint: &Checkpoint) -> Result<Edits, Error> {
        if checkpoint.kind == Kind::Genesis {
            return Ok(Arc::new([]));
        }
        {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, edits)) = cache.checkpoints.iter().find(|(version, _)| *version == checkpoint.version) {
                return Ok(Arc::clone(edits));
            }
        }
        let (Record::Commit { written, .. }, _) = self.record(checkpoint.sequence)? else {
            return Err(damaged(self.log_name(checkpoint.sequence), "it is no commit"));
        };
        let is_it = |version| version == checkpoint.version;
        match written.into_iter().find(|written| is_it(written.checkpoint.version)) {
            Some(written) => {
                self.remember(checkpoint.version, Arc::clone(&written.edits));
                Ok(written.edits)
            }
            None => {
                let reason = format!("it does not have version {}", checkpoint.version);
                Err(damaged(self.log_name(checkpoint.sequence), &reason))
            }
        }
    }
}

fn damaged(name: String, reason: &str) -> Error {
    Error::Damaged { name, reason: reason.to_string() }
}

#[cfg(test)]
mod tests;

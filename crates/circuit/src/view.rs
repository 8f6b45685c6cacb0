//! Views that are kept: the integral of an output, readable at a version while the circuit goes on.
//!
//! Rows lie in chunks that are never changed. A step appends the rows that come and marks the rows that go with the
//! step's number, so a reader who holds the list of chunks of version v sees exactly the rows that were there after
//! step v: it takes the list, lets the writer go on, and what it still holds is freed when it is done. A step's changes
//! are made under one lock, so no reader sees half of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, SchemaRef};
use hashbrown::HashTable;
use tidemill_base::hash;

use crate::delta::Delta;

mod save;

pub use save::Save;
use save::Saving;

/// Chunks of fewer rows than this are merged when there are many.
const SMALL_ROWS: usize = 4_096;

/// How many small chunks there may be before they are merged.
const SMALL_CHUNKS_MAX: usize = 16;

/// The mark of a row that is there.
const ALIVE: u64 = u64::MAX;

/// What is wrong with a view or a question to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arrow refused the rows.
    #[error("view '{view}': {source}")]
    Arrow {
        /// The view.
        view: String,
        /// What Arrow said.
        source: ArrowError,
    },
    /// A row was taken back that is not there.
    #[error("view '{view}': step {step} takes back a row that is not there")]
    NotThere {
        /// The view.
        view: String,
        /// The step.
        step: u64,
    },
    /// The view has no key to look rows up by.
    #[error("view '{view}' has no key: it is neither grouped nor has it a PRIMARY KEY")]
    NoKey {
        /// The view.
        view: String,
    },
    /// Saved rows are damaged, or are not the view's.
    #[error("the saved rows of view '{view}' cannot be restored: {message}")]
    Saved {
        /// The view.
        view: String,
        /// What is wrong with them.
        message: String,
    },
    /// A key has another number of columns, or other types, than the view's.
    #[error("view '{view}' is looked up by ({columns})")]
    BadKey {
        /// The view.
        view: String,
        /// The key's columns.
        columns: String,
    },
}

/// Rows that were there after a step.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The step.
    pub version: u64,
    /// The rows, with multiplicity.
    pub batches: Vec<RecordBatch>,
}

/// What a view is, apart from its rows.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The columns that name a row, when any do.
    pub key: Option<Vec<usize>>,
    /// Whether no row is ever taken back.
    pub append_only: bool,
}

/// A view for reading; cheap to clone.
#[derive(Clone)]
pub struct View {
    spec: Arc<ViewSpec>,
    state: Arc<RwLock<State>>,
}

/// The one writer of a view.
pub struct ViewWriter {
    spec: Arc<ViewSpec>,
    state: Arc<RwLock<State>>,
    rows: RowConverter,
    /// Where each row of each chunk is indexed.
    owners: BTreeMap<u32, Vec<u32>>,
    next_chunk: u32,
    saving: Saving,
}

/// Rows that are never changed, and since when each is gone.
struct Chunk {
    batch: RecordBatch,
    /// How often each row is there; none means once.
    copies: Option<Vec<u32>>,
    gone: Vec<AtomicU64>,
    alive: AtomicU64,
    /// Whether it is new or a row has gone since it was last given to a save.
    dirty: AtomicBool,
}

struct State {
    version: u64,
    chunks: BTreeMap<u32, Arc<Chunk>>,
    index: Index,
}

/// Finds rows by key, or by the whole row where there is no key.
struct Index {
    converter: RowConverter,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

struct Entry {
    key: Box<[u8]>,
    chunk: u32,
    row: u32,
}

/// Makes a view and its writer.
///
/// # Errors
/// [`Error::Arrow`] when a column cannot be compared.
pub fn view(spec: ViewSpec) -> Result<(ViewWriter, View), Error> {
    // A key of no columns names nothing: the one row of a global aggregate is found by itself.
    let spec = ViewSpec { key: spec.key.filter(|key| !key.is_empty()), ..spec };
    let fail = |source| Error::Arrow { view: spec.name.clone(), source };
    let sort = |columns: &[usize]| -> Vec<SortField> {
        columns.iter().map(|column| SortField::new(spec.schema.field(*column).data_type().clone())).collect()
    };
    let all: Vec<usize> = (0..spec.schema.fields().len()).collect();
    let rows = RowConverter::new(sort(&all)).map_err(fail)?;
    let converter = RowConverter::new(sort(spec.key.as_deref().unwrap_or(&all))).map_err(fail)?;
    let index = Index { converter, table: HashTable::new(), entries: Vec::new(), free: Vec::new() };
    let state = Arc::new(RwLock::new(State { version: 0, chunks: BTreeMap::new(), index }));
    let spec = Arc::new(spec);
    let saving = Saving::default();
    let writer =
        ViewWriter { spec: spec.clone(), state: state.clone(), rows, owners: BTreeMap::new(), next_chunk: 0, saving };
    Ok((writer, View { spec, state }))
}

impl View {
    /// What the view is.
    pub fn spec(&self) -> &ViewSpec {
        &self.spec
    }

    /// The last step whose rows can be read.
    pub fn version(&self) -> u64 {
        self.read(|state| state.version)
    }

    /// All rows after the last step; blocks nobody while they are copied.
    ///
    /// # Errors
    /// [`Error::Arrow`] when rows cannot be gathered.
    pub fn scan(&self) -> Result<Snapshot, Error> {
        let (version, chunks): (u64, Vec<Arc<Chunk>>) =
            self.read(|state| (state.version, state.chunks.values().cloned().collect()));
        let batches = chunks.iter().map(|chunk| chunk.at(version)).collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
        Ok(Snapshot { version, batches: batches.into_iter().filter(|batch| batch.num_rows() > 0).collect() })
    }

    /// The rows with these keys; `keys` has the key's columns, one row for each key that is asked for.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::BadKey`].
    pub fn lookup(&self, keys: &[ArrayRef]) -> Result<Snapshot, Error> {
        let Some(columns) = &self.spec.key else { return Err(Error::NoKey { view: self.spec.name.clone() }) };
        let types = columns.iter().map(|column| self.spec.schema.field(*column).data_type());
        if keys.len() != columns.len() || !types.eq(keys.iter().map(|key| key.data_type())) {
            let names: Vec<_> = columns.iter().map(|column| self.spec.schema.field(*column).name().as_str()).collect();
            return Err(Error::BadKey { view: self.spec.name.clone(), columns: names.join(", ") });
        }
        let found = self.read(|state| -> Result<Snapshot, ArrowError> {
            let mut batches = Vec::new();
            for key in state.index.converter.convert_columns(keys)?.iter() {
                if let Some(entry) = state.index.find(key.as_ref()) {
                    let entry = &state.index.entries[entry as usize];
                    batches.extend(state.chunks.get(&entry.chunk).map(|c| c.batch.slice(entry.row as usize, 1)));
                }
            }
            Ok(Snapshot { version: state.version, batches })
        });
        found.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        // A writer that panicked left whole chunks: a step's changes become visible by its version only.
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ViewWriter {
    /// What the view is.
    pub fn spec(&self) -> &ViewSpec {
        &self.spec
    }

    /// Takes the rows of step `step`; readers see all of them at once.
    ///
    /// # Errors
    /// [`Error::NotThere`] when a row is taken back that is not there: a bug in an operator.
    pub fn apply(&mut self, step: u64, deltas: &[Delta]) -> Result<(), Error> {
        let fail = |source| Error::Arrow { view: self.spec.name.clone(), source };
        let net = self.net(deltas).map_err(fail)?;
        let shared = self.state.clone();
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        match net {
            None => {
                self.append(&mut state, step, deltas.iter().map(|delta| (delta.batch().clone(), None)).collect())?
            }
            Some((gone, come)) => {
                self.remove(&mut state, step, &gone)?;
                self.insert(&mut state, step, come)?;
            }
        }
        self.tidy(&mut state)?;
        state.version = step;
        Ok(())
    }

    /// Only the number of the last step changes.
    pub fn pass(&mut self, step: u64) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).version = step;
    }

    /// The step's rows that go and that come, each once with its count; none when rows just come and need no index.
    #[allow(clippy::type_complexity)]
    fn net(
        &self,
        deltas: &[Delta],
    ) -> Result<Option<(Vec<(RecordBatch, Vec<i64>)>, Vec<(RecordBatch, Vec<i64>)>)>, ArrowError> {
        let weighted = deltas.iter().any(|delta| delta.weights().is_some());
        if self.spec.append_only && self.spec.key.is_none() && !weighted {
            return Ok(None);
        }
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        if !weighted && self.spec.key.is_some() {
            come.extend(deltas.iter().map(|delta| (delta.batch().clone(), vec![1; delta.rows()])));
            return Ok(Some((gone, come)));
        }
        let all = Delta::concat(&self.spec.schema, deltas)?;
        let rows = self.rows.convert_columns(all.batch().columns())?;
        let mut table: HashTable<u32> = HashTable::new();
        let mut weights: Vec<i64> = vec![0; all.rows()];
        let hashes: Vec<u64> = rows.iter().map(|row| hash::bytes(row.as_ref())).collect();
        for row in 0..all.rows() {
            let same = |other: &u32| rows.row(*other as usize) == rows.row(row);
            let entry = table.entry(hashes[row], same, |other| hashes[*other as usize]).or_insert(row as u32);
            weights[*entry.get() as usize] += all.weight(row);
        }
        let pick = |keep: fn(i64) -> bool| -> Result<(RecordBatch, Vec<i64>), ArrowError> {
            let picked: Vec<u32> = (0..all.rows() as u32).filter(|row| keep(weights[*row as usize])).collect();
            let counts = picked.iter().map(|row| weights[*row as usize].abs()).collect();
            Ok((arrow_select::take::take_record_batch(all.batch(), &UInt32Array::from(picked))?, counts))
        };
        gone.push(pick(|weight| weight < 0)?);
        come.push(pick(|weight| weight > 0)?);
        Ok(Some((gone, come)))
    }

    fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        match &self.spec.key {
            Some(key) => key.iter().map(|column| batch.column(*column).clone()).collect(),
            None => batch.columns().to_vec(),
        }
    }

    fn remove(&mut self, state: &mut State, step: u64, gone: &[(RecordBatch, Vec<i64>)]) -> Result<(), Error> {
        for (batch, counts) in gone.iter().filter(|(batch, _)| batch.num_rows() > 0) {
            let columns = self.key_columns(batch);
            let mut left: Vec<(u32, i64)> = Vec::new();
            let keys = state.index.converter.convert_columns(&columns);
            let keys = keys.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
            for (row, key) in keys.iter().enumerate() {
                let Some(slot) = state.index.find(key.as_ref()) else {
                    return Err(Error::NotThere { view: self.spec.name.clone(), step });
                };
                let copies = state.kill(slot, step);
                match copies - counts[row] {
                    0 => {}
                    more if more > 0 => left.push((row as u32, more)),
                    _ => return Err(Error::NotThere { view: self.spec.name.clone(), step }),
                }
            }
            if !left.is_empty() {
                let (rows, counts): (Vec<u32>, Vec<i64>) = left.into_iter().unzip();
                let batch = arrow_select::take::take_record_batch(batch, &UInt32Array::from(rows))
                    .map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
                self.insert(state, step, vec![(batch, counts)])?;
            }
        }
        Ok(())
    }

    /// Adds rows; a row whose key (or self) is there takes its place: a key has one row, equal rows are counted.
    fn insert(&mut self, state: &mut State, step: u64, come: Vec<(RecordBatch, Vec<i64>)>) -> Result<(), Error> {
        let mut ready = Vec::with_capacity(come.len());
        for (batch, mut counts) in come.into_iter().filter(|(batch, _)| batch.num_rows() > 0) {
            let columns = self.key_columns(&batch);
            let keys = state.index.converter.convert_columns(&columns);
            let keys = keys.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
            for (row, key) in keys.iter().enumerate() {
                if let Some(slot) = state.index.find(key.as_ref()) {
                    let copies = state.kill(slot, step);
                    if self.spec.key.is_none() {
                        counts[row] += copies;
                    }
                }
            }
            ready.push((batch, Some(counts)));
        }
        self.append(state, step, ready)
    }

    fn append(
        &mut self,
        state: &mut State,
        step: u64,
        batches: Vec<(RecordBatch, Option<Vec<i64>>)>,
    ) -> Result<(), Error> {
        let indexed = !(self.spec.append_only && self.spec.key.is_none());
        for (batch, counts) in batches {
            if batch.num_rows() == 0 {
                continue;
            }
            let columns = if indexed { self.key_columns(&batch) } else { Vec::new() };
            let number = self.next_chunk;
            self.next_chunk += 1;
            let copies = counts.filter(|counts| counts.iter().any(|count| *count != 1));
            let copies = copies.map(|counts| counts.into_iter().map(|count| count as u32).collect());
            let rows = batch.num_rows();
            if indexed {
                let keys = state.index.converter.convert_columns(&columns);
                let keys = keys.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
                let mut owners = Vec::with_capacity(rows);
                for (row, key) in keys.iter().enumerate() {
                    // The same key twice in one chunk: the later row is the one that is there.
                    if let Some(slot) = state.index.find(key.as_ref()) {
                        let earlier = &state.index.entries[slot as usize];
                        let (chunk, row) = (earlier.chunk, earlier.row);
                        if chunk != number {
                            state.kill(slot, step);
                        } else {
                            state.index.forget(slot);
                            owners[row as usize] = u32::MAX;
                        }
                    }
                    owners.push(state.index.enter(key.as_ref(), number, row as u32));
                }
                self.owners.insert(number, owners);
            }
            let owners = self.owners.get(&number);
            let gone: Vec<AtomicU64> = (0..rows)
                .map(|row| AtomicU64::new(if owners.is_some_and(|o| o[row] == u32::MAX) { 0 } else { ALIVE }))
                .collect();
            let alive = gone.iter().filter(|gone| gone.load(Ordering::Relaxed) == ALIVE).count() as u64;
            state.chunks.insert(
                number,
                Arc::new(Chunk { batch, copies, gone, alive: AtomicU64::new(alive), dirty: AtomicBool::new(true) }),
            );
        }
        Ok(())
    }

    /// Merges small chunks and rewrites those of which less than half is there.
    fn tidy(&mut self, state: &mut State) -> Result<(), Error> {
        let live = |chunk: &Chunk| chunk.alive.load(Ordering::Relaxed) as usize;
        let thin = |chunk: &Chunk| live(chunk) * 2 < chunk.batch.num_rows();
        let small = |chunk: &Chunk| chunk.batch.num_rows() < SMALL_ROWS;
        let smalls = state.chunks.values().filter(|chunk| small(chunk)).count();
        let due = |chunk: &Chunk| thin(chunk) || (smalls > SMALL_CHUNKS_MAX && small(chunk));
        let numbers: Vec<u32> =
            state.chunks.iter().filter(|(_, chunk)| due(chunk)).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let fail = |source| Error::Arrow { view: self.spec.name.clone(), source };
        let (mut batches, mut copies, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for number in numbers {
            let Some(chunk) = state.chunks.remove(&number) else { continue };
            let kept: Vec<usize> = (0..chunk.gone.len()).filter(|row| chunk.is_alive(*row)).collect();
            let mask: BooleanArray = (0..chunk.gone.len()).map(|row| Some(chunk.is_alive(row))).collect();
            copies.extend(kept.iter().map(|row| chunk.copies(*row)));
            if let Some(owned) = self.owners.remove(&number) {
                owners.extend(kept.iter().map(|row| owned[*row]));
            }
            batches.push(arrow_select::filter::filter_record_batch(&chunk.batch, &mask).map_err(fail)?);
        }
        let batch = arrow_select::concat::concat_batches(&self.spec.schema, &batches).map_err(fail)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let number = self.next_chunk;
        self.next_chunk += 1;
        for (row, slot) in owners.iter().enumerate() {
            let entry = &mut state.index.entries[*slot as usize];
            (entry.chunk, entry.row) = (number, row as u32);
        }
        if !owners.is_empty() {
            self.owners.insert(number, owners);
        }
        let rows = batch.num_rows();
        let gone = (0..rows).map(|_| AtomicU64::new(ALIVE)).collect();
        let copies = copies.iter().any(|count| *count != 1).then_some(copies);
        let (alive, dirty) = (AtomicU64::new(rows as u64), AtomicBool::new(true));
        state.chunks.insert(number, Arc::new(Chunk { batch, copies, gone, alive, dirty }));
        Ok(())
    }
}

impl State {
    /// Takes the row of an index entry away with step `step`; how often it was there.
    fn kill(&mut self, slot: u32, step: u64) -> i64 {
        let entry = &self.index.entries[slot as usize];
        let (chunk, row) = (self.chunks.get(&entry.chunk).cloned(), entry.row as usize);
        self.index.forget(slot);
        let Some(chunk) = chunk else { return 0 };
        chunk.gone[row].store(step, Ordering::Release);
        chunk.alive.fetch_sub(1, Ordering::Relaxed);
        chunk.dirty.store(true, Ordering::Relaxed);
        i64::from(chunk.copies(row))
    }
}

impl Chunk {
    fn is_alive(&self, row: usize) -> bool {
        self.gone[row].load(Ordering::Acquire) == ALIVE
    }

    fn copies(&self, row: usize) -> u32 {
        self.copies.as_ref().map_or(1, |copies| copies[row])
    }

    /// The rows that were there after step `version`.
    fn at(&self, version: u64) -> Result<RecordBatch, ArrowError> {
        let there = |row: &u32| self.gone[*row as usize].load(Ordering::Acquire) > version;
        let rows: Vec<u32> = (0..self.gone.len() as u32).filter(there).collect();
        if rows.len() == self.gone.len() && self.copies.is_none() {
            return Ok(self.batch.clone());
        }
        let repeated = rows.iter().flat_map(|row| std::iter::repeat_n(*row, self.copies(*row as usize) as usize));
        arrow_select::take::take_record_batch(&self.batch, &repeated.collect::<UInt32Array>())
    }
}

impl Index {
    fn find(&self, key: &[u8]) -> Option<u32> {
        self.table.find(hash::bytes(key), |slot| &*self.entries[*slot as usize].key == key).copied()
    }

    fn enter(&mut self, key: &[u8], chunk: u32, row: u32) -> u32 {
        let entry = Entry { key: key.into(), chunk, row };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.table.insert_unique(hash::bytes(key), slot, |slot| hash::bytes(&entries[*slot as usize].key));
        slot
    }

    fn forget(&mut self, slot: u32) {
        let hash = hash::bytes(&self.entries[slot as usize].key);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests;

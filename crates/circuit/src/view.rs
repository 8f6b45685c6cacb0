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
use arrow_schema::{ArrowError, SchemaRef};

use crate::delta::Delta;
use crate::operator::StateSize;

mod change;
mod follow;
mod index;
mod save;
mod secondary;

use change::{Keyed, Turn, Wrong, gather};
use follow::Followers;
pub use follow::{Change, Followed, Follower};
use index::{Identity, Index, NOWHERE, Place};
pub use save::Save;
use save::Saving;
use secondary::Secondary;

/// Chunks of fewer rows than this are merged when there are many.
const SMALL_ROWS: usize = 4_096;

/// The rows that a step may rewrite to merge chunks, however few it changes.
const TIDY_ROWS_MIN: usize = 4 * SMALL_ROWS;

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
    /// The view has no index to look rows up by.
    #[error("view '{view}' has no index by ({columns})")]
    NoIndex {
        /// The view.
        view: String,
        /// The columns that were asked for.
        columns: String,
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
    identity: Option<Arc<Identity>>,
    state: Arc<RwLock<State>>,
}

/// The one writer of a view.
pub struct ViewWriter {
    spec: Arc<ViewSpec>,
    /// What tells rows apart; none where rows only come and nobody asks for one.
    identity: Option<Arc<Identity>>,
    state: Arc<RwLock<State>>,
    /// The slot of each row of each chunk.
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
    /// The bytes of its rows.
    bytes: u64,
    /// Whether it is new or a row has gone since it was last given to a save.
    dirty: AtomicBool,
}

struct State {
    version: u64,
    chunks: BTreeMap<u32, Arc<Chunk>>,
    index: Index,
    secondaries: Vec<Secondary>,
    followers: Followers,
}

/// Makes a view and its writer.
///
/// # Errors
/// [`Error::Arrow`] when a column cannot be compared.
pub fn view(spec: ViewSpec) -> Result<(ViewWriter, View), Error> {
    indexed(spec, &[])
}

/// Makes a view whose rows are found by the columns of each of `indexes` too, and its writer.
///
/// # Errors
/// [`Error::Arrow`] when a column cannot be compared, [`Error::NoIndex`] when rows cannot be found by some columns.
pub fn indexed(spec: ViewSpec, indexes: &[Vec<usize>]) -> Result<(ViewWriter, View), Error> {
    // A key of no columns names nothing: the one row of a global aggregate is found by itself.
    let spec = ViewSpec { key: spec.key.filter(|key| !key.is_empty()), ..spec };
    let secondary = |columns: &Vec<usize>| {
        let missing = || Error::NoIndex { view: spec.name.clone(), columns: names(&spec, columns) };
        Secondary::new(&spec.schema, columns).ok_or_else(missing)
    };
    let secondaries = indexes.iter().map(secondary).collect::<Result<Vec<_>, _>>()?;
    // Indexes know rows by what tells them apart.
    let identity = match spec.append_only && spec.key.is_none() && indexes.is_empty() {
        true => None,
        false => Some(Identity::new(&spec.schema, spec.key.as_deref())),
    };
    let identity = identity.transpose().map_err(|source| Error::Arrow { view: spec.name.clone(), source })?;
    let identity = identity.map(Arc::new);
    let (chunks, index, followers) = (BTreeMap::new(), Index::default(), Followers::default());
    let state = Arc::new(RwLock::new(State { version: 0, chunks, index, secondaries, followers }));
    let (spec, owners, saving) = (Arc::new(spec), BTreeMap::new(), Saving::default());
    let (identity_too, state_too) = (identity.clone(), state.clone());
    let writer =
        ViewWriter { spec: spec.clone(), identity: identity_too, state: state_too, owners, next_chunk: 0, saving };
    Ok((writer, View { spec, identity, state }))
}

/// The names of some columns.
fn names(spec: &ViewSpec, columns: &[usize]) -> String {
    let names: Vec<_> = columns.iter().map(|column| spec.schema.field(*column).name().as_str()).collect();
    names.join(", ")
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
        self.gather(version, &chunks)
    }

    /// The rows of chunks that were there after a step.
    fn gather(&self, version: u64, chunks: &[Arc<Chunk>]) -> Result<Snapshot, Error> {
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
            return Err(Error::BadKey { view: self.spec.name.clone(), columns: names(&self.spec, columns) });
        }
        let rows = keys.first().map_or(0, |key| key.len());
        let identities = self.identity.as_ref().map(|identity| identity.keys(keys, rows)).transpose();
        let identities = identities.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
        Ok(self.read(|state| {
            let places = identities.iter().flat_map(|identities| state.index.find(identities));
            let found =
                places.filter_map(|place| Some(state.chunks.get(&place.chunk)?.batch.slice(place.row as usize, 1)));
            Snapshot { version: state.version, batches: found.collect() }
        }))
    }

    /// The columns of each index besides the key.
    pub fn indexes(&self) -> Vec<Vec<usize>> {
        self.read(|state| state.secondaries.iter().map(|secondary| secondary.columns().to_vec()).collect())
    }

    /// Rows with these values in the columns of an index, in whichever order, about `most` of them; `values` has one value a
    /// column, of its type.
    ///
    /// # Errors
    /// [`Error::NoIndex`], [`Error::Arrow`] when rows cannot be gathered.
    pub fn find(&self, columns: &[usize], values: &[ArrayRef], most: usize) -> Result<Snapshot, Error> {
        let no_index = || Error::NoIndex { view: self.spec.name.clone(), columns: names(&self.spec, columns) };
        let found = self.read(|state| {
            let secondary = state.secondaries.iter().find(|secondary| same(secondary.columns(), columns))?;
            let place = |column: &usize| columns.iter().position(|other| other == column);
            let values: Vec<ArrayRef> =
                secondary.columns().iter().filter_map(place).filter_map(|at| values.get(at).cloned()).collect();
            let mut rows: BTreeMap<u32, (Arc<Chunk>, Vec<u32>)> = BTreeMap::new();
            for place in secondary.find(&values, most).into_iter().map(|slot| state.index.place(slot)) {
                if let Some(chunk) = state.chunks.get(&place.chunk) {
                    rows.entry(place.chunk).or_insert_with(|| (chunk.clone(), Vec::new())).1.push(place.row);
                }
            }
            Some((state.version, rows))
        });
        let (version, rows) = found.ok_or_else(no_index)?;
        let batches = rows.into_values().map(|(chunk, rows)| chunk.rows(&rows)).collect::<Result<_, _>>();
        let batches = batches.map_err(|source| Error::Arrow { view: self.spec.name.clone(), source })?;
        Ok(Snapshot { version, batches })
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
        let keyed = self.identity.as_ref().map(|identity| Keyed::new(identity, deltas)).transpose();
        let keyed = keyed.map_err(|source| self.refused(source))?;
        let shared = self.state.clone();
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        match keyed {
            None => deltas.iter().for_each(|delta| {
                self.append(&mut state, delta.batch().clone(), None, Vec::new());
            }),
            Some(keyed) => {
                let by_key = self.spec.key.is_some();
                let turns = keyed.turns(deltas, &mut state, by_key).map_err(|wrong| match wrong {
                    Wrong::NotThere => Error::NotThere { view: self.spec.name.clone(), step },
                    Wrong::Arrow(source) => self.refused(source),
                })?;
                self.turn(&mut state, step, deltas, &turns)?;
            }
        }
        self.tidy(&mut state, deltas.iter().map(Delta::rows).sum())?;
        state.version = step;
        state.followers.tell(step, deltas);
        Ok(())
    }

    /// How many rows it holds, and about how many bytes.
    pub fn size(&self) -> StateSize {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let chunks = state.chunks.values();
        let sizes =
            chunks.map(|chunk| (chunk.alive.load(Ordering::Relaxed), chunk.bytes + 8 * chunk.gone.len() as u64));
        let (entries, bytes) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        let owners: usize = self.owners.values().map(|slots| slots.capacity() * 4).sum();
        let indexes: u64 = state.secondaries.iter().map(Secondary::bytes).sum();
        StateSize { entries, bytes: bytes + state.index.bytes() + indexes + owners as u64 + state.followers.bytes() }
    }

    fn refused(&self, source: ArrowError) -> Error {
        Error::Arrow { view: self.spec.name.clone(), source }
    }

    /// Only the number of the last step changes.
    pub fn pass(&mut self, step: u64) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).version = step;
    }

    /// Lets rows go and others take their places.
    fn turn(&mut self, state: &mut State, step: u64, deltas: &[Delta], turns: &[Turn]) -> Result<(), Error> {
        let (mut rows, mut copies, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for turn in turns {
            if let Some(place) = turn.gone {
                state.kill(place, step);
            }
            match turn.come {
                Some((row, count)) => {
                    rows.push(row);
                    copies.push(count);
                    slots.push(turn.slot);
                }
                None if turn.gone.is_some() || state.index.place(turn.slot) == NOWHERE => {
                    state.index.forget(turn.slot);
                    state.secondaries.iter_mut().for_each(|secondary| secondary.forget(turn.slot));
                }
                None => {}
            }
        }
        let batch = gather(&self.spec.schema, deltas, &rows).map_err(|source| self.refused(source))?;
        state.secondaries.iter_mut().for_each(|secondary| secondary.put(&slots, &batch));
        self.append(state, batch, Some(copies), slots);
        Ok(())
    }

    /// Adds a chunk of rows, each with its slot where there is an index; none of no rows. Returns its number.
    fn append(&mut self, state: &mut State, batch: RecordBatch, copies: Option<Vec<u32>>, slots: Vec<u32>) -> u32 {
        let number = self.next_chunk;
        self.put(state, number, batch, copies, slots);
        number
    }

    fn put(&mut self, state: &mut State, number: u32, batch: RecordBatch, copies: Option<Vec<u32>>, slots: Vec<u32>) {
        let rows = batch.num_rows();
        if rows == 0 {
            return;
        }
        self.next_chunk = self.next_chunk.max(number + 1);
        for (row, slot) in slots.iter().enumerate() {
            state.index.set(*slot, Place { chunk: number, row: row as u32 });
        }
        if !slots.is_empty() {
            self.owners.insert(number, slots);
        }
        let gone = (0..rows).map(|_| AtomicU64::new(ALIVE)).collect();
        let copies = copies.filter(|copies| copies.iter().any(|count| *count != 1));
        let (alive, dirty, bytes) = (AtomicU64::new(rows as u64), AtomicBool::new(true), bytes_of(&batch));
        state.chunks.insert(number, Arc::new(Chunk { batch, copies, gone, alive, bytes, dirty }));
    }

    /// Merges small chunks and rewrites those of which less than half is there.
    fn tidy(&mut self, state: &mut State, changed: usize) -> Result<(), Error> {
        let live = |chunk: &Chunk| chunk.alive.load(Ordering::Relaxed) as usize;
        let thin = |chunk: &Chunk| live(chunk) * 2 < chunk.batch.num_rows();
        let small = |chunk: &Chunk| chunk.batch.num_rows() < SMALL_ROWS;
        let smalls = state.chunks.values().filter(|chunk| small(chunk)).count();
        let due = |chunk: &Chunk| thin(chunk) || (smalls > SMALL_CHUNKS_MAX && small(chunk));
        // No more than the step changes, about: chunks that came together also grow thin together.
        let mut rows = 0;
        let mut within = |chunk: &Chunk| {
            let first = rows == 0;
            rows += live(chunk);
            first || rows <= changed.max(TIDY_ROWS_MIN)
        };
        let due = state.chunks.iter().filter(|(_, chunk)| due(chunk));
        let numbers: Vec<u32> = due.take_while(|(_, chunk)| within(chunk)).map(|(number, _)| *number).collect();
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
        self.append(state, batch, Some(copies), owners);
        Ok(())
    }
}

impl State {
    /// Takes the row at a place away with step `step`.
    fn kill(&mut self, place: Place, step: u64) {
        let Some(chunk) = self.chunks.get(&place.chunk) else { return };
        chunk.gone[place.row as usize].store(step, Ordering::Release);
        chunk.alive.fetch_sub(1, Ordering::Relaxed);
        chunk.dirty.store(true, Ordering::Relaxed);
    }

    /// How often the row at a place is there.
    fn copies(&self, place: Place) -> i64 {
        self.chunks.get(&place.chunk).map_or(0, |chunk| i64::from(chunk.copies(place.row as usize)))
    }

    /// The row at a place, with its copies.
    fn row(&self, place: Place) -> Option<Delta> {
        let row = self.chunks.get(&place.chunk)?.batch.slice(place.row as usize, 1);
        Some(Delta::weighted(row, vec![self.copies(place)]))
    }
}

/// Whether these are the same columns in whichever order.
fn same(one: &[usize], other: &[usize]) -> bool {
    one.len() == other.len() && one.iter().all(|column| other.contains(column))
}

/// The bytes of a batch's rows, of which columns may be a part of larger ones.
fn bytes_of(batch: &RecordBatch) -> u64 {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default() as u64;
    batch.columns().iter().map(bytes).sum()
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
        self.rows(&rows)
    }

    /// Some rows, each as often as it is there.
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        let repeated = rows.iter().flat_map(|row| std::iter::repeat_n(*row, self.copies(*row as usize) as usize));
        arrow_select::take::take_record_batch(&self.batch, &repeated.collect::<UInt32Array>())
    }
}

#[cfg(test)]
mod tests;

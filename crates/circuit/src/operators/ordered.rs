//! [`Ordered`]: the rows of each key in order, as a multiset that is saved.
//!
//! Rows lie in a [`Store`]; a key has the [`List`] of its slots in the [`Order`] of rows. A row that is there several times
//! has one slot and a weight. Beside its weight a row has the one that it had when the step began, and what has gone stays
//! until the step is over ([`Ordered::settle`]): who answers a key walks its list once and sees the old rows and the new
//! ones side by side. Weights come in any order; a row that was taken back more often than it came is held, and is no row.
//!
//! Where rows are never taken back and only the first ones are wanted, a [`Cut`] says which are kept; most rows are turned
//! away then after one comparison with the last row of their key.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};

use crate::keep::keeper::Progress;
use crate::keep::marks::Marks;
use crate::keep::value::is_saved;
use crate::key::{KeyEncoder, KeyIndex};
use crate::operator::{KeySize, StateSize};
use crate::operators::time::millis;
use crate::operators::ttl::Ttl;
use crate::plan::{OrderBy, RankFunction};
use crate::row;

mod cut;
mod expiry;
mod kept;
mod list;
mod order;
mod store;
mod tracks;

pub(crate) use list::Slots;
pub(crate) use order::Order;
pub(crate) use store::Store;
use store::{NONE, Weight};
use tracks::{Counts, Track, Tracks};

/// A time that is never due.
pub(crate) const NEVER: i64 = i64::MAX;

/// Which rows of a key are kept: those of the first ranks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// What the rank of a row is.
    pub function: RankFunction,
    /// The last rank that is kept, at least 1 and at most [`Cut::TO_MAX`].
    pub to: u32,
}

/// How rows are kept.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The columns.
    pub schema: SchemaRef,
    /// Those of the key.
    pub keys: Vec<usize>,
    encoder: KeyEncoder,
    /// The order of the rows of a key.
    pub order: Order,
    /// Which rows are kept; none keeps all.
    pub cut: Option<Cut>,
    /// The column of time by which keys are listed.
    pub time: Option<usize>,
    /// How many of the key's columns say on which lane a key is; none when all do.
    pub routing: Option<usize>,
    /// After how many milliseconds without a row a key is forgotten.
    pub ttl_ms: Option<i64>,
    /// Whether a row that was taken back more often than it came says something, so that it is kept whatever was forgotten.
    pub owes: bool,
}

impl Layout {
    /// How rows of `schema` are kept; or what is not supported.
    pub fn new(schema: &SchemaRef, keys: &[usize], by: &[OrderBy]) -> Result<Self, String> {
        let types = keys.iter().map(|key| schema.field(*key).data_type().clone()).collect();
        let encoder = KeyEncoder::new(types).ok_or("partitions by lists, maps or rows")?;
        let types = || schema.fields().iter().map(|field| field.data_type());
        if let Some(other) = types().find(|data_type: &&DataType| !is_saved(data_type)) {
            return Err(format!("ordering rows with values of type {other}"));
        }
        if let Some(other) = types().find(|data_type| !order::is_ordered(data_type)) {
            return Err(format!("ordering rows with values of type {other}, which have no order"));
        }
        let (schema, keys, order) = (schema.clone(), keys.to_vec(), Order::new(by, schema));
        Ok(Layout { schema, keys, encoder, order, cut: None, time: None, routing: None, ttl_ms: None, owes: false })
    }
}

/// The rows of each key in order.
pub(crate) struct Ordered {
    layout: Layout,
    index: KeyIndex,
    tracks: Tracks,
    store: Store,
    /// Keys by their time.
    due: BTreeMap<i64, Vec<u32>>,
    /// For each key the time under which it is listed; empty where keys are not listed.
    listed: Vec<i64>,
    /// Bytes that lists hold on the heap, those of keys that have changed in this step left out.
    list_bytes: u64,
    /// Keys that have changed in this step.
    changed: Vec<u32>,
    marks: Marks,
    /// When a row came to each key, where that is asked for.
    ttl: Option<Ttl>,
    key_marks: Marks,
    /// How far the operator has come.
    pub progress: Progress,
    slots: Vec<u32>,
}

impl Ordered {
    /// No rows yet.
    pub fn new(layout: Layout) -> Self {
        Ordered {
            ttl: layout.ttl_ms.map(Ttl::new),
            key_marks: Marks::default(),
            layout,
            index: KeyIndex::default(),
            tracks: Tracks::default(),
            store: Store::default(),
            due: BTreeMap::new(),
            listed: Vec::new(),
            list_bytes: 0,
            changed: Vec::new(),
            marks: Marks::default(),
            progress: Progress { closed: i64::MIN, started: false },
            slots: Vec::new(),
        }
    }

    /// The order of rows.
    pub fn order(&self) -> &Order {
        &self.layout.order
    }

    /// The rows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The slots of a key: of its rows in order, and of those that have gone in this step.
    pub fn slots_of(&self, key: u32) -> Slots<'_> {
        self.tracks.slots(key)
    }

    /// The keys that have changed in this step.
    pub fn changed(&self) -> &[u32] {
        &self.changed
    }

    /// The number of slots of keys there have been at once.
    pub fn keys(&self) -> usize {
        self.tracks.len()
    }

    /// The keys of these columns' rows, as far as they are there.
    pub fn find(&self, columns: &[ArrayRef], rows: usize) -> Vec<Option<u32>> {
        let keys = self.layout.encoder.encode(columns, rows);
        self.index.find(&keys, &keys.hashes())
    }

    /// Takes rows.
    pub fn push(&mut self, batch: &RecordBatch, weights: Option<&[i64]>) -> Result<(), ArrowError> {
        let (columns, rows) = (batch.columns(), batch.num_rows());
        if rows == 0 {
            return Ok(());
        }
        let encoded = self.layout.encoder.encode_batch(batch, &self.layout.keys);
        let mut keys = std::mem::take(&mut self.slots);
        self.index.intern(&encoded, &encoded.hashes(), &mut keys);
        self.welcome(&keys, self.times(batch).as_deref());
        self.renew(&keys)?;
        let prefixes = self.layout.order.prefixes(columns, rows);
        let chunk = self.store.open(columns.to_vec(), rows);
        for (row, (key, prefix)) in keys.iter().zip(&prefixes).enumerate() {
            let weight = weights.map_or(1, |weights| weights[row]);
            self.take(*key, *prefix, chunk, row, weight)?;
        }
        self.slots = keys;
        self.store.close(chunk)
    }

    /// The times by which the rows' keys are listed, [`NEVER`] for a null.
    fn times(&self, batch: &RecordBatch) -> Option<Vec<i64>> {
        let column = batch.column(self.layout.time?);
        let mut times = millis(column)?;
        if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
            times.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(*row)).for_each(|(_, time)| *time = NEVER);
        }
        Some(times)
    }

    /// Makes room for keys that were just interned, and lists new ones by their times.
    fn welcome(&mut self, keys: &[u32], times: Option<&[i64]>) {
        let slots = self.index.slots();
        self.tracks.resize(slots);
        let Some(times) = times else { return };
        self.listed.resize(slots.max(self.listed.len()), NEVER);
        for (key, time) in keys.iter().zip(times) {
            let listed = &mut self.listed[*key as usize];
            if *listed == NEVER && *time != NEVER {
                *listed = *time;
                self.due.entry(*time).or_default().push(*key);
            }
        }
    }

    /// Takes a row of an open chunk.
    fn take(&mut self, key: u32, prefix: u64, chunk: u32, row: usize, weight: i64) -> Result<(), ArrowError> {
        if let Some(cut) = self.layout.cut {
            return self.take_first(cut, key, prefix, chunk, row, weight);
        }
        self.change(key);
        if weight == 0 {
            return Ok(());
        }
        match self.search(key, prefix, chunk, row) {
            Ok(spot) => {
                let Some(slot) = self.tracks.slots(key).get(spot) else { return Ok(()) };
                self.track(key).list.changed(spot);
                self.weigh(slot, weight)
            }
            Err(spot) => {
                let slot = self.keep(key, prefix, chunk, row, weight);
                self.track(key).list.insert(spot, slot);
                Ok(())
            }
        }
    }

    /// Where a row of an open chunk is, or belongs.
    fn search(&self, key: u32, prefix: u64, chunk: u32, row: usize) -> Result<list::Spot, list::Spot> {
        let (store, order) = (&self.store, &self.layout.order);
        let place = store.open_place(chunk, row, prefix);
        self.tracks.slots(key).search(|slot| order.compare(store.place(slot), place))
    }

    /// What is known of a key that changes.
    fn track(&mut self, key: u32) -> &mut Track {
        let (store, cut) = (&self.store, self.layout.cut);
        let counts = |slot| cut.map_or_else(Counts::default, |cut| Counts::of_one(cut, store.get(slot).weight));
        self.tracks.open(key, counts)
    }

    /// Notes that a key changes in this step.
    fn change(&mut self, key: u32) {
        let track = self.track(key);
        if !std::mem::replace(&mut track.changed, true) {
            let bytes = track.list.bytes();
            self.list_bytes -= bytes;
            self.changed.push(key);
        }
    }

    /// Keeps a new row.
    fn keep(&mut self, key: u32, prefix: u64, chunk: u32, row: usize, weight: i64) -> u32 {
        let slot = self.store.keep(chunk, row, key, prefix, weight);
        self.marks.resize(self.store.slots());
        self.marks.born(slot);
        slot
    }

    /// Changes the weight of a row.
    fn weigh(&mut self, slot: u32, weight: i64) -> Result<(), ArrowError> {
        self.touch(slot)?;
        self.store.weigh(slot, weight);
        Ok(())
    }

    /// Notes that a row is about to change.
    fn touch(&mut self, slot: u32) -> Result<(), ArrowError> {
        if let Some(mut wanted) = self.marks.touch(&[slot]) {
            while let Some((slot, image)) = wanted.next() {
                self.write_row(slot, image)?;
            }
            self.marks.keep(wanted);
        }
        Ok(())
    }

    /// The step is over: what has gone is forgotten.
    pub fn settle(&mut self) -> Result<(), ArrowError> {
        let weights = self.store.take_weights();
        for Weight { slot, is: weight, .. } in weights.iter().copied().filter(|weight| weight.slot != NONE) {
            self.store.set(slot, weight);
            let key = self.store.get(slot).key;
            // What is taken back of a key that was forgotten was never there.
            let never_there = weight < 0 && self.ttl.is_some() && !self.layout.owes;
            if weight == 0 || never_there {
                let (store, order) = (&self.store, &self.layout.order);
                let compare = |other: u32| match other == slot {
                    true => Ordering::Equal,
                    false => order.compare(store.place(other), store.place(slot)),
                };
                if let Ok(spot) = self.tracks.slots(key).search(compare) {
                    self.track(key).list.remove(spot);
                }
                self.store.forget(slot);
            }
        }
        self.store.reuse(weights);
        for key in std::mem::take(&mut self.changed) {
            let store = &self.store;
            let track = self.tracks.open(key, |_| Counts::default());
            track.changed = false;
            track.list.settle(|slot| store.get(slot).weight.max(0) as u64);
            self.list_bytes += track.list.bytes();
            let is_empty = track.list.is_empty();
            self.tracks.close(key);
            // A key that is listed goes with its time, so that it is listed once.
            if is_empty && self.time_of(key) == NEVER {
                self.leave(key);
            }
        }
        self.store.tidy()
    }

    /// The time under which a key is listed.
    fn time_of(&self, key: u32) -> i64 {
        self.listed.get(key as usize).copied().unwrap_or(NEVER)
    }

    /// Forgets a key that has no rows.
    fn leave(&mut self, key: u32) {
        if self.index.contains(key) {
            self.note_keys(&[key]);
            self.index.remove(key);
            self.tracks.take(key);
            if let Some(listed) = self.listed.get_mut(key as usize) {
                *listed = NEVER;
            }
        }
    }

    /// The keys whose time `is_due`, the earliest first; they are listed no more.
    pub fn take_due(&mut self, is_due: impl Fn(i64) -> bool) -> Vec<u32> {
        let mut keys = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| is_due(*entry.key())) {
            let (time, listed) = entry.remove_entry();
            for key in listed {
                // A key that has gone since may have left its slot to another.
                if self.time_of(key) == time && self.index.contains(key) {
                    self.listed[key as usize] = NEVER;
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// Forgets keys and their rows, after [`Ordered::settle`].
    pub fn forget(&mut self, keys: &[u32]) -> Result<(), ArrowError> {
        for key in keys.iter().copied().filter(|key| self.index.contains(*key)).collect::<Vec<_>>() {
            self.empty(key)?;
            self.leave(key);
        }
        self.store.tidy()
    }

    /// Takes rows of a key out, as if all of each were taken back.
    pub fn take_out(&mut self, key: u32, slots: &[u32]) -> Result<(), ArrowError> {
        self.change(key);
        slots.iter().try_for_each(|slot| self.weigh(*slot, -self.store.get(*slot).weight))
    }

    /// Forgets everything, which was never saved.
    pub fn clear(&mut self) {
        self.index.clear();
        self.tracks = Tracks::default();
        self.store.clear();
        self.due.clear();
        self.listed.clear();
        self.list_bytes = 0;
        self.changed.clear();
    }

    /// The columns of the rows in `slots`, of which there is one at least.
    pub fn columns(&self, slots: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>, ArrowError> {
        self.store.columns(slots, |_| true)
    }

    /// Some columns of the rows in `slots`, of which there is one at least; the others are nulls.
    pub fn some_columns(
        &self,
        slots: impl Iterator<Item = u32>,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        self.store.columns(slots, wanted)
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let keys = self.tracks.bytes() + 8 * self.listed.capacity() + 80 * self.due.len();
        let marks = self.marks.bytes() + self.key_marks.bytes() + self.ttl.as_ref().map_or(0, Ttl::bytes);
        let bytes = self.index.bytes() + self.store.bytes() + marks + self.list_bytes + keys as u64;
        StateSize { entries: self.store.len() as u64, bytes }
    }

    /// The keys with the most rows, at most `most` of them, and what their rows take if they are like all others.
    pub fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        let rows_of = |key: u32| self.tracks.slots(key).iter().count() as u64;
        let keys = (0..self.tracks.len() as u32).filter(|key| self.index.contains(*key));
        let mut sizes: Vec<(u64, u32)> = keys.map(|key| (rows_of(key), key)).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes.truncate(most);
        let slots: Vec<u32> = sizes.iter().map(|(_, key)| *key).collect();
        let fields: Vec<_> = self.layout.keys.iter().map(|key| self.layout.schema.field(*key).clone()).collect();
        let columns = self.layout.encoder.decode(&self.index.keys(&slots));
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let Ok(batch) = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options) else {
            return Vec::new();
        };
        let row_bytes = self.store.bytes() / (self.store.len() as u64).max(1);
        let key = |(row, (rows, _)): (usize, &(u64, u32))| KeySize {
            key: row::to_json(&batch, row),
            bytes: rows * row_bytes,
        };
        sizes.iter().enumerate().map(key).collect()
    }
}

/// Makes room for so many elements: lists that grow to millions hold at most an eighth more than they need.
pub(super) fn grow<T>(list: &mut Vec<T>, len: usize) {
    if len > list.capacity() {
        let more = (len - list.len()).max(list.len() / 8).max(64);
        list.reserve_exact(more);
    }
}

//! [`Side`]: the rows of one input that are kept.
//!
//! The rows of a key are chained: the key's newest row, the one before it, and so on. That is all there is to rows that
//! never go. Where rows go (because they are taken back, or expire) chains lead both ways. Rows that are taken back are
//! found by what they are: equal ones are kept as one, with a weight, which may be below zero until the step ends.
//!
//! What a step changes is logged: each row once, as it was before the step.
//!
//! A suspect that is kept though the other side never forgets what it could meet stays one ([`Shape::suspects`]): whatever
//! is said of it, now or when a row of the other side meets it, is as late as it was.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take;
use hashbrown::HashTable;

use super::deadlines::Deadlines;
use super::index::Index;
use super::store::{NONE, Store};
use crate::delta::NO_SUSPECT;
use crate::keep::CHUNK_SLOTS;
use crate::keep::marks::Marks;
use crate::keep::value::Column;

/// How a side keeps its rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    /// The number of its columns.
    pub width: usize,
    /// Rows are taken back: equal ones are one, with a weight.
    pub merges: bool,
    /// Rows expire by their own times.
    pub expires: bool,
    /// Rows expire so many milliseconds after they have changed.
    pub lifetime: Option<i64>,
    /// Rows go for another reason.
    pub leaves: bool,
    /// Each row has the number of rows of the other side that it has met.
    pub counts: bool,
    /// Changes are logged.
    pub logs: bool,
    /// Suspects stay suspects: what is said of them later is late where they were.
    pub suspects: bool,
}

/// Rows on their way in.
#[derive(Clone)]
pub(super) struct Rows {
    /// All columns of the side.
    pub columns: Vec<ArrayRef>,
    /// The slot of the key of each row.
    pub slots: Vec<u32>,
    /// How often each comes; empty where all come once.
    pub weights: Vec<i64>,
    /// The hash of each whole row, where equal ones are merged; no row is there twice then.
    pub hashes: Vec<u64>,
    /// The deadline of each, where they expire.
    pub deadlines: Vec<i64>,
    /// The watermark that each came below, where suspects stay suspects; empty where none is one.
    pub carried: Vec<i64>,
}

/// A row as it was before the step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub id: u32,
    /// 0 when it was not there.
    pub weight: i64,
    pub count: i64,
}

/// The rows of one input that are kept.
pub(super) struct Side {
    shape: Shape,
    pub store: Store,
    /// By slot of the key the newest row.
    heads: Vec<u32>,
    /// By row the next older one of the key, and the next newer one where rows go.
    next: Vec<u32>,
    newer: Vec<u32>,
    /// By row the slot of its key; [`NONE`] when there is no row.
    owners: Vec<u32>,
    identity: Identity,
    counts: Vec<i64>,
    deadlines: Deadlines,
    /// The watermarks that suspects came below, by row.
    suspects: BTreeMap<u32, i64>,
    log: Log,
    pub marks: Marks,
    live: u64,
    /// Numbers of rows, for a while.
    ids: Vec<u32>,
}

/// Rows by what they are, where equal ones are merged.
#[derive(Default)]
struct Identity {
    table: HashTable<u32>,
    /// By row half of its hash, and its weight.
    hashes: Vec<u32>,
    weights: Vec<i64>,
}

/// What the step has changed.
#[derive(Default)]
struct Log {
    rows: Vec<Before>,
    /// By row where it is logged, if it is logged there.
    places: Vec<u32>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn weight(&self, row: usize) -> i64 {
        self.weights.get(row).copied().unwrap_or(1)
    }

    /// Those rows of them.
    fn pick(&self, rows: &[u32]) -> Result<Self, ArrowError> {
        fn pick<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
            if values.is_empty() { Vec::new() } else { rows.iter().map(|row| values[*row as usize]).collect() }
        }
        let indices = UInt32Array::from(rows.to_vec());
        Ok(Rows {
            columns: self.columns.iter().map(|column| take(column, &indices, None)).collect::<Result<_, _>>()?,
            slots: pick(&self.slots, rows),
            weights: pick(&self.weights, rows),
            hashes: pick(&self.hashes, rows),
            deadlines: pick(&self.deadlines, rows),
            carried: pick(&self.carried, rows),
        })
    }
}

impl Side {
    /// No rows yet.
    pub fn new(shape: Shape) -> Self {
        Side {
            shape,
            store: Store::new(CHUNK_SLOTS),
            heads: Vec::new(),
            next: Vec::new(),
            newer: Vec::new(),
            owners: Vec::new(),
            identity: Identity::default(),
            counts: Vec::new(),
            deadlines: Deadlines::default(),
            suspects: BTreeMap::new(),
            log: Log::default(),
            marks: Marks::default(),
            live: 0,
            ids: Vec::new(),
        }
    }

    /// Notes changes from now on, by chunks of so many rows; nothing is kept yet.
    pub fn keep(&mut self, chunk_slots: usize) {
        self.store = Store::new(chunk_slots);
        self.marks = Marks::new(chunk_slots);
    }

    /// How rows are kept.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether single rows go.
    fn has_goers(&self) -> bool {
        self.shape.merges || self.shape.leaves || self.has_deadlines()
    }

    fn has_deadlines(&self) -> bool {
        self.shape.expires || self.shape.lifetime.is_some()
    }

    /// Makes room for the keys in slots `0..slots`.
    pub fn welcome(&mut self, slots: usize) {
        grow(&mut self.heads, slots, NONE);
    }

    /// The newest row of a key.
    #[inline]
    pub fn head(&self, slot: u32) -> u32 {
        self.heads[slot as usize]
    }

    /// The next older row of the same key.
    #[inline]
    pub fn next(&self, id: u32) -> u32 {
        self.next[id as usize]
    }

    /// The slot of the key of a row.
    pub fn owner(&self, id: u32) -> u32 {
        self.owners[id as usize]
    }

    /// How often a row is there.
    #[inline]
    pub fn weight(&self, id: u32) -> i64 {
        if self.shape.merges { self.identity.weights[id as usize] } else { 1 }
    }

    /// The watermarks that some rows came below; none where no row that is kept is a suspect.
    pub fn carried(&self, ids: &[u32]) -> Option<Vec<i64>> {
        let carried = |id| self.suspects.get(id).copied().unwrap_or(NO_SUSPECT);
        (!self.suspects.is_empty()).then(|| ids.iter().map(carried).collect())
    }

    /// How many rows a row has met.
    pub fn count(&self, id: u32) -> i64 {
        if self.shape.counts { self.counts[id as usize] } else { 0 }
    }

    /// The number of rows.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// All rows.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.owners.len() as u32).filter(|id| self.owners[*id as usize] != NONE)
    }

    /// Takes rows in, or back.
    pub fn take(&mut self, rows: &Rows, index: &Index) -> Result<(), ArrowError> {
        if !self.shape.merges {
            return self.append(rows);
        }
        let values = rows.columns.iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        let mut fresh = Vec::new();
        for row in 0..rows.len() {
            match self.find(rows.hashes[row], &values, row) {
                Some(id) => {
                    self.log(id);
                    self.touch(&[id], index);
                    self.identity.weights[id as usize] += rows.weight(row);
                    if self.has_deadlines() {
                        self.deadlines.set(id, rows.deadlines[row]);
                    }
                }
                None => fresh.push(row as u32),
            }
        }
        match fresh.len() {
            0 => Ok(()),
            all if all == rows.len() => self.append(rows),
            _ => self.append(&rows.pick(&fresh)?),
        }
    }

    /// The row that has the values of `row`.
    fn find(&self, hash: u64, values: &[Column], row: usize) -> Option<u32> {
        let Identity { table, hashes, .. } = &self.identity;
        let half = half_of(hash);
        let same = |id: &u32| hashes[*id as usize] == half && self.store.is_same(*id, values, row);
        table.find(spread(half), same).copied()
    }

    /// Adds rows that are not there, or of which each is kept apart.
    fn append(&mut self, rows: &Rows) -> Result<(), ArrowError> {
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        self.store.append(&rows.columns, rows.len(), &mut ids)?;
        self.link(&ids, rows);
        for id in &ids {
            self.log.add(self.shape, Before { id: *id, weight: 0, count: 0 });
        }
        self.ids = ids;
        Ok(())
    }

    /// Puts saved rows back, with what they have met: where they were, when their numbers begin at `first` and are free.
    pub fn restore(&mut self, rows: &Rows, counts: &[i64], first: Option<u32>) -> Result<(), ArrowError> {
        let mut ids = Vec::with_capacity(rows.len());
        match first {
            Some(first) if self.store.put(first, &rows.columns, rows.len())? => {
                ids.extend(first..first + rows.len() as u32);
            }
            _ => self.store.append(&rows.columns, rows.len(), &mut ids)?,
        }
        self.link(&ids, rows);
        if self.shape.counts {
            ids.iter().zip(counts).for_each(|(id, count)| self.counts[*id as usize] = *count);
        }
        Ok(())
    }

    /// Enters rows that the store has just taken.
    fn link(&mut self, ids: &[u32], rows: &Rows) {
        self.make_room();
        for (id, slot) in ids.iter().zip(&rows.slots) {
            let head = std::mem::replace(&mut self.heads[*slot as usize], *id);
            self.next[*id as usize] = head;
            self.owners[*id as usize] = *slot;
            if let Some(newer) = self.newer.get_mut(*id as usize) {
                *newer = NONE;
                if head != NONE {
                    self.newer[head as usize] = *id;
                }
            }
        }
        if self.shape.merges {
            for (row, id) in ids.iter().enumerate() {
                self.identity.put(*id, half_of(rows.hashes[row]), rows.weight(row));
            }
        }
        if self.shape.counts {
            ids.iter().for_each(|id| self.counts[*id as usize] = 0);
        }
        if self.has_deadlines() {
            ids.iter().zip(&rows.deadlines).for_each(|(id, deadline)| self.deadlines.set(*id, *deadline));
        }
        let suspects = ids.iter().zip(&rows.carried).filter(|(_, carried)| **carried != NO_SUSPECT);
        self.suspects.extend(suspects.map(|(id, carried)| (*id, *carried)));
        if self.marks.is_on() {
            ids.iter().for_each(|id| self.marks.born(*id));
        }
        self.live += ids.len() as u64;
    }

    /// Makes room for all rows of the store.
    fn make_room(&mut self) {
        let slots = self.store.slots();
        self.marks.resize(slots);
        if slots == self.owners.len() {
            return;
        }
        grow(&mut self.next, slots, NONE);
        grow(&mut self.owners, slots, NONE);
        if self.has_goers() {
            grow(&mut self.newer, slots, NONE);
        }
        if self.shape.merges {
            grow(&mut self.identity.hashes, slots, 0);
            grow(&mut self.identity.weights, slots, 0);
        }
        if self.shape.counts {
            grow(&mut self.counts, slots, 0);
        }
        if self.shape.logs {
            grow(&mut self.log.places, slots, 0);
        }
    }

    /// Logs how a row is, unless the step has changed it already.
    pub fn log(&mut self, id: u32) {
        let before = Before { id, weight: self.weight(id), count: self.count(id) };
        self.log.add(self.shape, before);
    }

    /// Has no row there less than no times; the rows of the log alone may be.
    pub fn forgive(&mut self) {
        if self.shape.merges {
            for before in &self.log.rows {
                let weight = &mut self.identity.weights[before.id as usize];
                *weight = (*weight).max(0);
            }
        }
    }

    /// The rows that the step has changed, as they were.
    pub fn logged(&self) -> &[Before] {
        &self.log.rows
    }

    /// How often a row was there before the step.
    pub fn weight_before(&self, id: u32) -> i64 {
        self.log.find(id).map_or_else(|| self.weight(id), |before| before.weight)
    }

    /// Ends the log of the step.
    pub fn clear_log(&mut self) {
        self.log.rows.clear();
    }

    /// Adds to the number of rows that a row has met; it has to be logged before.
    pub fn meet(&mut self, id: u32, weight: i64, index: &Index) {
        self.touch(&[id], index);
        self.counts[id as usize] += weight;
    }

    /// Appends the rows that expire below this watermark, in the order of their numbers.
    pub fn take_due(&mut self, watermark: i64, due: &mut Vec<u32>) {
        if !self.has_deadlines() {
            return;
        }
        self.deadlines.take_due(watermark, due);
        due.retain(|id| self.owners[*id as usize] != NONE && self.deadlines.is_over(*id, watermark));
        due.sort_unstable();
        due.dedup();
    }

    /// Sets the deadline of all rows of which it is not known when they have changed.
    pub fn renew_unknown(&mut self, deadline: i64, index: &Index) {
        let unknown: Vec<u32> = self.ids().filter(|id| self.deadlines.at(*id) == i64::MAX).collect();
        self.touch(&unknown, index);
        unknown.into_iter().for_each(|id| self.deadlines.set(id, deadline));
    }

    /// Whether a row expires below this watermark.
    pub fn is_over(&self, id: u32, watermark: i64) -> bool {
        self.has_deadlines() && self.deadlines.is_over(id, watermark)
    }

    /// Lets a row go; the slot of its key when it was the last one.
    pub fn remove(&mut self, id: u32, index: &Index) -> Option<u32> {
        self.touch(&[id], index);
        if self.shape.merges {
            self.identity.remove(id);
        }
        let at = id as usize;
        self.suspects.remove(&id);
        let (older, newer) = (self.next[at], self.newer[at]);
        let slot = std::mem::replace(&mut self.owners[at], NONE);
        match newer {
            NONE => self.heads[slot as usize] = older,
            newer => self.next[newer as usize] = older,
        }
        if older != NONE {
            self.newer[older as usize] = newer;
        }
        self.store.remove(id);
        self.live -= 1;
        (self.heads[slot as usize] == NONE).then_some(slot)
    }

    /// Moves the rows of chunks that are mostly empty, up to about `rows_max` of them.
    pub fn compact(&mut self, rows_max: usize, index: &Index) -> Result<(), ArrowError> {
        let (mut moved, all) = (0, (0..self.shape.width).collect::<Vec<_>>());
        while let Some(range) = if moved < rows_max { self.store.next_thin() } else { None } {
            let olds: Vec<u32> = range.filter(|id| self.owners[*id as usize] != NONE).collect();
            self.touch(&olds, index);
            let columns = self.store.gather(&olds, &all)?;
            let mut news = Vec::with_capacity(olds.len());
            self.store.append(&columns, olds.len(), &mut news)?;
            self.make_room();
            for (old, new) in olds.iter().zip(&news) {
                self.rename(*old, *new);
            }
            moved += olds.len();
        }
        Ok(())
    }

    /// Gives a row another number.
    fn rename(&mut self, old: u32, new: u32) {
        let (from, to) = (old as usize, new as usize);
        let (older, newer) = (self.next[from], self.newer[from]);
        let slot = std::mem::replace(&mut self.owners[from], NONE);
        (self.next[to], self.newer[to], self.owners[to]) = (older, newer, slot);
        match newer {
            NONE => self.heads[slot as usize] = new,
            newer => self.next[newer as usize] = new,
        }
        if older != NONE {
            self.newer[older as usize] = new;
        }
        if self.shape.merges {
            let half = self.identity.hashes[from];
            let weight = self.identity.weights[from];
            self.identity.remove(old);
            self.identity.put(new, half, weight);
        }
        if self.shape.counts {
            self.counts[to] = self.counts[from];
        }
        if self.has_deadlines() {
            self.deadlines.set(new, self.deadlines.at(old));
        }
        if let Some(carried) = self.suspects.remove(&old) {
            self.suspects.insert(new, carried);
        }
        if self.marks.is_on() {
            self.marks.born(new);
        }
        self.store.remove(old);
    }

    /// Notes that rows are about to change.
    fn touch(&mut self, ids: &[u32], index: &Index) {
        if let Some(mut wanted) = self.marks.touch(ids) {
            while let Some((id, image)) = wanted.next() {
                self.write(id, index, image);
            }
            self.marks.keep(wanted);
        }
    }

    /// Appends a row as it is saved: its key, how often it is there, how many rows it has met, its values, and when it has
    /// changed where that decides how long it is kept. False when there is none.
    pub fn write(&self, id: u32, index: &Index, out: &mut Vec<u8>) -> bool {
        let Some(slot) = self.owners.get(id as usize).copied().filter(|slot| *slot != NONE) else { return false };
        index.write(slot, out);
        if self.shape.merges {
            out.extend_from_slice(&self.weight(id).to_le_bytes());
        }
        if self.shape.counts {
            out.extend_from_slice(&self.count(id).to_le_bytes());
        }
        self.store.write(id, out);
        if let Some(carried) = self.suspects.get(&id) {
            out.extend_from_slice(&carried.to_le_bytes());
        }
        if let Some(lifetime) = self.shape.lifetime {
            let deadline = self.deadlines.at(id);
            if deadline != i64::MAX {
                out.extend_from_slice(&(deadline - (lifetime - 1)).to_le_bytes());
            }
        }
        true
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let words = self.heads.capacity() + self.next.capacity() + self.newer.capacity() + self.owners.capacity();
        let identity = &self.identity;
        let more = identity.table.capacity() * 5 + identity.hashes.capacity() * 4 + identity.weights.capacity() * 8;
        let counted = self.counts.capacity() * 8 + self.log.places.capacity() * 4;
        let counted = counted + self.suspects.len() * 32;
        let lists = words * 4 + more + counted + self.log.rows.capacity() * size_of::<Before>();
        self.store.bytes() + lists as u64 + self.deadlines.bytes() + self.marks.bytes()
    }
}

impl Identity {
    fn put(&mut self, id: u32, half: u32, weight: i64) {
        self.hashes[id as usize] = half;
        self.weights[id as usize] = weight;
        let hashes = &self.hashes;
        self.table.insert_unique(spread(half), id, |id| spread(hashes[*id as usize]));
    }

    fn remove(&mut self, id: u32) {
        if let Ok(entry) = self.table.find_entry(spread(self.hashes[id as usize]), |other| *other == id) {
            entry.remove();
        }
    }
}

impl Log {
    fn add(&mut self, shape: Shape, before: Before) {
        if shape.logs && self.find(before.id).is_none() {
            self.places[before.id as usize] = self.rows.len() as u32;
            self.rows.push(before);
        }
    }

    fn find(&self, id: u32) -> Option<&Before> {
        let place = *self.places.get(id as usize)?;
        self.rows.get(place as usize).filter(|before| before.id == id)
    }
}

/// Half of a hash is kept.
fn half_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// What a table is asked by.
fn spread(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

/// Lengthens a list, with an eighth to spare: lists as long as there are rows are not to double.
fn grow<T: Clone>(list: &mut Vec<T>, length: usize, value: T) {
    if length <= list.len() {
        return;
    }
    if length > list.capacity() {
        list.reserve_exact(length - list.len() + length / 8);
    }
    list.resize(length, value);
}

//! [`Store`]: kept rows in chunks of columns, numbered by slots.
//!
//! What is kept of a batch is taken out of it once and stays where it is; a row is found by its slot, which says in which
//! chunk it lies and at which place. Chunks of few rows are brought together two by two as more come, so that rows that
//! come one by one are moved a few times each, and a chunk of which more than half is gone is written anew.

use std::cell::{Cell, OnceCell};

use arrow_array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow_schema::{ArrowError, DataType};
use arrow_select::interleave::interleave;
use arrow_select::take::take;

use super::grow;
use super::order::Place;
use crate::keep::value::Column;

/// No key, no slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Chunks of as many rows stay as they are.
const CHUNK_ROWS_MIN: usize = 1_024;

/// The first number that says where a weight is written down, and not how often a row is there.
const ELSEWHERE: u32 = 1 << 31;

/// A row that is kept.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// The prefix of its order.
    prefix: u64,
    /// The slot of its key; [`NONE`] where there is no row.
    key: u32,
    chunk: u32,
    row: u32,
    /// How often it is there; from [`ELSEWHERE`] on, which one of the weights elsewhere says so.
    count: u32,
}

const _: () = assert!(size_of::<Record>() == 24);

/// How often a row is there, where that has changed in this step, or is no small number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    /// The slot of the row; [`NONE`] when it has gone.
    pub slot: u32,
    pub is: i64,
    was: i64,
}

/// What is known of a kept row besides its values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// How often it is there.
    pub weight: i64,
    /// How often it was there when the step began.
    pub was: i64,
    /// The slot of its key; [`NONE`] where there is no row.
    pub key: u32,
}

/// Rows, each in a slot.
#[derive(Default)]
pub(crate) struct Store {
    records: Vec<Record>,
    /// Weights that have changed in this step, or are no small numbers.
    weights: Vec<Weight>,
    free: Vec<u32>,
    /// Free slots that are given to rows before others, the next one last.
    preferred: Vec<u32>,
    chunks: Vec<Chunk>,
    /// Chunks that hold nothing.
    spare: Vec<u32>,
    /// Chunks of few rows, the oldest first.
    small: Vec<u32>,
    /// Chunks that have lost rows since they were looked at.
    thinned: Vec<u32>,
    rows: usize,
    /// Bytes of the chunks.
    bytes: usize,
    /// Whether chunks have writers.
    has_writers: Cell<bool>,
}

/// Rows in columns.
#[derive(Default)]
struct Chunk {
    columns: Vec<ArrayRef>,
    /// For each place the slot of its row, [`NONE`] where it is gone.
    owners: Vec<u32>,
    live: usize,
    thinned: bool,
    /// Writes the rows to where they are saved.
    writers: OnceCell<Vec<Column>>,
}

impl Store {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The number of slots there have been at once.
    pub fn slots(&self) -> usize {
        self.records.len()
    }

    /// The row in a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Known {
        let Record { key, count, .. } = self.records[slot as usize];
        match count.checked_sub(ELSEWHERE) {
            None => Known { weight: count.into(), was: count.into(), key },
            Some(number) => {
                let Weight { is, was, .. } = self.weights[number as usize];
                Known { weight: is, was, key }
            }
        }
    }

    /// Changes the weight of the row in a slot.
    pub fn weigh(&mut self, slot: u32, weight: i64) {
        let count = &mut self.records[slot as usize].count;
        if let Some(number) = count.checked_sub(ELSEWHERE) {
            self.weights[number as usize].is += weight;
            return;
        }
        let was = i64::from(*count);
        *count = ELSEWHERE + self.weights.len() as u32;
        self.weights.push(Weight { slot, is: was + weight, was });
    }

    /// The weights that have changed in this step, and others; each is to be [set](Store::set), or its row forgotten.
    pub(super) fn take_weights(&mut self) -> Vec<Weight> {
        std::mem::take(&mut self.weights)
    }

    /// Gives the list back that [`Store::take_weights`] gave.
    pub(super) fn reuse(&mut self, mut weights: Vec<Weight>) {
        weights.clear();
        if self.weights.is_empty() {
            self.weights = weights;
        }
    }

    /// Sets the weight that the row in a slot has from now on.
    pub fn set(&mut self, slot: u32, weight: i64) {
        let small = u32::try_from(weight).ok().filter(|small| *small < ELSEWHERE);
        self.records[slot as usize].count = small.unwrap_or_else(|| {
            self.weights.push(Weight { slot, is: weight, was: weight });
            ELSEWHERE + self.weights.len() as u32 - 1
        });
    }

    /// Whether there is a row in a slot.
    pub fn contains(&self, slot: u32) -> bool {
        self.records.get(slot as usize).is_some_and(|record| record.key != NONE)
    }

    /// Where the row in a slot lies.
    pub fn place(&self, slot: u32) -> Place<'_> {
        let Record { prefix, chunk, row, .. } = self.records[slot as usize];
        Place { prefix, columns: &self.chunks[chunk as usize].columns, row: row as usize }
    }

    /// A row of an open chunk.
    pub fn open_place(&self, chunk: u32, row: usize, prefix: u64) -> Place<'_> {
        Place { prefix, columns: &self.chunks[chunk as usize].columns, row }
    }

    /// Takes a batch in, of which rows may be kept until the chunk is [closed](Store::close).
    pub fn open(&mut self, columns: Vec<ArrayRef>, rows: usize) -> u32 {
        let chunk = Chunk { columns, owners: vec![NONE; rows], ..Chunk::default() };
        self.add(chunk)
    }

    fn add(&mut self, chunk: Chunk) -> u32 {
        self.bytes += chunk.bytes();
        match self.spare.pop() {
            Some(spare) => {
                self.chunks[spare as usize] = chunk;
                spare
            }
            None => {
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        }
    }

    /// Keeps a row of an open chunk, and returns its slot.
    pub fn keep(&mut self, chunk: u32, row: usize, key: u32, prefix: u64, weight: i64) -> u32 {
        let slot = self.preferred.pop().or_else(|| self.free.pop()).unwrap_or(self.records.len() as u32);
        let none = Record { prefix: 0, key: NONE, chunk: 0, row: 0, count: 0 };
        if slot as usize >= self.records.len() {
            grow(&mut self.records, slot as usize + 1);
            self.records.resize(slot as usize + 1, none);
        }
        let count = ELSEWHERE + self.weights.len() as u32;
        self.weights.push(Weight { slot, is: weight, was: 0 });
        self.records[slot as usize] = Record { prefix, key, chunk, row: row as u32, count };
        let chunk = &mut self.chunks[chunk as usize];
        chunk.owners[row] = slot;
        chunk.live += 1;
        self.rows += 1;
        slot
    }

    /// Forgets a row; its slot will be another's.
    pub fn forget(&mut self, slot: u32) {
        let record = &mut self.records[slot as usize];
        record.key = NONE;
        let count = std::mem::take(&mut record.count);
        if let Some(weight) = count.checked_sub(ELSEWHERE).and_then(|number| self.weights.get_mut(number as usize)) {
            weight.slot = NONE;
        }
        let (id, row) = (record.chunk, record.row as usize);
        let chunk = &mut self.chunks[id as usize];
        chunk.owners[row] = NONE;
        chunk.live -= 1;
        if !std::mem::replace(&mut chunk.thinned, true) {
            self.thinned.push(id);
        }
        self.free.push(slot);
        self.rows -= 1;
    }

    /// No more rows of an open chunk are kept: the others go.
    pub fn close(&mut self, id: u32) -> Result<(), ArrowError> {
        let chunk = &self.chunks[id as usize];
        if chunk.live < chunk.owners.len() {
            return self.rewrite(&[id]);
        }
        self.put_together(id)
    }

    /// Writes the rows of some chunks into a new one.
    fn rewrite(&mut self, ids: &[u32]) -> Result<(), ArrowError> {
        let (mut owners, mut rows) = (Vec::new(), Vec::new());
        for (number, id) in ids.iter().enumerate() {
            for (row, owner) in self.chunks[*id as usize].owners.iter().enumerate().filter(|(_, slot)| **slot != NONE) {
                owners.push(*owner);
                rows.push((number, row));
            }
        }
        let columns = if rows.is_empty() { Vec::new() } else { self.columns_of(ids, &rows, |_| true)? };
        for id in ids {
            self.bytes -= std::mem::take(&mut self.chunks[*id as usize]).bytes();
            self.spare.push(*id);
            self.small.retain(|small| small != id);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let live = owners.len();
        let id = self.add(Chunk { columns, owners, live, ..Chunk::default() });
        for (row, slot) in self.chunks[id as usize].owners.iter().enumerate() {
            let record = &mut self.records[*slot as usize];
            (record.chunk, record.row) = (id, row as u32);
        }
        self.put_together(id)
    }

    /// Brings a new chunk together with others of few rows, where it is not much smaller than they are.
    fn put_together(&mut self, id: u32) -> Result<(), ArrowError> {
        let rows_of = |id: u32| self.chunks[id as usize].owners.len();
        match self.small.last().copied() {
            _ if rows_of(id) >= CHUNK_ROWS_MIN => return Ok(()),
            Some(last) if rows_of(last) <= 2 * rows_of(id) => return self.rewrite(&[last, id]),
            _ => self.small.push(id),
        }
        Ok(())
    }

    /// Writes chunks anew of which more than half is gone.
    pub fn tidy(&mut self) -> Result<(), ArrowError> {
        for id in std::mem::take(&mut self.thinned) {
            let chunk = &mut self.chunks[id as usize];
            let thinned = std::mem::take(&mut chunk.thinned);
            if thinned && chunk.live * 2 < chunk.owners.len() {
                self.rewrite(&[id])?;
            }
        }
        Ok(())
    }

    /// The columns of the rows in `slots`, of which there is one at least; nulls for those that are not `wanted`.
    pub fn columns(
        &self,
        slots: impl Iterator<Item = u32>,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut numbers = vec![NONE; self.chunks.len()];
        let mut ids = Vec::new();
        let rows = slots.map(|slot| {
            let Record { chunk, row, .. } = self.records[slot as usize];
            let number = &mut numbers[chunk as usize];
            if *number == NONE {
                *number = ids.len() as u32;
                ids.push(chunk);
            }
            (*number as usize, row as usize)
        });
        let rows: Vec<(usize, usize)> = rows.collect();
        self.columns_of(&ids, &rows, wanted)
    }

    /// The columns of rows, each in a chunk of `ids` by its number, and at a place.
    fn columns_of(
        &self,
        ids: &[u32],
        rows: &[(usize, usize)],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let width = ids.first().map_or(0, |id| self.chunks[*id as usize].columns.len());
        let places = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row as u32));
        let column = |index: usize| {
            let part = |id: &u32| self.chunks[*id as usize].columns[index].as_ref();
            match ids {
                _ if !wanted(index) => Ok(new_null_array(&DataType::Null, rows.len())),
                [only] => take(part(only), &places, None),
                _ => interleave(&ids.iter().map(part).collect::<Vec<&dyn Array>>(), rows),
            }
        };
        (0..width).map(column).collect()
    }

    /// Appends the values of a row as they are saved.
    pub fn write(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let Record { chunk, row, .. } = self.records[slot as usize];
        let chunk = &self.chunks[chunk as usize];
        if chunk.writers.get().is_none() {
            let writers = chunk.columns.iter().map(Column::new).collect::<Result<_, _>>()?;
            // It was empty.
            let _ = chunk.writers.set(writers);
            self.has_writers.set(true);
        }
        chunk.writers.get().into_iter().flatten().for_each(|column| column.write(row as usize, out));
        Ok(())
    }

    /// Rows are not written for a while.
    pub fn written(&mut self) {
        if self.has_writers.replace(false) {
            self.chunks.iter_mut().for_each(|chunk| drop(chunk.writers.take()));
        }
    }

    /// Gives rows the free ones of `slots` before others; none gives slots as they come, the gaps between others first.
    pub fn prefer(&mut self, slots: Option<std::ops::Range<u32>>) {
        let is_free = |slot: &u32| !self.contains(*slot);
        match slots {
            Some(slots) => self.preferred = slots.rev().filter(is_free).collect(),
            None => {
                self.free = (0..self.records.len() as u32).rev().filter(is_free).collect();
                self.preferred.clear();
            }
        }
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        *self = Store::default();
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let slots = self.records.capacity() * size_of::<Record>() + 4 * self.free.capacity();
        let slots = slots + self.weights.capacity() * size_of::<Weight>();
        (self.bytes + slots + self.chunks.capacity() * size_of::<Chunk>()) as u64
    }
}

impl Chunk {
    /// Bytes held on the heap.
    fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|column| column.get_buffer_memory_size()).sum();
        columns + 4 * self.owners.capacity()
    }
}

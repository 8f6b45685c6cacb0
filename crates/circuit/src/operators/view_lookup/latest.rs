//! [`Latest`]: the newest row of a view for each key, as one table that is saved.
//!
//! A view has one row a key at the end of each step; within a step its changes come in any order. A row that comes where
//! none is and a row that goes where it is are taken at once, which is all that happens where each change is a row taken
//! back and then its successor. Whatever comes otherwise is set aside by key and settled when the step's changes are all
//! in: what is left of each key then is one row or none.
//!
//! Rows are held as the bytes in which they are saved, without their keys, which the index has.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, SchemaRef};

use crate::delta::Delta;
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::value::{Builder, Column};
use crate::keep::wire::{Damage, Reader, begin_block, end_block};
use crate::key::{KeyEncoder, KeyIndex};
use crate::operator::StateSize;
use crate::row;

/// The only table.
const TABLE: u16 = 0;

/// Why a key has not one row or none.
#[derive(Debug)]
pub(super) enum Unsettled {
    /// There are more with this key.
    Several(String),
    /// One with this key was taken back that is not there.
    Absent(String),
}

/// The newest rows, by key.
pub(super) struct Latest {
    encoder: KeyEncoder,
    /// The view's columns, and those of them that are the key and that are kept besides.
    schema: SchemaRef,
    keys: Vec<usize>,
    kept: Vec<usize>,
    index: KeyIndex,
    rows: Rows,
    marks: Marks,
    /// Slots of this step's changes, some of them twice.
    changed: Vec<u32>,
    /// By slot the rows that are left to settle, with their weights.
    aside: BTreeMap<u32, BTreeMap<Vec<u8>, i64>>,
}

impl Latest {
    /// No rows yet of a view with the columns of `schema`; `encoder` is for those that are `keys`.
    pub fn new(encoder: KeyEncoder, schema: SchemaRef, keys: Vec<usize>, kept: Vec<usize>) -> Self {
        Latest {
            encoder,
            schema,
            keys,
            kept,
            index: KeyIndex::default(),
            rows: Rows::default(),
            marks: Marks::default(),
            changed: Vec::new(),
            aside: BTreeMap::new(),
        }
    }

    /// Takes changes of the view; a row with a null in its key equals nothing and is passed over.
    pub fn take(&mut self, delta: &Delta) -> Result<(), ArrowError> {
        let columns = self.kept.iter().map(|column| Column::new(delta.column(*column)));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let keys = self.encoder.encode_batch(delta.batch(), &self.keys);
        let nulls: Vec<_> = self.keys.iter().filter_map(|key| delta.column(*key).nulls()).collect();
        let mut slots = Vec::new();
        self.index.intern(&keys, &keys.hashes(), &mut slots);
        self.rows.resize(self.index.slots());
        self.touch(&slots);
        let mut bytes = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            if nulls.iter().all(|nulls| nulls.is_valid(row)) {
                bytes.clear();
                columns.iter().for_each(|column| column.write(row, &mut bytes));
                self.change(*slot, &bytes, delta.weight(row));
            }
        }
        self.changed.append(&mut slots);
        Ok(())
    }

    /// Notes that slots are about to change.
    fn touch(&mut self, slots: &[u32]) {
        self.marks.births(self.index.slots(), self.index.take_born());
        if let Some(mut wanted) = self.marks.touch(slots) {
            while let Some((slot, image)) = wanted.next() {
                self.write_row(slot, image);
            }
            self.marks.keep(wanted);
        }
    }

    fn change(&mut self, slot: u32, row: &[u8], weight: i64) {
        if let Some(aside) = self.aside.get_mut(&slot) {
            *aside.entry(row.to_vec()).or_default() += weight;
            return;
        }
        match (self.rows.get(slot), weight) {
            (_, 0) => {}
            (None, 1) => self.rows.put(slot, row),
            (Some(same), -1) if same == row => self.rows.remove(slot),
            (there, _) => {
                let mut aside: BTreeMap<Vec<u8>, i64> = there.map(|there| (there.to_vec(), 1)).into_iter().collect();
                *aside.entry(row.to_vec()).or_default() += weight;
                self.rows.remove(slot);
                self.aside.insert(slot, aside);
            }
        }
    }

    /// Brings every key that has changed in this step to its one row, or to none; or says which cannot be.
    pub fn settle(&mut self) -> Result<(), Unsettled> {
        for (slot, aside) in std::mem::take(&mut self.aside) {
            let mut left = aside.into_iter().filter(|(_, weight)| *weight != 0);
            match (left.next(), left.next()) {
                (None, _) => {}
                (Some((row, 1)), None) => self.rows.put(slot, &row),
                (Some((_, 1..)), _) | (_, Some((_, 1..))) => {
                    return Err(Unsettled::Several(self.key(slot)));
                }
                _ => return Err(Unsettled::Absent(self.key(slot))),
            }
        }
        for slot in std::mem::take(&mut self.changed) {
            if self.rows.get(slot).is_none() && self.index.contains(slot) {
                self.index.remove(slot);
            }
        }
        Ok(())
    }

    /// A key, for people.
    fn key(&self, slot: u32) -> String {
        let columns = self.encoder.decode(&self.index.keys(&[slot]));
        let fields = self.keys.iter().map(|key| self.schema.field(*key));
        let named = fields.zip(columns).map(|(field, column)| (field.name().clone(), column));
        RecordBatch::try_from_iter(named).map_or_else(|_| "()".to_string(), |key| row::to_json(&key, 0))
    }

    /// The slot of the row that has each row's key, where there is one.
    pub fn find(&self, delta: &Delta, keys: &[usize]) -> Vec<Option<u32>> {
        let keys = self.encoder.encode_batch(delta.batch(), keys);
        self.index.find(&keys, &keys.hashes())
    }

    /// The kept columns of the rows in `slots`.
    pub fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, String> {
        let rows = slots.iter().filter_map(|slot| self.rows.get(*slot));
        self.read(rows).map_err(|damage| damage.0)
    }

    fn read<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Damage> {
        let types = self.kept.iter().map(|column| self.schema.field(*column).data_type());
        let mut builders = types.map(Builder::new).collect::<Result<Vec<_>, _>>()?;
        for row in rows {
            let mut reader = Reader::new(row);
            builders.iter_mut().try_for_each(|builder| builder.read(&mut reader))?;
            reader.end()?;
        }
        builders.into_iter().map(Builder::finish).collect()
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let bytes = self.index.bytes() + self.rows.bytes() + self.marks.bytes();
        StateSize { entries: self.index.len() as u64, bytes }
    }

    /// Writes a row and its key as it is saved; false when there is none.
    fn write_row(&self, slot: u32, out: &mut Vec<u8>) -> bool {
        let Some(row) = self.rows.get(slot) else { return false };
        let start = begin_block(out);
        self.encoder.pack(&self.index, slot, out);
        end_block(out, start);
        out.extend_from_slice(row);
        true
    }
}

impl Keeper for Latest {
    fn tables(&self) -> Vec<u16> {
        vec![TABLE]
    }

    fn slots(&self, _table: u16) -> usize {
        self.index.slots()
    }

    fn marks(&mut self, _table: u16) -> Option<&mut Marks> {
        Some(&mut self.marks)
    }

    fn write(&self, _table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        Ok(self.write_row(slot, out))
    }

    fn route(&self, _table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        if self.keys.is_empty() {
            return Ok(Route::First);
        }
        let names = rows.iter().map(|row| Ok(name_of(row)?.0)).collect::<Result<Vec<_>, Damage>>()?;
        let keys = self.encoder.unpack(&names).ok_or_else(|| Damage::of("a key has other types"))?;
        Ok(Route::ByHash(keys.hashes()))
    }

    fn restore(&mut self, _table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        let split = rows.iter().map(|row| name_of(row)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&[u8]> = split.iter().map(|(name, _)| *name).collect();
        let keys = self.encoder.unpack(&names).ok_or_else(|| Damage::of("a key has other types"))?;
        // Read once, so that no lookup meets what cannot be read.
        self.read(split.iter().map(|(_, row)| row.rest()))?;
        let mut slots = Vec::new();
        self.index.intern(&keys, &keys.hashes(), &mut slots);
        self.rows.resize(self.index.slots());
        self.touch(&slots);
        for (slot, (_, row)) in slots.into_iter().zip(&split) {
            if self.rows.get(slot).is_some() {
                return Err(Damage(format!("two rows have the key {}", self.key(slot))));
            }
            self.rows.put(slot, row.rest());
        }
        Ok(())
    }

    fn prefer(&mut self, _table: u16, slots: Option<Range<u32>>) {
        self.index.prefer(slots);
    }

    fn progress(&self) -> Progress {
        Progress { closed: i64::MIN, started: false }
    }

    fn resume(&mut self, _progress: Progress) {}

    fn keep(&mut self, chunk_slots: usize) {
        self.marks = Marks::new(chunk_slots);
        self.index.note_births();
    }
}

/// Bytes of rows, by slot, one after another in one piece of memory.
#[derive(Default)]
struct Rows {
    arena: Vec<u8>,
    /// Start and end of each row; [`NONE`] where there is none.
    spans: Vec<(usize, usize)>,
    /// Bytes of the arena that belong to no row.
    dead: usize,
}

/// The span of no row.
const NONE: (usize, usize) = (usize::MAX, usize::MAX);

/// An arena of fewer bytes is not worth rewriting.
const ARENA_BYTES_MIN: usize = 1 << 16;

impl Rows {
    /// Makes room for slots `0..slots`.
    fn resize(&mut self, slots: usize) {
        self.spans.resize(slots.max(self.spans.len()), NONE);
    }

    fn get(&self, slot: u32) -> Option<&[u8]> {
        let (start, end) = self.spans[slot as usize];
        self.arena.get(start..end)
    }

    /// Puts a row where none is.
    fn put(&mut self, slot: u32, row: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(row);
        self.spans[slot as usize] = (start, self.arena.len());
    }

    /// Forgets the row, when there is one.
    fn remove(&mut self, slot: u32) {
        let (start, end) = std::mem::replace(&mut self.spans[slot as usize], NONE);
        self.dead += end - start;
        if self.dead * 2 > self.arena.len() && self.arena.len() >= ARENA_BYTES_MIN {
            self.compact();
        }
    }

    /// Rewrites the arena without the dead.
    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.dead);
        for span in self.spans.iter_mut().filter(|span| **span != NONE) {
            let start = arena.len();
            arena.extend_from_slice(&self.arena[span.0..span.1]);
            *span = (start, arena.len());
        }
        (self.arena, self.dead) = (arena, 0);
    }

    /// Bytes held, by capacity.
    fn bytes(&self) -> u64 {
        (self.arena.capacity() + self.spans.capacity() * size_of::<(usize, usize)>()) as u64
    }
}

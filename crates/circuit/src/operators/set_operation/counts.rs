//! [`Counts`]: how often each of two sides has a row, as one table that is saved.

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;

use crate::delta::Delta;
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, begin_block, end_block};
use crate::key::{KeyEncoder, KeyIndex, Keys};
use crate::operator::StateSize;

/// Different rows, and how often each side has them.
pub(super) struct Counts {
    encoder: KeyEncoder,
    index: KeyIndex,
    /// By slot how often the left and the right side have the row.
    counts: Vec<[i64; 2]>,
    /// Slots that the step has changed, and their counts before it.
    changed: Vec<(u32, [i64; 2])>,
    /// By slot where it is among those, if it is there.
    places: Vec<u32>,
    marks: Marks,
}

impl Counts {
    /// No rows yet; `encoder` is for whole rows.
    pub fn new(encoder: KeyEncoder) -> Self {
        let (index, marks) = (KeyIndex::default(), Marks::default());
        Counts { encoder, index, counts: Vec::new(), changed: Vec::new(), places: Vec::new(), marks }
    }

    /// Adds the rows of a side, or takes them back.
    pub fn take(&mut self, side: usize, delta: &Delta) {
        let keys = self.encoder.encode(delta.batch().columns(), delta.rows());
        for (row, slot) in self.slots_of(&keys).into_iter().enumerate() {
            let at = slot as usize;
            let known = self.changed.get(self.places[at] as usize).is_some_and(|(changed, _)| *changed == slot);
            if !known {
                self.places[at] = self.changed.len() as u32;
                self.changed.push((slot, self.counts[at]));
            }
            self.counts[at][side] += delta.weight(row);
        }
    }

    /// The slots of rows, which are about to change.
    fn slots_of(&mut self, keys: &Keys) -> Vec<u32> {
        let mut slots = Vec::new();
        self.index.intern(keys, &keys.hashes(), &mut slots);
        if self.counts.len() < self.index.slots() {
            self.counts.resize(self.index.slots(), [0; 2]);
            self.places.resize(self.index.slots(), 0);
        }
        self.touch(&slots);
        slots
    }

    fn touch(&mut self, slots: &[u32]) {
        self.marks.resize(self.index.slots());
        if let Some(mut wanted) = self.marks.touch(slots) {
            while let Some((slot, image)) = wanted.next() {
                self.write_row(slot, image);
            }
            self.marks.keep(wanted);
        }
    }

    /// The slots that the step has changed, and their counts before it.
    pub fn changed(&self) -> &[(u32, [i64; 2])] {
        &self.changed
    }

    /// How often the sides have the row in a slot.
    pub fn of(&self, slot: u32) -> [i64; 2] {
        self.counts[slot as usize]
    }

    /// The rows in these slots.
    pub fn columns(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.encoder.decode(&self.index.keys(slots))
    }

    /// Forgets rows that neither side has any more.
    pub fn end_step(&mut self) {
        for (slot, _) in std::mem::take(&mut self.changed) {
            if self.counts[slot as usize] == [0; 2] {
                self.index.remove(slot);
            }
        }
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let lists = self.counts.capacity() * 16 + self.places.capacity() * 4 + self.changed.capacity() * 24;
        let bytes = self.index.bytes() + lists as u64 + self.marks.bytes();
        StateSize { entries: self.index.len() as u64, bytes }
    }

    /// Writes a row and its counts; false when there is none.
    fn write_row(&self, slot: u32, out: &mut Vec<u8>) -> bool {
        let counts = self.counts[slot as usize];
        if counts == [0; 2] {
            return false;
        }
        let start = begin_block(out);
        self.encoder.pack(&self.index, slot, out);
        end_block(out, start);
        counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        true
    }

    fn keys_of(&self, rows: &[&[u8]]) -> Result<Keys, Damage> {
        let names = rows.iter().map(|row| Ok(name_of(row)?.0)).collect::<Result<Vec<_>, Damage>>()?;
        self.encoder.unpack(&names).ok_or_else(|| Damage::of("a row has other types"))
    }
}

impl Keeper for Counts {
    fn tables(&self) -> Vec<u16> {
        vec![0]
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
        Ok(Route::ByHash(self.keys_of(rows)?.hashes()))
    }

    fn restore(&mut self, _table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        let keys = self.keys_of(rows)?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            let (_, mut rest) = name_of(row)?;
            let pair = [rest.i64()?, rest.i64()?];
            rest.end()?;
            if pair == [0; 2] || pair.iter().any(|count| *count < 0) {
                return Err(Damage::of("a row is there less than once"));
            }
            counts.push(pair);
        }
        for (slot, counts) in self.slots_of(&keys).into_iter().zip(counts) {
            self.counts[slot as usize] = counts;
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
    }
}

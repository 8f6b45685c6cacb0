//! [`Index`]: the keys of both sides, each with a slot that both know it by.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, RecordBatch};

use crate::keep::wire::{Damage, begin_block, end_block};
use crate::key::{KeyEncoder, KeyIndex};

/// The keys that rows of either side have.
pub(super) struct Index {
    encoder: KeyEncoder,
    keys: KeyIndex,
    /// By slot whether the key equals nothing, for it holds a null; shorter where no key does.
    strange: Vec<bool>,
}

impl Index {
    /// No keys yet.
    pub fn new(encoder: KeyEncoder) -> Self {
        Index { encoder, keys: KeyIndex::default(), strange: Vec::new() }
    }

    /// The slot of the key of each row; `columns` are those of the key, and with `nulls` a key that holds one equals nothing.
    pub fn intern(&mut self, batch: &RecordBatch, columns: &[usize], nulls: bool) -> Vec<u32> {
        let keys = self.encoder.encode_batch(batch, columns);
        let mut slots = Vec::new();
        self.keys.intern(&keys, &keys.hashes(), &mut slots);
        if nulls {
            self.mark(&slots, &null_rows(batch, columns));
        }
        slots
    }

    /// The slots of saved keys; with `nulls` a key that holds one equals nothing.
    pub fn restore(&mut self, names: &[&[u8]], nulls: bool) -> Result<Vec<u32>, Damage> {
        let keys = self.encoder.unpack(names).ok_or_else(|| Damage::of("a key has other types"))?;
        let mut slots = Vec::new();
        self.keys.intern(&keys, &keys.hashes(), &mut slots);
        if nulls {
            let columns = self.encoder.decode(&keys);
            let rows: Vec<bool> =
                (0..slots.len()).map(|row| columns.iter().any(|column| column.is_null(row))).collect();
            self.mark(&slots, &rows);
        }
        Ok(slots)
    }

    fn mark(&mut self, slots: &[u32], nulls: &[bool]) {
        if !self.strange.is_empty() || nulls.contains(&true) {
            self.strange.resize(self.keys.slots(), false);
            slots.iter().zip(nulls).for_each(|(slot, null)| self.strange[*slot as usize] = *null);
        }
    }

    /// The hashes of saved keys.
    pub fn hashes(&self, names: &[&[u8]]) -> Result<Vec<u64>, Damage> {
        let keys = self.encoder.unpack(names).ok_or_else(|| Damage::of("a key has other types"))?;
        Ok(keys.hashes())
    }

    /// Whether the key in a slot equals nothing.
    pub fn is_strange(&self, slot: u32) -> bool {
        self.strange.get(slot as usize).copied().unwrap_or(false)
    }

    /// The key of one column that is null, if it is there.
    pub fn null(&self) -> Option<u32> {
        let slots = self.strange.iter().enumerate().filter(|(_, strange)| **strange);
        slots.map(|(slot, _)| slot as u32).find(|slot| self.contains(*slot))
    }

    /// The columns of the keys in these slots.
    pub fn columns(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.encoder.decode(&self.keys.keys(slots))
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.keys.slots()
    }

    /// Whether there is a key in `slot`.
    pub fn contains(&self, slot: u32) -> bool {
        self.keys.contains(slot)
    }

    /// Gives new keys these slots before others; see [`crate::keep::keeper::Keeper::prefer`].
    pub fn prefer(&mut self, slots: Option<Range<u32>>) {
        self.keys.prefer(slots);
    }

    /// Forgets a key that no row has.
    pub fn remove(&mut self, slot: u32) {
        self.keys.remove(slot);
    }

    /// Appends a key as the name of a row.
    pub fn write(&self, slot: u32, out: &mut Vec<u8>) {
        let start = begin_block(out);
        self.encoder.pack(&self.keys, slot, out);
        end_block(out, start);
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        self.keys.bytes() + self.strange.capacity() as u64
    }
}

/// For each row whether one of these columns is null.
pub(super) fn null_rows(batch: &RecordBatch, columns: &[usize]) -> Vec<bool> {
    let mut rows = vec![false; batch.num_rows()];
    for nulls in columns.iter().filter_map(|column| batch.column(*column).nulls()) {
        rows.iter_mut().zip(nulls).for_each(|(row, valid)| *row |= !valid);
    }
    rows
}

/// Whether one of these columns has a null.
pub(super) fn has_nulls(batch: &RecordBatch, columns: &[usize]) -> bool {
    columns.iter().any(|column| batch.column(*column).null_count() > 0)
}

//! [`Secondary`]: finds rows by columns that are no key, as an index that was asked for.
//!
//! The rows of each value are a list that runs through their slots, so a row that changes is taken out of one list and put
//! into another in constant time, and rows that only move to another chunk stay where they are in theirs.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;

use crate::key::{KeyEncoder, KeyIndex};

/// The slot of no row, and of no value.
const NONE: u32 = u32::MAX;

/// Finds rows by some columns.
pub(super) struct Secondary {
    columns: Vec<usize>,
    encoder: KeyEncoder,
    /// The values there are.
    values: KeyIndex,
    /// By value, the first row of its list.
    heads: Vec<u32>,
    /// By row, its neighbours in its list.
    next: Vec<u32>,
    back: Vec<u32>,
    /// By row, the value whose list it is in.
    owner: Vec<u32>,
}

impl Secondary {
    /// An index of no rows; none when rows cannot be found by these columns.
    pub fn new(schema: &SchemaRef, columns: &[usize]) -> Option<Self> {
        let types = columns.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        let encoder = KeyEncoder::new(types)?;
        let (heads, next, back, owner) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Some(Secondary { columns: columns.to_vec(), encoder, values: KeyIndex::default(), heads, next, back, owner })
    }

    /// The columns.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The row of each slot is there from now on; one that was there with other values is no more.
    pub fn put(&mut self, slots: &[u32], batch: &RecordBatch) {
        let keys = self.encoder.encode_batch(batch, &self.columns);
        let mut values = Vec::new();
        self.values.intern(&keys, &keys.hashes(), &mut values);
        self.heads.resize(self.values.slots().max(self.heads.len()), NONE);
        let mut left = Vec::new();
        for (slot, value) in slots.iter().zip(values) {
            let before = self.owner.get(*slot as usize).copied().unwrap_or(NONE);
            if before != value {
                left.extend(self.unlink(*slot));
                self.link(*slot, value);
            }
        }
        // Only now: a value that was left may have been come to again.
        left.into_iter().for_each(|value| self.drop_empty(value));
    }

    /// The row of a slot is gone.
    pub fn forget(&mut self, slot: u32) {
        let left = self.unlink(slot);
        left.into_iter().for_each(|value| self.drop_empty(value));
    }

    /// The slots of the rows with these values, at most `most` of them; each column has one value.
    pub fn find(&self, values: &[ArrayRef], most: usize) -> Vec<u32> {
        let keys = self.encoder.encode(values, 1);
        let value = self.values.find(&keys, &keys.hashes()).first().copied().flatten();
        let there = |row: u32| Some(row).filter(|row| *row != NONE);
        let first = value.and_then(|value| there(self.heads[value as usize]));
        std::iter::successors(first, |row| there(self.next[*row as usize])).take(most).collect()
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let lists = self.heads.capacity() + self.next.capacity() + self.back.capacity() + self.owner.capacity();
        self.values.bytes() + 4 * lists as u64
    }

    fn link(&mut self, slot: u32, value: u32) {
        let at = slot as usize;
        for list in [&mut self.next, &mut self.back, &mut self.owner] {
            list.resize(list.len().max(at + 1), NONE);
        }
        let head = std::mem::replace(&mut self.heads[value as usize], slot);
        (self.next[at], self.back[at], self.owner[at]) = (head, NONE, value);
        if head != NONE {
            self.back[head as usize] = slot;
        }
    }

    /// Takes a row out of its list; the value, when it was in one.
    fn unlink(&mut self, slot: u32) -> Option<u32> {
        let at = slot as usize;
        let value = self.owner.get(at).copied().filter(|value| *value != NONE)?;
        let (next, back) = (self.next[at], self.back[at]);
        match back {
            NONE => self.heads[value as usize] = next,
            back => self.next[back as usize] = next,
        }
        if next != NONE {
            self.back[next as usize] = back;
        }
        self.owner[at] = NONE;
        Some(value)
    }

    fn drop_empty(&mut self, value: u32) {
        if self.heads[value as usize] == NONE && self.values.contains(value) {
            self.values.remove(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;

    use super::*;

    fn column(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn batch(values: &[i64]) -> RecordBatch {
        RecordBatch::try_from_iter([("n", column(values))]).expect("one column")
    }

    fn find(index: &Secondary, value: i64) -> Vec<u32> {
        let mut found = index.find(&[column(&[value])], 9);
        found.sort_unstable();
        found
    }

    #[test]
    fn rows_are_found_by_the_values_they_have_now() {
        let mut index = Secondary::new(&batch(&[]).schema(), &[0]).expect("integers");
        index.put(&[0, 1, 2], &batch(&[7, 7, 8]));
        assert_eq!((find(&index, 7), find(&index, 8), find(&index, 9)), (vec![0, 1], vec![2], vec![]));
        // 7 is left by all and come to by another in one step.
        index.put(&[0, 1, 2], &batch(&[8, 9, 7]));
        assert_eq!((find(&index, 7), find(&index, 8), find(&index, 9)), (vec![2], vec![0], vec![1]));
        index.forget(2);
        index.forget(2);
        assert_eq!((find(&index, 7), index.values.len()), (vec![], 2));
        index.put(&[2, 3, 4], &batch(&[8, 8, 8]));
        assert_eq!(find(&index, 8), [0, 2, 3, 4]);
        assert_eq!(index.find(&[column(&[8])], 2).len(), 2, "no more than were asked for");
    }
}

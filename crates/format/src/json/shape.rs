//! The learned shape of JSON objects: what stands between one value and the next.
//!
//! The one idea: records of a stream look alike, so the bytes from the end of one value to the start of the next, such as
//! `,"bidder":`, are kept as a *slot* and compared as one or two 16-byte words. Each slot remembers the two slots that
//! followed it last, newest first, as a branch predictor does; so an optional key costs nothing after its first time. A
//! slot is only a memory of what the general path has found: it never decides what is right.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use tidemill_base::hash;

use super::scan::word16;

/// The most slots an object type may learn before it starts afresh.
const SLOTS_MAX: usize = 256;

/// The longest run of bytes that a slot compares.
const PATTERN_BYTES_MAX: usize = 32;

/// The column index of a key that no column has.
pub(crate) const SKIPPED: u32 = u32::MAX;

/// A key found in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The slot it was found by or learned as.
    pub(crate) slot: u32,
    /// Its column, or [`SKIPPED`].
    pub(crate) column: u32,
    /// Where its value begins.
    pub(crate) value_at: usize,
}

#[derive(Debug)]
struct Slot {
    head: u128,
    mask: u128,
    tail: u128,
    length: u32,
    column: u32,
    next: [u32; 2],
}

impl Slot {
    fn start() -> Self {
        Slot { head: 0, mask: 0, tail: 0, length: 0, column: SKIPPED, next: [Shape::NONE; 2] }
    }

    #[inline(always)]
    fn matches(&self, bytes: &[u8], at: usize) -> bool {
        let head = u128::from_le_bytes(word16(bytes, at));
        if (head ^ self.head) & self.mask != 0 {
            return false;
        }
        let length = self.length as usize;
        length <= 16 || u128::from_le_bytes(word16(bytes, at + length - 16)) == self.tail
    }
}

/// Hashes a pattern. A sender who makes patterns collide slows down [`SLOTS_MAX`] of them at most.
#[derive(Debug, Default)]
struct PatternHasher(u64);

impl Hasher for PatternHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= hash::bytes(bytes);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What is known of the objects of one record type.
#[derive(Debug)]
pub(crate) struct Shape {
    names: Names,
    slots: Vec<Slot>,
    by_pattern: HashMap<Box<[u8]>, u32, BuildHasherDefault<PatternHasher>>,
}

impl Shape {
    /// The slot that stands for "nothing read yet".
    pub(crate) const START: u32 = 0;

    /// The slot of a key that was not learned.
    pub(crate) const NONE: u32 = u32::MAX;

    /// The shape of objects whose needed keys are `names`, in the order of their columns.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Shape { names: Names::of(names), slots: vec![Slot::start()], by_pattern: HashMap::default() }
    }

    /// Finds the key at `at` when one of the two that followed `previous` last stands there, written the same way.
    #[inline(always)]
    pub(crate) fn predict(&mut self, bytes: &[u8], previous: u32, at: usize) -> Option<Key> {
        let [first, second] = self.slots.get(previous as usize)?.next;
        let slot = self.slots.get(first as usize)?;
        if slot.matches(bytes, at) {
            return Some(Key { slot: first, column: slot.column, value_at: at + slot.length as usize });
        }
        self.predict_second(bytes, previous, second, at)
    }

    #[inline(never)]
    fn predict_second(&mut self, bytes: &[u8], previous: u32, second: u32, at: usize) -> Option<Key> {
        let slot = self.slots.get(second as usize)?;
        if !slot.matches(bytes, at) {
            return None;
        }
        let key = Key { slot: second, column: slot.column, value_at: at + slot.length as usize };
        self.slots[previous as usize].next.swap(0, 1);
        Some(key)
    }

    /// The column of a key, or [`SKIPPED`].
    pub(crate) fn column(&self, name: &[u8]) -> u32 {
        self.names.find(name)
    }

    /// Remembers that `pattern` stood between the value of `previous` and a value of `column`; returns its slot.
    pub(crate) fn learn(&mut self, previous: u32, pattern: &[u8], column: u32) -> u32 {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Shape::NONE;
        }
        let slot = match self.by_pattern.get(pattern) {
            Some(&slot) => slot,
            None => self.add(pattern, column),
        };
        if let Some(previous) = self.slots.get_mut(previous as usize)
            && previous.next[0] != slot
        {
            previous.next = [slot, previous.next[0]];
        }
        slot
    }

    fn add(&mut self, pattern: &[u8], column: u32) -> u32 {
        if self.slots.len() >= SLOTS_MAX {
            self.slots.truncate(1);
            self.slots[0] = Slot::start();
            self.by_pattern.clear();
        }
        let slot = self.slots.len() as u32;
        let covered = pattern.len().min(16);
        let mask = if covered == 16 { u128::MAX } else { (1 << (8 * covered)) - 1 };
        let tail = if pattern.len() > 16 { u128::from_le_bytes(word16(pattern, pattern.len() - 16)) } else { 0 };
        let head = u128::from_le_bytes(word16(pattern, 0)) & mask;
        self.slots.push(Slot { head, mask, tail, length: pattern.len() as u32, column, next: [Shape::NONE; 2] });
        self.by_pattern.insert(pattern.into(), slot);
        slot
    }
}

/// The names of columns, by a hash table that is at most half full.
#[derive(Debug)]
struct Names {
    names: Vec<Box<[u8]>>,
    table: Vec<u32>,
}

impl Names {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<Box<[u8]>> = names.map(|name| name.as_bytes().into()).collect();
        let size = (names.len() * 2).next_power_of_two().max(2);
        let mut table = vec![SKIPPED; size];
        for (index, name) in names.iter().enumerate() {
            let mut at = hash::bytes(name) as usize & (size - 1);
            while table[at] != SKIPPED {
                at = (at + 1) & (size - 1);
            }
            table[at] = index as u32;
        }
        Names { names, table }
    }

    fn find(&self, name: &[u8]) -> u32 {
        let last = self.table.len() - 1;
        let mut at = hash::bytes(name) as usize & last;
        loop {
            let index = self.table[at];
            if index == SKIPPED || *self.names[index as usize] == *name {
                return index;
            }
            at = (at + 1) & last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicts_the_two_keys_that_followed_last() {
        let mut shape = Shape::of(["a", "a_rather_long_column_name"].into_iter());
        let a = shape.learn(Shape::START, b"{\"a\":", 0);
        let long = shape.learn(Shape::START, b"{\"a_rather_long_column_name\":", 1);
        assert_eq!(shape.predict(b"{\"a\":1}", Shape::START, 0), Some(Key { slot: a, column: 0, value_at: 5 }));
        let text = b"{\"a_rather_long_column_name\":1}";
        assert_eq!(shape.predict(text, Shape::START, 0), Some(Key { slot: long, column: 1, value_at: 29 }));
        assert_eq!(shape.predict(b"{\"a_rather_long_column_nome\":1}", Shape::START, 0), None);
        assert_eq!(shape.predict(b"{\"b\":1}", Shape::START, 0), None);
        assert_eq!(shape.predict(b"{\"a\"", Shape::START, 0), None);
    }

    #[test]
    fn forgets_everything_when_it_has_seen_too_many_keys() {
        let mut shape = Shape::of(["a"].into_iter());
        for index in 0..SLOTS_MAX * 2 {
            shape.learn(Shape::START, format!("{{\"{index}\":").as_bytes(), SKIPPED);
        }
        assert!(shape.slots.len() <= SLOTS_MAX);
        shape.learn(Shape::START, b"{\"a\":", 0);
        assert!(shape.predict(b"{\"a\":1}", Shape::START, 0).is_some());
    }

    #[test]
    fn finds_columns_by_name() {
        let names: Vec<String> = (0..100).map(|index| format!("column_{index}")).collect();
        let shape = Shape::of(names.iter().map(String::as_str));
        assert!(names.iter().enumerate().all(|(index, name)| shape.column(name.as_bytes()) == index as u32));
        assert_eq!(shape.column(b"column_100"), SKIPPED);
        assert_eq!(Shape::of([].into_iter()).column(b"a"), SKIPPED);
    }
}

//! [`Sheet`]: the rows of some keys before a step and after it, one after another, as they are computed together.

use std::ops::Range;

use crate::operators::ordered::Ordered;
use crate::plan::{OverChangesSpec, OverFrame};

/// Rows in order, key by key: those it had, then those it has. A row that is there several times stands so often.
pub(super) struct Sheet {
    slots: Vec<u32>,
    /// For each place the number of its row within the key.
    numbers: Vec<u32>,
    /// For each place whether the order tells its row from the one before it.
    opens: Vec<bool>,
    /// The old rows and the new rows of each key.
    keys: Vec<(Range<usize>, Range<usize>)>,
    /// The rows that each row sees.
    pub frame: OverFrame,
    /// The column by which a `RANGE` counts, and whether great values come first.
    pub by: Option<(usize, bool)>,
}

impl Sheet {
    /// The rows of some keys: all of each, or those that have changed and so many before and after them.
    pub fn of(spec: &OverChangesSpec, margin: Option<usize>, rows: &Ordered, keys: &[u32]) -> Self {
        let by = if let [by] = &spec.order[..] { Some((by.column, by.descending)) } else { None };
        let (slots, numbers, opens) = (Vec::new(), Vec::new(), Vec::new());
        let mut sheet = Sheet { slots, numbers, opens, keys: Vec::with_capacity(keys.len()), frame: spec.frame, by };
        for key in keys {
            let slots: Vec<u32> = rows.slots_of(*key).iter().collect();
            let slots = &slots[around_changes(rows, &slots, margin)];
            let old = sheet.add(rows, slots, |was, _| was);
            let new = sheet.add(rows, slots, |_, is| is);
            sheet.keys.push((old, new));
        }
        sheet
    }

    /// Adds rows of a key, each as often as `count` says of its weight before the step and its weight now.
    fn add(&mut self, rows: &Ordered, slots: &[u32], count: impl Fn(i64, i64) -> i64) -> Range<usize> {
        let (store, start) = (rows.store(), self.slots.len());
        for (number, slot) in slots.iter().copied().enumerate() {
            let record = store.get(slot);
            for _ in 0..count(record.was, record.weight).max(0) {
                let before = self.slots[start..].last();
                let tied = before.is_some_and(|before| {
                    *before == slot || rows.order().compare_keys(store.place(*before), store.place(slot)).is_eq()
                });
                self.slots.push(slot);
                self.numbers.push(number as u32);
                self.opens.push(!tied);
            }
        }
        start..self.slots.len()
    }

    /// The number of places.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot of the row at a place.
    pub fn slot(&self, place: usize) -> u32 {
        self.slots[place]
    }

    /// The slots of the rows.
    pub fn slots(&self) -> impl Iterator<Item = u32> + Clone {
        self.slots.iter().copied()
    }

    /// Takes the places of a row from the front of a range.
    pub fn take_row(&self, number: u32, places: &mut Range<usize>) -> Range<usize> {
        let count = places.clone().take_while(|place| self.numbers[*place] == number).count();
        let start = places.start;
        places.start += count;
        start..places.start
    }

    /// The number of a place's row within its key.
    pub fn number(&self, place: usize) -> u32 {
        self.numbers[place]
    }

    /// Whether the order tells the row at a place from the one before it.
    pub fn opens(&self, place: usize) -> bool {
        self.opens[place]
    }

    /// The old places and the new places of each key.
    pub fn keys(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.keys.iter().cloned()
    }

    /// The places that are computed apart from others.
    pub fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        self.keys().flat_map(|(old, new)| [old, new])
    }
}

/// The slots from so many rows before the first that has changed to so many after the last, or all; none when none has.
fn around_changes(rows: &Ordered, slots: &[u32], margin: Option<usize>) -> Range<usize> {
    let record = |place: &usize| rows.store().get(slots[*place]);
    let has_changed = |place: &usize| record(place).was != record(place).weight;
    let first = (0..slots.len()).find(has_changed);
    let last = (0..slots.len()).rev().find(has_changed);
    let (Some(first), Some(last)) = (first, last) else { return 0..0 };
    let Some(margin) = margin else { return 0..slots.len() };
    let is_there = |place: &usize| record(place).weight > 0;
    // A row that is there several times counts once, which is enough and more.
    let before = (0..first).rev().filter(is_there).take(margin).last().unwrap_or(first);
    let after = (last + 1..slots.len()).filter(is_there).take(margin).last().unwrap_or(last);
    before..after + 1
}

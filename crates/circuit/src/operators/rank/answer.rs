//! [`Changes`]: what a step has changed in the ranks of a key.

use std::ops::Range;

use crate::operators::ordered::{Order, Ordered, Store};
use crate::plan::{RankFunction, RankSpec};

/// A row that comes out, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The slot of the row.
    pub slot: u32,
    /// How often it comes; below zero, how often it goes.
    pub weight: i64,
    /// Its rank.
    pub rank: u64,
}

/// What has changed so far: of each key what goes before what comes.
pub(super) struct Changes<'a> {
    function: RankFunction,
    /// The ranks that are wanted.
    wanted: Range<u64>,
    number: bool,
    rows: &'a Ordered,
    gone: Vec<Change>,
    come: Vec<Change>,
    changes: Vec<Change>,
}

impl<'a> Changes<'a> {
    /// No changes yet.
    pub fn of(spec: &RankSpec, rows: &'a Ordered) -> Self {
        let wanted = spec.from.max(1)..spec.to.map_or(u64::MAX, |to| to.saturating_add(1));
        let (gone, come, changes) = (Vec::new(), Vec::new(), Vec::new());
        Changes { function: spec.function, wanted, number: spec.number, rows, gone, come, changes }
    }

    /// All changes.
    pub fn finish(self) -> Vec<Change> {
        self.changes
    }

    /// Gives all rows of a key, whatever their ranks.
    pub fn give(&mut self, key: u32) {
        let slots = self.rows.slots_of(key).iter();
        let rows = slots.map(|slot| Change { slot, weight: self.rows.store().get(slot).weight, rank: 0 });
        self.changes.extend(rows.filter(|change| change.weight > 0));
    }

    /// Gives the rows of a key that was never answered.
    pub fn answer(&mut self, key: u32) {
        self.walk(key, false);
    }

    /// Gives what differs from what was answered.
    pub fn compare(&mut self, key: u32) {
        self.walk(key, true);
    }

    /// Walks the old ranks of a key and its new ones side by side; without `old` there were none.
    fn walk(&mut self, key: u32, old: bool) {
        let (store, order) = (self.rows.store(), self.rows.order());
        let (mut was, mut is) = (Counter::default(), Counter::default());
        'key: for (slots, unchanged) in self.rows.slots_of(key).runs() {
            let leap = self.function == RankFunction::RowNumber && old && was.rows == is.rows;
            if let Some(rows) = unchanged.filter(|_| leap) {
                was.rows += rows;
                is.rows += rows;
                continue;
            }
            for slot in slots.iter().copied() {
                let record = store.get(slot);
                let before = if old { record.was.max(0) as u64 } else { 0 };
                let before = was.count(self.function, slot, before, store, order);
                let after = is.count(self.function, slot, record.weight.max(0) as u64, store, order);
                self.differ(slot, before, after);
                let is_beyond = |counter: &Counter| counter.is_beyond(self.function, self.wanted.end);
                if is_beyond(&is) && (!old || is_beyond(&was)) {
                    break 'key;
                }
            }
        }
        self.changes.append(&mut self.gone);
        self.changes.append(&mut self.come);
    }

    /// A row had some ranks and has others.
    fn differ(&mut self, slot: u32, before: Ranks, after: Ranks) {
        if before == after {
            return;
        }
        if !self.number {
            let (before, after) = (self.wanted_of(before), self.wanted_of(after));
            self.change(slot, after.count as i64 - before.count as i64, 0);
        } else if self.function == RankFunction::RowNumber {
            let (before, after) = (self.wanted_of(before).range(), self.wanted_of(after).range());
            before.clone().filter(|rank| !after.contains(rank)).for_each(|rank| self.change(slot, -1, rank));
            after.filter(|rank| !before.contains(rank)).for_each(|rank| self.change(slot, 1, rank));
        } else {
            let (before, after) = (self.wanted_of(before), self.wanted_of(after));
            if before.first == after.first {
                return self.change(slot, after.count as i64 - before.count as i64, after.first);
            }
            self.change(slot, -(before.count as i64), before.first);
            self.change(slot, after.count as i64, after.first);
        }
    }

    /// Those ranks that are wanted.
    fn wanted_of(&self, ranks: Ranks) -> Ranks {
        let Ranks { first, count } = ranks;
        if self.function != RankFunction::RowNumber {
            return Ranks { first, count: if self.wanted.contains(&first) { count } else { 0 } };
        }
        let (start, end) = (first.max(self.wanted.start), first.saturating_add(count).min(self.wanted.end));
        Ranks { first: start, count: end.saturating_sub(start) }
    }

    fn change(&mut self, slot: u32, weight: i64, rank: u64) {
        match weight {
            0 => {}
            1.. => self.come.push(Change { slot, weight, rank }),
            _ => self.gone.push(Change { slot, weight, rank }),
        }
    }
}

/// The ranks of a row that is there several times: one after another by ROW_NUMBER, else one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ranks {
    first: u64,
    count: u64,
}

impl Ranks {
    fn range(self) -> Range<u64> {
        self.first..self.first + self.count
    }
}

/// Counts the rows of a key.
#[derive(Debug, Default)]
struct Counter {
    /// The rows so far.
    rows: u64,
    /// The last row, where ranks can be shared.
    last: Option<u32>,
    /// Its rank.
    rank: u64,
}

impl Counter {
    /// Counts a row that is there so many times.
    fn count(&mut self, function: RankFunction, slot: u32, count: u64, store: &Store, order: &Order) -> Ranks {
        if count == 0 {
            return Ranks { first: 0, count };
        }
        let tied = |last: u32| order.compare_keys(store.place(last), store.place(slot)).is_eq();
        match function {
            RankFunction::RowNumber => self.rank = self.rows + 1,
            _ if self.last.is_some_and(tied) => {}
            RankFunction::Rank => self.rank = self.rows + 1,
            RankFunction::DenseRank => self.rank += 1,
        }
        self.rows += count;
        self.last = Some(slot);
        Ranks { first: self.rank, count }
    }

    /// Whether all rows to come have ranks that are not below `end`.
    fn is_beyond(&self, function: RankFunction, end: u64) -> bool {
        match function {
            RankFunction::RowNumber => self.rows + 1 >= end,
            RankFunction::Rank | RankFunction::DenseRank => self.rank >= end,
        }
    }
}

//! [`Sides`]: the left rows that wait and the versions of the right side, as tables that are saved.
//!
//! Keys of the right side that hold more than one version are listed by the time at which the first of them can go. With a
//! time to live they are forgotten whole when no row of either side has come to them for so long.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::ArrowError;

use crate::delta::Delta;
use crate::keep::keeper::{Keeper, Progress, Route};
use crate::keep::marks::Marks;
use crate::keep::wire::Damage;
use crate::operator::StateSize;
use crate::operators::ordered::{Layout, NEVER, Ordered};
use crate::operators::time::{NANOS_PER_MILLI, nanos_at};
use crate::plan::TemporalJoinSpec;

const LEFT: u16 = 0;
const RIGHT: u16 = 1;
/// When rows came to the right side's keys, where these have a time to live.
const TIMES: u16 = 2;

/// The tables of each side.
const ROWS: u16 = 0;
const KEYS: u16 = 1;

/// Both sides.
pub(super) struct Sides {
    /// Left rows that wait, by key and time.
    pub left: Ordered,
    /// Right rows by key, in the order of their times.
    pub right: Ordered,
    time: usize,
    strict: bool,
    /// The right side's column that says of a row that nothing is valid from its time on.
    ended: Option<usize>,
    /// Right keys by the time at which something of them can go.
    frees: BTreeMap<i64, Vec<u32>>,
    /// For each right key the time under which it is listed first.
    listed: Vec<i64>,
    /// Whether right keys were restored that are to be listed.
    restored: bool,
}

impl Sides {
    /// No rows yet.
    pub fn new(left: Layout, right: Layout, spec: &TemporalJoinSpec) -> Self {
        Sides {
            left: Ordered::new(left),
            right: Ordered::new(right),
            time: spec.right_time,
            strict: spec.strict,
            ended: spec.ended,
            frees: BTreeMap::new(),
            listed: Vec::new(),
            restored: false,
        }
    }

    /// Takes right rows; a row with a null in its key equals nothing and is passed over.
    pub fn take_versions(&mut self, delta: &Delta, keys: &[usize]) -> Result<(), ArrowError> {
        let nulls: Vec<_> = keys.iter().filter_map(|key| delta.column(*key).nulls()).collect();
        let whole = |row: &u32| nulls.iter().all(|nulls| nulls.is_valid(*row as usize));
        let rows: Vec<u32> = (0..delta.rows() as u32).filter(whole).collect();
        if rows.len() == delta.rows() {
            return self.right.push(delta.batch(), delta.weights());
        }
        let delta = delta.take(&UInt32Array::from(rows))?;
        self.right.push(delta.batch(), delta.weights())
    }

    /// All rows of the step are there.
    pub fn settle(&mut self) -> Result<(), ArrowError> {
        let changed: Vec<u32> = match std::mem::take(&mut self.restored) {
            true => (0..self.right.keys() as u32).collect(),
            false => self.right.changed().to_vec(),
        };
        self.left.settle()?;
        self.right.settle()?;
        changed.into_iter().for_each(|key| self.list(key));
        Ok(())
    }

    fn time_of(&self, slot: u32) -> i128 {
        let place = self.right.store().place(slot);
        nanos_at(&place.columns[self.time], place.row)
    }

    /// The slots of the rows of a key that are valid for a left row of this time.
    pub fn valid(&self, key: u32, time: i128, slots: &mut Vec<u32>) {
        let version = self.version(key, time, self.strict);
        slots.extend(version.filter(|slot| self.right.store().get(*slot).weight > 0 && !self.says_ended(*slot)));
    }

    /// Whether a row says that nothing is valid from its time on.
    fn says_ended(&self, slot: u32) -> bool {
        let Some(ended) = self.ended else { return false };
        let place = self.right.store().place(slot);
        place.columns[ended].as_boolean().value(place.row)
    }

    /// Whether a row of a version leaves nothing valid.
    fn ends(&self, slot: u32) -> bool {
        self.right.store().get(slot).weight < 0 || self.says_ended(slot)
    }

    /// The slots of the newest version of a key whose time is not above this one, or is below it, its last row first.
    fn version(&self, key: u32, time: i128, strict: bool) -> impl Iterator<Item = u32> + '_ {
        let list = self.right.slots_of(key);
        let is_there = |version: i128| if strict { version < time } else { version <= time };
        let compare = |slot| if is_there(self.time_of(slot)) { Ordering::Less } else { Ordering::Greater };
        let end = list.search(compare).unwrap_or_else(|end| end);
        let slots = std::iter::successors(list.before(end), move |spot| list.before(*spot))
            .filter_map(move |spot| list.get(spot));
        let mut of = None;
        slots.take_while(move |slot| {
            let time = self.time_of(*slot);
            *of.get_or_insert(time) == time
        })
    }

    /// Lists a right key by the time at which something of it can go.
    fn list(&mut self, key: u32) {
        let list = self.right.slots_of(key);
        let Some(first) = list.iter().next() else { return };
        let time = self.time_of(first);
        let same = || list.iter().take_while(|slot| self.time_of(*slot) == time);
        let is_ended = same().all(|slot| self.ends(slot));
        let next = if is_ended { Some(time) } else { list.iter().nth(same().count()).map(|slot| self.time_of(slot)) };
        let Some(at) = next.map(millis_up) else { return };
        self.listed.resize(self.listed.len().max(self.right.keys()), NEVER);
        if at < self.listed[key as usize] {
            self.listed[key as usize] = at;
            self.frees.entry(at).or_default().push(key);
        }
    }

    /// Forgets versions that no left row can meet any more once the watermark stands at `clock`: those before the newest one
    /// below it. One at the watermark may still be taken back.
    pub fn free(&mut self, clock: i64) -> Result<(), ArrowError> {
        let passed = |at: i64| at < clock || clock == i64::MAX;
        let mut keys = Vec::new();
        while let Some(entry) = self.frees.first_entry().filter(|entry| passed(*entry.key())) {
            keys.extend(entry.remove());
        }
        for key in &keys {
            self.listed[*key as usize] = NEVER;
            let newest: Vec<u32> = self.version(*key, i128::from(clock) * NANOS_PER_MILLI, true).collect();
            let Some(first) = newest.last().copied() else { continue };
            let is_ended = newest.iter().all(|slot| self.ends(*slot));
            let mut gone: Vec<u32> = self.right.slots_of(*key).iter().take_while(|slot| *slot != first).collect();
            if is_ended {
                gone.extend(newest);
            }
            self.right.take_out(*key, &gone)?;
        }
        self.right.settle()?;
        keys.into_iter().for_each(|key| self.list(key));
        Ok(())
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let (left, right) = (self.left.size(), self.right.size());
        let lists = (self.frees.len() * 80 + self.listed.capacity() * 8) as u64;
        StateSize { entries: left.entries + right.entries, bytes: left.bytes + right.bytes + lists }
    }

    /// Left rows come, of which these are the keys.
    pub fn use_keys(&mut self, keys: &[ArrayRef], rows: usize) {
        if self.right.expires() {
            let found = self.right.find(keys, rows);
            self.right.use_keys(found.into_iter().flatten());
        }
    }

    /// The side that a table is of, and the table's number there.
    fn side(&self, table: u16) -> (&Ordered, u16) {
        match table {
            LEFT => (&self.left, ROWS),
            TIMES => (&self.right, KEYS),
            _ => (&self.right, ROWS),
        }
    }

    fn side_mut(&mut self, table: u16) -> (&mut Ordered, u16) {
        match table {
            LEFT => (&mut self.left, ROWS),
            TIMES => (&mut self.right, KEYS),
            _ => (&mut self.right, ROWS),
        }
    }
}

/// Nanoseconds as milliseconds, rounded up.
fn millis_up(nanos: i128) -> i64 {
    let millis = -(-nanos).div_euclid(NANOS_PER_MILLI);
    millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl Keeper for Sides {
    fn tables(&self) -> Vec<u16> {
        if self.right.expires() { vec![LEFT, RIGHT, TIMES] } else { vec![LEFT, RIGHT] }
    }

    fn slots(&self, table: u16) -> usize {
        let (side, table) = self.side(table);
        side.slots(table)
    }

    fn marks(&mut self, table: u16) -> Option<&mut Marks> {
        let (side, table) = self.side_mut(table);
        side.marks(table)
    }

    fn write(&self, table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        let (side, table) = self.side(table);
        side.write(table, slot, out)
    }

    fn route(&self, table: u16, rows: &[&[u8]]) -> Result<Route, Damage> {
        let (side, table) = self.side(table);
        side.route(table, rows)
    }

    fn restore(&mut self, table: u16, rows: &[&[u8]]) -> Result<(), Damage> {
        self.restored |= table == RIGHT;
        let (side, table) = self.side_mut(table);
        side.restore(table, rows)
    }

    fn prefer(&mut self, table: u16, slots: Option<Range<u32>>) {
        let (side, table) = self.side_mut(table);
        side.prefer(table, slots);
    }

    fn settle(&mut self) {
        Keeper::settle(&mut self.right);
    }

    fn progress(&self) -> Progress {
        self.left.progress
    }

    fn resume(&mut self, progress: Progress) {
        self.left.progress = progress;
    }

    fn keep(&mut self, chunk_slots: usize) {
        self.left.keep(chunk_slots);
        self.right.keep(chunk_slots);
    }

    fn saved(&mut self) {
        self.left.saved();
        self.right.saved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_goes_no_earlier_than_its_last_digit_says() {
        assert_eq!([1_500_000, -1, 0, 2_000_000].map(millis_up), [2, 0, 0, 2]);
    }
}

//! [`Counts`]: how often each of two sides has a row, as one table that is saved.
//!
//! With a time to live a row that has not changed for so long is on neither side any more ([`Ttl`]).

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;

use crate::delta::Delta;
use crate::keep::keeper::{Keeper, Progress, Route, name_of};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, begin_block, end_block};
use crate::key::{KeyEncoder, KeyIndex, Keys};
use crate::operator::{Context, StateSize};
use crate::operators::ttl::Ttl;

/// As many rows that have expired a step forgets at least, so that many at once do not hold it up.
const SWEPT_MAX: usize = 4_096;

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
    /// When rows have changed, where they expire.
    ttl: Option<Ttl>,
    marks: Marks,
}

impl Counts {
    /// No rows yet; `encoder` is for whole rows.
    pub fn new(encoder: KeyEncoder, ttl_ms: Option<i64>) -> Self {
        let (index, ttl, marks) = (KeyIndex::default(), ttl_ms.map(Ttl::new), Marks::default());
        Counts { encoder, index, counts: Vec::new(), changed: Vec::new(), places: Vec::new(), ttl, marks }
    }

    /// Goes on to a step's time.
    pub fn advance(&mut self, context: &Context) {
        let Some(ttl) = &mut self.ttl else { return };
        ttl.advance(context);
        let unknown = ttl.take_unknown();
        if !unknown.is_empty() {
            self.touch(&unknown);
            self.ttl.iter_mut().for_each(|ttl| ttl.touch(&unknown));
        }
    }

    /// Adds the rows of a side, or takes them back.
    pub fn take(&mut self, side: usize, delta: &Delta) {
        let keys = self.encoder.encode(delta.batch().columns(), delta.rows());
        let slots = self.slots_of(&keys);
        self.renew(&slots);
        for (row, slot) in slots.into_iter().enumerate() {
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

    /// Rows change: those that have expired begin anew.
    fn renew(&mut self, slots: &[u32]) {
        let Some(ttl) = &mut self.ttl else { return };
        slots.iter().filter(|slot| ttl.has_expired(**slot)).for_each(|slot| self.counts[*slot as usize] = [0; 2]);
        ttl.touch(slots);
    }

    /// What was taken back of rows that had expired was never there: no side has a row less than no times. False when none
    /// expires, so that a side must not.
    pub fn forgive(&mut self, slot: u32) -> bool {
        if self.ttl.is_some() {
            self.counts[slot as usize] = self.counts[slot as usize].map(|count| count.max(0));
        }
        self.ttl.is_some()
    }

    fn forget(&mut self, expired: &[u32]) {
        for slot in expired.iter().copied().filter(|slot| self.index.contains(*slot)).collect::<Vec<_>>() {
            self.touch(&[slot]);
            self.counts[slot as usize] = [0; 2];
            self.index.remove(slot);
        }
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

    /// Forgets rows that neither side has any more, and some that have expired.
    pub fn end_step(&mut self) {
        for (slot, _) in std::mem::take(&mut self.changed) {
            if self.counts[slot as usize] == [0; 2] {
                self.index.remove(slot);
            }
        }
        let expired = self.ttl.as_mut().map(|ttl| ttl.take_passed(SWEPT_MAX)).unwrap_or_default();
        self.forget(&expired);
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let lists = self.counts.capacity() * 16 + self.places.capacity() * 4 + self.changed.capacity() * 24;
        let bytes = self.index.bytes() + lists as u64 + self.marks.bytes() + self.ttl.as_ref().map_or(0, Ttl::bytes);
        StateSize { entries: self.index.len() as u64, bytes }
    }

    /// Writes a row, its counts, and when it has changed where it expires; false when there is none.
    fn write_row(&self, slot: u32, out: &mut Vec<u8>) -> bool {
        let counts = self.counts[slot as usize];
        if counts == [0; 2] {
            return false;
        }
        let start = begin_block(out);
        self.encoder.pack(&self.index, slot, out);
        end_block(out, start);
        counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        if let Some(changed) = self.ttl.as_ref().and_then(|ttl| ttl.changed(slot)) {
            out.extend_from_slice(&changed.to_le_bytes());
        }
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
            // A time is there when it was asked for when the row was saved.
            let changed = if rest.is_empty() { None } else { Some(rest.i64()?) };
            rest.end()?;
            if pair == [0; 2] || pair.iter().any(|count| *count < 0) {
                return Err(Damage::of("a row is there less than once"));
            }
            counts.push((pair, changed));
        }
        for (slot, (counts, changed)) in self.slots_of(&keys).into_iter().zip(counts) {
            self.counts[slot as usize] = counts;
            self.ttl.iter_mut().for_each(|ttl| ttl.restore(slot, changed));
        }
        Ok(())
    }

    fn prefer(&mut self, _table: u16, slots: Option<Range<u32>>) {
        self.index.prefer(slots);
    }

    fn settle(&mut self) {
        let expired = self.ttl.as_mut().map(Ttl::take_expired).unwrap_or_default();
        self.forget(&expired);
    }

    fn progress(&self) -> Progress {
        Progress { closed: i64::MIN, started: false }
    }

    fn resume(&mut self, _progress: Progress) {}

    fn keep(&mut self, chunk_slots: usize) {
        self.marks = Marks::new(chunk_slots);
    }
}

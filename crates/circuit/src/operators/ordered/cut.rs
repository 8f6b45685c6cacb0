//! Keeping the first rows of each key alone, where rows are never taken back.
//!
//! What is kept of a key is a multiset of rows that only gets better: a row that did not make it never will. So the rows
//! that have gone stand behind those that are kept, and are there until the step is over only where they were there before
//! it, to be taken back.

use std::cmp::Ordering;

use arrow_schema::ArrowError;

use super::list::Spot;
use super::tracks::Counts;
use super::{Cut, Ordered};
use crate::plan::RankFunction;

impl Cut {
    /// More rows of a key are kept as if all were wanted.
    pub const TO_MAX: u32 = u32::MAX / 4;

    /// Whether rows behind the last one that is kept are turned away.
    fn is_full(self, counts: Counts) -> bool {
        match self.function {
            RankFunction::RowNumber => counts.ahead >= self.to,
            RankFunction::Rank => counts.ahead.saturating_add(counts.last) >= self.to,
            RankFunction::DenseRank => counts.last >= self.to,
        }
    }

    /// Whether the last rows that are kept are too many.
    fn is_over(self, counts: Counts) -> bool {
        match self.function {
            RankFunction::RowNumber => counts.ahead > self.to,
            RankFunction::Rank => counts.ahead >= self.to,
            RankFunction::DenseRank => counts.last > self.to,
        }
    }
}

impl Ordered {
    /// Takes a row of an open chunk if it is among the first of its key.
    pub(super) fn take_first(
        &mut self,
        cut: Cut,
        key: u32,
        prefix: u64,
        chunk: u32,
        row: usize,
        weight: i64,
    ) -> Result<(), ArrowError> {
        if weight < 1 {
            self.change(key);
            return match weight {
                0 => Ok(()),
                _ => Err(ArrowError::ComputeError("a row was taken back, which the plan says never happens".into())),
            };
        }
        if self.turns_away(cut, key, prefix, chunk, row) {
            return Ok(());
        }
        self.change(key);
        // More of one row never come out.
        let weight = if cut.function == RankFunction::RowNumber { weight.min(cut.to.into()) } else { weight };
        match self.search(key, prefix, chunk, row) {
            Ok(spot) => {
                self.track(key).list.changed(spot);
                let Some(slot) = self.tracks.slots(key).get(spot) else { return Ok(()) };
                self.weigh(slot, weight)?;
                self.count(cut, key, slot, weight, false);
            }
            Err(spot) => {
                let slot = self.keep(key, prefix, chunk, row, weight);
                let opens_rank = cut.function != RankFunction::RowNumber && self.opens_rank(key, spot, slot);
                self.count(cut, key, slot, weight, opens_rank);
                let track = self.track(key);
                track.list.insert(spot, slot);
                track.counts.live += 1;
            }
        }
        while cut.is_over(self.counts(cut, key)) {
            self.trim(cut, key)?;
        }
        Ok(())
    }

    /// How many rows of a key are kept.
    #[inline]
    fn counts(&self, cut: Cut, key: u32) -> Counts {
        match self.tracks.only(key) {
            Some(slot) => Counts::of_one(cut, self.store.get(slot).weight),
            None => self.tracks.get(key).map(|track| track.counts).unwrap_or_default(),
        }
    }

    /// Whether a row comes behind all that are kept, and there is no room for it.
    fn turns_away(&self, cut: Cut, key: u32, prefix: u64, chunk: u32, row: usize) -> bool {
        let counts = self.counts(cut, key);
        if !cut.is_full(counts) {
            return false;
        }
        let Some(last) = self.kept(key, counts, 0) else { return false };
        let (last, place) = (self.store.place(last), self.store.open_place(chunk, row, prefix));
        match cut.function {
            RankFunction::RowNumber => self.layout.order.compare(place, last).is_ge(),
            RankFunction::Rank | RankFunction::DenseRank => self.layout.order.compare_keys(place, last).is_gt(),
        }
    }

    /// The slot so many before the last one that is kept.
    fn kept(&self, key: u32, counts: Counts, back: u32) -> Option<u32> {
        let slots = self.tracks.slots(key);
        slots.get(slots.spot(counts.live.checked_sub(back + 1)? as usize))
    }

    /// How the order puts two rows.
    fn compare_keys(&self, one: u32, other: u32) -> Ordering {
        self.layout.order.compare_keys(self.store.place(one), self.store.place(other))
    }

    /// Whether a slot that belongs at a spot has a rank of its own.
    fn opens_rank(&self, key: u32, spot: Spot, slot: u32) -> bool {
        let list = self.tracks.slots(key);
        let (before, after) = (list.before(spot).and_then(|spot| list.get(spot)), list.at_or_after(spot));
        ![before, after].into_iter().flatten().any(|other| self.compare_keys(other, slot).is_eq())
    }

    /// Counts rows that have come to a slot, before a new one is in the list.
    fn count(&mut self, cut: Cut, key: u32, slot: u32, weight: i64, opens_rank: bool) {
        let rows = u32::try_from(weight).unwrap_or(u32::MAX);
        let last = self.kept(key, self.counts(cut, key), 0);
        let behind = match (cut.function, last) {
            (RankFunction::Rank, Some(last)) => self.compare_keys(slot, last),
            _ => Ordering::Equal,
        };
        let Counts { ahead, last, .. } = &mut self.track(key).counts;
        match (cut.function, behind) {
            (RankFunction::DenseRank, _) => *last += u32::from(opens_rank),
            (RankFunction::RowNumber, _) | (RankFunction::Rank, Ordering::Less) => {
                *ahead = ahead.saturating_add(rows);
            }
            (RankFunction::Rank, Ordering::Equal) => *last = last.saturating_add(rows),
            (RankFunction::Rank, Ordering::Greater) => (*ahead, *last) = (ahead.saturating_add(*last), rows),
        }
    }

    /// Lets the last rows go, as many as are too many or all of the last rank.
    fn trim(&mut self, cut: Cut, key: u32) -> Result<(), ArrowError> {
        if cut.function == RankFunction::RowNumber {
            let (counts, slots) = (self.counts(cut, key), self.tracks.slots(key));
            let spot = slots.spot(counts.live.saturating_sub(1) as usize);
            let Some(last) = slots.get(spot) else { return Ok(()) };
            let there = u32::try_from(self.store.get(last).weight).unwrap_or(u32::MAX);
            let gone = there.min(counts.ahead - cut.to);
            let track = self.track(key);
            track.counts.ahead -= gone;
            if gone == there {
                return self.drop_last(key);
            }
            track.list.changed(spot);
            return self.weigh(last, -i64::from(gone));
        }
        for _ in 0..self.tied(cut, key).len() {
            self.drop_last(key)?;
        }
        let rows = self.tied(cut, key).iter().fold(0_u32, |rows, slot| {
            rows.saturating_add(u32::try_from(self.store.get(*slot).weight).unwrap_or(u32::MAX))
        });
        let Counts { ahead, last, .. } = &mut self.track(key).counts;
        match cut.function {
            RankFunction::Rank => (*ahead, *last) = (ahead.saturating_sub(rows), rows),
            _ => *last -= 1,
        }
        Ok(())
    }

    /// The slots of the last rank that is kept, the last first.
    fn tied(&self, cut: Cut, key: u32) -> Vec<u32> {
        let counts = self.counts(cut, key);
        let slots = (0..counts.live).map_while(|back| self.kept(key, counts, back));
        let Some(last) = self.kept(key, counts, 0) else { return Vec::new() };
        slots.take_while(|slot| self.compare_keys(*slot, last).is_eq()).collect()
    }

    /// Lets the last slot go, for good unless it was there before the step.
    fn drop_last(&mut self, key: u32) -> Result<(), ArrowError> {
        let track = self.track(key);
        let Some(place) = track.counts.live.checked_sub(1) else { return Ok(()) };
        let spot = track.list.slots().spot(place as usize);
        let Some(slot) = track.list.slots().get(spot) else { return Ok(()) };
        track.counts.live = place;
        let (weight, was) = (self.store.get(slot).weight, self.store.get(slot).was);
        if was == 0 {
            self.touch(slot)?;
            self.track(key).list.remove(spot);
            self.store.forget(slot);
            return Ok(());
        }
        self.track(key).list.changed(spot);
        self.weigh(slot, -weight)
    }
}

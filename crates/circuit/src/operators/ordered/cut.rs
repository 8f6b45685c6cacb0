//! Keeping the first rows of each key alone, where rows are never taken back.
//!
//! What is kept of a key is a multiset of rows that only gets better: a row that did not make it never will. So the rows
//! that have gone stand behind those that are kept, and are there until the step is over only where they were there before
//! it, to be taken back.

use std::cmp::Ordering;

use arrow_schema::ArrowError;

use super::list::Spot;
use super::{Cut, Ordered, Track};
use crate::plan::RankFunction;

impl Cut {
    /// More rows of a key are kept as if all were wanted.
    pub const TO_MAX: u32 = u32::MAX / 4;

    /// Whether rows behind the last one that is kept are turned away.
    fn is_full(self, track: &Track) -> bool {
        match self.function {
            RankFunction::RowNumber => track.ahead >= self.to,
            RankFunction::Rank => track.ahead.saturating_add(track.last) >= self.to,
            RankFunction::DenseRank => track.last >= self.to,
        }
    }

    /// Whether the last rows that are kept are too many.
    fn is_over(self, track: &Track) -> bool {
        match self.function {
            RankFunction::RowNumber => track.ahead > self.to,
            RankFunction::Rank => track.ahead >= self.to,
            RankFunction::DenseRank => track.last > self.to,
        }
    }
}

impl Ordered {
    /// Takes a row of an open chunk if it is among the first of its key.
    pub(super) fn take_first(
        &mut self,
        cut: Cut,
        key: u32,
        prefix: u128,
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
                let list = &mut self.tracks[key as usize].list;
                list.changed(spot);
                let Some(slot) = list.get(spot) else { return Ok(()) };
                self.weigh(slot, weight)?;
                self.count(cut, key, slot, weight, false);
            }
            Err(spot) => {
                let slot = self.keep(key, prefix, chunk, row, weight);
                let opens_rank = cut.function != RankFunction::RowNumber && self.opens_rank(key, spot, slot);
                self.count(cut, key, slot, weight, opens_rank);
                let track = &mut self.tracks[key as usize];
                track.list.insert(spot, slot);
                track.live += 1;
            }
        }
        while cut.is_over(&self.tracks[key as usize]) {
            self.trim(cut, key)?;
        }
        Ok(())
    }

    /// Whether a row comes behind all that are kept, and there is no room for it.
    fn turns_away(&self, cut: Cut, key: u32, prefix: u128, chunk: u32, row: usize) -> bool {
        let track = &self.tracks[key as usize];
        if !cut.is_full(track) {
            return false;
        }
        let Some(last) = self.kept(track, 0) else { return false };
        let (last, place) = (self.store.place(last), self.store.open_place(chunk, row, prefix));
        match cut.function {
            RankFunction::RowNumber => self.layout.order.compare(place, last).is_ge(),
            RankFunction::Rank | RankFunction::DenseRank => self.layout.order.compare_keys(place, last).is_gt(),
        }
    }

    /// The slot so many before the last one that is kept.
    fn kept(&self, track: &Track, back: u32) -> Option<u32> {
        track.list.get(track.list.spot(track.live.checked_sub(back + 1)? as usize))
    }

    /// How the order puts two rows.
    fn compare_keys(&self, one: u32, other: u32) -> Ordering {
        self.layout.order.compare_keys(self.store.place(one), self.store.place(other))
    }

    /// Whether a slot that belongs at a spot has a rank of its own.
    fn opens_rank(&self, key: u32, spot: Spot, slot: u32) -> bool {
        let list = &self.tracks[key as usize].list;
        let (before, after) = (list.before(spot).and_then(|spot| list.get(spot)), list.at_or_after(spot));
        ![before, after].into_iter().flatten().any(|other| self.compare_keys(other, slot).is_eq())
    }

    /// Counts rows that have come to a slot, before a new one is in the list.
    fn count(&mut self, cut: Cut, key: u32, slot: u32, weight: i64, opens_rank: bool) {
        let rows = u32::try_from(weight).unwrap_or(u32::MAX);
        let last = self.kept(&self.tracks[key as usize], 0);
        let behind = match (cut.function, last) {
            (RankFunction::Rank, Some(last)) => self.compare_keys(slot, last),
            _ => Ordering::Equal,
        };
        let track = &mut self.tracks[key as usize];
        match (cut.function, behind) {
            (RankFunction::DenseRank, _) => track.last += u32::from(opens_rank),
            (RankFunction::RowNumber, _) | (RankFunction::Rank, Ordering::Less) => {
                track.ahead = track.ahead.saturating_add(rows);
            }
            (RankFunction::Rank, Ordering::Equal) => track.last = track.last.saturating_add(rows),
            (RankFunction::Rank, Ordering::Greater) => {
                (track.ahead, track.last) = (track.ahead.saturating_add(track.last), rows);
            }
        }
    }

    /// Lets the last rows go, as many as are too many or all of the last rank.
    fn trim(&mut self, cut: Cut, key: u32) -> Result<(), ArrowError> {
        let track = &mut self.tracks[key as usize];
        if cut.function == RankFunction::RowNumber {
            let spot = track.list.spot(track.live.saturating_sub(1) as usize);
            let Some(last) = track.list.get(spot) else { return Ok(()) };
            let there = u32::try_from(self.store.get(last).weight).unwrap_or(u32::MAX);
            let gone = there.min(track.ahead - cut.to);
            track.ahead -= gone;
            if gone == there {
                return self.drop_last(key);
            }
            track.list.changed(spot);
            return self.weigh(last, -i64::from(gone));
        }
        for _ in 0..self.tied(key).len() {
            self.drop_last(key)?;
        }
        let rows = self.tied(key).iter().fold(0_u32, |rows, slot| {
            rows.saturating_add(u32::try_from(self.store.get(*slot).weight).unwrap_or(u32::MAX))
        });
        let track = &mut self.tracks[key as usize];
        match cut.function {
            RankFunction::Rank => (track.ahead, track.last) = (track.ahead.saturating_sub(rows), rows),
            _ => track.last -= 1,
        }
        Ok(())
    }

    /// The slots of the last rank that is kept, the last first.
    fn tied(&self, key: u32) -> Vec<u32> {
        let track = &self.tracks[key as usize];
        let slots = (0..track.live).map_while(|back| self.kept(track, back));
        let Some(last) = self.kept(track, 0) else { return Vec::new() };
        slots.take_while(|slot| self.compare_keys(*slot, last).is_eq()).collect()
    }

    /// Lets the last slot go, for good unless it was there before the step.
    fn drop_last(&mut self, key: u32) -> Result<(), ArrowError> {
        let track = &mut self.tracks[key as usize];
        let Some(place) = track.live.checked_sub(1) else { return Ok(()) };
        let spot = track.list.spot(place as usize);
        let Some(slot) = track.list.get(spot) else { return Ok(()) };
        track.live = place;
        let (weight, was) = (self.store.get(slot).weight, self.store.get(slot).was);
        if was == 0 {
            self.touch(slot)?;
            self.tracks[key as usize].list.remove(spot);
            self.store.forget(slot);
            return Ok(());
        }
        self.tracks[key as usize].list.changed(spot);
        self.weigh(slot, -weight)
    }
}

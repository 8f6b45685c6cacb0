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
    /// Whether rows behind the last one that is kept are turned away.
    fn is_full(self, track: &Track) -> bool {
        match self.function {
            RankFunction::RowNumber | RankFunction::Rank => track.rows >= self.to,
            RankFunction::DenseRank => track.last >= self.to,
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
        let spot = match self.search(key, prefix, chunk, row) {
            Ok(spot) => {
                let list = &mut self.tracks[key as usize].list;
                list.changed(spot);
                let Some(slot) = list.get(spot) else { return Ok(()) };
                self.weigh(slot, weight)?;
                spot
            }
            Err(spot) => {
                let slot = self.keep(key, prefix, chunk, row, weight);
                self.insert_first(cut, key, spot, slot);
                spot
            }
        };
        let is_last = cut.function == RankFunction::Rank && self.is_of_last_rank(key, spot);
        let track = &mut self.tracks[key as usize];
        track.rows += weight as u64;
        if is_last {
            track.last += weight as u64;
        }
        self.trim(cut, key)
    }

    /// Whether a row comes behind all that are kept, and there is no room for it.
    fn turns_away(&self, cut: Cut, key: u32, prefix: u128, chunk: u32, row: usize) -> bool {
        let track = &self.tracks[key as usize];
        if !cut.is_full(track) {
            return false;
        }
        let Some(last) = self.last(track) else { return false };
        let (last, place) = (self.store.place(last), self.store.open_place(chunk, row, prefix));
        match cut.function {
            RankFunction::RowNumber => self.layout.order.compare(place, last).is_ge(),
            RankFunction::Rank | RankFunction::DenseRank => self.layout.order.compare_keys(place, last).is_gt(),
        }
    }

    /// The last slot that is kept.
    fn last(&self, track: &Track) -> Option<u32> {
        track.list.get(track.list.spot(track.live.checked_sub(1)?))
    }

    /// Whether two rows have one rank.
    fn is_tied(&self, one: u32, other: u32) -> bool {
        self.layout.order.compare_keys(self.store.place(one), self.store.place(other)) == Ordering::Equal
    }

    /// Puts a new slot where it belongs, among those that are kept.
    fn insert_first(&mut self, cut: Cut, key: u32, spot: Spot, slot: u32) {
        let track = &self.tracks[key as usize];
        let (before, after) =
            (track.list.before(spot).and_then(|spot| track.list.get(spot)), track.list.at_or_after(spot));
        let last = self.last(track);
        let opens_rank = ![before, after].iter().flatten().any(|other| self.is_tied(*other, slot));
        // All that are kept come before it.
        let behind = last
            .is_none_or(|last| self.layout.order.compare_keys(self.store.place(last), self.store.place(slot)).is_lt());
        let track = &mut self.tracks[key as usize];
        track.list.insert(spot, slot);
        track.live += 1;
        match cut.function {
            RankFunction::RowNumber => {}
            RankFunction::Rank if behind => track.last = 0,
            RankFunction::Rank => {}
            RankFunction::DenseRank => track.last += u64::from(opens_rank),
        }
    }

    /// Whether the slot at a spot has the last rank that is kept.
    fn is_of_last_rank(&self, key: u32, spot: Spot) -> bool {
        let track = &self.tracks[key as usize];
        let tied = track.list.get(spot).zip(self.last(track)).map(|(slot, last)| self.is_tied(slot, last));
        tied.unwrap_or(false)
    }

    /// Lets the last rows go while there are too many.
    fn trim(&mut self, cut: Cut, key: u32) -> Result<(), ArrowError> {
        loop {
            let track = &self.tracks[key as usize];
            let Some(last) = self.last(track) else { return Ok(()) };
            match cut.function {
                RankFunction::RowNumber if track.rows > cut.to => {
                    let (excess, there) = (track.rows - cut.to, self.store.get(last).weight);
                    let gone = there.min(i64::try_from(excess).unwrap_or(i64::MAX));
                    self.tracks[key as usize].rows -= gone as u64;
                    match gone == there {
                        true => self.drop_last(key)?,
                        false => {
                            let track = &mut self.tracks[key as usize];
                            let spot = track.list.spot(track.live - 1);
                            track.list.changed(spot);
                            self.weigh(last, -gone)?;
                        }
                    }
                }
                RankFunction::Rank if track.rows - track.last >= cut.to => self.drop_last_rank(key)?,
                RankFunction::DenseRank if track.last > cut.to => self.drop_last_rank(key)?,
                _ => return Ok(()),
            }
        }
    }

    /// Lets all rows of the last rank go.
    fn drop_last_rank(&mut self, key: u32) -> Result<(), ArrowError> {
        let Some(of) = self.last(&self.tracks[key as usize]) else { return Ok(()) };
        // One of the rank stays until the others are known.
        let mut tied = 0;
        while let Some(before) = self.before_last(key, tied + 1).filter(|before| self.is_tied(*before, of)) {
            debug_assert_ne!(before, of);
            tied += 1;
        }
        for _ in 0..=tied {
            let Some(last) = self.last(&self.tracks[key as usize]) else { break };
            self.tracks[key as usize].rows -= self.store.get(last).weight.max(0) as u64;
            self.drop_last(key)?;
        }
        self.count_last(key);
        Ok(())
    }

    /// The slot so many before the last one.
    fn before_last(&self, key: u32, back: usize) -> Option<u32> {
        let track = &self.tracks[key as usize];
        track.list.get(track.list.spot(track.live.checked_sub(back + 1)?))
    }

    /// What is known of the last rank, which is another one now.
    fn count_last(&mut self, key: u32) {
        match self.layout.cut {
            Some(Cut { function: RankFunction::DenseRank, .. }) => self.tracks[key as usize].last -= 1,
            Some(Cut { function: RankFunction::Rank, .. }) => {
                let (mut rows, mut back) = (0, 0);
                let of = self.last(&self.tracks[key as usize]);
                while let Some(slot) =
                    self.before_last(key, back).filter(|slot| of.is_some_and(|of| self.is_tied(*slot, of)))
                {
                    rows += self.store.get(slot).weight.max(0) as u64;
                    back += 1;
                }
                self.tracks[key as usize].last = rows;
            }
            _ => {}
        }
    }

    /// Lets the last slot go, for good unless it was there before the step.
    fn drop_last(&mut self, key: u32) -> Result<(), ArrowError> {
        let track = &self.tracks[key as usize];
        let Some(place) = track.live.checked_sub(1) else { return Ok(()) };
        let spot = track.list.spot(place);
        let Some(slot) = track.list.get(spot) else { return Ok(()) };
        let (weight, was) = (self.store.get(slot).weight, self.store.get(slot).was);
        self.tracks[key as usize].live -= 1;
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

//! [`Tracks`]: what is known of each key.
//!
//! Between steps most keys have one row, and then its slot is all that is kept of them: four bytes. Other keys have a
//! [`Track`], and so have all that change in a step.

use super::list::{List, Slots};
use super::store::NONE;
use super::{Cut, grow};
use crate::plan::RankFunction;

/// The first number that names a track, and not the slot of a row.
const TRACKED: u32 = 1 << 31;

/// How many rows of a key are kept, with a [`Cut`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// How many slots are kept; those behind have gone.
    pub live: u32,
    /// By ROW_NUMBER the rows that are kept, by RANK those before the last rank.
    pub ahead: u32,
    /// By RANK the rows of the last rank, by DENSE_RANK the ranks.
    pub last: u32,
}

impl Counts {
    /// Those of a row that is there so many times.
    pub fn of_one(cut: Cut, weight: i64) -> Self {
        let rows = u32::try_from(weight).unwrap_or(u32::MAX);
        match cut.function {
            RankFunction::RowNumber => Counts { live: 1, ahead: rows, last: 0 },
            RankFunction::Rank => Counts { live: 1, ahead: 0, last: rows },
            RankFunction::DenseRank => Counts { live: 1, ahead: 0, last: 1 },
        }
    }
}

/// What is known of a key that changes, or that has several rows.
#[derive(Default)]
pub(super) struct Track {
    /// Its rows, and those that have gone in this step.
    pub list: List,
    pub counts: Counts,
    /// Whether it is among those that have changed in this step.
    pub changed: bool,
}

/// What is known of each key.
#[derive(Default)]
pub(super) struct Tracks {
    /// Of each key nothing, its only slot, or which track it has.
    heads: Vec<u32>,
    tracks: Vec<Track>,
    /// Tracks of no key.
    spare: Vec<u32>,
}

impl Tracks {
    /// The number of keys there is room for.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Makes room for so many keys.
    pub fn resize(&mut self, keys: usize) {
        if self.heads.len() < keys {
            grow(&mut self.heads, keys);
            self.heads.resize(keys, NONE);
        }
    }

    /// The slots of a key.
    #[inline]
    pub fn slots(&self, key: u32) -> Slots<'_> {
        let head = &self.heads[key as usize];
        match *head {
            NONE => Slots::Few(&[]),
            slot if slot < TRACKED => Slots::Few(std::slice::from_ref(head)),
            number => self.tracks[(number - TRACKED) as usize].list.slots(),
        }
    }

    /// The only slot of a key that has no track.
    #[inline]
    pub fn only(&self, key: u32) -> Option<u32> {
        Some(self.heads[key as usize]).filter(|slot| *slot < TRACKED)
    }

    /// The track of a key, if it has one.
    #[inline]
    pub fn get(&self, key: u32) -> Option<&Track> {
        match self.heads[key as usize] {
            NONE => None,
            number => self.tracks.get(number.checked_sub(TRACKED)? as usize),
        }
    }

    /// The track of a key; one that has none gets it, with counts from those of its only slot.
    #[inline]
    pub fn open(&mut self, key: u32, counts: impl FnOnce(u32) -> Counts) -> &mut Track {
        let head = self.heads[key as usize];
        if head == NONE || head < TRACKED {
            let number = self.spare.pop().unwrap_or(self.tracks.len() as u32);
            if number as usize == self.tracks.len() {
                self.tracks.push(Track::default());
            }
            self.heads[key as usize] = TRACKED + number;
            let track = &mut self.tracks[number as usize];
            if head != NONE {
                (track.list, track.counts) = (List::of(head), counts(head));
            }
            return track;
        }
        &mut self.tracks[(head - TRACKED) as usize]
    }

    /// The step is over: a key with one row or none needs no track.
    pub fn close(&mut self, key: u32) {
        let Some(list) = self.get(key).map(|track| &track.list) else { return };
        let head = if list.is_empty() { NONE } else { list.only().filter(|slot| *slot < TRACKED).unwrap_or(TRACKED) };
        if head != TRACKED {
            self.take(key);
            self.heads[key as usize] = head;
        }
    }

    /// Forgets what is known of a key, and returns its slots.
    pub fn take(&mut self, key: u32) -> List {
        match std::mem::replace(&mut self.heads[key as usize], NONE) {
            NONE => List::default(),
            slot if slot < TRACKED => List::of(slot),
            number => {
                self.spare.push(number - TRACKED);
                std::mem::take(&mut self.tracks[(number - TRACKED) as usize]).list
            }
        }
    }

    /// Bytes held, by capacity, without what lists hold on the heap.
    pub fn bytes(&self) -> usize {
        4 * (self.heads.capacity() + self.spare.capacity()) + self.tracks.capacity() * size_of::<Track>()
    }
}

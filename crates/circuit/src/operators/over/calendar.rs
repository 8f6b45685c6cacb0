//! [`Calendar`]: keys by the time at which something of them can go.
//!
//! Times come nearly in order and leave in order, as a clock passes them. They lie in pages of equal length; a page is put in
//! order when the clock gets to it, so that a time costs no more than a place at the end of a list and its share of a sort.

use std::collections::BTreeMap;

use crate::operators::time::floor;

/// Into so many pages the reach of a frame is cut.
const PAGES: i64 = 1_024;

/// Keys by times.
#[derive(Debug)]
pub(super) struct Calendar {
    /// The length of a page.
    page: i64,
    /// The times of the first page, the next one last.
    first: Vec<(i64, u32)>,
    /// The end of the first page: no later one has a time before it.
    end: i64,
    /// The later pages, by their first time.
    later: BTreeMap<i64, Vec<(i64, u32)>>,
    entries: usize,
}

impl Calendar {
    /// An empty calendar for frames that reach so far back.
    pub fn new(reach: i64) -> Self {
        let page = (reach / PAGES).max(1);
        Calendar { page, first: Vec::new(), end: i64::MIN, later: BTreeMap::new(), entries: 0 }
    }

    /// Notes a key at a time.
    pub fn push(&mut self, time: i64, key: u32) {
        self.entries += 1;
        if time < self.end {
            let place = self.first.partition_point(|other| *other > (time, key));
            self.first.insert(place, (time, key));
            return;
        }
        let start = if self.page == 1 { time } else { floor(time, self.page, 0) };
        self.later.entry(start).or_default().push((time, key));
    }

    /// Takes the next key out whose time is before `bound`, and its time; before the end of time every one is.
    pub fn pop(&mut self, bound: i64) -> Option<(i64, u32)> {
        if self.first.is_empty() {
            let start = *self.later.keys().next().filter(|start| **start < bound || bound == i64::MAX)?;
            self.first = self.later.remove(&start)?;
            self.first.sort_unstable_by(|one, other| other.cmp(one));
            self.end = start.saturating_add(self.page);
        }
        let next = self.first.pop_if(|(time, _)| *time < bound || bound == i64::MAX);
        self.entries -= usize::from(next.is_some());
        next
    }

    /// About how many bytes are held.
    pub fn bytes(&self) -> u64 {
        (self.entries * size_of::<(i64, u32)>() * 3 / 2 + self.later.len() * 48) as u64
    }
}

#[cfg(test)]
mod tests {
    use tidemill_base::rand::Rng;

    use super::*;

    fn check(seed: u64) {
        let mut rng = Rng::seeded(seed);
        let mut calendar = Calendar::new([0, 5_000, 100_000][rng.below(3) as usize]);
        let (mut noted, mut clock) = (Vec::new(), -300);
        for key in 0..500 {
            let time = clock + rng.below(900) as i64 - 200;
            calendar.push(time, key);
            noted.push((time, key));
            if rng.chance(1, 3) {
                clock += rng.below(400) as i64;
            }
            let bound = if key == 499 { i64::MAX } else { clock };
            let mut popped: Vec<(i64, u32)> = std::iter::from_fn(|| calendar.pop(bound)).collect();
            popped.sort_unstable();
            let mut expected: Vec<(i64, u32)> = noted.clone();
            expected.retain(|(time, _)| *time < bound);
            expected.sort_unstable();
            assert_eq!(popped, expected, "seed {seed}, clock {clock}");
            noted.retain(|(time, _)| *time >= bound);
        }
        assert_eq!(calendar.entries, 0);
    }

    #[test]
    fn what_the_clock_passes_is_taken_out_and_nothing_else() {
        (0..50).for_each(check);
    }
}

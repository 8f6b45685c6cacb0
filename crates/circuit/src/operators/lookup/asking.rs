//! [`Asking`]: rows for which every row that matches is found, a chunk of pairs at a time.
//!
//! One row may match millions, so what is found for rows is never all written down: it is walked, and left wherever a chunk
//! is full.

use super::join::Found;
use crate::delta::{DELTA_ROWS_MAX, Delta};

/// A row by its place, and one that is found for it; none says that those before are all.
pub(in crate::operators) type Pick = (u32, Option<u32>);

/// Rows, and how far they are answered.
pub(in crate::operators) struct Asking {
    delta: Delta,
    /// The key of each row, where it is known.
    keys: Found,
    /// The row that is next, and how many of those with its key have been told.
    row: usize,
    told: usize,
    /// Whether the row has come out, or has failed, with one of them.
    met: bool,
}

impl Asking {
    /// Rows with these keys, none of them answered.
    pub fn new(delta: Delta, keys: Found) -> Self {
        Asking { delta, keys, row: 0, told: 0, met: false }
    }

    /// The rows.
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// Whether all rows are answered.
    pub fn is_answered(&self) -> bool {
        self.row == self.keys.len()
    }

    /// The next picks; `found` are those of a key from a number on.
    pub fn next<I: Iterator<Item = u32>>(&mut self, found: impl Fn(u32, usize) -> I) -> Vec<Pick> {
        let mut picks = Vec::with_capacity(DELTA_ROWS_MAX.min(2 * (self.keys.len() - self.row)));
        while let Some(key) = self.keys.get(self.row).copied() {
            let told = self.told;
            for found in key.into_iter().flat_map(|key| found(key, told)) {
                if picks.len() == DELTA_ROWS_MAX {
                    return picks;
                }
                picks.push((self.row as u32, Some(found)));
                self.told += 1;
            }
            if picks.len() == DELTA_ROWS_MAX {
                return picks;
            }
            picks.push((self.row as u32, None));
            (self.row, self.told) = (self.row + 1, 0);
        }
        picks
    }

    /// The picks that stay: pairs that are `(kept, _)`, and rows alone that have been in no pair that is kept or has
    /// `(_, failed)`.
    pub fn told(&mut self, picks: Vec<Pick>, mut pair: impl FnMut(usize) -> (bool, bool)) -> Vec<Pick> {
        let mut pairs = 0..;
        let mut stays = |(_, found): &Pick| match found.and_then(|_| pairs.next()) {
            Some(number) => {
                let (kept, failed) = pair(number);
                self.met |= kept || failed;
                kept
            }
            None => !std::mem::take(&mut self.met),
        };
        picks.into_iter().filter(|pick| stays(pick)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn asking(keys: Vec<Option<u32>>) -> Asking {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; keys.len()]));
        let batch = RecordBatch::try_from_iter([("x", column)]).expect("one column");
        Asking::new(Delta::inserts(batch), keys)
    }

    #[test]
    fn what_is_found_is_walked_chunk_by_chunk() {
        let counts = [0, 3, 20_000, 1];
        let mut asking = asking(vec![Some(1), None, Some(2), Some(2), Some(0), Some(3)]);
        let (mut all, mut chunks) = (Vec::new(), 0);
        while !asking.is_answered() {
            let picks = asking.next(|key, from| from as u32..counts[key as usize]);
            assert!(picks.len() <= DELTA_ROWS_MAX);
            all.extend(picks);
            chunks += 1;
        }
        let of = |row: u32, count: u32| (0..count).map(move |found| (row, Some(found))).chain([(row, None)]);
        let expected =
            of(0, 3).chain(of(1, 0)).chain(of(2, 20_000)).chain(of(3, 20_000)).chain(of(4, 0)).chain(of(5, 1));
        assert!(all.into_iter().eq(expected));
        assert_eq!(chunks, 40_010_usize.div_ceil(DELTA_ROWS_MAX));
    }

    #[test]
    fn a_row_stays_alone_when_nothing_was_kept_of_it_in_any_chunk() {
        let mut asking = asking(vec![]);
        let kept = [true, false, false];
        assert_eq!(asking.told(vec![(0, Some(7)), (0, Some(8))], |pair| (kept[pair], false)), [(0, Some(7))]);
        assert_eq!(asking.told(vec![(0, Some(9)), (0, None)], |_| (false, false)), []);
        assert_eq!(asking.told(vec![(1, Some(7)), (1, None), (2, None)], |_| (false, false)), [(1, None), (2, None)]);
        assert_eq!(asking.told(vec![(3, Some(7)), (3, None)], |_| (false, true)), [], "it has failed");
    }
}

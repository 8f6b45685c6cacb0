//! [`Census`]: a sum over all that an operator keeps, of which each asking counts a part anew.
//!
//! How much is held is asked for many times a second. To look at every key each time would hold up the requests that wait,
//! and longer the more keys there are; a sixteenth of them each time is known well enough.

use std::cell::RefCell;

/// So many items are counted together.
const PART: usize = 4_096;

/// After so many sums everything was counted anew.
const TURNS: usize = 16;

/// What parts of a list came to when they were last counted.
#[derive(Debug, Default)]
pub(crate) struct Census {
    counted: RefCell<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// Full parts alone: what is left is counted each time.
    parts: Vec<u64>,
    /// The part that was counted last.
    last: usize,
}

impl Census {
    /// The sum of `of` over all items, as each stood at one of the last sixteen times this was asked; items that were not
    /// there then are counted now, and up to some thousands all are.
    pub fn sum<T>(&self, items: &[T], of: impl Fn(&T) -> u64) -> u64 {
        let mut counted = self.counted.borrow_mut();
        let Counted { parts, last } = &mut *counted;
        let (full, rest) = items.as_chunks::<PART>();
        let count = |part: &[T]| part.iter().map(&of).sum::<u64>();
        parts.truncate(full.len());
        for _ in 0..parts.len().div_ceil(TURNS) {
            *last = (*last + 1) % parts.len();
            parts[*last] = count(&full[*last]);
        }
        let new = full.iter().skip(parts.len()).map(|part| count(part));
        parts.extend(new);
        parts.iter().sum::<u64>() + count(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_items_are_counted_each_time() {
        let census = Census::default();
        for items in [vec![], vec![1], vec![2, 3], vec![5; PART - 1], vec![1]] {
            assert_eq!(census.sum(&items, |item| *item), items.iter().sum::<u64>());
        }
    }

    #[test]
    fn many_items_are_counted_in_turns() {
        let (census, mut items) = (Census::default(), vec![1_u64; 100 * PART]);
        assert_eq!(census.sum(&items, |item| *item), items.len() as u64);
        items.iter_mut().for_each(|item| *item = 3);
        let sums: Vec<u64> = (0..TURNS).map(|_| census.sum(&items, |item| *item)).collect();
        assert!(sums.is_sorted() && sums[0] < items.len() as u64 * 3 / 2, "{sums:?}");
        assert_eq!(sums[TURNS - 1], 3 * items.len() as u64);
    }

    #[test]
    fn items_that_come_and_go_are_noticed_at_once() {
        let (census, mut items) = (Census::default(), vec![1_u64; 10 * PART + 7]);
        for len in [items.len(), 20 * PART, 20 * PART + 1, 3 * PART, 0, 5 * PART] {
            items.resize(len, 1);
            assert_eq!(census.sum(&items, |item| *item), len as u64);
        }
    }
}

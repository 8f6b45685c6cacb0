//! [`List`]: the rows of one key in their order, as slots.
//!
//! Most keys have few rows, which lie in the list itself. Many lie in blocks of at most [`BLOCK`], so that a row comes in
//! or goes in the middle of a million others at the price of a block and a walk over the blocks' borders. A block knows
//! how many rows it had when the step began and whether it has changed since, so that what did not change is passed over
//! in a leap.

use std::cmp::Ordering;

/// As many slots lie in the list itself, which takes no more memory than a vector for them.
const FEW: usize = 3;

const _: () = assert!(size_of::<List>() == size_of::<Vec<u32>>());

/// The most slots of a block.
const BLOCK: usize = 1_024;

/// Slots in order.
#[derive(Debug)]
pub(crate) enum List {
    /// Few.
    Few([u32; FEW], u8),
    /// Many, in blocks of which none is empty.
    Many(Vec<Block>),
}

/// A run of slots.
#[derive(Debug)]
pub(crate) struct Block {
    slots: Vec<u32>,
    rows: u64,
    changed: bool,
}

/// Where a slot is or belongs: in which block, and where in it.
pub(crate) type Spot = (usize, usize);

impl Default for List {
    fn default() -> Self {
        List::Few([0; FEW], 0)
    }
}

/// The slots of a list, to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slots<'a> {
    /// Few.
    Few(&'a [u32]),
    /// Many, in blocks of which none is empty.
    Many(&'a [Block]),
}

impl<'a> Slots<'a> {
    /// The slots, run by run: each with the rows it had when the step began, none when that has changed since.
    pub fn runs(self) -> impl Iterator<Item = (&'a [u32], Option<u64>)> {
        let (few, many): (&[u32], &[Block]) = match self {
            Slots::Few(slots) => (slots, &[]),
            Slots::Many(blocks) => (&[], blocks),
        };
        let few = (!few.is_empty()).then_some((few, None));
        few.into_iter().chain(many.iter().map(|block| (&block.slots[..], (!block.changed).then_some(block.rows))))
    }

    /// The slots.
    pub fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.runs().flat_map(|(slots, _)| slots.iter().copied())
    }

    /// The slot at a spot.
    pub fn get(self, (block, place): Spot) -> Option<u32> {
        match self {
            Slots::Few(slots) => slots.get(place).copied(),
            Slots::Many(blocks) => blocks.get(block)?.slots.get(place).copied(),
        }
    }

    /// The spot of the slot of this number, or that behind the last one.
    pub fn spot(self, number: usize) -> Spot {
        let Slots::Many(blocks) = self else { return (0, number) };
        let mut left = number;
        for (block, Block { slots, .. }) in blocks.iter().enumerate() {
            if left < slots.len() {
                return (block, left);
            }
            left -= slots.len();
        }
        let last = blocks.len() - 1;
        (last, blocks[last].slots.len())
    }

    /// The spot before one.
    pub fn before(self, (block, place): Spot) -> Option<Spot> {
        match (place, self) {
            (1.., _) => Some((block, place - 1)),
            (0, Slots::Many(blocks)) if block > 0 => Some((block - 1, blocks[block - 1].slots.len() - 1)),
            _ => None,
        }
    }

    /// The first slot at or behind a spot.
    pub fn at_or_after(self, (block, place): Spot) -> Option<u32> {
        self.get((block, place)).or_else(|| self.get((block + 1, 0)).filter(|_| matches!(self, Slots::Many(_))))
    }

    /// Where the slot is that compares as equal, or where it belongs; `compare` says how a slot stands to it.
    pub fn search(self, mut compare: impl FnMut(u32) -> Ordering) -> Result<Spot, Spot> {
        let mut within = |slots: &[u32]| slots.binary_search_by(|slot| compare(*slot));
        match self {
            Slots::Few(slots) => within(slots).map(|place| (0, place)).map_err(|place| (0, place)),
            Slots::Many(blocks) => {
                // The last block whose first slot does not come behind.
                let (mut low, mut high) = (0, blocks.len());
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    match within(&blocks[middle].slots[..1]) {
                        Ok(_) => return Ok((middle, 0)),
                        Err(0) => high = middle,
                        Err(_) => low = middle,
                    }
                }
                within(&blocks[low].slots).map(|place| (low, place)).map_err(|place| (low, place))
            }
        }
    }
}

impl List {
    /// The list of one slot.
    pub fn of(slot: u32) -> Self {
        List::Few([slot, 0, 0], 1)
    }

    /// The slots.
    pub fn slots(&self) -> Slots<'_> {
        match self {
            List::Few(slots, count) => Slots::Few(&slots[..usize::from(*count)]),
            List::Many(blocks) => Slots::Many(blocks),
        }
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        matches!(self, List::Few(_, 0))
    }

    /// The only slot.
    pub fn only(&self) -> Option<u32> {
        if let List::Few([slot, ..], 1) = self { Some(*slot) } else { None }
    }

    /// Puts a slot where it belongs.
    pub fn insert(&mut self, (block, place): Spot, slot: u32) {
        match self {
            List::Few(slots, count) if usize::from(*count) < FEW => {
                let end = usize::from(*count) + 1;
                slots[place..end].rotate_right(1);
                slots[place] = slot;
                *count += 1;
            }
            List::Few(slots, _) => {
                let mut slots = slots.to_vec();
                slots.insert(place, slot);
                *self = List::Many(vec![Block { slots, rows: 0, changed: true }]);
            }
            List::Many(blocks) => {
                let run = &mut blocks[block];
                run.changed = true;
                run.slots.insert(place, slot);
                if run.slots.len() > BLOCK {
                    let at_end = place + 1 == run.slots.len();
                    // Rows that come in order leave full blocks behind.
                    let slots = run.slots.split_off(if at_end { BLOCK } else { BLOCK / 2 });
                    blocks.insert(block + 1, Block { slots, rows: 0, changed: true });
                }
            }
        }
    }

    /// Takes a slot out.
    pub fn remove(&mut self, (block, place): Spot) {
        match self {
            List::Few(slots, count) => {
                slots[place..usize::from(*count)].rotate_left(1);
                *count -= 1;
            }
            List::Many(blocks) => {
                let run = &mut blocks[block];
                run.changed = true;
                run.slots.remove(place);
                if run.slots.is_empty() {
                    blocks.remove(block);
                }
                if blocks.is_empty() {
                    *self = List::default();
                }
            }
        }
    }

    /// The slot at a spot has other rows than before.
    pub fn changed(&mut self, (block, _): Spot) {
        if let List::Many(blocks) = self {
            blocks[block].changed = true;
        }
    }

    /// The step is over: counts the rows of the blocks that have changed.
    pub fn settle(&mut self, rows_of: impl Fn(u32) -> u64) {
        let List::Many(blocks) = self else { return };
        for block in blocks.iter_mut().filter(|block| block.changed) {
            block.rows = block.slots.iter().map(|slot| rows_of(*slot)).sum();
            block.changed = false;
        }
        if let [Block { slots, .. }] = &blocks[..]
            && slots.len() < FEW
        {
            let mut few = [0; FEW];
            few[..slots.len()].copy_from_slice(slots);
            *self = List::Few(few, slots.len() as u8);
        }
    }

    /// Bytes held on the heap.
    pub fn bytes(&self) -> u64 {
        let List::Many(blocks) = self else { return 0 };
        let slots: usize = blocks.iter().map(|block| 4 * block.slots.capacity()).sum();
        (slots + blocks.capacity() * size_of::<Block>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use tidemill_base::rand::Rng;

    use super::*;

    /// Numbers that come and go, beside a sorted vector.
    fn check(seed: u64, numbers: u64, steps: usize) {
        let mut rng = Rng::seeded(seed);
        let (mut list, mut naive) = (List::default(), Vec::<u32>::new());
        for step in 0..steps {
            let shrinking = step > steps * 2 / 3;
            let number = rng.below(numbers) as u32;
            match (list.slots().search(|slot| slot.cmp(&number)), naive.binary_search(&number)) {
                (Ok(spot), Ok(place)) => {
                    assert_eq!((list.slots().get(spot), list.slots().spot(place)), (Some(number), spot), "seed {seed}");
                    let before = place.checked_sub(1).map(|place| naive[place]);
                    assert_eq!(
                        list.slots().before(spot).and_then(|spot| list.slots().get(spot)),
                        before,
                        "seed {seed}"
                    );
                    if shrinking || rng.chance(1, 3) {
                        list.remove(spot);
                        naive.remove(place);
                    }
                }
                (Err(spot), Err(place)) => {
                    assert_eq!(list.slots().at_or_after(spot), naive.get(place).copied(), "seed {seed}");
                    if !shrinking || rng.chance(1, 9) {
                        list.insert(spot, number);
                        naive.insert(place, number);
                    }
                }
                (found, expected) => panic!("seed {seed}: {found:?}, not {expected:?}"),
            }
            if rng.chance(1, 50) {
                list.settle(u64::from);
            }
            let unchanged = list.slots().runs().filter_map(|(slots, rows)| Some((slots, rows?)));
            for (slots, rows) in unchanged {
                assert_eq!(slots.iter().map(|slot| u64::from(*slot)).sum::<u64>(), rows, "seed {seed}");
            }
            assert_eq!(list.is_empty(), naive.is_empty(), "seed {seed}");
        }
        assert!(list.slots().iter().eq(naive.iter().copied()), "seed {seed}");
    }

    #[test]
    fn slots_stay_in_their_order() {
        (0..20).for_each(|seed| check(seed, 8, 200));
        (0..5).for_each(|seed| check(seed, 300, 2_000));
        check(1, 20_000, 12_000);
    }

    #[test]
    fn slots_that_come_in_order_fill_their_blocks() {
        let mut list = List::default();
        for slot in 0..10_000_u32 {
            let spot = list.slots().search(|other| other.cmp(&slot)).expect_err("it is new");
            list.insert(spot, slot);
        }
        assert_eq!(list.slots().runs().count(), 10_000_usize.div_ceil(BLOCK));
    }
}

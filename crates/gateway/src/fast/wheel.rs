//! [`Wheel`]: many time-outs at once, each set, moved and cancelled in constant time.
//!
//! Time is cut into ticks, and a ring of buckets holds a list of what is due for each of the next ticks; what is due
//! after more than one turn stays in its bucket until its turn has come. The lists are linked through one table that is
//! indexed by whose time-out it is, so nothing is allocated once that table is as long as it gets.

/// The end of a list.
const NONE: u32 = u32::MAX;

/// Time-outs, each known by a small number.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Milliseconds of a tick.
    tick: u64,
    /// The first of each bucket's list.
    buckets: Vec<u32>,
    /// A bit for each bucket that is not empty.
    occupied: Vec<u64>,
    nodes: Vec<Node>,
    /// The tick up to which everything has fired.
    now: u64,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    /// The tick at which it fires; none while it is in no list.
    due: Option<u64>,
}

impl Wheel {
    /// A wheel of `buckets` ticks of `tick` milliseconds, standing at `now` milliseconds. `buckets` is a multiple of 64.
    pub(super) fn new(tick: u64, buckets: usize, now: u64) -> Self {
        let (nodes, occupied) = (Vec::new(), vec![0; buckets / 64]);
        Wheel { tick, buckets: vec![NONE; buckets], occupied, nodes, now: now / tick }
    }

    /// Sets the time-out of `id` to `at` milliseconds or up to a tick later, instead of what it was.
    pub(super) fn set(&mut self, id: u32, at: u64) {
        self.clear(id);
        if self.nodes.len() <= id as usize {
            self.nodes.resize(id as usize + 1, Node { previous: NONE, next: NONE, due: None });
        }
        let due = at.div_ceil(self.tick).max(self.now + 1);
        let bucket = self.bucket(due);
        let next = std::mem::replace(&mut self.buckets[bucket], id);
        if next != NONE {
            self.nodes[next as usize].previous = id;
        }
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.nodes[id as usize] = Node { previous: NONE, next, due: Some(due) };
    }

    /// When the time-out of `id` fires at the earliest, in milliseconds.
    pub(super) fn due(&self, id: u32) -> Option<u64> {
        self.nodes.get(id as usize)?.due.map(|due| due * self.tick)
    }

    /// Cancels the time-out of `id`, if it has one.
    pub(super) fn clear(&mut self, id: u32) {
        let Some(Node { previous, next, due: Some(due) }) = self.nodes.get(id as usize).copied() else { return };
        let bucket = self.bucket(due);
        match previous {
            NONE => self.buckets[bucket] = next,
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if self.buckets[bucket] == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
        self.nodes[id as usize].due = None;
    }

    /// Moves on to `now` milliseconds, and adds to `fired` whose time-outs are over.
    pub(super) fn advance(&mut self, now: u64, fired: &mut Vec<u32>) {
        let now = now / self.tick;
        let turns = (now.saturating_sub(self.now)).min(self.buckets.len() as u64);
        let begin = self.now;
        self.now = self.now.max(now);
        for tick in begin + 1..=begin + turns {
            let mut id = self.buckets[self.bucket(tick)];
            while id != NONE {
                let Node { next, due, .. } = self.nodes[id as usize];
                if due.is_some_and(|due| due <= now) {
                    self.clear(id);
                    fired.push(id);
                }
                id = next;
            }
        }
    }

    /// Milliseconds at which it is worth looking again; none when there are no time-outs.
    pub(super) fn next(&self) -> Option<u64> {
        let count = self.buckets.len();
        let first = self.bucket(self.now + 1);
        let mut ahead = 0;
        while ahead < count {
            let bucket = (first + ahead) % count;
            let word = self.occupied[bucket / 64] >> (bucket % 64);
            if word != 0 {
                ahead += word.trailing_zeros() as usize;
                return (ahead < count).then(|| (self.now + 1 + ahead as u64) * self.tick);
            }
            ahead += 64 - bucket % 64;
        }
        // The word that was begun with was looked at from its middle: its lower bits are the last of the turn.
        let word = self.occupied[first / 64] & ((1 << (first % 64)) - 1);
        let bucket = first / 64 * 64 + word.trailing_zeros() as usize;
        (word != 0).then(|| (self.now + 1 + ((bucket + count - first) % count) as u64) * self.tick)
    }

    fn bucket(&self, tick: u64) -> usize {
        (tick % self.buckets.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use tidemill_base::rand::Rng;

    use super::*;

    fn fired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.advance(now, &mut fired);
        fired.sort_unstable();
        fired
    }

    #[test]
    fn fires_when_the_time_is_over_and_not_before() {
        let mut wheel = Wheel::new(10, 64, 1_000);
        wheel.set(0, 1_025);
        wheel.set(1, 1_030);
        wheel.set(2, 9_999);
        wheel.set(3, 0);
        assert_eq!(wheel.next(), Some(1_010));
        assert_eq!(fired(&mut wheel, 1_010), [3], "what is overdue fires at the next tick");
        assert!(fired(&mut wheel, 1_029).is_empty());
        assert_eq!(fired(&mut wheel, 1_030), [0, 1]);
        assert!(fired(&mut wheel, 9_999).is_empty());
        assert_eq!(fired(&mut wheel, 10_000), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_time_out_is_moved_and_cancelled() {
        let mut wheel = Wheel::new(1, 64, 0);
        (0..4).for_each(|id| wheel.set(id, 5));
        wheel.clear(1);
        wheel.clear(1);
        wheel.clear(9);
        wheel.set(2, 7);
        assert_eq!((wheel.due(0), wheel.due(1), wheel.due(2)), (Some(5), None, Some(7)));
        assert_eq!(fired(&mut wheel, 6), [0, 3]);
        assert_eq!(fired(&mut wheel, 100), [2]);
    }

    #[test]
    fn agrees_with_a_list_that_is_searched() {
        let mut rng = Rng::seeded(7);
        let (mut wheel, mut now) = (Wheel::new(3, 128, 0), 0);
        let mut expected: Vec<Option<u64>> = vec![None; 40];
        for _ in 0..20_000 {
            let id = rng.below(40) as u32;
            match rng.below(4) {
                0 => {
                    wheel.clear(id);
                    expected[id as usize] = None;
                }
                1 | 2 => {
                    let at = now + rng.below(1_000);
                    wheel.set(id, at);
                    expected[id as usize] = Some(at.div_ceil(3).max(now / 3 + 1) * 3);
                }
                _ => {
                    let next = expected.iter().flatten().min().copied();
                    let told = wheel.next();
                    assert!(told.is_none() == next.is_none() && told <= next, "{told:?} is no later than {next:?}");
                    now += rng.below(600);
                    let over = |due: &Option<u64>| due.is_some_and(|due| due <= now / 3 * 3);
                    let due: Vec<u32> = (0..40).filter(|id| over(&expected[*id as usize])).collect();
                    assert_eq!(fired(&mut wheel, now), due);
                    expected.iter_mut().filter(|due| over(due)).for_each(|due| *due = None);
                }
            }
        }
    }
}

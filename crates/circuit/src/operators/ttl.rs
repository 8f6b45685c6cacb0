//! [`Ttl`]: when entries of an operator's state were last changed, and which have outlived their time.
//!
//! Time is the `now` of steps, so a replay forgets what was forgotten. An entry has expired once the time to live has
//! passed since its last change; [`Ttl::has_expired`] tells that exactly, whether or not the entry has been swept. Sweeping
//! frees memory and may lag: entries wait in buckets by when they were due when they were put there, a bucket is looked at
//! once it has passed, and whatever was changed meanwhile is put into a later one. So a change costs a store, and an entry is
//! looked at about once in its time to live.
//!
//! An operator calls [`Ttl::advance`] first in each step, renews what has expired before it is read or changed, says
//! [`Ttl::touch`] of what it changes, and forgets some of [`Ttl::take_passed`] at the end of the step.

use std::collections::BTreeMap;

use tidemill_base::Timestamp;

use crate::operator::Context;

/// The number of buckets into which a time to live is cut.
const BUCKETS: i64 = 64;

/// The time of an entry that was restored without one: it counts as changed in the next step.
const UNKNOWN: i64 = i64::MIN;

/// When entries, which have dense slots, were last changed.
#[derive(Debug, Clone)]
pub(crate) struct Ttl {
    /// The time to live in milliseconds, at least 1.
    millis: i64,
    /// The time of the newest step.
    now: i64,
    changed: Vec<i64>,
    /// Whether a slot is in a bucket.
    queued: Vec<bool>,
    /// Slots by the number of the bucket that they were due in.
    queue: BTreeMap<i64, Vec<u32>>,
    /// Slots restored without a time.
    unknown: Vec<u32>,
}

impl Ttl {
    /// No entries yet.
    pub fn new(millis: i64) -> Self {
        let (changed, queued, queue, unknown) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Ttl { millis: millis.max(1), now: i64::MIN, changed, queued, queue, unknown }
    }

    /// Goes on to a step. The last step of bounded input is at the end of all time, at which nothing expires any more.
    pub fn advance(&mut self, context: &Context) {
        if context.now != Timestamp::MAX {
            self.now = self.now.max(context.now.millis());
        }
    }

    /// The slots that were restored without a time; they are to be touched in the first step.
    pub fn take_unknown(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unknown)
    }

    /// Whether the entry in a slot has expired.
    pub fn has_expired(&self, slot: u32) -> bool {
        let changed = self.changed.get(slot as usize).copied().unwrap_or(UNKNOWN);
        changed != UNKNOWN && changed.saturating_add(self.millis) <= self.now
    }

    /// When the entry in a slot was last changed, when that is known.
    pub fn changed(&self, slot: u32) -> Option<i64> {
        self.changed.get(slot as usize).copied().filter(|changed| *changed != UNKNOWN)
    }

    /// Notes that entries are changed in this step.
    pub fn touch(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.put(*slot, self.now));
    }

    /// Takes the time of a restored entry.
    pub fn restore(&mut self, slot: u32, changed: Option<i64>) {
        match changed {
            Some(changed) => self.put(slot, changed),
            None => {
                self.put(slot, UNKNOWN);
                self.unknown.push(slot);
            }
        }
    }

    fn put(&mut self, slot: u32, changed: i64) {
        let at = slot as usize;
        if at >= self.changed.len() {
            self.changed.resize(at + 1, UNKNOWN);
            self.queued.resize(at + 1, false);
        }
        self.changed[at] = changed;
        if !self.queued[at] && changed != UNKNOWN {
            self.queued[at] = true;
            let bucket = self.bucket(changed);
            self.queue.entry(bucket).or_default().push(slot);
        }
    }

    fn width(&self) -> i64 {
        (self.millis / BUCKETS).max(1)
    }

    fn bucket(&self, changed: i64) -> i64 {
        changed.saturating_add(self.millis).div_euclid(self.width())
    }

    /// About `most` slots whose entries have expired; none when all buckets that have passed were looked at. The slots may
    /// be others' by now: [`Ttl::has_expired`] was true of what is in them, unless they are free.
    pub fn take_passed(&mut self, most: usize) -> Vec<u32> {
        let mut expired = Vec::new();
        let passed = self.now.div_euclid(self.width());
        while expired.len() < most {
            let Some(first) = self.queue.first_entry().filter(|first| *first.key() < passed) else { break };
            for slot in first.remove() {
                self.queued[slot as usize] = false;
                match self.has_expired(slot) {
                    true => expired.push(slot),
                    false => self.put(slot, self.changed[slot as usize]),
                }
            }
        }
        expired
    }

    /// All slots whose entries have expired, those of buckets that have not passed as a whole too.
    pub fn take_expired(&mut self) -> Vec<u32> {
        let mut expired = self.take_passed(usize::MAX);
        let passed = self.now.div_euclid(self.width());
        let waiting = self.queue.remove(&passed).unwrap_or_default();
        let (gone, left): (Vec<u32>, Vec<u32>) = waiting.into_iter().partition(|slot| self.has_expired(*slot));
        gone.iter().for_each(|slot| self.queued[*slot as usize] = false);
        if !left.is_empty() {
            self.queue.insert(passed, left);
        }
        expired.extend(gone);
        expired
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let queue: usize = self.queue.values().map(|slots| slots.capacity() * 4).sum();
        (self.changed.capacity() * 8 + self.queued.capacity() + self.unknown.capacity() * 4 + queue) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Sides;

    /// A time to live of a second, at a time.
    struct Watch(Ttl);

    impl Watch {
        fn new() -> Self {
            Watch(Ttl::new(1_000))
        }

        fn at(&mut self, now: i64) -> &mut Ttl {
            let (watermark, sides) = (Timestamp::MIN, Sides::default());
            self.0.advance(&Context { step: 1, lane: 0, now: Timestamp(now), watermark, sides });
            &mut self.0
        }
    }

    #[test]
    fn an_entry_expires_when_its_time_has_passed_since_its_last_change() {
        let mut watch = Watch::new();
        watch.at(10_000).touch(&[0, 1]);
        watch.at(10_500).touch(&[1]);
        assert!(!watch.at(10_999).has_expired(0));
        assert!(watch.at(11_000).has_expired(0) && !watch.at(11_000).has_expired(1));
        assert_eq!(watch.at(11_000).take_expired(), [0]);
        assert!(watch.at(11_400).take_passed(9).is_empty(), "it was given before, and the other is not due");
        assert_eq!(watch.at(11_516).take_passed(9), [1], "its bucket has passed");
    }

    #[test]
    fn what_is_swept_at_a_time_is_bounded() {
        let mut watch = Watch::new();
        for slot in 0..100 {
            watch.at(10_000 + i64::from(slot) * 100).touch(&[slot]);
        }
        let mut swept = Vec::new();
        while let some @ 1.. = watch.at(100_000).take_passed(7).len() {
            swept.push(some);
        }
        assert_eq!((swept.iter().sum::<usize>(), swept.iter().max()), (100, Some(&7)));
    }

    #[test]
    fn nothing_expires_at_the_end_of_all_time() {
        let mut watch = Watch::new();
        watch.at(10_000).touch(&[0]);
        assert!(!watch.at(i64::MAX).has_expired(0));
        assert!(watch.at(i64::MAX).take_expired().is_empty());
        assert!(watch.at(5_000).changed(0) == Some(10_000) && !watch.at(5_000).has_expired(0), "time does not go back");
    }

    #[test]
    fn an_entry_without_a_time_counts_as_changed_in_the_next_step() {
        let mut watch = Watch::new();
        watch.0.restore(3, None);
        watch.0.restore(4, Some(10_000));
        assert_eq!((watch.at(50_000).changed(3), watch.at(50_000).has_expired(3)), (None, false));
        let unknown = watch.0.take_unknown();
        watch.0.touch(&unknown);
        assert_eq!(watch.at(50_999).take_expired(), [4]);
        assert_eq!(watch.at(51_000).take_expired(), [3]);
    }
}

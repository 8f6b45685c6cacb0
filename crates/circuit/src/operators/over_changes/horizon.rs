//! [`Horizon`]: how far back the rows of a key are looked at, once the watermark has passed them.
//!
//! In an order by time, rows come and go only above what the watermark has passed, so that below it rows are *settled*. An
//! answer that may still change is of a row that is not settled, or of one so near below it that it looks at such a row;
//! and it looks at rows so far before its own. What lies further back than both together ([`Reach`]) nobody looks at any
//! more, and is forgotten. Keys are listed by the watermark at which their first row goes, so that what is kept follows from
//! the rows and the watermark alone, however steps were cut.

use std::collections::BTreeMap;

use arrow_schema::ArrowError;

use crate::operators::ordered::{NEVER, Ordered};
use crate::operators::time::millis_at;
use crate::plan::{Expiry, Reach};

/// Whether a row of a time is not in the frame of one of a later time; frames may tell less than a millisecond apart.
fn is_apart(time: i64, later: i64, before: i64) -> bool {
    time.saturating_add(before).saturating_add(1) < later
}

/// Which keys have rows that can go, and when.
pub(super) struct Horizon {
    settled: Expiry,
    reach: Reach,
    /// Keys by the watermark that has to be passed.
    dues: BTreeMap<i64, Vec<u32>>,
    /// For each key the first of those under which it is listed.
    listed: Vec<i64>,
    /// Whether keys may have been restored since.
    is_fresh: bool,
}

impl Horizon {
    /// No keys yet.
    pub fn new(settled: Expiry, reach: Reach) -> Self {
        Horizon { settled, reach, dues: BTreeMap::new(), listed: Vec::new(), is_fresh: true }
    }

    /// Forgets what nobody looks at any more; `changed` are the keys that the step has changed, which is over.
    pub fn pass(&mut self, rows: &mut Ordered, changed: Vec<u32>, watermark: i64) -> Result<(), ArrowError> {
        let changed = match std::mem::take(&mut self.is_fresh) {
            true => (0..rows.keys() as u32).collect(),
            false => changed,
        };
        changed.into_iter().for_each(|key| self.list(rows, key));
        let mut keys = Vec::new();
        while let Some(entry) = self.dues.first_entry().filter(|entry| *entry.key() < watermark) {
            keys.extend(entry.remove());
        }
        for key in &keys {
            self.listed[*key as usize] = NEVER;
            let gone = self.gone(rows, *key, watermark);
            rows.take_out(*key, &gone)?;
        }
        rows.settle()?;
        keys.into_iter().for_each(|key| self.list(rows, key));
        Ok(())
    }

    /// The rows of a key in order, as far as they are there, and their times.
    fn slots<'r>(&self, rows: &'r Ordered, key: u32) -> impl Iterator<Item = (u32, i64)> + use<'r> {
        let (store, time) = (rows.store(), self.settled.time);
        let there = rows.slots_of(key).iter().filter(move |slot| store.get(*slot).weight > 0);
        there.map(move |slot| {
            let place = store.place(slot);
            (slot, millis_at(&place.columns[time], place.row))
        })
    }

    /// Lists a key by the watermark that its first row goes with.
    fn list(&mut self, rows: &Ordered, key: u32) {
        let Reach { back, ahead, range } = self.reach;
        let mut times = self.slots(rows, key).map(|(_, time)| time);
        // As many rows as the first one needs to be settled after it.
        let mut needed: Vec<i64> = times.by_ref().take(back + ahead + 1).collect();
        let Some(first) = needed.first().copied().filter(|_| needed.len() > back + ahead) else { return };
        let settled = |time: i64| time.saturating_add(self.settled.after_ms);
        let mut due = settled(needed[back + ahead]);
        if let Some((before, after)) = range {
            due = due.max(settled(first).saturating_add(before).saturating_add(after).saturating_add(1));
            due = due.max(settled(needed[back]).saturating_add(after));
            if ahead > 0 {
                needed.extend(times);
                let near = needed.partition_point(|time| !is_apart(first, *time, before));
                let Some(last) = needed.get(near + ahead - 1).filter(|_| near < needed.len()) else { return };
                due = due.max(settled(*last));
            }
        }
        self.listed.resize(self.listed.len().max(rows.keys()), NEVER);
        if due < self.listed[key as usize] {
            self.listed[key as usize] = due;
            self.dues.entry(due).or_default().push(key);
        }
    }

    /// The rows of a key that go when the watermark stands there.
    fn gone(&self, rows: &Ordered, key: u32, watermark: i64) -> Vec<u32> {
        let Reach { back, ahead, range } = self.reach;
        let is_settled = |(_, time): &(u32, i64)| self.settled.is_over(*time, watermark);
        let settled: Vec<(u32, i64)> = self.slots(rows, key).take_while(is_settled).collect();
        // Answers from here on may change by rows that come ahead of them, or by their times.
        let changing = settled.len().saturating_sub(ahead);
        let far = |more: i64| Expiry { after_ms: self.settled.after_ms.saturating_add(more), ..self.settled };
        let mut most = changing.saturating_sub(back);
        if let Some((before, after)) = range {
            let out_of_reach = far(after);
            let near = settled.partition_point(|(_, time)| out_of_reach.is_over(*time, watermark));
            most = most.min(near.saturating_sub(back));
            let seen = far(before.saturating_add(after).saturating_add(1));
            let first = settled.get(changing).filter(|_| ahead > 0).map(|(_, time)| *time);
            let is_unseen = |time: i64| first.is_none_or(|first| is_apart(time, first, before));
            let apart = |(_, time): &(u32, i64)| seen.is_over(*time, watermark) && is_unseen(*time);
            most = most.min(settled.partition_point(apart));
        }
        settled[..most].iter().map(|(slot, _)| *slot).collect()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let dues: usize = self.dues.values().map(|keys| keys.capacity() * 4 + 64).sum();
        (dues + self.listed.capacity() * 8) as u64
    }
}

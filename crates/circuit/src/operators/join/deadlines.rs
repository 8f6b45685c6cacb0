//! [`Deadlines`]: which rows expire next.
//!
//! A row is of no use once the watermark is above its deadline. Rows are noted by about when that is, and put in order
//! only when the watermark comes near, so a row costs little until then. A row that goes before its time stays noted, and
//! its number may be given to another row meanwhile: whoever asks holds what is due against [`Deadlines::is_over`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Deadlines that differ by less than 2 to this power, in milliseconds, are noted together.
const BUCKET_BITS: u32 = 10;

/// When rows expire.
#[derive(Default)]
pub(super) struct Deadlines {
    /// By row; `i64::MAX` for one that expires at the end of time alone.
    at: Vec<i64>,
    /// Rows by their bucket.
    far: BTreeMap<i64, Vec<u32>>,
    /// Rows of the buckets up to `reached`, the next one first.
    near: BinaryHeap<Reverse<(i64, u32)>>,
    reached: Option<i64>,
}

impl Deadlines {
    /// Notes the deadline of a row.
    pub fn set(&mut self, id: u32, deadline: i64) {
        if self.at.len() <= id as usize {
            self.at.resize(id as usize + 1, i64::MAX);
        }
        self.at[id as usize] = deadline;
        let bucket = deadline >> BUCKET_BITS;
        match self.reached {
            Some(reached) if bucket <= reached => self.near.push(Reverse((deadline, id))),
            _ => self.far.entry(bucket).or_default().push(id),
        }
    }

    /// The deadline of a row.
    pub fn at(&self, id: u32) -> i64 {
        self.at[id as usize]
    }

    /// Whether a row expires below this watermark.
    pub fn is_over(&self, id: u32, watermark: i64) -> bool {
        watermark > self.at[id as usize] || watermark == i64::MAX
    }

    /// Appends the rows that were noted to expire below this watermark, and notes them no longer.
    pub fn take_due(&mut self, watermark: i64, due: &mut Vec<u32>) {
        let (bucket, end) = (watermark >> BUCKET_BITS, watermark == i64::MAX);
        while let Some(entry) = self.far.first_entry().filter(|entry| *entry.key() <= bucket) {
            let (key, mut rows) = entry.remove_entry();
            match key < bucket || end {
                true => due.append(&mut rows),
                false => self.near.extend(rows.into_iter().map(|id| Reverse((self.at[id as usize], id)))),
            }
        }
        self.reached = self.reached.max(Some(bucket));
        while let Some(Reverse((at, id))) = self.near.peek().copied() {
            if at >= watermark && !end {
                break;
            }
            self.near.pop();
            due.push(id);
        }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> u64 {
        let far: usize = self.far.values().map(|rows| rows.capacity() * 4 + 64).sum();
        (self.at.capacity() * 8 + far + self.near.capacity() * 16) as u64
    }
}

#[cfg(test)]
mod tests {
    use tidemill_base::rand::Rng;

    use super::*;

    #[test]
    fn rows_are_due_as_soon_as_the_watermark_is_above() {
        let mut rng = Rng::seeded(3);
        let (mut deadlines, mut open, mut watermark) = (Deadlines::default(), BTreeMap::new(), -5_000);
        for id in 0..3_000_u32 {
            let deadline = if rng.chance(1, 50) { i64::MAX } else { watermark - 100 + rng.below(4_000) as i64 };
            deadlines.set(id, deadline);
            open.insert(id, deadline);
            if rng.chance(1, 5) {
                watermark += rng.below(300) as i64;
                let mut due = Vec::new();
                deadlines.take_due(watermark, &mut due);
                due.sort_unstable();
                let expected: Vec<u32> = open.extract_if(.., |_, at| *at < watermark).map(|(id, _)| id).collect();
                assert_eq!(due, expected, "watermark {watermark}");
                assert!(due.iter().all(|id| deadlines.is_over(*id, watermark)));
            }
        }
        let mut due = Vec::new();
        deadlines.take_due(i64::MAX, &mut due);
        due.sort_unstable();
        assert!(due.into_iter().eq(open.into_keys()), "at the end of time all are");
    }
}

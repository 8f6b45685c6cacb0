//! Forgetting keys to which no row has come for as long as the time to live.
//!
//! A key that has expired begins anew with its next row, and what was said of it stays said. What is taken back of it then
//! was never there.

use arrow_schema::ArrowError;

use super::Ordered;
use crate::keep::wire::{begin_block, end_block};
use crate::operator::Context;
use crate::operators::ttl::Ttl;

/// As many keys that have expired a step forgets at least, so that many at once do not hold it up.
const SWEPT_MAX: usize = 1_024;

impl Ordered {
    /// Goes on to a step's time.
    pub fn advance(&mut self, context: &Context) {
        let Some(ttl) = &mut self.ttl else { return };
        ttl.advance(context);
        let mut unknown = ttl.take_unknown();
        unknown.retain(|key| ttl.changed(*key).is_none() && self.index.contains(*key));
        self.touch_keys(&unknown);
    }

    /// Rows come to keys: those that have expired begin anew.
    pub(super) fn renew(&mut self, keys: &[u32]) -> Result<(), ArrowError> {
        let Some(ttl) = &self.ttl else { return Ok(()) };
        let mut expired: Vec<u32> = keys.iter().copied().filter(|key| ttl.has_expired(*key)).collect();
        expired.sort_unstable();
        expired.dedup();
        for key in expired {
            self.empty(key)?;
        }
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        self.touch_keys(&keys);
        Ok(())
    }

    /// Whether keys are forgotten to which no row comes.
    pub fn expires(&self) -> bool {
        self.ttl.is_some()
    }

    /// Whether a key has expired, swept or not.
    pub fn has_expired(&self, key: u32) -> bool {
        self.ttl.as_ref().is_some_and(|ttl| ttl.has_expired(key))
    }

    /// Keys are asked for: those that have not expired live as long from now on as if a row came to them.
    pub fn use_keys(&mut self, keys: impl Iterator<Item = u32>) {
        let Some(ttl) = &self.ttl else { return };
        let mut used: Vec<u32> = keys.filter(|key| !ttl.has_expired(*key)).collect();
        used.sort_unstable();
        used.dedup();
        self.touch_keys(&used);
    }

    /// Forgets the rows of a key that has not changed in this step.
    pub(super) fn empty(&mut self, key: u32) -> Result<(), ArrowError> {
        let list = self.tracks.take(key);
        self.list_bytes -= list.bytes();
        for slot in list.slots().iter() {
            self.touch(slot)?;
            self.store.forget(slot);
        }
        Ok(())
    }

    /// Forgets keys that have expired, after [`Ordered::settle`].
    pub fn sweep(&mut self) -> Result<(), ArrowError> {
        let expired = self.ttl.as_mut().map(|ttl| ttl.take_passed(SWEPT_MAX)).unwrap_or_default();
        if expired.is_empty() { Ok(()) } else { self.forget(&expired) }
    }

    /// Notes that rows have come to keys.
    fn touch_keys(&mut self, keys: &[u32]) {
        self.note_keys(keys);
        if let Some(ttl) = &mut self.ttl {
            ttl.touch(keys);
        }
    }

    /// Keeps what a save under way still needs of keys that are about to change.
    pub(super) fn note_keys(&mut self, keys: &[u32]) {
        self.key_marks.births(self.index.slots(), self.index.take_born());
        if let Some(mut wanted) = self.key_marks.touch(keys) {
            while let Some((key, image)) = wanted.next() {
                self.write_key(key, image);
            }
            self.key_marks.keep(wanted);
        }
    }

    /// Appends when a row came to a key, as it is saved; false when that is not known.
    pub(super) fn write_key(&self, key: u32, out: &mut Vec<u8>) -> bool {
        let changed = self.ttl.as_ref().and_then(|ttl| ttl.changed(key)).filter(|_| self.index.contains(key));
        let Some(changed) = changed else { return false };
        let start = begin_block(out);
        self.layout.encoder.pack(&self.index, key, out);
        end_block(out, start);
        out.extend_from_slice(&changed.to_le_bytes());
        true
    }

    /// All keys that have expired.
    pub(super) fn take_expired(&mut self) -> Vec<u32> {
        self.ttl.as_mut().map(Ttl::take_expired).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};
    use tidemill_base::Timestamp;

    use crate::keep::keeper::{Keeper, next_chunk, rows_of};
    use crate::operator::{Context, Sides};
    use crate::operators::ordered::{Layout, Ordered};
    use crate::plan::OrderBy;

    /// Rows of a key and a number, whose keys live for 100 ms.
    fn ordered() -> Ordered {
        let fields = ["key", "number"].map(|name| Field::new(name, DataType::Int64, true));
        let by = OrderBy { column: 1, descending: false, nulls_first: true };
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let mut layout = Layout::new(&schema, &[0], &[by]).expect("integers have an order");
        layout.ttl_ms = Some(100);
        let mut ordered = Ordered::new(layout);
        Keeper::keep(&mut ordered, 2);
        ordered
    }

    fn advance(ordered: &mut Ordered, now: i64) {
        let (watermark, sides) = (Timestamp::MIN, Sides::default());
        ordered.advance(&Context { step: 1, lane: 0, now: Timestamp(now), watermark, sides });
    }

    /// A step with rows of some keys.
    fn step(ordered: &mut Ordered, now: i64, keys: &[i64]) {
        advance(ordered, now);
        let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        let schema = ordered.layout.schema.clone();
        let batch = RecordBatch::try_new(schema, vec![column.clone(), column]).expect("two columns of integers");
        ordered.push(&batch, None).expect("the rows are sound");
        ordered.settle().expect("the rows are sound");
    }

    /// The rows of a table as a save gives them that begins now, after `meanwhile`.
    fn save(ordered: &mut Ordered, table: u16, meanwhile: impl FnOnce(&mut Ordered)) -> Vec<Vec<u8>> {
        let slots = ordered.slots(table);
        ordered.marks(table).expect("it is a table").begin_save(slots, true);
        meanwhile(ordered);
        let mut rows = Vec::new();
        while let Some((_, chunk)) = next_chunk(ordered, table).expect("the values can be written") {
            let chunk = chunk.unwrap_or_default();
            if !chunk.is_empty() {
                rows.extend(rows_of(&chunk).expect("it is whole").into_iter().map(<[u8]>::to_vec));
            }
        }
        ordered.marks(table).expect("it is a table").end_save(true);
        rows.sort();
        rows
    }

    fn restore(ordered: &mut Ordered, table: u16, rows: &[Vec<u8>]) {
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        ordered.restore(table, &rows).expect("the rows are whole");
    }

    #[test]
    fn times_are_saved_and_go_on() {
        let mut before = ordered();
        step(&mut before, 1_000, &[1, 2, 3]);
        step(&mut before, 1_050, &[2]);
        let [rows, times] = [0, 1].map(|table| save(&mut before, table, |_| {}));
        assert_eq!((rows.len(), times.len()), (3, 3));
        for order in [[0, 1], [1, 0]] {
            let mut after = ordered();
            order.into_iter().for_each(|table| restore(&mut after, table, if table == 0 { &rows } else { &times }));
            assert_eq!(save(&mut after, 1, |_| {}), times);
            advance(&mut after, 1_120);
            Keeper::settle(&mut after);
            assert_eq!(after.size().entries, 1, "two keys have expired");
            step(&mut after, 1_149, &[2]);
            assert_eq!(after.size().entries, 1, "the row is there twice");
        }
    }

    #[test]
    fn keys_restored_without_a_time_count_as_changed_in_the_next_step() {
        let mut before = ordered();
        step(&mut before, 1_000, &[1]);
        let rows = save(&mut before, 0, |_| {});
        let mut after = ordered();
        restore(&mut after, 0, &rows);
        for (now, left) in [(5_000, 1), (5_099, 1), (5_100, 0)] {
            advance(&mut after, now);
            Keeper::settle(&mut after);
            assert_eq!(after.size().entries, left, "at {now}");
        }
    }

    #[test]
    fn a_save_shows_the_times_at_which_it_began() {
        let mut ordered = ordered();
        step(&mut ordered, 1_000, &[1, 2, 3]);
        let times = save(&mut ordered, 1, |_| {});
        let meanwhile = save(&mut ordered, 1, |ordered| {
            step(ordered, 1_090, &[3, 4]);
            step(ordered, 1_150, &[2]);
            ordered.sweep().expect("keys can be forgotten");
        });
        assert_eq!(meanwhile, times);
        assert_ne!(save(&mut ordered, 1, |_| {}), times);
    }
}

//! [`State`]: both sides of a join, and what is done with them whatever the kind.

use std::sync::Arc;

use arrow_array::{Array, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::Schema;
use hashbrown::HashTable;
use tidemill_base::Timestamp;

use super::index::{Index, has_nulls, null_rows};
use super::side::{Rows, Side};
use super::store::NONE;
use super::{Design, LEFT, RIGHT};
use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::keep::marks::Marks;
use crate::keep::value::Column;
use crate::operator::{Context, KeySize, Output, StateSize};
use crate::operators::time::millis;
use crate::plan::{Expiry, JoinNulls};
use crate::row;

/// A step moves so many rows out of chunks that are mostly empty, and two more for each row that it changes.
const MOVED_MIN: usize = 8_192;

/// Both sides of a join.
pub(super) struct State {
    pub design: Arc<Design>,
    pub index: Index,
    pub sides: [Side; 2],
    /// By slot the number of rows of a side that have the key, where that is counted.
    pub totals: [Vec<i64>; 2],
    /// The keys that the right side has, where nothing else is known of it; and how many of its rows hold a null.
    pub total_keys: u64,
    pub rows_right: i64,
    pub null_rows_right: i64,
    pub total_marks: Marks,
    /// The step that is under way, and the time that counts for the time to live.
    step: u64,
    pub now: i64,
    /// Where the rows that are restored next were.
    pub preferred: Option<u32>,
}

impl State {
    /// Nothing is kept yet.
    pub fn new(design: Arc<Design>) -> Self {
        State {
            index: Index::new(design.encoder.clone()),
            sides: [LEFT, RIGHT].map(|side| Side::new(design.shape(side))),
            totals: [Vec::new(), Vec::new()],
            total_keys: 0,
            rows_right: 0,
            null_rows_right: 0,
            total_marks: Marks::default(),
            step: 0,
            now: i64::MIN,
            preferred: None,
            design,
        }
    }

    /// The rows of a chunk that may meet others, and those that never will for a null in their key.
    pub fn admit(
        &self,
        side: usize,
        delta: Delta,
        context: &Context,
        out: &mut Output,
    ) -> Result<(Delta, Option<Delta>), Error> {
        let (design, broken) = (&self.design, |error| self.design.pairs.broken(error));
        let delta = self.in_time(side, delta, context, out)?;
        let delta = if design.appends[side] { delta.repeated().map_err(broken)? } else { delta };
        if design.keeps_nulls(side) || !has_nulls(delta.batch(), design.keys(side)) {
            return Ok((delta, None));
        }
        let nulls = BooleanArray::from(null_rows(delta.batch(), design.keys(side)));
        let others = BooleanArray::new(!nulls.values(), None);
        Ok((delta.filter(&others).map_err(broken)?, Some(delta.filter(&nulls).map_err(broken)?)))
    }

    /// Leaves out suspects that might miss rows which have expired: one that carries a watermark below which no row that it
    /// could meet expires is in time.
    fn in_time(&self, side: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<Delta, Error> {
        let Some(carried) = delta.carried().filter(|_| self.design.spec.expiry[1 - side].is_some()) else {
            return Ok(delta);
        };
        let late: Vec<bool> = match self.design.spec.late[side] {
            None => carried.iter().map(|carried| *carried != NO_SUSPECT).collect(),
            Some(until) => {
                let ends = self.ends(until, delta.batch())?.into_iter();
                ends.zip(carried).map(|(end, carried)| end.unwrap_or(i64::MIN) < *carried).collect()
            }
        };
        if !late.contains(&true) {
            return Ok(delta);
        }
        for row in (0..delta.rows()).filter(|row| late[*row]) {
            let reason = "the rows that it could meet may have expired";
            self.design.pairs.guard().late_because(reason, &delta, row, context, out);
        }
        let kept = BooleanArray::new(!BooleanArray::from(late).values(), None);
        delta.filter(&kept).map_err(|error| self.design.pairs.broken(error))
    }

    /// Goes on to the step of `context`: rows that have outlived their time are gone before anything meets them.
    pub fn begin_step(&mut self, context: &Context) {
        // The last step of bounded input is at the end of all time, at which nothing expires any more.
        if self.design.ttl_ms.is_none() || self.step == context.step || context.now == Timestamp::MAX {
            return;
        }
        let fresh = self.now == i64::MIN;
        self.step = context.step;
        self.now = self.now.max(context.now.millis());
        for side in [LEFT, RIGHT] {
            let Some(lifetime) = self.design.lifetime(side) else { continue };
            if fresh {
                // Rows that were restored without the time at which they had come.
                self.sides[side].renew_unknown(deadline(self.now, lifetime), &self.index);
            }
            let mut due = Vec::new();
            self.sides[side].take_due(self.now, &mut due);
            due.into_iter().for_each(|id| self.remove(side, id));
        }
    }

    /// Makes the rows of a chunk ready to be taken in: their keys have slots now, and equal ones are one where rows of this
    /// side are taken back.
    pub fn enter(&mut self, side: usize, delta: Delta) -> Result<(Delta, Rows), Error> {
        let design = self.design.clone();
        let broken = |error| design.pairs.broken(error);
        let mut hashes = Vec::new();
        let mut delta = delta;
        if design.merges(side) {
            (delta, hashes) = merged(delta).map_err(broken)?;
        }
        let slots = self.index.intern(delta.batch(), design.keys(side), design.marks_nulls());
        self.welcome();
        let columns = delta.batch().columns().to_vec();
        let weights = delta.weights().map(<[i64]>::to_vec).unwrap_or_default();
        let deadlines = self.deadlines(side, delta.batch())?;
        let carried = delta.carried().filter(|_| design.keeps_suspects(side)).map(<[i64]>::to_vec).unwrap_or_default();
        Ok((delta, Rows { columns, slots, weights, hashes, deadlines, carried }))
    }

    /// Makes room for new keys.
    pub fn welcome(&mut self) {
        let slots = self.index.slots();
        self.sides.iter_mut().for_each(|side| side.welcome(slots));
        for side in [LEFT, RIGHT].into_iter().filter(|side| self.design.has_totals(*side)) {
            if self.totals[side].len() < slots {
                self.totals[side].resize(slots, 0);
            }
        }
    }

    /// When rows expire; nothing where they do not.
    pub fn deadlines(&self, side: usize, batch: &RecordBatch) -> Result<Vec<i64>, Error> {
        if let Some(lifetime) = self.design.lifetime(side) {
            return Ok(vec![deadline(self.now, lifetime); batch.num_rows()]);
        }
        let Some(expiry) = self.design.spec.expiry[side] else { return Ok(Vec::new()) };
        Ok(self.ends(expiry, batch)?.into_iter().map(|end| end.unwrap_or(i64::MAX)).collect())
    }

    /// The greatest watermark at which each row is not over; none for a row without a time.
    fn ends(&self, expiry: Expiry, batch: &RecordBatch) -> Result<Vec<Option<i64>>, Error> {
        let column = batch.column(expiry.time);
        let times =
            millis(column).ok_or_else(|| self.design.pairs.broken("rows expire by a column that is no time"))?;
        let end = |(row, time): (usize, i64)| column.is_valid(row).then(|| time.saturating_add(expiry.after_ms));
        Ok(times.into_iter().enumerate().map(end).collect())
    }

    /// Takes rows in, or back.
    pub fn take(&mut self, side: usize, rows: &Rows) -> Result<(), Error> {
        self.sides[side].take(rows, &self.index).map_err(|error| self.design.pairs.broken(error))
    }

    /// The rows of each side that expire below this watermark.
    pub fn due(&mut self, watermark: i64) -> [Vec<u32>; 2] {
        let mut due = [Vec::new(), Vec::new()];
        for (side, due) in [LEFT, RIGHT].into_iter().zip(&mut due) {
            if self.design.lifetime(side).is_none() {
                self.sides[side].take_due(watermark, due);
            }
        }
        due
    }

    /// Lets rows go that the step has taken back, and those that are due.
    pub fn end_step(&mut self, due: &[Vec<u32>; 2], watermark: i64) -> Result<(), Error> {
        for (side, due) in [LEFT, RIGHT].into_iter().zip(due) {
            for id in due {
                self.remove(side, *id);
            }
            let mut changed = due.len();
            if self.sides[side].shape().merges {
                changed += self.sides[side].logged().len();
                self.settle(side, watermark)?;
            }
            self.sides[side].clear_log();
            let moved_max = MOVED_MIN + 2 * changed;
            let compacted = self.sides[side].compact(moved_max, &self.index);
            compacted.map_err(|error| self.design.pairs.broken(error))?;
        }
        Ok(())
    }

    /// What is taken back of rows that have outlived their time was never there.
    pub fn forgive(&mut self) {
        for side in [LEFT, RIGHT].into_iter().filter(|side| self.design.lifetime(*side).is_some()) {
            self.sides[side].forgive();
        }
    }

    /// Lets rows go of which none is left, and finds those of which fewer than none are.
    fn settle(&mut self, side: usize, watermark: i64) -> Result<(), Error> {
        for at in 0..self.sides[side].logged().len() {
            let id = self.sides[side].logged()[at].id;
            let kept = &self.sides[side];
            if kept.owner(id) == NONE {
                continue;
            }
            match kept.weight(id) {
                1.. => {}
                0 => self.remove(side, id),
                _ if kept.is_over(id, watermark) => self.remove(side, id),
                _ => return Err(self.not_there(side, id)),
            }
        }
        Ok(())
    }

    fn not_there(&self, side: usize, id: u32) -> Error {
        let (schema, store) = (&self.design.inputs[side], &self.sides[side].store);
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let columns = store.gather(&[id], &all);
        let shown = columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns));
        let shown = shown.map_or_else(|error| error.to_string(), |batch| row::to_json(&batch, 0));
        let name = if side == LEFT { "left" } else { "right" };
        self.design.pairs.broken(format!("a row of the {name} side is taken back that is not there: {shown}"))
    }

    fn remove(&mut self, side: usize, id: u32) {
        if let Some(slot) = self.sides[side].remove(id, &self.index) {
            self.release(slot);
        }
    }

    /// Forgets a key that neither side has any more.
    pub fn release(&mut self, slot: u32) {
        let empty = self.sides.iter().all(|side| side.head(slot) == NONE);
        let counted = self.totals.iter().any(|totals| totals.get(slot as usize).is_some_and(|total| *total != 0));
        if empty && !counted && self.index.contains(slot) {
            self.index.remove(slot);
        }
    }

    /// Adds to the number of rows of a side that have a key; false when there would be fewer than none.
    pub fn add_total(&mut self, side: usize, slot: u32, change: i64) -> bool {
        let total = &mut self.totals[side][slot as usize];
        let before = *total;
        *total = total.saturating_add(change);
        let after = *total;
        if side == RIGHT && self.design.has_totals_only() {
            self.rows_right = self.rows_right.saturating_add(change);
            if self.index.is_strange(slot) {
                self.null_rows_right = self.null_rows_right.saturating_add(change);
            }
            match (before, after) {
                (0, 0) => {}
                (0, _) => self.total_keys += 1,
                (_, 0) => self.total_keys -= 1,
                _ => {}
            }
        }
        after >= 0
    }

    /// Whether a row of `side` with this key is there for the rows of the other side.
    pub fn has_total(&self, side: usize, slot: u32) -> bool {
        self.totals[side][slot as usize] > 0 && !self.index.is_strange(slot)
    }

    /// What the right side says of all rows of `NOT IN`.
    pub fn verdict(&self) -> Verdict {
        match self.design.spec.nulls {
            _ if self.design.meets_nulls() => Verdict::Each,
            JoinNulls::Unknown if self.rows_right == 0 => Verdict::Every,
            JoinNulls::Unknown if self.null_rows_right > 0 => Verdict::Nobody,
            _ => Verdict::Each,
        }
    }

    /// What is kept.
    pub fn size(&self) -> StateSize {
        let rows: u64 = self.sides.iter().map(Side::live).sum();
        let totals: usize = self.totals.iter().map(|totals| totals.capacity() * 8).sum();
        let bytes: u64 = self.sides.iter().map(Side::bytes).sum();
        StateSize {
            entries: rows + self.total_keys,
            bytes: bytes + self.index.bytes() + totals as u64 + self.total_marks.bytes(),
        }
    }
}

impl State {
    /// The keys with the most rows, at most `most` of them, and what their rows take if they are like all others.
    pub fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        let mut sizes: Vec<(u64, u32)> = (0..self.index.slots() as u32).map(|slot| (0, slot)).collect();
        for side in &self.sides {
            let row_bytes = side.bytes() / side.live().max(1);
            side.ids().for_each(|id| sizes[side.owner(id) as usize].0 += row_bytes);
        }
        sizes.retain(|(bytes, _)| *bytes > 0);
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes.truncate(most);
        let slots: Vec<u32> = sizes.iter().map(|(_, slot)| *slot).collect();
        let fields = self.design.keys(LEFT).iter().map(|key| self.design.inputs[LEFT].field(*key).clone());
        let schema = Arc::new(Schema::new(fields.map(|field| field.with_nullable(true)).collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        match RecordBatch::try_new_with_options(schema, self.index.columns(&slots), &options) {
            Ok(batch) => {
                let key =
                    |(row, (bytes, _)): (usize, &(u64, u32))| KeySize { key: row::to_json(&batch, row), bytes: *bytes };
                sizes.iter().enumerate().map(key).collect()
            }
            Err(_) => Vec::new(),
        }
    }
}

/// When a row that has changed at `now` expires; never, as long as no step has told the time.
pub(super) fn deadline(now: i64, lifetime: i64) -> i64 {
    if now == i64::MIN { i64::MAX } else { now.saturating_add(lifetime - 1) }
}

/// Who comes out of `NOT IN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All rows, for the right side is empty.
    Every,
    /// None, for a null of the right side may equal anything.
    Nobody,
    /// Each row by itself.
    Each,
}

/// The rows of a chunk with equal ones added up, those that come to nothing left out; and the hash of each.
pub(super) fn merged(delta: Delta) -> Result<(Delta, Vec<u64>), arrow_schema::ArrowError> {
    let (columns, rows) = (delta.batch().columns(), delta.rows());
    let mut hashes = row::hashes(columns, rows);
    let values = columns.iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let mut weights: Vec<i64> = (0..rows).map(|row| delta.weight(row)).collect();
    let mut table: HashTable<u32> = HashTable::with_capacity(rows);
    for row in 0..rows {
        let same = |other: &u32| {
            let other = *other as usize;
            hashes[other] == hashes[row] && values.iter().all(|column| column.is_same(other, column, row))
        };
        match table.find(hashes[row], same) {
            Some(other) => {
                weights[*other as usize] += weights[row];
                weights[row] = 0;
            }
            None => drop(table.insert_unique(hashes[row], row as u32, |row| hashes[*row as usize])),
        }
    }
    if weights.iter().all(|weight| *weight != 0) {
        return Ok((delta, hashes));
    }
    let kept: Vec<u32> = (0..rows as u32).filter(|row| weights[*row as usize] != 0).collect();
    hashes = kept.iter().map(|row| hashes[*row as usize]).collect();
    weights = kept.iter().map(|row| weights[*row as usize]).collect();
    let taken = delta.take(&UInt32Array::from(kept))?;
    let carried = taken.carried().map(<[i64]>::to_vec);
    Ok((Delta::weighted(taken.batch().clone(), weights).with_carried(carried), hashes))
}

//! [`Grouped`]: one row a group (and window), kept up to date.
//!
//! A group's old row is evaluated when a step first touches it, its new row when the step is flushed; only real changes
//! leave, the retraction before the insertion. A window that emits on close is silent until it fires, then says its
//! rows once; within the allowed lateness it is kept and corrected like any other group.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;
use tidemill_base::Timestamp;

use super::Design;
use super::changes::changes;
use super::feed::{Feed, Taken};
use super::kept::{Kept, Tables};
use super::windows::Cut;
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::keep::keeper::Keeper;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::plan::{Emit, TimeDomain};

/// Groups compared in one call of `flush`: each gives at most two rows.
const COMPARED_MAX: usize = DELTA_ROWS_MAX / 2;

/// Groups that are forgotten in a step because they have expired.
const SWEPT_MAX: usize = 4_096;

/// Aggregates by key, and by window.
pub(super) struct Grouped {
    design: Arc<Design>,
    feed: Feed,
    cut: Option<Cut>,
    kept: Kept,
    /// The epoch in which each slot was last touched.
    stamps: Vec<u32>,
    epoch: u32,
    touched: Vec<Touched>,
    /// What is being sent of `touched` or `firing`.
    cursor: usize,
    /// Groups of windows that close in this step.
    firing: Option<Vec<u32>>,
}

/// Groups that a step touched first in one chunk, and their rows before it.
struct Touched {
    slots: Vec<u32>,
    /// For each slot its place in `old`, when the group had a row.
    was: Vec<Option<u32>>,
    old: Vec<ArrayRef>,
}

impl Grouped {
    /// No groups yet; or what is not supported.
    pub fn new(design: Arc<Design>, feed: Feed, cut: Option<Cut>) -> Result<Self, Error> {
        let tables = match &feed {
            Feed::Rows => Tables::All(design.distinct_parts()),
            Feed::Partials { .. } => Tables::Groups,
        };
        let live = cut.is_none() || design.emit == Emit::Changes;
        let kept = Kept::new(&design.recipe, &design.key_types, cut.is_some(), live, tables);
        let kept = kept.map_err(|what| design.unsupported.error(what))?.expiring(design.ttl_ms);
        Ok(Grouped {
            design,
            feed,
            cut,
            kept,
            stamps: Vec::new(),
            epoch: 1,
            touched: Vec::new(),
            cursor: 0,
            firing: None,
        })
    }

    /// Whether the aggregate has exactly one row, always.
    fn is_global(&self) -> bool {
        self.design.keys.is_empty() && self.cut.is_none()
    }

    /// Notes which groups the rows touch for the first time in this step, and what their rows are now.
    fn note(&mut self, slots: &[u32], ids: Option<&[u32]>) -> Result<(), ArrowError> {
        self.stamps.resize(self.kept.groups.slots().max(self.stamps.len()), 0);
        let mut fresh = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let stamp = &mut self.stamps[*slot as usize];
            if *stamp == self.epoch {
                continue;
            }
            *stamp = self.epoch;
            if ids.is_none_or(|ids| self.kept.frames.get(ids[row]).fired) {
                fresh.push(*slot);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let present =
            |slot: &u32| if self.is_global() { self.kept.progress.started } else { self.kept.groups.weight(*slot) > 0 };
        let mut alive = Vec::new();
        let was = fresh.iter().map(|slot| {
            present(slot).then(|| {
                alive.push(*slot);
                (alive.len() - 1) as u32
            })
        });
        let was = was.collect();
        let old = self.kept.groups.evaluate(&alive)?;
        self.touched.push(Touched { slots: fresh, was, old });
        Ok(())
    }

    fn take(&mut self, taken: Taken) -> Result<(), ArrowError> {
        let (slots, ids) = self.kept.slots_for(taken.keys(), taken.spans(), taken.rows());
        self.kept.renew_expired(&slots)?;
        self.note(&slots, ids.as_deref())?;
        self.kept.take(&slots, &taken)
    }

    /// The next rows of changed groups; none when all have been said.
    fn next_changes(&mut self) -> Result<Option<Delta>, ArrowError> {
        let Some(touched) = self.touched.last() else { return Ok(None) };
        let (from, to) = (self.cursor, (self.cursor + COMPARED_MAX).min(touched.slots.len()));
        let (slots, was) = (&touched.slots[from..to], &touched.was[from..to]);
        let global = self.is_global();
        let mut is: Vec<Option<u32>> = Vec::with_capacity(slots.len());
        let mut alive = Vec::with_capacity(slots.len());
        for slot in slots {
            let present = global || self.kept.groups.weight(*slot) > 0;
            is.push(present.then_some(alive.len() as u32));
            if present {
                alive.push(*slot);
            }
        }
        let new = self.kept.groups.evaluate(&alive)?;
        let changes = changes(&touched.old, was, &new, &is)?;
        let rows: Vec<u32> = changes.groups.iter().map(|group| slots[*group as usize]).collect();
        let delta = self.rows(&rows, changes.columns, Some(changes.weights))?;
        let slots = slots.to_vec();
        let done = to == touched.slots.len();
        if done {
            self.touched.pop();
        }
        self.cursor = if done { 0 } else { to };
        if self.cut.is_none() && !global {
            for slot in slots {
                // What is taken back of a group that has expired says nothing of the one that begins anew.
                let weight = self.kept.groups.weight(slot);
                if weight == 0 || (weight < 0 && self.kept.expires()) {
                    self.kept.forget(slot)?;
                }
            }
        }
        Ok(Some(delta))
    }

    /// Rows of groups with the given columns of calls.
    fn rows(&self, slots: &[u32], calls: Vec<ArrayRef>, weights: Option<Vec<i64>>) -> Result<Delta, ArrowError> {
        let (keys, spans) = self.kept.keys(slots);
        self.design.rows(keys, spans.as_deref(), calls, weights, slots.len())
    }

    /// Groups of the windows that close now, which are fired from here on.
    fn close(&mut self, clock: i64) -> Vec<u32> {
        let mut firing = Vec::new();
        for id in self.kept.frames.until(clock) {
            let frame = self.kept.frames.get_mut(id);
            if !std::mem::replace(&mut frame.fired, true) {
                firing.extend(frame.slots.iter().filter(|slot| self.kept.groups.weight(**slot) > 0));
            }
        }
        firing
    }

    fn next_fired(&mut self) -> Result<Option<Delta>, ArrowError> {
        let Some(firing) = &self.firing else { return Ok(None) };
        let (from, to) = (self.cursor, (self.cursor + DELTA_ROWS_MAX).min(firing.len()));
        if from == to {
            return Ok(None);
        }
        let slots = &firing[from..to];
        let delta = self.rows(slots, self.kept.groups.evaluate(slots)?, None)?;
        self.cursor = to;
        Ok(Some(delta))
    }

    /// Forgets windows that take no more rows, and ends the step.
    fn finish(&mut self, clock: i64) -> Result<(), ArrowError> {
        if self.cut.is_some() {
            let bound = if clock == i64::MAX { clock } else { clock.saturating_sub(self.design.lateness) };
            for id in self.kept.frames.until(bound) {
                self.kept.forget_frame(id)?;
            }
            self.kept.progress.closed = clock;
        }
        self.kept.sweep(SWEPT_MAX)?;
        (self.firing, self.cursor) = (None, 0);
        self.kept.progress.started = true;
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            // Stamps of old epochs only need to differ from the new one.
            self.stamps.fill(0);
            1
        });
        Ok(())
    }

    fn step(&mut self, context: &Context, out: &mut Output) -> Result<Flush, ArrowError> {
        if self.is_global() && !self.kept.progress.started && context.lane == 0 && self.kept.groups.len() == 0 {
            let (slots, _) = self.kept.intern(&[], &[], 1);
            self.note(&slots, None)?;
        }
        if let Some(delta) = self.next_changes()? {
            out.emit(delta);
            return Ok(Flush::More);
        }
        // Processing time may stand still, and is never taken back.
        let clock = self.design.clock(context).max(self.kept.progress.closed);
        if self.cut.is_some() && self.firing.is_none() {
            let firing = self.close(clock);
            self.firing = Some(firing);
        }
        if let Some(delta) = self.next_fired()? {
            out.emit(delta);
            return Ok(Flush::More);
        }
        self.finish(clock)?;
        Ok(Flush::Done)
    }
}

impl Operator for Grouped {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let taken =
            self.feed.read(&self.design, self.cut.as_ref(), port, delta, self.kept.progress.closed, context, out)?;
        if taken.rows() == 0 {
            return Ok(());
        }
        self.kept.advance(context).and_then(|()| self.take(taken)).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.kept.advance(context).map_err(|error| self.design.guard.broken(error))?;
        self.step(context, out).map_err(|error| self.design.guard.broken(error))
    }

    fn next_due(&self) -> Option<Timestamp> {
        if self.is_global() && !self.kept.progress.started {
            return Some(Timestamp::MIN);
        }
        if self.design.domain != TimeDomain::Processing {
            return None;
        }
        let frees = self.kept.frames.first().map(|end| end.saturating_add(self.design.lateness));
        self.kept.frames.first_unfired().into_iter().chain(frees).min().map(Timestamp)
    }

    fn state_size(&self) -> StateSize {
        let mut size = self.kept.size();
        size.bytes += 4 * self.stamps.capacity() as u64;
        size
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        // Keys that cannot be shown are not worth another error.
        self.kept.largest_keys(&self.design.schema, most).unwrap_or_default()
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.kept)
    }
}

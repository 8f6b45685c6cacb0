//! [`Grouped`]: one row a group (and window), kept up to date.
//!
//! A group's old row is evaluated when a step first touches it, its new row when the step is flushed; only real changes
//! leave, the retraction before the insertion. A window that emits on close is silent until it fires, then says its
//! rows once; within the allowed lateness it is kept and corrected like any other group.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, DataType};
use tidemill_base::Timestamp;

use super::Design;
use super::accumulator::Rows;
use super::changes::changes;
use super::feed::{Feed, Taken};
use super::groups::Groups;
use super::windows::{Cut, Frames, Span};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::plan::{Emit, TimeDomain};

/// Groups compared in one call of `flush`: each gives at most two rows.
const COMPARED_MAX: usize = DELTA_ROWS_MAX / 2;

/// Aggregates by key, and by window.
pub(super) struct Grouped {
    design: Arc<Design>,
    feed: Feed,
    cut: Option<Cut>,
    groups: Groups,
    frames: Frames,
    /// The epoch in which each slot was last touched; 0 for slots that are no group's.
    stamps: Vec<u32>,
    epoch: u32,
    touched: Vec<Touched>,
    /// What is being sent of `touched` or `firing`.
    cursor: usize,
    /// Groups of windows that close in this step.
    firing: Option<Vec<u32>>,
    /// How far windows have been closed.
    closed: i64,
    /// Whether the row of a global aggregate is there.
    started: bool,
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
        let mut types = design.key_types.clone();
        if cut.is_some() {
            types.push(DataType::UInt32);
        }
        let groups = design.groups(types)?;
        Ok(Grouped {
            design,
            feed,
            cut,
            groups,
            frames: Frames::default(),
            stamps: Vec::new(),
            epoch: 1,
            touched: Vec::new(),
            cursor: 0,
            firing: None,
            closed: i64::MIN,
            started: false,
        })
    }

    /// Whether the aggregate has exactly one row, always.
    fn is_global(&self) -> bool {
        self.design.keys.is_empty() && self.cut.is_none()
    }

    /// Whether the rows of every group leave as they change.
    fn is_live(&self) -> bool {
        self.cut.is_none() || self.design.emit == Emit::Changes
    }

    /// The slots of rows, whose frames are `ids` when there are windows.
    fn slots(&mut self, keys: &[ArrayRef], ids: Option<&[u32]>, rows: usize) -> Vec<u32> {
        let mut keys = keys.to_vec();
        if let Some(ids) = ids {
            keys.push(Arc::new(UInt32Array::from(ids.to_vec())));
        }
        let slots = self.groups.intern(&keys, rows);
        self.stamps.resize(self.groups.slots().max(self.stamps.len()), 0);
        slots
    }

    /// Notes which groups the rows touch for the first time in this step, and what their rows are now.
    fn note(&mut self, slots: &[u32], ids: Option<&[u32]>) -> Result<(), ArrowError> {
        let mut fresh = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let stamp = &mut self.stamps[*slot as usize];
            if *stamp == self.epoch {
                continue;
            }
            let born = std::mem::replace(stamp, self.epoch) == 0;
            let fired = match ids {
                None => true,
                Some(ids) => {
                    let frame = self.frames.get_mut(ids[row]);
                    if born {
                        frame.slots.push(*slot);
                    }
                    frame.fired
                }
            };
            if fired {
                fresh.push(*slot);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let present = |slot: &u32| if self.is_global() { self.started } else { self.groups.weight(*slot) > 0 };
        let mut alive = Vec::new();
        let was = fresh.iter().map(|slot| {
            present(slot).then(|| {
                alive.push(*slot);
                (alive.len() - 1) as u32
            })
        });
        let was = was.collect();
        let old = self.groups.evaluate(&alive)?;
        self.touched.push(Touched { slots: fresh, was, old });
        Ok(())
    }

    fn take(&mut self, taken: Taken) -> Result<(), ArrowError> {
        let ids = self.cut.is_some().then(|| {
            let fired = self.is_live();
            self.frames.ids(taken.spans(), fired)
        });
        let slots = self.slots(taken.keys(), ids.as_deref(), taken.rows());
        self.note(&slots, ids.as_deref())?;
        match &taken {
            Taken::Rows { delta, .. } => {
                let rows = Rows { columns: delta.batch().columns(), weights: delta.weights() };
                self.groups.update(&slots, &rows)
            }
            Taken::Partials { weights, parts, columns, .. } => {
                self.groups.merge_partial(&slots, weights.as_deref(), parts, columns)
            }
        }
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
            let present = global || self.groups.weight(*slot) > 0;
            is.push(present.then_some(alive.len() as u32));
            if present {
                alive.push(*slot);
            }
        }
        let new = self.groups.evaluate(&alive)?;
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
                if self.groups.weight(slot) == 0 {
                    self.forget(slot);
                }
            }
        }
        Ok(Some(delta))
    }

    fn forget(&mut self, slot: u32) {
        self.groups.retire(slot);
        self.stamps[slot as usize] = 0;
    }

    /// Rows of groups with the given columns of calls.
    fn rows(&self, slots: &[u32], calls: Vec<ArrayRef>, weights: Option<Vec<i64>>) -> Result<Delta, ArrowError> {
        let mut keys = self.groups.keys(slots);
        let mut spans: Option<Vec<Span>> = None;
        if self.cut.is_some() {
            let ids = keys.pop();
            let ids = ids.as_ref().and_then(|ids| ids.as_any().downcast_ref::<UInt32Array>());
            spans = ids.map(|ids| ids.values().iter().map(|id| self.frames.get(*id).span).collect());
        }
        self.design.rows(keys, spans.as_deref(), calls, weights, slots.len())
    }

    /// Groups of the windows that close now, which are fired from here on.
    fn close(&mut self, clock: i64) -> Vec<u32> {
        let mut firing = Vec::new();
        for id in self.frames.until(clock) {
            let frame = self.frames.get_mut(id);
            if !std::mem::replace(&mut frame.fired, true) {
                firing.extend(frame.slots.iter().filter(|slot| self.groups.weight(**slot) > 0));
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
        let delta = self.rows(slots, self.groups.evaluate(slots)?, None)?;
        self.cursor = to;
        Ok(Some(delta))
    }

    /// Forgets windows that take no more rows, and ends the step.
    fn finish(&mut self, clock: i64) {
        if self.cut.is_some() {
            let bound = if clock == i64::MAX { clock } else { clock.saturating_sub(self.design.lateness) };
            for id in self.frames.until(bound) {
                self.frames.remove(id).into_iter().for_each(|slot| self.forget(slot));
            }
            self.closed = self.closed.max(clock);
        }
        (self.firing, self.cursor) = (None, 0);
        self.started = true;
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            // Stamps of old epochs only need to differ from the new one.
            self.stamps.iter_mut().filter(|stamp| **stamp > 0).for_each(|stamp| *stamp = 1);
            2
        });
    }

    fn step(&mut self, context: &Context, out: &mut Output) -> Result<Flush, ArrowError> {
        if self.is_global() && !self.started && context.lane == 0 && self.groups.len() == 0 {
            let slots = self.slots(&[], None, 1);
            self.note(&slots, None)?;
        }
        if let Some(delta) = self.next_changes()? {
            out.emit(delta);
            return Ok(Flush::More);
        }
        let clock = self.design.clock(context);
        if self.cut.is_some() && self.firing.is_none() {
            let firing = self.close(clock);
            self.firing = Some(firing);
        }
        if let Some(delta) = self.next_fired()? {
            out.emit(delta);
            return Ok(Flush::More);
        }
        self.finish(clock);
        Ok(Flush::Done)
    }
}

impl Operator for Grouped {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let taken = self.feed.read(&self.design, self.cut.as_ref(), port, delta, self.closed, context, out)?;
        if taken.rows() == 0 {
            return Ok(());
        }
        self.take(taken).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.step(context, out).map_err(|error| self.design.guard.broken(error))
    }

    fn next_due(&self) -> Option<Timestamp> {
        if self.is_global() && !self.started {
            return Some(Timestamp::MIN);
        }
        if self.design.domain != TimeDomain::Processing {
            return None;
        }
        let frees = self.frames.first().map(|end| end.saturating_add(self.design.lateness));
        self.frames.first_unfired().into_iter().chain(frees).min().map(Timestamp)
    }

    fn state_size(&self) -> StateSize {
        let (mut size, (_, frames)) = (self.groups.size(), self.frames.size());
        size.bytes += frames + 4 * self.stamps.capacity() as u64;
        size
    }
}

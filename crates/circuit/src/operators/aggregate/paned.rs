//! [`Paned`]: hopping and cumulating windows that emit on close, by panes.
//!
//! A row is counted once, in its pane; a window merges its panes when it fires. So an event costs the same however many
//! windows it is in. A row that came too late for the first windows of its pane is counted in a pane of its own, which
//! later windows alone merge.

use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_schema::{ArrowError, DataType};
use tidemill_base::Timestamp;

use super::Design;
use super::accumulator::Rows;
use super::feed::{Feed, Taken};
use super::groups::Groups;
use super::windows::{Cut, Frames, Panes, Span};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::operators::time::floor;
use crate::plan::TimeDomain;

/// Aggregates by key and pane.
pub(super) struct Paned {
    design: Arc<Design>,
    feed: Feed,
    cut: Cut,
    panes: Panes,
    groups: Groups,
    frames: Frames,
    /// Slots that hang in a frame.
    known: Vec<bool>,
    /// The end of the last window that fired.
    fired: i64,
    closed: i64,
    /// Rows that wait to be sent.
    ready: Option<Delta>,
}

impl Paned {
    /// No groups yet; or what is not supported.
    pub fn new(design: Arc<Design>, feed: Feed, cut: Cut, panes: Panes) -> Result<Self, Error> {
        let mut types = design.key_types.clone();
        types.push(DataType::UInt32);
        let groups = design.groups(types)?;
        Ok(Paned {
            design,
            feed,
            cut,
            panes,
            groups,
            frames: Frames::default(),
            known: Vec::new(),
            fired: i64::MIN,
            closed: i64::MIN,
            ready: None,
        })
    }

    fn take(&mut self, taken: Taken) -> Result<(), ArrowError> {
        let ids = self.frames.ids(taken.spans(), false);
        let mut keys = taken.keys().to_vec();
        keys.push(Arc::new(UInt32Array::from(ids.clone())));
        let slots = self.groups.intern(&keys, taken.rows());
        self.known.resize(self.groups.slots().max(self.known.len()), false);
        for (slot, id) in slots.iter().zip(&ids) {
            if !std::mem::replace(&mut self.known[*slot as usize], true) {
                self.frames.get_mut(*id).slots.push(*slot);
            }
        }
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

    /// The end of the next window that any pane is in.
    fn next_window(&self) -> Option<i64> {
        if self.fired == i64::MIN {
            return self.frames.first();
        }
        let end = self.fired.checked_add(self.panes.step)?;
        let pane = self.frames.next_after(self.panes.start(end))?;
        Some(pane.max(end))
    }

    /// The rows of the window that ends at `end`.
    fn fire(&mut self, end: i64) -> Result<Delta, ArrowError> {
        self.fired = end;
        let start = self.panes.start(end);
        let frames = self.frames.between(start, end);
        let frames = frames.into_iter().filter(|id| self.frames.get(*id).span.1 <= end);
        let from: Vec<u32> = frames.flat_map(|id| self.frames.get(id).slots.iter().copied()).collect();
        let mut keys = self.groups.keys(&from);
        keys.pop();
        let mut window = self
            .design
            .groups(self.design.key_types.clone())
            .map_err(|error| ArrowError::ComputeError(error.to_string()))?;
        let to = window.intern(&keys, from.len());
        window.merge(&self.groups, &from, &to)?;
        let alive: Vec<u32> = (0..window.slots() as u32).filter(|slot| window.weight(*slot) > 0).collect();
        let spans: Vec<Span> = vec![(end, start); alive.len()];
        let (keys, calls) = (window.keys(&alive), window.evaluate(&alive)?);
        let delta = self.design.rows(keys, Some(&spans), calls, None, alive.len());
        self.evict(end);
        delta
    }

    /// Forgets panes that are in no window that ends after `end`.
    fn evict(&mut self, end: i64) {
        let bound = match end {
            i64::MAX => end,
            _ if self.panes.cumulate => floor(end, self.panes.size, self.panes.offset),
            _ => end.saturating_sub(self.panes.size - self.panes.step),
        };
        for id in self.frames.until(bound) {
            for slot in self.frames.remove(id) {
                self.groups.retire(slot);
                self.known[slot as usize] = false;
            }
        }
    }

    fn step(&mut self, clock: i64, out: &mut Output) -> Result<Flush, ArrowError> {
        let mut ready: Vec<Delta> = self.ready.take().into_iter().collect();
        let mut rows: usize = ready.iter().map(Delta::rows).sum();
        while rows < DELTA_ROWS_MAX {
            let Some(end) = self.next_window().filter(|end| *end <= clock) else { break };
            let delta = self.fire(end)?;
            rows += delta.rows();
            ready.push(delta);
        }
        if rows == 0 {
            self.evict(clock);
            self.closed = self.closed.max(clock);
            return Ok(Flush::Done);
        }
        let delta = Delta::concat(&self.design.schema, &ready)?;
        let sent = rows.min(DELTA_ROWS_MAX);
        out.emit(delta.slice(0, sent));
        self.ready = (rows > sent).then(|| delta.slice(sent, rows - sent));
        Ok(Flush::More)
    }
}

impl Operator for Paned {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let taken = self.feed.read(&self.design, Some(&self.cut), port, delta, self.closed, context, out)?;
        if taken.rows() == 0 {
            return Ok(());
        }
        self.take(taken).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.step(self.design.clock(context), out).map_err(|error| self.design.guard.broken(error))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.next_window().map(Timestamp);
        due.filter(|_| self.design.domain == TimeDomain::Processing)
    }

    fn state_size(&self) -> StateSize {
        let (mut size, (_, frames)) = (self.groups.size(), self.frames.size());
        size.bytes += frames + self.known.capacity() as u64;
        size
    }
}

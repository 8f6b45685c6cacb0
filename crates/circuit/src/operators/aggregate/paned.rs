//! [`Paned`]: hopping and cumulating windows that emit on close, by panes.
//!
//! A row is counted once, in its pane; a window merges its panes when it fires. So an event costs the same however many
//! windows it is in. A row that came too late for the first windows of its pane is counted in a pane of its own, which
//! later windows alone merge.

use std::sync::Arc;

use arrow_schema::ArrowError;
use tidemill_base::Timestamp;

use super::Design;
use super::feed::{Feed, Taken};
use super::kept::{Kept, Tables};
use super::windows::{Cut, Panes, Span};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::keep::keeper::{Keeper, Progress};
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::operators::time::floor;
use crate::plan::TimeDomain;

/// Aggregates by key and pane.
pub(super) struct Paned {
    design: Arc<Design>,
    feed: Feed,
    cut: Cut,
    panes: Panes,
    kept: Kept,
    /// The end of the last window that fired in this step, or that must have fired before.
    fired: Option<i64>,
    /// Rows that wait to be sent.
    ready: Option<Delta>,
}

impl Paned {
    /// No groups yet; or what is not supported.
    pub fn new(design: Arc<Design>, feed: Feed, cut: Cut, panes: Panes) -> Result<Self, Error> {
        let kept = Kept::new(&design.recipe, &design.key_types, true, false, Tables::All(Vec::new()));
        let kept = kept.map_err(|what| design.unsupported.error(what))?;
        Ok(Paned { design, feed, cut, panes, kept, fired: None, ready: None })
    }

    fn take(&mut self, taken: Taken) -> Result<(), ArrowError> {
        let (slots, _) = self.kept.slots_for(taken.keys(), taken.spans(), taken.rows());
        self.kept.take(&slots, &taken)
    }

    /// The end of the last window that has fired, on the windows' grid; none before the first watermark.
    fn last_fired(&self) -> Option<i64> {
        let closed = self.kept.progress.closed;
        self.fired.or_else(|| (closed != i64::MIN).then(|| floor(closed, self.panes.step, self.panes.offset)))
    }

    /// The end of the next window that any pane is in.
    fn next_window(&self) -> Option<i64> {
        let Some(fired) = self.last_fired() else { return self.kept.frames.first() };
        let end = fired.checked_add(self.panes.step)?;
        let pane = self.kept.frames.next_after(self.panes.start(end))?;
        Some(pane.max(end))
    }

    /// The rows of the window that ends at `end`.
    fn fire(&mut self, end: i64) -> Result<Delta, ArrowError> {
        self.fired = Some(end);
        let start = self.panes.start(end);
        let frames = self.kept.frames.between(start, end);
        let frames = frames.into_iter().filter(|id| self.kept.frames.get(*id).span.1 <= end);
        let from: Vec<u32> = frames.flat_map(|id| self.kept.frames.get(id).slots.iter().copied()).collect();
        let (keys, _) = self.kept.keys(&from);
        let mut window = self
            .design
            .groups(self.design.key_types.clone())
            .map_err(|error| ArrowError::ComputeError(error.to_string()))?;
        let to = window.intern(&keys, from.len());
        window.merge(&self.kept.groups, &from, &to)?;
        let alive: Vec<u32> = (0..window.slots() as u32).filter(|slot| window.weight(*slot) > 0).collect();
        let spans: Vec<Span> = vec![(end, start); alive.len()];
        let (keys, calls) = (window.keys(&alive), window.evaluate(&alive)?);
        let delta = self.design.rows(keys, Some(&spans), calls, None, alive.len());
        self.evict(end)?;
        delta
    }

    /// Forgets panes that are in no window that ends after `end`.
    fn evict(&mut self, end: i64) -> Result<(), ArrowError> {
        let bound = match end {
            i64::MAX => end,
            _ if self.panes.cumulate => floor(end, self.panes.size, self.panes.offset),
            _ => end.saturating_sub(self.panes.size - self.panes.step),
        };
        self.kept.frames.until(bound).into_iter().try_for_each(|id| self.kept.forget_frame(id))
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
            self.evict(clock)?;
            self.kept.progress = Progress { closed: clock, started: true };
            self.fired = None;
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
        let taken =
            self.feed.read(&self.design, Some(&self.cut), port, delta, self.kept.progress.closed, context, out)?;
        if taken.rows() == 0 {
            return Ok(());
        }
        self.take(taken).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        let clock = self.design.clock(context).max(self.kept.progress.closed);
        self.step(clock, out).map_err(|error| self.design.guard.broken(error))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.next_window().map(Timestamp);
        due.filter(|_| self.design.domain == TimeDomain::Processing)
    }

    fn state_size(&self) -> StateSize {
        self.kept.size()
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        // Keys that cannot be shown are not worth another error.
        self.kept.largest_keys(&self.design.schema, most).unwrap_or_default()
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.kept)
    }
}

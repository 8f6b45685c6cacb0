//! Which windows a row is in, which of them it is too late for, and [`Frames`]: the windows or panes that have rows.
//!
//! A window `[start, end)` takes rows until the watermark that counts reaches `end` + allowed lateness. For a suspect
//! that is the watermark it carries, so lateness depends on its partition alone; besides, no row enters a window whose
//! state is gone already.

use std::collections::BTreeMap;

use arrow_array::UInt32Array;

use super::Design;
use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::operator::{Context, Output};
use crate::operators::time::{floor, millis_or_never, read_times, unexpired, windows_of};
use crate::plan::{Expiry, TimeDomain, Window, WindowKey};

/// A window as (end, start), or a pane as (its end, the end of the first window that it counts in).
pub(super) type Span = (i64, i64);

/// Rows, each with the window or pane it goes to.
pub(super) struct Placed {
    /// The rows; a row in several windows is there several times.
    pub delta: Delta,
    /// For each row its window or pane.
    pub spans: Vec<Span>,
}

/// How time is cut for an aggregate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// The rows' time, into windows.
    Windows(usize, Window),
    /// The rows' time, into panes of which windows are made.
    Panes(usize, Panes),
    /// Windows that the rows carry: start and end.
    Carried(usize, usize),
    /// No windows: groups of rows that go with their time.
    Expiring(Expiry),
}

/// Panes: slices of `step` that windows are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panes {
    /// The length of a pane, and the distance of two windows' ends.
    pub step: i64,
    /// The length of the longest window.
    pub size: i64,
    /// The shift of the grid.
    pub offset: i64,
    /// Whether windows start together, as CUMULATE's do.
    pub cumulate: bool,
}

impl Panes {
    /// The panes of a hopping or cumulating window.
    pub fn of(window: &Window) -> Option<Self> {
        match *window {
            Window::Hop { slide, size, offset } => Some(Panes { step: slide, size, offset, cumulate: false }),
            Window::Cumulate { step, max, offset } => Some(Panes { step, size: max, offset, cumulate: true }),
            Window::Tumble { .. } | Window::Session { .. } => None,
        }
    }

    /// The end of the pane of a time.
    fn end(&self, time: i64) -> i64 {
        floor(time, self.step, self.offset).saturating_add(self.step)
    }

    /// The end of the last window that a pane counts in.
    pub fn last_end(&self, pane: i64) -> i64 {
        if self.cumulate {
            floor(pane.saturating_sub(1), self.size, self.offset).saturating_add(self.size)
        } else {
            pane.saturating_add(self.size - self.step)
        }
    }

    /// The start of the window that ends at `end`.
    pub fn start(&self, end: i64) -> i64 {
        if self.cumulate { floor(end.saturating_sub(1), self.size, self.offset) } else { end.saturating_sub(self.size) }
    }

    /// The pane of a time for a row that is late for windows that end at or before `bound`; none when for all.
    fn admit(&self, pane: i64, bound: i64) -> Option<Span> {
        if pane > bound {
            return Some((pane, pane));
        }
        let steps = (i128::from(bound) - i128::from(pane)) / i128::from(self.step) + 1;
        let from = i128::from(pane) + steps * i128::from(self.step);
        let from = i64::try_from(from).ok()?;
        (from <= self.last_end(pane)).then_some((pane, from))
    }
}

/// What the watermark of a row says: windows that end at or before it (less the lateness) are too late for it.
fn bound_of(design: &Design, delta: &Delta, row: usize, closed: i64) -> i64 {
    let carried = match design.domain {
        TimeDomain::Event => delta.carried().map_or(NO_SUSPECT, |carried| carried[row]),
        TimeDomain::Processing => NO_SUSPECT,
    };
    let watermark = carried.max(closed);
    if watermark == i64::MIN { watermark } else { watermark.saturating_sub(design.lateness) }
}

/// Places rows; those that are late for all their windows are counted and left out.
pub(super) fn place(
    design: &Design,
    cut: &Cut,
    delta: Delta,
    closed: i64,
    context: &Context,
    out: &mut Output,
) -> Result<Placed, Error> {
    let guard = &design.guard;
    match *cut {
        Cut::Windows(time, window) => {
            let (delta, times) = read_times(guard, delta, time, context, out)?;
            let spans = |row: usize, each: &mut dyn FnMut(i64, i64)| windows_of(&window, times[row], each);
            gather(design, delta, closed, context, out, spans)
        }
        Cut::Carried(start, end) => {
            let (delta, _) = read_times(guard, delta, start, context, out)?;
            let (delta, ends) = read_times(guard, delta, end, context, out)?;
            let (delta, starts) = read_times(guard, delta, start, context, out)?;
            gather(design, delta, closed, context, out, |row, each| each(starts[row], ends[row]))
        }
        Cut::Expiring(expiry) => {
            let delta = unexpired(guard, expiry, delta, closed, context, out)?;
            let times = millis_or_never(guard, delta.column(expiry.time))?;
            let end = |time: i64| time.saturating_add(expiry.after_ms).saturating_add(1);
            let ends = times.into_iter().map(|time| if time == i64::MAX { time } else { end(time) });
            let spans = ends.map(|end| (end, end)).collect();
            Ok(Placed { delta, spans })
        }
        Cut::Panes(time, panes) => {
            let (delta, times) = read_times(guard, delta, time, context, out)?;
            let (mut rows, mut spans) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
            let mut pane = i64::MIN;
            for (row, time) in times.iter().enumerate() {
                if *time >= pane || *time < pane.saturating_sub(panes.step) {
                    pane = panes.end(*time);
                }
                match panes.admit(pane, bound_of(design, &delta, row, closed)) {
                    Some(span) => {
                        rows.push(row as u32);
                        spans.push(span);
                    }
                    None => guard.late(&delta, row, context, out),
                }
            }
            picked(design, delta, rows, spans)
        }
    }
}

/// Places each row in the windows that `windows` names and that are not too late for it.
fn gather(
    design: &Design,
    delta: Delta,
    closed: i64,
    context: &Context,
    out: &mut Output,
    windows: impl Fn(usize, &mut dyn FnMut(i64, i64)),
) -> Result<Placed, Error> {
    let (mut rows, mut spans) = (Vec::with_capacity(delta.rows()), Vec::with_capacity(delta.rows()));
    for row in 0..delta.rows() {
        let bound = bound_of(design, &delta, row, closed);
        let before = rows.len();
        windows(row, &mut |start, end| {
            if end > bound {
                rows.push(row as u32);
                spans.push((end, start));
            }
        });
        if rows.len() == before {
            design.guard.late(&delta, row, context, out);
        }
    }
    picked(design, delta, rows, spans)
}

fn picked(design: &Design, delta: Delta, rows: Vec<u32>, spans: Vec<Span>) -> Result<Placed, Error> {
    let same = rows.len() == delta.rows() && rows.iter().enumerate().all(|(index, row)| index == *row as usize);
    let delta = match same {
        true => delta,
        false => delta.take(&UInt32Array::from(rows)).map_err(|error| design.guard.broken(error))?,
    };
    Ok(Placed { delta, spans })
}

/// Leaves out partial states of windows or panes that are gone already.
pub(super) fn admit_partials(design: &Design, cut: &Cut, spans: &mut [Span], closed: i64) -> Option<Vec<u32>> {
    let bound = if closed == i64::MIN { closed } else { closed.saturating_sub(design.lateness) };
    if spans.iter().all(|span| span.0 > bound) {
        return None;
    }
    let mut kept = Vec::with_capacity(spans.len());
    for (row, span) in spans.iter_mut().enumerate() {
        let admitted = match cut {
            Cut::Panes(_, panes) => panes.admit(span.0, bound).map(|(pane, from)| (pane, from.max(span.1))),
            Cut::Windows(..) | Cut::Carried(..) | Cut::Expiring(_) => (span.0 > bound).then_some(*span),
        };
        if let Some(admitted) = admitted {
            *span = admitted;
            kept.push(row as u32);
        }
    }
    Some(kept)
}

impl Cut {
    /// How a window key that is not a session cuts time; hopping windows by panes when that is enough.
    pub fn of(key: &WindowKey, by_panes: bool) -> Option<Self> {
        match key {
            WindowKey::Time { window: Window::Session { .. }, .. } => None,
            WindowKey::Time { time, window, .. } => Some(match Panes::of(window).filter(|_| by_panes) {
                Some(panes) => Cut::Panes(*time, panes),
                None => Cut::Windows(*time, *window),
            }),
            WindowKey::Columns { start, end, .. } => Some(Cut::Carried(*start, *end)),
        }
    }
}

impl Cut {
    /// The columns that are read.
    pub fn columns(&self) -> Vec<usize> {
        match *self {
            Cut::Windows(time, _) | Cut::Panes(time, _) => vec![time],
            Cut::Carried(start, end) => vec![start, end],
            Cut::Expiring(expiry) => vec![expiry.time],
        }
    }

    /// The same over other columns; `at` says where each is.
    pub fn over(self, at: impl Fn(usize) -> usize) -> Self {
        match self {
            Cut::Windows(time, window) => Cut::Windows(at(time), window),
            Cut::Panes(time, panes) => Cut::Panes(at(time), panes),
            Cut::Carried(start, end) => Cut::Carried(at(start), at(end)),
            Cut::Expiring(expiry) => Cut::Expiring(Expiry { time: at(expiry.time), ..expiry }),
        }
    }
}

/// A window or pane that has rows.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Its span.
    pub span: Span,
    /// Whether its rows have left, so that changes are corrections.
    pub fired: bool,
    /// The slots of its groups.
    pub slots: Vec<u32>,
}

/// The windows or panes that have rows, numbered densely.
#[derive(Debug, Default)]
pub(super) struct Frames {
    order: BTreeMap<Span, u32>,
    list: Vec<Frame>,
    free: Vec<u32>,
}

impl Frames {
    /// The number of each span; new ones are fired from the start when `fired`.
    pub fn ids(&mut self, spans: &[Span], fired: bool) -> Vec<u32> {
        let mut last: Option<(Span, u32)> = None;
        let mut ids = Vec::with_capacity(spans.len());
        for span in spans {
            let id = match last {
                Some((known, id)) if known == *span => id,
                _ => self.id(*span, fired),
            };
            last = Some((*span, id));
            ids.push(id);
        }
        ids
    }

    fn id(&mut self, span: Span, fired: bool) -> u32 {
        if let Some(id) = self.order.get(&span) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.list.push(Frame::default());
            (self.list.len() - 1) as u32
        });
        self.list[id as usize] = Frame { span, fired, slots: Vec::new() };
        self.order.insert(span, id);
        id
    }

    /// A frame by its number.
    pub fn get(&self, id: u32) -> &Frame {
        &self.list[id as usize]
    }

    /// A frame by its number.
    pub fn get_mut(&mut self, id: u32) -> &mut Frame {
        &mut self.list[id as usize]
    }

    /// The frames whose span's first part is at most `bound`, in order.
    pub fn until(&self, bound: i64) -> Vec<u32> {
        self.order.range(..=(bound, i64::MAX)).map(|(_, id)| *id).collect()
    }

    /// The frames whose span's first part is above `after` and at most `bound`, in order.
    pub fn between(&self, after: i64, bound: i64) -> Vec<u32> {
        if after >= bound {
            return Vec::new();
        }
        self.order.range((after + 1, i64::MIN)..=(bound, i64::MAX)).map(|(_, id)| *id).collect()
    }

    /// The least first part of a span above `after`.
    pub fn next_after(&self, after: i64) -> Option<i64> {
        if after == i64::MAX {
            return None;
        }
        self.order.range((after + 1, i64::MIN)..).next().map(|((first, _), _)| *first)
    }

    /// The least first part of a span.
    pub fn first(&self) -> Option<i64> {
        self.order.keys().next().map(|(first, _)| *first)
    }

    /// The least first part of a span that has not fired.
    pub fn first_unfired(&self) -> Option<i64> {
        self.order.iter().find(|(_, id)| !self.list[**id as usize].fired).map(|((first, _), _)| *first)
    }

    /// Forgets a frame and returns its slots.
    pub fn remove(&mut self, id: u32) -> Vec<u32> {
        let frame = std::mem::take(&mut self.list[id as usize]);
        self.order.remove(&frame.span);
        self.free.push(id);
        frame.slots
    }

    /// The number of frames and the bytes they take.
    pub fn size(&self) -> (u64, u64) {
        let slots: usize = self.list.iter().map(|frame| frame.slots.capacity() * 4).sum();
        let bytes = self.list.capacity() * size_of::<Frame>() + self.order.len() * 36 + slots;
        (self.order.len() as u64, bytes as u64)
    }
}

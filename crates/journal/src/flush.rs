//! Flushing: one flush for many records, and segments made ready ahead of the writers.
//!
//! [`Shared::flush_once`] is all there is to it; the thread around it decides when. It wakes at once when somebody waits
//! for a flush, every few milliseconds while records come, and rests while none do; writers never wake it, so that an
//! append makes no system call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tidemill_base::planted::{self, Bug};

use crate::error::Result;
use crate::journal::Shared;
use crate::level::Level;
use crate::map::PAGE_BYTES;
use crate::notify::lock;
use crate::segment::{Place, Segment};

/// Pages are made ready up to this far ahead of the writers,
const AHEAD_BYTES: u64 = 8 << 20;
/// once less than this is left.
const AHEAD_BYTES_MIN: u64 = 4 << 20;
/// Pages made ready again behind a flush, which leaves the last one read-only.
const BEHIND_FLUSH_BYTES: u64 = 64 << 10;
/// How often the thread looks while records come.
const BUSY: Duration = Duration::from_millis(2);

/// The thread of a journal, until it is closed or poisoned.
pub(crate) fn run(shared: &Shared, woken: &Receiver<()>) {
    let rest = shared.options.flush_every.max(Duration::from_millis(1));
    let mut wait = BUSY;
    let mut seen = shared.durable(Level::Process);
    let mut started = shared.clock.monotonic();
    while !shared.closed.load(Ordering::SeqCst) {
        let asked = match woken.recv_timeout(wait) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        shared.prepare();
        let since = shared.clock.monotonic().saturating_sub(started);
        if asked || since >= shared.options.flush_every {
            std::thread::sleep(shared.options.flush_pause.saturating_sub(since));
            started = shared.clock.monotonic();
            if shared.flush_once().is_err() {
                // Logged and told to everybody who waits; nothing is left to do.
                return;
            }
        }
        let last = shared.durable(Level::Process);
        wait = if last > seen { BUSY.min(rest) } else { rest };
        seen = last;
    }
}

impl Shared {
    /// Flushes what is published and not yet flushed, oldest segment first, and tells those who wait.
    pub fn flush_once(&self) -> Result<()> {
        let _one = lock(&self.flushing);
        self.unfailed()?;
        while let Some(segment) = self.first_live() {
            let place = segment.published();
            let flushed = segment.flushed();
            if flushed != Some(place) || segment.lacks_mark() {
                self.flush_segment(&segment, place)?;
            }
            if !segment.ends_at(place) {
                break;
            }
            self.seal(&segment);
        }
        Ok(())
    }

    /// The oldest segment that is not full and flushed.
    fn first_live(&self) -> Option<Arc<Segment>> {
        lock(&self.segments).entries.iter().find_map(|entry| entry.live.clone())
    }

    /// Lets go of the mapping of a segment that is full and flushed.
    fn seal(&self, segment: &Segment) {
        let mut segments = lock(&self.segments);
        let sealed = segments.entries.iter_mut().find(|entry| entry.header.segment == segment.header.segment);
        if let Some(entry) = sealed {
            entry.live = None;
        }
    }

    fn flush_segment(&self, segment: &Segment, place: Place) -> Result<()> {
        // The mark tells what the flush before this one covered, for of this one nothing is known yet.
        let mark = segment.write_mark();
        if !planted::is(Bug::SkipFlush) {
            let mut flushed = segment.region.flush(0, place.offset);
            if flushed.is_err() && planted::is(Bug::RetryFlush) {
                flushed = segment.region.flush(0, place.offset);
            }
            flushed.map_err(|cause| self.poison(format!("flushing segment {}", segment.header.segment), cause))?;
        }
        segment.set_flushed(place);
        segment.set_marked(mark);
        let last = segment.last_before(place);
        self.flushed.fetch_max(last.0, Ordering::SeqCst);
        self.waiters.reached(Level::Flushed, self.durable(Level::Flushed));
        // Where a page cannot be had now, the writer's own store gets it.
        let _ = segment.region.populate(place.offset, (place.offset + BEHIND_FLUSH_BYTES).min(segment.bytes));
        Ok(())
    }

    /// Makes pages ready ahead of the writers, and another segment when this one is half full.
    pub fn prepare(&self) {
        let (segment, tail) = {
            let head = lock(&self.head);
            (Arc::clone(&head.segment), head.tail)
        };
        populate(&segment, tail.offset);
        let _making = lock(&self.making);
        let wanted = tail.offset >= segment.bytes / 2 && lock(&self.segments).spare.is_none();
        if !wanted || self.check().is_err() {
            return;
        }
        // For want of room the writer that needs it says so.
        let Ok(mut spare) = self.make_segment() else { return };
        let ready = AHEAD_BYTES.min(self.options.segment_bytes);
        if spare.region.populate(0, ready).is_ok() {
            spare.populated = ready;
        }
        lock(&self.segments).spare = Some(spare);
    }
}

fn populate(segment: &Segment, tail: u64) {
    let ready = segment.populated.load(Ordering::Relaxed).max(tail - tail % PAGE_BYTES);
    let target = (tail + AHEAD_BYTES).min(segment.bytes);
    if ready < target && (ready - tail.min(ready) < AHEAD_BYTES_MIN) {
        // Where pages cannot be had now, the writer's own stores get them.
        let _ = segment.region.populate(ready, target);
        segment.populated.store(target, Ordering::Relaxed);
    }
}

//! [`Progress`]: what a running pipeline has done so far, readable from any thread.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tidemill_base::Timestamp;
use tidemill_circuit::step::StepOutput;

/// Counters of a running pipeline.
#[derive(Debug)]
pub struct Progress {
    steps: AtomicU64,
    records: AtomicU64,
    rows_out: AtomicU64,
    late_rows: AtomicU64,
    dead_rows: AtomicU64,
    bad_records: AtomicU64,
    watermark: AtomicI64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Steps taken.
    pub steps: u64,
    /// Records taken in.
    pub records: u64,
    /// Rows that left the circuit; insertions and retractions both count.
    pub rows_out: u64,
    /// Rows that came after their window had closed.
    pub late_rows: u64,
    /// Rows left out because an expression failed on them.
    pub dead_rows: u64,
    /// Records left out because they could not be decoded.
    pub bad_records: u64,
    /// The least watermark of all sources that have one.
    pub watermark: Timestamp,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            steps: AtomicU64::new(0),
            records: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            dead_rows: AtomicU64::new(0),
            bad_records: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
        }
    }
}

impl Progress {
    /// The counters now.
    pub fn standing(&self) -> Standing {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Standing {
            steps: read(&self.steps),
            records: read(&self.records),
            rows_out: read(&self.rows_out),
            late_rows: read(&self.late_rows),
            dead_rows: read(&self.dead_rows),
            bad_records: read(&self.bad_records),
            watermark: Timestamp(self.watermark.load(Ordering::Relaxed)),
        }
    }

    /// Counts a step.
    pub(crate) fn count(&self, output: &StepOutput) {
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.steps, 1);
        add(&self.records, output.records);
        add(&self.rows_out, output.trailer.outputs.iter().map(|digest| digest.rows).sum());
        add(&self.late_rows, output.trailer.late_rows);
        add(&self.dead_rows, output.trailer.dead_rows);
        add(&self.bad_records, output.trailer.bad_records);
        self.watermark.store(output.watermark, Ordering::Relaxed);
    }
}

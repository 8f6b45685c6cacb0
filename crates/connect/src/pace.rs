//! How fast a generator goes: so many rows a second, in batches small enough to look even.

use std::time::Duration;

use tidemill_base::time::{Clock, SystemClock};
use tidemill_stage::Cancel;

use crate::blocks::RECORDS_MAX;

/// Batches a second when a rate is set.
const BATCHES_A_SECOND: u64 = 50;

/// The rate of a generator, since it started.
pub(crate) struct Pace<'a> {
    clock: SystemClock,
    rate: Option<u64>,
    cancel: &'a Cancel,
}

impl<'a> Pace<'a> {
    /// At most `rate` rows a second; none is as fast as they are taken.
    pub(crate) fn start(rate: Option<u64>, cancel: &'a Cancel) -> Self {
        Pace { clock: SystemClock::new(), rate, cancel }
    }

    /// Rows to make at a time.
    pub(crate) fn batch_rows(&self) -> u64 {
        self.rate.map_or(RECORDS_MAX as u64, |rate| (rate / BATCHES_A_SECOND).clamp(1, RECORDS_MAX as u64))
    }

    /// Waits until `rows` rows since the start are due; false when a stop was asked for.
    pub(crate) fn wait(&self, rows: u64) -> bool {
        let Some(rate) = self.rate else { return !self.cancel.is_draining() };
        let due = Duration::from_secs_f64(rows as f64 / rate.max(1) as f64);
        match due.checked_sub(self.clock.monotonic()) {
            Some(wait) if !wait.is_zero() => self.cancel.sleep(wait),
            _ => !self.cancel.is_draining(),
        }
    }
}

//! How many rows a step of an unbounded pipeline takes: as many as the budget buys at the measured cost of a row.

use std::time::Duration;

use tidemill_circuit::decode::STEP_ROWS_MAX;

/// How long a step may take where nobody waits for its answer.
const BUDGET: Duration = Duration::from_millis(20);

/// How long a step may take where requests wait for it.
const DECIDING_BUDGET: Duration = Duration::from_micros(300);

/// What a row is taken to cost before any was measured.
const FIRST_NANOS_PER_ROW: f64 = 2_000.0;

/// How much of a step's own overhead is not its rows' fault.
const STEP_NANOS: f64 = 50_000.0;

/// The share of the newest measurement in the running cost.
const WEIGHT: f64 = 0.2;

/// How many times the running cost a measurement counts for at most.
const JUMP_MAX: f64 = 4.0;

/// The running cost of a row.
#[derive(Debug)]
pub(crate) struct Pace {
    nanos_per_row: f64,
    budget: Duration,
}

impl Pace {
    /// Where nobody waits for what a step gives.
    pub(crate) fn new() -> Self {
        Pace { nanos_per_row: FIRST_NANOS_PER_ROW, budget: BUDGET }
    }

    /// Where requests do.
    pub(crate) fn deciding() -> Self {
        Pace { budget: DECIDING_BUDGET, ..Pace::new() }
    }

    /// The most rows that the next step takes.
    pub(crate) fn rows(&self) -> u64 {
        let rows = self.budget.as_nanos() as f64 / self.nanos_per_row;
        (rows as u64).clamp(1, STEP_ROWS_MAX as u64)
    }

    /// The most rows that the next step takes while state is being saved: what a save adds to a step, the rows that are
    /// written down before they change and the slice after it, so fits into the budget too.
    pub(crate) fn rows_while_saving(&self) -> u64 {
        (self.rows() / 2).max(1)
    }

    /// How many rows are so much work.
    pub(crate) fn rows_in(&self, work: Duration) -> u64 {
        ((work.as_nanos() as f64 / self.nanos_per_row) as u64).max(1)
    }

    /// A step of `rows` took `elapsed`.
    pub(crate) fn measured(&mut self, rows: u64, elapsed: Duration) {
        if rows == 0 {
            return;
        }
        let nanos = (elapsed.as_nanos() as f64 - STEP_NANOS).max(1.0) / rows as f64;
        // A step that had to leave its processor to others says little about a row too.
        let nanos = nanos.min(self.nanos_per_row * JUMP_MAX);
        // A step of few rows says little about a row.
        let weight = WEIGHT * (rows as f64 / 256.0).min(1.0);
        self.nanos_per_row += (nanos - self.nanos_per_row) * weight;
        self.nanos_per_row = self.nanos_per_row.max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_budget_buys() {
        let mut pace = Pace::new();
        assert_eq!(pace.rows(), 10_000);
        for _ in 0..100 {
            pace.measured(10_000, Duration::from_millis(100));
        }
        assert!((1_900..=2_100).contains(&pace.rows()), "10 us a row: {}", pace.rows());
        for _ in 0..200 {
            pace.measured(10_000, Duration::from_micros(60));
        }
        assert_eq!(pace.rows(), STEP_ROWS_MAX as u64, "cheap rows");
    }

    #[test]
    fn requests_wait_for_less_at_a_time() {
        assert_eq!(Pace::deciding().rows(), 150);
    }

    #[test]
    fn learns_little_from_small_steps() {
        let mut pace = Pace::new();
        pace.measured(1, Duration::from_millis(20));
        pace.measured(0, Duration::from_millis(20));
        assert!(pace.rows() > 1_000, "{}", pace.rows());
    }
}

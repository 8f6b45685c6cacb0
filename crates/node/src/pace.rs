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

/// The work over which it is measured how much of it is done in a time.
const WINDOW_NANOS: f64 = 50_000_000.0;

/// How much of that one turn counts for at most: a stall says little about what follows.
const TURN_NANOS_MAX: f64 = WINDOW_NANOS / 4.0;

/// The running cost of a row.
#[derive(Debug)]
pub(crate) struct Pace {
    nanos_per_row: f64,
    budget: Duration,
    /// The newest turns, older ones counting less and less: their time, and their rows.
    turns: (f64, f64),
}

impl Pace {
    /// Where nobody waits for what a step gives.
    pub(crate) fn new() -> Self {
        let turns = (WINDOW_NANOS, WINDOW_NANOS / FIRST_NANOS_PER_ROW);
        Pace { nanos_per_row: FIRST_NANOS_PER_ROW, budget: BUDGET, turns }
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

    /// How many rows are done in so much time, all that is done for a step and what others need of the processor included.
    pub(crate) fn rows_in(&self, time: Duration) -> u64 {
        let (nanos, rows) = self.turns;
        ((time.as_nanos() as f64 * rows / nanos) as u64).max(1)
    }

    /// A turn that began when there was something to do, and ended when its step of `rows` was done with, took `elapsed`.
    pub(crate) fn turned(&mut self, rows: u64, elapsed: Duration) {
        if rows == 0 {
            return;
        }
        let nanos = (elapsed.as_nanos() as f64 - STEP_NANOS).clamp(1.0, TURN_NANOS_MAX);
        let kept = 1.0 - nanos / WINDOW_NANOS;
        self.turns = (self.turns.0 * kept + nanos, self.turns.1 * kept + rows as f64);
    }

    /// A step of `rows` took `elapsed`.
    pub(crate) fn measured(&mut self, rows: u64, elapsed: Duration) {
        if rows == 0 {
            return;
        }
        let nanos = (elapsed.as_nanos() as f64 - STEP_NANOS).max(1.0) / rows as f64;
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
    fn what_is_done_in_a_time_is_what_was_done_lately() {
        let (mut pace, time) = (Pace::deciding(), Duration::from_millis(10));
        assert_eq!(pace.rows_in(time), 5_000);
        pace.turned(1, Duration::from_secs(1));
        assert!((3_500..5_000).contains(&pace.rows_in(time)), "one stall: {}", pace.rows_in(time));
        for _ in 0..100 {
            pace.turned(150, Duration::from_millis(6));
        }
        assert!((240..=260).contains(&pace.rows_in(time)), "40 us a row: {}", pace.rows_in(time));
        for _ in 0..50_000 {
            pace.turned(1, Duration::from_micros(60));
        }
        assert!(
            (950..=1_050).contains(&pace.rows_in(time)),
            "a step's own time does not count: {}",
            pace.rows_in(time)
        );
    }

    #[test]
    fn learns_little_from_small_steps() {
        let mut pace = Pace::new();
        pace.measured(1, Duration::from_millis(20));
        pace.measured(0, Duration::from_millis(20));
        assert!(pace.rows() > 1_000, "{}", pace.rows());
    }
}

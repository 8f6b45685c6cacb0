//! [`World`]: the randomness, the time and the trace of one seed.
//!
//! Everything in a simulation draws from one stream of random numbers, in one thread, so the order of draws is part of
//! the history that a seed names. The trace is a rolling hash over every observable event; its lines are kept only
//! when somebody wants to read them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_base::Timestamp;
use tidemill_base::hash;
use tidemill_base::rand::Rng;
use tidemill_base::time::Clock;

/// When every simulation begins, milliseconds UTC.
const START: i64 = 1_700_000_000_000;

/// What one seed decides; cheap to clone, all clones are the same world.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    clock: Arc<SimClock>,
}

struct Inner {
    rng: Rng,
    trace: u64,
    events: u64,
    line: String,
    lines: Option<Vec<String>>,
}

impl World {
    /// The world of `seed`; its trace can be read as text when `readable`.
    pub fn seeded(seed: u64, readable: bool) -> Self {
        let inner = Inner {
            rng: Rng::derived(seed, 0, 0),
            trace: 0,
            events: 0,
            line: String::new(),
            lines: readable.then(Vec::new),
        };
        World { inner: Arc::new(Mutex::new(inner)), clock: Arc::new(SimClock::default()) }
    }

    /// A number in `0..bound`; `bound` must not be 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().rng.below(bound)
    }

    /// A number in `least..=most`.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True in `per_mille` of 1,000 cases; draws nothing when that is 0.
    pub fn chance(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.lock().rng.chance(u64::from(per_mille), 1_000)
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Adds an event to the trace.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let millis = self.clock.monotonic().as_millis();
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.line.clear();
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut inner.line, format_args!("{millis:>6} {event}"));
        inner.trace = hash::words(inner.trace, hash::bytes(inner.line.as_bytes()));
        inner.events += 1;
        if let Some(lines) = &mut inner.lines {
            lines.push(inner.line.clone());
        }
    }

    /// The trace so far: equal for equal histories.
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// How many events the trace has.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// The events as text; none when the world is not readable.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone().unwrap_or_default()
    }

    /// The clock, which stands still until [`World::pass`].
    pub fn clock(&self) -> Arc<SimClock> {
        self.clock.clone()
    }

    /// Lets up to `most` go by.
    pub fn pass(&self, most: Duration) {
        let nanos = self.below(most.as_nanos() as u64 + 1);
        self.clock.nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves numbers that are still numbers.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that only the simulation moves.
#[derive(Debug, Default)]
pub struct SimClock {
    nanos: AtomicU64,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(START + self.monotonic().as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(seed: u64) -> (u64, Vec<String>) {
        let world = World::seeded(seed, true);
        for _ in 0..10 {
            world.pass(Duration::from_millis(5));
            let drawn = world.below(100);
            world.note(format_args!("drew {drawn}"));
        }
        (world.trace(), world.lines())
    }

    #[test]
    fn a_seed_names_one_history() {
        assert_eq!(history(7), history(7));
        assert_ne!(history(7).0, history(8).0);
    }

    #[test]
    fn every_event_changes_the_trace() {
        let world = World::seeded(1, false);
        let before = world.trace();
        world.note(format_args!("a"));
        let after = world.trace();
        world.note(format_args!("a"));
        assert!(before != after && after != world.trace());
        assert!(world.lines().is_empty(), "nobody wanted to read them");
    }

    #[test]
    fn time_never_goes_back() {
        let world = World::seeded(3, false);
        let clock = world.clock();
        let mut last = clock.monotonic();
        for _ in 0..100 {
            world.pass(Duration::from_millis(3));
            assert!(clock.monotonic() >= last);
            last = clock.monotonic();
        }
        assert!(last > Duration::ZERO);
    }
}

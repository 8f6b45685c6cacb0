//! Scenarios: what is done with the simulated machine, and how a run is judged.
//!
//! A run is a scenario and a seed. It ends with a verdict (a sentence when something that was promised is not so) and
//! the hash of its trace. A panic in a part of tidemill is a verdict too.

mod instance;
mod journal;
mod tables;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::world::World;

/// A promise that was not kept, in one sentence.
pub type Violation = String;

/// What is done with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A journal alone: appends at both levels, flushes, rolls, retirement, crashes.
    Journal,
    /// A pipeline on a journal and snapshots: steps, rows that leave, recovery.
    Instance,
    /// A versioned table in a store: several writers, merges, rollbacks, fences.
    Tables,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// The hash over every observable event.
    pub trace: u64,
    /// How many events there were.
    pub events: u64,
    /// What was not as promised, if anything.
    pub verdict: Result<(), Violation>,
    /// The events as text, when they were asked for.
    pub lines: Vec<String>,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 3] = [Scenario::Journal, Scenario::Instance, Scenario::Tables];

    /// Runs the scenario with a seed; the outcome has the trace as text when `readable`.
    pub fn run(self, seed: u64, readable: bool) -> Outcome {
        let world = World::seeded(seed, readable);
        let run = || match self {
            Scenario::Journal => journal::run(&world),
            Scenario::Instance => instance::run(&world),
            Scenario::Tables => tables::run(&world),
        };
        let verdict = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(told(panic.as_ref())));
        Outcome { trace: world.trace(), events: world.events(), verdict, lines: world.lines() }
    }
}

/// What a panic said.
fn told(panic: &(dyn Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without words"))
}

/// Returns a violation unless the condition holds.
macro_rules! promise {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}
use promise;

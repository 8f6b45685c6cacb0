//! The simulation finds what it is there for: each planted bug is caught within a bounded number of seeds.
//!
//! A seed counts only when it is clean without the bug.

use std::io::Write;

use tidemill_base::planted::{self, Bug};
use tidemill_sim::Scenario;

/// The most seeds that it may take to catch a bug.
const SEEDS: u64 = 2_000;

/// The scenario and seed that catch a bug first, and what they say.
fn catch(bug: Bug) -> Option<(Scenario, u64, String)> {
    (0..SEEDS).flat_map(|seed| Scenario::ALL.map(|scenario| (scenario, seed))).find_map(|(scenario, seed)| {
        let violation = planted::with(bug, || scenario.run(seed, false)).verdict.err()?;
        assert_eq!(scenario.run(seed, false).verdict, Ok(()), "{scenario:?}: seed {seed} is clean without {bug:?}");
        Some((scenario, seed, violation))
    })
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    let mut report = String::new();
    for bug in Bug::ALL {
        match catch(bug) {
            Some((scenario, seed, violation)) => {
                report += &format!("{bug:?}: {scenario:?}, seed {seed}: {violation}\n");
            }
            None => missed.push(bug),
        }
    }
    // A closed pipe misses no bug.
    let _ = std::io::stderr().write_all(report.as_bytes());
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
}

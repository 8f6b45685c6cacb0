//! Every seed is clean, and each is the same twice.
//!
//! `TIDEMILL_SEED=17 cargo test -p tidemill-sim --test seeds -- --nocapture` runs one seed of every scenario and prints
//! its trace; `TIDEMILL_SEEDS=50000 ...` runs more of them.

use std::io::Write;

use tidemill_sim::Scenario;

/// Seeds of one scenario, unless `TIDEMILL_SEEDS` says otherwise.
const SEEDS: u64 = 800;

/// Lines of a trace that a failure shows.
const LINES_SHOWN: usize = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs a seed and prints its whole trace.
fn show(scenario: Scenario, seed: u64) {
    let outcome = scenario.run(seed, true);
    let mut out = std::io::stderr().lock();
    for line in &outcome.lines {
        // A closed pipe is no failure of the seed.
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "{scenario:?}: seed {seed}, {} events, trace {:016x}", outcome.events, outcome.trace);
    assert_eq!(outcome.verdict, Ok(()));
}

fn check(scenario: Scenario, seed: u64) {
    let outcome = scenario.run(seed, false);
    if let Err(violation) = outcome.verdict {
        let lines = scenario.run(seed, true).lines;
        let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
        panic!("{}\n{scenario:?}: {violation}; replay it alone with TIDEMILL_SEED={seed}", last.join("\n"));
    }
    let again = scenario.run(seed, false);
    assert_eq!(outcome.trace, again.trace, "{scenario:?}: seed {seed} is not the same twice");
}

fn every_seed(scenario: Scenario) {
    if let Some(seed) = number("TIDEMILL_SEED") {
        return show(scenario, seed);
    }
    (0..number("TIDEMILL_SEEDS").unwrap_or(SEEDS)).for_each(|seed| check(scenario, seed));
}

#[test]
fn a_journal_keeps_what_it_acknowledged() {
    every_seed(Scenario::Journal);
}

#[test]
fn an_instance_counts_every_event_once() {
    every_seed(Scenario::Instance);
}

#[test]
fn a_table_keeps_what_it_accepted() {
    every_seed(Scenario::Tables);
}

/// What must have happened somewhere in these seeds: a simulation in which it does not proves nothing.
fn happens(scenario: Scenario, events: &[&str]) {
    let lines: Vec<String> = (0..60).flat_map(|seed| scenario.run(seed, true).lines).collect();
    let missing: Vec<_> = events.iter().filter(|event| !lines.iter().any(|line| line.contains(**event))).collect();
    assert!(missing.is_empty(), "{scenario:?}: these never happen: {missing:?}");
}

#[test]
fn what_can_happen_to_a_journal_happens() {
    let events = [
        // crashes
        "Kill; ",
        "PowerCut; ",
        "Kill before",
        "Kill after",
        "PowerCut before",
        "PowerCut after",
        // failures
        "input/output error",
        "no space left",
        "the journal stopped",
        "the journal is full",
        // what the journal does
        "is given up",
        "is written",
        "were cut off",
        "rename",
        "remove",
        // damage
        "turns over",
        "is damaged at byte",
        "repaired",
    ];
    happens(Scenario::Journal, &events);
}

#[test]
fn what_can_happen_to_an_instance_happens() {
    let snapshots = ["is there", "restored snapshot", "no snapshot: ", "collected", "is done unheard", "refused: "];
    happens(Scenario::Instance, &[&snapshots[..], &["stops: ", "PowerCut; ", "Kill; "]].concat());
}

#[test]
fn what_can_happen_to_a_table_happens() {
    let answers = ["merged: true", "merged: false", "back to", "has begun", "waits until", "are gone"];
    let refusals =
        ["were changed both by", "is over", "(unknown)", "(rolled back)", "(no longer kept)", "and the head is"];
    let failures = ["others come first", "is done unheard", "is lost", "Kill"];
    happens(Scenario::Tables, &[&answers[..], &refusals, &failures].concat());
}

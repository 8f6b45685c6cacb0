//! Random plans over random input, cut into random steps over 1 to 4 lanes: after every step the integral of the output
//! is what a naive evaluation of the plan says about the rows so far. And with saves, crashes and restores on other lanes
//! at random moments: the rows, the state and what came out are those of an undisturbed run on one lane.
//!
//! A case is named by its seed. `TIDEMILL_CASES=20000 cargo test -p tidemill-circuit --test schedules` runs more of
//! them, `TIDEMILL_FIRST=100000 ...` others, `TIDEMILL_SEED=17 ...` one.

mod schedules {
    pub(crate) mod build;
    pub(crate) mod crashes;
    pub(crate) mod fixture;
    pub(crate) mod input;
    pub(crate) mod layers;
    pub(crate) mod naive;
    pub(crate) mod pipelines;
    pub(crate) mod plans;
    pub(crate) mod table;
    pub(crate) mod value;
}

use std::collections::BTreeMap;

use schedules::build::Case;
use schedules::crashes::{disturbed, undisturbed};
use schedules::input::Script;
use schedules::naive::Naive;
use schedules::pipelines::{self, PIPELINES};
use schedules::plans;
use schedules::value::{self, Row};
use tidemill_base::rand::Rng;
use tidemill_circuit::Circuit;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::Decoders;

/// Cases of one run, unless `TIDEMILL_CASES` says otherwise.
const CASES: u64 = 3_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Checks the seeds that were asked for, as many as `count` unless another number was.
fn each_seed(count: u64, check: fn(u64)) {
    if let Some(seed) = number("TIDEMILL_SEED") {
        return check(seed);
    }
    for seed in (number("TIDEMILL_FIRST").unwrap_or(0)..).take(number("TIDEMILL_CASES").unwrap_or(count) as usize) {
        let caught = std::panic::catch_unwind(|| check(seed));
        assert!(caught.is_ok(), "replay it alone with TIDEMILL_SEED={seed}");
    }
}

/// The integral of the output after each step.
fn run(case: &Case, script: &Script, lanes: usize) -> Vec<BTreeMap<Row, i64>> {
    let options = Options { lanes, ..Options::default() };
    let mut circuit = Circuit::new(&case.plan, &Decoders::new(), options).expect("the plan is supported");
    let mut integral: BTreeMap<Row, i64> = BTreeMap::new();
    let mut integrals = Vec::new();
    for step in script.steps() {
        let output = circuit.step(step).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(output.trailer.late_rows, 0, "no row of a script is late");
        for delta in output.outputs.iter().flat_map(|output| &output.deltas) {
            for (row, values) in value::rows(delta.batch()).into_iter().enumerate() {
                *integral.entry(values).or_default() += delta.weight(row);
            }
        }
        integral.retain(|_, weight| *weight != 0);
        assert!(
            integral.values().all(|weight| *weight > 0),
            "an integral is never negative after a step: {integral:?}"
        );
        integrals.push(integral.clone());
    }
    let left: u64 = circuit.state().iter().map(|(_, size)| size.entries).sum();
    assert!(!case.closes || left == 0, "windows that have closed leave nothing behind, but {left} entries are there");
    integrals
}

fn check(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let case = plans::random(&mut rng);
    let script = Script::random(&mut rng, &case);
    let told = |what: &str, script: &Script| format!("seed {seed}: {what}\n{}\n{}", case.describe(), script.describe());
    let mut finals = Vec::new();
    for lanes in [1, 1 + rng.below(4) as usize] {
        let script = if case.cuts { script.recut(&mut rng) } else { script.clone() };
        let integrals = run(&case, &script, lanes);
        let naive = Naive::new(&case, &script);
        for (step, integral) in integrals.iter().enumerate() {
            let expected = naive.answer(step);
            if let Err(difference) = value::same(integral, &expected) {
                panic!("{}", told(&format!("{lanes} lanes, step {step}: {difference}"), &script));
            }
        }
        finals.push(integrals.last().cloned().unwrap_or_default());
    }
    assert_eq!(finals[0], finals[1], "{}", told("lanes and steps change no bit of the answer", &script));
}

#[test]
fn every_schedule_gives_the_naive_answer() {
    each_seed(CASES, check);
}

/// Runs with crashes of one run of the test, unless `TIDEMILL_CASES` says otherwise.
const CRASHES: u64 = 1_000;

fn check_crashes(seed: u64) {
    let mut rng = Rng::seeded(seed ^ 0x6372_6173_6865_7300);
    // Every other one is a random plan, the others take turns.
    let (name, case) = match seed % 2 {
        0 => ("a random plan", plans::random(&mut rng)),
        _ => {
            let (name, make) = PIPELINES[(seed / 2) as usize % PIPELINES.len()];
            (name, make(rng.chance(1, 2)))
        }
    };
    let count = [1, 20, 60, 150][rng.below(4) as usize];
    let script = Script::of(&mut rng, &case, count);
    let (expected, outcome) = (undisturbed(&case, &script), disturbed(&case, &script, &mut rng));
    let told = |what: &str| format!("seed {seed}, {name}: {what}\n{}\n{}", case.describe(), script.describe());
    assert_eq!(outcome.integrals, expected.integrals, "{}", told("rows differ"));
    assert_eq!(outcome.roots.content, expected.roots.content, "{}", told("what came out differs"));
    assert_eq!(outcome.roots.state, expected.roots.state, "{}", told("state differs"));
}

#[test]
fn crashes_change_nothing() {
    each_seed(CRASHES, check_crashes);
}

#[test]
fn pipelines_use_every_operator_and_function() {
    assert_eq!(pipelines::missing(), Vec::<String>::new(), "add them to a pipeline in tests/schedules/pipelines.rs");
}

#[test]
fn random_plans_use_every_operator() {
    let plans = (0..CASES).map(|seed| plans::random(&mut Rng::seeded(seed)).plan);
    assert_eq!(pipelines::unused(plans), Vec::<String>::new(), "add them to a layer in tests/schedules/layers.rs");
}

#[test]
fn state_of_earlier_builds_is_restored() {
    schedules::fixture::check();
}

#[test]
fn damaged_state_is_no_panic() {
    schedules::fixture::check_damaged();
}

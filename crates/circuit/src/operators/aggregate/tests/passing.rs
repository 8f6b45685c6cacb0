//! Groups by a time that are forgotten when the watermark has passed it.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_base::rand::Rng;

use super::*;
use crate::plan::Expiry;

/// By how much the watermark passes a group's time before it goes.
const AFTER: i64 = 15;

fn bench(calls: Vec<AggregateCall>, keys: &[usize], append_only: bool, lanes: usize, expires: bool) -> Bench {
    let output = output(&calls, keys, false);
    let (keys, emit) = (keys.to_vec(), Emit::Changes);
    let expiry = expires.then_some(Expiry { time: TIME, after_ms: AFTER });
    let spec = AggregateSpec { keys, window: None, calls, emit, allowed_lateness_ms: 0, expiry };
    Bench::new(Spec::Aggregate(spec), schema(), output, append_only, lanes).expect("supported")
}

fn calls() -> Vec<AggregateCall> {
    let distinct = AggregateCall { distinct: true, ..call(Count, &[INT], DataType::Int64) };
    let max = call(Max, &[INT], DataType::Int64);
    vec![call(Count, &[], DataType::Int64), call(Sum, &[INT], DataType::Int64), max, distinct]
}

/// Random steps: what is said adds up to what the rows that were not late give when nothing is forgotten.
fn check_random(seed: u64, calls: &[AggregateCall], append_only: bool, lanes: usize) {
    let keys = [KEY, TIME];
    let mut expiring = bench(calls.to_vec(), &keys, append_only, lanes, true);
    let (mut rng, mut taken, mut live) = (Rng::seeded(seed), Vec::new(), BTreeMap::new());
    let (mut watermark, mut late) = (i64::MIN, 0);
    for step in 0..15_i64 {
        let mut rows: Vec<(Row, i64)> = Vec::new();
        for _ in 0..rng.below(30) {
            let (key, time, int) = (rng.below(3) as u8, 10 * step + rng.below(40) as i64, rng.below(4) as i64);
            let name = (key, time, int);
            let there: i64 = live.get(&name).copied().unwrap_or(0);
            let weight = if !append_only && there > 0 && rng.chance(1, 2) { -1 } else { 1 };
            let row = (Row::at(key, time, int), weight);
            rows.push(row.clone());
            if time + AFTER < watermark {
                late += 1;
            } else {
                *live.entry(name).or_default() += weight;
                taken.push(row);
            }
        }
        live.retain(|_, weight| *weight != 0);
        watermark = watermark.max(10 * step + rng.below(20) as i64);
        let deltas = rows.chunks(7).map(delta).collect();
        expiring.step(deltas, watermark, 0).expect("the step runs");
        let mut whole = bench(calls.to_vec(), &keys, append_only, 1, false);
        whole.step(vec![delta(&taken)], i64::MIN, 0).expect("the step runs");
        assert_eq!(expiring.integral, whole.integral, "seed {seed}, step {step}");
        assert_eq!(expiring.said.late_rows, late, "seed {seed}, step {step}");
        // Groups of which no row is left stay until their time has passed.
        let open = |time: &i64| time + AFTER >= watermark;
        let groups: BTreeSet<_> =
            live.keys().map(|(key, time, _)| (key, time)).filter(|(_, time)| open(time)).collect();
        if append_only && lanes == 1 && calls.is_empty() {
            assert_eq!(expiring.size().entries, groups.len() as u64, "seed {seed}, step {step}");
        }
    }
    expiring.step(vec![], i64::MAX, 0).expect("the end is no error");
    assert_eq!(expiring.size().entries, 0, "seed {seed}: all times have passed");
}

#[test]
fn groups_of_times_that_have_passed_are_forgotten_and_stay_said() {
    for seed in 0..20 {
        for append_only in [true, false] {
            check_random(seed, &calls(), append_only, 1 + seed as usize % 3);
            check_random(seed, &[], append_only, 1 + seed as usize % 3);
        }
    }
}

#[test]
fn a_suspect_is_late_when_its_own_partition_had_passed_its_group() {
    for lanes in [1, 2] {
        let mut bench = bench(vec![call(Count, &[], DataType::Int64)], &[TIME], true, lanes, true);
        let rows = [(Row::at(1, 100, 1), 1), (Row::at(1, 84, 1), 1), (Row::at(1, 85, 1), 1)];
        let suspects = delta(&rows).with_carried(Some(vec![NO_SUSPECT, 100, 100]));
        bench.step(vec![suspects], 0, 0).expect("the step runs");
        assert_eq!((bench.said.late_rows, bench.integral.len()), (1, 2));
        assert_eq!(bench.said.side[0].reason, "its key had expired");
    }
}

#[test]
fn a_group_without_a_time_stays_to_the_end() {
    let spec = AggregateSpec {
        keys: vec![INT],
        window: None,
        calls: vec![call(Count, &[], DataType::Int64)],
        emit: Emit::Changes,
        allowed_lateness_ms: 0,
        expiry: Some(Expiry { time: INT, after_ms: 0 }),
    };
    let output = output(&spec.calls, &spec.keys, false);
    let mut bench = Bench::new(Spec::Aggregate(spec), schema(), output, true, 1).expect("supported");
    let null = Row { int: None, ..Row::at(1, 0, 1) };
    for (watermark, entries) in [(3, 2), (5, 1), (9, 1), (i64::MAX, 0)] {
        let rows =
            if watermark == 3 { vec![(Row::at(1, 0, 4), 1), (null.clone(), 1)] } else { vec![(null.clone(), 1)] };
        bench.step(vec![delta(&rows)], watermark, 0).expect("the step runs");
        assert_eq!(bench.size().entries, entries, "at {watermark}");
    }
    check(&bench.integral, "4 1\n_ 4");
}

//! Aggregates that forget groups which have not changed for long.

use std::collections::BTreeMap;

use super::*;

/// The time to live in the tests, in milliseconds.
const TTL: i64 = 1_000;

fn bench(calls: Vec<AggregateCall>, append_only: bool, lanes: usize) -> Bench {
    let output = output(&calls, &[KEY], false);
    let (keys, emit) = (vec![KEY], Emit::Changes);
    let spec = AggregateSpec { keys, window: None, calls, emit, allowed_lateness_ms: 0, expiry: None };
    Bench::expiring(Spec::Aggregate(spec), schema(), output, append_only, lanes, TTL).expect("supported")
}

/// What is said of rows that come at a time: retractions first, as text.
fn say(bench: &mut Bench, now: i64, rows: &[(Row, i64)]) -> Vec<String> {
    let deltas = if rows.is_empty() { Vec::new() } else { vec![delta(rows)] };
    let deltas = bench.step(deltas, i64::MIN, now).expect("the step runs");
    let mut said: Vec<String> = Vec::new();
    for delta in &deltas {
        let lines = crate::operators::testing::lines(delta.batch());
        said.extend(lines.into_iter().enumerate().map(|(row, line)| format!("{:+} {line}", delta.weight(row))));
    }
    said.sort();
    said
}

fn counts() -> Vec<AggregateCall> {
    vec![call(Count, &[], DataType::Int64), call(Sum, &[INT], DataType::Int64)]
}

#[test]
fn a_group_that_has_expired_begins_anew() {
    for lanes in [1, 3] {
        let mut bench = bench(counts(), true, lanes);
        assert_eq!(say(&mut bench, 10_000, &[(Row::at(1, 0, 4), 1)]), ["+1 k1 1 4"]);
        assert_eq!(say(&mut bench, 10_999, &[(Row::at(1, 0, 5), 1)]), ["+1 k1 2 9", "-1 k1 1 4"]);
        assert_eq!(say(&mut bench, 11_998, &[(Row::at(1, 0, 1), 1)]), ["+1 k1 3 10", "-1 k1 2 9"]);
        // What was said stays said.
        assert_eq!(say(&mut bench, 12_998, &[(Row::at(1, 0, 7), 1)]), ["+1 k1 1 7"]);
        assert_eq!(say(&mut bench, 13_000, &[(Row::at(1, 0, 1), 1)]), ["+1 k1 2 8", "-1 k1 1 7"]);
    }
}

#[test]
fn groups_that_have_expired_are_forgotten() {
    for lanes in [1, 3] {
        let mut bench = bench(counts(), true, lanes);
        let rows: Vec<(Row, i64)> = (0..200).map(|key| (Row::at(key, 0, 1), 1)).collect();
        say(&mut bench, 10_000, &rows);
        assert_eq!(bench.size().entries, 200);
        say(&mut bench, 10_900, &rows[..50]);
        assert_eq!(say(&mut bench, 11_100, &[]), Vec::<String>::new(), "nothing is said of what is forgotten");
        assert_eq!(bench.size().entries, 50);
        say(&mut bench, 99_000, &[]);
        assert_eq!(bench.size().entries, 0);
    }
}

#[test]
fn nothing_expires_at_the_end_of_bounded_input() {
    let mut bench = bench(counts(), true, 1);
    say(&mut bench, 10_000, &[(Row::at(1, 0, 4), 1)]);
    assert_eq!(say(&mut bench, i64::MAX, &[(Row::at(1, 0, 4), 1)]), ["+1 k1 2 8", "-1 k1 1 4"]);
}

#[test]
fn a_row_that_is_distinct_is_said_again_once_it_has_expired() {
    for lanes in [1, 3] {
        let mut bench = bench(Vec::new(), true, lanes);
        let row = [(Row::at(1, 0, 4), 1)];
        assert_eq!(say(&mut bench, 10_000, &row), ["+1 k1"]);
        assert_eq!(say(&mut bench, 10_999, &row), Vec::<String>::new());
        assert_eq!(say(&mut bench, 11_999, &row), ["+1 k1"]);
    }
}

#[test]
fn different_values_go_with_their_group() {
    let distinct = AggregateCall { distinct: true, ..call(Count, &[INT], DataType::Int64) };
    for lanes in [1, 3] {
        let mut bench = bench(vec![distinct.clone()], true, lanes);
        assert_eq!(say(&mut bench, 10_000, &[(Row::at(1, 0, 4), 1), (Row::at(1, 0, 5), 1)]), ["+1 k1 2"]);
        assert_eq!(say(&mut bench, 11_000, &[(Row::at(1, 0, 4), 1)]), ["+1 k1 1"]);
        say(&mut bench, 20_000, &[]);
        assert_eq!(bench.size().entries, 0);
    }
}

#[test]
fn what_is_taken_back_of_an_expired_group_is_passed_over() {
    for lanes in [1, 3] {
        let max = call(Max, &[INT], DataType::Int64);
        let mut bench = bench(vec![call(Count, &[], DataType::Int64), max], false, lanes);
        assert_eq!(say(&mut bench, 10_000, &[(Row::at(1, 0, 4), 1)]), ["+1 k1 1 4"]);
        assert_eq!(say(&mut bench, 12_000, &[(Row::at(1, 0, 4), -1)]), Vec::<String>::new());
        assert_eq!(bench.size().entries, 0, "nothing is owed");
        assert_eq!(say(&mut bench, 12_001, &[(Row::at(1, 0, 3), 1)]), ["+1 k1 1 3"]);
    }
}

/// A group as it should be: when it was last changed, and its count.
type Groups = BTreeMap<u8, (i64, i64)>;

proptest! {
    #[test]
    fn groups_begin_anew_exactly_when_they_have_expired(
        steps in prop::collection::vec((0_i64..700, prop::collection::vec(0_u8..4, 0..4)), 1..30), lanes in 1_usize..4,
    ) {
        let mut bench = bench(vec![call(Count, &[], DataType::Int64)], true, lanes);
        let (mut groups, mut now) = (Groups::new(), 0);
        for (pause, keys) in steps {
            now += pause;
            let mut before: BTreeMap<u8, Option<i64>> = BTreeMap::new();
            for key in &keys {
                let group = groups.entry(*key).or_insert((i64::MIN, 0));
                let expired = group.0 == i64::MIN || group.0 + TTL <= now;
                before.entry(*key).or_insert((!expired).then_some(group.1));
                *group = (now, if expired { 1 } else { group.1 + 1 });
            }
            let mut expected: Vec<String> = before
                .iter()
                .flat_map(|(key, old)| {
                    let gone = old.map(|count| format!("-1 k{key} {count}"));
                    gone.into_iter().chain([format!("+1 k{key} {}", groups[key].1)])
                })
                .collect();
            expected.sort();
            let rows: Vec<(Row, i64)> = keys.iter().map(|key| (Row::at(*key, 0, 1), 1)).collect();
            prop_assert_eq!(say(&mut bench, now, &rows), expected, "at {}", now);
        }
    }
}

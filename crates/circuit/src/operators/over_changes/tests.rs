use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::rand::Rng;

use crate::delta::Delta;
use crate::operators::testing::{Bench, Table, add, check};
use crate::plan::AggregateFunction::{self, *};
use crate::plan::FrameBound::{self, CurrentRow, Following, Preceding, Unbounded};
use crate::plan::{AggregateCall, Expiry, FrameUnits, OrderBy, OverChangesSpec, OverFrame, OverFunction, Spec};

const KEY: usize = 0;
const AT: usize = 1;
const VALUE: usize = 2;
/// The place of a row in its key, as aggregates name it.
const PLACE: usize = 3;

type Row = [Option<i64>; 3];

fn schema(calls: usize) -> SchemaRef {
    let names = ["key", "at", "value"].map(str::to_string).into_iter().chain((0..calls).map(|n| format!("over{n}")));
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let column =
        |column: usize| -> ArrayRef { Arc::new(rows.iter().map(|(row, _)| row[column]).collect::<Int64Array>()) };
    let batch = RecordBatch::try_new(schema(0), (0..3).map(column).collect()).expect("the columns are the schema's");
    Delta::weighted(batch, rows.iter().map(|(_, weight)| *weight).collect())
}

fn by(column: usize, descending: bool, nulls_first: bool) -> OrderBy {
    OrderBy { column, descending, nulls_first }
}

fn of(function: AggregateFunction, args: &[usize], distinct: bool) -> OverFunction {
    let (args, result) = (args.to_vec(), DataType::Int64);
    OverFunction::Aggregate(AggregateCall { function, args, filter: None, distinct, result })
}

fn frame(units: FrameUnits, start: FrameBound, end: FrameBound) -> OverFrame {
    OverFrame { units, start, end }
}

fn spec(frame: OverFrame, calls: Vec<OverFunction>) -> OverChangesSpec {
    OverChangesSpec { keys: vec![KEY], order: vec![by(AT, false, true)], frame, calls, expiry: None, settled: None }
}

fn bench(spec: &OverChangesSpec, lanes: usize) -> Bench {
    Bench::new(Spec::OverChanges(spec.clone()), schema(0), schema(spec.calls.len()), false, lanes)
        .expect("it is supported")
}

/// Rows as `key at value` with a weight before those that do not come once.
fn rows(text: &str) -> Vec<(Row, i64)> {
    let int = |word: &str| if word == "_" { None } else { Some(word.parse().expect("a number")) };
    let row = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let weight = if words[0].starts_with(['+', '-']) { words.remove(0).parse().expect("a weight") } else { 1 };
        ([int(words[0]), int(words[1]), int(words[2])], weight)
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
}

/// What a step says, row by row.
fn said(bench: &mut Bench, text: &str) -> Table {
    let mut table = Table::new();
    let deltas = bench.step(vec![delta(&rows(text))], 0, 0).expect("the rows are sound");
    deltas.iter().for_each(|delta| add(&mut table, delta));
    table
}

#[test]
fn answers_follow_the_rows_of_their_key() {
    let calls = vec![of(Sum, &[VALUE], false), OverFunction::RowNumber];
    let mut bench = bench(&spec(frame(FrameUnits::Rows, Preceding(1), CurrentRow), calls), 1);
    check(&said(&mut bench, "1 1 10\n1 3 30\n2 1 1"), "1 1 10 10 1\n1 3 30 40 2\n2 1 1 1 1");
    check(&said(&mut bench, "1 2 20"), "1 2 20 30 2\n-1 1 3 30 40 2\n1 3 30 50 3");
    check(
        &said(&mut bench, "-1 1 1 10\n1 4 1"),
        "-1 1 1 10 10 1\n1 2 20 20 1\n-1 1 2 20 30 2\n1 3 30 50 2\n-1 1 3 30 50 3\n1 4 1 31 3",
    );
    check(&said(&mut bench, "-1 2 1 1"), "-1 2 1 1 1 1");
    assert_eq!(bench.size().entries, 3);
}

#[test]
fn what_comes_and_goes_within_a_step_is_not_said() {
    let mut bench = bench(&spec(frame(FrameUnits::Rows, Unbounded, CurrentRow), vec![of(Count, &[], false)]), 1);
    check(&said(&mut bench, "-1 1 1 10\n1 1 10\n1 5 5"), "1 5 5 1");
    check(&said(&mut bench, "1 1 10\n-1 1 1 10\n1 5 5\n-1 1 5 5"), "");
}

#[test]
fn a_frame_may_be_the_whole_key() {
    let calls = vec![of(Sum, &[VALUE], false), of(Max, &[VALUE], false), of(LastValue, &[VALUE, PLACE], false)];
    let mut bench = bench(&spec(frame(FrameUnits::Rows, Unbounded, Unbounded), calls), 2);
    check(&said(&mut bench, "1 1 10\n1 2 5"), "1 1 10 15 10 5\n1 2 5 15 10 5");
    check(&said(&mut bench, "-1 1 1 10"), "-1 1 1 10 15 10 5\n-1 1 2 5 15 10 5\n1 2 5 5 5 5");
}

#[test]
fn a_range_goes_by_values_and_takes_peers_together() {
    let calls = || vec![of(Count, &[], false), of(Sum, &[VALUE], false)];
    let mut one = bench(&spec(frame(FrameUnits::Range, Unbounded, CurrentRow), calls()), 1);
    check(&said(&mut one, "1 1 1\n1 1 2\n1 2 4"), "1 1 1 2 3\n1 1 2 2 3\n1 2 4 3 7");
    let mut near = bench(&spec(frame(FrameUnits::Range, Preceding(2), Following(1)), calls()), 1);
    check(
        &said(&mut near, "1 1 1\n1 3 2\n1 4 4\n1 9 8\n1 _ 16"),
        "1 1 1 1 1\n1 3 2 3 7\n1 4 4 2 6\n1 9 8 1 8\n1 _ 16 1 16",
    );
}

#[test]
fn a_row_that_is_there_twice_has_two_places() {
    let calls = vec![OverFunction::RowNumber, OverFunction::Rank, of(Count, &[], false)];
    let mut bench = bench(&spec(frame(FrameUnits::Rows, Unbounded, CurrentRow), calls), 1);
    check(&said(&mut bench, "+2 1 1 1"), "1 1 1 1 1 1\n1 1 1 2 1 2");
    check(&said(&mut bench, "-1 1 1 1"), "-1 1 1 1 2 1 2");
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let refused = |spec: OverChangesSpec| {
        let made = Bench::new(Spec::OverChanges(spec.clone()), schema(0), schema(spec.calls.len()), false, 1);
        made.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let sum = || vec![of(Sum, &[VALUE], false)];
    let told = refused(spec(frame(FrameUnits::Rows, Preceding(1), Preceding(3)), sum()));
    assert!(told.contains("a frame that ends before it starts"), "{told}");
    let range = frame(FrameUnits::Range, Preceding(1), CurrentRow);
    let told =
        refused(OverChangesSpec { order: vec![by(AT, false, true), by(VALUE, true, true)], ..spec(range, sum()) });
    assert!(told.contains("without one column to order by"), "{told}");
    let told = refused(spec(range, vec![of(BoolAnd, &[VALUE], false)]));
    assert!(told.contains("BOOL_AND"), "{told}");
}

fn every_call() -> Vec<OverFunction> {
    let lag = |column, offset, default| OverFunction::Lag { column, offset, default };
    vec![
        of(Count, &[], false),
        of(Count, &[VALUE], false),
        of(Sum, &[VALUE], false),
        of(Avg, &[VALUE], false),
        of(Min, &[VALUE], false),
        of(Max, &[VALUE], false),
        of(FirstValue, &[VALUE, PLACE], false),
        of(LastValue, &[VALUE, PLACE], false),
        of(Count, &[VALUE], true),
        of(Sum, &[VALUE], true),
        of(ApproxCountDistinct, &[VALUE], false),
        OverFunction::RowNumber,
        OverFunction::Rank,
        OverFunction::DenseRank,
        lag(VALUE, 1, None),
        lag(AT, 2, Some(VALUE)),
        OverFunction::Lead { column: VALUE, offset: 1, default: Some(AT) },
        OverFunction::Lead { column: AT, offset: 3, default: None },
    ]
}

/// What a call says of a row, found the slow way: `all` are the rows of its key in order, `seen` those of its frame.
fn evaluate(
    call: &OverFunction,
    all: &[Row],
    place: usize,
    seen: &[Row],
    same: impl Fn(&Row, &Row) -> bool,
) -> Option<i64> {
    match call {
        OverFunction::RowNumber => Some(place as i64 + 1),
        OverFunction::Rank => Some(all.iter().position(|row| same(row, &all[place])).unwrap_or(0) as i64 + 1),
        OverFunction::DenseRank => {
            let starts = (1..=place).filter(|place| !same(&all[*place], &all[*place - 1]));
            Some(starts.count() as i64 + 1)
        }
        OverFunction::Lag { column, offset, default } => match place.checked_sub(*offset as usize) {
            Some(other) => all[other][*column],
            None => default.and_then(|default| all[place][default]),
        },
        OverFunction::Lead { column, offset, default } => match all.get(place + *offset as usize) {
            Some(other) => other[*column],
            None => default.and_then(|default| all[place][default]),
        },
        OverFunction::Aggregate(call) => {
            let values = seen.iter().map(|row| call.args.first().map_or(Some(1), |arg| row[*arg]));
            let mut values: Vec<i64> = values.flatten().collect();
            if call.distinct || call.function == ApproxCountDistinct {
                values = values.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            }
            let any = |value: i64| (!values.is_empty()).then_some(value);
            match call.function {
                Count | ApproxCountDistinct => Some(values.len() as i64),
                Sum => any(values.iter().sum()),
                Avg => any(values.iter().sum::<i64>() / values.len().max(1) as i64),
                Min => values.iter().min().copied(),
                Max => values.iter().max().copied(),
                FirstValue => values.first().copied(),
                LastValue => values.last().copied(),
                other => panic!("the test has no {other:?}"),
            }
        }
    }
}

fn naive(spec: &OverChangesSpec, live: &BTreeMap<Row, i64>) -> Table {
    let compare_by = |one: &Row, other: &Row, by: &OrderBy| match (one[by.column], other[by.column]) {
        (None, None) => Ordering::Equal,
        (Some(one), Some(other)) if by.descending => other.cmp(&one),
        (Some(one), Some(other)) => one.cmp(&other),
        (None, Some(_)) if by.nulls_first => Ordering::Less,
        (Some(_), None) if !by.nulls_first => Ordering::Less,
        _ => Ordering::Greater,
    };
    let compare = |one: &Row, other: &Row| {
        spec.order.iter().map(|by| compare_by(one, other, by)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut groups: BTreeMap<Vec<Option<i64>>, Vec<Row>> = BTreeMap::new();
    for (row, weight) in live {
        let key = spec.keys.iter().map(|key| row[*key]).collect();
        groups.entry(key).or_default().extend(std::iter::repeat_n(*row, *weight as usize));
    }
    let OverFrame { units, start, end } = spec.frame;
    let mut table = Table::new();
    for mut all in groups.into_values() {
        // Rows are in the order of their columns already.
        all.sort_by(compare);
        for (place, row) in all.iter().enumerate() {
            // How far another row lies behind this one; none where that is not known.
            let distance = |other: usize| -> Option<i64> {
                match units {
                    FrameUnits::Rows => Some(other as i64 - place as i64),
                    FrameUnits::Range => {
                        let by = &spec.order[0];
                        let behind = all[other][by.column]? - row[by.column]?;
                        Some(if by.descending { -behind } else { behind })
                    }
                }
            };
            let is_peer = |other: usize| match units {
                FrameUnits::Rows => other == place,
                FrameUnits::Range => compare(&all[other], row).is_eq(),
            };
            let side = |other: usize| if is_peer(other) { Ordering::Equal } else { other.cmp(&place) };
            let own_is_null =
                units == FrameUnits::Range && spec.order.first().is_some_and(|by| row[by.column].is_none());
            let from_start = |other: usize| match start {
                Unbounded => true,
                CurrentRow => side(other).is_ge(),
                _ if own_is_null => side(other).is_ge(),
                // Of rows without a value those on the far side of all values are within an open end alone.
                Preceding(count) => distance(other).map_or(side(other).is_gt(), |far| far >= -(count as i64)),
                Following(count) => distance(other).map_or(side(other).is_gt(), |far| far >= count as i64),
            };
            let to_end = |other: usize| match end {
                Unbounded => true,
                CurrentRow => side(other).is_le(),
                _ if own_is_null => side(other).is_le(),
                Preceding(count) => distance(other).map_or(side(other).is_lt(), |far| far <= -(count as i64)),
                Following(count) => distance(other).map_or(side(other).is_lt(), |far| far <= count as i64),
            };
            let seen = (0..all.len()).filter(|other| from_start(*other) && to_end(*other));
            let seen: Vec<Row> = seen.map(|other| all[other]).collect();
            let same = |one: &Row, other: &Row| compare(one, other).is_eq();
            let answers = spec.calls.iter().map(|call| evaluate(call, &all, place, &seen, same));
            let text = |value: Option<i64>| value.map_or("_".to_string(), |value| value.to_string());
            let line: Vec<String> = row.iter().copied().chain(answers).map(text).collect();
            *table.entry(line.join(" ")).or_default() += 1;
        }
    }
    table
}

/// Random rows in random steps on random lanes, over any frame.
fn check_random(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let any = |rng: &mut Rng, column| by(column, rng.chance(1, 2), rng.chance(1, 2));
    let units = [FrameUnits::Rows, FrameUnits::Range][rng.below(2) as usize];
    let bounds = |rng: &mut Rng| {
        [Unbounded, Preceding(rng.below(4)), CurrentRow, Following(rng.below(4))][rng.below(4) as usize]
    };
    let (mut start, mut end) = (bounds(&mut rng), bounds(&mut rng));
    let is_empty = |start, end| match (start, end) {
        (Preceding(start), Preceding(end)) => start < end,
        (Following(start), Following(end)) => start > end,
        (Following(_), CurrentRow | Preceding(_)) | (CurrentRow, Preceding(_)) => true,
        _ => false,
    };
    while is_empty(start, end) {
        (start, end) = (bounds(&mut rng), bounds(&mut rng));
    }
    let order = match rng.below(3) {
        0 if units == FrameUnits::Rows => vec![any(&mut rng, VALUE), any(&mut rng, AT)],
        1 if units == FrameUnits::Rows => vec![],
        _ => vec![any(&mut rng, AT)],
    };
    let keys = [vec![], vec![KEY]][rng.below(2) as usize].clone();
    let mut calls = every_call();
    if rng.chance(1, 2) {
        // Where all look at a few rows around them, the others are not computed.
        calls.retain(|call| {
            matches!(call, OverFunction::Aggregate(_) | OverFunction::Lag { .. } | OverFunction::Lead { .. })
        });
        calls.truncate(1 + rng.below(calls.len() as u64) as usize);
    }
    let spec = OverChangesSpec { keys, order, frame: frame(units, start, end), calls, expiry: None, settled: None };
    let mut bench = bench(&spec, 1 + rng.below(4) as usize);
    let mut live = BTreeMap::<Row, i64>::new();
    for step in 0..10 {
        let mut rows: Vec<(Row, i64)> = Vec::new();
        let maybe = |value: u64, rng: &mut Rng| if rng.chance(1, 8) { None } else { Some(value as i64) };
        for _ in 0..rng.below(30) {
            let (key, at, value) = (rng.below(3), rng.below(12), rng.below(5));
            let row = [maybe(key, &mut rng), maybe(at, &mut rng), maybe(value, &mut rng)];
            let weight = if rng.chance(1, 8) { 2 } else { 1 };
            *live.entry(row).or_default() += weight;
            rows.push((row, weight));
        }
        let there: Vec<Row> = live.keys().copied().collect();
        for row in there {
            if rng.chance(1, 3) {
                let gone = 1 + rng.below(live[&row] as u64) as i64;
                *live.entry(row).or_default() -= gone;
                rows.push((row, -gone));
            }
        }
        live.retain(|_, weight| *weight != 0);
        (1..rows.len()).for_each(|at| rows.swap(at, rng.below(at as u64 + 1) as usize));
        let deltas: Vec<Delta> = rows.chunks(1 + rng.below(12) as usize).map(delta).collect();
        let said = bench.step(deltas, 0, 0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut signs: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for delta in &said {
            for (row, line) in crate::operators::testing::lines(delta.batch()).into_iter().enumerate() {
                signs.entry(line).or_default().insert(delta.weight(row).signum());
            }
        }
        assert!(signs.values().all(|signs| signs.len() == 1), "seed {seed}, step {step}: what stays is not said");
        assert_eq!(bench.integral, naive(&spec, &live), "seed {seed}, step {step}: {:?} {:?}", spec.order, spec.frame);
    }
}

#[test]
fn any_changes_give_the_naive_answers() {
    (0..160).for_each(check_random);
}

#[test]
fn rows_far_from_a_change_are_not_computed() {
    let frame = frame(FrameUnits::Rows, Preceding(2), Following(1));
    let spec = OverChangesSpec { keys: vec![], ..spec(frame, vec![of(Sum, &[VALUE], false)]) };
    let mut bench = bench(&spec, 1);
    let mut live: BTreeMap<Row, i64> = (0..200).map(|at| ([None, Some(at), Some(at % 7)], 1)).collect();
    bench
        .step(vec![delta(&live.iter().map(|(row, weight)| (*row, *weight)).collect::<Vec<_>>())], 0, 0)
        .expect("sound");
    let mut rng = Rng::seeded(11);
    for _ in 0..60 {
        let row = [None, Some(rng.below(200) as i64), Some(rng.below(7) as i64)];
        let there = live.remove(&row).unwrap_or_default();
        let change = if there > 0 { -there } else { 1 + rng.below(2) as i64 };
        live.extend((change > 0).then_some((row, change)));
        let said = bench.step(vec![delta(&[(row, change)])], 0, 0).expect("the rows are sound");
        let said: usize = said.iter().map(Delta::rows).sum();
        assert!(said <= 2 * 6, "{said} rows for one that changes");
        assert_eq!(bench.integral, naive(&spec, &live));
    }
}

#[test]
fn many_rows_of_one_key_are_put_together_of_few_states() {
    let mut rng = Rng::seeded(3);
    for (start, end) in [(Preceding(400), Following(20)), (Unbounded, CurrentRow), (CurrentRow, Unbounded)] {
        let calls = vec![of(Max, &[VALUE], false), of(Sum, &[VALUE], false)];
        let spec = OverChangesSpec { keys: vec![], ..spec(frame(FrameUnits::Rows, start, end), calls) };
        let mut bench = bench(&spec, 1);
        let mut live: BTreeMap<Row, i64> = BTreeMap::new();
        for _ in 0..2 {
            let row = |rng: &mut Rng| [None, Some(rng.below(100_000) as i64), Some(rng.below(1_000) as i64)];
            let rows: Vec<(Row, i64)> = (0..600).map(|_| (row(&mut rng), 1)).collect();
            rows.iter().for_each(|(row, weight)| *live.entry(*row).or_default() += weight);
            bench.step(vec![delta(&rows)], 0, 0).expect("the rows are sound");
        }
        assert_eq!(bench.integral, naive(&spec, &live), "{start:?} {end:?}");
    }
}

#[test]
fn keys_of_times_that_have_passed_are_forgotten_and_stay_answered() {
    const AFTER: i64 = 3;
    for seed in 0..60 {
        let mut rng = Rng::seeded(seed);
        let frame = frame(FrameUnits::Rows, Preceding(1), CurrentRow);
        let (keys, order) = (vec![KEY, AT], vec![by(VALUE, rng.chance(1, 2), true)]);
        let expiry = Some(Expiry { time: AT, after_ms: AFTER });
        let spec = OverChangesSpec { keys, order, expiry, ..spec(frame, every_call()) };
        let mut bench = bench(&spec, 1 + rng.below(4) as usize);
        let (mut live, mut watermark, mut late) = (BTreeMap::<Row, i64>::new(), i64::MIN, 0);
        for step in 0..12 {
            let mut rows: Vec<(Row, i64)> = Vec::new();
            for _ in 0..rng.below(25) {
                let at = rng.chance(9, 10).then(|| 2 * step + rng.below(8) as i64);
                let row = [Some(rng.below(2) as i64), at, Some(rng.below(5) as i64)];
                let there = live.get(&row).copied().unwrap_or(0);
                let weight = if there > 0 && rng.chance(1, 2) { -there } else { 1 };
                rows.push((row, weight));
                if at.is_some_and(|at| at + AFTER < watermark) {
                    late += 1;
                } else {
                    *live.entry(row).or_default() += weight;
                }
            }
            live.retain(|_, weight| *weight != 0);
            watermark = watermark.max(2 * step + rng.below(4) as i64);
            let deltas = rows.chunks(5).map(delta).collect();
            bench.step(deltas, watermark, 0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(bench.integral, naive(&spec, &live), "seed {seed}, step {step}");
            assert_eq!(bench.said.late_rows, late, "seed {seed}, step {step}");
            let open = live.keys().filter(|row| row[AT].is_none_or(|at| at + AFTER >= watermark)).count();
            assert_eq!(bench.size().entries, open as u64, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn rows_that_nobody_looks_at_any_more_are_forgotten_and_stay_answered() {
    const AFTER: i64 = 2;
    let calls = || vec![of(Sum, &[VALUE], false), of(Count, &[], false), of(FirstValue, &[VALUE, PLACE], false)];
    for seed in 0..80 {
        let mut rng = Rng::seeded(seed);
        let units = [FrameUnits::Rows, FrameUnits::Range][rng.below(2) as usize];
        let (start, end) = [
            (Preceding(3), CurrentRow),
            (Preceding(2), Following(2)),
            (CurrentRow, Following(3)),
            (Preceding(4), Preceding(1)),
        ][rng.below(4) as usize];
        let mut calls = calls();
        if rng.chance(1, 2) {
            calls.push(OverFunction::Lead { column: VALUE, offset: 2, default: None });
        }
        let keys = if rng.chance(1, 3) { vec![] } else { vec![KEY] };
        let settled = Some(Expiry { time: AT, after_ms: AFTER });
        let spec = OverChangesSpec { keys, settled, ..spec(frame(units, start, end), calls) };
        let mut bench = bench(&spec, 1 + rng.below(4) as usize);
        let (mut live, mut watermark, mut late, mut most) = (BTreeMap::<Row, i64>::new(), i64::MIN, 0, 0);
        for step in 0..60 {
            let mut rows: Vec<(Row, i64)> = Vec::new();
            for _ in 0..rng.below(12) {
                let at = 2 * step + rng.below(8) as i64;
                let row = [Some(rng.below(3) as i64), Some(at), Some(rng.below(5) as i64)];
                let there = live.get(&row).copied().unwrap_or(0);
                let weight = if there > 0 && rng.chance(2, 3) { -there } else { 1 };
                rows.push((row, weight));
                if at + AFTER < watermark {
                    late += 1;
                } else {
                    *live.entry(row).or_default() += weight;
                }
            }
            live.retain(|_, weight| *weight != 0);
            watermark = watermark.max(2 * step + rng.below(4) as i64);
            let deltas = rows.chunks(5).map(delta).collect();
            bench.step(deltas, watermark, 0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(bench.integral, naive(&spec, &live), "seed {seed}, step {step}: {:?}", spec.frame);
            assert_eq!(bench.said.late_rows, late, "seed {seed}, step {step}");
            most = most.max(bench.size().entries);
        }
        assert!(live.len() > 200 && most < 100, "seed {seed}: {most} of {} rows are kept at once", live.len());
        bench.step(vec![], i64::MAX, 0).expect("the end is no error");
        let reach = spec.reach().expect("no call looks at all rows");
        let rows = reach.back + reach.ahead;
        let left = if spec.keys.is_empty() { rows } else { 3 * rows };
        // With a range those stay too that the last rows see.
        let few = (reach.range.is_none() || reach.ahead == 0).then_some(left as u64);
        assert!(few.is_none_or(|few| bench.size().entries <= few), "seed {seed}: {} rows", bench.size().entries);
    }
}

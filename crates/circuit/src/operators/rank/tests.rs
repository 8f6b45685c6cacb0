use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::rand::Rng;

use crate::delta::Delta;
use crate::error::Error;
use crate::operators::testing::{Bench, Table, add, check};
use crate::plan::RankFunction::{self, DenseRank, Rank, RowNumber};
use crate::plan::{Expiry, OrderBy, RankSpec, Spec};

const KEY: usize = 0;
const PRICE: usize = 1;
const NAME: usize = 2;
const END: usize = 3;

type Row = (Option<i64>, Option<i64>, Option<String>, Option<i64>);

fn schema(number: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("key", DataType::Int64, true),
        Field::new("price", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("end", DataType::Int64, true),
    ];
    if number {
        fields.push(Field::new("rank", DataType::Int64, true));
    }
    Arc::new(Schema::new(fields))
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let ints = |of: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(row, _)| of(row)).collect::<Int64Array>())
    };
    let names: ArrayRef = Arc::new(rows.iter().map(|(row, _)| row.2.clone()).collect::<StringArray>());
    let columns = vec![ints(|row| row.0), ints(|row| row.1), names, ints(|row| row.3)];
    let batch = RecordBatch::try_new(schema(false), columns).expect("the columns are the schema's");
    match rows.iter().all(|(_, weight)| *weight == 1) {
        true => Delta::inserts(batch),
        false => Delta::weighted(batch, rows.iter().map(|(_, weight)| *weight).collect()),
    }
}

fn by(column: usize, descending: bool, nulls_first: bool) -> OrderBy {
    OrderBy { column, descending, nulls_first }
}

fn spec(keys: &[usize], order: &[OrderBy], function: RankFunction, to: Option<u64>) -> RankSpec {
    let (keys, order) = (keys.to_vec(), order.to_vec());
    RankSpec { keys, order, function, from: 1, to, number: true, close: None, expiry: None }
}

fn bench(spec: &RankSpec, append_only: bool, lanes: usize) -> Bench {
    Bench::new(Spec::Rank(spec.clone()), schema(false), schema(spec.number), append_only, lanes)
        .expect("it is supported")
}

/// Rows of one step, as `key price name end` with a weight before those that do not come once.
fn rows(text: &str) -> Vec<(Row, i64)> {
    let int = |word: &str| if word == "_" { None } else { Some(word.parse().expect("a number")) };
    let row = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let weight = if words[0].starts_with(['+', '-']) { words.remove(0).parse().expect("a weight") } else { 1 };
        let name = if words[2] == "_" { None } else { Some(words[2].to_string()) };
        ((int(words[0]), int(words[1]), name, words.get(3).map_or(Some(0), |word| int(word))), weight)
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
}

fn step(bench: &mut Bench, text: &str, watermark: i64) -> Result<(), Error> {
    bench.step(vec![delta(&rows(text))], watermark, 0).map(drop)
}

/// What a step says, row by row.
fn said(bench: &mut Bench, text: &str) -> Table {
    let mut table = Table::new();
    let deltas = bench.step(vec![delta(&rows(text))], 0, 0).expect("the rows are sound");
    deltas.iter().for_each(|delta| add(&mut table, delta));
    table
}

#[test]
fn the_first_rows_are_numbered_and_ties_go_by_the_other_columns() {
    for append_only in [false, true] {
        let mut bench = bench(&spec(&[KEY], &[by(PRICE, true, false)], RowNumber, Some(2)), append_only, 1);
        step(&mut bench, "1 5 a\n1 7 b\n1 5 c\n2 _ a\n2 1 z", 0).expect("the rows are sound");
        check(&bench.integral, "1 5 a 0 2\n1 7 b 0 1\n2 1 z 0 1\n2 _ a 0 2");
        let changes = said(&mut bench, "1 6 x\n2 0 y");
        check(&changes, "-1 1 5 a 0 2\n1 6 x 0 2\n2 0 y 0 2\n-1 2 _ a 0 2");
    }
}

#[test]
fn without_the_rank_column_a_row_that_moves_says_nothing() {
    let mut bench =
        bench(&RankSpec { number: false, ..spec(&[KEY], &[by(PRICE, false, true)], RowNumber, Some(3)) }, false, 1);
    step(&mut bench, "1 5 a\n1 7 b", 0).expect("the rows are sound");
    check(&said(&mut bench, "1 1 c"), "1 1 c 0");
    check(&said(&mut bench, "1 2 d"), "1 2 d 0\n-1 1 7 b 0");
    check(&said(&mut bench, "-1 1 1 c"), "-1 1 1 c 0\n1 7 b 0");
}

#[test]
fn what_comes_and_goes_within_a_step_is_not_said() {
    let mut bench = bench(&spec(&[KEY], &[by(PRICE, false, true)], RowNumber, None), false, 1);
    check(&said(&mut bench, "-1 1 5 a\n1 5 a\n1 6 b"), "1 6 b 0 1");
    check(&said(&mut bench, "-1 1 6 b\n1 6 b"), "");
    check(&said(&mut bench, "-1 1 6 b"), "-1 1 6 b 0 1");
    assert_eq!(bench.size().entries, 0, "a key without rows is forgotten");
}

#[test]
fn tied_rows_share_a_rank() {
    let input = "1 5 a\n1 5 b\n1 6 c\n1 7 d";
    for append_only in [false, true] {
        for (function, to, expected) in [
            (Rank, 1, "1 5 a 0 1\n1 5 b 0 1"),
            (Rank, 2, "1 5 a 0 1\n1 5 b 0 1"),
            (Rank, 3, "1 5 a 0 1\n1 5 b 0 1\n1 6 c 0 3"),
            (DenseRank, 2, "1 5 a 0 1\n1 5 b 0 1\n1 6 c 0 2"),
            (RowNumber, 3, "1 5 a 0 1\n1 5 b 0 2\n1 6 c 0 3"),
        ] {
            let mut bench = bench(&spec(&[KEY], &[by(PRICE, false, true)], function, Some(to)), append_only, 1);
            step(&mut bench, input, 0).expect("the rows are sound");
            check(&bench.integral, expected);
        }
    }
}

#[test]
fn ranks_below_the_first_that_is_wanted_are_left_out() {
    let mut bench = bench(&RankSpec { from: 2, ..spec(&[], &[by(PRICE, false, true)], RowNumber, Some(3)) }, true, 3);
    step(&mut bench, "1 5 a\n2 6 b\n3 7 c\n4 8 d", 0).expect("the rows are sound");
    check(&bench.integral, "2 6 b 0 2\n3 7 c 0 3");
    step(&mut bench, "5 1 e", 0).expect("the rows are sound");
    check(&bench.integral, "1 5 a 0 2\n2 6 b 0 3");
}

#[test]
fn only_rows_that_can_come_out_are_kept_of_rows_that_are_never_taken_back() {
    for lanes in [1, 3] {
        let mut bench = bench(&spec(&[KEY], &[by(PRICE, true, false)], RowNumber, Some(2)), true, lanes);
        for price in 0..500 {
            step(&mut bench, &format!("1 {price} a\n1 {price} a\n2 {} b", 1_000 - price), 0)
                .expect("the rows are sound");
        }
        check(&bench.integral, "1 499 a 0 1\n1 499 a 0 2\n2 1000 b 0 1\n2 999 b 0 2");
        assert_eq!(bench.size().entries, 3, "a row that is there twice is one entry");
        assert!(bench.size().bytes < 20_000, "{} bytes", bench.size().bytes);
    }
}

#[test]
fn what_is_kept_is_counted_and_its_largest_keys_are_known() {
    let mut bench = bench(&spec(&[KEY], &[by(PRICE, true, false)], RowNumber, None), false, 1);
    let none = bench.size();
    let many: String = (0..2_000).map(|n| format!("{} {n} a\n", if n % 100 == 0 { 7 } else { 8 })).collect();
    step(&mut bench, &many, 0).expect("the rows are sound");
    let full = bench.size();
    assert_eq!(full.entries, 2_000);
    assert!((100_000..1_000_000).contains(&full.bytes), "{} bytes", full.bytes);
    let keys = bench.largest_keys(5);
    assert_eq!(keys.iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), ["{\"key\": 8}", "{\"key\": 7}"]);
    assert!(keys[0].bytes > 50 * keys[1].bytes, "{keys:?}");
    let gone: String = (0..2_000).map(|n| format!("-1 {} {n} a\n", if n % 100 == 0 { 7 } else { 8 })).collect();
    step(&mut bench, &gone, 0).expect("the rows are sound");
    assert_eq!(bench.size().entries, none.entries);
    assert!(bench.size().bytes < full.bytes, "chunks are given back");
}

#[test]
fn several_lanes_rank_what_they_have_first() {
    let first = spec(&[KEY], &[by(PRICE, true, false)], RowNumber, Some(2));
    assert_eq!(bench(&first, true, 2).tasks(), 3);
    assert_eq!(bench(&first, true, 1).tasks(), 2);
    assert_eq!(bench(&first, false, 2).tasks(), 2, "rows that are taken back are all needed");
    assert_eq!(bench(&RankSpec { to: None, ..first }, true, 2).tasks(), 2);
}

#[test]
fn a_window_is_answered_once_when_the_watermark_reaches_its_end() {
    for (append_only, lanes) in [(false, 1), (true, 1), (false, 2), (true, 3)] {
        let ranking = spec(&[KEY, END], &[by(PRICE, false, true)], RowNumber, Some(1));
        let mut bench = bench(&RankSpec { close: Some(END), ..ranking }, append_only, lanes);
        step(&mut bench, "1 5 a 10\n1 6 b 20\n2 7 c 10", 5).expect("the rows are sound");
        check(&bench.integral, "");
        step(&mut bench, "1 4 d 10", 10).expect("the rows are sound");
        check(&bench.integral, "1 4 d 10 1\n2 7 c 10 1");
        step(&mut bench, "1 1 e 10\n1 9 f 20", 19).expect("late rows are no error");
        assert_eq!(bench.said.late_rows, 1);
        step(&mut bench, "", i64::MAX).expect("the end is no error");
        check(&bench.integral, "1 4 d 10 1\n1 6 b 20 1\n2 7 c 10 1");
        assert_eq!(bench.size().entries, 0, "windows that have closed leave nothing behind");
    }
}

#[test]
fn a_key_that_has_expired_is_forgotten_and_stays_answered() {
    for (append_only, lanes) in [(false, 1), (true, 1), (false, 2), (true, 3)] {
        let expiry = Some(Expiry { time: END, after_ms: 5 });
        let mut bench = bench(
            &RankSpec { expiry, ..spec(&[END], &[by(PRICE, false, true)], RowNumber, Some(1)) },
            append_only,
            lanes,
        );
        step(&mut bench, "1 5 a 10\n2 6 b 20\n3 1 c _", 15).expect("the rows are sound");
        assert_eq!(bench.size().entries, 3, "the watermark is not above the time");
        step(&mut bench, "1 4 d 10", 16).expect("the rows are sound");
        assert_eq!(bench.size().entries, 2);
        step(&mut bench, "1 1 e 10\n3 0 x _", 16).expect("late rows are no error");
        assert_eq!(bench.said.late_rows, 1);
        check(&bench.integral, "1 4 d 10 1\n2 6 b 20 1\n3 0 x _ 1");
    }
}

#[test]
fn a_key_to_which_no_row_comes_for_long_begins_anew_and_stays_answered() {
    for (append_only, lanes) in [(true, 1), (false, 1), (true, 3), (false, 2)] {
        let ranking = spec(&[KEY], &[by(PRICE, false, true)], RowNumber, Some(1));
        let (input, output) = (schema(false), schema(true));
        let mut bench =
            Bench::expiring(Spec::Rank(ranking), input, output, append_only, lanes, 100).expect("it is supported");
        let mut at =
            |text: &str, now: i64| bench.step(vec![delta(&rows(text))], 0, now).map(drop).expect("the rows are sound");
        at("1 5 a\n2 5 a", 1_000);
        at("1 6 b", 1_050);
        at("1 7 c", 1_149);
        at("2 7 c\n1 8 d", 1_200);
        check(&bench.integral, "1 5 a 0 1\n2 5 a 0 1\n2 7 c 0 1");
        let mut at =
            |text: &str, now: i64| bench.step(vec![delta(&rows(text))], 0, now).map(drop).expect("the rows are sound");
        if !append_only {
            at("-1 2 7 c", 1_400);
        }
        at("3 1 a", 1_500);
        check(&bench.integral, "1 5 a 0 1\n2 5 a 0 1\n2 7 c 0 1\n3 1 a 0 1");
        assert_eq!(bench.size().entries, 1, "what has expired is forgotten");
    }
}

#[test]
fn a_suspect_is_late_where_its_own_partition_had_passed() {
    let ranking = RankSpec { close: Some(END), ..spec(&[END], &[by(PRICE, false, true)], RowNumber, Some(1)) };
    for lanes in [1, 2] {
        let mut bench = bench(&ranking, true, lanes);
        let marked = delta(&rows("1 1 a 10\n1 2 b 10\n1 3 c 10")).with_carried(Some(vec![10, 9, i64::MIN]));
        bench.step(vec![marked], 3, 0).expect("late rows are no error");
        bench.step(vec![], 10, 0).expect("no rows are no error");
        assert_eq!(bench.said.late_rows, 1);
        check(&bench.integral, "1 2 b 10 1");
    }
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let refused = |spec: RankSpec| {
        let made = Bench::new(Spec::Rank(spec.clone()), schema(false), schema(spec.number), true, 1);
        made.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let ranking = || spec(&[KEY], &[by(PRICE, false, true)], RowNumber, Some(1));
    let told = refused(RankSpec { close: Some(END), ..ranking() });
    assert!(told.contains("ends with 'end', by which it is not partitioned"), "{told}");
    let told = refused(RankSpec { close: Some(NAME), keys: vec![NAME], ..ranking() });
    assert!(told.contains("ends with 'name', which is no time"), "{told}");
}

/// The rows of a table with their ranks, found the slow way.
fn naive(spec: &RankSpec, live: &BTreeMap<Row, i64>) -> Table {
    let ints = |row: &Row, column: usize| [row.0, row.1, None, row.3][column];
    let compare_by = |one: &Row, other: &Row, by: &OrderBy| {
        let null = |row: &Row| if by.column == NAME { row.2.is_none() } else { ints(row, by.column).is_none() };
        match (null(one), null(other)) {
            (true, true) => Ordering::Equal,
            (false, false) => {
                let ordering = ints(one, by.column).cmp(&ints(other, by.column)).then_with(|| match by.column {
                    NAME => one.2.cmp(&other.2),
                    _ => Ordering::Equal,
                });
                if by.descending { ordering.reverse() } else { ordering }
            }
            (null, _) if null == by.nulls_first => Ordering::Less,
            _ => Ordering::Greater,
        }
    };
    let compare = |one: &Row, other: &Row| {
        spec.order.iter().map(|by| compare_by(one, other, by)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let key = |row: &Row| -> Vec<Option<i64>> { spec.keys.iter().map(|key| ints(row, *key)).collect() };
    let mut groups: BTreeMap<Vec<Option<i64>>, Vec<&Row>> = BTreeMap::new();
    for (row, weight) in live {
        groups.entry(key(row)).or_default().extend(std::iter::repeat_n(row, *weight as usize));
    }
    let mut table = Table::new();
    for rows in groups.values_mut() {
        // Rows are in the order of their columns already.
        rows.sort_by(|one, other| compare(one, other));
        let (mut rank, mut dense) = (0, 0);
        for (place, row) in rows.iter().enumerate() {
            if place == 0 || compare(rows[place - 1], row).is_ne() {
                (rank, dense) = (place as u64 + 1, dense + 1);
            }
            let number = [place as u64 + 1, rank, dense][spec.function as usize];
            if number >= spec.from && spec.to.is_none_or(|to| number <= to) {
                let text = |value: Option<i64>| value.map_or("_".to_string(), |value| value.to_string());
                let name = row.2.clone().unwrap_or("_".to_string());
                let mut line = format!("{} {} {name} {}", text(row.0), text(row.1), text(row.3));
                if spec.number {
                    line.push_str(&format!(" {number}"));
                }
                *table.entry(line).or_default() += 1;
            }
        }
    }
    table
}

fn random_row(rng: &mut Rng, hot: bool) -> Row {
    let maybe = |value: i64, rng: &mut Rng| if rng.chance(1, 8) { None } else { Some(value) };
    let key = maybe(if hot { 0 } else { rng.below(4) as i64 }, rng);
    let price = maybe(rng.below(6) as i64, rng);
    let name = ["", "a", "b"][rng.below(3) as usize].to_string();
    (key, price, if rng.chance(1, 8) { None } else { Some(name) }, Some(rng.below(3) as i64))
}

/// Random rows in random steps on random lanes.
fn check_random(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let any = |rng: &mut Rng, column| by(column, rng.chance(1, 2), rng.chance(1, 2));
    let order: Vec<OrderBy> = match rng.below(4) {
        0 => vec![],
        1 => vec![any(&mut rng, PRICE)],
        2 => vec![any(&mut rng, NAME), any(&mut rng, PRICE)],
        _ => vec![any(&mut rng, PRICE), any(&mut rng, END), any(&mut rng, NAME)],
    };
    let function = [RowNumber, Rank, DenseRank][rng.below(3) as usize];
    let keys = [vec![], vec![KEY], vec![KEY, END]][rng.below(3) as usize].clone();
    let from = 1 + if rng.chance(1, 3) { rng.below(3) } else { 0 };
    let to = if rng.chance(1, 4) { None } else { Some(from + [0, 1, 3, 9][rng.below(4) as usize]) };
    let number = rng.chance(1, 2);
    let spec = RankSpec { keys, order, function, from, to, number, close: None, expiry: None };
    let append_only = rng.chance(1, 2);
    let mut bench = bench(&spec, append_only, 1 + rng.below(4) as usize);
    let (mut live, hot) = (BTreeMap::<Row, i64>::new(), rng.chance(1, 4));
    for step in 0..12 {
        let mut rows: Vec<(Row, i64)> = Vec::new();
        for _ in 0..rng.below(40) {
            let weight = if rng.chance(1, 8) { 2 } else { 1 };
            let row = random_row(&mut rng, hot);
            *live.entry(row.clone()).or_default() += weight;
            rows.push((row, weight));
        }
        if !append_only {
            let there: Vec<Row> = live.keys().cloned().collect();
            for row in there {
                if !rng.chance(1, 3) {
                    continue;
                }
                let gone = 1 + rng.below(live[&row] as u64) as i64;
                *live.entry(row.clone()).or_default() -= gone;
                rows.push((row, -gone));
            }
            live.retain(|_, weight| *weight != 0);
            (1..rows.len()).for_each(|at| rows.swap(at, rng.below(at as u64 + 1) as usize));
        }
        let deltas: Vec<Delta> = rows.chunks(1 + rng.below(12) as usize).map(delta).collect();
        let said = bench.step(deltas, 0, 0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let (mut sums, mut sizes) = (Table::new(), Table::new());
        for delta in &said {
            add(&mut sums, delta);
            add(
                &mut sizes,
                &Delta::weighted(
                    delta.batch().clone(),
                    delta.weight_column().values().iter().map(|w| w.abs()).collect(),
                ),
            );
        }
        sums.values_mut().for_each(|weight| *weight = weight.abs());
        assert_eq!(sums, sizes, "seed {seed}, step {step}: what changes is said once: {spec:?}");
        assert_eq!(bench.integral, naive(&spec, &live), "seed {seed}, step {step}, {append_only}: {spec:?}");
    }
}

#[test]
fn any_changes_give_the_naive_ranks() {
    (0..200).for_each(check_random);
}

#[test]
fn many_rows_of_one_key_are_numbered_as_they_come_and_go() {
    let mut rng = Rng::seeded(5);
    for number in [false, true] {
        let spec = RankSpec { number, ..spec(&[], &[by(PRICE, false, true)], RowNumber, None) };
        let mut bench = bench(&spec, false, 1);
        let mut live: BTreeMap<Row, i64> = BTreeMap::new();
        for step in 0..12 {
            let mut rows: Vec<(Row, i64)> = Vec::new();
            for _ in 0..if step < 6 { 900 } else { 5 } {
                let row = (None, Some(rng.below(2_000) as i64 + step * 300), None, None);
                *live.entry(row.clone()).or_default() += 1;
                rows.push((row, 1));
            }
            let there: Vec<Row> = live.keys().cloned().collect();
            for row in there.into_iter().filter(|_| rng.chance(if step < 6 { 1 } else { 8 }, 40)) {
                rows.push((row.clone(), -live.remove(&row).expect("it is there")));
            }
            bench.step(vec![delta(&rows)], 0, 0).expect("the rows are sound");
            assert_eq!(bench.integral, naive(&spec, &live), "step {step}");
        }
    }
}

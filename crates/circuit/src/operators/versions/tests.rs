//! Versions of changes, record by record, against what the records say.

use arrow_array::{Int64Array, TimestampMillisecondArray, UInt64Array};
use arrow_schema::{Field, Schema, TimeUnit};
use tidemill_base::rand::Rng;

use super::*;
use crate::operators::testing::{Bench, Table, check};
use crate::plan::Spec;

/// Key, value, time and record; taken back or not; and the watermark that it came below.
#[derive(Debug, Clone, Copy)]
struct Row(i64, i64, i64, u64, i64, i64);

fn schema(more: &[(&str, DataType)]) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let fields = [("key", DataType::Int64), ("value", DataType::Int64), ("time", time), ("$origin", DataType::UInt64)];
    let fields = fields.iter().chain(more).map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn delta(rows: &[Row]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.2))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.3))),
    ];
    let batch = RecordBatch::try_new(schema(&[]), columns).expect("columns of the schema");
    let carried = rows.iter().any(|row| row.5 != NO_SUSPECT).then(|| rows.iter().map(|row| row.5).collect());
    Delta::weighted(batch, rows.iter().map(|row| row.4).collect()).with_carried(carried)
}

/// What comes out of rows in pieces, in one step.
fn run(pieces: &[&[Row]]) -> Bench {
    let spec = Spec::Versions(VersionsSpec { keys: vec![0], time: 2, origin: 3 });
    let output = schema(&[("ended", DataType::Boolean)]);
    let mut bench = Bench::new(spec, schema(&[]), output, false, 1).expect("supported");
    let deltas = bench.step(pieces.iter().map(|rows| delta(rows)).collect(), 0, 0).expect("it runs");
    assert!(deltas.iter().all(|delta| delta.weights().is_none()), "nothing is taken back");
    bench
}

fn comes(key: i64, value: i64, time: i64, record: u64) -> Row {
    Row(key, value, time, record, 1, NO_SUSPECT)
}

fn goes(key: i64, value: i64, time: i64, record: u64) -> Row {
    Row(key, value, time, record, -1, NO_SUSPECT)
}

fn at(millis: i64) -> String {
    format!("1970-01-01T00:00:00.{millis:03}")
}

/// A row that comes out.
fn line(key: i64, value: i64, time: i64, record: u64, ended: bool) -> String {
    format!("{key} {value} {} {record} {ended}", at(time))
}

fn lines(lines: &[String]) -> String {
    let mut lines = lines.to_vec();
    lines.sort();
    lines.join("\n")
}

#[test]
fn an_update_begins_a_version_and_ends_none() {
    let rows = [comes(1, 10, 1, 0), goes(1, 10, 1, 1), comes(1, 20, 5, 1)];
    check(&run(&[&rows]).integral, &lines(&[line(1, 10, 1, 0, false), line(1, 20, 5, 1, false)]));
}

#[test]
fn a_row_without_a_successor_ends_what_was_valid() {
    // A row of the same key comes in another record, and an update gives the row another key.
    let rows = [goes(1, 10, 3, 0), comes(1, 20, 5, 1), goes(1, 20, 6, 2), comes(2, 20, 7, 2), goes(3, 0, 8, 3)];
    let expected = [
        line(1, 10, 3, 0, true),
        line(1, 20, 5, 1, false),
        line(1, 20, 6, 2, true),
        line(2, 20, 7, 2, false),
        line(3, 0, 8, 3, true),
    ];
    check(&run(&[&rows]).integral, &lines(&expected));
}

#[test]
fn a_late_end_counts_from_the_watermark_that_it_came_below() {
    let late = |row: Row| Row(row.0, row.1, row.2, row.3, row.4, 9);
    let rows = [late(goes(1, 10, 3, 0)), late(comes(1, 20, 4, 1)), goes(2, 30, 9, 2), late(goes(3, 0, 1, 3))];
    let expected = [line(1, 10, 9, 0, true), line(1, 20, 4, 1, false), line(2, 30, 9, 2, true), line(3, 0, 9, 3, true)];
    check(&run(&[&rows[..2], &rows[2..]]).integral, &lines(&expected));
}

#[test]
fn records_are_read_whole_however_rows_are_cut() {
    for seed in 0..60 {
        let mut rng = Rng::seeded(seed);
        let (mut rows, mut expected) = (Vec::new(), Table::new());
        for record in 0..rng.below(60) {
            let (key, other) = (rng.below(3) as i64, rng.below(3) as i64);
            let (value, time) = (rng.below(9) as i64, 2 + rng.below(100) as i64);
            let mut says =
                |key, value, time, ended| *expected.entry(line(key, value, time, record, ended)).or_default() += 1;
            if rng.chance(1, 3) {
                rows.push(goes(key, value, time, record));
                says(key, value, time, true);
            } else {
                if rng.chance(1, 2) {
                    rows.push(goes(other, value, time / 2, record));
                    if other != key {
                        says(other, value, time / 2, true);
                    }
                }
                rows.push(comes(key, value, time, record));
                says(key, value, time, false);
            }
        }
        let mut pieces: Vec<&[Row]> = Vec::new();
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(1 + rng.below(rest.len().min(5) as u64) as usize);
            pieces.push(piece);
            rest = others;
        }
        assert_eq!(run(&pieces).integral, expected, "seed {seed}");
    }
}

//! Rows for the table `t`, and the ways to cut and shuffle them into steps.

use std::sync::Arc;

use arrow_array::{
    BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::rand::Rng;

/// One row and its weight.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    k: Option<i32>,
    g: Option<String>,
    v: Option<i64>,
    i: Option<i32>,
    d: Option<f64>,
    p: Option<bool>,
    n: Option<i128>,
    ts: i64,
    pub(crate) weight: i64,
}

/// The rows of a step.
pub(crate) type Step = Vec<Row>;

/// The decoded columns of `t`.
pub(crate) fn schema() -> SchemaRef {
    let columns = [
        ("k", DataType::Int32),
        ("g", DataType::Utf8),
        ("v", DataType::Int64),
        ("i", DataType::Int32),
        ("d", DataType::Float64),
        ("p", DataType::Boolean),
        ("n", DataType::Decimal128(10, 2)),
        ("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ];
    Arc::new(Schema::new(
        columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect::<Vec<_>>(),
    ))
}

fn maybe<T>(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    if rng.chance(1, 8) { None } else { Some(value(rng)) }
}

/// Rows in the order of arrival: times rise but for at most four seconds, and what is taken back was there.
pub(crate) fn draw(rng: &mut Rng, updating: bool) -> Vec<Row> {
    let count = rng.below(60);
    let mut rows: Vec<Row> = Vec::new();
    let mut there: Vec<Row> = Vec::new();
    let mut clock = 1_700_000_000_000_i64;
    for _ in 0..count {
        clock += rng.below(1_500) as i64;
        if updating && !there.is_empty() && rng.chance(1, 4) {
            let near: Vec<usize> = (0..there.len()).filter(|index| there[*index].ts > clock - 4_000).collect();
            if !near.is_empty() {
                let taken = there.swap_remove(near[rng.below(near.len() as u64) as usize]);
                rows.push(Row { weight: -1, ..taken });
                continue;
            }
        }
        let row = Row {
            k: maybe(rng, |rng| rng.below(4) as i32),
            g: maybe(rng, |rng| ["a", "b", "bb", "é"][rng.below(4) as usize].to_string()),
            v: maybe(rng, |rng| rng.below(21) as i64 - 10),
            i: maybe(rng, |rng| rng.below(7) as i32 - 3),
            d: maybe(rng, |rng| [0.1, 0.2, -1e17, 1e17, 3.5, -0.7][rng.below(6) as usize]),
            p: maybe(rng, |rng| rng.chance(1, 2)),
            n: maybe(rng, |rng| rng.below(700) as i128 - 300),
            ts: clock - rng.below(4_000) as i64,
            weight: 1,
        };
        there.push(row.clone());
        rows.push(row);
    }
    rows
}

/// Cuts the rows into steps, some of them empty.
pub(crate) fn cut(rng: &mut Rng, rows: &[Row]) -> Vec<Step> {
    let mut steps = vec![Vec::new()];
    for row in rows {
        while rng.chance(1, 6) {
            steps.push(Vec::new());
        }
        if let Some(step) = steps.last_mut() {
            step.push(row.clone());
        }
    }
    steps
}

/// For each step what is there after it: each row as often as it is there, in the order it came.
pub(crate) fn prefixes(steps: &[Step]) -> Vec<RecordBatch> {
    let mut there: Vec<Row> = Vec::new();
    let mut prefixes = Vec::new();
    for step in steps {
        for row in step {
            if row.weight > 0 {
                there.push(row.clone());
            } else if let Some(at) = there.iter().position(|other| Row { weight: -1, ..other.clone() } == *row) {
                there.remove(at);
            }
        }
        prefixes.push(batch(&there));
    }
    prefixes
}

/// The rows as columns.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let decimals = Decimal128Array::from_iter(rows.iter().map(|row| row.n));
    let decimals = decimals.with_precision_and_scale(10, 2).expect("the numbers are small");
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.k))),
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.g.as_deref()))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.v))),
            Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.i))),
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.d))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.p))),
            Arc::new(decimals),
            Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        ],
    )
    .expect("the columns are the schema's")
}

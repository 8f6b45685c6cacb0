//! Aggregates against a naive recomputation from all rows, and by example.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::operators::testing::{Bench, Table, check};
use crate::plan::{AggregateCall, AggregateFunction, AggregateSpec, Emit, Spec, TimeDomain, Window, WindowKey};

use AggregateFunction::*;

mod expiring;
mod passing;
mod plain;
mod reference;
mod windowed;

const KEY: usize = 0;
const INT: usize = 1;
const FLOAT: usize = 2;
const DECIMAL: usize = 3;
const TEXT: usize = 4;
const BOOL: usize = 5;
const FILTER: usize = 6;
const TIME: usize = 7;
const ORIGIN: usize = 8;

/// A row of the test table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: Option<u8>,
    int: Option<i64>,
    float: Option<f64>,
    decimal: Option<i64>,
    text: Option<u8>,
    bool: Option<bool>,
    filter: Option<bool>,
    time: i64,
    origin: u64,
}

impl Row {
    fn at(key: u8, time: i64, int: i64) -> Self {
        Row {
            key: Some(key),
            int: Some(int),
            float: Some(int as f64),
            decimal: Some(int * 100),
            text: Some((int.rem_euclid(5)) as u8),
            bool: Some(int % 2 == 0),
            filter: Some(true),
            time,
            origin: time as u64,
        }
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("k", DataType::Utf8),
        field("i", DataType::Int64),
        field("f", DataType::Float64),
        field("d", DataType::Decimal128(10, 2)),
        field("s", DataType::Utf8),
        field("b", DataType::Boolean),
        field("p", DataType::Boolean),
        field("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("$origin", DataType::UInt64),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let (mut keys, mut ints, mut floats) = (StringBuilder::new(), Int64Builder::new(), Float64Builder::new());
    let mut decimals = Decimal128Builder::new().with_data_type(DataType::Decimal128(10, 2));
    let (mut texts, mut bools, mut filters) = (StringBuilder::new(), BooleanBuilder::new(), BooleanBuilder::new());
    for row in rows {
        keys.append_option(row.key.map(|key| format!("k{key}")));
        ints.append_option(row.int);
        floats.append_option(row.float);
        decimals.append_option(row.decimal.map(i128::from));
        texts.append_option(row.text.map(|text| format!("s{text}")));
        bools.append_option(row.bool);
        filters.append_option(row.filter);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.finish()),
        Arc::new(ints.finish()),
        Arc::new(floats.finish()),
        Arc::new(decimals.finish()),
        Arc::new(texts.finish()),
        Arc::new(bools.finish()),
        Arc::new(filters.finish()),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.time))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.origin))),
    ];
    RecordBatch::try_new(schema(), columns).expect("the columns are those of the schema")
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let (rows, weights): (Vec<Row>, Vec<i64>) = rows.iter().cloned().unzip();
    let batch = batch(&rows);
    if weights.iter().all(|weight| *weight == 1) { Delta::inserts(batch) } else { Delta::weighted(batch, weights) }
}

fn call(function: AggregateFunction, args: &[usize], result: DataType) -> AggregateCall {
    AggregateCall { function, args: args.to_vec(), filter: None, distinct: false, result }
}

/// A call of each function, plain, with a filter, and distinct where that says something.
fn all_calls() -> Vec<AggregateCall> {
    let (int, float, text) = (DataType::Int64, DataType::Float64, DataType::Utf8);
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    let mut calls = vec![
        call(Count, &[], int.clone()),
        call(Count, &[INT], int.clone()),
        call(Sum, &[INT], int.clone()),
        call(Avg, &[INT], int.clone()),
        call(Sum, &[FLOAT], float.clone()),
        call(Avg, &[FLOAT], float.clone()),
        call(Sum, &[DECIMAL], DataType::Decimal128(38, 2)),
        call(Avg, &[DECIMAL], DataType::Decimal128(38, 6)),
        call(Min, &[INT], int.clone()),
        call(Max, &[INT], int.clone()),
        call(Min, &[FLOAT], float.clone()),
        call(Max, &[DECIMAL], DataType::Decimal128(10, 2)),
        call(Min, &[TEXT], text.clone()),
        call(Max, &[TEXT], text.clone()),
        call(Max, &[BOOL], DataType::Boolean),
        call(BoolAnd, &[BOOL], DataType::Boolean),
        call(BoolOr, &[BOOL], DataType::Boolean),
        call(VarPop, &[FLOAT], float.clone()),
        call(StddevSamp, &[FLOAT], float.clone()),
        call(VarSamp, &[INT], int.clone()),
        call(VarPop, &[DECIMAL], DataType::Decimal128(38, 6)),
        call(FirstValue, &[TEXT, ORIGIN], text.clone()),
        call(LastValue, &[INT, ORIGIN], int.clone()),
        call(ArrayAgg, &[INT, ORIGIN], list(int.clone())),
        call(ListAgg, &[TEXT, ORIGIN], text.clone()),
        call(ApproxCountDistinct, &[TEXT], int.clone()),
        call(ApproxQuantile(0.5), &[FLOAT], float.clone()),
    ];
    let filtered: Vec<AggregateCall> =
        calls.iter().map(|call| AggregateCall { filter: Some(FILTER), ..call.clone() }).collect();
    calls.extend(filtered);
    for filter in [None, Some(FILTER), Some(BOOL)] {
        for (function, arg, result) in [
            (Count, INT, int.clone()),
            (Sum, INT, int.clone()),
            (Avg, FLOAT, float.clone()),
            (Count, TEXT, int.clone()),
        ] {
            calls.push(AggregateCall { filter, distinct: true, ..call(function, &[arg], result) });
        }
    }
    calls.push(AggregateCall { distinct: true, ..call(ListAgg, &[TEXT, ORIGIN], text) });
    calls
}

/// The calls whose states travel between lanes.
fn travelling(append_only: bool) -> Vec<AggregateCall> {
    let travels = |call: &AggregateCall| match call.function {
        FirstValue | LastValue | ArrayAgg | ListAgg | ApproxQuantile(_) => false,
        Min | Max => append_only,
        ApproxCountDistinct => !append_only,
        _ => true,
    };
    all_calls().into_iter().filter(travels).collect()
}

fn output(calls: &[AggregateCall], keys: &[usize], windowed: bool) -> SchemaRef {
    let mut fields: Vec<Field> = keys.iter().map(|key| schema().field(*key).clone()).collect();
    if windowed {
        for name in ["window_start", "window_end", "window_time"] {
            fields.push(Field::new(name, DataType::Int64, false));
        }
    }
    for (index, call) in calls.iter().enumerate() {
        fields.push(Field::new(format!("c{index}"), call.result.clone(), true));
    }
    Arc::new(Schema::new(fields))
}

/// An aggregate of the test table.
#[derive(Clone)]
struct Case {
    keys: Vec<usize>,
    window: Option<WindowKey>,
    calls: Vec<AggregateCall>,
    emit: Emit,
    lateness: i64,
    append_only: bool,
}

impl Case {
    fn plain(calls: Vec<AggregateCall>) -> Self {
        let (keys, emit) = (vec![KEY], Emit::Changes);
        Case { keys, window: None, calls, emit, lateness: 0, append_only: false }
    }

    fn windowed(window: Window, calls: Vec<AggregateCall>) -> Self {
        let window = Some(WindowKey::Time { time: TIME, window, domain: TimeDomain::Event });
        let (keys, emit) = (vec![KEY], Emit::OnClose);
        Case { keys, window, calls, emit, lateness: 0, append_only: false }
    }

    fn bench(&self, lanes: usize) -> Result<Bench, Error> {
        let spec = AggregateSpec {
            keys: self.keys.clone(),
            window: self.window.clone(),
            calls: self.calls.clone(),
            emit: self.emit,
            allowed_lateness_ms: self.lateness,
            expiry: None,
        };
        let output = output(&self.calls, &self.keys, self.window.is_some());
        Bench::new(Spec::Aggregate(spec), schema(), output, self.append_only, lanes)
    }
}

fn rows(append_only: bool) -> impl Strategy<Value = Vec<(Row, i64)>> {
    let finite = prop_oneof![
        (-1_000_i64..1_000).prop_map(|cents| cents as f64 / 100.0),
        (-30_i32..30).prop_map(|exponent| 10_f64.powi(exponent)),
        Just(f64::INFINITY),
        Just(-0.5),
    ];
    let row = (
        prop::option::weighted(0.9, 0_u8..3),
        prop::option::weighted(0.8, -5_i64..5),
        prop::option::weighted(0.8, finite),
        prop::option::weighted(0.8, -500_i64..500),
        prop::option::weighted(0.8, 0_u8..4),
        prop::option::weighted(0.8, any::<bool>()),
        prop::option::weighted(0.8, any::<bool>()),
        -40_i64..60,
        any::<prop::sample::Index>(),
        0_u8..10,
    );
    prop::collection::vec(row, 0..50).prop_map(move |draws| {
        let mut present: Vec<Row> = Vec::new();
        let mut rows = Vec::new();
        for (origin, (key, int, float, decimal, text, bool, filter, time, index, dice)) in draws.into_iter().enumerate()
        {
            if !append_only && dice < 4 && !present.is_empty() {
                let row = present.swap_remove(index.index(present.len()));
                rows.push((row, -1));
                continue;
            }
            let row = Row { key, int, float, decimal, text, bool, filter, time, origin: origin as u64 };
            present.push(row.clone());
            rows.push((row, 1));
        }
        rows
    })
}

/// The rows that are left, in the order of their origin.
fn left(rows: &[(Row, i64)]) -> Vec<Row> {
    let mut left: Vec<Row> = Vec::new();
    for (row, weight) in rows {
        match weight {
            1 => left.push(row.clone()),
            _ => {
                let at = left.iter().position(|other| other.origin == row.origin).expect("it is there");
                left.remove(at);
            }
        }
    }
    left.sort_by_key(|row| row.origin);
    left
}

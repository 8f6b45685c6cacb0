//! Rows as plain values that can be sorted, for the naive side of the comparison.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

/// One value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(i64),
    List(Vec<Value>),
}

pub(crate) type Row = Vec<Value>;

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Flag(_) => 1,
            Value::Int(_) => 2,
            Value::Float(_) => 3,
            Value::Text(_) => 4,
            Value::Time(_) => 5,
            Value::List(_) => 6,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Flag(a), Value::Flag(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) | (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

/// The rows of a batch.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Row> {
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| value(column, row)).collect()).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Flag(column.as_boolean().value(row)),
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => Value::Int(column.as_primitive::<UInt64Type>().value(row) as i64),
        DataType::Float64 => Value::Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_string()),
        DataType::Timestamp(_, _) => Value::Time(column.as_primitive::<TimestampMillisecondType>().value(row)),
        DataType::Decimal128(_, _) => Value::Text(column.as_primitive::<Decimal128Type>().value(row).to_string()),
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(row);
            Value::List((0..list.len()).map(|element| value(&list, element)).collect())
        }
        other => panic!("the scripts use no {other}"),
    }
}

/// Whether two integrals are the same, up to the rounding of inexact functions.
pub(crate) fn same(actual: &BTreeMap<Row, i64>, expected: &BTreeMap<Row, i64>) -> Result<(), String> {
    let close = |a: &Value, b: &Value| match (a, b) {
        (Value::Float(a), Value::Float(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        _ => a == b,
    };
    let equal = |a: &Row, b: &Row| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b));
    let mut left: Vec<(&Row, i64)> = expected.iter().map(|(row, weight)| (row, *weight)).collect();
    for (row, weight) in actual {
        match left.iter().position(|(other, count)| count == weight && equal(row, other)) {
            Some(place) => drop(left.swap_remove(place)),
            None => {
                return Err(format!("{row:?} x {weight} is not expected; {} others are missing: {left:?}", left.len()));
            }
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("missing: {left:?}")) }
}

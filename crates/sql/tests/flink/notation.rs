//! Values and types in the notation of the recordings: text, null or an array.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, TimeUnit};
use chrono::DateTime;
use serde_json::{Value, json};

/// A type's name without NOT NULL, lengths, and precisions that share a column type.
pub(crate) fn type_name(name: &str) -> String {
    let mut name = name.replace(" NOT NULL", "").replace(" *ROWTIME*", "").replace('`', "");
    for (pattern, plain) in [
        (r"\bVARCHAR\(\d+\)|\bCHAR\(\d+\)", "STRING"),
        (r"\bVARBINARY\(\d+\)|\bBINARY\(\d+\)", "BYTES"),
        (r"\bTIMESTAMP\([0-3]\)", "TIMESTAMP(3)"),
    ] {
        name = regex::Regex::new(pattern).expect("a pattern").replace_all(&name, plain).into_owned();
    }
    name
}

/// Whether a row is the recorded one.
pub(crate) fn is_row(batch: &RecordBatch, row: usize, theirs: &[Value]) -> bool {
    let Value::Array(ours) = self::row(batch, row) else { return false };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is(ours, theirs))
}

/// Floats stand as numbers among ours, everything else as text.
fn is(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is(ours, theirs))
        }
        (Value::Object(float), Value::String(text)) => {
            let digits = float["digits"].as_str().unwrap_or_default();
            let epsilon = if float.contains_key("single") { f32::EPSILON.into() } else { f64::EPSILON };
            match (digits.parse(), text.parse()) {
                (Ok(left), Ok(right)) => near(left, right, epsilon),
                _ => false,
            }
        }
        _ => ours == theirs,
    }
}

fn near(left: f64, right: f64, epsilon: f64) -> bool {
    left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= 2.0 * epsilon * right.abs()
}

/// The values of a row.
pub(crate) fn row(batch: &RecordBatch, row: usize) -> Value {
    batch.columns().iter().map(|column| value(column, row)).collect()
}

fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Value::Null;
    }
    let values = |items: &ArrayRef| (0..items.len()).map(|row| value(items, row)).collect::<Vec<_>>();
    match array.data_type() {
        DataType::List(_) => Value::Array(values(&array.as_list::<i32>().value(row))),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| value(column, row)).collect(),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let mut pairs: Vec<Value> = values(entries.column(0))
                .into_iter()
                .zip(values(entries.column(1)))
                .map(|(key, value)| json!([key, value]))
                .collect();
            pairs.sort_by_key(ToString::to_string);
            Value::Array(pairs)
        }
        DataType::Binary => {
            Value::String(array.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02x}")).collect())
        }
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::Float32 => json!({ "digits": shown(array, row), "single": true }),
        DataType::Float64 => json!({ "digits": shown(array, row) }),
        DataType::Timestamp(_, zone) => Value::String(moment(array, row) + if zone.is_some() { "Z" } else { "" }),
        _ => Value::String(shown(array, row)),
    }
}

fn shown(array: &ArrayRef, row: usize) -> String {
    array_value_to_string(array, row).expect("a plain value")
}

fn moment(array: &ArrayRef, row: usize) -> String {
    let zone = if let DataType::Timestamp(_, zone) = array.data_type() { zone.clone() } else { None };
    let fine = cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, zone)).expect("a time");
    let nanos = fine.as_primitive::<TimestampNanosecondType>().value(row);
    DateTime::from_timestamp_nanos(nanos).format("%Y-%m-%d %H:%M:%S%.9f").to_string()
}

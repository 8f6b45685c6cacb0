//! Every recorded answer of Flink, asked of us: as constants, and again with the literals as columns.

use std::path::PathBuf;

use arrow_array::Array;
use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_schema::DataType;
use chrono_tz::Tz;
use datafusion::common::Result;
use serde_json::{Value, json};

use super::super::cast::write_value;
use super::super::temporal::Moments;
use super::differences::DIFFERENCES;
use super::evaluate;
use crate::types::name_of;

#[test]
fn answers_what_flink_answered() {
    let mut wrong = Vec::new();
    let mut counted = 0;
    for family in
        ["arithmetic", "cast", "collections", "conditional", "datetime", "encoding", "math", "operators", "strings"]
    {
        for record in recordings(family) {
            counted += 1;
            let sql = record["sql"].as_str().unwrap_or_default();
            let known = DIFFERENCES.iter().find(|(other, _)| *other == sql);
            match (compare(&record), known) {
                (Err(problem), None) => wrong.push(format!("{family}: {sql}\n    {problem}")),
                (Ok(()), Some((_, reason))) => {
                    wrong.push(format!("{family}: {sql}\n    is equal now, yet listed: {reason}"))
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {counted} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counted > 900, "only {counted} recordings were found");
}

fn recordings(family: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/flink/{family}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Compares type and value, or that both fail.
fn compare(record: &Value) -> Result<(), String> {
    let sql = record["sql"].as_str().unwrap_or_default();
    let ours = evaluate::constant(sql);
    if let Some(error) = record["error"].as_str() {
        // Flink plans `f(literal)` as NOT NULL and trips over the NULL it then answers.
        if error.starts_with("Column 'v0' is NOT NULL") {
            return match ours {
                Ok(array) if array.is_null(0) => Ok(()),
                Ok(array) => Err(format!("is {}, Flink NULL", show(&array))),
                Err(error) => Err(format!("fails: {error}; Flink NULL")),
            };
        }
        return match ours {
            Ok(array) => Err(format!("is {}, Flink fails: {error}", show(&array))),
            Err(_) => Ok(()),
        };
    }
    let ours = ours.map_err(|error| format!("fails: {error}; Flink {}", record["value"]))?;
    let (our_type, their_type) =
        (normal(&name_of(ours.data_type())), normal(record["type"].as_str().unwrap_or_default()));
    if our_type != their_type && ours.data_type() != &DataType::Null {
        return Err(format!("has type {our_type}, Flink {their_type}"));
    }
    same(&ours, &record["value"])?;
    match evaluate::column(sql) {
        Ok(Some(array)) => same(&array, &record["value"]).map_err(|problem| format!("over columns {problem}")),
        Ok(None) => Ok(()),
        Err(error) => Err(format!("over columns fails: {error}")),
    }
}

fn same(ours: &ArrayRef, theirs: &Value) -> Result<(), String> {
    let shown = show(ours);
    let close = match (ours.data_type(), theirs.as_str()) {
        (DataType::Float64, Some(text)) if ours.is_valid(0) => {
            near(ours.as_primitive::<Float64Type>().value(0), text.parse().unwrap_or(f64::NAN), f64::EPSILON)
        }
        (DataType::Float32, Some(text)) if ours.is_valid(0) => near(
            ours.as_primitive::<Float32Type>().value(0).into(),
            text.parse().unwrap_or(f64::NAN),
            f32::EPSILON.into(),
        ),
        _ => shown == *theirs,
    };
    if close { Ok(()) } else { Err(format!("is {shown}, Flink {theirs}")) }
}

/// Equal but for the last digits, in which mathematical libraries may differ.
fn near(left: f64, right: f64, epsilon: f64) -> bool {
    left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= 2.0 * epsilon * right.abs()
}

/// A type without NOT NULL, lengths, and precisions that share a column type.
fn normal(name: &str) -> String {
    let mut name = name.replace(" NOT NULL", "").replace('`', "");
    for (pattern, plain) in [
        (r"\bVARCHAR\(\d+\)|\bCHAR\(\d+\)", "STRING"),
        (r"\bVARBINARY\(\d+\)|\bBINARY\(\d+\)", "BYTES"),
        (r"\bTIME\([0-3]\)", "TIME(3)"),
        (r"\bTIMESTAMP\([0-3]\)", "TIMESTAMP(3)"),
        (r"\bTIMESTAMP\([4-6]\)", "TIMESTAMP(6)"),
        (r"\bTIMESTAMP_LTZ\([0-3]\)", "TIMESTAMP_LTZ(3)"),
    ] {
        name = regex::Regex::new(pattern).expect("a pattern").replace_all(&name, plain).into_owned();
    }
    name
}

/// The value of the first row in the recordings' notation.
fn show(array: &ArrayRef) -> Value {
    if array.is_null(0) || array.data_type() == &DataType::Null {
        return Value::Null;
    }
    let items = |items: &ArrayRef| (0..items.len()).map(|row| show(&items.slice(row, 1))).collect::<Vec<_>>();
    let text = match array.data_type() {
        DataType::List(_) => return Value::Array(items(&array.as_list::<i32>().value(0))),
        DataType::Struct(_) => return array.as_struct().columns().iter().map(show).collect(),
        DataType::Map(..) => {
            let entries = array.as_map().value(0);
            let (keys, values) = (items(entries.column(0)), items(entries.column(1)));
            let mut pairs: Vec<Value> = keys.into_iter().zip(values).map(|(key, value)| json!([key, value])).collect();
            pairs.sort_by_key(ToString::to_string);
            return Value::Array(pairs);
        }
        DataType::Binary => array.as_binary::<i32>().value(0).iter().map(|byte| format!("{byte:02x}")).collect(),
        DataType::Boolean => array.as_boolean().value(0).to_string(),
        DataType::Time32(_) | DataType::Time64(_) => clock(array),
        DataType::Timestamp(_, zone) => {
            let civil = moment(array).civil();
            let zulu = if zone.is_some() { "Z" } else { "" };
            format!("{:04}-{:02}-{:02} {}{zulu}", civil.year, civil.month, civil.day, clock(array))
        }
        _ => {
            let mut text = String::new();
            write_value(array, 0, Tz::UTC, &mut text).expect("a plain value");
            text
        }
    };
    Value::String(text)
}

fn moment(array: &ArrayRef) -> super::super::temporal::Moment {
    let moments = Moments::of(array.slice(0, 1), true, Tz::UTC).expect("a time");
    moments.get(0).expect("a value")
}

fn clock(array: &ArrayRef) -> String {
    let moment = moment(array);
    format!("{:02}:{:02}:{:02}.{:09}", moment.hour(), moment.minute(), moment.second(), moment.nanos % 1_000_000_000)
}

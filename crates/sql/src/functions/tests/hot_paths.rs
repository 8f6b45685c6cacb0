//! The paths made for speed answer as the plain ones, and errors belong to their rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Int32Array, StringArray, TimestampMillisecondArray};
use arrow_schema::Field;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use super::super::{Registry, Session};
use super::evaluate;

fn call(session: &Arc<Session>, name: &str, args: Vec<ColumnarValue>, rows: usize) -> Result<ArrayRef> {
    let udf = Registry::new(session).get(name).expect("a function");
    let arg_fields: Vec<_> = args.iter().map(|arg| Arc::new(Field::new("", arg.data_type(), true))).collect();
    let scalars: Vec<Option<&ScalarValue>> = args
        .iter()
        .map(|arg| match arg {
            ColumnarValue::Scalar(value) => Some(value),
            ColumnarValue::Array(_) => None,
        })
        .collect();
    let return_field =
        udf.return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalars })?;
    let config_options = Arc::new(ConfigOptions::new());
    let args = ScalarFunctionArgs { args, arg_fields, number_rows: rows, return_field, config_options };
    udf.invoke_with_args(args)?.into_array(rows)
}

fn text(value: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.to_owned())))
}

#[test]
fn changes_the_case_of_a_sliced_ascii_column_as_of_any_other() {
    let session = evaluate::session();
    let column = StringArray::from(vec![Some("SKIPPED"), Some("Abc"), None, Some(""), Some("XyZ 1")]).slice(1, 4);
    let lower = call(&session, "lower", vec![ColumnarValue::Array(Arc::new(column))], 4).expect("lower");
    assert_eq!(lower.as_string::<i32>(), &StringArray::from(vec![Some("abc"), None, Some(""), Some("xyz 1")]));
}

#[test]
fn formats_dates_across_minutes_and_back_as_one_by_one() {
    let session = evaluate::session();
    let times = [0_i64, 59_999, 60_000, -1, 61_000, 60_999, 86_400_000, i64::from(i32::MAX) * 1000];
    for pattern in ["yyyy-MM-dd HH:mm", "ss.SSS HH:mm", "yyyy-MM-dd HH:mm:ss.SSS", "HH 'o''clock' D"] {
        let column: ArrayRef = Arc::new(TimestampMillisecondArray::from(times.to_vec()));
        let together = call(&session, "date_format", vec![ColumnarValue::Array(column), text(pattern)], times.len());
        let together = together.expect("a text");
        for (row, time) in times.iter().enumerate() {
            let one: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![*time]));
            let alone =
                call(&session, "date_format", vec![ColumnarValue::Array(one), text(pattern)], 1).expect("a text");
            assert_eq!(together.as_string::<i32>().value(row), alone.as_string::<i32>().value(0));
        }
    }
}

#[test]
fn keeps_the_pattern_of_each_row_apart() {
    let session = evaluate::session();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a1", "b2", "c3"]));
    let patterns: ArrayRef = Arc::new(StringArray::from(vec![Some("[a-z]"), None, Some("\\d")]));
    let found = call(&session, "regexp_extract", vec![ColumnarValue::Array(texts), ColumnarValue::Array(patterns)], 3);
    assert_eq!(found.expect("texts").as_string::<i32>(), &StringArray::from(vec![Some("a"), None, Some("3")]));
}

#[test]
fn an_error_names_what_is_wrong() {
    for (sql, part) in [
        ("1 / 0", "division by zero"),
        ("CAST('abc' AS INT)", "'abc' cannot be cast to INT"),
        ("REGEXP('a', '(?=a)')", "look-around"),
        ("REPEAT('abc', 2000000000)", "bytes would be made"),
        ("UPPER(1)", "UPPER does not take (INT)"),
        ("'1' + 2", "cast the text to a number"),
        ("RAND()", "ordinal"),
    ] {
        let error = evaluate::constant(sql).expect_err(sql).to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
}

#[test]
fn randomness_depends_on_seed_row_and_site_alone() {
    let session = evaluate::session();
    let ordinals = |from: i64, rows: i64| -> ColumnarValue {
        ColumnarValue::Array(Arc::new(arrow_array::Int64Array::from_iter_values(from..from + rows)))
    };
    let site = |site: i64| ColumnarValue::Scalar(ScalarValue::Int64(Some(site)));
    let whole = call(&session, "rand", vec![ordinals(0, 6), site(1)], 6).expect("numbers");
    let tail = call(&session, "rand", vec![ordinals(4, 2), site(1)], 2).expect("numbers");
    assert_eq!(&whole.slice(4, 2), &tail);
    let elsewhere = call(&session, "rand", vec![ordinals(0, 6), site(2)], 6).expect("numbers");
    assert_ne!(&whole, &elsewhere);
    session.step.set(0, 2);
    let later = call(&session, "rand", vec![ordinals(0, 6), site(1)], 6).expect("numbers");
    assert_ne!(&whole, &later);
}

#[test]
fn an_argument_that_is_not_chosen_cannot_fail() {
    let value = |sql: &str| evaluate::constant(sql).expect(sql).as_primitive::<arrow_array::types::Int32Type>().clone();
    assert_eq!(value("IF(TRUE, 1, 1 / 0)"), Int32Array::from(vec![1]));
    assert_eq!(value("COALESCE(2, 1 / 0)"), Int32Array::from(vec![2]));
}

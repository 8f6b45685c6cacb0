use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int32Array, StringArray, TimestampMillisecondArray,
    UInt64Array,
};

use super::*;
use crate::scalar::time::TimestampStandard;

fn batch() -> RecordBatch {
    let prices = Decimal128Array::from(vec![Some(150), None]).with_precision_and_scale(10, 3).expect("fits");
    let seen = TimestampMillisecondArray::from(vec![Some(1_500), None]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int32Array::from(vec![Some(1), None]))),
        ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("s", Arc::new(StringArray::from(vec![Some("a\"\\\n\u{1}é"), None]))),
        ("d", Arc::new(prices)),
        ("t", Arc::new(seen)),
        ("f", Arc::new(Float64Array::from(vec![Some(f64::INFINITY), Some(1e21)]))),
        ("b", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\0\x01"), None]))),
    ];
    RecordBatch::try_from_iter(columns).expect("two rows each")
}

fn check(options: JsonOptions, weights: Option<&[i64]>, expected: &str) {
    let mut out = Vec::new();
    JsonEncoder::new(options).encode(&batch(), weights, &mut out).expect("positive weights");
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

const FIRST: &str = r#"{"i":1,"u":18446744073709551615,"s":"a\"\\\n\u0001é","d":0.150,"t":"1970-01-01 00:00:01.5Z","f":"Infinity","b":"AAE="}"#;
const SECOND: &str = r#"{"i":null,"u":null,"s":null,"d":null,"t":null,"f":1e21,"b":null}"#;

#[test]
fn writes_flinks_json() {
    check(JsonOptions::default(), None, &format!("{FIRST}\n{SECOND}\n"));
    let options = JsonOptions {
        ignore_null_fields: true,
        timestamp_standard: TimestampStandard::Iso8601,
        ..JsonOptions::default()
    };
    let first = FIRST.replace("01 00", "01T00");
    check(options, None, &format!("{first}\n{{\"f\":1e21}}\n"));
    check(JsonOptions::default(), Some(&[0, 2]), &format!("{SECOND}\n{SECOND}\n"));
}

#[test]
fn json_takes_no_retraction() {
    let result = JsonEncoder::new(JsonOptions::default()).encode(&batch(), Some(&[1, -1]), &mut Vec::new());
    assert!(matches!(result, Err(Error::Retraction { format: "json" })));
}

#[test]
fn debezium_says_what_weights_do() {
    let mut out = Vec::new();
    DebeziumEncoder::new(JsonOptions::default()).encode(&batch(), Some(&[1, -2]), &mut out).expect("any weights");
    let delete = format!("{{\"before\":{SECOND},\"after\":null,\"op\":\"d\"}}\n");
    let expected = format!("{{\"before\":null,\"after\":{FIRST},\"op\":\"c\"}}\n{delete}{delete}");
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn upserts_are_rows_or_keys_of_rows_that_are_gone() {
    let mut out = Vec::new();
    let key = vec!["s".to_string(), "absent".to_string()];
    let mut encoder = UpsertEncoder::new(JsonOptions::default(), key);
    encoder.encode(&batch(), Some(&[1, -1]), &mut out).expect("any weights");
    let expected = format!("{{\"op\":\"+U\",{}\n{{\"op\":\"-D\",\"s\":null}}\n", &FIRST[1..]);
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

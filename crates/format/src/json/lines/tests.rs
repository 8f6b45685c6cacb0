use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::encode::JsonEncoder;
use crate::format::Encoder;

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

fn map_of(value: DataType) -> DataType {
    let fields = vec![Field::new("keys", DataType::Utf8, false), Field::new("values", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields.into()), false)), false)
}

/// A column of every kind that arrow-json reads as we do.
fn every_kind() -> SchemaRef {
    let row: Fields = vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Utf8, true)].into();
    schema(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("seen", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("price", DataType::Decimal128(12, 2), true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("small", DataType::Int16, true),
        Field::new("day", DataType::Date32, true),
        Field::new("inner", DataType::Struct(row), true),
        Field::new("items", DataType::List(Arc::new(Field::new("item", DataType::Int64, true))), true),
        Field::new("tags", map_of(DataType::Int64), true),
    ])
}

fn decode(options: JsonOptions, schema: &SchemaRef, blocks: &[&[u8]]) -> Result<Decoded, Error> {
    let mut decoder = JsonDecoder::new(options, schema.clone())?;
    let mut out = Decoded::default();
    for block in blocks {
        decoder.decode(block, &mut out)?;
    }
    Ok(out)
}

fn lenient() -> JsonOptions {
    JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() }
}

fn whole(decoded: &Decoded, schema: &SchemaRef) -> RecordBatch {
    arrow_select::concat::concat_batches(schema, decoded.batches.iter().map(|decoded| &decoded.batch))
        .expect("batches of one schema")
}

fn as_json(decoded: &Decoded) -> String {
    let mut out = Vec::new();
    for batch in &decoded.batches {
        JsonEncoder::new(JsonOptions::default()).encode(&batch.batch, None, &mut out).expect("columns we made");
    }
    String::from_utf8(out).expect("JSON is text")
}

/// Both paths read `text` as the rows that are written as `expected`.
fn check(data_type: DataType, text: &str, expected: &str) {
    let schema = schema(vec![Field::new("a", data_type, true)]);
    for general_path_only in [false, true] {
        let options = JsonOptions { general_path_only, ..JsonOptions::default() };
        // Twice, so that the second time the shape has been learned.
        for repeats in [1, 3] {
            let decoded = decode(options, &schema, &[text.repeat(repeats).as_bytes()]);
            let decoded = decoded.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(as_json(&decoded), expected.repeat(repeats), "{text}");
        }
    }
}

fn check_value(data_type: DataType, value: &str, expected: &str) {
    check(data_type, &format!("{{\"a\":{value}}}\n"), &format!("{{\"a\":{expected}}}\n"));
}

/// Both paths refuse `text` at (line, column) with `reason` in the message.
fn check_bad(data_type: DataType, text: &str, at: (u64, u64), reason: &str) {
    let schema = schema(vec![Field::new("a", data_type, true), Field::new("b", DataType::Int64, true)]);
    for general_path_only in [false, true] {
        let options = JsonOptions { general_path_only, ..JsonOptions::default() };
        match decode(options, &schema, &[text.as_bytes()]) {
            Err(Error::BadRecord { at: rejected, .. }) => {
                assert!(rejected.reason.contains(reason), "{text}: {}", rejected.reason);
                assert_eq!((rejected.line, rejected.column), at, "{text}: {}", rejected.reason);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn reads_integers() {
    check_value(DataType::Int64, "0", "0");
    check_value(DataType::Int64, "-9223372036854775808", "-9223372036854775808");
    check_value(DataType::Int64, "1234567890123456", "1234567890123456");
    check_value(DataType::Int64, " 17 ", "17");
    check_value(DataType::Int64, "17.0", "17");
    check_value(DataType::Int64, "\"17\"", "17");
    check_value(DataType::Int8, "-128", "-128");
    let wrong = |value: &str, reason: &str| check_bad(DataType::Int64, &format!("{{\"a\":{value}}}"), (1, 6), reason);
    wrong("9223372036854775808", "column 'a': 9223372036854775808 is out of the range of BIGINT");
    wrong("01", "01 is no number as JSON writes it");
    wrong("-", "no number");
    wrong("1.", "needs a digit behind its point");
    wrong("1e", "needs a digit in its exponent");
    wrong("+1", "expected a value, found +1");
    wrong("1.5", "column 'a': expected BIGINT, found 1.5");
    wrong("true", "expected BIGINT, found true");
    wrong("\"x\"", "expected BIGINT, found \"x\"");
    wrong("{}", "expected BIGINT, found an object");
    check_bad(DataType::Int8, "{\"a\":128}", (1, 6), "128 is out of the range of TINYINT");
}

#[test]
fn reads_strings_with_escapes() {
    check_value(DataType::Utf8, r#""plain""#, r#""plain""#);
    check_value(DataType::Utf8, r#""""#, r#""""#);
    check_value(DataType::Utf8, r#""\"\\\/\b\f\n\r\t\u0041\u00e9""#, r#""\"\\/\u0008\u000c\n\r\tAé""#);
    check_value(DataType::Utf8, r#""\ud83d\ude00 and 😀""#, r#""😀 and 😀""#);
    check_value(
        DataType::Utf8,
        "\"sixteen bytes, and then an escape: \\n\"",
        "\"sixteen bytes, and then an escape: \\n\"",
    );
    check_value(DataType::Utf8, "1.50", r#""1.50""#);
    check_value(DataType::Utf8, "{\"x\": [1]}", r#""{\"x\": [1]}""#);
    let wrong = |value: &str, column, reason: &str| {
        check_bad(DataType::Utf8, &format!("{{\"a\":{value}}}\n"), (1, column), reason);
    };
    wrong(r#""\ud83d""#, 7, "first half of a surrogate pair");
    wrong(r#""\ud83d\u0041""#, 7, "first half of a surrogate pair");
    wrong(r#""\ude00""#, 7, "second half of a surrogate pair");
    wrong(r#""\u00g0""#, 7, "four hexadecimal digits");
    wrong(r#""\x""#, 7, "none of JSON's escapes");
    wrong("\"a\tb\"", 8, "must be written as \\u0009");
    wrong("\"open", 12, "no closing quote");
}

#[test]
fn reads_times() {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let check_time = |value: &str, expected: &str| {
        check_value(millis.clone(), &format!("\"{value}\""), &format!("\"{expected}\""));
    };
    check_time("2013-01-01 10:00:00.123", "2013-01-01 10:00:00.123");
    check_time("2013-01-01T10:00:00.123", "2013-01-01 10:00:00.123");
    check_time("2013-01-01T10:00:00", "2013-01-01 10:00:00");
    check_time("2013-01-01T10:00", "2013-01-01 10:00:00");
    check_time("1969-12-31 23:59:59.9999", "1969-12-31 23:59:59.999");
    let wrong = |value: &str, reason: &str| check_bad(millis.clone(), &format!("{{\"a\":{value}}}"), (1, 6), reason);
    wrong("\"2013-01-01 10:00:60.123\"", "out of the range of TIMESTAMP(3)");
    wrong("\"2013-02-30 10:00:00.123\"", "out of the range of TIMESTAMP(3)");
    wrong("\"2013-01-01 10:00:0x.123\"", "expected TIMESTAMP(3) like '2013-01-01 10:00:00.123', without a zone");
    wrong("\"2013-01-01 10:00:00.123Z\"", "without a zone");
    wrong("1357034400000", "expected TIMESTAMP(3)");
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    check_value(zoned.clone(), "\"2013-01-01T10:00:00.123Z\"", "\"2013-01-01 10:00:00.123Z\"");
    check_value(zoned.clone(), "\"2013-01-01 10:00:00.123456Z\"", "\"2013-01-01 10:00:00.123456Z\"");
    check_value(zoned.clone(), "\"2013-01-01T12:00:00+02:00\"", "\"2013-01-01 10:00:00Z\"");
    check_bad(zoned, "{\"a\":\"2013-01-01 10:00:00.123\"}", (1, 6), "with its zone");
    check_value(DataType::Date32, "\"2013-01-01\"", "\"2013-01-01\"");
    check_value(DataType::Time32(TimeUnit::Second), "\"10:00:01\"", "\"10:00:01\"");
    check_value(DataType::Time64(TimeUnit::Nanosecond), "\"10:00:01.5\"", "\"10:00:01.5\"");
}

#[test]
fn reads_other_scalars() {
    check_value(DataType::Boolean, "true", "true");
    check_value(DataType::Boolean, "\"False\"", "false");
    check_value(DataType::Float64, "-1.5e3", "-1500.0");
    check_value(DataType::Float64, "\"NaN\"", "\"NaN\"");
    check_value(DataType::Float32, "0.1", "0.1");
    check_value(DataType::Decimal128(10, 2), "12.345", "12.35");
    check_value(
        DataType::Decimal128(38, 0),
        "99999999999999999999999999999999999999",
        "99999999999999999999999999999999999999",
    );
    check_value(DataType::Binary, "\"AAEC\"", "\"AAEC\"");
    check_value(DataType::Int64, "null", "null");
    check_bad(DataType::Float64, "{\"a\":1e999}", (1, 6), "1e999 is out of the range of DOUBLE");
    check_bad(DataType::Binary, "{\"a\":\"A\"}", (1, 6), "expected BYTES in base64");
    check_bad(DataType::Boolean, "{\"a\":truth}", (1, 6), "expected a value, found truth");
    check_bad(DataType::Decimal128(4, 2), "{\"a\":123.4}", (1, 6), "out of the range of DECIMAL(4, 2)");
}

#[test]
fn reads_nested_values() {
    let row =
        DataType::Struct(vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Utf8, true)].into());
    check_value(row.clone(), r#"{"y":"b","x":1,"z":[{}]}"#, r#"{"x":1,"y":"b"}"#);
    check_value(row.clone(), "{}", r#"{"x":null,"y":null}"#);
    check_value(row.clone(), "null", "null");
    check_bad(row.clone(), r#"{"a":{"x":"y"}}"#, (1, 11), "column 'a.x': expected BIGINT");
    check_bad(row.clone(), r#"{"a":[1]}"#, (1, 6), "expected ROW<x BIGINT, y STRING> as an object, found an array");
    let list = DataType::List(Arc::new(Field::new("item", row, true)));
    check_value(list.clone(), r#"[ {"x":1} , null, {"x":2,"x":3} ]"#, r#"[{"x":1,"y":null},null,{"x":3,"y":null}]"#);
    check_value(list.clone(), "[]", "[]");
    check_bad(list, "{\"a\":[{} {}]}", (1, 10), "expected ',' or ']'");
    let map = map_of(DataType::Utf8);
    check_value(map.clone(), r#"{"k":"v","l":null}"#, r#"{"k":"v","l":null}"#);
    check_value(map.clone(), r#"{"k":"v","l":"w","k":"x"}"#, r#"{"l":"w","k":"x"}"#);
    check_value(map, "{}", "{}");
}

#[test]
fn keys_come_in_any_order_and_number() {
    let text = "{\"b\":1,\"a\":2}\n";
    check(DataType::Int64, text, "{\"a\":2}\n");
    check(DataType::Int64, "{ \"a\" : 2 , \"b\" : [ 1 , { } ] }\r\n", "{\"a\":2}\n");
    check(DataType::Int64, "{\"a\":1,\"a\":2}\n{\"a\":3}\n", "{\"a\":2}\n{\"a\":3}\n");
    check(DataType::Int64, "{\"a\":1,\"a\":null}\n", "{\"a\":null}\n");
    check(DataType::Int64, "{\"\\u0061\":1}\n{}\n", "{\"a\":1}\n{\"a\":null}\n");
    check(DataType::Int64, "{\"a\":1}\n{\"a\": 2}\n{\"a\":null}\n", "{\"a\":1}\n{\"a\":2}\n{\"a\":null}\n");
    check(DataType::Int64, "\n  \n{\"a\":1}\n\r\n\n", "{\"a\":1}\n");
}

#[test]
fn form_is_checked_where_no_column_is() {
    let wrong = |rest: &str, column, reason: &str| {
        check_bad(DataType::Int64, &format!("{{\"a\":1,{rest}\n"), (1, column), reason);
    };
    wrong("\"c\":01}", 12, "no number");
    wrong("\"c\":\"\\x\"}", 13, "escapes");
    wrong("\"c\":[1,]}", 15, "expected a value, found ]");
    wrong("\"c\":nul}", 12, "expected a value, found nul");
    wrong("\"c\":1", 13, "expected ',' or '}' after a value, found the end of the line");
    wrong("\"c\" 1}", 12, "expected ':' after a key");
    wrong("}", 8, "expected a key in quotes");
    wrong("\"c\":1}}", 14, "NDJSON is one object a line");
    wrong("\"c\":1} {}", 15, "NDJSON is one object a line");
    let deep = format!("\"c\":{}{}}}", "[".repeat(200), "]".repeat(200));
    wrong(&deep, 140, "nested deeper than 128 levels");
    check_bad(DataType::Int64, "{\"a\":1}\n[1]\n", (2, 1), "expected an object, found an array");
}

#[test]
fn not_null_columns_have_values() {
    let schema = schema(vec![Field::new("a", DataType::Int64, false)]);
    for (text, reason) in [("{}", "its key is missing"), ("{\"a\":null}", "NOT NULL, found null")] {
        let error = decode(JsonOptions::default(), &schema, &[text.as_bytes()]).expect_err(text).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let strict = JsonOptions { fail_on_missing_field: true, ..JsonOptions::default() };
    let error = decode(strict, &every_kind(), &[b"{\"id\":1}"]).expect_err("keys are missing").to_string();
    assert!(error.contains("the key of column 'name' is missing"), "{error}");
}

#[test]
fn bad_records_are_set_aside_with_their_place() {
    let schema = schema(vec![Field::new("a", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]);
    let mut text = b"{\"a\":1,\"s\":\"x\"}\n\n{\"s\":\"y\",\"a\":x}\n{\"a\":3}\n{\"s\":\"".to_vec();
    text.extend_from_slice(b"\xFF\"}\n{\"a\":5,\"s\":\"\xC3\xA9\\n\"}\n{\"a\":6");
    let decoded = decode(lenient(), &schema, &[&text]).expect("bad records are set aside");
    assert_eq!(as_json(&decoded), "{\"a\":1,\"s\":\"x\"}\n{\"a\":3,\"s\":null}\n{\"a\":5,\"s\":\"é\\n\"}\n");
    assert_eq!(decoded.batches[0].records.as_deref(), Some(&[0, 2, 4][..]));
    let places: Vec<_> = decoded.rejected.iter().map(|bad| (bad.record, bad.line, bad.column)).collect();
    assert_eq!(places, [(1, 3, 14), (3, 5, 7), (5, 7, 7)]);
    assert_eq!(decoded.rejected[0].text, "{\"s\":\"y\",\"a\":x}");
    assert_eq!(text[decoded.rejected[1].byte as usize], 0xFF);
    // Without leave to set aside, the rows before the bad record are there with the error.
    let mut decoder = JsonDecoder::new(JsonOptions::default(), schema.clone()).expect("plain types");
    let mut out = Decoded::default();
    let error = decoder.decode(&text, &mut out).expect_err("a bad record");
    assert_eq!(out.rows(), 1);
    let message = error.shift(0, 10, 100).to_string();
    assert!(
        message.starts_with("bad json record at line 13, column 14: column 'a'")
            || message.contains("expected a value, found x"),
        "{message}"
    );
    // And the decoder can go on.
    decoder.decode(b"{\"a\":9,\"s\":\"z\"}\n", &mut out).expect("a good record");
    assert_eq!(out.rows(), 2);
}

#[test]
fn batches_stay_within_their_size_and_know_their_records() {
    let schema = schema(vec![Field::new("a", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]);
    let text: String = (0..20_000).map(|row| format!("{{\"a\":{row},\"s\":\"row \\u0041{row}\"}}\n")).collect();
    let decoded = decode(JsonOptions::default(), &schema, &[text.as_bytes()]).expect("good records");
    let sizes: Vec<_> =
        decoded.batches.iter().map(|decoded| (decoded.batch.num_rows(), decoded.record_first)).collect();
    assert_eq!(sizes, [(8_192, 0), (8_192, 8_192), (3_616, 16_384)]);
    assert!(decoded.batches.iter().all(|decoded| decoded.records.is_none() && decoded.weights.is_none()));
    assert!(as_json(&decoded).ends_with("{\"a\":19999,\"s\":\"row A19999\"}\n"));
}

#[test]
fn no_column_is_still_a_row() {
    let schema = schema(vec![]);
    let decoded = decode(JsonOptions::default(), &schema, &[b"{\"a\":1}\n{}\n"]).expect("good records");
    assert_eq!(decoded.rows(), 2);
}

#[test]
fn refuses_types_that_json_has_no_form_for() {
    let schema = schema(vec![Field::new("a", DataType::Duration(TimeUnit::Second), true)]);
    let error = JsonDecoder::new(JsonOptions::default(), schema).err().expect("no such type").to_string();
    assert!(error.contains("json has no form for column 'a'"), "{error}");
}

/// JSON text of a value, and whether arrow-json reads it as we do.
type Text = (String, bool);

fn agreed(text: String) -> Text {
    (text, true)
}

fn string_text() -> impl Strategy<Value = String> {
    let plain = "[a-z ]{0,40}".prop_map(|text| format!("\"{text}\""));
    let escaped = any::<String>().prop_map(|text| {
        let mut out = Vec::new();
        crate::encode::write_json_string(&text, &mut out);
        String::from_utf8(out).expect("JSON is text")
    });
    // arrow-json 59 misreads surrogate pairs beyond U+1FFFF, so those are written as they are.
    let hexadecimal = "\\PC{0,8}".prop_map(|text| {
        let escape = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect();
        let units: String = text.chars().map(|c| if c > '\u{1FFFF}' { c.to_string() } else { escape(c) }).collect();
        format!("\"{units}\"")
    });
    prop_oneof![3 => plain, 2 => escaped, 1 => hexadecimal]
}

fn integer_text() -> impl Strategy<Value = String> {
    prop_oneof![4 => (-1_000_i64..1_000_000).prop_map(|value| value.to_string()), 1 => any::<i64>().prop_map(|value| value.to_string())]
}

fn time_text(zone: &'static str) -> impl Strategy<Value = String> {
    let fraction = prop_oneof![3 => (0..1_000).prop_map(|ms| format!(".{ms:03}")), 1 => Just(String::new())];
    ((0..3_i64), (0..86_400_i64), fraction, prop_oneof![Just('T'), Just(' ')]).prop_map(
        move |(day, second, fraction, between)| {
            let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
            format!("\"2013-01-{:02}{between}{hour:02}:{minute:02}:{second:02}{fraction}{zone}\"", day + 1)
        },
    )
}

/// Things that are bad for most columns, or that arrow-json takes otherwise.
fn odd_text() -> impl Strategy<Value = Text> {
    static TEXTS: &[&str] = &[
        "01",
        "1.5",
        "-",
        "1e400",
        "\"x\"",
        "tru",
        "{}",
        "[]",
        "{\"x\":{}}",
        "[[]]",
        "\"\\ud800\"",
        "99999999999999999999",
        "\"2013-02-30 00:00:00.000\"",
        "\"2013-01-01 00:00:0;.000\"",
        "\"2013-01-01 00:00:00.000\\u005a\"",
        "\"17\"",
        "",
        "\"",
        "nul",
        "12345678901234567",
        "0123456789",
        "\"2013-01-01T00:00:61.000Z\"",
        "{\"k\":1,\"k\":2}",
        "{\"x\":1,\"x\":2}",
    ];
    proptest::sample::select(TEXTS).prop_map(|text| (text.to_string(), false))
}

fn value_text(name: &str) -> BoxedStrategy<Text> {
    let good = match name {
        "id" => integer_text().boxed(),
        "name" => string_text().boxed(),
        "at" => time_text("").boxed(),
        "seen" => time_text("Z").boxed(),
        "ok" => any::<bool>().prop_map(|value| value.to_string()).boxed(),
        "price" => (-1_000_000_i64..1_000_000)
            .prop_map(|cents| {
                format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
            })
            .boxed(),
        "ratio" => any::<f64>()
            .prop_filter("a number", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}"))
            .boxed(),
        "small" => any::<i16>().prop_map(|value| value.to_string()).boxed(),
        "day" => (1..29).prop_map(|day| format!("\"2013-02-{day:02}\"")).boxed(),
        "inner" => (integer_text(), string_text(), any::<bool>())
            .prop_map(
                |(x, y, swapped)| {
                    if swapped { format!("{{\"y\":{y},\"x\":{x}}}") } else { format!("{{\"x\":{x},\"y\":{y}}}") }
                },
            )
            .boxed(),
        "items" => prop::collection::vec(prop_oneof![4 => integer_text(), 1 => Just("null".to_string())], 0..4)
            .prop_map(|items| format!("[{}]", items.join(", ")))
            .boxed(),
        "tags" => prop::collection::btree_map("[a-z]{1,3}", integer_text(), 0..3)
            .prop_map(|tags| {
                let tags: Vec<_> = tags.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", tags.join(","))
            })
            .boxed(),
        _ => prop_oneof![string_text(), integer_text(), Just("[{\"deep\":[true,null]}]".to_string())].boxed(),
    };
    prop_oneof![20 => good.prop_map(agreed), 2 => Just(agreed("null".to_string())), 1 => odd_text()].boxed()
}

const KEYS: [&str; 14] = [
    "id",
    "name",
    "at",
    "seen",
    "ok",
    "price",
    "ratio",
    "small",
    "day",
    "inner",
    "items",
    "tags",
    "unknown",
    "and another unknown key",
];

/// An order of keys and a way to space them; records of a stream have one of a few.
type Layout = (Vec<&'static str>, &'static str, &'static str);

fn layout() -> impl Strategy<Value = Layout> {
    let keys =
        prop_oneof![Just(KEYS.to_vec()), proptest::sample::subsequence(KEYS.to_vec(), 0..=KEYS.len()).prop_shuffle(),];
    (keys, proptest::sample::select(&["", " ", "\t"][..]), proptest::sample::select(&["", " ", "  "][..]))
}

fn record_text() -> impl Strategy<Value = Vec<Text>> {
    KEYS.iter().map(|key| value_text(key)).collect::<Vec<_>>()
}

fn write_record((keys, before, after): &Layout, values: &[Text]) -> Text {
    let mut good = true;
    let fields: Vec<_> = keys
        .iter()
        .map(|key| {
            let (text, agreed) = &values[KEYS.iter().position(|known| known == key).expect("one of KEYS")];
            good &= agreed;
            format!("\"{key}\"{before}:{after}{text}")
        })
        .collect();
    (format!("{{{after}{}{before}}}\n", fields.join(&format!("{before},{after}"))), good)
}

/// Lines of a stream: mostly of one layout.
fn stream() -> impl Strategy<Value = Vec<Text>> {
    let layouts = prop::collection::vec(layout(), 1..4);
    (layouts, prop::collection::vec((0..8_usize, record_text()), 1..30)).prop_map(|(layouts, records)| {
        let layout = |index: usize| layouts.get(index).unwrap_or(&layouts[0]);
        records.iter().map(|(index, values)| write_record(layout(*index), values)).collect()
    })
}

fn same(fast: &Decoded, general: &Decoded, schema: &SchemaRef) -> Result<(), TestCaseError> {
    prop_assert_eq!(&fast.rejected, &general.rejected);
    let (fast_rows, general_rows) = (whole(fast, schema), whole(general, schema));
    // NaN never equals itself, so compare what is written, too.
    prop_assert_eq!(fast_rows.num_rows(), general_rows.num_rows());
    prop_assert_eq!(as_json(fast), as_json(general));
    for (a, b) in fast_rows.columns().iter().zip(general_rows.columns()) {
        prop_assert_eq!(a.logical_null_count(), b.logical_null_count());
    }
    Ok(())
}

fn general() -> JsonOptions {
    JsonOptions { general_path_only: true, ..lenient() }
}

/// The lines as blocks, `size` lines each.
fn blocks(lines: &[Text], size: usize) -> Vec<String> {
    lines.chunks(size).map(|lines| lines.iter().map(|(text, _)| text.as_str()).collect()).collect()
}

fn arrow_json_rows(schema: &SchemaRef, text: &str) -> RecordBatch {
    let mut decoder = arrow_json::ReaderBuilder::new(schema.clone()).build_decoder().expect("types of arrow-json");
    let read = decoder.decode(text.as_bytes()).expect("good records");
    assert_eq!(read, text.len());
    decoder.flush().expect("good records").unwrap_or_else(|| RecordBatch::new_empty(schema.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_paths_give_the_same_rows(lines in stream(), size in 1..40_usize) {
        let schema = every_kind();
        let blocks = blocks(&lines, size);
        let blocks: Vec<&[u8]> = blocks.iter().map(String::as_bytes).collect();
        let fast = decode(lenient(), &schema, &blocks).expect("bad records are set aside");
        let general = decode(general(), &schema, &blocks).expect("bad records are set aside");
        same(&fast, &general, &schema)?;
    }

    #[test]
    fn rows_are_those_of_arrow_json(lines in stream()) {
        let schema = every_kind();
        let text: String = lines.iter().filter(|(_, agreed)| *agreed).map(|(text, _)| text.as_str()).collect();
        let ours = decode(JsonOptions::default(), &schema, &[text.as_bytes()]).expect("good records");
        prop_assert_eq!(whole(&ours, &schema), arrow_json_rows(&schema, &text));
    }

    #[test]
    fn damage_is_seen_alike_by_both_paths(
        lines in stream(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let schema = every_kind();
        let mut text: Vec<u8> = lines.iter().flat_map(|(text, _)| text.bytes()).collect();
        for (at, byte, how) in damage {
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => { text.remove(at); }
            }
        }
        let fast = decode(lenient(), &schema, &[&text]).expect("bad records are set aside");
        let general = decode(general(), &schema, &[&text]).expect("bad records are set aside");
        same(&fast, &general, &schema)?;
        let mut body = Decoded::default();
        JsonDecoder::new(lenient(), schema.clone()).expect("JSON types").decode_body(&text, &mut body).expect("a small body");
        prop_assert!(body.rejected.len() <= crate::json::body::REJECTED_MAX);
    }

    #[test]
    fn rows_written_are_rows_read(lines in stream()) {
        let schema = every_kind();
        let text: String = lines.iter().map(|(text, _)| text.as_str()).collect();
        let first = decode(lenient(), &schema, &[text.as_bytes()]).expect("bad records are set aside");
        let written = as_json(&first);
        let second = decode(JsonOptions::default(), &schema, &[written.as_bytes()]).expect("our own records");
        prop_assert_eq!(whole(&second, &schema), whole(&first, &schema));
    }
}

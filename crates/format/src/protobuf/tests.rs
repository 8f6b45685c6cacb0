//! Bodies made by another implementation are read, what is written is read back, and damage is named by its byte.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field as Column, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::batch::Decoded;
use crate::error::Error;
use crate::json::{JsonDecoder, JsonOptions};
use crate::{Encoder as _, encode::JsonEncoder};

fn column(name: &str, data_type: DataType) -> Column {
    Column::new(name, data_type, true)
}

fn row_type() -> DataType {
    DataType::Struct(vec![column("x", DataType::Int64), column("y", DataType::Utf8)].into())
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(column("item", item)))
}

fn map(value: DataType) -> DataType {
    let entry = vec![Column::new("key", DataType::Utf8, false), column("value", value)];
    DataType::Map(Arc::new(Column::new("entries", DataType::Struct(entry.into()), false)), false)
}

/// A column of each type, each with its name.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        column("bool", DataType::Boolean),
        column("tiny", DataType::Int8),
        column("small", DataType::Int16),
        column("int", DataType::Int32),
        Column::new("big", DataType::Int64, false),
        column("float", DataType::Float32),
        column("double", DataType::Float64),
        column("decimal", DataType::Decimal128(20, 4)),
        column("string", DataType::Utf8),
        column("bytes", DataType::Binary),
        column("date", DataType::Date32),
        column("time", DataType::Time32(TimeUnit::Millisecond)),
        column("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("zoned", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
        column("row", row_type()),
        column("ints", list(DataType::Int32)),
        column("rows", list(row_type())),
        column("lists", list(list(DataType::Utf8))),
        column("map", map(DataType::Int32)),
        column("maps", map(list(DataType::Float64))),
    ]))
}

/// The rows as JSON, a line each.
fn lines(batches: &[RecordBatch]) -> String {
    let mut out = Vec::new();
    let options = JsonOptions { ignore_null_fields: true, ..JsonOptions::default() };
    let mut encoder = JsonEncoder::new(options);
    for batch in batches {
        encoder.encode(batch, None, &mut out).expect("rows of weight one");
    }
    String::from_utf8(out).expect("JSON is text")
}

fn batches(out: Decoded) -> Vec<RecordBatch> {
    out.batches.into_iter().map(|decoded| decoded.batch).collect()
}

fn decoder(schema: &SchemaRef) -> ProtobufDecoder {
    ProtobufDecoder::new(schema, schema.clone()).expect("every type has its form")
}

fn read_rows(schema: &SchemaRef, body: &[u8]) -> (Result<(), Error>, Decoded) {
    let mut out = Decoded::default();
    (decoder(schema).decode_rows(body, &mut out), out)
}

fn read_columns(schema: &SchemaRef, body: &[u8]) -> Result<Vec<RecordBatch>, Error> {
    let mut out = Decoded::default();
    decoder(schema).decode_columns(body, &mut out)?;
    Ok(batches(out))
}

fn of_json(schema: &SchemaRef, text: &str) -> RecordBatch {
    let mut out = Decoded::default();
    let mut decoder = JsonDecoder::new(JsonOptions::default(), schema.clone()).expect("JSON types");
    decoder.decode_body(text.as_bytes(), &mut out).expect("a small body");
    assert!(out.rejected.is_empty(), "{:?}", out.rejected);
    concat_batches(schema, &batches(out)).expect("one schema")
}

/// The row message, as another implementation makes it.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(bool, optional, tag = "1")]
    bool: Option<bool>,
    #[prost(int32, optional, tag = "2")]
    tiny: Option<i32>,
    #[prost(int64, optional, tag = "5")]
    big: Option<i64>,
    #[prost(float, optional, tag = "6")]
    float: Option<f32>,
    #[prost(double, optional, tag = "7")]
    double: Option<f64>,
    #[prost(string, optional, tag = "8")]
    decimal: Option<String>,
    #[prost(string, optional, tag = "9")]
    string: Option<String>,
    #[prost(bytes = "vec", optional, tag = "10")]
    bytes: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "11")]
    date: Option<i32>,
    #[prost(int64, optional, tag = "12")]
    time: Option<i64>,
    #[prost(int64, optional, tag = "13")]
    at: Option<i64>,
    #[prost(message, optional, tag = "15")]
    row: Option<Row>,
    #[prost(int32, repeated, tag = "16")]
    ints: Vec<i32>,
    #[prost(message, repeated, tag = "17")]
    rows: Vec<Row>,
    #[prost(message, repeated, tag = "18")]
    lists: Vec<Strings>,
    #[prost(map = "string, int32", tag = "19")]
    map: HashMap<String, i32>,
    #[prost(string, optional, tag = "999")]
    unknown: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(int64, optional, tag = "1")]
    x: Option<i64>,
    #[prost(string, optional, tag = "2")]
    y: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Strings {
    #[prost(string, repeated, tag = "1")]
    items: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Events {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<Event>,
}

/// Some columns of the message of columns, as another implementation makes it.
#[derive(Clone, PartialEq, prost::Message)]
struct EventColumns {
    #[prost(bool, repeated, tag = "1")]
    bool: Vec<bool>,
    #[prost(int64, repeated, tag = "5")]
    big: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "7")]
    double: Vec<f64>,
    #[prost(string, repeated, tag = "9")]
    string: Vec<String>,
    #[prost(message, repeated, tag = "15")]
    row: Vec<Row>,
    #[prost(uint32, tag = "20000")]
    rows: u32,
    #[prost(bytes = "vec", tag = "20007")]
    double_present: Vec<u8>,
    #[prost(bytes = "vec", tag = "20009")]
    string_present: Vec<u8>,
    #[prost(bytes = "vec", tag = "20015")]
    row_present: Vec<u8>,
}

fn row(x: i64, y: &str) -> Row {
    Row { x: Some(x), y: Some(y.to_string()) }
}

#[test]
fn rows_of_another_implementation_are_read() {
    let full = Event {
        bool: Some(true),
        tiny: Some(-7),
        big: Some(i64::MIN),
        float: Some(1.5),
        double: Some(-0.25),
        decimal: Some("12.5".into()),
        string: Some("größer".into()),
        bytes: Some(vec![0, 255]),
        date: Some(-1),
        time: Some(86_399_999),
        at: Some(1_357_034_400_120),
        row: Some(row(1, "a")),
        ints: vec![1, -2, 300],
        rows: vec![row(2, "b"), Row::default()],
        lists: vec![Strings { items: vec!["p".into(), "q".into()] }, Strings::default()],
        map: HashMap::from([("k".into(), 3)]),
        unknown: Some("passed over".into()),
    };
    let body = Events { rows: vec![full, Event { big: Some(0), ..Event::default() }] }.encode_to_vec();
    let (read, out) = read_rows(&schema(), &body);
    read.expect("a whole message");
    let expected = r#"{"bool":true,"tiny":-7,"big":-9223372036854775808,"float":1.5,"double":-0.25,"decimal":12.5000,"string":"größer","bytes":"AP8=","date":"1969-12-31","time":"23:59:59.999","at":"2013-01-01 10:00:00.12","row":{"x":1,"y":"a"},"ints":[1,-2,300],"rows":[{"x":2,"y":"b"},{}],"lists":[["p","q"],[]],"map":{"k":3},"maps":{}}
{"big":0,"ints":[],"rows":[],"lists":[],"map":{},"maps":{}}
"#;
    assert_eq!(lines(&batches(out)), expected);
}

#[test]
fn columns_of_another_implementation_are_read() {
    let body = EventColumns {
        bool: vec![true, false, true],
        big: vec![-1, 0, 1],
        double: vec![0.5, 0.0, 2.5],
        string: vec!["a".into(), String::new(), "c".into()],
        row: vec![row(1, "a"), row(2, "b"), row(3, "means nothing")],
        rows: 3,
        double_present: vec![0b101],
        string_present: vec![0b110],
        row_present: vec![0b011],
    };
    let batches = read_columns(&schema(), &body.encode_to_vec()).expect("three rows");
    let expected = r#"{"bool":true,"big":-1,"double":0.5,"row":{"x":1,"y":"a"}}
{"bool":false,"big":0,"string":"","row":{"x":2,"y":"b"}}
{"bool":true,"big":1,"double":2.5,"string":"c"}
"#;
    assert_eq!(lines(&batches), expected);
}

#[test]
fn only_needed_columns_are_read() {
    let declared = schema();
    let needed = Arc::new(declared.project(&[8, 4]).expect("there are as many"));
    let mut decoder = ProtobufDecoder::new(&declared, needed).expect("both are declared");
    let event = Event { big: Some(7), string: Some("s".into()), double: Some(1.0), ..Event::default() };
    let mut out = Decoded::default();
    decoder.decode_rows(&Events { rows: vec![event] }.encode_to_vec(), &mut out).expect("a whole message");
    let columns = EventColumns {
        big: vec![8],
        string: vec!["t".into()],
        bool: vec![true],
        double_present: vec![1],
        rows: 1,
        ..EventColumns::default()
    };
    decoder.decode_columns(&columns.encode_to_vec(), &mut out).expect("a whole message");
    assert_eq!(lines(&batches(out)), "{\"string\":\"s\",\"big\":7}\n{\"string\":\"t\",\"big\":8}\n");
}

#[test]
fn rows_within_rows_are_read_as_far_as_they_are_needed() {
    let declared = schema();
    let short = DataType::Struct(vec![column("y", DataType::Utf8)].into());
    let needed = Schema::new(vec![column("rows", list(short.clone())), column("row", short)]);
    let mut decoder = ProtobufDecoder::new(&declared, Arc::new(needed)).expect("all are declared");
    let event = Event { big: Some(7), row: Some(row(1, "a")), rows: vec![row(2, "b")], ..Event::default() };
    let mut out = Decoded::default();
    decoder.decode_rows(&Events { rows: vec![event] }.encode_to_vec(), &mut out).expect("a whole message");
    assert_eq!(lines(&batches(out)), "{\"rows\":[{\"y\":\"b\"}],\"row\":{\"y\":\"a\"}}\n");
}

#[test]
fn a_scalar_that_comes_again_replaces_what_was() {
    let mut body = Event { big: Some(1), string: Some("a".into()), ..Event::default() }.encode_to_vec();
    body.extend(Event { big: Some(2), string: Some("b".into()), ints: vec![1], ..Event::default() }.encode_to_vec());
    body.extend(Event { ints: vec![2], ..Event::default() }.encode_to_vec());
    let mut message = Vec::new();
    wire::write_length(ROWS, &mut message, |out| out.extend_from_slice(&body));
    let (read, out) = read_rows(&schema(), &message);
    read.expect("a whole message");
    let expected = r#"{"big":2,"string":"b","ints":[1,2],"rows":[],"lists":[],"map":{},"maps":{}}"#;
    assert_eq!(lines(&batches(out)).trim_end(), expected);
}

#[test]
fn every_bad_row_is_named() {
    let good = |big| Event { big: Some(big), ..Event::default() };
    let check = |bad: Event, byte: u64, column: u64, part: &str| {
        let body = Events { rows: vec![good(1), bad, good(3)] }.encode_to_vec();
        let (read, out) = read_rows(&schema(), &body);
        read.expect("the message is whole");
        let [wrong] = out.rejected.as_slice() else { panic!("one row is bad: {:?}", out.rejected) };
        assert!(wrong.reason.contains(part), "{}", wrong.reason);
        assert_eq!((wrong.record, wrong.line, wrong.byte, wrong.column), (1, 2, byte, column), "{part}");
        assert_eq!(out.rows(), 2);
        assert_eq!(out.batches[0].records.as_deref(), Some(&[0, 2][..]));
    };
    check(Event::default(), 6, 1, "column 'big' is NOT NULL and its field is missing");
    check(Event { tiny: Some(300), ..good(2) }, 7, 2, "column 'tiny': 300 is out of the range of TINYINT");
    check(Event { decimal: Some("x".into()), ..good(2) }, 10, 5, "column 'decimal': expected DECIMAL(20, 4) as text");
    check(Event { time: Some(-1), ..good(2) }, 9, 4, "column 'time': -1 is out of the range of TIME(3)");
}

#[test]
fn reading_ends_at_a_hundred_bad_rows() {
    let body = Events { rows: vec![Event::default(); 200] }.encode_to_vec();
    let (read, out) = read_rows(&schema(), &body);
    read.expect("the message is whole");
    assert_eq!((out.rejected.len(), out.rows()), (100, 0));
}

#[test]
fn damage_is_named_by_its_byte() {
    let small = Arc::new(Schema::new(vec![
        Column::new("n", DataType::Int64, false),
        column("s", DataType::Utf8),
        column("r", row_type()),
        column("m", map(DataType::Int32)),
    ]));
    let rows = |bytes: &[u8]| {
        let (read, out) = read_rows(&small, bytes);
        match read {
            Ok(()) => out.rejected.first().map(|wrong| format!("{}: {}", wrong.byte, wrong.reason)),
            Err(error) => Some(error.to_string()),
        }
    };
    let columns = |bytes: &[u8]| read_columns(&small, bytes).err().map(|error| error.to_string());
    let check = |found: Option<String>, part: &str| {
        let found = found.unwrap_or_default();
        assert!(found.contains(part), "{found} has no {part}");
    };
    check(rows(&[0x08, 1]), "byte 1 of the message: a row is due, found a varint");
    check(rows(&[0x0A, 5, 8, 1]), "byte 2 of the message: a field is 5 bytes long, and its message ends 2 bytes");
    check(rows(&[0x0A, 2, 0x0A, 0]), "3: column 'n': a BIGINT is a varint, found bytes with their length");
    check(rows(&[0x0A, 4, 8, 1, 0x12, 9]), "6: a field is 9 bytes long");
    check(rows(&[0x0A, 6, 8, 1, 0x12, 2, b'a', 0xFF]), "7: column 's': the string is not valid UTF-8");
    check(rows(&[0x0A, 6, 8, 1, 0x1A, 0, 0x1A, 0]), "7: column 'r' comes twice in a row");
    check(rows(&[0x0A, 6, 8, 1, 0x1A, 2, 0x0A, 0]), "7: column 'r.x': a BIGINT is a varint");
    check(
        rows(&[0x0A, 10, 8, 1, 0x22, 2, 0x10, 1, 0x22, 2, 0x10, 2]),
        "12: column 'm': the key '' comes twice in a map",
    );
    check(rows(&[0x0A, 4, 8, 1, 0x20, 0]), "5: column 'm': an entry of a map is due");
    let count = |rows: u8| [0x80, 0xE2, 0x09, rows];
    check(
        columns(&[&[0x0A, 2, 1, 2], &count(3)[..]].concat()),
        "column 'n' has 2 values, and the message says that it has 3",
    );
    check(columns(&[0x0A, 2, 1, 2]), "column 'n' has 2 values, and the message says that it has 0");
    check(columns(&count(1)), "column 'n' is NOT NULL, and row 0 has no value");
    check(columns(&[&[0x0A, 2, 1, 0x80], &count(2)[..]].concat()), "byte 3 of the message: the message breaks off");
    check(columns(&[0x80, 0xE2, 0x09, 0x81, 0x80, 0x10]), "may hold 262144 rows");
    // Bit 1 of the bitmap of `n` is missing.
    let bitmap = [0x8A, 0xE2, 0x09, 1, 1];
    check(columns(&[&[0x0A, 2, 1, 2], &count(2)[..], &bitmap].concat()), "'n' is NOT NULL, and row 1 has no value");
}

#[test]
fn a_message_is_not_larger_than_its_bytes() {
    let (read, _) = read_rows(&schema(), &[0x0A, 0].repeat(ROWS_MAX + 1));
    // A hundred bad rows end it before that.
    read.expect("the message is whole");
    let one = Arc::new(Schema::new(vec![column("n", DataType::Int64)]));
    let (read, out) = read_rows(&one, &[0x0A, 0].repeat(ROWS_MAX + 1));
    let error = read.expect_err("one row too many").to_string();
    assert!(error.contains("may hold 262144 rows"), "{error}");
    assert_eq!(out.rows(), ROWS_MAX);
}

#[test]
fn a_decoder_goes_on_after_a_fault() {
    let schema = schema();
    let mut decoder = decoder(&schema);
    let mut out = Decoded::default();
    let good =
        Events { rows: vec![Event { big: Some(1), string: Some("s".into()), ..Event::default() }] }.encode_to_vec();
    let mut cut = good.clone();
    cut.extend_from_slice(&[0x0A, 9]);
    decoder.decode_rows(&cut, &mut out).expect_err("it breaks off");
    decoder.decode_columns(&[0x0A, 9], &mut out).expect_err("it breaks off");
    assert!(out.batches.is_empty());
    decoder.decode_rows(&good, &mut out).expect("a whole message");
    assert_eq!(out.rows(), 1);
}

#[test]
fn many_rows_come_in_batches_of_the_usual_length() {
    let one = Arc::new(Schema::new(vec![column("s", DataType::Utf8)]));
    let text: String = (0..20_000).map(|n| format!("{{\"s\":\"{n}\"}}\n")).collect();
    let whole = of_json(&one, &text);
    let (mut by_row, mut by_column) = (Vec::new(), Vec::new());
    rows(&whole, &mut by_row).expect("strings");
    columns(std::slice::from_ref(&whole), &mut by_column).expect("strings");
    let (read, out) = read_rows(&one, &by_row);
    read.expect("a whole message");
    let read = [batches(out), read_columns(&one, &by_column).expect("a whole message")];
    for batches in read {
        let lengths: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(lengths, [8_192, 8_192, 3_616]);
        assert_eq!(concat_batches(&one, &batches).expect("one schema"), whole);
    }
}

#[test]
fn the_messages_of_a_table_are_printed() {
    let schema = Schema::new(vec![
        Column::new("card", DataType::Utf8, false),
        column("amount", DataType::Decimal128(10, 2)),
        column("at_ms", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("home-address", row_type()),
        column("tags", list(DataType::Utf8)),
        column("tags_", list(list(DataType::Int32))),
        column("größe", map(row_type())),
    ]);
    let messages = Messages::of("card_payments", &schema).expect("every type has its form");
    assert_eq!(messages.file, "tidemill/tables/card_payments.proto");
    assert_eq!(messages.to_string(), include_str!("tests/card_payments.proto"));
}

#[test]
fn what_has_no_form_is_refused() {
    let refused = |data_type| {
        let schema = Schema::new(vec![column("a", row_type()), column("b", list(data_type))]);
        Messages::of("t", &schema).expect_err("it has no form").to_string()
    };
    let interval = DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano);
    assert!(refused(interval).contains("protobuf has no form for column 'b.item'"));
    let wide = Schema::new((0..10_001).map(|n| column(&format!("c{n}"), DataType::Int64)).collect::<Vec<_>>());
    let error = Messages::of("t", &wide).expect_err("too many").to_string();
    assert_eq!(error, "protobuf numbers at most 10000 columns, and there are 10001");
}

/// A JSON value of the column, or nothing.
fn value(column: &str) -> BoxedStrategy<String> {
    let text = || "[a-zé0-9 ]{0,8}".prop_map(|text| format!("\"{text}\""));
    let some = match column {
        "bool" => any::<bool>().prop_map(|v| v.to_string()).boxed(),
        "tiny" => any::<i8>().prop_map(|v| v.to_string()).boxed(),
        "small" => any::<i16>().prop_map(|v| v.to_string()).boxed(),
        "int" => any::<i32>().prop_map(|v| v.to_string()).boxed(),
        "big" => return any::<i64>().prop_map(|v| v.to_string()).boxed(),
        "float" | "double" => (-1e9_f32..1e9).prop_map(|v| v.to_string()).boxed(),
        "decimal" => (-1_000_000_i64..1_000_000).prop_map(|v| format!("{}.{:02}", v / 100, v.abs() % 100)).boxed(),
        "string" => text().boxed(),
        "bytes" => Just("\"AAECAw==\"".to_string()).boxed(),
        "date" => Just("\"2020-02-29\"".to_string()).boxed(),
        "time" => (0..60).prop_map(|s| format!("\"10:00:{s:02}.5\"")).boxed(),
        "at" => (0..60).prop_map(|s| format!("\"1999-01-01 10:00:{s:02}.5\"")).boxed(),
        "zoned" => (0..60).prop_map(|s| format!("\"2026-01-01T10:00:{s:02}.123456789Z\"")).boxed(),
        "row" => return prop_oneof![row_value(), Just("null".to_string())].boxed(),
        // An ARRAY or a MAP that is left out is empty, and so it is never NULL here.
        "ints" => return several(any::<i32>().prop_map(|v| v.to_string()).boxed()),
        "rows" => return several(row_value()),
        "lists" => return several(several(text().boxed())),
        "map" => return entries(any::<i32>().prop_map(|v| v.to_string()).boxed()),
        _ => return entries(several((-1e9_f64..1e9).prop_map(|v| v.to_string()).boxed())),
    };
    prop_oneof![3 => some, 1 => Just("null".to_string())].boxed()
}

fn row_value() -> BoxedStrategy<String> {
    let x = prop_oneof![any::<i64>().prop_map(|v| v.to_string()), Just("null".to_string())];
    (x, "[a-z]{0,3}").prop_map(|(x, y)| format!("{{\"x\":{x},\"y\":\"{y}\"}}")).boxed()
}

fn several(item: BoxedStrategy<String>) -> BoxedStrategy<String> {
    proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))).boxed()
}

fn entries(value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let entries = proptest::collection::btree_map("[a-z]{0,3}", value, 0..4);
    let text = |(key, value): (String, String)| format!("\"{key}\":{value}");
    entries.prop_map(move |all| format!("{{{}}}", all.into_iter().map(text).collect::<Vec<_>>().join(","))).boxed()
}

fn some_rows() -> impl Strategy<Value = String> {
    let schema = schema();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let values: Vec<_> = names.iter().map(|name| value(name)).collect();
    let object = values.prop_map(move |values| {
        let pairs: Vec<_> = names.iter().zip(values).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}\n", pairs.join(","))
    });
    proptest::collection::vec(object, 1..20).prop_map(|objects| objects.concat())
}

fn one(batches: &[RecordBatch], schema: &SchemaRef) -> RecordBatch {
    concat_batches(schema, batches).expect("one schema")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read_back(text in some_rows()) {
        let schema = schema();
        let batch = of_json(&schema, &text);
        let (mut by_row, mut by_column) = (Vec::new(), Vec::new());
        rows(&batch, &mut by_row).expect("every type has its form");
        columns(std::slice::from_ref(&batch), &mut by_column).expect("every type has its form");
        let (read, out) = read_rows(&schema, &by_row);
        read.expect("it was just written");
        prop_assert_eq!(&out.rejected, &vec![]);
        prop_assert_eq!(one(&batches(out), &schema), batch.clone());
        prop_assert_eq!(one(&read_columns(&schema, &by_column).expect("it was just written"), &schema), batch);
    }

    #[test]
    fn damaged_messages_are_refused_or_read(text in some_rows(), at in any::<prop::sample::Index>(), byte: u8) {
        let schema = schema();
        let batch = of_json(&schema, &text);
        let mut bodies = [Vec::new(), Vec::new()];
        rows(&batch, &mut bodies[0]).expect("every type has its form");
        columns(std::slice::from_ref(&batch), &mut bodies[1]).expect("every type has its form");
        for body in &mut bodies {
            let at = at.index(body.len());
            let _ = (read_rows(&schema, &body[..at]), read_columns(&schema, &body[..at]));
            body[at] = byte;
            for batch in batches(read_rows(&schema, body).1).iter().chain(&read_columns(&schema, body).unwrap_or_default()) {
                // What was read is what Arrow takes for sound.
                let sound = |column: &ArrayRef| column.to_data().validate_full().is_ok();
                prop_assert!(batch.columns().iter().all(sound));
            }
        }
    }
}

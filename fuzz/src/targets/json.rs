//! The JSON decoder: whatever the bytes are, it returns, both of its paths agree, and its rows survive a round trip.

use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_format::{DebeziumDecoder, Decoded, Decoder, Encoder, JsonDecoder, JsonOptions, encode::JsonEncoder};

fn schema() -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    let row = DataType::Struct(vec![column("x", DataType::Int64), column("y", DataType::Utf8)].into());
    let entry = vec![Field::new("key", DataType::Utf8, false), column("value", DataType::Int32)];
    let entries = Field::new("entries", DataType::Struct(entry.into()), false);
    Arc::new(Schema::new(vec![
        column("i", DataType::Int64),
        column("s", DataType::Utf8),
        column("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("z", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
        column("b", DataType::Boolean),
        column("d", DataType::Decimal128(20, 4)),
        column("f", DataType::Float64),
        column("h", DataType::Binary),
        column("r", row.clone()),
        column("l", DataType::List(Arc::new(column("item", row)))),
        column("m", DataType::Map(Arc::new(entries), false)),
    ]))
}

/// Decodes `input` as lines by both paths, as a body and as change records; returns what came of it.
pub fn run(input: &[u8]) -> Vec<String> {
    let schema = schema();
    let fast = lines(&schema, input, false);
    let general = lines(&schema, input, true);
    assert_eq!(fast.rejected, general.rejected, "both paths reject the same records");
    let written = write(&fast);
    assert_eq!(written, write(&general), "both paths give the same rows");

    let again = lines(&schema, written.as_bytes(), false);
    assert!(again.rejected.is_empty(), "rows that were written can be read: {:?}", again.rejected);
    assert_eq!(write(&again), written, "a round trip changes nothing");

    let mut body = Decoded::default();
    decoder(&schema, false).decode_body(input, &mut body).expect("only the size of a body is an error");
    let mut changes = Decoded::default();
    let options = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
    let mut debezium = DebeziumDecoder::new(options, schema).expect("JSON types");
    debezium.decode(input, &mut changes).expect("bad records are set aside");
    let ways = [("lines", fast), ("body", body), ("changes", changes)];
    ways.iter().flat_map(|(way, decoded)| behaviours(way, decoded)).collect()
}

fn decoder(schema: &SchemaRef, general_path_only: bool) -> JsonDecoder {
    let options = JsonOptions { ignore_parse_errors: true, general_path_only, ..JsonOptions::default() };
    JsonDecoder::new(options, schema.clone()).expect("JSON types")
}

fn lines(schema: &SchemaRef, input: &[u8], general_path_only: bool) -> Decoded {
    let mut out = Decoded::default();
    decoder(schema, general_path_only).decode(input, &mut out).expect("bad records are set aside");
    out
}

fn write(decoded: &Decoded) -> String {
    let mut out = Vec::new();
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    for batch in &decoded.batches {
        encoder.encode(&batch.batch, None, &mut out).expect("rows of weight one");
    }
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// The reasons without what they quote, which columns have values, and how many rows there are, up to three.
fn behaviours(way: &str, decoded: &Decoded) -> Vec<String> {
    let reasons = decoded.rejected.iter().map(|rejected| words_only(&rejected.reason));
    let batches = decoded.batches.iter().flat_map(|decoded| decoded.batch.columns().iter().enumerate());
    let filled = batches.filter(|(_, column)| column.null_count() < column.len()).map(|(at, _)| format!("column {at}"));
    let rows = std::iter::once(format!("rows {}", decoded.rows().min(3)));
    reasons.chain(filled).chain(rows).map(|behaviour| format!("{way}: {behaviour}")).collect()
}

/// The words of a reason that are ours: what it quotes of the input is cut off, before and behind.
fn words_only(reason: &str) -> String {
    let ours = [" is no number", " needs a digit", " is out of the range", ", expected \"c\"", " in a string must"];
    let from = ours.iter().find_map(|ours| reason.find(ours)).unwrap_or(0);
    let to = reason[from..].find(", found ").map(|length| from + length).unwrap_or(reason.len());
    reason[from..to].chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').collect()
}

//! The decoder of Protocol Buffers: whatever the bytes are, it returns, and its rows survive a round trip in both forms.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_format::protobuf::{self, Messages, ProtobufDecoder};
use tidemill_format::{Decoded, Error, JsonDecoder, JsonOptions};

fn schema() -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    let row = DataType::Struct(vec![column("x", DataType::Int64), column("y", DataType::Utf8)].into());
    let entry = vec![Field::new("key", DataType::Utf8, false), column("value", DataType::Int32)];
    let entries = Field::new("entries", DataType::Struct(entry.into()), false);
    Arc::new(Schema::new(vec![
        column("i", DataType::Int64),
        column("s", DataType::Utf8),
        column("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("k", DataType::Int8),
        column("b", DataType::Boolean),
        column("d", DataType::Decimal128(20, 4)),
        column("f", DataType::Float64),
        column("h", DataType::Binary),
        column("r", row.clone()),
        column("l", DataType::List(Arc::new(column("item", row)))),
        column("m", DataType::Map(Arc::new(entries), false)),
        Field::new("n", DataType::Int32, false),
    ]))
}

/// Decodes `input` as rows and as columns; returns what came of it.
pub fn run(input: &[u8]) -> Vec<String> {
    let schema = schema();
    let (rows, of_rows) = decode(&schema, |decoder, out| decoder.decode_rows(input, out));
    let (columns, of_columns) = decode(&schema, |decoder, out| decoder.decode_columns(input, out));
    for batches in [&rows, &columns] {
        round_trip(&schema, batches);
    }
    let name = |way: &str, what: Vec<String>| what.into_iter().map(move |what| format!("{way}: {what}")).collect();
    let ways: [Vec<String>; 2] = [name("rows", of_rows), name("columns", of_columns)];
    ways.concat()
}

/// What is decoded, and what there is to say about it.
fn decode(
    schema: &SchemaRef,
    read: impl FnOnce(&mut ProtobufDecoder, &mut Decoded) -> Result<(), Error>,
) -> (Vec<RecordBatch>, Vec<String>) {
    let mut decoder = ProtobufDecoder::new(schema, schema.clone()).expect("every type has its form");
    let mut out = Decoded::default();
    let failed = read(&mut decoder, &mut out).err().map(|error| words_only(&error.to_string()));
    let reasons = out.rejected.iter().map(|rejected| words_only(&rejected.reason));
    let filled = out.batches.iter().flat_map(|decoded| decoded.batch.columns().iter().enumerate());
    let filled = filled.filter(|(_, column)| column.null_count() < column.len()).map(|(at, _)| format!("column {at}"));
    let count = std::iter::once(format!("rows {}", out.rows().min(3)));
    let told = reasons.chain(filled).chain(count).chain(failed).collect();
    (out.batches.into_iter().map(|decoded| decoded.batch).collect(), told)
}

/// What was read can be written in both forms, and read again as the same.
fn round_trip(schema: &SchemaRef, batches: &[RecordBatch]) {
    for batch in batches {
        for column in batch.columns() {
            column.to_data().validate_full().expect("a decoder gives columns that are sound");
        }
        let (mut by_row, mut by_column) = (Vec::new(), Vec::new());
        protobuf::rows(batch, &mut by_row).expect("every type has its form");
        protobuf::columns(std::slice::from_ref(batch), &mut by_column).expect("every type has its form");
        let (rows, _) = decode(schema, |decoder, out| decoder.decode_rows(&by_row, out));
        let (columns, _) = decode(schema, |decoder, out| decoder.decode_columns(&by_column, out));
        assert_eq!(columns, std::slice::from_ref(batch), "columns survive");
        // In a row an ARRAY or a MAP that is left out is empty: after once round nothing changes any more.
        let mut again = Vec::new();
        rows.iter().for_each(|batch| protobuf::rows(batch, &mut again).expect("every type has its form"));
        assert_eq!(again, by_row, "rows survive");
    }
}

/// The words of a reason that are ours.
fn words_only(reason: &str) -> String {
    let from = reason.find("column '").or_else(|| reason.find(": ")).unwrap_or(0);
    let to = reason[from..].find(", found ").map_or(reason.len(), |length| from + length);
    reason[from..to].chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').take(60).collect()
}

/// A few rows in both forms.
pub fn seeds() -> Vec<Vec<u8>> {
    let schema = schema();
    assert!(Messages::of("t", &schema).is_ok(), "every type has its form");
    let lines = [
        r#"{"n":1,"i":-5,"s":"größer","t":"2026-01-02 03:04:05.678","k":-7,"b":true,"d":12.5,"f":0.5,"h":"AAEC"}"#,
        r#"{"n":2,"r":{"x":1,"y":"a"},"l":[{"x":2},{"y":"b"},{}],"m":{"a":1,"b":-2}}"#,
        r#"{"n":3}"#,
    ];
    let mut seeds = Vec::new();
    for count in 1..=lines.len() {
        let mut out = Decoded::default();
        let mut decoder = JsonDecoder::new(JsonOptions::default(), schema.clone()).expect("JSON types");
        decoder.decode_body(lines[..count].join("\n").as_bytes(), &mut out).expect("a small body");
        let batches: Vec<RecordBatch> = out.batches.into_iter().map(|decoded| decoded.batch).collect();
        let (mut by_row, mut by_column) = (Vec::new(), Vec::new());
        batches.iter().for_each(|batch| protobuf::rows(batch, &mut by_row).expect("every type has its form"));
        protobuf::columns(&batches, &mut by_column).expect("every type has its form");
        seeds.extend([by_row, by_column]);
    }
    seeds
}

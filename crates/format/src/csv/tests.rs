use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;

use super::super::CsvEncoder;
use super::*;
use crate::encode::JsonEncoder;
use crate::format::Encoder;
use crate::json::JsonOptions;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

fn decode(options: &CsvOptions, schema: &SchemaRef, text: &[u8]) -> Result<Decoded, Error> {
    let mut out = Decoded::default();
    CsvDecoder::new(options.clone(), schema.clone())?.decode(text, &mut out)?;
    Ok(out)
}

fn as_json(decoded: &Decoded) -> String {
    let mut out = Vec::new();
    for batch in &decoded.batches {
        JsonEncoder::new(JsonOptions::default()).encode(&batch.batch, None, &mut out).expect("columns we made");
    }
    String::from_utf8(out).expect("JSON is text")
}

fn check(options: &CsvOptions, text: &str, expected: &str) {
    let decoded = decode(options, &schema(), text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(as_json(&decoded), expected, "{text}");
}

fn check_bad(options: &CsvOptions, text: &[u8], at: (u64, u64), reason: &str) {
    match decode(options, &schema(), text) {
        Err(Error::BadRecord { at: rejected, .. }) => {
            assert!(rejected.reason.contains(reason), "{}", rejected.reason);
            assert_eq!((rejected.line, rejected.column), at, "{}", rejected.reason);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_quotes_blank_lines_and_nulls() {
    let options = CsvOptions::default();
    check(&options, "1,a,2013-01-01 10:00:00\n", "{\"id\":1,\"name\":\"a\",\"at\":\"2013-01-01 10:00:00\"}\n");
    check(
        &options,
        "1,\"a,\n\"\"b\"\"\",\r\n\r\n 2 ,,\n",
        "{\"id\":1,\"name\":\"a,\\n\\\"b\\\"\",\"at\":null}\n{\"id\":2,\"name\":\"\",\"at\":null}\n",
    );
    check(&options, "1,é,", "{\"id\":1,\"name\":\"é\",\"at\":null}\n");
}

#[test]
fn reads_flinks_options() {
    let options = CsvOptions {
        delimiter: b';',
        quote: Some(b'\''),
        null_literal: Some("n/a".into()),
        allow_comments: true,
        ..CsvOptions::default()
    };
    check(
        &options,
        "# it's\n1;'x;y';n/a\n2;n/a;\n",
        "{\"id\":1,\"name\":\"x;y\",\"at\":null}\n{\"id\":2,\"name\":null,\"at\":null}\n",
    );
    let options = CsvOptions { quote: None, ..CsvOptions::default() };
    check(&options, "1,\"a,\n", "{\"id\":1,\"name\":\"\\\"a\",\"at\":null}\n");
}

#[test]
fn a_header_names_the_columns() {
    let options = CsvOptions { header: true, ..CsvOptions::default() };
    check(
        &options,
        "x,name,id,at\n9,a,1,\n9,b,2,\n",
        "{\"id\":1,\"name\":\"a\",\"at\":null}\n{\"id\":2,\"name\":\"b\",\"at\":null}\n",
    );
    let error = decode(&options, &schema(), b"id,nome,at\n1,a,\n").expect_err("no column 'name'").to_string();
    assert_eq!(error, "the csv input has no column 'name'; it has 'id', 'nome', 'at'");
    let mut decoder = CsvDecoder::new(options, schema()).expect("plain types");
    let mut out = Decoded::default();
    decoder.header(b"at,name,id\n").expect("a header");
    decoder.decode(b",a,1\n", &mut out).expect("a good record");
    decoder.header(b"id,at,name\n").expect("the next file's header");
    decoder.decode(b"2,,b\n", &mut out).expect("a good record");
    assert_eq!(as_json(&out), "{\"id\":1,\"name\":\"a\",\"at\":null}\n{\"id\":2,\"name\":\"b\",\"at\":null}\n");
}

#[test]
fn only_needed_columns_are_read() {
    let needed = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
    let mut decoder = CsvDecoder::projected(CsvOptions::default(), &schema(), needed).expect("a column of the table");
    let mut out = Decoded::default();
    decoder.decode(b"x,a,y\n", &mut out).expect("other columns are not read");
    assert_eq!(as_json(&out), "{\"name\":\"a\"}\n");
}

#[test]
fn says_where_a_record_is_bad() {
    let options = CsvOptions::default();
    check_bad(&options, b"1,a,\nx,b,\n", (2, 1), "column 'id': expected BIGINT, found 'x'");
    check_bad(&options, b"1,\"a\n,b\",\n2,\"x,\ny\",yesterday\n", (4, 4), "column 'at': expected TIMESTAMP(3)");
    check_bad(&options, b"1,a\n", (1, 1), "expected 3 fields, found 2");
    check_bad(&options, b"1,a,,4\n", (1, 6), "expected 3 fields, found 4");
    check_bad(&options, b",a,\n", (1, 1), "column 'id' is NOT NULL");
    check_bad(&options, b"1,\xFF,\n", (1, 1), "not valid UTF-8");
    check_bad(&options, b"1,a,\n2,\"b,\n3,c,\n", (2, 1), "no closing quote");
}

#[test]
fn bad_records_are_set_aside() {
    let options = CsvOptions { ignore_parse_errors: true, ..CsvOptions::default() };
    let decoded = decode(&options, &schema(), b"1,a,\nx\n\n3,c,\n4,d,e\n").expect("bad records are set aside");
    assert_eq!(as_json(&decoded), "{\"id\":1,\"name\":\"a\",\"at\":null}\n{\"id\":3,\"name\":\"c\",\"at\":null}\n");
    assert_eq!(decoded.batches[0].records.as_deref(), Some(&[0, 2][..]));
    let places: Vec<_> = decoded.rejected.iter().map(|bad| (bad.record, bad.line, bad.text.as_str())).collect();
    assert_eq!(places, [(1, 2, "x"), (3, 5, "4,d,e")]);
}

#[test]
fn refuses_nested_columns() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let nested = Arc::new(Schema::new(vec![Field::new("a", list, true)]));
    let error = CsvDecoder::new(CsvOptions::default(), nested).err().expect("an array").to_string();
    assert_eq!(error, "csv has no form for column 'a' of type ARRAY<BIGINT>");
}

fn write(options: &CsvOptions, batch: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = CsvEncoder::new(options.clone(), batch.schema());
    encoder.encode(batch, None, &mut out).expect("plain types");
    encoder.finish(&mut out).expect("plain types");
    out
}

proptest! {
    #[test]
    fn rows_written_are_rows_read(
        rows in prop::collection::vec((any::<i64>(), prop::option::of(any::<String>()), prop::option::of(0..10_000_000_000_i64)), 0..20),
        header in any::<bool>(),
        delimiter in prop::sample::select(&b",;\t|-: 1"[..]),
    ) {
        let names = rows.iter().map(|(_, name, _)| name.as_deref().filter(|name| *name != "NULL"));
        let batch = RecordBatch::try_new(schema(), vec![
            Arc::new(arrow_array::Int64Array::from_iter_values(rows.iter().map(|(id, ..)| *id))),
            Arc::new(arrow_array::StringArray::from_iter(names)),
            Arc::new(arrow_array::TimestampMillisecondArray::from_iter(rows.iter().map(|(.., at)| *at))),
        ]).expect("three columns");
        let options = CsvOptions { header, delimiter, null_literal: Some("NULL".into()), ..CsvOptions::default() };
        let text = write(&options, &batch);
        let decoded = decode(&options, &schema(), &text).expect("our own records");
        let read = arrow_select::concat::concat_batches(&schema(), decoded.batches.iter().map(|decoded| &decoded.batch)).expect("one schema");
        prop_assert_eq!(&read, &batch);
        // The cutter finds the same records.
        let cut = options.cutter().cut(&text, usize::MAX);
        prop_assert_eq!((cut.end, cut.records), (text.len(), rows.len() + usize::from(header)));
    }
}

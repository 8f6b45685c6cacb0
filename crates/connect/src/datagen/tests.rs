use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::{DataType, Field as Column, Fields, Schema, TimeUnit};

use super::*;

fn open(columns: Vec<(&str, DataType)>, pairs: &[(&str, &str)]) -> Result<Datagen, options::Error> {
    let columns = columns.into_iter().map(|(name, data_type)| Column::new(name, data_type, true));
    let schema: SchemaRef = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
    let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    let mut options = Pairs::new("connector 'datagen'", pairs);
    let read = Options::take(&mut options, &schema)?;
    options.finish()?;
    Ok(Datagen::open("t", &read, schema).expect("types that have values"))
}

fn rows(source: &Datagen, from: u64, to: u64) -> RecordBatch {
    match source.block(from, to).expect("values for all columns").data {
        BlockData::Rows(delta) => delta.batch().clone(),
        BlockData::Bytes(_) => unreachable!("datagen makes rows"),
    }
}

#[test]
fn counts_up_and_ends() {
    let pairs = [("fields.a.kind", "sequence"), ("fields.a.start", "5"), ("fields.a.end", "7")];
    let source = open(vec![("a", DataType::Int32)], &pairs).expect("good options");
    assert!(source.is_bounded());
    assert_eq!(source.options.rows_max, Some(3));
    assert_eq!(rows(&source, 0, 3).column(0).as_primitive::<Int32Type>().values(), &[5, 6, 7]);
}

#[test]
fn stays_within_its_bounds() {
    let pairs = [("fields.a.min", "-3"), ("fields.a.max", "3"), ("fields.s.length", "7"), ("number-of-rows", "9")];
    let source = open(vec![("a", DataType::Int64), ("s", DataType::Utf8)], &pairs).expect("good options");
    let batch = rows(&source, 0, 1_000);
    let mut seen: Vec<i64> = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [-3, -2, -1, 0, 1, 2, 3]);
    assert!(batch.column(1).as_string::<i32>().iter().all(|text| text.is_some_and(|text| text.len() == 7)));
}

#[test]
fn a_row_does_not_depend_on_how_rows_are_cut() {
    let list = DataType::List(Arc::new(Column::new("item", DataType::Int64, true)));
    let inner = Fields::from(vec![Column::new("x", DataType::Float64, true), Column::new("y", list, true)]);
    let columns = vec![
        ("a", DataType::Int64),
        ("b", DataType::Boolean),
        ("d", DataType::Decimal128(12, 2)),
        ("r", DataType::Struct(inner)),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("v", DataType::Binary),
    ];
    let pairs = [
        ("fields.a.null-rate", "0.3"),
        ("fields.t.max-past", "1 h"),
        ("fields.r.null-rate", "0.1"),
        ("fields.r.y.length", "2"),
        ("base-time", "2024-01-01 00:00:00"),
        ("seed", "9"),
    ];
    let source = open(columns, &pairs).expect("good options");
    let whole = rows(&source, 0, 100);
    let parts = [rows(&source, 0, 1), rows(&source, 1, 64), rows(&source, 64, 100)];
    let joined = arrow_select::concat::concat_batches(&whole.schema(), &parts).expect("one schema");
    assert_eq!(whole, joined);
    assert!((10..60).contains(&whole.column(0).null_count()));
    let mut replay = Box::new(source).replay(&[]).expect("its times have a base");
    let range = BlockRange { partition: 0, from: 10, to: 20, records: 10 };
    let BlockData::Rows(again) = replay.block(&range).expect("it can make them again").data else {
        unreachable!("datagen makes rows")
    };
    assert_eq!(*again.batch(), whole.slice(10, 10));
}

#[test]
fn refuses_what_cannot_be() {
    let check = |data_type: DataType, pairs: &[(&str, &str)], expected: &str| {
        let error = open(vec![("a", data_type)], pairs).err().expect(expected);
        assert_eq!(error.to_string(), expected);
    };
    check(DataType::Int32, &[("fields.b.min", "1")], "connector 'datagen' has no option 'fields.b.min'");
    check(
        DataType::Int8,
        &[("fields.a.max", "300")],
        "option 'fields.a.max' = '300' is not a whole number from -128 to 127",
    );
    check(
        DataType::Int32,
        &[("fields.a.min", "5"), ("fields.a.max", "3")],
        "option 'fields.a.max' = '3' is not at least 'fields.a.min'",
    );
    check(DataType::Int32, &[("fields.a.kind", "sequence")], "connector 'datagen' needs the option 'fields.a.start'");
    check(
        DataType::Boolean,
        &[("fields.a.kind", "sequence")],
        "option 'fields.a.kind' = 'sequence' is not 'random' for a column of type BOOLEAN",
    );
    check(
        DataType::Int32,
        &[("fields.a.null-rate", "2")],
        "option 'fields.a.null-rate' = '2' is not a number from 0 to 1",
    );
}

#[test]
fn times_of_the_clock_cannot_be_made_again() {
    let source = open(vec![("t", DataType::Timestamp(TimeUnit::Millisecond, None))], &[]).expect("good options");
    let error = Box::new(source).replay(&[]).err().expect("its times are gone");
    assert!(matches!(error, Error::NotReplayable { .. }));
}

#[test]
fn reads_times() {
    assert_eq!(field::parse_time("1970-01-02"), Some(86_400_000));
    assert_eq!(field::parse_time("1970-01-01T00:00:01.5Z"), Some(1_500));
    assert_eq!(field::parse_time("1970-01-01 25:00:00"), None);
    assert_eq!(field::parse_time("yesterday"), None);
}

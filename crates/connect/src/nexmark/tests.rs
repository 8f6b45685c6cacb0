use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{Field, Fields, Schema, TimeUnit};

use super::*;

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn open(columns: Vec<Field>, pairs: &[(&str, &str)]) -> Result<Nexmark, Error> {
    let schema: SchemaRef = Arc::new(Schema::new(columns));
    let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    let options = Options::take(&mut Pairs::new("connector 'nexmark'", pairs)).expect("good options");
    let table = Table { name: "t".into(), columns: schema.clone(), partitioned_by: vec![], options: vec![] };
    Nexmark::open(&table, &options, schema)
}

fn rows(source: &mut Nexmark, from: u64, to: u64) -> RecordBatch {
    match source.block(from, to, 0).expect("good columns").data {
        BlockData::Rows(delta) => delta.batch().clone(),
        BlockData::Bytes(_) => unreachable!("nexmark makes rows"),
    }
}

fn bid_columns() -> Vec<Field> {
    vec![
        Field::new("auction", DataType::Int64, true),
        Field::new("bidder", DataType::Int64, true),
        Field::new("price", DataType::Int64, true),
        Field::new("channel", DataType::Utf8, true),
        Field::new("url", DataType::Utf8, true),
        Field::new("dateTime", TIME, true),
        Field::new("extra", DataType::Utf8, true),
    ]
}

#[test]
fn bids_are_those_of_the_crate() {
    check_bids(0, 1, 46);
    check_bids(9_000_000, 1, 46);
    check_bids(700, 2, 5);
}

/// Compares the bids of 5,000 events with the crate's own.
fn check_bids(first: u64, people: u64, bids: u64) {
    let config = nexmark::config::NexmarkConfig {
        base_time: BASE_TIME as u64,
        first_rate: 10_000,
        next_rate: 10_000,
        person_proportion: people as usize,
        bid_proportion: bids as usize,
        ..Default::default()
    };
    let expected: Vec<_> = nexmark::EventGenerator::new(config)
        .with_offset(first)
        .take(5_000)
        .filter_map(|event| match event {
            nexmark::event::Event::Bid(bid) => Some(bid),
            _ => None,
        })
        .collect();
    let [first, people, bids] = [first, people, bids].map(|number| number.to_string());
    let shares = [("person.proportion", people.as_str()), ("bid.proportion", bids.as_str())];
    let pairs = [("nexmark.table", "bid"), ("first-event", first.as_str()), shares[0], shares[1]];
    let mut source = open(bid_columns(), &pairs).expect("good columns");
    let batch = rows(&mut source, 0, 5_000);
    assert_eq!(batch.num_rows(), expected.len());
    for (row, bid) in expected.iter().enumerate() {
        let numbers = [bid.auction, bid.bidder, bid.price].map(|number| number as i64);
        assert_eq!([0, 1, 2].map(|index| batch.column(index).as_primitive::<Int64Type>().value(row)), numbers);
        let texts = [&bid.channel, &bid.url, &bid.extra];
        assert_eq!([3, 4, 6].map(|index| batch.column(index).as_string::<i32>().value(row)), texts.map(String::as_str));
        let times = batch.column(5).as_primitive::<TimestampMillisecondType>();
        assert_eq!(times.value(row), bid.date_time as i64);
    }
}

#[test]
fn a_column_does_not_depend_on_those_beside_it() {
    let pairs = [("nexmark.table", "bid"), ("first-event", "1000000")];
    let whole = rows(&mut open(bid_columns(), &pairs).expect("good columns"), 0, 2_000);
    for (index, column) in bid_columns().into_iter().enumerate() {
        let alone = rows(&mut open(vec![column], &pairs).expect("a good column"), 0, 2_000);
        assert_eq!(alone.column(0), whole.column(index));
    }
}

#[test]
fn the_public_table_has_all_kinds_in_turn() {
    let person = Fields::from(vec![Field::new("id", DataType::Int64, true), Field::new("state", DataType::Utf8, true)]);
    let auction = Fields::from(vec![Field::new("expires", TIME, true)]);
    let columns = vec![
        Field::new("event_type", DataType::Int32, true),
        Field::new("person", DataType::Struct(person), true),
        Field::new("auction", DataType::Struct(auction), true),
        Field::new("bid", DataType::Struct(bid_columns().into()), true),
    ];
    let mut source = open(columns, &[]).expect("the public table");
    let batch = rows(&mut source, 0, 100);
    let types = batch.column(0).as_primitive::<Int32Type>();
    let counts = [0, 1, 2].map(|kind| types.values().iter().filter(|value| **value == kind).count());
    assert_eq!(counts, [2, 6, 92]);
    for row in 0..100 {
        let valid = [1, 2, 3].map(|column| batch.column(column).is_valid(row));
        let expected = [0, 1, 2].map(|kind| kind == types.value(row));
        assert_eq!(valid, expected);
    }
}

#[test]
fn rows_do_not_depend_on_blocks_and_can_be_made_again() {
    let pairs = [("nexmark.table", "bid"), ("out-of-order", "37"), ("first-event", "1234")];
    let mut source = open(bid_columns(), &pairs).expect("good columns");
    let whole = rows(&mut source, 0, 1_000);
    let parts = [rows(&mut source, 0, 333), rows(&mut source, 333, 1_000)];
    assert_eq!(whole, arrow_select::concat::concat_batches(&whole.schema(), &parts).expect("one schema"));
    let times = whole.column(5).as_primitive::<TimestampMillisecondType>().values().to_vec();
    assert!(!times.is_sorted(), "the events are out of order");
    let records = parts[1].num_rows() as u32;
    let mut replay = Box::new(source).replay(&[]).expect("it is a function");
    let range = BlockRange { partition: 0, from: 333, to: 1_000, records };
    let BlockData::Rows(again) = replay.block(&range).expect("the same").data else { unreachable!("rows") };
    assert_eq!(*again.batch(), parts[1]);
}

#[test]
fn a_block_holds_what_a_step_can_take() {
    for (kind, columns) in [("person", vec![Field::new("id", DataType::Int64, true)]), ("bid", bid_columns())] {
        let mut source = open(columns, &[("nexmark.table", kind)]).expect("good columns");
        let events = source.events_for(8_192);
        let batch = rows(&mut source, 0, events);
        assert!((7_000..=8_192).contains(&batch.num_rows()), "{kind}: {}", batch.num_rows());
    }
}

#[test]
fn refuses_columns_it_does_not_have() {
    let check = |columns: Vec<Field>, pairs: &[(&str, &str)], expected: &str| {
        let error = open(columns, pairs).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let column = |name: &str, data_type| vec![Field::new(name, data_type, true)];
    check(column("seller", DataType::Int64), &[("nexmark.table", "bid")], "'nexmark' has no column 'seller'");
    check(column("price", DataType::Utf8), &[("nexmark.table", "bid")], "no column 'price' of type STRING");
    check(column("price", DataType::Int64), &[], "it is not said which events are its rows");
}

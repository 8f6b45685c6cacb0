//! What the tests share: tables, and sources read to their end.

use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{BlockData, Decoded};
use tidemill_connect::{Connector, Error, Rows, Sink, SinkSummary, Source, SourceEvent, Table};
use tidemill_stage::{Cancel, Graph};

/// Columns `id BIGINT, name STRING`.
pub(crate) fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
}

pub(crate) fn table(columns: SchemaRef, pairs: &[(&str, &str)]) -> Table {
    let options = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Table { name: "t".to_string(), columns, partitioned_by: Vec::new(), options }
}

pub(crate) fn connector(pairs: &[(&str, &str)]) -> Result<Connector, Error> {
    Connector::new(table(columns(), pairs))
}

pub(crate) fn source(pairs: &[(&str, &str)]) -> Result<Box<dyn Source>, Error> {
    connector(pairs)?.source(columns())
}

/// All events of a source that ends.
pub(crate) fn events(source: Box<dyn Source>) -> Result<Vec<SourceEvent>, tidemill_stage::Error> {
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let stream = graph.source("source", move |out, cancel| source.read(out, cancel));
    let events = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&events);
    graph.sink("collect", stream, move |input, _| {
        while let Some(event) = input.recv()? {
            kept.lock().unwrap().push(event);
        }
        Ok(())
    });
    graph.run()?;
    let events = std::mem::take(&mut *events.lock().unwrap());
    Ok(events)
}

/// The rows of `id` and `name` that a source gives, in the order of its blocks; decoders are used as lanes use them.
pub(crate) fn rows(source: Box<dyn Source>) -> Result<Vec<(i64, String)>, String> {
    let make = source.decoder();
    let events = events(source).map_err(|error| error.to_string())?;
    let mut decoder = match make {
        Some(make) => Some(make()?),
        None => None,
    };
    let mut rows = Vec::new();
    for event in &events {
        let SourceEvent::Block(block) = event else { continue };
        let batches = match (&block.data, &mut decoder) {
            (BlockData::Rows(delta), _) => vec![delta.batch().clone()],
            (BlockData::Bytes(bytes), Some(decoder)) => {
                let mut decoded = Decoded::default();
                decoder.decode(bytes, block.first_record, &mut decoded)?;
                decoded.deltas.into_iter().map(|piece| piece.delta.batch().clone()).collect()
            }
            (BlockData::Bytes(_), None) => panic!("bytes without a decoder"),
        };
        for batch in batches {
            let (ids, names) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
            rows.extend((0..batch.num_rows()).map(|row| {
                let name = if names.is_null(row) { "NULL".to_string() } else { names.value(row).to_string() };
                (ids.value(row), name)
            }));
        }
    }
    Ok(rows)
}

pub(crate) fn batch(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(columns(), vec![ids, names]).expect("two columns of one length")
}

pub(crate) fn delta(rows: &[(i64, &str)]) -> Delta {
    Delta::inserts(batch(rows))
}

pub(crate) fn open_sink(pairs: &[(&str, &str)]) -> Result<Box<dyn Sink>, Error> {
    sink_of(table(columns(), pairs))
}

pub(crate) fn sink_of(table: Table) -> Result<Box<dyn Sink>, Error> {
    let rows = Rows { schema: columns(), key: None, updating: false };
    Connector::new(table)?.sink(rows, &Cancel::new())
}

/// A sink of a query that updates its rows, which are known by `id`.
pub(crate) fn updating_sink(table: Table, primary_key: &[&str]) -> Result<Box<dyn Sink>, Error> {
    let rows = Rows { schema: columns(), key: Some(vec![0]), updating: true };
    let primary_key = primary_key.iter().map(|name| name.to_string()).collect();
    Connector::new(table)?.keyed_by(primary_key).sink(rows, &Cancel::new())
}

pub(crate) fn write_all(mut sink: Box<dyn Sink>, steps: &[Delta]) -> Result<SinkSummary, Error> {
    for (step, delta) in steps.iter().enumerate() {
        sink.write(step as u64 + 1, std::slice::from_ref(delta))?;
    }
    sink.finish()
}

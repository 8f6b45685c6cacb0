//! Rows as JSON objects, and as Arrow columns: what a case is written down in, and what runs.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, FieldRef, Fields, SchemaRef};
use serde_json::{Map, Value};

/// One row: a value for each column that is not null.
pub(crate) type Object = Map<String, Value>;

/// The rows as columns of `schema`; a column that a row does not have is null.
pub(crate) fn batch(schema: &SchemaRef, rows: &[&Object]) -> RecordBatch {
    let column = |field: &FieldRef| {
        let values: Vec<&Value> = rows.iter().map(|row| row.get(field.name()).unwrap_or(&Value::Null)).collect();
        array(field.data_type(), &values)
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).expect("each column is of its type")
}

/// The values as an array: lists, maps and rows part by part, everything else read from its text.
fn array(data_type: &DataType, values: &[&Value]) -> ArrayRef {
    match data_type {
        DataType::List(item) => list(item, values),
        DataType::Map(entries, _) => map(entries, values),
        DataType::Struct(fields) => Arc::new(rows(fields, values)),
        leaf => {
            let text = |value: &&Value| match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let texts: ArrayRef = Arc::new(values.iter().map(text).collect::<StringArray>());
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&texts, leaf, &options).expect("the generator writes what the type reads")
        }
    }
}

fn nulls(values: &[&Value]) -> NullBuffer {
    values.iter().map(|value| !value.is_null()).collect()
}

fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn list(item: &FieldRef, values: &[&Value]) -> ArrayRef {
    let all: Vec<&Value> = values.iter().flat_map(|value| elements(value)).collect();
    let offsets = OffsetBuffer::from_lengths(values.iter().map(|value| elements(value).len()));
    Arc::new(ListArray::new(Arc::clone(item), offsets, array(item.data_type(), &all), Some(nulls(values))))
}

/// A map is written as a list of pairs.
fn map(entries: &FieldRef, values: &[&Value]) -> ArrayRef {
    let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map has entries") };
    let pairs: Vec<&[Value]> = values.iter().flat_map(|value| elements(value)).map(elements).collect();
    let side = |index: usize| {
        let part: Vec<&Value> = pairs.iter().map(|pair| &pair[index]).collect();
        array(fields[index].data_type(), &part)
    };
    let offsets = OffsetBuffer::from_lengths(values.iter().map(|value| elements(value).len()));
    let pairs = StructArray::new(fields.clone(), vec![side(0), side(1)], None);
    Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, Some(nulls(values)), false))
}

fn rows(fields: &Fields, values: &[&Value]) -> StructArray {
    let column = |field: &FieldRef| {
        let parts: Vec<&Value> = values.iter().map(|value| value.get(field.name()).unwrap_or(&Value::Null)).collect();
        array(field.data_type(), &parts)
    };
    let columns: Vec<ArrayRef> = fields.iter().map(column).collect();
    let valid = nulls(values);
    debug_assert!(columns.iter().all(|column| column.len() == values.len()));
    StructArray::new(fields.clone(), columns, Some(valid))
}

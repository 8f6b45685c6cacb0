//! Rows into messages: of rows, or of columns.

use arrow_array::{Array, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;

use super::values::{FIRST, SECOND};
use super::wire::{Wire, write_length, write_tag, write_varint};
use super::{COUNT, ROWS};
use crate::encode::{Cells, Kind, Style};
use crate::error::Error;
use crate::scalar::time::TimestampStandard;

/// Appends the rows of `batch` as `<Table>Rows`. Several batches one behind another are one message.
///
/// # Errors
/// [`Error::Columns`] when Arrow cannot read a column.
pub fn rows(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
    let columns = cells(batch)?;
    for row in 0..batch.num_rows() {
        write_length(ROWS, out, |out| {
            for (number, column) in (1..).zip(&columns) {
                write_field(column, row, number, out);
            }
        });
    }
    Ok(())
}

/// Appends the rows of `batches`, which have one schema, as one `<Table>Columns`.
///
/// # Errors
/// [`Error::Columns`] when Arrow cannot read a column, or the schemas differ.
pub fn columns(batches: &[RecordBatch], out: &mut Vec<u8>) -> Result<(), Error> {
    let Some(first) = batches.first() else { return Ok(()) };
    let batch = &concat_batches(&first.schema(), batches)?;
    let rows = batch.num_rows();
    for (number, column) in (1..).zip(&cells(batch)?) {
        if !(0..rows).all(|row| column.is_null(row)) {
            write_column(column, rows, number, out);
        }
    }
    if rows > 0 {
        write_tag(COUNT, Wire::Varint, out);
        write_varint(rows as u64, out);
    }
    for (number, column) in (COUNT + 1..).zip(batch.columns()) {
        if column.null_count() > 0 && column.null_count() < rows {
            write_length(number, out, |out| {
                let start = out.len();
                out.resize(start + rows.div_ceil(8), 0);
                for row in (0..rows).filter(|row| column.is_valid(*row)) {
                    out[start + row / 8] |= 1 << (row % 8);
                }
            });
        }
    }
    Ok(())
}

fn cells(batch: &RecordBatch) -> Result<Vec<Cells>, ArrowError> {
    batch.columns().iter().map(Cells::of).collect()
}

/// How a cell is written.
fn wire_of(cells: &Cells) -> Wire {
    match cells.kind() {
        Kind::Boolean(_) | Kind::Integer(_) | Kind::Unsigned(_) => Wire::Varint,
        Kind::Date(_) | Kind::Time(..) | Kind::Timestamp(..) => Wire::Varint,
        Kind::Float32(_) => Wire::Fixed32,
        Kind::Float64(_) => Wire::Fixed64,
        _ => Wire::Length,
    }
}

/// Appends all values of a column: packed, or each for itself.
fn write_column(column: &Cells, rows: usize, number: u32, out: &mut Vec<u8>) {
    if wire_of(column) == Wire::Length {
        for row in 0..rows {
            match column.is_null(row) {
                true => write_length(number, out, |_| {}),
                false => write_alone(column, row, number, out),
            }
        }
    } else {
        write_length(number, out, |out| (0..rows).for_each(|row| write_bare(column, row, out)));
    }
}

/// Appends a row's field; nothing when it is NULL.
fn write_field(cells: &Cells, row: usize, number: u32, out: &mut Vec<u8>) {
    match cells.kind() {
        _ if cells.is_null(row) => {}
        Kind::List(..) => write_items(cells, row, number, out),
        Kind::Map(..) => write_entries(cells, row, number, out),
        _ => write_alone(cells, row, number, out),
    }
}

/// Appends a value with its tag; ARRAYs and MAPs with a message around them.
fn write_alone(cells: &Cells, row: usize, number: u32, out: &mut Vec<u8>) {
    match (wire_of(cells), cells.kind()) {
        (Wire::Length, Kind::List(..)) => write_length(number, out, |out| write_items(cells, row, FIRST, out)),
        (Wire::Length, Kind::Map(..)) => write_length(number, out, |out| write_entries(cells, row, FIRST, out)),
        (Wire::Length, _) => write_length(number, out, |out| write_bare(cells, row, out)),
        (wire, _) => {
            write_tag(number, wire, out);
            write_bare(cells, row, out);
        }
    }
}

/// Appends the elements of an ARRAY. What is NULL in it becomes the default of its type.
fn write_items(cells: &Cells, row: usize, number: u32, out: &mut Vec<u8>) {
    let Kind::List(offsets, items) = cells.kind() else { return };
    let range = offsets[row] as usize..offsets[row + 1] as usize;
    if wire_of(items) == Wire::Length {
        range.for_each(|item| write_alone(items, item, number, out));
    } else if !range.is_empty() {
        write_length(number, out, |out| range.for_each(|item| write_bare(items, item, out)));
    }
}

/// Appends the entries of a MAP.
fn write_entries(cells: &Cells, row: usize, number: u32, out: &mut Vec<u8>) {
    let Kind::Map(offsets, keys, values) = cells.kind() else { return };
    for entry in offsets[row] as usize..offsets[row + 1] as usize {
        write_length(number, out, |out| {
            write_alone(keys, entry, FIRST, out);
            write_alone(values, entry, SECOND, out);
        });
    }
}

/// Appends a value without tag and length.
fn write_bare(cells: &Cells, row: usize, out: &mut Vec<u8>) {
    match cells.kind() {
        Kind::Boolean(values) => out.push(values.value(row).into()),
        Kind::Integer(values) | Kind::Time(values, _) | Kind::Timestamp(values, ..) => {
            write_varint(values[row] as u64, out);
        }
        Kind::Unsigned(values) => write_varint(values[row], out),
        Kind::Date(values) => write_varint(i64::from(values[row]) as u64, out),
        Kind::Float32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Kind::Float64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Kind::Bytes(values) => out.extend_from_slice(values.value(row)),
        Kind::Struct(fields) => {
            for (number, (_, field)) in (1..).zip(fields) {
                write_field(field, row, number, out);
            }
        }
        Kind::Null | Kind::Decimal(..) | Kind::Text(_) | Kind::Display(_) | Kind::List(..) | Kind::Map(..) => {
            cells.write_text(row, Style::of(TimestampStandard::Sql), out);
        }
    }
}

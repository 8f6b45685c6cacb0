//! A message of columns: one repeated field a column, and a bitmap for each column that has NULLs.
//!
//! Every column that is sent has one value a row, also for a row where it is NULL: what stands there then means nothing.
//! Bit `r` of a column's bitmap, the lowest of a byte first, says whether row `r` has a value; without a bitmap all have
//! one. A column that is not sent is NULL in every row. Bitmaps are looked for first, wherever they stand, because what
//! means nothing must not be read as a row or a map.

use std::ops::Range;

use super::decode::ROWS_MAX;
use super::shape::{Row, Shape};
use super::values::{self, Read};
use super::wire::{Fault, Reader, Wire, fault};
use super::{COLUMNS_MAX, COUNT};
use crate::batch::Batches;
use crate::column::Column;

/// What a message says about its rows, besides their values.
struct Outline<'a> {
    rows: usize,
    /// The bitmaps of the columns that have one.
    present: Vec<Option<&'a [u8]>>,
}

/// Reads a message into empty columns.
pub(super) fn read(batches: &mut Batches, shape: &Row, body: &[u8]) -> Read {
    let outline = outline(shape, body)?;
    let Batches { record, arena, .. } = batches;
    let mut from = Reader::new(body);
    while !from.is_empty() {
        let (number, wire) = from.tag()?;
        let index = shape.column(number);
        match (record.columns.get_mut(index), shape.shapes.get(index)) {
            (Some(column), Some(shape)) => values(column, shape, outline.present[index], wire, &mut from, arena)?,
            _ => from.skip(number, wire)?,
        }
    }
    for (column, present) in record.columns.iter_mut().zip(&outline.present) {
        complete(column, *present, outline.rows, body.len())?;
    }
    record.rows = outline.rows;
    Ok(())
}

/// Finds the number of rows and the bitmaps.
fn outline<'a>(shape: &Row, body: &'a [u8]) -> Result<Outline<'a>, Box<Fault>> {
    let mut outline = Outline { rows: 0, present: vec![None; shape.shapes.len()] };
    let mut from = Reader::new(body);
    while !from.is_empty() {
        let at = from.at();
        let (number, wire) = from.tag()?;
        if number == COUNT && wire == Wire::Varint {
            outline.rows = match usize::try_from(from.varint()?) {
                Ok(rows) if rows <= ROWS_MAX => rows,
                _ => return fault(at, format!("a message may hold {ROWS_MAX} rows: send the others in another")),
            };
        } else if let Some(present) = outline.present.get_mut(bitmap_of(number, shape)).filter(|_| wire == Wire::Length)
        {
            let Range { start, end } = from.length()?;
            *present = Some(&body[start..end]);
        } else {
            from.skip(number, wire)?;
        }
    }
    Ok(outline)
}

/// The index of the column whose bitmap has this number; one beyond all columns when there is none.
fn bitmap_of(number: u32, shape: &Row) -> usize {
    let place = number.checked_sub(COUNT).filter(|place| *place as usize <= COLUMNS_MAX);
    shape.column(place.unwrap_or_default())
}

fn is_present(bitmap: Option<&[u8]>, row: usize) -> bool {
    bitmap.is_none_or(|bits| bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1))
}

/// Reads one value of a column, or many that are packed.
#[inline(always)]
fn values(
    column: &mut Column,
    shape: &Shape,
    present: Option<&[u8]>,
    wire: Wire,
    from: &mut Reader<'_>,
    arena: &mut String,
) -> Read {
    match (values::wire_of(&column.values), wire) {
        (Wire::Length, Wire::Length) if !is_present(present, column.len) => {
            from.length()?;
            column.push_null();
            Ok(())
        }
        (Wire::Varint | Wire::Fixed32 | Wire::Fixed64, Wire::Length) => {
            let range = from.length()?;
            values::packed(column, from.window(range))
        }
        _ => values::single(column, shape, wire, from, arena),
    }
}

/// Checks that a column has a value for each row, and makes those null that the bitmap does not have.
fn complete(column: &mut Column, present: Option<&[u8]>, rows: usize, at: usize) -> Read {
    let null = present.and_then(|_| (0..rows).find(|row| !is_present(present, *row)));
    let absent = column.len == 0 && present.is_none_or(|bits| bits.iter().all(|byte| *byte == 0));
    if column.len != rows && !absent {
        let (path, values) = (&column.path, column.len);
        return fault(at, format!("column '{path}' has {values} values, and the message says that it has {rows} rows"));
    }
    if let Some(row) = null.or((absent && rows > 0).then_some(0))
        && !column.field.is_nullable()
    {
        return fault(at, format!("column '{}' is NOT NULL, and row {row} has no value", column.path));
    }
    if absent {
        (0..rows).for_each(|_| column.push_null());
    } else if null.is_some() && values::wire_of(&column.values) != Wire::Length {
        (0..rows).filter(|row| !is_present(present, *row)).for_each(|row| column.mark_null(row));
    }
    Ok(())
}

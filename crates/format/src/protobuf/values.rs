//! Values on the wire into columns, as the columns' types direct.
//!
//! The one idea: no message is ever built. A field's number is its column's place, so the value behind a tag is pushed
//! into its column at once; what a row lacks is filled in when its message ends. ARRAY and MAP columns of a row stand
//! in it as repeated fields, whose elements may come in pieces between other fields; anywhere else (in an ARRAY, as a
//! MAP's value, in a column of a message of columns) they are a message of their own with that field as number 1.

use super::shape::{Row, Shape};
use super::wire::{Fault, Reader, Wire, fault};
use crate::column::{Column, Lists, Maps, Record, Span, Values};
use crate::scalar::number::Misfit;
use crate::scalar::time;
use crate::types;

pub(super) type Read = Result<(), Box<Fault>>;

/// The number of the one field in the message around an ARRAY or a MAP, and of the key of a MAP's entry.
pub(super) const FIRST: u32 = 1;

/// The number of the value in a MAP's entry.
pub(super) const SECOND: u32 = 2;

/// How a value of a column's type is written.
pub(super) fn wire_of(values: &Values) -> Wire {
    match values {
        Values::Float32(_) => Wire::Fixed32,
        Values::Float64(_) => Wire::Fixed64,
        Values::Strings(_) | Values::Binaries(_) | Values::Decimal(..) => Wire::Length,
        Values::Struct(_) | Values::Lists(_) | Values::Maps(_) => Wire::Length,
        _ => Wire::Varint,
    }
}

/// Reads a message as one row of `record`. On a fault the columns hold parts of the row: cut them back.
pub(super) fn message(record: &mut Record, shape: &Row, mut from: Reader<'_>, arena: &mut String) -> Read {
    let row = record.rows;
    while !from.is_empty() {
        let (number, wire) = from.tag()?;
        let index = shape.column(number);
        match (record.columns.get_mut(index), shape.shapes.get(index)) {
            (Some(column), Some(shape)) => field(column, shape, row, wire, &mut from, arena)?,
            _ => from.skip(number, wire)?,
        }
    }
    for column in &mut record.columns {
        close(column, row, from.at(), arena)?;
    }
    record.rows += 1;
    Ok(())
}

/// Reads the value of a row's field.
#[inline(always)]
fn field(
    column: &mut Column,
    shape: &Shape,
    row: usize,
    wire: Wire,
    from: &mut Reader<'_>,
    arena: &mut String,
) -> Read {
    match &mut column.values {
        Values::Lists(lists) => return items(lists, shape, wire, from, arena),
        Values::Maps(maps) => return entry(maps, shape, &column.path, wire, from, arena),
        Values::Struct(_) if column.len > row => {
            return fault(from.at(), format!("column '{}' comes twice in a row", column.path));
        }
        // Of a scalar that comes again the last counts.
        _ if column.len > row => column.truncate(row),
        _ => {}
    }
    single(column, shape, wire, from, arena)
}

/// Fills in what a row did not say.
fn close(column: &mut Column, row: usize, at: usize, arena: &str) -> Read {
    match &mut column.values {
        Values::Lists(lists) => lists.offsets.push(lists.items.len as i32),
        Values::Maps(maps) => close_map(maps, &column.path, at, arena)?,
        _ if column.len > row => return Ok(()),
        _ if column.field.is_nullable() => {
            column.push_null();
            return Ok(());
        }
        _ => return fault(at, format!("column '{}' is NOT NULL and its field is missing", column.path)),
    }
    column.len += 1;
    Ok(())
}

/// Reads one value that stands by itself.
#[inline(always)]
pub(super) fn single(
    column: &mut Column,
    shape: &Shape,
    wire: Wire,
    from: &mut Reader<'_>,
    arena: &mut String,
) -> Read {
    let at = from.at();
    if wire != wire_of(&column.values) {
        return wrong_wire(column, wire, at);
    }
    match &mut column.values {
        Values::Float32(values) => values.push(f32::from_le_bytes(from.fixed()?)),
        Values::Float64(values) => values.push(f64::from_le_bytes(from.fixed()?)),
        _ if wire == Wire::Varint => return integer(column, at, from.varint()? as i64),
        _ => {
            let range = from.length()?;
            return sized(column, shape, from.window(range), arena);
        }
    }
    column.len += 1;
    Ok(())
}

/// Reads packed values, one behind another. The column must not be one of [`Wire::Length`].
pub(super) fn packed(column: &mut Column, mut from: Reader<'_>) -> Read {
    match &mut column.values {
        Values::Float32(values) => {
            column.len += words(&from, values, f32::from_le_bytes)?;
        }
        Values::Float64(values) => {
            column.len += words(&from, values, f64::from_le_bytes)?;
        }
        Values::Int64(values) => {
            while !from.is_empty() {
                values.push(from.varint()? as i64);
                column.len += 1;
            }
        }
        _ => {
            while !from.is_empty() {
                let at = from.at();
                integer(column, at, from.varint()? as i64)?;
            }
        }
    }
    Ok(())
}

fn words<T, const N: usize>(
    from: &Reader<'_>,
    values: &mut Vec<T>,
    word: fn([u8; N]) -> T,
) -> Result<usize, Box<Fault>> {
    let (whole, rest) = from.rest().as_chunks::<N>();
    if !rest.is_empty() {
        return fault(from.at(), format!("packed values of {N} bytes each end within one"));
    }
    values.extend(whole.iter().map(|bytes| word(*bytes)));
    Ok(whole.len())
}

#[inline(always)]
fn integer(column: &mut Column, at: usize, value: i64) -> Read {
    let pushed = match &mut column.values {
        Values::Boolean(values) => {
            values.push(value != 0);
            true
        }
        Values::Int64(values) => {
            values.push(value);
            true
        }
        Values::Timestamps(timestamps) => {
            timestamps.values.push(value);
            true
        }
        Values::Int8(values) => push_narrow(values, value),
        Values::Int16(values) => push_narrow(values, value),
        Values::Int32(values) | Values::Date(values) => push_narrow(values, value),
        Values::Time32(values, unit) => (0..per_day(*unit)).contains(&value) && push_narrow(values, value),
        Values::Time64(values, unit) => (0..per_day(*unit)).contains(&value) && push_narrow(values, value),
        _ => false,
    };
    if !pushed {
        return misfit(column, at, Misfit::Range, &value.to_string());
    }
    column.len += 1;
    Ok(())
}

fn push_narrow<T: TryFrom<i64>>(values: &mut Vec<T>, value: i64) -> bool {
    T::try_from(value).map(|value| values.push(value)).is_ok()
}

fn per_day(unit: arrow_schema::TimeUnit) -> i64 {
    86_400 * time::per_second(unit)
}

/// Reads a value that says its length, which is all of `from`.
fn sized(column: &mut Column, shape: &Shape, mut from: Reader<'_>, arena: &mut String) -> Read {
    let at = from.at();
    match (&mut column.values, shape) {
        (Values::Strings(_), _) => {
            let span = text(&column.path, &from, arena)?;
            column.push_span(span);
            return Ok(());
        }
        (Values::Binaries(_), _) => {
            column.push_bytes(from.rest());
            return Ok(());
        }
        (Values::Decimal(..), _) => {
            let text = str::from_utf8(from.rest()).unwrap_or_default();
            return column.push_text(text).or_else(|wrong| misfit(column, at, wrong, &format!("'{text}'")));
        }
        (Values::Struct(record), Shape::Row(row)) => message(record, row, from, arena)?,
        (Values::Lists(lists), _) => {
            while !from.is_empty() {
                match from.tag()? {
                    (FIRST, wire) => items(lists, shape, wire, &mut from, arena)?,
                    (number, wire) => from.skip(number, wire)?,
                }
            }
            lists.offsets.push(lists.items.len as i32);
        }
        (Values::Maps(maps), _) => {
            while !from.is_empty() {
                match from.tag()? {
                    (FIRST, wire) => entry(maps, shape, &column.path, wire, &mut from, arena)?,
                    (number, wire) => from.skip(number, wire)?,
                }
            }
            close_map(maps, &column.path, from.at(), arena)?;
        }
        _ => return wrong_wire(column, Wire::Length, at),
    }
    column.len += 1;
    Ok(())
}

/// Reads a string and gives its place in the arena: the body as a whole is no text, so that strings cannot stay in it.
fn text(path: &str, from: &Reader<'_>, arena: &mut String) -> Result<Span, Box<Fault>> {
    let start = arena.len();
    match str::from_utf8(from.rest()) {
        Ok(text) => arena.push_str(text),
        Err(error) => {
            return fault(from.at() + error.valid_up_to(), format!("column '{path}': the string is not valid UTF-8"));
        }
    }
    Ok(Span::arena(start, arena.len()))
}

/// Reads an element of a repeated field, or many that are packed.
#[inline(never)]
fn items(lists: &mut Lists, shape: &Shape, wire: Wire, from: &mut Reader<'_>, arena: &mut String) -> Read {
    if wire == Wire::Length && wire_of(&lists.items.values) != Wire::Length {
        let range = from.length()?;
        return packed(&mut lists.items, from.window(range));
    }
    single(&mut lists.items, shape.inner(), wire, from, arena)
}

/// Reads an entry of a map.
#[inline(never)]
fn entry(maps: &mut Maps, shape: &Shape, path: &str, wire: Wire, from: &mut Reader<'_>, arena: &mut String) -> Read {
    if wire != Wire::Length {
        return fault(from.at(), format!("column '{path}': an entry of a map is due, found {}", wire.name()));
    }
    let range = from.length()?;
    let mut from = from.window(range);
    let first = maps.values.len;
    // What an entry leaves out is the default of its type.
    let mut key = Span::arena(arena.len(), arena.len());
    while !from.is_empty() {
        match from.tag()? {
            (FIRST, Wire::Length) => {
                let range = from.length()?;
                key = text(path, &from.window(range), arena)?;
            }
            (SECOND, wire) => {
                maps.values.truncate(first);
                single(&mut maps.values, shape.inner(), wire, &mut from, arena)?;
            }
            (number, wire) => from.skip(number, wire)?,
        }
    }
    if maps.values.len == first {
        default(&mut maps.values, shape.inner(), &from, arena)?;
    }
    maps.keys.push_span(key);
    Ok(())
}

/// Appends what stands for a value that is left out: zero, nothing, or an empty message.
fn default(column: &mut Column, shape: &Shape, from: &Reader<'_>, arena: &mut String) -> Read {
    let at = from.at();
    match wire_of(&column.values) {
        Wire::Varint => integer(column, at, 0),
        Wire::Length => sized(column, shape, from.window(at..at), arena),
        wire => single(column, shape, wire, &mut Reader::new(&[0; 8]), arena),
    }
}

fn close_map(maps: &mut Maps, path: &str, at: usize, arena: &str) -> Read {
    let first = maps.offsets.last().map_or(0, |&offset| offset as usize);
    if maps.keys.len - first > 1 {
        let mut keys: Vec<&str> = maps.keys.spans(first).iter().map(|span| span.of("", arena)).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return fault(at, format!("column '{path}': the key '{}' comes twice in a map", pair[0]));
        }
    }
    maps.offsets.push(maps.keys.len as i32);
    Ok(())
}

#[cold]
fn wrong_wire(column: &Column, found: Wire, at: usize) -> Read {
    let (path, wanted) = (&column.path, types::sql_name(column.field.data_type()));
    let due = wire_of(&column.values).name();
    let found = found.name();
    fault(at, format!("column '{path}': a {wanted} is {due}, found {found}: was the message made for another table?"))
}

#[cold]
fn misfit(column: &Column, at: usize, misfit: Misfit, found: &str) -> Read {
    let (path, wanted) = (&column.path, types::sql_name(column.field.data_type()));
    match misfit {
        Misfit::Form => fault(at, format!("column '{path}': expected {wanted} as text, found {found}")),
        Misfit::Range => fault(at, format!("column '{path}': {found} is out of the range of {wanted}")),
    }
}

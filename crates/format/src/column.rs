//! Columns while they fill: plain vectors that become Arrow arrays without a copy.
//!
//! The one idea: a value is pushed into a `Vec` of its own type, and a bad record is undone by cutting every column back
//! to the rows before it. Strings are first kept as *spans* (where their bytes stand in the block) and copied every
//! [`FLUSH_ROWS`] rows, column by column, while the block is still in the cache; so a string that is cut back was never
//! copied, and the block's UTF-8 is checked once, as a whole.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, PrimitiveArray, RecordBatch, StructArray,
    Time32MillisecondArray, Time32SecondArray, Time64MicrosecondArray, Time64NanosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields, SchemaRef, TimeUnit};
use arrow_select::nullif::nullif;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::Error;
use crate::json::shape::Shape;
use crate::scalar::number::{self, Misfit};
use crate::scalar::time;

/// The most rows of a batch.
pub const BATCH_ROWS: usize = 8_192;

/// After how many rows the strings are copied out of the block.
pub(crate) const FLUSH_ROWS: usize = 256;

/// The least room of a column, in values or bytes.
const ROOM_MIN: usize = 64;

/// Where a string stands: in the block, or in the arena of strings that had to be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    const NULL: Span = Span { start: u32::MAX, length: u32::MAX };
    const ARENA: u32 = 1 << 31;

    /// Bytes of a block or of an arena that a span can name.
    pub(crate) const LIMIT: usize = 1 << 30;

    #[inline(always)]
    pub(crate) fn block(start: usize, end: usize) -> Self {
        Span { start: start as u32, length: (end - start) as u32 }
    }

    pub(crate) fn arena(start: usize, end: usize) -> Self {
        Span { start: start as u32 | Self::ARENA, length: (end - start) as u32 }
    }

    #[inline(always)]
    pub(crate) fn of<'a>(self, block: &'a str, arena: &'a str) -> &'a str {
        let (text, start) =
            if self.start & Self::ARENA == 0 { (block, self.start) } else { (arena, self.start & !Self::ARENA) };
        let start = start as usize;
        &text[start..start + self.length as usize]
    }
}

/// Strings, and those of the last rows as spans.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    builder: StringBuilder,
    flushed: usize,
    pub(crate) pending: Vec<Span>,
    /// What the builder has room for.
    room: (usize, usize),
}

impl Strings {
    fn flush(&mut self, block: &str, arena: &str) {
        for &span in &self.pending {
            // Nulls are kept beside the strings, as for every other type.
            self.builder.append_value(if span == Span::NULL { "" } else { span.of(block, arena) });
        }
        self.flushed += self.pending.len();
        self.pending.clear();
    }

    fn truncate(&mut self, len: usize) {
        self.pending.truncate(len.saturating_sub(self.flushed));
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (rows, bytes) = (std::mem::take(&mut self.flushed), self.builder.values_slice().len());
        let (rows_had, bytes_had) = self.room;
        self.room = (room(rows, rows_had), room(bytes + bytes / 16, bytes_had));
        let fresh = StringBuilder::with_capacity(self.room.0, self.room.1);
        let mut strings = std::mem::replace(&mut self.builder, fresh).finish();
        if rows < rows_had / 2 || bytes < bytes_had / 2 {
            strings.shrink_to_fit();
        }
        match nulls {
            None => Ok(Arc::new(strings)),
            Some(valid) => nullif(&strings, &BooleanArray::new(!valid.inner(), None)),
        }
    }
}

/// Bytes of variable length.
#[derive(Debug)]
pub(crate) struct Binaries {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
}

/// Timestamps, and the minute the last one was in.
#[derive(Debug)]
pub(crate) struct Timestamps {
    pub(crate) values: Vec<i64>,
    pub(crate) unit: TimeUnit,
    pub(crate) zone: Option<Arc<str>>,
    /// The text `YYYY-MM-DDTHH:MM` read last, and its seconds since the epoch.
    pub(crate) minute: ([u8; 16], i64),
}

/// Lists: where each begins in the column of items.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) offsets: Vec<i32>,
    pub(crate) items: Column,
    field: FieldRef,
}

/// Maps with string keys: where each begins in the columns of keys and values.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) offsets: Vec<i32>,
    pub(crate) keys: Column,
    pub(crate) values: Column,
    entries: FieldRef,
    fields: Fields,
    ordered: bool,
}

/// The values of a column by type.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Strings(Strings),
    Binaries(Binaries),
    Date(Vec<i32>),
    Time32(Vec<i32>, TimeUnit),
    Time64(Vec<i64>, TimeUnit),
    Timestamps(Timestamps),
    Struct(Box<Record>),
    Lists(Box<Lists>),
    Maps(Box<Maps>),
}

/// A column that is being filled.
#[derive(Debug)]
pub(crate) struct Column {
    /// Its name, with dots between nested names.
    pub(crate) path: String,
    pub(crate) field: FieldRef,
    pub(crate) len: usize,
    pub(crate) values: Values,
    nulls: Vec<u32>,
}

/// Columns of one record type: a table, or a ROW within it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: usize,
    pub(crate) shape: Shape,
    fields: Fields,
}

impl Record {
    /// Empty columns of `fields`; `path` is the name of the record they are in, or empty.
    pub(crate) fn new(path: &str, fields: &Fields, format: &'static str) -> Result<Self, Error> {
        let columns = fields.iter().map(|field| Column::new(path, field, format)).collect::<Result<Vec<_>, _>>()?;
        let shape = Shape::of(fields.iter().map(|field| field.name().as_str()));
        Ok(Record { columns, rows: 0, shape, fields: fields.clone() })
    }

    /// Cuts every column back to `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
        self.rows = rows;
    }

    /// Copies the strings of the last rows out of the block.
    pub(crate) fn flush(&mut self, block: &str, arena: &str) {
        for column in &mut self.columns {
            column.flush(block, arena);
        }
    }

    /// Takes the rows out as a batch.
    pub(crate) fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
    }
}

impl Column {
    pub(crate) fn new(path: &str, field: &FieldRef, format: &'static str) -> Result<Self, Error> {
        let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => Values::Decimal(Vec::new(), *precision, *scale),
            DataType::Utf8 => Values::Strings(Strings::default()),
            DataType::Binary => Values::Binaries(Binaries { bytes: Vec::new(), offsets: vec![0] }),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(unit) => Values::Time32(Vec::new(), *unit),
            DataType::Time64(unit) => Values::Time64(Vec::new(), *unit),
            DataType::Timestamp(unit, zone) => Values::Timestamps(Timestamps {
                values: Vec::new(),
                unit: *unit,
                zone: zone.clone(),
                minute: ([0xFF; 16], 0),
            }),
            DataType::Struct(fields) => Values::Struct(Box::new(Record::new(&path, fields, format)?)),
            DataType::List(item) => Values::Lists(Box::new(Lists {
                offsets: vec![0],
                items: Column::new(&path, item, format)?,
                field: item.clone(),
            })),
            DataType::Map(entries, ordered) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 && fields[0].data_type() == &DataType::Utf8 => {
                    Values::Maps(Box::new(Maps {
                        offsets: vec![0],
                        keys: Column::new(&path, &fields[0], format)?,
                        values: Column::new(&path, &fields[1], format)?,
                        entries: entries.clone(),
                        fields: fields.clone(),
                        ordered: *ordered,
                    }))
                }
                _ => return Err(unsupported(format, path, field)),
            },
            _ => return Err(unsupported(format, path, field)),
        };
        Ok(Column { path, field: field.clone(), len: 0, values, nulls: Vec::new() })
    }

    /// Appends a null; whether it is allowed is for the caller to know.
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) | Values::Time32(values, _) => values.push(0),
            Values::Int64(values) | Values::Time64(values, _) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(0),
            Values::Strings(strings) => strings.pending.push(Span::NULL),
            Values::Binaries(binaries) => binaries.offsets.push(binaries.bytes.len() as i32),
            Values::Timestamps(timestamps) => timestamps.values.push(0),
            Values::Struct(record) => {
                record.columns.iter_mut().for_each(Column::push_null);
                record.rows += 1;
            }
            Values::Lists(lists) => lists.offsets.push(lists.items.len as i32),
            Values::Maps(maps) => maps.offsets.push(maps.keys.len as i32),
        }
        self.nulls.push(self.len as u32);
        self.len += 1;
    }

    /// Appends a string; the column must be one of strings.
    #[inline(always)]
    pub(crate) fn push_span(&mut self, span: Span) {
        if let Values::Strings(strings) = &mut self.values {
            strings.pending.push(span);
            self.len += 1;
        }
    }

    /// Appends bytes; the column must be one of bytes.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        if let Values::Binaries(binaries) = &mut self.values {
            binaries.bytes.extend_from_slice(bytes);
            binaries.offsets.push(binaries.bytes.len() as i32);
            self.len += 1;
        }
    }

    /// Makes a row null that a value stands for already. Rows must come in rising order.
    pub(crate) fn mark_null(&mut self, row: usize) {
        self.nulls.push(row as u32);
    }

    /// The strings from row `from` on; they must be of rows that have not been copied out of the block.
    pub(crate) fn spans(&self, from: usize) -> &[Span] {
        match &self.values {
            Values::Strings(strings) => strings.pending.get(from.saturating_sub(strings.flushed)..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Appends the scalar that `text` says. Strings, rows, lists and maps are no scalars here.
    pub(crate) fn push_text(&mut self, text: &str) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Boolean(values) => values.push(boolean(text)?),
            Values::Int8(values) => values.push(narrow(text)?),
            Values::Int16(values) => values.push(narrow(text)?),
            Values::Int32(values) => values.push(narrow(text)?),
            Values::Int64(values) => values.push(number::integer(text)?),
            Values::Float32(values) => values.push(number::float32(text)?),
            Values::Float64(values) => values.push(number::float(text)?),
            Values::Decimal(values, precision, scale) => values.push(number::decimal(text, *precision, *scale)?),
            Values::Binaries(binaries) => {
                BASE64.decode_vec(text, &mut binaries.bytes).map_err(|_| Misfit::Form)?;
                binaries.offsets.push(binaries.bytes.len() as i32);
            }
            Values::Date(values) => values.push(time::date(text)?),
            Values::Time32(values, unit) => values.push((time::clock(text)? / nanos_per(*unit)) as i32),
            Values::Time64(values, unit) => values.push(time::clock(text)? / nanos_per(*unit)),
            Values::Timestamps(timestamps) => {
                let moment = time::moment(text)?;
                if moment.offset.is_some() != timestamps.zone.is_some() {
                    return Err(Misfit::Form);
                }
                timestamps.values.push(moment.in_unit(timestamps.unit)?);
            }
            Values::Strings(_) | Values::Struct(_) | Values::Lists(_) | Values::Maps(_) => return Err(Misfit::Form),
        }
        self.len += 1;
        Ok(())
    }

    /// Cuts the column back to `len` rows.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::Int8(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) | Values::Date(values) | Values::Time32(values, _) => values.truncate(len),
            Values::Int64(values) | Values::Time64(values, _) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(values, ..) => values.truncate(len),
            Values::Strings(strings) => strings.truncate(len),
            Values::Binaries(binaries) => {
                binaries.offsets.truncate(len + 1);
                binaries.bytes.truncate(last(&binaries.offsets));
            }
            Values::Timestamps(timestamps) => timestamps.values.truncate(len),
            Values::Struct(record) => record.truncate(len),
            Values::Lists(lists) => {
                lists.offsets.truncate(len + 1);
                lists.items.truncate(last(&lists.offsets));
            }
            Values::Maps(maps) => {
                maps.offsets.truncate(len + 1);
                maps.keys.truncate(last(&maps.offsets));
                maps.values.truncate(last(&maps.offsets));
            }
        }
        while self.nulls.last().is_some_and(|&row| row as usize >= len) {
            self.nulls.pop();
        }
        self.len = len;
    }

    fn flush(&mut self, block: &str, arena: &str) {
        match &mut self.values {
            Values::Strings(strings) => strings.flush(block, arena),
            Values::Struct(record) => record.flush(block, arena),
            Values::Lists(lists) => lists.items.flush(block, arena),
            Values::Maps(maps) => {
                maps.keys.flush(block, arena);
                maps.values.flush(block, arena);
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = std::mem::take(&mut self.len);
        let nulls = null_buffer(&mut self.nulls, len);
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(fresh(values).into(), nulls)),
            Values::Int8(values) => Arc::new(Int8Array::try_new(buffer(values), nulls)?),
            Values::Int16(values) => Arc::new(Int16Array::try_new(buffer(values), nulls)?),
            Values::Int32(values) => Arc::new(Int32Array::try_new(buffer(values), nulls)?),
            Values::Int64(values) => Arc::new(Int64Array::try_new(buffer(values), nulls)?),
            Values::Float32(values) => Arc::new(Float32Array::try_new(buffer(values), nulls)?),
            Values::Float64(values) => Arc::new(Float64Array::try_new(buffer(values), nulls)?),
            Values::Decimal(values, precision, scale) => {
                Arc::new(Decimal128Array::try_new(buffer(values), nulls)?.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Strings(strings) => strings.finish(nulls)?,
            Values::Binaries(binaries) => {
                let offsets = offsets(&mut binaries.offsets);
                Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(fresh(&mut binaries.bytes)), nulls)?)
            }
            Values::Date(values) => Arc::new(Date32Array::try_new(buffer(values), nulls)?),
            Values::Time32(values, TimeUnit::Second) => Arc::new(Time32SecondArray::try_new(buffer(values), nulls)?),
            Values::Time32(values, _) => Arc::new(Time32MillisecondArray::try_new(buffer(values), nulls)?),
            Values::Time64(values, TimeUnit::Microsecond) => {
                Arc::new(Time64MicrosecondArray::try_new(buffer(values), nulls)?)
            }
            Values::Time64(values, _) => Arc::new(Time64NanosecondArray::try_new(buffer(values), nulls)?),
            Values::Timestamps(timestamps) => timestamps.finish(nulls)?,
            Values::Struct(record) => {
                record.rows = 0;
                let arrays = record.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(record.fields.clone(), arrays, nulls, len)?)
            }
            Values::Lists(lists) => {
                let offsets = offsets(&mut lists.offsets);
                Arc::new(ListArray::try_new(lists.field.clone(), offsets, lists.items.finish()?, nulls)?)
            }
            Values::Maps(maps) => {
                let offsets = offsets(&mut maps.offsets);
                let arrays = vec![maps.keys.finish()?, maps.values.finish()?];
                let entries = StructArray::try_new(maps.fields.clone(), arrays, None)?;
                Arc::new(MapArray::try_new(maps.entries.clone(), offsets, entries, nulls, maps.ordered)?)
            }
        })
    }
}

impl Timestamps {
    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (values, zone) = (buffer(&mut self.values), self.zone.clone());
        Ok(match self.unit {
            TimeUnit::Second => {
                Arc::new(PrimitiveArray::<TimestampSecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
            }
            TimeUnit::Millisecond => {
                Arc::new(PrimitiveArray::<TimestampMillisecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
            }
            TimeUnit::Microsecond => {
                Arc::new(PrimitiveArray::<TimestampMicrosecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
            }
            TimeUnit::Nanosecond => {
                Arc::new(PrimitiveArray::<TimestampNanosecondType>::try_new(values, nulls)?.with_timezone_opt(zone))
            }
        })
    }
}

fn unsupported(format: &'static str, column: String, field: &FieldRef) -> Error {
    Error::UnsupportedType { format, column, data_type: field.data_type().clone() }
}

/// Takes a vector out and leaves an empty one with room for as much.
fn fresh<T>(values: &mut Vec<T>) -> Vec<T> {
    let (length, had) = (values.len(), values.capacity());
    let mut taken = std::mem::replace(values, Vec::with_capacity(room(length, had)));
    if length < had / 2 {
        taken.shrink_to_fit();
    }
    taken
}

/// The room to begin with when `length` was used of what there `had` been: the same, but a little less where that was less
/// than half, so that batches of changing sizes do not grow their columns anew each time.
fn room(length: usize, had: usize) -> usize {
    let kept = if length < had / 2 { had - had / 8 } else { had };
    length.max(kept).max(ROOM_MIN)
}

fn buffer<T: arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    ScalarBuffer::from(fresh(values))
}

fn offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let taken = buffer(offsets);
    offsets.push(0);
    OffsetBuffer::new(taken)
}

fn last(offsets: &[i32]) -> usize {
    offsets.last().map_or(0, |&offset| offset as usize)
}

fn null_buffer(nulls: &mut Vec<u32>, len: usize) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut valid = BooleanBufferBuilder::new(len);
    valid.append_n(len, true);
    for row in nulls.drain(..) {
        valid.set_bit(row as usize, false);
    }
    Some(NullBuffer::new(valid.finish()))
}

fn nanos_per(unit: TimeUnit) -> i64 {
    1_000_000_000 / time::per_second(unit)
}

fn narrow<T: TryFrom<i64>>(text: &str) -> Result<T, Misfit> {
    T::try_from(number::integer(text)?).map_err(|_| Misfit::Range)
}

fn boolean(text: &str) -> Result<bool, Misfit> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(Misfit::Form)
    }
}

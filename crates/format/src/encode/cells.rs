//! A column ready to be written cell by cell: its type is looked at once a batch, not once a value.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, StringArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::scalar::number::{write_decimal, write_integer};
use crate::scalar::time::{Fraction, TimestampStandard, write_clock, write_date, write_timestamp};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) timestamps: TimestampStandard,
    pub(crate) fraction: Fraction,
    pub(crate) ignore_null_fields: bool,
}

impl Style {
    pub(crate) fn of(timestamps: TimestampStandard) -> Self {
        Style { timestamps, fraction: Fraction::Needed, ignore_null_fields: false }
    }
}

/// A column of any type, with its nulls.
pub(crate) struct Cells {
    nulls: Option<NullBuffer>,
    kind: Kind,
}

/// The values of a column by type.
pub(crate) enum Kind {
    Null,
    Boolean(BooleanArray),
    Integer(ScalarBuffer<i64>),
    Unsigned(ScalarBuffer<u64>),
    Float32(ScalarBuffer<f32>),
    Float64(ScalarBuffer<f64>),
    Decimal(ScalarBuffer<i128>, i8),
    Text(StringArray),
    Bytes(BinaryArray),
    Date(ScalarBuffer<i32>),
    Time(ScalarBuffer<i64>, TimeUnit),
    Timestamp(ScalarBuffer<i64>, TimeUnit, bool),
    Struct(Vec<(String, Cells)>),
    List(OffsetBuffer<i32>, Box<Cells>),
    Map(OffsetBuffer<i32>, Box<Cells>, Box<Cells>),
    /// Types without a form of their own are written as Arrow displays them.
    Display(StringArray),
}

impl Cells {
    pub(crate) fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(Cells { nulls: array.logical_nulls(), kind: kind(array)? })
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether cells are numbers, which tables align to the right.
    pub(crate) fn is_number(&self) -> bool {
        use Kind::{Decimal, Float32, Float64, Integer, Unsigned};
        matches!(self.kind, Integer(_) | Unsigned(_) | Float32(_) | Float64(_) | Decimal(..))
    }

    /// Whether cells are numbers, truth values, dates or times: ASCII letters, digits and `+-.: `.
    pub(crate) fn is_figure(&self) -> bool {
        use Kind::{Boolean, Date, Time, Timestamp};
        self.is_number() || matches!(self.kind, Boolean(_) | Date(_) | Time(..) | Timestamp(..))
    }

    /// Appends a value that is not null as plain text; rows, lists and maps as JSON.
    pub(crate) fn write_text(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Null => {}
            Kind::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Kind::Integer(values) => write_integer(values[row], out),
            Kind::Unsigned(values) => out.extend_from_slice(values[row].to_string().as_bytes()),
            Kind::Float32(values) => write_float(values[row].is_finite(), f64::from(values[row]), values[row], out),
            Kind::Float64(values) => write_float(values[row].is_finite(), values[row], values[row], out),
            Kind::Decimal(values, scale) => write_decimal(values[row], *scale, out),
            Kind::Text(values) | Kind::Display(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Kind::Bytes(values) => out.extend_from_slice(BASE64.encode(values.value(row)).as_bytes()),
            Kind::Date(values) => write_date(i64::from(values[row]), out),
            Kind::Time(values, unit) => write_clock(values[row], *unit, style.fraction, out),
            Kind::Timestamp(values, unit, zoned) => {
                let separator = if style.timestamps == TimestampStandard::Sql { b' ' } else { b'T' };
                write_timestamp(values[row], *unit, separator, style.fraction, out);
                if *zoned {
                    out.push(b'Z');
                }
            }
            Kind::Struct(_) | Kind::List(..) | Kind::Map(..) => self.write_json(row, style, out),
        }
    }

    /// Appends a value as JSON.
    pub(crate) fn write_json(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match &self.kind {
            Kind::Text(values) | Kind::Display(values) => write_json_string(values.value(row), out),
            Kind::Bytes(_) | Kind::Date(_) | Kind::Time(..) | Kind::Timestamp(..) => self.write_quoted(row, style, out),
            Kind::Float32(values) if !values[row].is_finite() => self.write_quoted(row, style, out),
            Kind::Float64(values) if !values[row].is_finite() => self.write_quoted(row, style, out),
            Kind::Struct(fields) => write_json_object(fields, row, style, out),
            Kind::List(offsets, items) => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                write_between(b'[', b']', range, out, |item, out| items.write_json(item, style, out));
            }
            Kind::Map(offsets, keys, values) => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                write_between(b'{', b'}', range, out, |entry, out| {
                    keys.write_json_key(entry, style, out);
                    out.push(b':');
                    values.write_json(entry, style, out);
                });
            }
            _ => self.write_text(row, style, out),
        }
    }

    fn write_quoted(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_text(row, style, out);
        out.push(b'"');
    }

    /// Appends a map's key, which JSON wants to be a string.
    fn write_json_key(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Text(values) => write_json_string(values.value(row), out),
            _ => {
                let mut text = Vec::new();
                self.write_text(row, style, &mut text);
                write_json_string(&String::from_utf8_lossy(&text), out);
            }
        }
    }
}

/// Appends one row as a JSON object.
pub(crate) fn write_json_object(fields: &[(String, Cells)], row: usize, style: Style, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (name, cells) in fields {
        if style.ignore_null_fields && cells.is_null(row) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_json_string(name, out);
        out.push(b':');
        cells.write_json(row, style, out);
    }
    out.push(b'}');
}

fn write_between(
    open: u8,
    close: u8,
    range: std::ops::Range<usize>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(usize, &mut Vec<u8>),
) {
    out.push(open);
    let first = range.start;
    for index in range {
        if index != first {
            out.push(b',');
        }
        write(index, out);
    }
    out.push(close);
}

/// Appends a string in quotes, escaped as little as JSON allows.
pub(crate) fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let stop = crate::json::scan::string_stop(bytes, from);
        out.extend_from_slice(&bytes[from..stop]);
        let Some(&byte) = bytes.get(stop) else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        from = stop + 1;
    }
    out.push(b'"');
}

/// Appends the shortest digits that read back as the same value, always with a point or an exponent.
fn write_float(finite: bool, wide: f64, value: impl std::fmt::Debug, out: &mut Vec<u8>) {
    if finite {
        out.extend_from_slice(format!("{value:?}").as_bytes());
    } else if wide.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if wide > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
}

fn kind(array: &ArrayRef) -> Result<Kind, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => Kind::Null,
        DataType::Boolean => Kind::Boolean(array.as_boolean().clone()),
        DataType::Int8 => {
            Kind::Integer(array.as_primitive::<Int8Type>().values().iter().map(|v| (*v).into()).collect())
        }
        DataType::Int16 => {
            Kind::Integer(array.as_primitive::<Int16Type>().values().iter().map(|v| (*v).into()).collect())
        }
        DataType::Int32 => {
            Kind::Integer(array.as_primitive::<Int32Type>().values().iter().map(|v| (*v).into()).collect())
        }
        DataType::Int64 => Kind::Integer(array.as_primitive::<Int64Type>().values().clone()),
        DataType::UInt8 => {
            Kind::Unsigned(array.as_primitive::<UInt8Type>().values().iter().map(|v| (*v).into()).collect())
        }
        DataType::UInt16 => {
            Kind::Unsigned(array.as_primitive::<UInt16Type>().values().iter().map(|v| (*v).into()).collect())
        }
        DataType::UInt32 => {
            Kind::Unsigned(array.as_primitive::<UInt32Type>().values().iter().map(|v| (*v).into()).collect())
        }
        DataType::UInt64 => Kind::Unsigned(array.as_primitive::<UInt64Type>().values().clone()),
        DataType::Float32 => Kind::Float32(array.as_primitive::<Float32Type>().values().clone()),
        DataType::Float64 => Kind::Float64(array.as_primitive::<Float64Type>().values().clone()),
        DataType::Decimal128(_, scale) => {
            Kind::Decimal(array.as_primitive::<Decimal128Type>().values().clone(), *scale)
        }
        DataType::Utf8 => Kind::Text(array.as_string::<i32>().clone()),
        DataType::LargeUtf8 | DataType::Utf8View => {
            Kind::Text(arrow_cast::cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
        }
        DataType::Binary => Kind::Bytes(array.as_binary::<i32>().clone()),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Kind::Bytes(arrow_cast::cast(array, &DataType::Binary)?.as_binary::<i32>().clone())
        }
        DataType::Dictionary(_, value) => return kind(&arrow_cast::cast(array, value)?),
        DataType::Date32 => Kind::Date(array.as_primitive::<Date32Type>().values().clone()),
        DataType::Time32(unit) => Kind::Time(time32(array, *unit), *unit),
        DataType::Time64(unit) => Kind::Time(time64(array, *unit), *unit),
        DataType::Timestamp(unit, zone) => Kind::Timestamp(timestamps(array, *unit), *unit, zone.is_some()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let cells =
                fields.iter().zip(columns).map(|(field, column)| Ok((field.name().clone(), Cells::of(column)?)));
            Kind::Struct(cells.collect::<Result<_, ArrowError>>()?)
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            Kind::List(list.offsets().clone(), Box::new(Cells::of(list.values())?))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            Kind::Map(map.offsets().clone(), Box::new(Cells::of(map.keys())?), Box::new(Cells::of(map.values())?))
        }
        _ => Kind::Display(display(array)?),
    })
}

fn time32(array: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    let values = match unit {
        TimeUnit::Second => array.as_primitive::<Time32SecondType>().values(),
        _ => array.as_primitive::<Time32MillisecondType>().values(),
    };
    values.iter().map(|value| i64::from(*value)).collect()
}

fn time64(array: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Microsecond => array.as_primitive::<Time64MicrosecondType>().values().clone(),
        _ => array.as_primitive::<Time64NanosecondType>().values().clone(),
    }
}

fn timestamps(array: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

fn display(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    Ok(StringArray::from_iter_values((0..array.len()).map(|row| formatter.value(row).to_string())))
}

//! Values as text, as Flink's CAST to STRING writes them.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::{Result, exec_err};

use crate::functions::number_text::{write_decimal, write_double, write_float};
use crate::functions::temporal::{Moment, Moments, SECOND};
use crate::types::name_of;

/// Writes the value of a row, or `NULL`.
pub(in crate::functions) fn write_value(array: &ArrayRef, row: usize, zone: Tz, out: &mut String) -> Result<()> {
    if array.is_null(row) {
        out.push_str("NULL");
        return Ok(());
    }
    match array.data_type() {
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => out.push_str(&String::from_utf8_lossy(array.as_binary::<i32>().value(row))),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "TRUE" } else { "FALSE" }),
        DataType::Int8 => write_integer(array.as_primitive::<Int8Type>().value(row).into(), out),
        DataType::Int16 => write_integer(array.as_primitive::<Int16Type>().value(row).into(), out),
        DataType::Int32 => write_integer(array.as_primitive::<Int32Type>().value(row).into(), out),
        DataType::Int64 => write_integer(array.as_primitive::<Int64Type>().value(row), out),
        DataType::Float32 => write_float(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => write_double(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal128(_, scale) => write_decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, out),
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
            if let Some(moment) = Moments::of(array.slice(row, 1), true, zone)?.get(0) {
                write_moment(array.data_type(), moment, out);
            }
        }
        DataType::List(_) => write_items(&array.as_list::<i32>().value(row), zone, out)?,
        DataType::Struct(_) => {
            out.push('(');
            for (index, column) in array.as_struct().columns().iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_value(column, row, zone, out)?;
            }
            out.push(')');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for index in 0..entries.len() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_value(entries.column(0), index, zone, out)?;
                out.push('=');
                write_value(entries.column(1), index, zone, out)?;
            }
            out.push('}');
        }
        other => return exec_err!("{} cannot be written as text", name_of(other)),
    }
    Ok(())
}

fn write_items(items: &ArrayRef, zone: Tz, out: &mut String) -> Result<()> {
    out.push('[');
    for index in 0..items.len() {
        if index > 0 {
            out.push_str(", ");
        }
        write_value(items, index, zone, out)?;
    }
    out.push(']');
    Ok(())
}

fn write_integer(value: i64, out: &mut String) {
    write!(out, "{value}").ok();
}

/// A timestamp shows all digits of its column's unit, a time only those it needs.
fn write_moment(data_type: &DataType, moment: Moment, out: &mut String) {
    let civil = moment.civil();
    let clock = |out: &mut String| {
        write!(out, "{:02}:{:02}:{:02}", moment.hour(), moment.minute(), moment.second()).ok();
    };
    let nanos = moment.nanos % SECOND;
    match data_type {
        DataType::Date32 => {
            write!(out, "{:04}-{:02}-{:02}", civil.year, civil.month, civil.day).ok();
        }
        DataType::Timestamp(unit, _) => {
            write!(out, "{:04}-{:02}-{:02} ", civil.year, civil.month, civil.day).ok();
            clock(out);
            match unit {
                TimeUnit::Second => Ok(()),
                TimeUnit::Millisecond => write!(out, ".{:03}", nanos / 1_000_000),
                TimeUnit::Microsecond => write!(out, ".{:06}", nanos / 1000),
                TimeUnit::Nanosecond => write!(out, ".{nanos:09}"),
            }
            .ok();
        }
        _ => {
            clock(out);
            if nanos > 0 {
                let digits = format!("{nanos:09}");
                out.push('.');
                out.push_str(digits.trim_end_matches('0'));
            }
        }
    }
}

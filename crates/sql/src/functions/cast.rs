//! CAST and TRY_CAST between Flink's types, with Flink's meaning.
//!
//! Integers wrap, DOUBLE saturates, decimals round half up and become NULL when they do not fit; text is trimmed and
//! must be well formed: else CAST fails and TRY_CAST answers NULL. Numbers print as Java prints them.
//!
//! The target is the text of a type, `$cast(x, 'VARCHAR(3)')`, because a length or precision is more than its Arrow type.

mod read;
mod write;

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, ListArray, MapArray, StructArray, new_null_array};
use arrow_schema::DataType;
use chrono_tz::Tz;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};

use super::call::Call;
use super::function::Function;
use super::number_text::{self, fits, rescale, shortest, shortest_float};
use super::signature::{is_integer, is_number, is_text};
use super::temporal::{Moment, Moments, SECOND, build_moments};
use crate::types::{Type, TypeKind, name_of, parse_text};

pub(super) use read::{parse_date, parse_timestamp};
pub(super) use write::write_value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "$cast",
        "$cast(ANY, STRING) -> ANY",
        "`CAST(x AS type)`; a text that is not of the type is an error.",
        &[("CAST(' 12 ' AS INT)", "12"), ("CAST(1.255 AS DECIMAL(5, 2))", "1.26")],
        |call| evaluate(call, false),
    )
    .shown("CAST(ANY AS type)")
    .returns_by_literals(target),
    Function::new(
        "$try_cast",
        "$try_cast(ANY, STRING) -> ANY",
        "`TRY_CAST(x AS type)`: as CAST, but NULL instead of an error.",
        &[("TRY_CAST('abc' AS INT)", "NULL")],
        |call| evaluate(call, true),
    )
    .shown("TRY_CAST(ANY AS type)")
    .returns_by_literals(target),
];

/// The type a cast names, and whether the cast is possible at all.
fn target(types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(Some(ScalarValue::Utf8(Some(text)))) = literals.get(1) else {
        return plan_err!("a cast needs the text of its type as a literal");
    };
    let target = parse(text)?;
    if !possible(&types[0], &target.kind) {
        return plan_err!("{} cannot be cast to {target}", name_of(&types[0]));
    }
    Ok(target.to_arrow())
}

fn parse(text: &str) -> Result<Type> {
    match parse_text(text) {
        Ok(parsed) => Ok(parsed),
        Err(error) => plan_err!("{error}"),
    }
}

fn possible(from: &DataType, to: &TypeKind) -> bool {
    use TypeKind::{
        Array, BigInt, Binary, Boolean, Char, Date, Decimal, Double, Float, Int, Map, Row, SmallInt, Time, Timestamp,
        TimestampLtz, TinyInt, Varbinary, Varchar,
    };
    let number = matches!(to, TinyInt | SmallInt | Int | BigInt | Float | Double | Decimal(..));
    match from {
        DataType::Null => true,
        _ if matches!(to, Char(_) | Varchar(_)) => !matches!(from, DataType::Interval(_) | DataType::Duration(_)),
        _ if is_text(from) => {
            number || matches!(to, Boolean | Binary(_) | Varbinary(_) | Date | Time(_) | Timestamp(_) | TimestampLtz(_))
        }
        _ if is_number(from) => number || *to == Boolean,
        DataType::Boolean => number || *to == Boolean,
        DataType::Binary => matches!(to, Binary(_) | Varbinary(_)),
        DataType::Date32 => matches!(to, Date | Timestamp(_) | TimestampLtz(_)),
        DataType::Time32(_) | DataType::Time64(_) => matches!(to, Time(_) | Timestamp(_)),
        DataType::Timestamp(..) => matches!(to, Date | Time(_) | Timestamp(_) | TimestampLtz(_)),
        DataType::List(element) => matches!(to, Array(target) if possible(element.data_type(), &target.kind)),
        DataType::Struct(fields) => match to {
            Row(targets) => {
                let mut pairs = fields.iter().zip(targets);
                fields.len() == targets.len() && pairs.all(|(field, (_, to))| possible(field.data_type(), &to.kind))
            }
            _ => false,
        },
        DataType::Map(entries, _) => match (entries.data_type(), to) {
            (DataType::Struct(fields), Map(key, value)) => {
                possible(fields[0].data_type(), &key.kind) && possible(fields[1].data_type(), &value.kind)
            }
            _ => false,
        },
        _ => false,
    }
}

fn evaluate(call: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    let Some(ScalarValue::Utf8(Some(text))) = call.scalar(1) else { return internal_err!("a cast without a type") };
    Cast { lenient, zone: call.session.zone }.convert(&call.array(0)?, &parse(text)?)
}

/// How a cast treats what cannot be cast, and the zone that TIMESTAMP_LTZ is read in.
struct Cast {
    lenient: bool,
    zone: Tz,
}

impl Cast {
    fn convert(&self, array: &ArrayRef, to: &Type) -> Result<ArrayRef> {
        let target = to.to_arrow();
        let rows = array.len();
        match (array.data_type(), &to.kind) {
            (DataType::Null, _) => Ok(new_null_array(&target, rows)),
            (from, TypeKind::Varchar(None)) if from == &DataType::Utf8 => Ok(Arc::clone(array)),
            (_, TypeKind::Char(_) | TypeKind::Varchar(_)) => self.to_text(array, &to.kind),
            (_, TypeKind::Binary(_) | TypeKind::Varbinary(_)) => to_bytes(array, &to.kind),
            (DataType::Utf8, _) => self.read_text(array, to, &target),
            (_, TypeKind::Boolean) => to_boolean(array),
            (from, TypeKind::Decimal(precision, scale)) => {
                if from == &target {
                    return Ok(Arc::clone(array));
                }
                self.to_decimal(array, *precision, *scale as i8, &target)
            }
            (_, TypeKind::TinyInt) => to_integer::<Int8Type>(array, |value| value as i8),
            (_, TypeKind::SmallInt) => to_integer::<Int16Type>(array, |value| value as i16),
            (_, TypeKind::Int) => to_integer::<Int32Type>(array, |value| value as i32),
            (_, TypeKind::BigInt) => to_integer::<Int64Type>(array, |value| value),
            (_, TypeKind::Float) => to_float::<Float32Type>(array, |value| value as f32),
            (_, TypeKind::Double) => to_float::<Float64Type>(array, |value| value),
            (_, TypeKind::Date | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_)) => {
                self.to_time(array, to, &target)
            }
            (_, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_)) => self.nested(array, to),
            (from, _) => internal_err!("a cast from {} to {to} was planned", name_of(from)),
        }
    }

    /// NULL or an error for a value that cannot be cast.
    fn refuse<T>(&self, text: &str, target: &str, reason: &str) -> Result<Option<T>> {
        if self.lenient {
            return Ok(None);
        }
        let shown: String = text.chars().take(80).collect();
        exec_err!("'{shown}' cannot be cast to {target}: {reason}")
    }

    fn to_text(&self, array: &ArrayRef, kind: &TypeKind) -> Result<ArrayRef> {
        let (most, least) = match kind {
            TypeKind::Char(length) => (*length as usize, *length as usize),
            TypeKind::Varchar(Some(length)) => (*length as usize, 0),
            _ => (usize::MAX, 0),
        };
        let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 8);
        let mut buffer = String::new();
        for row in 0..array.len() {
            if array.is_null(row) {
                builder.append_null();
                continue;
            }
            buffer.clear();
            write_value(array, row, self.zone, &mut buffer)?;
            let kept = super::string::slice(&buffer, 0, most).len();
            buffer.truncate(kept);
            if least > 0 {
                let missing = least - super::string::count(&buffer);
                buffer.extend(std::iter::repeat_n(' ', missing));
            }
            builder.append_value(&buffer);
        }
        Ok(Arc::new(builder.finish()))
    }

    fn read_text(&self, array: &ArrayRef, to: &Type, target: &DataType) -> Result<ArrayRef> {
        let texts = array.as_string::<i32>();
        let name = to.kind.to_string();
        let integer = |row: usize, least: i64, most: i64| -> Result<Option<i64>> {
            match number_text::parse_integer(texts.value(row)) {
                Ok(value) if (least..=most).contains(&value) => Ok(Some(value)),
                Ok(_) => self.refuse(texts.value(row), &name, "it is out of range"),
                Err(reason) => self.refuse(texts.value(row), &name, reason),
            }
        };
        let double = |row: usize| match number_text::parse_double(texts.value(row)) {
            Some(value) => Ok(Some(value)),
            None => self.refuse(texts.value(row), &name, "it is not a number"),
        };
        match &to.kind {
            TypeKind::Boolean => {
                let mut builder = BooleanBuilder::with_capacity(array.len());
                for row in 0..array.len() {
                    builder.append_option(match texts.is_valid(row).then(|| read::parse_boolean(texts.value(row))) {
                        None => None,
                        Some(Some(value)) => Some(value),
                        Some(None) => self.refuse(texts.value(row), &name, "it is not a boolean")?,
                    });
                }
                Ok(Arc::new(builder.finish()))
            }
            TypeKind::TinyInt => build::<Int8Type>(array, target, |row| {
                Ok(integer(row, i8::MIN.into(), i8::MAX.into())?.map(|value| value as i8))
            }),
            TypeKind::SmallInt => build::<Int16Type>(array, target, |row| {
                Ok(integer(row, i16::MIN.into(), i16::MAX.into())?.map(|value| value as i16))
            }),
            TypeKind::Int => build::<Int32Type>(array, target, |row| {
                Ok(integer(row, i32::MIN.into(), i32::MAX.into())?.map(|value| value as i32))
            }),
            TypeKind::BigInt => build::<Int64Type>(array, target, |row| integer(row, i64::MIN, i64::MAX)),
            TypeKind::Float => build::<Float32Type>(array, target, |row| Ok(double(row)?.map(|value| value as f32))),
            TypeKind::Double => build::<Float64Type>(array, target, double),
            TypeKind::Decimal(precision, scale) => build::<Decimal128Type>(array, target, |row| {
                let value = number_text::parse_decimal(texts.value(row), *scale as i8);
                match value.filter(|value| fits(*value, *precision)) {
                    Some(value) => Ok(Some(value)),
                    None => self.refuse(texts.value(row), &name, "it is not a number of so many digits"),
                }
            }),
            kind => {
                let read: fn(&str) -> Option<Moment> = match kind {
                    TypeKind::Date => |text| parse_date(text).map(|day| Moment { day, nanos: 0 }),
                    TypeKind::Time(_) => read::parse_time,
                    _ => parse_timestamp,
                };
                let kept = precision_unit(kind);
                build_moments(target, array.len(), self.zone, |row| {
                    if texts.is_null(row) {
                        return Ok(None);
                    }
                    match read(texts.value(row)) {
                        Some(moment) => Ok(Some(cut(moment, kept))),
                        None => self.refuse(texts.value(row), &name, "it is not in its form"),
                    }
                })
            }
        }
    }

    fn to_decimal(&self, array: &ArrayRef, precision: u8, scale: i8, target: &DataType) -> Result<ArrayRef> {
        let fit = |value: Option<i128>| value.filter(|value| fits(*value, precision));
        let real = |value: f64, digits: (i128, i32)| -> Result<Option<i128>> {
            if value.is_finite() {
                return Ok(fit(rescale(digits.0, -digits.1, scale.into())));
            }
            self.refuse(&value.to_string(), &name_of(target), "it is not a finite number")
        };
        match array.data_type() {
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>();
                build::<Decimal128Type>(array, target, |row| {
                    real(values.value(row).into(), shortest_float(values.value(row)))
                })
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                build::<Decimal128Type>(array, target, |row| real(values.value(row), shortest(values.value(row))))
            }
            DataType::Decimal128(_, from) => {
                let (values, from) = (array.as_primitive::<Decimal128Type>(), i32::from(*from));
                build::<Decimal128Type>(array, target, |row| Ok(fit(rescale(values.value(row), from, scale.into()))))
            }
            _ => {
                let values = integers(array)?;
                let values = values.as_primitive::<Int64Type>();
                build::<Decimal128Type>(array, target, |row| {
                    Ok(fit(rescale(values.value(row).into(), 0, scale.into())))
                })
            }
        }
    }

    fn to_time(&self, array: &ArrayRef, to: &Type, target: &DataType) -> Result<ArrayRef> {
        let moments = Moments::of(Arc::clone(array), false, self.zone)?;
        let kept = precision_unit(&to.kind);
        build_moments(target, array.len(), self.zone, |row| Ok(moments.get(row).map(|moment| cut(moment, kept))))
    }

    fn nested(&self, array: &ArrayRef, to: &Type) -> Result<ArrayRef> {
        let target = to.to_arrow();
        match (&to.kind, &target) {
            (TypeKind::Array(element), DataType::List(field)) => {
                let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, self.convert(&values, element)?, nulls)?))
            }
            (TypeKind::Row(targets), DataType::Struct(fields)) => {
                let rows = array.as_struct();
                let columns = rows.columns().iter().zip(targets).map(|(column, (_, to))| self.convert(column, to));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                Ok(Arc::new(StructArray::try_new(fields.clone(), columns, rows.nulls().cloned())?))
            }
            (TypeKind::Map(key, value), DataType::Map(entries, _)) => {
                let map = array.as_map();
                let DataType::Struct(fields) = entries.data_type() else { return internal_err!("a map of {entries}") };
                let columns = vec![self.convert(map.keys(), key)?, self.convert(map.values(), value)?];
                let pairs = StructArray::try_new(fields.clone(), columns, None)?;
                let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
                Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?))
            }
            _ => internal_err!("a cast to {to} was planned"),
        }
    }
}

fn build<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    target: &DataType,
    mut value: impl FnMut(usize) -> Result<Option<T::Native>>,
) -> Result<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(array.len()).with_data_type(target.clone());
    for row in 0..array.len() {
        builder.append_option(if array.is_null(row) { None } else { value(row)? });
    }
    Ok(Arc::new(builder.finish()))
}

/// The smallest step, in nanoseconds, that a type of time keeps.
fn precision_unit(kind: &TypeKind) -> i64 {
    match kind {
        TypeKind::Time(precision) | TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) => {
            SECOND / 10_i64.pow((*precision).min(9).into())
        }
        _ => 1,
    }
}

fn cut(moment: Moment, unit: i64) -> Moment {
    Moment { day: moment.day, nanos: moment.nanos - moment.nanos % unit }
}

/// Integers and booleans as BIGINT.
fn integers(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(arrow_cast::cast(array, &DataType::Int64)?)
}

fn to_integer<T: ArrowPrimitiveType>(array: &ArrayRef, narrow: fn(i64) -> T::Native) -> Result<ArrayRef> {
    let target = T::DATA_TYPE;
    // Java narrows DOUBLE to INT first unless BIGINT is wanted, saturating; then it wraps.
    let wide = target == DataType::Int64;
    let from_double = move |value: f64| if wide { value as i64 } else { i64::from(value as i32) };
    match array.data_type() {
        from if from == &target => Ok(Arc::clone(array)),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            build::<T>(array, &target, |row| Ok(Some(narrow(from_double(values.value(row).into())))))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            build::<T>(array, &target, |row| Ok(Some(narrow(from_double(values.value(row))))))
        }
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>(), i32::from(*scale));
            let whole = move |value: i128| number_text::truncate(value, scale, 0).unwrap_or(0) as i64;
            build::<T>(array, &target, |row| Ok(Some(narrow(whole(values.value(row))))))
        }
        from if is_integer(from) || from == &DataType::Boolean => {
            let values = integers(array)?;
            let values = values.as_primitive::<Int64Type>();
            build::<T>(array, &target, |row| Ok(Some(narrow(values.value(row)))))
        }
        from => internal_err!("a cast from {} to an integer was planned", name_of(from)),
    }
}

fn to_float<T: ArrowPrimitiveType>(array: &ArrayRef, narrow: fn(f64) -> T::Native) -> Result<ArrayRef> {
    let target = T::DATA_TYPE;
    match array.data_type() {
        from if from == &target => Ok(Arc::clone(array)),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            build::<T>(array, &target, |row| Ok(Some(narrow(values.value(row).into()))))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            build::<T>(array, &target, |row| Ok(Some(narrow(values.value(row)))))
        }
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
            let mut buffer = String::new();
            build::<T>(array, &target, |row| {
                // Through its digits, so that the nearest number is met.
                buffer.clear();
                number_text::write_decimal(values.value(row), scale, &mut buffer);
                Ok(Some(narrow(buffer.parse().unwrap_or(f64::NAN))))
            })
        }
        from if is_integer(from) || from == &DataType::Boolean => Ok(arrow_cast::cast(array, &target)?),
        from => internal_err!("a cast from {} to a float was planned", name_of(from)),
    }
}

fn to_boolean(array: &ArrayRef) -> Result<ArrayRef> {
    let mut builder = BooleanBuilder::with_capacity(array.len());
    let mut each = |truth: &dyn Fn(usize) -> bool| {
        (0..array.len()).for_each(|row| builder.append_option(array.is_valid(row).then(|| truth(row))));
    };
    match array.data_type() {
        DataType::Boolean => return Ok(Arc::clone(array)),
        DataType::Float32 => each(&|row| array.as_primitive::<Float32Type>().value(row) != 0.0),
        DataType::Float64 => each(&|row| array.as_primitive::<Float64Type>().value(row) != 0.0),
        DataType::Decimal128(..) => each(&|row| array.as_primitive::<Decimal128Type>().value(row) != 0),
        _ => {
            let values = integers(array)?;
            each(&|row| values.as_primitive::<Int64Type>().value(row) != 0);
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn to_bytes(array: &ArrayRef, kind: &TypeKind) -> Result<ArrayRef> {
    let (most, least) = match kind {
        TypeKind::Binary(length) => (*length as usize, *length as usize),
        TypeKind::Varbinary(Some(length)) => (*length as usize, 0),
        _ => (usize::MAX, 0),
    };
    let mut builder = BinaryBuilder::with_capacity(array.len(), array.len() * 8);
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
            continue;
        }
        let bytes = match array.as_string_opt::<i32>() {
            Some(texts) => texts.value(row).as_bytes(),
            None => array.as_binary::<i32>().value(row),
        };
        let bytes = &bytes[..bytes.len().min(most)];
        if bytes.len() < least {
            let mut padded = bytes.to_vec();
            padded.resize(least, 0);
            builder.append_value(padded);
        } else {
            builder.append_value(bytes);
        }
    }
    Ok(Arc::new(builder.finish()))
}

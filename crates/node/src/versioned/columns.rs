//! A versioned table's rows as columns, which queries look rows up in.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use tidemill_state::table::{Snapshot, Type, Value};

/// The type of a column's values in Arrow; none for arrays, which queries do not look up.
pub(super) fn data_type(kind: &Type) -> Option<DataType> {
    Some(match kind {
        Type::Boolean => DataType::Boolean,
        Type::TinyInt => DataType::Int8,
        Type::SmallInt => DataType::Int16,
        Type::Int => DataType::Int32,
        Type::BigInt => DataType::Int64,
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        Type::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
        Type::Char(_) | Type::String(_) => DataType::Utf8,
        Type::Binary(_) | Type::Bytes(_) => DataType::Binary,
        Type::Date => DataType::Date32,
        Type::Time(_) => match unit(kind) {
            TimeUnit::Millisecond => DataType::Time32(TimeUnit::Millisecond),
            finer => DataType::Time64(finer),
        },
        Type::Timestamp(_) => DataType::Timestamp(unit(kind), None),
        Type::TimestampLtz(_) => DataType::Timestamp(unit(kind), Some(Arc::from("UTC"))),
        Type::Array(_) => return None,
    })
}

fn unit(kind: &Type) -> TimeUnit {
    match kind.per_second() {
        1_000 => TimeUnit::Millisecond,
        1_000_000 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

/// A snapshot's rows in columns of these types, which were found to be the table's.
///
/// # Errors
/// What does not fit, in words.
pub(super) fn batch(snapshot: &Snapshot, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let mut columns: Vec<Vec<Value>> = vec![Vec::with_capacity(snapshot.count() as usize); schema.fields().len()];
    for row in snapshot.rows().iter() {
        let values = snapshot.schema().values(row).map_err(|error| error.to_string())?;
        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }
    let arrays = schema.fields().iter().zip(columns).map(|(field, values)| array(field.data_type(), &values));
    RecordBatch::try_new(schema.clone(), arrays.collect::<Result<_, _>>()?).map_err(|error| error.to_string())
}

fn array(kind: &DataType, values: &[Value]) -> Result<ArrayRef, String> {
    Ok(match kind {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }))),
        DataType::Int8 => Arc::new(integers::<Int8Type>(values, |value| value as i8)),
        DataType::Int16 => Arc::new(integers::<Int16Type>(values, |value| value as i16)),
        DataType::Int32 => Arc::new(integers::<Int32Type>(values, |value| value as i32)),
        DataType::Int64 => Arc::new(integers::<Int64Type>(values, |value| value)),
        DataType::Float32 => {
            Arc::new(PrimitiveArray::<Float32Type>::from_iter(floats(values).map(|one| Some(one? as f32))))
        }
        DataType::Float64 => Arc::new(PrimitiveArray::<Float64Type>::from_iter(floats(values))),
        DataType::Decimal128(..) => {
            let numbers = values.iter().map(|value| match value {
                Value::Decimal(value) => Some(*value),
                _ => None,
            });
            Arc::new(PrimitiveArray::<Decimal128Type>::from_iter(numbers).with_data_type(kind.clone()))
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::String(value) => Some(value.as_str()),
            _ => None,
        }))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(|value| match value {
            Value::Bytes(value) => Some(value.as_slice()),
            _ => None,
        }))),
        DataType::Date32 => Arc::new(integers::<Date32Type>(values, |value| value as i32)),
        DataType::Time32(TimeUnit::Millisecond) => {
            Arc::new(integers::<Time32MillisecondType>(values, |value| value as i32))
        }
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(integers::<Time64MicrosecondType>(values, |value| value)),
        DataType::Time64(TimeUnit::Nanosecond) => Arc::new(integers::<Time64NanosecondType>(values, |value| value)),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            Arc::new(integers::<TimestampMillisecondType>(values, |value| value).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(integers::<TimestampMicrosecondType>(values, |value| value).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Arc::new(integers::<TimestampNanosecondType>(values, |value| value).with_timezone_opt(zone.clone()))
        }
        other => return Err(format!("a column of type {other} cannot be looked up")),
    })
}

/// Whole numbers, dates and times.
fn integers<T: ArrowPrimitiveType>(values: &[Value], cast: impl Fn(i64) -> T::Native) -> PrimitiveArray<T> {
    let numbers: Vec<Option<T::Native>> = values
        .iter()
        .map(|value| match value {
            Value::Integer(value) | Value::Time(value) | Value::Timestamp(value) => Some(cast(*value)),
            Value::Date(value) => Some(cast(i64::from(*value))),
            _ => None,
        })
        .collect();
    PrimitiveArray::from_iter(numbers)
}

fn floats(values: &[Value]) -> impl Iterator<Item = Option<f64>> + '_ {
    values.iter().map(|value| match value {
        Value::Float(value) => Some(*value),
        _ => None,
    })
}

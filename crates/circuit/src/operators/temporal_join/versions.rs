//! Times of versions, to the nanosecond.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{ArrowError, DataType, TimeUnit};

/// Nanoseconds of a millisecond.
const MILLI: i128 = 1_000_000;

/// Milliseconds as nanoseconds.
pub(super) fn of_millis(millis: i64) -> i128 {
    i128::from(millis) * MILLI
}

/// Nanoseconds as milliseconds, rounded up.
pub(super) fn millis_up(nanos: i128) -> i64 {
    let millis = -(-nanos).div_euclid(MILLI);
    millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The nanoseconds of a column of time; what a null has is not said.
pub(super) fn nanos(column: &ArrayRef) -> Result<Vec<i128>, ArrowError> {
    match column.data_type() {
        DataType::Timestamp(..) => Ok((0..column.len()).map(|row| nanos_at(column, row)).collect()),
        other => Err(ArrowError::SchemaError(format!("{other} is no time"))),
    }
}

/// The nanoseconds of one value of a column of time.
pub(super) fn nanos_at(column: &ArrayRef, row: usize) -> i128 {
    let (value, factor) = match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            (column.as_primitive::<TimestampSecondType>().value(row), 1_000 * MILLI)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (column.as_primitive::<TimestampMillisecondType>().value(row), MILLI)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000)
        }
        _ => (column.as_primitive::<TimestampNanosecondType>().value(row), 1),
    };
    i128::from(value) * factor
}

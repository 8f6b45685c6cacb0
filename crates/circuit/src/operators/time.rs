//! Time in columns, and the arithmetic of windows: all in milliseconds, floored, saturating at the ends of time.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow_schema::{DataType, TimeUnit};

use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::operator::{Context, Output};
use crate::operators::guard::Guard;
use crate::plan::{Expiry, Window};

const DAY_MS: i64 = 86_400_000;

/// Nanoseconds of a millisecond.
pub(crate) const NANOS_PER_MILLI: i128 = 1_000_000;

/// The milliseconds of a column of time, floored; what a null has is not said. None when it is no column of time.
pub(crate) fn millis(column: &ArrayRef) -> Option<Vec<i64>> {
    Some(match column.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            column.as_primitive::<TimestampMillisecondType>().values().to_vec()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            values.iter().map(|value| value.div_euclid(1_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = column.as_primitive::<TimestampNanosecondType>().values();
            values.iter().map(|value| value.div_euclid(1_000_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            column.as_primitive::<TimestampSecondType>().values().iter().map(|v| v.saturating_mul(1_000)).collect()
        }
        DataType::Date32 => {
            column.as_primitive::<Date32Type>().values().iter().map(|days| i64::from(*days) * DAY_MS).collect()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().values().to_vec(),
        _ => return None,
    })
}

/// The milliseconds of one value of a column of time, floored; 0 when it is none.
pub(crate) fn millis_at(column: &ArrayRef, row: usize) -> i64 {
    millis(&column.slice(row, 1)).and_then(|values| values.first().copied()).unwrap_or_default()
}

/// Whether a column of this type is one of time.
pub(crate) fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Int64)
}

/// The nanoseconds of a column of timestamps; what a null has is not said. None when it is no such column.
pub(crate) fn nanos(column: &ArrayRef) -> Option<Vec<i128>> {
    match column.data_type() {
        DataType::Timestamp(..) => Some((0..column.len()).map(|row| nanos_at(column, row)).collect()),
        _ => None,
    }
}

/// The nanoseconds of one value of a column of timestamps.
pub(crate) fn nanos_at(column: &ArrayRef, row: usize) -> i128 {
    let (value, factor) = match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            (column.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (column.as_primitive::<TimestampMillisecondType>().value(row), NANOS_PER_MILLI)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000)
        }
        _ => (column.as_primitive::<TimestampNanosecondType>().value(row), 1),
    };
    i128::from(value) * factor
}

/// A column of `data_type` from milliseconds; none when that is no type of time.
pub(crate) fn column_of(data_type: &DataType, millis: Vec<i64>) -> Option<ArrayRef> {
    let scaled = |factor: i64| millis.iter().map(|value| value.saturating_mul(factor)).collect::<Vec<_>>();
    Some(match data_type {
        DataType::Timestamp(unit, zone) => match unit {
            TimeUnit::Second => {
                let seconds: Vec<i64> = millis.iter().map(|value| value.div_euclid(1_000)).collect();
                Arc::new(TimestampSecondArray::from(seconds).with_timezone_opt(zone.clone()))
            }
            TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::from(millis).with_timezone_opt(zone.clone())),
            TimeUnit::Microsecond => {
                Arc::new(TimestampMicrosecondArray::from(scaled(1_000)).with_timezone_opt(zone.clone()))
            }
            TimeUnit::Nanosecond => {
                Arc::new(TimestampNanosecondArray::from(scaled(1_000_000)).with_timezone_opt(zone.clone()))
            }
        },
        DataType::Int64 => Arc::new(Int64Array::from(millis)),
        _ => return None,
    })
}

/// Leaves out rows without a time and returns the times of the others.
pub(crate) fn read_times(
    guard: &Guard,
    delta: Delta,
    column: usize,
    context: &Context,
    out: &mut Output,
) -> Result<(Delta, Vec<i64>), Error> {
    let mut delta = delta;
    if let Some(nulls) = delta.column(column).nulls().filter(|nulls| nulls.null_count() > 0).cloned() {
        let bad = BooleanArray::new(!nulls.inner(), None);
        let message = format!("the time '{}' is null", delta.schema().field(column).name());
        delta = guard.reject(delta, &bad, &message, context, out)?;
    }
    let times = millis(delta.column(column));
    let times =
        times.ok_or_else(|| guard.broken(format!("column '{}' is no time", delta.schema().field(column).name())))?;
    Ok((delta, times))
}

/// The milliseconds of a column of time, `i64::MAX` where it is null: a time that never passes.
pub(crate) fn millis_or_never(guard: &Guard, column: &ArrayRef) -> Result<Vec<i64>, Error> {
    let mut times = millis(column).ok_or_else(|| guard.broken("no time to expire by"))?;
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        times.iter_mut().zip(nulls).filter(|(_, valid)| !valid).for_each(|(time, _)| *time = i64::MAX);
    }
    Ok(times)
}

/// Leaves out rows of keys that have expired, or that would have had only their own partition counted.
pub(crate) fn unexpired(
    guard: &Guard,
    expiry: Expiry,
    delta: Delta,
    closed: i64,
    context: &Context,
    out: &mut Output,
) -> Result<Delta, Error> {
    let times = millis_or_never(guard, delta.column(expiry.time))?;
    let stood = |row: usize| delta.carried().map_or(NO_SUSPECT, |carried| carried[row]).max(closed);
    let over: Vec<bool> = times.iter().enumerate().map(|(row, time)| expiry.is_over(*time, stood(row))).collect();
    if !over.contains(&true) {
        return Ok(delta);
    }
    for row in (0..delta.rows()).filter(|row| over[*row]) {
        guard.late_because("its key had expired", &delta, row, context, out);
    }
    let kept = BooleanArray::from_iter(over.into_iter().map(|over| Some(!over)));
    delta.filter(&kept).map_err(|error| guard.broken(error))
}

/// The greatest multiple of `size`, shifted by `offset`, that is not above `time`.
pub(crate) fn floor(time: i64, size: i64, offset: i64) -> i64 {
    let size = size.max(1);
    let above = time.checked_sub(offset).map(|shifted| shifted.rem_euclid(size));
    if let Some(start) = above.and_then(|above| time.checked_sub(above)) {
        return start;
    }
    // At the ends of time.
    let (time, size, offset) = (i128::from(time), i128::from(size), i128::from(offset));
    let start = (time - offset).div_euclid(size) * size + offset;
    start.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Calls `each` with start and end of every window that `time` is in, the earliest end first.
pub(crate) fn windows_of(window: &Window, time: i64, mut each: impl FnMut(i64, i64)) {
    match *window {
        Window::Tumble { size, offset } => {
            let start = floor(time, size, offset);
            each(start, start.saturating_add(size));
        }
        Window::Hop { slide, size, offset } => {
            let last = floor(time, slide, offset);
            for back in (0..size / slide.max(1)).rev() {
                let start = last.saturating_sub(back.saturating_mul(slide));
                each(start, start.saturating_add(size));
            }
        }
        Window::Cumulate { step, max, offset } => {
            let start = floor(time, max, offset);
            let mut end = floor(time, step, offset).saturating_add(step);
            while end <= start.saturating_add(max) {
                each(start, end);
                if end == i64::MAX {
                    break;
                }
                end = end.saturating_add(step);
            }
        }
        Window::Session { gap } => each(time, time.saturating_add(gap)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window: Window, time: i64, expected: &[(i64, i64)]) {
        let mut windows = Vec::new();
        windows_of(&window, time, |start, end| windows.push((start, end)));
        assert_eq!(windows, expected, "{window:?} at {time}");
    }

    #[test]
    fn windows_lie_around_their_times() {
        check(Window::Tumble { size: 10, offset: 0 }, 0, &[(0, 10)]);
        check(Window::Tumble { size: 10, offset: 0 }, -1, &[(-10, 0)]);
        check(Window::Tumble { size: 10, offset: 3 }, 2, &[(-7, 3)]);
        check(Window::Tumble { size: 10, offset: -3 }, 7, &[(7, 17)]);
        check(Window::Hop { slide: 5, size: 10, offset: 0 }, 7, &[(0, 10), (5, 15)]);
        check(Window::Hop { slide: 5, size: 10, offset: 1 }, 0, &[(-9, 1), (-4, 6)]);
        check(Window::Hop { slide: 10, size: 10, offset: 0 }, -10, &[(-10, 0)]);
        check(Window::Cumulate { step: 5, max: 15, offset: 0 }, 7, &[(0, 10), (0, 15)]);
        check(Window::Cumulate { step: 5, max: 15, offset: 0 }, -1, &[(-15, 0)]);
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            for window in [
                Window::Tumble { size: 1_000, offset: 7 },
                Window::Hop { slide: 500, size: 1_000, offset: -7 },
                Window::Cumulate { step: 500, max: 1_000, offset: 0 },
            ] {
                windows_of(&window, time, |start, end| assert!(start <= end));
            }
        }
    }
}

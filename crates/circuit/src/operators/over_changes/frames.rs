//! Which places each place sees. From row to row neither end of a frame goes back.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::sheet::Sheet;
use crate::operators::time::{NANOS_PER_MILLI, nanos};
use crate::plan::{FrameBound, FrameUnits};

/// Nanoseconds of a day.
const DAY: i128 = 86_400_000 * NANOS_PER_MILLI;

/// Whether a bound says how many.
pub(super) fn counts(bound: FrameBound) -> bool {
    matches!(bound, FrameBound::Preceding(_) | FrameBound::Following(_))
}

/// The values by which a `RANGE` counts, the other way round where great ones come first, and what 1 means among them;
/// none when the column has no such values.
pub(super) fn values(column: &ArrayRef, descending: bool) -> Option<(Vec<Option<i128>>, i128)> {
    macro_rules! integers {
        ($type:ty) => {
            (column.as_primitive::<$type>().iter().map(|value| value.map(i128::from)).collect::<Vec<_>>(), 1)
        };
    }
    let (mut values, unit) = match column.data_type() {
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().iter();
            (days.map(|day| day.map(|day| i128::from(day) * DAY)).collect(), NANOS_PER_MILLI)
        }
        DataType::Timestamp(..) => {
            let times = nanos(column)?.into_iter().enumerate();
            (times.map(|(row, time)| column.is_valid(row).then_some(time)).collect(), NANOS_PER_MILLI)
        }
        _ => return None,
    };
    if descending {
        values.iter_mut().for_each(|value| *value = value.map(|value| -value));
    }
    Some((values, unit))
}

/// What a `RANGE` counts by.
struct Ranged {
    values: Vec<Option<i128>>,
    unit: i128,
}

/// The places that each place of a sheet sees; `columns` are those of its rows.
pub(super) fn frames(sheet: &Sheet, columns: &[ArrayRef]) -> Vec<Range<usize>> {
    let counted = counts(sheet.frame.start) || counts(sheet.frame.end);
    let by = sheet.by.filter(|_| sheet.frame.units == FrameUnits::Range && counted);
    let ranged = by.and_then(|(column, descending)| values(&columns[column], descending));
    let ranged = ranged.map(|(values, unit)| Ranged { values, unit });
    let mut frames = Vec::with_capacity(sheet.len());
    for part in sheet.parts() {
        match sheet.frame.units {
            FrameUnits::Rows => frames.extend(part.clone().map(|place| of_rows(sheet, &part, place))),
            FrameUnits::Range => of_ranges(sheet, &part, ranged.as_ref(), &mut frames),
        }
    }
    frames
}

/// A range that lies in `part`, empty where it would end before it starts.
fn within(part: &Range<usize>, start: usize, end: usize) -> Range<usize> {
    let start = start.clamp(part.start, part.end);
    start..end.clamp(start, part.end)
}

fn of_rows(sheet: &Sheet, part: &Range<usize>, place: usize) -> Range<usize> {
    let rows = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let start = match sheet.frame.start {
        FrameBound::Unbounded => part.start,
        FrameBound::Preceding(count) => place.saturating_sub(rows(count)),
        FrameBound::CurrentRow => place,
        FrameBound::Following(count) => place.saturating_add(rows(count)),
    };
    let end = match sheet.frame.end {
        FrameBound::Unbounded => part.end,
        FrameBound::Preceding(count) => (place + 1).saturating_sub(rows(count)),
        FrameBound::CurrentRow => place + 1,
        FrameBound::Following(count) => (place + 1).saturating_add(rows(count)),
    };
    within(part, start, end)
}

/// The frames of a part's rows: the order does not tell those apart that have one.
fn of_ranges(sheet: &Sheet, part: &Range<usize>, ranged: Option<&Ranged>, frames: &mut Vec<Range<usize>>) {
    // The rows that have a value stand together.
    let known = ranged.map_or(0..0, |Ranged { values, .. }| {
        let start = part.clone().find(|place| values[*place].is_some()).unwrap_or(part.end);
        start..(start..part.end).find(|place| values[*place].is_none()).unwrap_or(part.end)
    });
    let mut start = part.start;
    while start < part.end {
        let end = (start + 1..part.end).find(|place| sheet.opens(*place)).unwrap_or(part.end);
        let frame = of_range(sheet, part, &(start..end), ranged, &known);
        frames.resize(frames.len() + end - start, frame);
        start = end;
    }
}

fn of_range(
    sheet: &Sheet,
    part: &Range<usize>,
    peers: &Range<usize>,
    ranged: Option<&Ranged>,
    known: &Range<usize>,
) -> Range<usize> {
    // The first place whose value is not before one so far from the peers' own, or is behind it; none when that is null.
    let edge = |distance: i128, behind: bool| {
        let Ranged { values, unit } = ranged?;
        let edge = values[peers.start]?.saturating_add(distance.saturating_mul(*unit));
        let is_before = |value: &Option<i128>| value.is_some_and(|value| value < edge || behind && value == edge);
        Some(known.start + values[known.clone()].partition_point(is_before))
    };
    let start = match sheet.frame.start {
        FrameBound::Unbounded => part.start,
        FrameBound::CurrentRow => peers.start,
        FrameBound::Preceding(count) => edge(-i128::from(count), false).unwrap_or(peers.start),
        FrameBound::Following(count) => edge(i128::from(count), false).unwrap_or(peers.start),
    };
    let end = match sheet.frame.end {
        FrameBound::Unbounded => part.end,
        FrameBound::CurrentRow => peers.end,
        FrameBound::Preceding(count) => edge(-i128::from(count), true).unwrap_or(peers.end),
        FrameBound::Following(count) => edge(i128::from(count), true).unwrap_or(peers.end),
    };
    within(part, start, end)
}

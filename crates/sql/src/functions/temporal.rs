//! Days, clocks and zones: the calendar arithmetic the functions of time share.
//!
//! A [`Moment`] is a day since 1970-01-01 and the nanoseconds into it, so that times before 1970 need no special care.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};
use chrono::{LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use datafusion::common::{Result, exec_err, internal_err};

use super::call::Call;

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// A reading of calendar and clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    /// Days since 1970-01-01.
    pub(super) day: i64,
    /// Nanoseconds since midnight, in `0..DAY`.
    pub(super) nanos: i64,
}

/// Year, month (1-12) and day (1-31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

impl Moment {
    /// From a count of units of `per_second` since the epoch.
    fn from_units(value: i64, per_second: i64) -> Moment {
        let per_day = 86_400 * per_second;
        Moment { day: value.div_euclid(per_day), nanos: value.rem_euclid(per_day) * (SECOND / per_second) }
    }

    pub(super) fn from_millis(millis: i64) -> Moment {
        Moment::from_units(millis, 1000)
    }

    /// A whole number of nanoseconds past (or before) midnight of a day.
    pub(super) fn from_nanos(day: i64, nanos: i64) -> Moment {
        Moment { day: day + nanos.div_euclid(DAY), nanos: nanos.rem_euclid(DAY) }
    }

    /// Units of `per_second` since the epoch, cut off; `None` when an i64 does not hold them.
    fn to_units(self, per_second: i64) -> Option<i64> {
        self.day.checked_mul(86_400 * per_second)?.checked_add(self.nanos / (SECOND / per_second))
    }

    pub(super) fn to_millis(self) -> i64 {
        self.to_units(1000).unwrap_or(if self.day < 0 { i64::MIN } else { i64::MAX })
    }

    pub(super) fn civil(self) -> Civil {
        civil(self.day)
    }

    pub(super) fn hour(self) -> i64 {
        self.nanos / (3600 * SECOND)
    }

    pub(super) fn minute(self) -> i64 {
        self.nanos / (60 * SECOND) % 60
    }

    pub(super) fn second(self) -> i64 {
        self.nanos / SECOND % 60
    }

    /// The same clock so many months later, on the last day of a month that is too short.
    pub(super) fn add_months(self, months: i64) -> Moment {
        let Civil { year, month, day } = self.civil();
        let total = year * 12 + month - 1 + months;
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        Moment { day: day_number(year, month, day.min(days_in_month(year, month))), nanos: self.nanos }
    }
}

/// The calendar date of a day number: whole 400-year eras of 146,097 days, years starting in March.
pub(super) fn civil(day: i64) -> Civil {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    Civil { year, month, day: of_year - (153 * month_from_march + 2) / 5 + 1 }
}

/// The day number of a calendar date; a day past the month's end runs into the next one.
pub(super) fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

pub(super) fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Day of the week, 0 = Sunday.
pub(super) fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

/// ISO year and week: the week belongs to the year of its Thursday.
pub(super) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - (weekday(day) + 6) % 7 + 3;
    let year = civil(thursday).year;
    (year, (thursday - day_number(year, 1, 1)) / 7 + 1)
}

/// A point in time as the wall clock of a zone reads it.
pub(crate) fn to_wall_millis(utc_millis: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return utc_millis;
    }
    utc_millis + offset_at(utc_millis, zone)
}

fn offset_at(utc_millis: i64, zone: Tz) -> i64 {
    let seconds = utc_millis.div_euclid(1000);
    // Beyond chrono's range (year 262,000) there are no rules of zones: the offset of the nearest time that has one.
    let clamped = seconds.clamp(-62_135_596_800, 253_402_300_799);
    let at = chrono::DateTime::from_timestamp(clamped, 0).unwrap_or_default().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&at).fix().local_minus_utc()) * 1000
}

/// The least that the wall clock reads from a point in time on: less than it reads then only while it is to be turned back.
pub(crate) fn wall_floor_millis(utc_millis: i64, zone: Tz) -> i64 {
    // A clock is turned back by less than a day, and at most once in a day.
    const DAY_MILLIS: i64 = 86_400_000;
    let wall = to_wall_millis(utc_millis, zone);
    let (before, after) = (offset_at(utc_millis, zone), offset_at(utc_millis.saturating_add(DAY_MILLIS), zone));
    if after >= before {
        return wall;
    }
    let (mut low, mut high) = (utc_millis, utc_millis.saturating_add(DAY_MILLIS));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset_at(middle, zone) == before { low = middle } else { high = middle }
    }
    wall.min(high + after)
}

/// Which of two points in time a wall clock means when it was turned back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ambiguous {
    Earlier,
    Later,
}

/// The point in time when a zone's wall clock reads so; a reading that was skipped counts from before the skip.
pub(crate) fn from_wall_millis(wall_millis: i64, zone: Tz, ambiguous: Ambiguous) -> i64 {
    if zone == Tz::UTC {
        return wall_millis;
    }
    let seconds = wall_millis.div_euclid(1000);
    let Some(wall) = chrono::DateTime::from_timestamp(seconds, 0).map(|time| time.naive_utc()) else {
        return wall_millis - offset_at(wall_millis, zone);
    };
    let offset = match zone.offset_from_local_datetime(&wall) {
        LocalResult::Single(offset) => offset,
        LocalResult::Ambiguous(earlier, later) => {
            if ambiguous == Ambiguous::Earlier {
                earlier
            } else {
                later
            }
        }
        LocalResult::None => return wall_millis - offset_before(&wall, zone),
    };
    wall_millis - i64::from(offset.fix().local_minus_utc()) * 1000
}

fn offset_before(wall: &NaiveDateTime, zone: Tz) -> i64 {
    let earlier = *wall - chrono::Duration::hours(3);
    offset_at(earlier.and_utc().timestamp_millis(), zone)
}

/// Reads a zone's name: a region, `UTC`, or `GMT+08:00`, which is a fixed offset.
pub(super) fn parse_zone(name: &str) -> Result<Zone> {
    if let Ok(zone) = name.parse::<Tz>() {
        return Ok(Zone::Region(zone));
    }
    let fixed = name.strip_prefix("GMT").or_else(|| name.strip_prefix("UTC")).and_then(|offset| {
        let (sign, digits) = match offset.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, offset.strip_prefix('+')?),
        };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
        let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 19 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
    });
    match fixed {
        Some(millis) => Ok(Zone::Fixed(millis)),
        None => exec_err!("the time zone '{name}' is not known; write a region like 'Europe/Berlin' or 'GMT+08:00'"),
    }
}

/// A time zone named in a query.
#[derive(Debug, Clone, Copy)]
pub(super) enum Zone {
    Region(Tz),
    Fixed(i64),
}

impl Zone {
    pub(super) fn to_wall(self, millis: i64) -> i64 {
        match self {
            Zone::Region(zone) => to_wall_millis(millis, zone),
            Zone::Fixed(offset) => millis + offset,
        }
    }

    pub(super) fn to_instant(self, millis: i64, ambiguous: Ambiguous) -> i64 {
        match self {
            Zone::Region(zone) => from_wall_millis(millis, zone, ambiguous),
            Zone::Fixed(offset) => millis - offset,
        }
    }
}

/// A column of dates, times or timestamps, read as moments; TIMESTAMP_LTZ is read on the session's wall clock.
pub(super) struct Moments {
    array: ArrayRef,
    one: bool,
    zone: Option<Tz>,
}

impl Moments {
    pub(super) fn new(call: &Call<'_>, index: usize) -> Result<Self> {
        let scalar = call.scalar(index);
        let array = match scalar {
            Some(value) => value.to_array()?,
            None => call.array(index)?,
        };
        Moments::of(array, scalar.is_some(), call.session.zone)
    }

    pub(super) fn of(array: ArrayRef, one: bool, zone: Tz) -> Result<Self> {
        let zone = match array.data_type() {
            DataType::Timestamp(_, Some(_)) => Some(zone),
            DataType::Timestamp(_, None)
            | DataType::Date32
            | DataType::Time32(TimeUnit::Millisecond)
            | DataType::Time64(_)
            | DataType::Null => None,
            other => return internal_err!("{other} is not a time"),
        };
        Ok(Moments { array, one, zone })
    }

    pub(super) fn get(&self, row: usize) -> Option<Moment> {
        let row = if self.one { 0 } else { row };
        if self.array.is_null(row) || self.array.data_type() == &DataType::Null {
            return None;
        }
        let moment = match self.array.data_type() {
            DataType::Date32 => Moment { day: self.array.as_primitive::<Date32Type>().value(row).into(), nanos: 0 },
            DataType::Time32(_) => {
                let millis: i64 = self.array.as_primitive::<Time32MillisecondType>().value(row).into();
                Moment { day: 0, nanos: millis * (SECOND / 1000) }
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                Moment { day: 0, nanos: self.array.as_primitive::<Time64MicrosecondType>().value(row) * 1000 }
            }
            DataType::Time64(_) => {
                Moment { day: 0, nanos: self.array.as_primitive::<Time64NanosecondType>().value(row) }
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Moment::from_units(self.array.as_primitive::<TimestampMillisecondType>().value(row), 1000)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Moment::from_units(self.array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Moment::from_units(self.array.as_primitive::<TimestampNanosecondType>().value(row), SECOND)
            }
            _ => return None,
        };
        Some(match self.zone {
            Some(zone) => moment.shifted(to_wall_millis(moment.to_millis(), zone) - moment.to_millis()),
            None => moment,
        })
    }
}

impl Moment {
    /// So many milliseconds later.
    pub(super) fn shifted(self, millis: i64) -> Moment {
        if millis == 0 {
            return self;
        }
        let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        Moment::from_nanos(self.day + days, self.nanos + rest * (SECOND / 1000))
    }
}

/// Builds a column of `data_type` from moments on the wall clock; what does not fit it is an error.
pub(super) fn build_moments(
    data_type: &DataType,
    rows: usize,
    zone: Tz,
    mut value: impl FnMut(usize) -> Result<Option<Moment>>,
) -> Result<ArrayRef> {
    macro_rules! build {
        ($type:ty, $convert:expr) => {{
            let mut builder = PrimitiveArray::<$type>::builder(rows).with_data_type(data_type.clone());
            for row in 0..rows {
                match value(row)? {
                    None => builder.append_null(),
                    Some(moment) => match $convert(moment) {
                        Some(number) => builder.append_value(number),
                        None => {
                            return exec_err!(
                                "{} does not hold the year {}",
                                crate::types::name_of(data_type),
                                moment.civil().year
                            );
                        }
                    },
                }
            }
            Ok(std::sync::Arc::new(builder.finish()) as ArrayRef)
        }};
    }
    let instant = matches!(data_type, DataType::Timestamp(_, Some(_)));
    let utc = |moment: Moment| -> Moment {
        if !instant || zone == Tz::UTC {
            return moment;
        }
        let wall = moment.to_millis();
        moment.shifted(from_wall_millis(wall, zone, Ambiguous::Earlier) - wall)
    };
    match data_type {
        DataType::Date32 => build!(Date32Type, |moment: Moment| i32::try_from(moment.day).ok()),
        DataType::Time32(TimeUnit::Millisecond) => {
            build!(Time32MillisecondType, |moment: Moment| Some((moment.nanos / 1_000_000) as i32))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            build!(Time64MicrosecondType, |moment: Moment| Some(moment.nanos / 1000))
        }
        DataType::Time64(TimeUnit::Nanosecond) => build!(Time64NanosecondType, |moment: Moment| Some(moment.nanos)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            build!(TimestampMillisecondType, |moment| utc(moment).to_units(1000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            build!(TimestampMicrosecondType, |moment| utc(moment).to_units(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            build!(TimestampNanosecondType, |moment| utc(moment).to_units(SECOND))
        }
        other => internal_err!("{other} is not a time"),
    }
}

/// A calendar date that exists.
pub(super) fn valid_day(year: i64, month: i64, day: i64) -> Option<i64> {
    let exists = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    exists.then(|| day_number(year, month, day))
}

// chrono is the independent witness of our calendar.
#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn the_wall_clock_reads_no_less_than_its_floor_from_there_on() {
        let zone = Tz::America__New_York;
        let check = |utc: &str, floor: &str| {
            let millis = |text: &str| text.parse::<NaiveDateTime>().expect("a time").and_utc().timestamp_millis();
            assert_eq!(wall_floor_millis(millis(utc), zone), millis(floor), "{utc}");
        };
        check("2024-07-01T12:00:00", "2024-07-01T08:00:00");
        // The clock goes from 02:00 back to 01:00 at 06:00 UTC.
        check("2024-11-03T04:59:59", "2024-11-03T00:59:59");
        check("2024-11-03T05:00:00", "2024-11-03T01:00:00");
        check("2024-11-03T05:59:59", "2024-11-03T01:00:00");
        check("2024-11-03T06:00:00", "2024-11-03T01:00:00");
        check("2024-11-03T06:00:01", "2024-11-03T01:00:01");
        // And from 02:00 on to 03:00 at 07:00 UTC.
        check("2024-03-10T06:59:59", "2024-03-10T01:59:59");
        check("2024-03-10T07:00:00", "2024-03-10T03:00:00");
    }

    #[test]
    fn agrees_with_chrono_on_every_97th_day_of_10000_years() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        for day in (-719_162..2_932_000).step_by(97) {
            let date = epoch + chrono::Duration::days(day);
            let Civil { year, month, day: of_month } = civil(day);
            assert_eq!((year, month, of_month), (date.year().into(), date.month().into(), date.day().into()));
            assert_eq!(day_number(year, month, of_month), day);
            assert_eq!(weekday(day), i64::from(date.weekday().num_days_from_sunday()));
            let week = date.iso_week();
            assert_eq!(iso_week(day), (week.year().into(), week.week().into()));
        }
    }
}

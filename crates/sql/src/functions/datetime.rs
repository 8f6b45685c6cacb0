//! Parts of dates and times: EXTRACT, YEAR .. SECOND.

use arrow_array::ArrayRef;
use arrow_array::types::Int64Type;
use datafusion::common::{Result, exec_err};

use super::call::Call;
use super::function::Function;
use super::temporal::{Moment, Moments, SECOND, day_number, iso_week, weekday};

macro_rules! part {
    ($name:literal, $signature:literal, $doc:literal, $example:expr, $of:expr) => {
        Function::new($name, $signature, $doc, &[$example], |call| of(call, 0, $of))
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "extract",
        "EXTRACT(STRING, TEMPORAL) -> BIGINT",
        "A part of a date or time. SQL: `EXTRACT(unit FROM time)`; units: MILLENNIUM, CENTURY, DECADE, YEAR, ISOYEAR, \
         QUARTER, MONTH, WEEK, DAY, DOY, DOW, ISODOW, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND, NANOSECOND, EPOCH.",
        &[("EXTRACT(HOUR FROM TIMESTAMP '2020-02-29 12:34:56')", "12")],
        extract,
    )
    .aliases(&["date_part"]),
    part!("year", "YEAR(TEMPORAL) -> BIGINT", "The year.", ("YEAR(DATE '2020-02-29')", "2020"), |moment| moment.civil().year),
    part!("quarter", "QUARTER(TEMPORAL) -> BIGINT", "The quarter, 1 to 4.", ("QUARTER(DATE '2020-12-31')", "4"), |moment| {
        (moment.civil().month - 1) / 3 + 1
    }),
    part!("month", "MONTH(TEMPORAL) -> BIGINT", "The month, 1 to 12.", ("MONTH(DATE '2020-02-29')", "2"), |moment| {
        moment.civil().month
    }),
    part!("week", "WEEK(TEMPORAL) -> BIGINT", "The ISO week, 1 to 53.", ("WEEK(DATE '2021-01-01')", "53"), |moment| {
        iso_week(moment.day).1
    }),
    part!("dayofyear", "DAYOFYEAR(TEMPORAL) -> BIGINT", "The day of the year, from 1.", ("DAYOFYEAR(DATE '2020-12-31')", "366"), |moment| {
        day_of_year(moment)
    }),
    part!("dayofmonth", "DAYOFMONTH(TEMPORAL) -> BIGINT", "The day of the month, from 1.", ("DAYOFMONTH(DATE '2020-02-29')", "29"), |moment| {
        moment.civil().day
    }),
    part!(
        "dayofweek",
        "DAYOFWEEK(TEMPORAL) -> BIGINT",
        "The day of the week, 1 is Sunday.",
        ("DAYOFWEEK(DATE '2020-03-01')", "1"),
        |moment| weekday(moment.day) + 1
    ),
    part!("hour", "HOUR(TEMPORAL) -> BIGINT", "The hour, 0 to 23.", ("HOUR(TIME '12:34:56')", "12"), |moment| moment.hour()),
    part!("minute", "MINUTE(TEMPORAL) -> BIGINT", "The minute.", ("MINUTE(TIME '12:34:56')", "34"), |moment| moment.minute()),
    part!("second", "SECOND(TEMPORAL) -> BIGINT", "The second.", ("SECOND(TIME '12:34:56')", "56"), |moment| moment.second()),
];

fn of(call: &Call<'_>, index: usize, part: fn(Moment) -> i64) -> Result<ArrayRef> {
    let moments = Moments::new(call, index)?;
    call.build_numbers::<Int64Type>(|row| Ok(moments.get(row).map(part)))
}

fn extract(call: &Call<'_>) -> Result<ArrayRef> {
    let unit = call.text(0)?;
    let moments = Moments::new(call, 1)?;
    call.build_numbers::<Int64Type>(|row| {
        let (Some(unit), Some(moment)) = (unit.get(row), moments.get(row)) else { return Ok(None) };
        part(unit, moment).map(Some)
    })
}

fn part(unit: &str, moment: Moment) -> Result<i64> {
    let civil = || moment.civil();
    let fraction = moment.nanos % SECOND;
    Ok(match unit.to_ascii_uppercase().as_str() {
        "MILLENNIUM" => (civil().year - 1).div_euclid(1000) + 1,
        "CENTURY" => (civil().year - 1).div_euclid(100) + 1,
        "DECADE" => civil().year.div_euclid(10),
        "YEAR" => civil().year,
        "ISOYEAR" => iso_week(moment.day).0,
        "QUARTER" => (civil().month - 1) / 3 + 1,
        "MONTH" => civil().month,
        "WEEK" => iso_week(moment.day).1,
        "DAY" => civil().day,
        "DOY" => day_of_year(moment),
        "DOW" => weekday(moment.day) + 1,
        "ISODOW" => (weekday(moment.day) + 6) % 7 + 1,
        "HOUR" => moment.hour(),
        "MINUTE" => moment.minute(),
        "SECOND" => moment.second(),
        "MILLISECOND" => fraction / 1_000_000,
        "MICROSECOND" => fraction / 1000,
        "NANOSECOND" => fraction,
        "EPOCH" => moment.to_millis().div_euclid(1000),
        _ => return exec_err!("EXTRACT does not know the unit {unit}"),
    })
}

fn day_of_year(moment: Moment) -> i64 {
    moment.day - day_number(moment.civil().year, 1, 1) + 1
}

//! Reading booleans, dates and times from text.

use crate::functions::number_text::java_trim;
use crate::functions::temporal::{Moment, SECOND, day_number, days_in_month, valid_day};

pub(super) fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Reads `2020-02-29`; month and day may be missing or of one digit, and a time after a space is ignored.
pub(in crate::functions) fn parse_date(text: &str) -> Option<i64> {
    let text = java_trim(text);
    let date = text.split_once(' ').map_or(text, |(date, _)| date);
    let (year, month, day) = date_parts(date)?;
    valid_day(year, month, day)
}

/// Reads `12:34:56.789`; seconds may be missing.
pub(super) fn parse_time(text: &str) -> Option<Moment> {
    let text = java_trim(text);
    let nanos = match text.matches(':').count() {
        1 => clock(text, Some("0"))?,
        _ => clock(text, None)?,
    };
    (nanos < 86_400 * SECOND).then_some(Moment { day: 0, nanos })
}

/// Reads `2020-02-29 12:34:56.789`, or a date alone; a day past the month's end is the last one.
pub(in crate::functions) fn parse_timestamp(text: &str) -> Option<Moment> {
    let text = java_trim(text);
    let (date, time) = text.split_once(' ').map_or((text, None), |(date, time)| (date, Some(time)));
    if date.matches('-').count() != 2 {
        return None;
    }
    let (year, month, day) = date_parts(date)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let day = day_number(year, month, day.min(days_in_month(year, month)));
    let nanos = match time {
        Some(time) => clock(time, None)?,
        None => 0,
    };
    Some(Moment::from_nanos(day, nanos))
}

fn date_parts(text: &str) -> Option<(i64, i64, i64)> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    parts.next().is_none().then_some((year, month, day))
}

/// Nanoseconds of `H:M:S[.fraction]`, at most 24:00:00; `seconds` stands in for missing ones.
fn clock(text: &str, seconds: Option<&str>) -> Option<i64> {
    let (text, fraction) = text.split_once('.').map_or((text, ""), |(text, fraction)| (text, fraction));
    let mut parts = text.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = digits(parts.next().or(seconds)?, 2)?;
    if parts.next().is_some() || hour > 24 || minute > 59 || second > 59 || fraction.len() > 9 {
        return None;
    }
    let fraction = if fraction.is_empty() { 0 } else { digits(fraction, 9)? * 10_i64.pow(9 - fraction.len() as u32) };
    let nanos = ((hour * 60 + minute) * 60 + second) * SECOND + fraction;
    (nanos <= 86_400 * SECOND).then_some(nanos)
}

fn digits(text: &str, most: usize) -> Option<i64> {
    let sound = !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

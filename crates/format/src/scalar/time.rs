//! Dates, times and timestamps from text and back, in the two standards of Flink's formats.
//!
//! `SQL` is `2013-01-01 10:00:00.123`, `ISO-8601` is `2013-01-01T10:00:00.123`; both are read whichever is configured,
//! and the standard decides only what is written. Years have four digits, seconds may be left out, a fraction has up to
//! nine digits, and digits finer than the column keeps are cut off.

use arrow_schema::TimeUnit;
use tidemill_base::time::{civil_from_days, days_from_civil};

use super::number::Misfit;

/// How timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampStandard {
    /// `2013-01-01 10:00:00.123`
    #[default]
    Sql,
    /// `2013-01-01T10:00:00.123`
    Iso8601,
}

const NANOS: u32 = 1_000_000_000;

/// A point in time as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970-01-01T00:00:00 of the clock it was written by.
    pub(crate) seconds: i64,
    /// Nanoseconds of the second.
    pub(crate) nanos: u32,
    /// Seconds east of UTC, when a zone was written.
    pub(crate) offset: Option<i32>,
}

impl Moment {
    /// The moment in `unit`s since the epoch, in UTC when a zone was written.
    pub(crate) fn in_unit(self, unit: TimeUnit) -> Result<i64, Misfit> {
        let per_second = per_second(unit);
        let seconds = self.seconds - i64::from(self.offset.unwrap_or(0));
        let fraction = i64::from(self.nanos) / (i64::from(NANOS) / per_second);
        seconds.checked_mul(per_second).and_then(|value| value.checked_add(fraction)).ok_or(Misfit::Range)
    }
}

/// How many of `unit` make a second.
pub(crate) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn two(bytes: &[u8], at: usize) -> Result<u32, Misfit> {
    match bytes.get(at..at + 2) {
        Some([a @ b'0'..=b'9', b @ b'0'..=b'9']) => Ok(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => Err(Misfit::Form),
    }
}

fn expect(bytes: &[u8], at: usize, wanted: u8) -> Result<(), Misfit> {
    if bytes.get(at) == Some(&wanted) { Ok(()) } else { Err(Misfit::Form) }
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of the ten bytes `YYYY-MM-DD` that `bytes` starts with.
fn date_prefix(bytes: &[u8]) -> Result<i64, Misfit> {
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    expect(bytes, 4, b'-')?;
    let month = two(bytes, 5)?;
    expect(bytes, 7, b'-')?;
    let day = two(bytes, 8)?;
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Err(Misfit::Range);
    }
    Ok(days_from_civil(i64::from(year), month, day))
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(crate) fn date(text: &str) -> Result<i32, Misfit> {
    if text.len() != 10 {
        return Err(Misfit::Form);
    }
    Ok(date_prefix(text.as_bytes())? as i32)
}

/// Seconds of the day and nanoseconds of the `HH:MM[:SS[.fraction]]` at the start of `bytes`, and its length.
fn clock_prefix(bytes: &[u8]) -> Result<(u32, u32, usize), Misfit> {
    let hour = two(bytes, 0)?;
    expect(bytes, 2, b':')?;
    let minute = two(bytes, 3)?;
    let (mut second, mut nanos, mut length) = (0, 0, 5);
    if bytes.get(5) == Some(&b':') {
        second = two(bytes, 6)?;
        length = 8;
        if bytes.get(8) == Some(&b'.') {
            let digits = bytes[9..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return Err(Misfit::Form);
            }
            nanos = bytes[9..9 + digits].iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
            nanos *= 10_u32.pow(9 - digits as u32);
            length = 9 + digits;
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Misfit::Range);
    }
    Ok((hour * 3_600 + minute * 60 + second, nanos, length))
}

/// Nanoseconds of the day of `HH:MM[:SS[.fraction]]`.
pub(crate) fn clock(text: &str) -> Result<i64, Misfit> {
    let (seconds, nanos, length) = clock_prefix(text.as_bytes())?;
    if length != text.len() {
        return Err(Misfit::Form);
    }
    Ok(i64::from(seconds) * i64::from(NANOS) + i64::from(nanos))
}

/// Reads `YYYY-MM-DD`, a space or `T`, `HH:MM[:SS[.fraction]]` and perhaps a zone: `Z`, `+02:00` or `+0200`.
pub(crate) fn moment(text: &str) -> Result<Moment, Misfit> {
    let bytes = text.as_bytes();
    let days = date_prefix(bytes)?;
    if !matches!(bytes.get(10), Some(b' ' | b'T')) {
        return Err(Misfit::Form);
    }
    let (seconds, nanos, length) = clock_prefix(&bytes[11..])?;
    let offset = zone(&bytes[11 + length..])?;
    Ok(Moment { seconds: days * 86_400 + i64::from(seconds), nanos, offset })
}

fn zone(bytes: &[u8]) -> Result<Option<i32>, Misfit> {
    let sign = match bytes.first() {
        None => return Ok(None),
        Some(b'Z') if bytes.len() == 1 => return Ok(Some(0)),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return Err(Misfit::Form),
    };
    let minutes_at = if bytes.get(3) == Some(&b':') { 4 } else { 3 };
    let (hours, minutes) = (two(bytes, 1)?, two(bytes, minutes_at)?);
    if bytes.len() != minutes_at + 2 {
        return Err(Misfit::Form);
    }
    if hours > 18 || minutes > 59 {
        return Err(Misfit::Range);
    }
    Ok(Some(sign * (hours * 3_600 + minutes * 60) as i32))
}

/// How many digits of a second's fraction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fraction {
    /// As many as the value needs, and no point when there are none.
    Needed,
    /// As many as the unit has.
    All,
}

/// The last `N` digits of a number.
fn digits<const N: usize>(mut value: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    digits
}

/// Appends `YYYY-MM-DD`.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if year < 0 {
        out.push(b'-');
    }
    let year = year.unsigned_abs();
    if year > 9_999 {
        out.extend_from_slice(year.to_string().as_bytes());
    } else {
        out.extend_from_slice(&digits::<4>(year));
    }
    let mut text = *b"-00-00";
    text[1..3].copy_from_slice(&digits::<2>(month.into()));
    text[4..].copy_from_slice(&digits::<2>(day.into()));
    out.extend_from_slice(&text);
}

/// Appends `HH:MM:SS` and the fraction of a time of day counted in `unit`.
pub(crate) fn write_clock(value: i64, unit: TimeUnit, fraction: Fraction, out: &mut Vec<u8>) {
    let (seconds, part) = in_seconds(value, unit);
    write_seconds(seconds as u64, out);
    write_fraction(part as u64, unit, fraction, out);
}

fn write_seconds(seconds: u64, out: &mut Vec<u8>) {
    let mut text = *b"00:00:00";
    text[..2].copy_from_slice(&digits::<2>(seconds / 3_600));
    text[3..5].copy_from_slice(&digits::<2>(seconds / 60 % 60));
    text[6..].copy_from_slice(&digits::<2>(seconds % 60));
    out.extend_from_slice(&text);
}

fn write_fraction(part: u64, unit: TimeUnit, fraction: Fraction, out: &mut Vec<u8>) {
    if part == 0 && fraction == Fraction::Needed {
        return;
    }
    let whole = out.len();
    match unit {
        TimeUnit::Second => return,
        TimeUnit::Millisecond => out.extend_from_slice(&digits::<4>(part)),
        TimeUnit::Microsecond => out.extend_from_slice(&digits::<7>(part)),
        TimeUnit::Nanosecond => out.extend_from_slice(&digits::<10>(part)),
    }
    out[whole] = b'.';
    if fraction == Fraction::Needed {
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Whole seconds, and what is left in the unit. Each division is by a number that the compiler knows.
fn in_seconds(value: i64, unit: TimeUnit) -> (i64, i64) {
    match unit {
        TimeUnit::Second => (value, 0),
        TimeUnit::Millisecond => (value.div_euclid(1_000), value.rem_euclid(1_000)),
        TimeUnit::Microsecond => (value.div_euclid(1_000_000), value.rem_euclid(1_000_000)),
        TimeUnit::Nanosecond => (value.div_euclid(1_000_000_000), value.rem_euclid(1_000_000_000)),
    }
}

/// Appends a timestamp counted in `unit`s since the epoch; `separator` stands between date and time.
pub(crate) fn write_timestamp(value: i64, unit: TimeUnit, separator: u8, fraction: Fraction, out: &mut Vec<u8>) {
    let (seconds, part) = in_seconds(value, unit);
    write_date(seconds.div_euclid(86_400), out);
    out.push(separator);
    write_seconds(seconds.rem_euclid(86_400) as u64, out);
    write_fraction(part as u64, unit, fraction, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Result<i64, Misfit> {
        moment(text)?.in_unit(TimeUnit::Millisecond)
    }

    #[test]
    fn reads_both_standards() {
        let check = |text: &str, expected: Result<i64, Misfit>| assert_eq!(millis(text), expected, "{text}");
        check("2013-01-01 10:00:00.123", Ok(1_357_034_400_123));
        check("2013-01-01T10:00:00.123", Ok(1_357_034_400_123));
        check("2013-01-01T10:00:00.123999999", Ok(1_357_034_400_123));
        check("2013-01-01 10:00:00", Ok(1_357_034_400_000));
        check("2013-01-01 10:00", Ok(1_357_034_400_000));
        check("2013-01-01T10:00:00Z", Ok(1_357_034_400_000));
        check("2013-01-01T12:00:00+02:00", Ok(1_357_034_400_000));
        check("2013-01-01T08:00:00-0200", Ok(1_357_034_400_000));
        check("1969-12-31 23:59:59.999", Ok(-1));
        check("0000-01-01 00:00:00", Ok(-62_167_219_200_000));
        check("2012-02-29 00:00:00", Ok(1_330_473_600_000));
        check("2013-02-29 00:00:00", Err(Misfit::Range));
        check("1900-02-29 00:00:00", Err(Misfit::Range));
        check("2013-13-01 00:00:00", Err(Misfit::Range));
        check("2013-01-01 24:00:00", Err(Misfit::Range));
        check("2013-01-01 23:59:60", Err(Misfit::Range));
        check("2013-01-01", Err(Misfit::Form));
        check("2013-01-01 10:00:00.", Err(Misfit::Form));
        check("2013-01-01 10:00:00.1234567890", Err(Misfit::Form));
        check("2013-01-01 10:00:00 ", Err(Misfit::Form));
        check("2013-1-1 10:00:00", Err(Misfit::Form));
        check("2013-01-01 1é:00:00", Err(Misfit::Form));
    }

    #[test]
    fn nanoseconds_have_their_range() {
        assert_eq!(moment("2300-01-01 00:00:00").and_then(|at| at.in_unit(TimeUnit::Nanosecond)), Err(Misfit::Range));
    }

    #[test]
    fn reads_dates_and_times() {
        assert_eq!(date("1970-01-02"), Ok(1));
        assert_eq!(date("1969-12-31"), Ok(-1));
        assert_eq!(date("1970-01-02 "), Err(Misfit::Form));
        assert_eq!(clock("00:00:01.5"), Ok(1_500_000_000));
        assert_eq!(clock("25:00:00"), Err(Misfit::Range));
        assert_eq!(clock("10:00:00Z"), Err(Misfit::Form));
    }

    #[test]
    fn writes_what_it_reads() {
        let check = |value, unit, fraction, expected: &str| {
            let mut out = Vec::new();
            write_timestamp(value, unit, b' ', fraction, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(1_357_034_400_120, TimeUnit::Millisecond, Fraction::Needed, "2013-01-01 10:00:00.12");
        check(1_357_034_400_120, TimeUnit::Millisecond, Fraction::All, "2013-01-01 10:00:00.120");
        check(1_357_034_400_000, TimeUnit::Millisecond, Fraction::Needed, "2013-01-01 10:00:00");
        check(-1, TimeUnit::Microsecond, Fraction::Needed, "1969-12-31 23:59:59.999999");
        check(0, TimeUnit::Second, Fraction::All, "1970-01-01 00:00:00");
    }
}

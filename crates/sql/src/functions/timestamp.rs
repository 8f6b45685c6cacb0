//! Between times and text or numbers: DATE_FORMAT, TO_TIMESTAMP, FROM_UNIXTIME and their like.

use std::rc::Rc;

use arrow_array::ArrayRef;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_schema::{DataType, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::{Result, exec_err};

use super::call::{Call, Text};
use super::cast::{parse_date, parse_timestamp};
use super::date_format::{DEFAULT, Pattern, Writer};
use super::function::Function;
use super::signature::{instant, is_text};
use super::temporal::{
    Ambiguous, Moment, Moments, build_moments, from_wall_millis, parse_zone, to_wall_millis, wall_floor_millis,
};

/// What a watermark over TIMESTAMP_LTZ becomes where windows are cut by the session's wall clock.
pub(super) const WALL_FLOOR: Function = Function::new(
    "$wall_floor",
    "$wall_floor(TIMESTAMP_LTZ) -> TIMESTAMP",
    "The least that the session's wall clock reads from a time on.",
    &[],
    wall_floor,
);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "date_format",
        "DATE_FORMAT(TIMESTAMP, STRING) -> STRING; DATE_FORMAT(TIMESTAMP_LTZ, STRING) -> STRING; DATE_FORMAT(STRING, STRING) -> STRING",
        "A time as text by a pattern of Java's letters (`yyyy MM dd HH mm ss SSS`, also `u L D Q w E a h k K n` and quoted text).",
        &[("DATE_FORMAT(TIMESTAMP '2020-02-29 12:34:56', 'yyyy-MM-dd HH:mm')", "2020-02-29 12:34")],
        date_format,
    ),
    Function::new(
        "to_timestamp",
        "TO_TIMESTAMP(STRING[, STRING]) -> TIMESTAMP",
        "The TIMESTAMP(3) that a text says, by `yyyy-MM-dd HH:mm:ss` or a pattern; NULL when it says none.",
        &[("CAST(TO_TIMESTAMP('2020-02-29 12:34:56') AS STRING)", "2020-02-29 12:34:56.000")],
        to_timestamp,
    ),
    Function::new(
        "to_timestamp_ltz",
        "TO_TIMESTAMP_LTZ(BIGINT[, INT]) -> TIMESTAMP_LTZ; TO_TIMESTAMP_LTZ(DOUBLE[, INT]) -> TIMESTAMP_LTZ; \
         TO_TIMESTAMP_LTZ(STRING[, STRING, STRING]) -> TIMESTAMP_LTZ",
        "The point in time of an epoch in seconds (0) or milliseconds (3, the default), or of a text by a pattern in a zone.",
        &[("CAST(TO_TIMESTAMP_LTZ(1582979696, 0) AS STRING)", "2020-02-29 12:34:56.000")],
        to_timestamp_ltz,
    )
    .returns(|_| Ok(instant(TimeUnit::Millisecond))),
    Function::new(
        "to_date",
        "TO_DATE(STRING[, STRING]) -> DATE",
        "The date that a text says, by `yyyy-MM-dd` or a pattern; NULL when it says none.",
        &[("TO_DATE('29.02.2020', 'dd.MM.yyyy')", "2020-02-29")],
        to_date,
    ),
    Function::new(
        "from_unixtime",
        "FROM_UNIXTIME(BIGINT[, STRING]) -> STRING",
        "An epoch in seconds as text in the session's time zone, by `yyyy-MM-dd HH:mm:ss` or a pattern.",
        &[("FROM_UNIXTIME(44)", "1970-01-01 00:00:44")],
        from_unixtime,
    ),
    Function::new(
        "unix_timestamp",
        "UNIX_TIMESTAMP([STRING, STRING]) -> BIGINT",
        "The epoch in seconds: the step's, or what a text says in the session's time zone by a pattern.",
        &[("UNIX_TIMESTAMP('2020-02-29 12:34:56')", "1582979696")],
        unix_timestamp,
    )
    .volatile(),
    Function::new(
        "convert_tz",
        "CONVERT_TZ(STRING, STRING, STRING) -> STRING",
        "A time as text, of the second argument's zone, on the clock of the third's.",
        &[("CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles')", "1969-12-31 16:00:00")],
        convert_tz,
    ),
];

fn wall_floor(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = Moments::of(call.array(0)?, false, Tz::UTC)?;
    let zone = call.session.zone;
    call.build_numbers::<TimestampMillisecondType>(|row| {
        Ok(moments.get(row).map(|moment| wall_floor_millis(moment.to_millis(), zone)))
    })
}

/// The pattern of each row, compiled once when it is a literal or the default.
struct Patterns<'a> {
    text: Text<'a>,
    shared: Option<Rc<Pattern>>,
}

impl<'a> Patterns<'a> {
    fn new(call: &Call<'a>, index: usize) -> Result<Self> {
        let text = if call.count() > index { call.text(index)? } else { Text::One(Some(DEFAULT)) };
        let shared = match text {
            Text::One(Some(text)) => Some(compiled(text)?),
            _ => None,
        };
        Ok(Patterns { text, shared })
    }

    fn at(&self, row: usize) -> Result<Option<Rc<Pattern>>> {
        match (&self.shared, self.text.get(row)) {
            (Some(pattern), _) => Ok(Some(Rc::clone(pattern))),
            (None, Some(text)) => compiled(text).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Builds a text column of formatted moments.
    fn format(&self, call: &Call<'_>, moment: impl Fn(usize) -> Option<Moment>) -> Result<ArrayRef> {
        let mut shared: Option<Writer> = self.shared.as_ref().map(Pattern::writer);
        call.write_text(|row, out| {
            let Some(moment) = moment(row) else { return Ok(None) };
            match &mut shared {
                Some(writer) => writer.write(moment, out),
                None => match self.at(row)? {
                    Some(pattern) => pattern.writer().write(moment, out),
                    None => return Ok(None),
                },
            }
            Ok(Some(()))
        })
    }
}

fn compiled(text: &str) -> Result<Rc<Pattern>> {
    match Pattern::cached(text) {
        Ok(pattern) => Ok(pattern),
        Err(reason) => exec_err!("{reason}"),
    }
}

fn date_format(call: &Call<'_>) -> Result<ArrayRef> {
    let patterns = Patterns::new(call, 1)?;
    if is_text(&call.data_type(0)) {
        let (text, default) = (call.text(0)?, compiled(DEFAULT)?);
        return patterns.format(call, |row| default.read(text.get(row)?));
    }
    let moments = Moments::new(call, 0)?;
    patterns.format(call, |row| moments.get(row))
}

fn to_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    if call.count() == 1 {
        return build_moments(call.result, call.rows, call.session.zone, |row| {
            let text = text.get(row).filter(|text| !text.starts_with(' ') && !text.ends_with(' '));
            Ok(text.and_then(parse_timestamp))
        });
    }
    let patterns = Patterns::new(call, 1)?;
    build_moments(call.result, call.rows, call.session.zone, |row| {
        let (Some(text), Some(pattern)) = (text.get(row), patterns.at(row)?) else { return Ok(None) };
        Ok(pattern.read(text).or_else(|| plain_timestamp(text)))
    })
}

/// What a text that does not fit its pattern may still be: a full date and time.
fn plain_timestamp(text: &str) -> Option<Moment> {
    text.trim().contains(' ').then(|| parse_timestamp(text)).flatten()
}

fn to_timestamp_ltz(call: &Call<'_>) -> Result<ArrayRef> {
    if is_text(&call.data_type(0)) {
        return instant_of_text(call);
    }
    let precision = if call.count() > 1 { Some(call.numbers::<Int32Type>(1)?) } else { None };
    let precision = |row: usize| precision.as_ref().map_or(Some(3), |precision| precision.get(row));
    let unsupported = |precision: i32| {
        exec_err!(
            "TO_TIMESTAMP_LTZ takes an epoch in seconds (precision 0) or milliseconds (3), not precision {precision}"
        )
    };
    if call.data_type(0) == DataType::Float64 {
        let epoch = call.numbers::<Float64Type>(0)?;
        return call.build_numbers::<TimestampMillisecondType>(|row| match (epoch.get(row), precision(row)) {
            (Some(epoch), Some(0)) => Ok(Some((epoch * 1000.0) as i64)),
            (Some(epoch), Some(3)) => Ok(Some(epoch as i64)),
            (Some(_), Some(precision)) => unsupported(precision),
            _ => Ok(None),
        });
    }
    let epoch = call.numbers::<Int64Type>(0)?;
    call.build_numbers::<TimestampMillisecondType>(|row| match (epoch.get(row), precision(row)) {
        (Some(epoch), Some(0)) => match epoch.checked_mul(1000) {
            Some(millis) => Ok(Some(millis)),
            None => exec_err!("the epoch {epoch} s does not fit a timestamp"),
        },
        (Some(epoch), Some(3)) => Ok(Some(epoch)),
        (Some(_), Some(precision)) => unsupported(precision),
        _ => Ok(None),
    })
}

fn instant_of_text(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = if call.count() > 1 { Some(Patterns::new(call, 1)?) } else { None };
    let zone = if call.count() > 2 { Some(call.text(2)?) } else { None };
    call.build_numbers::<TimestampMillisecondType>(|row| {
        let Some(text) = text.get(row) else { return Ok(None) };
        let moment = match &patterns {
            None => parse_timestamp(text),
            Some(patterns) => match patterns.at(row)? {
                Some(pattern) => pattern.read(text).or_else(|| plain_timestamp(text)),
                None => return Ok(None),
            },
        };
        let Some(wall) = moment.map(Moment::to_millis) else { return exec_err!("'{text}' is not a timestamp") };
        match zone.as_ref().map(|zone| zone.get(row)) {
            None => Ok(Some(from_wall_millis(wall, call.session.zone, Ambiguous::Earlier))),
            Some(None) => Ok(None),
            Some(Some(zone)) => Ok(Some(parse_zone(zone)?.to_instant(wall, Ambiguous::Earlier))),
        }
    })
}

fn to_date(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = if call.count() > 1 { Some(Patterns::new(call, 1)?) } else { None };
    build_moments(call.result, call.rows, call.session.zone, |row| {
        let Some(text) = text.get(row) else { return Ok(None) };
        match &patterns {
            None => Ok(parse_date(text).map(|day| Moment { day, nanos: 0 })),
            Some(patterns) => Ok(patterns.at(row)?.and_then(|pattern| pattern.read_lenient(text))),
        }
    })
}

fn from_unixtime(call: &Call<'_>) -> Result<ArrayRef> {
    let (epoch, patterns) = (call.numbers::<Int64Type>(0)?, Patterns::new(call, 1)?);
    patterns.format(call, |row| {
        let millis = epoch.get(row)?.saturating_mul(1000);
        Some(Moment::from_millis(to_wall_millis(millis, call.session.zone)))
    })
}

fn unix_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    if call.count() == 0 {
        let seconds = call.session.step.now_millis().div_euclid(1000);
        return call.build_numbers::<Int64Type>(|_| Ok(Some(seconds)));
    }
    let (text, patterns) = (call.text(0)?, Patterns::new(call, 1)?);
    call.build_numbers::<Int64Type>(|row| {
        let (Some(text), Some(pattern)) = (text.get(row), patterns.at(row)?) else { return Ok(None) };
        // Flink answers the least BIGINT for a text that is no time.
        Ok(Some(pattern.read_lenient(text).map_or(i64::MIN, |wall| {
            from_wall_millis(wall.to_millis(), call.session.zone, Ambiguous::Later).div_euclid(1000)
        })))
    })
}

fn convert_tz(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let pattern = compiled(DEFAULT)?;
    let mut writer = pattern.writer();
    call.write_text(|row, out| {
        let (Some(text), Some(from), Some(to)) = (text.get(row), from.get(row), to.get(row)) else { return Ok(None) };
        let Some(wall) = pattern.read_lenient(text) else { return Ok(None) };
        let millis = parse_zone(from)?.to_instant(wall.to_millis(), Ambiguous::Later);
        writer.write(Moment::from_millis(parse_zone(to)?.to_wall(millis)), out);
        Ok(Some(()))
    })
}

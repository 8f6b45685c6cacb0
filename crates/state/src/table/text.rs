//! Values from text and JSON, and back.
//!
//! Numbers are JSON numbers or texts of digits (a DECIMAL is written as text, which keeps every digit), times are texts
//! in SQL's form or RFC 3339's, bytes are base64. Reading is strict: what does not fit its type is refused, never cut.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Number, Value as Json};
use tidemill_base::time::{civil_from_days, days_from_civil};

use super::types::Type;
use super::value::Value;

/// Reads a value of a type from JSON; none when it is no such value.
pub(crate) fn from_json(kind: &Type, json: &Json) -> Option<Value> {
    match (kind, json) {
        (_, Json::Null) => Some(Value::Null),
        (Type::Boolean, Json::Bool(value)) => Some(Value::Boolean(*value)),
        (Type::Array(item), Json::Array(items)) => {
            items.iter().map(|json| from_json(item, json)).collect::<Option<_>>().map(Value::Array)
        }
        (_, Json::Number(number)) if kind.is_number() => from_number(kind, number),
        (Type::Boolean | Type::Array(_), _) => None,
        (_, Json::String(text)) => from_text(kind, text),
        _ => None,
    }
}

fn from_number(kind: &Type, number: &Number) -> Option<Value> {
    match kind {
        Type::Float | Type::Double => float(kind, number.as_f64()?),
        // A fraction that JSON's reader has rounded to a double is taken only when its shortest text is exact enough.
        Type::Decimal { .. } if number.is_f64() => {
            let text = format!("{}", number.as_f64()?);
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            if digits <= 15 { from_text(kind, &text) } else { None }
        }
        _ => from_text(kind, &number.to_string()),
    }
}

/// Reads a value of a type from its text, as in CSV; none when it is no such value. No text is NULL.
pub(crate) fn from_text(kind: &Type, text: &str) -> Option<Value> {
    match kind {
        Type::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Some(Value::Boolean(true)),
            "false" => Some(Value::Boolean(false)),
            _ => None,
        },
        Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt => {
            let value = text.parse().ok()?;
            kind.integers()?.contains(&value).then_some(Value::Integer(value))
        }
        Type::Float | Type::Double => float(kind, text.parse().ok()?),
        Type::Decimal { precision, scale } => decimal(text, *precision, *scale).map(Value::Decimal),
        Type::Char(length) => (characters(text) == *length as usize).then(|| Value::String(text.to_string())),
        Type::String(None) => Some(Value::String(text.to_string())),
        Type::String(Some(most)) => (characters(text) <= *most as usize).then(|| Value::String(text.to_string())),
        Type::Binary(length) => {
            BASE64.decode(text).ok().filter(|bytes| bytes.len() == *length as usize).map(Value::Bytes)
        }
        Type::Bytes(most) => {
            let fits = |bytes: &Vec<u8>| most.is_none_or(|most| bytes.len() <= most as usize);
            BASE64.decode(text).ok().filter(fits).map(Value::Bytes)
        }
        Type::Date => date(text).and_then(|days| i32::try_from(days).ok()).map(Value::Date),
        Type::Time(_) => {
            let (nanos, rest) = clock(text)?;
            rest.is_empty().then(|| Value::Time(nanos / (1_000_000_000 / kind.per_second())))
        }
        Type::Timestamp(_) | Type::TimestampLtz(_) => timestamp(kind, text).map(Value::Timestamp),
        Type::Array(_) => from_json(kind, &serde_json::from_str(text).ok().filter(Json::is_array)?),
    }
}

/// Whether a value is one of the type: of its kind, and within its range.
pub(crate) fn fits(kind: &Type, value: &Value) -> bool {
    match (kind, value) {
        (_, Value::Null) | (Type::Boolean, Value::Boolean(_)) | (Type::Double, Value::Float(_)) => true,
        (Type::Float, Value::Float(value)) => value.is_nan() || f64::from(*value as f32) == *value,
        (_, Value::Integer(value)) => kind.integers().is_some_and(|range| range.contains(value)),
        (Type::Decimal { precision, .. }, Value::Decimal(value)) => within(*value, *precision),
        (Type::Char(length), Value::String(text)) => characters(text) == *length as usize,
        (Type::String(most), Value::String(text)) => most.is_none_or(|most| characters(text) <= most as usize),
        (Type::Binary(length), Value::Bytes(bytes)) => bytes.len() == *length as usize,
        (Type::Bytes(most), Value::Bytes(bytes)) => most.is_none_or(|most| bytes.len() <= most as usize),
        (Type::Date, Value::Date(_)) => true,
        (Type::Time(_), Value::Time(value)) => (0..86_400 * kind.per_second()).contains(value),
        (Type::Timestamp(_) | Type::TimestampLtz(_), Value::Timestamp(_)) => true,
        (Type::Array(item), Value::Array(values)) => values.iter().all(|value| fits(item, value)),
        _ => false,
    }
}

/// Writes a value of a type as JSON, from which it is read again.
pub(crate) fn to_json(kind: &Type, value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Float(value) => Number::from_f64(*value).map_or_else(|| Json::String(special(*value)), Json::Number),
        Value::Decimal(value) => Json::String(decimal_text(*value, kind)),
        Value::String(value) => Json::String(value.clone()),
        Value::Bytes(value) => Json::String(BASE64.encode(value)),
        Value::Date(days) => Json::String(date_text(i64::from(*days))),
        Value::Time(value) => Json::String(clock_text(kind, *value)),
        Value::Timestamp(value) => Json::String(timestamp_text(kind, *value)),
        Value::Array(values) => {
            let item = if let Type::Array(item) = kind { item } else { kind };
            Json::Array(values.iter().map(|value| to_json(item, value)).collect())
        }
    }
}

fn characters(text: &str) -> usize {
    text.chars().count()
}

fn float(kind: &Type, value: f64) -> Option<Value> {
    match kind {
        Type::Float if value.is_finite() => {
            let narrow = value as f32;
            narrow.is_finite().then(|| Value::Float(f64::from(narrow)))
        }
        _ => Some(Value::Float(value)),
    }
}

fn special(value: f64) -> String {
    let text = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    text.to_string()
}

/// Whether a decimal of so many digits can hold it.
pub(crate) fn within(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < 10_u128.pow(u32::from(precision))
}

/// Reads `[+-]digits[.digits][e[+-]digits]`; digits beyond the scale must be zeros.
fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut value = 0_i128;
    for digit in digits() {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let mut shift = i32::from(scale).checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    while shift != 0 && value != 0 {
        if shift > 0 {
            value = value.checked_mul(10)?;
            shift -= 1;
        } else if value % 10 == 0 {
            value /= 10;
            shift += 1;
        } else {
            return None;
        }
    }
    let value = if number.starts_with('-') { -value } else { value };
    within(value, precision).then_some(value)
}

fn decimal_text(value: i128, kind: &Type) -> String {
    let scale = if let Type::Decimal { scale, .. } = kind { usize::from(*scale) } else { 0 };
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The days since 1970-01-01 of `YYYY-MM-DD`.
fn date(text: &str) -> Option<i64> {
    let [year, month, day] = exactly(text, '-')?;
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day) = (digits(year)?, digits(month)? as u32, digits(day)? as u32);
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

fn date_text(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The nanoseconds since midnight of the `HH:MM[:SS[.fraction]]` in front, and what follows.
fn clock(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(text.len());
    let (time, rest) = text.split_at(end);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let parts: Vec<&str> = time.split(':').collect();
    if !matches!(parts.len(), 2 | 3) || parts.iter().any(|part| part.len() != 2) || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let number = |at: usize| parts.get(at).map_or(Some(0), |part| digits(part));
    let (hours, minutes, seconds) = (number(0)?, number(1)?, number(2)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let nanos = digits(fraction)? * 10_i64.pow(9 - fraction.len() as u32);
    Some((((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanos, rest))
}

fn clock_text(kind: &Type, value: i64) -> String {
    let per_second = kind.per_second();
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let width = per_second.ilog10() as usize;
    format!("{:02}:{:02}:{:02}.{fraction:0width$}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// `DATE{ |T}CLOCK[Z|+HH:MM|-HH:MM]`; a zone is needed for a point in time, and is UTC when left out.
fn timestamp(kind: &Type, text: &str) -> Option<i64> {
    let days = date(text.get(..10)?)?;
    let (nanos, zone) = clock(text[10..].strip_prefix([' ', 'T'])?)?;
    let seconds_east = match zone {
        "" | "Z" => 0,
        _ if matches!(kind, Type::Timestamp(_)) => return None,
        _ => {
            let (sign, rest) = (zone.get(..1)?, zone.get(1..)?);
            let (nanos, tail) = clock(rest).filter(|_| rest.len() == 5)?;
            let seconds = nanos / 1_000_000_000;
            match (sign, tail) {
                ("+", "") => seconds,
                ("-", "") => -seconds,
                _ => return None,
            }
        }
    };
    let per_second = kind.per_second();
    let seconds = days * 86_400 + nanos / 1_000_000_000 - seconds_east;
    let fraction = nanos % 1_000_000_000 / (1_000_000_000 / per_second);
    seconds.checked_mul(per_second)?.checked_add(fraction)
}

fn timestamp_text(kind: &Type, value: i64) -> String {
    let per_day = 86_400 * kind.per_second();
    let (days, in_day) = (value.div_euclid(per_day), value.rem_euclid(per_day));
    let zone = if matches!(kind, Type::TimestampLtz(_)) { "Z" } else { "" };
    format!("{} {}{zone}", date_text(days), clock_text(kind, in_day))
}

fn digits(text: &str) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn exactly(text: &str, separator: char) -> Option<[&str; 3]> {
    let mut parts = text.split(separator);
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: &str, json: &Json) -> Option<Value> {
        from_json(&kind.parse().expect("a type"), json)
    }

    #[test]
    fn values_are_read_and_written() {
        let check = |kind: &str, input: Json, written: Json| {
            let value = read(kind, &input).unwrap_or_else(|| panic!("{input} is no {kind}"));
            let kind: Type = kind.parse().expect("a type");
            assert!(fits(&kind, &value), "{kind} {input}");
            assert_eq!(to_json(&kind, &value), written);
            assert_eq!(from_json(&kind, &written), Some(value));
        };
        check("BOOLEAN", json!(true), json!(true));
        check("TINYINT", json!(-128), json!(-128));
        check("BIGINT", json!("9223372036854775807"), json!(i64::MAX));
        check("DOUBLE", json!(1), json!(1.0));
        check("DOUBLE", json!("Infinity"), json!("Infinity"));
        check("FLOAT", json!(0.1), json!(f64::from(0.1_f32)));
        check("DECIMAL(5, 2)", json!(1.5), json!("1.50"));
        check("DECIMAL(5, 2)", json!("-0.01"), json!("-0.01"));
        check("DECIMAL(5, 2)", json!("1e2"), json!("100.00"));
        check("DECIMAL(5, 0)", json!("12.000"), json!("12"));
        check("DECIMAL(38, 0)", json!("99999999999999999999999999999999999999"), json!("9".repeat(38)));
        check("STRING", json!("ä"), json!("ä"));
        check("CHAR(2)", json!("äö"), json!("äö"));
        check("VARCHAR(2)", json!("ä"), json!("ä"));
        check("BYTES", json!("AAE="), json!("AAE="));
        check("BINARY(2)", json!("AAE="), json!("AAE="));
        check("DATE", json!("2024-02-29"), json!("2024-02-29"));
        check("TIME(0)", json!("23:59"), json!("23:59:00.000"));
        check("TIME(6)", json!("01:02:03.5"), json!("01:02:03.500000"));
        check("TIMESTAMP(3)", json!("1969-12-31T23:59:59.999"), json!("1969-12-31 23:59:59.999"));
        check("TIMESTAMP(9)", json!("2024-01-01 00:00:00.000000001"), json!("2024-01-01 00:00:00.000000001"));
        check("TIMESTAMP_LTZ(3)", json!("2024-01-01T01:30:00+01:30"), json!("2024-01-01 00:00:00.000Z"));
        check("ARRAY<INT>", json!([1, null, 2]), json!([1, null, 2]));
        check("INT", Json::Null, Json::Null);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |kind: &str, input: Json| assert_eq!(read(kind, &input), None, "{kind} {input}");
        check("BOOLEAN", json!(1));
        check("BOOLEAN", json!("true"));
        check("TINYINT", json!(128));
        check("BIGINT", json!(1.5));
        check("BIGINT", json!("9223372036854775808"));
        check("INT", json!(true));
        check("FLOAT", json!(1e39));
        check("DECIMAL(5, 2)", json!("1.001"));
        check("DECIMAL(5, 2)", json!(1000));
        check("DECIMAL(38, 30)", json!(0.12345678901234568));
        check("DECIMAL(5, 2)", json!("."));
        check("DECIMAL(5, 2)", json!("1e999999999"));
        check("STRING", json!(1));
        check("CHAR(2)", json!("a"));
        check("VARCHAR(2)", json!("abc"));
        check("BYTES", json!("?"));
        check("BINARY(3)", json!("AAE="));
        check("DATE", json!("2023-02-29"));
        check("DATE", json!("2023-2-9"));
        check("TIME(0)", json!("24:00"));
        check("TIME(0)", json!("1:00"));
        check("TIMESTAMP(3)", json!("2024-01-01"));
        check("TIMESTAMP(3)", json!("2024-01-01 00:00:00+01:00"));
        check("TIMESTAMP(9)", json!("9999-01-01 00:00:00"));
        check("TIMESTAMP_LTZ(3)", json!("2024-01-01 00:00:00+1"));
        check("ARRAY<INT>", json!(["a"]));
        check("ARRAY<INT>", json!(1));
    }
}

//! Interval literals: `INTERVAL '1:30' MINUTE TO SECOND` is 90,000 milliseconds, `INTERVAL '1-6' YEAR TO MONTH` 18 months.
//!
//! In Flink an interval of days and smaller units is a number of milliseconds, one of years and months a number of months;
//! so two ways to write the same interval are equal. The AST carries them as that number of MILLISECONDS or MONTHS.

use datafusion::sql::sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator, Value};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use tidemill_base::{Position, suggest};

use super::forms::unexpected;
use crate::error::Error;
use crate::statement::{bare_word, place};

/// The longest interval of milliseconds: what fits in 64 bits of nanoseconds.
const MILLIS_MAX: i64 = i64::MAX / 1_000_000;
const UNITS: &[&str] = &["SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"];

/// The value of an interval literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalLiteral {
    /// Days, hours, minutes, seconds: milliseconds in all.
    Millis(i64),
    /// Years and months: months in all.
    Months(i64),
}

/// The value of an expression that is an interval literal, in brackets and with a sign or not.
pub fn interval_of(expr: &Expr) -> Option<IntervalLiteral> {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => interval_of(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => interval_of(inner).map(|value| match value {
            IntervalLiteral::Millis(millis) => IntervalLiteral::Millis(-millis),
            IntervalLiteral::Months(months) => IntervalLiteral::Months(-months),
        }),
        Expr::Interval(Interval { value, leading_field: Some(unit), .. }) => {
            let Expr::Value(value) = value.as_ref() else { return None };
            let Value::SingleQuotedString(digits) = &value.value else { return None };
            let number = digits.parse().ok()?;
            match unit {
                DateTimeField::Milliseconds => Some(IntervalLiteral::Millis(number)),
                DateTimeField::Months => Some(IntervalLiteral::Months(number)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Reads the literal that starts with the word INTERVAL, the next token.
pub(super) fn read(parser: &mut Parser<'_>, end: Position) -> Result<Expr, Error> {
    parser.next_token();
    let negative = parser.consume_token(&Token::Minus);
    let _ = parser.consume_token(&Token::Plus);
    let token = parser.next_token();
    let position = place(token.span.start);
    let Token::SingleQuotedString(text) = token.token else {
        return Err(Error::Literal {
            problem: "an interval's number has to be in quotes".to_string(),
            position,
            help: Some(format!("write INTERVAL '{}' SECOND", token.token)),
        });
    };
    let first = unit(parser, end)?;
    let last = if take(parser, "TO") { unit(parser, end)? } else { first };
    let units = if first == last { first.to_string() } else { format!("{first} TO {last}") };
    let read = value(text.trim(), first, last).map(|value| match value {
        IntervalLiteral::Millis(millis) if negative => IntervalLiteral::Millis(-millis),
        IntervalLiteral::Months(months) if negative => IntervalLiteral::Months(-months),
        value => value,
    });
    let (number, field) = match read {
        Some(IntervalLiteral::Millis(millis)) if millis.abs() <= MILLIS_MAX => (millis, DateTimeField::Milliseconds),
        Some(IntervalLiteral::Months(months)) if i32::try_from(months).is_ok() => (months, DateTimeField::Months),
        _ => {
            return Err(Error::Literal {
                problem: format!("'{text}' is not an interval of {units}"),
                position,
                help: Some(example(first, last)),
            });
        }
    };
    Ok(Expr::Interval(Interval {
        value: Box::new(Expr::Value(Value::SingleQuotedString(number.to_string()).with_span(token.span))),
        leading_field: Some(field),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

fn unit(parser: &mut Parser<'_>, end: Position) -> Result<&'static str, Error> {
    let found = bare_word(&parser.peek_token_ref().token).map(|word| word.value.to_ascii_uppercase());
    let singular = found.as_deref().map(|word| word.strip_suffix('S').unwrap_or(word));
    let Some(unit) = singular.and_then(|word| UNITS.iter().find(|unit| **unit == word)) else {
        let error = unexpected(parser, end, "a unit: SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR");
        let meant = singular.and_then(|word| suggest::nearest(word, UNITS.iter().copied()));
        return Err(match (error, meant) {
            (Error::Unexpected { expected, found, position, .. }, Some(meant)) => {
                Error::Unexpected { expected, found, position, help: Some(format!("did you mean {meant}?")) }
            }
            (error, _) => error,
        });
    };
    parser.next_token();
    precision(parser, end)?;
    Ok(unit)
}

/// Takes `(3)` or `(3, 3)`: digits that the standard asks for and that change nothing here.
fn precision(parser: &mut Parser<'_>, end: Position) -> Result<(), Error> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(());
    }
    loop {
        let Token::Number(..) = parser.peek_token_ref().token else {
            return Err(unexpected(parser, end, "a number of digits"));
        };
        parser.next_token();
        if parser.consume_token(&Token::RParen) {
            return Ok(());
        }
        if !parser.consume_token(&Token::Comma) {
            return Err(unexpected(parser, end, "`)`"));
        }
    }
}

fn take(parser: &mut Parser<'_>, name: &str) -> bool {
    let sees = bare_word(&parser.peek_token_ref().token).is_some_and(|word| word.value.eq_ignore_ascii_case(name));
    if sees {
        parser.next_token();
    }
    sees
}

fn value(text: &str, first: &str, last: &str) -> Option<IntervalLiteral> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    match (months_of(first), months_of(last)) {
        (Some(months), Some(_)) if first == last => {
            Some(IntervalLiteral::Months(sign * whole(text)?.checked_mul(months)?))
        }
        (Some(12), Some(1)) => {
            let (years, months) = text.split_once('-')?;
            let months = whole(months).filter(|months| *months < 12)?;
            Some(IntervalLiteral::Months(sign * whole(years)?.checked_mul(12)?.checked_add(months)?))
        }
        (None, None) => Some(IntervalLiteral::Millis(sign.checked_mul(millis(text, first, last)?)?)),
        _ => None,
    }
}

fn months_of(unit: &str) -> Option<i64> {
    match unit {
        "MONTH" => Some(1),
        "QUARTER" => Some(3),
        "YEAR" => Some(12),
        _ => None,
    }
}

/// `d h:m:s.f` from the first unit to the last one, in milliseconds.
fn millis(text: &str, first: &str, last: &str) -> Option<i64> {
    const CHAIN: [(&str, i64, i64); 4] =
        [("DAY", 86_400_000, i64::MAX), ("HOUR", 3_600_000, 24), ("MINUTE", 60_000, 60), ("SECOND", 1_000, 60)];
    if first == "WEEK" {
        return if last == "WEEK" { whole(text)?.checked_mul(7 * 86_400_000) } else { None };
    }
    let from = CHAIN.iter().position(|(unit, ..)| *unit == first)?;
    let to = CHAIN.iter().position(|(unit, ..)| *unit == last)?;
    if to < from {
        return None;
    }
    let mut rest = text;
    let mut total = 0_i64;
    for (index, (unit, size, limit)) in CHAIN.iter().enumerate().take(to + 1).skip(from) {
        let part;
        (part, rest) = match index == to {
            true => (rest, ""),
            false => rest.split_once(if *unit == "DAY" { ' ' } else { ':' })?,
        };
        let value = if *unit == "SECOND" { thousandths(part)? } else { whole(part)?.checked_mul(*size)? };
        if index > from && value / size >= *limit {
            return None;
        }
        total = total.checked_add(value)?;
    }
    Some(total)
}

/// Seconds with at most three digits after the point that say something.
fn thousandths(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let mut digits = fraction.to_string();
    while digits.len() > 3 && digits.ends_with('0') {
        digits.pop();
    }
    if digits.len() > 3 {
        return None;
    }
    let fraction: i64 = format!("{digits:0<3}").parse().ok()?;
    whole(seconds)?.checked_mul(1_000)?.checked_add(fraction)
}

fn whole(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn example(first: &str, last: &str) -> String {
    let text = match (first, last) {
        ("YEAR", "MONTH") => "1-6",
        ("DAY", "HOUR") => "1 12",
        ("DAY", "MINUTE") => "1 12:30",
        ("DAY", "SECOND") => "1 12:30:15.5",
        ("HOUR", "MINUTE") | ("MINUTE", "SECOND") => "1:30",
        ("HOUR", "SECOND") => "1:30:15",
        (first, last) if first == last => {
            return format!("write a whole number in the quotes, such as INTERVAL '10' {first}");
        }
        _ => return "intervals are of years and months, or of days down to seconds, the larger unit first".to_string(),
    };
    format!("write it like INTERVAL '{text}' {first} TO {last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, first: &str, last: &str, expected: Option<IntervalLiteral>) {
        assert_eq!(value(text, first, last), expected, "'{text}' {first} TO {last}");
    }

    #[test]
    fn reads_days_down_to_seconds() {
        let millis = |millis| Some(IntervalLiteral::Millis(millis));
        check("10", "SECOND", "SECOND", millis(10_000));
        check("0.5", "SECOND", "SECOND", millis(500));
        check("0.500000", "SECOND", "SECOND", millis(500));
        check("-2", "MINUTE", "MINUTE", millis(-120_000));
        check("90", "MINUTE", "MINUTE", millis(5_400_000));
        check("1:30", "MINUTE", "SECOND", millis(90_000));
        check("1:30.250", "MINUTE", "SECOND", millis(90_250));
        check("2:03", "HOUR", "MINUTE", millis(7_380_000));
        check("1 2:03:04", "DAY", "SECOND", millis(93_784_000));
        check("1 2", "DAY", "HOUR", millis(93_600_000));
        check("2", "WEEK", "WEEK", millis(1_209_600_000));
    }

    #[test]
    fn reads_years_and_months() {
        let months = |months| Some(IntervalLiteral::Months(months));
        check("3", "MONTH", "MONTH", months(3));
        check("2", "YEAR", "YEAR", months(24));
        check("1-6", "YEAR", "MONTH", months(18));
        check("-1-6", "YEAR", "MONTH", months(-18));
        check("2", "QUARTER", "QUARTER", months(6));
    }

    #[test]
    fn refuses_what_does_not_fit_its_units() {
        for (text, first, last) in [
            ("", "SECOND", "SECOND"),
            ("1.2345", "SECOND", "SECOND"),
            ("1.5", "HOUR", "HOUR"),
            ("ten", "DAY", "DAY"),
            ("1:60", "MINUTE", "SECOND"),
            ("1 24", "DAY", "HOUR"),
            ("1-12", "YEAR", "MONTH"),
            ("1:30", "SECOND", "MINUTE"),
            ("1", "DAY", "MONTH"),
            ("99999999999999999999", "DAY", "DAY"),
            ("999999999999999", "DAY", "DAY"),
        ] {
            check(text, first, last, None);
        }
    }
}

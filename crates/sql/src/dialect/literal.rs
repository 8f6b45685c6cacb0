//! Literals with a type before them: `DATE '2024-02-29'`, `TIMESTAMP '2024-02-29 12:00:00.5'`; and `1e3`, a DOUBLE.

use datafusion::sql::sqlparser::ast::{CastKind, Expr, TypedString, Value};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

use crate::error::Error;
use crate::statement::place;
use crate::types::{Type, TypeKind};

/// Reads the literal whose type's name is the next token and whose text is the one after it.
pub(super) fn read(parser: &mut Parser<'_>, name: &str) -> Result<Expr, Error> {
    parser.next_token();
    let token = parser.next_token();
    let Token::SingleQuotedString(text) = token.token else {
        let problem = format!("{name} needs a text after it");
        return Err(Error::Literal { problem, position: place(token.span.start), help: None });
    };
    let trimmed = text.trim();
    let (format, kind) = match name {
        "DATE" => ("2024-02-29", is_date(trimmed).then_some(TypeKind::Date)),
        "TIME" => ("23:59:59", time_digits(trimmed).map(TypeKind::Time)),
        _ => ("2024-02-29 23:59:59.999", timestamp_digits(trimmed).map(TypeKind::Timestamp)),
    };
    let Some(kind) = kind else {
        return Err(Error::Literal {
            problem: format!("'{text}' is not a {name}"),
            position: place(token.span.start),
            help: Some(format!("write it like {name} '{format}'")),
        });
    };
    Ok(Expr::TypedString(TypedString {
        data_type: Type::nullable(kind).to_ast(),
        value: Value::SingleQuotedString(trimmed.to_string()).with_span(token.span),
        uses_odbc_syntax: false,
    }))
}

/// A number with an exponent, which is a DOUBLE in Flink and not a DECIMAL.
pub(super) fn double(digits: String, span: Span) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(Value::SingleQuotedString(digits).with_span(span))),
        data_type: Type::nullable(TypeKind::Double).to_ast(),
        array: false,
        format: None,
    }
}

fn timestamp_digits(text: &str) -> Option<u8> {
    let (date, time) = text.split_once([' ', 'T'])?;
    if is_date(date) { time_digits(time) } else { None }
}

fn is_date(text: &str) -> bool {
    let mut parts = text.split('-').map(number);
    let (Some(Some(year)), Some(Some(month)), Some(Some(day)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    year <= 9999 && chrono::NaiveDate::from_ymd_opt(year as i32, month, day).is_some()
}

/// The digits after the second, when the text is a time of day.
fn time_digits(text: &str) -> Option<u8> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let digits = fraction.chars().all(|c| c.is_ascii_digit()) && fraction.len() <= 9 && !text.ends_with('.');
    let fits = hour < 24 && minute < 60 && second < 60 && parts.next().is_none() && digits;
    fits.then_some(fraction.len() as u8)
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_dates_and_times() {
        assert!(is_date("2024-02-29") && is_date("0001-1-1"));
        assert!(!is_date("2023-02-29") && !is_date("2024-2") && !is_date("24/1/1") && !is_date("-1-1-1"));
        assert_eq!(time_digits("23:59:59"), Some(0));
        assert_eq!(time_digits("23:59:59.123456"), Some(6));
        assert_eq!(time_digits("24:00:00"), None);
        assert_eq!(time_digits("1:2"), None);
        assert_eq!(time_digits("1:2:3."), None);
        assert_eq!(timestamp_digits("2024-02-29 00:00:00.5"), Some(1));
        assert_eq!(timestamp_digits("2024-02-29"), None);
    }
}

//! Names and query parameters as they stand in a URL.

use std::borrow::Cow;

use tidemill_base::suggest;

use crate::problem::Problem;

/// Undoes percent-encoding; none when it is broken or not UTF-8. What needs no undoing is lent.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                (high << 4) | low
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// The parameters of a query string, in their order.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Problem>> {
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match (decode(name, true), decode(value, true)) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(Problem::bad_query(
                format!("'{part}' in the query is not percent-encoded UTF-8"),
                "encode each byte outside letters and digits as % and two hexadecimal digits",
            )),
        }
    })
}

/// Fails when there is any parameter.
pub(crate) fn none(query: Option<&str>) -> Result<(), Problem> {
    pairs(query).next().map_or(Ok(()), |pair| Err(unknown(&pair?.0, &[])))
}

/// A whole number up to `most`.
pub(crate) fn limit(value: &str, most: usize) -> Result<usize, Problem> {
    value.parse().ok().filter(|limit| *limit <= most).ok_or_else(|| {
        let help = format!("limit is a whole number up to {most}");
        Problem::bad_query(format!("limit={value} cannot be"), help)
    })
}

/// A parameter that nobody knows.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Problem {
    let help = match suggest::nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None if known.is_empty() => "leave it out".to_string(),
        None => format!("there are '{}'", known.join("', '")),
    };
    Problem::bad_query(format!("there is no parameter '{name}' here"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_percent_encoding() {
        assert_eq!(decode("a%20b%C3%BC", false).as_deref(), Some("a bü"));
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
        assert!(matches!(decode("plain", true), Some(Cow::Borrowed("plain"))));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(broken, false), None, "{broken}");
        }
    }

    #[test]
    fn reads_parameters_in_order() {
        let read = |text| pairs(Some(text)).collect::<Result<Vec<_>, Problem>>().ok();
        let pair = |name: &'static str, value: &'static str| (Cow::from(name), Cow::from(value));
        assert_eq!(read("key=1&key.b=x%3D&flag"), Some(vec![pair("key", "1"), pair("key.b", "x="), pair("flag", "")]));
        assert_eq!(read("&&"), Some(Vec::new()));
        assert_eq!(read("a=%f"), None);
        assert!(none(Some("&")).is_ok() && none(Some("a")).is_err());
    }
}

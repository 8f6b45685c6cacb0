//! [`Reply`]: an answer before a stack sends it, and the bodies that both stacks send.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::hall::{Durability, Receipt};
use crate::problem::{BadRecord, RECORDS_NAMED_MAX};

/// The type of most answers.
pub(crate) const JSON: &str = "application/json";

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The type of the body.
    pub kind: &'static str,
    /// The other headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer in JSON.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let (status, body) = match serde_json::to_vec(value) {
            Ok(body) => (status, body),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("\"{error}\"").into_bytes()),
        };
        Reply { status, kind: JSON, headers: Vec::new(), body }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// Writes the body of the 202 to events that were taken; `skip_bad` when the request said `?on_error=skip`.
pub(crate) fn receipt(receipt: &Receipt, skip_bad: bool, body: &mut Vec<u8>) {
    let Receipt { accepted, rejected, offset, durability, .. } = receipt;
    let durability = durability.unwrap_or(Durability::Memory).as_str();
    body.extend_from_slice(b"{\"accepted\":");
    number(body, *accepted as u64);
    if skip_bad {
        body.extend_from_slice(b",\"rejected\":");
        number(body, rejected.len() as u64);
    }
    body.extend_from_slice(b",\"offset\":");
    number(body, *offset);
    body.extend_from_slice(b",\"durability\":\"");
    body.extend_from_slice(durability.as_bytes());
    body.push(b'"');
    if !rejected.is_empty() {
        let errors: Vec<BadRecord> = rejected.iter().take(RECORDS_NAMED_MAX).map(BadRecord::from).collect();
        body.extend_from_slice(b",\"errors\":");
        // Memory takes everything.
        let _ = serde_json::to_writer(&mut *body, &errors);
    }
    body.push(b'}');
}

/// Writes a number, without the detours of formatting: there is one in every answer.
pub(crate) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// The longest a receipt without bad records is.
pub(crate) const RECEIPT_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use tidemill_format::Rejected;

    use super::*;

    #[test]
    fn writes_numbers() {
        for value in [0, 7, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), value.to_string());
        }
    }

    #[test]
    fn a_receipt_says_what_was_taken() {
        let check = |taken: &Receipt, skip_bad, expected: &str| {
            let mut body = Vec::new();
            receipt(taken, skip_bad, &mut body);
            assert_eq!(String::from_utf8_lossy(&body), expected);
            assert!(!taken.rejected.is_empty() || body.len() <= RECEIPT_BYTES);
        };
        let most = usize::MAX;
        let plain = Receipt { accepted: most, offset: u64::MAX, ..Receipt::default() };
        check(&plain, false, &format!("{{\"accepted\":{most},\"offset\":{},\"durability\":\"memory\"}}", u64::MAX));
        let kept = Receipt { accepted: 1, durability: Some(Durability::Flushed), ..Receipt::default() };
        check(&kept, true, r#"{"accepted":1,"rejected":0,"offset":0,"durability":"flushed"}"#);
        let bad = Rejected { record: 1, line: 2, column: 7, byte: 9, reason: "no \"x\"".into(), text: "{}".into() };
        let some = Receipt { accepted: 1, rejected: vec![bad], ..Receipt::default() };
        let expected = r#"{"accepted":1,"rejected":1,"offset":0,"durability":"memory","errors":[{"line":2,"column":7,"reason":"no \"x\"","record":"{}"}]}"#;
        check(&some, true, expected);
    }
}

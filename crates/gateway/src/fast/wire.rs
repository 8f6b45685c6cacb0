//! Answers as they stand on the wire: a status line, a few headers, the date, the body.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use httpdate::HttpDate;
use tidemill_base::time::Timestamp;

use crate::hall::{Answered, Receipt};
use crate::question;
use crate::reply::{self, Reply};

/// The header that says which of the client's preferences were followed.
const PREFERENCE_APPLIED: &str = "preference-applied";

/// What a client that waits for a word before it sends its body is told.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How a request wants to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether the client speaks HTTP/1.1 and not 1.0.
    pub is_11: bool,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

/// The date as answers say it, written once for many of them.
#[derive(Debug, Default)]
pub(super) struct Date(Vec<u8>);

impl Date {
    /// Writes the date anew.
    pub(super) fn set(&mut self, now: Timestamp) {
        let since = Duration::from_millis(now.millis().max(0) as u64);
        self.0.clear();
        // Memory takes everything.
        let _ = write!(self.0, "{}", HttpDate::from(UNIX_EPOCH + since));
    }
}

/// Writes the answer to events that were taken; `body` is memory to build its body in.
pub(super) fn accepted(
    out: &mut Vec<u8>,
    date: &Date,
    manner: Manner,
    taken: &Receipt,
    skip_bad: bool,
    body: &mut Vec<u8>,
) {
    body.clear();
    reply::receipt(taken, skip_bad, body);
    let replayed = taken.repeated.then_some((question::REPLAYED, &b"true"[..]));
    head(out, date, manner, StatusCode::ACCEPTED, reply::JSON, body.len(), replayed);
    out.extend_from_slice(body);
}

/// Writes the answer of an endpoint; `preferred` is what the client preferred and got.
pub(super) fn answered(
    out: &mut Vec<u8>,
    date: &Date,
    manner: Manner,
    answer: &Answered<'_>,
    name: &str,
    preferred: &[u8],
) {
    let applied = (!preferred.is_empty()).then_some((PREFERENCE_APPLIED, preferred));
    if let Some(problem) = question::problem(answer, name) {
        let mut problem = problem.reply();
        problem.headers.extend(
            applied
                .and_then(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))),
        );
        self::reply(out, date, manner, &problem);
        return;
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = question::headers(answer).map(|(name, value)| (name, value.as_bytes())).chain(applied);
    head(out, date, manner, status, question::content_type(answer), answer.body.len(), headers);
    out.extend_from_slice(answer.body);
}

/// Writes any other answer.
pub(super) fn reply(out: &mut Vec<u8>, date: &Date, manner: Manner, reply: &Reply) {
    let manner = Manner { keep_alive: manner.keep_alive && !closes(reply), ..manner };
    let headers = reply.headers.iter().filter(|(name, _)| name != CONNECTION);
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    head(out, date, manner, reply.status, reply.kind, reply.body.len(), headers);
    out.extend_from_slice(&reply.body);
}

/// Whether an answer ends its connection.
pub(super) fn closes(reply: &Reply) -> bool {
    reply.headers.iter().any(|(name, value)| name == CONNECTION && value == "close")
}

fn head<'a>(
    out: &mut Vec<u8>,
    Date(date): &Date,
    manner: Manner,
    status: StatusCode,
    kind: &str,
    length: usize,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) {
    out.extend_from_slice(if manner.is_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\ncontent-type: ");
    out.extend_from_slice(kind.as_bytes());
    for (name, value) in headers {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.extend_from_slice(match (manner.is_11, manner.keep_alive) {
        (true, true) | (false, false) => b"",
        (true, false) => b"\r\nconnection: close",
        (false, true) => b"\r\nconnection: keep-alive",
    });
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\ncontent-length: ");
    reply::number(out, length as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hall::Fallback;
    use crate::problem::Problem;

    const OPEN: Manner = Manner { is_11: true, keep_alive: true };

    fn written(write: impl FnOnce(&mut Vec<u8>, &Date)) -> String {
        let (mut out, mut date) = (Vec::new(), Date::default());
        date.set(Timestamp(784_111_777_000));
        write(&mut out, &date);
        String::from_utf8(out).expect("answers are text")
    }

    #[test]
    fn an_answer_says_date_type_and_length() {
        let taken = Receipt { accepted: 3, offset: 9, ..Receipt::default() };
        let text = written(|out, date| accepted(out, date, OPEN, &taken, false, &mut Vec::new()));
        let expected = "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                        content-length: 47\r\n\r\n{\"accepted\":3,\"offset\":9,\"durability\":\"memory\"}";
        assert_eq!(text, expected);
    }

    #[test]
    fn says_whether_the_connection_stays_open_where_that_is_not_plain() {
        let connection = |is_11, keep_alive, reply: Reply| {
            let text = written(|out, date| self::reply(out, date, Manner { is_11, keep_alive }, &reply));
            let line = text.lines().find_map(|line| line.strip_prefix("connection: ")).map(str::to_string);
            (text.split(' ').next().expect("a status line").to_string(), line)
        };
        let plain = || Problem::bad_body("no").reply();
        let check = |found: (String, Option<String>), version: &str, line: Option<&str>| {
            assert_eq!((found.0.as_str(), found.1.as_deref()), (version, line));
        };
        check(connection(true, true, plain()), "HTTP/1.1", None);
        check(connection(true, false, plain()), "HTTP/1.1", Some("close"));
        check(connection(false, true, plain()), "HTTP/1.0", Some("keep-alive"));
        check(connection(false, false, plain()), "HTTP/1.0", None);
        check(connection(true, true, Problem::slow_body().reply()), "HTTP/1.1", Some("close"));
    }

    #[test]
    fn a_decision_says_in_headers_what_it_is() {
        let answer = Answered {
            status: 200,
            body: b"{}",
            fallback: Some(Fallback::Deadline),
            rule: "",
            version: 0,
            repeated: true,
        };
        let text = written(|out, date| answered(out, date, OPEN, &answer, "score", b"wait=1"));
        for line in ["tidemill-fallback: deadline", "idempotency-replayed: true", "preference-applied: wait=1"] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line}: {text}");
        }
        assert!(text.ends_with("\r\n\r\n{}"));
    }
}

//! [`Problem`]: what an HTTP answer says when something is wrong, as RFC 9457 has it.

use http::StatusCode;
use http::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tidemill_format::Rejected;

use crate::hall::{Denial, Ground, Refusal, Rejection};
use crate::reply::Reply;

/// The type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The rate that a request was over, and what is left of it (draft-ietf-httpapi-ratelimit-headers).
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The most bad records that an answer names.
pub(crate) const RECORDS_NAMED_MAX: usize = 100;

/// A problem, on its way to an answer.
#[derive(Debug)]
pub(crate) struct Problem(Box<Document>);

/// What a problem says.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "status_number")]
    status: StatusCode,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<BadRecord>,
    #[serde(flatten)]
    more: Map<String, Json>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a problem tells.
pub(crate) struct Told<'a> {
    /// The status of HTTP.
    pub status: StatusCode,
    /// The code of the error's page.
    pub code: &'static str,
    /// A sentence about this case.
    pub detail: &'a str,
    /// How to go on.
    pub help: Option<&'a str>,
    /// When to try again.
    pub retry_seconds: Option<u64>,
}

/// A bad record, as answers name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BadRecord {
    /// The line of the body, from 1.
    pub line: u64,
    /// The character of the line, from 1.
    pub column: u64,
    /// What is wrong there.
    pub reason: String,
    /// The record, cut to a readable length.
    pub record: String,
}

impl From<&Rejected> for BadRecord {
    fn from(rejected: &Rejected) -> Self {
        let Rejected { line, column, reason, text, .. } = rejected;
        BadRecord { line: *line, column: *column, reason: reason.clone(), record: text.clone() }
    }
}

fn status_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem(Box::new(Document {
            kind: format!("urn:tidemill:error:{code}"),
            title,
            status,
            code,
            detail: detail.into(),
            help: None,
            rejected: None,
            errors: Vec::new(),
            more: Map::new(),
            headers: Vec::new(),
        }))
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.0.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Records that are not what the source declares; `stopped` when reading ended at the last of them.
    pub(crate) fn bad_records(records: Vec<Rejected>, stopped: bool) -> Self {
        let rejected = records.len();
        let errors = records.iter().take(RECORDS_NAMED_MAX).map(BadRecord::from).collect();
        let detail = match rejected {
            1 => "1 record is not what the source declares; nothing was accepted".to_string(),
            _ if stopped => {
                format!("{rejected} records or more are not what the source declares; nothing was accepted")
            }
            _ => format!("{rejected} records are not what the source declares; nothing was accepted"),
        };
        let help = if stopped {
            "correct them, or send fewer records at once"
        } else {
            "correct them, or add ?on_error=skip to accept the others"
        };
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "TM5101", "bad records", detail).help(help);
        problem.0.rejected = Some(rejected);
        problem.0.errors = errors;
        problem
    }

    pub(crate) fn bad_body(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "TM5102", "unreadable body", detail)
    }

    pub(crate) fn bad_query(detail: impl Into<String>, help: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "TM5103", "bad query", detail).help(help)
    }

    pub(crate) fn not_found(what: &str, name: &str, help: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "TM5104", "not found", format!("there is no {what} '{name}'")).help(help)
    }

    pub(crate) fn method(method: &str, allow: &str) -> Self {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "TM5105", "wrong method", format!("{method} does nothing here"))
            .help(format!("use {allow}"))
            .header(ALLOW, allow)
    }

    pub(crate) fn length_required() -> Self {
        Problem::new(StatusCode::LENGTH_REQUIRED, "TM5106", "no body", "the request has no body")
            .help("send the events as the body, with Content-Length or chunked")
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "TM5107", "too large", detail)
            .help("send the events in several requests")
            .header(CONNECTION, "close")
    }

    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "TM5108", "unknown kind of body", detail).help(
            "say Content-Type: application/json (an object or an array) or application/x-ndjson (an object a line)",
        )
    }

    pub(crate) fn encoding(found: &str) -> Self {
        let detail = format!("the Content-Encoding '{found}' is not known");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "TM5109", "unknown encoding", detail)
            .help("use gzip, zstd or none")
            .header(http::header::ACCEPT_ENCODING, "gzip, zstd")
    }

    pub(crate) fn slow_body() -> Self {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "TM5110", "too slow", "the body did not arrive in time")
            .header(CONNECTION, "close")
    }

    /// Why a source or an endpoint (`what`) takes nothing of a body.
    pub(crate) fn rejected(rejection: Rejection, what: &str, name: &str) -> Self {
        match rejection {
            Rejection::Refused(refusal) => Problem::refused(refusal, what, name),
            Rejection::Records { rejected, stopped } => Problem::bad_records(rejected, stopped),
            Rejection::Body(reason) => Problem::bad_body(reason),
            Rejection::KeyReused => Problem::key_reused(),
        }
    }

    /// Why a source or an endpoint (`what`) takes nothing now.
    pub(crate) fn refused(refusal: Refusal, what: &str, name: &str) -> Self {
        match refusal {
            Refusal::Full => Problem::full(format!("{what} '{name}' is full: the engine has more than it can take in")),
            Refusal::TooLarge => Problem::too_large(format!("{what} '{name}' never holds so many rows at once")),
            Refusal::Closed => Problem::draining(),
            Refusal::Lost => Problem::lost("the journal has failed; nothing of the request was acknowledged"),
            Refusal::NoSuchDurability => Problem::bad_query(
                format!("{what} '{name}' has no journal, and so no such durability"),
                "leave out ?durability=.., or run the pipeline with a state folder",
            ),
        }
    }

    fn key_reused() -> Self {
        let detail = "the Idempotency-Key came before, with another body";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "TM5117", "key reused", detail)
            .help("send a key of its own with each new request, and the same body with the same key")
    }

    /// Bytes that are no request, as RFC 9112 has it.
    pub(crate) fn malformed(status: StatusCode, detail: &str) -> Self {
        Problem::new(status, "TM5122", "no request", detail).help("send one request as RFC 9112 has it")
    }

    /// The same, and the end of the connection.
    pub(crate) fn closing(self) -> Self {
        if self.0.headers.iter().any(|(name, _)| name == CONNECTION) { self } else { self.header(CONNECTION, "close") }
    }

    /// A header that cannot be read.
    pub(crate) fn bad_header(name: &str, help: &str) -> Self {
        let detail = format!("the header {name} cannot be read");
        Problem::new(StatusCode::BAD_REQUEST, "TM5118", "bad header", detail).help(help)
    }

    /// An endpoint without a fallback did not answer in time.
    pub(crate) fn deadline(endpoint: &str) -> Self {
        let detail = format!("endpoint '{endpoint}' did not answer within the deadline, and has no fallback");
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "TM5116", "too late", detail)
            .help("declare a 'fallback' with CREATE ENDPOINT, or give it a longer 'deadline'")
    }

    /// Too many requests wait for an endpoint without a fallback.
    pub(crate) fn overloaded(endpoint: &str) -> Self {
        let detail = format!("more requests wait for endpoint '{endpoint}' than it answers in time");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TM5119", "overloaded", detail)
            .help("send the same request again after the time in Retry-After; nothing of it was taken")
            .header(RETRY_AFTER, "1")
    }

    pub(crate) fn full(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TM5111", "full", detail)
            .help("send the same request again after the time in Retry-After; nothing of it was accepted")
            .header(RETRY_AFTER, "1")
    }

    /// Whether the engine has no room now: the one who asked is not to blame for it.
    pub(crate) fn is_want_of_room(&self) -> bool {
        matches!(self.0.code, "TM5111" | "TM5119")
    }

    /// More requests came than a rate allows: `count` in `seconds`; the next fits in after `wait` seconds.
    pub(crate) fn too_many(policy: &str, detail: String, count: u32, seconds: u64, wait: u64) -> Self {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TM5132", "too many requests", detail)
            .help("send the same request again after the time in Retry-After, and fewer of them")
            .header(RETRY_AFTER, &wait.to_string())
            .header(RATE_LIMIT_POLICY, &format!("\"{policy}\";q={count};w={seconds}"))
            .header(RATE_LIMIT, &format!("\"{policy}\";r=0;t={wait}"))
    }

    /// Nobody knows who calls: no token, or (`wrong`) one that is not known.
    pub(crate) fn unknown_caller(wrong: bool) -> Self {
        let (detail, challenge) = match wrong {
            false => ("the request brings no token", "Bearer realm=\"tidemill\""),
            true => ("the token of the request is not known", "Bearer realm=\"tidemill\", error=\"invalid_token\""),
        };
        Problem::new(StatusCode::UNAUTHORIZED, "TM5130", "unknown caller", detail)
            .help("send Authorization: Bearer TOKEN with a token that the door knows")
            .header(WWW_AUTHENTICATE, challenge)
    }

    /// The caller is known and may not do this.
    pub(crate) fn forbidden(name: &str, scope: &str) -> Self {
        let detail = format!("the token '{name}' has no scope '{scope}'");
        let challenge = format!("Bearer realm=\"tidemill\", error=\"insufficient_scope\", scope=\"{scope}\"");
        Problem::new(StatusCode::FORBIDDEN, "TM5131", "not allowed", detail)
            .help("use a token that may do this, or add the scope to this one and start the pipeline again")
            .header(WWW_AUTHENTICATE, &challenge)
    }

    /// Too many connections from one address.
    pub(crate) fn crowded(connections_max: usize) -> Self {
        let detail = format!("more than {connections_max} connections are open from this address");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TM5133", "too many connections", detail)
            .help("use the connections that are open, or close some")
            .header(RETRY_AFTER, "1")
            .header(CONNECTION, "close")
    }

    pub(crate) fn draining() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "TM5112", "draining", "the pipeline is ending")
            .help("send the same request again once it runs again; nothing of it was accepted")
            .header(RETRY_AFTER, "5")
            .header(CONNECTION, "close")
    }

    /// Events may or may not be kept: nobody can tell before the pipeline has been started again.
    pub(crate) fn lost(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "TM5115", "journal failed", detail)
            .help("look at the log of the pipeline, start it again, and send the same request again")
            .header(RETRY_AFTER, "5")
            .header(CONNECTION, "close")
    }

    /// What a table or a version says no to.
    pub(crate) fn denied(denial: Denial) -> Self {
        let Denial { ground, code, problem, help, more } = denial;
        let (status, title) = match ground {
            Ground::Request => (StatusCode::BAD_REQUEST, "bad request"),
            Ground::Missing => (StatusCode::NOT_FOUND, "not found"),
            Ground::Conflict => (StatusCode::CONFLICT, "conflict"),
            Ground::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Ground::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
        };
        let mut denied = Problem::new(status, code, title, problem);
        denied.0.help = help;
        denied.0.more = more;
        if ground == Ground::Busy { denied.header(RETRY_AFTER, "1") } else { denied }
    }

    pub(crate) fn no_versions() -> Self {
        let detail = "the pipeline keeps no state, and so has no versions";
        Problem::new(StatusCode::NOT_FOUND, "TM5120", "no versions", detail)
            .help("run it with --state FOLDER, or SET 'state.path' = 'FOLDER'")
    }

    pub(crate) fn bad_range(range: &str) -> Self {
        let detail = format!("'{range}' does not name two versions");
        Problem::new(StatusCode::BAD_REQUEST, "TM5121", "bad range", detail)
            .help("write the versions as A..B, such as 3-1-7..newest")
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "TM5113", "internal error", detail)
    }

    /// Somebody who follows a view was too slow, and has missed changes.
    pub(crate) fn left_behind() -> Self {
        let detail = "more changes of the view waited to be sent than are held for one client";
        Problem::new(StatusCode::CONFLICT, "TM5140", "left behind", detail)
            .help("follow the view again, which begins with its rows; and take changes in more quickly")
    }

    pub(crate) fn not_acceptable(accept: &str, kinds: &[&str]) -> Self {
        let detail = format!("rows cannot be answered as '{accept}'");
        Problem::new(StatusCode::NOT_ACCEPTABLE, "TM5114", "not acceptable", detail)
            .help(format!("accept {}", kinds.join(" or ")))
    }

    /// What it tells, for those who do not tell it as a document.
    pub(crate) fn told(&self) -> Told<'_> {
        let Document { status, code, detail, help, headers, .. } = self.0.as_ref();
        let retry = headers.iter().find(|(name, _)| name == RETRY_AFTER).and_then(|(_, value)| value.to_str().ok());
        let retry_seconds = retry.and_then(|seconds| seconds.parse().ok());
        Told { status: *status, code, detail, help: help.as_deref(), retry_seconds }
    }

    /// The answer.
    pub(crate) fn reply(self) -> Reply {
        let Problem(mut document) = self;
        let headers = std::mem::take(&mut document.headers);
        let Reply { status, body, .. } = Reply::json(document.status, &document);
        Reply { status, kind: PROBLEM_JSON, headers, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_is_not_turned_away_for_want_of_room() {
        assert!(Problem::full("x").is_want_of_room() && Problem::overloaded("x").is_want_of_room());
        let too_many = Problem::too_many("address", String::new(), 1, 1, 1);
        assert!(!too_many.is_want_of_room() && !Problem::crowded(1).is_want_of_room());
    }
}

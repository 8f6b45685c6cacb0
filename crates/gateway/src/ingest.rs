//! `POST /v1/sources/{name}`: events come in.
//!
//! A request is accepted whole or not at all, unless it says `?on_error=skip`. The inbox is asked for room before the
//! body is read and takes the rows after the last record has been understood, so that a 202 means what it says.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;

use crate::body::{self, Body, Encoding};
use crate::hall::{Durability, Durable, Inbox, Taken};
use crate::problem::{Answer, BadRecord, Problem, RECORDS_NAMED_MAX, json};
use crate::query;
use crate::router::Doors;

/// The longest body that is decoded on the thread that serves connections.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// What is done when a record is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnError {
    Reject,
    Skip,
}

/// What a request asks for besides taking its events.
#[derive(Debug, Clone, Copy)]
struct Asked {
    on_error: OnError,
    durability: Option<Durability>,
}

/// The answer to events that were taken.
#[derive(Debug, Serialize)]
struct Accepted {
    accepted: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<usize>,
    offset: u64,
    durability: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<BadRecord>,
}

/// Takes the events of a request.
pub(crate) async fn post(doors: &Arc<Doors>, name: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
    if doors.hall.is_draining() {
        return Err(Problem::draining());
    }
    let inbox = doors.hall.inbox(name).map_err(|missing| Problem::not_found("source", name, missing.help))?;
    let asked = asked(request.uri().query())?;
    check_type(request.headers())?;
    let encoding = Encoding::of(request.headers())?;
    if request.version() < Version::HTTP_2 && request.body().is_end_stream() && !says_length(request.headers()) {
        return Err(Problem::length_required());
    }
    inbox.room().map_err(|refusal| Problem::refused(refusal, name))?;
    let body = body::read(request.into_body(), &doors.budget, &doors.options).await?;
    if body.bytes.len() <= INLINE_BYTES_MAX && encoding == Encoding::Identity {
        return acknowledge(take(doors, name, inbox.as_ref(), body, encoding, asked)?).await;
    }
    let (doors, name, inbox) = (doors.clone(), name.to_string(), inbox.clone());
    let work = move || take(&doors, &name, inbox.as_ref(), body, encoding, asked);
    let taken = tokio::task::spawn_blocking(work).await;
    let taken = taken.unwrap_or_else(|error| Err(Problem::internal(format!("decoding the body failed: {error}"))));
    acknowledge(taken?).await
}

/// Answers when the events have become as durable as the answer says.
async fn acknowledge((accepted, durable): (Accepted, Option<Durable>)) -> Result<Answer, Problem> {
    if let Some(durable) = durable {
        durable.await.map_err(Problem::lost)?;
    }
    Ok(json(StatusCode::ACCEPTED, &accepted))
}

fn says_length(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::CONTENT_LENGTH) || headers.contains_key(http::header::TRANSFER_ENCODING)
}

fn asked(query: Option<&str>) -> Result<Asked, Problem> {
    let mut asked = Asked { on_error: OnError::Reject, durability: None };
    for (name, value) in query::pairs(query)? {
        match (name.as_str(), value.as_str()) {
            ("on_error", "reject") => asked.on_error = OnError::Reject,
            ("on_error", "skip") => asked.on_error = OnError::Skip,
            ("on_error", other) => {
                let detail = format!("on_error={other} is not known");
                return Err(Problem::bad_query(detail, "on_error is 'reject' (the default) or 'skip'"));
            }
            ("durability", word) => match Durability::named(word) {
                Some(Durability::Memory) | None => {
                    let detail = format!("durability={word} cannot be asked for");
                    return Err(Problem::bad_query(detail, "durability is 'process' or 'flushed'"));
                }
                level => asked.durability = level,
            },
            (name, _) => return Err(query::unknown(name, &["on_error", "durability"])),
        }
    }
    Ok(asked)
}

/// JSON, an object a line or not, in UTF-8: how the objects stand in the body is seen from the body.
pub(crate) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(Problem::media_type("the request does not say what its body is"));
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let charset = parameters
        .split(';')
        .filter_map(|one| one.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    if let Some((_, charset)) = charset
        && !charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    {
        return Err(Problem::media_type(format!("JSON is UTF-8, not {}", charset.trim())));
    }
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(()),
        other => Err(Problem::media_type(format!("a body of type '{other}' cannot be read"))),
    }
}

/// Unpacks, decodes and hands over, in this order.
fn take(
    doors: &Doors,
    name: &str,
    inbox: &dyn Inbox,
    body: Body,
    encoding: Encoding,
    asked: Asked,
) -> Result<(Accepted, Option<Durable>), Problem> {
    let body = body.inflate(encoding, &doors.budget, doors.options.inflated_bytes_max)?;
    let decoded = inbox.decode(&body.bytes).map_err(Problem::bad_body)?;
    let (accepted, rejected) = (decoded.count(), decoded.rejected.len());
    let mut errors: Vec<BadRecord> = decoded.rejected.into_iter().map(BadRecord::from).collect();
    if rejected > 0 && (asked.on_error == OnError::Reject || decoded.stopped) {
        return Err(Problem::bad_records(errors, decoded.stopped));
    }
    errors.truncate(RECORDS_NAMED_MAX);
    let taken = inbox.offer(decoded.rows, &body.bytes, asked.durability);
    let Taken { offset, durability, durable } = taken.map_err(|refusal| Problem::refused(refusal, name))?;
    let rejected = (asked.on_error == OnError::Skip).then_some(rejected);
    Ok((Accepted { accepted, rejected, offset, durability: durability.as_str(), errors }, durable))
}

//! `GET /v1/views/{name}`: rows of a view go out, all of one version.

use std::sync::Arc;

use arrow_array::RecordBatch;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tidemill_format::encode::JsonEncoder;
use tidemill_format::{Encoder as _, JsonOptions};

use crate::door::Door;
use crate::hall::{KeyPart, Lookup, LookupError, Rows};
use crate::outgoing::Answer;
use crate::problem::Problem;
use crate::query;
use crate::reply::{self, Reply};

/// The rows that are answered unless the request says otherwise.
const LIMIT_DEFAULT: usize = 1_000;

/// The most rows that a request can ask for.
const LIMIT_MAX: usize = 100_000;

/// The step after which the rows stood so.
const VERSION: HeaderName = HeaderName::from_static("tidemill-version");

/// Whether there are more rows than were asked for.
const MORE: HeaderName = HeaderName::from_static("tidemill-more");

/// How rows are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// An array of objects.
    Json,
    /// An object a line.
    Lines,
}

/// Answers rows.
pub(crate) async fn get(door: &Arc<Door>, name: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
    let view = door.hall.view(name).map_err(|missing| Problem::not_found("view", name, missing.help))?;
    let layout = layout(request.headers())?;
    let lookup = lookup(request.uri().query())?;
    let view = view.clone();
    let work = move || view.read(&lookup).map_err(problem).and_then(|rows| answer(&rows, layout));
    let read = tokio::task::spawn_blocking(work).await;
    let read = read.unwrap_or_else(|error| Err(Problem::internal(format!("reading the view failed: {error}"))));
    read.map(Answer::from)
}

/// Why a view does not answer.
pub(crate) fn problem(error: LookupError) -> Problem {
    match error {
        LookupError::Key { problem, help } => Problem::bad_query(problem, help),
        LookupError::Failed(reason) => Problem::internal(reason),
    }
}

/// The layout that the request accepts.
pub(crate) fn layout(headers: &HeaderMap) -> Result<Layout, Problem> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(Layout::Json) };
    let accept = String::from_utf8_lossy(accept.as_bytes());
    for wanted in accept.split(',') {
        let mut parts = wanted.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        if parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32))) {
            continue;
        }
        match kind.as_str() {
            "*/*" | "application/*" | "application/json" => return Ok(Layout::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => return Ok(Layout::Lines),
            _ => {}
        }
    }
    Err(Problem::not_acceptable(&accept))
}

/// What the parameters of the request ask for.
pub(crate) fn lookup(query: Option<&str>) -> Result<Lookup, Problem> {
    let mut lookup = Lookup { key: Vec::new(), limit: LIMIT_DEFAULT };
    for pair in query::pairs(query) {
        let (name, value) = pair?;
        match name.as_ref() {
            "limit" => lookup.limit = query::limit(&value, LIMIT_MAX)?,
            "key" => lookup.key.push(KeyPart { column: None, value: value.into_owned() }),
            other => match other.strip_prefix("key.") {
                Some(column) => {
                    let column = Some(column.to_string());
                    lookup.key.push(KeyPart { column, value: value.into_owned() });
                }
                None => return Err(query::unknown(other, &["key", "limit"])),
            },
        }
    }
    Ok(lookup)
}

fn answer(rows: &Rows, layout: Layout) -> Result<Reply, Problem> {
    let lines = lines(&rows.batches).map_err(|error| Problem::internal(error.to_string()))?;
    let (kind, body) = match layout {
        Layout::Lines => ("application/x-ndjson", lines),
        Layout::Json => (reply::JSON, array(lines)),
    };
    let more = HeaderValue::from_static(if rows.more { "true" } else { "false" });
    let headers = vec![(VERSION, HeaderValue::from(rows.version)), (MORE, more)];
    Ok(Reply { status: StatusCode::OK, kind, headers, body })
}

/// Rows as lines of JSON.
pub(crate) fn lines(batches: &[RecordBatch]) -> Result<Vec<u8>, tidemill_format::Error> {
    let mut lines = Vec::new();
    let mut encoder = JsonEncoder::new(JsonOptions::default());
    for batch in batches {
        encoder.encode(batch, None, &mut lines)?;
    }
    Ok(lines)
}

/// Lines as an array: a line break is never inside a value.
pub(crate) fn array(mut lines: Vec<u8>) -> Vec<u8> {
    if lines.last() == Some(&b'\n') {
        lines.pop();
    }
    for byte in &mut lines {
        if *byte == b'\n' {
            *byte = b',';
        }
    }
    lines.insert(0, b'[');
    lines.push(b']');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_asked() {
        let read = |query| lookup(Some(query)).ok();
        let part = |column: Option<&str>, value: &str| KeyPart {
            column: column.map(str::to_string),
            value: value.to_string(),
        };
        assert_eq!(lookup(None).ok(), Some(Lookup { key: vec![], limit: 1_000 }));
        assert_eq!(read("key=a&key=b"), Some(Lookup { key: vec![part(None, "a"), part(None, "b")], limit: 1_000 }));
        assert_eq!(read("key.day=1&limit=5"), Some(Lookup { key: vec![part(Some("day"), "1")], limit: 5 }));
        for bad in ["limit=", "limit=-1", "limit=100001", "keyy=1", "limit=ten"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn answers_as_is_accepted() {
        let read = |accept: &str| {
            let value = HeaderValue::from_str(accept).expect("it is ASCII");
            layout(&HeaderMap::from_iter([(ACCEPT, value)])).ok()
        };
        assert_eq!(read("text/html, */*;q=0.1"), Some(Layout::Json));
        assert_eq!(read("application/x-ndjson"), Some(Layout::Lines));
        assert_eq!(read("application/json;q=0, application/x-ndjson"), Some(Layout::Lines));
        assert_eq!(read("text/html"), None);
        assert_eq!(layout(&HeaderMap::new()).ok(), Some(Layout::Json));
    }

    #[test]
    fn lines_become_an_array() {
        let check = |lines: &str, expected: &str| assert_eq!(array(lines.into()), expected.as_bytes());
        check("", "[]");
        check("{\"a\":1}\n", "[{\"a\":1}]");
        check("{\"a\":1}\n{\"a\":2}\n", "[{\"a\":1},{\"a\":2}]");
    }
}

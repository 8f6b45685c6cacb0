//! `/v1/tables/{name}/...`: versioned tables are read, edited and compared; `/v1/versions/...`: so are, without being
//! edited, the versions of the pipeline's state.
//!
//! A submit that rests on a version which nobody knows yet waits for it without holding a thread: between two looks the
//! request sleeps, and one whose client has gone is forgotten.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::Value as Json;

use crate::asked::{self, Encoding};
use crate::door::Door;
use crate::hall::{Denial, Lookup, Submitted, Table, TableRows, Versions};
use crate::outgoing::Answer;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::views::{self, Layout};
use crate::{incoming, query};

/// How long a submit that waits sleeps between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// The versions that are listed unless the request says otherwise.
const VERSIONS_DEFAULT: usize = 100;

/// The most versions that a request can ask for.
const VERSIONS_MAX: usize = 10_000;

/// The version that the rows of an answer are of.
const VERSION: HeaderName = HeaderName::from_static("tidemill-version");

/// Whether there are more rows than were asked for.
const MORE: HeaderName = HeaderName::from_static("tidemill-more");

/// The table of that name.
pub(crate) fn find(door: &Door, name: &str) -> Result<Arc<dyn Table>, Problem> {
    let found = door.hall.table(name).map_err(|missing| Problem::not_found("versioned table", name, missing.help))?;
    Ok(found.clone())
}

/// Submits a change: `POST .../versions`.
pub(crate) async fn submit(door: &Door, table: Arc<dyn Table>, request: Request<Incoming>) -> Result<Answer, Problem> {
    query::none(request.uri().query())?;
    let body = read_body(door, request).await?;
    let submitted = {
        let table = table.clone();
        blocking(move || table.submit(&body)).await?
    };
    let ticket = match submitted {
        Submitted::Accepted(accepted) => return Ok(Reply::json(StatusCode::CREATED, &accepted).into()),
        Submitted::Waiting(ticket) => ticket,
    };
    let waiting = Waiting { table, ticket };
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let table = waiting.table.clone();
        if let Some(accepted) = blocking(move || table.look(ticket).transpose()).await? {
            return Ok(Reply::json(StatusCode::CREATED, &accepted).into());
        }
    }
}

/// A submit that waits; forgotten when the request goes.
struct Waiting {
    table: Arc<dyn Table>,
    ticket: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (table, ticket) = (self.table.clone(), self.ticket);
        // Without a runtime the door is closing, and nobody submits any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || table.forget(ticket));
        }
    }
}

/// Returns to an older version: `POST .../rollback`.
pub(crate) async fn roll_back(
    door: &Door,
    table: Arc<dyn Table>,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    query::none(request.uri().query())?;
    let body = read_body(door, request).await?;
    let made = blocking(move || table.roll_back(&body)).await?;
    Ok(Reply::json(StatusCode::CREATED, &made).into())
}

/// Lists versions: `GET .../versions`, as a graph with `?graph`.
pub(crate) async fn list(table: Arc<dyn Table>, request: Request<Incoming>) -> Result<Answer, Problem> {
    let (mut graph, mut limit) = (false, VERSIONS_DEFAULT);
    for pair in query::pairs(request.uri().query()) {
        let (name, value) = pair?;
        match (name.as_ref(), value.as_ref()) {
            ("graph", "" | "true") => graph = true,
            ("graph", "false") => graph = false,
            ("limit", value) => limit = query::limit(value, VERSIONS_MAX)?,
            (name, _) => return Err(query::unknown(name, &["graph", "limit"])),
        }
    }
    found(blocking(move || table.versions(graph, limit)).await)
}

/// Answers the rows at a version: `GET .../at/{version}`.
pub(crate) async fn at(table: Arc<dyn Table>, version: String, request: Request<Incoming>) -> Result<Answer, Problem> {
    let layout = views::layout(request.headers(), &[Layout::Json, Layout::Lines])?;
    let Lookup { key, by: _, limit } = views::lookup(request.uri().query(), None)?;
    let TableRows { version, rows, more } = blocking(move || table.at(&version, &key, limit)).await?;
    let (kind, text) = match layout {
        Layout::Json | Layout::Arrow => ("application/json", serde_json::to_vec(&rows)),
        Layout::Lines => ("application/x-ndjson", lines(&rows)),
    };
    let body = text.map_err(|error| Problem::internal(error.to_string()))?;
    let more = HeaderValue::from_static(if more { "true" } else { "false" });
    let reply = Reply { status: StatusCode::OK, kind, headers: vec![(MORE, more)], body };
    Ok(match HeaderValue::from_str(&version) {
        Ok(version) => reply.header(VERSION, version).into(),
        Err(_) => reply.into(),
    })
}

fn lines(rows: &[Json]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Compares two versions: `GET .../diff/{a}..{b}`.
pub(crate) async fn diff(table: Arc<dyn Table>, range: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
    query::none(request.uri().query())?;
    let (from, to) = range_of(range)?;
    found(blocking(move || table.diff(&from, &to)).await)
}

/// The versions of the pipeline's state.
pub(crate) fn state(door: &Door) -> Result<Arc<dyn Versions>, Problem> {
    door.hall.versions().cloned().ok_or_else(Problem::no_versions)
}

/// Lists the versions of the pipeline's state: `GET /v1/versions`.
pub(crate) async fn state_list(state: Arc<dyn Versions>, request: Request<Incoming>) -> Result<Answer, Problem> {
    query::none(request.uri().query())?;
    found(blocking(move || state.list()).await)
}

/// Shows one: `GET /v1/versions/{v}`.
pub(crate) async fn state_show(
    state: Arc<dyn Versions>,
    version: String,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    query::none(request.uri().query())?;
    found(blocking(move || state.show(&version)).await)
}

/// Compares two: `GET /v1/versions/diff/{a}..{b}`.
pub(crate) async fn state_diff(
    state: Arc<dyn Versions>,
    range: &str,
    request: Request<Incoming>,
) -> Result<Answer, Problem> {
    query::none(request.uri().query())?;
    let (from, to) = range_of(range)?;
    found(blocking(move || state.diff(&from, &to)).await)
}

fn found(value: Result<Json, Problem>) -> Result<Answer, Problem> {
    value.map(|value| Reply::json(StatusCode::OK, &value).into())
}

fn range_of(range: &str) -> Result<(String, String), Problem> {
    match range.split_once("..") {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.to_string(), to.to_string())),
        _ => Err(Problem::bad_range(range)),
    }
}

/// Reads a body of JSON.
async fn read_body(door: &Door, request: Request<Incoming>) -> Result<Vec<u8>, Problem> {
    if door.hall.is_draining() {
        return Err(Problem::draining());
    }
    asked::check_json(request.headers())?;
    let encoding = Encoding::of(request.headers())?;
    let body = incoming::read(&mut request.into_body(), door).await?;
    Ok(body.inflate(encoding, &door.budget, door.options.inflated_bytes_max)?.bytes)
}

/// Does what may wait for a disk or a bucket on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Denial> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::internal(format!("the table did not answer: {error}")))?.map_err(Problem::denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_names() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let read = range_of(text).ok();
            assert_eq!(read.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), expected, "{text}");
        };
        check("1-0-1..newest", Some(("1-0-1", "newest")));
        check("1-0-1..", None);
        check("..2-0-1", None);
        check("1-0-1", None);
    }
}

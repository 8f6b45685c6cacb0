//! `GET /v1/views/{name}/stream`: a view's rows and then its changes, as server-sent events.
//!
//! A stream begins with all rows of one version and misses no change from then on. One that asks for what came after a
//! version, or comes back with the last one that it saw, goes on from there while the changes since are known; else it is
//! told to begin anew. A client that does not keep up is told that it has lost its place, and the stream ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use tidemill_circuit::view::{Change, Followed};
use tokio::sync::mpsc;

use crate::changes;
use crate::door::Door;
use crate::hall::{Follow, Hall, LookupError, Rows, View};
use crate::outgoing::{Answer, Outgoing};
use crate::problem::Problem;
use crate::query;
use crate::views;

/// The last version that a client has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Rows in one event of the beginning.
const ROWS_MAX: usize = 1_000;

/// Events on their way to a client.
const EVENTS_WAITING_MAX: usize = 4;

/// How often a client is sent something, so that one that has gone is noticed.
const BEAT: Duration = Duration::from_secs(15);

/// Answers with a stream.
pub(crate) async fn get(door: &Arc<Door>, name: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
    let view = door.hall.view(name).map_err(|missing| Problem::not_found("view", name, missing.help))?;
    let seen = seen(&request)?;
    if door.hall.is_draining() {
        return Err(Problem::draining());
    }
    let (view, hall) = (view.clone(), door.hall.clone());
    let begun = tokio::task::spawn_blocking(move || begin(view.as_ref(), seen)).await;
    let begun = begun.map_err(|error| Problem::internal(format!("reading the view failed: {error}")))?;
    let (beginning, follow) = begun.map_err(views::problem)?;
    let (events, sent) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move { drop(send(&hall, beginning, follow, &events).await) });
    let mut answer = Response::new(Outgoing::Events(sent));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// The version that the client has seen: of the last event, or as `?from=` says.
fn seen(request: &Request<Incoming>) -> Result<Option<u64>, Problem> {
    let mut seen = None;
    for pair in query::pairs(request.uri().query()) {
        let (name, value) = pair?;
        if name != "from" {
            return Err(query::unknown(&name, &["from"]));
        }
        let wrong = || Problem::bad_query(format!("from={value} is no version"), "from is the version of an answer");
        seen = Some(value.parse().map_err(|_| wrong())?);
    }
    // A client that comes back has seen more than what it first asked for.
    let Some(last) = request.headers().get(LAST_EVENT_ID) else { return Ok(seen) };
    match last.to_str().unwrap_or_default().parse() {
        Ok(last) => Ok(Some(last)),
        Err(_) => {
            Err(Problem::bad_header("Last-Event-ID", "send the id of the last event that was seen, or leave it out"))
        }
    }
}

/// How a stream begins.
enum Beginning {
    /// With the changes after this version.
    After(u64),
    /// With all rows, for a client that has none, or `anew` for one whose version is too long ago.
    With { rows: Rows, anew: bool },
}

fn begin(view: &dyn View, seen: Option<u64>) -> Result<(Beginning, Box<dyn Follow>), LookupError> {
    if let Some(seen) = seen
        && let Some(follow) = view.follow_from(seen)?
    {
        return Ok((Beginning::After(seen), follow));
    }
    let (rows, follow) = view.follow()?;
    // Views that cannot tell what was before may still be where the client is.
    Ok(match seen == Some(rows.version) {
        true => (Beginning::After(rows.version), follow),
        false => (Beginning::With { rows, anew: seen.is_some() }, follow),
    })
}

/// The client has gone.
struct Gone;

/// Sends events until the view or the pipeline ends, or the client is gone or too slow.
async fn send(
    hall: &Hall,
    beginning: Beginning,
    mut follow: Box<dyn Follow>,
    events: &mpsc::Sender<Bytes>,
) -> Result<(), Gone> {
    let say = async |event: Vec<u8>| events.send(Bytes::from(event)).await.map_err(|_| Gone);
    let version = match beginning {
        Beginning::After(version) => version,
        Beginning::With { rows, anew } => {
            let version = || ("version", rows.version.to_string().into_bytes());
            if anew {
                say(event("reset", None, &[version()])).await?;
            }
            for batch in rows.batches.iter().flat_map(pages) {
                match array(&[batch]) {
                    Ok(text) => say(event("rows", None, &[version(), ("rows", text)])).await?,
                    Err(problem) => return say(last("failed", &problem)).await,
                }
            }
            rows.version
        }
    };
    say(event("ready", Some(version), &[("version", version.to_string().into_bytes())])).await?;
    loop {
        let followed = tokio::select! {
            biased;
            () = events.closed() => return Err(Gone),
            // What has come before the end is sent before it.
            followed = poll_fn(|cx| follow.poll_next(cx)) => followed,
            () = hall.drained() => return say(last("ended", "the pipeline is ending")).await,
            () = tokio::time::sleep(BEAT) => {
                say(b":\n\n".to_vec()).await?;
                continue;
            }
        };
        let event = match followed {
            Followed::Changed(change) => changed(&change),
            Followed::Lost => {
                return say(last("lost", "changes came faster than they were read: follow the view anew")).await;
            }
            Followed::Ended => return say(last("ended", "the view does not change any more")).await,
        };
        match event {
            Ok(event) => say(event).await?,
            Err(problem) => return say(last("failed", &problem)).await,
        }
    }
}

/// What a step changed.
fn changed(change: &Change) -> Result<Vec<u8>, String> {
    let signed = |sign| changes::rows(&change.deltas, sign).map_err(|error| error.to_string());
    let (deletes, inserts) = (array(&signed(-1)?)?, array(&signed(1)?)?);
    let version = change.version.to_string().into_bytes();
    let parts = [("version", version), ("deletes", deletes), ("inserts", inserts)];
    Ok(event("change", Some(change.version), &parts))
}

/// The last event of a stream.
fn last(name: &str, problem: &str) -> Vec<u8> {
    event(name, None, &[("detail", serde_json::Value::from(problem).to_string().into_bytes())])
}

/// An event whose data is an object of these members, which are JSON without line breaks.
fn event(name: &str, id: Option<u64>, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut text = format!("event: {name}\n").into_bytes();
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(b"data: {");
    for (index, (name, value)) in members.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        text.extend_from_slice(format!("{comma}\"{name}\":").as_bytes());
        text.extend_from_slice(value);
    }
    text.extend_from_slice(b"}\n\n");
    text
}

/// A batch in pieces that are short enough for an event.
fn pages(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let starts = (0..batch.num_rows()).step_by(ROWS_MAX);
    starts.map(|start| batch.slice(start, ROWS_MAX.min(batch.num_rows() - start)))
}

/// Rows as an array of objects.
fn array(batches: &[RecordBatch]) -> Result<Vec<u8>, String> {
    views::lines(batches).map(views::array).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_lines_of_text() {
        let check = |event: Vec<u8>, expected: &str| assert_eq!(String::from_utf8_lossy(&event), expected);
        check(event("ready", Some(7), &[("version", b"7".to_vec())]), "event: ready\nid: 7\ndata: {\"version\":7}\n\n");
        check(last("lost", "a \"b\"\n"), "event: lost\ndata: {\"detail\":\"a \\\"b\\\"\\n\"}\n\n");
    }
}

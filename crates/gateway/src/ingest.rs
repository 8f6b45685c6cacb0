//! `POST /v1/sources/{name}` on the standard stack: short bodies are taken where they arrive, long ones on a thread for
//! that, and the answer waits until the events are as durable as it says.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::asked::Encoding;
use crate::body::Body;
use crate::door::Door;
use crate::events::{Events, LongEvents};
use crate::hall::{Durability, Inbox, Receipt};
use crate::incoming;
use crate::outgoing::Answer;
use crate::problem::Problem;
use crate::question;
use crate::reply::{self, Reply};

/// Takes the events of a request.
pub(crate) async fn post(
    door: &Arc<Door>,
    name: &str,
    query: Option<&str>,
    request: &mut Request<Incoming>,
) -> Result<Answer, Problem> {
    let bodiless = incoming::is_bodiless(request);
    let headers = std::mem::take(request.headers_mut());
    let events = Events::begin(&door.hall, name, query, &headers, bodiless)?;
    let body = incoming::read(request.body_mut(), door).await?;
    if events.is_short(body.bytes.len()) {
        let receipt = events.take(&body.bytes)?;
        drop(body);
        durable(events.inbox, &receipt).await?;
        return Ok(accepted(&receipt, events.asked.skip_bad).into());
    }
    let (events, encoding) = (events.long(), events.encoding);
    Box::pin(long(door.clone(), events, encoding, body)).await.map(Answer::from)
}

/// Takes a long or packed body on a thread for that, and waits until its events are durable.
pub(crate) async fn long(
    door: Arc<Door>,
    events: LongEvents,
    encoding: Encoding,
    body: Body,
) -> Result<Reply, Problem> {
    let work = move || {
        let body = body.inflate(encoding, &door.budget, door.options.inflated_bytes_max)?;
        events.take(&body.bytes).map(|taken| (events, taken))
    };
    let taken = tokio::task::spawn_blocking(work).await;
    let taken = taken.unwrap_or_else(|error| Err(Problem::internal(format!("decoding the body failed: {error}"))));
    let (events, (receipt, ready)) = taken?;
    match ready {
        Some(ready) => ready.await.map_err(Problem::lost)?,
        None => durable(events.inbox(), &receipt).await?,
    }
    Ok(accepted(&receipt, events.skips_bad()))
}

/// Waits until events that were taken are as durable as their receipt says.
async fn durable(inbox: &Arc<dyn Inbox>, receipt: &Receipt) -> Result<(), Problem> {
    let (Some(place), Some(level)) = (receipt.place, receipt.durability) else { return Ok(()) };
    if level == Durability::Memory || inbox.durable(level) >= place {
        return Ok(());
    }
    let (tell, told) = oneshot::channel();
    inbox.when_durable(place, level, Box::new(|result| drop(tell.send(result))));
    match told.await {
        Ok(result) => result.map_err(Problem::lost),
        Err(_) => Err(Problem::lost("the journal ended before it had the events")),
    }
}

fn accepted(receipt: &Receipt, skip_bad: bool) -> Reply {
    let mut body = Vec::with_capacity(reply::RECEIPT_BYTES);
    reply::receipt(receipt, skip_bad, &mut body);
    let reply = Reply { status: StatusCode::ACCEPTED, kind: reply::JSON, headers: Vec::new(), body };
    if !receipt.repeated {
        return reply;
    }
    reply.header(HeaderName::from_static(question::REPLAYED), HeaderValue::from_static("true"))
}

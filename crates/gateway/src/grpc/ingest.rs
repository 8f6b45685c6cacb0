//! Ingest: events come in, a message at a time or message after message.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_proto::v1::ingest_server::Ingest;
use tidemill_proto::v1::push_request::Events;
use tidemill_proto::v1::{PushReply, PushRequest};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::feed::Tab;
use super::status::{Failure, bad_records, status};
use super::terms::{Asked, caller, durability};
use crate::events::SHORT_BYTES_MAX;
use crate::guard::Caller;
use crate::hall::{BodyKind, Decoded, Durability, Durable, Hall, Inbox, Receipt, Rejection};
use crate::identity::Need;
use crate::problem::Problem;

/// Messages of a stream that were taken and are not acknowledged yet.
const ACKS_WAITING_MAX: usize = 1_024;

/// How long a stream waits before it tries a full source again: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) hall: Arc<Hall>,
}

/// A message that is to be taken.
struct Message {
    id: u64,
    body: Bytes,
    asked: Asked,
}

/// A message that was taken.
struct Taken {
    reply: PushReply,
    durable: Option<Durable>,
}

#[tonic::async_trait]
impl Ingest for Service {
    type PushStreamStream = Pin<Box<dyn Stream<Item = Result<PushReply, Status>> + Send>>;

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushReply>, Status> {
        let (caller, tab) = caller(&request)?;
        let (source, message) = unpacked(request.into_inner()).map_err(status)?;
        caller.may(Need::Ingest(&source)).map_err(status)?;
        let taken = self.take(&source, &message).await;
        tab.settle();
        taken?.acknowledged().await.map(Response::new)
    }

    async fn push_stream(
        &self,
        request: Request<Streaming<PushRequest>>,
    ) -> Result<Response<Self::PushStreamStream>, Status> {
        let (caller, tab) = caller(&request)?;
        let (acks, taken) = mpsc::channel(ACKS_WAITING_MAX);
        let (service, messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(failed) = service.take_all(&caller, messages, &tab, &acks).await {
                // Nobody is there to hear it when the client has gone.
                let _ = acks.send(Err(failed)).await;
            }
        });
        let acks = ReceiverStream::new(taken).then(async |taken: Result<Taken, Status>| taken?.acknowledged().await);
        Ok(Response::new(Box::pin(acks)))
    }
}

impl Service {
    /// Takes the messages of a stream until it ends, a message cannot be taken, or the pipeline does not go on.
    async fn take_all(
        &self,
        caller: &Caller,
        mut messages: Streaming<PushRequest>,
        tab: &Tab,
        acks: &mpsc::Sender<Result<Taken, Status>>,
    ) -> Result<(), Status> {
        let mut source = String::new();
        loop {
            let message = tokio::select! {
                biased;
                () = self.hall.drained() => return Err(status(Problem::draining())),
                () = acks.closed() => return Ok(()),
                message = messages.message() => message?,
            };
            let Some(mut message) = message else { return Ok(()) };
            let id = message.id;
            let named = std::mem::take(&mut message.source);
            if !named.is_empty() {
                source = named;
            }
            message.source.clone_from(&source);
            let failed = |problem| Failure::from(problem).of_request(id);
            let (source, message) = unpacked(message).map_err(failed)?;
            let taken = tokio::select! {
                biased;
                () = acks.closed() => return Ok(()),
                taken = self.take_when_there_is_room(caller, &source, &message) => taken?,
            };
            drop(message);
            tab.settle();
            if acks.send(Ok(taken)).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Takes a message, and waits while the source is full or the caller too quick: the stream is not read on, and so the
    /// client is slowed down.
    async fn take_when_there_is_room(
        &self,
        caller: &Caller,
        source: &str,
        message: &Message,
    ) -> Result<Taken, Failure> {
        let (mut pause, mut counted) = (PAUSE_MIN, false);
        loop {
            // A message counts once, however often it is tried.
            let allowed = if counted { Ok(()) } else { caller.may(Need::Ingest(source)).map_err(Failure::from) };
            counted |= allowed.is_ok();
            let taken = match allowed {
                Ok(()) => self.take(source, message).await,
                Err(failed) => Err(failed),
            };
            match taken {
                Err(failed) if failed.is_full() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                taken => return taken.map_err(|failed| failed.of_request(message.id)),
            }
        }
    }

    /// Takes a message, or says why not.
    async fn take(&self, source: &str, message: &Message) -> Result<Taken, Failure> {
        if self.hall.is_draining() {
            return Err(Problem::draining().into());
        }
        let found = self.hall.inbox(source);
        let inbox = found.map_err(|missing| Problem::not_found("source", source, missing.help))?;
        inbox.room().map_err(|refusal| Problem::refused(refusal, "source", source))?;
        let Message { id, body, asked } = message;
        let taken = if body.len() <= SHORT_BYTES_MAX {
            inbox.take(body, asked.terms()).map(|receipt| (receipt, None))
        } else {
            let (inbox, body, asked) = (inbox.clone(), body.clone(), asked.clone());
            let work = move || take_long(inbox.as_ref(), &body, &asked);
            let taken = tokio::task::spawn_blocking(work).await;
            taken.map_err(|error| Problem::internal(format!("decoding the message failed: {error}")))?
        };
        let (receipt, durable) = taken.map_err(|rejection| rejected(rejection, source))?;
        let durable = durable.or_else(|| settled(inbox, &receipt));
        Ok(Taken { reply: reply(*id, &receipt), durable })
    }
}

impl Taken {
    /// The acknowledgement, once the events are as durable as it says.
    async fn acknowledged(self) -> Result<PushReply, Status> {
        if let Some(durable) = self.durable {
            durable.await.map_err(|reason| Failure::from(Problem::lost(reason)).of_request(self.reply.id))?;
        }
        Ok(self.reply)
    }
}

/// The source and what is to be taken of a message.
fn unpacked(message: PushRequest) -> Result<(String, Message), Problem> {
    let PushRequest { source, events, durability, skip_bad, idempotency_key, id } = message;
    let (kind, body) = match events {
        Some(Events::Json(body)) => (BodyKind::Json, body),
        Some(Events::Rows(body)) => (BodyKind::Rows, body),
        Some(Events::Columns(body)) => (BodyKind::Columns, body),
        None => return Err(Problem::bad_query("the message has no events", "set one of json, rows and columns")),
    };
    let asked = Asked::new(durability, skip_bad, idempotency_key, kind)?;
    Ok((source, Message { id, body, asked }))
}

/// Takes a long body; JSON without a key is decoded before the source is held up by it.
fn take_long(inbox: &dyn Inbox, body: &[u8], asked: &Asked) -> Result<(Receipt, Option<Durable>), Rejection> {
    if asked.key.is_some() || asked.kind != BodyKind::Json {
        return inbox.take(body, asked.terms()).map(|receipt| (receipt, None));
    }
    let Decoded { rows, rejected, stopped } = inbox.decode(body).map_err(Rejection::Body)?;
    if !rejected.is_empty() && (!asked.skip_bad || stopped) {
        return Err(Rejection::Records { rejected, stopped });
    }
    let accepted = rows.iter().map(tidemill_circuit::Delta::rows).sum();
    let taken = inbox.offer(rows, body, asked.durability).map_err(Rejection::Refused)?;
    let (offset, durability) = (taken.offset, Some(taken.durability));
    Ok((Receipt { accepted, rejected, offset, durability, place: None, repeated: false }, taken.durable))
}

/// What is waited for before events are acknowledged.
fn settled(inbox: &Arc<dyn Inbox>, receipt: &Receipt) -> Option<Durable> {
    let (place, level) = (receipt.place?, receipt.durability.unwrap_or(Durability::Process));
    if inbox.durable(level) >= place {
        return None;
    }
    let (told, tells) = oneshot::channel();
    let tell = move |durable: Result<(), String>| drop(told.send(durable));
    inbox.when_durable(place, level, Box::new(tell));
    let gone = "the journal was closed before the events were durable";
    Some(Box::pin(async move { tells.await.unwrap_or_else(|_| Err(gone.to_string())) }))
}

fn rejected(rejection: Rejection, source: &str) -> Failure {
    match rejection {
        Rejection::Records { rejected, stopped } => {
            let records = rejected.clone();
            Failure::from(Problem::bad_records(rejected, stopped)).with_records(&records)
        }
        rejection => Problem::rejected(rejection, "source", source).into(),
    }
}

fn reply(id: u64, receipt: &Receipt) -> PushReply {
    PushReply {
        id,
        accepted: receipt.accepted as u64,
        offset: receipt.offset,
        durability: durability(receipt.durability).into(),
        rejected: receipt.rejected.len() as u64,
        errors: bad_records(&receipt.rejected),
        repeated: receipt.repeated,
    }
}

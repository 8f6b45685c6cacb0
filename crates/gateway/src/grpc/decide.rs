//! Decide: requests are answered by rules while they are open, one a call or many on a stream.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tidemill_proto::v1::ask_request::Request as Columns;
use tidemill_proto::v1::decide_server::Decide;
use tidemill_proto::v1::{AskReply, AskRequest};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::answer::Form;
use super::feed::Tab;
use super::status::{Failure, status};
use super::terms::{Asked, caller, timeout};
use crate::guard::Caller;
use crate::hall::{Answered, Answers, BodyKind, Endpoint, Hall, Question, Ticket};
use crate::identity::Need;
use crate::problem::Problem;
use crate::question;

/// Requests of a stream that wait for their answers, or whose answers wait to be sent.
const WAITING_MAX: usize = 1_024;

/// Deadlines of a stream that are kept, those of requests that were answered among them.
const DEADLINES_MAX: usize = 4 * WAITING_MAX;

/// The service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) hall: Arc<Hall>,
    pub(super) question_bytes_max: usize,
}

/// A request to an endpoint.
struct Ask {
    id: u64,
    name: String,
    endpoint: Arc<dyn Endpoint>,
    body: Bytes,
    asked: Asked,
    deadline: Duration,
    form: Form,
}

#[tonic::async_trait]
impl Decide for Service {
    type AskStreamStream = Pin<Box<dyn Stream<Item = Result<AskReply, Status>> + Send>>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskReply>, Status> {
        let (caller, tab) = caller(&request)?;
        let within = timeout(request.metadata());
        let ask = self.read(&caller, request.into_inner(), within).map_err(status)?;
        let (tell, told) = oneshot::channel();
        let (name, form) = (ask.name.clone(), ask.form.clone());
        let waiting = Arc::new(Waiting { name, form, tell: Mutex::new(Some(tell)) });
        let question = ask.put(waiting, 0).map_err(status)?;
        tab.settle();
        let mut told = std::pin::pin!(told);
        let answer = match tokio::time::timeout(ask.deadline, told.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                ask.endpoint.expire(question);
                told.await
            }
        };
        let reply = answer.unwrap_or_else(|_| Err(Problem::internal("the endpoint was closed").into()));
        reply.map(|reply| Response::new(AskReply { id: ask.id, ..reply })).map_err(Status::from)
    }

    async fn ask_stream(
        &self,
        request: Request<Streaming<AskRequest>>,
    ) -> Result<Response<Self::AskStreamStream>, Status> {
        let (caller, tab) = caller(&request)?;
        let (replies, sent) = mpsc::channel(WAITING_MAX + 1);
        let session = Session::new(self.clone(), caller, replies.clone());
        let messages = request.into_inner();
        tokio::spawn(async move {
            let ended = session.run(messages, &tab).await;
            // Nobody is there to hear it when the client has gone.
            let _ = replies.send(Reply::End(ended.err())).await;
        });
        let sent = ReceiverStream::new(sent).map_while(|reply| match reply {
            Reply::Answer(reply, _room) => Some(Ok(*reply)),
            Reply::End(failed) => failed.map(Err),
        });
        Ok(Response::new(Box::pin(sent)))
    }
}

impl Service {
    /// What a message asks, and how long for.
    fn read(&self, caller: &Caller, message: AskRequest, within: Option<Duration>) -> Result<Ask, Problem> {
        if self.hall.is_draining() {
            return Err(Problem::draining());
        }
        let AskRequest { endpoint: name, request, durability, idempotency_key, id, deadline_micros, format } = message;
        caller.may(Need::Decide(&name))?;
        let found = self.hall.endpoint(&name);
        let endpoint = found.map_err(|missing| Problem::not_found("endpoint", &name, missing.help))?.clone();
        let (kind, body) = match request {
            Some(Columns::Json(body)) => (BodyKind::Json, body),
            Some(Columns::Row(row)) => (BodyKind::Rows, rows_of(&row)),
            None => return Err(Problem::bad_query("the message has no request", "set one of json and row")),
        };
        if body.len() > self.question_bytes_max {
            return Err(crate::body::too_large(self.question_bytes_max));
        }
        let asked = Asked::new(durability, false, idempotency_key, kind)?;
        let own = Some(Duration::from_micros(deadline_micros)).filter(|own| !own.is_zero());
        let shorter = own.into_iter().chain(within).min();
        let longest = endpoint.deadline();
        let deadline = shorter.map_or(longest, |shorter| shorter.min(longest));
        let form = Form::of(format, endpoint.as_ref())?;
        Ok(Ask { id, name, endpoint, body, asked, deadline, form })
    }
}

impl Ask {
    /// Hands the request over; the answer comes to `door`, under this number.
    fn put(&self, door: Arc<dyn Answers>, number: u64) -> Result<Question, Problem> {
        let asked = self.endpoint.ask(&self.body, self.asked.terms(), Ticket { door, number });
        asked.map_err(|rejection| Problem::rejected(rejection, "endpoint", &self.name))
    }
}

/// A message of rows with this one row.
fn rows_of(row: &Bytes) -> Bytes {
    let mut body = BytesMut::with_capacity(row.len() + 11);
    prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut body);
    prost::encoding::encode_varint(row.len() as u64, &mut body);
    body.put_slice(row);
    body.freeze()
}

/// The reply that an answer is.
fn reply(answered: &Answered<'_>, name: &str, form: &Form) -> Result<AskReply, Failure> {
    if let Some(problem) = question::problem(answered, name) {
        return Err(problem.into());
    }
    if answered.status >= 400 {
        return Err(Failure::of_document(answered.status, answered.body));
    }
    let mut reply = AskReply {
        rule: answered.rule.to_string(),
        version: answered.version,
        fallback: answered.fallback.map(|fallback| fallback.as_str().to_string()).unwrap_or_default(),
        repeated: answered.repeated,
        ..AskReply::default()
    };
    form.write(answered.body, &mut reply)?;
    Ok(reply)
}

/// The one request of a call, which waits for its answer.
struct Waiting {
    name: String,
    form: Form,
    tell: Mutex<Option<oneshot::Sender<Result<AskReply, Failure>>>>,
}

impl Answers for Waiting {
    fn answer(&self, _number: u64, answered: Answered<'_>) {
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = tell {
            // The client may have gone.
            let _ = tell.send(reply(&answered, &self.name, &self.form));
        }
    }
}

/// What a stream sends.
enum Reply {
    /// An answer, and the room it takes until it is sent.
    Answer(Box<AskReply>, OwnedSemaphorePermit),
    /// Nothing more comes; why, when something is wrong.
    End(Option<Status>),
}

/// The requests of a stream that wait for their answers.
struct Asking {
    open: Mutex<HashMap<u64, Open>>,
    replies: mpsc::Sender<Reply>,
    answered: Notify,
}

struct Open {
    id: u64,
    name: String,
    form: Form,
    room: OwnedSemaphorePermit,
}

impl Asking {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a reply to the request of a number, once.
    fn reply(&self, number: u64, reply: impl FnOnce(&str, &Form) -> Result<AskReply, Failure>) {
        let Some(Open { id, name, form, room }) = self.lock().remove(&number) else { return };
        let reply = match reply(&name, &form) {
            Ok(reply) => AskReply { id, ..reply },
            Err(failed) => {
                let problem = Some(failed.of_request(id).into_problem());
                AskReply { id, problem, ..AskReply::default() }
            }
        };
        // There is a place for each request that has room, so only a client that has gone misses it.
        let _ = self.replies.try_send(Reply::Answer(Box::new(reply), room));
        self.answered.notify_one();
    }
}

impl Answers for Asking {
    fn answer(&self, number: u64, answered: Answered<'_>) {
        self.reply(number, |name, form| reply(&answered, name, form));
    }
}

/// A stream of requests.
struct Session {
    service: Service,
    caller: Caller,
    asking: Arc<Asking>,
    /// The requests whose time is not over, by when it is and their numbers; some of them are answered already.
    deadlines: BTreeMap<(Instant, u64), (Question, Arc<dyn Endpoint>)>,
    number: u64,
}

impl Session {
    fn new(service: Service, caller: Caller, replies: mpsc::Sender<Reply>) -> Self {
        let asking = Arc::new(Asking { open: Mutex::default(), replies, answered: Notify::new() });
        Session { service, caller, asking, deadlines: BTreeMap::new(), number: 0 }
    }

    /// Asks what comes until nothing more does, and waits for the answers.
    async fn run(mut self, mut messages: Streaming<AskRequest>, tab: &Tab) -> Result<(), Status> {
        let (hall, asking) = (self.service.hall.clone(), self.asking.clone());
        let slots = Arc::new(Semaphore::new(WAITING_MAX));
        let (mut name, mut room, mut ended) = (String::new(), None, None);
        loop {
            if ended.is_some() && asking.lock().is_empty() {
                return ended.unwrap_or(Ok(()));
            }
            tokio::select! {
                biased;
                () = asking.replies.closed() => return Ok(()),
                () = sleep_until(self.deadlines.keys().next().map(|(at, _)| *at)) => self.expire(),
                () = asking.answered.notified(), if ended.is_some() => {}
                () = hall.drained(), if ended.is_none() => ended = Some(Err(status(Problem::draining()))),
                slot = slots.clone().acquire_owned(), if ended.is_none() && room.is_none() => room = slot.ok(),
                message = messages.message(), if ended.is_none() && room.is_some() => match (message, room.take()) {
                    (Ok(Some(mut message)), Some(room)) => {
                        tab.settle();
                        if message.endpoint.is_empty() {
                            message.endpoint.clone_from(&name);
                        } else {
                            name.clone_from(&message.endpoint);
                        }
                        self.ask(message, room);
                    }
                    (Err(failed), _) => ended = Some(Err(failed)),
                    _ => ended = Some(Ok(())),
                },
            }
        }
    }

    /// Asks; what is refused is answered with its problem.
    fn ask(&mut self, message: AskRequest, room: OwnedSemaphorePermit) {
        self.number += 1;
        let (number, name, id) = (self.number, message.endpoint.clone(), message.id);
        let read = self.service.read(&self.caller, message, None);
        let form = read.as_ref().map_or(Form::Json, |ask| ask.form.clone());
        // Before it is asked: the answer may come at once.
        self.asking.lock().insert(number, Open { id, name, form, room });
        let asked = read.and_then(|ask| {
            let question = ask.put(self.asking.clone(), number)?;
            Ok((Instant::now() + ask.deadline, (question, ask.endpoint)))
        });
        match asked {
            Ok((at, question)) => drop(self.deadlines.insert((at, number), question)),
            Err(problem) => self.asking.reply(number, |_, _| Err(problem.into())),
        }
        if self.deadlines.len() > DEADLINES_MAX {
            let open = self.asking.lock();
            self.deadlines.retain(|(_, number), _| open.contains_key(number));
        }
    }

    /// The time of the first request is over.
    fn expire(&mut self) {
        let Some(((_, number), (question, endpoint))) = self.deadlines.pop_first() else { return };
        let waits = self.asking.lock().contains_key(&number);
        if waits {
            endpoint.expire(question);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

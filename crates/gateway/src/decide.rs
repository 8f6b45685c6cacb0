//! `POST /v1/endpoints/{name}` on the standard stack: the request's task sleeps until its answer is there or its time is
//! over, and takes what the endpoint says then.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::{HeaderName, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;

use crate::asked::PREFER;
use crate::door::Door;
use crate::hall::{Answered, Answers, Ticket};
use crate::incoming;
use crate::outgoing::Answer;
use crate::problem::Problem;
use crate::question::{self, Decision};
use crate::reply::Reply;

/// Says which of the client's preferences were followed.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Answers a request for a decision.
pub(crate) async fn post(
    door: &Arc<Door>,
    name: &str,
    query: Option<&str>,
    request: &mut Request<Incoming>,
) -> Result<Answer, Problem> {
    let bodiless = incoming::is_bodiless(request);
    let headers = std::mem::take(request.headers_mut());
    let decision = Decision::begin(&door.hall, name, query, &headers, bodiless)?;
    let body = incoming::read(request.body_mut(), door).await?;
    let body = body.inflate(decision.encoding, &door.budget, door.options.question_bytes_max)?;
    if body.bytes.len() > door.options.question_bytes_max {
        return Err(crate::body::too_large(door.options.question_bytes_max));
    }
    let waiting = Arc::new(Waiting { name: name.to_string(), state: Mutex::default() });
    let question = decision.ask(&body.bytes, Ticket { door: waiting.clone(), number: 0 })?;
    drop(body);
    let answer = poll_fn(|cx| waiting.poll(cx));
    let mut reply = match tokio::time::timeout(decision.deadline, answer).await {
        Ok(reply) => reply,
        Err(_) => {
            decision.endpoint.expire(question);
            poll_fn(|cx| waiting.poll(cx)).await
        }
    };
    if let (Some(_), Some(preferred)) = (decision.asked.wait, headers.get(PREFER)) {
        reply = reply.header(PREFERENCE_APPLIED, preferred.clone());
    }
    Ok(reply.into())
}

/// A request that waits for its answer.
struct Waiting {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reply: Option<Reply>,
    waker: Option<Waker>,
}

impl Waiting {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Reply> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Answers for Waiting {
    fn answer(&self, _number: u64, answer: Answered<'_>) {
        let reply = reply(&answer, &self.name);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reply.get_or_insert(reply);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The whole answer, as the client gets it.
fn reply(answer: &Answered<'_>, name: &str) -> Reply {
    if let Some(problem) = question::problem(answer, name) {
        return problem.reply();
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = question::headers(answer)
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    Reply { status, kind: question::content_type(answer), headers, body: answer.body.to_vec() }
}

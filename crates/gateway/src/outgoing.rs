//! [`Answer`]: what the standard stack sends.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::reply::Reply;

/// An answer on its way.
pub(crate) type Answer = Response<Outgoing>;

/// The body of an answer.
pub(crate) enum Outgoing {
    /// All of it.
    Whole(Full<Bytes>),
    /// Messages of gRPC.
    Messages(tonic::body::Body),
    /// Server-sent events.
    Events(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Outgoing::Whole(body) => Pin::new(body).poll_frame(cx),
            // What is wrong with a call is in its trailers.
            Outgoing::Messages(body) => Pin::new(body).poll_frame(cx).map(|frame| frame?.ok().map(Ok)),
            Outgoing::Events(events) => events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(body) => body.is_end_stream(),
            Outgoing::Messages(body) => body.is_end_stream(),
            Outgoing::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(body) => body.size_hint(),
            Outgoing::Messages(body) => body.size_hint(),
            Outgoing::Events(_) => SizeHint::default(),
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let Reply { status, kind, headers, body } = reply;
        let mut answer = Response::new(Outgoing::Whole(Full::new(Bytes::from(body))));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer.headers_mut().extend(headers);
        answer
    }
}

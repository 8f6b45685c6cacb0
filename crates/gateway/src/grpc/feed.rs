//! [`Feed`]: the bytes of a call on their way to its messages, paid for until a message of them has been taken.
//!
//! A message is gathered whole before anybody sees it, so a client could have memory held by sending half of one and
//! nothing more. What has come is therefore paid for out of the door's budget, and has to become a message in the time that
//! a body has. Whoever has taken a message settles the [`Tab`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::Status;

use super::status::status;
use crate::body::Budget;
use crate::problem::Problem;

/// What has come of a call and has not become a message that was taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Tab(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    paid: OwnedSemaphorePermit,
    bytes: usize,
}

impl Tab {
    /// A message was taken, or is not wanted.
    pub(super) fn settle(&self) {
        drop(self.lock().take());
    }

    fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Pays for more bytes.
    fn add(&self, more: usize, budget: &Budget) -> Result<(), Problem> {
        let mut tab = self.lock();
        match tab.as_mut() {
            None => *tab = Some(Open { paid: budget.pay(more)?, bytes: more }),
            Some(open) => {
                let covered = Budget::covered(&open.paid);
                if open.bytes + more > covered {
                    open.paid.merge(budget.pay(open.bytes + more - covered)?);
                }
                open.bytes += more;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a call.
pub(super) struct Feed {
    body: Incoming,
    tab: Tab,
    budget: Budget,
    /// How long a message may take to come, and when the one that is coming is too late.
    within: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

impl Feed {
    pub(super) fn new(body: Incoming, budget: Budget, within: Duration) -> Self {
        Feed { body, tab: Tab::default(), budget, within, late: None }
    }

    /// What the call holds.
    pub(super) fn tab(&self) -> Tab {
        self.tab.clone()
    }

    /// Whether the message that is coming has taken too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.tab.is_open() {
            self.late = None;
            return false;
        }
        let within = self.within;
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        late.as_mut().poll(cx).is_ready()
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let feed = &mut *self;
        match Pin::new(&mut feed.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let paid = if bytes == 0 { Ok(()) } else { feed.tab.add(bytes, &feed.budget) };
                Poll::Ready(Some(paid.map(|()| frame).map_err(status)))
            }
            Poll::Ready(Some(Err(error))) => {
                let lost = Status::cancelled(format!("the call broke off: {error}"));
                Poll::Ready(Some(Err(lost)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if feed.is_late(cx) => Poll::Ready(Some(Err(status(Problem::slow_body())))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

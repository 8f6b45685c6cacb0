//! [`Sender`] and [`Receiver`]: the ends of a bounded channel between two stages.
//!
//! A send waits for room: that is the back-pressure. Once the graph is aborted a send fails at once, and a receive drops
//! what still comes until the senders are gone, so that stages end in the order in which they stand.

use std::task::Poll;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Select, TryRecvError, TrySendError};

use crate::cancel::Cancel;

/// Whoever is at the other end does not want any more, or the graph was aborted: end, and clean up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Where a stage puts its items.
#[derive(Debug)]
pub struct Sender<T> {
    channel: crossbeam_channel::Sender<T>,
    cancel: Cancel,
}

impl<T> Sender<T> {
    pub(crate) fn new(channel: crossbeam_channel::Sender<T>, cancel: Cancel) -> Self {
        Sender { channel, cancel }
    }

    /// Sends an item on, waiting for room.
    ///
    /// # Errors
    /// [`Stopped`] when the graph is aborted or the next stage has ended; the item is dropped.
    pub fn send(&mut self, item: T) -> Result<(), Stopped> {
        if self.cancel.is_aborted() {
            return Err(Stopped);
        }
        match self.channel.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(item)) => crossbeam_channel::select_biased! {
                recv(self.cancel.abort_signal()) -> _ => Err(Stopped),
                send(self.channel, item) -> sent => sent.map_err(|_| Stopped),
            },
        }
    }
}

/// Where a stage takes its items from: one channel, or several that were merged.
#[derive(Debug)]
pub struct Receiver<T> {
    channels: Vec<crossbeam_channel::Receiver<T>>,
    cancel: Cancel,
    turn: usize,
}

impl<T> Receiver<T> {
    pub(crate) fn new(channels: Vec<crossbeam_channel::Receiver<T>>, cancel: Cancel) -> Self {
        Receiver { channels, cancel, turn: 0 }
    }

    /// The next item, waiting for it; none when all before have ended as they should.
    ///
    /// # Errors
    /// [`Stopped`] when the graph was aborted, once all before have ended; the stage must not commit what it has.
    pub fn recv(&mut self) -> Result<Option<T>, Stopped> {
        loop {
            let item = self.next();
            match item {
                _ if !self.cancel.is_aborted() => return Ok(item),
                Some(_) => {}
                None => return Err(Stopped),
            }
        }
    }

    /// The next item if there is one now; ready with none when all before have ended as they should.
    ///
    /// # Errors
    /// [`Stopped`] when the graph was aborted.
    pub fn try_recv(&mut self) -> Result<Poll<Option<T>>, Stopped> {
        let polled = self.poll();
        if self.cancel.is_aborted() { Err(Stopped) } else { Ok(polled) }
    }

    /// The next item if one comes within `timeout`; ready with none when all before have ended as they should.
    ///
    /// # Errors
    /// [`Stopped`] when the graph was aborted.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Poll<Option<T>>, Stopped> {
        if let Poll::Ready(item) = self.try_recv()? {
            return Ok(Poll::Ready(item));
        }
        if let [channel] = self.channels.as_slice() {
            let item = match channel.recv_timeout(timeout) {
                Ok(item) => Poll::Ready(Some(item)),
                Err(RecvTimeoutError::Timeout) => Poll::Pending,
                Err(RecvTimeoutError::Disconnected) => Poll::Ready(None),
            };
            return if self.cancel.is_aborted() { Err(Stopped) } else { Ok(item) };
        }
        wait_any(&[&*self], Some(timeout));
        self.try_recv()
    }

    fn next(&mut self) -> Option<T> {
        if let [channel] = self.channels.as_slice() {
            return channel.recv().ok();
        }
        loop {
            match self.poll() {
                Poll::Ready(item) => return item,
                Poll::Pending => wait_any(&[&*self], None),
            };
        }
    }

    /// Looks at each channel once, beginning after the one that gave the last item.
    fn poll(&mut self) -> Poll<Option<T>> {
        let mut looked = 0;
        while looked < self.channels.len() {
            let at = self.turn % self.channels.len();
            match self.channels[at].try_recv() {
                Ok(item) => {
                    self.turn = at + 1;
                    return Poll::Ready(Some(item));
                }
                Err(TryRecvError::Empty) => {
                    self.turn = at + 1;
                    looked += 1;
                }
                Err(TryRecvError::Disconnected) => {
                    self.channels.remove(at);
                    self.turn = at;
                }
            }
        }
        if self.channels.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Waits until a receive from one of `receivers` would not wait, or `timeout` has passed; false when it has passed.
pub fn wait_any<T>(receivers: &[&Receiver<T>], timeout: Option<Duration>) -> bool {
    let mut waits = Waits::new();
    receivers.iter().for_each(|receiver| waits.on(receiver));
    waits.wait(timeout)
}

/// What a stage waits for: any of several receivers, of whatever they receive, and bells.
#[derive(Default)]
pub struct Waits<'a> {
    select: Option<Select<'a>>,
    ready: bool,
}

impl<'a> Waits<'a> {
    /// Nothing yet.
    pub fn new() -> Self {
        Waits::default()
    }

    /// Waits for a receiver too.
    pub fn on<T>(&mut self, receiver: &'a Receiver<T>) {
        self.ready |= receiver.channels.is_empty();
        receiver.channels.iter().for_each(|channel| self.on_bell(channel));
    }

    /// Waits for a channel too that is no stage's: one that rings when there is something to be looked at.
    pub fn on_bell<T>(&mut self, bell: &'a crossbeam_channel::Receiver<T>) {
        self.select.get_or_insert_default().recv(bell);
    }

    /// Waits until a receive would not wait, or `timeout` has passed; false when it has passed.
    pub fn wait(mut self, timeout: Option<Duration>) -> bool {
        if self.ready {
            return true;
        }
        let select = self.select.get_or_insert_default();
        match timeout {
            Some(timeout) => select.ready_timeout(timeout).is_ok(),
            None => {
                select.ready();
                true
            }
        }
    }
}

//! [`Mailbox`]: how other threads reach a worker: the engine with answers, the journal with what it has kept, a helper
//! with a long body that it has read.
//!
//! Letters lie in one growing buffer that the worker swaps for its other, empty one, so that a letter costs a lock that is
//! rarely contended and a copy, and no memory once both buffers are as long as they get. There are never more letters than
//! requests that wait. A worker that sleeps is rung for once, however many letters come before it wakes.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::hall::{Answered, Answers, Fallback};
use crate::reply::Reply;

/// A worker's letters.
#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    letters: Letters,
    /// Whether the worker has to be rung for.
    asleep: bool,
}

/// What has come.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Answers of endpoints.
    pub answers: Vec<Letter>,
    /// Their bodies.
    pub bodies: Vec<u8>,
    /// Which queues of acknowledgements can go on, or why they never will.
    pub kept: Vec<(usize, Result<(), String>)>,
    /// What became of long bodies, by the numbers of their requests.
    pub replies: Vec<(u64, Reply)>,
}

/// The answer of an endpoint.
#[derive(Debug)]
pub(super) struct Letter {
    /// The request's number.
    pub number: u64,
    status: u16,
    fallback: Option<Fallback>,
    repeated: bool,
    version: u64,
    body: Range<usize>,
}

impl Letter {
    /// The answer, whose body is among `bodies`.
    pub(super) fn answered<'a>(&self, bodies: &'a [u8]) -> Answered<'a> {
        let body = bodies.get(self.body.clone()).unwrap_or_default();
        let Letter { status, fallback, repeated, version, .. } = *self;
        // The body names the rule; nothing else asks for it here.
        Answered { status, body, fallback, rule: "", version, repeated }
    }
}

impl Letters {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.kept.is_empty() && self.replies.is_empty()
    }

    /// Adds the answer to the request of this number.
    fn answer(&mut self, number: u64, answer: Answered<'_>) {
        let Answered { status, body, fallback, rule: _, version, repeated } = answer;
        let start = self.bodies.len();
        self.bodies.extend_from_slice(body);
        let body = start..self.bodies.len();
        self.answers.push(Letter { number, status, fallback, repeated, version, body });
    }

    /// Forgets all letters and keeps their memory.
    pub(super) fn clear(&mut self) {
        self.answers.clear();
        self.bodies.clear();
        self.kept.clear();
        self.replies.clear();
    }
}

impl Mailbox {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { state: Mutex::default(), bell })
    }

    /// What becomes readable when the worker is rung for.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Swaps the letters for `read`, which is empty; false when there are none: then whoever posts rings.
    pub(super) fn collect(&self, read: &mut Letters) -> bool {
        let mut state = self.state();
        state.asleep = state.letters.is_empty();
        if !state.asleep {
            std::mem::swap(&mut state.letters, read);
        }
        !state.asleep
    }

    /// Silences the bell.
    pub(super) fn silence(&self) {
        // Nothing to read means that nobody rang.
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
    }

    /// Wakes the worker without a letter.
    pub(super) fn ring(&self) {
        // A bell that cannot be rung any louder rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Says whether a queue of acknowledgements can go on.
    pub(super) fn kept(&self, queue: usize, result: Result<(), String>) {
        self.post(|letters| letters.kept.push((queue, result)));
    }

    /// Brings what became of a long body.
    pub(super) fn reply(&self, number: u64, reply: Reply) {
        self.post(|letters| letters.replies.push((number, reply)));
    }

    fn post(&self, write: impl FnOnce(&mut Letters)) {
        let mut state = self.state();
        write(&mut state.letters);
        self.rouse(state);
    }

    /// Rings for the worker if it sleeps.
    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.ring();
        }
    }

    /// A panic between lock and unlock leaves whole letters.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers for Mailbox {
    fn answer(&self, number: u64, answer: Answered<'_>) {
        self.post(|letters| letters.answer(number, answer));
    }

    fn answer_held(&self, number: u64, answer: Answered<'_>) -> bool {
        let mut state = self.state();
        state.letters.answer(number, answer);
        state.asleep
    }

    fn wake(&self) {
        self.rouse(self.state());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(body: &[u8]) -> Answered<'_> {
        Answered { status: 200, body, fallback: Some(Fallback::Deadline), rule: "r", version: 3, repeated: true }
    }

    #[test]
    fn letters_come_whole_and_in_order() {
        let mailbox = Mailbox::new().expect("the system has eventfds");
        mailbox.answer(7, answered(b"one"));
        mailbox.answer(8, answered(b"another"));
        mailbox.kept(2, Err("gone".to_string()));
        let mut letters = Letters::default();
        assert!(mailbox.collect(&mut letters));
        let read: Vec<_> =
            letters.answers.iter().map(|letter| (letter.number, letter.answered(&letters.bodies).body)).collect();
        assert_eq!(read, [(7, &b"one"[..]), (8, &b"another"[..])]);
        let first = letters.answers[0].answered(&letters.bodies);
        assert_eq!((first.status, first.fallback, first.repeated), (200, Some(Fallback::Deadline), true));
        assert_eq!(letters.kept, [(2, Err("gone".to_string()))]);
        letters.clear();
        assert!(!mailbox.collect(&mut letters));
    }

    #[test]
    fn only_a_sleeper_is_rung_for() {
        let mailbox = Mailbox::new().expect("the system has eventfds");
        let rung = || rustix::io::read(&mailbox.bell, &mut [0_u8; 8]).is_ok();
        mailbox.answer(1, answered(b""));
        assert!(!rung(), "the worker looks before it sleeps");
        let mut letters = Letters::default();
        assert!(mailbox.collect(&mut letters));
        letters.clear();
        assert!(!mailbox.collect(&mut letters), "now it sleeps");
        mailbox.answer(1, answered(b""));
        mailbox.answer(1, answered(b""));
        assert!(rung() && !rung());
        assert!(!mailbox.answer_held(1, answered(b"")), "it was rung for already");
        assert!(mailbox.collect(&mut letters));
        letters.clear();
        assert!(!mailbox.collect(&mut letters));
        assert!(mailbox.answer_held(1, answered(b"")) && mailbox.answer_held(2, answered(b"")) && !rung());
        mailbox.wake();
        mailbox.wake();
        assert!(rung() && !rung());
    }
}

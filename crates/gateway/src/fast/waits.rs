//! [`Waits`]: requests that were taken and are not answered yet, and acknowledgements that wait for the journal.
//!
//! A request has a [`Wait`] when its answer comes later, or when it is ready and an earlier one of its connection is not:
//! answers leave in the order of their requests. A wait's memory is used again by the next.
//!
//! Acknowledgements of one source and level wait in one queue, in the order of their places in the journal. One of them
//! at a time asks to be told; then everything up to the durable place goes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::mail::Mailbox;
use super::slots::{Key, Slots};
use super::wheel::Wheel;
use super::wire::Manner;
use crate::hall::{Durability, Endpoint, Inbox, Question};

/// Milliseconds of a tick of deadlines, and ticks in a turn.
const TICK: u64 = 1;
const TICKS: usize = 1024;

/// The memory for an answer that is kept for the next.
const ANSWER_BYTES_KEPT: usize = 4 << 10;

/// A request whose answer has not left.
pub(super) struct Wait {
    /// Its connection.
    pub owner: Key,
    /// How it is to be answered, and whether its connection stays open then.
    pub manner: Manner,
    /// The answer as it stands on the wire, once `ready`, or as it will be when nothing goes wrong.
    pub answer: Vec<u8>,
    /// Whether the answer can leave.
    pub ready: bool,
    /// Which endpoint it asks; empty for events.
    pub endpoint: String,
    /// What the client preferred and gets.
    pub preferred: Vec<u8>,
    /// What is asked, to be told when its time is over.
    question: Option<(Arc<dyn Endpoint>, Question)>,
}

impl Wait {
    fn new(owner: Key, manner: Manner) -> Self {
        let (answer, endpoint, preferred) = (Vec::new(), String::new(), Vec::new());
        Wait { owner, manner, answer, ready: false, endpoint, preferred, question: None }
    }

    /// As new, with the memory it has; more than a few answers need is not kept.
    fn reset(&mut self, owner: Key, manner: Manner) {
        (self.owner, self.manner, self.ready, self.question) = (owner, manner, false, None);
        self.answer.clear();
        self.answer.shrink_to(ANSWER_BYTES_KEPT);
        self.endpoint.clear();
        self.preferred.clear();
    }
}

/// Requests that wait.
pub(super) struct Waits {
    slots: Slots<Wait>,
    deadlines: Wheel,
    queues: Vec<Queue>,
    over: Vec<u32>,
}

/// Acknowledgements of one source that wait for one level.
struct Queue {
    inbox: Arc<dyn Inbox>,
    level: Durability,
    waiting: VecDeque<(u64, Key)>,
    /// The place that is waited for.
    told_at: Option<u64>,
}

impl Waits {
    /// Nothing waits.
    pub(super) fn new(now: u64) -> Self {
        let deadlines = Wheel::new(TICK, TICKS, now);
        Waits { slots: Slots::new(), deadlines, queues: Vec::new(), over: Vec::new() }
    }

    /// A new wait.
    pub(super) fn begin(&mut self, owner: Key, manner: Manner) -> (Key, &mut Wait) {
        let (key, wait) = self.slots.reuse(|| Wait::new(owner, manner));
        wait.reset(owner, manner);
        (key, wait)
    }

    /// A wait, unless it has ended.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Wait> {
        self.slots.get(key)
    }

    /// Ends a wait.
    pub(super) fn end(&mut self, key: Key) {
        if let Some(wait) = self.slots.get(key) {
            wait.question = None;
            self.deadlines.clear(key.index);
            self.slots.leave(key);
        }
    }

    /// Has `endpoint` told when the time of a question is over, at `deadline`.
    pub(super) fn ask(&mut self, key: Key, endpoint: &Arc<dyn Endpoint>, question: Question, deadline: u64) {
        if let Some(wait) = self.slots.get(key) {
            wait.question = Some((endpoint.clone(), question));
            self.deadlines.set(key.index, deadline);
        }
    }

    /// The answer is there: its time is never over.
    pub(super) fn answered(&mut self, key: Key) {
        self.deadlines.clear(key.index);
    }

    /// Tells endpoints whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        let mut over = std::mem::take(&mut self.over);
        self.deadlines.advance(now, &mut over);
        for index in over.drain(..) {
            let wait = self.slots.key(index).and_then(|key| self.slots.get(key));
            if let Some((endpoint, question)) = wait.and_then(|wait| wait.question.take()) {
                endpoint.expire(question);
            }
        }
        self.over = over;
    }

    /// When the next time is over.
    pub(super) fn next(&self) -> Option<u64> {
        self.deadlines.next()
    }

    /// Has a wait become ready once `place` has reached `level`.
    pub(super) fn keep(
        &mut self,
        key: Key,
        inbox: &Arc<dyn Inbox>,
        level: Durability,
        place: u64,
        mail: &Arc<Mailbox>,
    ) {
        let same = |queue: &Queue| Arc::ptr_eq(&queue.inbox, inbox) && queue.level == level;
        let number = self.queues.iter().position(same).unwrap_or_else(|| {
            self.queues.push(Queue { inbox: inbox.clone(), level, waiting: VecDeque::new(), told_at: None });
            self.queues.len() - 1
        });
        self.queues[number].waiting.push_back((place, key));
        self.queues[number].listen(number, mail);
    }

    /// What a queue waited for has come, or never will: calls `see` with whose acknowledgements can go.
    pub(super) fn kept(
        &mut self,
        number: usize,
        result: Result<(), String>,
        mail: &Arc<Mailbox>,
        mut see: impl FnMut(&mut Wait),
    ) {
        let Some(queue) = self.queues.get_mut(number) else { return };
        let told = queue.told_at.take().unwrap_or_default();
        let durable = if result.is_ok() { told.max(queue.inbox.durable(queue.level)) } else { u64::MAX };
        while let Some((_, key)) = queue.waiting.pop_front_if(|(place, _)| *place <= durable) {
            if let Some(wait) = self.slots.get(key) {
                see(wait);
            }
        }
        queue.listen(number, mail);
    }
}

impl Queue {
    /// Asks to be told of the first place, unless somebody has.
    fn listen(&mut self, number: usize, mail: &Arc<Mailbox>) {
        let (None, Some((place, _))) = (self.told_at, self.waiting.front()) else { return };
        self.told_at = Some(*place);
        let mail = mail.clone();
        self.inbox.when_durable(*place, self.level, Box::new(move |result| mail.kept(number, result)));
    }
}

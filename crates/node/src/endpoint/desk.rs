//! [`Desk`]: where requests are handed in at an endpoint, wait, and are answered.
//!
//! A request becomes a row of the endpoint's source and waits here under the number of that row. After each step all
//! requests whose rows the step took are answered: with the rows it gave them, or none. Whoever answers first wins, the
//! step or the deadline; a request with a key is answered so from then on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_schema::SchemaRef;
use tidemill_circuit::operator::SideKind;
use tidemill_connect::Accepted;
use tidemill_gateway::{
    Answered, Answers, Durability, Endpoint, Fallback, Inbox, Question, Refusal, Rejection, Terms, Ticket,
};
use tidemill_journal::{Level, Sequence};
use tidemill_sql::pipeline::EndpointDef;

use super::answers::{Found, Shapes};
use super::stored::{Answer, Store, Stored};
use super::waiting::{Slot, Waiting};
use super::{Answering, Given};
use crate::doors::{Coming, InboxDoor, Known};

/// Answers that a door holds while more of a step follow.
const HELD_MAX: usize = 64;

/// The question of a request that was answered before it could wait.
const ANSWERED: Question = Question(u64::MAX);

/// Where requests are handed in at an endpoint.
pub(crate) struct Desk {
    name: String,
    source: String,
    /// By this number the journal knows the endpoint.
    number: u32,
    rule: String,
    /// The columns of its answers.
    columns: SchemaRef,
    deadline: Duration,
    waiting_max: usize,
    sheds_to_fallback: bool,
    shapes: Shapes,
    door: Arc<InboxDoor>,
    waiting: Mutex<Waiting>,
    store: Store,
    /// Buffers of the thread that answers.
    scratch: Mutex<Scratch>,
}

#[derive(Default)]
struct Scratch {
    due: Vec<Slot>,
    found: Found,
    body: Vec<u8>,
    held: Held,
}

/// Doors that hold answers until they are told.
#[derive(Default)]
struct Held {
    doors: Vec<Arc<dyn Answers>>,
    /// Answers since they were told.
    count: usize,
}

impl Held {
    /// Gives a door an answer.
    fn answer(&mut self, ticket: &Ticket, answer: Answered<'_>) {
        let Ticket { door, number } = ticket;
        if door.answer_held(*number, answer) && !self.doors.iter().any(|known| Arc::ptr_eq(known, door)) {
            self.doors.push(door.clone());
        }
        self.count += 1;
        if self.count >= HELD_MAX {
            self.wake();
        }
    }

    /// Tells the doors.
    fn wake(&mut self) {
        self.doors.drain(..).for_each(|door| door.wake());
        self.count = 0;
    }
}

/// How a request is answered.
#[derive(Clone, Copy)]
struct Reply<'a> {
    status: u16,
    body: &'a [u8],
    fallback: Option<Fallback>,
    version: u64,
}

impl Desk {
    /// The desk of an endpoint whose requests go through `door`.
    pub(crate) fn new(def: &EndpointDef, door: Arc<InboxDoor>) -> Self {
        let number = super::number(&def.name);
        let columns: Vec<&str> = def.request.fields().iter().map(|field| field.name().as_str()).collect();
        door.read_only(number, &columns);
        Desk {
            name: def.name.clone(),
            source: def.source.clone(),
            number,
            rule: def.rule.clone(),
            columns: def.answer.clone(),
            deadline: def.options.deadline,
            waiting_max: def.options.waiting_max,
            sheds_to_fallback: def.options.sheds_to_fallback,
            shapes: Shapes::new(&def.name, &def.rule, def.options.fallback.as_deref()),
            store: Store::new(def, number, door.journal().cloned()),
            door,
            waiting: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// The endpoint's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is known of requests with keys.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// By this number the journal knows the endpoint.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// All requests of earlier runs are there: those without an answer wait for it, though nobody waits for them.
    pub(super) fn recalled(&self) {
        for (offset, key) in self.store.recalled(self.door.now()) {
            self.waiting().push(Slot { offset, ticket: None, flushed: false, key: Some(key), done: false });
        }
    }

    /// Lets the journal go of requests whose time is over.
    pub(super) fn tend(&self) {
        self.store.tend(self.door.now());
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a request wait for its answer.
    fn admit(&self, body: &[u8], terms: Terms<'_>, at: i64, ticket: Ticket) -> Result<Accepted, (Rejection, Ticket)> {
        {
            let waiting = self.waiting();
            if waiting.is_closed() {
                return Err((Rejection::Refused(Refusal::Closed), ticket));
            }
            // What waited for too long before it was read is not decided: nobody waits for that any more.
            if terms.late || waiting.live() >= self.waiting_max {
                return Err((Rejection::Refused(Refusal::Full), ticket));
            }
        }
        let flushed = terms.durability == Some(Durability::Flushed);
        // A bad record cannot be left out of a request: there is but one.
        let terms = Terms { skip_bad: false, ..terms };
        let mut ticket = Some(ticket);
        let came = self.door.bring(&Coming { body, terms, asked: self.number, at }, |accepted| {
            let key = terms.idempotency_key.map(Arc::from);
            let slot = Slot { offset: accepted.offset, ticket: ticket.take(), flushed, key, done: false };
            self.waiting().push(slot);
        });
        match (came, ticket) {
            (Ok(came), _) => Ok(came.accepted),
            (Err(rejection), Some(ticket)) => Err((rejection, ticket)),
            // It waits, and yet was not taken in: nothing in between can fail.
            (Err(rejection), None) => {
                debug_assert!(false, "{rejection:?} after a request was admitted");
                Ok(Accepted { offset: u64::MAX, records: 1, kept: None })
            }
        }
    }

    /// What becomes of a request for which there is no room.
    fn shed(&self, rejection: Rejection, ticket: &Ticket) -> Result<Question, Rejection> {
        match (&rejection, self.shapes.fallback(Fallback::Overload)) {
            (Rejection::Refused(Refusal::Full), Some(body)) if self.sheds_to_fallback => {
                let fallback = Some(Fallback::Overload);
                self.send(ticket, Reply { status: 200, body, fallback, version: 0 }, false);
                Ok(ANSWERED)
            }
            _ => Err(rejection),
        }
    }

    /// Takes in a request with a key, or says again what was said to it before.
    fn ask_once(&self, key: &str, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        let at = self.door.now();
        let mut store = self.store.lock();
        match store.find(key, body, at) {
            Some(Known::Other) => return Err(Rejection::KeyReused),
            Some(Known::Same(Stored::Waiting { offset, tickets })) => {
                // It waits with the first: one answer is both theirs.
                if tickets.len() >= self.waiting_max {
                    return Err(Rejection::Refused(Refusal::Full));
                }
                tickets.push(ticket);
                return Ok(Question(*offset));
            }
            Some(Known::Same(Stored::Answered(answer))) => {
                let answer = answer.clone();
                drop(store);
                self.send(&ticket, Reply::of(&answer), true);
                return Ok(ANSWERED);
            }
            None => {}
        }
        match self.admit(body, terms, at, ticket) {
            Ok(accepted) => {
                let waiting = Stored::Waiting { offset: accepted.offset, tickets: Vec::new() };
                store.remember(key, body, at, accepted.kept, waiting);
                if store.oldest() == accepted.kept {
                    // Those that follow are held with it; what is forgotten is let go of now and then.
                    self.store.hold(&store);
                }
                Ok(Question(accepted.offset))
            }
            Err((rejection, ticket)) => {
                drop(store);
                self.shed(rejection, &ticket)
            }
        }
    }

    /// Answers a request of a step, and with it those that came with the same key; once.
    fn reply_held(&self, slot: Slot, reply: Reply<'_>, held: &mut Held) {
        if slot.key.is_some() {
            return self.reply(slot, reply);
        }
        if let Some(ticket) = &slot.ticket {
            held.answer(ticket, reply.answered(&self.rule, false));
        }
    }

    /// Answers a request, and with it those that came with the same key; once.
    fn reply(&self, slot: Slot, reply: Reply<'_>) {
        let others = match &slot.key {
            Some(key) => self.store.answered(key, reply.stored()),
            None => Vec::new(),
        };
        if let Some(ticket) = &slot.ticket {
            self.send(ticket, reply, false);
        }
        others.iter().for_each(|ticket| self.send(ticket, reply, true));
    }

    /// The same, once what the journal has up to `place` survives a power cut.
    fn reply_when_flushed(&self, slot: Slot, reply: Reply<'_>, place: u64) {
        let Some(journal) = self.door.journal() else { return self.reply(slot, reply) };
        if journal.durable(Level::Flushed) >= Sequence(place) {
            return self.reply(slot, reply);
        }
        let others = match &slot.key {
            Some(key) => self.store.answered(key, reply.stored()),
            None => Vec::new(),
        };
        let (stored, rule) = (reply.stored(), self.rule.clone());
        let tickets: Vec<(Ticket, bool)> = slot
            .ticket
            .into_iter()
            .map(|ticket| (ticket, false))
            .chain(others.into_iter().map(|ticket| (ticket, true)))
            .collect();
        journal.notify(
            Sequence(place),
            Level::Flushed,
            Box::new(move |flushed| {
                for (ticket, repeated) in tickets {
                    let reply = match &flushed {
                        Ok(()) => Reply::of(&stored),
                        // The door has words for it.
                        Err(_) => Reply { status: 500, body: b"", fallback: None, version: 0 },
                    };
                    send(&ticket, reply, &rule, repeated);
                }
            }),
        );
    }

    /// Tells those who wait for a request's answer that there is none now; it may still come.
    fn turn_away(&self, slot: Slot, reply: Reply<'_>) {
        let others = slot.key.as_ref().map(|key| self.store.abandoned(key)).unwrap_or_default();
        slot.ticket.iter().chain(&others).for_each(|ticket| self.send(ticket, reply, false));
    }

    fn send(&self, ticket: &Ticket, reply: Reply<'_>, repeated: bool) {
        send(ticket, reply, &self.rule, repeated);
    }

    /// What is said instead of the rule's answer, with the status of the door's own words when there is no fallback.
    fn instead(&self, why: Fallback, status: u16) -> Reply<'_> {
        match self.shapes.fallback(why) {
            Some(body) => Reply { status: 200, body, fallback: Some(why), version: 0 },
            None => Reply { status, body: b"", fallback: None, version: 0 },
        }
    }

    /// Answers those whose rows a step took, the first of which was `start`.
    fn answer_due(&self, scratch: &mut Scratch, given: &Given<'_>, start: u64) {
        let Scratch { due, found, body, held } = scratch;
        let version = given.header.step;
        if let Err(problem) = found.fill(given.rows) {
            // A plan that gives such rows is a fault of this program; whoever asked is told that it failed.
            tracing::error!(endpoint = %self.name, problem, "The rows of an answer cannot be read.");
            let failed = self.shapes.failed(&problem);
            let reply = Reply { status: 500, body: &failed, fallback: None, version };
            return due.drain(..).for_each(|slot| self.reply(slot, reply));
        }
        let mut at = 0;
        for slot in due.drain(..) {
            if slot.offset < start {
                // A step before a crash took its row, and its answer was lost with the run.
                self.reply(slot, self.instead(Fallback::Failed, 500));
                continue;
            }
            let rows = found.of(slot.offset, at);
            at = rows.end;
            let failure = match rows.is_empty() {
                true => {
                    given.failed.iter().find(|row| row.kind == SideKind::DeadLetter && row.origin == Some(slot.offset))
                }
                false => None,
            };
            let (failed, mut reply);
            match failure {
                None => {
                    self.shapes.answer(found, rows, version, body);
                    reply = Reply { status: 200, body, fallback: None, version };
                }
                Some(failure) => {
                    tracing::warn!(endpoint = %self.name, operator = %failure.operator, reason = %failure.reason, "A rule failed on a request.");
                    reply = self.instead(Fallback::Failed, 500);
                    failed = self.shapes.failed(&failure.reason);
                    if reply.body.is_empty() {
                        reply.body = &failed;
                    }
                }
            }
            match given.place {
                Some(place) if slot.flushed => self.reply_when_flushed(slot, reply, place),
                _ => self.reply_held(slot, reply, held),
            }
        }
        held.wake();
    }
}

impl Endpoint for Desk {
    fn deadline(&self) -> Duration {
        self.deadline
    }

    fn columns(&self) -> Option<SchemaRef> {
        Some(self.columns.clone())
    }

    fn ask(&self, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        if let Some(key) = terms.idempotency_key {
            return self.ask_once(key, body, terms, ticket);
        }
        match self.admit(body, terms, 0, ticket) {
            Ok(accepted) => Ok(Question(accepted.offset)),
            Err((rejection, ticket)) => self.shed(rejection, &ticket),
        }
    }

    fn wake(&self) {
        self.door.wake();
    }

    fn expire(&self, Question(offset): Question) {
        let reply = self.instead(Fallback::Deadline, 504);
        // Without a fallback nothing has been decided: who sends a request with a key again gets what the rule says.
        let decided = reply.fallback.is_some();
        let slot = self.waiting().take(offset, decided);
        match slot {
            Some(slot) if decided => self.reply(slot, reply),
            Some(slot) => self.turn_away(slot, reply),
            None => {}
        }
    }
}

impl Answering for Desk {
    fn answers(&self, given: &Given<'_>) {
        let taken = given.header.sources.iter().find(|range| range.source == self.source);
        let blocks = || taken.iter().flat_map(|range| &range.blocks);
        let (Some(start), Some(end)) = (blocks().map(|block| block.from).min(), blocks().map(|block| block.to).max())
        else {
            return;
        };
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting().take_before(end, &mut scratch.due);
        if !scratch.due.is_empty() {
            self.answer_due(&mut scratch, given, start);
        }
    }

    fn end(&self) {
        let mut due = Vec::new();
        self.waiting().close(&mut due);
        for slot in due {
            self.turn_away(slot, Reply { status: 503, body: b"", fallback: None, version: 0 });
        }
    }
}

impl<'a> Reply<'a> {
    fn of(stored: &'a Answer) -> Self {
        let Answer { status, body, fallback, version } = stored;
        Reply { status: *status, body, fallback: *fallback, version: *version }
    }

    fn answered(self, rule: &'a str, repeated: bool) -> Answered<'a> {
        let Reply { status, body, fallback, version } = self;
        Answered { status, body, fallback, rule, version, repeated }
    }

    fn stored(self) -> Answer {
        let Reply { status, body, fallback, version } = self;
        Answer { status, body: body.into(), fallback, version }
    }
}

fn send(ticket: &Ticket, reply: Reply<'_>, rule: &str, repeated: bool) {
    ticket.door.answer(ticket.number, reply.answered(rule, repeated));
}

//! [`Service`]: what a worker does with a request that has arrived, by the same rules as the standard stack.
//!
//! A body in the connection's buffer goes to the inbox or the endpoint from there. What is long or packed is read on a
//! thread for that, and its answer comes by mail like those of endpoints.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::time::Clock;
use tidemill_journal::pool::Cache;
use tokio::runtime::Handle;

use super::head::{Fault, Head};
use super::mail::{Letters, Mailbox};
use super::slots::Key;
use super::waits::Waits;
use super::wire::{self, Date, Manner};
use crate::asked::{Asked, Encoding, Head as _, PREFER};
use crate::body::{self, Body};
use crate::door::Door;
use crate::events::Events;
use crate::hall::{Durability, Endpoint, Fallback, Inbox, Receipt, Ticket};
use crate::ingest;
use crate::problem::Problem;
use crate::question::Decision;
use crate::reply::Reply;
use crate::route::{EVENTS, QUESTIONS, Route};

/// Milliseconds after which the date is written anew.
const DATE_MILLIS: u64 = 500;

/// Requests that are taken before the engine is told of them.
const QUIET_MAX: usize = 64;

/// What all connections of a worker use.
pub(super) struct Service {
    /// What is written to the connection at hand.
    pub out: Vec<u8>,
    /// Blocks to read into.
    pub blocks: Cache,
    /// Requests that wait.
    pub waits: Waits,
    /// How others reach the worker.
    pub mail: Arc<Mailbox>,
    /// Milliseconds on the worker's clock.
    pub now: u64,
    /// When the sockets were last asked before this turn: what has come only now came after that.
    pub asked: u64,
    /// Whether the door is closing: answers end their connections.
    pub stopping: bool,
    date: Date,
    date_until: u64,
    scratch: Vec<u8>,
    runtime: Handle,
    /// Who has taken something quietly, and how often.
    unaware: Vec<Unaware>,
    unaware_count: usize,
    /// Whether somebody was turned away for want of room in this turn.
    shed: bool,
}

/// Who has taken something quietly and has not been told to look at it.
enum Unaware {
    Inbox(Arc<dyn Inbox>),
    Endpoint(Arc<dyn Endpoint>),
}

/// A request whose head was looked at and whose body is still to come.
pub(super) enum Admitted {
    /// Events for a source.
    Events(Arc<dyn Inbox>, Encoding),
    /// A question to an endpoint.
    Question(Arc<dyn Endpoint>, Encoding, Duration),
}

/// A whole body.
pub(super) enum Content<'a> {
    /// In the connection's buffer.
    Short(&'a [u8]),
    /// In memory of its own.
    Long(Body),
}

impl Content<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Content::Short(bytes) => bytes,
            Content::Long(body) => &body.bytes,
        }
    }

    /// Fails when it is longer than the door allows, or there is no room for it among all bodies.
    fn check(&self, door: &Door) -> Result<(), Problem> {
        within(self.bytes().len(), door)?;
        match self {
            Content::Short(bytes) => door.budget.check(bytes.len()),
            Content::Long(_) => Ok(()),
        }
    }

    /// The body in memory of its own.
    fn owned(self, door: &Door) -> Result<Body, Problem> {
        match self {
            Content::Long(body) => Ok(body),
            Content::Short(bytes) => {
                let mut body = Body::with_room(bytes.len(), &door.budget)?;
                body.add(bytes, &door.budget, usize::MAX)?;
                Ok(body)
            }
        }
    }
}

/// A request, and where its answer goes.
pub(super) struct Asker<'a> {
    /// The connection.
    pub owner: Key,
    /// Its requests that wait, the oldest first.
    pub waiting: &'a mut VecDeque<Key>,
    /// Where the client is.
    pub address: IpAddr,
    /// The time, in milliseconds, after which its last bytes came.
    pub came: u64,
    /// The head.
    pub head: &'a Head,
    /// The bytes that begin with the head.
    pub bytes: &'a [u8],
}

impl Service {
    /// A service at `now` milliseconds.
    pub(super) fn new(blocks: Cache, mail: Arc<Mailbox>, runtime: Handle, clock: &dyn Clock) -> Self {
        let mut service = Service {
            out: Vec::new(),
            blocks,
            waits: Waits::new(clock.monotonic().as_millis() as u64),
            mail,
            now: 0,
            asked: 0,
            stopping: false,
            date: Date::default(),
            date_until: 0,
            scratch: Vec::new(),
            runtime,
            unaware: Vec::new(),
            unaware_count: 0,
            shed: false,
        };
        service.tick(clock);
        service.asked = service.now;
        service
    }

    /// Reads the clock.
    pub(super) fn tick(&mut self, clock: &dyn Clock) {
        self.now = clock.monotonic().as_millis() as u64;
        if self.now >= self.date_until {
            self.date.set(clock.now());
            self.date_until = self.now + DATE_MILLIS;
        }
    }

    /// Whether this stack answers the request itself.
    pub(super) fn knows(head: &Head, bytes: &[u8]) -> bool {
        let is_for = |beginning| head.target_starts_with(bytes, beginning);
        head.plain_post && (is_for(EVENTS) || is_for(QUESTIONS))
    }

    /// Looks at the head of a request whose body is still to come.
    pub(super) fn admit(&self, door: &Door, address: IpAddr, head: &Head, bytes: &[u8]) -> Result<Admitted, Problem> {
        let (path, query) = head.target(bytes);
        let (view, bodiless) = (head.view(bytes), head.is_bodiless());
        let route = route(path)?;
        door.admit(address, &route, &view)?;
        match route {
            Route::Events(name) => {
                let events = Events::begin(&door.hall, &name, query, &view, bodiless)?;
                Ok(Admitted::Events(events.inbox.clone(), events.encoding))
            }
            Route::Question(name) => {
                let decision = Decision::begin(&door.hall, &name, query, &view, bodiless)?;
                Ok(Admitted::Question(decision.endpoint.clone(), decision.encoding, decision.deadline))
            }
            _ => Err(elsewhere()),
        }
    }

    /// Answers a request that is there as a whole; false when that ends the connection.
    pub(super) fn whole(&mut self, door: &Arc<Door>, mut asker: Asker<'_>, body: &[u8]) -> bool {
        let (head, bytes) = (asker.head, asker.bytes);
        let (path, query) = head.target(bytes);
        let (view, bodiless) = (head.view(bytes), head.is_bodiless());
        let route = route(path).and_then(|route| door.admit(asker.address, &route, &view).map(|()| route));
        let done = route.and_then(|route| match route {
            Route::Events(name) => {
                let events = Events::begin(&door.hall, &name, query, &view, bodiless)?;
                self.events(door, &mut asker, &events, Content::Short(body))
            }
            Route::Question(name) => {
                let decision = Decision::begin(&door.hall, &name, query, &view, bodiless)?;
                self.question(door, &mut asker, &decision, Content::Short(body))
            }
            _ => Err(elsewhere()),
        });
        self.settle(asker, done)
    }

    /// Answers a request whose body has come after its head was admitted; false when that ends the connection.
    pub(super) fn finish(
        &mut self,
        door: &Arc<Door>,
        mut asker: Asker<'_>,
        admitted: &Admitted,
        body: Content<'_>,
    ) -> bool {
        let (head, bytes) = (asker.head, asker.bytes);
        let (path, query) = head.target(bytes);
        let view = head.view(bytes);
        let done = route(path).and_then(|route| match (route, admitted) {
            (Route::Events(name), Admitted::Events(inbox, encoding)) => {
                let asked = Asked::with_events(query, &view)?;
                let events = Events { name: &name, inbox, asked, encoding: *encoding };
                self.events(door, &mut asker, &events, body)
            }
            (Route::Question(name), Admitted::Question(endpoint, encoding, deadline)) => {
                let asked = Asked::with_question(query, &view)?;
                let decision = Decision { name: &name, endpoint, asked, encoding: *encoding, deadline: *deadline };
                self.question(door, &mut asker, &decision, body)
            }
            _ => Err(elsewhere()),
        });
        self.settle(asker, done)
    }

    /// Refuses a request; false when that ends the connection.
    pub(super) fn refuse(&mut self, asker: Asker<'_>, problem: Problem) -> bool {
        self.settle(asker, Err(problem))
    }

    /// Refuses bytes that are no request, which ends the connection.
    pub(super) fn fault(&mut self, owner: Key, waiting: &mut VecDeque<Key>, fault: Fault) {
        let manner = Manner { is_11: true, keep_alive: false };
        let reply = Problem::malformed(fault.status(), fault.detail()).reply();
        self.answer(owner, waiting, manner, |out, date| wire::reply(out, date, manner, &reply));
    }

    /// Writes an answer to one who has not asked anything, and ends its connection.
    pub(super) fn say(&mut self, reply: &Reply) {
        wire::reply(&mut self.out, &self.date, Manner { is_11: true, keep_alive: false }, reply);
    }

    /// Tells a client that waits for a word to send the body.
    pub(super) fn go_on(&mut self, owner: Key, waiting: &mut VecDeque<Key>) {
        let manner = Manner { is_11: true, keep_alive: true };
        self.answer(owner, waiting, manner, |out, _| out.extend_from_slice(wire::CONTINUE));
    }

    /// How the answer to a request is to be.
    fn manner(&self, head: &Head) -> Manner {
        Manner { is_11: head.is_11, keep_alive: head.keep_alive && !self.stopping }
    }

    /// Answers a request that was refused; false when it ends the connection.
    fn settle(&mut self, asker: Asker<'_>, done: Result<(), Problem>) -> bool {
        let mut manner = self.manner(asker.head);
        if let Err(problem) = done {
            self.shed |= problem.is_want_of_room();
            let reply = problem.reply();
            manner.keep_alive &= !wire::closes(&reply);
            self.answer(asker.owner, asker.waiting, manner, |out, date| wire::reply(out, date, manner, &reply));
        }
        manner.keep_alive
    }

    /// Writes an answer that is ready: at once, or behind those that are not.
    fn answer(
        &mut self,
        owner: Key,
        waiting: &mut VecDeque<Key>,
        manner: Manner,
        write: impl FnOnce(&mut Vec<u8>, &Date),
    ) {
        if waiting.is_empty() {
            return write(&mut self.out, &self.date);
        }
        let (key, wait) = self.waits.begin(owner, manner);
        wait.ready = true;
        write(&mut wait.answer, &self.date);
        waiting.push_back(key);
    }

    fn events(
        &mut self,
        door: &Arc<Door>,
        asker: &mut Asker<'_>,
        events: &Events<'_>,
        body: Content<'_>,
    ) -> Result<(), Problem> {
        body.check(door)?;
        if !events.is_short(body.bytes().len()) {
            return self.aside(door, asker, events, body.owned(door)?);
        }
        let receipt = events.take_quietly(body.bytes())?;
        self.inbox_unaware(events.inbox);
        let (manner, skip_bad) = (self.manner(asker.head), events.asked.skip_bad);
        let mut scratch = std::mem::take(&mut self.scratch);
        match place(events.inbox, &receipt) {
            None => self.answer(asker.owner, asker.waiting, manner, |out, date| {
                wire::accepted(out, date, manner, &receipt, skip_bad, &mut scratch);
            }),
            Some((place, level)) => {
                let (key, wait) = self.waits.begin(asker.owner, manner);
                wire::accepted(&mut wait.answer, &self.date, manner, &receipt, skip_bad, &mut scratch);
                asker.waiting.push_back(key);
                self.waits.keep(key, events.inbox, level, place, &self.mail);
            }
        }
        self.scratch = scratch;
        Ok(())
    }

    fn question(
        &mut self,
        door: &Arc<Door>,
        asker: &mut Asker<'_>,
        decision: &Decision<'_>,
        body: Content<'_>,
    ) -> Result<(), Problem> {
        body.check(door)?;
        let longest = door.options.question_bytes_max;
        let body = match decision.encoding {
            Encoding::Identity => body,
            encoding => Content::Long(body.owned(door)?.inflate(encoding, &door.budget, longest)?),
        };
        if body.bytes().len() > longest {
            return Err(body::too_large(longest));
        }
        let (key, wait) = self.waits.begin(asker.owner, self.manner(asker.head));
        wait.endpoint.push_str(decision.name);
        if decision.asked.wait.is_some() {
            wait.preferred.extend_from_slice(asker.head.view(asker.bytes).value(&PREFER).unwrap_or_default());
        }
        let deadline = asker.came + decision.deadline.as_millis() as u64;
        let (ticket, late) = (Ticket { door: self.mail.clone(), number: key.number() }, deadline < self.now);
        match decision.ask_quietly(body.bytes(), ticket, late) {
            Ok(question) => {
                self.waits.ask(key, decision.endpoint, question, deadline);
                asker.waiting.push_back(key);
                self.endpoint_unaware(decision.endpoint);
                Ok(())
            }
            Err(problem) => {
                self.waits.end(key);
                Err(problem)
            }
        }
    }

    fn inbox_unaware(&mut self, inbox: &Arc<dyn Inbox>) {
        let same = |one: &Unaware| matches!(one, Unaware::Inbox(known) if Arc::ptr_eq(known, inbox));
        if !self.unaware.iter().any(same) {
            self.unaware.push(Unaware::Inbox(inbox.clone()));
        }
        self.count_unaware();
    }

    fn endpoint_unaware(&mut self, endpoint: &Arc<dyn Endpoint>) {
        let same = |one: &Unaware| matches!(one, Unaware::Endpoint(known) if Arc::ptr_eq(known, endpoint));
        if !self.unaware.iter().any(same) {
            self.unaware.push(Unaware::Endpoint(endpoint.clone()));
        }
        self.count_unaware();
    }

    fn count_unaware(&mut self) {
        self.unaware_count += 1;
        if self.unaware_count >= QUIET_MAX {
            self.wake();
        }
    }

    /// Tells those who have taken something quietly: one step takes in what came together.
    pub(super) fn wake(&mut self) {
        for one in self.unaware.drain(..) {
            match one {
                Unaware::Inbox(inbox) => inbox.wake(),
                Unaware::Endpoint(endpoint) => endpoint.wake(),
            }
        }
        self.unaware_count = 0;
    }

    /// Whether somebody was turned away for want of room since this was asked last.
    pub(super) fn has_shed(&mut self) -> bool {
        std::mem::take(&mut self.shed)
    }

    /// Has a long or packed body read on a thread for that.
    fn aside(
        &mut self,
        door: &Arc<Door>,
        asker: &mut Asker<'_>,
        events: &Events<'_>,
        body: Body,
    ) -> Result<(), Problem> {
        let (key, _) = self.waits.begin(asker.owner, self.manner(asker.head));
        asker.waiting.push_back(key);
        let (events, encoding, door, mail) = (events.long(), events.encoding, door.clone(), self.mail.clone());
        self.runtime.spawn(async move {
            let reply = ingest::long(door, events, encoding, body).await.unwrap_or_else(Problem::reply);
            mail.reply(key.number(), reply);
        });
        Ok(())
    }

    /// Reads letters, and calls `touch` with each connection that may have something to send; keeps none of them.
    pub(super) fn read(&mut self, letters: &mut Letters, mut touch: impl FnMut(Key)) {
        for letter in &letters.answers {
            let key = Key::of(letter.number);
            let Some(wait) = self.waits.get(key).filter(|wait| !wait.ready) else { continue };
            let answered = letter.answered(&letters.bodies);
            self.shed |= answered.fallback == Some(Fallback::Overload);
            wire::answered(&mut wait.answer, &self.date, wait.manner, &answered, &wait.endpoint, &wait.preferred);
            wait.ready = true;
            touch(wait.owner);
            self.waits.answered(key);
        }
        for (number, reply) in letters.replies.drain(..) {
            if let Some(wait) = self.waits.get(Key::of(number)) {
                wait.ready = true;
                wait.manner.keep_alive &= !wire::closes(&reply);
                wire::reply(&mut wait.answer, &self.date, wait.manner, &reply);
                touch(wait.owner);
            }
        }
        for (queue, result) in letters.kept.drain(..) {
            let lost = result.as_ref().err().map(|reason| Problem::lost(reason.as_str()).reply());
            self.waits.kept(queue, result, &self.mail, |wait| {
                if let Some(lost) = &lost {
                    wait.manner.keep_alive = false;
                    wait.answer.clear();
                    wire::reply(&mut wait.answer, &self.date, wait.manner, lost);
                }
                wait.ready = true;
                touch(wait.owner);
            });
        }
        letters.clear();
    }
}

/// The route of a path; a name that is written plainly is seen at once.
fn route(path: &str) -> Result<Route<'_>, Problem> {
    let plain = |name: &&str| !name.is_empty() && !name.bytes().any(|byte| byte == b'/' || byte == b'%');
    if let Some(name) = path.strip_prefix(EVENTS).filter(plain) {
        return Ok(Route::Events(name.into()));
    }
    if let Some(name) = path.strip_prefix(QUESTIONS).filter(plain) {
        return Ok(Route::Question(name.into()));
    }
    Route::of("POST", path)
}

/// Fails when a body is longer than the door allows.
pub(super) fn within(bytes: usize, door: &Door) -> Result<(), Problem> {
    let longest = door.options.body_bytes_max;
    if bytes <= longest { Ok(()) } else { Err(body::too_large(longest)) }
}

/// What an acknowledgement has to wait for, if anything.
fn place(inbox: &Arc<dyn Inbox>, receipt: &Receipt) -> Option<(u64, Durability)> {
    let (place, level) = receipt.place.zip(receipt.durability)?;
    (level != Durability::Memory && inbox.durable(level) < place).then_some((place, level))
}

/// A request that is answered by the other stack; nothing lets it come here.
fn elsewhere() -> Problem {
    Problem::internal("a request came to the wrong stack")
}

//! [`Connection`]: one client's bytes, cut into requests and answered in their order.
//!
//! A connection holds a block only while part of a request lies in it, and memory for output only while the client does
//! not take what it was sent. Three things stop it from reading on: too many requests that wait for answers, output that
//! does not leave, and no block to read into. All three end by themselves or by a time-out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};
use tidemill_journal::pool::Block;

use super::arrival::{Arrival, Read as Taken};
use super::chunks::Chunks;
use super::coming::Coming;
use super::head::{self, Fault, Framing, HEAD_BYTES_MAX, Head, Parsed};
use super::service::{Asker, Service};
use super::slots::Key;
use crate::admission::Pass;
use crate::door::Door;
use crate::options::Options;
use crate::problem::Problem;

/// The length of the blocks that connections read into: the longest head, and a body that most are shorter than.
pub(super) const BLOCK_BYTES: usize = 32 << 10;

const _: () = assert!(HEAD_BYTES_MAX < BLOCK_BYTES);

/// How a connection begins that speaks HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most requests of one connection that wait for answers.
const WAITING_MAX: usize = 256;

/// The memory for output that is kept for the next connection.
const OUT_BYTES_KEPT: usize = 256 << 10;

/// Milliseconds for which a connection that was refused is read on, so that the client finds the answer.
const LINGER_MILLIS: u64 = 1_000;

/// One client.
pub(super) struct Connection {
    key: Key,
    stream: TcpStream,
    address: IpAddr,
    input: Option<Block>,
    phase: Phase,
    /// Requests that are not answered yet, the oldest first.
    waiting: VecDeque<Key>,
    /// What the client has not taken, from `sent` on.
    backlog: Vec<u8>,
    sent: usize,
    /// Whether the client says that nothing more comes.
    ended: bool,
    /// Whether nothing more is read.
    closing: bool,
    /// Whether bytes may still come that nobody looks at.
    refused: bool,
    /// After which time what is in the socket came, and what was read last.
    arrival: Arrival,
    came: u64,
    /// When it last had nothing to do, or last got rid of output.
    since: u64,
    /// Whether there was no block to read into.
    pub starved: bool,
    /// What the worker is told of the socket.
    pub interest: Interest,
    pass: Pass,
}

/// What a worker wants to know of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    /// That there is something to read.
    pub read: bool,
    /// That there is room to write.
    pub write: bool,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Stay,
    /// It is closed.
    Close,
    /// It goes to the other stack.
    Leave,
}

enum Phase {
    /// Before or in a head, of which `known` bytes were looked at.
    Head { known: usize },
    /// In a body.
    Body(Coming),
    /// Before a request for the other stack.
    Leaving,
    /// Behind the last answer, until that time.
    Lingering(u64),
}

impl Connection {
    /// A connection that has just been accepted.
    pub(super) fn new(key: Key, stream: TcpStream, address: IpAddr, pass: Pass, now: u64) -> Self {
        Connection {
            key,
            stream,
            address,
            input: None,
            phase: Phase::Head { known: 0 },
            waiting: VecDeque::new(),
            backlog: Vec::new(),
            sent: 0,
            ended: false,
            closing: false,
            refused: false,
            arrival: Arrival::new(now),
            came: now,
            since: now,
            starved: false,
            interest: Interest { read: true, write: false },
            pass,
        }
    }

    /// The socket.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What it waits for from the socket.
    pub(super) fn wants(&self) -> Interest {
        let lingering = matches!(self.phase, Phase::Lingering(_));
        Interest { read: lingering || (self.may_read() && !self.starved), write: !self.backlog.is_empty() }
    }

    /// When something has to have happened, in milliseconds.
    pub(super) fn deadline(&self, door: &Door) -> u64 {
        let Options { header_timeout: head, body_timeout: body, write_timeout: write, .. } = door.options;
        let after = |since: u64, limit: std::time::Duration| since.saturating_add(limit.as_millis() as u64);
        match &self.phase {
            Phase::Lingering(until) => *until,
            _ if !self.backlog.is_empty() => after(self.since, write),
            Phase::Body(coming) => after(coming.began, body),
            // The client waits for us.
            _ if !self.waiting.is_empty() => u64::MAX,
            Phase::Head { .. } | Phase::Leaving => after(self.since, head),
        }
    }

    /// The time is over.
    pub(super) fn expire(&mut self, service: &mut Service) -> Fate {
        let Phase::Body(coming) = std::mem::replace(&mut self.phase, Phase::Head { known: 0 }) else {
            return Fate::Close;
        };
        if !self.backlog.is_empty() {
            return Fate::Close;
        }
        if let Some(block) = self.input.take() {
            self.refuse(service, &block, &coming.head, Problem::slow_body());
            service.blocks.put(block);
        }
        self.settle(service)
    }

    /// Whether there is nothing to be finished.
    pub(super) fn is_idle(&self) -> bool {
        let between = matches!(self.phase, Phase::Head { .. } | Phase::Lingering(_));
        between && self.waiting.is_empty() && self.backlog.is_empty()
    }

    /// The socket has something: reads it, answers what is whole, and sends.
    pub(super) fn readable(&mut self, door: &Arc<Door>, service: &mut Service) -> Fate {
        if let Phase::Lingering(_) = self.phase {
            return self.discard(service);
        }
        if !self.may_read() {
            return self.go_on(door, service);
        }
        match self.read(service) {
            Ok(()) => self.go_on(door, service),
            Err(error) if is_later(&error) => Fate::Stay,
            Err(_) => Fate::Close,
        }
    }

    /// Sends what is ready, answers what is whole, and sends that.
    pub(super) fn go_on(&mut self, door: &Arc<Door>, service: &mut Service) -> Fate {
        self.deliver(service);
        if self.send(service).is_err() {
            return Fate::Close;
        }
        self.answer(door, service);
        self.settle(service)
    }

    /// Gives up what was read and not answered.
    pub(super) fn take_input(&mut self, service: &mut Service) -> Vec<u8> {
        let Some(block) = self.input.take() else { return Vec::new() };
        let read = block.bytes().to_vec();
        service.blocks.put(block);
        read
    }

    /// Gives up the socket, and the permission to have it.
    pub(super) fn into_parts(self) -> (TcpStream, Pass) {
        (self.stream, self.pass)
    }

    /// Forgets what waits and gives back what it has.
    pub(super) fn abandon(&mut self, service: &mut Service) {
        self.waiting.drain(..).for_each(|key| service.waits.end(key));
        self.input.take().into_iter().for_each(|block| service.blocks.put(block));
    }

    /// Nobody asks for the socket's bytes for a while.
    pub(super) fn pause(&mut self) {
        self.arrival.pause();
    }

    fn may_read(&self) -> bool {
        let reading = matches!(self.phase, Phase::Head { .. } | Phase::Body(_));
        reading && !self.ended && !self.closing && self.backlog.is_empty() && self.waiting.len() < WAITING_MAX
    }

    fn read(&mut self, service: &mut Service) -> io::Result<()> {
        let Some(mut block) = self.input.take().or_else(|| service.blocks.take()) else {
            self.starved = true;
            return Ok(());
        };
        self.starved = false;
        if block.room() < BLOCK_BYTES / 2 {
            block.compact();
        }
        let room = block.room();
        let read = receive(&self.stream, block.spare());
        if let Ok(count) = read {
            block.filled(count);
            self.ended = count == 0;
            let taken = Taken { count, room, asked: service.asked, now: service.now };
            self.came = self.arrival.read(taken, || unread(&self.stream));
        }
        self.hold(service, block);
        read.map(|_| ())
    }

    /// Keeps a block that has something in it.
    fn hold(&mut self, service: &mut Service, block: Block) {
        if block.bytes().is_empty() {
            service.blocks.put(block);
        } else {
            self.input = Some(block);
        }
    }

    /// Answers requests for as long as there are whole ones, and their answers find room.
    fn answer(&mut self, door: &Arc<Door>, service: &mut Service) {
        while !self.closing && self.backlog.is_empty() && self.waiting.len() < WAITING_MAX {
            let Some(mut block) = self.input.take() else { break };
            let went_on = match std::mem::replace(&mut self.phase, Phase::Head { known: 0 }) {
                Phase::Head { known } => self.head(door, service, &mut block, known),
                Phase::Body(coming) => self.body(door, service, &mut block, coming),
                other => {
                    self.phase = other;
                    false
                }
            };
            if self.closing && self.refused {
                block.clear();
            }
            self.hold(service, block);
            if !went_on {
                break;
            }
        }
        if self.ended && !self.closing {
            self.end(service);
        }
    }

    /// Reads a head and what it announces; false when more has to come.
    fn head(&mut self, door: &Arc<Door>, service: &mut Service, block: &mut Block, known: usize) -> bool {
        let bytes = block.bytes();
        let parsed = if known > 0 && !head::may_end(bytes, known) { Parsed::Partial } else { head::parse(bytes) };
        let head = match parsed {
            Parsed::Head(head) => head,
            Parsed::Partial => {
                self.phase = Phase::Head { known: bytes.len() };
                return false;
            }
            Parsed::Fault(_) if bytes.starts_with(PREFACE) => {
                self.phase = Phase::Leaving;
                return false;
            }
            Parsed::Fault(_) if PREFACE.starts_with(bytes) => return false,
            Parsed::Fault(fault) => return self.fault(service, fault),
        };
        if !Service::knows(&head, bytes) {
            self.phase = Phase::Leaving;
            return false;
        }
        match head.framing {
            Framing::None => self.whole(door, service, block, &head, 0),
            Framing::Length(length) if length <= (bytes.len() - head.length) as u64 => {
                self.whole(door, service, block, &head, length as usize)
            }
            _ => self.begin(door, service, block, head),
        }
    }

    /// Answers a request whose body of `length` bytes is there.
    fn whole(
        &mut self,
        door: &Arc<Door>,
        service: &mut Service,
        block: &mut Block,
        head: &Head,
        length: usize,
    ) -> bool {
        let bytes = block.bytes();
        let body = &bytes[head.length..][..length];
        let asker = self.asker(head, bytes);
        self.closing = !service.whole(door, asker, body);
        block.consume(head.length + length);
        self.since = service.now;
        true
    }

    /// Looks at a head whose body is still to come.
    fn begin(&mut self, door: &Arc<Door>, service: &mut Service, block: &mut Block, head: Head) -> bool {
        let admitted = service.admit(door, self.address, &head, block.bytes());
        match admitted.and_then(|admitted| Coming::new(head, admitted, door, service.now)) {
            Ok(coming) => {
                if head.expects {
                    service.go_on(self.key, &mut self.waiting);
                }
                self.body(door, service, block, coming)
            }
            Err(problem) => {
                let end = end_of_chunks(block, &head);
                let problem = if end.is_none() { problem.closing() } else { problem };
                let asker = self.asker(&head, block.bytes());
                match (service.refuse(asker, problem), end) {
                    (true, Some(end)) => block.consume(end),
                    _ => (self.closing, self.refused) = (true, true),
                }
                true
            }
        }
    }

    /// Takes what has come of a body, and answers the request when that is all; false when more has to come.
    fn body(&mut self, door: &Arc<Door>, service: &mut Service, block: &mut Block, mut coming: Coming) -> bool {
        match coming.take(block, door) {
            Ok(None) => {
                self.phase = Phase::Body(coming);
                false
            }
            Ok(Some(end)) => {
                let bytes = block.bytes();
                let (head, admitted, content) = coming.into_parts(bytes);
                let asker = self.asker(&head, bytes);
                self.closing = !service.finish(door, asker, &admitted, content);
                block.consume(end);
                self.since = service.now;
                true
            }
            Err(problem) => {
                self.refuse(service, block, &coming.head, problem);
                true
            }
        }
    }

    /// Who asks what begins with this head.
    fn asker<'a>(&'a mut self, head: &'a Head, bytes: &'a [u8]) -> Asker<'a> {
        let Connection { key, waiting, address, came, .. } = self;
        Asker { owner: *key, waiting, address: *address, came: *came, head, bytes }
    }

    /// Refuses a request in the middle of its body, which ends the connection.
    fn refuse(&mut self, service: &mut Service, block: &Block, head: &Head, problem: Problem) {
        let asker = self.asker(head, block.bytes());
        service.refuse(asker, problem.closing());
        (self.closing, self.refused) = (true, true);
    }

    /// Refuses bytes that are no request, which ends the connection.
    fn fault(&mut self, service: &mut Service, fault: Fault) -> bool {
        service.fault(self.key, &mut self.waiting, fault);
        (self.closing, self.refused) = (true, true);
        true
    }

    /// Nothing more comes: what was begun is not finished any more.
    fn end(&mut self, service: &mut Service) {
        if !self.backlog.is_empty() || self.waiting.len() >= WAITING_MAX || matches!(self.phase, Phase::Leaving) {
            return;
        }
        let Some(block) = self.input.take() else {
            self.closing = true;
            return;
        };
        if let Phase::Body(coming) = std::mem::replace(&mut self.phase, Phase::Head { known: 0 }) {
            let problem = Problem::bad_body("the body broke off: the connection ended before it did");
            self.refuse(service, &block, &coming.head, problem);
        }
        self.closing = true;
        service.blocks.put(block);
    }

    /// Moves answers that are ready to the output, in the order of their requests.
    fn deliver(&mut self, service: &mut Service) {
        while let Some(key) = self.waiting.front().copied() {
            let Some(wait) = service.waits.get(key).filter(|wait| wait.ready) else { break };
            service.out.extend_from_slice(&wait.answer);
            let open = wait.manner.keep_alive;
            service.waits.end(key);
            self.waiting.pop_front();
            self.since = service.now;
            if !open {
                self.closing = true;
                self.waiting.drain(..).for_each(|key| service.waits.end(key));
            }
        }
    }

    /// Sends what the client has not taken yet, then what is new.
    fn send(&mut self, service: &mut Service) -> io::Result<()> {
        if !self.backlog.is_empty() {
            match send(&self.stream, &self.backlog[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.since = service.now;
                }
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
            if self.sent < self.backlog.len() {
                self.backlog.append(&mut service.out);
                return Ok(());
            }
            (self.backlog, self.sent) = (Vec::new(), 0);
        }
        if service.out.is_empty() {
            return Ok(());
        }
        let sent = match send(&self.stream, &service.out) {
            Ok(count) => count,
            Err(error) if is_later(&error) => 0,
            Err(error) => {
                service.out.clear();
                return Err(error);
            }
        };
        if sent < service.out.len() {
            self.since = service.now;
            self.backlog.extend_from_slice(&service.out[sent..]);
        }
        service.out.clear();
        service.out.shrink_to(OUT_BYTES_KEPT);
        Ok(())
    }

    /// Sends what was answered and says what becomes of the connection.
    fn settle(&mut self, service: &mut Service) -> Fate {
        if self.send(service).is_err() {
            return Fate::Close;
        }
        if !self.waiting.is_empty() || !self.backlog.is_empty() {
            return Fate::Stay;
        }
        match self.phase {
            Phase::Leaving => Fate::Leave,
            Phase::Lingering(_) => Fate::Stay,
            _ if !self.closing => Fate::Stay,
            // Closing a socket with unread bytes makes the system throw away what was sent.
            _ if (self.refused || self.input.is_some()) && !self.ended => {
                self.phase = Phase::Lingering(service.now + LINGER_MILLIS);
                let _ = self.stream.shutdown(Shutdown::Write);
                self.discard(service)
            }
            _ => Fate::Close,
        }
    }

    /// Reads what nobody looks at.
    fn discard(&mut self, service: &mut Service) -> Fate {
        let Some(mut block) = service.blocks.take() else { return Fate::Close };
        let read = receive(&self.stream, block.spare());
        service.blocks.put(block);
        match read {
            Ok(0) => Fate::Close,
            Err(error) if !is_later(&error) => Fate::Close,
            _ => Fate::Stay,
        }
    }
}

/// Where a request ends whose body in chunks is there as a whole: one that is refused is passed over then.
fn end_of_chunks(block: &Block, head: &Head) -> Option<usize> {
    let (mut chunks, mut at) = (Chunks::new(), head.length);
    while head.framing == Framing::Chunked && at < block.bytes().len() && !chunks.is_over() {
        at += chunks.step(&block.bytes()[at..]).ok()?.consumed;
    }
    chunks.is_over().then_some(at)
}

/// Reads from a socket by the system's own call: the C library's looks twice whether the thread is to be cancelled.
fn receive(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    let (_, count) = rustix::net::recv(stream, bytes, RecvFlags::empty())?;
    Ok(count)
}

/// Writes to a socket in the same way.
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?)
}

/// How many bytes a socket holds.
fn unread(stream: &TcpStream) -> usize {
    rustix::io::ioctl_fionread(stream).map_or(0, |count| count as usize)
}

/// Whether the socket only has nothing now.
fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

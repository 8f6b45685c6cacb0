//! [`Worker`]: one thread with its own listening socket, epoll and connections.
//!
//! A turn of the loop takes what the sockets have, then the mail, then the time-outs. Nothing in it waits but the wait
//! for sockets at its beginning, which a letter ends, and a breath at its end when there was no room for somebody: then
//! more is read at a time, and the processor is left to who answers the others. What one connection wants is a read, what
//! it is answered a write, however many requests there were in between.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use tidemill_base::time::{Clock, SystemClock};

use super::connection::{Connection, Fate, Interest};
use super::mail::Letters;
use super::service::Service;
use super::slots::{Key, Slots};
use super::wheel::Wheel;
use crate::admission::{Admission, Pass};
use crate::door::Door;
use crate::problem::Problem;

/// Sockets that are looked at in one turn.
const EVENTS_MAX: usize = 512;

/// Milliseconds of a tick of the connections' time-outs, and ticks in a turn of their wheel.
const TICK: u64 = 64;
const TICKS: usize = 512;

/// Milliseconds after which somebody is tried again for whom there was no room.
const RETRY_MILLIS: u64 = 10;

/// Sockets that are looked at between two looks at the clock.
const TICK_EVENTS: usize = 16;

/// How long a worker leaves its sockets alone that had to turn somebody away.
const BREATH: Duration = Duration::from_millis(1);

/// Connections that are accepted in one turn, so that those who are there are not kept waiting.
const ACCEPTED_MAX: usize = 64;

/// Events of the listening socket and of the bell; no connection has such a number.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// How far a door has been closed.
#[derive(Debug, Default)]
pub(super) struct Closing(AtomicU8);

impl Closing {
    const DRAIN: u8 = 1;
    const LEAVE: u8 = 2;

    /// No new connections, and the last answer on each of the old ones.
    pub(super) fn drain(&self) {
        self.0.fetch_max(Self::DRAIN, Ordering::Release);
    }

    /// No connections.
    pub(super) fn leave(&self) {
        self.0.fetch_max(Self::LEAVE, Ordering::Release);
    }

    fn drains(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::DRAIN
    }

    fn leaves(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::LEAVE
    }
}

/// Takes connections that ask for what this stack does not answer.
pub(crate) trait Elsewhere: Send + Sync {
    /// Serves a connection of which `read` has been read already.
    fn take(&self, stream: TcpStream, read: Vec<u8>, peer: SocketAddr, pass: Pass);
}

/// A thread of the fast stack.
pub(super) struct Worker {
    door: Arc<Door>,
    service: Service,
    epoll: OwnedFd,
    listener: Option<TcpListener>,
    /// Whether the listening socket is left alone because there are too many connections.
    full: bool,
    connections: Slots<Connection>,
    timeouts: Wheel,
    /// Connections without a block to read into.
    starved: Vec<Key>,
    admission: Arc<Admission>,
    elsewhere: Arc<dyn Elsewhere>,
    closing: Arc<Closing>,
    clock: SystemClock,
}

impl Worker {
    /// A worker that accepts from `listener`, which does not block.
    pub(super) fn new(
        door: Arc<Door>,
        listener: TcpListener,
        admission: Arc<Admission>,
        elsewhere: Arc<dyn Elsewhere>,
        closing: Arc<Closing>,
        service: impl FnOnce(&dyn Clock) -> Service,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let clock = SystemClock::new();
        let service = service(&clock);
        epoll::add(&epoll, service.mail.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        let (listener, timeouts) = (Some(listener), Wheel::new(TICK, TICKS, service.now));
        let (connections, starved, full) = (Slots::new(), Vec::new(), false);
        Ok(Worker {
            door,
            service,
            epoll,
            listener,
            full,
            connections,
            timeouts,
            starved,
            admission,
            elsewhere,
            closing,
            clock,
        })
    }

    /// Serves until the door is closed.
    pub(super) fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let (mut letters, mut touched, mut over) = (Letters::default(), Vec::new(), Vec::new());
        while !self.is_done() {
            let mail = self.service.mail.collect(&mut letters);
            let timeout = self.timeout(mail);
            events.clear();
            self.service.tick(&self.clock);
            let slept_from = self.service.now;
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a worker of the fast stack cannot wait for its sockets");
                    return;
                }
            }
            self.service.tick(&self.clock);
            let woke = self.service.now;
            if woke > slept_from + 1 {
                // Nothing was there, or it would not have slept.
                self.service.asked = woke;
            }
            for (number, event) in events.iter().enumerate() {
                if number % TICK_EVENTS == TICK_EVENTS - 1 {
                    self.service.tick(&self.clock);
                }
                match event.data.u64() {
                    LISTENER => self.accept(),
                    BELL => self.service.mail.silence(),
                    number => self.wake(Key::of(number), event.flags),
                }
            }
            self.service.wake();
            if mail {
                self.service.read(&mut letters, |owner| {
                    if touched.last() != Some(&owner) {
                        touched.push(owner);
                    }
                });
                touched.drain(..).for_each(|owner| self.touch(owner, Connection::go_on));
            }
            self.expire(&mut over);
            self.retry();
            self.service.wake();
            if events.len() < EVENTS_MAX {
                self.service.asked = woke;
            }
            if self.service.has_shed() {
                std::thread::sleep(BREATH);
            }
        }
        self.connections.keys().into_iter().for_each(|key| self.close(key));
    }

    /// Whether there is nothing left to do; begins to close when it is told to.
    fn is_done(&mut self) -> bool {
        if self.closing.drains() && !self.service.stopping {
            self.service.stopping = true;
            self.listener = None;
            for key in self.connections.keys() {
                if self.connections.get(key).is_some_and(|connection| connection.is_idle()) {
                    self.close(key);
                }
            }
        }
        self.closing.leaves() || (self.service.stopping && self.connections.count() == 0)
    }

    /// How long to wait for sockets.
    fn timeout(&self, mail: bool) -> Option<Timespec> {
        let until = |at: u64| at.saturating_sub(self.service.now);
        let retry = (self.full || !self.starved.is_empty()).then_some(RETRY_MILLIS);
        let millis = match mail {
            true => Some(0),
            false => [self.timeouts.next().map(until), self.service.waits.next().map(until), retry]
                .into_iter()
                .flatten()
                .min(),
        };
        millis.map(|millis| Timespec { tv_sec: (millis / 1_000) as i64, tv_nsec: (millis % 1_000 * 1_000_000) as i64 })
    }

    /// Accepts who wants in.
    fn accept(&mut self) {
        for _ in 0..ACCEPTED_MAX {
            let Some(listener) = &self.listener else { return };
            if !self.admission.has_room() {
                self.full = epoll::delete(&self.epoll, listener).is_ok();
                return;
            }
            match listener.accept() {
                Ok((stream, peer)) => match self.admission.enter(peer.ip().to_canonical()) {
                    Some(pass) => self.welcome(stream, peer.ip(), pass),
                    None => self.turn_away(&stream, peer),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Too many open files, most likely: the next turn may find fewer.
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.full = epoll::delete(&self.epoll, listener).is_ok();
                    return;
                }
            }
        }
    }

    /// Says to one that there are too many of its kind, if it can be said without waiting.
    fn turn_away(&mut self, mut stream: &TcpStream, peer: SocketAddr) {
        tracing::debug!(%peer, "there are too many connections from one address");
        let reply = Problem::crowded(self.door.options.address_connections_max).reply();
        self.service.say(&reply);
        let _ = stream.set_nonblocking(true).and_then(|()| stream.write(&self.service.out));
        self.service.out.clear();
    }

    fn welcome(&mut self, stream: TcpStream, address: IpAddr, pass: Pass) {
        let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        if let Err(error) = ready {
            tracing::debug!(%error, "a connection ended at once");
            return;
        }
        let now = self.service.now;
        let key = self.connections.insert_with(|key| Connection::new(key, stream, address, pass, now));
        let Some(connection) = self.connections.get(key) else { return };
        let data = EventData::new_u64(key.number());
        if let Err(error) = epoll::add(&self.epoll, connection.stream(), data, EventFlags::IN) {
            tracing::warn!(%error, "a connection cannot be waited for");
            return self.close(key);
        }
        self.timeouts.set(key.index, connection.deadline(&self.door));
        // What it wants is often there already.
        self.touch(key, Connection::readable);
    }

    /// A socket has something.
    fn wake(&mut self, key: Key, flags: EventFlags) {
        if flags.intersects(EventFlags::IN) {
            self.touch(key, Connection::readable);
        } else if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            self.close(key);
        } else {
            self.touch(key, Connection::go_on);
        }
    }

    /// Lets a connection do something, and sees to what it wants then.
    fn touch(&mut self, key: Key, work: impl FnOnce(&mut Connection, &Arc<Door>, &mut Service) -> Fate) {
        let Some(connection) = self.connections.get(key) else { return };
        let fate = work(connection, &self.door, &mut self.service);
        match fate {
            Fate::Stay => self.watch(key),
            Fate::Close => self.close(key),
            Fate::Leave => self.leave(key),
        }
    }

    /// Waits for what a connection wants.
    fn watch(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        let wants = connection.wants();
        if wants != connection.interest {
            let Interest { read, write } = wants;
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, read);
            flags.set(EventFlags::OUT, write);
            let data = EventData::new_u64(key.number());
            if epoll::modify(&self.epoll, connection.stream(), data, flags).is_err() {
                return self.close(key);
            }
            if !read {
                connection.pause();
            }
            connection.interest = wants;
        }
        if self.service.stopping && connection.is_idle() {
            return self.close(key);
        }
        if connection.starved {
            self.starved.push(key);
        }
        let deadline = connection.deadline(&self.door);
        if self.timeouts.due(key.index).is_none_or(|due| due > deadline.saturating_add(TICK)) {
            self.timeouts.set(key.index, deadline);
        }
    }

    fn close(&mut self, key: Key) {
        self.timeouts.clear(key.index);
        if let Some(mut connection) = self.connections.remove(key) {
            connection.abandon(&mut self.service);
        }
    }

    /// Hands a connection to the other stack.
    fn leave(&mut self, key: Key) {
        self.timeouts.clear(key.index);
        let Some(mut connection) = self.connections.remove(key) else { return };
        let gone = epoll::delete(&self.epoll, connection.stream());
        let peer = connection.stream().peer_addr();
        if let (Ok(()), Ok(peer)) = (gone, peer) {
            let read = connection.take_input(&mut self.service);
            let (stream, pass) = connection.into_parts();
            self.elsewhere.take(stream, read, peer, pass);
        } else {
            connection.abandon(&mut self.service);
        }
    }

    /// Ends what takes too long.
    fn expire(&mut self, over: &mut Vec<u32>) {
        let now = self.service.now;
        self.service.waits.expire(now);
        self.timeouts.advance(now, over);
        for index in over.drain(..) {
            let Some(key) = self.connections.key(index) else { continue };
            let Some(connection) = self.connections.get(key) else { continue };
            let deadline = connection.deadline(&self.door);
            if deadline > now {
                // It has done something since.
                self.timeouts.set(index, deadline.min(now + TICK * TICKS as u64));
            } else {
                self.touch(key, |connection, _, service| connection.expire(service));
            }
        }
    }

    /// Tries again those for whom there was no room.
    fn retry(&mut self) {
        if self.full && self.admission.has_room() {
            let Some(listener) = &self.listener else { return };
            self.full = epoll::add(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN).is_err();
        }
        if !self.starved.is_empty() {
            let starved = std::mem::take(&mut self.starved);
            starved.into_iter().for_each(|key| self.touch(key, Connection::readable));
        }
    }
}

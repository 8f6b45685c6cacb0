//! The fast stack: events and questions over HTTP/1.1, a thread a core, no allocation a request.
//!
//! The one idea: a request is read where the system put it. A worker ([`worker`]) has its own listening socket, epoll and
//! connections; it cuts a connection's bytes into requests ([`head`], [`chunks`], [`coming`]), hands each to the same rules
//! as the standard stack ([`service`]) and writes the answers of all of them at once ([`wire`]). What comes later (answers
//! of endpoints, acknowledgements of the journal) comes by mail ([`mail`]) and leaves in the order of the requests
//! ([`waits`]).
//!
//! `POST /v1/sources/{name}` and `POST /v1/endpoints/{name}` are answered here. A connection that asks for anything else
//! moves, with what was read from it, to the standard stack and stays there ([`guests`]): every route is open on every
//! door.
//!
//! Memory is bounded by the pool of blocks that connections read into ([`tidemill_journal::pool`], twice as many as there
//! may be connections), and by the budget of bodies for those that do not fit. When a bound is reached a connection is
//! not read from until there is room.

mod arrival;
mod chunks;
mod coming;
mod connection;
mod guests;
mod head;
mod mail;
mod prefixed;
mod probe;
mod service;
mod slots;
mod waits;
mod wheel;
mod wire;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidemill_base::time::Stopwatch;
use tidemill_journal::pool::Pool;
use tokio::runtime::Runtime;

pub use self::probe::probe;

use self::connection::BLOCK_BYTES;
use self::guests::Guests;
use self::mail::Mailbox;
use self::service::Service;
use self::worker::{Closing, Worker};
use crate::admission::Admission;
use crate::door::Door;
use crate::error::Error;
use crate::hall::Hall;
use crate::options::Options;

/// Connections that wait to be accepted, for each worker.
const BACKLOG: i32 = 1024;

/// The most blocks that a worker keeps for itself.
const BLOCKS_KEPT: usize = 32;

/// Threads for long and packed bodies and for what guests wait for; more would only take turns.
const ASIDE_THREADS: usize = 16;

/// How often a stopping server looks whether its workers have ended.
const STOP_PAUSE: Duration = Duration::from_millis(5);

/// A listening door on the fast stack.
pub struct Server {
    address: SocketAddr,
    hall: Arc<Hall>,
    closing: Arc<Closing>,
    workers: Vec<(JoinHandle<()>, Arc<Mailbox>)>,
    guests: Arc<Guests>,
    runtime: Runtime,
}

impl Server {
    /// Listens, and serves from now on.
    ///
    /// # Errors
    /// [`Error::Insecure`] for an address that other machines can reach unless that is allowed; [`Error::Bind`] when the
    /// address is taken or not ours.
    pub fn start(options: Options, hall: Hall) -> Result<Server, Error> {
        Server::open(Arc::new(Door::new(options, Arc::new(hall), Arc::default())?))
    }

    /// Listens for a door, and serves from now on.
    pub(crate) fn open(door: Arc<Door>) -> Result<Server, Error> {
        let address = door.options.listen;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(ASIDE_THREADS)
            .thread_name("fast-aside")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let listeners = listen(address, door.options.workers.max(1));
        let listeners = listeners.map_err(|source| Error::Bind { address, source })?;
        let address = listeners[0].local_addr().map_err(|source| Error::Bind { address, source })?;
        let hall = door.hall.clone();
        let guests = Arc::new(Guests::new(door.clone(), runtime.handle().clone()));
        let mut server = Server { address, hall, closing: Arc::default(), workers: Vec::new(), guests, runtime };
        // Two for each connection, and one at least that each worker may keep.
        let most = door.options.connections_max.max(door.options.workers).max(1);
        let blocks = Pool::new(most.saturating_mul(2), BLOCK_BYTES);
        let admission = Admission::new(door.options.connections_max, door.options.address_connections_max);
        for (number, listener) in listeners.into_iter().enumerate() {
            server.hire(number, listener, &door, &blocks, &admission).map_err(Error::Threads)?;
        }
        tracing::info!(%address, "listening, on the fast stack");
        Ok(server)
    }

    /// Starts a worker.
    fn hire(
        &mut self,
        number: usize,
        listener: TcpListener,
        door: &Arc<Door>,
        blocks: &Pool,
        admission: &Arc<Admission>,
    ) -> io::Result<()> {
        let mail = Arc::new(Mailbox::new()?);
        // All workers together keep half of the blocks at most: the other half is enough for all connections.
        let kept = blocks.capacity() / (2 * door.options.workers.max(1));
        let (door, cache, admission) = (door.clone(), blocks.cache(kept.min(BLOCKS_KEPT)), admission.clone());
        let (closing, guests, runtime) = (self.closing.clone(), self.guests.clone(), self.runtime.handle().clone());
        let at = mail.clone();
        let worker =
            Worker::new(door, listener, admission, guests, closing, |clock| Service::new(cache, at, runtime, clock))?;
        let thread = std::thread::Builder::new().name(format!("fast-{number}")).spawn(move || worker.run())?;
        self.workers.push((thread, mail));
        Ok(())
    }

    /// Where it listens, the port as the system chose it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers 503 to events from now on.
    pub fn refuse_events(&self) {
        self.hall.drain();
    }

    /// Closes the port and waits until open requests are answered, at most `within`.
    pub fn stop(mut self, within: Duration) {
        self.hall.drain();
        let started = Stopwatch::start();
        self.closing.drain();
        self.ring();
        while started.elapsed() < within && self.workers.iter().any(|(thread, _)| !thread.is_finished()) {
            std::thread::sleep(STOP_PAUSE);
        }
        let left = within.saturating_sub(started.elapsed());
        let guests = self.guests.clone();
        let finished = self.runtime.block_on(async { tokio::time::timeout(left, guests.finish()).await });
        if finished.is_err() || self.workers.iter().any(|(thread, _)| !thread.is_finished()) {
            tracing::warn!(?within, "requests were still open when the door closed");
        }
        self.dismiss();
    }

    /// Has every worker look up.
    fn ring(&self) {
        self.workers.iter().for_each(|(_, mail)| mail.ring());
    }

    /// Ends the workers.
    fn dismiss(&mut self) {
        self.closing.leave();
        self.ring();
        for (thread, _) in self.workers.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of the fast stack panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// A socket for each worker, all on one address: the system spreads connections over them.
fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sockets that share an address would also share it with another process: the first has it alone for a moment.
    let address = match count {
        1 => return Ok(vec![bind(address, false)?]),
        _ => bind(address, false)?.local_addr()?,
    };
    (0..count).map(|_| bind(address, true)).collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

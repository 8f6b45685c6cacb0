//! [`Server`]: the standard stack, HTTP/1.1 and HTTP/2 on one port, on its own few threads.
//!
//! The accept loop is ours, because limits belong there: a connection is only accepted when one of the permits is free,
//! and one that sends no request in time is dropped. Stopping goes in two moves: [`Server::refuse_events`] answers 503
//! to new events while views stay readable, [`Server::stop`] lets open requests finish and closes the port.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::admission::Admission;
use crate::door::Door;
use crate::error::Error;
use crate::gathered::Gathered;
use crate::hall::Hall;
use crate::options::Options;
use crate::patient::Patient;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::router;
use crate::tls::Identity;

/// How long the accept loop waits after the system refused it a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Streams of an HTTP/2 connection that end for its client's mistakes, before the connection does.
const LOCAL_RESETS_MAX: usize = 1_024;

/// How long one who is turned away may take to hear it.
const FAREWELL: Duration = Duration::from_millis(500);

/// A listening door.
pub struct Server {
    address: SocketAddr,
    hall: Arc<Hall>,
    stop: watch::Sender<bool>,
    accept: JoinHandle<GracefulShutdown>,
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
        let (address, hall) = (door.options.listen, door.hall.clone());
        let tls = door.options.tls.as_ref().map(Identity::open).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(door.options.workers.max(1))
            .thread_name("door")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let listener =
            runtime.block_on(TcpListener::bind(address)).map_err(|source| Error::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Bind { address, source })?;
        let acceptor = tls.map(|(identity, config)| {
            runtime.spawn(identity.watch());
            TlsAcceptor::from(config)
        });
        let (stop, stopped) = watch::channel(false);
        let accept = runtime.spawn(accept(listener, Front { door, acceptor }, stopped));
        tracing::info!(%address, "listening");
        Ok(Server { address, hall, stop, accept, runtime })
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
    pub fn stop(self, within: Duration) {
        self.hall.drain();
        self.stop.send_replace(true);
        let finish = async {
            if let Ok(connections) = self.accept.await {
                connections.shutdown().await;
            }
        };
        let finished = self.runtime.block_on(async { tokio::time::timeout(within, finish).await });
        if finished.is_err() {
            tracing::warn!(?within, "requests were still open when the door closed");
        }
        self.runtime.shutdown_background();
    }
}

/// What every connection of a door begins with.
#[derive(Clone)]
struct Front {
    door: Arc<Door>,
    /// Speaks TLS, when the door does.
    acceptor: Option<TlsAcceptor>,
}

/// Accepts connections until told to stop, and gives those that are open.
async fn accept(listener: TcpListener, front: Front, mut stopped: watch::Receiver<bool>) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let options = &front.door.options;
    let permits = Arc::new(Semaphore::new(options.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let admission = Admission::new(usize::MAX, options.address_connections_max);
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            _ = stopped.changed() => return connections,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let pass = admission.enter(peer.ip().to_canonical());
                let (front, watcher, stopped) = (front.clone(), connections.watcher(), stopped.clone());
                tokio::spawn(async move {
                    match &pass {
                        Some(_) => front.serve(stream, watcher, stopped, peer).await,
                        None => front.turn_away(stream, peer).await,
                    }
                    drop((permit, pass));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Front {
    /// Serves one connection to its end.
    async fn serve(self, stream: TcpStream, watcher: Watcher, mut stopped: watch::Receiver<bool>, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        let Front { door, acceptor } = self;
        let stream = Patient::new(stream, door.options.write_timeout);
        let (Some(acceptor), Some(tls)) = (acceptor, &door.options.tls) else {
            return speak(stream, door, watcher, peer).await;
        };
        let shaken = tokio::time::timeout(tls.handshake_timeout, acceptor.accept(stream));
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            _ = stopped.changed() => return,
        };
        match shaken {
            Ok(Ok(stream)) => speak(stream, door, watcher, peer).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a client does not speak TLS as it should"),
            Err(_) => tracing::debug!(%peer, "a client took too long for its TLS handshake"),
        }
    }

    /// Says to one that there are too many of its kind; in the clear, since it is not worth a handshake.
    async fn turn_away(self, mut stream: TcpStream, peer: SocketAddr) {
        tracing::debug!(%peer, "there are too many connections from one address");
        if self.acceptor.is_some() {
            return;
        }
        let Reply { status, kind, body, .. } = Problem::crowded(self.door.options.address_connections_max).reply();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let say = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await?;
            // What it has sent is read, since to close on unread bytes would take the answer back.
            let mut sent = [0; 4 << 10];
            while stream.read(&mut sent).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // Whether it hears that does not matter.
        let _ = tokio::time::timeout(FAREWELL, say).await;
    }
}

/// Speaks HTTP on a connection to its end.
pub(crate) async fn speak<S>(stream: S, door: Arc<Door>, watcher: Watcher, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (door, began, address) = (door.clone(), began.clone(), peer.ip());
        move |request| {
            began.store(true, Ordering::Relaxed);
            router::route(door.clone(), address, request)
        }
    });
    let builder = builder(&door.options);
    let stream = Gathered::new(stream);
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream.clone()), service).into_owned());
    let mut connection = pin!(stream.drive(connection));
    // hyper's own time limit on heads begins once it has seen which HTTP is spoken; this one begins with the connection.
    let first = tokio::time::sleep(door.options.header_timeout);
    let result = tokio::select! {
        result = &mut connection => result,
        () = first, if !began.load(Ordering::Relaxed) => {
            if !began.load(Ordering::Relaxed) {
                tracing::debug!(%peer, "a connection sent no request in time");
                return;
            }
            connection.await
        }
    };
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection broke"),
        Err(error) => tracing::debug!(%peer, %error, "a client took no more answers"),
    }
}

/// HTTP as a door's options have it.
fn builder(options: &Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(options.head_bytes_max.max(8 << 10))
        // A client that says it will send nothing more still gets its answers.
        .half_close(true)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(options.streams_max)
        .max_pending_accept_reset_streams(options.resets_max)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .keep_alive_interval(options.ping_interval)
        .keep_alive_timeout(options.ping_interval);
    builder
}

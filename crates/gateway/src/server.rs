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
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::door::Door;
use crate::error::Error;
use crate::hall::Hall;
use crate::options::Options;
use crate::router;

/// How long the accept loop waits after the system refused it a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often an HTTP/2 client that is silent is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

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
        let address = options.listen;
        if !address.ip().to_canonical().is_loopback() && !options.insecure {
            return Err(Error::Insecure { address });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.workers.max(1))
            .thread_name("door")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let listener =
            runtime.block_on(TcpListener::bind(address)).map_err(|source| Error::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Bind { address, source })?;
        let hall = Arc::new(hall);
        let door = Arc::new(Door::new(options, hall.clone()));
        let (stop, stopped) = watch::channel(false);
        let accept = runtime.spawn(accept(listener, door, stopped));
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

/// Accepts connections until told to stop, and gives those that are open.
async fn accept(listener: TcpListener, door: Arc<Door>, mut stopped: watch::Receiver<bool>) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(door.options.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
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
                let (door, watcher) = (door.clone(), connections.watcher());
                tokio::spawn(async move {
                    serve(stream, door, watcher, peer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, door: Arc<Door>, watcher: Watcher, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    let began = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (door, began) = (door.clone(), began.clone());
        move |request| {
            began.store(true, Ordering::Relaxed);
            let door = door.clone();
            async move { Ok::<_, std::convert::Infallible>(router::route(&door, request).await) }
        }
    });
    let builder = builder(&door.options);
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
    let mut connection = pin!(connection);
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
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

pub(crate) fn builder(options: &Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        // A client that says it will send nothing more still gets its answers.
        .half_close(true)
        .pipeline_flush(true)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}

//! [`Guests`]: connections of a fast door that ask for what the standard stack answers.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::server::graceful::GracefulShutdown;
use tokio::runtime::Handle;

use super::prefixed::Prefixed;
use super::worker::Elsewhere;
use crate::admission::Pass;
use crate::door::Door;
use crate::patient::Patient;
use crate::server;

/// The standard stack, for connections that were accepted by the fast one.
pub(super) struct Guests {
    door: Arc<Door>,
    runtime: Handle,
    /// None once the door is closing.
    open: Mutex<Option<GracefulShutdown>>,
}

impl Guests {
    /// No guests yet.
    pub(super) fn new(door: Arc<Door>, runtime: Handle) -> Self {
        Guests { door, runtime, open: Mutex::new(Some(GracefulShutdown::new())) }
    }

    /// Lets open requests finish.
    pub(super) async fn finish(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open {
            open.shutdown().await;
        }
    }
}

impl Elsewhere for Guests {
    fn take(&self, stream: TcpStream, read: Vec<u8>, peer: SocketAddr, pass: Pass) {
        let watcher = match &*self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(open) => open.watcher(),
            None => return,
        };
        let door = self.door.clone();
        self.runtime.spawn(async move {
            // The pass is given back when the connection ends.
            let _pass = pass;
            let stream = match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => return tracing::warn!(%peer, %error, "a connection could not change its stack"),
            };
            let stream = Patient::new(Prefixed::new(read, stream), door.options.write_timeout);
            server::speak(stream, door, watcher, peer).await;
        });
    }
}

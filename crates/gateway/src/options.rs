//! What a door allows.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The limits of a [`crate::Server`]. What grows when a limit grows is memory, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// Whether an address that other machines can reach may be listened on though nothing checks who calls.
    pub insecure: bool,
    /// Threads that serve connections; default 2.
    pub workers: usize,
    /// Connections served at once; further ones wait in the system's backlog. Default 10,000.
    pub connections_max: usize,
    /// The longest body as it is sent; default 16 MiB.
    pub body_bytes_max: usize,
    /// The longest body once `Content-Encoding` is undone; default 64 MiB.
    pub inflated_bytes_max: usize,
    /// The longest body of a request for a decision; default 64 KiB.
    pub question_bytes_max: usize,
    /// Bytes of bodies held at once over all connections; beyond it the answer is 429. Default 256 MiB.
    pub inflight_bytes_max: usize,
    /// How long a client may take to send a request's head, and may be silent between requests; default 30 s.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body; default 30 s.
    pub body_timeout: Duration,
    /// Requests open at once on one HTTP/2 connection; default 256.
    pub streams_max: u32,
    /// Bytes a client may send ahead on one HTTP/2 stream; default 1 MiB.
    pub stream_window_bytes: u32,
    /// Bytes a client may send ahead on one HTTP/2 connection; default 4 MiB.
    pub connection_window_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            insecure: false,
            workers: 2,
            connections_max: 10_000,
            body_bytes_max: 16 << 20,
            inflated_bytes_max: 64 << 20,
            question_bytes_max: 64 << 10,
            inflight_bytes_max: 256 << 20,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            streams_max: 256,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
        }
    }
}

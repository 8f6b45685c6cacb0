//! What a door allows.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::identity::Token;
use crate::limits::Rates;
use crate::tls::TlsOptions;

/// All doors of a process and who may come through them.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The doors.
    pub doors: Vec<Options>,
    /// Who may call; when nobody is named, anybody may.
    pub tokens: Vec<Token>,
}

impl Config {
    /// One door, open to anybody.
    pub fn one(door: Options) -> Self {
        Config { doors: vec![door], tokens: Vec::new() }
    }
}

/// Who serves a door's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stack {
    /// Everything there is: HTTP/1.1, HTTP/2, gRPC, TLS.
    #[default]
    Standard,
    /// A thread a core for events and decisions over HTTP/1.1.
    Fast,
}

/// The limits of a [`crate::Server`]. What grows when a limit grows is memory, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// Who serves; default the standard stack.
    pub stack: Stack,
    /// Whether an address that other machines can reach may be listened on though nothing checks who calls.
    pub insecure: bool,
    /// The door's certificate; none means no TLS. For the standard stack.
    pub tls: Option<TlsOptions>,
    /// Threads that serve connections; default 2.
    pub workers: usize,
    /// Connections served at once; further ones wait in the system's backlog. Default 10,000.
    pub connections_max: usize,
    /// Connections served at once from one address; further ones are refused. Default 10,000.
    pub address_connections_max: usize,
    /// The longest head of a request, and the longest list of headers in HTTP/2; default 64 KiB.
    pub head_bytes_max: usize,
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
    /// How long a client may take to read what it is sent before it is cut off; default 30 s.
    pub write_timeout: Duration,
    /// Requests in so much time; default no limits.
    pub rates: Rates,
    /// Requests open at once on one HTTP/2 connection; default 256.
    pub streams_max: u32,
    /// Bytes a client may send ahead on one HTTP/2 stream; default 1 MiB.
    pub stream_window_bytes: u32,
    /// Bytes a client may send ahead on one HTTP/2 connection; default 4 MiB.
    pub connection_window_bytes: u32,
    /// Requests that an HTTP/2 client may take back before they are looked at, before its connection ends; default 20.
    pub resets_max: usize,
    /// How often a silent HTTP/2 client is asked whether it is still there, and how long it may take to say so; default 20 s.
    pub ping_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            stack: Stack::Standard,
            insecure: false,
            tls: None,
            workers: 2,
            connections_max: 10_000,
            address_connections_max: 10_000,
            head_bytes_max: 64 << 10,
            body_bytes_max: 16 << 20,
            inflated_bytes_max: 64 << 20,
            question_bytes_max: 64 << 10,
            inflight_bytes_max: 256 << 20,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            rates: Rates::default(),
            streams_max: 256,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            resets_max: 20,
            ping_interval: Duration::from_secs(20),
        }
    }
}

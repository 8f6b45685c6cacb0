//! Why a door cannot be opened.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidemill_base::{Explain, Kind};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is reachable from other machines and nothing checks who calls.
    #[error("refusing to listen on {address}: other machines can reach it, and the door does not ask who they are")]
    Insecure {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The description of the doors is wrong.
    #[error("{}: {problem}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        problem: String,
        /// How to mend it.
        help: Option<String>,
    },
    /// A certificate or key cannot be used.
    #[error("{} cannot be used for TLS: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The threads of the door cannot be started.
    #[error("cannot start the threads of the HTTP door: {0}")]
    Threads(#[source] io::Error),
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Insecure { .. } => "TM5001",
            Error::Bind { .. } => "TM5002",
            Error::Threads(_) => "TM5003",
            Error::Config { .. } => "TM5004",
            Error::Certificate { .. } => "TM5005",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Insecure { .. } | Error::Config { .. } => Kind::Config,
            Error::Bind { .. } | Error::Threads(_) | Error::Certificate { .. } => Kind::Environment,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Error::Insecure { address } => Some(format!(
                "listen on 127.0.0.1:{}, name its callers with [[token]] in a file for --config, or allow it with --insecure in a network you trust",
                address.port()
            )),
            Error::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("stop who listens there, or choose another address with --listen HOST:PORT".to_string())
            }
            Error::Bind { .. } => Some("choose another address with --listen HOST:PORT".to_string()),
            Error::Config { help, .. } => help.clone(),
            Error::Certificate { .. } => {
                Some("name a certificate and its private key in PEM as tls.certificate and tls.key".to_string())
            }
            Error::Threads(_) => None,
        }
    }
}

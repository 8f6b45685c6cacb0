//! The door under test. These tests are built twice, as `doors` and as `doors_fast`: the same holds on both stacks.

use std::net::SocketAddr;
use std::time::Duration;

use tidemill_gateway::{Config, Doors, Error, Hall, Options, Stack};

/// Whether this is `doors_fast`.
pub const IS_FAST: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"doors_fast");

/// One door on the stack under test; one with a certificate is on the standard stack in any case.
pub struct Server(Doors);

impl Server {
    /// Opens it.
    pub fn start(options: Options, hall: Hall) -> Result<Server, Error> {
        let stack = if IS_FAST && options.tls.is_none() { Stack::Fast } else { Stack::Standard };
        Doors::open(Config::one(Options { stack, ..options }), hall).map(Server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.addresses()[0]
    }

    /// Answers 503 to events from now on.
    pub fn refuse_events(&self) {
        self.0.refuse_events();
    }

    /// Closes it.
    pub fn stop(self, within: Duration) {
        self.0.stop(within);
    }
}

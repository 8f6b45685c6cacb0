//! [`Door`]: one listening front, whichever stack carries it: what stands behind it and what it allows.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::StatusCode;
use serde::Serialize;
use tidemill_base::time::SystemClock;

use crate::asked::Head;
use crate::body::Budget;
use crate::error::Error;
use crate::grpc::Services;
use crate::guard::Guard;
use crate::hall::Hall;
use crate::identity::{Need, Tokens};
use crate::options::Options;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::route::{Names, Route};

/// What the requests of a door share.
pub(crate) struct Door {
    /// What stands behind it.
    pub hall: Arc<Hall>,
    /// What it allows.
    pub options: Options,
    /// What bodies may hold.
    pub budget: Budget,
    /// Who may come in, and how often.
    pub guard: Arc<Guard>,
    /// The services of gRPC, made when the first call comes.
    pub grpc: OnceLock<Services>,
}

/// The state of the door, as `GET /v1/health` tells it.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

impl Door {
    /// A door to `hall` for those who have one of `tokens`.
    ///
    /// # Errors
    /// [`Error::Insecure`] when other machines can reach it, nothing asks who they are, and nobody has allowed that.
    pub(crate) fn new(options: Options, hall: Arc<Hall>, tokens: Arc<Tokens>) -> Result<Self, Error> {
        let address = options.listen;
        check_asks(&options, &tokens)?;
        if is_reachable(&options) && tokens.len() > 0 && options.tls.is_none() {
            tracing::warn!(%address, "tokens travel to this door without TLS");
        }
        let budget = Budget::new(options.inflight_bytes_max);
        let guard = Arc::new(Guard::new(tokens, &options.rates, &hall, Arc::new(SystemClock::new())));
        Ok(Door { hall, options, budget, guard, grpc: OnceLock::new() })
    }

    /// Whether it could know `tokens` instead of those it knows.
    ///
    /// # Errors
    /// As of [`Door::new`].
    pub(crate) fn check(&self, tokens: &Tokens) -> Result<(), Error> {
        check_asks(&self.options, tokens)
    }

    /// Whether a caller may ask for `route` now: known well enough, and not too often.
    pub(crate) fn admit(&self, address: IpAddr, route: &Route<'_>, head: &dyn Head) -> Result<(), Problem> {
        self.guard.admit(address, Need::of(route), head)
    }

    /// The answer to `GET /v1/health`.
    pub(crate) fn health(&self) -> Reply {
        let version = env!("CARGO_PKG_VERSION");
        if self.hall.is_draining() {
            Reply::json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "draining", version })
        } else {
            Reply::json(StatusCode::OK, &Health { status: "ok", version })
        }
    }

    /// The answer to a question for names.
    pub(crate) fn names(&self, names: Names) -> Reply {
        let names = match names {
            Names::Sources => self.hall.inbox_names(),
            Names::Endpoints => self.hall.endpoint_names(),
            Names::Views => self.hall.view_names(),
            Names::Tables => self.hall.table_names(),
        };
        Reply::json(StatusCode::OK, &names)
    }
}

/// Whether other machines can reach a door.
fn is_reachable(options: &Options) -> bool {
    !options.listen.ip().to_canonical().is_loopback()
}

/// A door that other machines can reach asks who they are, unless it was allowed not to.
fn check_asks(options: &Options, tokens: &Tokens) -> Result<(), Error> {
    let asks = tokens.len() > 0 || options.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    match is_reachable(options) && !asks && !options.insecure {
        true => Err(Error::Insecure { address: options.listen }),
        false => Ok(()),
    }
}

//! [`Door`]: one listening front, whichever stack carries it: what stands behind it and what it allows.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use serde::Serialize;

use crate::body::Budget;
use crate::grpc::Services;
use crate::hall::Hall;
use crate::options::Options;
use crate::reply::Reply;
use crate::route::Names;

/// What the requests of a door share.
pub(crate) struct Door {
    /// What stands behind it.
    pub hall: Arc<Hall>,
    /// What it allows.
    pub options: Options,
    /// What bodies may hold.
    pub budget: Budget,
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
    /// A door to `hall`.
    pub(crate) fn new(options: Options, hall: Arc<Hall>) -> Self {
        let budget = Budget::new(options.inflight_bytes_max);
        Door { hall, options, budget, grpc: OnceLock::new() }
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

//! The doors of tidemill: events in over HTTP, views out.
//!
//! The one idea: a door knows sources and views by two narrow traits, [`Inbox`] and [`View`], gathered in a [`Hall`].
//! Whoever assembles a pipeline fills the hall; a door decides alone what the network may do (who listens where, how
//! large, how slow, how many) and answers every mistake with a problem document that says what, where and how to fix it.
//!
//! `POST /v1/sources/{name}` takes events, `GET /v1/views/{name}` answers rows, `GET /v1/health` tells whether the door
//! is open. [`Server`] is the standard stack: HTTP/1.1 and HTTP/2 on one port.

mod body;
mod error;
mod hall;
mod ingest;
mod options;
mod problem;
mod query;
mod router;
mod server;
mod views;

pub use error::Error;
pub use hall::{Decoded, Durability, Durable, Hall, Inbox, KeyPart, Lookup, LookupError, Refusal, Rows, Taken, View};
pub use options::Options;
pub use server::Server;

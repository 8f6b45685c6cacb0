//! The doors of tidemill: events in over HTTP, views out, tables edited.
//!
//! The one idea: a door knows sources, views, versioned tables and versions by narrow traits, [`Inbox`], [`View`],
//! [`Table`] and [`Versions`], gathered in a [`Hall`].
//! Whoever assembles a pipeline fills the hall; a door decides alone what the network may do (who listens where, how
//! large, how slow, how many) and answers every mistake with a problem document that says what, where and how to fix it.
//!
//! `POST /v1/sources/{name}` takes events, `GET /v1/views/{name}` answers rows, `/v1/tables/{name}/..` edits and compares,
//! `GET /v1/versions` lists the versions of the pipeline's state, `GET /v1/health` tells whether the door is open. [`Server`] is the standard stack: HTTP/1.1 and HTTP/2 on one port.

// What stands behind the doors, and what they allow.
mod config;
mod error;
mod hall;
mod options;

// What requests ask and what they are answered, whoever carries them.
mod admission;
mod asked;
mod body;
mod changes;
mod door;
mod events;
mod guard;
mod identity;
mod limits;
mod problem;
mod query;
mod question;
mod reply;
mod route;

// The fast stack.
pub mod fast;

// The standard stack.
mod decide;
mod gathered;
mod grpc;
mod incoming;
mod ingest;
mod outgoing;
mod patient;
mod router;
mod server;
mod stream;
mod tables;
mod tls;
mod views;

// All of them.
mod doors;
mod reload;

pub use doors::Doors;
pub use error::Error;
pub use hall::{Answered, Answers, BodyKind, Endpoint, Fallback, Question, Receipt, Rejection, Tell, Terms, Ticket};
pub use hall::{Decoded, Durability, Durable, Hall, Inbox, KeyPart, Lookup, LookupError, Refusal, Rows, Taken, View};
pub use hall::{Denial, Follow, Ground, Submitted, Table, TableRows, Versions};
pub use identity::{Scope, Token, new_token};
pub use limits::{Rate, Rates};
pub use options::{Config, Options, Stack};
pub use reload::Reload;
pub use server::Server;
pub use tls::TlsOptions;

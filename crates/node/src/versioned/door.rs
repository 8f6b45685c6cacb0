//! Versioned tables, and the versions of a pipeline's state, as the gateway's doors see them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use tidemill_base::{Explain, Kind};
use tidemill_gateway::{Denial, Ground, KeyPart, Submitted, TableRows};
use tidemill_state::table::{Answer, TableError, Ticket};

use super::feed::Followed;
use super::{Return, Submission};
use crate::error::Error;
use crate::versions::Versions;

/// A versioned table behind a door.
pub(crate) struct TableDoor {
    followed: Arc<Followed>,
    waiting: Mutex<Waiting>,
}

/// Submits that wait for versions they rest on.
#[derive(Default)]
struct Waiting {
    next: u64,
    tickets: BTreeMap<u64, Ticket>,
    answers: BTreeMap<u64, Result<Json, Denial>>,
}

impl TableDoor {
    /// A door to a table.
    pub(crate) fn new(followed: Arc<Followed>) -> Self {
        TableDoor { followed, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers those that wait for what is there by now.
    fn poll(&self) -> Result<(), Error> {
        let answered = self.followed.table().poll()?;
        let mut waiting = self.waiting();
        for (ticket, answer) in answered {
            let Some(number) = waiting.tickets.iter().find(|(_, known)| **known == ticket).map(|(number, _)| *number)
            else {
                continue;
            };
            waiting.tickets.remove(&number);
            waiting.answers.insert(number, answer.map_err(Error::from).map_err(denial).and_then(|one| value(&one)));
        }
        Ok(())
    }

    /// Lets queries read what was accepted before it is answered.
    fn accepted(&self, accepted: &impl Serialize) -> Result<Json, Denial> {
        // It is durable: what goes wrong from here on is not this change's.
        if let Err(error) = self.poll().and_then(|()| self.followed.show()) {
            tracing::warn!(table = %self.followed.name(), %error, "An accepted change cannot be shown yet.");
        }
        value(accepted)
    }
}

impl tidemill_gateway::Table for TableDoor {
    fn submit(&self, body: &[u8]) -> Result<Submitted, Denial> {
        let submission: Submission = read(body)?;
        let answer = self.followed.table().begin(&submission).map_err(denial)?;
        match answer {
            Answer::Accepted(accepted) => self.accepted(&accepted).map(Submitted::Accepted),
            Answer::Parked { ticket, .. } => {
                let mut waiting = self.waiting();
                let number = waiting.next;
                waiting.next += 1;
                waiting.tickets.insert(number, ticket);
                Ok(Submitted::Waiting(number))
            }
        }
    }

    fn look(&self, ticket: u64) -> Option<Result<Json, Denial>> {
        if let Err(error) = self.poll() {
            return Some(Err(denial(error)));
        }
        let mut waiting = self.waiting();
        let answer = waiting.answers.remove(&ticket);
        let forgotten = answer.is_none() && !waiting.tickets.contains_key(&ticket);
        drop(waiting);
        match answer {
            Some(Ok(accepted)) => Some(self.accepted(&accepted)),
            None if forgotten => Some(Err(denial(Error::Keep("a submit that waited is not known".to_string())))),
            other => other,
        }
    }

    fn forget(&self, ticket: u64) {
        let mut waiting = self.waiting();
        waiting.answers.remove(&ticket);
        let known = waiting.tickets.remove(&ticket);
        drop(waiting);
        if let Some(known) = known {
            self.followed.table().forget(known);
        }
    }

    fn roll_back(&self, body: &[u8]) -> Result<Json, Denial> {
        let back: Return = read(body)?;
        let accepted = self.followed.table().roll_back(&back).map_err(denial)?;
        self.accepted(&accepted)
    }

    fn versions(&self, graph: bool, limit: usize) -> Result<Json, Denial> {
        let table = self.followed.table();
        if graph {
            return Ok(table.graph());
        }
        let (name, head, versions) = (table.name(), table.head().version(), table.log(limit));
        Ok(json!({ "table": name, "head": head, "versions": versions }))
    }

    fn at(&self, version: &str, key: &[KeyPart], limit: usize) -> Result<TableRows, Denial> {
        let mut table = self.followed.table();
        let parts: Vec<(Option<&str>, &str)> =
            key.iter().map(|part| (part.column.as_deref(), part.value.as_str())).collect();
        let rows = table.version(version).and_then(|version| {
            table.at(version)?;
            table.rows(version, &parts, limit)
        });
        let rows = rows.map_err(denial)?;
        let (version, more) = (rows.version.to_string(), rows.more);
        Ok(TableRows { version, rows: rows.rows.into_iter().map(Json::Object).collect(), more })
    }

    fn diff(&self, from: &str, to: &str) -> Result<Json, Denial> {
        let mut table = self.followed.table();
        let difference = table.version(from).and_then(|from| {
            let to = table.version(to)?;
            table.at(to)?;
            table.diff(from, to)
        });
        value(&difference.map_err(denial)?)
    }
}

/// The versions of a pipeline's state behind a door.
pub(crate) struct VersionsDoor(pub(crate) Versions);

impl tidemill_gateway::Versions for VersionsDoor {
    fn list(&self) -> Result<Json, Denial> {
        let listed = self.0.all().map_err(denial)?.into_iter().map(|version| match version {
            Ok(listed) => value(&listed),
            Err(error) => Ok(json!({ "code": error.code(), "error": error.to_string() })),
        });
        listed.collect::<Result<Vec<Json>, Denial>>().map(Json::Array)
    }

    fn show(&self, version: &str) -> Result<Json, Denial> {
        value(&self.0.show(version).map_err(denial)?)
    }

    fn diff(&self, from: &str, to: &str) -> Result<Json, Denial> {
        value(&self.0.diff(from, to).map_err(denial)?)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Denial> {
    serde_json::from_slice(body).map_err(|error| denial(Error::Submission { problem: error.to_string() }))
}

fn value(value: &impl Serialize) -> Result<Json, Denial> {
    serde_json::to_value(value).map_err(|error| denial(Error::Keep(error.to_string())))
}

/// An error as the door tells it.
fn denial(error: Error) -> Denial {
    let mut more = Map::new();
    let ground = match &error {
        Error::State(tidemill_state::Error::Table(error)) => match error {
            TableError::Conflict(conflict) => {
                if let Ok(Json::Object(told)) = serde_json::to_value(conflict) {
                    more = told;
                }
                Ground::Conflict
            }
            TableError::VersionTaken { .. } => Ground::Conflict,
            TableError::NoTable { .. } | TableError::NoVersion { .. } | TableError::Pruned { .. } => Ground::Missing,
            TableError::Busy { .. } => Ground::Busy,
            error => of_kind(error.kind()),
        },
        Error::State(tidemill_state::Error::NoSnapshot { .. }) | Error::Resume { .. } => Ground::Missing,
        Error::State(tidemill_state::Error::BadVersion { .. }) => Ground::Request,
        other => of_kind(other.kind()),
    };
    Denial { ground, code: error.code(), problem: error.to_string(), help: error.help(), more }
}

fn of_kind(kind: Kind) -> Ground {
    match kind {
        Kind::Input | Kind::Config => Ground::Request,
        Kind::Environment => Ground::Busy,
        _ => Ground::Failed,
    }
}

//! Endpoints: what a circuit gives for requests, on its way to who asked.
//!
//! A circuit with endpoints takes requests in as rows and gives rows that name, by `$origin`, the request they answer. After
//! each step its driver hands them to the endpoint's [`Answering`], in the order of the steps, once the step's header is as
//! durable as the endpoint promises.

mod answers;
mod desk;
mod stored;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_base::{Timestamp, hash};
use tidemill_circuit::Delta;
use tidemill_circuit::operator::SideRow;
use tidemill_circuit::step::StepHeader;
use tidemill_gateway::Hall;
use tidemill_journal::{Journal, Level};
use tidemill_sql::pipeline::EndpointDef;

use crate::doors::InboxDoor;
use crate::error::Error;
use crate::keep::line::{ANSWERED, Input, NOTED, stream};

pub(crate) use desk::Desk;

/// The doors of the inboxes, by their sources.
pub(crate) type Doors = BTreeMap<String, Arc<InboxDoor>>;

/// Makes who knows the requests that wait for an endpoint's answer.
pub(crate) type MakeDesk<'a> = &'a dyn Fn(&EndpointDef, &Doors) -> Result<Arc<dyn Answering>, Error>;

/// Who knows the requests that wait for an endpoint's answer.
pub(crate) trait Answering: Send + Sync {
    /// Takes what a step gave; every step of the circuit is told, those that gave this endpoint nothing too.
    ///
    /// Called on the driver's thread: it must not block.
    fn answers(&self, given: &Given<'_>);

    /// The circuit will run no further step: whoever still waits is told so.
    fn end(&self);
}

/// What a step gave an endpoint.
pub(crate) struct Given<'a> {
    /// What the step took: the rows of the endpoint's source in it have their answers now.
    pub(crate) header: &'a StepHeader,
    /// Where the header stands in the journal; none when the pipeline keeps no state.
    pub(crate) place: Option<u64>,
    /// The rows of the endpoint's output: the answer's columns, then `$origin`.
    pub(crate) rows: &'a [Delta],
    /// The rows that an expression failed on between their source and the endpoint's output.
    pub(crate) failed: Vec<&'a SideRow>,
}

/// The desks of a pipeline's endpoints.
#[derive(Default)]
pub(crate) struct Desks {
    desks: Mutex<Vec<Arc<Desk>>>,
}

impl Desks {
    /// Opens the desk of an endpoint.
    ///
    /// # Errors
    /// When its source is no inbox, as the planner has seen to.
    pub(crate) fn open(&self, endpoint: &EndpointDef, doors: &Doors) -> Result<Arc<dyn Answering>, Error> {
        let door = doors.get(&endpoint.source).ok_or_else(|| {
            let problem =
                format!("endpoint '{}' takes requests into '{}', which is no inbox", endpoint.name, endpoint.source);
            tidemill_circuit::Error::broken("the planner", problem)
        })?;
        let desk = Arc::new(Desk::new(endpoint, door.clone()));
        self.all().push(desk.clone());
        Ok(desk)
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the doors lead to the desks.
    pub(crate) fn furnish(&self, hall: &mut Hall) {
        self.all().iter().for_each(|desk| hall.add_endpoint(desk.name(), desk.clone()));
    }

    /// Remembers the requests with keys of earlier runs, and their answers. Said before anything comes in or runs.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) fn recall(&self, doors: &Doors, journal: &Journal) -> Result<(), Error> {
        let desks = self.all();
        let streams: BTreeMap<u32, &InboxDoor> =
            doors.iter().map(|(source, door)| (stream(source), door.as_ref())).collect();
        let Some(door) = doors.values().next() else { return Ok(()) };
        let windows = doors.values().map(|door| door.window()).chain(desks.iter().map(|desk| desk.store().window()));
        let longest = windows.map(|window| window.millis).max().unwrap_or_default();
        let from = journal.since(Timestamp(door.now().saturating_sub(longest)));
        let mut reader = journal.reader(from.max(journal.usage().first), Level::Process)?;
        while let Some(record) = reader.next()? {
            let wrong = |problem| Error::Journaled { sequence: record.sequence.0, problem };
            match record.kind {
                NOTED => {
                    let input = Input::decode(NOTED, &record.payload).map_err(wrong)?;
                    match desks.iter().find(|desk| desk.number() == input.asked) {
                        Some(desk) => desk.store().recall(&input, record.sequence.0),
                        None if input.asked == 0 => {
                            if let Some(door) = streams.get(&record.stream) {
                                door.recall(&input, record.sequence.0);
                            }
                        }
                        // Its endpoint is not there any more.
                        None => {}
                    }
                }
                ANSWERED => {
                    if let Some(desk) = desks.iter().find(|desk| desk.number() == record.stream) {
                        desk.store().recall_answer(&record.payload).map_err(wrong)?;
                    }
                }
                _ => {}
            }
        }
        desks.iter().for_each(|desk| desk.recalled());
        doors.values().for_each(|door| door.tend());
        Ok(())
    }

    /// Lets the journal go of requests whose time is over.
    pub(crate) fn tend(&self, doors: &Doors) {
        doors.values().for_each(|door| door.tend());
        self.all().iter().for_each(|desk| desk.tend());
    }
}

/// The number by which the journal names an endpoint: the same in every version of the pipeline, and not 0.
fn number(endpoint: &str) -> u32 {
    (hash::bytes(endpoint.as_bytes()) as u32).max(1)
}

#[cfg(test)]
mod tests;

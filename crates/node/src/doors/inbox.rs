//! [`InboxDoor`]: an inbox behind a door. Bodies are decoded here, so that a 400 can say what is wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_schema::SchemaRef;
use tidemill_base::time::{Clock, SystemClock};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::BlockData;
use tidemill_connect::{Accepted, Full, InboxHandle, NotTaken, Note, Remembers, SHORT_BYTES, Short};
use tidemill_format::{Format, Rejected};
use tidemill_gateway::{BodyKind, Decoded, Durability, Inbox, Receipt, Refusal, Rejection, Taken, Tell, Terms};
use tidemill_journal::{Journal, Level, Sequence};

use super::bodies::{Bodies, Kepts, Read};
use super::keys::{Keys, Known, Window};
use crate::error::Error;
use crate::keep::input;
use crate::keep::line::{Input, KEY_BYTES_MAX};

/// An inbox behind a door.
pub(crate) struct InboxDoor {
    source: String,
    handle: InboxHandle,
    bodies: Arc<Bodies>,
    /// Where bodies are kept, and what they survive unless a request says otherwise.
    kept: Option<(Arc<Journal>, Level)>,
    keys: Mutex<Keys<Accepted>>,
    clock: Arc<dyn Clock>,
}

/// Records on their way in.
pub(crate) struct Coming<'a> {
    /// Their body.
    pub(crate) body: &'a [u8],
    /// What is asked for besides.
    pub(crate) terms: Terms<'a>,
    /// Who waits for an answer to them; 0 is nobody.
    pub(crate) asked: u32,
    /// When they came, where they have a key.
    pub(crate) at: i64,
}

/// Records that were taken in.
pub(crate) struct Came {
    pub(crate) accepted: Accepted,
    pub(crate) rejected: Vec<Rejected>,
    /// What they survive once their place is durable; none when nothing is kept.
    pub(crate) level: Option<Level>,
}

impl InboxDoor {
    pub(crate) fn new(table: &str, handle: InboxHandle, format: &Format, schema: SchemaRef) -> Result<Self, Error> {
        let bodies = Bodies::new(table, format, &schema)?;
        if !bodies.envelopes {
            let reads = handle.read_json(bodies.options, bodies.decoded.clone(), schema);
            reads.map_err(|error| tidemill_connect::Error::Format { table: table.to_string(), path: None, error })?;
        }
        let Remembers { window, bytes } = handle.remembers();
        let window = Window::new(window, bytes);
        Ok(InboxDoor {
            source: table.to_string(),
            handle,
            bodies: Arc::new(bodies),
            kept: None,
            keys: Mutex::new(Keys::new(window, |_| false)),
            clock: Arc::new(SystemClock::new()),
        })
    }

    /// Has what comes in acknowledged when it has reached `level` in the journal.
    pub(crate) fn kept_in(mut self, journal: Arc<Journal>, level: Level) -> Self {
        let (bodies, source) = (self.bodies.clone(), self.source.clone());
        self.handle.reread_from(Arc::new(Kepts { bodies, journal: journal.clone(), source }));
        self.kept = Some((journal, level));
        self
    }

    /// All columns of its table, by whose order the fields of messages are numbered.
    pub(crate) fn declare(&self, columns: SchemaRef) {
        let _ = self.bodies.declared.set(columns);
    }

    /// Has only these columns read from requests for whose answers `asked` waits.
    pub(crate) fn read_only(&self, asked: u32, columns: &[&str]) {
        let all = self.bodies.decoded.fields().iter().all(|field| columns.contains(&field.name().as_str()));
        if !all {
            self.bodies.read_only(asked, columns);
            self.handle.read_only(asked, columns);
        }
    }

    /// The columns of its rows.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.bodies.rows.clone()
    }

    /// The rows of a body that was taken before.
    pub(crate) fn rows(&self, input: &Input) -> Result<Delta, String> {
        self.bodies.again(input)
    }

    /// The inbox.
    #[cfg(test)]
    pub(crate) fn handle(&self) -> &InboxHandle {
        &self.handle
    }

    /// Where bodies are kept.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.kept.as_ref().map(|(journal, _)| journal)
    }

    /// Milliseconds UTC.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().millis()
    }

    /// What records survive when they are acknowledged.
    fn level(&self, asked: Option<Durability>) -> Result<Option<Level>, Refusal> {
        match (asked, &self.kept) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Refusal::NoSuchDurability),
            (Some(asked), Some(_)) => Ok(Some(level_of(asked))),
            (None, Some((_, level))) => Ok(Some(*level)),
        }
    }

    /// Takes records in, or nothing of them; `admit` is told their place before anybody can see them.
    pub(crate) fn bring(&self, coming: &Coming<'_>, admit: impl FnOnce(&Accepted)) -> Result<Came, Rejection> {
        let Coming { body, terms, asked, at } = *coming;
        let level = self.level(terms.durability).map_err(Rejection::Refused)?;
        if terms.idempotency_key.is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return Err(Rejection::Body(format!("an idempotency key has 1 to {KEY_BYTES_MAX} bytes")));
        }
        let note = Note { kind: terms.kind.byte(), asked, key: terms.idempotency_key, at };
        let inline = body.len() <= SHORT_BYTES && terms.kind == BodyKind::Json && !self.bodies.envelopes;
        let (accepted, rejected) = if inline {
            let short = Short { body, skip_bad: terms.skip_bad, one: asked != 0, quiet: terms.quiet, note };
            self.handle.take(&short, admit).map_err(rejection)?
        } else {
            self.bring_decoded(body, &terms, &note, admit)?
        };
        Ok(Came { accepted, rejected, level })
    }

    /// Takes in a body that is decoded before, so that others need not wait for that.
    fn bring_decoded(
        &self,
        body: &[u8],
        terms: &Terms<'_>,
        note: &Note<'_>,
        admit: impl FnOnce(&Accepted),
    ) -> Result<(Accepted, Vec<Rejected>), Rejection> {
        let read = self.bodies.read(body, terms.kind, note.asked).map_err(Rejection::Body)?;
        let Read { rows, rejected, stopped } = read;
        if !rejected.is_empty() && (!terms.skip_bad || stopped) {
            return Err(Rejection::Records { rejected, stopped });
        }
        let records = rows.rows() as u32;
        if note.asked != 0 && records != 1 {
            return Err(not_one(records));
        }
        let pushed = self.handle.push(BlockData::Rows(rows), records, note, body, admit);
        Ok((pushed.map_err(|full| Rejection::Refused(refusal(full)))?, rejected))
    }

    fn keys(&self) -> MutexGuard<'_, Keys<Accepted>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a request with a key, or says again what was said to it before.
    fn take_once(&self, key: &str, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        let at = self.now();
        let mut keys = self.keys();
        match keys.find(key, body, at) {
            Some(Known::Other) => return Err(Rejection::KeyReused),
            Some(Known::Same(accepted)) => {
                let accepted = *accepted;
                drop(keys);
                let level = self.level(terms.durability).map_err(Rejection::Refused)?;
                // The same body has the same bad records.
                let read = if terms.skip_bad { self.bodies.read(body, terms.kind, 0).ok() } else { None };
                let rejected = read.map_or(Vec::new(), |read| read.rejected);
                return Ok(Receipt { repeated: true, ..receipt(Came { accepted, rejected, level }) });
            }
            None => {}
        }
        let came = self.bring(&Coming { body, terms, asked: 0, at }, |_| {})?;
        keys.remember(key, body, at, came.accepted.kept, came.accepted);
        if keys.oldest() == came.accepted.kept {
            // Those that follow are held with it; what is forgotten is let go of now and then.
            self.hold(&keys);
        }
        Ok(receipt(came))
    }

    /// Has the journal hold the requests that are remembered.
    fn hold(&self, keys: &Keys<Accepted>) {
        let Some((journal, _)) = &self.kept else { return };
        let holder = format!("keys of source '{}'", self.source);
        match keys.oldest() {
            Some(place) => journal.retain(&holder, Sequence(place)),
            None => journal.release(&holder),
        }
    }

    /// Remembers a request of an earlier run.
    pub(crate) fn recall(&self, input: &Input, place: u64) {
        let Some(key) = &input.key else { return };
        let accepted = Accepted { offset: input.first_record, records: input.records, kept: Some(place) };
        self.keys().remember(key, &input.body, input.at, Some(place), accepted);
    }

    /// What is remembered of requests with keys.
    pub(crate) fn window(&self) -> Window {
        self.keys().window()
    }

    /// Lets the journal go of requests whose time is over.
    pub(crate) fn tend(&self) {
        let (now, mut keys) = (self.now(), self.keys());
        keys.forget(now);
        self.hold(&keys);
    }
}

fn receipt(Came { accepted, rejected, level }: Came) -> Receipt {
    let Accepted { offset, records, kept } = accepted;
    Receipt {
        accepted: records as usize,
        rejected,
        offset,
        durability: level.map(durability_of),
        place: kept,
        repeated: false,
    }
}

impl Inbox for InboxDoor {
    fn room(&self) -> Result<(), Refusal> {
        self.handle.room().map_err(refusal)
    }

    fn decode(&self, body: &[u8]) -> Result<Decoded, String> {
        let Read { rows, rejected, stopped } = self.bodies.read(body, BodyKind::Json, 0)?;
        Ok(Decoded { rows: vec![rows], rejected, stopped })
    }

    fn offer(&self, rows: Vec<Delta>, body: &[u8], level: Option<Durability>) -> Result<Taken, Refusal> {
        let level = self.level(level)?;
        let all = Delta::concat(&self.bodies.rows, &rows).map_err(|error| {
            tracing::error!(source = %self.source, %error, "Decoded rows do not fit together.");
            Refusal::Closed
        })?;
        let records = all.rows() as u32;
        let pushed = self.handle.push(BlockData::Rows(all), records, &Note::default(), body, |_| {});
        let Accepted { offset, kept, .. } = pushed.map_err(refusal)?;
        let (Some(level), Some((journal, _)), Some(place)) = (level, &self.kept, kept) else {
            return Ok(Taken { offset, durability: Durability::Memory, durable: None });
        };
        Ok(Taken { offset, durability: durability_of(level), durable: input::durable(journal, place, level) })
    }

    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        match terms.idempotency_key {
            Some(key) => self.take_once(key, body, terms),
            None => self.bring(&Coming { body, terms, asked: 0, at: 0 }, |_| {}).map(receipt),
        }
    }

    fn wake(&self) {
        self.handle.wake();
    }

    fn durable(&self, level: Durability) -> u64 {
        self.kept.as_ref().map_or(u64::MAX, |(journal, _)| journal.durable(level_of(level)).0)
    }

    fn when_durable(&self, place: u64, level: Durability, tell: Tell) {
        match &self.kept {
            None => tell(Ok(())),
            Some((journal, _)) => {
                let tell = move |result: Result<(), tidemill_journal::Error>| tell(result.map_err(|e| e.to_string()));
                journal.notify(Sequence(place), level_of(level), Box::new(tell));
            }
        }
    }

    fn columns(&self) -> Option<SchemaRef> {
        self.bodies.messages()
    }
}

/// The journal's level of what a request asks for.
fn level_of(durability: Durability) -> Level {
    match durability {
        Durability::Memory | Durability::Process => Level::Process,
        Durability::Flushed => Level::Flushed,
    }
}

fn durability_of(level: Level) -> Durability {
    match level {
        Level::Process => Durability::Process,
        Level::Flushed => Durability::Flushed,
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::Waiting { .. } => Refusal::Full,
        Full::TooLarge { .. } => Refusal::TooLarge,
        Full::Closed => Refusal::Closed,
        Full::Lost => Refusal::Lost,
    }
}

fn rejection(not_taken: NotTaken) -> Rejection {
    match not_taken {
        NotTaken::Full(full) => Rejection::Refused(refusal(full)),
        NotTaken::Records { rejected, stopped } => Rejection::Records { rejected, stopped },
        NotTaken::Body(problem) => Rejection::Body(problem),
        NotTaken::NotOne { records } => not_one(records),
    }
}

fn not_one(records: u32) -> Rejection {
    Rejection::Body(format!("a request is one JSON object, and this body has {records}"))
}

#[cfg(test)]
mod tests;

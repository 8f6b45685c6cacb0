//! [`Inbox`]: a source that is filled from above through an [`InboxHandle`], and read by one or several [`Puller`]s.
//!
//! It is bounded by rows and never waits: when it is full the gateway answers 429. What was accepted is handed on even
//! after a graceful stop was asked for; nothing is accepted from then on.
//!
//! Reading order: [`intake`] is where bodies come in, [`puller`] where blocks come out, [`keep`] what keeps bodies
//! meanwhile.

mod intake;
mod keep;
mod puller;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use crossbeam_channel::Sender as Bell;
use tidemill_base::options::{self, Options as Pairs};
use tidemill_circuit::decode::{Block, BlockData, MakeDecoder};
use tidemill_format::{Format, JsonOptions, Rejected};
use tidemill_stage::{Cancel, Halt, Sender};

use intake::{Chunk, Columns, Intake, Part, Sealed};
pub use keep::{Keep, Kept, Note, Reread, Rereads};
use puller::Queues;
pub use puller::{Puller, Reading};

use crate::catalogue::Table;
use crate::decode;
use crate::error::Error;
use crate::source::{Origin, Position, Replay, Source, SourceEvent};

/// Records that may wait.
const RECORDS_MAX: u64 = 262_144;

/// Bytes that may wait.
const BYTES_MAX: u64 = 256 << 20;

/// Blocks that are taken from an inbox at a time, in rows.
const PULL_ROWS: u64 = 8_192;

/// The longest body that is read under the lock.
pub const SHORT_BYTES: usize = 4 << 10;

/// What the options of `'connector' = 'http'` without a `'url'` say.
#[derive(Debug, Clone)]
pub struct Options {
    format: Format,
    records_max: u64,
    bytes_max: u64,
    remembers: Remembers,
}

/// What is remembered of requests that name themselves by a key, so that a repeated one is not taken twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembers {
    /// For how long.
    pub window: Duration,
    /// In how many bytes at most.
    pub bytes: u64,
}

impl Options {
    pub(crate) fn take(options: &mut Pairs) -> Result<Self, options::Error> {
        // 'url' belongs to the other direction; naming it here lets a misspelt one be recognised.
        options.take("url");
        // What it says is for whoever keeps the inbox.
        options.choice("durability", &[("process", ()), ("flushed", ())])?;
        let format = match options.take("format") {
            None => Format::named("json", options)?,
            Some(name) if name != "parquet" => Format::named(&name, options)?,
            Some(_) => None,
        };
        let format = format.ok_or_else(|| options::Error::Invalid {
            key: "format".to_string(),
            value: "parquet".to_string(),
            expected: "one of 'json', 'csv', 'debezium-json'".to_string(),
        })?;
        Ok(Options {
            format,
            records_max: options.integer("inbox.rows")?.unwrap_or(RECORDS_MAX).max(1),
            bytes_max: options.size("inbox.bytes")?.unwrap_or(BYTES_MAX).max(1),
            remembers: Remembers {
                window: options.duration("idempotency.window")?.unwrap_or(Duration::from_secs(60)),
                bytes: options.size("idempotency.bytes")?.unwrap_or(256 << 20),
            },
        })
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }
}

/// Records that were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// How many records were taken in before them.
    pub offset: u64,
    /// How many they are.
    pub records: u32,
    /// Where they are kept, when the inbox has a [`Keep`].
    pub kept: Option<u64>,
}

/// A short body, on its way in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Short<'a> {
    /// The body: an object, an array of objects, or objects one after another.
    pub body: &'a [u8],
    /// Whether bad records are left out instead of refusing all.
    pub skip_bad: bool,
    /// Whether it has to be one record.
    pub one: bool,
    /// Whether the readers are not told now, but by [`InboxHandle::wake`] when more has come.
    pub quiet: bool,
    /// What is kept with it.
    pub note: Note<'a>,
}

/// Why nothing of a short body was taken in.
#[derive(Debug)]
pub enum NotTaken {
    /// There is no room for it.
    Full(Full),
    /// Records are bad.
    Records {
        /// Which, and why.
        rejected: Vec<Rejected>,
        /// Whether reading stopped before the end because too many were bad.
        stopped: bool,
    },
    /// It cannot be read at all, or not here: its rows have to be decoded first.
    Body(String),
    /// It has to be one record, and is not.
    NotOne {
        /// Its records.
        records: u32,
    },
}

/// Why records were not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The engine has not yet taken what waits: send them again later.
    #[error("{records} records wait already")]
    Waiting {
        /// The records that wait.
        records: u64,
    },
    /// More at once than the inbox ever holds: send fewer at a time.
    #[error("{records} records or {bytes} bytes are more than the inbox holds")]
    TooLarge {
        /// The records that were sent.
        records: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The source has stopped.
    #[error("the pipeline is stopping")]
    Closed,
    /// What is taken in cannot be kept.
    #[error("the journal takes nothing any more")]
    Lost,
}

/// How the gateway fills an inbox; clones fill the same one.
#[derive(Debug, Clone)]
pub struct InboxHandle {
    shared: Arc<Shared>,
}

struct Shared {
    table: String,
    keep: OnceLock<Arc<dyn Keep>>,
    rereads: OnceLock<Arc<dyn Rereads>>,
    columns: OnceLock<Columns>,
    /// Where bodies come in. Taken after `queues` where both are.
    intake: Mutex<Intake>,
    /// Where blocks come out.
    queues: Mutex<Queues>,
    /// Records and bytes that may wait.
    limits: (u64, u64),
    remembers: Remembers,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a body, when bodies are kept.
    fn keep(&self, first_record: u64, records: u32, note: &Note<'_>, body: &[u8]) -> Result<Option<u64>, Full> {
        self.keep.get().map(|keep| keep.keep(first_record, records, note, body)).transpose()
    }
}

impl InboxHandle {
    /// Has every body kept before it is taken in. Said once, before anything comes.
    pub fn keep_in(&self, keep: Arc<dyn Keep>) {
        let _ = self.shared.keep.set(keep);
    }

    /// Has what is kept read again by readers that are far behind. Said once, before anything comes.
    pub fn reread_from(&self, rereads: Arc<dyn Rereads>) {
        let _ = self.shared.rereads.set(rereads);
    }

    /// Has short bodies of JSON read into `decoded` where they come in. The blocks have the columns `rows`: those, and last,
    /// if there is one more, a BOOLEAN that says whether somebody waits for the row. Said once, before anything comes.
    ///
    /// # Errors
    /// When a column's type has no form in JSON.
    pub fn read_json(
        &self,
        options: JsonOptions,
        decoded: SchemaRef,
        rows: SchemaRef,
    ) -> Result<(), tidemill_format::Error> {
        let columns = Columns { options, decoded, rows };
        let chunk = Chunk::new(&columns)?;
        let _ = self.shared.columns.set(columns);
        self.shared.lock().open = Some(chunk);
        Ok(())
    }

    /// Has only these columns read from bodies for whose answers `asked` waits.
    pub fn read_only(&self, asked: u32, columns: &[&str]) {
        let mut intake = self.shared.lock();
        if let Some(open) = &intake.open {
            let keys = open.gather.keys(columns);
            intake.keys.push((asked, keys));
        }
    }

    /// What is to be remembered of requests with keys.
    pub fn remembers(&self) -> Remembers {
        self.shared.remembers
    }

    /// One more reader, of what no reader has been handed yet and of what comes in from now on.
    pub fn reader(&self, reading: Reading) -> Puller {
        Puller::new(self.clone(), reading)
    }

    /// Puts back what was kept but not taken in before a restart, however much it is.
    pub fn put_back(&self, block: Block) {
        let (bytes, end) = (bytes(&block.data), block.first_record + u64::from(block.records));
        let ends = [block.records].into();
        let sealed = Sealed { from: block.first_record, bytes, ends, place: None, data: block.data };
        let mut queues = self.shared.queues();
        let mut intake = self.shared.lock();
        intake.accepted = intake.accepted.max(end);
        intake.bytes += bytes;
        queues.put_back(&sealed);
        let bells = intake.bells.clone();
        drop((intake, queues));
        ring(&bells);
    }

    /// Takes records in, or says at once why not. `data` is whole records, or rows of the inbox's columns, and `body` what
    /// they were decoded from, which is what is kept. `admit` is told their place before anybody can see them.
    ///
    /// # Errors
    /// [`Full`] when there is no room or the source has stopped; nothing was taken in then.
    pub fn push(
        &self,
        data: BlockData,
        records: u32,
        note: &Note<'_>,
        body: &[u8],
        admit: impl FnOnce(&Accepted),
    ) -> Result<Accepted, Full> {
        let data = self.whole(data, note.asked != 0)?;
        let mut intake = self.shared.lock();
        let rereads = self.shared.rereads.get().is_some();
        intake.room(records.into(), body.len() as u64, self.shared.limits, rereads)?;
        let offset = intake.accepted;
        if records == 0 {
            let accepted = Accepted { offset, records, kept: None };
            admit(&accepted);
            return Ok(accepted);
        }
        if let Some(columns) = self.shared.columns.get() {
            intake.close_chunk(columns).map_err(|error| lost(&self.shared.table, &error))?;
        }
        // Under the lock, so that what is kept and what waits have one order.
        let kept = self.shared.keep(offset, records, note, body)?;
        let accepted = Accepted { offset, records, kept };
        admit(&accepted);
        intake.accepted += u64::from(records);
        intake.bytes += body.len() as u64;
        let (ends, bytes) = ([records].into(), body.len() as u64);
        intake.parts.push(Part::Whole(Sealed { from: offset, bytes, ends, place: kept, data }));
        let bells = intake.bells.clone();
        drop(intake);
        ring(&bells);
        Ok(accepted)
    }

    /// Rows with all columns of the inbox.
    fn whole(&self, data: BlockData, asked: bool) -> Result<BlockData, Full> {
        let (Some(columns), BlockData::Rows(delta)) = (self.shared.columns.get(), &data) else { return Ok(data) };
        if !columns.has_asked() || delta.batch().num_columns() == columns.rows.fields().len() {
            return Ok(data);
        }
        let rows = delta.rows();
        let asked = || if asked { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) };
        let whole = columns.whole(delta.clone(), asked).map_err(|error| lost(&self.shared.table, &error))?;
        Ok(BlockData::Rows(whole))
    }

    /// Takes the records of a short body in, or says at once why not. `admit` is told their place before anybody can see
    /// them.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing was taken in then.
    pub fn take(
        &self,
        short: &Short<'_>,
        admit: impl FnOnce(&Accepted),
    ) -> Result<(Accepted, Vec<Rejected>), NotTaken> {
        let shared = &*self.shared;
        let rereads = shared.rereads.get().is_some();
        let mut guard = shared.lock();
        let intake = &mut *guard;
        intake.room(1, short.body.len() as u64, shared.limits, rereads).map_err(NotTaken::Full)?;
        let (Some(columns), Some(mut open)) = (shared.columns.get(), intake.open.take()) else {
            return Err(NotTaken::Body("bodies are not read here".to_string()));
        };
        let taken = Self::take_into(&mut open, shared, intake, short, rereads, admit);
        let full = open.is_full();
        intake.open = Some(open);
        let (accepted, rejected) = taken?;
        if accepted.records == 0 {
            return Ok((accepted, rejected));
        }
        if full {
            intake.close_chunk(columns).map_err(|error| NotTaken::Body(error.to_string()))?;
        }
        if !short.quiet {
            let bells = intake.bells.clone();
            drop(guard);
            ring(&bells);
        }
        Ok((accepted, rejected))
    }

    /// Tells the readers of what was taken in quietly.
    pub fn wake(&self) {
        let bells = self.shared.lock().bells.clone();
        ring(&bells);
    }

    /// Takes a short body into a chunk.
    fn take_into(
        open: &mut Chunk,
        shared: &Shared,
        intake: &mut Intake,
        short: &Short<'_>,
        rereads: bool,
        admit: impl FnOnce(&Accepted),
    ) -> Result<(Accepted, Vec<Rejected>), NotTaken> {
        let Short { body, skip_bad, one, note, .. } = short;
        let keys = match note.asked {
            0 => None,
            asked => intake.keys.iter_mut().find(|(who, _)| *who == asked).map(|(_, keys)| keys),
        };
        let mut read = open.gather.read(body, keys).map_err(|error| NotTaken::Body(error.to_string()))?;
        let stopped = read.stopped();
        if !read.rejected().is_empty() && (!skip_bad || stopped) {
            return Err(NotTaken::Records { rejected: read.take_rejected(), stopped });
        }
        let (offset, records) = (intake.accepted, read.rows() as u32);
        if *one && records != 1 {
            return Err(NotTaken::NotOne { records });
        }
        if records > 1 {
            intake.room(records.into(), body.len() as u64, shared.limits, rereads).map_err(NotTaken::Full)?;
        }
        let rejected = if read.rejected().is_empty() { Vec::new() } else { read.take_rejected() };
        if records == 0 {
            let accepted = Accepted { offset, records, kept: None };
            admit(&accepted);
            return Ok((accepted, rejected));
        }
        // Under the lock, so that what is kept and what waits have one order.
        let kept = shared.keep(offset, records, note, body).map_err(NotTaken::Full)?;
        let accepted = Accepted { offset, records, kept };
        admit(&accepted);
        read.keep();
        if open.is_empty() {
            (open.from, open.place) = (offset, kept);
        }
        open.ends.push(open.gather.rows() as u32);
        open.asked.extend(std::iter::repeat_n(note.asked != 0, records as usize));
        open.bytes += body.len() as u64;
        intake.accepted += u64::from(records);
        intake.bytes += body.len() as u64;
        Ok((accepted, rejected))
    }

    /// Goes on behind so many records, for every reader.
    fn resume(&self, records: u64) {
        let mut intake = self.shared.lock();
        intake.accepted = intake.accepted.max(records);
        for reader in &intake.readers {
            reader.progress.records.store(intake.accepted, Ordering::Release);
        }
    }

    /// Whether there is room for more, asked before the records are read at all.
    ///
    /// # Errors
    /// [`Full`] when there is none or the source has stopped.
    pub fn room(&self) -> Result<(), Full> {
        self.shared.lock().room(1, 1, self.shared.limits, self.shared.rereads.get().is_some())
    }

    /// Takes nothing from now on; what was taken in still waits.
    pub fn close(&self) {
        let mut intake = self.shared.lock();
        intake.closed = true;
        let bells = intake.bells.clone();
        drop(intake);
        ring(&bells);
    }

    /// Whether it takes nothing any more.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

/// A bell that rings already needs no second ring.
fn ring(bells: &[Bell<()>]) {
    for bell in bells {
        let _ = bell.try_send(());
    }
}

/// Rows that do not make a batch are a fault of this program: nothing can be taken in any more.
fn lost(table: &str, error: &tidemill_format::Error) -> Full {
    tracing::error!(table, %error, "Decoded rows do not fit together.");
    Full::Lost
}

fn bytes(data: &BlockData) -> u64 {
    match data {
        BlockData::Bytes(bytes) => bytes.len() as u64,
        BlockData::Rows(delta) => delta.batch().get_array_memory_size() as u64,
    }
}

/// An inbox as a source.
pub struct Inbox {
    table: String,
    decoder: MakeDecoder,
    puller: Puller,
    resumed: bool,
}

impl Inbox {
    pub(crate) fn open(table: &Table, options: &Options, decoded: SchemaRef) -> Result<Self, Error> {
        let decoder = decode::decoder(table, &options.format, &decoded, None)?;
        let shared = Shared {
            table: table.name.clone(),
            keep: OnceLock::new(),
            rereads: OnceLock::new(),
            columns: OnceLock::new(),
            intake: Mutex::default(),
            queues: Mutex::default(),
            limits: (options.records_max, options.bytes_max),
            remembers: options.remembers,
        };
        let puller = InboxHandle { shared: Arc::new(shared) }.reader(Reading::Following);
        Ok(Inbox { table: table.name.clone(), decoder, puller, resumed: false })
    }
}

impl Source for Inbox {
    fn is_bounded(&self) -> bool {
        false
    }

    fn decoder(&self) -> Option<MakeDecoder> {
        Some(self.decoder.clone())
    }

    fn inbox(&self) -> Option<InboxHandle> {
        Some(self.puller.inbox().clone())
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        let Some(position) = positions.first() else { return Ok(()) };
        self.puller.inbox().resume(position.records);
        self.resumed = true;
        Ok(())
    }

    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        let Inbox { mut puller, resumed, .. } = *self;
        if !resumed {
            events.send(SourceEvent::Opened { partition: 0, origin: Origin::named("http") })?;
        }
        let mut blocks = VecDeque::new();
        loop {
            // Once closed nothing is accepted, however fast it comes, so that the queue runs empty.
            let draining = cancel.is_draining();
            if draining {
                puller.inbox().close();
            }
            puller.pull(PULL_ROWS, &mut blocks)?;
            if blocks.is_empty() && draining {
                return Ok(());
            }
            if blocks.is_empty() {
                crossbeam_channel::select_biased! {
                    recv(cancel.drain_signal()) -> _ => {}
                    recv(puller.bell()) -> _ => {}
                }
            }
            for block in blocks.drain(..) {
                events.send(SourceEvent::Block(block))?;
                if !draining && cancel.is_draining() {
                    puller.inbox().close();
                }
            }
        }
    }

    fn replay(self: Box<Self>, _positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        Err(Error::NotReplayable { table: self.table.clone(), what: "'http' without a journal".to_string() })
    }
}

#[cfg(test)]
mod tests;

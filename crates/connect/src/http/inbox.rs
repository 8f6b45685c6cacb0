//! [`Inbox`]: a source that is filled from above through an [`InboxHandle`].
//!
//! The queue is bounded by rows and never waits: when it is full the gateway answers 429. What was accepted is handed on
//! even after a graceful stop was asked for; nothing is accepted from then on.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow_schema::SchemaRef;
use crossbeam_channel::{Receiver, Sender as Bell, bounded};
use tidemill_base::options::{self, Options as Pairs};
use tidemill_circuit::decode::{Block, BlockData, MakeDecoder};
use tidemill_format::Format;
use tidemill_stage::{Cancel, Halt, Sender};

use crate::catalogue::Table;
use crate::decode;
use crate::error::Error;
use crate::source::{Origin, Position, Replay, Source, SourceEvent};

/// Records that may wait.
const RECORDS_MAX: u64 = 262_144;

/// Bytes that may wait.
const BYTES_MAX: u64 = 256 << 20;

/// What the options of `'connector' = 'http'` without a `'url'` say.
#[derive(Debug, Clone)]
pub struct Options {
    format: Format,
    records_max: u64,
    bytes_max: u64,
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
    /// Where they are kept, when the inbox has a [`Keep`].
    pub kept: Option<u64>,
}

/// What keeps the records of a source before they are acknowledged or let go of: the journal.
pub trait Keep: Send + Sync {
    /// Keeps a body; `first_record` records of the source stand before its own. Gives the place where it is kept.
    ///
    /// # Errors
    /// [`Full::Waiting`] when there is no room now, [`Full::Lost`] when nothing can be kept any more.
    fn keep(&self, first_record: u64, records: u32, body: &[u8]) -> Result<u64, Full>;

    /// Whether what is kept at `place` is there as durably as was asked.
    fn is_durable(&self, place: u64) -> bool;

    /// The source has let go of what is kept at `place`, and will never read it again.
    fn let_go(&self, place: u64);
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
    keep: OnceLock<Arc<dyn Keep>>,
    queue: Mutex<Queue>,
    /// Holds a token when something came since the reader looked last.
    bell: Bell<()>,
    records_max: u64,
    bytes_max: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("queue", &self.queue).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Block>,
    waiting_records: u64,
    waiting_bytes: u64,
    /// Records taken in since the start.
    accepted: u64,
    closed: bool,
}

impl InboxHandle {
    /// Has every body kept before it is taken in. Said once, before anything comes.
    pub fn keep_in(&self, keep: Arc<dyn Keep>) {
        let _ = self.shared.keep.set(keep);
    }

    /// Puts back what was kept but not taken in before a restart, however much it is.
    pub fn put_back(&self, block: Block) {
        let mut queue = self.shared.lock();
        queue.accepted = queue.accepted.max(block.first_record + u64::from(block.records));
        queue.waiting_records += u64::from(block.records);
        queue.waiting_bytes += bytes(&block.data);
        queue.blocks.push_back(block);
        drop(queue);
        let _ = self.shared.bell.try_send(());
    }

    /// Takes records in, or says at once why not. `data` is whole records, or rows of the source's decoded columns, and
    /// `body` what they were decoded from, which is what is kept.
    ///
    /// # Errors
    /// [`Full`] when there is no room or the source has stopped; nothing was taken in then.
    pub fn try_push(&self, data: BlockData, records: u32, body: &[u8]) -> Result<Accepted, Full> {
        let bytes = bytes(&data);
        let count = u64::from(records);
        let mut queue = self.shared.lock();
        if queue.closed {
            return Err(Full::Closed);
        }
        if count > self.shared.records_max || bytes > self.shared.bytes_max {
            return Err(Full::TooLarge { records: count, bytes });
        }
        if records == 0 {
            return Ok(Accepted { offset: queue.accepted, kept: None });
        }
        let room = queue.waiting_records + count <= self.shared.records_max
            && queue.waiting_bytes + bytes <= self.shared.bytes_max;
        if !room {
            return Err(Full::Waiting { records: queue.waiting_records });
        }
        let offset = queue.accepted;
        // Under the lock, so that what is kept and what waits have one order.
        let kept = self.shared.keep.get().map(|keep| keep.keep(offset, records, body)).transpose()?;
        queue.accepted += count;
        queue.waiting_records += count;
        queue.waiting_bytes += bytes;
        let to = queue.accepted;
        queue.blocks.push_back(Block { partition: 0, from: offset, to, first_record: offset, records, data });
        drop(queue);
        // A bell that rings already needs no second ring.
        let _ = self.shared.bell.try_send(());
        Ok(Accepted { offset, kept })
    }

    /// Whether there is room for more, asked before the records are read at all.
    ///
    /// # Errors
    /// [`Full`] when there is none or the source has stopped.
    pub fn room(&self) -> Result<(), Full> {
        let queue = self.shared.lock();
        if queue.closed {
            return Err(Full::Closed);
        }
        if queue.waiting_records >= self.shared.records_max || queue.waiting_bytes >= self.shared.bytes_max {
            return Err(Full::Waiting { records: queue.waiting_records });
        }
        Ok(())
    }

    /// The records that wait.
    pub fn waiting(&self) -> u64 {
        self.shared.lock().waiting_records
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Block> {
        let mut queue = self.lock();
        let block = queue.blocks.pop_front()?;
        queue.waiting_records -= u64::from(block.records);
        queue.waiting_bytes -= bytes(&block.data);
        Some(block)
    }
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
    handle: InboxHandle,
    bell: Receiver<()>,
    resumed: bool,
}

impl Inbox {
    pub(crate) fn open(table: &Table, options: &Options, decoded: SchemaRef) -> Result<Self, Error> {
        let decoder = decode::decoder(table, &options.format, &decoded, None)?;
        let (ring, bell) = bounded(1);
        let (records_max, bytes_max) = (options.records_max, options.bytes_max);
        let shared = Shared { keep: OnceLock::new(), queue: Mutex::default(), bell: ring, records_max, bytes_max };
        let handle = InboxHandle { shared: Arc::new(shared) };
        Ok(Inbox { table: table.name.clone(), decoder, handle, bell, resumed: false })
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.handle.shared.lock().closed = true;
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
        Some(self.handle.clone())
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        let Some(position) = positions.first() else { return Ok(()) };
        let mut queue = self.handle.shared.lock();
        queue.accepted = queue.accepted.max(position.records);
        drop(queue);
        self.resumed = true;
        Ok(())
    }

    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        let shared = &self.handle.shared;
        if !self.resumed {
            events.send(SourceEvent::Opened { partition: 0, origin: Origin::named("http") })?;
        }
        loop {
            // Once closed nothing is accepted, however fast it comes, so that the queue runs empty.
            let draining = cancel.is_draining();
            if draining {
                shared.lock().closed = true;
            }
            match shared.pop() {
                Some(block) => events.send(SourceEvent::Block(block))?,
                None if draining => return Ok(()),
                None => crossbeam_channel::select_biased! {
                    recv(cancel.drain_signal()) -> _ => {}
                    recv(self.bell) -> _ => {}
                },
            }
        }
    }

    fn replay(self: Box<Self>, _positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        Err(Error::NotReplayable { table: self.table.clone(), what: "'http' without a journal".to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema};
    use tidemill_stage::Graph;

    use super::*;

    fn open(pairs: &[(&str, &str)]) -> Inbox {
        let columns = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let table = Table { name: "t".into(), columns: columns.clone(), partitioned_by: vec![], options: vec![] };
        let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let options = Options::take(&mut Pairs::new("connector 'http'", pairs)).expect("good options");
        Inbox::open(&table, &options, columns).expect("json is a stream")
    }

    fn push(handle: &InboxHandle, records: u32) -> Result<Accepted, Full> {
        let body = "{\"a\": 1}\n".repeat(records as usize);
        handle.try_push(BlockData::Bytes(body.clone().into()), records, body.as_bytes())
    }

    #[test]
    fn pushes_back_when_full() {
        let inbox = open(&[("inbox.rows", "10")]);
        let handle = inbox.inbox().expect("it is an inbox");
        assert_eq!(push(&handle, 6), Ok(Accepted { offset: 0, kept: None }));
        assert_eq!(push(&handle, 4), Ok(Accepted { offset: 6, kept: None }));
        assert_eq!(push(&handle, 1), Err(Full::Waiting { records: 10 }));
        assert!(matches!(push(&handle, 11), Err(Full::TooLarge { records: 11, .. })));
        drop(inbox);
        assert_eq!(push(&handle, 1), Err(Full::Closed));
    }

    #[test]
    fn what_was_accepted_is_handed_on_after_a_stop() {
        for seed in 0..50 {
            let inbox = open(&[("inbox.rows", "1000")]);
            let handle = inbox.inbox().expect("it is an inbox");
            let cancel = Cancel::new();
            let mut graph = Graph::new(&cancel, 2);
            let events = graph.source("inbox", move |out, cancel| Box::new(inbox).read(out, cancel));
            let (count, taken) = bounded(1);
            graph.sink("count", events, move |input, _| {
                let (mut records, mut at) = (0, 0);
                while let Some(event) = input.recv()? {
                    if let SourceEvent::Block(block) = event {
                        assert_eq!(block.from, at);
                        (at, records) = (block.to, records + u64::from(block.records));
                    }
                }
                let _ = count.send(records);
                Ok(())
            });
            let stopper = cancel.clone();
            let gateway = std::thread::spawn(move || {
                let (mut accepted, mut after_stop) = (0, 0);
                for turn in 0.. {
                    if turn == seed * 7 {
                        stopper.drain();
                    }
                    match push(&handle, 1) {
                        Ok(_) => {
                            accepted += 1;
                            after_stop += u64::from(turn >= seed * 7);
                            assert!(after_stop <= 1_002, "a stop is not put off while more comes");
                        }
                        Err(Full::Closed) => return accepted,
                        Err(_) => std::thread::yield_now(),
                    }
                }
                accepted
            });
            graph.run().expect("a graceful stop");
            let accepted: u64 = gateway.join().expect("it ends when the inbox closes");
            assert_eq!(taken.recv(), Ok(accepted));
        }
    }
}

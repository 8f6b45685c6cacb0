//! [`RingSource`] at work: gathers, has it kept, hands on, releases.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use bytes::Bytes;
use tidemill_circuit::decode::{Block, BlockData, MakeDecoder};
use tidemill_journal::ring::{Consumer, Error as RingError, Patience, Ring};
use tidemill_stage::{Cancel, Halt, Sender};

use super::Options;
use super::block::{self, Gather, Mark, Piece};
use crate::catalogue::Table;
use crate::decode;
use crate::error::Error;
use crate::http::inbox::{Full, Keep, Note};
use crate::source::{Origin, Position, Replay, Source, SourceEvent};

/// How to wait while the ring is in use.
const LIVELY: Patience = Patience { spins: 2_000, nap: Duration::from_micros(50), limit: Duration::from_millis(10) };

/// How to wait when nothing came for long: a look a millisecond costs next to nothing.
const QUIET: Patience = Patience { spins: 0, nap: Duration::from_millis(1), limit: Duration::from_millis(10) };

/// Waits in vain after which a ring is quiet: a second of them.
const WAITS_MAX: u32 = 100;

/// How to wait while slots are to be released.
const RELEASING: Patience = Patience { limit: Duration::from_micros(500), ..LIVELY };

/// How long to wait before a full journal is asked again.
const ROOM: Duration = Duration::from_millis(5);

/// Looks, one a millisecond, at whether the journal is done with what a stopped source has read.
const LAST_LOOKS: u32 = 10_000;

/// A ring as a source.
pub struct RingSource {
    table: String,
    options: Options,
    decoder: MakeDecoder,
    keep: Option<Arc<dyn Keep>>,
    consumer: Option<Consumer>,
    /// Up to where the ring was read when the run before ended.
    mark: Option<Mark>,
    /// What was kept and is to be handed on again.
    kept: VecDeque<Block>,
    /// Records of the format taken so far.
    records: u64,
    resumed: bool,
}

impl RingSource {
    pub(crate) fn open(table: &Table, options: &Options, decoded: SchemaRef) -> Result<Self, Error> {
        let decoder = block::decoder(decode::decoder(table, &options.format, &decoded, None)?);
        Ok(RingSource {
            table: table.name.clone(),
            options: options.clone(),
            decoder,
            keep: None,
            consumer: None,
            mark: None,
            kept: VecDeque::new(),
            records: 0,
            resumed: false,
        })
    }

    /// Opens the ring, or makes it when there is none.
    fn ring(&self) -> Result<Ring, Error> {
        let (path, measures) = (&self.options.path, self.options.measures);
        let missing = |error: &RingError, kind| matches!(error, RingError::Io { cause, .. } if cause.kind() == kind);
        let ring = match Ring::open(path) {
            Err(error) if missing(&error, io::ErrorKind::NotFound) => match Ring::create(path, measures.shape()) {
                // Somebody else was quicker.
                Err(error) if missing(&error, io::ErrorKind::AlreadyExists) => Ring::open(path),
                made => made,
            },
            opened => opened,
        };
        let ring = ring.map_err(|error| self.failed(error))?;
        match measures.differing(ring.shape()) {
            None => Ok(ring),
            Some((key, asked, has)) => Err(Error::Schema {
                table: self.table.clone(),
                message: format!("'{key}' = '{asked}', but the ring {} was made with {has}", path.display()),
                help: format!(
                    "leave '{key}' out, or stop the ring's producers and remove {} once it is read to its end",
                    path.display()
                ),
            }),
        }
    }

    fn failed(&self, error: RingError) -> Error {
        Error::Ring { table: self.table.clone(), error: Box::new(error) }
    }
}

impl Source for RingSource {
    fn is_bounded(&self) -> bool {
        false
    }

    fn is_journaled(&self) -> bool {
        true
    }

    fn decoder(&self) -> Option<MakeDecoder> {
        Some(self.decoder.clone())
    }

    fn resume(&mut self, positions: &[Position]) -> Result<(), Error> {
        let Some(position) = positions.first() else { return Ok(()) };
        self.records = self.records.max(position.records);
        self.resumed = true;
        Ok(())
    }

    fn keep_in(&mut self, keep: Arc<dyn Keep>) {
        self.keep = Some(keep);
    }

    fn resume_behind(&mut self, kept: &[u8]) {
        self.mark = Mark::of(kept);
    }

    fn put_back(&mut self, block: Block) {
        self.records = self.records.max(block.first_record + u64::from(block.records));
        self.kept.push_back(block);
    }

    fn attach(&mut self) -> Result<(), Error> {
        let mut consumer = self.ring()?.consumer().map_err(|error| self.failed(error))?;
        if let Some(mark) = self.mark.filter(|mark| mark.ring == consumer.id()) {
            // It is in the journal, damaged ones too, and what an opened journal has is durable.
            while consumer.position() < mark.next && !matches!(consumer.next(), Ok(None)) {}
            consumer.release(mark.next);
        }
        self.consumer = Some(consumer);
        Ok(())
    }

    fn read(mut self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        if self.consumer.is_none() {
            self.attach()?;
        }
        let Some(consumer) = self.consumer.take() else { return Ok(()) };
        if !self.resumed {
            let origin = Origin::named(&self.options.path.display().to_string());
            events.send(SourceEvent::Opened { partition: 0, origin })?;
        }
        for block in std::mem::take(&mut self.kept) {
            events.send(SourceEvent::Block(block))?;
        }
        let gather = Gather::new(&self.options.format);
        let gather = gather.map_err(|error| Error::Format { table: self.table.clone(), path: None, error })?;
        let reading = Reading { source: &mut self, consumer, gather, unreleased: VecDeque::new(), waits: 0 };
        reading.run(events, cancel)
    }

    fn replay(self: Box<Self>, _positions: &[Position]) -> Result<Box<dyn Replay>, Error> {
        Err(Error::NotReplayable { table: self.table.clone(), what: "'ring' without a journal".to_string() })
    }
}

/// A ring that is being read.
struct Reading<'a> {
    source: &'a mut RingSource,
    consumer: Consumer,
    gather: Gather,
    /// Where blocks are kept that the ring still has, and the position behind each.
    unreleased: VecDeque<(u64, u64)>,
    /// Waits in vain, one after the other.
    waits: u32,
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    Stop,
}

impl Reading<'_> {
    fn run(mut self, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt> {
        while !cancel.is_draining() {
            let (pieces, failure) = self.gather();
            if pieces.is_empty() && failure.is_none() {
                self.wait();
            }
            for piece in pieces {
                if self.hand_on(&piece, events, cancel)? == Next::Stop {
                    return self.end(cancel);
                }
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
            self.release();
        }
        self.end(cancel)
    }

    /// What is waiting, up to a block; with an error that stands behind it.
    fn gather(&mut self) -> (Vec<Piece>, Option<Error>) {
        let lenient = self.source.options.format.ignores_parse_errors();
        let mut failure = None;
        while !self.gather.is_full() {
            let added = match self.consumer.next() {
                Ok(None) => break,
                Ok(Some(record)) => self.gather.add(record.position, record.bytes).map_err(|error| {
                    let (table, path) = (self.source.table.clone(), Some(self.source.options.path.clone()));
                    Error::Format { table, path, error }
                }),
                Err(RingError::Damaged(damaged)) if lenient => {
                    tracing::warn!(table = %self.source.table, position = damaged.position, "A record is damaged.");
                    self.gather.add_damaged(damaged.position);
                    Ok(())
                }
                Err(error) => Err(self.source.failed(error)),
            };
            if let Err(error) = added {
                failure = Some(error);
                break;
            }
        }
        (self.gather.take(), failure)
    }

    /// Has a block kept and hands it on.
    fn hand_on(&mut self, piece: &Piece, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<Next, Halt> {
        if piece.records() == 0 {
            self.pass(piece.next());
            return Ok(Next::On);
        }
        let body = piece.encode(self.consumer.id());
        let place = match self.source.keep.clone() {
            None => None,
            Some(keep) => match self.keep(keep.as_ref(), &body, piece.records(), cancel)? {
                Some(place) => Some(place),
                // What is not kept stays in the ring.
                None => return Ok(Next::Stop),
            },
        };
        // Noted before anything can fail: the ring's records are in the journal now.
        self.unreleased.extend(place.map(|place| (place, piece.next())));
        let (from, records) = (self.source.records, piece.records());
        let to = from + u64::from(records);
        self.source.records = to;
        let data = BlockData::Bytes(body);
        events.send(SourceEvent::Block(Block { partition: 0, from, to, first_record: from, records, data }))?;
        if place.is_none() {
            self.consumer.release(piece.next());
        }
        self.waits = 0;
        Ok(Next::On)
    }

    /// Keeps a block, waiting for room; none when it was stopped before there was any.
    fn keep(&mut self, keep: &dyn Keep, body: &Bytes, records: u32, cancel: &Cancel) -> Result<Option<u64>, Error> {
        loop {
            match keep.keep(self.source.records, records, &Note::default(), body) {
                Ok(place) => return Ok(Some(place)),
                Err(Full::Waiting { .. }) => {
                    self.release();
                    if !cancel.sleep(ROOM) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(Error::NotKept { table: self.source.table.clone(), error }),
            }
        }
    }

    /// Notes that up to a position there is nothing to keep.
    fn pass(&mut self, next: u64) {
        match self.unreleased.back_mut() {
            Some((_, up_to)) => *up_to = next,
            None => self.consumer.release(next),
        }
    }

    /// Gives back the slots of what is durable.
    fn release(&mut self) {
        let Some(keep) = &self.source.keep else { return };
        while let Some((place, up_to)) = self.unreleased.front().copied().filter(|(place, _)| keep.is_durable(*place)) {
            self.consumer.release(up_to);
            keep.let_go(place);
            self.unreleased.pop_front();
        }
    }

    fn wait(&mut self) {
        let patience = match (self.unreleased.is_empty(), self.waits < WAITS_MAX) {
            (false, _) => RELEASING,
            (true, true) => LIVELY,
            (true, false) => QUIET,
        };
        if !self.consumer.wait(patience) && self.unreleased.is_empty() {
            self.waits = self.waits.saturating_add(1);
        }
    }

    /// Gives back the slots of everything that was read, once it is durable; what is not by then comes again and is known.
    fn end(mut self, cancel: &Cancel) -> Result<(), Halt> {
        for _ in 0..LAST_LOOKS {
            self.release();
            if self.unreleased.is_empty() || !cancel.sleep_through_drain(Duration::from_millis(1)) {
                break;
            }
        }
        Ok(())
    }
}

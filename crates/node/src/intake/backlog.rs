//! [`Backlog`]: what a circuit takes of a source out of the journal, before what comes from now on.
//!
//! Blocks are made as they are asked for, so that a circuit that is far behind holds no more than one of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidemill_circuit::decode::Block;
use tidemill_connect::{Origin, SourceEvent};
use tidemill_journal::{Journal, Level, Reader, Sequence};

use super::Doorway;
use crate::error::Error;
use crate::keep::line::{Input, is_input, stream};
use crate::keep::recover::block;
use crate::keep::survey::Pending;

/// The records of a block, about, where several bodies make one.
const BLOCK_RECORDS: u64 = 4_096;

/// What comes before the news of a source.
#[derive(Default)]
pub(crate) struct Backlog {
    /// The partitions that the circuit has not heard of.
    unopened: VecDeque<SourceEvent>,
    waiting: Option<Waiting>,
}

/// Input that waits in the journal.
struct Waiting {
    journal: Arc<Journal>,
    reader: Option<Reader>,
    source: String,
    doorway: Option<Doorway>,
    pending: BTreeMap<u64, Pending>,
    /// Input that was read and did not fit into the block before.
    held: Option<(u64, Input)>,
}

impl Backlog {
    pub(crate) fn new(
        journal: Arc<Journal>,
        source: &str,
        doorway: Option<Doorway>,
        pending: BTreeMap<u64, Pending>,
    ) -> Self {
        let waiting = Waiting { journal, reader: None, source: source.to_string(), doorway, pending, held: None };
        let waiting = Some(waiting).filter(|waiting| !waiting.pending.is_empty());
        Backlog { unopened: VecDeque::new(), waiting }
    }

    /// Tells of a partition before anything else.
    pub(crate) fn open(&mut self, partition: u32, origin: Origin) {
        self.unopened.push_back(SourceEvent::Opened { partition, origin });
    }

    /// How many partitions it tells of.
    pub(crate) fn opens(&self) -> usize {
        self.unopened.len()
    }

    /// Whether something comes before the news.
    pub(crate) fn is_empty(&self) -> bool {
        self.unopened.is_empty() && self.waiting.is_none()
    }

    /// The next piece.
    ///
    /// # Errors
    /// When the journal does not have it any more, or it cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<SourceEvent>, Error> {
        if let Some(event) = self.unopened.pop_front() {
            return Ok(Some(event));
        }
        let Some(waiting) = &mut self.waiting else { return Ok(None) };
        let block = waiting.block()?;
        if waiting.is_done() {
            self.waiting = None;
        }
        Ok(Some(SourceEvent::Block(block)))
    }
}

impl Waiting {
    fn is_done(&self) -> bool {
        self.pending.is_empty() && self.held.is_none()
    }

    /// The next block: one body, or several bodies of rows that follow one another.
    fn block(&mut self) -> Result<Block, Error> {
        let mut inputs = vec![self.input()?];
        let mut records = u64::from(inputs[0].1.records);
        let joins = self.doorway.is_some();
        while joins && records < BLOCK_RECORDS && !self.is_done() {
            let (sequence, input) = self.input()?;
            let end = inputs[0].1.first_record + records;
            if input.first_record != end {
                self.held = Some((sequence, input));
                break;
            }
            records += u64::from(input.records);
            inputs.push((sequence, input));
        }
        block(self.doorway.as_ref(), inputs)
    }

    /// The next body that waits.
    fn input(&mut self) -> Result<(u64, Input), Error> {
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        let first = self.pending.values().map(|waiting| waiting.sequence).min().unwrap_or_default();
        let reader = match &mut self.reader {
            Some(reader) => reader,
            reader => reader.insert(self.journal.reader(Sequence(first), Level::Process)?),
        };
        let number = stream(&self.source);
        while let Some(record) = reader.next()? {
            if record.stream != number || !is_input(record.kind) {
                continue;
            }
            let wrong = |problem| Error::Journaled { sequence: record.sequence.0, problem };
            let input = Input::decode(record.kind, &record.payload).map_err(wrong)?;
            if self.pending.remove(&input.first_record).is_some() {
                return Ok((record.sequence.0, input.detached()));
            }
        }
        let problem = format!("input of source '{}' that waited after it is not there any more", self.source);
        Err(Error::Journaled { sequence: first, problem })
    }
}

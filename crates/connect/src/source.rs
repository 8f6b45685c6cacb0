//! [`Source`]: what sends events into a circuit, and how its input is read again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_circuit::decode::{Block, MakeDecoder};
use tidemill_circuit::step::BlockRange;
use tidemill_stage::{Cancel, Halt, Sender};

use crate::error::Error;
use crate::http::inbox::{InboxHandle, Keep};

/// As much of what a source had kept last is shown to it when it goes on.
pub const KEPT_BYTES: usize = 64;

/// News of a source, in order: a partition opens, gives blocks and ends; nothing comes after `Complete`.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// A partition is there. All those of a bounded source open before its first block.
    Opened {
        /// Its number, from 0 in the order in which they open.
        partition: u32,
        /// What it is, for the record of a run.
        origin: Origin,
    },
    /// Records of an open partition.
    Block(Block),
    /// A partition gives no more blocks.
    Ended {
        /// Its number.
        partition: u32,
    },
    /// No partition will come or give any more. A source that was stopped does not say this.
    Complete,
}

/// What a partition is: enough to find it again, and to see whether it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The path of a file, or the connector's name.
    pub name: String,
    /// The file's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When the file was changed last, milliseconds UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// Hashes of the file's first and last 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Origin {
    /// A partition that is no file.
    pub(crate) fn named(name: &str) -> Self {
        Origin { name: name.to_string(), size: None, modified: None, digest: None }
    }
}

/// How far a partition has been taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// What the partition is.
    pub origin: Origin,
    /// Where the next block starts.
    pub to: u64,
    /// The records before it.
    pub records: u64,
    /// Whether it gives no more blocks.
    pub ended: bool,
}

impl Position {
    /// The beginning of a partition.
    pub fn start(origin: Origin) -> Self {
        Position { origin, to: 0, records: 0, ended: false }
    }
}

/// Where events come from.
pub trait Source: Send {
    /// Whether it comes to an end by itself.
    fn is_bounded(&self) -> bool;

    /// Makes the decoder of its blocks for a lane; none when its blocks are rows already.
    fn decoder(&self) -> Option<MakeDecoder> {
        None
    }

    /// Goes on where an earlier run stopped: [`Source::read`] then neither opens nor repeats what `positions` names, the
    /// partitions by their number.
    ///
    /// # Errors
    /// [`Error::NotResumable`] when the source cannot, [`Error::Changed`] when it is another than it was.
    fn resume(&mut self, positions: &[Position]) -> Result<(), Error>;

    /// How the gateway fills it, when it is an inbox.
    fn inbox(&self) -> Option<InboxHandle> {
        None
    }

    /// Whether its events are nowhere else once it has handed them on, so that they have to be kept in a journal.
    fn is_journaled(&self) -> bool {
        self.inbox().is_some()
    }

    /// Has every block kept before it is handed on. Said before it reads, to one that is journaled and no inbox.
    fn keep_in(&mut self, _keep: Arc<dyn Keep>) {}

    /// Nothing up to what was kept last comes again; `kept` is its beginning, of [`KEPT_BYTES`] at most.
    fn resume_behind(&mut self, _kept: &[u8]) {}

    /// Puts back what was kept but not taken in before a restart, to be handed on first.
    fn put_back(&mut self, _block: Block) {}

    /// Takes for itself what it reads from, so that what is in the way is known before anything runs.
    ///
    /// # Errors
    /// When it is not there, cannot be made, or another has it.
    fn attach(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Reads until the end, or until a stop is asked for; what has been sent before counts. This is a stage's work.
    ///
    /// # Errors
    /// What stands in the way of reading on.
    fn read(self: Box<Self>, events: &mut Sender<SourceEvent>, cancel: &Cancel) -> Result<(), Halt>;

    /// Reads recorded ranges again. `positions` are the partitions as they were recorded, and where the first range of
    /// each begins.
    ///
    /// # Errors
    /// [`Error::NotReplayable`] when the source cannot, [`Error::Changed`] when it is another than it was.
    fn replay(self: Box<Self>, positions: &[Position]) -> Result<Box<dyn Replay>, Error>;
}

/// A source that is read again, range by range.
pub trait Replay: Send {
    /// The block of a range; those of one partition are asked for in their order.
    ///
    /// # Errors
    /// When the range cannot be read as it was.
    fn block(&mut self, range: &BlockRange) -> Result<Block, Error>;
}

//! [`Intake`]: the end of an inbox at which bodies come in, under one lock.
//!
//! A short body of JSON is read straight into the open [`Chunk`], which becomes a block when somebody takes from the inbox:
//! so the rows of a step come in one block, however many requests brought them, and a request costs no allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use crossbeam_channel::Sender as Bell;
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_format::{Error as FormatError, JsonGather, JsonKeys, JsonOptions};

use super::Full;

/// Rows after which a chunk is closed: with one more short body it still fits into one delta.
const CHUNK_ROWS_MAX: usize = 6_144;

/// What is decoded here.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub options: JsonOptions,
    /// The columns of bodies.
    pub decoded: SchemaRef,
    /// The columns of rows: those of bodies, and last whether somebody waits where anybody needs to know.
    pub rows: SchemaRef,
}

impl Columns {
    pub fn has_asked(&self) -> bool {
        self.rows.fields().len() > self.decoded.fields().len()
    }

    /// Rows of bodies with all columns of the inbox.
    pub fn whole(&self, delta: Delta, asked: impl FnOnce() -> BooleanBuffer) -> Result<Delta, FormatError> {
        if !self.has_asked() {
            return Ok(delta);
        }
        let mut columns: Vec<ArrayRef> = delta.batch().columns().to_vec();
        columns.push(Arc::new(BooleanArray::new(asked(), None)));
        Ok(delta.with_batch(RecordBatch::try_new(self.rows.clone(), columns)?))
    }
}

/// Rows of short bodies on their way into one block.
pub(super) struct Chunk {
    pub gather: JsonGather,
    /// For each body the rows up to its end.
    pub ends: Vec<u32>,
    /// For each row whether somebody waits for its answer.
    pub asked: Vec<bool>,
    /// The records of the source before it.
    pub from: u64,
    /// Where its first body is kept.
    pub place: Option<u64>,
    /// The bytes of its bodies.
    pub bytes: u64,
}

impl Chunk {
    pub fn new(columns: &Columns) -> Result<Chunk, FormatError> {
        let gather = JsonGather::new(columns.options, columns.decoded.clone())?;
        Ok(Chunk { gather, ends: Vec::new(), asked: Vec::new(), from: 0, place: None, bytes: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.gather.rows() >= CHUNK_ROWS_MAX
    }

    /// Takes the rows out as a block; the chunk is empty then.
    pub fn seal(&mut self, columns: &Columns) -> Result<Sealed, FormatError> {
        let delta = Delta::inserts(self.gather.finish()?);
        let asked = || BooleanBuffer::from_iter(self.asked.iter().copied());
        let delta = columns.whole(delta, asked)?;
        let (from, bytes) = (self.from, std::mem::take(&mut self.bytes));
        let ends: Arc<[u32]> = self.ends.as_slice().into();
        self.ends.clear();
        self.asked.clear();
        Ok(Sealed { from, bytes, ends, place: self.place.take(), data: BlockData::Rows(delta) })
    }
}

/// Whole bodies that are one block, or the rest of one.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    /// The records of the source before it.
    pub from: u64,
    /// The bytes of its bodies.
    pub bytes: u64,
    /// For each body the rows up to its end: a block is divided between bodies only, as they are kept.
    pub ends: Arc<[u32]>,
    /// Where its first body is kept.
    pub place: Option<u64>,
    pub data: BlockData,
}

impl Sealed {
    pub fn records(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default().into()
    }

    /// Where the next block starts.
    pub fn to(&self) -> u64 {
        self.from + self.records()
    }

    /// The bodies that make about `rows` rows, at least one; and the rest.
    pub fn divide(self, rows: u64) -> (Sealed, Option<Sealed>) {
        let fits = self.ends.partition_point(|end| u64::from(*end) <= rows).max(1);
        let BlockData::Rows(delta) = &self.data else { return (self, None) };
        if fits == self.ends.len() {
            return (self, None);
        }
        let at = self.ends[fits - 1];
        let (head, tail) = (delta.slice(0, at as usize), delta.slice(at as usize, delta.rows() - at as usize));
        let rest = Sealed {
            from: self.from + u64::from(at),
            bytes: self.bytes,
            ends: self.ends[fits..].iter().map(|end| end - at).collect(),
            place: None,
            data: BlockData::Rows(tail),
        };
        let first = Sealed { bytes: 0, ends: self.ends[..fits].into(), data: BlockData::Rows(head), ..self };
        (first, Some(rest))
    }

    pub fn block(self) -> Block {
        let records = self.records() as u32;
        Block { partition: 0, from: self.from, to: self.to(), first_record: self.from, records, data: self.data }
    }
}

/// What waits to be handed to the readers.
#[allow(clippy::large_enum_variant)] // It is moved a few times a step, and made without an allocation.
pub(super) enum Part {
    Gathered(Chunk),
    Whole(Sealed),
}

/// How far a reader is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The records it has taken, and those before it began.
    pub records: AtomicU64,
    /// The bytes of their bodies.
    pub bytes: AtomicU64,
    /// How many records it may be behind.
    pub permit: AtomicU64,
}

/// A reader as it is seen from here.
pub(super) struct Watched {
    pub id: usize,
    pub progress: Arc<Progress>,
    pub bell: Bell<()>,
    /// Whether requests wait for it.
    pub decides: bool,
}

/// Where bodies come in.
#[derive(Default)]
pub(super) struct Intake {
    /// Where short bodies go; none when bodies are not read here.
    pub open: Option<Chunk>,
    /// Chunks that were emptied.
    pub spares: Vec<Chunk>,
    pub parts: Vec<Part>,
    /// Who sends objects of which only some keys count, and which those are.
    pub keys: Vec<(u32, JsonKeys)>,
    /// Records taken in since the start.
    pub accepted: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    pub closed: bool,
    pub readers: Vec<Watched>,
    pub bells: Arc<[Bell<()>]>,
}

impl Intake {
    /// Whether `count` records of `bytes` more fit behind what the readers have not taken; those that can read again what is
    /// kept are not waited for when others are there.
    pub fn room(
        &self,
        count: u64,
        bytes: u64,
        (records_max, bytes_max): (u64, u64),
        rereads: bool,
    ) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        if count > records_max || bytes > bytes_max {
            return Err(Full::TooLarge { records: count, bytes });
        }
        let decides = self.readers.iter().any(|reader| reader.decides);
        for reader in self.readers.iter().filter(|reader| reader.decides || !(rereads && decides)) {
            let progress = &reader.progress;
            let records = self.accepted.saturating_sub(progress.records.load(Ordering::Acquire));
            let waiting = self.bytes.saturating_sub(progress.bytes.load(Ordering::Acquire));
            // What is permitted holds back only behind something that waits.
            let permit = progress.permit.load(Ordering::Relaxed);
            if records + count > records_max || waiting + bytes > bytes_max || (records > 0 && records + count > permit)
            {
                return Err(Full::Waiting { records });
            }
        }
        Ok(())
    }

    /// The records that no reader has been handed, and the bytes of their bodies.
    pub fn waiting(&self) -> (u64, u64) {
        let parts = self.parts.iter().map(|part| match part {
            Part::Gathered(chunk) => (chunk.gather.rows() as u64, chunk.bytes),
            Part::Whole(sealed) => (sealed.records(), sealed.bytes),
        });
        let open = self.open.iter().map(|chunk| (chunk.gather.rows() as u64, chunk.bytes));
        parts.chain(open).fold((0, 0), |sum, (records, bytes)| (sum.0 + records, sum.1 + bytes))
    }

    /// Puts what is open before what comes next as a block of its own.
    pub fn close_chunk(&mut self, columns: &Columns) -> Result<(), FormatError> {
        if self.open.as_ref().is_none_or(Chunk::is_empty) {
            return Ok(());
        }
        let fresh = match self.spares.pop() {
            Some(spare) => spare,
            None => Chunk::new(columns)?,
        };
        if let Some(full) = self.open.replace(fresh) {
            self.parts.push(Part::Gathered(full));
        }
        Ok(())
    }
}

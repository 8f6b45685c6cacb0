//! Rows into batches: what every decoder shares between one record and the next.
//!
//! A decoder reads a record into [`Batches::record`] and then either commits it or cuts it back; batches of at most
//! [`BATCH_ROWS`] rows go out with the ordinal of the record that each row came from.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::column::{BATCH_ROWS, FLUSH_ROWS, Record};
use crate::error::{Error, Rejected, TEXT_CHARS_MAX};

/// What a block was decoded into.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The rows, in the order of their records.
    pub batches: Vec<DecodedBatch>,
    /// The records that gave no rows.
    pub rejected: Vec<Rejected>,
}

impl Decoded {
    /// How many rows there are in all batches.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(|decoded| decoded.batch.num_rows()).sum()
    }
}

/// At most [`BATCH_ROWS`] rows.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    /// The rows.
    pub batch: RecordBatch,
    /// The weight of each row; `None` when all are +1.
    pub weights: Option<Vec<i64>>,
    /// Which record of the block the first row came from, from 0.
    pub record_first: u32,
    /// Which record of the block each row came from; `None` when row `i` came from `record_first + i`.
    pub records: Option<Vec<u32>>,
}

/// Rows on their way into batches.
pub(crate) struct Batches {
    pub(crate) record: Record,
    pub(crate) arena: String,
    schema: SchemaRef,
    weights: Option<Vec<i64>>,
    first: u32,
    records: Option<Vec<u32>>,
    flushed: usize,
}

impl Batches {
    pub(crate) fn new(schema: SchemaRef, weighted: bool, format: &'static str) -> Result<Self, Error> {
        let record = Record::new("", schema.fields(), format)?;
        let weights = weighted.then(Vec::new);
        Ok(Batches { record, arena: String::new(), schema, weights, first: 0, records: None, flushed: 0 })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Keeps the rows added since the last call: one for each of `weights`, all from record `ordinal`.
    #[inline(always)]
    pub(crate) fn commit(
        &mut self,
        ordinal: u32,
        weights: &[i64],
        block: &str,
        out: &mut Decoded,
    ) -> Result<(), Error> {
        let before = self.record.rows - weights.len();
        if before == 0 {
            self.first = ordinal;
        }
        if self.records.is_some() || weights.len() != 1 || ordinal != self.first + before as u32 {
            self.note_records(ordinal, before, weights.len());
        }
        if let Some(all) = &mut self.weights {
            all.extend_from_slice(weights);
        }
        // A change record gives two rows, any other one.
        let full = self.record.rows + 1 + usize::from(self.weights.is_some()) > BATCH_ROWS;
        if full || self.record.rows - self.flushed >= FLUSH_ROWS {
            self.flush(block);
        }
        if full { self.emit(out) } else { Ok(()) }
    }

    #[cold]
    fn note_records(&mut self, ordinal: u32, before: usize, added: usize) {
        let first = self.first;
        let records = self.records.get_or_insert_with(|| (first..first + before as u32).collect());
        records.extend(std::iter::repeat_n(ordinal, added));
    }

    /// Sends out rows that were filled column by column from the first record on, in batches of the usual length.
    pub(crate) fn emit_columns(&mut self, block: &str, out: &mut Decoded) -> Result<(), Error> {
        self.flush(block);
        let rows = self.record.rows;
        let batch = self.record.finish(&self.schema)?;
        self.flushed = 0;
        for first in (0..rows).step_by(BATCH_ROWS) {
            let batch = batch.slice(first, BATCH_ROWS.min(rows - first));
            out.batches.push(DecodedBatch { batch, weights: None, record_first: first as u32, records: None });
        }
        Ok(())
    }

    /// Copies strings out of `block`, which is about to go away.
    pub(crate) fn flush(&mut self, block: &str) {
        self.record.flush(block, &self.arena);
        self.arena.clear();
        self.flushed = self.record.rows;
    }

    /// Cuts back to `rows` rows.
    pub(crate) fn undo(&mut self, rows: usize) {
        self.record.truncate(rows);
    }

    /// Sends out what there is.
    pub(crate) fn emit(&mut self, out: &mut Decoded) -> Result<(), Error> {
        self.flushed = 0;
        if self.record.rows == 0 {
            return Ok(());
        }
        let batch = self.record.finish(&self.schema)?;
        let weights = self.weights.as_mut().map(std::mem::take);
        out.batches.push(DecodedBatch { batch, weights, record_first: self.first, records: self.records.take() });
        Ok(())
    }
}

/// Counts records and lines of a block, and describes what is wrong in them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// The ordinal of the record being read.
    pub(crate) record: u32,
    line: u64,
    line_byte: usize,
    byte: usize,
}

impl Place {
    /// Describes a fault at `at` in `block`, in the record that begins at `start` and ends at `end`.
    #[cold]
    pub(crate) fn reject(&mut self, block: &[u8], start: usize, end: usize, at: usize, reason: String) -> Rejected {
        let at = at.min(block.len());
        let text = String::from_utf8_lossy(&block[start..end.max(start)]);
        let (line, column) = self.position(block, at);
        Rejected {
            record: self.record,
            line,
            column,
            byte: at as u64,
            reason,
            text: text.trim_end().chars().take(TEXT_CHARS_MAX).collect(),
        }
    }

    /// The line and column of a byte; bytes must be asked for in rising order of their lines.
    fn position(&mut self, block: &[u8], at: usize) -> (u64, u64) {
        for newline in memchr::memchr_iter(b'\n', &block[self.byte.min(at)..at]) {
            self.line += 1;
            self.line_byte = self.byte + newline + 1;
        }
        self.byte = self.byte.max(at);
        let column = String::from_utf8_lossy(&block[self.line_byte.min(at)..at]).chars().count();
        (self.line + 1, column as u64 + 1)
    }
}

//! [`Blocks`]: a stream of bytes, cut into blocks at the ends of records.
//!
//! Bytes are read once into a pooled buffer and never moved, but for the beginning of a record that the buffer cuts in
//! two. Blocks are slices of the buffer: at most [`RECORDS_MAX`] records each.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tidemill_circuit::decode::{Block, BlockData};
use tidemill_format::Cutter;

use crate::error::{Error, Role};
use crate::pool::Pool;

/// The most records in a block.
pub(crate) const RECORDS_MAX: usize = 8_192;

/// The longest record.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// The first record of CSV files that name their columns: found by the reader, needed by every decoder.
pub(crate) type Header = Arc<OnceLock<Vec<u8>>>;

/// What is read: the table and the file or stream, for errors, and the partition.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) table: String,
    pub(crate) path: PathBuf,
    pub(crate) partition: u32,
}

/// How much to read before cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// A whole buffer: for files.
    Whole,
    /// What one read gives, so that a line that was typed is not kept waiting.
    Whatever,
}

/// Blocks of one partition.
pub(crate) struct Blocks<R> {
    input: R,
    cutter: Box<dyn Cutter>,
    pool: Pool,
    place: Place,
    fill: Fill,
    /// Where the header goes, until it has been read.
    header: Option<Header>,
    /// The beginning of a record whose end has not been read.
    tail: Vec<u8>,
    ready: VecDeque<Block>,
    at: u64,
    records: u64,
    ended: bool,
}

impl<R: Read> Blocks<R> {
    pub(crate) fn new(input: R, cutter: Box<dyn Cutter>, pool: Pool, place: Place, fill: Fill) -> Self {
        let (header, tail, ready) = (None, Vec::new(), VecDeque::new());
        Blocks { input, cutter, pool, place, fill, header, tail, ready, at: 0, records: 0, ended: false }
    }

    /// Counts from here: the input begins so far into its partition.
    pub(crate) fn starting_at(mut self, at: u64, records: u64) -> Self {
        (self.at, self.records) = (at, records);
        self
    }

    /// Takes the first record as a header, which must be the same in all of the table's files.
    pub(crate) fn with_header(mut self, header: Option<Header>) -> Self {
        self.header = header;
        self
    }

    /// The next block; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Block>, Error> {
        while self.ready.is_empty() && !self.ended {
            self.read()?;
        }
        Ok(self.ready.pop_front())
    }

    /// Reads a buffer and cuts it.
    fn read(&mut self) -> Result<(), Error> {
        let mut buffer = self.pool.take();
        let mut filled = self.tail.len();
        if filled >= buffer.len() {
            buffer.resize((filled + 1).next_power_of_two(), 0);
        }
        buffer[..filled].copy_from_slice(&self.tail);
        loop {
            filled = self.fill(&mut buffer, filled)?;
            let records_max = if self.header.is_some() { 1 } else { RECORDS_MAX };
            let cut = self.cutter.cut(&buffer[..filled], records_max);
            if self.header.is_some() && (cut.records > 0 || self.ended) {
                let end = if cut.records > 0 { cut.end } else { filled };
                return self.take_header(&buffer[..filled], end);
            }
            if cut.records > 0 {
                self.cut(buffer, filled, cut.end, cut.records);
                return Ok(());
            }
            if self.ended {
                self.cut(buffer, filled, filled, usize::from(filled > 0));
                return Ok(());
            }
            if filled < buffer.len() {
                continue;
            }
            if filled >= RECORD_BYTES_MAX {
                let Place { table, path, .. } = self.place.clone();
                return Err(Error::RecordTooLong { table, path, from: self.at, limit: RECORD_BYTES_MAX });
            }
            buffer.resize(filled * 2, 0);
        }
    }

    /// Takes the record that ends at `end` as the header, unless it is blank; the rest is read again.
    fn take_header(&mut self, bytes: &[u8], end: usize) -> Result<(), Error> {
        let record = bytes[..end].trim_ascii();
        self.at += end as u64;
        self.tail.clear();
        self.tail.extend_from_slice(&bytes[end..]);
        // What is left may be all there is.
        self.ended &= self.tail.is_empty();
        if record.is_empty() {
            return Ok(());
        }
        let Some(header) = self.header.take() else { return Ok(()) };
        let first = header.get_or_init(|| record.to_vec());
        if first == record {
            return Ok(());
        }
        let shown = |header: &[u8]| String::from_utf8_lossy(&header[..header.len().min(200)]).into_owned();
        Err(Error::Schema {
            table: self.place.table.clone(),
            message: format!(
                "the header of {} is `{}`, but that of the first file is `{}`",
                self.place.path.display(),
                shown(record),
                shown(first)
            ),
            help: "read files of one header as one table, and others as another".to_string(),
        })
    }

    /// Reads behind the first `filled` bytes, and says how many there are then.
    fn fill(&mut self, buffer: &mut [u8], mut filled: usize) -> Result<usize, Error> {
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::io(&self.place.table, Role::Source, "read", &self.place.path, error));
                }
            }
            if self.fill == Fill::Whatever {
                break;
            }
        }
        Ok(filled)
    }

    /// Makes blocks of a buffer whose first records end at `end`.
    fn cut(&mut self, buffer: Vec<u8>, filled: usize, mut end: usize, mut records: usize) {
        let whole = self.pool.share(buffer, filled);
        let mut start = 0;
        while records > 0 {
            let to = self.at + (end - start) as u64;
            self.ready.push_back(Block {
                partition: self.place.partition,
                from: self.at,
                to,
                first_record: self.records,
                records: records as u32,
                data: BlockData::Bytes(whole.slice(start..end)),
            });
            (self.at, self.records, start) = (to, self.records + records as u64, end);
            let cut = self.cutter.cut(&whole[start..], RECORDS_MAX);
            (end, records) = (start + cut.end, cut.records);
        }
        self.tail.clear();
        self.tail.extend_from_slice(&whole[start..]);
        if self.ended && !self.tail.is_empty() {
            self.cut_last(whole.slice(start..));
        }
    }

    /// Makes a block of the last record, which lacks its newline.
    fn cut_last(&mut self, bytes: bytes::Bytes) {
        let to = self.at + bytes.len() as u64;
        self.ready.push_back(Block {
            partition: self.place.partition,
            from: self.at,
            to,
            first_record: self.records,
            records: 1,
            data: BlockData::Bytes(bytes),
        });
        (self.at, self.records) = (to, self.records + 1);
        self.tail.clear();
    }
}

#[cfg(test)]
mod tests;

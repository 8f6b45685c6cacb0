//! Walks the records of one segment, checking each: what recovery, readers and inspection share.
//!
//! A [`Scan`] is handed a way to fetch bytes and knows nothing of files or mappings.

use std::io;

use bytes::Bytes;

use crate::format::{Defect, Header, RECORD_BYTES, RECORDS_AT, RecordHead};
use crate::level::Sequence;

/// Bytes fetched at a time; a larger record is fetched whole.
const WINDOW_BYTES: u64 = 256 << 10;

/// A record, valid or not, and where it stands.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where its head begins in the segment.
    pub offset: u64,
    /// Its head.
    pub head: RecordHead,
    /// Its payload.
    pub payload: Bytes,
}

/// What a scan comes upon.
#[derive(Debug)]
pub enum Step {
    /// A valid record.
    Record(Found),
    /// Nothing is written from here on, as far as can be seen.
    End,
    /// A record that is not valid; the scan stays before it.
    Bad(Defect),
}

/// A walk over the records of a segment.
#[derive(Debug)]
pub struct Scan {
    salt: u32,
    at: u64,
    next: Sequence,
    window: Bytes,
    window_at: u64,
    trusting: bool,
}

impl Scan {
    /// A walk from the first record of the segment with this header.
    pub fn new(header: &Header) -> Scan {
        Scan {
            salt: header.salt(),
            at: RECORDS_AT,
            next: header.base,
            window: Bytes::new(),
            window_at: 0,
            trusting: false,
        }
    }

    /// Believes every record whatever its checksum says; for the planted mistake alone.
    pub fn trusting(mut self, trusting: bool) -> Scan {
        self.trusting = trusting;
        self
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The number the next record must have.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Takes one step; `end` is where the segment's bytes end and `fetch(offset, length)` reads from it.
    ///
    /// # Errors
    /// What `fetch` says.
    pub fn step(&mut self, end: u64, fetch: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> io::Result<Step> {
        if self.at + RECORD_BYTES > end {
            return Ok(Step::End);
        }
        let bytes = self.bytes(RECORD_BYTES, end, &fetch)?;
        let head = match RecordHead::decode(&bytes) {
            Ok(Some(head)) => head,
            Ok(None) => {
                // A reader that comes again must see what was written since.
                self.window = Bytes::new();
                return Ok(Step::End);
            }
            Err(defect) => return Ok(Step::Bad(defect)),
        };
        let payload_bytes = u64::from(head.payload_bytes);
        if self.at + head.bytes() > end {
            return Ok(Step::Bad(Defect::Length { bytes: payload_bytes }));
        }
        if head.sequence != self.next {
            return Ok(Step::Bad(Defect::Sequence { found: head.sequence, expected: self.next }));
        }
        let payload = self.bytes(head.bytes(), end, &fetch)?.slice(RECORD_BYTES as usize..);
        let payload = payload.slice(..payload_bytes as usize);
        if !self.trusting && !head.holds(self.salt, self.at, &payload) {
            return Ok(Step::Bad(Defect::Checksum { sequence: head.sequence }));
        }
        let found = Found { offset: self.at, head, payload };
        self.at += head.bytes();
        self.next = self.next.next();
        Ok(Step::Record(found))
    }

    /// The next `length` bytes, from the window or fetched into it.
    fn bytes(&mut self, length: u64, end: u64, fetch: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> io::Result<Bytes> {
        let inside = self.at >= self.window_at && self.at + length <= self.window_at + self.window.len() as u64;
        if !inside {
            let wanted = length.max(WINDOW_BYTES).min(end - self.at);
            self.window = Bytes::from(fetch(self.at, wanted as usize)?);
            self.window_at = self.at;
        }
        let start = (self.at - self.window_at) as usize;
        match self.window.len() >= start + length as usize {
            true => Ok(self.window.slice(start..start + length as usize)),
            false => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }
}

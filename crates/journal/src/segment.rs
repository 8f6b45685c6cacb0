//! A segment that is being written: records go in at once from several threads, and become visible in order.
//!
//! Its words are stored relaxed, the commit word of a record last with release. [`Segment::advance`] walks over what is
//! committed without a gap and publishes it; only that may be read, flushed or acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_base::storage::Region;

use crate::format::{self, Header, MARK_AT, RECORD_BYTES, RECORDS_AT};
use crate::level::Sequence;

/// A place between two records of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes from the start of the segment.
    pub offset: u64,
    /// Records before it in the segment.
    pub records: u64,
}

impl Place {
    pub const START: Place = Place { offset: RECORDS_AT, records: 0 };

    /// Both in one word, so that they change together: a segment is below 32 GiB and has fewer than 2^32 records.
    fn pack(self) -> u64 {
        (self.offset / 8) << 32 | self.records
    }

    fn unpack(word: u64) -> Place {
        Place { offset: (word >> 32) * 8, records: word & 0xffff_ffff }
    }

    /// The place behind a record that takes `bytes`.
    pub fn after(self, bytes: u64) -> Place {
        Place { offset: self.offset + bytes, records: self.records + 1 }
    }
}

/// `Segment::end` of one that is still open.
const OPEN: u64 = u64::MAX;

/// A segment of this incarnation, until it is full and flushed.
pub(crate) struct Segment {
    pub header: Header,
    pub name: String,
    pub region: Arc<dyn Region>,
    pub bytes: u64,
    /// Up to where pages were made ready.
    pub populated: AtomicU64,
    salt: u32,
    published: AtomicU64,
    end: AtomicU64,
    flushed: AtomicU64,
    marked: AtomicU64,
}

impl Segment {
    /// Begins a segment in a region of zeros whose name is durable.
    pub fn begin(header: Header, region: Arc<dyn Region>) -> Segment {
        for (word, value) in region.words().iter().zip(header.encode()) {
            word.store(value.to_le(), Ordering::Relaxed);
        }
        Segment {
            name: format::segment_name(header.segment),
            bytes: region.words().len() as u64 * 8,
            populated: AtomicU64::new(0),
            salt: header.salt(),
            published: AtomicU64::new(Place::START.pack()),
            end: AtomicU64::new(OPEN),
            flushed: AtomicU64::new(0),
            marked: AtomicU64::new(0),
            header,
            region,
        }
    }

    /// The last record before `place`.
    pub fn last_before(&self, place: Place) -> Sequence {
        Sequence(self.header.base.0 + place.records).previous()
    }

    /// Writes the record that was reserved at `offset`, its commit word last.
    pub fn write(&self, offset: u64, commit: u64, stream: u32, sequence: Sequence, parts: &[&[u8]]) {
        let words = self.region.words();
        let at = (offset / 8) as usize;
        let head = format::head_checksum(self.salt, offset, commit, stream, sequence);
        let checksum = write_payload(&words[at + (RECORD_BYTES / 8) as usize..], head, parts);
        words[at + 1].store(format::checksum_word(checksum, stream).to_le(), Ordering::Relaxed);
        words[at + 2].store(sequence.0.to_le(), Ordering::Relaxed);
        words[at].store(commit.to_le(), Ordering::Release);
    }

    /// Publishes every record that is committed without a gap before it, and says how far that is.
    ///
    /// Who commits a record and then calls this misses no other's: either it sees the other's commit word, or the other
    /// sees its own. That needs a fence between the two, which the caller has to put there.
    pub fn advance(&self) -> Place {
        let words = self.region.words();
        let mut seen = self.published.load(Ordering::SeqCst);
        loop {
            let place = Place::unpack(seen);
            if place.offset + RECORD_BYTES > self.bytes {
                return place;
            }
            let commit = u64::from_le(words[(place.offset / 8) as usize].load(Ordering::SeqCst));
            let Some(bytes) = format::committed_bytes(commit) else { return place };
            let next = place.after(bytes).pack();
            seen = match self.published.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => next,
                Err(moved) => moved,
            };
        }
    }

    /// How far records are published.
    pub fn published(&self) -> Place {
        Place::unpack(self.published.load(Ordering::Acquire))
    }

    /// Says that nothing more is reserved behind `end`.
    pub fn close(&self, end: Place) {
        self.end.store(end.pack(), Ordering::SeqCst);
    }

    /// Whether `place` is the end of the segment.
    pub fn ends_at(&self, place: Place) -> bool {
        self.end.load(Ordering::SeqCst) == place.pack()
    }

    /// Up to where it is flushed; 0 before its first flush.
    pub fn flushed(&self) -> Option<Place> {
        match self.flushed.load(Ordering::Acquire) {
            0 => None,
            word => Some(Place::unpack(word)),
        }
    }

    /// Remembers that it is flushed up to `place`.
    pub fn set_flushed(&self, place: Place) {
        self.flushed.store(place.pack(), Ordering::Release);
    }

    /// Whether the mark on disk is behind what is flushed.
    pub fn lacks_mark(&self) -> bool {
        self.flushed().is_some_and(|flushed| flushed.offset > self.marked.load(Ordering::Relaxed))
    }

    /// Writes down how far it is flushed, for the next flush to carry; returns what to remember then.
    pub fn write_mark(&self) -> u64 {
        let Some(flushed) = self.flushed() else { return 0 };
        let mark = format::mark(self.salt, flushed.offset);
        self.region.words()[(MARK_AT / 8) as usize].store(mark.to_le(), Ordering::Relaxed);
        flushed.offset
    }

    /// Remembers that the mark for `offset` is on disk.
    pub fn set_marked(&self, offset: u64) {
        self.marked.store(offset, Ordering::Relaxed);
    }

    /// Copies published bytes out.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let words = &self.region.words()[(offset / 8) as usize..][..length.div_ceil(8)];
        let mut bytes = Vec::with_capacity(words.len() * 8);
        for word in words {
            bytes.extend_from_slice(&u64::from_le(word.load(Ordering::Relaxed)).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Stores the parts one behind the other and returns `checksum` continued over them; the last word is filled with zeros.
fn write_payload(words: &[AtomicU64], mut checksum: u32, parts: &[&[u8]]) -> u32 {
    let mut at = 0;
    let (mut pending, mut pending_bytes) = ([0_u8; 8], 0);
    for part in parts {
        checksum = crc32c::crc32c_append(checksum, part);
        let mut rest: &[u8] = part;
        if pending_bytes > 0 {
            let taken = rest.len().min(8 - pending_bytes);
            pending[pending_bytes..pending_bytes + taken].copy_from_slice(&rest[..taken]);
            pending_bytes += taken;
            rest = &rest[taken..];
            if pending_bytes < 8 {
                continue;
            }
            words[at].store(u64::from_ne_bytes(pending), Ordering::Relaxed);
            at += 1;
            pending = [0; 8];
        }
        let (whole, tail) = rest.as_chunks::<8>();
        for (word, bytes) in words[at..].iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        at += whole.len();
        pending[..tail.len()].copy_from_slice(tail);
        pending_bytes = tail.len();
    }
    if pending_bytes > 0 {
        words[at].store(u64::from_ne_bytes(pending), Ordering::Relaxed);
    }
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&[u8]]) {
        let whole = parts.concat();
        let words: Vec<AtomicU64> = (0..whole.len().div_ceil(8)).map(|_| AtomicU64::new(u64::MAX)).collect();
        let checksum = write_payload(&words, 5, parts);
        let mut written: Vec<u8> = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        assert!(written[whole.len()..].iter().all(|byte| *byte == 0), "{parts:?}");
        written.truncate(whole.len());
        assert_eq!(written, whole, "{parts:?}");
        assert_eq!(checksum, crc32c::crc32c_append(5, &whole), "{parts:?}");
    }

    #[test]
    fn parts_stand_one_behind_the_other() {
        check(&[]);
        check(&[b""]);
        check(&[b"1234567"]);
        check(&[b"12345678"]);
        check(&[b"123456789"]);
        check(&[b"1", b"2", b"", b"3"]);
        check(&[b"123", b"45678", b"90"]);
        check(&[b"12345", b"678901234567890", b"1"]);
        check(&[b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"]);
    }

    #[test]
    fn a_place_fits_into_a_word() {
        let place = Place { offset: 4 << 30, records: 178_956_970 };
        assert_eq!(Place::unpack(place.pack()), place);
    }
}

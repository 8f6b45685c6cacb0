//! Reading records in order, while others are being appended.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::Defect;
use crate::journal::Shared;
use crate::level::{Level, Sequence};
use crate::notify::lock;
use crate::scan::{Found, Scan, Step};
use crate::segment::Segment;

/// A record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub sequence: Sequence,
    /// The kind that its writer gave it.
    pub kind: u8,
    /// The stream that its writer gave it.
    pub stream: u32,
    /// What was written. It shares memory with its neighbours: copy what is kept for long.
    pub payload: Bytes,
}

impl Record {
    pub(crate) fn of(found: Found) -> Record {
        let head = found.head;
        Record { sequence: head.sequence, kind: head.kind, stream: head.stream, payload: found.payload }
    }
}

/// Gives records one by one, from a certain one on; it is never ahead of the watermark it was made for.
///
/// It does not keep records from being removed: that is what [`crate::Journal::retain`] is for.
pub struct Reader {
    shared: Arc<Shared>,
    level: Level,
    next: Sequence,
    place: Option<At>,
}

/// The segment that is being read.
struct At {
    number: u64,
    name: String,
    bytes: u64,
    live: Option<Arc<Segment>>,
    scan: Scan,
    /// The first record of the segment after it. What stands behind the one before is what a power cut left.
    until: Sequence,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: Sequence, level: Level) -> Result<Reader> {
        let mut reader = Reader { shared, level, next: from.max(Sequence::FIRST), place: None };
        reader.enter()?;
        Ok(reader)
    }

    /// The number of the record that comes next.
    pub fn position(&self) -> Sequence {
        self.next
    }

    /// The next record; none when it has not reached the level of this reader yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is damaged, [`Error::Retired`] when it was removed, or why it cannot be read. The
    /// reader stays where it is.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record>> {
        while self.next <= self.shared.durable(self.level) {
            let Some(found) = self.step()? else { return Ok(None) };
            // A segment is read from its start, and a number that was given up has nothing to say.
            if found.head.sequence < self.next {
                continue;
            }
            self.next = found.head.sequence.next();
            if !found.head.void {
                return Ok(Some(Record::of(found)));
            }
        }
        Ok(None)
    }

    /// The next record of this segment or the one after.
    fn step(&mut self) -> Result<Option<Found>> {
        for fresh in [false, true] {
            if fresh || self.place.is_none() {
                self.enter()?;
            }
            let Some(at) = &mut self.place else { return Ok(None) };
            let end = at.live.as_ref().map_or(at.bytes, |live| live.published().offset);
            let step = match &at.live {
                _ if at.scan.next_sequence() >= at.until => Ok(Step::End),
                Some(live) => at.scan.step(end, |offset, length| Ok(live.read(offset, length))),
                None => at.scan.step(end, |offset, length| self.shared.storage.read(&at.name, offset, length)),
            };
            let (segment, offset) = (at.number, at.scan.offset());
            match step {
                Ok(Step::Record(found)) => return Ok(Some(found)),
                Ok(Step::Bad(defect)) => return Err(Error::Corrupt { segment, offset, defect }),
                Ok(Step::End) if !fresh => {}
                Ok(Step::End) if at.live.is_some() => return Ok(None),
                Ok(Step::End) => return Err(Error::Corrupt { segment, offset, defect: Defect::Missing }),
                Err(cause) => return Err(self.unreadable(cause)),
            }
        }
        Ok(None)
    }

    /// Goes to the segment that has the next record.
    fn enter(&mut self) -> Result<()> {
        let segments = lock(&self.shared.segments);
        let Some(entry) = segments.holding(self.next) else {
            let first = segments.entries.front().map_or(self.next, |entry| entry.header.base);
            return Err(Error::Retired { sequence: self.next, first });
        };
        let number = entry.header.segment;
        let until = segments.after(entry).map_or(Sequence::MAX, |after| after.header.base);
        if let Some(at) = self.place.as_mut().filter(|at| at.number == number) {
            at.live.clone_from(&entry.live);
            at.until = until;
            return Ok(());
        }
        let (name, bytes) = (entry.name.clone(), entry.bytes);
        self.place = Some(At { number, name, bytes, live: entry.live.clone(), scan: Scan::new(&entry.header), until });
        Ok(())
    }

    /// Why a segment cannot be read: because it was removed meanwhile, or what the system says.
    fn unreadable(&mut self, cause: io::Error) -> Error {
        let name = self.place.as_ref().map_or(String::new(), |at| at.name.clone());
        match self.enter() {
            Err(retired) => retired,
            Ok(()) => Error::io("read", name)(cause),
        }
    }
}

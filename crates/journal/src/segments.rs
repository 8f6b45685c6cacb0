//! The segments of a journal in order: what they take, who still needs them, and which may go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidemill_base::Timestamp;
use tidemill_base::planted::{self, Bug};
use tidemill_base::storage::Region;

use crate::error::Error;
use crate::format::Header;
use crate::level::Sequence;
use crate::options::Options;
use crate::segment::Segment;

/// One segment file that has records, or will have.
pub(crate) struct Entry {
    pub header: Header,
    pub name: String,
    pub bytes: u64,
    /// While it is not full and flushed.
    pub live: Option<Arc<Segment>>,
}

impl Entry {
    pub fn of(segment: &Arc<Segment>) -> Entry {
        let name = segment.name.clone();
        Entry { header: segment.header, name, bytes: segment.bytes, live: Some(Arc::clone(segment)) }
    }

    /// Whether its header survives a power cut.
    fn is_durable(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.flushed().is_some())
    }
}

/// A segment file that is ready for use.
pub(crate) struct Spare {
    pub number: u64,
    pub region: Arc<dyn Region>,
    pub populated: u64,
}

/// How full a journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// Below 80 % of its quota.
    Fine,
    /// At 80 % or more: readers should catch up.
    High,
    /// The present segment is the last: nothing more is admitted, and appends are refused when it is full.
    Full,
}

/// What a journal takes, and what it holds.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Bytes of segment files.
    pub bytes: u64,
    /// Bytes they may have.
    pub quota_bytes: u64,
    /// How full that is.
    pub fullness: Fullness,
    /// Segment files.
    pub segments: usize,
    /// The oldest record; one after the newest when there is none.
    pub first: Sequence,
    /// The newest record.
    pub last: Sequence,
    /// The record up to which everything was said to be covered.
    pub covered: Sequence,
    /// The registered reader that is furthest behind, and the first record it needs.
    pub holder: Option<(String, Sequence)>,
}

pub(crate) struct Segments {
    pub entries: VecDeque<Entry>,
    pub spare: Option<Spare>,
    /// The number of the next segment file.
    pub next_number: u64,
    /// Bytes of segments that are being made at this moment.
    pub coming_bytes: u64,
    pub covered: Sequence,
    pub holders: BTreeMap<String, Sequence>,
    warned: bool,
}

impl Segments {
    pub fn new(entries: VecDeque<Entry>, next_number: u64) -> Segments {
        Segments {
            entries,
            spare: None,
            next_number,
            coming_bytes: 0,
            covered: Sequence::NONE,
            holders: BTreeMap::new(),
            warned: false,
        }
    }

    /// Bytes of all segment files, those on their way included.
    pub fn bytes(&self, options: &Options) -> u64 {
        let spare = if self.spare.is_some() { options.segment_bytes } else { 0 };
        self.entries.iter().map(|entry| entry.bytes).sum::<u64>() + spare + self.coming_bytes
    }

    /// The entry that has record `sequence`, or will have it; none when it is before all.
    pub fn holding(&self, sequence: Sequence) -> Option<&Entry> {
        let after = self.entries.partition_point(|entry| entry.header.base <= sequence);
        self.entries.get(after.checked_sub(1)?)
    }

    /// The entry that has the records after those of `entry`.
    pub fn after(&self, entry: &Entry) -> Option<&Entry> {
        self.entries.get(self.entries.partition_point(|other| other.header.base <= entry.header.base))
    }

    /// The registered reader that is furthest behind.
    pub fn holder(&self) -> Option<(String, Sequence)> {
        let (name, first) = self.holders.iter().min_by_key(|(_, first)| **first)?;
        Some((name.clone(), *first))
    }

    /// Whether another segment fits.
    pub fn has_room(&self, options: &Options) -> bool {
        self.bytes(options) + options.segment_bytes <= options.quota_bytes
    }

    /// Why another segment does not fit.
    pub fn full(&self, options: &Options) -> Error {
        let (used, quota) = (self.bytes(options), options.quota_bytes);
        Error::Full { used, quota, holder: self.holder().map(|(name, _)| name) }
    }

    /// Logs when the quota is nearly used up, once until it no longer is.
    pub fn warn(&mut self, options: &Options) {
        let high = self.bytes(options) >= options.quota_bytes / 5 * 4;
        if high && !self.warned {
            let holder = self.holder().map(|(name, _)| name).unwrap_or_default();
            let (bytes, quota) = (self.bytes(options), options.quota_bytes);
            tracing::warn!(bytes, quota, %holder, "The journal has used 80 % of its quota.");
        }
        self.warned = high;
    }

    /// Whether the oldest segment may be removed: whole and flushed, its successor's header too, everything in it
    /// covered, needed by no reader, and, unless room is `wanted`, kept for as long as was asked.
    pub fn can_drop_oldest(&self, flushed: Sequence, now: Timestamp, options: &Options, wanted: bool) -> bool {
        let (Some(oldest), Some(next)) = (self.entries.front(), self.entries.get(1)) else { return false };
        if oldest.live.is_some() || !next.is_durable() {
            return false;
        }
        let held = self.holder().map_or(Sequence::MAX, |(_, first)| first.previous());
        let free = self.covered.min(flushed).min(held);
        if next.header.base.previous() > free && !planted::is(Bug::DropUncovered) {
            return false;
        }
        let age = now.millis().saturating_sub(next.header.created.millis()).max(0) as u128;
        wanted || age >= options.retain_age.as_millis() || self.bytes(options) > options.retain_bytes
    }

    pub fn usage(&self, last: Sequence, options: &Options) -> Usage {
        let bytes = self.bytes(options);
        let has_spare = self.spare.is_some();
        let fullness = match bytes {
            _ if !has_spare && !self.has_room(options) => Fullness::Full,
            bytes if bytes >= options.quota_bytes / 5 * 4 => Fullness::High,
            _ => Fullness::Fine,
        };
        Usage {
            bytes,
            quota_bytes: options.quota_bytes,
            fullness,
            segments: self.entries.len() + usize::from(has_spare),
            first: self.entries.front().map_or(last.next(), |entry| entry.header.base),
            last,
            covered: self.covered,
            holder: self.holder(),
        }
    }
}

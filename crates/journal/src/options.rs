//! What can be set on a journal.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format;
use crate::map::PAGE_BYTES;

/// The settings of a journal; each has a default that suits a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The size of a segment file in bytes, a multiple of 4,096 up to 4 GiB. Default 128 MiB.
    ///
    /// A record must fit into one; smaller segments give room back sooner, larger ones are switched less often.
    pub segment_bytes: u64,
    /// The most bytes that segment files may have together, at least two segments. Default 32 GiB.
    ///
    /// At 80 % a warning is logged. When only the last segment is left nothing more is admitted
    /// ([`crate::Journal::admit`]), and when that is full appends are refused, until readers have let go of old segments.
    /// A start begins a segment of its own, whatever there is.
    pub quota_bytes: u64,
    /// How long a segment stays although everything in it is covered. Default 24 h.
    pub retain_age: Duration,
    /// How many bytes of segments stay at most although everything in them is covered. Default 16 GiB.
    pub retain_bytes: u64,
    /// Whether a thread flushes and prepares segments. Default true.
    ///
    /// Without it nothing happens by itself: the owner calls [`crate::Journal::flush_once`], as simulations do.
    pub flusher: bool,
    /// How long a record may be without a flush when nobody waits for one. Default 50 ms.
    ///
    /// What is acknowledged at level `process` and lost in a power cut is at most this much.
    pub flush_every: Duration,
    /// The least time from the start of one flush to the start of the next. Default 1 ms.
    ///
    /// More gathers more records into a flush; a lone record that comes after a pause never waits for it.
    pub flush_pause: Duration,
    /// What the name of a new journal is drawn from; none takes it from the machine. Default none.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 128 << 20,
            quota_bytes: 32 << 30,
            retain_age: Duration::from_secs(24 * 60 * 60),
            retain_bytes: 16 << 30,
            flusher: true,
            flush_every: Duration::from_millis(50),
            flush_pause: Duration::from_millis(1),
            seed: None,
        }
    }
}

impl Options {
    /// The largest segment.
    pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

    /// The most bytes that the payload of a record can have.
    pub fn payload_bytes_max(&self) -> u64 {
        self.segment_bytes - format::RECORDS_AT - format::RECORD_BYTES
    }

    /// Says what cannot be.
    ///
    /// # Errors
    /// [`Error::Options`] for a size out of its range.
    pub fn check(&self) -> Result<()> {
        let wrong = |option, reason: String| Err(Error::Options { option, reason });
        if !self.segment_bytes.is_multiple_of(PAGE_BYTES)
            || !(PAGE_BYTES..=Options::SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
        {
            let reason = format!("is {} bytes, but must be a multiple of 4,096 up to 4 GiB", self.segment_bytes);
            return wrong("segment_bytes", reason);
        }
        if self.quota_bytes < 2 * self.segment_bytes {
            let least = 2 * self.segment_bytes;
            let reason = format!("is {} bytes, but must have room for two segments, {least} bytes", self.quota_bytes);
            return wrong("quota_bytes", reason);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segment_bytes: u64, quota_bytes: u64, expected: Option<&str>) {
        let options = Options { segment_bytes, quota_bytes, ..Options::default() };
        let found = match options.check() {
            Err(Error::Options { option, .. }) => Some(option),
            _ => None,
        };
        assert_eq!(found, expected, "{segment_bytes} {quota_bytes}");
    }

    #[test]
    fn sizes_must_fit_together() {
        check(4096, 8192, None);
        check(4096, 8191, Some("quota_bytes"));
        check(0, 8192, Some("segment_bytes"));
        check(4100, 1 << 30, Some("segment_bytes"));
        check(8 << 30, 64 << 30, Some("segment_bytes"));
        assert!(Options::default().check().is_ok());
    }
}

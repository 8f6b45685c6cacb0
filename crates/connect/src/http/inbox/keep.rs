//! [`Keep`]: what keeps the records of a source before they are acknowledged, and reads them again for who is behind.

use tidemill_circuit::Delta;

use super::Full;

/// What is kept with a body besides its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note<'a> {
    /// What the body is; 0 is what the source's format says.
    pub kind: u8,
    /// Who waits for an answer to its records, by a number of theirs; 0 is nobody.
    pub asked: u32,
    /// What names the request when it is sent again.
    pub key: Option<&'a str>,
    /// When a request with a key came, milliseconds UTC.
    pub at: i64,
}

/// What keeps the records of a source before they are acknowledged or let go of: the journal.
pub trait Keep: Send + Sync {
    /// Keeps a body; `first_record` records of the source stand before its own. Gives the place where it is kept.
    ///
    /// # Errors
    /// [`Full::Waiting`] when there is no room now, [`Full::Lost`] when nothing can be kept any more.
    fn keep(&self, first_record: u64, records: u32, note: &Note<'_>, body: &[u8]) -> Result<u64, Full>;

    /// Whether what is kept at `place` is there as durably as was asked.
    fn is_durable(&self, place: u64) -> bool;

    /// The source has let go of what is kept at `place`, and will never read it again.
    fn let_go(&self, place: u64);
}

/// Reads what is kept again, for a reader that is far behind.
pub trait Rereads: Send + Sync {
    /// Begins with what is kept at `place`.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn from(&self, place: u64) -> Result<Box<dyn Reread>, String>;
}

/// What was kept of a source, body by body.
pub trait Reread: Send {
    /// The next body; none when there is none yet.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn next(&mut self) -> Result<Option<Kept>, String>;
}

/// A body as rows again: the same as when it was taken.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The records of the source before it.
    pub first_record: u64,
    /// Its rows, with the inbox's columns.
    pub rows: Delta,
}

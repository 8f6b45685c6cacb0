//! [`Sink`]: what takes the rows of each step.

use arrow_schema::SchemaRef;
use tidemill_circuit::Delta;

use crate::error::Error;

/// The rows that will come to a sink.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Their columns, in the order of the table's.
    pub schema: SchemaRef,
    /// Columns that name a row, when any do.
    pub key: Option<Vec<usize>>,
    /// Whether rows are taken back.
    pub updating: bool,
}

/// What a sink has done when it has finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkSummary {
    /// Entries taken: insertions and retractions both count.
    pub rows: u64,
    /// Bytes written, where the sink knows.
    pub bytes: u64,
    /// Files completed or requests answered.
    pub pieces: u64,
    /// The sum of weight x digest(row) over all rows as hexadecimal, when it was asked for.
    pub digest: Option<String>,
}

/// Where rows go. After an error, or when the pipeline is aborted, [`Sink::abort`] follows instead of [`Sink::finish`].
pub trait Sink: Send {
    /// Takes the rows of a step; they may stay unseen until the sink finishes.
    ///
    /// # Errors
    /// Why they cannot be written; the sink takes no more then.
    fn write(&mut self, step: u64, rows: &[Delta]) -> Result<(), Error>;

    /// Makes everything written visible.
    ///
    /// # Errors
    /// Why it cannot; what could not be completed is removed then.
    fn finish(self: Box<Self>) -> Result<SinkSummary, Error>;

    /// Removes what is incomplete.
    fn abort(self: Box<Self>);

    /// Whether rows may be taken back.
    fn takes_retractions(&self) -> bool;
}

/// The number of entries in `rows`.
pub(crate) fn entries(rows: &[Delta]) -> u64 {
    rows.iter().map(|delta| delta.rows() as u64).sum()
}

/// Fails when a row is taken back.
pub(crate) fn refuse_retractions(table: &str, what: &str, rows: &[Delta]) -> Result<(), Error> {
    let retracts = |delta: &Delta| delta.weights().is_some_and(|weights| weights.iter().any(|weight| *weight < 0));
    if rows.iter().any(retracts) {
        return Err(Error::Retraction { table: table.to_string(), what: what.to_string() });
    }
    Ok(())
}

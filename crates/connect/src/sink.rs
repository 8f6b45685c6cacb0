//! [`Sink`]: what takes the rows of each step.
//!
//! A pipeline that keeps state asks its sinks to show rows version by version: [`Sink::stage`] begins, [`Sink::prepare`]
//! makes durable what a version adds without showing it, and once the version is durable too, [`Sink::publish`] shows it,
//! however often it is asked. A sink that cannot do that shows rows at once and delivers them at least once.

use std::fmt;
use std::path::PathBuf;

use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};
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

/// How often a row arrives when a pipeline that keeps state is stopped, killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Once.
    ExactlyOnce,
    /// Once, and rows that were on their way when it was killed perhaps again.
    AtLeastOnce,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivery::ExactlyOnce => "exactly once",
            Delivery::AtLeastOnce => "at least once",
        })
    }
}

/// What a sink has prepared for a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Files that wait for their names.
    pub files: Vec<StagedFile>,
}

/// A whole file that waits for its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Where it is.
    pub temporary: PathBuf,
    /// Where it will be.
    pub target: PathBuf,
    /// Its bytes.
    pub bytes: u64,
}

/// Where rows go. After an error, or when the pipeline is aborted, [`Sink::abort`] follows instead of [`Sink::finish`].
pub trait Sink: Send {
    /// Takes the rows of a step; they may stay unseen until the sink finishes.
    ///
    /// # Errors
    /// Why they cannot be written; the sink takes no more then.
    fn write(&mut self, step: u64, rows: &[Delta]) -> Result<(), Error>;

    /// Shows rows only when their version is published, from now on. `owner` tells this pipeline's files from others',
    /// `start` is a number that no run of the owner had before, and whatever the owner has left unpublished is removed,
    /// but for `kept`.
    ///
    /// # Errors
    /// Why it cannot.
    fn stage(&mut self, owner: &str, start: u64, kept: &Staged) -> Result<Delivery, Error> {
        let _ = (owner, start, kept);
        Ok(Delivery::AtLeastOnce)
    }

    /// Makes durable what was written for the current version; what is written next belongs to the next one.
    ///
    /// # Errors
    /// Why it cannot; the sink takes no more then.
    fn prepare(&mut self) -> Result<Staged, Error> {
        Ok(Staged::default())
    }

    /// Takes back what was prepared for a version that did not become durable: it belongs to the next one.
    fn restage(&mut self, staged: Staged) {
        let _ = staged;
    }

    /// Shows what was prepared; what is shown already stays so.
    ///
    /// # Errors
    /// Why it cannot.
    fn publish(&mut self, staged: &Staged) -> Result<(), Error> {
        let _ = staged;
        Ok(())
    }

    /// Makes everything written visible.
    ///
    /// # Errors
    /// Why it cannot; what could not be completed is removed then.
    fn finish(self: Box<Self>) -> Result<SinkSummary, Error>;

    /// Removes what is incomplete.
    fn abort(self: Box<Self>);
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

//! The record of a step: a [`StepHeader`] before it runs, a [`StepTrailer`] after.
//!
//! A header names everything that decides a step (input ranges in the order taken, now, seed, lanes); a trailer holds
//! the digest of what came out. Replaying the headers over the same input must give the same trailers.

use serde::{Deserialize, Serialize};

use crate::decode::Block;
use crate::delta::Delta;
use crate::operator::SideRow;

/// What decides a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepHeader {
    /// The step's number, from 1.
    pub step: u64,
    /// Processing time, milliseconds UTC.
    pub now: i64,
    /// Whether every source has ended with this step: all windows close after it.
    pub last: bool,
    /// The seed of RAND and UUID.
    pub seed: u64,
    /// The number of lanes.
    pub lanes: usize,
    /// What is taken from each source.
    pub sources: Vec<SourceRange>,
    /// The version of each versioned table that rows are looked up in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableVersion>,
}

/// The version of a table that a step reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// The table.
    pub table: String,
    /// The version, as [`crate::lookup::LookupRows::new`] was told.
    pub version: String,
}

/// What a step takes from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRange {
    /// The table.
    pub source: String,
    /// The blocks, in the order taken.
    pub blocks: Vec<BlockRange>,
    /// Partitions seen for the first time.
    pub opened: Vec<u32>,
    /// Partitions that have ended.
    pub ended: Vec<u32>,
    /// Partitions that have been silent for longer than the idle time-out.
    pub idle: Vec<u32>,
    /// Whether no partition will come any more.
    pub complete: bool,
    /// The source's watermark after the step.
    pub watermark: i64,
}

/// The place of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRange {
    /// The partition.
    pub partition: u32,
    /// Where the block starts.
    pub from: u64,
    /// Where the next one starts.
    pub to: u64,
    /// Its records.
    pub records: u32,
}

/// What came out of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTrailer {
    /// The step's number.
    pub step: u64,
    /// One entry an output, in the plan's order.
    pub outputs: Vec<OutputDigest>,
    /// Rows that came too late.
    pub late_rows: u64,
    /// Rows left out because an expression failed on them.
    pub dead_rows: u64,
    /// Records left out because they could not be decoded.
    pub bad_records: u64,
}

/// What came out of one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDigest {
    /// The output.
    pub name: String,
    /// Its rows, by count of entries, not weights.
    pub rows: u64,
    /// The sum of weight x digest(row), as hexadecimal: independent of the rows' order. Zero when neither digests nor state are
    /// kept.
    pub digest: String,
}

/// Input for one step.
#[derive(Debug, Default)]
pub struct StepInput {
    /// Processing time.
    pub now: i64,
    /// What each source has, in any order; a source without news is left out.
    pub sources: Vec<SourceInput>,
}

/// News of one source.
#[derive(Debug, Default)]
pub struct SourceInput {
    /// The table.
    pub source: String,
    /// Blocks, each partition's in order.
    pub blocks: Vec<Block>,
    /// Partitions seen for the first time; a block's partition must have been opened.
    pub opened: Vec<u32>,
    /// Partitions that end after these blocks.
    pub ended: Vec<u32>,
    /// Partitions that have been silent for longer than the idle time-out.
    pub idle: Vec<u32>,
    /// Whether no partition will come any more.
    pub complete: bool,
}

/// What a step gives.
#[derive(Debug)]
pub struct StepOutput {
    /// What decided it.
    pub header: StepHeader,
    /// What came out.
    pub trailer: StepTrailer,
    /// The rows of each output that has any, in the plan's order.
    pub outputs: Vec<OutputRows>,
    /// Rows for the side outputs.
    pub side: Vec<SideRow>,
    /// Records taken in.
    pub records: u64,
    /// The least watermark over all sources that have one.
    pub watermark: i64,
}

/// Rows of one output.
#[derive(Debug)]
pub struct OutputRows {
    /// The output's name.
    pub name: String,
    /// Its rows, in an order that depends on input and lanes alone.
    pub deltas: Vec<Delta>,
}

/// Where headers and trailers are written.
pub trait StepLog: Send {
    /// Takes a header, before the step runs; `input` is what it takes in.
    ///
    /// # Errors
    /// Why it could not be written; the step does not run then.
    fn header(&mut self, header: &StepHeader, input: &StepInput) -> Result<(), String>;

    /// Takes a trailer, after the step has run and before its rows leave.
    ///
    /// # Errors
    /// Why it could not be written; the rows do not leave then.
    fn trailer(&mut self, trailer: &StepTrailer) -> Result<(), String>;
}

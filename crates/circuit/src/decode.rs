//! How input comes into a step: [`Block`]s of bytes that lanes decode, or rows that are columns already.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::delta::Delta;

/// The most rows that a bounded or flooded step takes.
pub const STEP_ROWS_MAX: usize = 65_536;

/// The column that says where a row came from, when a query needs to know.
pub const ORIGIN: &str = "$origin";

/// The bits of `$origin` that number the row within its partition; the rest name the partition.
pub const ORIGIN_ROW_BITS: u32 = 40;

/// A piece of one partition of a source: whole records, in the order in which they were written.
#[derive(Debug, Clone)]
pub struct Block {
    /// The partition, from 0.
    pub partition: u32,
    /// Where the block starts in its partition: a byte for files, a count of records elsewhere.
    pub from: u64,
    /// Where the next block will start.
    pub to: u64,
    /// The records before this block in its partition.
    pub first_record: u64,
    /// The records in this block, bad ones counted.
    pub records: u32,
    /// The block itself.
    pub data: BlockData,
}

/// What is in a block.
#[derive(Debug, Clone)]
pub enum BlockData {
    /// Bytes for the source's decoder.
    Bytes(Bytes),
    /// Rows with the columns of the source's `decoded` schema.
    Rows(Delta),
}

/// Turns a block's bytes into columns; each lane has its own.
pub trait Decode: Send {
    /// Appends the records of `bytes` to `out`; `first_record` records of the partition stand before them.
    ///
    /// # Errors
    /// A sentence that names line, column and what was expected, when a record is bad and bad records are errors.
    fn decode(&mut self, bytes: &[u8], first_record: u64, out: &mut Decoded) -> Result<(), String>;
}

/// The rows of a block, decoded.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows of at most [`crate::delta::DELTA_ROWS_MAX`] a piece.
    pub deltas: Vec<DecodedDelta>,
    /// Records that were left out.
    pub rejected: Vec<RejectedRecord>,
}

/// One piece of decoded rows.
#[derive(Debug)]
pub struct DecodedDelta {
    /// The rows.
    pub delta: Delta,
    /// For each row the number of its record in the block; none when row i of all pieces together is record i.
    pub records: Option<Vec<u32>>,
}

/// A record that was left out because it is not what was declared.
#[derive(Debug, Clone)]
pub struct RejectedRecord {
    /// Its number in the block.
    pub record: u32,
    /// What is wrong, and where.
    pub reason: String,
    /// The record's text, cut to a readable length.
    pub text: String,
}

/// Makes a decoder for a lane.
pub type MakeDecoder = Arc<dyn Fn() -> Result<Box<dyn Decode>, String> + Send + Sync>;

/// The decoder of each source that takes bytes, by the source's name.
pub type Decoders = BTreeMap<String, MakeDecoder>;

//! State that is kept: what a circuit knows between steps, as rows that can be saved, restored and digested.
//!
//! An operator that keeps something owns numbered *tables* of rows, cut into chunks of [`CHUNK_SLOTS`]. A row is written
//! in one canonical form (little-endian, keys as [`crate::key`] writes them, no addresses, no numbers of other rows), so
//! it says the same on every machine, whichever lane wrote it and after whatever history. That is why rows saved by N
//! lanes can be restored into M, and why digests of rows add up to one root for every lane count.
//!
//! # Saving
//!
//! ```text
//! let start = circuit.begin_save(full)?;       // the state as it is after the last step; small blobs come at once
//! loop {
//!     let slice = circuit.save_slice(512 << 10)?;   // some chunks; steps may be run between two slices
//!     ...start.digests.put(chunk) and store chunk.stored(), for each of slice.chunks, on any thread...
//!     if slice.done { break }
//! }
//! let roots = start.digests.roots();           // of what was saved
//! circuit.end_save(true);                      // false when the chunks were not stored: they are given again
//! ```
//!
//! An incremental save gives the chunks in which a row has changed since the last save that was ended with `true`;
//! [`Chunk::rows`] is none for a chunk that holds no row any more and is to be forgotten. A full save gives every chunk
//! and replaces all that was stored before. The first save of a circuit is full unless it was restored from what is
//! stored, on as many lanes, and [`crate::Circuit::resume_saves`] said so: [`Start::full`] tells.
//!
//! # Restoring
//!
//! ```text
//! let mut circuit = Circuit::new(&plan, &decoders, options)?;   // any lane count, perhaps a changed plan
//! let restored = circuit.restore(&start.blobs)?;
//! for some in stored { circuit.restore_chunks(some)?; }         // in any order; many at once are restored in parallel
//! circuit.resume_saves();                                       // when `stored` is all that is stored, and stays so
//! ```
//!
//! A node whose fingerprint ([`crate::fingerprint`]) is not among the blobs starts empty, and [`Restored::fresh`] names
//! it; chunks that belong to no node of the plan are passed over.
//!
//! # Views
//!
//! Views are kept outside the circuit: [`crate::view::ViewWriter::begin_save`] gives chunks of the same kind, under the
//! output's fingerprint, so they are stored in the same way and at the same step:
//! [`crate::Circuit::restore_chunk`] is false for them, and [`crate::view::ViewWriter::restore_chunk`] takes them.
//!
//! # Digests
//!
//! The digest of a row is of its canonical bytes, and digests are summed in a hash trie, so neither the order of rows nor
//! the lane they lie on matters. Nothing is digested while steps run: a save digests the chunks that it gives
//! ([`Start::digests`]), and [`crate::Circuit::roots`] reads every row.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidemill_state::digest::Sum;
pub use tidemill_state::snapshot::ChunkId;

use self::digests::SaveDigests;
use crate::plan::NodeId;

pub mod digests;
pub(crate) mod images;
pub mod keeper;
pub mod marks;
pub(crate) mod planes;
pub(crate) mod value;
pub mod wire;

/// The version of everything written here, but of chunks stored in `planes`; a reader refuses a newer one.
pub const FORMAT: u16 = 1;

/// The slots of a chunk, unless `Options::chunk_slots` says otherwise.
pub const CHUNK_SLOTS: usize = 4_096;

/// A chunk on its way to where it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its name; a chunk stored before under the same name is replaced.
    pub id: ChunkId,
    /// Its rows; none when there is no row left and the chunk is to be forgotten.
    pub rows: Option<Vec<u8>>,
}

impl Chunk {
    /// The form in which its rows are best stored, from which they are restored as well as from [`Chunk::rows`]; see
    /// `planes`. Made anew each time, and for a chunk of the circuit's: the rows of a view have an order.
    pub fn stored(&self) -> Option<Cow<'_, [u8]>> {
        self.rows.as_deref().map(planes::weave)
    }
}

/// Something small that is saved whole, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name, unique within a save.
    pub name: String,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// A save that has begun.
#[derive(Debug, Clone)]
pub struct Start {
    /// The step whose state is saved.
    pub step: u64,
    /// Whether every chunk will be given, so that none stored before is needed any more.
    pub full: bool,
    /// The step's number, watermarks, positions of sources, and how far each operator has come.
    pub blobs: Vec<Blob>,
    /// The digests of what is saved, once all chunks were given to it.
    pub digests: SaveDigests,
}

/// What was written of a save at a time: chunks, none when it was less than one.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// The chunks that are complete now.
    pub chunks: Vec<Chunk>,
    /// Whether they were the last ones.
    pub done: bool,
}

/// What a restored circuit has and lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The step whose state was saved; the next one is the step after it.
    pub step: u64,
    /// Nodes that keep state and find theirs.
    pub kept: Vec<NodeId>,
    /// Nodes that keep state and start empty, for nothing was saved under their fingerprints.
    pub fresh: Vec<NodeId>,
    /// Fingerprints of saved nodes that the plan has no more.
    pub dropped: Vec<u64>,
    /// How far each source had been taken.
    pub sources: Vec<SourcePosition>,
}

/// How far a source has been taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// The table.
    pub source: String,
    /// Its partitions, in their order; those that have ended are listed too.
    pub partitions: Vec<PartitionPosition>,
    /// Whether no partition will come any more.
    pub complete: bool,
}

/// How far a partition has been taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// The partition.
    pub partition: u32,
    /// Where the next block starts; 0 before the first one.
    pub next: u64,
    /// The records before it.
    pub records: u64,
    /// Whether it has ended.
    pub ended: bool,
}

/// Digests of a circuit after a step, equal for any lane count, cut into steps, crash and time of saving.
///
/// They find bugs, rot and nondeterminism; they do not withstand an adversary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Of everything the circuit keeps; comparable within one build only.
    pub state: Sum,
    /// Of what came out (per output the sum of weight x digest of row) and of how far the sources were taken.
    pub content: Sum,
}

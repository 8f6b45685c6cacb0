//! Snapshots: the state of one running circuit, saved in the parts that changed.
//!
//! An operator's state is tables of rows, cut into chunks of at most 4,096 slots. To this module a chunk is bytes under a
//! [`ChunkId`]. A snapshot is a [`Manifest`]: a number, a version, and for each chunk the place of its bytes in a *pack*.
//! The one idea: a manifest names everything that belongs to it, so a snapshot writes only the chunks that changed and
//! points to older packs for the rest; and writing the manifest, under the next number, once, is what makes it one.
//!
//! ```text
//! instances/NAME/snapshots/00000000000000000007   the manifest of snapshot 7
//! instances/NAME/packs/00000000000000000007-...   what snapshot 7 wrote
//! instances/NAME/boundaries/...                   below which number there is nothing any more (crate::gc)
//! instances/NAME/savepoints/before-upgrade        a snapshot that is kept
//! instances/NAME/holds/...                        a snapshot that is being rolled back to
//! ```
//!
//! Packs are durable before the manifest that names them. Who writes a number that is taken already is fenced: he is not,
//! or not any more, the one who runs the circuit. Each object starts with a magic word and a format, and carries
//! checksums (blake3) for each of its bytes. What cannot be read is never taken to be empty.

pub(crate) mod frame;
pub mod layout;
pub mod manifest;
pub mod pack;
mod reader;
mod repack;
mod writer;

pub use manifest::{Cause, Chunk, Diff, Manifest, Meta, Stats};
pub use pack::Pack;
pub use reader::Reader;
pub use writer::Writer;

/// The most bytes of a chunk, before it is compressed.
pub const CHUNK_BYTES_MAX: usize = 256 << 20;

/// Names a chunk of an instance's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChunkId {
    /// The fingerprint of the operator.
    pub operator: u64,
    /// Which of its tables.
    pub table: u16,
    /// The lane that wrote the rows.
    pub lane: u16,
    /// Which chunk of the table, from 0.
    pub chunk: u32,
}

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}/{}/{}/{}", self.operator, self.table, self.lane, self.chunk)
    }
}

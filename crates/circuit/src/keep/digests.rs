//! [`Digests`]: the digests of the rows that are saved, by the chunks in which they are given.
//!
//! A save gives every chunk in which a row has changed, so the digests of all rows follow from what it gives: those of a
//! chunk take the place of those that it had before. Nothing is digested while steps run, and what is digested need not
//! be written once more for it; the thread that stores a save can do it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_base::hash;
use tidemill_state::digest::{Sum, entry, entry_of};
use tidemill_state::trie::{Depth, Trie};

use super::keeper::{name_of, rows_of};
use super::wire::Damage;
use super::{Chunk, ChunkId, Roots};

/// How many buckets the rows' digests are summed in.
pub(crate) const DEPTH: Depth = Depth::SMALL;

/// The digests of one chunk's rows.
#[derive(Default)]
pub(crate) struct ChunkDigests {
    /// For each row the upper half of the hash of its name, which says in which bucket it counts.
    names: Vec<u32>,
    /// For each row its digest.
    rows: Vec<u128>,
}

/// The digests of all rows that were given.
pub(crate) struct Digests {
    trie: Trie,
    chunks: BTreeMap<ChunkId, ChunkDigests>,
}

impl ChunkDigests {
    /// The digests of the rows of a chunk.
    pub fn of(id: ChunkId, rows: &[&[u8]]) -> Self {
        let domain = domain(id.operator, id.table);
        let mut digests = ChunkDigests { names: Vec::with_capacity(rows.len()), rows: Vec::with_capacity(rows.len()) };
        for row in rows {
            digests.names.push((name_hash(row) >> 32) as u32);
            digests.rows.push(entry_of(domain, row).0);
        }
        digests
    }

    fn each(&self, mut each: impl FnMut(u64, Sum)) {
        self.names.iter().zip(&self.rows).for_each(|(name, row)| each(u64::from(*name) << 32, Sum(*row)));
    }
}

impl Digests {
    /// The digests of no rows.
    pub fn new() -> Self {
        Digests { trie: Trie::new(DEPTH), chunks: BTreeMap::new() }
    }

    /// Puts a chunk's rows in the place of those that it had before.
    pub fn put(&mut self, id: ChunkId, digests: ChunkDigests) {
        let trie = &mut self.trie;
        digests.each(|name, row| trie.put(name, row));
        let before = match digests.rows.is_empty() {
            true => self.chunks.remove(&id),
            false => self.chunks.insert(id, digests),
        };
        if let Some(before) = before {
            before.each(|name, row| trie.take(name, row));
        }
    }
}

/// What stands for the rows of one table in a digest.
pub(crate) fn domain(operator: u64, table: u16) -> u64 {
    hash::words(operator, table.into())
}

/// The hash of a row's name, 0 for a row that has none.
pub(crate) fn name_hash(row: &[u8]) -> u64 {
    name_of(row).map_or(0, |(name, _)| hash::bytes(name))
}

/// The digests of a save, as its chunks are stored; may be sent to the thread that stores them.
///
/// All chunks of a save have to be given to [`SaveDigests::put`] before the roots are asked for, and nothing of a save
/// that was given up any more once the next one has begun.
#[derive(Clone)]
pub struct SaveDigests {
    pub(crate) digests: Arc<Mutex<Digests>>,
    /// What counts in the state's root after the rows.
    pub(crate) rest: Vec<u8>,
    pub(crate) content: Sum,
}

impl SaveDigests {
    /// Digests the rows of a chunk of the circuit; one that cannot be read counts as empty.
    pub fn put(&self, chunk: &Chunk) {
        let rows: Result<_, Damage> = chunk.rows.as_deref().map_or(Ok(Vec::new()), rows_of);
        let digests = ChunkDigests::of(chunk.id, &rows.unwrap_or_default());
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).put(chunk.id, digests);
    }

    /// The digests of the circuit after the step that is saved.
    pub fn roots(&self) -> Roots {
        let rows = self.digests.lock().unwrap_or_else(PoisonError::into_inner).trie.root();
        Roots { state: state_root(rows, &self.rest), content: self.content }
    }

    /// The digest of what came out and of how far the sources were taken, which is known from the start.
    pub fn content(&self) -> Sum {
        self.content
    }
}

impl std::fmt::Debug for SaveDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SaveDigests").field("content", &self.content).finish_non_exhaustive()
    }
}

/// The state's root from that of the rows and from what counts besides, which ends with the root of the content.
pub(crate) fn state_root(rows: Sum, rest: &[u8]) -> Sum {
    entry(&[&rows.0.to_le_bytes(), rest].concat())
}

//! [`Pool`]: blocks of memory that are used again and again, and never more of them than the pool may hold.
//!
//! The one idea: a thread keeps a few blocks for itself ([`Cache`]) and goes to the ring that all threads share only when
//! it has none, or too many; then it moves several at once. So taking a block and giving it back costs a push and a pop
//! on the thread's own stack, and the block that comes next is the one whose memory is still warm.
//!
//! A [`Block`] has one owner. Whoever wants to show it to several readers puts it into an `Arc`: it comes back when the
//! last of them lets go. A block that is dropped on any thread goes to the shared ring, wherever it was taken. What it
//! held is forgotten: a block that is taken is empty.
//!
//! Blocks are made when they are first needed, at most [`Pool::capacity`] of them, and live as long as the pool. When all
//! are out, [`Cache::take`] has none to give, and it is for the caller to wait: a server stops reading.
//!
//! ```
//! use tidemill_journal::pool::Pool;
//!
//! let pool = Pool::new(2, 4096);
//! let mut cache = pool.cache(1);
//! let (mut first, second) = (cache.take().expect("two are left"), cache.take().expect("one is left"));
//! assert!(cache.take().is_none(), "the pool makes no third");
//!
//! first.spare()[..5].copy_from_slice(b"hello");
//! first.filled(5);
//! assert_eq!(first.bytes(), b"hello");
//!
//! drop(second);
//! assert!(cache.take().is_some_and(|block| block.bytes().is_empty()));
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Arc, Mutex, MutexGuard};

#[cfg(loom)]
use loom::sync::{Arc, Mutex, MutexGuard};

/// Blocks of one size, for all threads. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    ring: Mutex<Ring>,
    capacity: usize,
    block_bytes: usize,
}

struct Ring {
    /// The blocks that nobody has.
    free: VecDeque<Box<[u8]>>,
    /// Those that were ever made.
    made: usize,
}

impl Pool {
    /// A pool of at most `capacity` blocks of `block_bytes` each.
    ///
    /// There is room for all of them in the ring from the start, so that giving one back never allocates.
    #[must_use]
    pub fn new(capacity: usize, block_bytes: usize) -> Pool {
        let ring = Ring { free: VecDeque::with_capacity(capacity), made: 0 };
        Pool(Arc::new(Shared { ring: Mutex::new(ring), capacity, block_bytes }))
    }

    /// The most blocks there can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// The length of a block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.0.block_bytes
    }

    /// The blocks that were made so far.
    #[must_use]
    pub fn made(&self) -> usize {
        self.ring().made
    }

    /// The blocks that lie in the shared ring.
    #[must_use]
    pub fn free(&self) -> usize {
        self.ring().free.len()
    }

    /// A thread's share: it keeps up to `keep` blocks that it is given back.
    #[must_use]
    pub fn cache(&self, keep: usize) -> Cache {
        Cache { pool: self.clone(), kept: Vec::with_capacity(keep + 1), keep: keep.max(1) }
    }

    /// A panic between lock and unlock leaves the ring whole: each change is one push or one pop.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block out of the ring, or a new one while there may be more.
    fn take(&self, ring: &mut Ring) -> Option<Block> {
        let bytes = match ring.free.pop_front() {
            Some(bytes) => bytes,
            None if ring.made < self.0.capacity => {
                ring.made += 1;
                vec![0; self.0.block_bytes].into_boxed_slice()
            }
            None => return None,
        };
        Some(Block { bytes, start: 0, end: 0, pool: self.clone() })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (capacity, bytes) = (self.0.capacity, self.0.block_bytes);
        f.debug_struct("Pool").field("capacity", &capacity).field("block_bytes", &bytes).finish_non_exhaustive()
    }
}

/// A thread's own few blocks of a [`Pool`].
#[derive(Debug)]
pub struct Cache {
    pool: Pool,
    kept: Vec<Block>,
    keep: usize,
}

impl Cache {
    /// An empty block; none when all are out.
    pub fn take(&mut self) -> Option<Block> {
        match self.kept.pop() {
            Some(block) => Some(block),
            None => self.refill(),
        }
    }

    /// Gives a block back; what is in it is forgotten.
    pub fn put(&mut self, mut block: Block) {
        block.clear();
        self.kept.push(block);
        if self.kept.len() > self.keep {
            self.spill();
        }
    }

    /// Takes half of what is kept out of the ring at once, so that the ring is locked once for many blocks.
    fn refill(&mut self) -> Option<Block> {
        let mut ring = self.pool.ring();
        let block = self.pool.take(&mut ring)?;
        for _ in 1..self.keep.div_ceil(2) {
            if ring.free.is_empty() {
                break;
            }
            self.kept.extend(self.pool.take(&mut ring));
        }
        Some(block)
    }

    /// Moves the older half into the ring: the younger is warm.
    fn spill(&mut self) {
        let older = self.kept.len().div_ceil(2);
        let mut ring = self.pool.ring();
        for mut block in self.kept.drain(..older) {
            ring.free.push_back(std::mem::take(&mut block.bytes));
        }
    }
}

/// A block of a [`Pool`]: bytes that have come are between a start and an end, the rest is spare.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Pool,
}

impl Block {
    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// What is in it, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// The free end of it, to be written to; then say how much with [`Block::filled`].
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// The length of the free end.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// Says that the first `count` spare bytes were written.
    ///
    /// # Panics
    /// When there were not so many.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.room(), "a block is no longer than it is");
        self.end += count;
    }

    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "only what is there can be consumed");
        self.start += count;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Keeps the first `count` bytes and forgets the rest.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn truncate(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "only what is there can be kept");
        self.end = self.start + count;
    }

    /// Moves what is there to the beginning, so that all that is free is spare.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // A block whose bytes went to the ring with others has none left.
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.pool.ring().free.push_back(bytes);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn makes_no_more_blocks_than_it_may() {
        let pool = Pool::new(3, 16);
        let mut cache = pool.cache(8);
        let taken: Vec<Block> = std::iter::from_fn(|| cache.take()).collect();
        assert_eq!((taken.len(), pool.made()), (3, 3));
        taken.into_iter().for_each(|block| cache.put(block));
        let again: Vec<Block> = std::iter::from_fn(|| cache.take()).collect();
        assert_eq!(again.len(), 3, "the same ones come again");
        assert_eq!(pool.made(), 3);
    }

    #[test]
    fn a_block_comes_back_empty() {
        let mut cache = Pool::new(1, 16).cache(1);
        let mut block = cache.take().expect("there is one");
        block.spare()[..6].copy_from_slice(b"secret");
        block.filled(6);
        block.consume(2);
        cache.put(block);
        let block = cache.take().expect("it came back");
        assert_eq!((block.bytes(), block.room()), (&b""[..], 16));
    }

    #[test]
    fn what_a_cache_does_not_keep_is_there_for_others() {
        let pool = Pool::new(8, 16);
        let (mut one, mut other) = (pool.cache(2), pool.cache(2));
        let taken: Vec<Block> = std::iter::from_fn(|| one.take()).collect();
        assert_eq!(taken.len(), 8);
        assert!(other.take().is_none());
        taken.into_iter().for_each(|block| one.put(block));
        assert!(pool.free() >= 6, "{}", pool.free());
        assert!(other.take().is_some());
    }

    #[test]
    fn a_cache_that_ends_gives_back_what_it_kept() {
        let pool = Pool::new(2, 16);
        let mut cache = pool.cache(4);
        let (a, b) = (cache.take(), cache.take());
        a.into_iter().chain(b).for_each(|block| cache.put(block));
        assert_eq!(pool.free(), 0);
        drop(cache);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn the_last_reader_gives_a_block_back() {
        let pool = Pool::new(1, 16);
        let block = pool.cache(1).take().expect("there is one");
        let readers: Vec<_> = std::iter::repeat_n(Arc::new(block), 3).collect();
        for reader in readers {
            assert_eq!(pool.free(), 0);
            drop(reader);
        }
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn bytes_move_to_the_beginning() {
        let mut block = Pool::new(1, 8).cache(1).take().expect("there is one");
        block.spare().copy_from_slice(b"abcdefgh");
        block.filled(8);
        block.consume(5);
        assert_eq!(block.room(), 0);
        block.compact();
        assert_eq!((block.bytes(), block.room()), (&b"fgh"[..], 5));
        block.truncate(1);
        assert_eq!(block.bytes(), b"f");
    }
}

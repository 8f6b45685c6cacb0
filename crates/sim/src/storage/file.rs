//! One simulated file: what the process sees, what the kernel still has to write, what the platter holds.
//!
//! A sector is *dirty* while the process has stored something since the kernel last took it. Only a dirty sector is
//! written by a flush, so what a failed flush gave up stays unwritten however often one asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::world::World;

/// The bytes that reach the platter together or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// What a new file's size is a multiple of.
pub(super) const PAGE_BYTES: u64 = 4_096;

/// The words of a sector.
const SECTOR_WORDS: usize = SECTOR_BYTES as usize / 8;

/// A file's content, thrice.
pub(super) struct File {
    /// What the process and its successors see, as long as the power is on: whole sectors.
    pub(super) seen: Arc<[AtomicU64]>,
    /// The size in bytes.
    bytes: u64,
    /// What the kernel has taken to write, whether or not it could.
    taken: Vec<u64>,
    /// What outlives the power.
    kept: Vec<u64>,
    /// Whether the size outlives the power.
    sized: bool,
    /// Whether the kernel has given up writing a sector.
    failed: bool,
}

impl File {
    /// A new file of zeros whose size is not kept yet.
    pub(super) fn zeros(bytes: u64) -> Self {
        File { sized: false, ..File::of(vec![0; bytes as usize / 8], bytes) }
    }

    /// A file with this content, kept whole.
    pub(super) fn holding(content: &[u8]) -> Self {
        let mut padded = content.to_vec();
        padded.resize(content.len().next_multiple_of(SECTOR_BYTES as usize), 0);
        let words = padded.chunks_exact(8).map(|word| word.iter().rfold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        File::of(words.collect(), content.len() as u64)
    }

    fn of(words: Vec<u64>, bytes: u64) -> Self {
        let seen = words.iter().map(|word| AtomicU64::new(*word)).collect();
        File { seen, bytes, taken: words.clone(), kept: words, sized: true, failed: false }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn words(&self) -> Vec<u64> {
        self.seen.iter().map(|word| word.load(Ordering::Acquire)).collect()
    }

    /// `length` bytes from `offset`; none when the file is shorter.
    pub(super) fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.bytes)?;
        let words = self.seen[(offset / 8) as usize..end.div_ceil(8) as usize].iter();
        let bytes = words.flat_map(|word| word.load(Ordering::Acquire).to_le_bytes());
        Some(bytes.skip((offset % 8) as usize).take(length).collect())
    }

    /// From now on the size outlives the power.
    pub(super) fn keep_size(&mut self) {
        self.sized = true;
    }

    /// Writes the dirty sectors of a range of bytes.
    pub(super) fn flush(&mut self, from: u64, to: u64) {
        for sector in self.sectors(from, to) {
            if self.take(sector) {
                self.keep(sector);
            }
        }
    }

    /// Takes the dirty sectors of a range and loses some of them.
    pub(super) fn fail_flush(&mut self, world: &World, from: u64, to: u64) {
        for sector in self.sectors(from, to) {
            if self.take(sector) {
                if world.chance(500) {
                    self.keep(sector);
                } else {
                    self.failed = true;
                }
            }
        }
    }

    /// The kernel writes some dirty sectors because it likes to.
    pub(super) fn write_back(&mut self, world: &World) {
        for sector in 0..self.seen.len() / SECTOR_WORDS {
            if self.is_dirty(sector) && world.chance(300) {
                self.take(sector);
                self.keep(sector);
            }
        }
    }

    /// What a new process finds: what was seen, except that the kernel may have dropped what it could not write.
    pub(super) fn after_kill(&mut self, world: &World) {
        let mut words = self.words();
        if std::mem::take(&mut self.failed) {
            for sector in 0..words.len() / SECTOR_WORDS {
                let range = sector_range(sector);
                if !self.is_dirty(sector) && self.taken[range.clone()] != self.kept[range.clone()] {
                    if world.chance(500) {
                        words[range.clone()].copy_from_slice(&self.kept[range.clone()]);
                    }
                    // Dropped or still to be written: the kernel and the platter agree about the sector again.
                    self.taken[range.clone()].copy_from_slice(&self.kept[range]);
                }
            }
        }
        // Stores of the dead process into its mapping must not be seen by its successors.
        self.seen = words.into_iter().map(AtomicU64::new).collect();
    }

    /// What is there after the power came back: each dirty sector old or new, each lost one old.
    pub(super) fn after_power_cut(&self, world: &World) -> File {
        let mut words = self.kept.clone();
        for sector in 0..words.len() / SECTOR_WORDS {
            if self.is_dirty(sector) && world.chance(500) {
                let range = sector_range(sector);
                for (word, seen) in words[range.clone()].iter_mut().zip(&self.seen[range]) {
                    *word = seen.load(Ordering::Acquire);
                }
            }
        }
        let mut bytes = self.bytes;
        if !self.sized && world.chance(300) {
            bytes = world.below(bytes / PAGE_BYTES) * PAGE_BYTES;
            words.truncate(bytes as usize / 8);
        }
        File::of(words, bytes)
    }

    /// Turns one bit over, for the process and on the platter.
    pub(super) fn flip(&mut self, bit: u64) {
        let (word, mask) = ((bit / 64) as usize, 1_u64 << (bit % 64));
        self.seen[word].fetch_xor(mask, Ordering::AcqRel);
        self.taken[word] ^= mask;
        self.kept[word] ^= mask;
    }

    /// The whole sectors that cover a range of bytes.
    fn sectors(&self, from: u64, to: u64) -> std::ops::Range<usize> {
        let to = to.min(self.bytes());
        (from / SECTOR_BYTES) as usize..to.div_ceil(SECTOR_BYTES) as usize
    }

    fn is_dirty(&self, sector: usize) -> bool {
        let range = sector_range(sector);
        self.seen[range.clone()]
            .iter()
            .zip(&self.taken[range])
            .any(|(seen, taken)| seen.load(Ordering::Acquire) != *taken)
    }

    /// Takes a sector to write; false when it is not dirty.
    fn take(&mut self, sector: usize) -> bool {
        let dirty = self.is_dirty(sector);
        let range = sector_range(sector);
        for (taken, seen) in self.taken[range.clone()].iter_mut().zip(&self.seen[range]) {
            *taken = seen.load(Ordering::Acquire);
        }
        dirty
    }

    fn keep(&mut self, sector: usize) {
        let range = sector_range(sector);
        self.kept[range.clone()].copy_from_slice(&self.taken[range]);
    }
}

fn sector_range(sector: usize) -> std::ops::Range<usize> {
    sector * SECTOR_WORDS..(sector + 1) * SECTOR_WORDS
}

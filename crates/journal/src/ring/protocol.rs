//! The ring's algorithm over shared words; [`super`] tells the idea, files and processes are left to others.
//!
//! # Memory ordering
//!
//! - Committing swaps an order word with `Release`, the reader loads it with `Acquire`: who sees the commit sees the slot.
//! - Releasing stores with `Release`, a producer that takes a slot again loads with `Acquire`: who sees the release comes
//!   after the last look at the slot.
//! - The tail is stored with `Release` and loaded with `Acquire`, order words on the way are loaded with `Acquire`: who
//!   commits at a position comes after every commit below it, and so after the release of what the position held a turn
//!   before.
//!
//! A slot's words are loaded and stored `Relaxed`: they are ordered by the three above.

use std::sync::Arc;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Damaged, Refused};
use super::shape::{Layout, ORDER, RELEASED, SLOT_HEAD_WORDS, Shape, TAIL};

/// Words that producers and the reader share.
pub trait Memory {
    /// The words, the same each time.
    fn words(&self) -> &[AtomicU64];

    /// Told when a slot is written, for a model checker to see that it is nobody else's then.
    #[inline]
    fn writes(&self, _slot: usize) {}

    /// Told when a slot is read, for the same reason.
    #[inline]
    fn reads(&self, _slot: usize) {}
}

impl Memory for Arc<[AtomicU64]> {
    fn words(&self) -> &[AtomicU64] {
        self
    }
}

/// The words of an empty ring in this process's memory, for tests.
pub fn in_memory(shape: Shape) -> Arc<[AtomicU64]> {
    (0..Layout::of(shape).words()).map(|_| AtomicU64::new(0)).collect()
}

/// A producer's side.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    layout: Layout,
    producer: usize,
    /// For each slot of the producer one more than the position it was last committed at, 0 before.
    committed: Box<[u64]>,
    /// The slot that is used next, of the producer's own.
    next: usize,
    /// The release as it was last seen.
    released: u64,
    /// One more than the last position committed here.
    tail: u64,
}

impl<M: Memory> Writer<M> {
    /// Goes on where the last writer of this producer's slots stopped, however it stopped.
    ///
    /// The caller sees to it that there is no other writer for `producer`, which is below `shape.producers`, and that
    /// the memory has the words of a ring of this shape.
    pub fn attach(memory: M, shape: Shape, producer: usize) -> Writer<M> {
        let layout = Layout::of(shape);
        let slots = layout.slots_of(producer);
        let mut committed = vec![0; slots.len()].into_boxed_slice();
        for (index, word) in order(memory.words(), &layout).iter().enumerate() {
            let word = word.load(Ordering::Acquire);
            let slot = layout.slot(word);
            if slots.contains(&slot) {
                let at = &mut committed[slot - slots.start];
                *at = layout.after(word, index).max(*at);
            }
        }
        // Slots are used in turn, so the one used longest ago comes after the one used last.
        let last = (0..committed.len()).max_by_key(|&slot| committed[slot]).filter(|&slot| committed[slot] > 0);
        let next = last.map_or(0, |last| (last + 1) % committed.len());
        Writer { memory, layout, producer, committed, next, released: 0, tail: 0 }
    }

    /// Writes a record into a free slot, where nobody sees it before [`Staged::commit`].
    ///
    /// # Errors
    /// [`Refused::Full`] when no slot is free, [`Refused::TooLarge`] when the record does not fit into one.
    pub fn stage(&mut self, record: &[u8]) -> Result<Staged<'_, M>, Refused> {
        let limit = self.layout.shape.record_bytes_max();
        if record.len() > limit {
            return Err(Refused::TooLarge { bytes: record.len(), limit });
        }
        if self.committed[self.next] > self.released {
            self.released = self.released();
            if self.committed[self.next] > self.released {
                return Err(Refused::Full { slots: self.layout.shape.slots });
            }
        }
        let slot = self.layout.slots_of(self.producer).start + self.next;
        self.memory.writes(slot);
        let words = &self.memory.words()[self.layout.slot_words(slot)];
        // Whatever still names this slot after a power cut does not find its position here.
        words[0].store(0, Ordering::Relaxed);
        words[1].store(head(record), Ordering::Relaxed);
        write(&words[SLOT_HEAD_WORDS..], record);
        Ok(Staged { writer: self, slot })
    }

    /// Every position below this one is done with: the reader has the records where they last.
    pub fn released(&self) -> u64 {
        self.memory.words()[RELEASED].load(Ordering::Acquire)
    }

    /// Commits a slot at the first empty position.
    fn commit(&mut self, slot: usize) -> u64 {
        let words = self.memory.words();
        let order = order(words, &self.layout);
        let stamp = &words[self.layout.slot_words(slot)][0];
        let mut position = words[TAIL].load(Ordering::Acquire).max(self.tail);
        loop {
            let index = self.layout.index(position);
            let seen = order[index].load(Ordering::Acquire);
            let after = self.layout.after(seen, index);
            if after > position {
                // Taken, in this turn or a later one; whatever is taken, all below it is.
                position = after;
                continue;
            }
            stamp.store(position + 1, Ordering::Relaxed);
            let word = self.layout.word(position, slot);
            if order[index].compare_exchange(seen, word, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        self.tail = position + 1;
        self.committed[self.next] = self.tail;
        self.next = (self.next + 1) % self.committed.len();
        // A hint that comes late or goes back costs others a few looks, no more.
        if words[TAIL].load(Ordering::Relaxed) < self.tail {
            words[TAIL].store(self.tail, Ordering::Release);
        }
        position
    }
}

/// A record that is written and not there yet. Dropped, it never was.
#[derive(Debug)]
pub struct Staged<'a, M: Memory> {
    writer: &'a mut Writer<M>,
    slot: usize,
}

impl<M: Memory> Staged<'_, M> {
    /// Puts the record behind all that are there, and returns its position, from 0.
    pub fn commit(self) -> u64 {
        self.writer.commit(self.slot)
    }
}

/// A record of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it stands among the records of all producers, from 0; never used twice.
    pub position: u64,
    /// Which producer's slots it came through, from 0. One process's place is another's once it is gone.
    pub producer: usize,
    /// What was appended.
    pub bytes: &'a [u8],
}

/// The reader's side.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
    layout: Layout,
    /// The position that is read next.
    next: u64,
    released: u64,
    /// The record read last.
    bytes: Vec<u8>,
}

impl<M: Memory> Reader<M> {
    /// Reads from the first position that is not released.
    ///
    /// The caller sees to it that there is no other reader and that the memory has the words of a ring of this shape.
    pub fn attach(memory: M, shape: Shape) -> Reader<M> {
        let released = memory.words()[RELEASED].load(Ordering::Acquire);
        let bytes = Vec::with_capacity(shape.record_bytes_max());
        Reader { memory, layout: Layout::of(shape), next: released, released, bytes }
    }

    /// Whether the next position has a record.
    pub fn is_ready(&self) -> bool {
        self.ready_word().is_some()
    }

    /// The record at the next position, if there is one yet.
    ///
    /// # Errors
    /// [`Damaged`] when what is there is not what was appended; the call after it goes on at the next position.
    // A record borrows from its reader, which an iterator's item cannot.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Damaged> {
        let Some(word) = self.ready_word() else { return Ok(None) };
        let position = self.next;
        self.next += 1;
        let slot = self.layout.slot(word);
        self.memory.reads(slot);
        let words = &self.memory.words()[self.layout.slot_words(slot)];
        let in_place = self.layout.after(word, self.layout.index(position)) == position + 1;
        let stamped = words[0].load(Ordering::Relaxed) == position + 1;
        let head_word = words[1].load(Ordering::Relaxed);
        let length = head_word as u32 as usize;
        if !in_place || !stamped || length > self.layout.shape.record_bytes_max() {
            return Err(Damaged { position });
        }
        read(&words[SLOT_HEAD_WORDS..], length, &mut self.bytes);
        if head(&self.bytes) != head_word {
            return Err(Damaged { position });
        }
        Ok(Some(Record { position, producer: self.layout.producer_of(slot), bytes: &self.bytes }))
    }

    /// Gives the slots of all positions below `up_to` back to their producers; what was not read is kept.
    pub fn release(&mut self, up_to: u64) {
        let up_to = up_to.min(self.next);
        if up_to > self.released {
            self.released = up_to;
            self.memory.words()[RELEASED].store(up_to, Ordering::Release);
        }
    }

    /// Every position below this one is released.
    pub fn released(&self) -> u64 {
        self.released
    }

    /// The position that is read next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The order word of the next position, or of a later turn in its place, which only damage puts there.
    fn ready_word(&self) -> Option<u64> {
        let index = self.layout.index(self.next);
        let word = order(self.memory.words(), &self.layout)[index].load(Ordering::Acquire);
        (self.layout.after(word, index) > self.next).then_some(word)
    }
}

/// Makes a ring whole that a power cut may have left with old and new sectors; one that is whole stays as it is.
///
/// Afterwards every position from the released one to the tail has an order word, each with a slot of its own; where the
/// record is lost, the reader finds [`Damaged`]. The caller sees to it that nobody else is attached.
pub fn mend<M: Memory>(memory: &M, shape: Shape) {
    let (words, layout) = (memory.words(), Layout::of(shape));
    let order = order(words, &layout);
    let stamp = |slot: usize| &words[layout.slot_words(slot)][0];
    // A word and the slot it names vouch for each other by the position in both.
    let vouched = |index: usize| {
        let word = order[index].load(Ordering::Relaxed);
        let (after, slot) = (layout.after(word, index), layout.slot(word));
        (after > 0 && stamp(slot).load(Ordering::Relaxed) == after).then_some((after, slot))
    };
    let known: Vec<_> = (0..order.len()).map(vouched).collect();
    let stored = words[RELEASED].load(Ordering::Relaxed);
    let tail = known.iter().flatten().fold(stored, |tail, &(after, _)| tail.max(after));
    let released = stored.max(tail.saturating_sub(layout.total()));

    let unread = |after: u64| after > released && after <= tail;
    let mut taken = vec![false; order.len()];
    for &(after, slot) in known.iter().flatten() {
        taken[slot] |= unread(after);
    }
    let mut spare = (0..order.len()).filter(|&slot| !taken[slot]);
    for position in released..tail {
        let index = layout.index(position);
        if known[index].is_some_and(|(after, _)| after == position + 1) {
            continue;
        }
        // There are as many slots as positions at most, so there is one for each that lost its own.
        let Some(slot) = spare.next() else { break };
        stamp(slot).store(0, Ordering::Relaxed);
        order[index].store(layout.word(position, slot), Ordering::Relaxed);
    }
    for (index, word) in order.iter().enumerate() {
        if layout.after(word.load(Ordering::Relaxed), index) > tail {
            word.store(0, Ordering::Relaxed);
        }
    }
    words[RELEASED].store(released, Ordering::Release);
    words[TAIL].store(tail, Ordering::Release);
}

/// The order words of a ring.
fn order<'a>(words: &'a [AtomicU64], layout: &Layout) -> &'a [AtomicU64] {
    &words[ORDER..ORDER + layout.total() as usize]
}

/// A slot's word of length and checksum.
fn head(record: &[u8]) -> u64 {
    u64::from(crc32c::crc32c(record)) << 32 | record.len() as u64
}

fn write(words: &[AtomicU64], record: &[u8]) {
    let (whole, rest) = record.as_chunks::<8>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

fn read(words: &[AtomicU64], length: usize, record: &mut Vec<u8>) {
    record.clear();
    for word in &words[..length.div_ceil(8)] {
        record.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    record.truncate(length);
}

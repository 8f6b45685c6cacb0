//! What a ring measures, and where its parts lie in the file.
//!
//! | bytes | what |
//! |---|---|
//! | 0..48 | header: magic, format and checksum, producers and slots, bytes of a slot; boot and id |
//! | 128..136 | the tail, a hint: every position below it is committed |
//! | 256..264 | released: every position below it is done with |
//! | 4096.. | the order: a word for each slot of the ring, `turn * N + slot` |
//! | next page.. | the slots, those of producer 0 first: position + 1, length and checksum, payload |
//!
//! All numbers are little-endian. Tail and released have cache lines of their own, two each, for lines are fetched in
//! pairs.

use std::mem::size_of;

use super::error::{Error, Result};

/// Bytes of a slot that are not payload: position, length, checksum.
pub const SLOT_HEAD_BYTES: u32 = 16;
/// Words before the payload of a slot.
pub(super) const SLOT_HEAD_WORDS: usize = SLOT_HEAD_BYTES as usize / WORD_BYTES;

const WORD_BYTES: usize = size_of::<u64>();
/// Slots begin on a cache line.
const SLOT_BYTES_STEP: u32 = 64;
const SLOT_BYTES_MAX: u32 = 1 << 20;
const PRODUCERS_MAX: u32 = 1024;
const SLOTS_MAX: u32 = 1 << 20;
/// The largest ring: 64 GiB of slots.
const RING_BYTES_MAX: u64 = 64 << 30;

// Distances matter for speed alone: a model checker, which minds every word, takes none.
const LINE_WORDS: usize = if cfg!(loom) { 1 } else { 16 };
const PAGE_WORDS: usize = if cfg!(loom) { 1 } else { 512 };
/// The word of the tail.
pub(super) const TAIL: usize = LINE_WORDS;
/// The word of what is released.
pub(super) const RELEASED: usize = 2 * LINE_WORDS;
/// The first word of the order.
pub(super) const ORDER: usize = if cfg!(loom) { 3 } else { PAGE_WORDS };

/// How many may append to a ring, how far each may be ahead of the reader, and how large a record may be.
///
/// The file has about `producers * slots * slot_bytes` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many producers may be attached at once: a power of two up to 1,024. Default 16.
    pub producers: u32,
    /// Records of each producer that may wait for their release: a power of two up to 1,048,576. Default 1,024.
    pub slots: u32,
    /// Bytes of a slot, 16 of which are not payload: a multiple of 64 up to 1 MiB. Default 256.
    pub slot_bytes: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { producers: 16, slots: 1024, slot_bytes: 256 }
    }
}

impl Shape {
    /// The largest record, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        (self.slot_bytes - SLOT_HEAD_BYTES) as usize
    }

    /// The size of the ring's file in bytes.
    pub fn file_bytes(&self) -> u64 {
        (Layout::of(*self).words() * WORD_BYTES) as u64
    }

    /// The shape, when a ring can have it.
    ///
    /// # Errors
    /// [`Error::BadShape`] with the field that cannot be so.
    pub fn checked(self) -> Result<Shape> {
        let check = |field, value: u32, fits: bool, rule| match fits {
            true => Ok(()),
            false => Err(Error::BadShape { field, value: value.into(), rule }),
        };
        let power = |value: u32, max: u32| value.is_power_of_two() && value <= max;
        let step = self.slot_bytes.is_multiple_of(SLOT_BYTES_STEP) && self.slot_bytes > 0;
        check("producers", self.producers, power(self.producers, PRODUCERS_MAX), "a power of two up to 1024")?;
        check("slots", self.slots, power(self.slots, SLOTS_MAX), "a power of two up to 1048576")?;
        check("slot_bytes", self.slot_bytes, step, "a multiple of 64")?;
        check("slot_bytes", self.slot_bytes, self.slot_bytes <= SLOT_BYTES_MAX, "at most 1048576")?;
        let bytes = u64::from(self.producers) * u64::from(self.slots) * u64::from(self.slot_bytes);
        if bytes > RING_BYTES_MAX {
            let rule = "at most 64 GiB";
            return Err(Error::BadShape { field: "producers * slots * slot_bytes", value: bytes, rule });
        }
        Ok(self)
    }
}

/// The least size of a slot that takes a record of `bytes`.
pub(super) fn slot_bytes_for(bytes: usize) -> usize {
    (bytes + SLOT_HEAD_BYTES as usize).next_multiple_of(SLOT_BYTES_STEP as usize)
}

/// Where the parts of a ring lie, in words, and how an order word is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub shape: Shape,
    /// Slots of the ring, a power of two.
    total: u64,
    slot_words: usize,
    slots_at: usize,
}

impl Layout {
    /// The layout of a ring of this shape.
    pub fn of(shape: Shape) -> Layout {
        let total = u64::from(shape.producers) * u64::from(shape.slots);
        let slot_words = shape.slot_bytes as usize / WORD_BYTES;
        let slots_at = (ORDER + total as usize).next_multiple_of(PAGE_WORDS);
        Layout { shape, total, slot_words, slots_at }
    }

    /// The words of the ring; whole pages of them.
    pub fn words(&self) -> usize {
        (self.slots_at + self.total as usize * self.slot_words).next_multiple_of(PAGE_WORDS)
    }

    /// The slots of the ring, `N`.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Where in the order a position stands.
    pub fn index(&self, position: u64) -> usize {
        (position & (self.total - 1)) as usize
    }

    /// The order word that commits a slot at a position.
    pub fn word(&self, position: u64, slot: usize) -> u64 {
        ((position & !(self.total - 1)) + self.total) | slot as u64
    }

    /// One more than the position that an order word commits, and 0 when it commits none yet.
    pub fn after(&self, word: u64, index: usize) -> u64 {
        match word & !(self.total - 1) {
            0 => 0,
            turn => turn - self.total + index as u64 + 1,
        }
    }

    /// The slot that an order word commits.
    pub fn slot(&self, word: u64) -> usize {
        (word & (self.total - 1)) as usize
    }

    /// The words of a slot.
    pub fn slot_words(&self, slot: usize) -> std::ops::Range<usize> {
        let start = self.slots_at + slot * self.slot_words;
        start..start + self.slot_words
    }

    /// The bytes of header and order, from 0.
    #[cfg(not(loom))]
    pub fn order_bytes(&self) -> u64 {
        (self.slots_at * WORD_BYTES) as u64
    }

    /// The bytes of a producer's slots.
    #[cfg(not(loom))]
    pub fn slots_bytes(&self, producer: usize) -> std::ops::Range<u64> {
        let slots = self.slots_of(producer);
        let at = |slot: usize| ((self.slots_at + slot * self.slot_words) * WORD_BYTES) as u64;
        at(slots.start)..at(slots.end)
    }

    /// The slots of a producer.
    pub fn slots_of(&self, producer: usize) -> std::ops::Range<usize> {
        let slots = self.shape.slots as usize;
        producer * slots..(producer + 1) * slots
    }

    /// The producer whose slot this is.
    pub fn producer_of(&self, slot: usize) -> usize {
        slot / self.shape.slots as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_word_names_its_position_and_slot() {
        let layout = Layout::of(Shape { producers: 2, slots: 4, slot_bytes: 64 });
        for position in [0, 1, 7, 8, 9, 1 << 40, (1 << 62) + 5] {
            for slot in 0..8 {
                let word = layout.word(position, slot);
                assert_eq!(layout.after(word, layout.index(position)), position + 1);
                assert_eq!(layout.slot(word), slot);
            }
        }
        assert_eq!(layout.after(0, 3), 0, "zeros are an empty ring");
    }

    #[test]
    fn refuses_shapes_that_no_ring_has() {
        let refused = |producers, slots, slot_bytes| {
            let shape = Shape { producers, slots, slot_bytes };
            match shape.checked() {
                Err(Error::BadShape { field, .. }) => field,
                other => panic!("{shape:?} gives {other:?}"),
            }
        };
        assert_eq!(refused(0, 4, 64), "producers");
        assert_eq!(refused(3, 4, 64), "producers");
        assert_eq!(refused(2048, 4, 64), "producers");
        assert_eq!(refused(1, 0, 64), "slots");
        assert_eq!(refused(1, 5, 64), "slots");
        assert_eq!(refused(1, 4, 0), "slot_bytes");
        assert_eq!(refused(1, 4, 100), "slot_bytes");
        assert_eq!(refused(1, 4, 1 << 21), "slot_bytes");
        assert_eq!(refused(1024, 1 << 20, 1 << 20), "producers * slots * slot_bytes");
        assert!(Shape::default().checked().is_ok());
    }

    #[test]
    fn the_size_asked_for_takes_the_record() {
        for bytes in [0, 1, 48, 49, 112, 113, 1000] {
            let slot_bytes = slot_bytes_for(bytes) as u32;
            assert!(Shape { slot_bytes, ..Shape::default() }.record_bytes_max() >= bytes);
        }
    }
}

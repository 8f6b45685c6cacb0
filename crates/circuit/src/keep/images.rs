//! [`Images`]: rows as they were when a save began, kept until their chunk is written.
//!
//! They lie by chunk, in blocks that are never moved: a step that touches many rows costs no more than those rows, however
//! many images there are, and what a chunk needs lies together when it is written.

use super::wire::{Reader, put_block};

/// The bytes of a block, unless one image is larger.
const BLOCK_BYTES: usize = 2 << 10;

/// The bytes before an image: its slot and its length.
const HEAD_BYTES: usize = 8;

/// Rows as they were when a save began, by slot.
#[derive(Default)]
pub(crate) struct Images {
    chunk_slots: u32,
    /// A bit for each slot that was touched.
    touched: Vec<u64>,
    /// By chunk its images, one after another; none of slots that held no row.
    chunks: Vec<Vec<Vec<u8>>>,
    /// The capacity of all blocks.
    bytes: usize,
}

/// What a slot held when the save began.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Was<'a> {
    /// What it holds now: it was not touched.
    Same,
    /// No row.
    Absent,
    /// This row.
    Row(&'a [u8]),
}

/// The images of one chunk.
pub(crate) struct Album<'a> {
    images: &'a Images,
    /// The chunk's first slot.
    first: u32,
    /// By slot of the chunk; nothing when it has no image.
    rows: Vec<&'a [u8]>,
}

impl Images {
    /// None yet of so many chunks.
    pub fn new(chunks: usize, chunk_slots: u32) -> Self {
        let touched = vec![0; (chunks * chunk_slots as usize).div_ceil(64)];
        Images { chunk_slots, touched, chunks: vec![Vec::new(); chunks], bytes: 0 }
    }

    /// Notes that a slot is touched; false when it was before. Until an image is put it counts as one that held no row.
    pub fn touch(&mut self, slot: u32) -> bool {
        let (word, bit) = (&mut self.touched[slot as usize / 64], 1 << (slot % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    fn is_touched(&self, slot: u32) -> bool {
        self.touched.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Keeps the image of a slot that was touched; an empty one is that of no row.
    pub fn put(&mut self, slot: u32, image: &[u8]) {
        if image.is_empty() {
            return;
        }
        let blocks = &mut self.chunks[(slot / self.chunk_slots) as usize];
        let needed = HEAD_BYTES + image.len();
        if blocks.last().is_none_or(|block| block.capacity() - block.len() < needed) {
            let block = Vec::with_capacity(BLOCK_BYTES.max(needed));
            self.bytes += block.capacity();
            blocks.push(block);
        }
        if let Some(block) = blocks.last_mut() {
            block.extend_from_slice(&slot.to_le_bytes());
            put_block(block, image);
        }
    }

    /// The images of a chunk.
    pub fn of(&self, chunk: u32) -> Album<'_> {
        let first = chunk.saturating_mul(self.chunk_slots);
        let blocks = self.chunks.get(chunk as usize).map_or(&[][..], Vec::as_slice);
        let mut rows = if blocks.is_empty() { Vec::new() } else { vec![&[][..]; self.chunk_slots as usize] };
        for block in blocks {
            let mut reader = Reader::new(block);
            while let (Ok(slot), Ok(image)) = (reader.u32(), reader.block()) {
                rows[(slot - first) as usize] = image;
            }
        }
        Album { images: self, first, rows }
    }

    /// Forgets the images of a chunk.
    pub fn forget(&mut self, chunk: u32) {
        let blocks = self.chunks.get_mut(chunk as usize).map(std::mem::take).unwrap_or_default();
        self.bytes -= blocks.iter().map(Vec::capacity).sum::<usize>();
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> usize {
        self.touched.capacity() * 8 + self.chunks.capacity() * size_of::<Vec<Vec<u8>>>() + self.bytes
    }
}

impl Album<'_> {
    /// What a slot of the chunk held when the save began.
    #[inline]
    pub fn was(&self, slot: u32) -> Was<'_> {
        match self.images.is_touched(slot) {
            false => Was::Same,
            true => match self.rows.get((slot - self.first) as usize) {
                Some(row) if !row.is_empty() => Was::Row(row),
                _ => Was::Absent,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, Images, Was};

    #[test]
    fn images_of_any_size_are_found_by_their_slot_until_their_chunk_is_forgotten() {
        let mut images = Images::new(3, 100);
        let image = |slot: u32| vec![slot as u8; 1 + slot as usize % 7 * BLOCK_BYTES / 3];
        for slot in [150, 101, 199, 7, 120] {
            assert!(images.touch(slot) && !images.touch(slot));
            images.put(slot, &image(slot));
        }
        images.touch(160);
        let album = images.of(1);
        for slot in 100..200 {
            match slot {
                101 | 120 | 150 | 199 => assert_eq!(album.was(slot), Was::Row(&image(slot))),
                160 => assert_eq!(album.was(slot), Was::Absent),
                _ => assert_eq!(album.was(slot), Was::Same),
            }
        }
        let before = images.bytes();
        images.forget(1);
        assert!(images.bytes() < before);
        assert_eq!(images.of(0).was(7), Was::Row(&image(7)));
        assert_eq!(images.of(2).was(299), Was::Same);
    }
}

//! [`Marks`]: which chunks of a table have changed since the last save, and its rows as they were when a save began.
//!
//! A slot that is about to change is *touched*: its chunk is dirty then. While a save is under way the first touch of a
//! row that it has still to write also asks for the row's *image* as it still is, so the save shows the step at which it
//! began however many steps run meanwhile. With keeping off a touch does nothing.
//!
//! ```text
//! if let Some(mut wanted) = self.marks.touch(slots) {
//!     while let Some((slot, image)) = wanted.next() {
//!         self.write_row(slot, image)?;   // appends nothing when there is no row
//!     }
//!     self.marks.keep(wanted);
//! }
//! ```

use std::ops::Range;

use super::images::Images;

/// What is known of the slots of one table.
#[derive(Default)]
pub struct Marks {
    /// The slots of a chunk; 0 when changes are not noted.
    chunk_slots: u32,
    /// By chunk: whether a row has changed since the last save.
    dirty: Vec<bool>,
    save: Option<Save>,
}

/// A save of the table that is under way.
struct Save {
    /// By chunk: whether it is still to be written.
    pending: Vec<bool>,
    /// All slots before this one are written.
    next: u32,
    /// What the chunk in which that slot lies holds so far.
    rows: Vec<u8>,
    /// About how many bytes the next chunk will have.
    rows_bytes: usize,
    /// The chunks that were to be written, for the case that they are not stored.
    given: Vec<u32>,
    images: Images,
    /// What the next touch gives when it wants images.
    spare: Wanted,
}

/// Rows of which a save needs the images, and the images that were written so far.
#[derive(Default)]
pub(crate) struct Wanted {
    slots: Vec<u32>,
    /// Where the image of each slot begins, of as many as were asked about.
    starts: Vec<usize>,
    bytes: Vec<u8>,
}

/// A chunk that is being written.
pub(crate) struct Part {
    /// Its number.
    pub chunk: u32,
    /// Its slots that are still to be written.
    pub slots: Range<u32>,
    /// What was written of it.
    pub rows: Vec<u8>,
    /// The rows of the table as they were.
    pub images: Images,
}

impl Wanted {
    /// The next slot, and where its row is to be appended as it still is.
    pub fn next(&mut self) -> Option<(u32, &mut Vec<u8>)> {
        let slot = *self.slots.get(self.starts.len())?;
        self.starts.push(self.bytes.len());
        Some((slot, &mut self.bytes))
    }
}

impl Marks {
    /// Marks of a table whose changes are noted, by chunks of so many slots.
    pub(crate) fn new(chunk_slots: usize) -> Self {
        Marks { chunk_slots: u32::try_from(chunk_slots).unwrap_or(u32::MAX), ..Marks::default() }
    }

    /// The slots of a chunk.
    pub(crate) fn chunk_slots(&self) -> usize {
        self.chunk_slots as usize
    }

    /// Whether changes are noted.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.chunk_slots > 0
    }

    /// Whether a save is under way in which some chunk is still to be written.
    #[inline]
    pub(crate) fn is_saving(&self) -> bool {
        self.save.is_some()
    }

    /// Makes room for slots `0..slots`.
    #[inline]
    pub(crate) fn resize(&mut self, slots: usize) {
        if self.is_on() && self.dirty.len() * self.chunk_slots() < slots {
            self.dirty.resize(slots.div_ceil(self.chunk_slots()), false);
        }
    }

    /// Notes that these slots are about to change, and says of which rows the images are wanted, if of any.
    #[inline]
    pub(crate) fn touch(&mut self, slots: &[u32]) -> Option<Wanted> {
        if !self.is_on() {
            return None;
        }
        for slot in slots {
            self.dirty[(*slot / self.chunk_slots) as usize] = true;
        }
        let save = self.save.as_mut()?;
        for slot in slots {
            if save.wants(*slot, self.chunk_slots) {
                save.spare.slots.push(*slot);
            }
        }
        (!save.spare.slots.is_empty()).then(|| std::mem::take(&mut save.spare))
    }

    /// Keeps the images that [`Marks::touch`] wanted.
    pub(crate) fn keep(&mut self, mut wanted: Wanted) {
        let Some(save) = &mut self.save else { return };
        let ends = wanted.starts.iter().skip(1).copied().chain([wanted.bytes.len()]);
        for ((slot, start), end) in wanted.slots.iter().zip(&wanted.starts).zip(ends) {
            save.images.put(*slot, &wanted.bytes[*start..end]);
        }
        wanted.slots.clear();
        wanted.starts.clear();
        wanted.bytes.clear();
        save.spare = wanted;
    }

    /// Notes that a slot got a row which was not there before; it counts as touched.
    pub(crate) fn born(&mut self, slot: u32) {
        if !self.is_on() {
            return;
        }
        self.dirty[(slot / self.chunk_slots) as usize] = true;
        if let Some(save) = &mut self.save {
            // One that is touched has no row unless an image of it is kept.
            save.wants(slot, self.chunk_slots);
        }
    }

    /// Makes room for slots `0..slots`, of which those in `born` have just got rows.
    #[inline]
    pub(crate) fn births(&mut self, slots: usize, born: Vec<u32>) {
        self.resize(slots);
        born.into_iter().for_each(|slot| self.born(slot));
    }

    /// Begins a save of all chunks of `slots`, or of those with changes.
    pub(crate) fn begin_save(&mut self, slots: usize, full: bool) {
        if !self.is_on() {
            return;
        }
        let chunks = slots.div_ceil(self.chunk_slots());
        self.dirty.resize(chunks.max(self.dirty.len()), false);
        let mut pending = std::mem::replace(&mut self.dirty, vec![false; chunks]);
        if full {
            pending.fill(true);
        }
        let given = (0..pending.len() as u32).filter(|chunk| pending[*chunk as usize]).collect();
        let images = Images::new(pending.len(), self.chunk_slots);
        let (rows, spare) = (Vec::new(), Wanted::default());
        self.save = Some(Save { pending, next: 0, rows, rows_bytes: 0, given, images, spare });
    }

    /// The chunk to write now, or to go on with; none when all are written. [`Marks::put_part`] takes it back.
    pub(crate) fn take_part(&mut self) -> Option<Part> {
        let (save, chunk_slots) = (self.save.as_mut()?, self.chunk_slots);
        let begun = (save.next / chunk_slots) as usize;
        let chunk = begun + save.pending.get(begun..).unwrap_or_default().iter().position(|pending| *pending)?;
        let first = chunk as u32 * chunk_slots;
        let mut rows = std::mem::take(&mut save.rows);
        rows.reserve(save.rows_bytes.saturating_sub(rows.len()));
        let slots = save.next.max(first)..first.saturating_add(chunk_slots);
        Some(Part { chunk: chunk as u32, slots, rows, images: std::mem::take(&mut save.images) })
    }

    /// Takes back a chunk of which some slots were written, and returns what it holds once all are.
    pub(crate) fn put_part(&mut self, part: Part) -> Option<Vec<u8>> {
        let save = self.save.as_mut()?;
        let Part { chunk, slots, rows, images } = part;
        (save.next, save.images) = (slots.start, images);
        if !slots.is_empty() {
            save.rows = rows;
            return None;
        }
        save.rows_bytes = rows.len() + rows.len() / 16;
        save.images.forget(chunk);
        if let Some(pending) = save.pending.get_mut(chunk as usize) {
            *pending = false;
        }
        Some(rows)
    }

    /// Forgets for a while which chunks have changed; [`Marks::placed`] has to be called.
    pub(crate) fn take_dirty(&mut self) -> Vec<bool> {
        let chunks = self.dirty.len();
        std::mem::replace(&mut self.dirty, vec![false; chunks])
    }

    /// The rows of a stored chunk were restored since [`Marks::take_dirty`]; unless all of them lie in the chunk of that
    /// number, it is to be saved again, and so are those in which they lie.
    pub(crate) fn placed(&mut self, chunk: u32, before: Vec<bool>) {
        let chunk = chunk as usize;
        self.dirty.resize(self.dirty.len().max(chunk + 1).max(before.len()), false);
        let strayed = self.dirty.iter().enumerate().any(|(other, touched)| *touched && other != chunk);
        self.dirty[chunk] = strayed;
        self.dirty.iter_mut().zip(before).for_each(|(dirty, before)| *dirty |= before);
    }

    /// Ends a save; what it gave is to be given again unless it was `stored`.
    pub(crate) fn end_save(&mut self, stored: bool) {
        let Some(save) = self.save.take().filter(|_| !stored) else { return };
        // Chunks beyond the slots there are were stored before a restart, and are still to be forgotten.
        let last = save.given.last().map_or(0, |chunk| *chunk as usize + 1);
        self.dirty.resize(self.dirty.len().max(last), false);
        save.given.into_iter().for_each(|chunk| self.dirty[chunk as usize] = true);
    }

    /// Bytes held, by capacity.
    pub(crate) fn bytes(&self) -> u64 {
        let images = self.save.as_ref().map_or(0, |save| {
            let Save { images, spare, rows, .. } = save;
            let spare = spare.slots.capacity() * 4 + spare.starts.capacity() * 8 + spare.bytes.capacity();
            images.bytes() + rows.capacity() + spare
        });
        (self.dirty.capacity() + images) as u64
    }
}

impl Save {
    /// Whether the image of a slot is needed and has not been asked for.
    fn wants(&mut self, slot: u32, chunk_slots: u32) -> bool {
        let pending = || self.pending.get((slot / chunk_slots) as usize).copied().unwrap_or(false);
        slot >= self.next && pending() && self.images.touch(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, Part};
    use crate::keep::images::Was;

    fn marks_in_a_save(slots: usize) -> Marks {
        let mut marks = Marks::new(2);
        marks.resize(slots);
        marks.begin_save(slots, true);
        marks
    }

    /// Touches slots of a table in which slot n has the row [n], and slot 0 none.
    fn touch(marks: &mut Marks, slots: &[u32]) {
        if let Some(mut wanted) = marks.touch(slots) {
            while let Some((slot, image)) = wanted.next() {
                image.extend((slot > 0).then_some(slot as u8));
            }
            marks.keep(wanted);
        }
    }

    fn check(marks: Marks, expected: &[Option<Option<u8>>]) {
        for (slot, expected) in expected.iter().enumerate() {
            let album = marks.save.as_ref().expect("a save is under way").images.of(slot as u32 / 2);
            let was = match album.was(slot as u32) {
                Was::Same => None,
                Was::Absent => Some(None),
                Was::Row(image) => Some(Some(image[0])),
            };
            assert_eq!(was, *expected, "slot {slot}");
        }
    }

    #[test]
    fn the_first_touch_of_a_row_in_a_save_keeps_its_image() {
        let mut marks = marks_in_a_save(6);
        touch(&mut marks, &[2, 0, 2]);
        touch(&mut marks, &[0, 2, 3]);
        marks.born(1);
        check(marks, &[Some(None), Some(None), Some(Some(2)), Some(Some(3)), None, None]);
    }

    #[test]
    fn what_is_written_wants_no_images() {
        let mut marks = marks_in_a_save(6);
        let part = marks.take_part().expect("three chunks are pending");
        assert!(marks.put_part(Part { slots: 2..2, ..part }).is_some());
        assert!(marks.touch(&[0, 1]).is_none());
        let part = marks.take_part().expect("two chunks are pending");
        assert_eq!(part.slots, 2..4);
        assert!(marks.put_part(Part { slots: 3..4, rows: vec![2], ..part }).is_none(), "slot 2 is written");
        assert!(marks.touch(&[2]).is_none());
        touch(&mut marks, &[2, 3, 4]);
        let part = marks.take_part().expect("two chunks are pending");
        assert_eq!((part.slots.clone(), part.rows.as_slice()), (3..4, &[2][..]));
        marks.put_part(part);
        check(marks, &[None, None, None, Some(Some(3)), Some(Some(4)), None]);
    }

    #[test]
    fn images_stay_when_a_later_one_cannot_be_written() {
        let mut marks = marks_in_a_save(4);
        touch(&mut marks, &[1]);
        drop(marks.touch(&[2]).expect("the save wants it"));
        touch(&mut marks, &[3]);
        check(marks, &[None, Some(Some(1)), Some(None), Some(Some(3))]);
    }

    #[test]
    fn a_chunk_that_is_to_be_forgotten_is_given_again_after_a_failed_save() {
        let mut marks = Marks::new(2);
        let before = marks.take_dirty();
        marks.births(2, vec![0]);
        marks.placed(3, before);
        for stored in [false, true] {
            marks.begin_save(2, false);
            let mut given = Vec::new();
            while let Some(part) = marks.take_part() {
                given.push(part.chunk);
                marks.put_part(Part { slots: part.slots.end..part.slots.end, ..part });
            }
            assert_eq!(given, [0, 3]);
            marks.end_save(stored);
        }
        assert!(marks.take_dirty().iter().all(|dirty| !dirty));
    }

    #[test]
    fn without_a_save_only_chunks_are_noted() {
        let mut marks = Marks::new(2);
        marks.births(6, vec![5]);
        assert!(marks.touch(&[0]).is_none());
        assert_eq!(marks.take_dirty(), [true, false, true]);
        assert!(Marks::default().touch(&[0]).is_none(), "nothing is noted of what is not kept");
    }
}

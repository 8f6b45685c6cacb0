//! [`Marks`]: which chunks of a table have changed since the last save, and its rows as they were when a save began.
//!
//! A slot that is about to change is *touched*: its chunk is dirty then. While a save is under way the first touch of a
//! row in a chunk that has not been written yet also asks for the row's *image* as it still is, so the save shows the
//! step at which it began however many steps run meanwhile. With keeping off a touch does nothing.
//!
//! ```text
//! if let Some(mut wanted) = self.marks.touch(slots) {
//!     while let Some((slot, image)) = wanted.next() {
//!         self.write_row(slot, image)?;   // appends nothing when there is no row
//!     }
//!     self.marks.keep(wanted);
//! }
//! ```

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
    /// The next chunk to look at.
    next: usize,
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

/// Rows as they were when a save began, by slot.
#[derive(Default)]
pub(crate) struct Images {
    /// By slot: 0 for one that was not touched, [`ASKED`] for one whose image is asked for, else the image's number from 1.
    numbers: Vec<u32>,
    /// Where each image is.
    spans: Vec<(usize, usize)>,
    bytes: Vec<u8>,
}

/// The number of an image that was asked for and has not been kept yet.
const ASKED: u32 = u32::MAX;

/// What a slot held when the save began.
pub(crate) enum Was<'a> {
    /// What it holds now: it was not touched.
    Same,
    /// No row.
    Absent,
    /// This row.
    Row(&'a [u8]),
}

impl Images {
    /// What `slot` held when the save began.
    pub fn was(&self, slot: u32) -> Was<'_> {
        match self.numbers.get(slot as usize) {
            None | Some(0) => Was::Same,
            Some(number) => match self.spans.get(*number as usize - 1) {
                Some((start, end)) if start < end => Was::Row(&self.bytes[*start..*end]),
                _ => Was::Absent,
            },
        }
    }

    /// Asks for the image of a slot; false when that was done before.
    fn ask(&mut self, slot: u32) -> bool {
        let number = &mut self.numbers[slot as usize];
        let first = *number == 0;
        if first {
            *number = ASKED;
        }
        first
    }

    fn put(&mut self, slot: u32, start: usize, end: usize) {
        self.spans.push((start, end));
        self.numbers[slot as usize] = self.spans.len() as u32;
    }
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
        let before = save.images.bytes.len();
        save.images.bytes.extend_from_slice(&wanted.bytes);
        let ends = wanted.starts.iter().skip(1).copied().chain([wanted.bytes.len()]);
        for ((slot, start), end) in wanted.slots.iter().zip(&wanted.starts).zip(ends) {
            save.images.put(*slot, before + start, before + end);
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
        if let Some(save) = &mut self.save
            && save.wants(slot, self.chunk_slots)
        {
            save.images.put(slot, 0, 0);
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
        let chunks = slots.div_ceil(self.chunk_slots().max(1));
        self.dirty.resize(chunks.max(self.dirty.len()), false);
        let mut pending = std::mem::replace(&mut self.dirty, vec![false; chunks]);
        if full {
            pending.fill(true);
        }
        let given = (0..pending.len() as u32).filter(|chunk| pending[*chunk as usize]).collect();
        let images = Images { numbers: vec![0; pending.len() * self.chunk_slots()], ..Images::default() };
        self.save = Some(Save { pending, next: 0, given, images, spare: Wanted::default() });
    }

    /// The next chunk to write; none when all are.
    pub(crate) fn next_chunk(&mut self) -> Option<u32> {
        let save = self.save.as_mut()?;
        let more = save.pending.get(save.next..).unwrap_or_default().iter().position(|pending| *pending)?;
        save.next += more;
        Some(save.next as u32)
    }

    /// The images of the save that is under way, until [`Marks::written`] gives them back.
    pub(crate) fn take_images(&mut self) -> Images {
        self.save.as_mut().map(|save| std::mem::take(&mut save.images)).unwrap_or_default()
    }

    /// A chunk has been written: its rows may change.
    pub(crate) fn written(&mut self, chunk: u32, images: Images) {
        if let Some(save) = &mut self.save {
            save.images = images;
            if let Some(pending) = save.pending.get_mut(chunk as usize) {
                *pending = false;
            }
        }
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
            let Save { images, spare, .. } = save;
            let kept = images.numbers.capacity() * 4 + images.spans.capacity() * 16 + images.bytes.capacity();
            kept + spare.slots.capacity() * 4 + spare.starts.capacity() * 8 + spare.bytes.capacity()
        });
        (self.dirty.capacity() + images) as u64
    }
}

impl Save {
    /// Whether the image of a slot is needed and has not been asked for.
    fn wants(&mut self, slot: u32, chunk_slots: u32) -> bool {
        let pending = self.pending.get((slot / chunk_slots) as usize).copied().unwrap_or(false);
        pending && self.images.ask(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, Was};

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

    fn check(mut marks: Marks, expected: &[Option<Option<u8>>]) {
        let images = marks.take_images();
        for (slot, expected) in expected.iter().enumerate() {
            let was = match images.was(slot as u32) {
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
    fn a_chunk_that_is_written_wants_no_images() {
        let mut marks = marks_in_a_save(4);
        let images = marks.take_images();
        marks.written(0, images);
        assert!(marks.touch(&[0, 1]).is_none());
        touch(&mut marks, &[1, 2]);
        check(marks, &[None, None, Some(Some(2)), None]);
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
            while let Some(chunk) = marks.next_chunk() {
                let images = marks.take_images();
                marks.written(chunk, images);
                given.push(chunk);
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

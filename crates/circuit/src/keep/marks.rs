//! [`Marks`]: which chunks of a table have changed since the last save, and its rows as they were when a save began.
//!
//! A slot that is about to change is *touched*: its chunk is dirty then. While a save is under way the first touch of a
//! row in a chunk that has not been written yet also asks for the row's *image* as it still is, so the save shows the
//! step at which it began however many steps run meanwhile. With keeping off a touch does nothing.

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

    /// Notes that these slots are about to change, and asks for the images of those in `wanted`.
    #[inline]
    pub(crate) fn touch(&mut self, slots: &[u32], wanted: &mut Vec<u32>) {
        if !self.is_on() {
            return;
        }
        for slot in slots {
            self.dirty[(*slot / self.chunk_slots) as usize] = true;
        }
        if let Some(save) = &mut self.save {
            wanted.extend(slots.iter().copied().filter(|slot| save.wants(*slot, self.chunk_slots)));
        }
    }

    /// Notes that a slot got a row which was not there before; it counts as touched.
    pub(crate) fn born(&mut self, slot: u32) {
        if !self.is_on() {
            return;
        }
        self.dirty[(slot / self.chunk_slots) as usize] = true;
        if self.save.as_mut().is_some_and(|save| save.wants(slot, self.chunk_slots)) {
            self.log(slot, &[]);
        }
    }

    /// Keeps the image that [`Marks::touch`] wanted; an empty one means that there was no row.
    pub(crate) fn log(&mut self, slot: u32, row: &[u8]) {
        if let Some(Save { images, .. }) = &mut self.save {
            let start = images.bytes.len();
            images.bytes.extend_from_slice(row);
            images.put(slot, start, images.bytes.len());
        }
    }

    /// Where images are appended one after another, each told to [`Marks::imaged`]; to be given back.
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        self.save.as_mut().map(|save| std::mem::take(&mut save.images.bytes)).unwrap_or_default()
    }

    /// The image of `slot` begins at `start` of what was lent, and ends where `lent` ends.
    pub(crate) fn imaged(&mut self, slot: u32, start: usize, lent: &[u8]) {
        if let Some(save) = &mut self.save {
            save.images.put(slot, start, lent.len());
        }
    }

    /// Takes back what was lent.
    pub(crate) fn give_back(&mut self, lent: Vec<u8>) {
        if let Some(save) = &mut self.save {
            save.images.bytes = lent;
        }
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
        self.save = Some(Save { pending, next: 0, given, images });
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
        for chunk in save.given {
            if let Some(dirty) = self.dirty.get_mut(chunk as usize) {
                *dirty = true;
            }
        }
    }

    /// Bytes held, by capacity.
    pub(crate) fn bytes(&self) -> u64 {
        let images = self.save.as_ref().map_or(0, |save| {
            save.images.numbers.capacity() * 4 + save.images.spans.capacity() * 16 + save.images.bytes.capacity()
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

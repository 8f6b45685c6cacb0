//! [`Marks`]: which rows of a table have changed since the last save and since the last digest.
//!
//! A slot that is about to change is *touched*. The first touch since the last save or digest marks the slot's chunk
//! dirty and lists the slot; every further one is a look at one byte. While a save is under way the first touch of a row
//! in a chunk that has not been written yet also asks for the row's *image* as it still is, so the save shows the step at
//! which it began however many steps run meanwhile. With keeping off a touch does nothing.

use hashbrown::HashTable;
use tidemill_base::hash;

/// What is known of the slots of one table.
#[derive(Default)]
pub struct Marks {
    /// The slots of a chunk; 0 when changes are not noted.
    chunk_slots: usize,
    /// Slots stamped with this were touched already.
    epoch: u8,
    stamps: Vec<u8>,
    /// Slots touched since the last digest, some of them twice.
    touched: Vec<u32>,
    /// By chunk: whether a row has changed since the last save.
    dirty: Vec<bool>,
    /// By slot what was digested last; once digests were asked for.
    digests: Option<Digests>,
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

/// The rows that the last digest has seen, by slot.
#[derive(Default)]
struct Digests {
    /// The upper half of the hash of each row's name.
    names: Vec<u32>,
    /// The digest of each row, 0 for none.
    rows: Vec<u128>,
}

/// Rows as they were, by slot.
#[derive(Default)]
struct Images {
    table: HashTable<(u32, usize, usize)>,
    bytes: Vec<u8>,
}

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
    fn find(&self, slot: u32) -> Option<(usize, usize)> {
        let found = self.table.find(hash::word(slot.into()), |entry| entry.0 == slot);
        found.map(|(_, start, end)| (*start, *end))
    }

    fn put(&mut self, slot: u32, row: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(row);
        let entry = (slot, start, self.bytes.len());
        self.table.insert_unique(hash::word(slot.into()), entry, |entry| hash::word(entry.0.into()));
    }
}

impl Marks {
    /// Marks of a table whose changes are noted, by chunks of so many slots.
    pub(crate) fn new(chunk_slots: usize) -> Self {
        Marks { chunk_slots, epoch: 1, ..Marks::default() }
    }

    /// The slots of a chunk.
    pub(crate) fn chunk_slots(&self) -> usize {
        self.chunk_slots
    }

    fn chunk_of(&self, slot: u32) -> usize {
        slot as usize / self.chunk_slots.max(1)
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
        if self.is_on() && self.stamps.len() < slots {
            self.stamps.resize(slots, 0);
            self.dirty.resize(slots.div_ceil(self.chunk_slots), false);
        }
    }

    /// Notes that these slots are about to change, and asks for the images of those in `wanted`.
    #[inline]
    pub(crate) fn touch(&mut self, slots: &[u32], wanted: &mut Vec<u32>) {
        if !self.is_on() {
            return;
        }
        for slot in slots {
            let stamp = &mut self.stamps[*slot as usize];
            if *stamp != self.epoch {
                *stamp = self.epoch;
                self.first_touch(*slot, wanted);
            }
        }
    }

    fn first_touch(&mut self, slot: u32, wanted: &mut Vec<u32>) {
        self.touched.push(slot);
        let chunk = self.chunk_of(slot);
        self.dirty[chunk] = true;
        if self.wants(slot) {
            wanted.push(slot);
        }
    }

    fn wants(&self, slot: u32) -> bool {
        self.save.as_ref().is_some_and(|save| {
            save.pending.get(self.chunk_of(slot)).copied().unwrap_or(false) && save.images.find(slot).is_none()
        })
    }

    /// Notes that a slot got a row which was not there before; it counts as touched.
    pub(crate) fn born(&mut self, slot: u32) {
        if !self.is_on() {
            return;
        }
        if self.wants(slot) {
            self.log(slot, &[]);
        }
        let mut wanted = Vec::new();
        self.touch(&[slot], &mut wanted);
        debug_assert!(wanted.is_empty(), "what was not there has its image");
    }

    /// Keeps the image that [`Marks::touch`] wanted; an empty one means that there was no row.
    pub(crate) fn log(&mut self, slot: u32, row: &[u8]) {
        if let Some(save) = &mut self.save {
            save.images.put(slot, row);
        }
    }

    /// How many slots wait to be digested.
    pub(crate) fn undigested(&self) -> usize {
        if self.digests.is_some() { self.touched.len() } else { 0 }
    }

    /// The slots to digest again of a table of `slots`: all of them at the first time.
    pub(crate) fn drain(&mut self, slots: usize) -> Vec<u32> {
        let touched = std::mem::take(&mut self.touched);
        self.next_epoch();
        let first = self.digests.is_none();
        let digests = self.digests.get_or_insert_default();
        digests.names.resize(slots.max(digests.names.len()), 0);
        digests.rows.resize(slots.max(digests.rows.len()), 0);
        if first { (0..slots as u32).collect() } else { touched }
    }

    /// Sets the hash of a row's name and its digest, and returns those that the slot had before.
    pub(crate) fn replace_digest(&mut self, slot: u32, name: u64, digest: u128) -> (u64, u128) {
        let Some(digests) = &mut self.digests else { return (0, 0) };
        let before = std::mem::replace(&mut digests.names[slot as usize], (name >> 32) as u32);
        (u64::from(before) << 32, std::mem::replace(&mut digests.rows[slot as usize], digest))
    }

    fn next_epoch(&mut self) {
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            self.stamps.fill(0);
            1
        });
    }

    /// Begins a save of all chunks of `slots`, or of those with changes.
    pub(crate) fn begin_save(&mut self, slots: usize, full: bool) {
        self.next_epoch();
        let chunks = slots.div_ceil(self.chunk_slots.max(1));
        self.dirty.resize(chunks.max(self.dirty.len()), false);
        let mut pending = std::mem::replace(&mut self.dirty, vec![false; chunks]);
        if full {
            pending.fill(true);
        }
        let given = (0..pending.len() as u32).filter(|chunk| pending[*chunk as usize]).collect();
        self.save = Some(Save { pending, next: 0, given, images: Images::default() });
    }

    /// The next chunk to write; none when all are.
    pub(crate) fn next_chunk(&mut self) -> Option<u32> {
        let save = self.save.as_mut()?;
        let more = save.pending.get(save.next..).unwrap_or_default().iter().position(|pending| *pending)?;
        save.next += more;
        Some(save.next as u32)
    }

    /// What `slot` held when the save began.
    pub(crate) fn was(&self, slot: u32) -> Was<'_> {
        let Some(save) = &self.save else { return Was::Same };
        match save.images.find(slot) {
            None => Was::Same,
            Some((start, end)) if start == end => Was::Absent,
            Some((start, end)) => Was::Row(&save.images.bytes[start..end]),
        }
    }

    /// A chunk has been written: its rows may change.
    pub(crate) fn written(&mut self, chunk: u32) {
        if let Some(pending) = self.save.as_mut().and_then(|save| save.pending.get_mut(chunk as usize)) {
            *pending = false;
        }
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
        let digests = self.digests.as_ref().map_or(0, |digests| digests.rows.capacity() * 20);
        let images = self.save.as_ref().map_or(0, |save| save.images.bytes.capacity() + save.images.table.len() * 25);
        (self.stamps.capacity() + self.touched.capacity() * 4 + self.dirty.len() + digests + images) as u64
    }
}

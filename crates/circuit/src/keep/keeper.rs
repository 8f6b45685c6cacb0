//! [`Keeper`]: an operator's tables, row by row; and what is done with them for any operator.
//!
//! A row begins with its *name* (a length of 4 bytes and the bytes of its key) and goes on with what is known under that
//! name. Restoring inserts by name, so a row may be restored on another lane and into another slot.

use std::ops::Range;

use arrow_schema::ArrowError;

use super::marks::{Images, Marks, Was};
use super::wire::{Damage, Reader, begin_block, end_block};
use super::{CHUNK_SLOTS, FORMAT};

/// How far an operator has come; the same on every lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How far windows have been closed.
    pub closed: i64,
    /// Whether a step has been run.
    pub started: bool,
}

/// The lanes on which rows belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// All on lane 0.
    First,
    /// Each on the lane of its hash.
    ByHash(Vec<u64>),
}

/// What an operator keeps between steps.
pub trait Keeper {
    /// The numbers of its tables within its node.
    fn tables(&self) -> Vec<u16>;

    /// The number of slots of a table.
    fn slots(&self, table: u16) -> usize;

    /// The marks of a table.
    fn marks(&mut self, table: u16) -> Option<&mut Marks>;

    /// Appends the canonical bytes of a row; false when the slot has none.
    ///
    /// # Errors
    /// What Arrow does not like about its values.
    fn write(&self, table: u16, slot: u32, out: &mut Vec<u8>) -> Result<bool, ArrowError>;

    /// Appends the canonical bytes of a row of which an image was kept.
    fn write_image(&self, table: u16, image: &[u8], out: &mut Vec<u8>) {
        let _ = table;
        out.extend_from_slice(image);
    }

    /// On which lanes rows belong.
    ///
    /// # Errors
    /// What is wrong with them.
    fn route(&self, table: u16, rows: &[&[u8]]) -> Result<Route, Damage>;

    /// Inserts rows, each a whole one.
    ///
    /// # Errors
    /// What is wrong with them.
    fn restore(&mut self, table: u16, rows: &[&[u8]]) -> Result<(), Damage>;

    /// Gives the rows that are restored next slots among these as far as they are free, so that they lie in the chunk in
    /// which they are stored; none once all are restored. A keeper that cannot has all its chunks saved again.
    fn prefer(&mut self, table: u16, slots: Option<Range<u32>>) {
        let _ = (table, slots);
    }

    /// Forgets what has been put off to later steps though nothing can ask for it any more: what is kept is the same then
    /// however steps were cut. Called before a save begins and before everything is digested.
    fn settle(&mut self) {}

    /// How far it has come.
    fn progress(&self) -> Progress;

    /// Goes on from there; called before any row is restored.
    fn resume(&mut self, progress: Progress);

    /// Notes changes from now on, by chunks of so many slots.
    fn keep(&mut self, chunk_slots: usize);

    /// A save of all tables has ended.
    fn saved(&mut self) {}
}

/// The name of a row.
pub(crate) fn name_of(row: &[u8]) -> Result<(&[u8], Reader<'_>), Damage> {
    let mut reader = Reader::new(row);
    let name = reader.block()?;
    Ok((name, reader))
}

/// The number of a chunk and its rows, none when there are none.
pub(crate) type Numbered = (u32, Option<Vec<u8>>);

/// The next chunk of the save that is under way in a table.
pub(crate) fn next_chunk(keeper: &mut dyn Keeper, table: u16) -> Result<Option<Numbered>, ArrowError> {
    let slots = keeper.slots(table);
    let Some(marks) = keeper.marks(table) else { return Ok(None) };
    let Some(chunk) = marks.next_chunk() else { return Ok(None) };
    let (from, images) = (chunk as usize * marks.chunk_slots(), marks.take_images());
    let places = from as u32..(from + marks.chunk_slots()) as u32;
    let rows = write_chunk(keeper, table, places, slots as u32, &images);
    if let Some(marks) = keeper.marks(table) {
        marks.written(chunk, images);
    }
    Ok(Some((chunk, rows?)))
}

/// The rows of some slots as they were when the save began; none when there was none.
fn write_chunk(
    keeper: &dyn Keeper,
    table: u16,
    places: Range<u32>,
    slots: u32,
    images: &Images,
) -> Result<Option<Vec<u8>>, ArrowError> {
    let mut out = FORMAT.to_le_bytes().to_vec();
    let empty = out.len();
    for slot in places {
        let start = begin_block(&mut out);
        let there = match images.was(slot) {
            Was::Absent => false,
            Was::Row(image) => {
                keeper.write_image(table, image, &mut out);
                true
            }
            Was::Same => slot < slots && keeper.write(table, slot, &mut out)?,
        };
        if there { end_block(&mut out, start) } else { out.truncate(start - 4) }
    }
    Ok((out.len() > empty).then_some(out))
}

/// The rows of a chunk that [`next_chunk`] gave.
pub(crate) fn rows_of(chunk: &[u8]) -> Result<Vec<&[u8]>, Damage> {
    let mut reader = Reader::new(chunk);
    let format = reader.u16()?;
    if format > FORMAT {
        return Err(Damage(format!("its format is {format}, and this build reads up to {FORMAT}")));
    }
    let mut rows = Vec::with_capacity(CHUNK_SLOTS);
    while !reader.is_empty() {
        rows.push(reader.block()?);
    }
    Ok(rows)
}

/// Puts the rows of a chunk back where they were when it was saved, or as near as can be: whatever chunk they come to lie
/// in is saved again.
pub(crate) fn restore_in_place(keeper: &mut dyn Keeper, table: u16, chunk: u32, rows: &[&[u8]]) -> Result<(), Damage> {
    let chunk_slots = keeper.marks(table).map_or(0, |marks| marks.chunk_slots()) as u32;
    let from = chunk.checked_mul(chunk_slots).filter(|from| from.checked_add(chunk_slots).is_some());
    let Some(from) = from.filter(|_| rows.len() <= chunk_slots as usize) else { return keeper.restore(table, rows) };
    let before = keeper.marks(table).map(Marks::take_dirty).unwrap_or_default();
    keeper.prefer(table, Some(from..from + rows.len() as u32));
    let restored = keeper.restore(table, rows);
    if let Some(marks) = keeper.marks(table) {
        marks.placed(chunk, before);
    }
    restored
}

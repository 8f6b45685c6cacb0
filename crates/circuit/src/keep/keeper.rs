//! [`Keeper`]: an operator's tables, row by row; and what is done with them for any operator.
//!
//! A row begins with its *name* (a length of 4 bytes and the bytes of its key) and goes on with what is known under that
//! name. Restoring inserts by name, so a row may be restored on another lane and into another slot.

use std::ops::Range;

use arrow_schema::ArrowError;

use super::images::Was;
use super::marks::{Marks, Part};
use super::wire::{Damage, Reader, begin_block, end_block};
use super::{CHUNK_SLOTS, FORMAT, planes};

/// The bytes of a chunk without rows: its format.
const EMPTY_BYTES: usize = size_of_val(&FORMAT);

/// What a slot costs of a save's budget at least: one without a row has to be looked at too.
const SLOT_BYTES_MIN: usize = 4;

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

/// What a table gives to the save that is under way.
pub(crate) enum Given {
    /// A chunk.
    Chunk(Numbered),
    /// The budget is used up within a chunk, which the next call goes on with.
    Part,
    /// All was given.
    Nothing,
}

/// Goes on with the save that is under way in a table, for `budget` bytes and at least one slot; what was written is
/// taken from it.
pub(crate) fn give(keeper: &mut dyn Keeper, table: u16, budget: &mut usize) -> Result<Given, ArrowError> {
    let slots = keeper.slots(table) as u32;
    let Some(mut part) = keeper.marks(table).and_then(Marks::take_part) else { return Ok(Given::Nothing) };
    let written = write_some(keeper, table, &mut part, slots, budget);
    let (chunk, rows) = (part.chunk, keeper.marks(table).and_then(|marks| marks.put_part(part)));
    written?;
    Ok(match rows {
        Some(rows) => Given::Chunk((chunk, (rows.len() > EMPTY_BYTES).then_some(rows))),
        None => Given::Part,
    })
}

/// Writes rows of a chunk as they were when the save began.
fn write_some(
    keeper: &dyn Keeper,
    table: u16,
    part: &mut Part,
    slots: u32,
    budget: &mut usize,
) -> Result<(), ArrowError> {
    let Part { chunk, slots: places, rows: out, images } = part;
    if out.is_empty() {
        out.extend_from_slice(&FORMAT.to_le_bytes());
    }
    let album = images.of(*chunk);
    while places.start < places.end.min(slots) {
        let (slot, start) = (places.start, begin_block(out));
        let there = match album.was(slot) {
            Was::Absent => false,
            Was::Row(image) => {
                keeper.write_image(table, image, out);
                true
            }
            Was::Same => keeper.write(table, slot, out)?,
        };
        if there {
            end_block(out, start)
        } else {
            out.truncate(start - 4)
        }
        places.start += 1;
        *budget = budget.saturating_sub((out.len() + 4 - start).max(SLOT_BYTES_MIN));
        if *budget == 0 {
            break;
        }
    }
    if places.start >= slots {
        places.start = places.end;
    }
    Ok(())
}

/// The next chunk of the save that is under way in a table.
#[cfg(test)]
pub(crate) fn next_chunk(keeper: &mut dyn Keeper, table: u16) -> Result<Option<Numbered>, ArrowError> {
    Ok(match give(keeper, table, &mut usize::MAX.clone())? {
        Given::Chunk(chunk) => Some(chunk),
        Given::Part | Given::Nothing => None,
    })
}

/// The rows of a chunk that [`give`] gave.
pub(crate) fn rows_of(chunk: &[u8]) -> Result<Vec<&[u8]>, Damage> {
    let mut reader = Reader::new(chunk);
    let format = reader.u16()?;
    if format > FORMAT {
        let newest = planes::FORMAT;
        return Err(Damage(format!("its format is {format}, and this build reads up to {newest}")));
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

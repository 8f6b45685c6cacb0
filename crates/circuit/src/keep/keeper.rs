//! [`Keeper`]: an operator's tables, row by row; and what is done with them for any operator.
//!
//! A row begins with its *name* (a length of 4 bytes and the bytes of its key) and goes on with what is known under that
//! name. Restoring inserts by name, so a row may be restored on another lane and into another slot.

use arrow_schema::ArrowError;
use tidemill_base::hash;

use super::FORMAT;
use super::marks::{Marks, Was};
use super::wire::{Damage, Reader, begin_block, end_block};

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
    let Some(marks) = keeper.marks(table) else { return Ok(None) };
    let chunk_slots = marks.chunk_slots();
    let Some(chunk) = marks.next_chunk() else { return Ok(None) };
    let mut out = FORMAT.to_le_bytes().to_vec();
    let from = chunk as usize * chunk_slots;
    let (to, empty) = (from + chunk_slots, out.len());
    let mut image = Vec::new();
    for slot in from as u32..to as u32 {
        image.clear();
        let was = match keeper.marks(table).map(|marks| marks.was(slot)) {
            Some(Was::Absent) => continue,
            Some(Was::Row(row)) => {
                image.extend_from_slice(row);
                true
            }
            Some(Was::Same) | None => false,
        };
        let start = begin_block(&mut out);
        let there = match was {
            true => {
                keeper.write_image(table, &image, &mut out);
                true
            }
            false if (slot as usize) < keeper.slots(table) => keeper.write(table, slot, &mut out)?,
            false => false,
        };
        if there { end_block(&mut out, start) } else { out.truncate(start - 4) }
    }
    if let Some(marks) = keeper.marks(table) {
        marks.written(chunk);
    }
    let rows = (out.len() > empty).then_some(out);
    Ok(Some((chunk, rows)))
}

/// The rows of a chunk that [`next_chunk`] gave.
pub(crate) fn rows_of(chunk: &[u8]) -> Result<Vec<&[u8]>, Damage> {
    let mut reader = Reader::new(chunk);
    let format = reader.u16()?;
    if format > FORMAT {
        return Err(Damage(format!("its format is {format}, and this build reads up to {FORMAT}")));
    }
    let mut rows = Vec::new();
    while !reader.is_empty() {
        rows.push(reader.block()?);
    }
    Ok(rows)
}

/// Digests what has changed in a table since the last time: hands the hash of a row's name and the change of the sum of
/// digests under it to `add`. Of the hash the upper half counts.
pub(crate) fn digest(
    keeper: &mut dyn Keeper,
    table: u16,
    digest: impl Fn(&[u8]) -> u128,
    add: &mut dyn FnMut(u64, u128),
) -> Result<(), ArrowError> {
    let slots = keeper.slots(table);
    let Some(touched) = keeper.marks(table).map(|marks| marks.drain(slots)) else { return Ok(()) };
    let mut row = Vec::new();
    for slot in touched {
        row.clear();
        let (mut name, mut new) = (0, 0);
        if keeper.write(table, slot, &mut row)? {
            name = name_of(&row).map_or(0, |(name, _)| hash::bytes(name));
            new = digest(&row);
        }
        let (before, old) = keeper.marks(table).map_or((0, 0), |marks| marks.replace_digest(slot, name, new));
        if old != 0 {
            add(before, old.wrapping_neg());
        }
        if new != 0 {
            add(name, new);
        }
    }
    Ok(())
}

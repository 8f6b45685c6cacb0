//! [`Store`]: rows as columns, each under a number that names it until it is moved or goes.
//!
//! Rows lie in chunks of [`CHUNK_SLOTS`], or as many as are saved together. A batch of many rows becomes a chunk as it is, without a copy; small batches are
//! put together in the open chunk: each is a *part*, and neighbours of like size are made one, so that a chunk has a few
//! parts at most and a row is copied a few times at most. A row's number is that of its chunk and its place in it.
//!
//! The store counts how many rows of a chunk are there and does not know which: whoever owns it does.

use std::cell::Cell;

use arrow_array::{Array, ArrayRef};
use arrow_schema::ArrowError;
use arrow_select::concat::concat;
use arrow_select::interleave::interleave;

use crate::keep::CHUNK_SLOTS;
use crate::keep::value::Column;

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// Rows of one type.
pub(super) struct Store {
    /// A chunk has 2 to this power rows at most.
    bits: u32,
    chunks: Vec<Chunk>,
    /// The chunk that small batches are put into.
    open: Option<u32>,
    /// Chunks without rows.
    free: Vec<u32>,
    /// Chunks of which less than half is there; some may have gone since.
    thin: Vec<u32>,
    bytes: u64,
    /// By chunk the first of its parts among those that a gathering touches; [`NONE`] between two of them.
    touched: Cell<Vec<u32>>,
}

#[derive(Default)]
struct Chunk {
    /// In the order of their rows.
    parts: Vec<Part>,
    /// Numbers given to rows, and those whose rows are there.
    rows: u32,
    live: u32,
    is_thin: bool,
}

/// Rows that lie together.
struct Part {
    /// The place of the first one in the chunk.
    start: u32,
    rows: u32,
    columns: Vec<ArrayRef>,
    /// The same, to be read value by value.
    values: Vec<Column>,
    bytes: u64,
}

impl Store {
    /// No rows yet; `chunk_slots` rows are saved together.
    pub fn new(chunk_slots: usize) -> Self {
        let slots = if chunk_slots.is_power_of_two() { chunk_slots.min(CHUNK_SLOTS) } else { CHUNK_SLOTS };
        Store {
            bits: slots.trailing_zeros(),
            chunks: Vec::new(),
            open: None,
            free: Vec::new(),
            thin: Vec::new(),
            bytes: 0,
            touched: Cell::default(),
        }
    }

    /// The rows of a chunk, at most.
    fn chunk_rows(&self) -> usize {
        1 << self.bits
    }

    /// The number of the first chunk that there cannot be.
    fn chunks_max(&self) -> usize {
        (NONE >> self.bits) as usize
    }

    fn id_of(&self, chunk: u32, row: u32) -> u32 {
        chunk << self.bits | row
    }

    /// The chunk of a row, and the row's place in it.
    fn split(&self, id: u32) -> (usize, u32) {
        ((id >> self.bits) as usize, id & (self.chunk_rows() as u32 - 1))
    }

    /// Takes rows in and appends their numbers to `ids`.
    pub fn append(&mut self, columns: &[ArrayRef], rows: usize, ids: &mut Vec<u32>) -> Result<(), ArrowError> {
        let mut from = 0;
        while from < rows {
            let left = rows - from;
            // Half a chunk and more becomes one as it is.
            let chunk = if left * 2 >= self.chunk_rows() { self.claim()? } else { self.open_chunk()? };
            let first = self.chunks[chunk as usize].rows;
            let count = left.min(self.chunk_rows() - first as usize);
            self.push(chunk, columns.iter().map(|column| column.slice(from, count)).collect(), count as u32)?;
            ids.extend((first..first + count as u32).map(|row| self.id_of(chunk, row)));
            from += count;
        }
        Ok(())
    }

    /// Puts rows into the chunk that begins with the number `first`; false when there is none or it is in use.
    pub fn put(&mut self, first: u32, columns: &[ArrayRef], rows: usize) -> Result<bool, ArrowError> {
        let (chunk, row) = self.split(first);
        if row != 0 || rows > self.chunk_rows() || chunk >= self.chunks_max() {
            return Ok(false);
        }
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, Chunk::default);
        }
        if self.chunks[chunk].rows > 0 || self.open == Some(chunk as u32) {
            return Ok(false);
        }
        self.push(chunk as u32, columns.to_vec(), rows as u32)?;
        Ok(true)
    }

    /// Finds the chunks without rows, after some were put where they had been.
    pub fn find_free(&mut self) {
        let free = |chunk: &u32| self.chunks[*chunk as usize].rows == 0 && self.open != Some(*chunk);
        self.free = (0..self.chunks.len() as u32).rev().filter(free).collect();
    }

    /// A chunk without rows.
    fn claim(&mut self) -> Result<u32, ArrowError> {
        if let Some(chunk) = self.free.pop() {
            return Ok(chunk);
        }
        if self.chunks.len() >= self.chunks_max() {
            return Err(ArrowError::ComputeError(format!("more rows than {NONE} are kept on one lane")));
        }
        self.chunks.push(Chunk::default());
        Ok(self.chunks.len() as u32 - 1)
    }

    fn open_chunk(&mut self) -> Result<u32, ArrowError> {
        if let Some(open) = self.open {
            if (self.chunks[open as usize].rows as usize) < self.chunk_rows() {
                return Ok(open);
            }
            self.open = None;
            self.check(open);
        }
        let chunk = self.claim()?;
        self.open = Some(chunk);
        Ok(chunk)
    }

    fn push(&mut self, chunk: u32, columns: Vec<ArrayRef>, rows: u32) -> Result<(), ArrowError> {
        let chunk_rows = self.chunk_rows() as u32;
        let chunk = &mut self.chunks[chunk as usize];
        let before: u64 = chunk.parts.iter().map(|part| part.bytes).sum();
        chunk.parts.push(Part::new(chunk.rows, rows, columns)?);
        chunk.rows += rows;
        chunk.live += rows;
        chunk.merge(chunk_rows)?;
        self.bytes += chunk.parts.iter().map(|part| part.bytes).sum::<u64>();
        self.bytes -= before;
        Ok(())
    }

    /// Counts a row as gone.
    pub fn remove(&mut self, id: u32) {
        let (chunk, _) = self.split(id);
        self.chunks[chunk].live -= 1;
        self.check(chunk as u32);
    }

    /// Frees a chunk without rows, and notes one with few.
    fn check(&mut self, number: u32) {
        let is_open = self.open == Some(number);
        let chunk = &mut self.chunks[number as usize];
        if chunk.live == 0 {
            self.bytes -= chunk.parts.iter().map(|part| part.bytes).sum::<u64>();
            *chunk = Chunk::default();
            if !is_open {
                self.free.push(number);
            }
        } else if chunk.live * 2 < chunk.rows && !is_open && !chunk.is_thin {
            chunk.is_thin = true;
            self.thin.push(number);
        }
    }

    /// The numbers of all rows that a thin chunk has or had; none when no chunk is thin.
    pub fn next_thin(&mut self) -> Option<std::ops::Range<u32>> {
        while let Some(number) = self.thin.pop() {
            let first = self.id_of(number, 0);
            let chunk = &mut self.chunks[number as usize];
            if std::mem::take(&mut chunk.is_thin) {
                return Some(first..first + chunk.rows);
            }
        }
        None
    }

    /// The columns that are `wanted` of these rows, in their order; not of none.
    pub fn gather(&self, ids: &[u32], wanted: &[usize]) -> Result<Vec<ArrayRef>, ArrowError> {
        let chunks = &self.chunks;
        let mut touched = self.touched.take();
        touched.resize(chunks.len(), NONE);
        let (mut parts, mut numbers) = (Vec::new(), Vec::new());
        let place = |id: &u32| -> (usize, usize) {
            let (number, row) = self.split(*id);
            let chunk = &chunks[number];
            if touched[number] == NONE {
                touched[number] = parts.len() as u32;
                parts.extend(&chunk.parts);
                numbers.push(number);
            }
            let part = chunk.part_of(row);
            (touched[number] as usize + part, (row - chunk.parts[part].start) as usize)
        };
        let places: Vec<(usize, usize)> = ids.iter().map(place).collect();
        numbers.into_iter().for_each(|number| touched[number] = NONE);
        self.touched.set(touched);
        let column = |column: &usize| {
            let columns: Vec<&dyn Array> = parts.iter().map(|part: &&Part| part.columns[*column].as_ref()).collect();
            interleave(&columns, &places)
        };
        wanted.iter().map(column).collect()
    }

    /// Appends the bytes of a row's values.
    pub fn write(&self, id: u32, out: &mut Vec<u8>) {
        let (part, row) = self.find(id);
        part.values.iter().for_each(|column| column.write(row, out));
    }

    /// Whether a row has the values of `row` in `values`, bit by bit.
    pub fn is_same(&self, id: u32, values: &[Column], row: usize) -> bool {
        let (part, mine) = self.find(id);
        part.values.iter().zip(values).all(|(column, other)| column.is_same(mine, other, row))
    }

    fn find(&self, id: u32) -> (&Part, usize) {
        let (chunk, row) = self.split(id);
        let chunk = &self.chunks[chunk];
        let part = &chunk.parts[chunk.part_of(row)];
        (part, (row - part.start) as usize)
    }

    /// The number after the greatest one that a row may have.
    pub fn slots(&self) -> usize {
        self.chunks.len() << self.bits
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes + (self.chunks.capacity() * size_of::<Chunk>()) as u64
    }
}

impl Chunk {
    fn part_of(&self, row: u32) -> usize {
        if self.parts.len() == 1 { 0 } else { self.parts.partition_point(|part| part.start <= row) - 1 }
    }

    /// Makes one of the last parts as long as one is not much longer than the next, and of all of a full chunk.
    fn merge(&mut self, chunk_rows: u32) -> Result<(), ArrowError> {
        let is_full = self.rows == chunk_rows;
        let mut from = self.parts.len() - 1;
        let mut rows = self.parts[from].rows;
        while from > 0 && (is_full || self.parts[from - 1].rows <= 2 * rows) {
            from -= 1;
            rows += self.parts[from].rows;
        }
        let together = |column: usize| {
            let columns: Vec<&dyn Array> =
                self.parts[from..].iter().map(|part| part.columns[column].as_ref()).collect();
            concat(&columns)
        };
        if from + 1 < self.parts.len() {
            // Texts of more than 2 GiB stay apart.
            let columns: Result<Vec<ArrayRef>, _> = (0..self.parts[from].columns.len()).map(together).collect();
            if let Ok(columns) = columns {
                let part = Part::new(self.parts[from].start, rows, columns)?;
                self.parts.truncate(from);
                self.parts.push(part);
            }
        }
        Ok(())
    }
}

impl Part {
    fn new(start: u32, rows: u32, columns: Vec<ArrayRef>) -> Result<Self, ArrowError> {
        let values = columns.iter().map(Column::new).collect::<Result<_, _>>()?;
        let bytes = columns.iter().map(|column| column.to_data().get_slice_memory_size());
        let bytes = bytes.sum::<Result<usize, _>>()? as u64;
        Ok(Part { start, rows, columns, values, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    fn rows(values: std::ops::Range<i64>) -> (Vec<ArrayRef>, usize) {
        let texts = StringArray::from_iter_values(values.clone().map(|value| format!("row {value}")));
        let count = values.clone().count();
        (vec![Arc::new(Int64Array::from_iter_values(values)), Arc::new(texts)], count)
    }

    const CHUNK_ROWS: usize = CHUNK_SLOTS;

    /// Appends rows in batches of these sizes, and reads all of them backwards; with chunks of the usual size and small ones.
    fn check(batches: &[usize]) -> Store {
        check_chunks(batches, 8);
        check_chunks(batches, CHUNK_ROWS)
    }

    fn check_chunks(batches: &[usize], chunk_rows: usize) -> Store {
        let (mut store, mut ids, mut next) = (Store::new(chunk_rows), Vec::new(), 0);
        for batch in batches {
            let (columns, count) = rows(next..next + *batch as i64);
            store.append(&columns, count, &mut ids).expect("rows of the store's types");
            next += *batch as i64;
        }
        ids.reverse();
        let columns = store.gather(&ids, &[1, 0]).expect("rows that are there");
        let numbers: Vec<i64> = columns[1].as_primitive::<Int64Type>().values().to_vec();
        assert!(numbers.iter().copied().eq((0..next).rev()), "batches of {batches:?}");
        assert_eq!(columns[0].as_string::<i32>().value(0), format!("row {}", next - 1));
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), ids.len(), "a number names one row");
        store
    }

    #[test]
    fn rows_come_back_whatever_batches_they_came_in() {
        check(&[1]);
        check(&[8_192]);
        check(&[CHUNK_ROWS, 1, CHUNK_ROWS - 1, 3]);
        check(&[5_000, 3_000, 100, 4_200, 1]);
        check(&vec![1; 5_000]);
        check(&vec![700; 30]);
    }

    #[test]
    fn small_batches_are_put_together() {
        let store = check_chunks(&vec![1; CHUNK_ROWS + 100], CHUNK_ROWS);
        assert_eq!(store.chunks.len(), 2);
        assert_eq!(store.chunks[0].parts.len(), 1);
        assert!(store.chunks[1].parts.len() < 10, "{} parts", store.chunks[1].parts.len());
    }

    #[test]
    fn chunks_without_rows_are_used_again() {
        let mut store = Store::new(CHUNK_ROWS);
        for _ in 0..10 {
            let mut ids = Vec::new();
            let (columns, count) = rows(0..5_000);
            store.append(&columns, count, &mut ids).expect("rows of the store's types");
            ids.iter().for_each(|id| store.remove(*id));
            assert_eq!(store.next_thin().and_then(|_| store.next_thin()), None);
        }
        assert_eq!(store.slots(), 2 * CHUNK_ROWS);
        assert_eq!(store.bytes, 0);
    }
}

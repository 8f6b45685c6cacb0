//! Saving and restoring a view: its chunks are never changed, so a save holds those of its version and needs no copy.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::ArrowError;

use super::{Chunk, Error, ViewWriter};
use crate::keep::keeper::rows_of;
use crate::keep::value::{Builder, Column};
use crate::keep::wire::{Damage, Reader, begin_block, end_block};
use crate::keep::{self, ChunkId, FORMAT};

/// What a writer knows of saves.
#[derive(Default)]
pub(super) struct Saving {
    /// Whether a save has been stored since the view was made.
    stored: bool,
    /// The chunks that are stored.
    known: BTreeSet<u32>,
    /// The chunks that the save under way gives, and which of them are to be forgotten.
    given: Option<(Vec<u32>, Vec<u32>)>,
    /// Whether that save is a full one.
    full: bool,
    /// Whether rows were restored that are not stored, or elsewhere.
    elsewhere: bool,
}

/// The chunks of a view that have changed since its last save, as they were when this save began.
///
/// It is on its own: the view goes on, and the save may be written on another thread.
pub struct Save {
    view: String,
    version: u64,
    full: bool,
    fingerprint: u64,
    /// The next chunk last.
    chunks: Vec<(u32, Option<Arc<Chunk>>)>,
}

impl Save {
    /// The step whose rows are saved.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether every chunk will be given, so that none stored before is needed any more.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The next chunk; none when all were given.
    ///
    /// # Errors
    /// [`Error::Arrow`] when a value cannot be written.
    pub fn next_chunk(&mut self) -> Result<Option<keep::Chunk>, Error> {
        let Some((number, chunk)) = self.chunks.pop() else { return Ok(None) };
        let id = ChunkId { operator: self.fingerprint, table: 0, lane: 0, chunk: number };
        let rows = chunk.map(|chunk| write(&chunk, self.version)).transpose();
        let rows = rows.map_err(|source| Error::Arrow { view: self.view.clone(), source })?;
        Ok(Some(keep::Chunk { id, rows: rows.flatten() }))
    }
}

/// The rows of a chunk that were there after step `version`; none when there were none.
fn write(chunk: &Chunk, version: u64) -> Result<Option<Vec<u8>>, ArrowError> {
    let columns = chunk.batch.columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let mut out = FORMAT.to_le_bytes().to_vec();
    let empty = out.len();
    for row in (0..chunk.gone.len()).filter(|row| chunk.gone[*row].load(Ordering::Acquire) > version) {
        let start = begin_block(&mut out);
        out.extend_from_slice(&chunk.copies(row).to_le_bytes());
        columns.iter().for_each(|column| column.write(row, &mut out));
        end_block(&mut out, start);
    }
    Ok((out.len() > empty).then_some(out))
}

impl ViewWriter {
    /// Begins a save of the rows as they are after the last step; one that is under way is given up.
    ///
    /// `fingerprint` is that of the output whose rows these are. The first save of a view is full.
    pub fn begin_save(&mut self, full: bool, fingerprint: u64) -> Save {
        self.end_save(false);
        let full = full || !self.saving.stored;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let dirty = |chunk: &Chunk| chunk.dirty.swap(false, Ordering::Relaxed) || full;
        let changed = state.chunks.iter().filter(|(_, chunk)| dirty(chunk));
        let mut chunks: Vec<_> = changed.map(|(number, chunk)| (*number, Some(chunk.clone()))).collect();
        let given = chunks.iter().map(|(number, _)| *number).collect();
        let gone: Vec<u32> = match full {
            true => Vec::new(),
            false => self.saving.known.iter().copied().filter(|number| !state.chunks.contains_key(number)).collect(),
        };
        chunks.extend(gone.iter().map(|number| (*number, None)));
        chunks.reverse();
        let version = state.version;
        drop(state);
        (self.saving.given, self.saving.full) = (Some((given, gone)), full);
        Save { view: self.spec.name.clone(), version, full, fingerprint, chunks }
    }

    /// Ends the save that is under way; what it gave will not be given again until it changes, if it was `stored`.
    pub fn end_save(&mut self, stored: bool) {
        let Some((given, gone)) = self.saving.given.take() else { return };
        if stored {
            self.saving.stored = true;
            if self.saving.full {
                self.saving.known.clear();
            }
            self.saving.known.extend(given);
            self.saving.known.retain(|number| !gone.contains(number));
            return;
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        given.iter().filter_map(|number| state.chunks.get(number)).for_each(|chunk| {
            chunk.dirty.store(true, Ordering::Relaxed);
        });
    }

    /// Puts the rows of a saved chunk back, as those of step `step`.
    ///
    /// # Errors
    /// [`Error::Saved`] when the chunk is damaged or has other columns.
    pub fn restore_chunk(&mut self, step: u64, chunk: &[u8]) -> Result<(), Error> {
        (self.saving.stored, self.saving.elsewhere) = (false, true);
        self.restore(step, self.next_chunk, chunk)
    }

    /// [`ViewWriter::restore_chunk`] of a chunk that is stored and stays so; see [`ViewWriter::resume_saves`].
    ///
    /// # Errors
    /// [`Error::Saved`] when the chunk is damaged or has other columns.
    pub fn restore_stored(&mut self, step: u64, id: ChunkId, chunk: &[u8]) -> Result<(), Error> {
        self.restore(step, id.chunk, chunk)?;
        self.saving.known.insert(id.chunk);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        // A chunk of no rows is not there, and is forgotten with the next save.
        if let Some(chunk) = state.chunks.get(&id.chunk) {
            chunk.dirty.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes it that all chunks that are stored were restored, and nothing else: the next save gives what has changed since.
    /// False when others were restored too; then the next save is a full one.
    pub fn resume_saves(&mut self) -> bool {
        self.saving.stored = !self.saving.elsewhere;
        self.saving.stored
    }

    fn restore(&mut self, step: u64, number: u32, chunk: &[u8]) -> Result<(), Error> {
        let damaged = |message: String| Error::Saved { view: self.spec.name.clone(), message };
        let (batch, copies) = self.read_rows(chunk).map_err(|damage| damaged(damage.0))?;
        let keys = self.identity.as_ref().map(|identity| identity.of(&batch)).transpose();
        let keys = keys.map_err(|error| damaged(error.to_string()))?;
        let shared = self.state.clone();
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        if number == u32::MAX || state.chunks.contains_key(&number) {
            return Err(damaged(format!("there are two chunks {number}")));
        }
        let mut slots = Vec::new();
        if let Some(keys) = keys {
            let before = state.index.len();
            state.index.reserve(keys.len());
            state.index.intern(&keys, &keys.hashes(), &mut slots);
            if state.index.len() - before < keys.len() {
                return Err(damaged("a row is there twice".to_string()));
            }
            state.secondaries.iter_mut().for_each(|secondary| secondary.put(&slots, &batch));
        }
        self.put(&mut state, number, batch, Some(copies), slots);
        state.version = step;
        state.followers.begin(step);
        Ok(())
    }

    fn read_rows(&self, chunk: &[u8]) -> Result<(RecordBatch, Vec<u32>), Damage> {
        let fields = self.spec.schema.fields().iter();
        let mut builders = fields.map(|field| Builder::new(field.data_type())).collect::<Result<Vec<_>, _>>()?;
        let mut copies = Vec::new();
        for row in rows_of(chunk)? {
            let mut reader = Reader::new(row);
            copies.push(reader.u32()?);
            builders.iter_mut().try_for_each(|builder| builder.read(&mut reader))?;
            reader.end()?;
        }
        let columns = builders.into_iter().map(Builder::finish).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(copies.len()));
        Ok((RecordBatch::try_new_with_options(self.spec.schema.clone(), columns, &options)?, copies))
    }
}

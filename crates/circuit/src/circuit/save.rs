//! Saving, restoring and digesting a circuit between steps.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_state::digest::{Sum, entry, entry_of};
use tidemill_state::trie::Trie;

use super::Circuit;
use crate::error::Error;
use crate::exchange::lane_of;
use crate::keep::digests::{DEPTH, Digests, SaveDigests, domain, name_hash, state_root};
use crate::keep::keeper::{self, Keeper, Progress, Route};
use crate::keep::planes::unweave;
use crate::keep::wire::{Damage, Reader};
use crate::keep::{Blob, Chunk, ChunkId, FORMAT, Restored, Roots, Slice, SourcePosition, Start};
use crate::lane::{Given, Job, Lane, Stored};
use crate::plan::NodeId;
use crate::watermark::{Tracked, Tracker};

/// The blob of what belongs to no operator.
const CIRCUIT_BLOB: &str = "circuit";

/// What the blob of a node is called, before its fingerprint.
const NODE_BLOB: &str = "node/";

/// Chunks of fewer bytes than this are restored by one thread.
const PARALLEL_BYTES_MIN: usize = 256 << 10;

/// Lanes save fewer bytes than this one after another.
const PARALLEL_SLICE_BYTES_MIN: usize = 64 << 10;

/// How far a save has come.
#[derive(Default)]
pub(super) struct Keeping {
    /// Whether a save has been stored since the circuit was made.
    stored: bool,
    /// Whether a save is under way.
    saving: bool,
    /// The digests of what was saved, or restored in its place.
    digests: Option<Arc<Mutex<Digests>>>,
    /// Whether all that was restored so far lies on the lanes and in the chunks that it was saved from.
    in_place: bool,
    /// Whether keepers prefer the slots of stored chunks.
    restoring: bool,
}

/// What belongs to no operator.
#[derive(Debug, Serialize, Deserialize)]
struct CircuitState {
    format: u16,
    step: u64,
    next_lane: usize,
    /// How many lanes the chunks are of, and of how many slots; 0 where that was not written down.
    #[serde(default)]
    lanes: usize,
    #[serde(default)]
    chunk_slots: usize,
    #[serde(flatten)]
    content: Content,
    /// The watermarks of each source, in the order of `content.sources`.
    watermarks: Vec<Tracked>,
}

/// What came out and how far the sources were taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// Per output its fingerprint and the sum of weight x digest of row.
    outputs: Vec<(u64, Sum)>,
    sources: Vec<SourcePosition>,
}

impl Circuit {
    /// Begins a save of the state as it is now; see [`crate::keep`]. One that is under way is given up.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the circuit has failed, [`Error::Broken`] when keeping is off.
    pub fn begin_save(&mut self, full: bool) -> Result<Start, Error> {
        self.check_keeping()?;
        self.end_restore();
        self.end_save(false);
        let full = full || !self.keeping.stored;
        if full {
            self.keeping.digests = None;
        }
        self.lanes.iter_mut().for_each(|lane| lane.begin_save(full));
        self.keeping.saving = true;
        let digests = self.keeping.digests.get_or_insert_with(|| Arc::new(Mutex::new(Digests::new()))).clone();
        let (rest, content) = self.rest()?;
        let digests = SaveDigests { digests, rest, content };
        Ok(Start { step: self.step, full, blobs: self.blobs()?, digests })
    }

    /// Goes on with the save that is under way: each lane writes about `bytes_max` bytes, and at least a row. A chunk is
    /// given once it is complete.
    ///
    /// # Errors
    /// [`Error::Broken`] when no save is under way, or a value cannot be written.
    pub fn save_slice(&mut self, bytes_max: usize) -> Result<Slice, Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        if !self.keeping.saving {
            return Err(Error::broken("the circuit", "no save is under way"));
        }
        self.each_lane(bytes_max >= PARALLEL_SLICE_BYTES_MIN, |_| Job::Save(bytes_max))?;
        let mut slice = Slice { chunks: Vec::new(), done: self.lanes.iter().all(Lane::has_saved) };
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            for Given { task, table, chunk: (chunk, rows) } in lane.take_given() {
                let operator = self.prints[self.layout.tasks[task].node()];
                slice.chunks.push(Chunk { id: ChunkId { operator, table, lane: index as u16, chunk }, rows });
            }
        }
        Ok(slice)
    }

    /// Ends the save that is under way. What it gave will not be given again until it changes, if all of it was given
    /// and `stored`.
    pub fn end_save(&mut self, stored: bool) {
        if !std::mem::take(&mut self.keeping.saving) {
            return;
        }
        let stored = stored && self.lanes.iter().all(Lane::has_saved);
        self.keeping.stored |= stored;
        self.lanes.iter_mut().for_each(|lane| lane.end_save(stored));
    }

    fn check_keeping(&self) -> Result<(), Error> {
        match (self.stopped, self.options.keep) {
            (true, _) => Err(Error::Stopped),
            (_, false) => Err(Error::broken("the circuit", "it was made without keeping state")),
            _ => Ok(()),
        }
    }

    fn blobs(&mut self) -> Result<Vec<Blob>, Error> {
        let watermarks = self.trackers.iter().map(Tracker::save).collect();
        let content = self.content();
        let (lanes, chunk_slots) = (self.lanes.len(), self.options.chunk_slots);
        let (format, step, next_lane) = (FORMAT, self.step, self.next_lane);
        let state = CircuitState { format, step, next_lane, lanes, chunk_slots, content, watermarks };
        let bytes = serde_json::to_vec(&state).map_err(|error| Error::broken("the circuit", error))?;
        let mut blobs = vec![Blob { name: CIRCUIT_BLOB.to_string(), bytes }];
        for (node, progress) in self.progress() {
            let name = format!("{NODE_BLOB}{:016x}", self.prints[node]);
            blobs.push(Blob { name, bytes: write_progress(progress) });
        }
        Ok(blobs)
    }

    /// How far each node that keeps something has come; all its operators have come as far.
    fn progress(&mut self) -> Vec<(NodeId, Progress)> {
        let layout = self.layout.clone();
        let mut all: Vec<(NodeId, Progress)> = Vec::new();
        for (task, keeper) in self.lanes[0].keepers() {
            let node = layout.tasks[task].node();
            debug_assert!(all.iter().all(|(other, progress)| *other != node || *progress == keeper.progress()));
            if all.iter().all(|(other, _)| *other != node) {
                all.push((node, keeper.progress()));
            }
        }
        all
    }

    fn content(&self) -> Content {
        let outputs = self.layout.output_nodes.iter().zip(&self.sums);
        Content {
            outputs: outputs.map(|(node, sum)| (self.prints[*node], Sum(*sum))).collect(),
            sources: self.positions.clone(),
        }
    }

    /// Takes what [`Start::blobs`] said; to be called before the first step, and before any chunk is restored.
    ///
    /// # Errors
    /// [`Error::Saved`] when it is damaged or of a newer format, [`Error::Broken`] after the first step.
    pub fn restore(&mut self, blobs: &[Blob]) -> Result<Restored, Error> {
        if self.step > 0 {
            return Err(Error::broken("the circuit", "it has run already and cannot be restored"));
        }
        let damaged = |message: String| Error::Saved { operator: "the circuit".to_string(), message };
        let state = blobs.iter().find(|blob| blob.name == CIRCUIT_BLOB);
        let state = state.ok_or_else(|| damaged(format!("there is no blob '{CIRCUIT_BLOB}'")))?;
        let state = read_circuit(&state.bytes).map_err(|damage| damaged(damage.0))?;
        let mut restored = Restored { step: state.step, ..Restored::default() };
        (self.step, self.next_lane) = (state.step, state.next_lane % self.lanes.len());
        for (index, position) in self.positions.iter_mut().enumerate() {
            let found = state.content.sources.iter().position(|saved| saved.source == position.source);
            if let Some((found, tracked)) = found.and_then(|found| Some((found, state.watermarks.get(found)?))) {
                *position = state.content.sources[found].clone();
                self.trackers[index] = Tracker::restore(tracked);
            }
        }
        restored.sources.clone_from(&self.positions);
        for (node, sum) in self.layout.output_nodes.iter().zip(&mut self.sums) {
            let saved = state.content.outputs.iter().find(|(print, _)| *print == self.prints[*node]);
            *sum = saved.map_or(0, |(_, sum)| sum.0);
        }
        self.resume(blobs, &mut restored)?;
        // What nobody keeps any more has to be forgotten, and what is new has to be given.
        let outputs: BTreeSet<u64> = state.content.outputs.iter().map(|(print, _)| *print).collect();
        self.keeping.in_place = (state.lanes, state.chunk_slots) == (self.lanes.len(), self.options.chunk_slots)
            && restored.fresh.is_empty()
            && restored.dropped.is_empty()
            && outputs == self.layout.output_nodes.iter().map(|node| self.prints[*node]).collect();
        Ok(restored)
    }

    /// Tells operators how far they have come.
    fn resume(&mut self, blobs: &[Blob], restored: &mut Restored) -> Result<(), Error> {
        let layout = self.layout.clone();
        let mut left: Vec<(u64, &Blob)> = Vec::new();
        for blob in blobs.iter().filter(|blob| blob.name != CIRCUIT_BLOB) {
            let print = blob.name.strip_prefix(NODE_BLOB).and_then(|print| u64::from_str_radix(print, 16).ok());
            let unknown =
                || Error::Saved { operator: "the circuit".into(), message: format!("a blob '{}'", blob.name) };
            left.push((print.ok_or_else(unknown)?, blob));
        }
        for (node, _) in self.progress() {
            let print = self.prints[node];
            let Some(found) = left.iter().position(|(saved, _)| *saved == print) else {
                restored.fresh.push(node);
                continue;
            };
            let (_, blob) = left.swap_remove(found);
            for (task, keeper) in self.lanes.iter_mut().flat_map(Lane::keepers) {
                if layout.tasks[task].node() == node {
                    let progress = read_progress(&blob.bytes);
                    keeper.resume(progress.map_err(|damage| Error::saved(layout.tasks[task].name(), damage))?);
                }
            }
            restored.kept.push(node);
        }
        restored.dropped = left.into_iter().map(|(print, _)| print).collect();
        restored.dropped.sort_unstable();
        Ok(())
    }

    /// Puts the rows of a chunk back, each on the lane where it belongs now; false when no node of the plan's keeps
    /// them.
    ///
    /// # Errors
    /// [`Error::Saved`] when the chunk is damaged, or is not what the node keeps.
    pub fn restore_chunk(&mut self, id: ChunkId, rows: &[u8]) -> Result<bool, Error> {
        Ok(self.restore_chunks(&[(id, Bytes::copy_from_slice(rows))])?.contains(&true))
    }

    /// [`Circuit::restore_chunk`] of many chunks at once, on all lanes; tells for each whether a node keeps it.
    ///
    /// # Errors
    /// [`Error::Saved`] when a chunk is damaged, or is not what its node keeps.
    pub fn restore_chunks(&mut self, chunks: &[(ChunkId, Bytes)]) -> Result<Vec<bool>, Error> {
        let (mut kept, mut parts) = (Vec::with_capacity(chunks.len()), vec![Vec::new(); self.lanes.len()]);
        self.keeping.stored = false;
        for (id, rows) in chunks {
            let task = self.keeping_task(*id)?;
            self.keeping.in_place &= self.prints.contains(&id.operator);
            kept.push(task.is_some());
            let Some(task) = task else { continue };
            match parts.get_mut(usize::from(id.lane)).filter(|_| self.keeping.in_place) {
                Some(part) => part.push(Stored { task, id: *id, rows: rows.clone() }),
                None => self.spread(task, *id, rows)?,
            }
        }
        let bytes: usize = parts.iter().flatten().map(|stored: &Stored| stored.rows.len()).sum();
        if bytes > 0 {
            self.keeping.restoring = true;
            let parallel = bytes >= PARALLEL_BYTES_MIN && self.lanes.len() > 1;
            self.each_lane(parallel, |lane| Job::Restore(parts[lane].clone()))?;
            let digests = self.keeping.digests.get_or_insert_with(|| Arc::new(Mutex::new(Digests::new())));
            let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
            self.lanes.iter_mut().flat_map(Lane::take_digests).for_each(|(id, chunk)| digests.put(id, chunk));
        }
        Ok(kept)
    }

    /// The task that keeps the rows of a chunk; none when they are nobody's, or a view's.
    fn keeping_task(&mut self, id: ChunkId) -> Result<Option<usize>, Error> {
        let Some(node) = self.prints.iter().position(|print| *print == id.operator) else { return Ok(None) };
        let layout = &self.layout;
        let mut first = None;
        for (task, keeper) in self.lanes[0].keepers().filter(|(task, _)| layout.tasks[*task].node() == node) {
            if keeper.tables().contains(&id.table) {
                return Ok(Some(task));
            }
            first.get_or_insert(task);
        }
        match first {
            Some(task) => {
                Err(Error::saved(layout.tasks[task].name(), Damage(format!("it keeps no table {}", id.table))))
            }
            None => Ok(None),
        }
    }

    /// Restores a chunk that was saved from other lanes or chunks.
    fn spread(&mut self, task: usize, id: ChunkId, rows: &[u8]) -> Result<(), Error> {
        let layout = self.layout.clone();
        let failed = |damage: Damage| Error::saved(layout.tasks[task].name(), damage);
        self.keeping.in_place = false;
        let rows = unweave(rows).map_err(failed)?;
        let rows = keeper::rows_of(&rows).map_err(failed)?;
        let route = match self.lanes.len() {
            1 => Route::First,
            _ => self.lanes[0]
                .keeper(task)
                .map_or(Ok(Route::First), |keeper| keeper.route(id.table, &rows))
                .map_err(failed)?,
        };
        self.put(task, id.table, &rows, &route).map_err(failed)
    }

    fn put(&mut self, task: usize, table: u16, rows: &[&[u8]], route: &Route) -> Result<(), Damage> {
        let lanes = self.lanes.len();
        let mut parts: Vec<Vec<&[u8]>> = vec![Vec::new(); lanes];
        match route {
            Route::First => parts[0].extend_from_slice(rows),
            Route::ByHash(hashes) => {
                hashes.iter().zip(rows).for_each(|(hash, row)| parts[lane_of(*hash, lanes)].push(row));
            }
        }
        for (lane, rows) in self.lanes.iter_mut().zip(parts).filter(|(_, rows)| !rows.is_empty()) {
            lane.keeper(task).map_or(Ok(()), |keeper| keeper.restore(table, &rows))?;
        }
        Ok(())
    }

    /// All chunks are restored: slots are given out as they come from now on.
    pub(super) fn end_restore(&mut self) {
        if std::mem::take(&mut self.keeping.restoring) {
            for (_, keeper) in self.lanes.iter_mut().flat_map(Lane::keepers) {
                keeper.tables().into_iter().for_each(|table| keeper.prefer(table, None));
            }
        }
    }

    /// Takes it that all chunks that are stored were restored, and nothing else: the next save gives what has changed since.
    /// False when that cannot be, because lanes, chunks or the plan are others; then the next save is a full one.
    pub fn resume_saves(&mut self) -> bool {
        self.keeping.stored = self.options.keep && self.keeping.in_place;
        self.keeping.stored
    }

    /// The digests of the state and of what came out, as of the last step; every row is read for them.
    ///
    /// [`Start::digests`] gives those of a save without that.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the circuit has failed, [`Error::Broken`] when keeping is off.
    pub fn roots(&mut self) -> Result<Roots, Error> {
        self.check_keeping()?;
        let rows = self.trie()?.root();
        let (rest, content) = self.rest()?;
        Ok(Roots { state: state_root(rows, &rest), content })
    }

    /// What counts in the root of the state besides rows, and the root of the content.
    fn rest(&mut self) -> Result<(Vec<u8>, Sum), Error> {
        let mut rest = Vec::new();
        for (node, progress) in self.progress() {
            rest.extend_from_slice(&self.prints[node].to_le_bytes());
            rest.extend_from_slice(&write_progress(progress));
        }
        let content = serde_json::to_vec(&self.content()).map_err(|error| Error::broken("the circuit", error))?;
        let watermarks: Vec<Tracked> = self.trackers.iter().map(Tracker::save).collect();
        rest.extend(serde_json::to_vec(&watermarks).map_err(|error| Error::broken("the circuit", error))?);
        let content = entry(&content);
        rest.extend_from_slice(&content.0.to_le_bytes());
        Ok((rest, content))
    }

    /// The digests of all rows, as of the last step.
    ///
    /// # Errors
    /// [`Error::Broken`] when a value cannot be written.
    pub fn trie(&mut self) -> Result<Trie, Error> {
        let mut trie = Trie::new(DEPTH);
        for (task, keeper) in self.lanes.iter_mut().flat_map(Lane::keepers) {
            let place = &self.layout.tasks[task];
            keeper.settle();
            for table in keeper.tables() {
                add(&mut trie, keeper, table, domain(self.prints[place.node()], table))
                    .map_err(|error| Error::broken(place.name(), error))?;
            }
        }
        Ok(trie)
    }

    /// The fingerprint of each node of the plan; see [`crate::fingerprint`].
    pub fn fingerprints(&self) -> &[u64] {
        &self.prints
    }

    /// How far each source has been taken.
    pub fn positions(&self) -> &[SourcePosition] {
        &self.positions
    }
}

/// Adds the digests of a table's rows.
fn add(trie: &mut Trie, keeper: &dyn Keeper, table: u16, domain: u64) -> Result<(), arrow_schema::ArrowError> {
    let mut row = Vec::new();
    for slot in 0..keeper.slots(table) as u32 {
        row.clear();
        if keeper.write(table, slot, &mut row)? {
            trie.put(name_hash(&row), entry_of(domain, &row));
        }
    }
    Ok(())
}

fn read_circuit(bytes: &[u8]) -> Result<CircuitState, Damage> {
    #[derive(Deserialize)]
    struct Head {
        format: u16,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| Damage(error.to_string()))?;
    if head.format > FORMAT {
        return Err(Damage(format!("its format is {}, and this build reads up to {FORMAT}", head.format)));
    }
    serde_json::from_slice(bytes).map_err(|error| Damage(error.to_string()))
}

fn write_progress(progress: Progress) -> Vec<u8> {
    let mut bytes = FORMAT.to_le_bytes().to_vec();
    bytes.extend_from_slice(&progress.closed.to_le_bytes());
    bytes.push(u8::from(progress.started));
    bytes
}

fn read_progress(bytes: &[u8]) -> Result<Progress, Damage> {
    let mut reader = Reader::new(bytes);
    let format = reader.u16()?;
    if format > FORMAT {
        return Err(Damage(format!("its format is {format}, and this build reads up to {FORMAT}")));
    }
    let progress = Progress { closed: reader.i64()?, started: reader.u8()? != 0 };
    reader.end()?;
    Ok(progress)
}

#[cfg(test)]
mod tests;

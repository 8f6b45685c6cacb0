//! Saving, restoring and digesting a circuit between steps.

use serde::{Deserialize, Serialize};
use tidemill_base::hash;
use tidemill_state::digest::{Sum, entry, entry_of};
use tidemill_state::trie::{Depth, Trie};

use super::Circuit;
use crate::error::Error;
use crate::exchange::lane_of;
use crate::keep::keeper::{self, Progress, Route};
use crate::keep::marks::Marks;
use crate::keep::wire::{Damage, Reader};
use crate::keep::{Blob, Chunk, ChunkId, FORMAT, Restored, Roots, Slice, SourcePosition, Start};
use crate::lane::Lane;
use crate::plan::NodeId;
use crate::watermark::{Tracked, Tracker};

/// The blob of what belongs to no operator.
const CIRCUIT_BLOB: &str = "circuit";

/// What the blob of a node is called, before its fingerprint.
const NODE_BLOB: &str = "node/";

/// As many changed rows of a table wait for their digest, at most, once digests are kept: so that no step has to digest
/// more than a step changes.
const UNDIGESTED_MAX: usize = 8_192;

/// How far a save has come.
#[derive(Default)]
pub(super) struct Keeping {
    /// Whether a save has been stored since the circuit was made.
    stored: bool,
    saving: Option<Saving>,
    /// The digests of all rows, once they were asked for.
    trie: Option<Trie>,
}

/// A save that is under way.
struct Saving {
    /// The tables that are still to be written, by lane and task; the next one last.
    tables: Vec<(usize, usize, u16)>,
}

/// What belongs to no operator.
#[derive(Debug, Serialize, Deserialize)]
struct CircuitState {
    format: u16,
    step: u64,
    next_lane: usize,
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
        self.end_save(false);
        let full = full || !self.keeping.stored;
        let mut tables = Vec::new();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            for (task, keeper) in lane.keepers() {
                for table in keeper.tables() {
                    let slots = keeper.slots(table);
                    if let Some(marks) = keeper.marks(table) {
                        marks.begin_save(slots, full);
                        tables.push((index, task, table));
                    }
                }
            }
        }
        tables.reverse();
        self.keeping.saving = Some(Saving { tables });
        Ok(Start { step: self.step, full, blobs: self.blobs()? })
    }

    /// The next chunks of the save that is under way: about `bytes_max` bytes of them, and at least one.
    ///
    /// # Errors
    /// [`Error::Broken`] when no save is under way, or a value cannot be written.
    pub fn save_slice(&mut self, bytes_max: usize) -> Result<Slice, Error> {
        if self.stopped {
            return Err(Error::Stopped);
        }
        let Some(mut saving) = self.keeping.saving.take() else {
            return Err(Error::broken("the circuit", "no save is under way"));
        };
        let (mut slice, mut bytes) = (Slice::default(), 0);
        while bytes < bytes_max.max(1) {
            let Some((lane, task, table)) = saving.tables.last().copied() else { break };
            let operator = self.prints[self.layout.tasks[task].node()];
            let name = self.layout.tasks[task].name().to_string();
            let Some(keeper) = self.lanes[lane].keeper(task) else { break };
            match keeper::next_chunk(keeper, table).map_err(|error| Error::broken(&name, error))? {
                None => drop(saving.tables.pop()),
                Some((chunk, rows)) => {
                    bytes += rows.as_ref().map_or(0, Vec::len);
                    slice.chunks.push(Chunk { id: ChunkId { operator, table, lane: lane as u16, chunk }, rows });
                }
            }
        }
        slice.done = saving.tables.is_empty();
        self.keeping.saving = Some(saving);
        Ok(slice)
    }

    /// Ends the save that is under way. What it gave will not be given again until it changes, if all of it was given
    /// and `stored`.
    pub fn end_save(&mut self, stored: bool) {
        let Some(saving) = self.keeping.saving.take() else { return };
        let stored = stored && saving.tables.is_empty();
        self.keeping.stored |= stored;
        for keeper in self.lanes.iter_mut().flat_map(|lane| lane.keepers()).map(|(_, keeper)| keeper) {
            for table in keeper.tables() {
                if let Some(marks) = keeper.marks(table) {
                    marks.end_save(stored);
                }
            }
            keeper.saved();
        }
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
        let state = CircuitState { format: FORMAT, step: self.step, next_lane: self.next_lane, content, watermarks };
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
                    keeper.resume(progress.map_err(|damage| saved(layout.tasks[task].name(), damage))?);
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
        let Some(node) = self.prints.iter().position(|print| *print == id.operator) else { return Ok(false) };
        let layout = self.layout.clone();
        let tables = self.lanes[0].keepers().map(|(task, keeper)| (task, keeper.tables()));
        let tables: Vec<(usize, Vec<u16>)> = tables.filter(|(task, _)| layout.tasks[*task].node() == node).collect();
        let Some((first, _)) = tables.first() else {
            // An output: its rows are a view's.
            return Ok(false);
        };
        let Some((task, _)) = tables.iter().find(|(_, tables)| tables.contains(&id.table)) else {
            return Err(saved(layout.tasks[*first].name(), Damage(format!("it keeps no table {}", id.table))));
        };
        let failed = |damage: Damage| saved(layout.tasks[*task].name(), damage);
        let rows = keeper::rows_of(rows).map_err(failed)?;
        let route = if self.lanes.len() == 1 { Route::First } else { self.route(*task, id.table, &rows)? };
        self.put(*task, id.table, &rows, &route).map_err(failed)?;
        Ok(true)
    }

    fn route(&mut self, task: usize, table: u16, rows: &[&[u8]]) -> Result<Route, Error> {
        let layout = self.layout.clone();
        let routed = self.lanes[0].keeper(task).map_or(Ok(Route::First), |keeper| keeper.route(table, rows));
        routed.map_err(|damage| saved(layout.tasks[task].name(), damage))
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

    /// The digests of the state and of what came out, as of the last step.
    ///
    /// The first call reads every row; from then on each step's changes alone are.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the circuit has failed, [`Error::Broken`] when keeping is off.
    pub fn roots(&mut self) -> Result<Roots, Error> {
        self.check_keeping()?;
        self.digest(0)?;
        let rows = self.keeping.trie.as_mut().map_or(Sum::ZERO, Trie::root);
        let mut state = rows.0.to_le_bytes().to_vec();
        for (node, progress) in self.progress() {
            state.extend_from_slice(&self.prints[node].to_le_bytes());
            state.extend_from_slice(&write_progress(progress));
        }
        let content = serde_json::to_vec(&self.content()).map_err(|error| Error::broken("the circuit", error))?;
        let watermarks: Vec<Tracked> = self.trackers.iter().map(Tracker::save).collect();
        state.extend(serde_json::to_vec(&watermarks).map_err(|error| Error::broken("the circuit", error))?);
        let content = entry(&content);
        state.extend_from_slice(&content.0.to_le_bytes());
        Ok(Roots { state: entry(&state), content })
    }

    /// The trie of all rows' digests, as of the last call of [`Circuit::roots`].
    pub fn trie(&self) -> Option<&Trie> {
        self.keeping.trie.as_ref()
    }

    /// Digests what a step has changed, once digests are kept and enough has gathered.
    pub(super) fn digest_changes(&mut self) -> Result<(), Error> {
        match self.keeping.trie {
            Some(_) => self.digest(UNDIGESTED_MAX),
            None => Ok(()),
        }
    }

    /// Digests the rows of tables in which more than `least` have changed.
    fn digest(&mut self, least: usize) -> Result<(), Error> {
        let mut trie = self.keeping.trie.take().unwrap_or_else(|| Trie::new(Depth::SMALL));
        for lane in &mut self.lanes {
            for (task, keeper) in lane.keepers() {
                let place = &self.layout.tasks[task];
                for table in keeper.tables() {
                    if least > 0 && keeper.marks(table).map_or(0, |marks: &mut Marks| marks.undigested()) <= least {
                        continue;
                    }
                    let domain = hash::words(self.prints[place.node()], table.into());
                    let mut add = |name: u64, change: u128| trie.put(name, Sum(change));
                    keeper::digest(keeper, table, |row| entry_of(domain, row).0, &mut add)
                        .map_err(|error| Error::broken(place.name(), error))?;
                }
            }
        }
        self.keeping.trie = Some(trie);
        Ok(())
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

fn saved(operator: &str, damage: Damage) -> Error {
    Error::Saved { operator: operator.to_string(), message: damage.0 }
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

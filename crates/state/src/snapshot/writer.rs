//! Writes a snapshot: the chunks that changed, and by [`Writer::commit`] the manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_base::planted::{self, Bug};

use super::manifest::{Cause, Chunk, Manifest, Meta, Stats};
use super::pack::{self, Builder, Frame, Pack};
use super::{CHUNK_BYTES_MAX, ChunkId, layout, repack};
use crate::Error;
use crate::instance::Instance;
use crate::store::StoreError;

/// A pack is closed when it has this many bytes.
const PACK_BYTES_MAX: usize = 64 << 20;

/// A snapshot being written. Nothing of it is seen before it is committed; dropped, it leaves packs that nobody names,
/// which are collected later.
pub struct Writer {
    instance: Instance,
    previous: Option<Manifest>,
    sequence: u64,
    /// What changed: the new place, or none for a chunk that is removed.
    changes: BTreeMap<ChunkId, Option<Chunk>>,
    /// Packs by index: those of the snapshot before, then the new ones; none while it is being filled.
    packs: Vec<Option<Pack>>,
    filling: BTreeMap<u16, (u32, Builder)>,
    blobs: BTreeMap<String, Bytes>,
    stats: Stats,
    compressor: zstd::bulk::Compressor<'static>,
    /// The memory that chunks are compressed into.
    stored: Vec<u8>,
    /// Packs whose time has not come, for the sake of a planted mistake.
    late: Vec<(String, Bytes)>,
}

impl Writer {
    pub(crate) fn begin(instance: Instance, previous: Option<&Manifest>) -> Result<Self, Error> {
        Ok(Writer {
            instance,
            previous: previous.cloned(),
            sequence: previous.map_or(0, |previous| previous.sequence) + 1,
            changes: BTreeMap::new(),
            packs: previous.map_or(Vec::new(), |previous| previous.packs.iter().cloned().map(Some).collect()),
            filling: BTreeMap::new(),
            blobs: BTreeMap::new(),
            stats: Stats::default(),
            compressor: pack::compressor()?,
            stored: Vec::new(),
            late: Vec::new(),
        })
    }

    /// The number that the snapshot will have.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Removes every chunk of the snapshot before: what follows is the whole state.
    pub fn clear(&mut self) {
        self.changes.clear();
        let before = self.previous.iter().flat_map(|previous| previous.chunks.iter());
        self.changes.extend(before.map(|chunk| (chunk.id, None)));
    }

    /// Saves the bytes of a chunk, in place of those it had.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; or a full pack could not be written.
    pub fn chunk(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > CHUNK_BYTES_MAX {
            let (bytes, limit) = (bytes.len() as u64, CHUNK_BYTES_MAX as u64);
            return Err(Error::TooLarge { what: format!("chunk {id}"), bytes, limit });
        }
        let mut stored = std::mem::take(&mut self.stored);
        pack::compress(&mut self.compressor, bytes, &mut stored)?;
        let chunk = self.append(id, &stored, bytes.len() as u32)?;
        self.changes.insert(id, Some(chunk));
        self.stats.chunks_written += 1;
        self.stats.bytes_raw += bytes.len() as u64;
        self.stats.bytes_written += stored.len() as u64;
        self.stored = stored;
        Ok(())
    }

    /// Says that a chunk is not there any more.
    pub fn remove(&mut self, id: ChunkId) {
        self.changes.insert(id, None);
    }

    /// Saves a small thing under a name. Unlike chunks, each snapshot is given all its blobs.
    pub fn blob(&mut self, name: &str, bytes: Bytes) {
        self.blobs.insert(name.to_string(), bytes);
    }

    /// Makes it a snapshot. When this returns it is durable, and nobody else's with that number ever will be.
    ///
    /// # Errors
    /// [`Error::Fenced`] when someone else has written this number: he runs the circuit now. After
    /// [`StoreError::Failed`] it may be there or not; ask for the newest again. [`Error::DamagedSnapshot`] when a pack of the
    /// snapshot before cannot be read; then save everything, after [`Writer::clear`].
    pub fn commit(mut self, meta: Meta) -> Result<Manifest, Error> {
        let deps: Vec<_> = self.previous.iter().map(|previous| previous.meta.version).collect();
        if let Some(previous) = &self.previous {
            self.instance.check_successor(previous, &meta)?;
        }
        let mut chunks = self.merged();
        self.repack(&mut chunks)?;
        for lane in self.filling.keys().copied().collect::<Vec<_>>() {
            self.close(lane)?;
        }
        let packs = self.keep_used(&mut chunks);
        let manifest = Manifest {
            instance: self.instance.name().to_string(),
            sequence: self.sequence,
            cause: Cause::Steps,
            deps,
            meta,
            stats: self.stats,
            packs: Arc::new(packs),
            chunks: Arc::new(chunks),
            blobs: std::mem::take(&mut self.blobs),
        };
        self.instance.publish(&manifest)?;
        for (name, content) in std::mem::take(&mut self.late) {
            self.put(&name, content)?;
        }
        Ok(manifest)
    }

    /// The chunks of the snapshot before with the changes; in order, for both are.
    fn merged(&mut self) -> Vec<Chunk> {
        let changes = std::mem::take(&mut self.changes);
        let before = self.previous.as_ref().map_or(&[][..], |previous| &previous.chunks[..]);
        let mut chunks = Vec::with_capacity(before.len() + changes.len());
        let mut before = before.iter().peekable();
        for (id, change) in changes {
            while let Some(old) = before.next_if(|old| old.id < id) {
                chunks.push(*old);
            }
            before.next_if(|old| old.id == id);
            chunks.extend(change);
        }
        chunks.extend(before.copied());
        chunks
    }

    /// Copies what is alive out of packs that are not worth keeping.
    fn repack(&mut self, chunks: &mut [Chunk]) -> Result<(), Error> {
        let Some(previous) = self.previous.clone() else { return Ok(()) };
        let sizes = self.packs.iter().map(|pack| pack.clone().unwrap_or(Pack { name: String::new(), bytes: 0 }));
        let chosen = repack::choose(&sizes.collect::<Vec<_>>(), previous.packs.len(), chunks);
        let mut moved: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, chunk) in chunks.iter().enumerate() {
            if chosen.get(chunk.pack as usize).copied().unwrap_or(false) {
                moved.entry(chunk.pack).or_default().push(index);
            }
        }
        for (pack, indexes) in moved {
            let name = &previous.packs[pack as usize].name;
            let content = self.instance.store().get(name).map_err(|error| self.blame(error.into()))?;
            for index in indexes {
                let Chunk { id, frame, .. } = chunks[index];
                let stored = slice(name, &content, &frame);
                let stored = stored.and_then(|stored| pack::verify(name, &frame, &stored).map(|()| stored));
                let stored = stored.map_err(|error| self.blame(error))?;
                chunks[index] = self.append(id, &stored, frame.raw)?;
                self.stats.bytes_repacked += stored.len() as u64;
            }
        }
        Ok(())
    }

    /// Why the snapshot before cannot be read: because it was collected, when there are newer ones.
    fn blame(&self, error: Error) -> Error {
        match self.instance.sequences() {
            Ok(sequences) if sequences.last().is_some_and(|head| *head >= self.sequence) => {
                self.instance.fenced(self.sequence)
            }
            _ => self.instance.blame(self.sequence - 1, error),
        }
    }

    fn append(&mut self, id: ChunkId, stored: &[u8], raw: u32) -> Result<Chunk, Error> {
        let packs = &mut self.packs;
        let (pack, builder) = self.filling.entry(id.lane).or_insert_with(|| {
            packs.push(None);
            (packs.len() as u32 - 1, Builder::new())
        });
        let chunk = Chunk { id, pack: *pack, frame: builder.push(id, stored, raw) };
        if builder.size() >= PACK_BYTES_MAX {
            self.close(id.lane)?;
        }
        Ok(chunk)
    }

    /// Writes the pack of a lane.
    fn close(&mut self, lane: u16) -> Result<(), Error> {
        let Some((index, builder)) = self.filling.remove(&lane) else { return Ok(()) };
        let content = builder.finish();
        let name = layout::pack(self.instance.name(), self.sequence, lane, &content);
        self.packs[index as usize] = Some(Pack { name: name.clone(), bytes: content.len() as u64 });
        if planted::is(Bug::ManifestFirst) {
            self.late.push((name, content));
            return Ok(());
        }
        self.put(&name, content)
    }

    fn put(&self, name: &str, content: Bytes) -> Result<(), Error> {
        match self.instance.store().put_new(name, content) {
            // The name tells the content: an earlier attempt wrote it.
            Err(StoreError::Exists { .. }) => Ok(()),
            put => Ok(put?),
        }
    }

    /// The packs that chunks are in, the chunks pointing to them.
    fn keep_used(&mut self, chunks: &mut [Chunk]) -> Vec<Pack> {
        let mut used = vec![false; self.packs.len()];
        for chunk in chunks.iter() {
            used[chunk.pack as usize] = true;
        }
        let mut places = vec![0; self.packs.len()];
        let mut packs = Vec::new();
        for (index, pack) in std::mem::take(&mut self.packs).into_iter().enumerate() {
            if let (Some(pack), true) = (pack, used[index]) {
                places[index] = packs.len() as u32;
                packs.push(pack);
            }
        }
        for chunk in chunks {
            chunk.pack = places[chunk.pack as usize];
        }
        packs
    }
}

/// The bytes of a frame in a pack.
pub(super) fn slice(name: &str, content: &Bytes, frame: &Frame) -> Result<Bytes, Error> {
    if frame.end() > content.len() as u64 {
        let reason = format!("it ends at byte {}, within the frame at byte {}", content.len(), frame.offset);
        return Err(Error::Damaged { name: name.to_string(), reason });
    }
    Ok(content.slice(frame.offset as usize..frame.end() as usize))
}

//! Reads the chunks of a snapshot, each checked, a pack after another.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ChunkId;
use super::manifest::{Chunk, Manifest};
use super::pack::{Pack, unpack};
use super::writer::slice;
use crate::Error;
use crate::instance::Instance;

/// The chunks of a snapshot, in the order in which they lie in its packs. After an error there is no more.
pub struct Reader {
    instance: Instance,
    sequence: u64,
    /// Packs and what is to be read of them, last first.
    packs: Vec<(Pack, Vec<Chunk>)>,
    open: Option<Open>,
}

/// A pack being read.
struct Open {
    pack: Pack,
    /// All of it, when most of it is wanted.
    content: Option<Bytes>,
    chunks: std::vec::IntoIter<Chunk>,
}

impl Reader {
    pub(crate) fn new(instance: Instance, manifest: &Manifest, wanted: impl Fn(&ChunkId) -> bool) -> Self {
        let mut packs: BTreeMap<u32, Vec<Chunk>> = BTreeMap::new();
        for chunk in manifest.chunks.iter().filter(|chunk| wanted(&chunk.id)) {
            packs.entry(chunk.pack).or_default().push(*chunk);
        }
        let sorted = packs.into_iter().rev().filter_map(|(pack, mut chunks)| {
            chunks.sort_unstable_by_key(|chunk| chunk.frame.offset);
            Some((manifest.packs.get(pack as usize)?.clone(), chunks))
        });
        Reader { packs: sorted.collect(), open: None, sequence: manifest.sequence, instance }
    }

    /// Several readers that together read what this one would have read yet, for as many threads; some may be empty.
    pub fn split(self, count: usize) -> Vec<Reader> {
        let Reader { instance, sequence, packs, open } = self;
        let part = |open| Reader { instance: instance.clone(), sequence, packs: Vec::new(), open };
        let mut readers: Vec<Reader> = (0..count.max(1)).map(|_| part(None)).collect();
        readers[0].open = open;
        for (index, pack) in packs.into_iter().enumerate() {
            let reader = index % readers.len();
            readers[reader].packs.push(pack);
        }
        readers
    }

    fn enter(&self, pack: Pack, chunks: Vec<Chunk>) -> Result<Open, Error> {
        let wanted: u64 = chunks.iter().map(|chunk| u64::from(chunk.frame.stored)).sum();
        let content = if wanted >= pack.bytes / 4 { Some(self.instance.store().get(&pack.name)?) } else { None };
        Ok(Open { pack, content, chunks: chunks.into_iter() })
    }

    fn read(&mut self) -> Result<Option<(ChunkId, Bytes)>, Error> {
        loop {
            if let Some(open) = &mut self.open
                && let Some(chunk) = open.chunks.next()
            {
                let (name, frame) = (&open.pack.name, &chunk.frame);
                let stored = match &open.content {
                    Some(content) => slice(name, content, frame)?,
                    None => self.instance.store().get_range(name, frame.offset, u64::from(frame.stored))?,
                };
                return Ok(Some((chunk.id, unpack(name, frame, &stored)?)));
            }
            match self.packs.pop() {
                Some((pack, chunks)) => self.open = Some(self.enter(pack, chunks)?),
                None => return Ok(None),
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<(ChunkId, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.packs.clear();
            self.open = None;
        }
        read.map_err(|error| self.instance.blame(self.sequence, error)).transpose()
    }
}

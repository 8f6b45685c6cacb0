//! What the tests of snapshots share: an instance, saves in a line each, and its content as a plain map.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tidemill_state::instance::{By, Instance};
use tidemill_state::snapshot::{ChunkId, Manifest, Meta};
use tidemill_state::store::{Memory, Store};
use tidemill_state::{Error, Replica, Version};

/// Content by chunk number.
pub type Content = BTreeMap<u32, Vec<u8>>;

/// A change: new bytes, or none to remove a chunk.
pub type Change = (u32, Option<Vec<u8>>);

/// An instance in memory, and the memory.
pub fn instance() -> (Instance, Memory) {
    let memory = Memory::new();
    (in_store(Arc::new(memory.clone())), memory)
}

/// An instance in a store.
pub fn in_store(store: Arc<dyn Store>) -> Instance {
    Instance::new(store, "test").expect("a name")
}

/// The chunk of a number; lanes and tables follow from it.
pub fn id(chunk: u32) -> ChunkId {
    ChunkId { operator: 7, table: (chunk % 2) as u16, lane: (chunk % 3) as u16, chunk }
}

/// A chunk's bytes.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

/// Bytes that do not compress.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = tidemill_base::rand::Rng::seeded(seed);
    (0..count).map(|_| rng.next_u64() as u8).collect()
}

/// A version of the first start of node 1.
pub fn version(lamport: u64) -> Version {
    Version::new(lamport, Replica::new(1, 1).expect("small numbers"))
}

/// What a snapshot says of itself, in short.
pub fn meta(lamport: u64) -> Meta {
    Meta { version: version(lamport), epoch: 1, step: lamport, journal: 10 * lamport, ..Meta::default() }
}

/// Who rolls back.
pub fn by(lamport: u64) -> By {
    By { version: version(lamport), epoch: 1, created_ms: 5, build: "b".to_string() }
}

/// Writes a snapshot of changes; its version counts on.
pub fn save(instance: &Instance, previous: Option<&Manifest>, changes: &[Change]) -> Result<Manifest, Error> {
    let mut writer = instance.begin(previous)?;
    for (chunk, change) in changes {
        match change {
            Some(bytes) => writer.chunk(id(*chunk), bytes)?,
            None => writer.remove(id(*chunk)),
        }
    }
    writer.blob("count", Bytes::from(changes.len().to_string()));
    writer.commit(meta(previous.map_or(0, |previous| previous.meta.version.lamport) + 1))
}

/// Reads all chunks.
pub fn content(instance: &Instance, manifest: &Manifest) -> Result<Content, Error> {
    let read = instance.reader(manifest).map(|chunk| chunk.map(|(id, bytes)| (id.chunk, bytes.to_vec())));
    read.collect()
}

/// An instance with four snapshots and a savepoint at the first, and its newest.
pub fn history() -> (Instance, Memory, Manifest) {
    static ONCE: OnceLock<Memory> = OnceLock::new();
    let memory = ONCE.get_or_init(|| {
        let (instance, memory) = instance();
        let all: Vec<Change> = (0..12).map(|chunk| (chunk, Some(noise(u64::from(chunk), 200)))).collect();
        let mut head = save(&instance, None, &all).expect("saved");
        for seed in 1..4 {
            let some = (0..4).map(|chunk| (3 * chunk, Some(noise(100 * seed + u64::from(chunk), 200))));
            head = save(&instance, Some(&head), &some.collect::<Vec<_>>()).expect("saved");
        }
        instance.savepoint("first", 1, 0).expect("named");
        memory
    });
    let memory = memory.copy();
    let instance = in_store(Arc::new(memory.clone()));
    let head = instance.newest().expect("read").expect("there");
    (instance, memory, head)
}

/// What changes make of content.
pub fn apply(content: &mut Content, changes: &[Change]) {
    for (chunk, change) in changes {
        match change {
            Some(bytes) => drop(content.insert(*chunk, bytes.clone())),
            None => drop(content.remove(chunk)),
        }
    }
}

//! What targets of the state's objects share: objects as they are written, frames, and the words of errors.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_base::{Explain, Timestamp};
use tidemill_state::snapshot::{ChunkId, Manifest, Meta};
use tidemill_state::store::{Memory, Store};
use tidemill_state::{Error, Instance, Replica, Version};

/// The bytes before the body of a framed object.
const HEAD_BYTES: usize = 16;

/// A store with snapshots, a savepoint and a boundary in it.
pub fn store() -> Arc<Memory> {
    let store = Arc::new(Memory::new());
    let instance = Instance::new(store.clone(), "wordcount").expect("a good name");
    let mut head: Option<Manifest> = None;
    for round in 1..=6_u64 {
        let mut writer = instance.begin(head.as_ref()).expect("nobody else writes");
        for chunk in 0..(round as u32 % 4) {
            let id = ChunkId { operator: 7, table: chunk as u16 % 2, lane: round as u16 % 2, chunk };
            writer
                .chunk(id, format!("rows of chunk {chunk}, {}", "round ".repeat(round as usize)).as_bytes())
                .expect("small");
        }
        if round == 5 {
            writer.remove(ChunkId { operator: 7, table: 1, lane: 1, chunk: 1 });
        }
        writer.blob("circuit", Bytes::from(format!("{{\"step\":{round}}}")));
        let replica = Replica::new(1, round).expect("small numbers");
        let meta = Meta {
            version: Version::new(round, replica),
            epoch: 1,
            created_ms: 1_700_000_000_000,
            build: "0.1.0".to_string(),
            journal: 10 * round,
            step: round,
            note: Bytes::from_static(b"{}"),
            ..Meta::default()
        };
        head = Some(writer.commit(meta).expect("nobody else writes"));
        if round == 2 {
            instance.savepoint("before-upgrade", 2, 1_700_000_000_000).expect("the snapshot is there");
        }
    }
    instance.collect(2).expect("all can be read");
    store
}

/// The objects of a store that begin with a magic word, shortest first.
pub fn objects(store: &dyn Store, folder: &str, magic: &[u8]) -> Vec<Vec<u8>> {
    let names = store.list(folder).expect("memory can be read");
    let objects = names.iter().map(|name| store.get(name).expect("it was listed").to_vec());
    let mut objects: Vec<_> = objects.filter(|object| object.starts_with(magic)).collect();
    objects.sort_by_key(Vec::len);
    objects
}

/// The body of a framed object.
pub fn body(object: &[u8]) -> &[u8] {
    &object[HEAD_BYTES..object.len() - 32]
}

/// Puts a body into a frame of format 1, as objects of a state have it.
pub fn sealed(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut object = [&magic[..], &[1, 0, 0, 0, 0, 0, 0, 0], body].concat();
    let hash = blake3::hash(&object);
    object.extend(hash.as_bytes());
    object
}

/// The object with the checksum at its end made right.
pub fn resealed(object: &[u8]) -> Vec<u8> {
    let end = object.len().saturating_sub(32);
    let hash = blake3::hash(&object[..end]);
    [&object[..end], hash.as_bytes()].concat()
}

/// An error's code and its first words, without numbers and without what it quotes.
pub fn words(error: &Error) -> String {
    let text = error.to_string();
    let ours = text.split(['`', '"']).next().unwrap_or_default();
    let words = ours.split_whitespace().filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    format!("{} {}", error.code(), words.take(14).collect::<Vec<_>>().join(" "))
}

/// A time for what is written.
pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

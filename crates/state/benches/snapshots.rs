//! What a snapshot costs: saving all and a tenth of some state, reading it back, and a manifest of a million chunks.
//!
//! `cargo bench -p tidemill-state --bench snapshots -- [MiB]`, 256 MiB when not said. Rows are 64 bytes, of which half are
//! noise; the store is a folder, flushed to disk.

use std::sync::Arc;
use std::time::Duration;

use tidemill_base::rand::Rng;
use tidemill_base::time::Stopwatch;
use tidemill_state::snapshot::pack::Frame;
use tidemill_state::snapshot::{Cause, Chunk, ChunkId, Manifest, Meta, Pack, Stats, manifest};
use tidemill_state::store::{Folder, Memory, Store};
use tidemill_state::{Instance, Replica, Version};

const CHUNK_ROWS: usize = 4_096;
const ROW_BYTES: usize = 64;
const LANES: u16 = 2;

fn chunk(seed: u64) -> Vec<u8> {
    let mut rng = Rng::seeded(seed);
    let mut bytes = Vec::with_capacity(CHUNK_ROWS * ROW_BYTES);
    for row in 0..CHUNK_ROWS as u64 {
        for word in [seed, row, 1, 0] {
            bytes.extend(word.to_le_bytes());
        }
        for _ in 0..4 {
            bytes.extend(rng.next_u64().to_le_bytes());
        }
    }
    bytes
}

fn id(number: u32) -> ChunkId {
    ChunkId { operator: 7, table: 0, lane: number as u16 % LANES, chunk: number / u32::from(LANES) }
}

fn meta(lamport: u64) -> Meta {
    let replica = Replica::new(1, 1).expect("small numbers");
    Meta { version: Version::new(lamport, replica), epoch: 1, ..Meta::default() }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn line(what: &str, took: Duration, bytes: u64) {
    let (seconds, mib) = (took.as_secs_f64(), bytes as f64 / f64::from(1 << 20));
    println!("{what:<42} {:>8.1} ms {mib:>8.1} MiB {:>8.1} MiB/s", seconds * 1e3, mib / seconds);
}

/// Saves chunks whose number is a multiple of `every`, and says how long that took.
fn save(instance: &Instance, previous: Option<&Manifest>, count: u32, every: usize, seed: u64) -> (Manifest, Duration) {
    let mut writer = instance.begin(previous).expect("begun");
    let mut took = Duration::ZERO;
    for number in (0..count).step_by(every) {
        let bytes = chunk(seed + u64::from(number));
        let watch = Stopwatch::start();
        writer.chunk(id(number), &bytes).expect("saved");
        took += watch.elapsed();
    }
    let watch = Stopwatch::start();
    let manifest = writer.commit(meta(previous.map_or(0, |previous| previous.meta.version.lamport) + 1));
    (manifest.expect("committed"), took + watch.elapsed())
}

fn read(instance: &Instance, manifest: &Manifest, threads: usize) -> Duration {
    let watch = Stopwatch::start();
    std::thread::scope(|scope| {
        for reader in instance.reader(manifest).split(threads) {
            scope.spawn(move || reader.for_each(|chunk| drop(chunk.expect("read"))));
        }
    });
    watch.elapsed()
}

fn folder(state_bytes: u64) {
    let root = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> = Arc::new(Folder::open(root.path()).expect("a store"));
    let instance = Instance::new(store, "bench").expect("a name");
    let count = (state_bytes / (CHUNK_ROWS * ROW_BYTES) as u64) as u32;
    let (first, took) = save(&instance, None, count, 1, 0);
    line("save everything", took, first.stats.bytes_raw);
    let (second, took) = save(&instance, Some(&first), count, 10, 1 << 32);
    line("save a tenth", took, second.stats.bytes_raw);
    for threads in [1, 2] {
        line(&format!("read everything, {threads} threads"), read(&instance, &second, threads), state_bytes);
    }
}

fn million_chunks() {
    let mut rng = Rng::seeded(1);
    let chunks: Vec<Chunk> = (0..1_000_000_u64)
        .map(|chunk| {
            let mut hash = [0; 32];
            hash.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = rng.next_u64().to_le_bytes());
            let id = ChunkId { operator: 7, table: 0, lane: 0, chunk: chunk as u32 };
            Chunk { id, pack: 0, frame: Frame { offset: 16 + 100 * chunk, stored: 100, raw: 300, hash } }
        })
        .collect();
    let manifest = Manifest {
        instance: "bench".to_string(),
        sequence: 1,
        cause: Cause::Steps,
        deps: Vec::new(),
        meta: meta(1),
        stats: Stats::default(),
        packs: Arc::new(vec![Pack { name: "pack".to_string(), bytes: 200_000_000 }]),
        chunks: Arc::new(chunks),
        blobs: Default::default(),
    };
    let watch = Stopwatch::start();
    let content = manifest::encode(&manifest).expect("encoded");
    line("manifest of 1,000,000 chunks, encode", watch.elapsed(), content.len() as u64);
    let watch = Stopwatch::start();
    let decoded = manifest::decode("m", &content).expect("decoded");
    line("manifest of 1,000,000 chunks, decode", watch.elapsed(), content.len() as u64);
    let instance = Instance::new(Arc::new(Memory::new()), "bench").expect("a name");
    let watch = Stopwatch::start();
    let mut writer = instance.begin(Some(&decoded)).expect("begun");
    writer.chunk(id(10), b"changed").expect("saved");
    writer.commit(meta(2)).expect("committed");
    line("one of 1,000,000 chunks changed, commit", watch.elapsed(), content.len() as u64);
}

fn main() {
    let mib = std::env::args().skip(1).find_map(|argument| argument.parse::<u64>().ok()).unwrap_or(256);
    folder(mib << 20);
    million_chunks();
}

//! State that an earlier build has saved and every later one must restore: `tests/fixtures/state-v1/`, a file for each
//! pipeline, with the rows in hexadecimal and the roots that they had.
//!
//! `TIDEMILL_WRITE_FIXTURES=1 cargo test -p tidemill-circuit --test schedules` writes the files that are not there yet.
//! A file is never written anew: what it holds lies on somebody's disk.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidemill_base::rand::Rng;
use tidemill_circuit::Circuit;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::keep::{Blob, Chunk, ChunkId, Roots};

use super::build::Case;
use super::input::Script;
use super::pipelines::PIPELINES;

#[derive(Serialize, Deserialize)]
struct Saved {
    step: u64,
    roots: Roots,
    blobs: Vec<(String, String)>,
    chunks: Vec<(ChunkId, String)>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn path(name: &str, updating: bool) -> PathBuf {
    let name = name.replace(", ", "-").replace(' ', "-");
    let kind = if updating { "updating" } else { "inserts" };
    PathBuf::from(format!("{}/tests/fixtures/state-v1/{name}-{kind}.json", env!("CARGO_MANIFEST_DIR")))
}

fn circuit(case: &Case, lanes: usize) -> Circuit {
    let options = Options { lanes, keep: true, ..Options::default() };
    Circuit::new(&case.plan, &Decoders::new(), options).expect("the plan is supported")
}

/// The state in the middle of a script of some rows.
fn save(case: &Case) -> Saved {
    let mut rng = Rng::seeded(20);
    let script = Script::of(&mut rng, case, 60).recut(&mut rng);
    let mut circuit = circuit(case, 1);
    let steps = script.count().saturating_sub(1);
    for step in script.steps().into_iter().take(steps) {
        circuit.step(step).unwrap_or_else(|error| panic!("{error}"));
    }
    let start = circuit.begin_save(true).expect("state is kept");
    let slice = circuit.save_slice(usize::MAX).expect("values can be written");
    assert!(slice.done);
    Saved {
        step: start.step,
        roots: circuit.roots().expect("state is kept"),
        blobs: start.blobs.into_iter().map(|blob| (blob.name, hex(&blob.bytes))).collect(),
        chunks: slice.chunks.into_iter().filter_map(|chunk| Some((chunk.id, hex(&chunk.rows?)))).collect(),
    }
}

/// Restores every file on one lane and on three.
pub(crate) fn check() {
    for (name, make) in PIPELINES {
        for updating in [false, true] {
            let (case, path) = (make(updating), path(name, updating));
            if std::env::var_os("TIDEMILL_WRITE_FIXTURES").is_some() && !path.exists() {
                let text = serde_json::to_string_pretty(&save(&case)).expect("plain values");
                std::fs::write(&path, text + "\n").expect("the folder is there");
            }
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let saved: Saved = serde_json::from_str(&text).expect("what was written");
            for lanes in [1, 3] {
                restore(&case, &saved, lanes, &path.display().to_string());
            }
        }
    }
}

fn restore(case: &Case, saved: &Saved, lanes: usize, path: &str) {
    let mut circuit = circuit(case, lanes);
    let blobs: Vec<Blob> =
        saved.blobs.iter().map(|(name, hex)| Blob { name: name.clone(), bytes: bytes(hex) }).collect();
    let restored = circuit.restore(&blobs).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!((restored.step, restored.fresh), (saved.step, vec![]), "{path}: the pipeline has another fingerprint");
    for (id, rows) in &saved.chunks {
        let known = circuit.restore_chunk(*id, &bytes(rows)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(known, "{path}: nobody keeps {id:?}");
    }
    assert_eq!(circuit.roots().expect("state is kept"), saved.roots, "{path} on {lanes} lanes");
}

/// Restores chunks with a byte changed: whatever comes of it, it is no panic.
pub(crate) fn check_damaged() {
    let mut rng = Rng::seeded(7);
    for (_, make) in PIPELINES {
        let case = make(false);
        let saved = save(&case);
        let blobs: Vec<Blob> =
            saved.blobs.iter().map(|(name, hex)| Blob { name: name.clone(), bytes: bytes(hex) }).collect();
        for (id, rows) in &saved.chunks {
            for _ in 0..20 {
                let mut rows = bytes(rows);
                if rng.chance(1, 2) {
                    let chunk = Chunk { id: *id, rows: Some(rows.clone()) };
                    rows = chunk.stored().map_or(rows, Cow::into_owned);
                }
                let at = rng.below(rows.len() as u64) as usize;
                rows[at] ^= 1 << rng.below(8);
                rows.truncate(rows.len() - if rng.chance(1, 4) { rng.below(rows.len() as u64) as usize } else { 0 });
                let mut circuit = circuit(&case, 1 + rng.below(2) as usize);
                circuit.restore(&blobs).expect("the blobs are whole");
                if let Err(error) = circuit.restore_chunk(*id, &rows) {
                    assert!(error.to_string().starts_with("the saved state of "), "{error}");
                }
            }
        }
    }
}

//! Boundaries of collected snapshots: whatever the bytes are, they are a boundary or an error.

use tidemill_state::gc::Boundary;

use super::state::{body, objects, resealed, sealed, store, words};

const MAGIC: &[u8; 8] = b"tmbound\n";

/// Boundaries as collections write them, and what stands in their frames.
pub fn seeds() -> Vec<Vec<u8>> {
    let objects = objects(&*store(), "instances", MAGIC);
    objects.iter().flat_map(|object| [object.clone(), body(object).to_vec()]).collect()
}

/// Reads `input` as a boundary and as the body of one.
pub fn run(input: &[u8]) -> Vec<String> {
    [input.to_vec(), resealed(input), sealed(MAGIC, input)].iter().map(|object| decode(object)).collect()
}

fn decode(object: &[u8]) -> String {
    match Boundary::decode("b", object) {
        Ok(boundary) => {
            assert!(boundary.spares(boundary.below), "the first that counts is spared");
            assert!(boundary.kept.iter().all(|kept| boundary.spares(*kept)), "those that are kept are spared");
            format!("a boundary that keeps {}", boundary.kept.len().min(3))
        }
        Err(error) => words(&error),
    }
}

//! Packs of chunks: whatever the bytes are, they are chunks that can be unpacked, or an error.

use tidemill_state::snapshot::pack;

use super::state::{objects, store, words};

const MAGIC: &[u8; 8] = b"tmpacks\n";
const HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 64;
const END_BYTES: usize = 44;

/// Packs as snapshots write them.
pub fn seeds() -> Vec<Vec<u8>> {
    objects(&*store(), "instances", MAGIC)
}

/// Reads `input` as a pack, as it is and with its checksums made right.
pub fn run(input: &[u8]) -> Vec<String> {
    [input.to_vec(), resealed(input)].iter().flat_map(|object| decode(object)).collect()
}

fn decode(object: &[u8]) -> Vec<String> {
    let chunks = match pack::decode("p", object) {
        Ok(chunks) => chunks,
        Err(error) => return vec![words(&error)],
    };
    let mut next = HEAD_BYTES as u64;
    let mut found = vec![format!("{} chunks", chunks.len().min(4))];
    for (_, frame) in &chunks {
        assert_eq!(frame.offset, next, "frames stand without gaps");
        next = frame.end();
        let stored = &object[frame.offset as usize..next as usize];
        found.push(match pack::unpack("p", frame, stored) {
            Ok(raw) => {
                assert_eq!(raw.len(), frame.raw as usize, "a chunk is as long as it says");
                "a chunk".to_string()
            }
            Err(error) => words(&error),
        });
    }
    found
}

/// The pack with the checksums of its frames and of its table made right.
fn resealed(input: &[u8]) -> Vec<u8> {
    let mut object = input.to_vec();
    let Some(end) = object.len().checked_sub(END_BYTES) else { return object };
    let count = u32::from_le_bytes([object[end], object[end + 1], object[end + 2], object[end + 3]]) as usize;
    let Some(table) = count.checked_mul(ENTRY_BYTES).and_then(|bytes| end.checked_sub(bytes)) else { return object };
    for at in (table..end).step_by(ENTRY_BYTES) {
        let number = |at: usize| super::image::word(&object, at);
        let (from, stored) = (number(at + 16), number(at + 24) as u32);
        let to = from.saturating_add(stored.into());
        let hash = object.get(from as usize..to as usize).map(|frame| *blake3::hash(frame).as_bytes());
        if let Some(hash) = hash {
            object[at + 32..at + ENTRY_BYTES].copy_from_slice(&hash);
        }
    }
    object[end + 4..end + 12].copy_from_slice(&(table as u64).to_le_bytes());
    let hash = *blake3::hash(&object[table..end + 12]).as_bytes();
    object[end + 12..].copy_from_slice(&hash);
    object
}

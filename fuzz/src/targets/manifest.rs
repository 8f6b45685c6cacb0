//! Snapshot manifests: whatever the bytes are, they are a manifest that can be written again, or an error.

use tidemill_state::snapshot::{Manifest, manifest};

use super::state::{body, objects, resealed, sealed, store, words};

const MAGIC: &[u8; 8] = b"tmsnaps\n";
/// The lengths of header and section.
const LENGTHS_BYTES: usize = 12;

/// Manifests as snapshots write them, and what stands in their frames: a length of 4 bytes, the header, the section.
pub fn seeds() -> Vec<Vec<u8>> {
    let objects = objects(&*store(), "instances", MAGIC);
    objects.iter().flat_map(|object| [object.clone(), open(body(object))]).collect()
}

/// Reads `input` as a manifest and as what stands in the frame of one.
pub fn run(input: &[u8]) -> Vec<String> {
    [input.to_vec(), resealed(input), closed(input)].iter().map(|object| decode(object)).collect()
}

fn decode(object: &[u8]) -> String {
    match manifest::decode("m", object) {
        Ok(manifest) => {
            let again = manifest::encode(&manifest).expect("what was read is not too large");
            let again = manifest::decode("m", &again).expect("what was written can be read");
            assert_eq!(again, manifest, "a round trip changes nothing");
            describe(&manifest)
        }
        Err(error) => words(&error),
    }
}

fn describe(manifest: &Manifest) -> String {
    assert!(manifest.chunks.iter().all(|chunk| manifest.find(chunk.id) == Some(chunk)), "each chunk can be found");
    assert!(manifest.diff(manifest).changed.is_empty(), "it does not differ from itself");
    let (chunks, blobs) = (manifest.chunks.len().min(3), manifest.blobs.len().min(3));
    format!("{:?} with {chunks} chunks, {blobs} blobs", manifest.cause)
        .replace(|c: char| c.is_ascii_digit() && c > '3', "")
}

/// The body of a manifest without its compression.
fn open(body: &[u8]) -> Vec<u8> {
    let (lengths, rest) = body.split_at(LENGTHS_BYTES);
    let header = u32::from_le_bytes([lengths[0], lengths[1], lengths[2], lengths[3]]) as usize;
    let section = zstd::decode_all(&rest[header..]).expect("what was compressed can be uncompressed");
    [&lengths[..4], &rest[..header], &section].concat()
}

/// A manifest of what [`open`] gives.
fn closed(input: &[u8]) -> Vec<u8> {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return Vec::new() };
    let (header, section) = rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()));
    let compressed = zstd::encode_all(section, 1).expect("memory can be compressed");
    let sizes = [&(header.len() as u32).to_le_bytes()[..], &(section.len() as u64).to_le_bytes()].concat();
    sealed(MAGIC, &[&sizes, header, &compressed].concat())
}

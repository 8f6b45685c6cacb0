//! Manifests: what belongs to a snapshot.
//!
//! ```text
//! magic "tmsnaps\n", format u16, six zeros
//! header length u32, section length uncompressed u64
//! header (JSON): whose, which and why; versions, hashes, positions; packs; figures
//! section (zstd): note, blobs, and for each chunk 68 bytes: id, pack u32, offset u64, stored u32, raw u32, blake3
//! blake3 of all before
//! ```
//!
//! The chunks stand in the order of their ids. A million of them are 68 MB in memory and half of that in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use super::ChunkId;
use super::frame::{damaged, open, seal};
use super::pack::{Frame, Pack, get_frame, get_id, inflate, put_frame, put_id};
use crate::Error;
use crate::digest::Sum;
use crate::version::Version;

/// The format that is written, and the newest that is read.
pub const FORMAT: u16 = 1;
const MAGIC: &[u8; 8] = b"tmsnaps\n";
const CHUNK_BYTES: usize = 68;

/// The most bytes of a section; 60 million chunks.
const SECTION_BYTES_MAX: u64 = 4 << 30;

/// The most bytes of the note and the blobs together.
pub const BLOBS_BYTES_MAX: u64 = 64 << 20;

/// What a snapshot says of the state it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The version of the state; later than that of the snapshot before.
    pub version: Version,
    /// The owner's epoch: the incarnation that wrote it.
    pub epoch: u64,
    /// When it was written, in milliseconds since 1970.
    pub created_ms: i64,
    /// The build that wrote it.
    pub build: String,
    /// The root over all state, comparable within one build.
    pub state_hash: Sum,
    /// The root over what can be seen from outside, comparable always.
    pub content_root: Sum,
    /// The first record of the journal that is not in it.
    pub journal: u64,
    /// The last step that is in it.
    pub step: u64,
    /// What the circuit wants to know of itself: its own bytes.
    #[serde(skip)]
    pub note: Bytes,
}

/// Why a snapshot was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Steps were done.
    Steps,
    /// State was taken back to that of an earlier snapshot.
    Rollback {
        /// Its number.
        to: u64,
    },
    /// Another owner took over the state as it was.
    Claim,
}

/// Figures of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Chunks that were written because they had changed.
    pub chunks_written: u64,
    /// Their bytes, uncompressed.
    pub bytes_raw: u64,
    /// Their bytes as written.
    pub bytes_written: u64,
    /// Bytes that were copied out of packs that had become mostly garbage, or were many and small.
    pub bytes_repacked: u64,
}

/// A chunk's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its name.
    pub id: ChunkId,
    /// The index of its pack in [`Manifest::packs`].
    pub pack: u32,
    /// Where it is in the pack.
    pub frame: Frame,
}

/// A snapshot. Clones share their chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The instance whose state it is.
    pub instance: String,
    /// Its number: 1 more than that of the one before.
    pub sequence: u64,
    /// Why it was written.
    pub cause: Cause,
    /// The versions it rests on.
    pub deps: Vec<Version>,
    /// What it says of the state.
    pub meta: Meta,
    /// Figures.
    pub stats: Stats,
    /// The packs that its chunks are in.
    pub packs: Arc<Vec<Pack>>,
    /// Its chunks, in the order of their ids.
    pub chunks: Arc<Vec<Chunk>>,
    /// Small things under names.
    pub blobs: BTreeMap<String, Bytes>,
}

/// Which chunks two snapshots differ in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// In the second only.
    pub added: Vec<ChunkId>,
    /// In both, with other bytes.
    pub changed: Vec<ChunkId>,
    /// In the first only.
    pub removed: Vec<ChunkId>,
}

impl Manifest {
    /// The place of a chunk.
    pub fn find(&self, id: ChunkId) -> Option<&Chunk> {
        let at = self.chunks.binary_search_by_key(&id, |chunk| chunk.id).ok()?;
        self.chunks.get(at)
    }

    /// The bytes of all its chunks as they lie in packs.
    pub fn bytes_stored(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.frame.stored)).sum()
    }

    /// The chunks that differ from this snapshot to `later`. Bytes are compared as they are stored.
    pub fn diff(&self, later: &Manifest) -> Diff {
        let mut diff = Diff::default();
        let (mut old, mut new) = (self.chunks.iter().peekable(), later.chunks.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(old), Some(new)) => old.id.cmp(&new.id),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return diff,
            };
            let gone = if order.is_le() { old.next() } else { None };
            let come = if order.is_ge() { new.next() } else { None };
            match (gone, come) {
                (Some(gone), Some(come)) if gone.frame.hash != come.frame.hash => diff.changed.push(come.id),
                (Some(gone), None) => diff.removed.push(gone.id),
                (None, Some(come)) => diff.added.push(come.id),
                _ => {}
            }
        }
    }
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    instance: &'a str,
    sequence: u64,
    cause: Cause,
    deps: &'a [Version],
    meta: &'a Meta,
    stats: Stats,
    packs: &'a [Pack],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderIn {
    instance: String,
    sequence: u64,
    cause: Cause,
    deps: Vec<Version>,
    meta: Meta,
    stats: Stats,
    packs: Vec<Pack>,
}

/// Writes a manifest down.
///
/// # Errors
/// [`Error::TooLarge`] when its blobs are.
pub fn encode(manifest: &Manifest) -> Result<Bytes, Error> {
    let blobs: usize = manifest.blobs.values().map(Bytes::len).sum();
    let bytes = (blobs + manifest.meta.note.len()) as u64;
    if bytes > BLOBS_BYTES_MAX {
        return Err(Error::TooLarge { what: "the small parts together".to_string(), bytes, limit: BLOBS_BYTES_MAX });
    }
    let header = HeaderOut {
        instance: &manifest.instance,
        sequence: manifest.sequence,
        cause: manifest.cause,
        deps: &manifest.deps,
        meta: &manifest.meta,
        stats: manifest.stats,
        packs: &manifest.packs,
    };
    // Plain structures with text keys: JSON has a form for all of it.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let section = section(manifest);
    let mut body = Vec::with_capacity(header.len() + section.len() / 2);
    body.put_u32_le(header.len() as u32);
    body.put_u64_le(section.len() as u64);
    body.extend(header);
    let mut compressed = Vec::new();
    super::pack::compress(&mut super::pack::compressor()?, &section, &mut compressed)?;
    body.extend(compressed);
    Ok(seal(MAGIC, FORMAT, &body))
}

fn section(manifest: &Manifest) -> Vec<u8> {
    let mut section = Vec::with_capacity(manifest.chunks.len() * CHUNK_BYTES + 1_024);
    put_bytes(&mut section, &manifest.meta.note);
    section.put_u32_le(manifest.blobs.len() as u32);
    for (name, blob) in &manifest.blobs {
        put_bytes(&mut section, name.as_bytes());
        put_bytes(&mut section, blob);
    }
    section.put_u64_le(manifest.chunks.len() as u64);
    for chunk in manifest.chunks.iter() {
        put_id(&mut section, chunk.id);
        section.put_u32_le(chunk.pack);
        put_frame(&mut section, &chunk.frame);
    }
    section
}

fn put_bytes(section: &mut Vec<u8>, bytes: &[u8]) {
    section.put_u32_le(bytes.len() as u32);
    section.put_slice(bytes);
}

/// Reads a manifest; `name` is for errors.
///
/// # Errors
/// [`Error::Damaged`], naming the manifest and the byte; [`Error::Newer`].
pub fn decode(name: &str, content: &[u8]) -> Result<Manifest, Error> {
    let mut body = open(name, MAGIC, FORMAT, content)?;
    let short = || damaged(name, "it ends within its header");
    let header_bytes = body.try_get_u32_le().map_err(|_| short())? as usize;
    let section_bytes = body.try_get_u64_le().map_err(|_| short())?;
    let (header, compressed) = body.split_at_checked(header_bytes).ok_or_else(short)?;
    let header: HeaderIn =
        serde_json::from_slice(header).map_err(|error| damaged(name, format!("its header, from byte 28: {error}")))?;
    let at = |reason: String| damaged(name, format!("its section, from byte {}, {reason}", 28 + header_bytes));
    if section_bytes > SECTION_BYTES_MAX {
        return Err(at(format!("says that it has {section_bytes} bytes")));
    }
    let section = inflate(compressed, section_bytes).map_err(|error| at(format!("cannot be uncompressed: {error}")))?;
    if section.len() as u64 != section_bytes {
        return Err(at(format!("has {} bytes or more, not {section_bytes}", section.len())));
    }
    let Parts { note, blobs, chunks } = parts(section.into()).ok_or_else(|| at("does not parse".to_string()))?;
    check_chunks(&chunks, &header.packs).map_err(at)?;
    let HeaderIn { instance, sequence, cause, deps, meta, stats, packs } = header;
    let (packs, chunks, meta) = (Arc::new(packs), Arc::new(chunks), Meta { note, ..meta });
    Ok(Manifest { instance, sequence, cause, deps, meta, stats, packs, chunks, blobs })
}

struct Parts {
    note: Bytes,
    blobs: BTreeMap<String, Bytes>,
    chunks: Vec<Chunk>,
}

fn parts(mut section: Bytes) -> Option<Parts> {
    let note = get_bytes(&mut section)?;
    let mut blobs = BTreeMap::new();
    for _ in 0..section.try_get_u32_le().ok()? {
        let name = String::from_utf8(get_bytes(&mut section)?.to_vec()).ok()?;
        blobs.insert(name, get_bytes(&mut section)?);
    }
    let count = section.try_get_u64_le().ok()?;
    if count.checked_mul(CHUNK_BYTES as u64)? != section.len() as u64 {
        return None;
    }
    let mut rest = &section[..];
    let mut chunks = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (id, pack) = (get_id(&mut rest)?, rest.try_get_u32_le().ok()?);
        chunks.push(Chunk { id, pack, frame: get_frame(&mut rest)? });
    }
    Some(Parts { note, blobs, chunks })
}

fn get_bytes(section: &mut Bytes) -> Option<Bytes> {
    let length = section.try_get_u32_le().ok()? as usize;
    if length > section.len() { None } else { Some(section.split_to(length)) }
}

/// Checks that chunks are in order and lie within their packs.
fn check_chunks(chunks: &[Chunk], packs: &[Pack]) -> Result<(), String> {
    if let Some(pair) = chunks.windows(2).find(|pair| pair[0].id >= pair[1].id) {
        return Err(format!("has chunk {} after {}", pair[1].id, pair[0].id));
    }
    let outside = |chunk: &&Chunk| packs.get(chunk.pack as usize).is_none_or(|pack| chunk.frame.end() > pack.bytes);
    match chunks.iter().find(outside) {
        Some(chunk) => Err(format!("has chunk {} outside of its packs", chunk.id)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(chunk: u32, pack: u32, hash: u8) -> Chunk {
        let frame = Frame { offset: 16, stored: 100, raw: 300, hash: [hash; 32] };
        Chunk { id: ChunkId { operator: 7, table: 1, lane: 2, chunk }, pack, frame }
    }

    fn manifest(chunks: Vec<Chunk>) -> Manifest {
        Manifest {
            instance: "x".to_string(),
            sequence: 3,
            cause: Cause::Rollback { to: 1 },
            deps: vec![Version::GENESIS],
            meta: Meta {
                epoch: 9,
                build: "b".to_string(),
                state_hash: Sum(5),
                note: Bytes::from_static(b"note"),
                ..Meta::default()
            },
            stats: Stats { bytes_raw: 4, ..Stats::default() },
            packs: Arc::new(vec![Pack { name: "p".to_string(), bytes: 116 }]),
            chunks: Arc::new(chunks),
            blobs: [("b".to_string(), Bytes::from_static(b"blob")), (String::new(), Bytes::new())].into(),
        }
    }

    fn encoded(chunks: Vec<Chunk>) -> Bytes {
        encode(&manifest(chunks)).expect("small enough")
    }

    #[test]
    fn a_manifest_is_read_as_written() {
        let chunks = vec![chunk(0, 0, 1), chunk(1, 0, 2), chunk(7, 0, 3)];
        let decoded = decode("m", &encoded(chunks.clone())).expect("whole");
        assert_eq!(decoded, manifest(chunks));
        assert_eq!(decoded.find(chunk(7, 0, 0).id).map(|chunk| chunk.frame.hash[0]), Some(3));
        assert_eq!(decoded.find(chunk(6, 0, 0).id), None);
        assert_eq!(decoded.bytes_stored(), 300);
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_found() {
        let content = encoded(vec![chunk(0, 0, 1)]);
        for bit in 0..content.len() * 8 {
            let mut flipped = content.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode("m", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..content.len() {
            assert!(matches!(decode("m", &content[..length]), Err(Error::Damaged { .. })), "{length}");
        }
    }

    #[test]
    fn chunks_out_of_order_or_outside_of_their_packs_are_refused() {
        let far = Chunk { frame: Frame { offset: 17, ..chunk(0, 0, 0).frame }, ..chunk(0, 0, 0) };
        for chunks in [vec![chunk(1, 0, 0), chunk(0, 0, 0)], vec![chunk(0, 0, 0); 2], vec![chunk(0, 1, 0)], vec![far]] {
            let content = encoded(chunks);
            assert!(matches!(decode("m", &content), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn a_wrong_byte_under_a_right_checksum_is_an_error_or_another_value() {
        let manifest = manifest(vec![chunk(0, 0, 1), chunk(1, 0, 2)]);
        let content = encode(&manifest).expect("small enough");
        let body = open("m", MAGIC, FORMAT, &content).expect("whole");
        let section = section(&manifest);
        let header = body[12..12 + u32::from_le_bytes([body[0], body[1], body[2], body[3]]) as usize].to_vec();
        for (at, mask) in (0..body.len()).flat_map(|at| [(at, 1), (at, 0x80), (at, 0xFF)]) {
            let mut body = body.to_vec();
            body[at] ^= mask;
            drop(decode("m", &seal(MAGIC, FORMAT, &body)));
            drop(decode("m", &seal(MAGIC, FORMAT, &body[..at])));
        }
        for (at, mask) in (0..section.len()).flat_map(|at| [(at, 1), (at, 0x80), (at, 0xFF)]) {
            let mut section = section.clone();
            section[at] ^= mask;
            let mut body = (header.len() as u32).to_le_bytes().to_vec();
            body.put_u64_le(section.len() as u64);
            body.extend(&header);
            body.extend(zstd::bulk::compress(&section, 1).expect("compressed"));
            if let Ok(decoded) = decode("m", &seal(MAGIC, FORMAT, &body)) {
                assert_ne!(decoded, manifest, "byte {at}");
            }
        }
    }

    #[test]
    fn blobs_have_a_limit() {
        let mut manifest = manifest(Vec::new());
        manifest.blobs.insert("large".to_string(), Bytes::from(vec![0; BLOBS_BYTES_MAX as usize]));
        assert!(matches!(encode(&manifest), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_diff_names_what_came_changed_and_went() {
        let old = manifest(vec![chunk(0, 0, 1), chunk(1, 0, 1), chunk(2, 0, 1)]);
        let new = manifest(vec![chunk(1, 0, 1), chunk(2, 0, 2), chunk(3, 0, 1)]);
        let ids = |numbers: &[u32]| numbers.iter().map(|number| chunk(*number, 0, 0).id).collect::<Vec<_>>();
        assert_eq!(old.diff(&new), Diff { added: ids(&[3]), changed: ids(&[2]), removed: ids(&[0]) });
        assert_eq!(old.diff(&old), Diff::default());
    }
}

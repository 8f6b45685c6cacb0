//! Packs: chunks of one lane, one compressed frame after another.
//!
//! ```text
//! 0      magic "tmpacks\n", format u16, six zeros
//! 16     frames (zstd), without gaps
//! table  for each frame, 64 bytes: operator u64, table u16, lane u16, chunk u32, offset u64, stored u32, raw u32, blake3
//! end    count u32, offset of the table u64, blake3 of the table and these two: 44 bytes
//! ```
//!
//! Everything is little-endian. A manifest knows where its frames are and what they hash to; the table serves to check a
//! pack by itself, and to tell what is in it when no manifest is left.

use std::io::Read;

use bytes::{Buf, BufMut, Bytes};

use super::frame::{HEAD_BYTES, check_head, damaged, head};
use super::{CHUNK_BYTES_MAX, ChunkId};
use crate::Error;

/// The format that is written, and the newest that is read.
pub const FORMAT: u16 = 1;
const MAGIC: &[u8; 8] = b"tmpacks\n";
const END_BYTES: usize = 44;

/// The bytes of a frame's entry in the table.
pub(super) const ENTRY_BYTES: u64 = 64;
/// The bytes of a pack that belong to no frame.
pub(super) const OVERHEAD_BYTES: u64 = (HEAD_BYTES + END_BYTES) as u64;

/// The level of compression: what a core can keep up with while events flow.
const LEVEL: i32 = 1;

/// A frame's place in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its first byte.
    pub offset: u64,
    /// Its bytes in the pack.
    pub stored: u32,
    /// Its bytes uncompressed.
    pub raw: u32,
    /// The blake3 of its bytes in the pack.
    pub hash: [u8; 32],
}

impl Frame {
    /// The byte after its last.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.stored))
    }
}

/// A pack being written.
#[derive(Debug)]
pub(crate) struct Builder {
    content: Vec<u8>,
    entries: Vec<(ChunkId, Frame)>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder { content: head(MAGIC, FORMAT).to_vec(), entries: Vec::new() }
    }

    /// The bytes of the frames so far.
    pub(crate) fn size(&self) -> usize {
        self.content.len()
    }

    /// Adds a frame that is compressed already.
    pub(crate) fn push(&mut self, id: ChunkId, compressed: &[u8], raw: u32) -> Frame {
        let frame = Frame {
            offset: self.content.len() as u64,
            // A chunk's bytes are limited to far less, and zstd adds a 256th at most.
            stored: u32::try_from(compressed.len()).unwrap_or(u32::MAX),
            raw,
            hash: *blake3::hash(compressed).as_bytes(),
        };
        self.content.extend_from_slice(compressed);
        self.entries.push((id, frame));
        frame
    }

    /// The whole pack.
    pub(crate) fn finish(mut self) -> Bytes {
        let table = self.content.len();
        for (id, frame) in &self.entries {
            put_id(&mut self.content, *id);
            put_frame(&mut self.content, frame);
        }
        self.content.put_u32_le(self.entries.len() as u32);
        self.content.put_u64_le(table as u64);
        let hash = blake3::hash(&self.content[table..]);
        self.content.extend(hash.as_bytes());
        Bytes::from(self.content)
    }
}

pub(super) fn put_id(content: &mut Vec<u8>, id: ChunkId) {
    content.put_u64_le(id.operator);
    content.put_u16_le(id.table);
    content.put_u16_le(id.lane);
    content.put_u32_le(id.chunk);
}

pub(super) fn put_frame(content: &mut Vec<u8>, frame: &Frame) {
    content.put_u64_le(frame.offset);
    content.put_u32_le(frame.stored);
    content.put_u32_le(frame.raw);
    content.put_slice(&frame.hash);
}

/// Reads a chunk's name; none when the bytes end.
pub(super) fn get_id(bytes: &mut &[u8]) -> Option<ChunkId> {
    Some(ChunkId {
        operator: bytes.try_get_u64_le().ok()?,
        table: bytes.try_get_u16_le().ok()?,
        lane: bytes.try_get_u16_le().ok()?,
        chunk: bytes.try_get_u32_le().ok()?,
    })
}

/// Reads a frame's place; none when the bytes end.
pub(super) fn get_frame(bytes: &mut &[u8]) -> Option<Frame> {
    let (offset, stored) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u32_le().ok()?);
    let mut frame = Frame { offset, stored, raw: bytes.try_get_u32_le().ok()?, hash: [0; 32] };
    bytes.try_copy_to_slice(&mut frame.hash).ok()?;
    Some(frame)
}

/// Checks every byte of a pack, and tells what is in it, in the order in which it was written.
///
/// # Errors
/// [`Error::Damaged`], naming the pack and the byte; [`Error::Newer`].
pub fn decode(name: &str, content: &[u8]) -> Result<Vec<(ChunkId, Frame)>, Error> {
    check_head(name, MAGIC, FORMAT, content)?;
    let (table, mut entries) = table(name, content)?;
    let mut found = Vec::new();
    let mut next = HEAD_BYTES as u64;
    while let (Some(id), Some(frame)) = (get_id(&mut entries), get_frame(&mut entries)) {
        if frame.offset != next || frame.end() > table as u64 {
            return Err(damaged(name, format!("its table has chunk {id} at byte {}, not at {next}", frame.offset)));
        }
        next = frame.end();
        verify(name, &frame, &content[frame.offset as usize..frame.end() as usize])?;
        found.push((id, frame));
    }
    if next != table as u64 {
        return Err(damaged(name, format!("its table knows nothing of bytes {next} to {table}")));
    }
    Ok(found)
}

/// Where the table is, and its entries, once its checksum has shown that it is as it was written.
fn table<'a>(name: &str, content: &'a [u8]) -> Result<(usize, &'a [u8]), Error> {
    let wrong = || damaged(name, format!("it does not end with its table, at byte {}", content.len()));
    let end = content.len().checked_sub(END_BYTES).filter(|end| *end >= HEAD_BYTES).ok_or_else(wrong)?;
    let mut tail = &content[end..];
    let count = tail.try_get_u32_le().map_err(|_| wrong())? as usize;
    let table = usize::try_from(tail.try_get_u64_le().map_err(|_| wrong())?).map_err(|_| wrong())?;
    let bytes = count.checked_mul(ENTRY_BYTES as usize).ok_or_else(wrong)?;
    if table < HEAD_BYTES || table.checked_add(bytes) != Some(end) {
        return Err(wrong());
    }
    if blake3::hash(&content[table..end + 12]).as_bytes()[..] != *tail {
        return Err(damaged(name, format!("its bytes {table} to {} fail their checksum", end + 12)));
    }
    Ok((table, &content[table..end]))
}

/// Checks a frame's bytes against its checksum.
pub(super) fn verify(name: &str, frame: &Frame, stored: &[u8]) -> Result<(), Error> {
    if *blake3::hash(stored).as_bytes() == frame.hash {
        return Ok(());
    }
    Err(damaged(name, format!("its bytes {} to {} fail their checksum", frame.offset, frame.end())))
}

/// Compresses the bytes of a chunk into `stored`, whose memory serves again.
pub(super) fn compress(
    compressor: &mut zstd::bulk::Compressor<'_>,
    raw: &[u8],
    stored: &mut Vec<u8>,
) -> Result<(), Error> {
    stored.clear();
    stored.reserve(zstd::zstd_safe::compress_bound(raw.len()));
    compressor.compress_to_buffer(raw, stored).map_err(uncompressed)?;
    Ok(())
}

/// A compressor as packs want it.
pub(super) fn compressor() -> Result<zstd::bulk::Compressor<'static>, Error> {
    zstd::bulk::Compressor::new(LEVEL).map_err(uncompressed)
}

/// Memory that cannot be had is all that can fail here.
fn uncompressed(error: std::io::Error) -> Error {
    damaged("a chunk", format!("it cannot be compressed: {error}"))
}

/// Checks and uncompresses a frame.
///
/// # Errors
/// [`Error::Damaged`], naming the pack and the byte.
pub fn unpack(name: &str, frame: &Frame, stored: &[u8]) -> Result<Bytes, Error> {
    verify(name, frame, stored)?;
    let at = |reason: String| damaged(name, format!("the frame at byte {} {reason}", frame.offset));
    let expected = frame.raw as usize;
    if expected > CHUNK_BYTES_MAX {
        return Err(at(format!("says that it holds {expected} bytes, more than a chunk has")));
    }
    let raw = inflate(stored, expected as u64).map_err(|error| at(format!("cannot be uncompressed: {error}")))?;
    if raw.len() != expected {
        return Err(at(format!("holds {} bytes or more, not {expected}", raw.len())));
    }
    Ok(Bytes::from(raw))
}

/// Uncompresses, but no more than one byte over what is expected; memory grows with what is there, not with what is said.
pub(super) fn inflate(stored: &[u8], expected: u64) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(expected.min(stored.len() as u64 * 8) as usize);
    zstd::stream::read::Decoder::with_buffer(stored)?.take(expected.saturating_add(1)).read_to_end(&mut raw)?;
    Ok(raw)
}

/// A pack as manifests know it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Its name in the store.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack() -> (Bytes, Vec<(ChunkId, Frame)>) {
        let mut builder = Builder::new();
        let (mut compressor, mut stored) = (compressor().expect("a compressor"), Vec::new());
        let frames = (0..3_u32).map(|chunk| {
            let id = ChunkId { operator: 7, table: 1, lane: 2, chunk };
            let raw = vec![chunk as u8; 1_000 * chunk as usize];
            compress(&mut compressor, &raw, &mut stored).expect("compressed");
            (id, builder.push(id, &stored, raw.len() as u32))
        });
        let frames = frames.collect();
        (builder.finish(), frames)
    }

    #[test]
    fn a_pack_is_read_as_written() {
        let (content, frames) = pack();
        assert_eq!(decode("p", &content).expect("whole"), frames);
        for (id, frame) in frames {
            let raw = unpack("p", &frame, &content[frame.offset as usize..frame.end() as usize]).expect("whole");
            assert_eq!(raw, vec![id.chunk as u8; 1_000 * id.chunk as usize]);
        }
        assert_eq!(decode("p", &Builder::new().finish()).expect("whole"), []);
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_found() {
        let (content, _) = pack();
        for bit in 0..content.len() * 8 {
            let mut flipped = content.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode("p", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..content.len() {
            assert!(matches!(decode("p", &content[..length]), Err(Error::Damaged { .. })), "{length}");
        }
    }

    #[test]
    fn a_wrong_byte_under_a_right_checksum_is_an_error_or_another_value() {
        let (content, frames) = pack();
        let end = content.len() - 32;
        let table = end - 12 - 3 * ENTRY_BYTES as usize;
        for (at, mask) in (table..end).flat_map(|at| [(at, 1), (at, 0x80), (at, 0xFF)]) {
            let mut wrong = content.to_vec();
            wrong[at] ^= mask;
            let hash = blake3::hash(&wrong[table..end]);
            wrong[end..].copy_from_slice(hash.as_bytes());
            if let Ok(decoded) = decode("p", &wrong) {
                assert_ne!(decoded, frames, "byte {at}");
            }
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_size_is_refused() {
        let (content, frames) = pack();
        let (_, frame) = frames[2];
        let stored = &content[frame.offset as usize..frame.end() as usize];
        for raw in [0, 1_999, 2_001, u32::MAX] {
            let lie = Frame { raw, ..frame };
            assert!(matches!(unpack("p", &lie, stored), Err(Error::Damaged { .. })), "{raw}");
        }
    }
}

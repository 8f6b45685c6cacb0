//! The form of a table's objects: a header, and a body that is compressed.
//!
//! | bytes | |
//! |---|---|
//! | 4 | `TMTL`, a record of the log, or `TMTB`, a compacted one |
//! | 2 | format |
//! | 2 | zero |
//! | 8 | size of the body, unpacked |
//! | 32 | blake3 of the 16 bytes above and of the body as it stands here |
//! | ... | the body, a zstd frame: a JSON head (4 bytes of size before it), then rows in their canonical bytes |
//!
//! Numbers are little-endian.

use std::io::Read as _;

use super::checkpoint::Edit;
use super::schema::{Key, Row};
use super::value::{take, take_sized};
use crate::Error;

/// The format of a table's objects, and of what they hold.
pub(crate) const FORMAT: u16 = 1;

const HEADER_BYTES: usize = 16 + 32;
const BODY_BYTES_MAX: u64 = 4 << 30;
const LEVEL: i32 = 1;

/// Packs a body.
pub(crate) fn pack(magic: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() / 2);
    bytes.extend(magic);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend((body.len() as u64).to_le_bytes());
    // Memory to memory, the packer has nothing that could fail but its level, which is a constant.
    let packed = zstd::bulk::compress(body, LEVEL).expect("bodies are packed at a level there is");
    let digest = digest_of(&bytes, &packed);
    bytes.extend(digest);
    bytes.extend(packed);
    bytes
}

fn digest_of(header: &[u8], packed: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(packed);
    *hasher.finalize().as_bytes()
}

/// Unpacks a body; `name` is the object's, for errors.
///
/// # Errors
/// [`Error::Damaged`] or [`Error::Newer`].
pub(crate) fn unpack(name: &str, magic: [u8; 4], bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let damaged = |reason: String| Error::Damaged { name: name.to_string(), reason };
    let Some((header, packed)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(damaged(format!("its {} bytes are no header", bytes.len())));
    };
    if header[..4] != magic {
        return Err(damaged(format!("it does not begin with {}", magic.escape_ascii())));
    }
    let format = u16::from_le_bytes([header[4], header[5]]);
    if format > FORMAT {
        return Err(Error::Newer { name: name.to_string(), format, known: FORMAT });
    }
    if digest_of(&header[..16], packed) != header[16..] {
        return Err(damaged(format!("its {} bytes do not have the blake3 that byte 16 says", bytes.len())));
    }
    if format != FORMAT {
        return Err(damaged(format!("there is no format {format}")));
    }
    let mut size = &header[8..16];
    let size = take(&mut size).map_or(0, u64::from_le_bytes);
    if size > BODY_BYTES_MAX {
        return Err(damaged(format!("its body has {size} bytes, more than {BODY_BYTES_MAX}")));
    }
    let mut body = Vec::new();
    let unpacked = zstd::stream::Decoder::new(packed).and_then(|decoder| decoder.take(size + 1).read_to_end(&mut body));
    match unpacked {
        Ok(read) if read as u64 == size => Ok(body),
        Ok(_) => Err(damaged(format!("its body does not have {size} bytes"))),
        Err(error) => Err(damaged(format!("its body cannot be unpacked: {error}"))),
    }
}

pub(crate) fn write_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

pub(crate) fn write_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u64).to_le_bytes());
}

/// Reads how many items follow, of at least `least` bytes each.
pub(crate) fn read_count(bytes: &mut &[u8], least: usize) -> Option<usize> {
    let count = usize::try_from(u64::from_le_bytes(take(bytes)?)).ok()?;
    (count <= bytes.len() / least).then_some(count)
}

pub(crate) fn write_row(out: &mut Vec<u8>, row: &Row) {
    out.extend((row.key_bytes().len() as u32).to_le_bytes());
    write_sized(out, row.bytes());
}

pub(crate) fn read_row(bytes: &mut &[u8]) -> Option<Row> {
    let key_bytes = u32::from_le_bytes(take(bytes)?) as usize;
    let row = take_sized(bytes)?;
    if key_bytes > row.len() {
        return None;
    }
    Row::checked(row.to_vec(), key_bytes).ok()
}

mod flag {
    pub const BEFORE: u8 = 1;
    pub const AFTER: u8 = 2;
    /// The row after is the row before.
    pub const SAME: u8 = 4;
}

pub(crate) fn write_edit(out: &mut Vec<u8>, edit: &Edit) {
    let same = edit.before.is_some() && edit.before == edit.after;
    let before = if edit.before.is_some() { flag::BEFORE } else { 0 };
    let after = if same {
        flag::SAME
    } else if edit.after.is_some() {
        flag::AFTER
    } else {
        0
    };
    out.push(before | after);
    if let Some(row) = &edit.before {
        write_row(out, row);
    }
    if let Some(row) = edit.after.as_ref().filter(|_| !same) {
        write_row(out, row);
    }
    if edit.before.is_none() && edit.after.is_none() {
        write_sized(out, edit.key.bytes());
    }
}

pub(crate) fn read_edit(bytes: &mut &[u8]) -> Option<Edit> {
    let [flags] = take(bytes)?;
    let before = if flags & flag::BEFORE != 0 { Some(read_row(bytes)?) } else { None };
    let after = match flags & !flag::BEFORE {
        0 => None,
        flag::AFTER => Some(read_row(bytes)?),
        flag::SAME => Some(before.clone()?),
        _ => return None,
    };
    let key = match (&before, &after) {
        (Some(before), Some(after)) if before.key_bytes() != after.key_bytes() => return None,
        (Some(row), _) | (None, Some(row)) => row.key(),
        (None, None) => Key::from_bytes(take_sized(bytes)?),
    };
    Some(Edit { key, before, after })
}

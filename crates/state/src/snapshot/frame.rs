//! The frame of small objects: magic word, format, body, and a checksum over all of it.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Bytes before the body: magic word, format, six zeros.
pub(crate) const HEAD_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// The error for bytes that are not what they should be.
pub(crate) fn damaged(name: &str, reason: impl Into<String>) -> Error {
    Error::Damaged { name: name.to_string(), reason: reason.into() }
}

/// What an object starts with.
pub(crate) fn head(magic: &[u8; 8], format: u16) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(magic);
    head[8..10].copy_from_slice(&format.to_le_bytes());
    head
}

/// Checks what an object starts with.
pub(crate) fn check_head(name: &str, magic: &[u8; 8], known: u16, content: &[u8]) -> Result<(), Error> {
    if content.len() < HEAD_BYTES {
        return Err(damaged(name, format!("it ends at byte {}, within its head", content.len())));
    }
    if content[..8] != *magic {
        return Err(damaged(name, "it does not begin with its magic word, at byte 0"));
    }
    match u16::from_le_bytes([content[8], content[9]]) {
        0 => Err(damaged(name, "its format is 0, at byte 8")),
        format if format > known => Err(Error::Newer { name: name.to_string(), format, known }),
        _ if content[10..HEAD_BYTES] != [0; 6] => Err(damaged(name, "its head is not zero from byte 10")),
        _ => Ok(()),
    }
}

/// Puts a body into its frame.
pub(crate) fn seal(magic: &[u8; 8], format: u16, body: &[u8]) -> Bytes {
    let mut content = Vec::with_capacity(HEAD_BYTES + body.len() + HASH_BYTES);
    content.extend(head(magic, format));
    content.extend(body);
    let hash = blake3::hash(&content);
    content.extend(hash.as_bytes());
    Bytes::from(content)
}

/// Takes a body out of its frame.
pub(crate) fn open<'a>(name: &str, magic: &[u8; 8], known: u16, content: &'a [u8]) -> Result<&'a [u8], Error> {
    check_head(name, magic, known, content)?;
    let Some(end) = content.len().checked_sub(HASH_BYTES).filter(|end| *end >= HEAD_BYTES) else {
        return Err(damaged(name, format!("it ends at byte {}, before its checksum", content.len())));
    };
    if blake3::hash(&content[..end]).as_bytes()[..] != content[end..] {
        return Err(damaged(name, format!("its bytes 0 to {end} fail their checksum")));
    }
    Ok(&content[HEAD_BYTES..end])
}

/// A small record as JSON in a frame.
pub(crate) fn seal_record(magic: &[u8; 8], format: u16, record: &impl Serialize) -> Bytes {
    // Records are plain structures with text keys, which JSON always has a form for.
    let body = serde_json::to_vec(record).unwrap_or_default();
    seal(magic, format, &body)
}

/// Reads what [`seal_record`] wrote.
pub(crate) fn open_record<T: DeserializeOwned>(
    name: &str,
    magic: &[u8; 8],
    known: u16,
    content: &[u8],
) -> Result<T, Error> {
    let body = open(name, magic, known, content)?;
    serde_json::from_slice(body).map_err(|error| damaged(name, format!("from byte {HEAD_BYTES}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8; 8] = b"tmtests\n";

    #[test]
    fn each_flipped_bit_and_each_cut_is_found() {
        let sealed = seal(MAGIC, 3, b"body");
        assert_eq!(open("x", MAGIC, 3, &sealed).expect("whole"), b"body");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open("x", MAGIC, 3, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(matches!(open("x", MAGIC, 3, &sealed[..length]), Err(Error::Damaged { .. })), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let error = open("x", MAGIC, 2, &seal(MAGIC, 3, b"")).expect_err("newer");
        assert!(matches!(error, Error::Newer { format: 3, known: 2, .. }), "{error}");
    }
}

//! Inputs of several parts: for each 2 bytes with its length, and its bytes.

/// The parts of an input; the last may be shorter than it says.
pub fn split(mut input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (part, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        parts.push(part);
        input = rest;
    }
    parts
}

/// An input of these parts, each of at most 64 KiB.
pub fn join<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    let part = |part: &T| [&(part.as_ref().len() as u16).to_le_bytes()[..], part.as_ref()].concat();
    parts.iter().flat_map(part).collect()
}

/// The bytes without the zeros at their end.
pub fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// The bytes with zeros up to a whole number of pages.
pub fn paged(bytes: &[u8]) -> Vec<u8> {
    let mut paged = bytes.to_vec();
    paged.resize(bytes.len().next_multiple_of(4_096).max(4_096), 0);
    paged
}

/// The word of 8 bytes at a place; zero beyond the end.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

/// Puts a word at a place, when there is one.
pub fn put_word(bytes: &mut [u8], at: usize, word: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = word.to_le_bytes();
    }
}

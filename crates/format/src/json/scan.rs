//! Words of bytes: loads that may reach past the end, and the search for a string's end, eight bytes at a time.

/// The sixteen bytes at `at`; zeros stand where `bytes` has ended.
#[inline(always)]
pub(crate) fn word16(bytes: &[u8], at: usize) -> [u8; 16] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        Some(word) => *word,
        None => word16_at_end(bytes, at),
    }
}

#[cold]
fn word16_at_end(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut word = [0; 16];
    let rest = bytes.get(at..).unwrap_or_default();
    word[..rest.len()].copy_from_slice(rest);
    word
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// A word whose lowest set bit is in the first byte that is a quote, a backslash or a control character.
///
/// Subtracting borrows only out of a byte that has been found already, so the lowest bit is exact.
#[inline(always)]
fn stops(word: u64) -> u64 {
    let quotes = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let escapes = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let controls = word.wrapping_sub(ONES * 0x20);
    (quotes | escapes | controls) & !word & (ONES << 7)
}

/// The index of the first quote, backslash or control character from `at` on, or the length of `bytes`.
#[inline(always)]
pub(crate) fn string_stop(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(words) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let words = u128::from_le_bytes(*words);
        let low = stops(words as u64);
        if low != 0 {
            return at + (low.trailing_zeros() >> 3) as usize;
        }
        let high = stops((words >> 64) as u64);
        if high != 0 {
            return at + 8 + (high.trailing_zeros() >> 3) as usize;
        }
        at += 16;
    }
    string_stop_at_end(bytes, at)
}

#[cold]
fn string_stop_at_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let stop = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
    stop.map_or(bytes.len(), |stop| at + stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_stop_wherever_it_is() {
        for length in 0..40 {
            for stop in 0..length {
                for byte in [b'"', b'\\', 0, 0x1F, b'\n'] {
                    let mut bytes = vec![b'!'; length];
                    bytes[stop] = byte;
                    assert_eq!(string_stop(&bytes, 0), stop);
                    assert_eq!(string_stop(&bytes, stop), stop);
                }
            }
        }
    }

    #[test]
    fn passes_over_every_other_byte() {
        for byte in (0x20..=0xFF).filter(|byte| !matches!(byte, b'"' | b'\\')) {
            let mut bytes = vec![byte; 32];
            bytes[17] = b'"';
            assert_eq!(string_stop(&bytes, 0), 17, "byte {byte:#x}");
        }
    }

    #[test]
    fn loads_zeros_past_the_end() {
        assert_eq!(word16(b"abc", 1)[..3], *b"bc\0");
        assert_eq!(word16(b"abc", 9), [0; 16]);
    }
}

//! Words of bytes: loads that may reach past the end, and the search for a string's end, words at a time.

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

/// [`stops`] of sixteen bytes, the first byte lowest.
#[inline(always)]
fn stops16(word: u128) -> u128 {
    u128::from(stops(word as u64)) | u128::from(stops((word >> 64) as u64)) << 64
}

/// The index of the first quote, backslash or control character from `at` on, or the length of `bytes`.
///
/// 32 bytes a step and one branch a step: strings of about the same length then take the same way, which is what the
/// branch predictor needs.
#[inline(always)]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some((low, high)) = bytes.get(at..).and_then(two_words) {
        let (low, high) = (stops16(low), stops16(high));
        if low | high != 0 {
            let (stops, base) = if low != 0 { (low, 0) } else { (high, 16) };
            return at + base + (stops.trailing_zeros() >> 3) as usize;
        }
        at += 32;
    }
    string_stop_at_end(bytes, at)
}

#[inline(always)]
fn two_words(bytes: &[u8]) -> Option<(u128, u128)> {
    let (low, rest) = bytes.split_first_chunk::<16>()?;
    Some((u128::from_le_bytes(*low), u128::from_le_bytes(*rest.first_chunk::<16>()?)))
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
        for length in 0..70 {
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
            let mut bytes = vec![byte; 80];
            bytes[49] = b'"';
            assert_eq!(string_stop(&bytes, 0), 49, "byte {byte:#x}");
        }
    }

    #[test]
    fn loads_zeros_past_the_end() {
        assert_eq!(word16(b"abc", 1)[..3], *b"bc\0");
        assert_eq!(word16(b"abc", 9), [0; 16]);
    }
}

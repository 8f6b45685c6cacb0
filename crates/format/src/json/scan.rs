//! Words of bytes: loads that may reach past the end, and the search for a string's end, 32 bytes at a time.

use wide::u8x32;

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

/// A word whose bit `i` says that byte `i` is a quote, a backslash or a control character.
#[inline(always)]
fn stops(bytes: [u8; 32]) -> u32 {
    let bytes = u8x32::new(bytes);
    let controls = bytes.min(u8x32::splat(0x1F)).simd_eq(bytes);
    (bytes.simd_eq(u8x32::splat(b'"')) | bytes.simd_eq(u8x32::splat(b'\\')) | controls).to_bitmask()
}

/// The index of the first quote, backslash or control character from `at` on, or the length of `bytes`.
///
/// 32 bytes a step and one branch a step: strings of about the same length then take the same way, which is what the
/// branch predictor needs.
#[inline(always)]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some(bytes_here) = bytes.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
        let stops = stops(*bytes_here);
        if stops != 0 {
            return at + stops.trailing_zeros() as usize;
        }
        at += 32;
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

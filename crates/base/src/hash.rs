//! The stable hash: what places a key on a shard, today and in every later version.
//!
//! A folded 64 x 64 -> 128-bit multiply over 8-byte little-endian words, as in wyhash (Wang Yi, public domain), with our
//! own constants and finish. It may never change: stored state and running clusters agree by it. [`FORMAT`] names it
//! where it is written down. It resists chance, not an adversary.

/// The version of the hash, written beside whatever was placed by it.
pub const FORMAT: u16 = 1;

/// The number of virtual shards that keys are spread over.
pub const SHARDS: u64 = 256;

const SEED: u64 = 0x7469_6465_6D69_6C6C;
const STEP: u64 = 0xA076_1D64_78BD_642F;
const LAST: u64 = 0xE703_7ED1_A0B4_28DB;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Hashes one 64-bit word; equal to [`bytes`] of its eight little-endian bytes.
#[inline]
pub fn word(value: u64) -> u64 {
    finish(fold(SEED ^ value, STEP), 8)
}

/// Hashes two 64-bit words; equal to [`bytes`] of their sixteen little-endian bytes.
#[inline]
pub fn words(low: u64, high: u64) -> u64 {
    finish(fold(fold(SEED ^ low, STEP) ^ high, STEP), 16)
}

/// Hashes bytes.
#[inline]
pub fn bytes(value: &[u8]) -> u64 {
    let mut state = SEED;
    let (words, rest) = value.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), STEP);
    }
    if !rest.is_empty() {
        state = fold(state ^ tail(value, rest), STEP);
    }
    finish(state, value.len() as u64)
}

/// The last bytes of a value, one to seven, as a little-endian word: read with bytes before them, or twice, which is faster
/// than copying so few.
#[inline]
fn tail(value: &[u8], rest: &[u8]) -> u64 {
    if let Some(last) = value.last_chunk::<8>() {
        return u64::from_le_bytes(*last) >> (64 - 8 * rest.len());
    }
    if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (rest.len() - 4));
    }
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[inline]
fn finish(state: u64, length: u64) -> u64 {
    fold(state ^ LAST, length ^ STEP)
}

/// The shard of a hash, `0..SHARDS`: its top bits.
#[inline]
pub fn shard(hash: u64) -> u64 {
    hash >> (64 - SHARDS.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_bytes() {
        for value in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            assert_eq!(word(value), bytes(&value.to_le_bytes()));
            let mut both = value.to_le_bytes().to_vec();
            both.extend(7_u64.to_le_bytes());
            assert_eq!(words(value, 7), bytes(&both));
        }
    }

    #[test]
    fn the_last_bytes_count_as_if_zeros_followed() {
        let value: Vec<u8> = (1..=23).map(|byte| byte * 11).collect();
        for length in 0..=value.len() {
            let mut state = SEED;
            for part in value[..length].chunks(8) {
                let mut word = [0; 8];
                word[..part.len()].copy_from_slice(part);
                state = fold(state ^ u64::from_le_bytes(word), STEP);
            }
            assert_eq!(bytes(&value[..length]), finish(state, length as u64), "{length} bytes");
        }
    }

    #[test]
    fn never_changes() {
        assert_eq!([bytes(b""), bytes(b"a"), bytes(b"tidemill!")], GOLDEN);
    }

    const GOLDEN: [u64; 3] = [16_001_459_005_076_733_428, 10_326_381_749_528_548_737, 17_071_251_717_488_361_521];

    #[test]
    fn dense_integers_spread_over_shards() {
        let mut counts = [0_u32; SHARDS as usize];
        for value in 0..256_000_u64 {
            counts[shard(word(value)) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }
}

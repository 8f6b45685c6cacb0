//! Digests of rows, and sums of them.
//!
//! The one idea: the digest of a set of rows is the *sum* of its rows' digests modulo 2^128. So a row put in or taken out
//! costs one addition, the order does not matter, and disjoint changes of one base can be added up. An entry's digest is
//! xxh3-128, seeded with the format, over the row's canonical bytes.
//!
//! It finds bugs, rot and nondeterminism. It does not resist an adversary: what is stored carries a blake3 besides.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_128;

/// The version of the digests, written beside whatever holds them. They never change within a format.
pub const FORMAT: u16 = 1;

const ENTRY_SEED: u64 = 0x7469_6465_2D65_6E01;
const NODE_SEED: u64 = 0x7469_6465_2D6E_6401;
const DOMAIN_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A digest, or a sum of digests, modulo 2^128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sum(pub u128);

/// The digest of an entry, given its canonical bytes.
#[inline]
pub fn entry(row: &[u8]) -> Sum {
    Sum(XxHash3_128::oneshot_with_seed(ENTRY_SEED, row))
}

/// The digest of an entry of one of several tables whose sums are added up; `domain` names the table by its content.
/// Domain 0 gives [`entry`].
#[inline]
pub fn entry_of(domain: u64, row: &[u8]) -> Sum {
    Sum(XxHash3_128::oneshot_with_seed(ENTRY_SEED ^ domain.wrapping_mul(DOMAIN_STEP), row))
}

/// The digest of an inner node of a trie, given its children's; nothing below is zero, as a sum of no rows is.
pub(crate) fn node(height: u32, children: [u128; 4]) -> u128 {
    if children == [0; 4] {
        return 0;
    }
    let mut bytes = [0; 64];
    for (at, child) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(children) {
        *at = child.to_le_bytes();
    }
    XxHash3_128::oneshot_with_seed(NODE_SEED.wrapping_add(u64::from(height) << 8), &bytes)
}

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// The sum of this digest `weight` times; a negative weight takes away.
    #[inline]
    pub fn times(self, weight: i64) -> Sum {
        Sum(self.0.wrapping_mul(i128::from(weight) as u128))
    }
}

impl Add for Sum {
    type Output = Sum;

    #[inline]
    fn add(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_add(other.0))
    }
}

impl Sub for Sum {
    type Output = Sum;

    #[inline]
    fn sub(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_sub(other.0))
    }
}

impl AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Sum) {
        *self = *self + other;
    }
}

impl SubAssign for Sum {
    #[inline]
    fn sub_assign(&mut self, other: Sum) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(digests: I) -> Sum {
        digests.fold(Sum::ZERO, Add::add)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sum({self})")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 hexadecimal digits in lower case")]
pub struct NoDigest;

impl FromStr for Sum {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return Err(NoDigest);
        }
        u128::from_str_radix(text, 16).map(Sum).map_err(|_| NoDigest)
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_changes() {
        let long: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let digests = [entry(b""), entry(b"a"), entry(b"tidemill!"), entry(&long), entry_of(7, b"a")];
        assert_eq!(format!("{:032x}", node(1, [1, 2, 3, 4])), GOLDEN_NODE);
        assert_eq!(digests.map(|digest| digest.to_string()), GOLDEN);
    }

    const GOLDEN: [&str; 5] = [
        "3b9fd9cb3db8160822c802ddc75adea6",
        "2e0d6b9bcf57b74c25ae4bb4771a1b68",
        "0248ca644ef5692ee0ef93adbf91fbe1",
        "50f4b925c328b900224b6a789c531b17",
        "f9c537518ec50251816b4eba58fe3ecd",
    ];
    const GOLDEN_NODE: &str = "cbb4c1640b9be6d57d6e7c0c7f0b954f";

    #[test]
    fn sums_forget_their_order_and_what_was_taken_out() {
        let [a, b, c] = [entry(b"a"), entry(b"b"), entry(b"c")];
        assert_eq!(a + b + c, c + a + b);
        assert_eq!(a + b - a, b);
        assert_eq!([a, b, c].into_iter().sum::<Sum>(), a + b + c);
        assert_eq!(a.times(3), a + a + a);
        assert_eq!(a.times(-2), Sum::ZERO - a - a);
        assert_eq!(a.times(0), Sum::ZERO);
        assert_ne!(entry_of(1, b"a"), a);
        assert_eq!(entry_of(0, b"a"), a);
    }

    #[test]
    fn hexadecimal_is_read_as_written() {
        for sum in [Sum::ZERO, Sum(1), Sum(u128::MAX), entry(b"a")] {
            assert_eq!(sum.to_string().parse(), Ok(sum));
            let json = serde_json::to_string(&sum).expect("text");
            assert_eq!(serde_json::from_str::<Sum>(&json).expect("a digest"), sum);
        }
        let upper = "A".repeat(32);
        for text in ["", "0", "+0000000000000000000000000000000", upper.as_str()] {
            assert_eq!(text.parse::<Sum>(), Err(NoDigest), "{text}");
        }
    }
}

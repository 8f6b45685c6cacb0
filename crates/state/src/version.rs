//! Versions: the unique logical time of a change of state.
//!
//! A [`Version`] is a Lamport time and the [`Replica`] that counted it. A replica is one start of one node: the
//! incarnation is bumped and made durable at each start, so no version is ever given twice. Versions are ordered by
//! time, then by replica; that order agrees with "rests on", since a change is later than all it rests on.
//!
//! As text a version is `LAMPORT-NODE-INCARNATION`, such as `17-3-42`: fit for a URL and for a command line, where
//! [`Range`] writes two of them as `17-3-42..18-3-42`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// The bits of a replica that count its starts.
const INCARNATION_BITS: u32 = 24;

/// One start of one node: `node << 24 | incarnation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Replica(u64);

impl Replica {
    /// The largest number of a node.
    pub const NODE_MAX: u64 = u64::MAX >> INCARNATION_BITS;
    /// The largest count of starts.
    pub const INCARNATION_MAX: u64 = (1 << INCARNATION_BITS) - 1;

    /// The replica that is start `incarnation` of `node`; none when one of them is too large.
    pub fn new(node: u64, incarnation: u64) -> Option<Self> {
        let fits = node <= Self::NODE_MAX && incarnation <= Self::INCARNATION_MAX;
        fits.then_some(Replica(node << INCARNATION_BITS | incarnation))
    }

    /// The replica that [`Replica::bits`] wrote.
    pub fn from_bits(bits: u64) -> Self {
        Replica(bits)
    }

    /// `node << 24 | incarnation`.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The node.
    pub fn node(self) -> u64 {
        self.0 >> INCARNATION_BITS
    }

    /// Which start of the node.
    pub fn incarnation(self) -> u64 {
        self.0 & Self::INCARNATION_MAX
    }
}

/// When a change was made, in the order of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Later than that of everything the change rests on.
    pub lamport: u64,
    /// Who counted.
    pub replica: Replica,
}

impl Version {
    /// Before every change: the version of what is empty.
    pub const GENESIS: Version = Version { lamport: 0, replica: Replica(0) };

    /// A version.
    pub fn new(lamport: u64, replica: Replica) -> Self {
        Version { lamport, replica }
    }

    /// Its sixteen bytes, little-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.replica.0) << 64 | u128::from(self.lamport)).to_le_bytes()
    }

    /// The version of [`Version::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Version { lamport: both as u64, replica: Replica((both >> 64) as u64) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.lamport, self.replica.node(), self.replica.incarnation())
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::BadVersion { text: text.to_string() })
    }
}

fn parse(text: &str) -> Option<Version> {
    let mut numbers = text.split('-').map(number);
    let (lamport, node, incarnation) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if numbers.next().is_some() {
        return None;
    }
    Some(Version { lamport, replica: Replica::new(node, incarnation)? })
}

/// A number in its one spelling, so that equal versions are equal texts.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is no version")))
    }
}

/// Two versions to be compared, `A..B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub from: Version,
    /// The second.
    pub to: Version,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once("..") {
            Some((from, to)) => Ok(Range { from: from.parse()?, to: to.parse()? }),
            None => Err(Error::BadVersion { text: text.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(lamport: u64, node: u64, incarnation: u64) -> Version {
        Version::new(lamport, Replica::new(node, incarnation).expect("small numbers"))
    }

    #[test]
    fn a_version_is_its_text() {
        let check = |version: Version, text: &str| {
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse::<Version>().expect("a version"), version);
            assert_eq!(Version::from_bytes(version.to_bytes()), version);
        };
        check(Version::GENESIS, "0-0-0");
        check(version(17, 3, 42), "17-3-42");
        check(
            version(u64::MAX, Replica::NODE_MAX, Replica::INCARNATION_MAX),
            "18446744073709551615-1099511627775-16777215",
        );
    }

    #[test]
    fn other_texts_are_refused() {
        let more = "1-1099511627776-1";
        for text in ["", "1", "1-2", "1-2-3-4", "a-1-1", "01-1-1", "+1-1-1", "1--1", " 1-1-1", "1-1-16777216", more] {
            assert!(matches!(text.parse::<Version>(), Err(Error::BadVersion { .. })), "{text}");
        }
        for text in ["1-1-1", "1-1-1..", "1-1-1...2-1-1", "..1-1-1"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn time_orders_before_replica() {
        assert!(version(1, 9, 9) < version(2, 0, 1));
        assert!(version(2, 1, 9) < version(2, 2, 0));
        assert!(version(2, 2, 0) < version(2, 2, 1));
    }

    #[test]
    fn json_has_the_text() {
        let json = serde_json::to_string(&version(17, 3, 42)).expect("text");
        assert_eq!(json, "\"17-3-42\"");
        assert_eq!(serde_json::from_str::<Version>(&json).expect("a version"), version(17, 3, 42));
        assert!(serde_json::from_str::<Version>("\"17\"").is_err());
    }

    #[test]
    fn a_range_is_two_versions() {
        let range: Range = "17-3-42..18-3-42".parse().expect("a range");
        assert_eq!((range.from, range.to), (version(17, 3, 42), version(18, 3, 42)));
        assert_eq!(range.to_string(), "17-3-42..18-3-42");
    }
}

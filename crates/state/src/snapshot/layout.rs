//! Names of an instance's objects in a store.

use crate::version::Version;

/// The folder of all instances.
pub const INSTANCES: &str = "instances";

/// A folder of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// Manifests.
    Snapshots,
    /// Packs.
    Packs,
    /// Boundaries of what was collected.
    Boundaries,
    /// Snapshots that are kept under a name.
    Savepoints,
    /// Snapshots that are being rolled back to.
    Holds,
}

impl Folder {
    fn part(self) -> &'static str {
        match self {
            Folder::Snapshots => "snapshots",
            Folder::Packs => "packs",
            Folder::Boundaries => "boundaries",
            Folder::Savepoints => "savepoints",
            Folder::Holds => "holds",
        }
    }

    /// The folder's name in the store.
    pub fn of(self, instance: &str) -> String {
        format!("{INSTANCES}/{instance}/{}", self.part())
    }
}

/// The manifest of a snapshot.
pub fn manifest(instance: &str, sequence: u64) -> String {
    format!("{}/{sequence:020}", Folder::Snapshots.of(instance))
}

/// A pack: what it was written for, and the checksum of its content, so that a name has one content only.
pub fn pack(instance: &str, sequence: u64, lane: u16, content: &[u8]) -> String {
    let hash = &blake3::hash(content).to_hex()[..32];
    format!("{}/{sequence:020}-{lane:05}-{hash}", Folder::Packs.of(instance))
}

/// A boundary.
pub fn boundary(instance: &str, number: u64) -> String {
    format!("{}/{number:020}", Folder::Boundaries.of(instance))
}

/// A savepoint.
pub fn savepoint(instance: &str, name: &str) -> String {
    format!("{}/{name}", Folder::Savepoints.of(instance))
}

/// What holds a snapshot until snapshot `until` is decided.
pub fn hold(instance: &str, until: u64, version: Version) -> String {
    format!("{}/{until:020}-{version}", Folder::Holds.of(instance))
}

/// The last part of a name.
pub fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The number that the last part of a name begins with.
pub fn number(name: &str) -> Option<u64> {
    let digits = last_part(name).get(..20)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check_name;

    #[test]
    fn names_are_sorted_by_number_and_tell_it() {
        let pack = pack("x", 10, 3, b"content");
        let names =
            [manifest("x", 9), manifest("x", 10), boundary("x", u64::MAX), hold("x", 7, Version::GENESIS), pack];
        assert!(names[0] < names[1]);
        assert_eq!(names.each_ref().map(|name| number(name)), [Some(9), Some(10), Some(u64::MAX), Some(7), Some(10)]);
        assert!(names.iter().all(|name| check_name(name).is_ok()), "{names:?}");
        assert_eq!(number("instances/x/snapshots/9"), None);
        assert_eq!(number("instances/x/snapshots/+0000000000000000009"), None);
    }
}

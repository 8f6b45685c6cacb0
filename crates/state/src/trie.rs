//! The hash trie: one root for a set of rows, that tells quickly whether and where two sets differ.
//!
//! A row's key hashes to 64 bits ([`tidemill_base::hash`]); the top bits choose one of 2^L *buckets*, and the topmost of
//! them are the key's shard. A bucket holds the sum of its rows' digests ([`Sum`]), so putting a row in or taking it out
//! is one addition, and a bit that marks the bucket dirty. Above the buckets stands a tree of arity 4; its nodes are
//! hashed again along the dirty paths only, when the root is asked for.
//!
//! The trie keeps no rows. Tries of disjoint rows (each lane has its own) add up to the trie of all of them, so the root
//! does not depend on how rows were spread.

use tidemill_base::hash;

use crate::Error;
use crate::digest::{self, Sum};

/// The version of a trie's encoding.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 4] = *b"TMHT";
const HEADER_BYTES: usize = 4 + 2 + 2 + 2 + 2 + 4;
const BUCKET_BYTES: usize = 4 + 16;

/// How many buckets a trie has: 2^12, 2^14, 2^16 or 2^18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Depth(u32);

impl Depth {
    /// 4,096 buckets.
    pub const SMALL: Depth = Depth(12);
    /// 65,536 buckets.
    pub const MIDDLE: Depth = Depth(16);
    /// 262,144 buckets.
    pub const LARGE: Depth = Depth(18);

    /// A depth of `bits`: 12, 14, 16 or 18.
    pub fn new(bits: u32) -> Option<Depth> {
        matches!(bits, 12 | 14 | 16 | 18).then_some(Depth(bits))
    }

    /// The bits of a key's hash that choose its bucket.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The number of buckets.
    pub fn buckets(self) -> usize {
        1 << self.0
    }

    /// The bucket of a key's hash.
    #[inline]
    pub fn bucket(self, hash: u64) -> usize {
        (hash >> (64 - self.0)) as usize
    }

    /// The shard that a bucket belongs to.
    pub fn shard(self, bucket: usize) -> u64 {
        (bucket as u64) >> (self.0 - hash::SHARDS.trailing_zeros())
    }

    /// Where the buckets begin among the nodes: after all inner ones.
    fn first_bucket(self) -> usize {
        (self.buckets() - 1) / 3
    }
}

/// Sums of digests by bucket, and the tree above them.
#[derive(Debug, Clone)]
pub struct Trie {
    depth: Depth,
    /// The root, then each level from left to right; the children of node `n` are `4n + 1 .. 4n + 5`.
    nodes: Vec<u128>,
    /// A bit for each bucket that changed since the tree above it was hashed.
    dirty: Vec<u64>,
    /// The buckets whose bit is set.
    changed: Vec<u32>,
}

impl Trie {
    /// The trie of no rows.
    pub fn new(depth: Depth) -> Self {
        let nodes = depth.first_bucket() + depth.buckets();
        Trie { depth, nodes: vec![0; nodes], dirty: vec![0; depth.buckets() / 64], changed: Vec::new() }
    }

    /// The number of its buckets.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Puts in a row that is not there, by its key's hash and its digest.
    #[inline]
    pub fn put(&mut self, hash: u64, digest: Sum) {
        self.change(self.depth.bucket(hash), digest);
    }

    /// Takes out a row that is there.
    #[inline]
    pub fn take(&mut self, hash: u64, digest: Sum) {
        self.change(self.depth.bucket(hash), Sum::ZERO - digest);
    }

    /// Puts another row in a row's place.
    #[inline]
    pub fn replace(&mut self, hash: u64, before: Sum, after: Sum) {
        self.change(self.depth.bucket(hash), after - before);
    }

    /// Adds `delta` to a bucket.
    ///
    /// # Panics
    /// When there is no such bucket.
    #[inline]
    pub fn change(&mut self, bucket: usize, delta: Sum) {
        let node = &mut self.nodes[self.depth.first_bucket() + bucket];
        *node = node.wrapping_add(delta.0);
        let (word, bit) = (&mut self.dirty[bucket / 64], 1 << (bucket % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.changed.push(bucket as u32);
        }
    }

    /// The sum of a bucket.
    pub fn sum(&self, bucket: usize) -> Sum {
        Sum(self.buckets()[bucket])
    }

    /// Adds the trie of other rows: that of another lane, or a change ([`Trie::minus`]) made on the same base.
    ///
    /// # Panics
    /// When the two have different depths.
    pub fn add(&mut self, other: &Trie) {
        assert_eq!(self.depth, other.depth, "tries of one depth are added");
        for (bucket, &sum) in other.buckets().iter().enumerate().filter(|(_, sum)| **sum != 0) {
            self.change(bucket, Sum(sum));
        }
    }

    /// What must be added to `base` to have this trie.
    ///
    /// # Panics
    /// When the two have different depths.
    pub fn minus(&self, base: &Trie) -> Trie {
        assert_eq!(self.depth, base.depth, "tries of one depth are subtracted");
        let mut delta = Trie::new(self.depth);
        for (bucket, (mine, theirs)) in self.buckets().iter().zip(base.buckets()).enumerate() {
            if mine != theirs {
                delta.change(bucket, Sum(mine.wrapping_sub(*theirs)));
            }
        }
        delta
    }

    /// Hashes the tree along the changed paths and returns its root; that of no rows is zero.
    pub fn root(&mut self) -> Sum {
        let first = self.depth.first_bucket();
        let mut level: Vec<usize> = self.changed.drain(..).map(|bucket| first + bucket as usize).collect();
        self.dirty.fill(0);
        level.sort_unstable();
        for height in 1..=self.depth.0 / 2 {
            for node in &mut level {
                *node = (*node - 1) / 4;
            }
            level.dedup();
            for &node in &level {
                let children = &self.nodes[4 * node + 1..4 * node + 5];
                self.nodes[node] = digest::node(height, [children[0], children[1], children[2], children[3]]);
            }
        }
        Sum(self.nodes[0])
    }

    /// The buckets in which two tries differ, ascending; looks only where the trees differ.
    ///
    /// # Panics
    /// When the two have different depths.
    pub fn diff(&mut self, other: &mut Trie) -> Vec<usize> {
        assert_eq!(self.depth, other.depth, "tries of one depth are compared");
        self.root();
        other.root();
        let mut level = vec![0];
        level.retain(|&node: &usize| self.nodes[node] != other.nodes[node]);
        for _ in 0..self.depth.0 / 2 {
            let children = level.iter().flat_map(|node| 4 * node + 1..4 * node + 5);
            level = children.filter(|&node| self.nodes[node] != other.nodes[node]).collect();
        }
        level.into_iter().map(|node| node - self.depth.first_bucket()).collect()
    }

    /// Writes the trie down: its buckets that are not zero, and its root.
    pub fn encode(&mut self) -> Vec<u8> {
        let root = self.root();
        let full: Vec<_> = self.buckets().iter().enumerate().filter(|(_, sum)| **sum != 0).collect();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + full.len() * BUCKET_BYTES + 16);
        bytes.extend(MAGIC);
        for number in [FORMAT, hash::FORMAT, digest::FORMAT, self.depth.0 as u16] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend((full.len() as u32).to_le_bytes());
        for (bucket, sum) in full {
            bytes.extend((bucket as u32).to_le_bytes());
            bytes.extend(sum.to_le_bytes());
        }
        bytes.extend(root.0.to_le_bytes());
        bytes
    }

    /// Reads what [`Trie::encode`] wrote, and checks it against the root that stands there.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Newer`].
    pub fn decode(bytes: &[u8]) -> Result<Trie, Error> {
        let damaged = |reason: String| Error::Damaged { name: "a hash trie".to_string(), reason };
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(damaged(format!("its {} bytes are no header", bytes.len())));
        };
        if header[..4] != MAGIC {
            return Err(damaged("it does not begin with TMHT".to_string()));
        }
        let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        for (at, known) in [(4, FORMAT), (6, hash::FORMAT), (8, digest::FORMAT)] {
            if number(at) > known {
                return Err(Error::Newer { name: "a hash trie".to_string(), format: number(at), known });
            }
            if number(at) != known {
                return Err(damaged(format!("there is no format {}", number(at))));
            }
        }
        let depth = Depth::new(u32::from(number(10))).ok_or_else(|| damaged(format!("depth {}", number(10))))?;
        let count = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        let Some((sums, root)) = rest.split_last_chunk::<16>() else {
            return Err(damaged("it has no root".to_string()));
        };
        if count > depth.buckets() || sums.len() != count * BUCKET_BYTES {
            return Err(damaged(format!("{} bytes are not its {count} buckets", sums.len())));
        }
        let mut trie = Trie::new(depth);
        for record in sums.as_chunks::<BUCKET_BYTES>().0 {
            let (bucket, sum) = split(record);
            if bucket >= depth.buckets() {
                return Err(damaged(format!("there is no bucket {bucket}")));
            }
            trie.change(bucket, sum);
        }
        if trie.root().0 != u128::from_le_bytes(*root) {
            return Err(damaged("its buckets do not give its root".to_string()));
        }
        Ok(trie)
    }

    fn buckets(&self) -> &[u128] {
        &self.nodes[self.depth.first_bucket()..]
    }
}

fn split(record: &[u8; BUCKET_BYTES]) -> (usize, Sum) {
    let [a, b, c, d, sum @ ..] = *record;
    (u32::from_le_bytes([a, b, c, d]) as usize, Sum(u128::from_le_bytes(sum)))
}

impl PartialEq for Trie {
    /// Whether the sums are equal, hashed or not.
    fn eq(&self, other: &Trie) -> bool {
        self.depth == other.depth && self.buckets() == other.buckets()
    }
}

impl Eq for Trie {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: u64, value: u64) -> (u64, Sum) {
        let mut bytes = key.to_le_bytes().to_vec();
        bytes.extend(value.to_le_bytes());
        (hash::word(key), digest::entry(&bytes))
    }

    fn build(rows: &[(u64, u64)]) -> Trie {
        let mut trie = Trie::new(Depth::SMALL);
        for &(key, value) in rows {
            let (hash, digest) = row(key, value);
            trie.put(hash, digest);
        }
        trie
    }

    #[test]
    fn the_root_never_changes() {
        let roots = [12, 14, 16, 18].map(|bits| {
            let mut trie = Trie::new(Depth::new(bits).expect("a depth"));
            for key in 0..1_000 {
                let (hash, digest) = row(key, key * key);
                trie.put(hash, digest);
            }
            trie.root().to_string()
        });
        assert_eq!(roots, ROOTS);
        assert_eq!(Trie::new(Depth::LARGE).root(), Sum::ZERO);
    }

    const ROOTS: [&str; 4] = [
        "0a6955f564c383103d924f02cf7024c5",
        "ec92695d17832fbfeb72f7167e8b0737",
        "024deeeeb9b9f895bf23dd538131886b",
        "630cc7b4647ae4853db838071ea2877b",
    ];

    #[test]
    fn depths_are_even_from_12_to_18() {
        let depths: Vec<u32> = (0..64).filter_map(Depth::new).map(Depth::bits).collect();
        assert_eq!(depths, [12, 14, 16, 18]);
        assert_eq!(Depth::SMALL.shard(Depth::SMALL.bucket(u64::MAX)), hash::SHARDS - 1);
        for value in 0..1_000 {
            let hash = hash::word(value);
            assert_eq!(Depth::LARGE.shard(Depth::LARGE.bucket(hash)), hash::shard(hash));
        }
    }

    #[test]
    fn diff_names_the_buckets_that_differ() {
        let rows: Vec<_> = (0..500).map(|key| (key, key)).collect();
        let (mut a, mut b) = (build(&rows), build(&rows));
        assert!(a.diff(&mut b).is_empty());
        let mut expected = Vec::new();
        for key in [3, 77, 400] {
            let ((hash, before), (_, after)) = (row(key, key), row(key, key + 1));
            b.replace(hash, before, after);
            expected.push(Depth::SMALL.bucket(hash));
        }
        expected.sort_unstable();
        assert_eq!(a.diff(&mut b), expected);
        let delta = b.minus(&a);
        a.add(&delta);
        assert_eq!(a, b);
        assert_eq!(a.root(), b.root());
    }

    #[test]
    fn damage_and_newer_formats_are_told_apart() {
        let bytes = build(&[(1, 1), (2, 2)]).encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Trie::decode(&bad).is_err(), "byte {at}");
            assert!(Trie::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut newer = bytes;
        newer[4] = 2;
        assert!(matches!(Trie::decode(&newer), Err(Error::Newer { format: 2, known: 1, .. })));
    }

    proptest! {
        #[test]
        fn an_edited_trie_is_the_trie_built_anew(
            edits in prop::collection::vec((0..40_u64, 0..4_u64, any::<bool>()), 0..200),
        ) {
            let mut rows = std::collections::BTreeMap::new();
            let mut trie = Trie::new(Depth::SMALL);
            for (key, value, ask) in edits {
                let (hash, after) = row(key, value);
                if let Some(old) = rows.remove(&key) {
                    trie.take(hash, row(key, old).1);
                }
                if value > 0 {
                    rows.insert(key, value);
                    trie.put(hash, after);
                }
                if ask {
                    trie.root();
                }
            }
            let mut rows: Vec<_> = rows.into_iter().collect();
            rows.reverse();
            let mut anew = build(&rows);
            prop_assert_eq!(trie.root(), anew.root());
            prop_assert_eq!(Trie::decode(&trie.encode()).expect("it was encoded"), anew);
        }

        #[test]
        fn the_root_does_not_depend_on_lanes(
            keys in prop::collection::btree_set(any::<u64>(), 0..100), lanes in 1..5_usize,
        ) {
            let rows: Vec<_> = keys.into_iter().map(|key| (key, 1)).collect();
            let mut sum = Trie::new(Depth::SMALL);
            for lane in 0..lanes {
                let own: Vec<_> = rows.iter().copied()
                    .filter(|(key, _)| hash::shard(hash::word(*key)) as usize % lanes == lane).collect();
                let mut own = build(&own);
                own.root();
                sum.add(&own);
            }
            prop_assert_eq!(sum.root(), build(&rows).root());
        }

        #[test]
        fn merge_adds_what_each_side_changed(
            base in prop::collection::btree_set(0..100_u64, 0..50),
            ours in prop::collection::btree_set(100..200_u64, 0..50),
            theirs in prop::collection::btree_set(200..300_u64, 0..50),
        ) {
            let of = |sets: &[&std::collections::BTreeSet<u64>]| {
                build(&sets.iter().flat_map(|set| set.iter().map(|key| (*key, 1))).collect::<Vec<_>>())
            };
            let (b, o, t) = (of(&[&base]), of(&[&base, &ours]), of(&[&base, &theirs]));
            let mut one = b.clone();
            one.add(&o.minus(&b));
            one.add(&t.minus(&b));
            let mut other = b.clone();
            other.add(&t.minus(&b));
            other.add(&o.minus(&b));
            let mut rebuilt = of(&[&base, &ours, &theirs]);
            prop_assert_eq!(one.root(), rebuilt.root());
            prop_assert_eq!(other.root(), rebuilt.root());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Trie::decode(&bytes);
        }
    }
}

//! The rows of a table at one version: a map that is cheap to look up in, to share and to change a copy of.
//!
//! Rows lie in leaves by the top bits of their key's hash, those of the trie; a leaf is sorted by hash. A copy shares all
//! leaves with its origin, and a change copies the one leaf it falls into and the branch above, so a pipeline that reads
//! an older version costs its differences only.

use std::sync::Arc;

use tidemill_base::hash;

use super::schema::{Key, Row};

const BRANCHES: usize = 64;
const LEAVES: usize = 64;

/// Rows by key.
#[derive(Debug, Clone)]
pub struct Rows {
    branches: Vec<Arc<Branch>>,
    count: u64,
}

type Branch = Vec<Arc<Vec<Entry>>>;

#[derive(Debug, Clone)]
struct Entry {
    hash: u64,
    row: Row,
}

impl Default for Rows {
    fn default() -> Self {
        let leaf = Arc::new(Vec::new());
        let branch = Arc::new(vec![leaf; LEAVES]);
        Rows { branches: vec![branch; BRANCHES], count: 0 }
    }
}

impl Rows {
    /// The number of rows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The row of a key, given the key's canonical bytes.
    pub fn get(&self, key: &[u8]) -> Option<&Row> {
        let hash = hash::bytes(key);
        let (branch, leaf) = place(hash);
        let leaf = &self.branches[branch][leaf];
        find(leaf, hash, key).ok().map(|at| &leaf[at].row)
    }

    /// All rows, in the order of their keys' hashes: the same rows come in the same order.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.branches.iter().flat_map(|branch| branch.iter()).flat_map(|leaf| leaf.iter()).map(|entry| &entry.row)
    }

    /// Gives a key a row or none, and returns the row it had.
    ///
    /// # Panics
    /// In debug builds, when the row has another key.
    pub fn set(&mut self, key: &Key, row: Option<Row>) -> Option<Row> {
        debug_assert!(row.as_ref().is_none_or(|row| row.key_bytes() == key.bytes()), "a row stands under its key");
        let hash = hash::bytes(key.bytes());
        let (branch, leaf) = place(hash);
        let found = find(&self.branches[branch][leaf], hash, key.bytes());
        if found.is_err() && row.is_none() {
            return None;
        }
        let leaf = Arc::make_mut(&mut Arc::make_mut(&mut self.branches[branch])[leaf]);
        match (found, row) {
            (Ok(at), Some(row)) => Some(std::mem::replace(&mut leaf[at].row, row)),
            (Ok(at), None) => {
                self.count -= 1;
                Some(leaf.remove(at).row)
            }
            (Err(at), Some(row)) => {
                self.count += 1;
                leaf.insert(at, Entry { hash, row });
                None
            }
            (Err(_), None) => None,
        }
    }
}

fn place(hash: u64) -> (usize, usize) {
    ((hash >> 58) as usize, (hash >> 52) as usize % LEAVES)
}

fn find(leaf: &[Entry], hash: u64, key: &[u8]) -> Result<usize, usize> {
    leaf.binary_search_by(|entry| entry.hash.cmp(&hash).then_with(|| entry.row.key_bytes().cmp(key)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn row(key: u16, value: u8) -> Row {
        let mut bytes = key.to_le_bytes().to_vec();
        bytes.push(value);
        Row::checked(bytes, 2).expect("small")
    }

    proptest! {
        #[test]
        fn rows_are_a_map_whose_copies_stay(
            edits in prop::collection::vec((0..300_u16, prop::option::of(any::<u8>())), 0..300), keep in 0..300_usize,
        ) {
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            let mut kept = (rows.clone(), model.clone());
            for (at, (key, value)) in edits.into_iter().enumerate() {
                if at == keep {
                    kept = (rows.clone(), model.clone());
                }
                let bytes = Key::from_bytes(&key.to_le_bytes());
                let before = rows.set(&bytes, value.map(|value| row(key, value)));
                let expected = match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
                prop_assert_eq!(before, expected.map(|value| row(key, value)));
            }
            for (rows, model) in [kept, (rows, model)] {
                prop_assert_eq!(rows.count(), model.len() as u64);
                prop_assert_eq!(rows.iter().count(), model.len());
                for key in 0..300_u16 {
                    let expected = model.get(&key).map(|value| row(key, *value));
                    prop_assert_eq!(rows.get(&key.to_le_bytes()), expected.as_ref());
                }
            }
        }
    }
}

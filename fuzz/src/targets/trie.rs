//! Hash tries: whatever the bytes are, they are a trie whose root is theirs, or an error.

use tidemill_state::digest::{Sum, entry};
use tidemill_state::trie::{Depth, Trie};

use super::state::words;

const HEADER_BYTES: usize = 16;
const BUCKET_BYTES: usize = 20;

/// Tries of no, one and some entries.
pub fn seeds() -> Vec<Vec<u8>> {
    let deeper = Depth::new(Depth::SMALL.bits() + 2).expect("there are deeper ones");
    [(Depth::SMALL, 0), (Depth::SMALL, 1), (Depth::SMALL, 40), (deeper, 40)]
        .map(|(depth, rows)| seed(depth, rows))
        .into()
}

fn seed(depth: Depth, entries: u64) -> Vec<u8> {
    let mut trie = Trie::new(depth);
    (0..entries).for_each(|row| trie.put(tidemill_base::hash::bytes(&row.to_le_bytes()), entry(&row.to_le_bytes())));
    trie.encode()
}

/// Reads `input` as a trie, as it is and with its root made right.
pub fn run(input: &[u8]) -> Vec<String> {
    let mut found = vec![decode(input)];
    found.extend(resealed(input).map(|bytes| decode(&bytes)));
    found
}

fn decode(bytes: &[u8]) -> String {
    match Trie::decode(bytes) {
        Ok(mut trie) => {
            let again = trie.encode();
            let mut read = Trie::decode(&again).expect("what was written can be read");
            assert_eq!(read.root(), trie.root(), "a round trip changes nothing");
            assert!(trie.diff(&mut read).is_empty(), "a round trip changes nothing");
            format!(
                "a trie of {} bits, {} bytes shorter",
                trie.depth().bits(),
                bytes.len().abs_diff(again.len()).min(21)
            )
        }
        Err(error) => words(&error),
    }
}

/// The trie with the root of its buckets.
fn resealed(input: &[u8]) -> Option<Vec<u8>> {
    let depth = Depth::new(u32::from(u16::from_le_bytes([*input.get(10)?, *input.get(11)?])))?;
    let end = input.len().checked_sub(16)?;
    let mut trie = Trie::new(depth);
    for record in input.get(HEADER_BYTES..end)?.as_chunks::<BUCKET_BYTES>().0 {
        let (bucket, sum) = record.split_first_chunk::<4>()?;
        let bucket = u32::from_le_bytes(*bucket) as usize;
        if bucket < depth.buckets() {
            trie.change(bucket, Sum(u128::from_le_bytes(*sum.first_chunk()?)));
        }
    }
    Some([&input[..end], &trie.root().0.to_le_bytes()].concat())
}

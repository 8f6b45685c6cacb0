//! Which packs are worth writing anew: those that are mostly garbage, and those that have become many and small.
//!
//! Copying a pack of which less than half is alive writes fewer bytes than changes have written before to kill the rest,
//! so it at most doubles what is written. Small packs, one of each small snapshot, are put together once there are
//! [`SMALL_COUNT_MAX`] of them.

use super::manifest::Chunk;
use super::pack::{ENTRY_BYTES, OVERHEAD_BYTES, Pack};

/// A pack with fewer living bytes is small.
const SMALL_BYTES: u64 = 1 << 20;
/// As many small packs are let be.
pub(super) const SMALL_COUNT_MAX: usize = 32;

/// Marks the packs to be written anew; only the first `old` are considered, the rest is just being written.
pub(super) fn choose(packs: &[Pack], old: usize, chunks: &[Chunk]) -> Vec<bool> {
    let mut alive = vec![0_u64; packs.len()];
    for chunk in chunks {
        alive[chunk.pack as usize] += u64::from(chunk.frame.stored) + ENTRY_BYTES;
    }
    let packs = || packs.iter().zip(&alive).take(old);
    let small = packs().filter(|(_, alive)| (1..SMALL_BYTES).contains(*alive)).count();
    let merge_small = small > SMALL_COUNT_MAX;
    let worth = |(pack, alive): (&Pack, &u64)| {
        *alive > 0 && (*alive < pack.bytes.saturating_sub(OVERHEAD_BYTES) / 2 || merge_small && *alive < SMALL_BYTES)
    };
    packs().map(worth).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ChunkId;
    use super::super::pack::Frame;
    use super::*;

    /// Packs given as (bytes, living bytes), both with their entries in the table.
    fn check(packs: &[(u64, u32)], old: usize, expected: &[usize]) {
        let chunk = |pack: usize, alive: u32| Chunk {
            id: ChunkId { operator: 0, table: 0, lane: 0, chunk: pack as u32 },
            pack: pack as u32,
            frame: Frame { offset: 16, stored: alive - ENTRY_BYTES as u32, raw: 0, hash: [0; 32] },
        };
        let used = packs.iter().enumerate().filter(|(_, (_, alive))| *alive > 0);
        let chunks: Vec<Chunk> = used.map(|(pack, (_, alive))| chunk(pack, *alive)).collect();
        let pack = |bytes: u64| Pack { name: String::new(), bytes: bytes + OVERHEAD_BYTES };
        let packs: Vec<Pack> = packs.iter().map(|(bytes, _)| pack(*bytes)).collect();
        let chosen = choose(&packs, old, &chunks);
        let chosen: Vec<usize> =
            chosen.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(pack, _)| pack).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn mostly_garbage_is_written_anew() {
        check(&[(1_000, 499), (1_000, 500), (1_000, 0), (1_000, 100)], 3, &[0]);
    }

    #[test]
    fn many_small_packs_become_one() {
        let large = 2 << 20;
        let mut packs = vec![(1_000, 900); SMALL_COUNT_MAX];
        packs.push((u64::from(large), large));
        check(&packs, packs.len(), &[]);
        packs.push((1_000, 900));
        let small: Vec<usize> = (0..packs.len()).filter(|pack| *pack != SMALL_COUNT_MAX).collect();
        check(&packs, packs.len(), &small);
    }
}

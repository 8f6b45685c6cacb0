//! [`KeyIndex`]: numbers distinct keys.
//!
//! A hash table of `u32` leads to slots, and by slot lie the keys alone: hashes are computed anew when the table grows, for
//! the key has to be read then as well. Byte keys of one length lie one behind another; where lengths differ each has a
//! span. The slots of keys that went are given to others.

use std::ops::Range;

use hashbrown::HashTable;
use tidemill_base::hash;

use super::{Keys, hash_wide};

/// What a bucket of the hash table takes.
const BUCKET_BYTES: usize = size_of::<u32>() + 1;

/// Arenas of fewer bytes are never rewritten.
const ARENA_BYTES_MIN: usize = 1 << 16;

/// Numbers distinct keys.
#[derive(Debug, Clone, Default)]
pub struct KeyIndex {
    table: HashTable<u32>,
    stored: Stored,
    slots: Slots,
}

/// Which slots have keys.
#[derive(Debug, Clone, Default)]
struct Slots {
    /// Slots that have ever been in use at once.
    count: u32,
    /// A bit for each slot that has a key.
    live: Vec<u64>,
    free: Vec<u32>,
    /// Free slots that new keys get before others, the next one last.
    preferred: Vec<u32>,
    /// Slots given to new keys since they were asked for, when that is wanted.
    born: Option<Vec<u32>>,
}

/// The keys by slot.
#[derive(Debug, Clone, Default)]
enum Stored {
    #[default]
    None,
    Word(Vec<u64>),
    Wide(Vec<u128>),
    Even(Even),
    Uneven(Uneven),
}

/// Byte keys of one length.
#[derive(Debug, Clone)]
struct Even {
    width: usize,
    data: Vec<u8>,
}

/// Byte keys of any length.
#[derive(Debug, Clone, Default)]
struct Uneven {
    spans: Vec<Span>,
    arena: Vec<u8>,
    /// Bytes of the arena that belong to no key.
    dead: usize,
}

/// Where a key lies: four bytes less than the compiler would give it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, packed(4))]
struct Span {
    start: u64,
    length: u32,
}

/// Keys of one kind by slot.
trait BySlot<K: Copy> {
    /// Whether this key is in a slot.
    fn is(&self, slot: u32, key: K) -> bool;

    /// The hash of the key in a slot.
    fn hash(&self, slot: u32) -> u64;

    /// Writes a key into a slot.
    fn put(&mut self, slot: u32, key: K);
}

impl BySlot<u64> for Vec<u64> {
    #[inline]
    fn is(&self, slot: u32, key: u64) -> bool {
        self[slot as usize] == key
    }

    #[inline]
    fn hash(&self, slot: u32) -> u64 {
        hash::word(self[slot as usize])
    }

    #[inline]
    fn put(&mut self, slot: u32, key: u64) {
        put(self, slot, key);
    }
}

impl BySlot<u128> for Vec<u128> {
    #[inline]
    fn is(&self, slot: u32, key: u128) -> bool {
        self[slot as usize] == key
    }

    #[inline]
    fn hash(&self, slot: u32) -> u64 {
        hash_wide(self[slot as usize])
    }

    #[inline]
    fn put(&mut self, slot: u32, key: u128) {
        put(self, slot, key);
    }
}

impl Even {
    #[inline]
    fn get(&self, slot: u32) -> &[u8] {
        let start = slot as usize * self.width;
        &self.data[start..start + self.width]
    }

    /// Whether all keys with these offsets have this length.
    fn fits(&self, offsets: &[usize]) -> bool {
        offsets.windows(2).all(|ends| ends[1] - ends[0] == self.width)
    }

    /// The same keys, of which others may have other lengths.
    fn spread(self) -> Uneven {
        let length = self.width as u32;
        let starts = (0..self.data.len() as u64).step_by(self.width.max(1));
        Uneven { spans: starts.map(|start| Span { start, length }).collect(), arena: self.data, dead: 0 }
    }
}

impl BySlot<&[u8]> for Even {
    #[inline]
    fn is(&self, slot: u32, key: &[u8]) -> bool {
        self.get(slot) == key
    }

    #[inline]
    fn hash(&self, slot: u32) -> u64 {
        hash::bytes(self.get(slot))
    }

    #[inline]
    fn put(&mut self, slot: u32, key: &[u8]) {
        let start = slot as usize * self.width;
        if start == self.data.len() {
            return self.data.extend_from_slice(key);
        }
        if start > self.data.len() {
            self.data.resize(start + self.width, 0);
        }
        self.data[start..start + self.width].copy_from_slice(key);
    }
}

impl Uneven {
    #[inline]
    fn get(&self, slot: u32) -> &[u8] {
        let Span { start, length } = self.spans[slot as usize];
        &self.arena[start as usize..start as usize + length as usize]
    }

    /// The key in a slot goes.
    fn remove(&mut self, slot: u32) {
        let Span { length, .. } = std::mem::take(&mut self.spans[slot as usize]);
        self.dead += length as usize;
        if self.dead * 2 < self.arena.len() || self.arena.len() < ARENA_BYTES_MIN {
            return;
        }
        let mut arena = Vec::with_capacity(self.arena.len() - self.dead);
        for span in &mut self.spans {
            let (start, moved) = (span.start as usize, arena.len() as u64);
            arena.extend_from_slice(&self.arena[start..start + span.length as usize]);
            span.start = moved;
        }
        (self.arena, self.dead) = (arena, 0);
    }
}

impl BySlot<&[u8]> for Uneven {
    #[inline]
    fn is(&self, slot: u32, key: &[u8]) -> bool {
        self.get(slot) == key
    }

    #[inline]
    fn hash(&self, slot: u32) -> u64 {
        hash::bytes(self.get(slot))
    }

    #[inline]
    fn put(&mut self, slot: u32, key: &[u8]) {
        put(&mut self.spans, slot, Span { start: self.arena.len() as u64, length: key.len() as u32 });
        self.arena.extend_from_slice(key);
    }
}

impl Stored {
    /// Makes it fit to hold keys like these.
    fn fit(&mut self, keys: &Keys) {
        match (&mut *self, keys) {
            (Stored::None, Keys::Word(_)) => *self = Stored::Word(Vec::new()),
            (Stored::None, Keys::Wide(_)) => *self = Stored::Wide(Vec::new()),
            (Stored::None, Keys::Bytes { offsets, .. }) if offsets.len() > 1 => {
                *self = Stored::Even(Even { width: offsets[1] - offsets[0], data: Vec::new() });
                self.fit(keys);
            }
            (Stored::Even(even), Keys::Bytes { offsets, .. }) if !even.fits(offsets) => {
                let even = std::mem::replace(even, Even { width: 0, data: Vec::new() });
                *self = Stored::Uneven(even.spread());
            }
            _ => {}
        }
    }

    /// Forgets all keys but keeps the memory.
    fn clear(&mut self) {
        match self {
            Stored::None => {}
            Stored::Word(keys) => keys.clear(),
            Stored::Wide(keys) => keys.clear(),
            Stored::Even(even) => even.data.clear(),
            Stored::Uneven(Uneven { spans, arena, dead }) => {
                spans.clear();
                arena.clear();
                *dead = 0;
            }
        }
    }

    fn hash(&self, slot: u32) -> u64 {
        match self {
            Stored::None => 0,
            Stored::Word(keys) => keys.hash(slot),
            Stored::Wide(keys) => keys.hash(slot),
            Stored::Even(even) => even.hash(slot),
            Stored::Uneven(uneven) => uneven.hash(slot),
        }
    }

    fn reserve(&mut self, more: usize) {
        match self {
            Stored::None => {}
            Stored::Word(keys) => keys.reserve(more),
            Stored::Wide(keys) => keys.reserve(more),
            Stored::Even(even) => even.data.reserve(more * even.width),
            Stored::Uneven(uneven) => uneven.spans.reserve(more),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Stored::None => 0,
            Stored::Word(keys) => keys.capacity() * 8,
            Stored::Wide(keys) => keys.capacity() * 16,
            Stored::Even(even) => even.data.capacity(),
            Stored::Uneven(uneven) => uneven.spans.capacity() * size_of::<Span>() + uneven.arena.capacity(),
        }
    }
}

impl Slots {
    fn contains(&self, slot: u32) -> bool {
        self.live.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// A slot for a new key.
    #[inline]
    fn claim(&mut self) -> u32 {
        let slot = self.preferred.pop().or_else(|| self.free.pop()).unwrap_or(self.count);
        self.count = self.count.max(slot + 1);
        let word = slot as usize / 64;
        if word >= self.live.len() {
            self.live.resize(word + 1, 0);
        }
        self.live[word] |= 1 << (slot % 64);
        if let Some(born) = &mut self.born {
            born.push(slot);
        }
        slot
    }

    fn leave(&mut self, slot: u32) {
        self.live[slot as usize / 64] &= !(1 << (slot % 64));
        self.free.push(slot);
    }
}

/// The slot of a key; one not seen before gets a slot.
#[inline]
fn intern<K: Copy, S: BySlot<K>>(
    table: &mut HashTable<u32>,
    slots: &mut Slots,
    stored: &mut S,
    key: K,
    hash: u64,
) -> u32 {
    if let Some(slot) = table.find(hash, |slot| stored.is(*slot, key)) {
        return *slot;
    }
    let slot = slots.claim();
    stored.put(slot, key);
    table.insert_unique(hash, slot, |slot| stored.hash(*slot));
    slot
}

impl KeyIndex {
    /// Notes from now on which slots are given to new keys.
    pub fn note_births(&mut self) {
        self.slots.born = Some(Vec::new());
    }

    /// The slots given to new keys since the last call, when they are noted.
    pub fn take_born(&mut self) -> Vec<u32> {
        self.slots.born.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether a key is in `slot`.
    pub fn contains(&self, slot: u32) -> bool {
        self.slots.contains(slot)
    }

    /// Makes room for so many more keys.
    pub fn reserve(&mut self, keys: usize) {
        let stored = &mut self.stored;
        self.table.reserve(keys, |slot| stored.hash(*slot));
        stored.reserve(keys.saturating_sub(self.slots.free.len()));
    }

    /// Gives new keys the free ones of `slots` before others; none gives slots as they come, the gaps that others left
    /// among them.
    pub(crate) fn prefer(&mut self, slots: Option<Range<u32>>) {
        let all = &mut self.slots;
        all.preferred.clear();
        match slots {
            Some(slots) => {
                let mut preferred = std::mem::take(&mut all.preferred);
                preferred.extend(slots.rev().filter(|slot| !all.contains(*slot)));
                all.preferred = preferred;
            }
            None => all.free = (0..all.count).rev().filter(|slot| !all.contains(*slot)).collect(),
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True when there is no key.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The number of slots that have ever been in use at once: entries lie in `0..slots()`.
    pub fn slots(&self) -> usize {
        self.slots.count as usize
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let Slots { live, free, .. } = &self.slots;
        let lists = live.capacity() * 8 + free.capacity() * 4;
        (self.table.capacity() * BUCKET_BYTES + self.stored.bytes() + lists) as u64
    }

    /// For each key its slot; a key not seen before gets a slot. `hashes` are the keys' own.
    pub fn intern(&mut self, keys: &Keys, hashes: &[u64], into: &mut Vec<u32>) {
        into.clear();
        into.reserve(keys.len());
        self.stored.fit(keys);
        let KeyIndex { table, stored, slots, .. } = self;
        match (keys, stored) {
            (Keys::Word(keys), Stored::Word(stored)) => {
                into.extend(keys.iter().zip(hashes).map(|(key, hash)| intern(table, slots, stored, *key, *hash)));
            }
            (Keys::Wide(keys), Stored::Wide(stored)) => {
                into.extend(keys.iter().zip(hashes).map(|(key, hash)| intern(table, slots, stored, *key, *hash)));
            }
            (Keys::Bytes { data, offsets }, Stored::Even(stored)) => {
                let keys = offsets.windows(2).map(|ends| &data[ends[0]..ends[1]]).zip(hashes);
                into.extend(keys.map(|(key, hash)| intern(table, slots, stored, key, *hash)));
            }
            (Keys::Bytes { data, offsets }, Stored::Uneven(stored)) => {
                let keys = offsets.windows(2).map(|ends| &data[ends[0]..ends[1]]).zip(hashes);
                into.extend(keys.map(|(key, hash)| intern(table, slots, stored, key, *hash)));
            }
            // One encoder writes keys of one kind.
            _ => debug_assert!(keys.is_empty(), "keys of another kind"),
        }
    }

    /// The slot of each key, `None` for a key that is not there.
    pub fn find(&self, keys: &Keys, hashes: &[u64]) -> Vec<Option<u32>> {
        fn find<K: Copy>(table: &HashTable<u32>, stored: &impl BySlot<K>, key: K, hash: u64) -> Option<u32> {
            table.find(hash, |slot| stored.is(*slot, key)).copied()
        }
        let table = &self.table;
        match (keys, &self.stored) {
            (Keys::Word(keys), Stored::Word(stored)) => {
                keys.iter().zip(hashes).map(|(key, hash)| find(table, stored, *key, *hash)).collect()
            }
            (Keys::Wide(keys), Stored::Wide(stored)) => {
                keys.iter().zip(hashes).map(|(key, hash)| find(table, stored, *key, *hash)).collect()
            }
            (Keys::Bytes { data, offsets }, Stored::Even(stored)) => {
                let keys = offsets.windows(2).map(|ends| &data[ends[0]..ends[1]]).zip(hashes);
                keys.map(|(key, hash)| find(table, stored, key, *hash)).collect()
            }
            (Keys::Bytes { data, offsets }, Stored::Uneven(stored)) => {
                let keys = offsets.windows(2).map(|ends| &data[ends[0]..ends[1]]).zip(hashes);
                keys.map(|(key, hash)| find(table, stored, key, *hash)).collect()
            }
            _ => vec![None; keys.len()],
        }
    }

    /// Forgets the key in `slot`; the slot will be given to another key.
    pub fn remove(&mut self, slot: u32) {
        if !self.contains(slot) {
            return;
        }
        if let Ok(entry) = self.table.find_entry(self.stored.hash(slot), |other| *other == slot) {
            entry.remove();
            self.slots.leave(slot);
            if let Stored::Uneven(uneven) = &mut self.stored {
                uneven.remove(slot);
            }
        }
    }

    /// The keys in `slots`, in that order.
    pub fn keys(&self, slots: &[u32]) -> Keys {
        match &self.stored {
            Stored::Word(keys) => Keys::Word(slots.iter().map(|slot| keys[*slot as usize]).collect()),
            Stored::Wide(keys) => Keys::Wide(slots.iter().map(|slot| keys[*slot as usize]).collect()),
            stored => {
                let (mut data, mut offsets) = (Vec::new(), Vec::with_capacity(slots.len() + 1));
                offsets.push(0);
                for slot in slots {
                    match stored {
                        Stored::Even(even) => data.extend_from_slice(even.get(*slot)),
                        Stored::Uneven(uneven) => data.extend_from_slice(uneven.get(*slot)),
                        _ => {}
                    }
                    offsets.push(data.len());
                }
                Keys::Bytes { data, offsets }
            }
        }
    }

    /// The bytes of the key in `slot`, with those after the end of a short one.
    pub(super) fn with_bytes<R>(&self, slot: u32, read: impl FnOnce(&[u8]) -> R) -> R {
        match &self.stored {
            Stored::None => read(&[]),
            Stored::Word(keys) => read(&keys[slot as usize].to_le_bytes()),
            Stored::Wide(keys) => read(&keys[slot as usize].to_le_bytes()),
            Stored::Even(even) => read(even.get(slot)),
            Stored::Uneven(uneven) => read(uneven.get(slot)),
        }
    }

    /// The stable hash of the key in `slot`.
    pub fn hash(&self, slot: u32) -> u64 {
        self.stored.hash(slot)
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.stored.clear();
        let Slots { count, live, free, preferred, .. } = &mut self.slots;
        *count = 0;
        live.clear();
        free.clear();
        preferred.clear();
    }
}

/// Writes `value` into `slot`.
#[inline]
fn put<T: Clone + Default>(list: &mut Vec<T>, slot: u32, value: T) {
    if slot as usize >= list.len() {
        list.resize(slot as usize + 1, T::default());
    }
    list[slot as usize] = value;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidemill_base::rand::Rng;

    use super::*;

    /// Keys of the numbers, of one kind.
    fn words(numbers: &[u64]) -> Keys {
        Keys::Word(numbers.to_vec())
    }

    fn wides(numbers: &[u64]) -> Keys {
        Keys::Wide(numbers.iter().map(|number| u128::from(*number) << 60 | 7).collect())
    }

    fn bytes(numbers: &[u64], of: impl Fn(u64) -> String) -> Keys {
        let (mut data, mut offsets) = (Vec::new(), vec![0]);
        for number in numbers {
            data.extend_from_slice(of(*number).as_bytes());
            offsets.push(data.len());
        }
        Keys::Bytes { data, offsets }
    }

    fn even(numbers: &[u64]) -> Keys {
        bytes(numbers, |number| format!("{number:017}"))
    }

    /// Of one length up to 999.
    fn later_uneven(numbers: &[u64]) -> Keys {
        bytes(numbers, |number| format!("{number:03}"))
    }

    fn uneven(numbers: &[u64]) -> Keys {
        bytes(numbers, |number| "x".repeat(number as usize % 7) + &number.to_string())
    }

    const KINDS: [fn(&[u64]) -> Keys; 5] = [words, wides, even, later_uneven, uneven];

    /// Keys come and go, beside a map.
    fn check(keys_of: fn(&[u64]) -> Keys, seed: u64, numbers: u64) {
        let mut rng = Rng::seeded(seed);
        let (mut index, mut slots) = (KeyIndex::default(), Vec::new());
        let mut naive: BTreeMap<u64, u32> = BTreeMap::new();
        for step in 0..200_u64 {
            let most = if step < 20 { numbers.min(1_000) } else { numbers };
            let batch: Vec<u64> = (0..rng.below(50)).map(|_| rng.below(most)).collect();
            let keys = keys_of(&batch);
            let found = index.find(&keys, &keys.hashes());
            let expected: Vec<_> = batch.iter().map(|number| naive.get(number).copied()).collect();
            assert_eq!(found, expected, "seed {seed}");
            index.intern(&keys, &keys.hashes(), &mut slots);
            for (number, slot) in batch.iter().zip(&slots) {
                assert_eq!(*naive.entry(*number).or_insert(*slot), *slot, "seed {seed}");
            }
            let gone: Vec<u64> = naive.keys().copied().filter(|number| (number ^ step) % 5 == 0).collect();
            gone.iter().filter_map(|number| naive.remove(number)).for_each(|slot| index.remove(slot));
            assert_eq!(index.len(), naive.len(), "seed {seed}");
        }
        let (numbers, slots): (Vec<u64>, Vec<u32>) = naive.into_iter().unzip();
        assert!(slots.iter().all(|slot| index.contains(*slot)));
        let (keys, expected) = (index.keys(&slots), keys_of(&numbers));
        assert_eq!(keys.hashes(), expected.hashes(), "seed {seed}");
        let hashes: Vec<u64> = slots.iter().map(|slot| index.hash(*slot)).collect();
        assert_eq!(hashes, expected.hashes(), "seed {seed}");
    }

    #[test]
    fn keys_of_every_kind_come_and_go() {
        for keys_of in KINDS {
            (0..5).for_each(|seed| check(keys_of, seed, 60));
            (0..5).for_each(|seed| check(keys_of, seed, 20_000));
        }
    }

    #[test]
    fn byte_keys_of_one_length_take_their_bytes_alone() {
        let (mut index, mut slots) = (KeyIndex::default(), Vec::new());
        let numbers: Vec<u64> = (0..1 << 16).collect();
        let keys = even(&numbers);
        index.intern(&keys, &keys.hashes(), &mut slots);
        assert!(index.stored.bytes() <= (2 * 17) << 16, "{} bytes", index.stored.bytes());
    }
}

//! [`Groups`]: keys, the weight of each group's rows, and its accumulators, a dense slot for each group.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Accumulator, Rows};
use super::distinct::Distinct;
use super::packed::Packed;
use super::parts::{Parts, Setting};
use crate::keep::wire::{Damage, Reader};
use crate::key::{KeyEncoder, KeyIndex, Keys};
use crate::operator::StateSize;

/// How groups are made.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// What is computed.
    pub parts: Parts,
    /// In what circumstances.
    pub setting: Setting,
}

impl Recipe {
    /// No groups yet, with keys of these types; or what is not supported.
    pub fn groups(self: &Arc<Self>, key_types: Vec<DataType>) -> Result<Groups, String> {
        Ok(Groups {
            encoder: KeyEncoder::new(key_types).ok_or("grouping by lists, maps or rows")?,
            index: KeyIndex::default(),
            weights: Vec::new(),
            accumulators: self.parts.make(&self.setting)?,
            recipe: self.clone(),
        })
    }
}

/// Keys, weights and accumulators.
pub(super) struct Groups {
    encoder: KeyEncoder,
    index: KeyIndex,
    weights: Vec<i64>,
    accumulators: Vec<Box<dyn Accumulator>>,
    recipe: Arc<Recipe>,
}

impl Groups {
    /// The slot of each of `rows` keys; new keys get slots without rows.
    pub fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Vec<u32> {
        let keys = self.encoder.encode(keys, rows);
        self.intern_keys(&keys)
    }

    fn intern_keys(&mut self, keys: &Keys) -> Vec<u32> {
        self.intern_hashed(keys, &keys.hashes())
    }

    /// The slots of keys that are written already.
    pub fn intern_written(&mut self, packed: &Packed) -> Vec<u32> {
        self.intern_hashed(&packed.keys, &packed.hashes)
    }

    fn intern_hashed(&mut self, keys: &Keys, hashes: &[u64]) -> Vec<u32> {
        let mut slots = Vec::new();
        self.index.intern(keys, hashes, &mut slots);
        let count = self.index.slots();
        self.weights.resize(count.max(self.weights.len()), 0);
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(count));
        slots
    }

    /// Takes rows; `slots` has the slot of each.
    pub fn update(&mut self, slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let weights = &mut self.weights;
        rows.each(slots, None, |_, slot, weight| weights[slot] += weight);
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(slots, rows))
    }

    /// Adds states of the parts `parts` that came as columns, and the weights of their rows.
    pub fn merge_partial(
        &mut self,
        slots: &[u32],
        weights: Option<&[i64]>,
        parts: &[usize],
        columns: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        for (slot, weight) in slots.iter().zip(weights.unwrap_or_default()) {
            self.weights[*slot as usize] += weight;
        }
        let mut columns = columns;
        for part in parts {
            let accumulator = &mut self.accumulators[*part];
            let (mine, rest) = columns.split_at(accumulator.partial_types().map_or(0, |types| types.len()));
            accumulator.merge_partial(slots, mine)?;
            columns = rest;
        }
        Ok(())
    }

    /// The states of the parts `parts` as columns.
    pub fn partial(&self, slots: &[u32], parts: &[usize]) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = parts.iter().map(|part| self.accumulators[*part].partial(slots));
        Ok(columns.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// The types of [`Groups::partial`]; none when a part has no such form.
    pub fn partial_types(&self, parts: &[usize]) -> Option<Vec<DataType>> {
        let types: Option<Vec<_>> = parts.iter().map(|part| self.accumulators[*part].partial_types()).collect();
        types.map(|types| types.concat())
    }

    /// Adds the groups `from` of `other` to the groups `to`.
    pub fn merge(&mut self, other: &Groups, from: &[u32], to: &[u32]) -> Result<(), ArrowError> {
        for (from, to) in from.iter().zip(to) {
            self.weights[*to as usize] += other.weights[*from as usize];
        }
        for (mine, other) in self.accumulators.iter_mut().zip(&other.accumulators) {
            mine.merge(other.as_ref(), from, to)?;
        }
        Ok(())
    }

    /// The calls' columns.
    pub fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.recipe.parts.evaluate(&self.accumulators, slots)
    }

    /// The key columns.
    pub fn keys(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.encoder.decode(&self.index.keys(slots))
    }

    /// The keys as they are written.
    pub fn written(&self, slots: &[u32]) -> Packed {
        Packed { keys: self.index.keys(slots), hashes: slots.iter().map(|slot| self.index.hash(*slot)).collect() }
    }

    /// The sum of the weights of a group's rows.
    pub fn weight(&self, slot: u32) -> i64 {
        self.weights[slot as usize]
    }

    /// The weights of groups.
    pub fn weights(&self, slots: &[u32]) -> Vec<i64> {
        slots.iter().map(|slot| self.weights[*slot as usize]).collect()
    }

    /// Notes births of groups and changes of different values from now on.
    pub fn keep(&mut self, chunk_slots: usize) {
        self.index.note_births();
        let distinct = self.accumulators.iter_mut().filter_map(|accumulator| accumulator.distinct_mut());
        distinct.for_each(|distinct| distinct.keep(chunk_slots));
    }

    /// The groups that have come since the last call.
    pub fn take_born(&mut self) -> Vec<u32> {
        self.index.take_born()
    }

    /// Gives new groups these slots as far as they are free; none gives slots as they come.
    pub fn prefer(&mut self, slots: Option<Range<u32>>) {
        self.index.prefer(slots);
    }

    /// Whether a slot has a group.
    pub fn contains(&self, slot: u32) -> bool {
        self.index.contains(slot)
    }

    /// Appends the bytes of a group's key.
    pub fn write_key(&self, slot: u32, out: &mut Vec<u8>) {
        self.encoder.pack(&self.index, slot, out);
    }

    /// The key columns of bytes that [`Groups::write_key`] wrote.
    pub fn key_columns(&self, keys: &[&[u8]]) -> Result<Vec<ArrayRef>, Damage> {
        Ok(self.encoder.decode(&self.unpack(keys)?))
    }

    /// The slots of keys that [`Groups::write_key`] wrote.
    pub fn intern_packed(&mut self, keys: &[&[u8]]) -> Result<Vec<u32>, Damage> {
        let keys = self.unpack(keys)?;
        Ok(self.intern_keys(&keys))
    }

    fn unpack(&self, keys: &[&[u8]]) -> Result<Keys, Damage> {
        self.encoder.unpack(keys).ok_or_else(|| Damage::of("a key has other types"))
    }

    /// Appends what is known of a group besides its key.
    pub fn write_state(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&self.weights[slot as usize].to_le_bytes());
        self.accumulators.iter().try_for_each(|accumulator| accumulator.write(slot, out))
    }

    /// Sets what [`Groups::write_state`] wrote.
    pub fn read_state(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<(), Damage> {
        self.weights[slot as usize] = from.i64()?;
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.read(slot, from))
    }

    /// The different values that a part keeps.
    pub fn distinct(&self, part: usize) -> Option<&Distinct> {
        self.accumulators.get(part).and_then(|accumulator| accumulator.distinct())
    }

    /// The different values that a part keeps.
    pub fn distinct_mut(&mut self, part: usize) -> Option<&mut Distinct> {
        self.accumulators.get_mut(part).and_then(|accumulator| accumulator.distinct_mut())
    }

    /// Whether different values of a group are kept.
    pub fn holds(&self, slot: u32) -> bool {
        self.accumulators.iter().any(|accumulator| accumulator.holds(slot))
    }

    /// About how many bytes a group takes besides its key; `scratch` is for what is written meanwhile.
    pub fn bytes_of(&self, slot: u32, scratch: &mut Vec<u8>) -> Result<u64, ArrowError> {
        scratch.clear();
        self.write_state(slot, scratch)?;
        let held: u64 = self.accumulators.iter().map(|accumulator| accumulator.held_bytes(slot)).sum();
        Ok(scratch.len() as u64 + held)
    }

    /// The number of slots ever in use at once.
    pub fn slots(&self) -> usize {
        self.index.slots()
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Forgets a group.
    pub fn retire(&mut self, slot: u32) {
        self.index.remove(slot);
        self.weights[slot as usize] = 0;
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.retire(slot));
    }

    /// Sets a group to one that has no rows yet.
    pub fn renew(&mut self, slot: u32) {
        self.weights[slot as usize] = 0;
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.retire(slot));
    }

    /// Sets a group's partial states to nothing; what tells values apart stays.
    pub fn reset(&mut self, slot: u32) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.reset(slot));
    }

    /// Forgets all groups and keeps the memory.
    pub fn clear(&mut self) {
        for slot in 0..self.index.slots() as u32 {
            self.weights[slot as usize] = 0;
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.retire(slot));
        }
        self.index.clear();
    }

    /// What the groups take.
    pub fn size(&self) -> StateSize {
        let entries: u64 = self.accumulators.iter().map(|accumulator| accumulator.entries()).sum();
        let bytes: u64 = self.accumulators.iter().map(|accumulator| accumulator.bytes()).sum();
        StateSize {
            entries: self.index.len() as u64 + entries,
            bytes: self.index.bytes() + 8 * self.weights.capacity() as u64 + bytes,
        }
    }
}

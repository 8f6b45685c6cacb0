//! [`Bank`]: states of several aggregate calls in numbered slots, and programs that move them from slot to slot.
//!
//! Everything that `OVER` knows of values is a slot: one for each row on its way in, one for each row or unit of time that
//! is kept, one for the running total of a key, one for each answer. What has to happen for a chunk of rows is written down
//! first, as a list of [`Fold`]s, and then run by each accumulator over its own typed states: which rows a frame has is
//! found out once, whatever is computed over it.
//!
//! A slot that is released keeps its state until the chunk is done ([`Bank::settle`]), so programs may still read it.

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;

use crate::delta::DELTA_ROWS_MAX;
use crate::keep::wire::{Damage, Reader};
use crate::operators::aggregate::accumulator::{Accumulator, Fold, How, Rows};
use crate::operators::aggregate::parts::{Parts, Setting};
use crate::plan::AggregateCall;

/// No slot.
pub(in crate::operators) const NONE: u32 = u32::MAX;

/// The slot of no rows.
pub(super) const EMPTY: u32 = 0;

/// Accumulators over the same slots.
pub(in crate::operators) struct Bank {
    parts: Parts,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// For each slot whether it is claimed.
    claimed: Vec<bool>,
    free: Vec<u32>,
    /// Free slots that are claimed before others, the next one last.
    preferred: Vec<u32>,
    /// Slots that are free once the chunk is done.
    released: Vec<u32>,
    /// What the accumulators do that take states back.
    exact: Program,
    /// What the others do.
    plain: Program,
    /// The slot of each row's answer.
    outs: Vec<u32>,
}

/// What some of the accumulators are going to do.
struct Program {
    accumulators: Vec<usize>,
    folds: Vec<Fold>,
}

impl Program {
    fn push(&mut self, how: How, from: u32, to: u32) {
        if !self.accumulators.is_empty() {
            self.folds.push(Fold { how, from, to });
        }
    }
}

impl Bank {
    /// A bank for calls over rows that are never taken back; or what is not supported.
    pub fn new(calls: &[AggregateCall], setting: &Setting) -> Result<Self, String> {
        let parts = Parts::new(calls, setting.append_only);
        let accumulators = parts.make(setting)?;
        let (exact, plain) = (0..accumulators.len()).partition(|index| accumulators[*index].takes_back());
        let program = |accumulators| Program { accumulators, folds: Vec::new() };
        let (exact, plain) = (program(exact), program(plain));
        let (free, preferred, released, outs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // The first slot is that of no rows.
        Ok(Bank { parts, accumulators, claimed: vec![true], free, preferred, released, exact, plain, outs })
    }

    /// Whether any state cannot be taken back.
    pub fn has_plain(&self) -> bool {
        !self.plain.accumulators.is_empty()
    }

    /// The number of slots there have been at once.
    pub fn slots(&self) -> usize {
        self.claimed.len()
    }

    /// A slot with the state of no rows.
    pub fn claim(&mut self) -> u32 {
        let slot = self.preferred.pop().or_else(|| self.free.pop()).unwrap_or(self.claimed.len() as u32);
        if slot as usize >= self.claimed.len() {
            self.claimed.resize(slot as usize + 1, false);
        }
        self.claimed[slot as usize] = true;
        slot
    }

    /// Claims the free ones of these slots before others; none claims slots as they come, the gaps between others first.
    pub fn prefer(&mut self, slots: Option<Range<u32>>) {
        let is_free = |slot: &u32| !self.claimed.get(*slot as usize).copied().unwrap_or(false);
        match slots {
            Some(slots) => self.preferred = slots.rev().filter(is_free).collect(),
            None => {
                self.free = (0..self.claimed.len() as u32).rev().filter(is_free).collect();
                self.preferred.clear();
            }
        }
    }

    /// `slot`, which is claimed when there is none yet.
    pub fn claimed(&mut self, slot: &mut u32) -> u32 {
        if *slot == NONE {
            *slot = self.claim();
        }
        *slot
    }

    /// Lets a slot go when the chunk is done.
    pub fn release(&mut self, slot: u32) {
        if slot != NONE {
            self.released.push(slot);
        }
    }

    /// The slot of the answer of row `row` of the chunk.
    pub fn out(&mut self, row: usize) -> u32 {
        while self.outs.len() <= row {
            let slot = self.claim();
            self.outs.push(slot);
        }
        self.outs[row]
    }

    /// The calls' columns for the first rows of the chunk, which were answered.
    pub fn columns(&mut self, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        self.resize();
        self.parts.evaluate(&self.accumulators, &self.outs[..rows])
    }

    /// All accumulators fold.
    pub fn both(&mut self, how: How, from: u32, to: u32) {
        self.exact(how, from, to);
        self.plain(how, from, to);
    }

    /// The accumulators fold that take states back.
    pub fn exact(&mut self, how: How, from: u32, to: u32) {
        self.exact.push(how, from, to);
    }

    /// The other accumulators fold.
    pub fn plain(&mut self, how: How, from: u32, to: u32) {
        self.plain.push(how, from, to);
    }

    fn resize(&mut self) {
        let slots = self.slots();
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(slots));
    }

    /// Adds row i to slot i of `slots`, at once.
    pub fn take(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.resize();
        let rows = Rows { columns, weights: None };
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(slots, &rows))
    }

    /// Runs what was written down.
    pub fn run(&mut self) -> Result<(), ArrowError> {
        if self.exact.folds.is_empty() && self.plain.folds.is_empty() {
            return Ok(());
        }
        self.resize();
        for program in [&mut self.exact, &mut self.plain] {
            for index in &program.accumulators {
                self.accumulators[*index].fold(&program.folds)?;
            }
            program.folds.clear();
        }
        Ok(())
    }

    /// The calls' columns, with a value for each of `slots`.
    pub fn evaluate(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.resize();
        self.parts.evaluate(&self.accumulators, slots)
    }

    /// The column of one accumulator's only call.
    pub fn evaluate_one(&mut self, index: usize, slots: &[u32]) -> Result<ArrayRef, ArrowError> {
        self.resize();
        let mut columns = self.accumulators[index].evaluate(slots)?;
        Ok(columns.swap_remove(0))
    }

    /// The chunk is done: what was released is free.
    pub fn settle(&mut self) {
        self.resize();
        let outs = self.outs.len().min(DELTA_ROWS_MAX);
        self.released.extend(self.outs.drain(outs..));
        for slot in &self.released {
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.retire(*slot));
            self.claimed[*slot as usize] = false;
        }
        self.free.append(&mut self.released);
    }

    /// Appends the states of a slot; a slot that never had one is empty.
    pub fn write(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let slot = if slot == NONE { EMPTY } else { slot };
        self.accumulators.iter().try_for_each(|accumulator| accumulator.write(slot, out))
    }

    /// Sets the states of a slot to what [`Bank::write`] wrote.
    pub fn read(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<(), Damage> {
        self.resize();
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.read(slot, from))
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let states: u64 = self.accumulators.iter().map(|accumulator| accumulator.bytes()).sum();
        let lists = self.free.capacity() + self.outs.capacity() + self.released.capacity() + self.preferred.capacity();
        states + (4 * lists + self.claimed.capacity()) as u64
    }
}

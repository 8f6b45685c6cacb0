//! [`Accumulator`]: the state of one or more aggregate calls for all groups, a dense slot each.
//!
//! Accumulators are vectorised: they take a chunk's rows with the slot of each, and give a column for each call. Most
//! are [`Cells`] of a [`Family`], which says what one group's state is and how rows change it; dispatch is once a
//! chunk, and the loops within are typed. State is additive: two states of a group merge into one, in any order, with
//! the same bits.

use std::any::Any;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{ArrowError, DataType};

use super::distinct::Distinct;
use crate::keep::wire::{Damage, Reader};
use crate::operators::census::Census;

/// A chunk's columns and the weight of each row.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The columns, which calls name by index.
    pub columns: &'a [ArrayRef],
    /// The weights; none means all +1.
    pub weights: Option<&'a [i64]>,
}

impl Rows<'_> {
    /// The rows whose arguments are not null and for which the filter is true; none means all.
    pub fn mask(&self, args: &[usize], filter: Option<usize>) -> Option<BooleanBuffer> {
        let valid =
            |column: &ArrayRef| column.nulls().filter(|nulls| nulls.null_count() > 0).map(|n| n.inner().clone());
        let mut mask: Option<BooleanBuffer> = None;
        let mut narrow = |more: BooleanBuffer| {
            mask = Some(match mask.take() {
                Some(mask) => &mask & &more,
                None => more,
            });
        };
        args.iter().filter_map(|arg| valid(&self.columns[*arg])).for_each(&mut narrow);
        if let Some(filter) = filter {
            let column = &self.columns[filter];
            narrow(column.as_boolean().values().clone());
            valid(column).into_iter().for_each(&mut narrow);
        }
        mask
    }

    /// Calls `each` with row, slot and weight of every row in `mask`.
    #[inline]
    pub fn each(&self, slots: &[u32], mask: Option<&BooleanBuffer>, mut each: impl FnMut(usize, usize, i64)) {
        match (mask, self.weights) {
            (None, None) => slots.iter().enumerate().for_each(|(row, slot)| each(row, *slot as usize, 1)),
            (None, Some(weights)) => {
                slots.iter().zip(weights).enumerate().for_each(|(row, (slot, w))| each(row, *slot as usize, *w));
            }
            (Some(mask), None) => mask.set_indices().for_each(|row| each(row, slots[row] as usize, 1)),
            (Some(mask), Some(weights)) => {
                mask.set_indices().for_each(|row| each(row, slots[row] as usize, weights[row]));
            }
        }
    }
}

/// How a state changes by another one of the same accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It becomes the other.
    Set,
    /// The other is added to it.
    Add,
    /// The other, which was added before, is taken from it; where [`Accumulator::takes_back`] alone.
    Take,
}

/// A change of the state `to` by the state `from`, which is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fold {
    /// How.
    pub how: How,
    /// The slot that is read.
    pub from: u32,
    /// The slot that changes.
    pub to: u32,
}

/// The state of one or more aggregate calls, a slot for each group.
pub(crate) trait Accumulator: Send {
    /// Makes room for slots `0..slots`.
    fn resize(&mut self, slots: usize);

    /// Takes rows; `slots` has the slot of each.
    fn update(&mut self, slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError>;

    /// One column a call, with a value for each of `slots`.
    fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError>;

    /// Adds the states `from` of another accumulator of the same kind to the states `to` of this one.
    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<(), ArrowError>;

    /// Changes states by others of this accumulator, one after another.
    fn fold(&mut self, folds: &[Fold]) -> Result<(), ArrowError> {
        let _ = folds;
        Err(ArrowError::ComputeError("this aggregate's states do not fold".to_string()))
    }

    /// Whether a state can be taken from one that it was added to.
    fn takes_back(&self) -> bool {
        false
    }

    /// Forgets a group; the slot will be another's.
    fn retire(&mut self, slot: u32);

    /// Sets a group to nothing once its partial state has left; what tells values apart stays.
    fn reset(&mut self, slot: u32) {
        self.retire(slot);
    }

    /// The types of the columns that hold a state on its way to another lane; none when it has no such form.
    fn partial_types(&self) -> Option<Vec<DataType>>;

    /// The states of `slots` as columns of [`Accumulator::partial_types`].
    fn partial(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError>;

    /// Adds states that another lane's accumulator of the same kind gave.
    fn merge_partial(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError>;

    /// Entries held besides the groups themselves.
    fn entries(&self) -> u64;

    /// Bytes held, by capacity.
    fn bytes(&self) -> u64;

    /// Appends the state of a group in its canonical form, which does not tell its history.
    fn write(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// Sets the state of a group to what [`Accumulator::write`] wrote.
    fn read(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<(), Damage>;

    /// The accumulator as what it is.
    fn as_any(&self) -> &dyn Any;

    /// Itself, when it keeps different values.
    fn distinct(&self) -> Option<&Distinct> {
        None
    }

    /// Itself, when it keeps different values.
    fn distinct_mut(&mut self) -> Option<&mut Distinct> {
        None
    }

    /// About how many bytes different values of a group take.
    fn held_bytes(&self, slot: u32) -> u64 {
        let _ = slot;
        0
    }

    /// Whether it keeps different values of a group.
    fn holds(&self, slot: u32) -> bool {
        let _ = slot;
        false
    }
}

/// What one group's state is, and how rows change it.
pub(crate) trait Family: Send + 'static {
    /// The state of a group; its default is that of no rows.
    type State: Default + Send;

    /// Takes rows.
    fn update(&self, states: &mut [Self::State], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError>;

    /// Adds one state to another.
    fn merge(&self, into: &mut Self::State, from: &Self::State);

    /// Takes a state from one that it was added to.
    fn unmerge(&self, into: &mut Self::State, from: &Self::State) {
        let _ = (into, from);
    }

    /// Whether [`Family::unmerge`] does so.
    const TAKES_BACK: bool = false;

    /// One column a call.
    fn evaluate(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError>;

    /// The types of the columns that hold a state on its way to another lane.
    fn partial_types(&self) -> Option<Vec<DataType>> {
        None
    }

    /// States as columns.
    fn partial(&self, states: &[&Self::State]) -> Result<Vec<ArrayRef>, ArrowError> {
        let _ = states;
        Err(no_partial())
    }

    /// Adds states that came as columns.
    fn merge_partial(&self, states: &mut [Self::State], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let _ = (states, slots, columns);
        Err(no_partial())
    }

    /// Appends a state in its canonical form.
    fn write(&self, state: &Self::State, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// Reads what [`Family::write`] wrote.
    fn read(&self, from: &mut Reader<'_>) -> Result<Self::State, Damage>;

    /// Entries that a state holds.
    fn entries(&self, state: &Self::State) -> usize {
        let _ = state;
        0
    }

    /// Bytes that a state holds on the heap.
    fn heap_bytes(&self, state: &Self::State) -> usize {
        let _ = state;
        0
    }

    /// Whether [`Family::heap_bytes`] and [`Family::entries`] are always 0.
    const FLAT: bool = true;
}

fn no_partial() -> ArrowError {
    ArrowError::ComputeError("this aggregate's state does not travel as columns".to_string())
}

/// The states of a family, one a slot.
pub(crate) struct Cells<F: Family> {
    family: F,
    states: Vec<F::State>,
    entries: Census,
    heap: Census,
}

impl<F: Family> Cells<F> {
    /// No groups yet.
    pub fn new(family: F) -> Self {
        Cells { family, states: Vec::new(), entries: Census::default(), heap: Census::default() }
    }

    fn pick(&self, slots: &[u32]) -> Vec<&F::State> {
        slots.iter().map(|slot| &self.states[*slot as usize]).collect()
    }
}

impl<F: Family> Accumulator for Cells<F> {
    fn resize(&mut self, slots: usize) {
        if self.states.len() < slots {
            self.states.resize_with(slots, F::State::default);
        }
    }

    fn update(&mut self, slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        self.family.update(&mut self.states, slots, rows)
    }

    fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.family.evaluate(&self.pick(slots))
    }

    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<(), ArrowError> {
        let other = other.as_any().downcast_ref::<Self>().ok_or_else(not_alike)?;
        for (from, to) in from.iter().zip(to) {
            self.family.merge(&mut self.states[*to as usize], &other.states[*from as usize]);
        }
        Ok(())
    }

    fn fold(&mut self, folds: &[Fold]) -> Result<(), ArrowError> {
        for Fold { how, from, to } in folds {
            if *how == How::Set {
                self.states[*to as usize] = F::State::default();
            }
            let Ok([from, to]) = self.states.get_disjoint_mut([*from as usize, *to as usize]) else {
                return Err(ArrowError::ComputeError("a state cannot change by itself".to_string()));
            };
            match how {
                How::Set | How::Add => self.family.merge(to, from),
                How::Take => self.family.unmerge(to, from),
            }
        }
        Ok(())
    }

    fn takes_back(&self) -> bool {
        F::TAKES_BACK
    }

    fn retire(&mut self, slot: u32) {
        self.states[slot as usize] = F::State::default();
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        self.family.partial_types()
    }

    fn partial(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.family.partial(&self.pick(slots))
    }

    fn merge_partial(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.family.merge_partial(&mut self.states, slots, columns)
    }

    fn entries(&self) -> u64 {
        if F::FLAT { 0 } else { self.entries.sum(&self.states, |state| self.family.entries(state) as u64) }
    }

    fn bytes(&self) -> u64 {
        let flat = (self.states.capacity() * size_of::<F::State>()) as u64;
        let heap = |state: &F::State| self.family.heap_bytes(state) as u64;
        flat + if F::FLAT { 0 } else { self.heap.sum(&self.states, heap) }
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.family.write(&self.states[slot as usize], out)
    }

    fn read(&mut self, slot: u32, from: &mut Reader<'_>) -> Result<(), Damage> {
        self.states[slot as usize] = self.family.read(from)?;
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The error of merging accumulators of different kinds.
pub(crate) fn not_alike() -> ArrowError {
    ArrowError::ComputeError("two accumulators that should merge are of different kinds".to_string())
}

//! COUNT, and BOOL_AND / BOOL_OR, which count true and false.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Family, Rows};
use super::value::finish;
use crate::keep::wire::{Damage, Reader};

/// Rows, or rows whose arguments are not null.
pub(super) struct Count {
    /// Arguments that must not be null.
    pub args: Vec<usize>,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// The type of the result.
    pub result: DataType,
}

impl Family for Count {
    type State = i64;

    fn update(&self, states: &mut [i64], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&self.args, self.filter);
        rows.each(slots, mask.as_ref(), |_, slot, weight| states[slot] += weight);
        Ok(())
    }

    fn merge(&self, into: &mut i64, from: &i64) {
        *into += from;
    }

    fn unmerge(&self, into: &mut i64, from: &i64) {
        *into -= from;
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&i64]) -> Result<Vec<ArrayRef>, ArrowError> {
        let counts = Int64Array::from_iter_values(states.iter().map(|count| **count));
        Ok(vec![finish(Arc::new(counts), &self.result)?])
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64])
    }

    fn partial(&self, states: &[&i64]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![Arc::new(states.iter().map(|count| **count).collect::<Int64Array>())])
    }

    fn merge_partial(&self, states: &mut [i64], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let counts = columns[0].as_primitive::<Int64Type>().values();
        slots.iter().zip(counts).for_each(|(slot, count)| states[*slot as usize] += count);
        Ok(())
    }

    fn write(&self, state: &i64, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&state.to_le_bytes());
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<i64, Damage> {
        from.i64()
    }
}

/// BOOL_AND and BOOL_OR of one argument.
pub(super) struct Bools {
    /// The boolean column.
    pub arg: usize,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// For each call whether it is BOOL_AND.
    pub all: Vec<bool>,
}

impl Family for Bools {
    /// How often false and true came.
    type State = [i64; 2];

    fn update(&self, states: &mut [[i64; 2]], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.arg], self.filter);
        let values = rows.columns[self.arg].as_boolean().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| states[slot][usize::from(values.value(row))] += weight);
        Ok(())
    }

    fn merge(&self, into: &mut [i64; 2], from: &[i64; 2]) {
        into[0] += from[0];
        into[1] += from[1];
    }

    fn unmerge(&self, into: &mut [i64; 2], from: &[i64; 2]) {
        into[0] -= from[0];
        into[1] -= from[1];
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&[i64; 2]]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |all: &bool| -> ArrayRef {
            let value = |[no, yes]: &[i64; 2]| match (*no > 0, *yes > 0) {
                (false, false) => None,
                (no, yes) => Some(if *all { !no } else { yes }),
            };
            Arc::new(states.iter().map(|state| value(state)).collect::<BooleanArray>())
        };
        Ok(self.all.iter().map(column).collect())
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64, DataType::Int64])
    }

    fn partial(&self, states: &[&[i64; 2]]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column =
            |index: usize| Arc::new(states.iter().map(|state| state[index]).collect::<Int64Array>()) as ArrayRef;
        Ok(vec![column(0), column(1)])
    }

    fn merge_partial(&self, states: &mut [[i64; 2]], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        for (index, column) in columns.iter().enumerate() {
            let counts = column.as_primitive::<Int64Type>();
            debug_assert_eq!(counts.null_count(), 0);
            slots.iter().zip(counts.values()).for_each(|(slot, count)| states[*slot as usize][index] += count);
        }
        Ok(())
    }

    fn write(&self, state: &[i64; 2], out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<[i64; 2], Damage> {
        Ok([from.i64()?, from.i64()?])
    }
}

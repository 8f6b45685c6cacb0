//! [`Lags`]: `LAG(column, offset, default)`, the values of the last rows of each key.

use std::collections::VecDeque;

use arrow_array::{ArrayRef, BooleanArray};
use arrow_schema::{ArrowError, DataType};
use arrow_select::zip::zip;

use super::bank::{Bank, EMPTY};
use crate::keep::wire::{Damage, Reader};
use crate::operators::aggregate::parts::Setting;
use crate::plan::{AggregateCall, AggregateFunction};

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Lag {
    /// The column.
    pub column: usize,
    /// How many rows before.
    pub offset: usize,
    /// The column of the value when there is no such row.
    pub default: Option<usize>,
}

/// The last rows of a key, the newest last: a slot of [`Lags`] for each.
pub(super) type Tail = VecDeque<u32>;

/// The values that calls look back at.
pub(super) struct Lags {
    calls: Vec<Lag>,
    /// The column of each call, a slot for each row: the least of one value is that value.
    bank: Bank,
    /// How many rows are looked back.
    depth: usize,
    /// For each call the slot that answers each row of the chunk.
    sources: Vec<Vec<u32>>,
    leaves: Vec<u32>,
}

impl Lags {
    /// What calls look back at; or what is not supported.
    pub fn new(calls: Vec<Lag>, setting: &Setting) -> Result<Self, String> {
        let least = |lag: &Lag| AggregateCall {
            function: AggregateFunction::Min,
            args: vec![lag.column],
            filter: None,
            distinct: false,
            result: setting.types[lag.column].clone(),
        };
        let least: Vec<AggregateCall> = calls.iter().map(least).collect();
        let wrong = |lag: &Lag| lag.default.is_some_and(|default| setting.types[default] != setting.types[lag.column]);
        if calls.iter().any(wrong) {
            return Err("LAG with a default of another type".to_string());
        }
        if calls.iter().any(|lag| lag.offset == 0) {
            return Err("LAG of the row itself".to_string());
        }
        let bank = Bank::new(&least, setting).map_err(|_| "LAG of this type".to_string())?;
        let depth = calls.iter().map(|lag| lag.offset).max().unwrap_or(0);
        let sources = vec![Vec::new(); calls.len()];
        Ok(Lags { calls, bank, depth, sources, leaves: Vec::new() })
    }

    /// Takes the values of a chunk's rows.
    pub fn take(&mut self, rows: usize, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.leaves = (0..rows).map(|_| self.bank.claim()).collect();
        self.sources.iter_mut().for_each(|sources| {
            sources.clear();
            sources.resize(rows, EMPTY);
        });
        self.bank.take(&self.leaves, columns)
    }

    /// Row `row` of the chunk is the next one of a key.
    pub fn next(&mut self, tail: &mut Tail, row: usize) {
        for (call, sources) in self.calls.iter().zip(&mut self.sources) {
            if let Some(place) = tail.len().checked_sub(call.offset) {
                sources[row] = tail[place];
            }
        }
        tail.push_back(self.leaves[row]);
        if tail.len() > self.depth {
            tail.pop_front().into_iter().for_each(|slot| self.bank.release(slot));
        }
    }

    /// The calls' columns.
    pub fn columns(&mut self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut answers = Vec::with_capacity(self.calls.len());
        for (index, (call, sources)) in self.calls.iter().zip(&self.sources).enumerate() {
            let values = self.bank.evaluate_one(index, sources)?;
            answers.push(match call.default {
                None => values,
                Some(default) => {
                    let there: BooleanArray = sources.iter().map(|slot| Some(*slot != EMPTY)).collect();
                    zip(&there, &values, &columns[default])?
                }
            });
        }
        Ok(answers)
    }

    /// The chunk is done.
    pub fn settle(&mut self) {
        self.bank.settle();
    }

    /// The types of the calls' columns.
    pub fn types(&mut self) -> Result<Vec<DataType>, ArrowError> {
        (0..self.calls.len()).map(|index| Ok(self.bank.evaluate_one(index, &[])?.data_type().clone())).collect()
    }

    /// Appends the values of a tail.
    pub fn write(&self, tail: &Tail, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&(tail.len() as u32).to_le_bytes());
        tail.iter().try_for_each(|slot| self.bank.write(*slot, out))
    }

    /// Sets a tail to what [`Lags::write`] wrote.
    pub fn read(&mut self, tail: &mut Tail, from: &mut Reader<'_>) -> Result<(), Damage> {
        for _ in 0..from.count(1)? {
            let slot = self.bank.claim();
            tail.push_back(slot);
            self.bank.read(slot, from)?;
        }
        while tail.len() > self.depth {
            tail.pop_front().into_iter().for_each(|slot| self.bank.release(slot));
        }
        Ok(())
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        self.bank.bytes()
    }
}

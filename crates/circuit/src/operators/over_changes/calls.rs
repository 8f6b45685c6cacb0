//! [`Calls`]: what is computed for each place of a sheet.
//!
//! Aggregates are states in the slots of a [`Bank`], as in `OVER` that answers once: a running state follows the frames
//! where they start at the first row or where states can be taken back, and frames are put together of few partial states
//! where not. Different values are counted row by row as they come into the frame and leave it.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, UInt32Array, UInt64Array, new_null_array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::concat::concat;
use arrow_select::interleave::interleave;
use arrow_select::take::take;

use super::frames::frames;
use super::sheet::Sheet;
use crate::operators::aggregate::accumulator::{Accumulator, How, Rows};
use crate::operators::aggregate::parts::{Parts, Setting};
use crate::operators::over::bank::Bank;
use crate::operators::over::line::{Element, Line};
use crate::plan::{AggregateCall, AggregateFunction, FrameBound, OverFunction};

/// The functions of a node.
pub(super) struct Calls {
    /// Aggregates whose states are put together.
    plain: Vec<AggregateCall>,
    /// Aggregates of different values.
    distinct: Vec<AggregateCall>,
    shifts: Vec<Shift>,
    /// Where the column of each call comes from.
    sources: Vec<Source>,
    /// The types of the input's columns, and of a row's place.
    types: Vec<DataType>,
}

/// Where the column of a call comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Plain(usize),
    Distinct(usize),
    Shift(usize),
    Number,
    Rank,
    DenseRank,
}

/// LAG, or LEAD.
struct Shift {
    column: usize,
    offset: usize,
    ahead: bool,
    default: Option<usize>,
}

impl Calls {
    /// Functions over rows of `input`; or what is not supported.
    pub fn new(functions: &[OverFunction], input: &SchemaRef) -> Result<Self, String> {
        let mut types: Vec<DataType> = input.fields().iter().map(|field| field.data_type().clone()).collect();
        types.push(DataType::UInt64);
        let (plain, distinct, shifts, sources) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut calls = Calls { plain, distinct, shifts, sources, types };
        functions.iter().try_for_each(|function| calls.add(function))?;
        Ok(calls)
    }

    fn add(&mut self, function: &OverFunction) -> Result<(), String> {
        use AggregateFunction::*;
        let source = match function {
            OverFunction::RowNumber => Source::Number,
            OverFunction::Rank => Source::Rank,
            OverFunction::DenseRank => Source::DenseRank,
            OverFunction::Lag { column, offset, default } => self.shift(*column, *offset, false, *default)?,
            OverFunction::Lead { column, offset, default } => self.shift(*column, *offset, true, *default)?,
            OverFunction::Aggregate(call) => {
                let tells_apart = match call.function {
                    // Exact, as everywhere over rows that may be taken back.
                    ApproxCountDistinct => true,
                    Count | Sum | Avg | StddevPop | StddevSamp | VarPop | VarSamp => call.distinct,
                    _ => false,
                };
                let list = if tells_apart { &mut self.distinct } else { &mut self.plain };
                list.push(call.clone());
                let place = list.len() - 1;
                if tells_apart { Source::Distinct(place) } else { Source::Plain(place) }
            }
        };
        self.sources.push(source);
        Ok(())
    }

    fn shift(&mut self, column: usize, offset: u64, ahead: bool, default: Option<usize>) -> Result<Source, String> {
        if default.is_some_and(|default| self.types[default] != self.types[column]) {
            return Err("LAG or LEAD with a default of another type".to_string());
        }
        // No key has as many rows.
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.shifts.push(Shift { column, offset, ahead, default });
        Ok(Source::Shift(self.shifts.len() - 1))
    }

    fn bank(&self) -> Result<Bank, String> {
        let (types, append_only) = (self.types.clone(), true);
        Bank::new(&self.plain, &Setting { types, append_only, retiring: false, inline: false })
    }

    fn counter(&self) -> Result<Counter, String> {
        let setting = Setting { types: self.types.clone(), append_only: false, retiring: false, inline: false };
        let parts = Parts::new(&self.distinct, false);
        Ok(Counter { accumulators: parts.make(&setting)?, parts })
    }

    /// The types of the calls' columns; or what is not supported.
    pub fn types(&self) -> Result<Vec<DataType>, String> {
        let told = |error: ArrowError| error.to_string();
        let plain = self.bank()?.evaluate(&[]).map_err(told)?;
        let counter = self.counter()?;
        let distinct = counter.parts.evaluate(&counter.accumulators, &[]).map_err(told)?;
        let type_of = |source: &Source| match *source {
            Source::Plain(call) => plain[call].data_type().clone(),
            Source::Distinct(call) => distinct[call].data_type().clone(),
            Source::Shift(call) => self.types[self.shifts[call].column].clone(),
            Source::Number | Source::Rank | Source::DenseRank => DataType::Int64,
        };
        Ok(self.sources.iter().map(type_of).collect())
    }

    /// Whether a column of the input is read.
    pub fn reads(&self, column: usize) -> bool {
        let aggregates = self.plain.iter().chain(&self.distinct);
        let shifts = self.shifts.iter();
        aggregates.flat_map(|call| call.args.iter().copied().chain(call.filter)).any(|read| read == column)
            || shifts.flat_map(|shift| [Some(shift.column), shift.default]).any(|read| read == Some(column))
    }

    /// The calls' columns for a sheet whose rows have these columns.
    pub fn evaluate(&self, sheet: &Sheet, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        let places: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..sheet.len() as u64));
        let all: Vec<ArrayRef> = columns.iter().cloned().chain([places]).collect();
        let framed = !self.plain.is_empty() || !self.distinct.is_empty();
        let frames = if framed { frames(sheet, columns) } else { Vec::new() };
        let plain = if self.plain.is_empty() { Vec::new() } else { self.plain(sheet, &frames, &all)? };
        let distinct = if self.distinct.is_empty() { Vec::new() } else { self.distinct(sheet, &frames, &all)? };
        let column = |source: &Source| match *source {
            Source::Plain(call) => Ok(plain[call].clone()),
            Source::Distinct(call) => Ok(distinct[call].clone()),
            Source::Shift(call) => shifted(&self.shifts[call], sheet, &all),
            Source::Number | Source::Rank | Source::DenseRank => Ok(ranks(*source, sheet)),
        };
        self.sources.iter().map(column).collect()
    }

    /// The columns of aggregates whose states are put together.
    fn plain(&self, sheet: &Sheet, frames: &[Range<usize>], columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut bank = self.bank().map_err(ArrowError::ComputeError)?;
        let leaves: Vec<u32> = (0..sheet.len()).map(|_| bank.claim()).collect();
        bank.take(&leaves, columns)?;
        let from_first = sheet.frame.start == FrameBound::Unbounded;
        for part in sheet.parts() {
            let mut line = Line::default();
            if !from_first && bank.has_plain() {
                for place in part.clone() {
                    line.insert(line.len(), Element { at: place as i64, slot: leaves[place] }, true, &mut bank);
                }
            }
            let (total, mut within) = (bank.claim(), part.start..part.start);
            for place in part.clone() {
                let frame = &frames[place];
                for leaf in &leaves[within.end..frame.end.max(within.end)] {
                    bank.exact(How::Add, *leaf, total);
                    if from_first {
                        bank.plain(How::Add, *leaf, total);
                    }
                }
                for leaf in &leaves[within.start..frame.start.max(within.start)] {
                    bank.exact(How::Take, *leaf, total);
                }
                within = frame.start.max(within.start)..frame.end.max(within.end);
                let out = bank.out(place);
                bank.exact(How::Set, total, out);
                match from_first {
                    true => bank.plain(How::Set, total, out),
                    false if bank.has_plain() => {
                        let (from, to) = (frame.start - part.start, frame.end - part.start);
                        line.cover(from, to, |slot| bank.plain(How::Add, slot, out));
                    }
                    false => {}
                }
            }
        }
        bank.run()?;
        bank.columns(sheet.len())
    }

    /// The columns of aggregates of different values.
    fn distinct(
        &self,
        sheet: &Sheet,
        frames: &[Range<usize>],
        columns: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut counter = self.counter().map_err(ArrowError::ComputeError)?;
        let (mut answers, mut numbers) = (Vec::new(), Vec::with_capacity(sheet.len()));
        for (group, part) in sheet.parts().enumerate() {
            let mut within = part.start..part.start;
            for place in part.clone() {
                let frame = frames[place].clone();
                if place == part.start || frame != frames[place - 1] {
                    counter.count(group as u32, within.end..frame.end, columns, 1)?;
                    counter.count(group as u32, within.start..frame.start, columns, -1)?;
                    within = frame;
                    answers.push(counter.parts.evaluate(&counter.accumulators, &[group as u32])?);
                }
                numbers.push(answers.len() as u32 - 1);
            }
        }
        let numbers = UInt32Array::from(numbers);
        let column = |call: usize| {
            let answers: Vec<&dyn Array> =
                answers.iter().map(|answers: &Vec<ArrayRef>| answers[call].as_ref()).collect();
            take(&concat(&answers)?, &numbers, None)
        };
        (0..self.distinct.len()).map(column).collect()
    }
}

/// Counts different values, each by how often it is there.
struct Counter {
    parts: Parts,
    accumulators: Vec<Box<dyn Accumulator>>,
}

impl Counter {
    /// Counts places once more, or once less.
    fn count(&mut self, group: u32, places: Range<usize>, columns: &[ArrayRef], weight: i64) -> Result<(), ArrowError> {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(group as usize + 1));
        if places.is_empty() {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = columns.iter().map(|column| column.slice(places.start, places.len())).collect();
        let (slots, weights) = (vec![group; places.len()], vec![weight; places.len()]);
        let rows = Rows { columns: &columns, weights: Some(&weights) };
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.update(&slots, &rows))
    }
}

/// The values so many rows before or after each place.
fn shifted(shift: &Shift, sheet: &Sheet, columns: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let values = &columns[shift.column];
    let null = new_null_array(values.data_type(), 1);
    let default = shift.default.map(|default| &columns[default]);
    let mut sources = Vec::with_capacity(sheet.len());
    for part in sheet.parts() {
        for place in part.clone() {
            let other = match shift.ahead {
                true => place.checked_add(shift.offset),
                false => place.checked_sub(shift.offset),
            };
            sources.push(match (other.filter(|other| part.contains(other)), default) {
                (Some(other), _) => (0, other),
                (None, Some(_)) => (1, place),
                (None, None) => (1, 0),
            });
        }
    }
    interleave(&[values.as_ref(), default.unwrap_or(&null).as_ref()], &sources)
}

/// The numbers of the places among those of their key.
fn ranks(source: Source, sheet: &Sheet) -> ArrayRef {
    let mut ranks = Vec::with_capacity(sheet.len());
    for part in sheet.parts() {
        let (mut rank, mut dense) = (0, 0);
        for (before, place) in part.enumerate() {
            if sheet.opens(place) {
                (rank, dense) = (before as i64 + 1, dense + 1);
            }
            ranks.push(match source {
                Source::Rank => rank,
                Source::DenseRank => dense,
                _ => before as i64 + 1,
            });
        }
    }
    Arc::new(Int64Array::from(ranks))
}

//! `OVER` that follows changes: every row of a key is answered as the key's rows are after each step.
//!
//! The rows of a key are an ordered multiset ([`Ordered`]). When a step is flushed each key that has changed is computed
//! twice, with the rows it had and with those it has ([`Sheet`]), and where the answers of a row differ the old one is taken
//! back and the new one given. So no answer is kept, and what is kept is the rows alone. A key that has expired is forgotten,
//! and stays answered; of one in an order of time, so are rows that nobody looks at any more ([`Horizon`]).

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::take::take;

use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, TaskId};
use crate::keep::keeper::Keeper;
use crate::keep::value::Column;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::operators::guard::Guard;
use crate::operators::ordered::{Layout, Ordered};
use crate::operators::time::{is_time, unexpired};
use crate::plan::{FrameBound, FrameUnits, OverChangesSpec, OverFunction};
use calls::Calls;
use frames::counts;
use horizon::Horizon;
use sheet::Sheet;

mod calls;
mod frames;
mod horizon;
mod sheet;

#[cfg(test)]
mod tests;

/// What all lanes' operators of one node have in common.
struct Design {
    spec: OverChangesSpec,
    layout: Layout,
    calls: Calls,
    /// How many rows around those that change have to be computed; none means all.
    margin: Option<usize>,
    schema: SchemaRef,
    guard: Guard,
}

impl Design {
    /// The design of a node; or what is not supported.
    fn new(lowering: &Lowering<'_>, spec: &OverChangesSpec) -> Result<Self, String> {
        let input = &lowering.input_schemas[0];
        check(spec, input)?;
        let mut layout = Layout::new(input, &spec.keys, &spec.order)?;
        layout.ttl_ms = lowering.ttl_ms.filter(|_| lowering.node.takes_ttl());
        layout.time = spec.expiry.map(|expiry| expiry.time);
        if let Some(time) = layout.time
            && !(spec.keys.contains(&time) && is_time(input.field(time).data_type()))
        {
            return Err(format!("OVER that ends with '{}', which is no time of its keys", input.field(time).name()));
        }
        let calls = Calls::new(&spec.calls, input)?;
        let types: Vec<DataType> = input.fields().iter().map(|field| field.data_type().clone()).collect();
        let given = types.into_iter().chain(calls.types()?);
        if !given.eq(lowering.node.schema.fields().iter().map(|field| field.data_type().clone())) {
            return Err("OVER with other columns than its input's and its calls'".to_string());
        }
        let (schema, guard) = (lowering.node.schema.clone(), Guard::of(lowering));
        Ok(Design { spec: spec.clone(), layout, calls, margin: margin(spec), schema, guard })
    }
}

/// How many rows before and after those that change have to be computed with them, where answers look at so many rows before
/// and after their own alone.
///
/// Further rows are not needed: a row whose answer can change sees no others, and one beyond, which sees the margin's end,
/// sees the same before the step and after it.
fn margin(spec: &OverChangesSpec) -> Option<usize> {
    let (mut back, mut ahead) = (0, 0);
    for call in &spec.calls {
        match call {
            OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => return None,
            OverFunction::Lag { offset, .. } => back = back.max(*offset),
            OverFunction::Lead { offset, .. } => ahead = ahead.max(*offset),
            OverFunction::Aggregate(_) => match (spec.frame.units, spec.frame.start, spec.frame.end) {
                (FrameUnits::Range, _, _) | (_, FrameBound::Unbounded, _) | (_, _, FrameBound::Unbounded) => {
                    return None;
                }
                (FrameUnits::Rows, start, end) => {
                    if let FrameBound::Preceding(rows) = start {
                        back = back.max(rows);
                    }
                    if let FrameBound::Following(rows) = end {
                        ahead = ahead.max(rows);
                    }
                }
            },
        }
    }
    usize::try_from(back.saturating_add(ahead)).ok()
}

/// Whether the frame and the order go together.
fn check(spec: &OverChangesSpec, input: &SchemaRef) -> Result<(), String> {
    let (start, end) = (spec.frame.start, spec.frame.end);
    if spec.frame.units == FrameUnits::Range && (counts(start) || counts(end)) {
        let [by] = &spec.order[..] else {
            return Err("OVER a RANGE that counts, without one column to order by".to_string());
        };
        let field = input.field(by.column);
        if frames::values(&arrow_array::new_empty_array(field.data_type()), false).is_none() {
            return Err(format!("OVER a RANGE that counts by '{}', which is no time or integer", field.name()));
        }
    }
    if let Some(settled) = spec.settled {
        let field = input.field(settled.time);
        let first = spec.order.first().is_some_and(|by| by.column == settled.time && !by.descending);
        if !first || !is_time(field.data_type()) {
            return Err(format!("OVER whose rows settle by '{}', by which it is not ordered first", field.name()));
        }
    }
    // As far as that can be known from the bounds alone.
    let is_empty = match (start, end) {
        (FrameBound::Preceding(start), FrameBound::Preceding(end)) => start < end,
        (FrameBound::Following(start), FrameBound::Following(end)) => start > end,
        (FrameBound::Following(_), FrameBound::CurrentRow | FrameBound::Preceding(_)) => true,
        (FrameBound::CurrentRow, FrameBound::Preceding(_)) => true,
        _ => false,
    };
    if is_empty { Err("OVER a frame that ends before it starts".to_string()) } else { Ok(()) }
}

/// Answers rows over all rows of their key.
struct OverChanges {
    design: Arc<Design>,
    rows: Ordered,
    /// What is forgotten of keys in an order of time.
    horizon: Option<Horizon>,
    /// Keys that have changed in this step, and how many of them are answered; none while rows come.
    answering: Option<(Vec<u32>, usize)>,
}

impl OverChanges {
    /// Forgets what has gone, and keys that have expired.
    fn end_step(&mut self, clock: i64) -> Result<(), ArrowError> {
        let changed = if self.horizon.is_some() { self.rows.changed().to_vec() } else { Vec::new() };
        self.rows.settle()?;
        if let Some(horizon) = &mut self.horizon {
            horizon.pass(&mut self.rows, changed, clock)?;
        }
        if let Some(expiry) = self.design.spec.expiry {
            let over = self.rows.take_due(|time| expiry.is_over(time, clock));
            self.rows.forget(&over)?;
        }
        self.rows.sweep()
    }

    /// What differs in the answers of some keys.
    fn answer(&self, keys: &[u32]) -> Result<Delta, ArrowError> {
        let design = &self.design;
        let sheet = Sheet::of(&design.spec, design.margin, &self.rows, keys);
        let none = || Ok(Delta::empty(design.schema.clone()));
        if sheet.is_empty() {
            return none();
        }
        // What is computed reads a few columns of many rows, of which a few come out whole.
        let by = sheet.by.map(|(column, _)| column);
        let reads = |column: usize| by == Some(column) || design.calls.reads(column);
        let answers = design.calls.evaluate(&sheet, &self.rows.some_columns(sheet.slots(), reads)?)?;
        let (places, weights) = differences(&sheet, &answers)?;
        if places.is_empty() {
            return none();
        }
        let columns = self.rows.columns(places.iter().map(|place| sheet.slot(*place as usize)))?;
        let places = UInt32Array::from(places);
        let answers = answers.iter().map(|column| take(column, &places, None));
        let taken = columns.into_iter().map(Ok).chain(answers);
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let taken = taken.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new_with_options(self.design.schema.clone(), taken, &options)?;
        Ok(match weights.iter().all(|weight| *weight == 1) {
            true => Delta::inserts(batch),
            false => Delta::weighted(batch, weights),
        })
    }
}

/// The rows of a sheet that go and those that come, of each key those that go first.
fn differences(sheet: &Sheet, answers: &[ArrayRef]) -> Result<(Vec<u32>, Vec<i64>), ArrowError> {
    let writers = answers.iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let (mut places, mut weights) = (Vec::new(), Vec::new());
    for (mut old, mut new) in sheet.keys() {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        while let Some(number) =
            [&old, &new].into_iter().filter(|range| !range.is_empty()).map(|range| sheet.number(range.start)).min()
        {
            let (before, after) = (sheet.take_row(number, &mut old), sheet.take_row(number, &mut new));
            differ(&writers, before, after, &mut gone, &mut come);
        }
        weights.resize(weights.len() + gone.len(), -1);
        places.append(&mut gone);
        weights.resize(weights.len() + come.len(), 1);
        places.append(&mut come);
    }
    Ok((places, weights))
}

/// Tells the answers that a row had from those that it has; it has several when it is there several times.
fn differ(writers: &[Column], old: Range<usize>, new: Range<usize>, gone: &mut Vec<u32>, come: &mut Vec<u32>) {
    let answer = |place: usize| {
        let mut bytes = Vec::new();
        writers.iter().for_each(|writer| writer.write(place, &mut bytes));
        (bytes, place as u32)
    };
    let sorted = |places: Range<usize>| {
        let mut answers: Vec<(Vec<u8>, u32)> = places.map(answer).collect();
        answers.sort();
        answers.into_iter().peekable()
    };
    let (mut old, mut new) = (sorted(old), sorted(new));
    loop {
        let ordering = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let (before, after) = (old.next_if(|_| ordering.is_le()), new.next_if(|_| ordering.is_ge()));
        if ordering.is_ne() {
            gone.extend(before.map(|(_, place)| place));
            come.extend(after.map(|(_, place)| place));
        }
    }
}

impl Operator for OverChanges {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (design, closed) = (&self.design, self.rows.progress.closed);
        let settled = design.spec.settled.filter(|_| self.horizon.is_some());
        let mut delta = delta;
        for expiry in design.spec.expiry.into_iter().chain(settled) {
            delta = unexpired(&design.guard, expiry, delta, closed, context, out)?;
        }
        self.rows.advance(context);
        self.rows.push(delta.batch(), delta.weights()).map_err(|error| design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.rows.advance(context);
        let (keys, mut answered) = self.answering.take().unwrap_or_else(|| (self.rows.changed().to_vec(), 0));
        let (start, mut rows) = (answered, 0);
        while answered < keys.len() && rows < DELTA_ROWS_MAX {
            rows += self.rows.slots_of(keys[answered]).iter().count();
            answered += 1;
        }
        if start < answered {
            let delta = self.answer(&keys[start..answered]).map_err(|error| self.design.guard.broken(error))?;
            // A key may have many rows.
            let starts = (0..delta.rows()).step_by(DELTA_ROWS_MAX);
            starts.for_each(|start| out.emit(delta.slice(start, DELTA_ROWS_MAX.min(delta.rows() - start))));
        }
        if answered < keys.len() {
            self.answering = Some((keys, answered));
            return Ok(Flush::More);
        }
        let clock = context.watermark.millis();
        self.end_step(clock).map_err(|error| self.design.guard.broken(error))?;
        self.rows.progress.closed = clock;
        self.rows.progress.started = true;
        Ok(Flush::Done)
    }

    fn state_size(&self) -> StateSize {
        let mut size = self.rows.size();
        size.bytes += self.horizon.as_ref().map_or(0, Horizon::bytes);
        size
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        self.rows.largest_keys(most)
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.rows)
    }
}

/// One task, on the lane of its key.
///
/// # Errors
/// [`Error::Unsupported`] for functions over types that they do not take, values that have no order, and frames that end
/// before they start.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &OverChangesSpec) -> Result<TaskId, Error> {
    let unsupported = |what: String| Error::Unsupported { what, position: lowering.node.position };
    let design = Arc::new(Design::new(lowering, spec).map_err(unsupported)?);
    let make = move || {
        let rows = Ordered::new(design.layout.clone());
        let horizon = design.spec.settled.zip(design.spec.reach());
        let horizon = horizon.map(|(settled, reach)| Horizon::new(settled, reach));
        Ok(Box::new(OverChanges { rows, horizon, answering: None, design: design.clone() }) as Box<dyn Operator>)
    };
    let input = Input { task: lowering.inputs[0], placement: lowering.together(&spec.keys) };
    Ok(graph.add(lowering.task(vec![input], lowering.node.schema.clone(), Arc::new(make))))
}

//! `OVER`: adds to each row what is computed over the rows of its key before it, and itself.
//!
//! Rows are answered one by one, in an order that no lane and no step changes, but computed a chunk at a time: [`state`]
//! says what a row changes and which states make up its frame, and [`bank`] computes with them. What is in frames stands in
//! [`line`]s, one element for each row, time, or unit of time, DISTINCT in lists of [`distinct`] values, LAG in [`lags`].
//! Rows that the watermark must pass first are [`waiting`].
//!
//! What is kept is bounded by the frames and the clock: the rows of a frame, or one state for each of its times or units,
//! go when no row can ask for them any more, and a key goes with its last one. Without a beginning of the frame, with
//! ROW_NUMBER and with LAG something of every key stays.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::delta::{DELTA_ROWS_MAX, Delta, NO_SUSPECT};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, TaskId};
use crate::keep::keeper::Keeper;
use crate::key::KeyEncoder;
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::operators::aggregate::parts::Setting;
use crate::operators::guard::Guard;
use crate::operators::time::read_times;
use crate::plan::{AggregateCall, AggregateFunction, Frame, OverCall, OverSpec, OverTurn, TimeDomain};
use bank::Bank;
use distinct::Values;
use lags::{Lag, Lags};
use state::{Chunk, Shape, State};
use waiting::Waiting;

pub(in crate::operators) mod bank;
mod calendar;
mod distinct;
mod kept;
mod lags;
pub(in crate::operators) mod line;
mod state;
mod waiting;

#[cfg(test)]
mod tests;

/// What all lanes' operators of one node have in common.
struct Design {
    spec: OverSpec,
    shape: Shape,
    input: SchemaRef,
    schema: SchemaRef,
    encoder: KeyEncoder,
    /// Aggregates that are no DISTINCT.
    plain: Vec<AggregateCall>,
    /// DISTINCT aggregates, by argument and filter.
    distinct: Vec<Vec<AggregateCall>>,
    lags: Vec<Lag>,
    /// Where the column of each call comes from.
    sources: Vec<Source>,
    setting: Setting,
    guard: Guard,
}

/// Where the column of a call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Plain(usize),
    Distinct(usize, usize),
    Lag(usize),
    Number,
}

impl Design {
    /// The design of a node; or what is not supported.
    fn new(lowering: &Lowering<'_>, spec: &OverSpec) -> Result<Self, String> {
        let input = lowering.input_schemas[0].clone();
        if !lowering.append_only {
            return Err(
                "OVER rows that may be taken back (aggregates that say changes; a windowed aggregate does not)".into(),
            );
        }
        check(spec, &input)?;
        let types: Vec<DataType> = input.fields().iter().map(|field| field.data_type().clone()).collect();
        let keys = spec.keys.iter().map(|key| types[*key].clone()).collect();
        let mut design = Design {
            spec: spec.clone(),
            shape: Shape::of(spec),
            schema: lowering.node.schema.clone(),
            encoder: KeyEncoder::new(keys).ok_or("OVER partitioned by lists, maps or rows")?,
            plain: Vec::new(),
            distinct: Vec::new(),
            lags: Vec::new(),
            sources: Vec::new(),
            setting: Setting { types, append_only: true, retiring: false, inline: false },
            guard: Guard::of(lowering),
            input,
        };
        spec.calls.iter().try_for_each(|call| design.add(call))?;
        if design.shape.disordered && design.shape.preceding.is_none() && !design.distinct.is_empty() {
            return Err("DISTINCT over all rows so far by event time (say ROWS, or how far back)".into());
        }
        design.check_types()?;
        Ok(design)
    }

    fn add(&mut self, call: &OverCall) -> Result<(), String> {
        use AggregateFunction::*;
        let source = match call {
            OverCall::RowNumber => Source::Number,
            OverCall::Lag { column, offset, default } => {
                let offset = usize::try_from(*offset).map_err(|_| format!("LAG by {offset} rows"))?;
                self.lags.push(Lag { column: *column, offset, default: *default });
                Source::Lag(self.lags.len() - 1)
            }
            OverCall::Aggregate(call) => match call.function {
                ArrayAgg | ListAgg | ApproxCountDistinct | ApproxQuantile(_) => {
                    return Err(format!("{:?} OVER", call.function));
                }
                Count | Sum | Avg | StddevPop | StddevSamp | VarPop | VarSamp if call.distinct => {
                    self.add_distinct(call)
                }
                _ => {
                    self.plain.push(AggregateCall { distinct: false, ..call.clone() });
                    Source::Plain(self.plain.len() - 1)
                }
            },
        };
        self.sources.push(source);
        Ok(())
    }

    fn add_distinct(&mut self, call: &AggregateCall) -> Source {
        let same = |list: &Vec<AggregateCall>| list[0].args == call.args && list[0].filter == call.filter;
        let list = self.distinct.iter().position(same).unwrap_or_else(|| {
            self.distinct.push(Vec::new());
            self.distinct.len() - 1
        });
        self.distinct[list].push(call.clone());
        Source::Distinct(list, self.distinct[list].len() - 1)
    }

    /// Nothing is known yet.
    fn state(&self) -> Result<State, String> {
        let values = self.distinct.iter().map(|calls| Values::new(calls, &self.setting)).collect::<Result<_, _>>()?;
        let lags = (!self.lags.is_empty()).then(|| Lags::new(self.lags.clone(), &self.setting)).transpose()?;
        let waiting = || Waiting::new(self.input.clone(), self.spec.keys.clone(), self.spec.origin);
        let waiting = self.shape.waits.then(waiting).transpose()?;
        let numbered = self.sources.contains(&Source::Number);
        let bank = Bank::new(&self.plain, &self.setting)?;
        Ok(State::new(self.shape, numbered, self.encoder.clone(), bank, values, lags, waiting))
    }

    /// What cannot be made, or has another type than the plan says, is an error of the plan.
    fn check_types(&self) -> Result<(), String> {
        let mut state = self.state()?;
        let told = |error: ArrowError| error.to_string();
        let types = |columns: Vec<ArrayRef>| columns.iter().map(|column| column.data_type().clone()).collect();
        let plain: Vec<DataType> = types(state.bank.evaluate(&[]).map_err(told)?);
        let distinct = state.values.iter_mut().map(|values| values.columns(0).map(types));
        let distinct: Vec<Vec<DataType>> = distinct.collect::<Result<_, _>>().map_err(told)?;
        let lags = state.lags.as_mut().map_or(Ok(Vec::new()), |lags| lags.types()).map_err(told)?;
        let type_of = |source: &Source| match *source {
            Source::Plain(call) => plain[call].clone(),
            Source::Distinct(list, call) => distinct[list][call].clone(),
            Source::Lag(call) => lags[call].clone(),
            Source::Number => DataType::Int64,
        };
        let given = self.setting.types.iter().cloned().chain(self.sources.iter().map(type_of));
        if !given.eq(self.schema.fields().iter().map(|field| field.data_type().clone())) {
            return Err("OVER with other columns than its input's and its calls'".into());
        }
        Ok(())
    }

    /// The times up to which nothing is late any more: where the clock stood, or for a suspect its own watermark.
    fn stood(&self, delta: &Delta, row: usize, closed: i64) -> i64 {
        match self.spec.domain {
            TimeDomain::Event => delta.carried().map_or(NO_SUSPECT, |carried| carried[row]).max(closed),
            TimeDomain::Processing => closed,
        }
    }

    /// The clock that frees what is kept.
    fn clock(&self, context: &Context) -> i64 {
        match self.spec.domain {
            TimeDomain::Event => context.watermark.millis(),
            TimeDomain::Processing => context.now.millis(),
        }
    }
}

/// Whether the frame and the order go together.
fn check(spec: &OverSpec, input: &SchemaRef) -> Result<(), String> {
    let is_time = |column: usize| {
        matches!(input.field(column).data_type(), DataType::Timestamp(..) | DataType::Int64 | DataType::Date32)
    };
    if spec.order.is_some_and(|order| !is_time(order)) {
        return Err("OVER ordered by something else than a time".into());
    }
    if spec.origin.is_some_and(|origin| input.field(origin).data_type() != &DataType::UInt64) {
        return Err("OVER with an origin that is none".into());
    }
    if spec.turn == OverTurn::Watermark && (spec.order.is_none() || spec.domain != TimeDomain::Event) {
        return Err("OVER that waits for the watermark without an event time to order by".into());
    }
    if let Frame::Range { preceding_ms, unit_ms } = spec.frame {
        if preceding_ms.is_some_and(|preceding| preceding < 0) || unit_ms.is_some_and(|unit| unit < 1) {
            return Err("OVER a RANGE that ends before the row".into());
        }
        if spec.order.is_none() && (preceding_ms.is_some() || unit_ms.is_some()) {
            return Err("OVER a RANGE without a time to order by".into());
        }
    }
    Ok(())
}

/// Rows, and the time of each by which it is put into frames.
type Timed = (Delta, Vec<i64>);

/// Answers rows over the rows before them.
struct Over {
    design: Arc<Design>,
    state: State,
    /// The rows of the step.
    pushed: Vec<Timed>,
    /// Whether they are in their order.
    is_ordered: bool,
    /// Rows of the step in their order, the next ones last.
    ready: Vec<Timed>,
    /// What a chunk needs while it is answered.
    chunk: Chunk,
    /// What is answered and not yet sent.
    answered: VecDeque<Delta>,
    /// How many rows the step has answered.
    rows: usize,
}

/// As many elements that nobody can ask for any more a step forgets, and two more for each row that it answers, so that
/// time that passes in a leap does not hold it up.
const SWEPT_MIN: usize = 64;

impl Over {
    fn new(design: Arc<Design>) -> Result<Self, String> {
        let state = design.state()?;
        let (pushed, ready, answered) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Over { design, state, pushed, is_ordered: true, ready, chunk: Chunk::default(), answered, rows: 0 })
    }

    /// Rows with the times by which they are put into frames; those without a time are left out.
    fn timed(&self, delta: Delta, context: &Context, out: &mut Output) -> Result<Timed, Error> {
        let (design, shape, closed) = (&self.design, self.state.shape, self.state.progress.closed);
        let delta = delta.repeated().map_err(|error| design.guard.broken(error))?;
        let Some(order) = design.spec.order.filter(|_| !shape.rows) else {
            let times = vec![0; delta.rows()];
            return Ok((delta, times));
        };
        let (delta, mut times) = read_times(&design.guard, delta, order, context, out)?;
        for (row, time) in times.iter_mut().enumerate() {
            *time = shape.truncate((*time).max(design.stood(&delta, row, closed)));
        }
        Ok((delta, times))
    }

    /// Has rows wait for the watermark; those that it has passed already are late.
    fn wait(&mut self, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (design, shape, closed) = (self.design.clone(), self.state.shape, self.state.progress.closed);
        let order = design.spec.order.ok_or_else(|| design.guard.broken("nothing to order by"))?;
        let (mut delta, mut times) = read_times(&design.guard, delta, order, context, out)?;
        times.iter_mut().for_each(|time| *time = shape.truncate(*time));
        let late = |row: usize| times[row] < shape.truncate(design.stood(&delta, row, closed));
        let kept: Vec<u32> = (0..delta.rows()).filter(|row| !late(*row)).map(|row| row as u32).collect();
        if kept.len() < delta.rows() {
            for row in (0..delta.rows()).filter(|row| late(*row)) {
                design.guard.late_because("the watermark had passed its time", &delta, row, context, out);
            }
            times = kept.iter().map(|row| times[*row as usize]).collect();
            delta = delta.take(&UInt32Array::from(kept)).map_err(|error| design.guard.broken(error))?;
        }
        let waiting = self.state.waiting.as_mut().ok_or_else(|| design.guard.broken("no rows wait"))?;
        waiting.push(&delta, &times).map_err(|error| design.guard.broken(error))
    }

    /// Puts the rows of the step in the order of their arrival.
    fn order(&mut self) -> Result<(), ArrowError> {
        if self.pushed.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut self.pushed, &mut self.ready);
        let is_ordered = std::mem::replace(&mut self.is_ordered, true);
        let Some(origin) = self.design.spec.origin.filter(|_| !is_ordered) else {
            self.ready.reverse();
            return Ok(());
        };
        let deltas: Vec<Delta> = self.ready.iter().map(|(delta, _)| delta.clone()).collect();
        let all = Delta::concat(&self.design.input, &deltas)?;
        let times: Vec<i64> = self.ready.drain(..).flat_map(|(_, times)| times).collect();
        let values = origins(&all, origin);
        let mut rows: Vec<u32> = (0..all.rows() as u32).collect();
        rows.sort_by_key(|row| values[*row as usize]);
        let times: Vec<i64> = rows.iter().map(|row| times[*row as usize]).collect();
        let all = all.take(&UInt32Array::from(rows))?;
        for (number, times) in times.chunks(DELTA_ROWS_MAX).enumerate() {
            self.ready.push((all.slice(number * DELTA_ROWS_MAX, times.len()), times.to_vec()));
        }
        self.ready.reverse();
        Ok(())
    }

    /// Whether `delta` follows the rows of the step that are there, in the order of arrival.
    fn follows(&self, delta: &Delta) -> bool {
        let Some(origin) = self.design.spec.origin else { return true };
        let values = origins(delta, origin);
        let before = self.pushed.last().and_then(|(delta, _)| origins(delta, origin).last().copied());
        before.is_none_or(|before| values.first().is_none_or(|first| before <= *first)) && values.is_sorted()
    }

    /// Rows with what is computed for each; `times` has the time of each.
    fn answer(&mut self, delta: Delta, times: Vec<i64>) -> Result<Delta, ArrowError> {
        let (columns, rows) = (delta.batch().columns().to_vec(), delta.rows());
        self.rows += rows;
        let mut chunk = std::mem::take(&mut self.chunk);
        self.state.fill(&mut chunk, &columns, &self.design.spec.keys, times)?;
        let mut start = 0;
        while start < rows {
            let same = |time: &&i64| **time == chunk.times[start];
            let peers = self.state.shape.has_peers();
            let end = start + if peers { chunk.times[start..].iter().take_while(same).count() } else { 1 };
            for row in start..end {
                self.state.insert(&mut chunk, row)?;
            }
            (start..end).for_each(|row| self.state.answer(&chunk, row));
            start = end;
        }
        self.state.run()?;
        let answered = self.columns(columns, &chunk)?;
        self.state.settle();
        self.chunk = chunk;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(delta.with_batch(RecordBatch::try_new_with_options(self.design.schema.clone(), answered, &options)?))
    }

    /// The input's columns and the calls'.
    fn columns(&mut self, input: Vec<ArrayRef>, chunk: &Chunk) -> Result<Vec<ArrayRef>, ArrowError> {
        let (state, rows) = (&mut self.state, chunk.keys.len());
        let plain = state.bank.columns(rows)?;
        let distinct = state.values.iter_mut().map(|values| values.columns(rows)).collect::<Result<Vec<_>, _>>()?;
        let lags = state.lags.as_mut().map_or(Ok(Vec::new()), |lags| lags.columns(&input))?;
        let mut columns = input;
        columns.extend(self.design.sources.iter().map(|source| match *source {
            Source::Plain(call) => plain[call].clone(),
            Source::Distinct(list, call) => distinct[list][call].clone(),
            Source::Lag(call) => lags[call].clone(),
            Source::Number => Arc::new(Int64Array::from(chunk.numbers.clone())) as ArrayRef,
        }));
        Ok(columns)
    }

    /// The next rows to answer, and their times.
    fn next(&mut self, clock: i64) -> Result<Option<Timed>, Error> {
        let bound = if clock == i64::MAX { clock } else { self.state.shape.truncate(clock) };
        if let Some(waiting) = &mut self.state.waiting {
            let next = waiting.next(bound, DELTA_ROWS_MAX).map_err(|error| self.design.guard.broken(error))?;
            return Ok(next.map(|(batch, times)| (Delta::inserts(batch), times)));
        }
        self.order().map_err(|error| self.design.guard.broken(error))?;
        Ok(self.ready.pop())
    }
}

impl Operator for Over {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        if self.state.shape.waits {
            return self.wait(delta, context, out);
        }
        let (delta, times) = self.timed(delta, context, out)?;
        if !delta.is_empty() {
            self.is_ordered &= self.follows(&delta);
            self.pushed.push((delta, times));
        }
        Ok(())
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        let broken = |design: &Design, error: ArrowError| design.guard.broken(error);
        if let Some(delta) = self.answered.pop_front() {
            out.emit(delta);
            return Ok(Flush::More);
        }
        self.state.rebuild().map_err(|error| broken(&self.design, error))?;
        let clock = self.design.clock(context).max(self.state.progress.closed);
        if let Some((delta, times)) = self.next(clock)? {
            let answered = self.answer(delta, times).map_err(|error| broken(&self.design, error))?;
            if answered.rows() <= DELTA_ROWS_MAX {
                out.emit(answered);
                return Ok(Flush::More);
            }
            // Rows of one time are answered together, however many they are.
            let starts = (0..answered.rows()).step_by(DELTA_ROWS_MAX);
            let slices = starts.map(|start| answered.slice(start, DELTA_ROWS_MAX.min(answered.rows() - start)));
            self.answered.extend(slices);
            return self.flush(context, out);
        }
        let elements_max = if clock == i64::MAX { usize::MAX } else { SWEPT_MIN + 2 * self.rows };
        self.rows = 0;
        self.state.sweep(clock, elements_max).map_err(|error| broken(&self.design, error))?;
        self.state.progress.closed = clock;
        self.state.progress.started = true;
        Ok(Flush::Done)
    }

    fn state_size(&self) -> StateSize {
        self.state.size()
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.state)
    }
}

/// The `$origin` of each row.
fn origins(delta: &Delta, column: usize) -> ScalarBuffer<u64> {
    delta.column(column).as_primitive::<UInt64Type>().values().clone()
}

/// One task, on the lane of its key.
///
/// # Errors
/// [`Error::Unsupported`] for rows that may be taken back, functions that frames cannot be kept for, and frames without a
/// time to order by.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &OverSpec) -> Result<TaskId, Error> {
    let unsupported = |what: String| Error::Unsupported { what, position: lowering.node.position };
    let design = Arc::new(Design::new(lowering, spec).map_err(unsupported)?);
    let position = lowering.node.position;
    let make = move || match Over::new(design.clone()) {
        Ok(operator) => Ok(Box::new(operator) as Box<dyn Operator>),
        Err(what) => Err(Error::Unsupported { what, position }),
    };
    let input = Input { task: lowering.inputs[0], placement: lowering.together(&spec.keys) };
    Ok(graph.add(lowering.task(vec![input], lowering.node.schema.clone(), Arc::new(make))))
}

//! `JOIN .. FOR SYSTEM_TIME AS OF` event time, and `ASOF JOIN`: each left row beside the right rows that were valid then.
//!
//! A left row waits until the watermark is above its time: all versions that it could meet are there then. What a key of
//! the right side holds are its rows by their times, with weights: the rows of one time are a version, valid until the next
//! one, and a time whose rows were taken back alone ends what was valid. When the watermark passes a version, those before
//! it can meet no left row any more and go.
//!
//! Both sides are ordered multisets ([`Ordered`]), the left one by key and time, so that rows of either side may be taken
//! back while they are not yet answered. Rows below the watermark of their partition are late on both sides.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::take::take;

use crate::delta::{DELTA_ROWS_MAX, Delta, NO_SUSPECT};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, TaskId};
use crate::keep::keeper::Keeper;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::operators::guard::Guard;
use crate::operators::ordered::Layout;
use crate::operators::time::{nanos, read_times};
use crate::plan::{OrderBy, TemporalJoinSpec};
use sides::Sides;

mod sides;

#[cfg(test)]
mod tests;

/// The port of the left rows; the right ones come in on the other.
const LEFT: usize = 0;

/// What all lanes' operators of one node have in common.
struct Design {
    spec: TemporalJoinSpec,
    left: Layout,
    right: Layout,
    schema: SchemaRef,
    guard: Guard,
}

impl Design {
    /// The design of a node; or what is not supported.
    fn new(lowering: &Lowering<'_>, spec: &TemporalJoinSpec) -> Result<Self, String> {
        let [left, right] = lowering.input_schemas else {
            return Err("a temporal join with other inputs than two".to_string());
        };
        let types = |schema: &SchemaRef, columns: &[usize]| -> Vec<DataType> {
            columns.iter().map(|column| schema.field(*column).data_type().clone()).collect()
        };
        if types(left, &spec.left_keys) != types(right, &spec.right_keys) {
            return Err("a temporal join by columns of different types".to_string());
        }
        for (schema, time) in [(left, spec.left_time), (right, spec.right_time)] {
            let field = schema.field(time);
            if !matches!(field.data_type(), DataType::Timestamp(..)) {
                return Err(format!("a temporal join by '{}', which is no time", field.name()));
            }
        }
        if let Some(other) = spec.ended.map(|ended| right.field(ended)).filter(|f| *f.data_type() != DataType::Boolean)
        {
            return Err(format!("a temporal join whose versions end by '{}', which is no boolean", other.name()));
        }
        let given = types(left, &(0..left.fields().len()).collect::<Vec<_>>());
        let given = given.into_iter().chain(types(right, &spec.columns));
        if !given.eq(lowering.node.schema.fields().iter().map(|field| field.data_type().clone())) {
            return Err("a temporal join with other columns than its inputs'".to_string());
        }
        // Left rows leave by their times, so those of one time are together.
        let keys: Vec<usize> = spec.left_keys.iter().copied().chain([spec.left_time]).collect();
        let mut waiting = Layout::new(left, &keys, &[])?;
        (waiting.time, waiting.routing) = (Some(spec.left_time), Some(spec.left_keys.len()));
        let time = OrderBy { column: spec.right_time, descending: false, nulls_first: true };
        let mut versions = Layout::new(right, &spec.right_keys, &[time])?;
        versions.ttl_ms = lowering.ttl_ms.filter(|_| lowering.node.takes_ttl());
        // What is taken back ends a version, of whatever row.
        versions.owes = true;
        let (schema, guard) = (lowering.node.schema.clone(), Guard::of(lowering));
        Ok(Design { spec: spec.clone(), left: waiting, right: versions, schema, guard })
    }

    /// Leaves out rows that the watermark has passed.
    fn admit(
        &self,
        delta: Delta,
        time: usize,
        closed: i64,
        context: &Context,
        out: &mut Output,
    ) -> Result<Delta, Error> {
        let (delta, times) = read_times(&self.guard, delta, time, context, out)?;
        let stood = |row: usize| delta.carried().map_or(NO_SUSPECT, |carried| carried[row]).max(closed);
        let (late, kept): (Vec<u32>, Vec<u32>) =
            (0..delta.rows() as u32).partition(|row| times[*row as usize] < stood(*row as usize));
        if late.is_empty() {
            return Ok(delta);
        }
        for row in late {
            self.guard.late_because("the watermark had passed its time", &delta, row as usize, context, out);
        }
        delta.take(&UInt32Array::from(kept)).map_err(|error| self.guard.broken(error))
    }
}

/// A left row by its place in a chunk, beside a right row by its slot.
type Pair = (u32, Option<u32>);

struct TemporalJoin {
    design: Arc<Design>,
    sides: Sides,
    /// Keys of left rows that are answered in this step, and how many of their rows have been; none while rows come.
    answering: Option<(Vec<u32>, usize)>,
    /// Left keys that have been answered.
    leaving: Vec<u32>,
}

impl TemporalJoin {
    /// Left rows beside their partners.
    fn answer(&self, slots: &[u32], context: &Context, out: &mut Output) -> Result<Delta, Error> {
        let (design, broken) = (&self.design, |error: ArrowError| self.design.guard.broken(error));
        let columns = self.sides.left.columns(slots.iter().copied()).map_err(broken)?;
        let mut pairs = self.pairs(&columns, slots.len());
        if design.spec.residual.is_some() {
            pairs = self.checked(&columns, pairs, slots.len(), context, out)?;
        }
        if !design.spec.outer {
            pairs.retain(|(_, right)| right.is_some());
        }
        let weight = |(left, right): &Pair| {
            let right = right.map_or(1, |right| self.sides.right.store().get(right).weight);
            self.sides.left.store().get(slots[*left as usize]).weight * right
        };
        let weights: Vec<i64> = pairs.iter().map(weight).collect();
        let batch = self.joined(&columns, &pairs).map_err(broken)?;
        Ok(match weights.iter().all(|weight| *weight == 1) {
            true => Delta::inserts(batch),
            false => Delta::weighted(batch, weights),
        })
    }

    /// The partners of each left row of a chunk, or none for it.
    fn pairs(&self, columns: &[ArrayRef], rows: usize) -> Vec<Pair> {
        let spec = &self.design.spec;
        let keys: Vec<ArrayRef> = spec.left_keys.iter().map(|key| columns[*key].clone()).collect();
        let times = nanos(&columns[spec.left_time]).unwrap_or_default();
        let keys = self.sides.right.find(&keys, rows);
        let keys = keys.into_iter().map(|key| key.filter(|key| !self.sides.right.has_expired(*key)));
        let (mut pairs, mut partners) = (Vec::with_capacity(rows), Vec::new());
        for (row, (key, time)) in keys.zip(times).enumerate() {
            partners.clear();
            if let Some(key) = key {
                self.sides.valid(key, time, &mut partners);
            }
            match partners.is_empty() {
                true => pairs.push((row as u32, None)),
                false => pairs.extend(partners.iter().map(|slot| (row as u32, Some(*slot)))),
            }
        }
        pairs
    }

    /// Pairs for which the rest of the condition is true; a left row that has none left stands alone, unless the condition
    /// failed on it: then it is left out or stands alone, as `on-error` says.
    fn checked(
        &self,
        columns: &[ArrayRef],
        pairs: Vec<Pair>,
        rows: usize,
        context: &Context,
        out: &mut Output,
    ) -> Result<Vec<Pair>, Error> {
        let (design, broken) = (&self.design, |error: ArrowError| self.design.guard.broken(error));
        let candidates: Vec<Pair> = pairs.iter().copied().filter(|(_, right)| right.is_some()).collect();
        let mut kept = vec![false; pairs.len()];
        // Left rows that are answered already.
        let mut done = vec![false; rows];
        if !candidates.is_empty() {
            let batch = self.joined(columns, &candidates).map_err(broken)?;
            let evaluated =
                design.guard.attempt(design.spec.residual.as_slice(), &Delta::inserts(batch), context, out)?;
            let holds = evaluated.columns[0].as_boolean();
            let failed = |candidate: usize| evaluated.failed.as_ref().is_some_and(|failed| failed.value(candidate));
            let places = (0..pairs.len()).filter(|place| pairs[*place].1.is_some());
            for (candidate, place) in places.enumerate() {
                let left = pairs[place].0 as usize;
                kept[place] = holds.is_valid(candidate) && holds.value(candidate) && !failed(candidate);
                done[left] |= kept[place] || failed(candidate);
            }
        }
        let mut checked = Vec::with_capacity(pairs.len());
        for (place, (left, right)) in pairs.into_iter().enumerate() {
            if kept[place] {
                checked.push((left, right));
            } else if !std::mem::replace(&mut done[left as usize], true) {
                checked.push((left, None));
            }
        }
        Ok(checked)
    }

    /// The node's columns of pairs.
    fn joined(&self, columns: &[ArrayRef], pairs: &[Pair]) -> Result<RecordBatch, ArrowError> {
        let lefts = UInt32Array::from_iter_values(pairs.iter().map(|(left, _)| *left));
        let mut joined = columns.iter().map(|column| take(column, &lefts, None)).collect::<Result<Vec<_>, _>>()?;
        let found = || pairs.iter().filter_map(|(_, right)| *right);
        let theirs = if found().next().is_none() { None } else { Some(self.sides.right.columns(found())?) };
        let mut next = 0_u32..;
        let places: UInt32Array = pairs.iter().map(|(_, right)| right.and_then(|_| next.next())).collect();
        for column in &self.design.spec.columns {
            joined.push(match &theirs {
                Some(theirs) => take(&theirs[*column], &places, None)?,
                None => {
                    let field = self.design.schema.field(joined.len());
                    arrow_array::new_null_array(field.data_type(), pairs.len())
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        RecordBatch::try_new_with_options(self.design.schema.clone(), joined, &options)
    }
}

impl Operator for TemporalJoin {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (design, closed) = (self.design.clone(), self.sides.left.progress.closed);
        let time = if port == LEFT { design.spec.left_time } else { design.spec.right_time };
        let delta = design.admit(delta, time, closed, context, out)?;
        self.sides.right.advance(context);
        let pushed = match port {
            LEFT => {
                let keys: Vec<ArrayRef> = design.spec.left_keys.iter().map(|key| delta.column(*key).clone()).collect();
                self.sides.use_keys(&keys, delta.rows());
                self.sides.left.push(delta.batch(), delta.weights())
            }
            _ => self.sides.take_versions(&delta, &design.spec.right_keys),
        };
        pushed.map_err(|error| design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        let (design, clock) = (self.design.clone(), context.watermark.millis());
        let broken = |error: ArrowError| design.guard.broken(error);
        let (slots, mut answered) = match self.answering.take() {
            Some(answering) => answering,
            None => {
                self.sides.right.advance(context);
                self.sides.settle().map_err(broken)?;
                self.leaving = self.sides.left.take_due(|time| time < clock || clock == i64::MAX);
                let left = &self.sides.left;
                (self.leaving.iter().flat_map(|key| left.slots_of(*key).iter()).collect(), 0)
            }
        };
        let next = &slots[answered..slots.len().min(answered + DELTA_ROWS_MAX)];
        if !next.is_empty() {
            let delta = self.answer(next, context, out)?;
            // A row may have many partners.
            let starts = (0..delta.rows()).step_by(DELTA_ROWS_MAX);
            starts.for_each(|start| out.emit(delta.slice(start, DELTA_ROWS_MAX.min(delta.rows() - start))));
            answered += next.len();
        }
        if answered < slots.len() {
            self.answering = Some((slots, answered));
            return Ok(Flush::More);
        }
        let leaving = std::mem::take(&mut self.leaving);
        self.sides.left.forget(&leaving).map_err(broken)?;
        self.sides.free(clock).and_then(|()| self.sides.right.sweep()).map_err(broken)?;
        self.sides.left.progress.closed = clock;
        self.sides.left.progress.started = true;
        Ok(Flush::Done)
    }

    fn state_size(&self) -> StateSize {
        self.sides.size()
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        let mut keys: Vec<KeySize> =
            [&self.sides.left, &self.sides.right].into_iter().flat_map(|side| side.largest_keys(most)).collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.bytes));
        keys.truncate(most);
        keys
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.sides)
    }
}

/// One task, to which the rows of both sides come by their keys.
///
/// # Errors
/// [`Error::Unsupported`] for keys of different types, times that are none, and values that have no order.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &TemporalJoinSpec) -> Result<TaskId, Error> {
    let unsupported = |what: String| Error::Unsupported { what, position: lowering.node.position };
    let design = Arc::new(Design::new(lowering, spec).map_err(unsupported)?);
    let keys = [&spec.left_keys, &spec.right_keys];
    let inputs = lowering.inputs.iter().zip(keys);
    let inputs = inputs.map(|(task, keys)| Input { task: *task, placement: lowering.together(keys) });
    let make = move || {
        let sides = Sides::new(design.left.clone(), design.right.clone(), &design.spec);
        let operator = TemporalJoin { sides, answering: None, leaving: Vec::new(), design: design.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    Ok(graph.add(lowering.task(inputs.collect(), lowering.node.schema.clone(), Arc::new(make))))
}

//! Rankings: of each key the rows with the first ranks, kept as the input changes.
//!
//! The rows of a key are an ordered multiset ([`Ordered`]): all of them where rows may be taken back, else only those that
//! can still come out. A step changes multisets as it comes and is answered when it is flushed: the old ranks and the new
//! ones of each changed key are walked side by side ([`answer`]), so each row that changes is taken back and given once.
//! A window that closes is answered once, and forgotten; a key that has expired is forgotten and stays answered.
//!
//! Over rows that are never taken back several lanes first rank what each has of a step, and only the first rows of each
//! key go to its lane: one hot key uses them all.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::delta::{DELTA_ROWS_MAX, Delta, NO_SUSPECT};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, Placement, TaskId};
use crate::keep::keeper::Keeper;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::operators::guard::Guard;
use crate::operators::ordered::{Cut, Layout, Ordered};
use crate::operators::time::{millis, read_times, unexpired};
use crate::plan::RankSpec;
use answer::{Change, Changes};

mod answer;

#[cfg(test)]
mod tests;

/// What all lanes' operators of one node have in common.
struct Design {
    spec: RankSpec,
    layout: Layout,
    schema: SchemaRef,
    guard: Guard,
}

impl Design {
    /// The design of a node; or what is not supported.
    fn new(lowering: &Lowering<'_>, spec: &RankSpec) -> Result<Self, String> {
        let input = &lowering.input_schemas[0];
        let mut layout = Layout::new(input, &spec.keys, &spec.order)?;
        let to = spec.to.filter(|to| lowering.append_only && *to > 0).and_then(|to| u32::try_from(to).ok());
        layout.cut = to.filter(|to| *to <= Cut::TO_MAX).map(|to| Cut { function: spec.function, to });
        layout.ttl_ms = lowering.ttl_ms.filter(|_| lowering.node.takes_ttl());
        layout.time = spec.close.or(spec.expiry.map(|expiry| expiry.time));
        if let Some(time) = layout.time {
            let field = input.field(time);
            if millis(&arrow_array::new_empty_array(field.data_type())).is_none() {
                return Err(format!("a ranking that ends with '{}', which is no time", field.name()));
            }
            if !spec.keys.contains(&time) {
                return Err(format!("a ranking that ends with '{}', by which it is not partitioned", field.name()));
            }
        }
        let number = spec.number.then_some(DataType::Int64);
        let given = input.fields().iter().map(|field| field.data_type().clone()).chain(number);
        if !given.eq(lowering.node.schema.fields().iter().map(|field| field.data_type().clone())) {
            return Err("a ranking with other columns than its input's and the rank".to_string());
        }
        let (schema, guard) = (lowering.node.schema.clone(), Guard::of(lowering));
        Ok(Design { spec: spec.clone(), layout, schema, guard })
    }

    /// Leaves out rows of keys that have been forgotten, or that would have been had only their own partition counted.
    fn admit(&self, delta: Delta, closed: i64, context: &Context, out: &mut Output) -> Result<Delta, Error> {
        let Some(time) = self.layout.time else { return Ok(delta) };
        let (delta, times) = match self.spec.close {
            Some(_) => read_times(&self.guard, delta, time, context, out)?,
            None => match self.spec.expiry {
                Some(expiry) => return unexpired(&self.guard, expiry, delta, closed, context, out),
                None => return Ok(delta),
            },
        };
        let stood = |row: usize| delta.carried().map_or(NO_SUSPECT, |carried| carried[row]).max(closed);
        let late = |row: &usize| self.is_over(times[*row], stood(*row));
        let rows: Vec<usize> = (0..delta.rows()).filter(late).collect();
        if rows.is_empty() {
            return Ok(delta);
        }
        for row in &rows {
            self.guard.late(&delta, *row, context, out);
        }
        let kept = (0..delta.rows()).filter(|row| rows.binary_search(row).is_err()).map(|row| row as u32);
        delta.take(&UInt32Array::from_iter_values(kept)).map_err(|error| self.guard.broken(error))
    }

    /// Whether a key of this time gets no row any more once the watermark stands there.
    fn is_over(&self, time: i64, watermark: i64) -> bool {
        match (self.spec.close, self.spec.expiry) {
            (Some(_), _) => time <= watermark,
            (None, Some(expiry)) => expiry.is_over(time, watermark),
            (None, None) => false,
        }
    }

    /// Rows of the node, or of its input.
    fn delta(&self, schema: &SchemaRef, columns: Vec<ArrayRef>, changes: &[Change]) -> Result<Delta, ArrowError> {
        let mut columns = columns;
        if schema.fields().len() > columns.len() {
            columns.push(Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.rank as i64))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        Ok(match changes.iter().all(|change| change.weight == 1) {
            true => Delta::inserts(batch),
            false => Delta::weighted(batch, changes.iter().map(|change| change.weight).collect()),
        })
    }
}

/// Which part of the work an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Gives the first rows that a lane has of a step to the lanes of their keys, and keeps none.
    Local,
    /// Keeps and answers.
    Whole,
}

/// Ranks rows.
struct Rank {
    design: Arc<Design>,
    stage: Stage,
    rows: Ordered,
    /// What the step has changed, and how much of it has been said; none while rows come.
    said: Option<(Vec<Change>, usize)>,
    /// Keys that go when all is said.
    leaving: Vec<u32>,
}

impl Rank {
    fn new(design: Arc<Design>, stage: Stage) -> Self {
        let mut layout = design.layout.clone();
        if stage == Stage::Local {
            (layout.time, layout.ttl_ms) = (None, None);
        }
        Rank { stage, rows: Ordered::new(layout), said: None, leaving: Vec::new(), design }
    }

    /// What the step has changed.
    fn changes(&mut self, clock: i64) -> Vec<Change> {
        let mut changes = Changes::of(&self.design.spec, &self.rows);
        if self.stage == Stage::Local {
            self.rows.changed().iter().for_each(|key| changes.give(*key));
            return changes.finish();
        }
        if self.design.spec.close.is_none() {
            self.rows.changed().iter().for_each(|key| changes.compare(*key));
        }
        let changes = changes.finish();
        let design = self.design.clone();
        self.leaving = self.rows.take_due(|time| design.is_over(time, clock));
        if design.spec.close.is_none() {
            return changes;
        }
        let mut changes = Changes::of(&design.spec, &self.rows);
        self.leaving.iter().for_each(|key| changes.answer(*key));
        changes.finish()
    }

    /// The next rows to say.
    fn say(&self, changes: &[Change]) -> Result<Delta, ArrowError> {
        let columns = self.rows.columns(changes.iter().map(|change| change.slot))?;
        let schema = match self.stage {
            Stage::Local => &self.design.layout.schema,
            Stage::Whole => &self.design.schema,
        };
        self.design.delta(schema, columns, changes)
    }

    /// All is said.
    fn settle(&mut self, clock: i64) -> Result<(), ArrowError> {
        self.rows.progress.closed = clock;
        self.rows.progress.started = true;
        if self.stage == Stage::Local {
            self.rows.clear();
            return Ok(());
        }
        self.rows.settle()?;
        let leaving = std::mem::take(&mut self.leaving);
        self.rows.forget(&leaving)?;
        self.rows.sweep()
    }
}

impl Operator for Rank {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let design = self.design.clone();
        let delta = design.admit(delta, self.rows.progress.closed, context, out)?;
        self.rows.advance(context);
        self.rows.push(delta.batch(), delta.weights()).map_err(|error| design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        let (design, clock) = (self.design.clone(), context.watermark.millis());
        let (changes, mut said) = match self.said.take() {
            Some(saying) => saying,
            None => {
                self.rows.advance(context);
                (self.changes(clock), 0)
            }
        };
        let next = &changes[said..changes.len().min(said + DELTA_ROWS_MAX)];
        if !next.is_empty() {
            out.emit(self.say(next).map_err(|error| design.guard.broken(error))?);
            said += next.len();
        }
        if said < changes.len() {
            self.said = Some((changes, said));
            return Ok(Flush::More);
        }
        self.settle(clock).map_err(|error| design.guard.broken(error))?;
        Ok(Flush::Done)
    }

    fn state_size(&self) -> StateSize {
        match self.stage {
            Stage::Local => StateSize::default(),
            Stage::Whole => self.rows.size(),
        }
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        self.rows.largest_keys(most)
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        match self.stage {
            Stage::Local => None,
            Stage::Whole => Some(&mut self.rows),
        }
    }
}

/// One task, on the lane of its key; with several lanes one before it where only the first rows of a step can come out.
///
/// # Errors
/// [`Error::Unsupported`] for values that have no order or cannot be keys.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &RankSpec) -> Result<TaskId, Error> {
    let unsupported = |what: String| Error::Unsupported { what, position: lowering.node.position };
    let design = Arc::new(Design::new(lowering, spec).map_err(unsupported)?);
    let mut input = lowering.input();
    if lowering.lanes > 1 {
        if design.layout.cut.is_some() {
            let first = design.clone();
            let make = move || Ok(Box::new(Rank::new(first.clone(), Stage::Local)) as Box<dyn Operator>);
            let task = lowering.task(vec![input], lowering.input_schemas[0].clone(), Arc::new(make));
            input = Input { task: graph.add(task), placement: Placement::Stay };
        }
        input.placement = lowering.together(&spec.keys);
    }
    let make = move || Ok(Box::new(Rank::new(design.clone(), Stage::Whole)) as Box<dyn Operator>);
    Ok(graph.add(lowering.task(vec![input], lowering.node.schema.clone(), Arc::new(make))))
}

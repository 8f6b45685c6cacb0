//! How an aggregate is spread over lanes.
//!
//! Rows are summed per step where they are ([`Local`]), and the partial states are brought to the lane of their group,
//! which merges them. A DISTINCT argument takes a way of its own: its rows go to the lane of (group, value), where it is
//! known which values are new ([`Values`]), and only what that changes for the group goes on. So a hot group uses every
//! lane. States that have no form as columns make all rows go to the lane of their group instead.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::Design;
use super::accumulator::Rows;
use super::feed::Feed;
use super::grouped::Grouped;
use super::groups::{Groups, Recipe};
use super::paned::Paned;
use super::parts::{Parts, Setting};
use super::session;
use super::windows::{Cut, Frames, Span, place};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, MakeOperator, Placement, TaskId};
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::plan::AggregateCall;

/// Adds the tasks of an aggregate.
pub(super) fn lower(graph: &mut Graph, lowering: &Lowering<'_>, design: Arc<Design>) -> Result<TaskId, Error> {
    let make = operator(design.clone(), Feed::Rows, design.cut());
    // Whatever cannot be made is refused now.
    make()?;
    let partials = if lowering.lanes > 1 { Partials::of(&design)? } else { None };
    let Some(partials) = partials else {
        let placement = match lowering.lanes {
            1 => Placement::Stay,
            _ => by_group(&design.keys),
        };
        let input = Input { task: lowering.inputs[0], placement };
        return Ok(graph.add(lowering.task(vec![input], design.schema.clone(), make)));
    };
    let keys: Vec<usize> = (0..design.keys.len()).collect();
    let mut ports = vec![partials.plain.clone()];
    let task = partials.local(graph, lowering, &design);
    let mut inputs = vec![Input { task, placement: by_group(&keys) }];
    for part in &partials.distinct {
        ports.push(vec![*part]);
        let task = values(graph, lowering, &design, partials.cut, *part)?;
        inputs.push(Input { task, placement: by_group(&keys) });
    }
    let make = operator(design.clone(), Feed::Partials(ports), partials.cut);
    Ok(graph.add(lowering.task(inputs, design.schema.clone(), make)))
}

fn by_group(keys: &[usize]) -> Placement {
    if keys.is_empty() { Placement::Gather } else { Placement::ByKey(keys.to_vec()) }
}

/// Makes the operator that gives the node's rows.
fn operator(design: Arc<Design>, feed: Feed, cut: Option<Cut>) -> MakeOperator {
    Arc::new(move || {
        if design.session().is_some() {
            return session::make(design.clone());
        }
        Ok(match cut {
            Some(cut @ Cut::Panes(_, panes)) => {
                Box::new(Paned::new(design.clone(), feed.clone(), cut, panes)?) as Box<dyn Operator>
            }
            cut => Box::new(Grouped::new(design.clone(), feed.clone(), cut)?),
        })
    })
}

/// The parts of an aggregate whose states travel.
struct Partials {
    /// Parts that are summed where the rows are.
    plain: Vec<usize>,
    /// Parts that tell values apart.
    distinct: Vec<usize>,
    /// The columns of the plain parts' states.
    types: Vec<DataType>,
    /// How time is cut. Values that are new in a pane need not be new in a window, so DISTINCT is not made of panes.
    cut: Option<Cut>,
}

impl Partials {
    /// The parts of `design`; none when some state does not travel.
    fn of(design: &Design) -> Result<Option<Self>, Error> {
        let parts = design.recipe.parts.list();
        let (distinct, plain): (Vec<usize>, Vec<usize>) = (0..parts.len()).partition(|part| parts[*part].is_distinct());
        if design.session().is_some() {
            return Ok(None);
        }
        let groups = design.groups(design.key_types.clone())?;
        let travels = groups.partial_types(&distinct).is_some();
        let types = groups.partial_types(&plain).filter(|_| travels);
        let cut = if distinct.is_empty() { design.cut() } else { design.windows() };
        Ok(types.map(|types| Partials { plain, distinct, types, cut }))
    }

    /// Adds the task that sums rows where they are.
    fn local(&self, graph: &mut Graph, lowering: &Lowering<'_>, design: &Arc<Design>) -> TaskId {
        let cut = self.cut;
        let key_types = key_types(design, cut.as_ref());
        let mut types = key_types.clone();
        types.push(DataType::Int64);
        types.extend(self.types.iter().cloned());
        let schema = schema_of(&types);
        let (parts, setting) = (design.recipe.parts.only(&self.plain), design.recipe.setting.clone());
        let recipe = Arc::new(Recipe { parts, setting });
        let (design, output) = (design.clone(), schema.clone());
        let make = move || {
            let groups = recipe.groups(key_types.clone()).map_err(|what| design.unsupported.error(what))?;
            let (design, schema) = (design.clone(), output.clone());
            let parts = (0..recipe.parts.list().len()).collect();
            Ok(Box::new(Local { design, cut, groups, parts, schema, sent: 0 }) as Box<dyn Operator>)
        };
        graph.add(lowering.task(vec![lowering.input()], schema, Arc::new(make)))
    }
}

/// The types of a travelling state's key: the group's and, with windows, the two parts of a span.
fn key_types(design: &Design, cut: Option<&Cut>) -> Vec<DataType> {
    let mut types = design.key_types.clone();
    types.extend(cut.into_iter().flat_map(|_| [DataType::Int64, DataType::Int64]));
    types
}

/// The columns of a travelling state's key.
fn key_columns(delta: &Delta, keys: &[usize], spans: Option<&[Span]>) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = keys.iter().map(|key| delta.column(*key).clone()).collect();
    if let Some(spans) = spans {
        columns.push(Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.0))));
        columns.push(Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.1))));
    }
    columns
}

fn schema_of(types: &[DataType]) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| Field::new(format!("p{index}"), data_type.clone(), true);
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Sums of one step, where the rows are.
struct Local {
    design: Arc<Design>,
    cut: Option<Cut>,
    groups: Groups,
    parts: Vec<usize>,
    schema: SchemaRef,
    /// Groups of this step that have been sent.
    sent: usize,
}

impl Local {
    fn take(&mut self, delta: &Delta, spans: &[Span]) -> Result<(), ArrowError> {
        let keys = key_columns(delta, &self.design.keys, self.cut.as_ref().map(|_| spans));
        let slots = self.groups.intern(&keys, delta.rows());
        self.groups.update(&slots, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
    }

    /// The next groups of the step; none when all are sent.
    fn next(&mut self) -> Result<Option<Delta>, ArrowError> {
        let to = (self.sent + DELTA_ROWS_MAX).min(self.groups.slots());
        if self.sent == to {
            self.groups.clear();
            self.sent = 0;
            return Ok(None);
        }
        let slots: Vec<u32> = (self.sent as u32..to as u32).collect();
        self.sent = to;
        let mut columns = self.groups.keys(&slots);
        columns.push(Arc::new(Int64Array::from(self.groups.weights(&slots))));
        columns.extend(self.groups.partial(&slots, &self.parts)?);
        Ok(Some(Delta::inserts(batch_of(&self.schema, columns, slots.len())?)))
    }
}

impl Operator for Local {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (delta, spans) = match &self.cut {
            None => (delta, Vec::new()),
            Some(cut) => {
                let placed = place(&self.design, cut, delta, i64::MIN, context, out)?;
                (placed.delta, placed.spans)
            }
        };
        self.take(&delta, &spans).map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, _context: &Context, out: &mut Output) -> Result<Flush, Error> {
        Ok(match self.next().map_err(|error| self.design.guard.broken(error))? {
            Some(delta) => {
                out.emit(delta);
                Flush::More
            }
            None => Flush::Done,
        })
    }

    fn state_size(&self) -> StateSize {
        StateSize { entries: 0, ..self.groups.size() }
    }
}

/// Adds the tasks that tell the values of a DISTINCT part apart.
fn values(
    graph: &mut Graph,
    lowering: &Lowering<'_>,
    design: &Arc<Design>,
    cut: Option<Cut>,
    part: usize,
) -> Result<TaskId, Error> {
    // Only what is needed changes lanes: keys, times, arguments, filters.
    let calls = design.recipe.parts.list()[part].calls();
    let mut columns = design.keys.clone();
    columns.extend(cut.iter().flat_map(Cut::columns));
    columns.extend(calls.iter().flat_map(|call| call.args.iter().copied().chain(call.filter)));
    columns.sort();
    columns.dedup();
    let input = &lowering.input_schemas[0];
    let narrow = Arc::new(input.project(&columns).map_err(|error| design.guard.broken(error))?);
    let at = |column: usize| columns.iter().position(|other| *other == column).unwrap_or(0);
    let keys: Vec<usize> = design.keys.iter().map(|key| at(*key)).collect();
    let calls: Vec<AggregateCall> = calls
        .iter()
        .map(|call| AggregateCall {
            args: call.args.iter().map(|arg| at(*arg)).collect(),
            filter: call.filter.map(at),
            ..call.clone()
        })
        .collect();
    let mut by_value = keys.clone();
    by_value.extend(&calls[0].args);
    let append_only = design.recipe.setting.append_only;
    let types = narrow.fields().iter().map(|field| field.data_type().clone()).collect();
    let cut = cut.map(|cut| cut.over(at));
    let setting = Setting { types, append_only, retiring: cut.is_some() };
    let recipe = Arc::new(Recipe { parts: Parts::new(&calls, append_only), setting });
    let key_types = key_types(design, cut.as_ref());
    let groups = recipe.groups(key_types.clone()).map_err(|what| design.unsupported.error(what))?;
    let mut types = key_types.clone();
    types.extend(groups.partial_types(&[0]).unwrap_or_default());
    let schema = schema_of(&types);

    let (picked, picked_schema, guard) = (columns, narrow.clone(), design.clone());
    let make = move || {
        let (columns, schema, design) = (picked.clone(), picked_schema.clone(), guard.clone());
        Ok(Box::new(Narrow { columns, schema, design }) as Box<dyn Operator>)
    };
    let narrowed = graph.add(lowering.task(vec![lowering.input()], narrow, Arc::new(make)));
    let (design, output) = (design.clone(), schema.clone());
    let make = move || {
        let groups = recipe.groups(key_types.clone()).map_err(|what| design.unsupported.error(what))?;
        Ok(Box::new(Values {
            design: design.clone(),
            keys: keys.clone(),
            cut,
            groups,
            schema: output.clone(),
            frames: Frames::default(),
            stamps: Vec::new(),
            epoch: 1,
            touched: Vec::new(),
            closed: i64::MIN,
        }) as Box<dyn Operator>)
    };
    let input = Input { task: narrowed, placement: Placement::ByKey(by_value) };
    Ok(graph.add(lowering.task(vec![input], schema, Arc::new(make))))
}

/// Picks columns.
struct Narrow {
    columns: Vec<usize>,
    schema: SchemaRef,
    design: Arc<Design>,
}

impl Operator for Narrow {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        let columns = self.columns.iter().map(|column| delta.column(*column).clone()).collect();
        let batch = batch_of(&self.schema, columns, delta.rows()).map_err(|error| self.design.guard.broken(error))?;
        out.emit(delta.with_batch(batch));
        Ok(())
    }
}

/// The different values of a part of all (group, value) pairs, and what a step changes in them for each group.
struct Values {
    design: Arc<Design>,
    keys: Vec<usize>,
    cut: Option<Cut>,
    groups: Groups,
    schema: SchemaRef,
    frames: Frames,
    /// The epoch in which each slot was last touched; 0 for slots that are no group's.
    stamps: Vec<u64>,
    epoch: u64,
    touched: Vec<u32>,
    /// How far windows have been closed.
    closed: i64,
}

impl Values {
    fn take(&mut self, delta: &Delta, spans: Option<&[Span]>) -> Result<(), ArrowError> {
        let slots = self.groups.intern(&key_columns(delta, &self.keys, spans), delta.rows());
        let ids = spans.map(|spans| self.frames.ids(spans, false));
        self.stamps.resize(self.groups.slots().max(self.stamps.len()), 0);
        for (row, slot) in slots.iter().enumerate() {
            let stamp = std::mem::replace(&mut self.stamps[*slot as usize], self.epoch);
            if let (0, Some(ids)) = (stamp, &ids) {
                self.frames.get_mut(ids[row]).slots.push(*slot);
            }
            if stamp != self.epoch {
                self.touched.push(*slot);
            }
        }
        self.groups.update(&slots, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
    }

    /// What has changed for the next groups; none when all has been said.
    fn next(&mut self, clock: i64) -> Result<Option<Delta>, ArrowError> {
        if self.touched.is_empty() {
            self.epoch += 1;
            self.close(clock);
            return Ok(None);
        }
        let slots = self.touched.split_off(self.touched.len().saturating_sub(DELTA_ROWS_MAX));
        let mut columns = self.groups.keys(&slots);
        columns.extend(self.groups.partial(&slots, &[0])?);
        let delta = Delta::inserts(batch_of(&self.schema, columns, slots.len())?);
        for slot in slots {
            // Windows go as a whole.
            if self.cut.is_none() && self.groups.weight(slot) == 0 {
                self.forget(slot);
            } else {
                self.groups.reset(slot);
            }
        }
        Ok(Some(delta))
    }

    fn forget(&mut self, slot: u32) {
        self.groups.retire(slot);
        self.stamps[slot as usize] = 0;
    }

    /// Forgets windows that take no more rows.
    fn close(&mut self, clock: i64) {
        if self.cut.is_none() {
            return;
        }
        let bound = if clock == i64::MAX { clock } else { clock.saturating_sub(self.design.lateness) };
        for id in self.frames.until(bound) {
            self.frames.remove(id).into_iter().for_each(|slot| self.forget(slot));
        }
        self.closed = self.closed.max(clock);
    }
}

impl Operator for Values {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, _out: &mut Output) -> Result<(), Error> {
        let taken = match &self.cut {
            None => self.take(&delta, None),
            Some(cut) => {
                // Late rows and rows without a time are reported where rows are summed.
                let mut reported = Output::default();
                let placed = place(&self.design, cut, delta, self.closed, context, &mut reported)?;
                self.take(&placed.delta, Some(&placed.spans))
            }
        };
        taken.map_err(|error| self.design.guard.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        let clock = self.design.clock(context);
        Ok(match self.next(clock).map_err(|error| self.design.guard.broken(error))? {
            Some(delta) => {
                out.emit(delta);
                Flush::More
            }
            None => Flush::Done,
        })
    }

    fn state_size(&self) -> StateSize {
        let (mut size, (_, frames)) = (self.groups.size(), self.frames.size());
        size.bytes += 8 * self.stamps.capacity() as u64 + frames;
        size
    }
}

//! [`Values`]: which values of a DISTINCT argument are new, on the lane of (group, value).

use std::sync::Arc;

use arrow_schema::{ArrowError, DataType, SchemaRef};

use super::Design;
use super::accumulator::Rows;
use super::groups::{Groups, Recipe};
use super::parts::{Parts, Setting};
use super::stages::{batch_of, key_columns, key_types, schema_of};
use super::windows::{Cut, Frames, Span, place};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, Placement, TaskId};
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::plan::AggregateCall;

/// Adds the tasks that tell the values of a part apart: one that picks the columns that have to change lanes, and one
/// that gives partial states by group.
pub(super) fn lower(
    graph: &mut Graph,
    lowering: &Lowering<'_>,
    design: &Arc<Design>,
    cut: Option<Cut>,
    part: usize,
) -> Result<TaskId, Error> {
    let needed = Needed::of(design, cut, part);
    let narrow = lowering.input_schemas[0].project(&needed.columns).map_err(|error| design.guard.broken(error))?;
    let narrow: SchemaRef = Arc::new(narrow);
    let append_only = design.recipe.setting.append_only;
    let types = narrow.fields().iter().map(|field| field.data_type().clone()).collect();
    let setting = Setting { types, append_only, retiring: cut.is_some() };
    let recipe = Arc::new(Recipe { parts: Parts::new(&needed.calls, append_only), setting });
    let key_types = key_types(design, cut.as_ref());
    let groups = recipe.groups(key_types.clone()).map_err(|what| design.unsupported.error(what))?;
    let mut types = key_types.clone();
    types.extend(groups.partial_types(&[0]).unwrap_or_default());
    let schema = schema_of(&types);

    let by_value = [needed.keys.as_slice(), &needed.calls[0].args].concat();
    let task = add_narrow(graph, lowering, design, needed.columns.clone(), narrow);
    let (design, output) = (design.clone(), schema.clone());
    let make = move || Values::make(&design, &needed, &recipe, &key_types, &output);
    let input = Input { task, placement: Placement::ByKey(by_value) };
    Ok(graph.add(lowering.task(vec![input], schema, Arc::new(make))))
}

/// The columns that a part needs, and where keys, arguments and times are among them.
struct Needed {
    /// The input's columns.
    columns: Vec<usize>,
    keys: Vec<usize>,
    calls: Vec<AggregateCall>,
    cut: Option<Cut>,
}

impl Needed {
    fn of(design: &Design, cut: Option<Cut>, part: usize) -> Self {
        let calls = design.recipe.parts.list()[part].calls();
        let mut columns = design.keys.clone();
        columns.extend(cut.iter().flat_map(Cut::columns));
        columns.extend(calls.iter().flat_map(|call| call.args.iter().copied().chain(call.filter)));
        columns.sort();
        columns.dedup();
        let at = |column: usize| columns.iter().position(|other| *other == column).unwrap_or(0);
        let moved = |call: &AggregateCall| AggregateCall {
            args: call.args.iter().map(|arg| at(*arg)).collect(),
            filter: call.filter.map(at),
            ..call.clone()
        };
        Needed {
            keys: design.keys.iter().map(|key| at(*key)).collect(),
            calls: calls.iter().map(moved).collect(),
            cut: cut.map(|cut| cut.over(at)),
            columns,
        }
    }
}

fn add_narrow(
    graph: &mut Graph,
    lowering: &Lowering<'_>,
    design: &Arc<Design>,
    columns: Vec<usize>,
    schema: SchemaRef,
) -> TaskId {
    let (design, output) = (design.clone(), schema.clone());
    let make = move || {
        let (columns, schema, design) = (columns.clone(), output.clone(), design.clone());
        Ok(Box::new(Narrow { columns, schema, design }) as Box<dyn Operator>)
    };
    graph.add(lowering.task(vec![lowering.input()], schema, Arc::new(make)))
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
    fn make(
        design: &Arc<Design>,
        needed: &Needed,
        recipe: &Arc<Recipe>,
        key_types: &[DataType],
        schema: &SchemaRef,
    ) -> Result<Box<dyn Operator>, Error> {
        let groups = recipe.groups(key_types.to_vec()).map_err(|what| design.unsupported.error(what))?;
        Ok(Box::new(Values {
            design: design.clone(),
            keys: needed.keys.clone(),
            cut: needed.cut,
            groups,
            schema: schema.clone(),
            frames: Frames::default(),
            stamps: Vec::new(),
            epoch: 1,
            touched: Vec::new(),
            closed: i64::MIN,
        }))
    }

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

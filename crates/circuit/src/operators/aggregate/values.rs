//! [`Values`]: which values of a DISTINCT argument are new, on the lane of (group, value).

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{ArrowError, SchemaRef};

use super::Design;
use super::accumulator::Rows;
use super::groups::Recipe;
use super::kept::{Kept, Tables};
use super::packed::{self, Packed};
use super::parts::{Parts, Setting};
use super::stages::{Partials, batch_of, schema_of, with_spans};
use super::windows::{Cut, Span, place};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, Placement, TaskId};
use crate::keep::keeper::Keeper;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::plan::AggregateCall;

/// Adds the tasks that tell the values of a part apart: one that picks the columns that have to change lanes, and one
/// that gives partial states by group.
pub(super) fn lower(
    graph: &mut Graph,
    lowering: &Lowering<'_>,
    design: &Arc<Design>,
    partials: &Partials,
    part: usize,
    (rows, input): &(TaskId, SchemaRef),
) -> Result<TaskId, Error> {
    let (cut, packed) = (partials.cut, partials.packed);
    let width = lowering.input_schemas[0].fields().len();
    let needed = match packed {
        true => Needed::of(design, &[width, width + 1], cut, part),
        false => Needed::of(design, &design.keys, cut, part),
    };
    let narrow = input.project(&needed.columns).map_err(|error| design.guard.broken(error))?;
    let narrow: SchemaRef = Arc::new(narrow);
    let append_only = design.recipe.setting.append_only;
    let types = narrow.fields().iter().map(|field| field.data_type().clone()).collect();
    let setting = Setting { types, append_only, retiring: cut.is_some(), inline: false };
    let recipe = Arc::new(Recipe { parts: Parts::new(&needed.calls, append_only), setting });
    let mut types = partials.key_types(design);
    let groups = recipe.groups(design.key_types.clone()).map_err(|what| design.unsupported.error(what))?;
    types.extend(groups.partial_types(&[0]).unwrap_or_default());
    let schema = schema_of(&types);

    let values = &needed.calls[0].args;
    let placement = match packed {
        true => packed::placed(design, needed.keys[0], values),
        false => Placement::ByKey([needed.keys.as_slice(), values].concat()),
    };
    let task = add_narrow(graph, lowering, design, *rows, needed.columns.clone(), narrow);
    let (design, output) = (design.clone(), schema.clone());
    let make = move || Values::make(&design, &needed, &recipe, part, packed, &output);
    let input = Input { task, placement };
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
    fn of(design: &Design, keys: &[usize], cut: Option<Cut>, part: usize) -> Self {
        let calls = design.recipe.parts.list()[part].calls();
        let mut columns = keys.to_vec();
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
            keys: keys.iter().map(|key| at(*key)).collect(),
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
    rows: TaskId,
    columns: Vec<usize>,
    schema: SchemaRef,
) -> TaskId {
    let (design, output) = (design.clone(), schema.clone());
    let make = move || {
        let (columns, schema, design) = (columns.clone(), output.clone(), design.clone());
        Ok(Box::new(Narrow { columns, schema, design }) as Box<dyn Operator>)
    };
    let input = Input { task: rows, placement: Placement::Stay };
    graph.add(lowering.task(vec![input], schema, Arc::new(make)))
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
    /// The key's columns, or those of keys as they are written.
    keys: Vec<usize>,
    packed: bool,
    cut: Option<Cut>,
    kept: Kept,
    schema: SchemaRef,
    /// The epoch in which each slot was last touched.
    stamps: Vec<u64>,
    epoch: u64,
    touched: Vec<u32>,
}

impl Values {
    fn make(
        design: &Arc<Design>,
        needed: &Needed,
        recipe: &Arc<Recipe>,
        part: usize,
        packed: bool,
        schema: &SchemaRef,
    ) -> Result<Box<dyn Operator>, Error> {
        let kept = Kept::new(recipe, &design.key_types, needed.cut.is_some(), false, Tables::Values(part));
        let kept = kept.map_err(|what| design.unsupported.error(what))?;
        Ok(Box::new(Values {
            design: design.clone(),
            keys: needed.keys.clone(),
            packed,
            cut: needed.cut,
            kept,
            schema: schema.clone(),
            stamps: Vec::new(),
            epoch: 1,
            touched: Vec::new(),
        }))
    }

    fn take(&mut self, delta: &Delta, spans: &[Span]) -> Result<(), ArrowError> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| delta.column(*key).clone()).collect();
        let slots = match keys.as_slice() {
            [keys, hashes] if self.packed => self.kept.intern_written(&Packed::of(keys, hashes)),
            keys => self.kept.intern(keys, spans, delta.rows()).0,
        };
        self.stamps.resize(self.kept.groups.slots().max(self.stamps.len()), 0);
        for slot in &slots {
            if std::mem::replace(&mut self.stamps[*slot as usize], self.epoch) != self.epoch {
                self.touched.push(*slot);
            }
        }
        self.kept.update(&slots, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
    }

    /// What has changed for the next groups; none when all has been said.
    fn next(&mut self, clock: i64) -> Result<Option<Delta>, ArrowError> {
        if self.touched.is_empty() {
            self.epoch += 1;
            self.close(clock)?;
            return Ok(None);
        }
        let slots = self.touched.split_off(self.touched.len().saturating_sub(DELTA_ROWS_MAX));
        let mut columns = match self.packed {
            true => self.kept.groups.written(&slots).columns()?,
            false => {
                let (keys, spans) = self.kept.keys(&slots);
                with_spans(keys, spans.as_deref())
            }
        };
        columns.extend(self.kept.groups.partial(&slots, &[0])?);
        let delta = Delta::inserts(batch_of(&self.schema, columns, slots.len())?);
        for slot in slots {
            // Windows go as a whole.
            if self.cut.is_none() && !self.kept.groups.holds(slot) {
                self.kept.forget(slot)?;
            } else {
                self.kept.groups.reset(slot);
            }
        }
        Ok(Some(delta))
    }

    /// Forgets windows that take no more rows.
    fn close(&mut self, clock: i64) -> Result<(), ArrowError> {
        self.kept.progress.started = true;
        if self.cut.is_none() {
            return Ok(());
        }
        let clock = clock.max(self.kept.progress.closed);
        let bound = if clock == i64::MAX { clock } else { clock.saturating_sub(self.design.lateness) };
        for id in self.kept.frames.until(bound) {
            self.kept.forget_frame(id)?;
        }
        self.kept.progress.closed = clock;
        Ok(())
    }
}

impl Operator for Values {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, _out: &mut Output) -> Result<(), Error> {
        let taken = match &self.cut {
            None => self.take(&delta, &[]),
            Some(cut) => {
                // Late rows and rows without a time are reported where rows are summed.
                let mut reported = Output::default();
                let placed = place(&self.design, cut, delta, self.kept.progress.closed, context, &mut reported)?;
                self.take(&placed.delta, &placed.spans)
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
        let mut size = self.kept.size();
        size.bytes += 8 * self.stamps.capacity() as u64;
        size
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        // Keys that cannot be shown are not worth another error.
        self.kept.largest_keys(&self.design.schema, most).unwrap_or_default()
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.kept)
    }
}

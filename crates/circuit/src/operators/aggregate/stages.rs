//! How an aggregate is spread over lanes.
//!
//! Rows are summed per step where they are ([`Local`]), and the partial states are brought to the lane of their group,
//! which merges them. A DISTINCT argument takes a way of its own: its rows go to the lane of (group, value), where it is
//! known which values are new ([`values`]), and only what that changes for the group goes on. So a hot group uses every
//! lane. States that have no form as columns make all rows go to the lane of their group instead.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::Design;
use super::accumulator::Rows;
use super::feed::Feed;
use super::grouped::Grouped;
use super::groups::{Groups, Recipe};
use super::packed::{self, Packed};
use super::paned::Paned;
use super::session;
use super::values;
use super::windows::{Cut, Frames, Span, place};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, MakeOperator, Placement, TaskId};
use crate::operator::{Context, Flush, Operator, Output, StateSize};

/// Adds the tasks of an aggregate.
pub(super) fn lower(graph: &mut Graph, lowering: &Lowering<'_>, design: Arc<Design>) -> Result<TaskId, Error> {
    let make = operator(design.clone(), Feed::Rows, design.cut());
    // Whatever cannot be made is refused now.
    make()?;
    let partials = if lowering.lanes > 1 { Partials::of(&design)? } else { None };
    let Some(partials) = partials else {
        let input = Input { task: lowering.inputs[0], placement: lowering.together(&design.keys) };
        return Ok(graph.add(lowering.task(vec![input], design.schema.clone(), make)));
    };
    let keys: Vec<usize> = (0..design.keys.len()).collect();
    let placement = || if partials.packed { packed::placed(&design, 0, &[]) } else { lowering.together(&keys) };
    let rows = match partials.packed {
        true => packed::lower(graph, lowering, &design),
        false => (lowering.inputs[0], lowering.input_schemas[0].clone()),
    };
    let mut ports = vec![partials.plain.clone()];
    let task = partials.local(graph, lowering, &design, rows.0);
    let mut inputs = vec![Input { task, placement: placement() }];
    for part in &partials.distinct {
        ports.push(vec![*part]);
        let task = values::lower(graph, lowering, &design, &partials, *part, &rows)?;
        inputs.push(Input { task, placement: placement() });
    }
    let feed = Feed::Partials { ports, packed: partials.packed };
    let make = operator(design.clone(), feed, partials.cut);
    Ok(graph.add(lowering.task(inputs, design.schema.clone(), make)))
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
pub(super) struct Partials {
    /// Parts that are summed where the rows are.
    plain: Vec<usize>,
    /// Parts that tell values apart.
    distinct: Vec<usize>,
    /// The columns of the plain parts' states.
    types: Vec<DataType>,
    /// How time is cut.
    pub cut: Option<Cut>,
    /// Whether keys travel as they are written.
    pub packed: bool,
}

impl Partials {
    /// The parts of `design`; none when some state does not travel.
    fn of(design: &Design) -> Result<Option<Self>, Error> {
        let parts = design.recipe.parts.list();
        let (distinct, plain): (Vec<usize>, Vec<usize>) = (0..parts.len()).partition(|part| parts[*part].is_distinct());
        // Values that are told apart on other lanes than their group would not go with it.
        if design.session().is_some() || (design.ttl_ms.is_some() && !distinct.is_empty()) {
            return Ok(None);
        }
        let groups = design.groups(design.key_types.clone())?;
        let travels = groups.partial_types(&distinct).is_some();
        let types = groups.partial_types(&plain).filter(|_| travels);
        let cut = design.cut();
        let values = distinct.iter().map(|part| parts[*part].calls()[0].args.len()).max().unwrap_or(0);
        // Keys that one stage alone reads are written there.
        let packed = cut.is_none() && !distinct.is_empty() && Packed::suits(&design.key_types, values);
        Ok(types.map(|types| Partials { plain, distinct, types, cut, packed }))
    }

    /// The types of a travelling state's key.
    pub fn key_types(&self, design: &Design) -> Vec<DataType> {
        if self.packed { Packed::TYPES.to_vec() } else { key_types(design, self.cut.as_ref()) }
    }

    /// Adds the task that sums rows where they are.
    fn local(&self, graph: &mut Graph, lowering: &Lowering<'_>, design: &Arc<Design>, rows: TaskId) -> TaskId {
        let (cut, packed) = (self.cut, self.packed.then(|| lowering.input_schemas[0].fields().len()));
        let mut types = self.key_types(design);
        types.push(DataType::Int64);
        types.extend(self.types.iter().cloned());
        let schema = schema_of(&types);
        let (parts, setting) = (design.recipe.parts.only(&self.plain), design.recipe.setting.clone());
        let recipe = Arc::new(Recipe { parts, setting });
        let (design, output) = (design.clone(), schema.clone());
        let make = move || {
            // A span is named by its number here, which makes short keys of most.
            let number = cut.iter().map(|_| DataType::UInt32);
            let key_types = design.key_types.iter().cloned().chain(number).collect();
            let groups = recipe.groups(key_types).map_err(|what| design.unsupported.error(what))?;
            let (design, schema) = (design.clone(), output.clone());
            let parts = (0..recipe.parts.list().len()).collect();
            let frames = Frames::default();
            Ok(Box::new(Local { design, cut, packed, groups, frames, parts, schema, sent: 0 }) as Box<dyn Operator>)
        };
        let input = Input { task: rows, placement: Placement::Stay };
        graph.add(lowering.task(vec![input], schema, Arc::new(make)))
    }
}

/// The types of a travelling state's key: the group's and, with windows, the two parts of a span.
fn key_types(design: &Design, cut: Option<&Cut>) -> Vec<DataType> {
    let mut types = design.key_types.clone();
    types.extend(cut.into_iter().flat_map(|_| [DataType::Int64, DataType::Int64]));
    types
}

/// The columns of a travelling state's key.
pub(super) fn with_spans(keys: Vec<ArrayRef>, spans: Option<&[Span]>) -> Vec<ArrayRef> {
    let mut columns = keys;
    if let Some(spans) = spans {
        columns.push(Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.0))));
        columns.push(Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.1))));
    }
    columns
}

/// A schema of these types; the columns' names say nothing.
pub(super) fn schema_of(types: &[DataType]) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| Field::new(format!("p{index}"), data_type.clone(), true);
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// A batch of columns, of which there may be none.
pub(super) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Sums of one step, where the rows are.
struct Local {
    design: Arc<Design>,
    cut: Option<Cut>,
    /// Where the keys of rows stand as they are written, if they do.
    packed: Option<usize>,
    groups: Groups,
    /// The windows or panes of the step.
    frames: Frames,
    parts: Vec<usize>,
    schema: SchemaRef,
    /// Groups of this step that have been sent.
    sent: usize,
}

impl Local {
    fn take(&mut self, delta: &Delta, spans: &[Span]) -> Result<(), ArrowError> {
        let slots = match self.packed {
            Some(at) => self.groups.intern_written(&Packed::of(delta.column(at), delta.column(at + 1))),
            None => self.intern(delta, spans),
        };
        self.groups.update(&slots, &Rows { columns: delta.batch().columns(), weights: delta.weights() })
    }

    fn intern(&mut self, delta: &Delta, spans: &[Span]) -> Vec<u32> {
        let mut keys: Vec<ArrayRef> = self.design.keys.iter().map(|key| delta.column(*key).clone()).collect();
        if self.cut.is_some() {
            keys.push(Arc::new(UInt32Array::from(self.frames.ids(spans, false))));
        }
        self.groups.intern(&keys, delta.rows())
    }

    /// The keys of groups as they travel.
    fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.packed.is_some() {
            return self.groups.written(slots).columns();
        }
        let mut keys = self.groups.keys(slots);
        let numbers = if self.cut.is_some() { keys.pop() } else { None };
        let spans: Option<Vec<Span>> = numbers.map(|numbers| {
            numbers.as_primitive::<UInt32Type>().values().iter().map(|number| self.frames.get(*number).span).collect()
        });
        Ok(with_spans(keys, spans.as_deref()))
    }

    /// The next groups of the step; none when all are sent.
    fn next(&mut self) -> Result<Option<Delta>, ArrowError> {
        let to = (self.sent + DELTA_ROWS_MAX).min(self.groups.slots());
        if self.sent == to {
            self.groups.clear();
            self.frames = Frames::default();
            self.sent = 0;
            return Ok(None);
        }
        let slots: Vec<u32> = (self.sent as u32..to as u32).collect();
        self.sent = to;
        let mut columns = self.keys(&slots)?;
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

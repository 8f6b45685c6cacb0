//! Looks rows up in a view: a row is answered from the view as it stands after the row's own step.
//!
//! The view's changes come in on a port of their own, perhaps many exchanges later than the rows. What is kept of it is the
//! newest row of each key, where rows are looked up by what makes them unique ([`Latest`]), or else all of its rows
//! ([`Every`]). Rows wait until the step's changes are all in, and leave when the step is flushed, in the order in which
//! they came; none is kept beyond its step.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use tidemill_base::Position;

use super::lookup::asking::Asking;
use super::lookup::join::{Found, Join, Theirs, without_null_keys};
use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, Placement, TaskId};
use crate::keep::keeper::Keeper;
use crate::keep::value::is_saved;
use crate::key::KeyEncoder;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::plan::ViewLookupSpec;

mod every;
mod latest;

use every::{Design, Every};
use latest::{Latest, Unsettled};

/// The port of the rows that look something up; the view's changes come in on the other one.
const ROWS: usize = 0;

struct ViewLookup {
    name: String,
    position: Option<Position>,
    keys: Vec<usize>,
    join: Join,
    view: View,
    /// Rows of this step that wait for the view's changes.
    waiting: VecDeque<Delta>,
    /// Those of them that are being answered, where a row may find many.
    asking: Option<Asking>,
}

/// What is kept of the view.
enum View {
    /// One row for each key.
    Latest(Box<Latest>),
    /// All rows.
    Every(Box<Every>),
}

impl Operator for ViewLookup {
    fn push(&mut self, port: usize, delta: Delta, _context: &Context, _out: &mut Output) -> Result<(), Error> {
        if port == ROWS {
            self.waiting.push_back(delta);
            return Ok(());
        }
        let taken = match &mut self.view {
            View::Latest(latest) => latest.take(&delta),
            View::Every(every) => every.take(&delta),
        };
        taken.map_err(|error| self.join.broken(error))
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        self.settle()?;
        if let Some(joined) = self.look_up(context, out)? {
            out.emit(joined);
        }
        let answered = self.waiting.is_empty() && self.asking.is_none();
        Ok(if answered { Flush::Done } else { Flush::More })
    }

    fn state_size(&self) -> StateSize {
        match &self.view {
            View::Latest(latest) => latest.size(),
            View::Every(every) => every.size(),
        }
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        match &self.view {
            View::Latest(_) => Vec::new(),
            View::Every(every) => every.largest_keys(most),
        }
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(match &mut self.view {
            View::Latest(latest) => latest.as_mut(),
            View::Every(every) => every.keeper(),
        })
    }
}

impl ViewLookup {
    /// The step's changes of the view are all in.
    fn settle(&mut self) -> Result<(), Error> {
        let latest = match &mut self.view {
            View::Latest(latest) => latest,
            View::Every(every) => return every.settle().map_err(|error| self.join.broken(error)),
        };
        latest.settle().map_err(|unsettled| match unsettled {
            // A table need not keep what its declaration promises.
            Unsettled::Several(key) => Error::Unsupported {
                what: format!("{}: more than one row with the key {key}, by which rows are looked up,", self.name),
                position: self.position,
            },
            Unsettled::Absent(key) => {
                self.join.broken(format!("the view takes back a row that it has not, with the key {key}"))
            }
        })
    }

    /// The next rows with what is found for them.
    fn look_up(&mut self, context: &Context, out: &mut Output) -> Result<Option<Delta>, Error> {
        let broken = |error: &dyn ToString| self.join.broken(error.to_string());
        match &mut self.view {
            View::Latest(latest) => {
                let Some(delta) = self.waiting.pop_front() else { return Ok(None) };
                let mut slots: Found = latest.find(&delta, &self.keys);
                without_null_keys(&delta, &self.keys, &mut slots);
                let wanted: Vec<u32> = slots.iter().copied().flatten().collect();
                let columns = latest.columns(&wanted).map_err(|error| broken(&error))?;
                let mut next = 0_u32..;
                let found = slots.into_iter().map(|slot| slot.and_then(|_| next.next())).collect();
                let theirs = Theirs { columns, version: None };
                self.join.join(delta, found, &theirs, context, out).map(Some)
            }
            View::Every(every) => {
                let begun = self.asking.take().or_else(|| {
                    let delta = self.waiting.pop_front()?;
                    let mut keys = every.find(&delta, &self.keys);
                    without_null_keys(&delta, &self.keys, &mut keys);
                    Some(Asking::new(delta, keys))
                });
                let Some(mut asking) = begun else { return Ok(None) };
                let (picks, columns) = every.next(&mut asking).map_err(|error| broken(&error))?;
                let theirs = Theirs { columns, version: None };
                let joined = self.join.picked(&mut asking, picks, &theirs, context, out)?;
                self.asking = (!asking.is_answered()).then_some(asking);
                Ok(Some(joined))
            }
        }
    }
}

/// One task, to which rows and changes come by their keys.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &ViewLookupSpec) -> Result<TaskId, Error> {
    let unsupported = |what: &str| Error::Unsupported { what: what.to_string(), position: lowering.node.position };
    let ([rows, view], [row_schema, view_schema]) = (lowering.inputs, lowering.input_schemas) else {
        return Err(Error::broken(&lowering.name, "it has two inputs, the rows and the view"));
    };
    if !lowering.append_only {
        return Err(unsupported(
            "looking up rows in a view for rows that may be taken back (what is found for a row would have to be \
             remembered to take it back; look up before rows are aggregated)",
        ));
    }
    let types = |schema: &SchemaRef, columns: &[usize]| -> Vec<DataType> {
        columns.iter().map(|column| schema.field(*column).data_type().clone()).collect()
    };
    let key_types = types(view_schema, &spec.view_keys);
    if types(row_schema, &spec.keys) != key_types {
        return Err(unsupported("looking up rows in a view by columns of other types than its key's"));
    }
    let encoder = KeyEncoder::new(key_types).ok_or_else(|| unsupported("looking up rows by lists, maps or rows"))?;
    let value_types = types(view_schema, &spec.columns);
    if let Some(other) = value_types.iter().find(|data_type| !is_saved(data_type)) {
        return Err(unsupported(&format!("looking up values of type {other} in a view")));
    }
    let every =
        match spec.unique {
            true => None,
            false => Some(Design::new(spec, view_schema).map_err(|what| {
                unsupported(&format!("looking up rows in a view by what several may share ({what})"))
            })?),
        };
    let placed = |task: &TaskId, keys: &[usize]| Input { task: *task, placement: Placement::ByKey(keys.to_vec()) };
    let inputs = vec![placed(rows, &spec.keys), placed(view, &spec.view_keys)];
    let (join, keys) = (Join::of(lowering, spec.residual.clone(), spec.outer), spec.keys.clone());
    let (name, position) = (lowering.name.clone(), lowering.node.position);
    let (schema, view_keys, columns) = (view_schema.clone(), spec.view_keys.clone(), spec.columns.clone());
    let make = move || {
        let latest = || Latest::new(encoder.clone(), schema.clone(), view_keys.clone(), columns.clone());
        let view = match &every {
            None => View::Latest(Box::new(latest())),
            Some(design) => View::Every(Box::new(Every::new(design.clone()))),
        };
        let (name, keys, join) = (name.clone(), keys.clone(), join.clone());
        let operator = ViewLookup { name, position, keys, join, view, waiting: VecDeque::new(), asking: None };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    Ok(graph.add(lowering.task(inputs, lowering.node.schema.clone(), Arc::new(make))))
}

#[cfg(test)]
mod tests;

//! GROUP BY and DISTINCT: incremental aggregates over rows with weights, with and without windows.
//!
//! A chunk's keys become dense slots ([`groups`]), each call's accumulator takes the whole chunk at once
//! ([`accumulator`], one file a family), and flushing says what has changed: [`grouped`] keeps one row a group and
//! window, [`paned`] makes hopping and cumulating windows of panes, [`session`] merges rows that lie close together.
//! With several lanes, states that travel are summed where the rows are first, and only then brought to the lane of
//! their group ([`stages`]), so that one hot group uses every lane.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::operator::Context;
use crate::operators::guard::Guard;
use crate::operators::time::{column_of, is_time};
use crate::plan::{AggregateSpec, Emit, Expiry, TimeDomain, Window, WindowKey};
use groups::{Groups, Recipe};
use parts::{Parts, Setting};
use windows::{Cut, Span};

pub(crate) mod accumulator;
mod approx;
mod changes;
mod collect;
mod count;
mod distinct;
mod extreme;
mod feed;
mod grouped;
mod groups;
mod kept;
mod packed;
mod paned;
pub(crate) mod parts;
mod session;
mod stages;
mod sum;
mod value;
mod values;
mod variance;
mod windows;

#[cfg(test)]
mod tests;

/// What all lanes' operators of one aggregate have in common.
struct Design {
    /// The grouping columns of the input.
    keys: Vec<usize>,
    /// Their types.
    key_types: Vec<DataType>,
    recipe: Arc<Recipe>,
    window: Option<WindowKey>,
    /// When groups are forgotten, of groups by a time.
    expiry: Option<Expiry>,
    /// What moves windows on.
    domain: TimeDomain,
    emit: Emit,
    /// Allowed lateness in milliseconds.
    lateness: i64,
    /// After how many milliseconds without a change a group is forgotten.
    ttl_ms: Option<i64>,
    /// The node's columns.
    schema: SchemaRef,
    guard: Guard,
    unsupported: Unsupported,
}

/// Makes the error of something that is not supported.
#[derive(Clone)]
struct Unsupported {
    position: Option<tidemill_base::Position>,
}

impl Unsupported {
    fn error(&self, what: impl ToString) -> Error {
        Error::Unsupported { what: what.to_string(), position: self.position }
    }
}

impl Design {
    fn new(lowering: &Lowering<'_>, spec: &AggregateSpec) -> Result<Self, Error> {
        let unsupported = Unsupported { position: lowering.node.position };
        if spec.window.is_none() && spec.emit == Emit::OnClose {
            return Err(unsupported.error("an aggregate without a window that emits when its window closes"));
        }
        let schema = &lowering.input_schemas[0];
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let domain = match &spec.window {
            Some(WindowKey::Time { domain, .. } | WindowKey::Columns { domain, .. }) => *domain,
            None => TimeDomain::Event,
        };
        let parts = Parts::new(&spec.calls, lowering.append_only);
        // The name of a session changes while it grows.
        let inline = matches!(&spec.window, Some(WindowKey::Time { window: Window::Session { .. }, .. }));
        let ttl_ms = lowering.ttl_ms.filter(|_| lowering.node.takes_ttl());
        if let Some(Expiry { time, .. }) = spec.expiry
            && (spec.window.is_some() || !spec.keys.contains(&time) || !is_time(&types[time]))
        {
            return Err(unsupported.error("groups that expire by something else than a time of theirs"));
        }
        let goes = spec.window.is_some() || spec.expiry.is_some() || ttl_ms.is_some();
        let (append_only, retiring) = (lowering.append_only, goes);
        let setting = Setting { types, append_only, retiring, inline };
        let design = Design {
            key_types: spec.keys.iter().map(|key| setting.types[*key].clone()).collect(),
            keys: spec.keys.clone(),
            recipe: Arc::new(Recipe { parts, setting }),
            window: spec.window.clone(),
            expiry: spec.expiry,
            domain,
            emit: spec.emit,
            lateness: spec.allowed_lateness_ms.max(0),
            ttl_ms,
            schema: lowering.node.schema.clone(),
            guard: Guard::of(lowering),
            unsupported,
        };
        // What cannot be made is an error of the plan, not of the first lane.
        design.groups(design.key_types.clone())?;
        Ok(design)
    }

    /// How time is cut; none for sessions, and for groups that do not go with a time. Groups that expire are in a window of
    /// their own time, of which nothing is said.
    ///
    /// Hopping windows that say each row once are made of panes, but for DISTINCT: a value that is new in a pane need not
    /// be new in a window, which matters where values are told apart on other lanes than their groups.
    fn cut(&self) -> Option<Cut> {
        let by_panes = self.emit == Emit::OnClose && self.lateness == 0 && self.distinct_parts().is_empty();
        match (&self.window, self.expiry) {
            (Some(window), _) => Cut::of(window, by_panes),
            (None, expiry) => expiry.map(Cut::Expiring),
        }
    }

    /// The parts that tell values apart.
    fn distinct_parts(&self) -> Vec<usize> {
        let parts = self.recipe.parts.list();
        (0..parts.len()).filter(|part| parts[*part].is_distinct()).collect()
    }

    /// The length of a silence that ends a session, and the column of time.
    fn session(&self) -> Option<(usize, i64)> {
        match &self.window {
            Some(WindowKey::Time { time, window: Window::Session { gap }, .. }) => Some((*time, *gap)),
            _ => None,
        }
    }

    /// No groups yet; or what is not supported.
    fn groups(&self, key_types: Vec<DataType>) -> Result<Groups, Error> {
        self.recipe.groups(key_types).map_err(|what| self.unsupported.error(what))
    }

    /// What windows are measured by in this step.
    fn clock(&self, context: &Context) -> i64 {
        match self.domain {
            TimeDomain::Event => context.watermark.millis(),
            TimeDomain::Processing => context.now.millis(),
        }
    }

    /// Rows of the node: keys, the window's columns, calls.
    fn rows(
        &self,
        keys: Vec<ArrayRef>,
        spans: Option<&[Span]>,
        calls: Vec<ArrayRef>,
        weights: Option<Vec<i64>>,
        rows: usize,
    ) -> Result<Delta, ArrowError> {
        let mut columns = keys;
        if let Some(spans) = spans.filter(|_| self.window.is_some()) {
            let starts = spans.iter().map(|(_, start)| *start).collect();
            let ends: Vec<i64> = spans.iter().map(|(end, _)| *end).collect();
            let times = ends.iter().map(|end| end.saturating_sub(1)).collect();
            for millis in [starts, ends, times] {
                let field = self.schema.field(columns.len());
                columns.push(
                    column_of(field.data_type(), millis)
                        .ok_or_else(|| ArrowError::SchemaError(format!("column '{}' is no time", field.name())))?,
                );
            }
        }
        columns.extend(calls);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(match weights {
            Some(weights) if weights.iter().any(|weight| *weight != 1) => Delta::weighted(batch, weights),
            _ => Delta::inserts(batch),
        })
    }
}

/// One task, or with several lanes one for each stage.
///
/// # Errors
/// [`Error::Unsupported`] for a function over a type that it does not take.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &AggregateSpec) -> Result<TaskId, Error> {
    let design = Arc::new(Design::new(lowering, spec)?);
    stages::lower(graph, lowering, design)
}

//! `INTERSECT` and `EXCEPT`: whole rows of two inputs, compared as `GROUP BY` compares them (nulls are equal).
//!
//! Of each different row is kept how often either side has it ([`counts`]); a step's changes are added up, and then said
//! once for each row that comes out more or less often than before.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef};

use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, Placement, TaskId};
use crate::keep::keeper::Keeper;
use crate::key::KeyEncoder;
use crate::operator::{Context, Flush, Operator, Output, StateSize};
use crate::operators::guard::Guard;
use crate::plan::{SetOperation as Which, SetSpec};
use counts::Counts;

mod counts;

#[cfg(test)]
mod tests;

struct SetOperation {
    spec: SetSpec,
    /// Whether no row that came out is taken back.
    appends: bool,
    schema: SchemaRef,
    guard: Guard,
    counts: Counts,
    /// What was found to have changed: rows by their slots, and by how much.
    changes: Vec<(u32, i64)>,
    /// How many of the changes have left.
    said: usize,
    is_settled: bool,
}

impl Operator for SetOperation {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, _out: &mut Output) -> Result<(), Error> {
        self.counts.advance(context);
        self.counts.take(port, &delta);
        Ok(())
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        if !self.is_settled {
            self.counts.advance(context);
            self.settle()?;
            self.is_settled = true;
        }
        let until = self.changes.len().min(self.said + DELTA_ROWS_MAX);
        if self.said < until {
            let rows = self.rows(&self.changes[self.said..until]).map_err(|error| self.guard.broken(error))?;
            self.said = until;
            out.emit(rows);
            return Ok(Flush::More);
        }
        (self.changes, self.said, self.is_settled) = (Vec::new(), 0, false);
        self.counts.end_step();
        Ok(Flush::Done)
    }

    fn state_size(&self) -> StateSize {
        self.counts.size()
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.counts)
    }
}

impl SetOperation {
    /// Finds the rows that come out more or less often than before.
    fn settle(&mut self) -> Result<(), Error> {
        for at in 0..self.counts.changed().len() {
            let (slot, before) = self.counts.changed()[at];
            let is_negative = |counts: [i64; 2]| counts.iter().any(|count| *count < 0);
            if is_negative(self.counts.of(slot)) && !self.counts.forgive(slot) {
                let row = self.rows(&[(slot, 1)]).map(|delta| crate::row::to_json(delta.batch(), 0));
                let row = row.unwrap_or_else(|error| error.to_string());
                return Err(self.guard.broken(format!("a row is taken back that is not there: {row}")));
            }
            let change = out_of(self.spec, self.counts.of(slot)) - out_of(self.spec, before);
            if change != 0 {
                self.changes.push((slot, change));
            }
        }
        Ok(())
    }

    fn rows(&self, changes: &[(u32, i64)]) -> Result<Delta, ArrowError> {
        let (slots, weights): (Vec<u32>, Vec<i64>) = changes.iter().copied().unzip();
        let (columns, options) =
            (self.counts.columns(&slots), RecordBatchOptions::new().with_row_count(Some(slots.len())));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let changes = Delta::weighted(batch, weights);
        // Whoever reads rows that are never taken back may expect each to come by itself.
        if self.appends { changes.repeated() } else { Ok(changes) }
    }
}

/// How often a row comes out that the sides have so often.
fn out_of(spec: SetSpec, [left, right]: [i64; 2]) -> i64 {
    match (spec.operation, spec.all) {
        (Which::Intersect, true) => left.min(right),
        (Which::Intersect, false) => i64::from(left > 0 && right > 0),
        (Which::Except, true) => (left - right).max(0),
        (Which::Except, false) => i64::from(left > 0 && right == 0),
    }
}

/// One task, to which equal rows come whatever side they are of.
///
/// # Errors
/// [`Error::Unsupported`] for rows that cannot be compared, and sides of different types.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &SetSpec) -> Result<TaskId, Error> {
    let unsupported = |what: &str| Error::Unsupported { what: what.to_string(), position: lowering.node.position };
    let schema = lowering.node.schema.clone();
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    let same = |input: &SchemaRef| input.fields().iter().map(|field| field.data_type()).eq(types.iter());
    if lowering.inputs.len() != 2 || !lowering.input_schemas.iter().all(same) {
        return Err(unsupported("a set operation over rows of different types"));
    }
    let columns = (0..types.len()).collect();
    let encoder =
        KeyEncoder::new(types).ok_or_else(|| unsupported("a set operation over rows that hold lists, maps or rows"))?;
    let placement = if lowering.lanes == 1 { Placement::Stay } else { Placement::ByKey(columns) };
    let inputs = lowering.inputs.iter().map(|task| Input { task: *task, placement: placement.clone() }).collect();
    let (spec, guard) = (*spec, Guard::of(lowering));
    let appends = lowering.append_only && spec.operation == Which::Intersect;
    let ttl_ms = lowering.ttl_ms.filter(|_| lowering.node.takes_ttl());
    let make = {
        let schema = schema.clone();
        move || {
            let (counts, changes) = (Counts::new(encoder.clone(), ttl_ms), Vec::new());
            let (schema, guard) = (schema.clone(), guard.clone());
            let operator = SetOperation { spec, appends, schema, guard, counts, changes, said: 0, is_settled: false };
            Ok(Box::new(operator) as Box<dyn Operator>)
        }
    };
    Ok(graph.add(lowering.task(inputs, schema, Arc::new(make))))
}

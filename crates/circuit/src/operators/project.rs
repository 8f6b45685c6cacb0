//! Computes one column an expression.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use crate::delta::Delta;
use crate::error::Error;
use crate::expr::Expr;
use crate::graph::{Graph, Lowering, TaskId};
use crate::operator::{Context, Operator, Output};
use crate::operators::guard::Guard;

struct Project {
    exprs: Vec<Expr>,
    schema: SchemaRef,
    guard: Guard,
}

impl Operator for Project {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (delta, columns) = self.guard.evaluate(&self.exprs, delta, context, out)?;
        let options = RecordBatchOptions::new().with_row_count(Some(delta.rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        out.emit(delta.with_batch(batch.map_err(|error| self.guard.broken(error))?));
        Ok(())
    }
}

/// One task, on whatever lane the rows are.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, exprs: &[Expr]) -> TaskId {
    let (exprs, schema, guard) = (exprs.to_vec(), lowering.node.schema.clone(), Guard::of(lowering));
    let make = move || {
        let operator = Project { exprs: exprs.clone(), schema: schema.clone(), guard: guard.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make)))
}

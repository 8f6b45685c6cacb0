//! Keeps the rows for which an expression is true.

use std::sync::Arc;

use arrow_array::cast::AsArray;

use crate::delta::Delta;
use crate::error::Error;
use crate::expr::Expr;
use crate::graph::{Graph, Lowering, TaskId};
use crate::operator::{Context, Operator, Output};
use crate::operators::guard::Guard;

struct Filter {
    predicate: Expr,
    guard: Guard,
}

impl Operator for Filter {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let predicate = std::slice::from_ref(&self.predicate);
        let (delta, columns) = self.guard.evaluate(predicate, delta, context, out)?;
        let mask = columns[0].as_boolean();
        if mask.true_count() == delta.rows() {
            out.emit(delta);
        } else if mask.true_count() > 0 {
            out.emit(delta.filter(mask).map_err(|error| self.guard.broken(error))?);
        }
        Ok(())
    }
}

/// One task, on whatever lane the rows are.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, predicate: &Expr) -> TaskId {
    let (predicate, guard) = (predicate.clone(), Guard::of(lowering));
    // A predicate that fails is not true: null leaves the row out.
    let make = move || {
        let operator = Filter { predicate: predicate.clone(), guard: guard.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make)))
}

//! All rows of all inputs, as they come.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, Placement, TaskId};
use crate::operator::{Context, Operator, Output};

struct Union {
    schema: SchemaRef,
    name: String,
}

impl Operator for Union {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        // Inputs differ in the names of their columns and in what may be null; the union has its own.
        let batch = RecordBatch::try_new(self.schema.clone(), delta.batch().columns().to_vec());
        out.emit(delta.with_batch(batch.map_err(|error| Error::broken(&self.name, error))?));
        Ok(())
    }
}

/// One task with a port for each input, on whatever lane the rows are.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>) -> TaskId {
    let (schema, name) = (lowering.node.schema.clone(), lowering.name.clone());
    let make = move || Ok(Box::new(Union { schema: schema.clone(), name: name.clone() }) as Box<dyn Operator>);
    let inputs = lowering.inputs.iter().map(|task| Input { task: *task, placement: Placement::Stay }).collect();
    graph.add(lowering.task(inputs, lowering.node.schema.clone(), Arc::new(make)))
}

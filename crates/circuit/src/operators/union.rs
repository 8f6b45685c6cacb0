//! All rows of all inputs, as they come.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
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
        let options = RecordBatchOptions::new().with_row_count(Some(delta.rows()));
        let columns = delta.batch().columns().to_vec();
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
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

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::operators::testing::{Bench, check};
    use crate::plan::Spec;

    #[test]
    fn rows_take_the_names_of_the_union_and_keep_their_weights() {
        let schema = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)]));
        let mut bench = Bench::new(Spec::Union, schema("a"), schema("b"), false, 1).expect("supported");
        let batch = RecordBatch::try_new(schema("a"), vec![Arc::new(Int64Array::from(vec![1, 2]))]);
        let delta = Delta::weighted(batch.expect("one column"), vec![1, -2]);
        let said = bench.step(vec![delta.clone(), delta], 0, 0).expect("the step runs");
        assert!(said.iter().all(|delta| delta.schema() == schema("b")));
        check(&bench.integral, "+2 1\n-4 2");
    }
}

//! Looks rows up in a versioned table by its key: what a step reads of the table is one version of it.
//!
//! The rows of the table are not taken in: a row that went through stays as it was when the table changes. That is why
//! its input must not take rows back, and why the answer depends on when steps run.

use std::sync::Arc;

use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::lookup::LookupRows;
use crate::operator::{Context, Operator, Output};
use crate::plan::LookupSpec;

pub(super) mod join;

use join::{Found, Join, Theirs, without_null_keys};

struct Lookup {
    spec: LookupSpec,
    join: Join,
}

impl Operator for Lookup {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let rows = self.spec.table.read()?;
        let found = self.find(&delta, &rows);
        let columns = self.spec.columns.iter().map(|column| rows.rows().column(*column).clone()).collect();
        let theirs = Theirs { columns, version: self.spec.version.then(|| rows.version()) };
        let joined = self.join.join(delta, found, &theirs, context, out)?;
        out.emit(joined);
        Ok(())
    }
}

impl Lookup {
    /// Finds the rows of all keys; a null key has none.
    fn find(&self, delta: &Delta, rows: &LookupRows) -> Found {
        let keys = self.spec.table.encoder().encode_batch(delta.batch(), &self.spec.keys);
        let mut found = rows.index().find(&keys, &keys.hashes());
        without_null_keys(delta, &self.spec.keys, &mut found);
        found
    }
}

/// One task, on whatever lane the rows are: every lane reads the whole table.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &LookupSpec) -> Result<TaskId, Error> {
    let unsupported = |what: String| Error::Unsupported { what, position: lowering.node.position };
    if !lowering.append_only {
        return Err(unsupported(format!(
            "looking up rows in {} for rows that may be taken back (what is found for a row would have to be remembered \
             to take it back; look up before rows are aggregated)",
            spec.table.name()
        )));
    }
    let input = &lowering.input_schemas[0];
    let types = spec.keys.iter().map(|key| input.fields().get(*key).map(|field| field.data_type()));
    if !types.eq(spec.table.encoder().types().iter().map(Some)) {
        return Err(unsupported(format!("looking up rows in {} by other columns than its key", spec.table.name())));
    }
    let (spec, join) = (spec.clone(), Join::of(lowering, spec.residual.clone(), spec.outer));
    let make = move || Ok(Box::new(Lookup { spec: spec.clone(), join: join.clone() }) as Box<dyn Operator>);
    Ok(graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make))))
}

#[cfg(test)]
mod tests;

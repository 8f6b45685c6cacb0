//! Looks rows up in a versioned table: what a step reads of the table is one version of it. By the table's key one row is
//! found at most; by other columns every row is, in the order of the table.
//!
//! The rows of the table are not taken in: a row that went through stays as it was when the table changes. That is why
//! its input must not take rows back, and why the answer depends on when steps run.

use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};

use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::key::{KeyEncoder, KeyIndex};
use crate::lookup::LookupRows;
use crate::operator::{Context, Operator, Output};
use crate::plan::LookupSpec;

pub(super) mod asking;
pub(super) mod join;

use asking::Asking;
use join::{Found, Join, Theirs, without_null_keys};

struct Lookup {
    spec: LookupSpec,
    encoder: KeyEncoder,
    join: Join,
}

impl Operator for Lookup {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let rows = self.spec.table.read()?;
        if !self.spec.is_unique() {
            return self.every(delta, &rows, context, out);
        }
        let found = self.find(&delta, rows.index());
        let joined = self.join.join(delta, found, &self.theirs(&rows), context, out)?;
        out.emit(joined);
        Ok(())
    }
}

impl Lookup {
    /// The rows with every row of the table that matches.
    fn every(&self, delta: Delta, rows: &LookupRows, context: &Context, out: &mut Output) -> Result<(), Error> {
        let Some(groups) = rows.by(&self.spec.table_keys) else {
            return Err(self.join.broken("the table is looked up by columns that cannot be a key"));
        };
        let keys = self.find(&delta, groups.index());
        let (mut asking, theirs) = (Asking::new(delta, keys), self.theirs(rows));
        while !asking.is_answered() {
            let picks = asking.next(|key, from| groups.rows(key)[from..].iter().copied());
            let joined = self.join.picked(&mut asking, picks, &theirs, context, out)?;
            out.emit(joined);
        }
        Ok(())
    }

    /// Finds the slots of all keys; a null key has none.
    fn find(&self, delta: &Delta, index: &KeyIndex) -> Found {
        let keys = self.encoder.encode_batch(delta.batch(), &self.spec.keys);
        let mut found = index.find(&keys, &keys.hashes());
        without_null_keys(delta, &self.spec.keys, &mut found);
        found
    }

    fn theirs<'r>(&self, rows: &'r LookupRows) -> Theirs<'r> {
        let columns = self.spec.columns.iter().map(|column| rows.rows().column(*column).clone()).collect();
        Theirs { columns, version: self.spec.version.then(|| rows.version()) }
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
    let types = |schema: &SchemaRef, columns: &[usize]| -> Vec<DataType> {
        let fields = columns.iter().filter_map(|column| schema.fields().get(*column));
        fields.map(|field| field.data_type().clone()).collect()
    };
    let key_types = types(spec.table.schema(), &spec.table_keys);
    if spec.keys.is_empty() || types(&lowering.input_schemas[0], &spec.keys) != key_types {
        return Err(unsupported(format!("looking up rows in {} by columns of other types", spec.table.name())));
    }
    let encoder =
        KeyEncoder::new(key_types).ok_or_else(|| unsupported("looking up rows by lists, maps or rows".to_string()))?;
    let (spec, join) = (spec.clone(), Join::of(lowering, spec.residual.clone(), spec.outer));
    let make = move || {
        let operator = Lookup { spec: spec.clone(), encoder: encoder.clone(), join: join.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    Ok(graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make))))
}

#[cfg(test)]
mod tests;

//! Looks rows up in a versioned table by its key: what a step reads of the table is one version of it.
//!
//! The rows of the table are not taken in: a row that went through stays as it was when the table changes. That is why
//! its input must not take rows back, and why the answer depends on when steps run.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::take::take;

use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::lookup::LookupRows;
use crate::operator::{Context, Operator, Output};
use crate::operators::guard::Guard;
use crate::plan::LookupSpec;

struct Lookup {
    spec: LookupSpec,
    schema: SchemaRef,
    guard: Guard,
}

/// For each row of a delta the row of the table that belongs to it.
type Found = Vec<Option<u32>>;

impl Operator for Lookup {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let rows = self.spec.table.read()?;
        let found = self.find(&delta, &rows);
        let (delta, found) = match &self.spec.residual {
            None => (delta, found),
            Some(_) => self.checked(delta, found, &rows, context, out)?,
        };
        let joined = match self.spec.outer {
            true => self.joined(&delta, found, &rows),
            false => matched(&delta, &found).and_then(|(delta, found)| self.joined(&delta, found, &rows)),
        };
        out.emit(joined.map_err(|error| self.guard.broken(error))?);
        Ok(())
    }
}

impl Lookup {
    /// Finds the rows of all keys; a null key has none.
    fn find(&self, delta: &Delta, rows: &LookupRows) -> Found {
        let keys = self.spec.table.encoder().encode_batch(delta.batch(), &self.spec.keys);
        let mut found = rows.index().find(&keys, &keys.hashes());
        let nulls = self.spec.keys.iter().filter_map(|key| delta.column(*key).nulls());
        for nulls in nulls.filter(|nulls| nulls.null_count() > 0) {
            for (_, found) in found.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(*row)) {
                *found = None;
            }
        }
        found
    }

    /// Holds what was found against the rest of the condition: a row of the table stays found when that is true.
    ///
    /// Rows on which it fails are left out or not found, as `on-error` says.
    fn checked(
        &self,
        delta: Delta,
        mut found: Found,
        rows: &LookupRows,
        context: &Context,
        out: &mut Output,
    ) -> Result<(Delta, Found), Error> {
        let broken = |error| self.guard.broken(error);
        let places: Vec<u32> = (0..delta.rows() as u32).filter(|row| found[*row as usize].is_some()).collect();
        let (candidates, theirs) = matched(&delta, &found).map_err(broken)?;
        if candidates.is_empty() {
            return Ok((delta, found));
        }
        let candidates = self.joined(&candidates, theirs, rows).map_err(broken)?;
        let evaluated = self.guard.attempt(self.spec.residual.as_slice(), &candidates, context, out)?;
        let holds = evaluated.columns[0].as_boolean();
        for (candidate, place) in places.iter().enumerate() {
            if !(holds.is_valid(candidate) && holds.value(candidate)) {
                found[*place as usize] = None;
            }
        }
        let Some(failed) = evaluated.failed else { return Ok((delta, found)) };
        let mut kept = vec![true; delta.rows()];
        failed.values().set_indices().for_each(|candidate| kept[places[candidate] as usize] = false);
        let found = found.into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(found, _)| found).collect();
        Ok((delta.filter(&kept.into()).map_err(broken)?, found))
    }

    /// The rows with what was found for each.
    fn joined(&self, delta: &Delta, found: Found, rows: &LookupRows) -> Result<Delta, ArrowError> {
        let mut columns = delta.batch().columns().to_vec();
        let indices = UInt32Array::from(found);
        for column in &self.spec.columns {
            columns.push(take(rows.rows().column(*column), &indices, None)?);
        }
        if self.spec.version {
            let version = std::iter::repeat_n(rows.version(), delta.rows());
            columns.push(Arc::new(StringArray::from_iter_values(version)) as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(delta.rows()));
        Ok(delta.with_batch(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

/// The rows for which there is one, and which.
fn matched(delta: &Delta, found: &Found) -> Result<(Delta, Found), ArrowError> {
    if found.iter().all(Option::is_some) {
        return Ok((delta.clone(), found.clone()));
    }
    let rows = (0..delta.rows() as u32).filter(|row| found[*row as usize].is_some());
    let taken = delta.take(&UInt32Array::from_iter_values(rows))?;
    Ok((taken, found.iter().copied().filter(Option::is_some).collect()))
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
    let (spec, schema, guard) = (spec.clone(), lowering.node.schema.clone(), Guard::of(lowering));
    let make = move || {
        let operator = Lookup { spec: spec.clone(), schema: schema.clone(), guard: guard.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    Ok(graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make))))
}

#[cfg(test)]
mod tests;

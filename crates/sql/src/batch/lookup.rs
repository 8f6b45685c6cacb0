//! Lookups over rows that are all there: for each row a search through the whole table, row by row.
//!
//! This is the definition written down once more, apart from the circuit's: equal keys, and the rest of the condition.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{Field, Schema};
use arrow_select::take::take;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::LogicalPlan;

use super::named;
use crate::expr::compile_in_order;
use crate::plan::lookup::Lookup;

/// The metadata of a table's rows that says which version they are.
pub(super) const VERSION: &str = "version";

/// The rows with what is found for them in the table of that name, and a plan that reads them from the table `name`.
pub(super) fn relational(
    lookup: &Lookup,
    input: &[RecordBatch],
    tables: &BTreeMap<String, RecordBatch>,
    name: &str,
) -> Result<(RecordBatch, LogicalPlan)> {
    let below = lookup.input.schema();
    let rows = super::together(below, input)?;
    let table = lookup.table.0.name();
    let Some(found) = tables.get(table) else {
        return Err(DataFusionError::Execution(format!("there are no rows of {table}")));
    };
    let keys =
        lookup.keys.iter().map(|key| compile_in_order(key, below)?.evaluate(&rows).map_err(DataFusionError::Execution));
    let keys: Vec<ArrayRef> = keys.collect::<Result<_>>()?;
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for row in 0..rows.num_rows() {
        let mut matches: Vec<Option<u32>> = Vec::new();
        for other in 0..found.num_rows() {
            if equal(lookup, &keys, row, found, other)? {
                matches.push(Some(other as u32));
            }
        }
        if let Some(residual) = &lookup.residual {
            let holds = |other: &Option<u32>| -> Result<bool> {
                let one = together(lookup, &rows, found, &[row as u32], &[*other])?;
                let holds = compile_in_order(residual, &lookup.schema)?.evaluate(&one);
                let holds = holds.map_err(DataFusionError::Execution)?;
                Ok(holds.is_valid(0) && holds.as_boolean().value(0))
            };
            let mut kept = Vec::new();
            for other in matches {
                if holds(&other)? {
                    kept.push(other);
                }
            }
            matches = kept;
        }
        if matches.is_empty() && lookup.outer {
            matches.push(None);
        }
        from.extend(std::iter::repeat_n(row as u32, matches.len()));
        to.extend(matches);
    }
    let rows = together(lookup, &rows, found, &from, &to)?;
    let plan = named(&rows, name, &lookup.schema)?;
    Ok((rows, plan))
}

/// Whether a row of the table has the keys of a row; null equals nothing.
fn equal(lookup: &Lookup, keys: &[ArrayRef], row: usize, found: &RecordBatch, other: usize) -> Result<bool> {
    for (key, column) in keys.iter().zip(lookup.table.0.key()) {
        let ours = ScalarValue::try_from_array(key, row)?;
        let theirs = ScalarValue::try_from_array(found.column(*column), other)?;
        if ours.is_null() || theirs.is_null() || ours != theirs {
            return Ok(false);
        }
    }
    Ok(true)
}

/// These rows of both sides, with the columns of the lookup.
fn together(
    lookup: &Lookup,
    rows: &RecordBatch,
    found: &RecordBatch,
    from: &[u32],
    to: &[Option<u32>],
) -> Result<RecordBatch> {
    let (from, to) = (UInt32Array::from(from.to_vec()), UInt32Array::from(to.to_vec()));
    let mut columns = rows.columns().iter().map(|column| take(column, &from, None)).collect::<Result<Vec<_>, _>>()?;
    for (column, _) in &lookup.columns {
        columns.push(take(found.column(*column), &to, None)?);
    }
    if lookup.version {
        let schema = found.schema();
        let version = schema.metadata().get(VERSION).map(String::as_str).unwrap_or_default();
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(version, from.len()))));
    }
    let field = |(index, column): (usize, &ArrayRef)| Field::new(format!("c{index}"), column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(from.len()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

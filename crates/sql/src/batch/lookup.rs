//! Lookups over rows that are all there: for each row a search through the whole table, row by row.
//!
//! This is the definition written down once more, apart from the circuit's: equal keys, and the rest of the condition.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow_select::take::take;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::named;
use crate::expr::compile_in_order;
use crate::plan::lookup::{Lookup, ViewLookup};

/// The metadata of a table's rows that says which version they are.
pub(super) const VERSION: &str = "version";

/// What is searched for, and where.
struct Search<'s> {
    /// For each key its value for every row, and the column that it has to equal.
    keys: Vec<(ArrayRef, usize)>,
    residual: Option<&'s Expr>,
    outer: bool,
    columns: Vec<usize>,
    /// The version that is named in a last column.
    version: Option<String>,
    /// The columns of both sides.
    schema: &'s DFSchema,
}

/// The rows with what is found for them in the table of that name, and a plan that reads them from the table `name`.
pub(super) fn relational(
    lookup: &Lookup,
    input: &[RecordBatch],
    tables: &BTreeMap<String, RecordBatch>,
    name: &str,
) -> Result<(RecordBatch, LogicalPlan)> {
    let rows = super::together(lookup.input.schema(), input)?;
    let table = lookup.table.0.name();
    let Some(found) = tables.get(table) else {
        return Err(DataFusionError::Execution(format!("there are no rows of {table}")));
    };
    let version = found.schema().metadata().get(VERSION).cloned().unwrap_or_default();
    let search = Search {
        keys: valued(lookup.keys.iter(), &rows, lookup.input.schema())?
            .into_iter()
            .zip(lookup.by.iter().copied())
            .collect(),
        residual: lookup.residual.as_ref(),
        outer: lookup.outer,
        columns: lookup.columns.iter().map(|(column, _)| *column).collect(),
        version: lookup.version.then_some(version),
        schema: &lookup.schema,
    };
    search.run(&rows, found, name)
}

/// The rows with what is found for them in a view, and a plan that reads them from the table `name`.
pub(super) fn of_view(
    lookup: &ViewLookup,
    input: &[RecordBatch],
    view: &[RecordBatch],
    name: &str,
) -> Result<(RecordBatch, LogicalPlan)> {
    let rows = super::together(lookup.input.schema(), input)?;
    let found = super::together(lookup.view.schema(), view)?;
    let exprs = lookup.equals.iter().map(|equal| &equal.expr);
    let columns = lookup.equals.iter().map(|equal| equal.column);
    let search = Search {
        keys: valued(exprs, &rows, lookup.input.schema())?.into_iter().zip(columns).collect(),
        residual: lookup.residual.as_ref(),
        outer: lookup.outer,
        columns: lookup.columns.iter().map(|(column, _)| *column).collect(),
        version: None,
        schema: &lookup.schema,
    };
    search.run(&rows, &found, name)
}

fn valued<'e>(exprs: impl Iterator<Item = &'e Expr>, rows: &RecordBatch, schema: &DFSchema) -> Result<Vec<ArrayRef>> {
    exprs.map(|expr| compile_in_order(expr, schema)?.evaluate(rows).map_err(DataFusionError::Execution)).collect()
}

impl Search<'_> {
    fn run(&self, rows: &RecordBatch, found: &RecordBatch, name: &str) -> Result<(RecordBatch, LogicalPlan)> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let mut matches: Vec<Option<u32>> = Vec::new();
            for other in 0..found.num_rows() {
                if self.equal(row, found, other)? && self.holds(rows, found, row as u32, other as u32)? {
                    matches.push(Some(other as u32));
                }
            }
            if matches.is_empty() && self.outer {
                matches.push(None);
            }
            from.extend(std::iter::repeat_n(row as u32, matches.len()));
            to.extend(matches);
        }
        let rows = self.together(rows, found, &from, &to)?;
        let plan = named(&rows, name, self.schema)?;
        Ok((rows, plan))
    }

    /// Whether the other row has the keys of a row; null equals nothing.
    fn equal(&self, row: usize, found: &RecordBatch, other: usize) -> Result<bool> {
        for (key, column) in &self.keys {
            let ours = ScalarValue::try_from_array(key, row)?;
            let theirs = ScalarValue::try_from_array(found.column(*column), other)?;
            if ours.is_null() || theirs.is_null() || ours != theirs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the rest of the condition is true of two rows.
    fn holds(&self, rows: &RecordBatch, found: &RecordBatch, row: u32, other: u32) -> Result<bool> {
        let Some(residual) = self.residual else { return Ok(true) };
        let one = self.together(rows, found, &[row], &[Some(other)])?;
        let holds = compile_in_order(residual, self.schema)?.evaluate(&one);
        let holds = holds.map_err(DataFusionError::Execution)?;
        Ok(holds.is_valid(0) && holds.as_boolean().value(0))
    }

    /// These rows of both sides, with the columns of the lookup.
    fn together(
        &self,
        rows: &RecordBatch,
        found: &RecordBatch,
        from: &[u32],
        to: &[Option<u32>],
    ) -> Result<RecordBatch> {
        let (from, to) = (UInt32Array::from(from.to_vec()), UInt32Array::from(to.to_vec()));
        let mut columns =
            rows.columns().iter().map(|column| take(column, &from, None)).collect::<Result<Vec<_>, _>>()?;
        for column in &self.columns {
            columns.push(take(found.column(*column), &to, None)?);
        }
        if let Some(version) = &self.version {
            columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(version, from.len()))));
        }
        super::numbered(columns, from.len())
    }
}

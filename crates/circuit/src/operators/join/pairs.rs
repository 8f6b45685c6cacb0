//! [`Pairs`]: the rows that a join says, and the condition that pairs have to meet besides their keys.
//!
//! A pair is a row of each side, which is picked from a batch or from what is kept; a row that is padded has none of the
//! other side. The condition is evaluated over the columns that it reads alone.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BooleanArray, NullArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;

use super::store::Store;
use crate::delta::Delta;
use crate::error::Error;
use crate::expr::Expr;
use crate::operator::{Context, Output};
use crate::operators::guard::Guard;

/// What is said of pairs.
pub(super) struct Pairs {
    condition: Option<Condition>,
    /// The columns that come out.
    output: Columns,
    schema: SchemaRef,
    /// All columns of both sides.
    both: SchemaRef,
    everything: Columns,
    guard: Guard,
}

struct Condition {
    expr: Expr,
    /// The columns that it reads, and a batch in which the others are missing.
    columns: Columns,
    schema: SchemaRef,
}

/// Columns of both sides: for each side where they go, and which they are.
struct Columns {
    sides: [Vec<(usize, usize)>; 2],
    count: usize,
}

impl Columns {
    /// `wanted` columns, numbered through both sides, of which the left one has `width`; each goes to its place in `wanted`
    /// or, with `spread`, to its own number among all `count`.
    fn new(wanted: &[usize], width: usize, spread: Option<usize>) -> Self {
        let mut sides = [Vec::new(), Vec::new()];
        for (place, column) in wanted.iter().enumerate() {
            let place = if spread.is_some() { *column } else { place };
            let side = usize::from(*column >= width);
            sides[side].push((place, column - side * width));
        }
        Columns { sides, count: spread.unwrap_or(wanted.len()) }
    }

    /// The columns of picked rows; none at the places to which no column goes.
    fn gather(&self, picks: [Pick<'_>; 2], rows: usize) -> Result<Vec<Option<ArrayRef>>, ArrowError> {
        let mut gathered = vec![None; self.count];
        for (wanted, pick) in self.sides.iter().zip(picks) {
            if wanted.is_empty() {
                continue;
            }
            let columns: Vec<usize> = wanted.iter().map(|(_, column)| *column).collect();
            for ((place, _), column) in wanted.iter().zip(pick.columns(&columns, rows)?) {
                gathered[*place] = Some(column);
            }
        }
        Ok(gathered)
    }
}

/// Where the rows of one side are.
#[derive(Clone, Copy)]
pub(super) enum Pick<'a> {
    /// These rows of a batch.
    Given(&'a RecordBatch, &'a [u32]),
    /// These rows of those that are kept.
    Kept(&'a Store, &'a [u32]),
    /// None: nulls of the columns' types stand for them.
    Nobody(&'a Schema),
}

impl Pick<'_> {
    fn columns(self, wanted: &[usize], rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        match self {
            Pick::Given(batch, picked) => {
                let whole =
                    picked.len() == batch.num_rows() && picked.iter().enumerate().all(|(n, row)| n == *row as usize);
                if whole {
                    return Ok(wanted.iter().map(|column| batch.column(*column).clone()).collect());
                }
                let picked = UInt32Array::from(picked.to_vec());
                wanted.iter().map(|column| take(batch.column(*column), &picked, None)).collect()
            }
            Pick::Kept(store, ids) => store.gather(ids, wanted),
            Pick::Nobody(schema) => {
                Ok(wanted.iter().map(|column| new_null_array(schema.field(*column).data_type(), rows)).collect())
            }
        }
    }
}

impl Pairs {
    /// Pairs of rows of `sides`, of which `columns` come out with `schema`.
    pub fn new(
        sides: &[SchemaRef],
        columns: &[usize],
        residual: Option<&Expr>,
        schema: SchemaRef,
        guard: Guard,
    ) -> Self {
        let width = sides[0].fields().len();
        let fields: Vec<Arc<Field>> = sides.iter().flat_map(|side| side.fields().iter().cloned()).collect();
        let all: Vec<usize> = (0..fields.len()).collect();
        let condition = residual.map(|expr| {
            let read = expr.columns().unwrap_or_else(|| all.clone());
            let field = |column: usize| match read.contains(&column) {
                true => fields[column].clone(),
                false => Arc::new(Field::new(fields[column].name(), DataType::Null, true)),
            };
            let schema = Arc::new(Schema::new((0..fields.len()).map(field).collect::<Vec<_>>()));
            Condition { expr: expr.clone(), columns: Columns::new(&read, width, Some(fields.len())), schema }
        });
        let (output, everything) = (Columns::new(columns, width, None), Columns::new(&all, width, None));
        Pairs { condition, output, schema, both: Arc::new(Schema::new(fields)), everything, guard }
    }

    /// A broken promise of the operator.
    pub fn broken(&self, message: impl ToString) -> Error {
        self.guard.broken(message)
    }

    /// Who tells of rows that are left out.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Which of some pairs meet the condition; none when there is no condition, or all do.
    pub fn holding(
        &self,
        picks: [Pick<'_>; 2],
        rows: usize,
        context: &Context,
        out: &mut Output,
    ) -> Result<Option<BooleanArray>, Error> {
        let Some(condition) = &self.condition else { return Ok(None) };
        let columns = condition.columns.gather(picks, rows).map_err(|error| self.broken(error))?;
        let missing: ArrayRef = Arc::new(NullArray::new(rows));
        let columns = columns.into_iter().map(|column| column.unwrap_or_else(|| missing.clone())).collect();
        let batch = batch_of(&condition.schema, columns, rows).map_err(|error| self.broken(error))?;
        let column = match condition.expr.evaluate(&batch) {
            Ok(column) => column,
            // Whole rows, to be shown to people.
            Err(_) => {
                let columns = self.everything.gather(picks, rows).map_err(|error| self.broken(error))?;
                let columns = columns.into_iter().flatten().collect();
                let batch = batch_of(&self.both, columns, rows).map_err(|error| self.broken(error))?;
                let exprs = std::slice::from_ref(&condition.expr);
                let mut evaluated = self.guard.attempt(exprs, &Delta::inserts(batch), context, out)?;
                evaluated.columns.swap_remove(0)
            }
        };
        let holds = column.as_boolean_opt().ok_or_else(|| self.broken("its condition is no boolean"))?;
        if holds.null_count() == 0 && holds.true_count() == rows {
            return Ok(None);
        }
        let holds = match holds.nulls() {
            None => holds.clone(),
            Some(valid) => BooleanArray::new(holds.values() & valid.inner(), None),
        };
        Ok(Some(holds))
    }

    /// The rows that come out of pairs, with their weights; empty weights are all 1.
    pub fn rows(&self, picks: [Pick<'_>; 2], rows: usize, weights: Vec<i64>) -> Result<Delta, Error> {
        let columns = self.output.gather(picks, rows).map_err(|error| self.broken(error))?;
        let columns = columns.into_iter().flatten().collect();
        let batch = batch_of(&self.schema, columns, rows).map_err(|error| self.broken(error))?;
        match weights.iter().all(|weight| *weight == 1) {
            true => Ok(Delta::inserts(batch)),
            false => Ok(Delta::weighted(batch, weights)),
        }
    }
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new_with_options(schema.clone(), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

/// Those of `values` for which `holds` is true, or all.
pub(super) fn kept<T: Copy>(values: &mut Vec<T>, holds: Option<&BooleanArray>) {
    if let Some(holds) = holds {
        let mut row = 0..;
        values.retain(|_| row.next().is_some_and(|row| holds.value(row)));
    }
}

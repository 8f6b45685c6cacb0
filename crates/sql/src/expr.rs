//! Scalar expressions of a plan behind the circuit's [`Scalar`]: DataFusion's `PhysicalExpr`, made once.
//!
//! A logical expression names columns; the circuit numbers them. [`compile`] takes both sides (the logical schema and,
//! for each of its fields, the circuit's column) and gives an expression over the circuit's batch. A bare column becomes
//! the circuit's own column expression, which costs nothing.

mod field;
mod interval;
mod print;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use tidemill_circuit::expr::Column as CircuitColumn;
use tidemill_circuit::{Expr as CircuitExpr, Scalar};

pub(crate) use print::{duration, print};

/// A compiled expression.
#[derive(Debug)]
struct Compiled {
    expr: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    printed: String,
}

impl Scalar for Compiled {
    fn evaluate(&self, batch: &RecordBatch) -> std::result::Result<ArrayRef, String> {
        let value = self.expr.evaluate(batch).map_err(|error| sentence(&error))?;
        let array = value.into_array(batch.num_rows()).map_err(|error| sentence(&error))?;
        if *array.data_type() != self.data_type {
            let (found, expected) = (array.data_type(), &self.data_type);
            return Err(format!("{} gave {found} instead of {expected}, which is a bug in tidemill", self.printed));
        }
        Ok(array)
    }

    fn data_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn print(&self) -> String {
        self.printed.clone()
    }

    fn columns(&self) -> Option<Vec<usize>> {
        let mut columns: Vec<usize> = collect_columns(&self.expr).iter().map(PhysicalColumn::index).collect();
        columns.sort_unstable();
        columns.dedup();
        Some(columns)
    }
}

/// What an evaluation error says, without the library's prefixes.
pub(crate) fn sentence(error: &DataFusionError) -> String {
    error.find_root().message().lines().next().unwrap_or_default().to_string()
}

/// Compiles `expr` over `schema`, whose field `i` is column `columns[i]` of the circuit's batch.
///
/// Fields that have no column (`None`) must not be named by the expression. It is printed with the fields' names.
pub(crate) fn compile(expr: &Expr, schema: &DFSchema, columns: &[Option<usize>]) -> Result<CircuitExpr> {
    compile_named(expr, schema, columns, None)
}

/// [`compile`], printed with the names of the circuit's columns instead of the fields'.
pub(crate) fn compile_named(
    expr: &Expr,
    schema: &DFSchema,
    columns: &[Option<usize>],
    names: Option<&Schema>,
) -> Result<CircuitExpr> {
    if let Expr::Column(column) = unaliased(expr) {
        let index = schema.index_of_column(column)?;
        if let Some(place) = columns[index] {
            return Ok(CircuitColumn::new(place, column.name.clone(), schema.field(index).data_type().clone()));
        }
    }
    let physical = physical(&interval::replace(field::replace(expr.clone())?, schema)?, schema)?;
    let placed = physical.transform(|part| {
        let Some(column) = part.downcast_ref::<PhysicalColumn>() else { return Ok(Transformed::no(part)) };
        match columns[column.index()] {
            Some(place) => Ok(Transformed::yes(Arc::new(PhysicalColumn::new(column.name(), place)) as _)),
            None => Err(DataFusionError::Internal(format!("{} has no column", column.name()))),
        }
    })?;
    let data_type = expr.get_type(schema)?;
    let printed = match names {
        Some(names) => print(&renamed(expr, schema, columns, names)?),
        None => print(expr),
    };
    Ok(Arc::new(Compiled { expr: placed.data, data_type, printed }))
}

/// The expression over the circuit's names, for printing.
fn renamed(expr: &Expr, schema: &DFSchema, columns: &[Option<usize>], names: &Schema) -> Result<Expr> {
    let renamed = expr.clone().transform(|part| {
        let Expr::Column(column) = &part else { return Ok(Transformed::no(part)) };
        match columns[schema.index_of_column(column)?] {
            Some(place) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(names.field(place).name())))),
            None => Ok(Transformed::no(part)),
        }
    })?;
    Ok(renamed.data)
}

/// Compiles `expr` over batches that have the columns of `schema` in its order.
pub(crate) fn compile_in_order(expr: &Expr, schema: &DFSchema) -> Result<CircuitExpr> {
    let columns: Vec<_> = (0..schema.fields().len()).map(Some).collect();
    compile(expr, schema, &columns)
}

fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

/// The expression without the names given to it.
pub(crate) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The columns an expression names, by their index in `schema`.
pub(crate) fn columns_of(expr: &Expr, schema: &DFSchema) -> Result<Vec<usize>> {
    let mut indices: Vec<usize> =
        expr.column_refs().into_iter().map(|column| schema.index_of_column(column)).collect::<Result<_>>()?;
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}

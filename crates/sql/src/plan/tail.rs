//! [`Tail`]: what a bare SELECT does with its final rows: ORDER BY, LIMIT, and the columns above them.
//!
//! The circuit keeps the rows without order; this orders them when they are printed. Rows that ORDER BY leaves equal are
//! ordered by all columns from left to right, so that the same rows always print the same way.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_schema::{SchemaRef, SortOptions};
use arrow_select::take::take_record_batch;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::logical_plan::{Limit, Projection, Sort, SubqueryAlias};
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_circuit::Expr as CircuitExpr;

use crate::catalog::schema_of;
use crate::error::Error;
use crate::expr::{compile_in_order, unaliased};

/// The steps from the kept rows to the printed ones.
#[derive(Debug, Clone)]
pub struct Tail {
    steps: Vec<Step>,
    /// The columns of the kept rows; hidden ones (with a name in `$`) are not printed.
    input: SchemaRef,
}

#[derive(Debug, Clone)]
enum Step {
    Sort(Vec<(CircuitExpr, SortOptions)>),
    Limit { skip: usize, fetch: Option<usize> },
    Project(Vec<CircuitExpr>, SchemaRef),
}

impl Tail {
    /// Takes ORDER BY and LIMIT, and the columns above them, off a plan; what is left is for the circuit.
    pub(crate) fn split(plan: LogicalPlan) -> Result<(LogicalPlan, Tail)> {
        let depth = depth(&plan).unwrap_or(0);
        let mut steps = Vec::new();
        let mut rest = plan;
        for _ in 0..depth {
            rest = peel(rest, &mut steps)?;
        }
        steps.reverse();
        let input = schema_of(&rest);
        Ok((rest, Tail { steps, input }))
    }

    /// Whether the rows are printed as they are kept.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What it does, for `explain`.
    pub fn describe(&self) -> Vec<String> {
        let step = |step: &Step| match step {
            Step::Sort(keys) => {
                let word = |options: &SortOptions| if options.descending { " DESC" } else { "" };
                let keys: Vec<_> = keys.iter().map(|(expr, options)| expr.print() + word(options)).collect();
                format!("ORDER BY {}", keys.join(", "))
            }
            Step::Limit { skip: 0, fetch: Some(fetch) } => format!("LIMIT {fetch}"),
            Step::Limit { skip, fetch: Some(fetch) } => format!("LIMIT {fetch} OFFSET {skip}"),
            Step::Limit { skip, fetch: None } => format!("OFFSET {skip}"),
            Step::Project(exprs, _) => {
                format!("SELECT {}", exprs.iter().map(|expr| expr.print()).collect::<Vec<_>>().join(", "))
            }
        };
        self.steps.iter().map(step).collect()
    }

    /// The rows to print, from the rows that were kept, each as often as it is there.
    ///
    /// # Errors
    /// When an expression fails on a row, or the rows are not those of the query.
    pub fn rows(&self, kept: &RecordBatch) -> Result<RecordBatch, Error> {
        let bug = |problem: String| Error::Bug { problem };
        let failed = |problem: String| Error::Plan { problem, position: None, help: None };
        if kept.num_columns() != self.input.fields().len() {
            return Err(bug(format!("{} columns instead of {}", kept.num_columns(), self.input.fields().len())));
        }
        let mut rows = ordered(kept, &[]).map_err(|error| bug(error.to_string()))?;
        for step in &self.steps {
            rows = match step {
                Step::Sort(keys) => {
                    let keys = keys.iter().map(|(expr, options)| Ok((expr.evaluate(&rows)?, *options)));
                    let keys = keys.collect::<Result<Vec<_>, String>>().map_err(failed)?;
                    ordered(&rows, &keys).map_err(|error| bug(error.to_string()))?
                }
                Step::Limit { skip, fetch } => {
                    let skip = (*skip).min(rows.num_rows());
                    let left = rows.num_rows() - skip;
                    rows.slice(skip, fetch.unwrap_or(left).min(left))
                }
                Step::Project(exprs, schema) => {
                    let columns = exprs.iter().map(|expr| expr.evaluate(&rows)).collect::<Result<Vec<_>, _>>();
                    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
                    RecordBatch::try_new_with_options(Arc::clone(schema), columns.map_err(failed)?, &options)
                        .map_err(|error| bug(error.to_string()))?
                }
            };
        }
        Ok(rows)
    }
}

/// The rows ordered by `keys`, and by all columns that can be ordered where those are equal.
fn ordered(rows: &RecordBatch, keys: &[(ArrayRef, SortOptions)]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let least = SortOptions { descending: false, nulls_first: true };
    let columns = rows.columns().iter().filter(|column| !column.data_type().is_nested());
    let columns: Vec<SortColumn> = keys
        .iter()
        .map(|(values, options)| SortColumn { values: Arc::clone(values), options: Some(*options) })
        .chain(columns.map(|values| SortColumn { values: Arc::clone(values), options: Some(least) }))
        .collect();
    if columns.is_empty() || rows.num_rows() < 2 {
        return Ok(rows.clone());
    }
    let order: UInt32Array = lexsort_to_indices(&columns, None)?;
    take_record_batch(rows, &order)
}

/// How many nodes to take off so that no ORDER BY or LIMIT is left on top; none when there is none.
fn depth(plan: &LogicalPlan) -> Option<usize> {
    match plan {
        LogicalPlan::Sort(Sort { input, .. }) => Some(depth(input).map_or(1, |below| below + 1)),
        LogicalPlan::Limit(Limit { input, .. }) => Some(depth(input).map_or(1, |below| below + 1)),
        LogicalPlan::Projection(Projection { input, .. }) => depth(input).map(|below| below + 1),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => depth(input).map(|below| below + 1),
        _ => None,
    }
}

fn peel(plan: LogicalPlan, steps: &mut Vec<Step>) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Sort(Sort { expr, input, fetch }) => {
            if let Some(fetch) = fetch {
                steps.push(Step::Limit { skip: 0, fetch: Some(fetch) });
            }
            let key = |sort: &datafusion::logical_expr::SortExpr| {
                let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
                Ok((compile_in_order(&sort.expr, input.schema())?, options))
            };
            steps.push(Step::Sort(expr.iter().map(key).collect::<Result<_>>()?));
            Arc::unwrap_or_clone(input)
        }
        LogicalPlan::Limit(Limit { skip, fetch, input }) => {
            let skip = skip.as_deref().map(count).transpose()?.unwrap_or(0);
            steps.push(Step::Limit { skip, fetch: fetch.as_deref().map(count).transpose()? });
            Arc::unwrap_or_clone(input)
        }
        LogicalPlan::Projection(Projection { expr, input, schema, .. }) => {
            let exprs = expr.iter().map(|expr| compile_in_order(expr, input.schema())).collect::<Result<_>>()?;
            steps.push(Step::Project(exprs, nullable(&schema)));
            Arc::unwrap_or_clone(input)
        }
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => Arc::unwrap_or_clone(input),
        other => other,
    })
}

/// The fields of a schema, all of which may be null.
fn nullable(schema: &DFSchema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()))
}

pub(super) fn count(expr: &Expr) -> Result<usize> {
    match unaliased(expr) {
        Expr::Literal(ScalarValue::Int64(Some(count)), _) if *count >= 0 => Ok(*count as usize),
        Expr::Cast(cast) => count(&cast.expr),
        Expr::Literal(value, _) => match value.cast_to(&arrow_schema::DataType::Int64)? {
            ScalarValue::Int64(Some(count)) if count >= 0 => Ok(count as usize),
            _ => plan_err!("LIMIT and OFFSET take a number from 0"),
        },
        _ => plan_err!("LIMIT and OFFSET take a number"),
    }
}

//! Scalar expressions, seen from the circuit: a trait that the SQL crate fills.
//!
//! The circuit evaluates an expression over a whole batch. Where that fails, [`evaluate`] goes over the rows one by one
//! and treats each failing row as `on-error` says, so that one bad row never takes its neighbours with it.

use std::fmt;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow_schema::DataType;

/// A scalar expression over the columns of a batch; the same answer on the same rows, always.
pub trait Scalar: Send + Sync + fmt::Debug {
    /// One value a row.
    ///
    /// # Errors
    /// A sentence that says what failed, when any row fails.
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String>;

    /// The type of the values.
    fn data_type(&self) -> DataType;

    /// The expression in our printed form: `explain` shows it and fingerprints rest on it.
    fn print(&self) -> String;

    /// The column, when the expression is just that.
    fn column(&self) -> Option<usize> {
        None
    }

    /// The columns that the expression reads, by index in ascending order; none when that is not known.
    ///
    /// What is printed names columns, and an input may have several of one name: fingerprints go by these.
    fn columns(&self) -> Option<Vec<usize>> {
        self.column().map(|column| vec![column])
    }
}

/// A shared expression.
pub type Expr = Arc<dyn Scalar>;

/// An expression that is just a column.
#[derive(Debug, Clone)]
pub struct Column {
    index: usize,
    name: String,
    data_type: DataType,
}

impl Column {
    /// Column `index`, printed as `name`, as a shared expression.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(index: usize, name: impl Into<String>, data_type: DataType) -> Expr {
        Arc::new(Column { index, name: name.into(), data_type })
    }
}

impl Scalar for Column {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        Ok(batch.column(self.index).clone())
    }

    fn data_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn print(&self) -> String {
        self.name.clone()
    }

    fn column(&self) -> Option<usize> {
        Some(self.index)
    }
}

/// What to do with a row on which an expression fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Stop the circuit with the operator, the place in the query and the row.
    #[default]
    Stop,
    /// Leave the row out and send it to the side output.
    DeadLetter,
    /// Let the expression be null.
    Null,
}

/// The answer of [`evaluate`]: columns of equal length, and the rows that had to be left out.
pub(crate) struct Evaluated {
    /// One column an expression.
    pub columns: Vec<ArrayRef>,
    /// For each row of the batch whether it failed, when any did.
    pub failed: Option<BooleanArray>,
    /// The failing rows and what their expression said.
    pub messages: Vec<(usize, String)>,
}

/// Evaluates `exprs` over `batch`. With [`OnError::Stop`] the first failing row is the error: `(row, message)`.
pub(crate) fn evaluate(exprs: &[Expr], batch: &RecordBatch, on_error: OnError) -> Result<Evaluated, (usize, String)> {
    let mut columns = Vec::with_capacity(exprs.len());
    let mut messages = Vec::new();
    for expr in exprs {
        columns.push(match expr.evaluate(batch) {
            Ok(column) => column,
            Err(message) => by_row(expr, batch, on_error, &message, &mut messages)?,
        });
    }
    if on_error != OnError::DeadLetter || messages.is_empty() {
        return Ok(Evaluated { columns, failed: None, messages: Vec::new() });
    }
    messages.sort();
    messages.dedup_by_key(|(row, _)| *row);
    let mut failed = vec![false; batch.num_rows()];
    for (row, _) in &messages {
        failed[*row] = true;
    }
    Ok(Evaluated { columns, failed: Some(BooleanArray::from(failed)), messages })
}

/// Evaluates `expr` row by row after it has failed on the whole batch with `whole`.
fn by_row(
    expr: &Expr,
    batch: &RecordBatch,
    on_error: OnError,
    whole: &str,
    messages: &mut Vec<(usize, String)>,
) -> Result<ArrayRef, (usize, String)> {
    let mut values = Vec::with_capacity(batch.num_rows());
    let mut failures = 0;
    for row in 0..batch.num_rows() {
        match expr.evaluate(&batch.slice(row, 1)) {
            Ok(value) => values.push(value),
            Err(message) if on_error == OnError::Stop => return Err((row, message)),
            Err(message) => {
                failures += 1;
                values.push(new_null_array(&expr.data_type(), 1));
                if on_error == OnError::DeadLetter {
                    messages.push((row, message));
                }
            }
        }
    }
    if failures == 0 {
        return Err((0, format!("{whole} (on the batch, though on none of its rows)")));
    }
    let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    arrow_select::concat::concat(&values).map_err(|error| (0, error.to_string()))
}

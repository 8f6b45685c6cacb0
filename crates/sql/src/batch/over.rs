//! OVER over rows that are all there: for each row a search for those of its frame.
//!
//! This is the definition written down once more, apart from the circuit's: rows of equal keys, in the order of their times
//! and among equal times as they stand; RANGE takes what is not older than its size and not newer than the row, ROWS so
//! many rows before it.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow_schema::{DataType, TimeUnit};
use arrow_select::take::take;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::logical_plan::Window;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use tidemill_circuit::plan::Frame;

use super::named;
use crate::aggregate;
use crate::expr::{compile_in_order, unaliased};
use crate::lower::over::{frame, is_timely, order_of};
use crate::window_function::ROW_NUMBER;

/// The rows with what the calls give for them, and a plan that reads them from the table `name`.
pub(super) fn relational(window: &Window, input: &[RecordBatch], name: &str) -> Result<(RecordBatch, LogicalPlan)> {
    let Window { input: below, window_expr, schema } = window;
    let rows = super::together(below.schema(), input)?;
    let mut columns = rows.columns().to_vec();
    for expr in window_expr {
        let Expr::WindowFunction(call) = unaliased(expr) else { return internal_err!("a window without a call") };
        columns.push(column(call, &rows, below.schema())?);
    }
    let rows = super::numbered(columns, rows.num_rows())?;
    let plan = named(&rows, name, schema)?;
    Ok((rows, plan))
}

fn column(call: &WindowFunction, rows: &RecordBatch, schema: &DFSchema) -> Result<ArrayRef> {
    let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, distinct, null_treatment: _ } =
        &call.params;
    let value = |expr: &Expr| compile_in_order(expr, schema)?.evaluate(rows).map_err(DataFusionError::Execution);
    if !is_timely(call, schema) {
        return super::changes::column(call, rows, schema);
    }
    let (order, unit) = order_of(order_by)?;
    let times = arrow_cast::cast(&value(order)?, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
    let times = times.as_primitive::<TimestampMillisecondType>();
    let times: TimestampMillisecondArray = times.unary(|time| time.div_euclid(unit.unwrap_or(1)) * unit.unwrap_or(1));
    if times.null_count() > 0 {
        return exec_err!("the time of OVER is NULL");
    }
    let keys: Vec<ArrayRef> = partition_by.iter().map(value).collect::<Result<_>>()?;
    let args: Vec<ArrayRef> = args.iter().map(value).collect::<Result<_>>()?;
    let filter = filter.as_ref().map(|filter| value(filter)).transpose()?;
    let before = |row: usize| -> Result<Vec<u32>> {
        let mut before = Vec::new();
        for other in 0..rows.num_rows() {
            if (times.value(other), other) <= (times.value(row), row) && same(&keys, row, other)? {
                before.push(other as u32);
            }
        }
        before.sort_by_key(|other| (times.value(*other as usize), *other));
        Ok(before)
    };
    let mut values = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        values.push(match &call.fun {
            WindowFunctionDefinition::WindowUDF(function) if function.name() == ROW_NUMBER => {
                ScalarValue::Int64(Some(before(row)?.len() as i64))
            }
            WindowFunctionDefinition::WindowUDF(_) => lag(&args, &before(row)?, row)?,
            WindowFunctionDefinition::AggregateUDF(function) => {
                let frame = frame(window_frame, None)?;
                let mut found = match frame {
                    Frame::Rows { preceding } => {
                        let before = before(row)?;
                        let count = preceding.map_or(before.len(), |rows| before.len().min(rows as usize + 1));
                        before[before.len() - count..].to_vec()
                    }
                    Frame::Range { preceding_ms, .. } => {
                        let time = times.value(row);
                        let within = |other: &usize| {
                            times.value(*other) <= time
                                && preceding_ms.is_none_or(|size| times.value(*other) >= time - size)
                        };
                        let mut found = Vec::new();
                        for other in (0..rows.num_rows()).filter(within) {
                            if same(&keys, row, other)? {
                                found.push(other as u32);
                            }
                        }
                        found.sort_by_key(|other| (times.value(*other as usize), *other));
                        found
                    }
                };
                if let Some(filter) = &filter {
                    let filter = filter.as_boolean();
                    found.retain(|other| filter.is_valid(*other as usize) && filter.value(*other as usize));
                }
                let found = UInt32Array::from(found);
                let args = args.iter().map(|arg| take(arg, &found, None)).collect::<Result<Vec<_>, _>>()?;
                let Some(mut twin) = aggregate::twin(function, &args, *distinct)? else {
                    return internal_err!("{} is none of our functions", function.name());
                };
                twin.update_batch(&args)?;
                twin.evaluate()?
            }
        });
    }
    match values.is_empty() {
        false => ScalarValue::iter_to_array(values),
        true => Ok(arrow_array::new_empty_array(&result_type(call, &args)?)),
    }
}

pub(super) fn result_type(call: &WindowFunction, args: &[ArrayRef]) -> Result<DataType> {
    let types: Vec<DataType> = args.iter().map(|arg| arg.data_type().clone()).collect();
    match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) => function.return_type(&types),
        WindowFunctionDefinition::WindowUDF(_) if args.is_empty() => Ok(DataType::Int64),
        WindowFunctionDefinition::WindowUDF(_) => Ok(types.first().cloned().unwrap_or(DataType::Null)),
    }
}

fn lag(args: &[ArrayRef], before: &[u32], row: usize) -> Result<ScalarValue> {
    let offset = match args.get(1) {
        None => 1,
        Some(offset) => {
            let offset = arrow_cast::cast(offset, &DataType::Int64)?;
            offset.as_any().downcast_ref::<Int64Array>().map_or(1, |offset| offset.value(row)) as usize
        }
    };
    match (before.len().checked_sub(offset + 1), args.get(2)) {
        (Some(place), _) => ScalarValue::try_from_array(&args[0], before[place] as usize),
        (None, Some(default)) => ScalarValue::try_from_array(default, row),
        (None, None) => ScalarValue::try_from(args[0].data_type()),
    }
}

/// Whether two rows have the same keys; null is the same as null.
pub(super) fn same(keys: &[ArrayRef], row: usize, other: usize) -> Result<bool> {
    for key in keys {
        if ScalarValue::try_from_array(key, row)? != ScalarValue::try_from_array(key, other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

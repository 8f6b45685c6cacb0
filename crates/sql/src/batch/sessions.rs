//! SESSION over rows that are all there: sort each partition by time, and cut it where the gap is.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_circuit::plan::Window;

use crate::expr::compile_in_order;
use crate::plan::assign::WindowAssign;

/// The rows with their sessions, and a plan that reads them from the table `name`.
pub(super) fn relational(
    assign: &WindowAssign,
    input: &[RecordBatch],
    name: &str,
) -> Result<(RecordBatch, LogicalPlan)> {
    let WindowAssign { input: below, time, partition, window, wall, position: _, schema } = assign;
    let Window::Session { gap } = window.0 else { return internal_err!("no session") };
    let rows = super::together(below.schema(), input)?;
    let evaluate = |expr: &Expr| -> Result<ArrayRef> {
        let values = compile_in_order(expr, below.schema())?.evaluate(&rows);
        values.map_err(datafusion::common::DataFusionError::Execution)
    };
    let times = arrow_cast::cast(&evaluate(time)?, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
    let times = times.as_primitive::<TimestampMillisecondType>();
    let times: TimestampMillisecondArray = times.unary(|time| super::on_the_wall(time, *wall));
    let keys = partition.iter().map(evaluate).collect::<Result<Vec<_>>>()?;
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        if times.is_null(row) {
            return exec_err!("the time of a window is NULL");
        }
        let key = keys.iter().map(|key| ScalarValue::try_from_array(key, row)).collect::<Result<Vec<_>>>()?;
        groups.entry(format!("{key:?}")).or_default().push(row);
    }
    let (mut starts, mut ends) = (vec![0_i64; rows.num_rows()], vec![0_i64; rows.num_rows()]);
    for mut group in groups.into_values() {
        group.sort_by_key(|row| times.value(*row));
        for session in group.chunk_by(|a, b| times.value(*b) - times.value(*a) <= gap) {
            let first = session.first().map_or(0, |row| times.value(*row));
            let last = session.last().map_or(0, |row| times.value(*row));
            for row in session {
                (starts[*row], ends[*row]) = (first, last + gap);
            }
        }
    }
    let last: Vec<i64> = ends.iter().map(|end| super::off_the_wall(end - 1, *wall)).collect();
    let mut columns = rows.columns().to_vec();
    let mut named: Vec<Field> = (0..columns.len())
        .map(|index| Field::new(format!("c{index}"), columns[index].data_type().clone(), true))
        .collect();
    let width = columns.len();
    for (index, millis) in [starts, ends, last].into_iter().enumerate() {
        let data_type = schema.field(width + index).data_type();
        columns.push(arrow_cast::cast(&Int64Array::from(millis), data_type)?);
        named.push(Field::new(format!("c{}", width + index), data_type.clone(), true));
    }
    let table = Arc::new(Schema::new(named));
    let rows = RecordBatch::try_new(table, columns)?;
    let plan = super::named(&rows, name, schema)?;
    Ok((rows, plan))
}

//! Adds `window_start`, `window_end`, `window_time` to each row, once for each window the row is in.
//!
//! `window_time` is the window's last millisecond. A row keeps its weight and its suspicion in each of its windows.

use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;

use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::operator::{Context, Operator, Output};
use crate::operators::guard::Guard;
use crate::operators::time::{column_of, read_times, windows_of};
use crate::plan::AssignSpec;

struct AssignWindow {
    spec: AssignSpec,
    schema: SchemaRef,
    guard: Guard,
}

impl Operator for AssignWindow {
    fn push(&mut self, _port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let (delta, times) = read_times(&self.guard, delta, self.spec.time, context, out)?;
        let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (row, time) in times.into_iter().enumerate() {
            windows_of(&self.spec.window, time, |start, end| {
                rows.push(row as u32);
                starts.push(start);
                ends.push(end);
            });
            if rows.len() >= DELTA_ROWS_MAX {
                self.send(&delta, &mut rows, &mut starts, &mut ends, out)?;
            }
        }
        self.send(&delta, &mut rows, &mut starts, &mut ends, out)
    }
}

impl AssignWindow {
    fn send(
        &self,
        delta: &Delta,
        rows: &mut Vec<u32>,
        starts: &mut Vec<i64>,
        ends: &mut Vec<i64>,
        out: &mut Output,
    ) -> Result<(), Error> {
        let (rows, starts, ends) = (std::mem::take(rows), std::mem::take(starts), std::mem::take(ends));
        let all = rows.len() == delta.rows() && rows.iter().enumerate().all(|(index, row)| index == *row as usize);
        let taken = match all {
            true => delta.clone(),
            false => delta.take(&UInt32Array::from(rows)).map_err(|error| self.guard.broken(error))?,
        };
        let mut columns = taken.batch().columns().to_vec();
        let times = ends.iter().map(|end| end.saturating_sub(1)).collect();
        for millis in [starts, ends, times] {
            let field = self.schema.field(columns.len());
            let column = column_of(field.data_type(), millis);
            columns.push(column.ok_or_else(|| self.guard.broken(format!("column '{}' is no time", field.name())))?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| self.guard.broken(error))?;
        out.emit(taken.with_batch(batch));
        Ok(())
    }
}

/// One task, on whatever lane the rows are.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &AssignSpec) -> TaskId {
    let (spec, schema, guard) = (spec.clone(), lowering.node.schema.clone(), Guard::of(lowering));
    let make = move || {
        let operator = AssignWindow { spec: spec.clone(), schema: schema.clone(), guard: guard.clone() };
        Ok(Box::new(operator) as Box<dyn Operator>)
    };
    graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make)))
}

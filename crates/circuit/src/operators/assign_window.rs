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

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, TimestampMicrosecondArray};
    use arrow_schema::{DataType, Field, Schema, TimeUnit};

    use super::*;
    use crate::expr::OnError;
    use crate::operators::testing::{Bench, check};
    use crate::plan::{Spec, TimeDomain, Window};

    fn bench(window: Window, on_error: OnError) -> Bench {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![Field::new("id", DataType::Int64, false), Field::new("t", time, true)];
        let input = Arc::new(Schema::new(fields.clone()));
        fields.extend(["start", "end", "time"].map(|name| Field::new(name, DataType::Int64, false)));
        let spec = Spec::AssignWindow(AssignSpec { time: 1, window, domain: TimeDomain::Event });
        Bench::with(spec, input, Arc::new(Schema::new(fields)), true, 1, on_error).expect("supported")
    }

    fn rows(micros: Vec<Option<i64>>) -> Delta {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]));
        let ids = Int64Array::from_iter_values(0..micros.len() as i64);
        let columns: Vec<arrow_array::ArrayRef> =
            vec![Arc::new(ids), Arc::new(TimestampMicrosecondArray::from(micros))];
        Delta::inserts(RecordBatch::try_new(schema, columns).expect("columns of the schema"))
    }

    #[test]
    fn times_before_1970_are_floored() {
        let mut bench = bench(Window::Tumble { size: 10, offset: 0 }, OnError::Stop);
        bench.step(vec![rows(vec![Some(-1), Some(9_999), Some(10_000)])], 0, 0).expect("the step runs");
        let expected = "0 1969-12-31T23:59:59.999999 -10 0 -1\n1 1970-01-01T00:00:00.009999 0 10 9\n\
                        2 1970-01-01T00:00:00.010 10 20 19";
        check(&bench.integral, expected);
    }

    #[test]
    fn a_row_is_there_once_for_each_window() {
        let mut bench = bench(Window::Hop { slide: 5, size: 10, offset: 0 }, OnError::Stop);
        bench.step(vec![rows(vec![Some(7_000)])], 0, 0).expect("the step runs");
        check(&bench.integral, "0 1970-01-01T00:00:00.007 0 10 9\n0 1970-01-01T00:00:00.007 5 15 14");
    }

    #[test]
    fn a_row_without_a_time_obeys_on_error() {
        let window = Window::Tumble { size: 10, offset: 0 };
        let error = bench(window, OnError::Stop).step(vec![rows(vec![None])], 0, 0).err();
        let message = error.map(|error| error.to_string());
        let expected = "AssignWindow failed on row {\"id\": 0, \"t\": null}: the time 't' is null";
        assert_eq!(message.as_deref(), Some(expected));
        let mut bench = bench(window, OnError::DeadLetter);
        bench.step(vec![rows(vec![None, Some(0)])], 0, 0).expect("the step runs");
        check(&bench.integral, "1 1970-01-01T00:00:00 0 10 9");
        assert_eq!((bench.said.dead_rows, bench.said.side.len()), (1, 1));
    }
}

//! Window table functions as plain relational nodes: each row with the list of its windows, the list unnested.
//!
//! This is the definition of the windows written down once more, apart from the circuit's, so that one checks the other.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StructBuilder, TimestampMillisecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::{Column, Result, exec_err};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use tidemill_circuit::plan::Window;

use crate::plan::assign::{WINDOW_COLUMNS, WindowAssign, WindowShape};

const LIST: &str = "$windows";

/// The window table function over its input, in nodes that DataFusion runs.
pub(super) fn relational(assign: &WindowAssign) -> Result<LogicalPlan> {
    let WindowAssign { input, time, partition: _, window, wall, position: _, schema } = assign;
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let function = ScalarUDF::new_from_impl(WindowsOf {
        window: *window,
        wall: *wall,
        signature: Signature::any(1, Volatility::Immutable),
    });
    let mut with_list = columns.clone();
    with_list.push(function.call(vec![time.clone()]).alias(LIST));
    let listed = LogicalPlanBuilder::from(input.as_ref().clone()).project(with_list)?;
    let unnested = listed.unnest_column(Column::from_name(LIST))?;
    let mut out = columns;
    for (name, field) in WINDOW_COLUMNS.into_iter().zip(schema.fields().iter().rev().take(3).rev()) {
        let value = get_field(Expr::Column(Column::from_name(LIST)), name);
        out.push(datafusion::logical_expr::cast(value, field.data_type().clone()).alias(name));
    }
    unnested.project(out)?.build()
}

/// The windows that a time is in.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowsOf {
    window: WindowShape,
    wall: Option<Tz>,
    signature: Signature,
}

fn parts() -> Fields {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    WINDOW_COLUMNS.into_iter().map(|name| Field::new(name, millis.clone(), true)).collect()
}

impl ScalarUDFImpl for WindowsOf {
    fn name(&self) -> &str {
        LIST
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new("item", DataType::Struct(parts()), true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let millis = arrow_cast::cast(&times, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let millis = millis.as_primitive::<TimestampMillisecondType>();
        let builders = (0..3).map(|_| Box::new(TimestampMillisecondBuilder::new()) as _).collect();
        let mut list = ListBuilder::new(StructBuilder::new(parts(), builders));
        for row in 0..millis.len() {
            if millis.is_null(row) {
                return exec_err!("the time of a window is NULL");
            }
            let time = super::on_the_wall(millis.value(row), self.wall);
            for (start, end) in windows(&self.window.0, time) {
                let part = list.values();
                for (index, value) in [start, end, super::off_the_wall(end - 1, self.wall)].into_iter().enumerate() {
                    if let Some(builder) = part.field_builder::<TimestampMillisecondBuilder>(index) {
                        builder.append_value(value);
                    }
                }
                part.append(true);
            }
            list.append(true);
        }
        Ok(ColumnarValue::Array(Arc::new(list.finish()) as ArrayRef))
    }
}

/// All windows with `start <= time < end`, found by trying every one that could be.
fn windows(window: &Window, time: i64) -> Vec<(i64, i64)> {
    let floor = |step: i64, offset: i64| (time - offset).div_euclid(step) * step + offset;
    match *window {
        Window::Tumble { size, offset } => vec![(floor(size, offset), floor(size, offset) + size)],
        Window::Hop { slide, size, offset } => {
            let last = floor(slide, offset);
            let starts = (0..=size / slide).map(|back| last - back * slide);
            starts.map(|start| (start, start + size)).filter(|(_, end)| time < *end).collect()
        }
        Window::Cumulate { step, max, offset } => {
            let start = floor(max, offset);
            let ends = (1..=max / step).map(|count| start + count * step);
            ends.filter(|end| time < *end).map(|end| (start, end)).collect()
        }
        Window::Session { .. } => vec![],
    }
}

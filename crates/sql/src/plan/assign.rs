//! [`WindowAssign`]: a window table function in DataFusion's plan.
//!
//! It yields its input's columns, then `window_start`, `window_end`, `window_time`, one row for each window that a row is
//! in. The optimizer may push filters on the input's columns below it and prune columns it does not need.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::{DFSchema, DFSchemaRef, ExprSchema, Result, internal_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use tidemill_base::Position;
use tidemill_circuit::plan::Window;

use crate::expr::print;

/// The columns a window table function adds.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// The window table function over its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowAssign {
    pub(crate) input: Arc<LogicalPlan>,
    /// A column of the input.
    pub(crate) time: Expr,
    /// What the sessions are apart by; empty for other windows.
    pub(crate) partition: Vec<Expr>,
    pub(crate) window: WindowShape,
    /// The zone whose wall clock cuts the windows, when that is not the time as it stands.
    pub(crate) wall: Option<Tz>,
    pub(crate) position: Option<(u64, u64)>,
    pub(crate) schema: DFSchemaRef,
}

/// [`Window`] with the traits that DataFusion asks of plan nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowShape(pub(crate) Window);

impl std::hash::Hash for WindowShape {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self.0 {
            Window::Tumble { size, offset } => (0, size, offset, 0).hash(state),
            Window::Hop { slide, size, offset } => (1, slide, size, offset).hash(state),
            Window::Cumulate { step, max, offset } => (2, step, max, offset).hash(state),
            Window::Session { gap } => (3, gap, 0, 0).hash(state),
        }
    }
}

impl WindowAssign {
    pub(crate) fn new(
        input: LogicalPlan,
        time: Expr,
        partition: Vec<Expr>,
        window: Window,
        wall: Option<Tz>,
        position: Option<Position>,
    ) -> Result<Self> {
        let schema = extended(input.schema(), &time)?;
        let position = position.map(|position| (position.line, position.column));
        Ok(WindowAssign {
            input: Arc::new(input),
            time,
            partition,
            window: WindowShape(window),
            wall,
            position,
            schema,
        })
    }

    /// Whether a condition on a column of the input leaves whole windows: sessions depend on each of their rows.
    pub(crate) fn keeps_whole(&self, column: &str) -> bool {
        let partition = || self.partition.iter().any(|expr| matches!(expr, Expr::Column(key) if key.name == column));
        !WINDOW_COLUMNS.contains(&column) && (!matches!(self.window.0, Window::Session { .. }) || partition())
    }

    pub(crate) fn place(&self) -> Option<Position> {
        self.position.map(|(line, column)| Position { line, column })
    }
}

/// The input's columns and the window's.
fn extended(input: &DFSchema, time: &Expr) -> Result<DFSchemaRef> {
    let Expr::Column(column) = time else { return internal_err!("the time of a window is no column") };
    let zone = match input.field_from_column(column)?.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return internal_err!("the time of a window is {other}"),
    };
    let mut fields: Vec<_> = input.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
    let zoned = DataType::Timestamp(TimeUnit::Millisecond, zone);
    for (name, data_type) in WINDOW_COLUMNS.into_iter().zip([plain.clone(), plain, zoned]) {
        fields.push((None, Arc::new(Field::new(name, data_type, false))));
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, input.metadata().clone())?))
}

impl PartialOrd for WindowAssign {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.time == other.time && self.input == other.input).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowAssign {
    fn name(&self) -> &str {
        "WindowAssign"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let fields = self.schema.fields().iter().map(|field| field.name());
        fields.filter(|name| !self.keeps_whole(name)).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowAssign: {:?} of {}", self.window.0, print(&self.time))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let mut inputs = inputs.into_iter();
        let (Some(time), Some(input)) = (exprs.next(), inputs.next()) else {
            return internal_err!("a window table function has a time and an input");
        };
        let schema = extended(input.schema(), &time)?;
        Ok(WindowAssign {
            input: Arc::new(input),
            time,
            partition: exprs.collect(),
            window: self.window,
            wall: self.wall,
            position: self.position,
            schema,
        })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let mut needed: Vec<usize> =
            output_columns.iter().copied().filter(|index| *index < input.fields().len()).collect();
        for column in self.expressions().iter().flat_map(Expr::column_refs) {
            needed.push(input.index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

//! [`Asked`]: where in an endpoint's plan only the rows stay for which somebody waits.
//!
//! Features are computed over every row of the endpoint's source; what follows them is computed for requests alone. The
//! node is put in after the plan is optimised, so that no rule has to know it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::endpoint::path;

/// The rows of `input` for which somebody waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) input: Arc<LogicalPlan>,
}

impl Asked {
    /// The plan with the node right above the last feature that is computed over all rows, or else above the source.
    pub(crate) fn placed(plan: LogicalPlan) -> Result<LogicalPlan> {
        let here = matches!(plan, LogicalPlan::TableScan(_))
            || matches!(plan, LogicalPlan::Window(_))
            || path::next(&plan).is_none();
        if here {
            let node = Arc::new(Asked { input: Arc::new(plan) });
            return Ok(LogicalPlan::Extension(Extension { node }));
        }
        let mut first = true;
        let placed = plan.map_children(|child| match std::mem::take(&mut first) {
            true => Asked::placed(child).map(Transformed::yes),
            false => Ok(Transformed::no(child)),
        })?;
        Ok(placed.data)
    }
}

impl PartialOrd for Asked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Asked {
    fn name(&self) -> &str {
        "Asked"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.into_iter().next() {
            Some(input) => Ok(Asked { input: Arc::new(input) }),
            None => internal_err!("the rows of a source got lost"),
        }
    }
}

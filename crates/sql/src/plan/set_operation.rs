//! [`SetOperation`]: `INTERSECT` and `EXCEPT` in DataFusion's plan, each row as often as SQL says.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::logical_plan::{SubqueryAlias, Union};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use tidemill_circuit::plan;

use crate::rewrite::set_operation::{EXCEPT, INTERSECT};

/// The rows of both inputs, or of the first alone. The inputs have the same types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SetOperation {
    pub(crate) left: Arc<LogicalPlan>,
    pub(crate) right: Arc<LogicalPlan>,
    /// Whether rows of both are meant (`INTERSECT`), not those of the first alone (`EXCEPT`).
    pub(crate) intersect: bool,
    /// Whether a row counts as often as it is there.
    pub(crate) all: bool,
    pub(crate) schema: DFSchemaRef,
}

impl SetOperation {
    pub(crate) fn operation(&self) -> plan::SetOperation {
        if self.intersect { plan::SetOperation::Intersect } else { plan::SetOperation::Except }
    }
}

impl PartialOrd for SetOperation {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for SetOperation {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetOperation: {:?}{}", self.operation(), if self.all { " all" } else { "" })
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let [left, right] = <[LogicalPlan; 2]>::try_from(inputs)
            .or_else(|inputs| internal_err!("a set operation has two inputs, not {}", inputs.len()))?;
        Ok(SetOperation { left: Arc::new(left), right: Arc::new(right), ..self.clone() })
    }
}

/// Puts a node of ours where a union's name says that it stands for one. To be done once types were made to fit.
pub(crate) fn attach(plan: LogicalPlan) -> Result<LogicalPlan> {
    let attached = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::SubqueryAlias(alias) = node else { return Ok(Transformed::no(node)) };
        let Some((intersect, all)) = meant(alias.alias.table()) else {
            return Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias)));
        };
        let LogicalPlan::Union(Union { inputs, schema }) = alias.input.as_ref() else {
            return Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias)));
        };
        let [left, right] = inputs.as_slice() else { return internal_err!("{} of {}", alias.alias, inputs.len()) };
        // A side of a union says that it has the union's names, whatever its columns are called.
        let named = |side: &Arc<LogicalPlan>| side.as_ref().clone().recompute_schema().map(Arc::new);
        let (left, right, schema) = (named(left)?, named(right)?, Arc::clone(schema));
        let node = Arc::new(SetOperation { left, right, intersect, all, schema });
        let named = SubqueryAlias::try_new(Arc::new(LogicalPlan::Extension(Extension { node })), alias.alias.clone())?;
        Ok(Transformed::yes(LogicalPlan::SubqueryAlias(named)))
    })?;
    Ok(attached.data)
}

/// Whether a union of this name is an intersection, and whether of all rows; none when it is a union.
fn meant(name: &str) -> Option<(bool, bool)> {
    let of = |names: [&str; 2]| names.iter().position(|known| *known == name).map(|all| all == 1);
    of(INTERSECT).map(|all| (true, all)).or_else(|| of(EXCEPT).map(|all| (false, all)))
}

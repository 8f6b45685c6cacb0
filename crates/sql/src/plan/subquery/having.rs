//! HAVING over all rows that a query sees of those that depend on the row around it.
//!
//! There is one row to keep or to drop where none are seen too, which a join with what is counted by key knows nothing of.
//! A query that stands for a value gives NULL where it drops the row, so there the condition goes into the value:
//!
//! ```sql
//! (SELECT MAX(w) FROM b WHERE b.k = a.k HAVING COUNT(*) > 1)
//! -- becomes
//! (SELECT CASE WHEN COUNT(*) > 1 THEN MAX(w) END FROM b WHERE b.k = a.k)
//! ```

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Filter, Projection, Subquery, SubqueryAlias};
use datafusion::logical_expr::{Expr, LogicalPlan, when};

use super::{always, place_in, reaches_out, wrong};

/// A query that stands for a value, without its HAVING over all rows.
pub(super) fn of_all_having(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let LogicalPlan::Projection(Projection { expr: values, input, schema, .. }) = subquery.as_ref() else {
        return Ok(Transformed::no(expr));
    };
    let (LogicalPlan::Filter(Filter { predicate, input, .. }), [value]) = (input.as_ref(), values.as_slice()) else {
        return Ok(Transformed::no(expr));
    };
    if !always(input) || !reaches_out(input) {
        return Ok(Transformed::no(expr));
    }
    let kept = when(predicate.clone(), value.clone().unalias()).end()?.alias(schema.field(0).name());
    let plan = LogicalPlan::Projection(Projection::try_new(vec![kept], Arc::clone(input))?);
    let (outer_ref_columns, spans) = (outer_ref_columns.clone(), spans.clone());
    Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans })))
}

/// Refuses queries inside a node that drop the row of all rows.
pub(super) fn check(node: &LogicalPlan) -> Result<()> {
    if let LogicalPlan::Join(_) = node {
        node.inputs().into_iter().filter_map(lateral).try_for_each(keeps)?;
    }
    node.apply_expressions(|expr| {
        expr.apply(|part| match part {
            Expr::InSubquery(InSubquery { subquery, .. })
            | Expr::Exists(Exists { subquery, .. })
            | Expr::ScalarSubquery(subquery) => keeps(subquery).map(|()| TreeNodeRecursion::Continue),
            _ => Ok(TreeNodeRecursion::Continue),
        })
    })?;
    Ok(())
}

/// The query of a LATERAL.
fn lateral(plan: &LogicalPlan) -> Option<&Subquery> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some(subquery),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) | LogicalPlan::Projection(Projection { input, .. }) => {
            lateral(input)
        }
        _ => None,
    }
}

fn keeps(subquery: &Subquery) -> Result<()> {
    match drops(&subquery.subquery) {
        false => Ok(()),
        true => Err(wrong(
            "HAVING without GROUP BY cannot stand in this query, whose rows depend on the query around it",
            place_in(subquery),
            "compare what it counts outside: WHERE (SELECT COUNT(*) FROM b WHERE b.id = a.id) > 1",
        )),
    }
}

/// Whether a plan has a condition on the one row of an aggregate without keys.
fn drops(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(Filter { input, .. }) if always(input) && reaches_out(input) => true,
        LogicalPlan::Subquery(_) => false,
        other => other.inputs().into_iter().any(drops),
    }
}

//! WHERE over the rows of sessions, for the circuit.
//!
//! A condition on the rows of `SESSION(..)` chooses rows of sessions that are there already: put below the window it
//! would cut them otherwise. Sessions are known only when they close, with their aggregates, so the condition becomes a
//! FILTER of every call, and sessions none of whose rows it holds for are left out.
//!
//! ```sql
//! SELECT SUM(v) FROM sessions WHERE v > 3 GROUP BY window_start, window_end
//! -- becomes
//! SELECT SUM(v) FILTER (WHERE v > 3) .. HAVING COUNT(*) FILTER (WHERE v > 3) > 0
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Aggregate, Extension, Filter, SubqueryAlias};
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use tidemill_circuit::plan::Window;

use super::assign::WindowAssign;
use crate::catalog::Catalog;

/// The column that counts the rows of a session for which the condition holds.
const ROWS: &str = "$rows";

/// Makes conditions on the rows of sessions conditions of the calls over them.
pub(super) fn filtered(plan: LogicalPlan, catalog: &Catalog) -> Result<LogicalPlan> {
    let filtered = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => match condition(&aggregate) {
            Some((condition, below)) => Ok(Transformed::yes(with_filters(&aggregate, condition, below, catalog)?)),
            None => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(filtered.data)
}

/// The condition on the rows that are aggregated, and what gives them, when these are sessions that it would change.
fn condition(aggregate: &Aggregate) -> Option<(Expr, Arc<LogicalPlan>)> {
    let LogicalPlan::Filter(Filter { predicate, input, .. }) = aggregate.input.as_ref() else { return None };
    let sessions = sessions(input)?;
    let whole = predicate.column_refs().into_iter().all(|column| sessions.keeps_whole(&column.name));
    (!whole).then(|| (predicate.clone(), Arc::clone(input)))
}

/// The sessions that a plan gives as they are.
fn sessions(plan: &LogicalPlan) -> Option<&WindowAssign> {
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => sessions(input),
        LogicalPlan::Extension(Extension { node }) => {
            let assign = node.as_any().downcast_ref::<WindowAssign>()?;
            matches!(assign.window.0, Window::Session { .. }).then_some(assign)
        }
        _ => None,
    }
}

fn with_filters(
    aggregate: &Aggregate,
    condition: Expr,
    below: Arc<LogicalPlan>,
    catalog: &Catalog,
) -> Result<LogicalPlan> {
    let Aggregate { group_expr, aggr_expr, schema, .. } = aggregate;
    let preserver = NamePreserver::new_for_projection();
    let mut calls = Vec::with_capacity(aggr_expr.len() + 1);
    for expr in aggr_expr {
        let name = preserver.save(expr);
        let narrowed = expr.clone().transform(|part| match part {
            Expr::AggregateFunction(mut call) => {
                let filter = match call.params.filter.take() {
                    Some(filter) => condition.clone().and(*filter),
                    None => condition.clone(),
                };
                call.params.filter = Some(Box::new(filter));
                Ok(Transformed::yes(Expr::AggregateFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        calls.push(name.restore(narrowed.data));
    }
    let Some(count) = catalog.get_aggregate_meta("count") else { return internal_err!("there is no COUNT") };
    let rows = AggregateFunction::new_udf(count, vec![lit(1_i64)], false, Some(Box::new(condition)), vec![], None);
    calls.push(Expr::AggregateFunction(rows).alias(ROWS));
    LogicalPlanBuilder::from(Arc::unwrap_or_clone(below))
        .aggregate(group_expr.clone(), calls)?
        .filter(datafusion::logical_expr::col(datafusion::common::Column::new_unqualified(ROWS)).gt(lit(0_i64)))?
        .project(schema.columns().into_iter().map(Expr::Column))?
        .build()
}

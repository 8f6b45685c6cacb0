//! `ORDER BY .. LIMIT n OFFSET m` in a query whose rows never end, for the circuit: a ranking without keys.
//!
//! ```sql
//! SELECT a FROM t ORDER BY b LIMIT 3
//! -- becomes
//! SELECT a FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY b) AS n FROM t) WHERE n <= 3
//! ```
//!
//! The first rows change as others come, and are a set. LIMIT without ORDER BY is refused where it stands.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, internal_err};
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::logical_plan::{EmptyRelation, Limit, Sort};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFunctionDefinition, lit};

use super::tail::count;
use crate::window_function::{self, ROW_NUMBER};

/// Makes rankings of the limits in a plan.
pub(crate) fn ranked(plan: LogicalPlan) -> Result<LogicalPlan> {
    let ranked = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(Limit { skip, fetch, input }) => {
            let skip = skip.as_deref().map(count).transpose()?.unwrap_or(0) as i64;
            let fetch = fetch.as_deref().map(count).transpose()?.map(|fetch| fetch as i64);
            if fetch == Some(0) {
                let schema = Arc::clone(input.schema());
                let nothing = EmptyRelation { produce_one_row: false, schema };
                return Ok(Transformed::yes(LogicalPlan::EmptyRelation(nothing)));
            }
            first(&input, (skip, fetch)).map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(ranked.data)
}

/// The rows of a plan from `skip` on, at most `fetch` of them, in the order of the ORDER BY below its projections.
fn first(plan: &LogicalPlan, (skip, fetch): (i64, Option<i64>)) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let below = plan.inputs().into_iter().map(|input| first(input, (skip, fetch)));
            plan.with_new_exprs(plan.expressions(), below.collect::<Result<_>>()?)
        }
        LogicalPlan::Sort(Sort { expr, input, fetch: None }) => of_each(input, vec![], expr, (skip, fetch)),
        other => internal_err!("LIMIT over {}", other.display()),
    }
}

/// Of the rows of each key those from `skip` on, at most `fetch` of them, in an order.
pub(super) fn of_each(
    input: &Arc<LogicalPlan>,
    keys: Vec<Expr>,
    order: &[SortExpr],
    (skip, fetch): (i64, Option<i64>),
) -> Result<LogicalPlan> {
    let Some(number) = window_function::get(ROW_NUMBER) else { return internal_err!("no {ROW_NUMBER}") };
    let call = Expr::WindowFunction(Box::new(WindowFunction {
        fun: WindowFunctionDefinition::WindowUDF(number),
        params: WindowFunctionParams {
            args: vec![],
            partition_by: keys,
            order_by: order.to_vec(),
            window_frame: WindowFrame::new(Some(false)),
            filter: None,
            null_treatment: None,
            distinct: false,
        },
    }));
    let rank = Expr::Column(Column::new_unqualified(call.schema_name().to_string()));
    let from = (skip > 0).then(|| rank.clone().gt(lit(skip)));
    let to = fetch.map(|fetch| rank.lt_eq(lit(skip.saturating_add(fetch))));
    let Some(wanted) = from.into_iter().chain(to).reduce(Expr::and) else { return Ok(input.as_ref().clone()) };
    LogicalPlanBuilder::from(Arc::clone(input))
        .window([call])?
        .filter(wanted)?
        .project(input.schema().columns().into_iter().map(Expr::Column))?
        .build()
}

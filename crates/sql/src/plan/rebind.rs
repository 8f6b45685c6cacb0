//! The functions of another session: a circuit of its own has a clock and a seed of its own.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::lookup;
use crate::functions::Registry;

/// The expression with the functions of a registry in place of others of the same names.
pub(crate) fn expression(expr: Expr, registry: &Registry) -> Result<Expr> {
    let bound = expr.transform_up(|part| match part {
        Expr::ScalarFunction(ScalarFunction { func, args }) => match registry.get(func.name()) {
            Some(func) => Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))),
            None => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bound.data)
}

/// The plan with the functions of a registry in place of others of the same names.
pub(crate) fn plan(plan: LogicalPlan, registry: &Registry) -> Result<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        let preserver = NamePreserver::new(&node);
        let bound = node.map_expressions(|expr| {
            let name = preserver.save(&expr);
            Ok(Transformed::yes(name.restore(expression(expr, registry)?)))
        })?;
        bound.map_data(|node| lookup::map_rest(node, &|expr| expression(expr, registry)))
    })?;
    Ok(bound.data)
}

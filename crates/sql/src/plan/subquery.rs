//! Queries inside expressions: brought into a form that becomes joins, and refused with their place where none does.
//!
//! DataFusion's rules make joins of `IN`, `EXISTS` and of queries that stand for a value. They take `x IN (..)` inside a
//! larger condition to be false where SQL says it is unknown, which is the same only as long as nothing denies it. So a
//! denied one is written as `EXISTS` with the condition spelled out ([`normalised`]):
//!
//! ```sql
//! a OR x NOT IN (SELECT y FROM u)
//! -- becomes
//! a OR NOT EXISTS (SELECT y FROM u WHERE (x = y) IS NOT FALSE)
//! ```

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::{BinaryExpr, Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{
    Aggregate, EmptyRelation, Filter, Limit, Projection, Subquery, SubqueryAlias,
};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use tidemill_base::Position;

use super::tail::count;
use crate::catalog::outside;
use crate::error::Error;
use crate::lower::place_of;

/// Checks every subquery of a plan whose types fit, and writes it in a form that becomes a join with the same meaning.
pub(crate) fn normalised(plan: LogicalPlan) -> Result<LogicalPlan> {
    let written = plan.transform_up_with_subqueries(|node| {
        node.apply_expressions(|expr| expr.apply(|part| single(part).map(|()| TreeNodeRecursion::Continue)))?;
        match node {
            // The condition that names a column around the query would be looked at after the rows are numbered.
            LogicalPlan::Window(_) | LogicalPlan::Limit(_) if reaches_out(&node) => Err(numbered(place_below(&node))),
            LogicalPlan::Filter(Filter { predicate, input, .. }) if asks(&predicate) => {
                let predicate = condition(predicate, input.schema(), true, true)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            other => {
                let asking = other.expressions().into_iter().find(asks);
                match asking {
                    Some(expr) => Err(misplaced(&expr)),
                    None => Ok(Transformed::no(other)),
                }
            }
        }
    })?;
    Ok(written.data)
}

/// Where a node of a plan holds a query inside an expression, as far as that is known; none when it holds none.
pub(crate) fn within(plan: &LogicalPlan) -> Option<Option<Position>> {
    plan.expressions().iter().find(|expr| has_subquery(expr)).map(place_within)
}

/// Makes joins of subqueries; what is left of them is refused.
pub(crate) fn decorrelated(plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
    let mut any = false;
    plan.apply(|node| {
        any |= matches!(node, LogicalPlan::Subquery(_)) || node.expressions().iter().any(has_subquery);
        Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !any {
        return Ok(plan);
    }
    let context =
        OptimizerContext::new_with_config_options(Arc::new(config.clone())).without_query_execution_start_time();
    let plan = Optimizer::with_rules(rules()).optimize(plan, &context, |_, _| {})?;
    plan.apply(|node| {
        if let LogicalPlan::Subquery(_) = node {
            return Err(stays(None));
        }
        match node.expressions().iter().find(|expr| has_subquery(expr)) {
            Some(expr) => Err(stays(place_within(expr))),
            None => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(plan)
}

/// The rules that make joins of subqueries.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
    ]
}

/// Writes a condition so that no IN is denied. It is `wanted` to be true (or false, under NOT); at the `top` it is one of
/// those that all have to be true, where IN and NOT IN become joins of their own.
fn condition(expr: Expr, schema: &DFSchema, wanted: bool, top: bool) -> Result<Expr> {
    if !asks(&expr) {
        return Ok(expr);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let top = top && wanted && op == Operator::And;
            let left = Box::new(condition(*left, schema, wanted, top)?);
            let right = Box::new(condition(*right, schema, wanted, top)?);
            Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) if top && wanted => {
                condition(Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }), schema, true, true)
            }
            Expr::Exists(Exists { subquery, negated }) => {
                condition(Expr::Exists(Exists { subquery, negated: !negated }), schema, wanted, top)
            }
            inner => Ok(Expr::Not(Box::new(condition(inner, schema, !wanted, false)?))),
        },
        Expr::Exists(exists) => {
            if always(&exists.subquery.subquery) {
                return Err(wrong(
                    "EXISTS of a query that gives one row whatever there is asks nothing",
                    place_in(&exists.subquery),
                    "select columns of the rows that are to exist",
                ));
            }
            Ok(Expr::Exists(exists))
        }
        Expr::InSubquery(found) if found.negated == wanted => denied(found, schema, top),
        Expr::InSubquery(found) => Ok(Expr::InSubquery(found)),
        other => Err(misplaced(&other)),
    }
}

/// `x NOT IN (..)`, of which it counts whether it is surely true.
fn denied(found: InSubquery, schema: &DFSchema, top: bool) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = found;
    let names_columns = !expr.column_refs().is_empty() && !expr.contains_outer();
    if top && negated && subquery.outer_ref_columns.is_empty() && names_columns {
        // This one becomes a join that knows of nulls.
        return Ok(Expr::InSubquery(InSubquery { expr, subquery, negated }));
    }
    let Subquery { subquery: query, mut outer_ref_columns, spans } = subquery;
    let mut outer = Vec::new();
    let expr = expr.transform(|part| match part {
        Expr::Column(column) => {
            let (_, field) = schema.qualified_field_from_column(&column)?;
            let reference = Expr::OuterReferenceColumn(Arc::clone(field), column);
            outer.push(reference.clone());
            Ok(Transformed::yes(reference))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let (qualifier, field) = query.schema().qualified_field(0);
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
    let met = Expr::IsNotFalse(Box::new(expr.data.eq(column)));
    let query = LogicalPlan::Filter(Filter::try_new(met, query)?);
    outer_ref_columns.extend(outer);
    let subquery = Subquery { subquery: Arc::new(query), outer_ref_columns, spans };
    Ok(Expr::Exists(Exists { subquery, negated }))
}

/// A query that stands for a value gives one row at most.
fn single(expr: &Expr) -> Result<()> {
    let Expr::ScalarSubquery(subquery) = expr else { return Ok(()) };
    // DataFusion checks those that name columns of the query around them.
    if !subquery.outer_ref_columns.is_empty() || one_row(&subquery.subquery) {
        return Ok(());
    }
    Err(wrong(
        "this query stands for a value, and may give several rows",
        place_in(subquery),
        "aggregate it, as in (SELECT MAX(x) FROM t), or write IN (SELECT ..)",
    ))
}

/// Whether a plan names columns of the query around it; those of queries inside it aside.
fn reaches_out(plan: &LogicalPlan) -> bool {
    let inputs = plan.inputs();
    let mut inputs = inputs.into_iter().filter(|input| !matches!(input, LogicalPlan::Subquery(_)));
    plan.contains_outer_reference() || inputs.any(reaches_out)
}

/// Whether a plan gives one row at most, whatever there is.
fn one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => one_row(input),
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.is_empty(),
        LogicalPlan::Limit(Limit { fetch, input, .. }) => {
            fetch.as_deref().is_some_and(|fetch| matches!(count(fetch), Ok(0 | 1))) || one_row(input)
        }
        LogicalPlan::Values(values) => values.values.len() <= 1,
        LogicalPlan::EmptyRelation(EmptyRelation { .. }) => true,
        _ => false,
    }
}

/// Whether a plan gives one row, whatever there is.
fn always(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. }) | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => {
            always(input)
        }
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.is_empty(),
        _ => false,
    }
}

/// Whether an expression holds IN or EXISTS with a query.
fn asks(expr: &Expr) -> bool {
    let found = expr.exists(|part| Ok(matches!(part, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))));
    found.unwrap_or(false)
}

/// Whether an expression holds a query, or names a column of the query around it.
fn has_subquery(expr: &Expr) -> bool {
    let found = expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::ScalarSubquery(_)
                | Expr::OuterReferenceColumn(..)
        ))
    });
    found.unwrap_or(false)
}

/// Where a query inside an expression stands: at the first column that it selects, or names at all, as far as known.
fn place_in(subquery: &Subquery) -> Option<Position> {
    if let Some(span) = subquery.spans.first() {
        return Some(Position { line: span.start.line, column: span.start.column });
    }
    place_below(&subquery.subquery)
}

/// The first column that a plan names.
pub(crate) fn place_below(plan: &LogicalPlan) -> Option<Position> {
    place_where(plan, |_| true)
}

/// The first of these columns that a plan names.
pub(crate) fn place_where(plan: &LogicalPlan, wanted: impl Fn(&Column) -> bool) -> Option<Position> {
    let mut first = None;
    // The closure gives no error.
    let _ = plan.apply(|node| {
        let expressions = node.expressions();
        let columns = expressions.iter().flat_map(Expr::column_refs).filter(|column| wanted(column));
        let found = columns.filter_map(|column| place_of(&Expr::Column(column.clone()))).min();
        first = [first, found].into_iter().flatten().min();
        Ok(TreeNodeRecursion::Continue)
    });
    first
}

/// Where an expression that holds a query stands.
fn place_within(expr: &Expr) -> Option<Position> {
    let mut place = place_of(expr);
    let _ = expr.apply(|part| {
        let subquery = match part {
            Expr::InSubquery(found) => Some(&found.subquery),
            Expr::Exists(found) => Some(&found.subquery),
            Expr::ScalarSubquery(found) => Some(found),
            _ => None,
        };
        place = place.or_else(|| subquery.and_then(place_in));
        Ok(TreeNodeRecursion::Continue)
    });
    place
}

fn wrong(problem: &str, position: Option<Position>, help: &str) -> DataFusionError {
    outside(Error::Plan { problem: problem.to_string(), position, help: Some(help.to_string()) })
}

fn misplaced(expr: &Expr) -> DataFusionError {
    wrong(
        "IN and EXISTS with a query can stand in WHERE and HAVING, joined by AND, OR and NOT, and not here",
        place_within(expr),
        "filter in a query below, or join the two: LEFT JOIN (SELECT DISTINCT id FROM t) AS t ON .., and t.id IS NOT NULL",
    )
}

fn numbered(position: Option<Position>) -> DataFusionError {
    wrong(
        "OVER and LIMIT in a query inside another cannot be over rows that depend on the query around it",
        position,
        "number the rows of each key, ROW_NUMBER() OVER (PARTITION BY id ORDER BY ..), and compare id and the number with \
         what is around that",
    )
}

fn stays(position: Option<Position>) -> DataFusionError {
    wrong(
        "this query inside an expression depends on the query around it in a way that no join can say",
        position,
        "compare its columns with those around it by = in its WHERE, below any GROUP BY; or write the join yourself",
    )
}

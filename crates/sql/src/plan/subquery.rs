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
//!
//! Where IN is a value that may be unknown, as in SELECT, it is put together of what exists ([`known`]), and the marks of
//! rows become columns ([`marks`]). Aggregates, OVER and ON get them from a projection below ([`hoist`]).

mod apart;
mod having;
mod hoist;
mod keyed;
mod marks;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Case, Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{
    Aggregate, EmptyRelation, Filter, Limit, Projection, Subquery, SubqueryAlias,
};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, Operator, lit, when};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use tidemill_base::Position;

use apart::Apart;
use having::of_all_having;
use hoist::{Hoist, Which};
use keyed::Keyed;
use marks::MarkColumns;

use super::tail::count;
use crate::aggregate::Aggregates;
use crate::catalog::outside;
use crate::error::Error;
use crate::lower::place_of;

/// What a value is compared with is called in the query that gives it.
const FOUND: &str = "$found";

/// Takes queries that stand for a value out of aggregates, OVER and ON, where DataFusion knows of none that name columns
/// around them; and what is asked of the pairs of a join out of its ON.
pub(crate) fn lifted(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut hoist = Hoist::new(Which::Values);
    let greatest = Aggregates::new().get("max");
    let lifted = plan.transform_up_with_subqueries(|node| {
        node.apply_expressions(|expr| expr.apply(|part| single(part).map(|()| TreeNodeRecursion::Continue)))?;
        let node = node.map_expressions(|expr| {
            expr.transform_up(|part| one_of_first(part, &greatest)?.transform_data(of_all_having))
        })?;
        having::check(&node.data)?;
        hoist.node(node.data)
    })?;
    Ok(lifted.data)
}

/// Checks every subquery of a plan whose types fit, and writes it in a form that becomes a join with the same meaning.
pub(crate) fn normalised(plan: LogicalPlan) -> Result<LogicalPlan> {
    let (mut hoist, mut keyed, mut apart) = (Hoist::new(Which::All), Keyed::default(), Apart::default());
    let written = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(_) | LogicalPlan::Limit(_) if reaches_out(&node) => {
            Ok(Transformed::yes(keyed.node(&node)?))
        }
        // Rules do not see conditions through other names.
        LogicalPlan::SubqueryAlias(_) if reaches_out(&node) => match keyed.node(&node) {
            Ok(above) => Ok(Transformed::yes(above)),
            Err(_) => Err(stays(place_below(&node))),
        },
        LogicalPlan::Filter(Filter { predicate, input, .. }) if asks(&predicate) => {
            let predicate = condition(predicate, input.schema(), true, true)?;
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
        }
        LogicalPlan::Projection(Projection { ref expr, ref input, .. }) if expr.iter().any(asks) => {
            let preserver = NamePreserver::new(&node);
            let valued = expr.iter().map(|expr| {
                let name = preserver.save(expr);
                Ok(name.restore(value(expr.clone(), input.schema())?))
            });
            let valued = valued.collect::<Result<Vec<_>>>()?;
            let valued = Projection::try_new(valued, Arc::clone(input))?;
            Ok(Transformed::yes(apart.projection(valued)?))
        }
        LogicalPlan::Projection(projection) => Ok(Transformed::yes(apart.projection(projection)?)),
        other => {
            let hoisted = hoist.node(other)?;
            match hoisted.data.expressions().into_iter().find(asks) {
                Some(expr) => Err(misplaced(&expr)),
                None => Ok(hoisted),
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
        Arc::new(MarkColumns::default()),
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
        Expr::Exists(exists) => existing(exists),
        Expr::InSubquery(found) if is_equation(&found, top && wanted) => equation(found),
        Expr::InSubquery(found) if found.negated == wanted => denied(found, schema, top),
        Expr::InSubquery(found) => Ok(Expr::InSubquery(found)),
        other => value(other, schema),
    }
}

/// Writes an expression so that each IN is true, false or unknown as it should, and no more than what exists is asked.
fn value(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let valued = expr.transform_down(|part| match part {
        Expr::Exists(exists) => Ok(Transformed::new(existing(exists)?, true, TreeNodeRecursion::Jump)),
        Expr::InSubquery(found) => {
            let known = if is_equation(&found, false) { equation(found)? } else { known(found, schema)? };
            Ok(Transformed::new(known, true, TreeNodeRecursion::Jump))
        }
        // Of a condition it counts whether it is true.
        Expr::Case(Case { expr: None, when_then_expr, else_expr }) => {
            let whens = when_then_expr.into_iter().map(|(when, then)| {
                Ok((Box::new(condition(*when, schema, true, false)?), Box::new(value(*then, schema)?)))
            });
            let when_then_expr = whens.collect::<Result<_>>()?;
            let else_expr = else_expr.map(|expr| value(*expr, schema).map(Box::new)).transpose()?;
            let case = Expr::Case(Case { expr: None, when_then_expr, else_expr });
            Ok(Transformed::new(case, true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(valued.data)
}

/// EXISTS, when it asks something.
fn existing(exists: Exists) -> Result<Expr> {
    match always(&exists.subquery.subquery) {
        false => Ok(Expr::Exists(exists)),
        true => Err(wrong(
            "EXISTS of a query that gives one row whatever there is asks nothing",
            place_in(&exists.subquery),
            "select columns of the rows that are to exist",
        )),
    }
}

/// Whether IN asks whether a value equals the one that a query gives whatever there is. Of rows that are to be kept the
/// same is asked by a join, unless the value is of other rows for each of them, or of none.
fn is_equation(found: &InSubquery, keeps: bool) -> bool {
    let InSubquery { subquery, negated, .. } = found;
    always(&subquery.subquery) && !(keeps && !negated && subquery.outer_ref_columns.is_empty())
}

/// `x IN (SELECT MAX(y) ..)` is `x = (SELECT MAX(y) ..)`.
fn equation(found: InSubquery) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = found;
    let one = Expr::ScalarSubquery(subquery);
    Ok(if negated { (*expr).not_eq(one) } else { (*expr).eq(one) })
}

/// `x IN (..)` as a value:
///
/// ```sql
/// CASE WHEN EXISTS (.. WHERE y = x) THEN TRUE
///      WHEN EXISTS (.. WHERE y IS NULL) OR x IS NULL AND EXISTS (..) THEN NULL ELSE FALSE END
/// ```
fn known(found: InSubquery, schema: &DFSchema) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = found;
    if holds_query(&expr) {
        return Err(wrong(
            "a query cannot be looked for among the rows of another here",
            place_within(&expr),
            "compute the first in a query below, and name its column",
        ));
    }
    let (query, column) = found_in(&subquery.subquery)?;
    let exists = |condition: Option<Expr>, outer: Vec<Expr>| -> Result<Expr> {
        let query = match condition {
            Some(condition) => Arc::new(LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(&query))?)),
            None => Arc::clone(&query),
        };
        let outer_ref_columns = subquery.outer_ref_columns.iter().cloned().chain(outer).collect();
        let subquery = Subquery { subquery: query, outer_ref_columns, spans: subquery.spans.clone() };
        Ok(Expr::Exists(Exists { subquery, negated: false }))
    };
    let (around, outer) = from_around(expr.as_ref().clone(), schema)?;
    let mut cases = when(exists(Some(around.eq(column.clone())), outer)?, lit(!negated));
    let mut unknown = Vec::new();
    if subquery.subquery.schema().field(0).is_nullable() {
        unknown.push(exists(Some(column.is_null()), vec![])?);
    }
    if expr.nullable(schema)? {
        unknown.push(expr.is_null().and(exists(None, vec![])?));
    }
    if let Some(unknown) = unknown.into_iter().reduce(Expr::or) {
        cases = cases.when(unknown, lit(ScalarValue::Boolean(None)));
    }
    cases.otherwise(lit(negated))
}

/// A query among whose rows a value is looked for, and its column, under a name that no column around it has: both may be of
/// one table.
fn found_in(query: &Arc<LogicalPlan>) -> Result<(Arc<LogicalPlan>, Expr)> {
    let (qualifier, field) = query.schema().qualified_field(0);
    let column = Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(FOUND);
    let query = LogicalPlan::Projection(Projection::try_new(vec![column], Arc::clone(query))?);
    Ok((Arc::new(query), Expr::Column(Column::new_unqualified(FOUND))))
}

/// An expression as a query inside another names it, and the columns that it names so.
fn from_around(expr: Expr, schema: &DFSchema) -> Result<(Expr, Vec<Expr>)> {
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
    Ok((expr.data, outer))
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
    let (expr, outer) = from_around(*expr, schema)?;
    let (query, column) = found_in(&query)?;
    let met = Expr::IsNotFalse(Box::new(expr.eq(column)));
    let query = LogicalPlan::Filter(Filter::try_new(met, query)?);
    outer_ref_columns.extend(outer);
    let subquery = Subquery { subquery: Arc::new(query), outer_ref_columns, spans };
    Ok(Expr::Exists(Exists { subquery, negated }))
}

/// A query that stands for a value gives one row at most.
fn single(expr: &Expr) -> Result<()> {
    let Expr::ScalarSubquery(subquery) = expr else { return Ok(()) };
    let query = &subquery.subquery;
    let columns = query.schema().fields().len();
    if columns != 1 {
        return Err(wrong(
            &format!("this query stands for a value, and gives {columns} columns"),
            place_in(subquery),
            "select one column",
        ));
    }
    let depends = !subquery.outer_ref_columns.is_empty();
    // Of those that depend on the row around them DataFusion checks what they are grouped by.
    if one_row(query) || (depends && folds(query)) {
        return Ok(());
    }
    let help = match depends {
        true => "aggregate it, as in (SELECT MAX(b.x) FROM b WHERE b.id = a.id), or take one row: ORDER BY .. LIMIT 1",
        false => "aggregate it, as in (SELECT MAX(x) FROM t), or write IN (SELECT ..)",
    };
    Err(wrong("this query stands for a value, and may give several rows", place_in(subquery), help))
}

/// A value that is one of the first rows, as the greatest of that row: rules make joins of aggregates.
fn one_of_first(expr: Expr, greatest: &Option<Arc<AggregateUDF>>) -> Result<Transformed<Expr>> {
    match (expr, greatest) {
        (Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans }), Some(greatest))
            if !outer_ref_columns.is_empty() && !folds(&subquery) && limits(&subquery) =>
        {
            let (qualifier, field) = subquery.schema().qualified_field(0);
            let name = field.name().clone();
            let call = greatest.call(vec![Expr::Column(Column::new(qualifier.cloned(), name.as_str()))]);
            let value = Expr::Column(Column::new_unqualified(call.schema_name().to_string())).alias(name);
            let folded = Arc::new(LogicalPlan::Aggregate(Aggregate::try_new(subquery, vec![], vec![call])?));
            let subquery = Arc::new(LogicalPlan::Projection(Projection::try_new(vec![value], folded)?));
            Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans })))
        }
        (expr, _) => Ok(Transformed::no(expr)),
    }
}

/// Whether a plan gives the first rows of others.
fn limits(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. }) | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => {
            limits(input)
        }
        LogicalPlan::Limit(_) => true,
        _ => false,
    }
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

/// Whether a plan gives what aggregates give, perhaps of keys.
fn folds(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => folds(input),
        LogicalPlan::Aggregate(_) => true,
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

/// Whether an expression holds a query.
fn holds_query(expr: &Expr) -> bool {
    let found = expr.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_))));
    asks(expr) || found.unwrap_or(false)
}

/// Whether an expression holds a query, or names a column of the query around it.
fn has_subquery(expr: &Expr) -> bool {
    holds_query(expr) || expr.contains_outer()
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
        "IN and EXISTS with a query cannot stand here",
        place_within(expr),
        "compute it in the SELECT of a query below, and name its column",
    )
}

fn numbered(position: Option<Position>) -> DataFusionError {
    wrong(
        "OVER and LIMIT in a query inside another cannot be over rows that depend on the query around it in this way",
        position,
        "compare columns with those around by = in WHERE alone, below any GROUP BY; for the last row before a time write \
         ASOF JOIN, or join FOR SYSTEM_TIME AS OF",
    )
}

fn stays(position: Option<Position>) -> DataFusionError {
    wrong(
        "this query inside an expression depends on the query around it in a way that no join can say",
        position,
        "compare its columns with those around it by = in its WHERE, below any GROUP BY; or write the join yourself",
    )
}

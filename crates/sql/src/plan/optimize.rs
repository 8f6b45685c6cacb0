//! From what SQL's planner made to what is lowered: types made to fit, our casts put in, and the rules we trust.
//!
//! The list of rules is short on purpose: a rule is here when it cannot change the answer over a stream of changes, and
//! when tests cover it. With no rules at all the same queries must give the same rows, which the rewrite oracle checks.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};

use super::{lookup, set_operation, subquery, unnest};
use crate::catalog::{Catalog, outside};
use crate::error::Error;
use crate::expr::print;
use crate::functions::{Registry, cast_expr, replace_casts};
use crate::lower::{is_random, over, place_of};
use crate::types::name_of;
use tidemill_base::Position;

/// Checks a plan, puts our casts in, and makes its types fit; nothing is optimised yet.
pub(crate) fn check(plan: LogicalPlan, catalog: &Catalog) -> Result<LogicalPlan> {
    let plan = unnest::attach(plan)?;
    let plan = subquery::lifted(plan)?;
    let plan = with_our_casts(plan, catalog.functions())?;
    let plan = over::ordered(plan)?;
    let analyzer = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
    let plan = analyzer.execute_and_check(plan, catalog.options(), |_, _| {})?;
    let plan = set_operation::attach(plan)?;
    let plan = subquery::normalised(plan)?;
    let plan = lookup::attach(plan)?;
    plan.apply_with_subqueries(|node| match node {
        // A rule would take it to one side, where it is asked once a row and not once a pair.
        LogicalPlan::Join(_) if node.expressions().iter().any(is_random) => {
            let position = node.expressions().iter().find_map(place_of);
            Err(outside(Error::Plan {
                problem: "RAND or UUID cannot stand in the condition of a join".to_string(),
                position,
                help: Some("compute it in a query below the join, and name its column in ON".to_string()),
            }))
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(plan)
}

/// Replaces casts and types integer literals as Flink does, in every expression of the plan.
fn with_our_casts(plan: LogicalPlan, registry: &Registry) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|part| comparable(part, &schema).map(|()| TreeNodeRecursion::Continue))
        })?;
        let preserver = NamePreserver::new(&node);
        let mapped = node.map_expressions(|expr| {
            let name = preserver.save(&expr);
            let replaced = replace_casts(registry, expr)?.data;
            let widened = replaced.transform_up(|part| widened(part, &schema, registry))?;
            Ok(Transformed::yes(name.restore(widened.data)))
        })?;
        mapped.map_data(|node| match node {
            LogicalPlan::Values(values) => LogicalPlanBuilder::values(values.values)?.build(),
            other => other.recompute_schema(),
        })
    })?;
    Ok(replaced.data)
}

/// Refuses to compare a text with a number: whichever is cast, someone expects the other.
fn comparable(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let (first, others): (&Expr, Vec<&Expr>) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => (left, vec![right.as_ref()]),
        Expr::InList(InList { expr, list, negated: _ }) => (expr, list.iter().collect()),
        Expr::InSubquery(InSubquery { expr, subquery, negated: _ }) => {
            let one = expr.get_type(schema).ok();
            let two = subquery.subquery.schema().fields().first().map(|field| field.data_type().clone());
            return match (one, two) {
                (Some(one), Some(two)) if unlike(&one, &two) => Err(text_and_number(
                    format!("{} is {} and the query gives {}", print(expr), name_of(&one), name_of(&two)),
                    place_of(expr),
                )),
                _ => Ok(()),
            };
        }
        Expr::Between(Between { expr, negated: _, low, high }) => (expr, vec![low.as_ref(), high.as_ref()]),
        _ => return Ok(()),
    };
    let Ok(one) = first.get_type(schema) else { return Ok(()) };
    for other in others {
        let Ok(two) = other.get_type(schema) else { continue };
        if unlike(&one, &two) {
            let problem = format!("{} is {} and {} is {}", print(first), name_of(&one), print(other), name_of(&two));
            return Err(text_and_number(problem, place_of(first).or(place_of(other))));
        }
    }
    Ok(())
}

/// Whether one is a text and the other a number.
fn unlike(one: &DataType, two: &DataType) -> bool {
    let text = |data_type: &DataType| *data_type == DataType::Utf8;
    (text(one) && two.is_numeric()) || (one.is_numeric() && text(two))
}

fn text_and_number(problem: String, position: Option<Position>) -> DataFusionError {
    outside(Error::Plan {
        problem: format!("a text and a number cannot be compared: {problem}"),
        position,
        help: Some("CAST one of them to the type of the other".to_string()),
    })
}

/// Compares a DOUBLE or FLOAT with a DECIMAL as DOUBLE, as Flink does.
fn widened(expr: Expr, schema: &DFSchema, registry: &Registry) -> Result<Transformed<Expr>> {
    let kind = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
    let any = |exprs: &[&Expr], is: fn(&DataType) -> bool| exprs.iter().any(|expr| is(&kind(expr)));
    let mixed = |exprs: &[&Expr]| any(exprs, DataType::is_floating) && any(exprs, DataType::is_decimal);
    let double = |expr: Expr| match kind(&expr).is_decimal() {
        true => cast_expr(registry, expr, "DOUBLE", false),
        false => Ok(expr),
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && mixed(&[&left, &right]) => {
            let (left, right) = (Box::new(double(*left)?), Box::new(double(*right)?));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::Between(Between { expr, negated, low, high }) if mixed(&[&expr, &low, &high]) => {
            let (expr, low, high) = (Box::new(double(*expr)?), Box::new(double(*low)?), Box::new(double(*high)?));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::InList(InList { expr, list, negated })
            if mixed(&std::iter::once(expr.as_ref()).chain(&list).collect::<Vec<_>>()) =>
        {
            let list = list.into_iter().map(double).collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::InList(InList { expr: Box::new(double(*expr)?), list, negated })))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Optimises a checked plan; without `rules` it stays as it is, but for subqueries, which become joins.
pub(crate) fn optimise(plan: LogicalPlan, config: &ConfigOptions, rules: bool) -> Result<LogicalPlan> {
    let plan = subquery::decorrelated(plan, config)?;
    if !rules {
        return Ok(plan);
    }
    let context =
        OptimizerContext::new_with_config_options(Arc::new(config.clone())).without_query_execution_start_time();
    let plan = Optimizer::with_rules(trusted()).optimize(plan, &context, |_, _| {})?;
    lookup::prune(plan)
}

fn trusted() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(FilterNullJoinKeys::default()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

//! From what SQL's planner made to what is lowered: types made to fit, our casts put in, and the rules we trust.
//!
//! The list of rules is short on purpose: a rule is here when it cannot change the answer over a stream of changes, and
//! when tests cover it. With no rules at all the same queries must give the same rows, which the rewrite oracle checks.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};

use super::{lookup, unnest};
use crate::catalog::{Catalog, outside};
use crate::error::Error;
use crate::expr::print;
use crate::functions::{Registry, cast_expr, replace_casts};
use crate::lower::{over, place_of};
use crate::types::name_of;

/// Checks a plan, puts our casts in, and makes its types fit; nothing is optimised yet.
pub(crate) fn check(plan: LogicalPlan, catalog: &Catalog) -> Result<LogicalPlan> {
    let plan = unnest::attach(plan)?;
    let plan = with_our_casts(plan, catalog.functions())?;
    let plan = over::ordered(plan)?;
    let analyzer = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
    let plan = analyzer.execute_and_check(plan, catalog.options(), |_, _| {})?;
    lookup::attach(plan)
}

/// Replaces casts and types integer literals as Flink does, in every expression of the plan.
fn with_our_casts(plan: LogicalPlan, registry: &Registry) -> Result<LogicalPlan> {
    let replaced = plan.transform_up(|node| {
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
        Expr::Between(Between { expr, negated: _, low, high }) => (expr, vec![low.as_ref(), high.as_ref()]),
        _ => return Ok(()),
    };
    let text = |data_type: &DataType| *data_type == DataType::Utf8;
    let Ok(one) = first.get_type(schema) else { return Ok(()) };
    for other in others {
        let Ok(two) = other.get_type(schema) else { continue };
        if (text(&one) && two.is_numeric()) || (one.is_numeric() && text(&two)) {
            let problem = format!("{} is {} and {} is {}", print(first), name_of(&one), print(other), name_of(&two));
            let position = place_of(first).or(place_of(other));
            let help = Some("CAST one of them to the type of the other".to_string());
            return Err(outside(Error::Plan {
                problem: format!("a text and a number cannot be compared: {problem}"),
                position,
                help,
            }));
        }
    }
    Ok(())
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

/// Optimises a checked plan; without `rules` it stays as it is.
pub(crate) fn optimise(plan: LogicalPlan, config: &ConfigOptions, rules: bool) -> Result<LogicalPlan> {
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
        Arc::new(RewriteSetComparison::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(FilterNullJoinKeys::default()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

//! Queries inside the expressions of aggregates, of OVER, of ON and of ORDER BY: they become columns of a projection below, where rules
//! make joins of them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Aggregate, Filter, Join, Projection, Sort, Window};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::{condition, holds_query, misplaced, place_within, value, wrong};

/// Makes columns of queries; the names of a plan's columns differ.
pub(super) struct Hoist {
    /// Which queries: those that stand for a value, before types are made to fit, or what is left of all.
    which: Which,
    count: usize,
}

/// Which queries become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that stand for a value.
    Values,
    /// IN and EXISTS too.
    All,
}

impl Hoist {
    pub(super) fn new(which: Which) -> Self {
        Hoist { which, count: 0 }
    }

    /// A node whose expressions hold queries, with columns in their place; as it is when it is none of those, or holds none.
    pub(super) fn node(&mut self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let which = self.which;
        let holding = |exprs: &[Expr]| exprs.iter().any(|expr| which.holds(expr));
        match node {
            LogicalPlan::Aggregate(aggregate) if holding(&aggregate.group_expr) || holding(&aggregate.aggr_expr) => {
                self.aggregate(aggregate).map(Transformed::yes)
            }
            LogicalPlan::Window(window) if holding(&window.window_expr) => self.window(window).map(Transformed::yes),
            LogicalPlan::Sort(sort) if sort.expr.iter().any(|by| holds_query(&by.expr)) => {
                self.sort(sort).map(Transformed::yes)
            }
            LogicalPlan::Join(join)
                if join.join_type == JoinType::Inner && join.filter.as_ref().is_some_and(holds_query) =>
            {
                of_pairs(join).map(Transformed::yes)
            }
            LogicalPlan::Join(join) if join.filter.as_ref().is_some_and(|filter| which.holds(filter)) => {
                self.join(join).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// An aggregate whose keys and arguments hold queries.
    fn aggregate(&mut self, aggregate: Aggregate) -> Result<LogicalPlan> {
        let Aggregate { input, group_expr, aggr_expr, schema: _, .. } = aggregate;
        if let Some(sets) = group_expr.iter().find(|expr| matches!(expr, Expr::GroupingSet(_)) && holds_query(expr)) {
            return Err(misplaced(sets));
        }
        let mut columns = Vec::new();
        let group = self.named(group_expr, input.schema(), &mut columns)?;
        let aggr = self.named(aggr_expr, input.schema(), &mut columns)?;
        Ok(LogicalPlan::Aggregate(Aggregate::try_new(beside(input, columns)?, group, aggr)?))
    }

    /// Calls with OVER whose parts hold queries.
    fn window(&mut self, window: Window) -> Result<LogicalPlan> {
        let Window { input, window_expr, schema, .. } = window;
        let mut columns = Vec::new();
        let calls = self.named(window_expr, input.schema(), &mut columns)?;
        let window = Window::try_new(calls, beside(input, columns)?)?;
        as_before(LogicalPlan::Window(window), &schema)
    }

    /// An order by values that hold queries, which are whole columns below.
    fn sort(&mut self, Sort { mut expr, input, fetch }: Sort) -> Result<LogicalPlan> {
        let schema = Arc::clone(input.schema());
        let mut columns = Vec::new();
        for by in expr.iter_mut().filter(|by| holds_query(&by.expr)) {
            let name = format!("$order.{}", self.count);
            self.count += 1;
            let column = Expr::Column(Column::new_unqualified(name.as_str()));
            columns.push(std::mem::replace(&mut by.expr, column).alias(name));
        }
        as_before(LogicalPlan::Sort(Sort { expr, input: beside(input, columns)?, fetch }), &schema)
    }

    /// A join of which the rows of a side stay that meet none: what its condition asks is known of the rows of a side.
    fn join(&mut self, join: Join) -> Result<LogicalPlan> {
        let Join { left, right, on, filter, join_type, join_constraint, schema, null_equality, null_aware } = join;
        let mut columns = [Vec::new(), Vec::new()];
        let filter = filter.map(|filter| {
            let filter = if self.which == Which::All { condition(filter, &schema, true, false)? } else { filter };
            self.replaced(filter, |query| side_of(query, [left.schema(), right.schema()]), &mut columns)
        });
        let (filter, [of_left, of_right]) = (filter.transpose()?, columns);
        let (left, right) = (beside(left, of_left)?, beside(right, of_right)?);
        let joined = Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)?;
        as_before(LogicalPlan::Join(joined), &schema)
    }

    /// Expressions over `schema` with columns in place of queries, called as they were.
    fn named(&mut self, exprs: Vec<Expr>, schema: &DFSchema, columns: &mut Vec<Expr>) -> Result<Vec<Expr>> {
        let preserver = NamePreserver::new_for_projection();
        let named = exprs.into_iter().map(|expr| {
            if !self.which.holds(&expr) {
                return Ok(expr);
            }
            let name = preserver.save(&expr);
            let expr = if self.which == Which::All { value(expr, schema)? } else { expr };
            Ok(name.restore(self.replaced(expr, |_| Ok(0), std::slice::from_mut(columns))?))
        });
        named.collect()
    }

    /// An expression with columns in place of queries, each of the input that `of` says, to whose `columns` it is added.
    fn replaced(&mut self, expr: Expr, of: impl Fn(&Expr) -> Result<usize>, columns: &mut [Vec<Expr>]) -> Result<Expr> {
        let which = self.which;
        let replaced = expr.transform_down(|part| match part {
            Expr::InSubquery(_) | Expr::Exists(_) if which == Which::Values => {
                Ok(Transformed::new(part, false, TreeNodeRecursion::Jump))
            }
            Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) => {
                let name = format!("${which:?}.{}", self.count);
                self.count += 1;
                columns[of(&part)?].push(part.alias(name.as_str()));
                let column = Expr::Column(Column::new_unqualified(name));
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(replaced.data)
    }
}

impl Which {
    /// Whether an expression holds one.
    fn holds(self, expr: &Expr) -> bool {
        match self {
            Which::Values => expr.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_)))).unwrap_or(false),
            Which::All => holds_query(expr),
        }
    }
}

/// A join of pairs alone whose condition holds queries: they are asked of the pairs.
fn of_pairs(join: Join) -> Result<LogicalPlan> {
    let parts = join.filter.clone().map(split_conjunction_owned).unwrap_or_default();
    let (asking, others): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(holds_query);
    let joined = LogicalPlan::Join(Join { filter: conjunction(others), ..join });
    match conjunction(asking) {
        None => Ok(joined),
        Some(asking) => Ok(LogicalPlan::Filter(Filter::try_new(asking, Arc::new(joined))?)),
    }
}

/// A plan with more columns beside its own.
pub(super) fn beside(plan: Arc<LogicalPlan>, columns: Vec<Expr>) -> Result<Arc<LogicalPlan>> {
    if columns.is_empty() {
        return Ok(plan);
    }
    let exprs = plan.schema().columns().into_iter().map(Expr::Column).chain(columns).collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, plan)?)))
}

/// The columns that a plan had before others came beside them.
pub(super) fn as_before(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    let exprs = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

/// The side of a join whose columns a query names; the left one where it names none.
fn side_of(query: &Expr, sides: [&DFSchema; 2]) -> Result<usize> {
    let (asked, subquery) = match query {
        Expr::InSubquery(InSubquery { expr, subquery, .. }) => (Some(expr), subquery),
        Expr::Exists(Exists { subquery, .. }) | Expr::ScalarSubquery(subquery) => (None, subquery),
        _ => return Err(misplaced(query)),
    };
    let mut named: Vec<&Column> = asked.iter().flat_map(|expr| expr.column_refs()).collect();
    named.extend(subquery.outer_ref_columns.iter().filter_map(|reference| match reference {
        Expr::OuterReferenceColumn(_, column) => Some(column),
        _ => None,
    }));
    let side = sides.iter().position(|side| named.iter().all(|column| side.has_column(column)));
    side.ok_or_else(|| {
        wrong(
            "a query in the ON of an outer join names columns of one of its sides, and not of both",
            place_within(query),
            "compute it in a query below the join, or write an inner join and a condition in WHERE",
        )
    })
}

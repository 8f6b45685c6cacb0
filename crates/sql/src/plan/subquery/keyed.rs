//! OVER and LIMIT over rows that depend on the row around a query: computed for all rows that could be around it at once.
//!
//! Rules make joins of conditions that name columns of the row around, and those would be looked at after the rows are
//! numbered. So the rows are numbered for each value of what is compared with the row around:
//!
//! ```sql
//! LATERAL (SELECT w FROM b WHERE b.k = a.k ORDER BY w LIMIT 2)
//! -- becomes
//! LATERAL (SELECT w FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY w) AS n FROM b) WHERE n <= 2 AND k = a.k)
//! ```

use std::sync::Arc;

use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::{BinaryExpr, WindowFunction};
use datafusion::logical_expr::logical_plan::{
    Aggregate, Distinct, Filter, Limit, Projection, Sort, SubqueryAlias, Window,
};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use super::hoist::{as_before, beside};
use super::{numbered, place_below, reaches_out};
use crate::lower::place_of;
use crate::plan::tail::count;
use crate::plan::top;

/// Computes nodes for each key; the names of keys differ.
#[derive(Default)]
pub(super) struct Keyed {
    count: usize,
}

/// A plan without the conditions on the row around it, which are those of `conditions` on its columns `keys`.
struct Pulled {
    plan: LogicalPlan,
    keys: Vec<Column>,
    conditions: Vec<Condition>,
}

/// What a key has to be.
struct Condition {
    around: Expr,
    op: Operator,
}

impl Keyed {
    /// OVER or LIMIT over rows that depend on the row around them: the same rows, with the dependence above.
    pub(super) fn node(&mut self, node: &LogicalPlan) -> Result<LogicalPlan> {
        let Pulled { plan, keys, conditions } = self.pulled(node)?;
        let met = keys.into_iter().zip(conditions).map(|(key, Condition { around, op })| {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(Expr::Column(key)), op, Box::new(around)))
        });
        let plan = match met.reduce(Expr::and) {
            Some(met) => LogicalPlan::Filter(Filter::try_new(met, Arc::new(plan))?),
            None => plan,
        };
        as_before(plan, node.schema())
    }

    fn pulled(&mut self, plan: &LogicalPlan) -> Result<Pulled> {
        if !reaches_out(plan) {
            return Ok(Pulled { plan: plan.clone(), keys: vec![], conditions: vec![] });
        }
        let own = plan.expressions();
        if !matches!(plan, LogicalPlan::Filter(_)) && own.iter().any(Expr::contains_outer) {
            return Err(numbered(place_below(plan)));
        }
        match plan {
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                let Pulled { plan, keys, conditions } = self.pulled(input)?;
                let exprs = expr.iter().cloned().chain(keys.iter().cloned().map(Expr::Column)).collect();
                let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
                Ok(Pulled { plan, keys, conditions })
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                let Pulled { plan, keys, conditions } = self.pulled(input)?;
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.clone())?);
                let keys = keys.into_iter().map(|key| Column::new(Some(alias.clone()), key.name)).collect();
                Ok(Pulled { plan, keys, conditions })
            }
            LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. })
                if !group_expr.is_empty() && !group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) =>
            {
                let Pulled { plan, keys, conditions } = self.pulled(input)?;
                let group = group_expr.iter().cloned().chain(keys.iter().cloned().map(Expr::Column)).collect();
                let plan = Aggregate::try_new(Arc::new(plan), group, aggr_expr.clone())?;
                Ok(Pulled { plan: LogicalPlan::Aggregate(plan), keys, conditions })
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let Pulled { plan, keys, conditions } = self.pulled(input)?;
                Ok(Pulled { plan: LogicalPlan::Distinct(Distinct::All(Arc::new(plan))), keys, conditions })
            }
            LogicalPlan::Sort(Sort { expr, input, fetch: None }) => {
                let Pulled { plan, keys, conditions } = self.pulled(input)?;
                let plan = LogicalPlan::Sort(Sort { expr: expr.clone(), input: Arc::new(plan), fetch: None });
                Ok(Pulled { plan, keys, conditions })
            }
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Limit(Limit { skip, fetch, input }) => {
                let skip = skip.as_deref().map(count).transpose()?.unwrap_or(0) as i64;
                let fetch = fetch.as_deref().map(count).transpose()?.map(|fetch| fetch as i64);
                self.first(input, (skip, fetch))
            }
            other => Err(numbered(place_below(other))),
        }
    }

    /// A condition: what it compares with the row around is a key, the rest stays.
    fn filter(&mut self, Filter { predicate, input, .. }: &Filter) -> Result<Pulled> {
        let Pulled { plan, mut keys, mut conditions } = self.pulled(input)?;
        let mut stay = Vec::new();
        let mut columns = Vec::new();
        for part in split_conjunction_owned(predicate.clone()) {
            if !part.contains_outer() {
                stay.push(part);
                continue;
            }
            let place = place_of(&part);
            let Some((key, condition)) = compared(part) else { return Err(numbered(place)) };
            let name = format!("$key.{}", self.count);
            self.count += 1;
            columns.push(key.alias(name.as_str()));
            keys.push(Column::new_unqualified(name));
            conditions.push(condition);
        }
        let plan = match conjunction(stay) {
            Some(stay) => LogicalPlan::Filter(Filter::try_new(stay, Arc::new(plan))?),
            None => plan,
        };
        Ok(Pulled { plan: Arc::unwrap_or_clone(beside(Arc::new(plan), columns)?), keys, conditions })
    }

    /// Calls with OVER, each for the rows of a key.
    fn window(&mut self, Window { input, window_expr, .. }: &Window) -> Result<Pulled> {
        let Pulled { plan, keys, conditions } = self.pulled(input)?;
        let calls = window_expr.iter().map(|call| {
            let name = call.schema_name().to_string();
            match call.clone().unalias() {
                Expr::WindowFunction(function) => {
                    let WindowFunction { fun, mut params } = *function;
                    params.partition_by.extend(keys.iter().cloned().map(Expr::Column));
                    Ok(Expr::WindowFunction(Box::new(WindowFunction { fun, params })).alias(name))
                }
                _ => Err(numbered(place_below(input))),
            }
        });
        let window = Window::try_new(calls.collect::<Result<_>>()?, Arc::new(plan))?;
        Ok(Pulled { plan: LogicalPlan::Window(window), keys, conditions })
    }

    /// The first rows of each key in the order of the ORDER BY below projections.
    fn first(&mut self, plan: &LogicalPlan, range: (i64, Option<i64>)) -> Result<Pulled> {
        match plan {
            LogicalPlan::Sort(Sort { expr, input, fetch: None }) => {
                let Pulled { plan, keys, conditions } = self.pulled(input)?;
                let by = keys.iter().cloned().map(Expr::Column).collect();
                Ok(Pulled { plan: top::of_each(&Arc::new(plan), by, expr, range)?, keys, conditions })
            }
            LogicalPlan::Projection(Projection { expr, input, .. }) if !expr.iter().any(Expr::contains_outer) => {
                let Pulled { plan, keys, conditions } = self.first(input, range)?;
                let exprs = expr.iter().cloned().chain(keys.iter().cloned().map(Expr::Column)).collect();
                let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
                Ok(Pulled { plan, keys, conditions })
            }
            other => Err(numbered(place_below(other))),
        }
    }
}

/// A condition that compares a value of a row with one of the row around it: the first, and the rest.
fn compared(expr: Expr) -> Option<(Expr, Condition)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::IsNotDistinctFrom), right }) = expr
    else {
        return None;
    };
    let around = |expr: &Expr| expr.contains_outer() && expr.column_refs().is_empty();
    match (around(&left), around(&right)) {
        (true, false) if !right.contains_outer() => Some((*right, Condition { around: *left, op })),
        (false, true) if !left.contains_outer() => Some((*left, Condition { around: *right, op })),
        _ => None,
    }
}

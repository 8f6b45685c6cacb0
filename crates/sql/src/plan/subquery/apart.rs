//! Names of columns that are compared with the row around a query, kept apart from those of what it selects.
//!
//! Rules that make a join of a query add the columns of its conditions to what it selects. `SELECT g AS k FROM b WHERE
//! b.k = a.k` would have two columns k then.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::logical_plan::{Filter, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::hoist::beside;
use super::reaches_out;

/// Calls columns otherwise; the names differ.
#[derive(Default)]
pub(super) struct Apart {
    count: usize,
}

impl Apart {
    /// A projection whose names are not those of columns that its input compares with the row around it.
    pub(super) fn projection(&mut self, projection: Projection) -> Result<LogicalPlan> {
        let schema = &projection.schema;
        let names: BTreeSet<&String> =
            schema.iter().filter(|(qualifier, _)| qualifier.is_none()).map(|(_, field)| field.name()).collect();
        if names.is_empty() || !reaches_out(&projection.input) {
            return Ok(LogicalPlan::Projection(projection));
        }
        let input = projection.input.as_ref().clone().transform_down(|node| match node {
            LogicalPlan::Subquery(_) => Ok(Transformed::new(node, false, TreeNodeRecursion::Jump)),
            LogicalPlan::Filter(Filter { predicate, input, .. }) if predicate.contains_outer() => {
                let mut columns = Vec::new();
                let renamed = predicate.transform(|part| match part {
                    Expr::Column(column) if names.contains(&column.name) => {
                        let name = format!("$apart.{}", self.count);
                        self.count += 1;
                        columns.push(Expr::Column(column).alias(name.as_str()));
                        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                let any = renamed.transformed;
                let filter = Filter::try_new(renamed.data, beside(input, columns)?)?;
                Ok(Transformed::new(LogicalPlan::Filter(filter), any, TreeNodeRecursion::Continue))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let Projection { expr, .. } = projection;
        Ok(LogicalPlan::Projection(Projection::try_new(expr, Arc::new(input.data))?))
    }
}

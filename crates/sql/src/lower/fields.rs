//! Which fields of ROW columns queries need: a table of one ROW for each kind of event is decoded no further than asked.
//!
//! Demand goes from the top of a plan down to its scans. A column is demanded whole, or only some of its fields when
//! everything that names it takes a field of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use datafusion::common::{DFSchema, JoinType, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::expr::unaliased;
use crate::plan::assign::WindowAssign;
use crate::plan::lookup::{Lookup, ViewLookup};

/// What is needed of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// These fields of it; none means nothing.
    Fields(BTreeSet<String>),
    /// All of it.
    Whole,
}

impl Default for Demand {
    fn default() -> Self {
        Demand::Fields(BTreeSet::new())
    }
}

impl Demand {
    /// Adds another demand.
    pub(crate) fn and(&mut self, other: &Demand) {
        match (&mut *self, other) {
            (Demand::Fields(fields), Demand::Fields(more)) => fields.extend(more.iter().cloned()),
            _ => *self = Demand::Whole,
        }
    }

    /// The column with the fields that are needed.
    pub(crate) fn prune(&self, field: &Field) -> Field {
        let (Demand::Fields(needed), DataType::Struct(fields)) = (self, field.data_type()) else {
            return field.clone();
        };
        let kept: Fields = fields.iter().filter(|part| needed.contains(part.name())).map(Arc::clone).collect();
        if kept.is_empty() {
            return field.clone();
        }
        field.clone().with_data_type(DataType::Struct(kept))
    }
}

/// Hands every scan of a plan what is needed of its columns, all of the plan's own columns being needed whole.
pub(crate) fn demand(plan: &LogicalPlan, found: &mut impl FnMut(&TableScan, &[Demand])) -> Result<()> {
    let whole = vec![Demand::Whole; plan.schema().fields().len()];
    descend(plan, &whole, found)
}

fn descend(plan: &LogicalPlan, demanded: &[Demand], found: &mut impl FnMut(&TableScan, &[Demand])) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            found(scan, demanded);
            Ok(())
        }
        LogicalPlan::SubqueryAlias(alias) => descend(&alias.input, demanded, found),
        LogicalPlan::Filter(filter) => {
            let mut below = demanded.to_vec();
            uses(&filter.predicate, filter.input.schema(), &mut below)?;
            descend(&filter.input, &below, found)
        }
        LogicalPlan::Projection(projection) => {
            let schema = projection.input.schema();
            let mut below = vec![Demand::default(); schema.fields().len()];
            for (expr, demand) in projection.expr.iter().zip(demanded) {
                match unaliased(expr) {
                    Expr::Column(column) => below[schema.index_of_column(column)?].and(demand),
                    computed => uses(computed, schema, &mut below)?,
                }
            }
            descend(&projection.input, &below, found)
        }
        LogicalPlan::Join(join) => {
            let whole = join.left.schema().join(join.right.schema())?;
            let width = join.left.schema().fields().len();
            let mut both = vec![Demand::default(); whole.fields().len()];
            for (column, demand) in demanded.iter().enumerate() {
                match join.join_type {
                    JoinType::RightSemi | JoinType::RightAnti => both[width + column].and(demand),
                    // The mark is no column of a side.
                    JoinType::RightMark if column + width < both.len() => both[width + column].and(demand),
                    JoinType::LeftMark if column >= width => {}
                    JoinType::RightMark => {}
                    _ => both[column].and(demand),
                }
            }
            for expr in join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter) {
                uses(expr, &whole, &mut both)?;
            }
            descend(&join.left, &both[..width], found)?;
            descend(&join.right, &both[width..], found)
        }
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<WindowAssign>() => {
            for input in extension.node.inputs() {
                let mut below = demanded[..input.schema().fields().len()].to_vec();
                for expr in extension.node.expressions() {
                    uses(&expr, input.schema(), &mut below)?;
                }
                descend(input, &below, found)?;
            }
            Ok(())
        }
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<Lookup>() => {
            let Some(lookup) = extension.node.as_any().downcast_ref::<Lookup>() else { return Ok(()) };
            let mut all = demanded.to_vec();
            if let Some(residual) = &lookup.residual {
                uses(residual, &lookup.schema, &mut all)?;
            }
            all.truncate(lookup.input.schema().fields().len());
            for expr in extension.node.expressions() {
                uses(&expr, lookup.input.schema(), &mut all)?;
            }
            descend(&lookup.input, &all, found)
        }
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<ViewLookup>() => {
            let Some(lookup) = extension.node.as_any().downcast_ref::<ViewLookup>() else { return Ok(()) };
            let mut all = demanded.to_vec();
            for expr in lookup.equals.iter().map(|equal| &equal.equation).chain(&lookup.residual) {
                uses(expr, &lookup.schema, &mut all)?;
            }
            all.truncate(lookup.input.schema().fields().len());
            for expr in extension.node.expressions() {
                uses(&expr, lookup.input.schema(), &mut all)?;
            }
            descend(&lookup.input, &all, found)?;
            descend(&lookup.view, &vec![Demand::Whole; lookup.view.schema().fields().len()], found)
        }
        other => {
            for input in other.inputs() {
                let mut below = vec![Demand::default(); input.schema().fields().len()];
                match other {
                    LogicalPlan::Aggregate(aggregate) => {
                        for expr in aggregate.group_expr.iter().chain(&aggregate.aggr_expr) {
                            uses(expr, input.schema(), &mut below)?;
                        }
                    }
                    _ => below.fill(Demand::Whole),
                }
                descend(input, &below, found)?;
            }
            Ok(())
        }
    }
}

/// Adds what an expression needs of the columns of `schema`.
pub(crate) fn uses(expr: &Expr, schema: &DFSchema, demands: &mut [Demand]) -> Result<()> {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    expr.apply(|part| {
        if let Expr::Column(column) = part {
            demands[schema.index_of_column(column)?] = Demand::Whole;
            return Ok(TreeNodeRecursion::Continue);
        }
        let Some((column, field)) = field_of_column(part) else { return Ok(TreeNodeRecursion::Continue) };
        let Expr::Column(column) = column else { return Ok(TreeNodeRecursion::Continue) };
        demands[schema.index_of_column(column)?].and(&Demand::Fields([field.to_string()].into()));
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(())
}

/// `column.field`, when an expression is that.
fn field_of_column(expr: &Expr) -> Option<(&Expr, &str)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    match (func.name(), args.as_slice()) {
        ("get_field", [column, Expr::Literal(ScalarValue::Utf8(Some(field)), _), ..]) => {
            Some((unaliased(column), field))
        }
        _ => None,
    }
}

//! GROUPING SETS, ROLLUP and CUBE: one aggregate a set over the same rows, brought together by a union.
//!
//! Of a set's rows the columns of the other sets are null, and GROUPING is a number that is the same for all of them. As in
//! Flink no set has a row where there are no rows, the empty one neither.

use std::sync::Arc;

use datafusion::common::{Column, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection, Union};
use datafusion::logical_expr::{Expr, LogicalPlan, lit};

use super::{Builder, Lowered};
use crate::aggregate::grouping::{arguments, places, sets};
use crate::expr::unaliased;

/// What the rows of the empty set are grouped by.
const ALL: &str = "$all";

/// The most sets of one aggregate.
const SETS_MAX: usize = 4_096;

impl Builder<'_> {
    /// Lowers an aggregate over several sets of columns, or one that asks for GROUPING; none when it is neither.
    pub(super) fn grouping_sets(&mut self, aggregate: &Aggregate, origin: bool) -> Result<Option<Lowered>> {
        let several = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
        if !several && !aggregate.aggr_expr.iter().any(|call| arguments(call).is_some()) {
            return Ok(None);
        }
        let (sets, columns) = sets(&aggregate.group_expr)?;
        if sets.len() > SETS_MAX {
            return plan_err!("GROUP BY takes at most {SETS_MAX} sets of columns");
        }
        let mut inputs = Vec::with_capacity(sets.len());
        for set in &sets {
            inputs.push(Arc::new(of_set(aggregate, set, &columns, several)?));
        }
        if let [only] = inputs.as_slice() {
            return self.lower(only, origin).map(Some);
        }
        let union = LogicalPlan::Union(Union { inputs, schema: Arc::clone(&aggregate.schema) });
        self.lower(&union, origin).map(Some)
    }
}

/// The rows of one set, with the columns of the whole.
fn of_set(aggregate: &Aggregate, set: &[Expr], columns: &[Expr], several: bool) -> Result<LogicalPlan> {
    let calls: Vec<Expr> = aggregate.aggr_expr.iter().filter(|call| arguments(call).is_none()).cloned().collect();
    let mut groups: Vec<Expr> = Vec::new();
    for column in set {
        if !groups.contains(column) {
            groups.push(column.clone());
        }
    }
    let grouped = groups.len();
    if groups.is_empty() && several {
        groups.push(lit(true).alias(ALL));
    }
    let hidden = groups.len() - grouped;
    let below = Aggregate::try_new(Arc::clone(&aggregate.input), groups.clone(), calls)?;
    let given: Vec<Column> = below.schema.columns();
    let mut results = given.iter().skip(grouped + hidden);
    let mut fields = aggregate.schema.iter();
    let mut exprs = Vec::with_capacity(aggregate.schema.fields().len());
    let left_out = |column: &Expr| !groups[..grouped].contains(column);
    for (column, (qualifier, field)) in columns.iter().zip(fields.by_ref()) {
        let value = match groups[..grouped].iter().position(|group| group == column) {
            Some(place) => Expr::Column(given[place].clone()),
            None => Expr::Literal(ScalarValue::try_from(field.data_type())?, None),
        };
        exprs.push(value.alias_qualified(qualifier.cloned(), field.name()));
    }
    if several {
        let Some((_, field)) = fields.next() else { return internal_err!("sets without a number") };
        let bits = columns.iter().fold(0_i64, |bits, column| bits << 1 | i64::from(left_out(column)));
        let id = ScalarValue::Int64(Some(bits)).cast_to(field.data_type())?;
        exprs.push(Expr::Literal(id, None).alias(field.name()));
    }
    for (call, (qualifier, field)) in aggregate.aggr_expr.iter().zip(fields) {
        let value = match arguments(call) {
            Some(args) => {
                let places = places(args, columns)?;
                let bits = places.iter().fold(0_i64, |bits, place| bits << 1 | i64::from(left_out(&columns[*place])));
                Some(lit(bits))
            }
            None => results.next().cloned().map(Expr::Column),
        };
        let Some(value) = value else { return internal_err!("an aggregate has fewer columns than calls") };
        exprs.push(unaliased(&value).clone().alias_qualified(qualifier.cloned(), field.name()));
    }
    let below = LogicalPlan::Aggregate(below);
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below))?))
}

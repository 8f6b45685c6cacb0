//! GROUPING: which of the columns of GROUPING SETS, ROLLUP or CUBE a row is not grouped by.
//!
//! It is planned as an aggregate function and never runs as one. Within one set it is the same number for all rows, which
//! [`crate::lower`] puts in its place; the batch oracle reads it off the number of the set, as DataFusion counts them.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::{Column, Result, internal_err, plan_err};
use datafusion::logical_expr::expr::{BinaryExpr, GroupingSet};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Signature,
    Volatility, cast, lit,
};

use crate::expr::unaliased;

/// The names of the function.
pub(crate) const NAMES: [&str; 2] = ["grouping", "grouping_id"];

/// The most columns whose bits a BIGINT holds.
const COLUMNS_MAX: usize = 63;

/// The function, as DataFusion sees it.
pub(super) fn function() -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(Grouping { signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Grouping {
    signature: Signature,
}

impl AggregateUDFImpl for Grouping {
    fn name(&self) -> &str {
        NAMES[0]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types.len() {
            0 => plan_err!("GROUPING takes columns of GROUP BY"),
            1..=COLUMNS_MAX => Ok(types.to_vec()),
            _ => plan_err!("GROUPING takes at most {COLUMNS_MAX} columns"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        internal_err!("GROUPING is still in a plan of DataFusion's")
    }
}

/// The arguments, when a call is one of GROUPING.
pub(crate) fn arguments(call: &Expr) -> Option<&[Expr]> {
    match unaliased(call) {
        Expr::AggregateFunction(call) if call.func.name() == NAMES[0] => Some(&call.params.args),
        _ => None,
    }
}

/// The sets that an aggregate groups by, and all their columns as they follow in its output.
pub(crate) fn sets(groups: &[Expr]) -> Result<(Vec<Vec<Expr>>, Vec<Expr>)> {
    let [Expr::GroupingSet(grouping)] = groups else { return Ok((vec![groups.to_vec()], groups.to_vec())) };
    let columns: Vec<Expr> = grouping.distinct_expr().into_iter().cloned().collect();
    let sets = match grouping {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(columns) => (0..=columns.len()).rev().map(|count| columns[..count].to_vec()).collect(),
        GroupingSet::Cube(columns) => {
            if columns.len() > 12 {
                return plan_err!("CUBE takes at most 12 columns");
            }
            let chosen = |bits: usize| {
                let in_set = columns.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
                in_set.map(|(_, column)| column.clone()).collect()
            };
            (0..1 << columns.len()).rev().map(chosen).collect()
        }
    };
    Ok((sets, columns))
}

/// The places among the columns of GROUP BY of what GROUPING is asked of.
pub(crate) fn places(args: &[Expr], columns: &[Expr]) -> Result<Vec<usize>> {
    let place = |arg: &Expr| {
        let found = columns.iter().position(|column| unaliased(column) == unaliased(arg));
        found.map_or_else(|| plan_err!("GROUPING takes columns of GROUP BY"), Ok)
    };
    args.iter().map(place).collect()
}

/// The same aggregate for DataFusion: GROUPING computed from the number of the set.
pub(crate) fn resolved(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    if !aggregate.aggr_expr.iter().any(|call| arguments(call).is_some()) {
        return Ok(None);
    }
    let (_, columns) = sets(&aggregate.group_expr)?;
    let several = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let calls: Vec<Expr> = aggregate.aggr_expr.iter().filter(|call| arguments(call).is_none()).cloned().collect();
    let groups = aggregate.group_expr.clone();
    let below = LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(&aggregate.input), groups, calls)?);
    let mut found = below.schema().columns().into_iter().map(Expr::Column);
    let mut exprs: Vec<Expr> = found.by_ref().take(columns.len() + usize::from(several)).collect();
    let fields: Vec<_> = aggregate.schema.iter().skip(exprs.len()).collect();
    let id = || cast(Expr::Column(Column::from_name(Aggregate::INTERNAL_GROUPING_ID)), DataType::Int64);
    let binary = |left: Expr, op: Operator, right: Expr| {
        Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
    };
    for (call, (qualifier, field)) in aggregate.aggr_expr.iter().zip(fields) {
        let value = match arguments(call) {
            None => found.next(),
            Some(_) if !several => Some(lit(0_i64)),
            Some(args) => {
                let bits = places(args, &columns)?.into_iter().map(|place| {
                    let shifted = binary(id(), Operator::Divide, lit(1_i64 << (columns.len() - 1 - place)));
                    binary(shifted, Operator::Modulo, lit(2_i64))
                });
                bits.reduce(|all, bit| binary(binary(all, Operator::Multiply, lit(2_i64)), Operator::Plus, bit))
            }
        };
        let Some(value) = value else { return internal_err!("an aggregate has fewer columns than calls") };
        exprs.push(value.alias_qualified(qualifier.cloned(), field.name()));
    }
    Ok(Some(LogicalPlanBuilder::from(below).project(exprs)?.build()?))
}

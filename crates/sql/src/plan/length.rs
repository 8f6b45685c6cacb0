//! Lengths of texts and bytes: what is cut or filled when a query is inserted into CHAR(n), VARCHAR(n) or their like.
//!
//! As in Flink, an INSERT casts a column whose type is another one, and takes the length of a type on trust: what a
//! source declares as CHAR(5) goes into CHAR(5) as it came. Columns do not carry their lengths ([`crate::types`]), so
//! where one comes from is looked up in the plan; what is not known there is as long as it likes.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::logical_plan::{Distinct, Filter, Projection, SubqueryAlias, TableScan, Union};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};

use super::assign::WindowAssign;
use super::unnest::Unnest;
use crate::expr::unaliased;
use crate::types::{TypeKind, parse_text};

/// The type with a length that a table's column was declared with, by table and place.
pub(super) type Declared<'d> = &'d dyn Fn(&str, usize) -> Option<TypeKind>;

/// The type when it has a length.
pub(super) fn with_length(kind: &TypeKind) -> Option<TypeKind> {
    use TypeKind::{Binary, Char, Varbinary, Varchar};
    matches!(kind, Char(_) | Varchar(Some(_)) | Binary(_) | Varbinary(Some(_))).then(|| kind.clone())
}

/// Whether what column `index` of a plan holds goes into a column of type `target` as it is.
pub(super) fn fits(plan: &LogicalPlan, index: usize, target: &TypeKind, declared: Declared<'_>) -> bool {
    use TypeKind::{Binary, Char, Varbinary, Varchar};
    let Some(source) = of_column(plan, index, declared) else { return false };
    match (&source, target) {
        (Char(size) | Varchar(Some(size)), Varchar(Some(most)))
        | (Binary(size) | Varbinary(Some(size)), Varbinary(Some(most))) => size <= most,
        _ => source == *target,
    }
}

fn of_column(plan: &LogicalPlan, index: usize, declared: Declared<'_>) -> Option<TypeKind> {
    let below = |input: &LogicalPlan, index: usize| of_column(input, index, declared);
    match plan {
        LogicalPlan::Projection(Projection { expr, input, .. }) => of_expr(expr.get(index)?, input, declared),
        LogicalPlan::Filter(Filter { input, .. }) => below(input, index),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => below(input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => below(input, index),
        LogicalPlan::Aggregate(aggregate) => of_expr(aggregate.group_expr.get(index)?, &aggregate.input, declared),
        LogicalPlan::TableScan(TableScan { table_name, projection, .. }) => {
            let place = projection.as_ref().map_or(Some(index), |places| places.get(index).copied())?;
            declared(table_name.table(), place)
        }
        LogicalPlan::Union(Union { inputs, .. }) => {
            let mut kinds = inputs.iter().map(|input| below(input, index));
            let first = kinds.next()??;
            kinds.all(|kind| kind.as_ref() == Some(&first)).then_some(first)
        }
        LogicalPlan::Extension(Extension { node }) => {
            let assigned = node.as_any().downcast_ref::<WindowAssign>().map(|assign| &assign.input);
            let input = assigned.or_else(|| node.as_any().downcast_ref::<Unnest>().map(|unnest| &unnest.input))?;
            (index < input.schema().fields().len()).then(|| below(input, index))?
        }
        _ => None,
    }
}

fn of_expr(expr: &Expr, input: &LogicalPlan, declared: Declared<'_>) -> Option<TypeKind> {
    match unaliased(expr) {
        Expr::Column(column) => of_column(input, input.schema().index_of_column(column).ok()?, declared),
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(TypeKind::Char(text.chars().count().try_into().ok()?)),
        Expr::ScalarFunction(call) if matches!(call.func.name(), "$cast" | "$try_cast") => match call.args.get(1)? {
            Expr::Literal(ScalarValue::Utf8(Some(target)), _) => with_length(&parse_text(target).ok()?.kind),
            _ => None,
        },
        _ => None,
    }
}

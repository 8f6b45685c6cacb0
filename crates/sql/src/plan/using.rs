//! NATURAL joins, and USING where SQL's planner takes the wrong column: columns of both sides that are one column of the joined rows.
//!
//! SQL's planner takes the left side's column for both, which is NULL where the left side has no row. So the one column is
//! computed, under a qualifier that no text can name: it is found by its name alone.

use datafusion::common::{Column, DFSchema, JoinType, Result, TableReference, internal_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, Spanned, TableFactor, TableWithJoins,
};
use tidemill_base::Position;

use super::relation::column;
use crate::catalog::outside;
use crate::error::Error;
use crate::rewrite::{MERGED, merging};

/// The rows of joined tables, of which the last join makes one of columns of both sides.
pub(super) fn merged(tables: TableWithJoins, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let TableWithJoins { relation, mut joins } = tables;
    let Some(Join { relation: right, global: _, join_operator }) = joins.pop() else {
        return internal_err!("a join without a join");
    };
    let left = match joins.is_empty() {
        true => relation,
        false => {
            TableFactor::NestedJoin { table_with_joins: Box::new(TableWithJoins { relation, joins }), alias: None }
        }
    };
    let start = right.span().start;
    let position = (start.line > 0).then_some(Position { line: start.line, column: start.column });
    let (left, right) = (context.plan(left)?, context.plan(right)?);
    joined(left, right, &join_operator, position, context)
}

fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    operator: &JoinOperator,
    position: Option<Position>,
    context: &dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let names = match merging(operator) {
        Some(JoinConstraint::Using(names)) => names.iter().filter_map(ident).collect(),
        _ => shared(left.schema(), right.schema()),
    };
    if names.is_empty() {
        return Err(outside(Error::Plan {
            problem: "NATURAL JOIN of two sides that have no column in common".to_string(),
            position,
            help: Some("write ON with what has to be true, or CROSS JOIN".to_string()),
        }));
    }
    let mut keys = Vec::with_capacity(names.len());
    for name in &names {
        keys.push((key(name, left.schema(), position)?, key(name, right.schema(), position)?));
    }
    let kind = match operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => JoinType::Right,
        JoinOperator::FullOuter(_) => JoinType::Full,
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => JoinType::Left,
        _ => JoinType::Inner,
    };
    let qualifier = unused(left.schema(), right.schema());
    let of = |schema: &DFSchema| schema.columns();
    let mut columns = Vec::new();
    for field in of(left.schema()) {
        columns.push(match keys.iter().find(|(ours, _)| ours.flat_name() == field.flat_name()) {
            Some((ours, theirs)) => {
                one_of(kind, ours, theirs, context)?.alias_qualified(Some(qualifier.clone()), &ours.name)
            }
            None => Expr::Column(field),
        });
    }
    let others = of(right.schema()).into_iter();
    let others = others.filter(|field| keys.iter().all(|(_, theirs)| theirs.flat_name() != field.flat_name()));
    columns.extend(others.map(Expr::Column));
    let equal = keys.into_iter().map(|(ours, theirs)| Expr::Column(ours).eq(Expr::Column(theirs)));
    LogicalPlanBuilder::from(left).join_on(right, kind, equal)?.project(columns)?.build()
}

/// The one column of this name.
fn key(name: &Ident, schema: &DFSchema, position: Option<Position>) -> Result<Column> {
    if schema.qualified_fields_with_unqualified_name(&name.value).len() < 2 {
        return column(name, schema);
    }
    Err(outside(Error::Plan {
        problem: format!("the column {} is in more than one of the tables on one side of the join", name.value),
        position,
        help: Some("write ON, and name the table too".to_string()),
    }))
}

/// The value of either side, of those that are equal where both are there.
fn one_of(kind: JoinType, ours: &Column, theirs: &Column, context: &dyn RelationPlannerContext) -> Result<Expr> {
    let sides = [ours, theirs].map(|column| Expr::Column(column.clone()));
    let [ours, theirs] = sides;
    match kind {
        JoinType::Right => Ok(theirs),
        JoinType::Full => match context.context_provider().get_function_meta("coalesce") {
            Some(coalesce) => Ok(coalesce.call(vec![ours, theirs])),
            None => internal_err!("there is no COALESCE"),
        },
        _ => Ok(ours),
    }
}

/// The names of columns that both sides have, in the order of the left side.
fn shared(left: &DFSchema, right: &DFSchema) -> Vec<Ident> {
    let there = |name: &str| right.fields().iter().any(|field| field.name() == name);
    let names = left.fields().iter().map(|field| field.name()).filter(|name| there(name));
    names.map(|name| Ident::with_quote('`', name)).collect()
}

fn ident(name: &ObjectName) -> Option<Ident> {
    name.0.first().and_then(|part| part.as_ident()).cloned()
}

/// A qualifier that neither side has: a join inside a join has one too.
fn unused(left: &DFSchema, right: &DFSchema) -> TableReference {
    let taken = |name: &str| {
        let mut qualifiers = left.iter().chain(right.iter()).filter_map(|(qualifier, _)| qualifier);
        qualifiers.any(|qualifier| qualifier.table() == name)
    };
    let mut names = (0..).map(|number| format!("{MERGED}.{number}"));
    TableReference::bare(names.find(|name| !taken(name)).unwrap_or_default())
}

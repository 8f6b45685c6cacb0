//! Joins whose columns of both sides become one: each stands in brackets of its own, with what is to its left, under a name
//! by which the planner of relations knows it.
//!
//! ```sql
//! FROM a JOIN b ON a.x = b.x NATURAL JOIN c JOIN d ON c.y = d.y
//! -- becomes
//! FROM (a JOIN b ON a.x = b.x NATURAL JOIN c) AS `$merged` JOIN d ON c.y = d.y
//! ```
//!
//! USING of inner and left joins is left to SQL's planner, unless more of its kind follow: it would not know which of the
//! columns is meant then.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, TableAlias, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};

/// What brackets are called around a join that makes one of columns of both sides.
pub(crate) const MERGED: &str = "$merged";

/// What makes columns of both sides one, if the join does so.
pub(crate) fn merging(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator::{FullOuter, Inner, Left, LeftOuter, Right, RightOuter};
    match operator {
        JoinOperator::Join(constraint)
        | Inner(constraint)
        | Left(constraint)
        | LeftOuter(constraint)
        | Right(constraint)
        | RightOuter(constraint)
        | FullOuter(constraint) => {
            Some(constraint).filter(|of| matches!(of, JoinConstraint::Natural | JoinConstraint::Using(_)))
        }
        _ => None,
    }
}

/// Rewrites the FROM clause of a query, and what WHERE says of columns that it makes one.
pub(super) fn select(select: &mut Select) {
    select.from.iter_mut().for_each(bracketed);
    if let ([tables], Some(filter)) = (select.from.as_slice(), &mut select.selection) {
        named(tables, filter);
    }
}

/// Names the table too of columns of USING that SQL's planner makes one: it does so everywhere but in WHERE.
fn named(tables: &TableWithJoins, filter: &mut Expr) {
    let mut columns: Vec<(&Ident, &Ident)> = Vec::new();
    for (index, join) in tables.joins.iter().enumerate() {
        let Some(JoinConstraint::Using(names)) = merging(&join.join_operator) else { continue };
        // Both sides' are equal, or the left side's is the one that is there.
        let table = match join.join_operator {
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) if index > 0 => None,
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => called(&tables.relation),
            _ => called(&join.relation),
        };
        let names = names.iter().filter_map(|name| name.0.first().and_then(|part| part.as_ident()));
        columns.extend(table.into_iter().flat_map(|table| names.clone().map(move |name| (table, name))));
    }
    struct Named<'c>(Vec<(&'c Ident, &'c Ident)>, usize);
    impl VisitorMut for Named<'_> {
        type Break = ();

        fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
            self.1 += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
            self.1 -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let (Expr::Identifier(name), 0) = (&*expr, self.1)
                && let Some((table, _)) = self.0.iter().find(|(_, column)| column.value == name.value)
            {
                let table = Ident { span: name.span, ..(*table).clone() };
                *expr = Expr::CompoundIdentifier(vec![table, name.clone()]);
            }
            ControlFlow::Continue(())
        }
    }
    if !columns.is_empty() {
        let _ = filter.visit(&mut Named(columns, 0));
    }
}

/// What a query calls a table.
fn called(factor: &TableFactor) -> Option<&Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. } => Some(&alias.name),
        TableFactor::Table { name, alias: None, .. } => name.0.last().and_then(|part| part.as_ident()),
        _ => None,
    }
}

/// Rewrites joins that stand in brackets.
pub(super) fn factor(factor: &mut TableFactor) {
    if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
        bracketed(table_with_joins);
    }
}

/// Puts brackets around each such join and what is to its left.
fn bracketed(tables: &mut TableWithJoins) {
    let mut joins = std::mem::take(&mut tables.joins);
    while !joins.is_empty() {
        let rest = joins.split_off(1);
        let merges = |join: &Join| merging(&join.join_operator).is_some();
        let merged = joins.iter().any(|join| is_ours(&join.join_operator, rest.iter().any(merges)));
        tables.joins.append(&mut joins);
        if merged {
            let alias = TableAlias { explicit: true, name: Ident::with_quote('`', MERGED), columns: vec![], at: None };
            let inner = TableWithJoins { relation: tables.relation.clone(), joins: std::mem::take(&mut tables.joins) };
            tables.relation = TableFactor::NestedJoin { table_with_joins: Box::new(inner), alias: Some(alias) };
        }
        joins = rest;
    }
}

/// Whether SQL's planner would take another column than is meant; `more` says whether others of its kind follow.
fn is_ours(operator: &JoinOperator, more: bool) -> bool {
    use JoinOperator::{FullOuter, Right, RightOuter};
    match merging(operator) {
        Some(JoinConstraint::Using(_)) => more || matches!(operator, Right(_) | RightOuter(_) | FullOuter(_)),
        natural => natural.is_some(),
    }
}

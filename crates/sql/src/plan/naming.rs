//! The names of columns that a query does not name: a field's own name, `EXPR$n` for expressions, as in Flink.
//!
//! `SELECT bid.price` of a ROW column `bid` gives `price`; a column that is selected twice is `price` and `price0`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Select, SelectItem, Statement, TableAlias, TableFactor, VisitMut, VisitorMut, visit_relations,
};
use tidemill_base::Position;

/// Names every column of every SELECT in a query.
pub(crate) fn name(query: &mut Query) {
    let _ = query.visit(&mut Namer);
}

struct Namer;

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let tables = tables(select);
        let mut taken: BTreeSet<String> = select.projection.iter().filter_map(given).collect();
        let mut seen = BTreeSet::new();
        for (index, item) in select.projection.iter_mut().enumerate() {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            let (wanted, as_it_is) = match expr {
                Expr::Identifier(ident) => (ident.clone(), true),
                Expr::CompoundIdentifier(path) if !path.is_empty() => {
                    let column = path.len() == 2 && tables.contains(&path[0].value);
                    (path[path.len() - 1].clone(), column)
                }
                _ => (Ident::new(format!("EXPR${index}")), false),
            };
            let mut name = wanted.value.clone();
            if !seen.insert(name.clone()) {
                name = (0..)
                    .map(|count| format!("{}{count}", wanted.value))
                    .find(|name| !taken.contains(name))
                    .unwrap_or(name);
                seen.insert(name.clone());
            } else if as_it_is {
                continue;
            }
            taken.insert(name.clone());
            let alias = Ident { value: name, quote_style: None, span: wanted.span };
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        ControlFlow::Continue(())
    }
}

/// Where FROM first names a table.
pub(crate) fn place(statement: &Statement, table: &str) -> Option<Position> {
    let found = visit_relations(statement, |name| match name.0.last().and_then(|part| part.as_ident()) {
        Some(last) if last.value == table && last.span.start.line > 0 => ControlFlow::Break(last.span.start),
        _ => ControlFlow::Continue(()),
    });
    found.break_value().map(|start| Position { line: start.line, column: start.column })
}

/// The name that an item of SELECT has already.
fn given(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        _ => None,
    }
}

/// What the tables of FROM are called.
fn tables(select: &Select) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for from in &select.from {
        for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
            let alias = match factor {
                TableFactor::Table { alias, .. }
                | TableFactor::Derived { alias, .. }
                | TableFactor::TableFunction { alias, .. }
                | TableFactor::Function { alias, .. }
                | TableFactor::UNNEST { alias, .. } => alias.as_ref(),
                _ => None,
            };
            match (alias, factor) {
                (Some(TableAlias { name, .. }), _) => names.extend([name.value.clone()]),
                (None, TableFactor::Table { name, .. }) => {
                    names.extend(name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone()));
                }
                _ => {}
            }
        }
    }
    names
}

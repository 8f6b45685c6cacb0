//! `TABLE_VERSION(b)` names a lookup of its own SELECT: the name becomes a text, under a function no text can name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SetExpr,
    Spanned, TableFactor, TableVersion, Value, VisitMut, VisitorMut,
};
use tidemill_base::Position;

use crate::error::Error;
use crate::plan::table_version::MARKER;

/// Rewrites the calls in a SELECT whose inner queries are rewritten already.
pub(super) fn select(select: &mut Select, start: Position) -> ControlFlow<Error> {
    let lookups = lookups(select);
    select.visit(&mut Versions { lookups, start })
}

/// Rewrites the calls in ORDER BY.
pub(super) fn query(query: &mut Query, start: Position) -> ControlFlow<Error> {
    let lookups = match query.body.as_ref() {
        SetExpr::Select(select) => lookups(select),
        _ => vec![],
    };
    match &mut query.order_by {
        Some(order_by) => order_by.visit(&mut Versions { lookups, start }),
        None => ControlFlow::Continue(()),
    }
}

/// What FROM calls its lookups.
fn lookups(select: &Select) -> Vec<String> {
    let factors = select.from.iter().flat_map(|from| from.joins.iter().map(|join| &join.relation));
    let named = factors.filter_map(|factor| match factor {
        TableFactor::Table { name, alias, version: Some(TableVersion::ForSystemTimeAsOf(_)), .. } => {
            let own = name.0.last().and_then(|part| part.as_ident());
            alias.as_ref().map(|alias| &alias.name).or(own).map(|name| name.value.clone())
        }
        _ => None,
    });
    named.collect()
}

struct Versions {
    lookups: Vec<String>,
    start: Position,
}

impl VisitorMut for Versions {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if !function.name.to_string().eq_ignore_ascii_case("TABLE_VERSION") {
            return ControlFlow::Continue(());
        }
        let named = function.name.span().start;
        let at = Position { line: named.line, column: named.column };
        let position = Some(if at.line > 0 { at } else { self.start });
        let Some(name) = argument(function) else {
            let problem = "TABLE_VERSION takes what FROM calls a lookup".to_string();
            let help = Some("write TABLE_VERSION(b) for JOIN t FOR SYSTEM_TIME AS OF PROCTIME() AS b".to_string());
            return ControlFlow::Break(Error::Plan { problem, position, help });
        };
        if !self.lookups.contains(&name) {
            let help = match self.lookups.as_slice() {
                [] => format!(
                    "join it here: JOIN {name} FOR SYSTEM_TIME AS OF PROCTIME() ON .., or select it in the query that does"
                ),
                known => format!("the lookups here are {}", known.join(", ")),
            };
            let problem = format!("TABLE_VERSION({name}) needs a lookup called {name} in FROM of its own SELECT");
            return ControlFlow::Break(Error::Plan { problem, position, help: Some(help) });
        }
        function.name = ObjectName::from(vec![Ident::new(MARKER)]);
        if let FunctionArguments::List(list) = &mut function.args {
            let text = Expr::Value(Value::SingleQuotedString(name).into());
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(text))];
        }
        ControlFlow::Continue(())
    }
}

/// The only argument, when it is a name and nothing stands besides.
fn argument(function: &Function) -> Option<String> {
    let Function { name: _, uses_odbc_syntax: _, parameters: _, args, filter, null_treatment, over, within_group } =
        function;
    let plain = filter.is_none() && null_treatment.is_none() && over.is_none() && within_group.is_empty();
    match args {
        FunctionArguments::List(list) if plain && list.clauses.is_empty() && list.duplicate_treatment.is_none() => {
            match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)))] => Some(name.value.clone()),
                _ => None,
            }
        }
        _ => None,
    }
}

//! Group windows as window table functions.
//!
//! ```sql
//! SELECT k, TUMBLE_START(ts, INTERVAL '1' HOUR), COUNT(*) FROM t GROUP BY k, TUMBLE(ts, INTERVAL '1' HOUR)
//! -- becomes
//! SELECT k, window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) AS t
//! GROUP BY k, window_start, window_end
//! ```
//!
//! A group window of sessions has sessions for each value of the other keys, and only of rows that pass WHERE; so the
//! other keys become PARTITION BY, and the filter moves under the window.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
    WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use tidemill_base::Position;

use super::plain_query;
use crate::dialect::{plain_call, table_argument, window_call};
use crate::error::Error;
use crate::statement::{name_start, start_of};

const WINDOWS: [&str; 3] = ["TUMBLE", "HOP", "SESSION"];
const PARTS: [(&str, &str); 4] =
    [("START", "window_start"), ("END", "window_end"), ("ROWTIME", "window_time"), ("PROCTIME", "window_time")];

/// A group window, as it stands in GROUP BY.
struct Window {
    name: &'static str,
    args: Vec<Expr>,
    position: Position,
    span: Span,
}

/// Rewrites the group window of a query, if it has one.
pub(super) fn select(select: &mut Select, start: Position) -> Result<(), Error> {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return Ok(()) };
    let mut windows = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        if let Some(window) = window(key, start) {
            windows.push((index, window));
        }
    }
    if let Some((_, second)) = windows.get(1) {
        return Err(wrong("a query has one group window only", second.position, "compute the other one in a view"));
    }
    match windows.pop() {
        Some((index, window)) => rewrite(select, index, &window, start),
        None => stray(select, start),
    }
}

fn rewrite(select: &mut Select, index: usize, window: &Window, start: Position) -> Result<(), Error> {
    let time_used = replace_parts(select, window, start)?;
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return Ok(()) };
    let ident = |name: &str| Expr::Identifier(Ident::with_span(window.span, name));
    let mut columns = vec![ident("window_start"), ident("window_end")];
    if time_used {
        columns.push(ident("window_time"));
    }
    keys.splice(index..=index, columns.iter().cloned());
    let others: Vec<Expr> = keys.iter().filter(|key| !columns.contains(key)).cloned().collect();
    let partition_by = if window.name == "SESSION" { partition(&others, window)? } else { vec![] };
    let factor = source(select, window, partition_by)?;
    if let Some(Err(error)) = window_call(&factor) {
        return Err(error);
    }
    select.from = vec![TableWithJoins { relation: factor, joins: vec![] }];
    Ok(())
}

/// The window table function over what the query read before.
fn source(select: &mut Select, window: &Window, partition_by: Vec<Expr>) -> Result<TableFactor, Error> {
    let [TableWithJoins { relation, joins }] = select.from.as_slice() else {
        return Err(wrong("a group window needs a FROM with one table", window.position, "name one table in FROM"));
    };
    if !joins.is_empty() {
        let help = "put the joined rows into a view, and group that";
        return Err(wrong("a group window reads one table, view or query", window.position, help));
    }
    let filter_first = window.name == "SESSION" && select.selection.is_some();
    let (input, alias) = match relation {
        TableFactor::Table { name, alias, args: None, with_hints, .. } => {
            let alias = alias.clone().or_else(|| named(name));
            let plain = with_hints.is_empty() && !filter_first;
            (plain.then(|| FunctionArguments::List(argument(name))), alias)
        }
        TableFactor::Derived { subquery, alias, .. } if !filter_first && no_columns(alias.as_ref()) => {
            (Some(FunctionArguments::Subquery(subquery.clone())), alias.clone())
        }
        TableFactor::Derived { alias, .. } | TableFactor::TableFunction { alias, .. } => (None, alias.clone()),
        _ => {
            let help = "put it into a view, and group that";
            return Err(wrong("a group window reads one table, view or query", window.position, help));
        }
    };
    let input = match input {
        Some(input) => input,
        None => {
            let filter = if filter_first { select.selection.take() } else { None };
            FunctionArguments::Subquery(Box::new(everything(select, filter)))
        }
    };
    let alias = alias.map(|alias| TableAlias { columns: vec![], ..alias });
    let [time, durations @ ..] = window.args.as_slice() else {
        return Err(needs_arguments(window));
    };
    let mut data = table_argument(window.span, input);
    if let (Expr::Function(data), false) = (&mut data, partition_by.is_empty()) {
        let spec = WindowSpec { window_name: None, partition_by, order_by: vec![], window_frame: None };
        data.over = Some(WindowType::WindowSpec(spec));
    }
    let mut args = vec![data, plain_call("DESCRIPTOR", window.span, vec![time.clone()])];
    args.extend(durations.iter().cloned());
    Ok(TableFactor::TableFunction { expr: plain_call(window.name, window.span, args), alias })
}

/// `SELECT * FROM` what the query reads, with a filter.
fn everything(select: &Select, filter: Option<Expr>) -> Query {
    let mut inner = select.clone();
    inner.projection = vec![SelectItem::Wildcard(Default::default())];
    inner.selection = filter;
    inner.group_by = GroupByExpr::Expressions(vec![], vec![]);
    inner.having = None;
    inner.distinct = None;
    plain_query(SetExpr::Select(Box::new(inner)))
}

fn argument(name: &ObjectName) -> FunctionArgumentList {
    let path: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident()).cloned().collect();
    let expr = match path.as_slice() {
        [name] => Expr::Identifier(name.clone()),
        _ => Expr::CompoundIdentifier(path),
    };
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))];
    FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }
}

fn named(name: &ObjectName) -> Option<TableAlias> {
    let name = name.0.last()?.as_ident()?.clone();
    Some(TableAlias { explicit: true, name, columns: vec![], at: None })
}

fn no_columns(alias: Option<&TableAlias>) -> bool {
    alias.is_none_or(|alias| alias.columns.is_empty())
}

/// The other keys, which have to be columns to have sessions of their own.
fn partition(keys: &[Expr], window: &Window) -> Result<Vec<Expr>, Error> {
    let column = |key: &Expr| match key {
        Expr::Identifier(_) => Ok(key.clone()),
        Expr::CompoundIdentifier(path) if path.len() == 2 => Ok(Expr::Identifier(path[1].clone())),
        other => {
            let help = "compute the key in a view, and group by its name";
            Err(wrong("beside SESSION only columns can be grouped by", start_of(other, window.position), help))
        }
    };
    keys.iter().map(column).collect()
}

/// Replaces `TUMBLE_START(..)` and its like; tells whether the window's time is used.
fn replace_parts(select: &mut Select, window: &Window, start: Position) -> Result<bool, Error> {
    let mut time_used = false;
    let signature = |args: &[Expr]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut replace = |expr: &mut Expr| {
        let Some((name, part, call)) = part(expr, start) else { return ControlFlow::Continue(()) };
        if name != window.name || signature(&call.args) != signature(&window.args) {
            let problem = format!("{name}_{part} is of another window than the {} in GROUP BY", window.name);
            let help = format!("write {}_{part} with the same arguments as {} in GROUP BY", window.name, window.name);
            return ControlFlow::Break(wrong(&problem, call.position, &help));
        }
        let column = PARTS.iter().find(|(known, _)| *known == part).map_or("window_time", |(_, column)| column);
        time_used |= column == "window_time";
        *expr = Expr::Identifier(Ident::with_span(call.span, column));
        ControlFlow::Continue(())
    };
    let mut visit = |expr: &mut Expr| visit_own(expr, &mut replace);
    let mut broken = ControlFlow::Continue(());
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } if broken.is_continue() => {
                broken = visit(expr);
            }
            _ => {}
        }
    }
    if let (Some(having), true) = (&mut select.having, broken.is_continue()) {
        broken = visit(having);
    }
    if let ControlFlow::Break(error) = broken {
        return Err(error);
    }
    stray(select, start)?;
    Ok(time_used)
}

/// Refuses window functions where no window is.
fn stray(select: &mut Select, start: Position) -> Result<(), Error> {
    let mut check = |expr: &mut Expr| {
        let (name, call, help) = match (part(expr, start), window(expr, start)) {
            (Some((name, part, call)), _) => (format!("{name}_{part}"), call, format!("add GROUP BY {name}(ts, ...)")),
            (None, Some(call)) => {
                let help =
                    format!("write {0}_START(ts, ...) for the window that GROUP BY {0}(ts, ...) makes", call.name);
                (call.name.to_string(), call, help)
            }
            (None, None) => return ControlFlow::Continue(()),
        };
        let problem = format!("{name} has no group window to belong to here");
        let help = format!("{help}, or use the window table function in FROM");
        ControlFlow::Break(wrong(&problem, call.position, &help))
    };
    let projected = select.projection.iter_mut().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    for expr in projected.chain(&mut select.selection).chain(&mut select.having) {
        if let ControlFlow::Break(error) = visit_own(expr, &mut check) {
            return Err(error);
        }
    }
    Ok(())
}

/// Visits an expression and its parts, but for those of queries in it: they have windows of their own.
fn visit_own(expr: &mut Expr, visit: impl FnMut(&mut Expr) -> ControlFlow<Error>) -> ControlFlow<Error> {
    struct Own<F> {
        queries: usize,
        visit: F,
    }
    impl<F: FnMut(&mut Expr) -> ControlFlow<Error>> VisitorMut for Own<F> {
        type Break = Error;

        fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            if self.queries == 0 { (self.visit)(expr) } else { ControlFlow::Continue(()) }
        }
    }
    expr.visit(&mut Own { queries: 0, visit })
}

/// `TUMBLE(ts, ..)`.
fn window(expr: &Expr, start: Position) -> Option<Window> {
    let (name, call) = call(expr, start)?;
    let name = WINDOWS.iter().find(|window| window.eq_ignore_ascii_case(&name))?;
    Some(Window { name, ..call })
}

/// `TUMBLE_START(ts, ..)` as `TUMBLE`, `START`.
fn part(expr: &Expr, start: Position) -> Option<(&'static str, &'static str, Window)> {
    let (name, call) = call(expr, start)?;
    let upper = name.to_ascii_uppercase();
    let (window, part) = upper.split_once('_')?;
    let window = *WINDOWS.iter().find(|known| **known == window)?;
    let (part, _) = PARTS.iter().find(|(known, _)| *known == part)?;
    Some((window, part, Window { name: window, ..call }))
}

fn call(expr: &Expr, start: Position) -> Option<(String, Window)> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let ident = name.0.first()?.as_ident()?;
    let args: Option<Vec<Expr>> = list
        .args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(unqualified(expr)),
            _ => None,
        })
        .collect();
    let position = name_start(ident, start);
    Some((ident.value.clone(), Window { name: "", args: args?, position, span: ident.span }))
}

/// `t.ts` as `ts`: inside the window function there is one table only.
fn unqualified(expr: &Expr) -> Expr {
    match expr {
        Expr::CompoundIdentifier(path) if path.len() == 2 => Expr::Identifier(path[1].clone()),
        other => other.clone(),
    }
}

fn needs_arguments(window: &Window) -> Error {
    wrong(
        &format!("{} needs a time column and an interval", window.name),
        window.position,
        "write TUMBLE(ts, INTERVAL '1' HOUR)",
    )
}

fn wrong(problem: &str, position: Position, help: &str) -> Error {
    Error::Window { problem: problem.to_string(), position, help: Some(help.to_string()) }
}

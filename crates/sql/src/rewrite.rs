//! AST to AST, before planning: what can be written in several ways is left in one, with its place kept.
//!
//! - `GROUP BY TUMBLE(ts, ..)`, `HOP`, `SESSION` becomes the window table function in FROM, with `GROUP BY window_start,
//!   window_end`; `TUMBLE_START(..)` and its like become `window_start`, `window_end`, `window_time` ([`group_window`]).
//! - `UNNEST(..)`, joined by CROSS JOIN or by a comma, becomes `TableFactor::UNNEST` under CROSS JOIN ([`unnest`]).
//! - `INTERSECT` and `EXCEPT` become a query with a marked name over UNION ALL ([`set_operation`]).
//! - `ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts)` becomes a left join with `t FOR SYSTEM_TIME AS OF` both times ([`asof`]).
//! - `TABLE_VERSION(b)` names a lookup by a text ([`table_version`]).
//! - NATURAL joins, and right and full joins with USING, stand in brackets ([`using`]).
//! - `x = ANY (SELECT ..)` and `x <> ALL (SELECT ..)` become `IN` and `NOT IN`, other comparisons with ANY and ALL those with
//!   MIN and MAX ([`quantified`](mod@quantified)).
//! - `FETCH FIRST n ROWS ONLY` becomes `LIMIT n` ([`fetch`]).
//! - `items[1].sku` names the field by a text ([`field`]), CAST calls our cast ([`cast`]), and so do typed literals in VALUES
//!   ([`values`]).
//!
//! Other forms of expressions need no rewrite: [`crate::dialect`] reads them as plain calls from the start.

mod asof;
mod cast;
mod fetch;
mod field;
mod group_window;
mod quantified;
pub(crate) mod set_operation;
mod table_version;
#[cfg(test)]
mod tests;
mod unnest;
mod using;
mod values;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use tidemill_base::Position;

use crate::error::Error;

pub(crate) use asof::{ASOF, times as asof_times};
pub(crate) use quantified::parts as quantified;
pub(crate) use using::{MERGED, merging};

/// Rewrites a query and every query in it; `position` is where it starts.
///
/// # Errors
/// [`Error::Window`] when a group window cannot be a window table function, [`Error::Plan`] when TABLE_VERSION names no
/// lookup.
pub fn query(query: &mut ast::Query, position: Position) -> Result<(), Error> {
    match query.visit(&mut Rewriter { position }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Rewrites an expression that stands outside a query.
pub(crate) fn expression(expr: &mut ast::Expr) {
    struct Fields;
    impl VisitorMut for Fields {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            field::expr(expr);
            ControlFlow::Continue(())
        }
    }
    let _ = expr.visit(&mut Fields);
}

struct Rewriter {
    position: Position,
}

impl VisitorMut for Rewriter {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        field::expr(expr);
        cast::expr(expr);
        quantified::expr(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        values::query(query);
        fetch::query(query);
        set_operation::body(&mut query.body);
        table_version::query(query, self.position)
    }

    fn post_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        unnest::select(select);
        asof::select(select);
        match group_window::select(select, self.position) {
            Ok(()) => {
                table_version::select(select, self.position)?;
                using::select(select);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Error> {
        using::factor(factor);
        ControlFlow::Continue(())
    }
}

/// A query that is a body and nothing besides.
fn plain_query(body: ast::SetExpr) -> ast::Query {
    ast::Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

//! Typed literals inside `VALUES (..), (..)`: calls of our cast from the start, as CAST is everywhere.
//!
//! SQL's planner wants the same type on every row and takes the text of a type, which CAST carries, for a part of it: then
//! `(NULL)` and `(CAST(NULL AS STRING))` would not go together.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, SetExpr, TypedString, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::dialect::plain_call;
use crate::types::planned;

/// Rewrites the rows of a query that is VALUES.
pub(super) fn query(query: &mut ast::Query) {
    if let SetExpr::Values(values) = query.body.as_mut() {
        let _ = values.visit(&mut Literals);
    }
}

struct Literals;

impl VisitorMut for Literals {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: _ }) = expr
            && let Some(target) = planned(data_type)
        {
            let target = Value::SingleQuotedString(target.to_string());
            *expr = plain_call("$cast", Span::empty(), vec![Expr::Value(value.clone()), Expr::Value(target.into())]);
        }
        ControlFlow::Continue(())
    }
}

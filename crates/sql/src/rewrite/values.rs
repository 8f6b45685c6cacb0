//! CAST and typed literals inside `VALUES (..), (..)`: calls of our cast from the start.
//!
//! SQL's planner wants the same type on every row and takes the text of a type, which CAST carries, for a part of it: then
//! `(NULL)` and `(CAST(NULL AS STRING))` would not go together.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, CastKind, Expr, SetExpr, TypedString, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::dialect::plain_call;
use crate::types::planned;

/// Rewrites the rows of a query that is VALUES.
pub(super) fn query(query: &mut ast::Query) {
    if let SetExpr::Values(values) = query.body.as_mut() {
        let _ = values.visit(&mut Casts);
    }
}

struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (name, value, data_type) = match expr {
            Expr::Cast { kind: CastKind::Cast, expr, data_type, array: _, format: _ } => {
                ("$cast", expr.as_ref().clone(), data_type)
            }
            Expr::Cast { kind: CastKind::TryCast, expr, data_type, array: _, format: _ } => {
                ("$try_cast", expr.as_ref().clone(), data_type)
            }
            Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: _ }) => {
                ("$cast", Expr::Value(value.clone()), data_type)
            }
            _ => return ControlFlow::Continue(()),
        };
        if let Some(target) = planned(data_type) {
            let target = Value::SingleQuotedString(target.to_string());
            *expr = plain_call(name, Span::empty(), vec![value, Expr::Value(target.into())]);
        }
        ControlFlow::Continue(())
    }
}

//! CAST and TRY_CAST as calls of our cast from the start.
//!
//! SQL's planner names a cast like what it casts, so that `GROUP BY CAST(k AS BIGINT), k` would have two columns of one name.

use datafusion::sql::sqlparser::ast::{CastKind, Expr, Value};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::dialect::plain_call;
use crate::types::planned;

/// Rewrites one expression.
pub(super) fn expr(expr: &mut Expr) {
    let Expr::Cast { kind, expr: value, data_type, array: _, format: _ } = expr else { return };
    let name = match kind {
        CastKind::Cast => "$cast",
        CastKind::TryCast => "$try_cast",
        CastKind::SafeCast | CastKind::DoubleColon => return,
    };
    if let Some(target) = planned(data_type) {
        let target = Value::SingleQuotedString(target.to_string());
        *expr = plain_call(name, Span::empty(), vec![value.as_ref().clone(), Expr::Value(target.into())]);
    }
}

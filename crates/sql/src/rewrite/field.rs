//! `items[1].sku`: the field of an element, which SQL's planner wants named by a text.

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Value};

/// Rewrites one expression.
pub(super) fn expr(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return };
    // Names behind a name are a column, perhaps of a table, and fields of it.
    let leading = match root.as_ref() {
        Expr::Identifier(_) => access_chain.iter().take_while(|access| matches!(access, AccessExpr::Dot(_))).count(),
        _ => 0,
    };
    for access in &mut access_chain[leading..] {
        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
            let text = Value::SingleQuotedString(name.value.clone()).with_span(name.span);
            *access = AccessExpr::Dot(Expr::Value(text));
        }
    }
}

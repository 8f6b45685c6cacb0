//! `x = ANY (SELECT ..)` and `x <> ALL (SELECT ..)`: other words for `IN` and `NOT IN`.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};

/// The value, the query, and whether the words deny, when an expression is one of these.
pub(crate) fn parts(expr: &Expr) -> Option<(&Expr, &Expr, bool)> {
    let (left, right, denied) = match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, is_some: _ } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return None,
    };
    matches!(right.as_ref(), Expr::Subquery(_)).then_some((left.as_ref(), right.as_ref(), denied))
}

/// Rewrites one expression.
pub(super) fn expr(expr: &mut Expr) {
    let Some((left, Expr::Subquery(subquery), negated)) = parts(expr) else { return };
    *expr = Expr::InSubquery { expr: Box::new(left.clone()), subquery: subquery.clone(), negated };
}

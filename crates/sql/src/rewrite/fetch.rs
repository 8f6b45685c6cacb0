//! `FETCH FIRST n ROWS ONLY`: the standard's words for `LIMIT n`.

use datafusion::sql::sqlparser::ast::{Expr, LimitClause, Query, Value};

/// Rewrites the clause of a query.
pub(super) fn query(query: &mut Query) {
    let Some(fetch) = query.fetch.take() else { return };
    let first = || Expr::Value(Value::Number("1".to_string(), false).into());
    let rows = fetch.quantity.unwrap_or_else(first);
    let offset = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, limit: _, limit_by: _ }) => offset,
        Some(LimitClause::OffsetCommaLimit { .. }) | None => None,
    };
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset, limit_by: vec![] });
}

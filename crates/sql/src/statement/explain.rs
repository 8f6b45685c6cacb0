//! `EXPLAIN [PLAN FOR] query` or insert; of a statement set, see `statement_set`.

use super::cursor::Cursor;
use super::{Body, Statement, insert, query};
use crate::error::Error;

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Body, Error> {
    cursor.expect(&["EXPLAIN"])?;
    if !cursor.take(&["PLAN", "FOR"]) {
        for detail in ["ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE", "AST"] {
            if cursor.sees(detail) {
                return Err(Error::Unsupported {
                    what: format!("EXPLAIN {detail} is not supported: there is one explanation, with everything in it"),
                    position: cursor.position(),
                    help: Some("write EXPLAIN alone".to_string()),
                });
            }
        }
    }
    let position = cursor.position();
    let body = if cursor.sees("INSERT") {
        Body::Insert(insert::parse(cursor)?)
    } else if ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.sees(word)) {
        Body::Query(query::top_level(cursor)?)
    } else {
        return Err(
            cursor.unexpected_with("a query or INSERT INTO", "write EXPLAIN SELECT ... or EXPLAIN INSERT INTO ...")
        );
    };
    let text = cursor.text_since(position).to_string();
    Ok(Body::Explain(Box::new(Statement { body, position, text })))
}

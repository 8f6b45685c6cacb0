//! `CREATE VIEW v AS query`, and `CREATE MATERIALIZED VIEW v (PRIMARY KEY (k) NOT ENFORCED) AS query`, whose rows are kept.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::create_table::primary_key;
use super::cursor::Cursor;
use super::{Name, PrimaryKey, Query, Setting, query};
use crate::error::Error;

/// A name for a query.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// The name it gets.
    pub name: Name,
    /// Names for the query's columns; its own when empty.
    pub columns: Vec<Name>,
    /// What it is for, in words.
    pub comment: Option<String>,
    /// The query.
    pub query: Query,
    /// Nothing happens when the name is taken.
    pub if_not_exists: bool,
}

/// A query whose rows are kept and can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateMaterializedView {
    /// The name it gets.
    pub name: Name,
    /// What finds a row; the GROUP BY columns when not declared.
    pub primary_key: Option<PrimaryKey>,
    /// What it is for, in words.
    pub comment: Option<String>,
    /// Options of its own.
    pub options: Vec<Setting>,
    /// The query.
    pub query: Query,
    /// Nothing happens when the name is taken.
    pub if_not_exists: bool,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<CreateView, Error> {
    cursor.expect(&["CREATE"])?;
    cursor.take(&["TEMPORARY"]);
    cursor.expect(&["VIEW"])?;
    let if_not_exists = cursor.take_if(&["NOT", "EXISTS"])?;
    let name = cursor.object_name("the view's name")?;
    let columns = match cursor.sees_token(&Token::LParen) {
        true => cursor.list(|cursor| cursor.name("a column's name"))?,
        false => vec![],
    };
    let comment = comment(cursor)?;
    cursor.expect(&["AS"])?;
    Ok(CreateView { name, columns, comment, query: query::inner(cursor)?, if_not_exists })
}

pub(super) fn parse_materialized(cursor: &mut Cursor<'_>) -> Result<CreateMaterializedView, Error> {
    cursor.expect(&["CREATE", "MATERIALIZED", "VIEW"])?;
    let if_not_exists = cursor.take_if(&["NOT", "EXISTS"])?;
    let name = cursor.object_name("the view's name")?;
    let mut key = None;
    if cursor.sees_token(&Token::LParen) {
        key = cursor.list(primary_key)?.pop();
    }
    let comment = comment(cursor)?;
    let options = if cursor.take(&["WITH"]) { super::create_table::options(cursor)? } else { vec![] };
    cursor.expect(&["AS"])?;
    let query = query::inner(cursor)?;
    Ok(CreateMaterializedView { name, primary_key: key, comment, options, query, if_not_exists })
}

pub(super) fn comment(cursor: &mut Cursor<'_>) -> Result<Option<String>, Error> {
    if cursor.take(&["COMMENT"]) { cursor.string("the comment, in quotes").map(Some) } else { Ok(None) }
}

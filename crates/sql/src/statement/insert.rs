//! `INSERT INTO t [(columns)] query` or `VALUES`: sends the rows of a query to a table.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::{Name, Query, Setting, query};
use crate::error::Error;

/// The rows of a query, on their way into a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The table.
    pub table: Name,
    /// The columns that get the query's, in order; all of them when empty.
    pub columns: Vec<Name>,
    /// Options that a hint gives the table for this insert.
    pub options: Vec<Setting>,
    /// The rows.
    pub query: Query,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Insert, Error> {
    cursor.expect(&["INSERT"])?;
    if cursor.sees("OVERWRITE") {
        return Err(Error::Unsupported {
            what: "INSERT OVERWRITE is not supported: rows are only added".to_string(),
            position: cursor.position(),
            help: Some("write INSERT INTO, and remove old files before the run".to_string()),
        });
    }
    cursor.expect(&["INTO"])?;
    let table = cursor.object_name("the table's name")?;
    let options = query::take_options(cursor)?;
    if cursor.sees("PARTITION") {
        return Err(Error::Unsupported {
            what: "INSERT INTO ... PARTITION is not supported".to_string(),
            position: cursor.position(),
            help: Some("select the partition's value as a column".to_string()),
        });
    }
    let columns =
        match cursor.sees_token(&Token::LParen) && !cursor.sees_nth(1, "SELECT") && !cursor.sees_nth(1, "WITH") {
            true => cursor.list(|cursor| cursor.name("a column's name"))?,
            false => vec![],
        };
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].iter().any(|other| other.text == column.text) {
            return Err(Error::Definition {
                problem: format!("the column {} is named twice", column.text),
                position: column.position,
                help: Some("name each column once".to_string()),
            });
        }
    }
    let starts = ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.sees(word)) || cursor.sees_token(&Token::LParen);
    if !starts {
        return Err(cursor.unexpected_with("SELECT, VALUES or WITH", "write INSERT INTO table SELECT ..."));
    }
    Ok(Insert { table, columns, options, query: query::inner(cursor)? })
}

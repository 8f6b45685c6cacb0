//! `CREATE ENDPOINT score (card STRING, amount DOUBLE) WITH ('record' = 'payments') AS query`: requests in, answers out.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::create_view::comment;
use super::cursor::Cursor;
use super::{Name, Query, Setting, query};
use crate::error::Error;
use crate::types::Type;

/// A name under which requests are answered: each is a row, and its answer the rows that the query gives for it.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateEndpoint {
    /// The name it gets.
    pub name: Name,
    /// The columns of a request; those of the recorded table when empty.
    pub columns: Vec<RequestColumn>,
    /// What it is for, in words.
    pub comment: Option<String>,
    /// What stands in WITH.
    pub options: Vec<Setting>,
    /// The query.
    pub query: Query,
    /// Nothing happens when the name is taken.
    pub if_not_exists: bool,
}

/// A column of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestColumn {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub data_type: Type,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<CreateEndpoint, Error> {
    cursor.expect(&["CREATE", "ENDPOINT"])?;
    let if_not_exists = cursor.take_if(&["NOT", "EXISTS"])?;
    let name = cursor.object_name("the endpoint's name")?;
    let mut columns = Vec::new();
    if cursor.sees_token(&Token::LParen) {
        cursor.list(|cursor| column(cursor, &mut columns))?;
    }
    let comment = comment(cursor)?;
    let options = if cursor.take(&["WITH"]) { super::create_table::options(cursor)? } else { vec![] };
    cursor.expect(&["AS"])?;
    let query = query::inner(cursor)?;
    if query.emit_changes {
        return Err(Error::Unsupported {
            what: "EMIT CHANGES has no place in an endpoint: a request is answered once".to_string(),
            position: query.position,
            help: Some("remove it here; a view that rows are looked up in can have it".to_string()),
        });
    }
    Ok(CreateEndpoint { name, columns, comment, options, query, if_not_exists })
}

fn column(cursor: &mut Cursor<'_>, columns: &mut Vec<RequestColumn>) -> Result<(), Error> {
    for word in ["WATERMARK", "PRIMARY", "CONSTRAINT"] {
        if cursor.sees(word) {
            return Err(Error::Unsupported {
                what: "a request has columns only".to_string(),
                position: cursor.position(),
                help: Some(
                    "declare a table with 'connector' = 'http' and name it in WITH ('record' = '..')".to_string(),
                ),
            });
        }
    }
    let name = cursor.name("a column's name")?;
    if columns.iter().any(|other| other.name.text == name.text) {
        return Err(Error::Definition {
            problem: format!("the column {} is defined twice", name.text),
            position: name.position,
            help: Some("rename or remove one of them".to_string()),
        });
    }
    if cursor.sees("AS") {
        return Err(Error::Unsupported {
            what: "a request has no computed columns".to_string(),
            position: cursor.position(),
            help: Some("compute it in the query, or in the table named by 'record'".to_string()),
        });
    }
    let data_type = cursor.data_type()?;
    if cursor.sees("METADATA") {
        return Err(Error::Unsupported {
            what: "a request has no metadata".to_string(),
            position: cursor.position(),
            help: Some("declare it in the table named by 'record'".to_string()),
        });
    }
    columns.push(RequestColumn { name, data_type });
    Ok(())
}

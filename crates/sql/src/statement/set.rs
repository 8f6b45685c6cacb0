//! `SET 'key' = 'value'`, also without quotes: `SET execution.runtime-mode = batch`.

use datafusion::sql::sqlparser::tokenizer::Token;
use tidemill_base::Position;

use super::cursor::Cursor;
use crate::error::Error;

/// An option's key and value: a setting of the pipeline, or one of a table's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's key.
    pub key: String,
    /// Its value, as text.
    pub value: String,
    /// Where the key stands.
    pub key_position: Position,
    /// Where the value stands.
    pub value_position: Position,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Setting, Error> {
    const HELP: &str = "write SET 'key' = 'value'";
    cursor.expect(&["SET"])?;
    let key_position = cursor.position();
    if cursor.at_end() {
        return Err(cursor.unexpected_with("the key of an option", HELP));
    }
    let key = match &cursor.parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => cursor.string("a key")?,
        _ => {
            while !cursor.at_end() && !cursor.sees_token(&Token::Eq) {
                cursor.parser.next_token();
            }
            cursor.text_since(key_position).to_string()
        }
    };
    if !cursor.take_token(&Token::Eq) {
        return Err(cursor.unexpected_with("`=`", HELP));
    }
    if key.is_empty() || key.contains(char::is_whitespace) {
        let problem = format!("'{key}' is no option's key");
        return Err(Error::Definition { problem, position: key_position, help: Some(HELP.to_string()) });
    }
    let value_position = cursor.position();
    if cursor.at_end() {
        return Err(cursor.unexpected_with("a value", HELP));
    }
    let value = match &cursor.parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => cursor.string("a value")?,
        _ => cursor.take_rest().to_string(),
    };
    Ok(Setting { key, value, key_position, value_position })
}

//! `TABLE t [PARTITION BY a, b] [ORDER BY c]`, a table as an argument of a table function.
//!
//! It becomes the call `$table(t) OVER (PARTITION BY a, b ORDER BY c)`; no text can name that function, because names
//! cannot start with `$`.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, Ident, WindowSpec, WindowType};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token};
use tidemill_base::Position;

use super::Stop;
use super::forms::{call, function, unexpected};
use super::is_reserved;
use crate::statement::bare_word;

/// The function that stands for TABLE.
pub(super) const TABLE: &str = "$table";

/// Reads the argument that starts with the word TABLE, the next token.
pub(super) fn read(parser: &mut Parser<'_>, end: Position) -> Result<Expr, Stop> {
    let span = parser.next_token().span;
    let table = match &parser.peek_token_ref().token {
        Token::LParen => {
            parser.next_token();
            let query = parser.parse_query()?;
            parser.expect_token(&Token::RParen)?;
            function(TABLE, span, FunctionArguments::Subquery(query))
        }
        Token::Word(word) if word.quote_style.is_some() || !is_reserved(&word.value) => {
            let mut path = vec![parser.parse_identifier()?];
            while parser.consume_token(&Token::Period) {
                path.push(parser.parse_identifier()?);
            }
            call(TABLE, span, vec![named(path)])
        }
        _ => return Err(unexpected(parser, end, "a table's name after TABLE").into()),
    };
    let partition_by = if take(parser, "PARTITION", end)? { columns(parser)? } else { vec![] };
    let order_by =
        if take(parser, "ORDER", end)? { parser.parse_comma_separated(Parser::parse_order_by_expr)? } else { vec![] };
    let Expr::Function(mut table) = table else { return Ok(table) };
    if !partition_by.is_empty() || !order_by.is_empty() {
        let spec = WindowSpec { window_name: None, partition_by, order_by, window_frame: None };
        table.over = Some(WindowType::WindowSpec(spec));
    }
    Ok(Expr::Function(table))
}

/// A table argument over what is in its brackets: a name, or a query.
pub(crate) fn argument(span: Span, input: FunctionArguments) -> Expr {
    function(TABLE, span, input)
}

fn named(mut path: Vec<Ident>) -> Expr {
    if path.len() > 1 {
        return Expr::CompoundIdentifier(path);
    }
    Expr::Identifier(path.remove(0))
}

/// `a, b` or `(a, b)`. A comma that starts the next argument of the function ends the list.
fn columns(parser: &mut Parser<'_>) -> Result<Vec<Expr>, Stop> {
    if parser.consume_token(&Token::LParen) {
        let columns = parser.parse_comma_separated(Parser::parse_expr)?;
        parser.expect_token(&Token::RParen)?;
        return Ok(columns);
    }
    let mut columns = vec![parser.parse_expr()?];
    while parser.peek_token_ref().token == Token::Comma && continues(parser) {
        parser.next_token();
        columns.push(parser.parse_expr()?);
    }
    Ok(columns)
}

/// What follows the comma is one more column, not DESCRIPTOR(..), INTERVAL or a named argument.
fn continues(parser: &Parser<'_>) -> bool {
    let after = &parser.peek_nth_token_ref(2).token;
    match &parser.peek_nth_token_ref(1).token {
        Token::Word(_) => {
            matches!(after, Token::Comma | Token::RParen | Token::Period) || {
                bare_word(after).is_some_and(|word| word.value.eq_ignore_ascii_case("ORDER"))
            }
        }
        _ => false,
    }
}

fn take(parser: &mut Parser<'_>, first: &str, end: Position) -> Result<bool, Stop> {
    let is = |token: &Token, name: &str| bare_word(token).is_some_and(|word| word.value.eq_ignore_ascii_case(name));
    if !is(&parser.peek_token_ref().token, first) {
        return Ok(false);
    }
    parser.next_token();
    if !is(&parser.peek_token_ref().token, "BY") {
        return Err(unexpected(parser, end, "BY").into());
    }
    parser.next_token();
    Ok(true)
}

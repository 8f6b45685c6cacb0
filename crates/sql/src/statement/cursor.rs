//! The hands of every statement parser: sqlparser's `Parser` over one statement's tokens, with errors of our own.
//!
//! A statement is read token by token with the methods here; queries and expressions are left to sqlparser from the same
//! place on, so there is one position in one list of tokens at any time.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use tidemill_base::{Position, suggest};

use super::Name;
use super::lex::{self, Hint, Piece, Source, bare_word, place};
use crate::dialect::{FlinkDialect, is_reserved};
use crate::error::Error;
use crate::types;

/// Expressions and queries inside each other, at most; sqlparser counts them.
const RECURSION_MAX: usize = 120;

/// Words that start or join clauses, for suggestions.
const CLAUSES: &[&str] = &[
    "SELECT",
    "DISTINCT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "ORDER",
    "LIMIT",
    "UNION",
    "ALL",
    "INSERT",
    "INTO",
    "VALUES",
    "CREATE",
    "TABLE",
    "VIEW",
    "MATERIALIZED",
    "TEMPORARY",
    "FUNCTION",
    "WITH",
    "WATERMARK",
    "FOR",
    "PRIMARY",
    "KEY",
    "ENFORCED",
    "PARTITIONED",
    "COMMENT",
    "LIKE",
    "METADATA",
    "VIRTUAL",
    "EXPLAIN",
    "EXECUTE",
    "STATEMENT",
    "BEGIN",
    "END",
    "DESCRIPTOR",
    "INTERVAL",
    "EMIT",
    "CHANGES",
    "BETWEEN",
    "CROSS",
    "JOIN",
    "UNNEST",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "DROP",
    "EXISTS",
    "FILTER",
];

/// A place in the tokens of one statement.
pub(crate) struct Cursor<'a> {
    pub(crate) parser: Parser<'a>,
    dialect: &'a FlinkDialect,
    source: &'a Source<'a>,
    pub(crate) tokens: &'a [TokenWithSpan],
    pub(crate) hints: Vec<Hint>,
    end: Position,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(dialect: &'a FlinkDialect, source: &'a Source<'a>, piece: &'a Piece) -> Self {
        dialect.refuel(piece.tokens.len(), piece.end);
        let parser =
            Parser::new(dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(piece.tokens.clone());
        Cursor { parser, dialect, source, tokens: &piece.tokens, hints: piece.hints.clone(), end: piece.end }
    }

    /// The place of the next token.
    pub(crate) fn position(&self) -> Position {
        let next = self.parser.peek_token_ref();
        if next.token == Token::EOF { self.end } else { place(next.span.start) }
    }

    /// Where the last token that was taken ends.
    pub(crate) fn last_end(&self) -> Option<Location> {
        self.tokens.get(self.parser.index().checked_sub(1)?).map(|token| token.span.end)
    }

    /// The source text from `start` to the next token.
    pub(crate) fn text_since(&self, start: Position) -> &'a str {
        self.source.between(start, self.position()).trim()
    }

    /// The source text from the next token to the end of the statement, which is taken.
    pub(crate) fn take_rest(&mut self) -> &'a str {
        let text = self.source.between(self.position(), self.end).trim();
        while self.parser.peek_token_ref().token != Token::EOF {
            self.parser.next_token();
        }
        text
    }

    pub(crate) fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    /// The next token is this word, in any case and not quoted.
    pub(crate) fn sees(&self, word: &str) -> bool {
        self.sees_nth(0, word)
    }

    /// The token after `n` others is this word.
    pub(crate) fn sees_nth(&self, n: usize, word: &str) -> bool {
        bare_word(&self.parser.peek_nth_token_ref(n).token).is_some_and(|found| found.value.eq_ignore_ascii_case(word))
    }

    /// Takes these words if they all come next.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(n, word)| self.sees_nth(n, word));
        if all {
            for _ in words {
                self.parser.next_token();
            }
        }
        all
    }

    /// Takes these words or fails at the first that is missing.
    pub(crate) fn expect(&mut self, words: &[&str]) -> Result<(), Error> {
        for word in words {
            if !self.take(&[word]) {
                return Err(self.unexpected(word));
            }
        }
        Ok(())
    }

    pub(crate) fn sees_token(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    pub(crate) fn take_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Result<(), Error> {
        if self.take_token(token) { Ok(()) } else { Err(self.unexpected(&format!("`{token}`"))) }
    }

    /// Takes `IF EXISTS` or `IF NOT EXISTS`.
    pub(crate) fn take_if(&mut self, words: &[&str]) -> Result<bool, Error> {
        if !self.take(&["IF"]) {
            return Ok(false);
        }
        self.expect(words)?;
        Ok(true)
    }

    /// A name: quoted, or a word that is not reserved.
    pub(crate) fn name(&mut self, what: &str) -> Result<Name, Error> {
        let position = self.position();
        match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() && is_reserved(&word.value) => {
                let (word, next) = (word.value.clone(), &self.parser.peek_nth_token_ref(1).token);
                let as_name =
                    matches!(next, Token::Comma | Token::LParen | Token::RParen | Token::Word(_) | Token::EOF);
                if as_name { Err(Error::Reserved { word, position }) } else { Err(self.unexpected(what)) }
            }
            Token::Word(word) if word.value.is_empty() => Err(self.unexpected(what)),
            Token::Word(word) => {
                let text = word.value.clone();
                self.parser.next_token();
                Ok(Name { text, position })
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// The name of a table, view or function; a catalog and database may only be the default ones.
    pub(crate) fn object_name(&mut self, what: &str) -> Result<Name, Error> {
        let mut name = self.name(what)?;
        let mut path = Vec::new();
        while self.take_token(&Token::Period) {
            path.push(name.text);
            name = self.name(what)?;
        }
        if path.is_empty() || path == ["default_database"] || path == ["default_catalog", "default_database"] {
            return Ok(name);
        }
        Err(Error::Unsupported {
            what: "catalogs and databases are not supported: every table lives in the pipeline".to_string(),
            position: name.position,
            help: Some(format!("write {} alone", name.text)),
        })
    }

    /// A list in brackets, with at least one item.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        self.expect_token(&Token::LParen)?;
        let mut items = vec![item(self)?];
        while self.take_token(&Token::Comma) {
            if self.sees_token(&Token::RParen) {
                return Err(self.unexpected_with("another item after the comma", "remove the comma before `)`"));
            }
            items.push(item(self)?);
        }
        if !self.take_token(&Token::RParen) {
            return Err(self.unexpected("`,` or `)`"));
        }
        Ok(items)
    }

    /// A text in single quotes.
    pub(crate) fn string(&mut self, what: &str) -> Result<String, Error> {
        match &self.parser.peek_token_ref().token {
            Token::SingleQuotedString(text) => {
                let text = text.clone();
                self.parser.next_token();
                Ok(text)
            }
            Token::Word(word) => {
                let help = format!("write '{}' in single quotes", word.value);
                Err(self.unexpected_with(what, &help))
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// An expression, read by sqlparser.
    pub(crate) fn expr(&mut self) -> Result<ast::Expr, Error> {
        let read = self.parser.parse_expr();
        self.lift(read)
    }

    /// A query, read by sqlparser.
    pub(crate) fn query(&mut self) -> Result<Box<ast::Query>, Error> {
        let read = self.parser.parse_query();
        self.lift(read)
    }

    /// A type of Flink's.
    pub(crate) fn data_type(&mut self) -> Result<types::Type, Error> {
        types::parse(&mut self.parser, self.end)
    }

    /// The last place at or before `from` where this word stands; `from` when it does not.
    pub(crate) fn back_to(&self, from: Position, word: &str) -> Position {
        let before = self.tokens.iter().rev().skip_while(|token| place(token.span.start) > from);
        before
            .into_iter()
            .find(|token| bare_word(&token.token).is_some_and(|found| found.value.eq_ignore_ascii_case(word)))
            .map_or(from, |token| place(token.span.start))
    }

    /// Fails unless everything is taken.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.at_end() { Ok(()) } else { Err(self.unexpected("the end of the statement (`;`)")) }
    }

    /// What stands here is not what should.
    pub(crate) fn unexpected(&self, expected: &str) -> Error {
        let index = self.tokens.len().min(self.parser.index());
        self.unexpected_at(index, expected, None)
    }

    pub(crate) fn unexpected_with(&self, expected: &str, help: &str) -> Error {
        let index = self.tokens.len().min(self.parser.index());
        self.unexpected_at(index, expected, Some(help.to_string()))
    }

    fn unexpected_at(&self, index: usize, expected: &str, help: Option<String>) -> Error {
        let found = self.tokens.get(index);
        let position = found.map_or(self.end, |token| place(token.span.start));
        let shown = found.map_or("the end of the statement".to_string(), |token| shown(&token.token));
        if let Some(error) = self.lonely(index) {
            return error;
        }
        let misspelt = self.misspelt(index, expected).filter(|(at, ..)| help.is_none() || *at == position);
        if let Some((position, found, meant)) = misspelt {
            let help = Some(format!("did you mean {meant}?"));
            return Error::Unexpected { expected: expected.to_string(), found, position, help };
        }
        let help = help.or_else(|| self.hint_for(index, expected));
        Error::Unexpected { expected: expected.to_string(), found: shown, position, help }
    }

    /// GROUP or ORDER without BY, which sqlparser stumbles over later.
    fn lonely(&self, index: usize) -> Option<Error> {
        let word = bare_word(&self.tokens.get(index)?.token)?;
        let first =
            ["GROUP", "ORDER", "PARTITION"].into_iter().find(|first| first.eq_ignore_ascii_case(&word.value))?;
        let next = self.tokens.get(index + 1);
        let by =
            next.and_then(|token| bare_word(&token.token)).is_some_and(|word| word.value.eq_ignore_ascii_case("BY"));
        (!by).then(|| Error::Unexpected {
            expected: "BY".to_string(),
            found: next.map_or("the end of the statement".to_string(), |token| shown(&token.token)),
            position: next.map_or(self.end, |token| place(token.span.start)),
            help: Some(format!("write {first} BY column; in backticks `{}` is a name", word.value)),
        })
    }

    /// A clause word with a slip of the finger, here or in the two words before (which then were read as names).
    fn misspelt(&self, index: usize, expected: &str) -> Option<(Position, String, String)> {
        for back in 0..3 {
            let Some(token) = index.checked_sub(back).and_then(|at| self.tokens.get(at)) else { continue };
            let Some(word) = bare_word(&token.token) else { continue };
            if word.value.len() < 3 || CLAUSES.iter().any(|clause| clause.eq_ignore_ascii_case(&word.value)) {
                continue;
            }
            let wanted = expected.split(|c: char| !c.is_ascii_uppercase()).filter(|part| part.len() > 2);
            let meant = suggest::nearest(&word.value, wanted)
                .or_else(|| suggest::nearest(&word.value, CLAUSES.iter().copied()));
            if let Some(meant) = meant {
                return Some((place(token.span.start), word.value.clone(), meant.to_string()));
            }
        }
        None
    }

    fn hint_for(&self, index: usize, expected: &str) -> Option<String> {
        let previous = index.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|token| &token.token);
        let found = self.tokens.get(index);
        let found_word = found.and_then(|token| bare_word(&token.token));
        let starts = |names: &[&str]| {
            found_word.is_some_and(|word| names.iter().any(|name| word.value.eq_ignore_ascii_case(name)))
        };
        if previous == Some(&Token::Comma) {
            return Some("remove the comma before it, or write another item".to_string());
        }
        if expected.starts_with("the end") && starts(&["INSERT", "CREATE", "SELECT", "SET", "DROP", "EXPLAIN"]) {
            return Some("end the statement before it with `;`".to_string());
        }
        if expected.contains("after AS") {
            return Some("after AS stands a name; a reserved word has to be in backticks".to_string());
        }
        if found_word.is_some_and(|word| word.value.eq_ignore_ascii_case("EMIT")) {
            return Some("EMIT CHANGES stands once, at the end of the whole query".to_string());
        }
        if expected == "an expression" {
            return Some("write a column, a value or a call".to_string());
        }
        if expected.starts_with("SELECT, VALUES") {
            return Some("write a query".to_string());
        }
        if expected.contains("`)`") || found.is_none() && self.open_brackets() > 0 {
            return Some("a bracket that was opened is never closed: add `)`".to_string());
        }
        let closes = found.is_some_and(|token| token.token == Token::RParen);
        if closes && expected.starts_with("the end") {
            return Some("this bracket closes nothing: remove it".to_string());
        }
        None
    }

    fn open_brackets(&self) -> i64 {
        self.tokens.iter().fold(0, |open, token| match token.token {
            Token::LParen => open + 1,
            Token::RParen => open - 1,
            _ => open,
        })
    }

    /// Turns what sqlparser returned into a result of ours.
    pub(crate) fn lift<T>(&self, read: Result<T, ParserError>) -> Result<T, Error> {
        let stored = self.dialect.take_error();
        match read {
            Ok(value) => Ok(value),
            Err(ParserError::RecursionLimitExceeded) => Err(stored.unwrap_or_else(|| Error::TooDeep {
                limit: format!("{RECURSION_MAX} expressions or queries inside each other"),
                position: self.position(),
            })),
            Err(ParserError::ParserError(message) | ParserError::TokenizerError(message)) => Err(self.reword(&message)),
        }
    }

    /// `Expected: X, found: Y at Line: 3, Column: 5` in our words, at that place.
    fn reword(&self, message: &str) -> Error {
        let (message, position) = split_location(message);
        let index = match position {
            Some(at) => self.tokens.iter().position(|token| place(token.span.start) == at).unwrap_or(self.tokens.len()),
            None if message.ends_with("found: EOF") => self.tokens.len(),
            None => self.tokens.len().min(self.parser.index()),
        };
        match message.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: ")) {
            Some((expected, _)) => self.unexpected_at(index, &plainly(expected), None),
            None => {
                let position = self.tokens.get(index).map_or(self.end, |token| place(token.span.start));
                Error::Unreadable { problem: format!("this cannot be read: {message}"), position, help: None }
            }
        }
    }
}

/// A token as errors show it.
pub(crate) fn shown(token: &Token) -> String {
    match token {
        Token::EOF => "the end of the statement".to_string(),
        Token::Word(word) => match word.quote_style {
            Some(_) => format!("`{}`", word.value),
            None => word.value.clone(),
        },
        Token::SingleQuotedString(text) if text.chars().count() > 40 => "a text".to_string(),
        Token::SingleQuotedString(_) | Token::Number(..) => token.to_string(),
        _ => format!("`{token}`"),
    }
}

fn plainly(expected: &str) -> String {
    match expected {
        "end of statement" | "EOF" => "the end of the statement (`;`)".to_string(),
        "an expression" | "an expression:" => "an expression".to_string(),
        "SELECT, VALUES, or a subquery in the query body" => "SELECT, VALUES or WITH".to_string(),
        "identifier" => "a name".to_string(),
        "an identifier after AS" => "a name after AS".to_string(),
        ")" => "`)`".to_string(),
        "(" => "`(`".to_string(),
        "joined table" => "a join or a query in the brackets".to_string(),
        other => other.to_string(),
    }
}

fn split_location(message: &str) -> (&str, Option<Position>) {
    let Some((text, at)) = message.rsplit_once(" at Line: ") else { return (message, None) };
    let parsed =
        at.split_once(", Column: ").and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
    match parsed {
        Some((line, column)) => (text, Some(Position { line, column })),
        None => (message, None),
    }
}

/// Where a name starts, or `fallback` when it does not know.
pub(crate) fn name_start(name: &ast::Ident, fallback: Position) -> Position {
    if name.span.start.line == 0 { fallback } else { lex::place(name.span.start) }
}

/// Where an AST node starts, or `fallback` when it does not know.
pub(crate) fn start_of(node: &impl ast::Spanned, fallback: Position) -> Position {
    let start = node.span().start;
    if start.line == 0 { fallback } else { lex::place(start) }
}

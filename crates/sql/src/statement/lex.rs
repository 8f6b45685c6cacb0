//! From text to the tokens of each statement: cut at semicolons, hints taken out, depth and length bounded.
//!
//! sqlparser's tokenizer does the reading; what it would lose (hints are comments to it) or what could exhaust the stack
//! or the clock later (nesting, long chains) is caught here, before any parsing.

use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};
use tidemill_base::Position;

use crate::dialect::FlinkDialect;
use crate::error::Error;

/// Brackets inside each other, at most.
const DEPTH_MAX: usize = 60;
/// Brackets with queries or tables inside each other, at most.
const QUERIES_MAX: usize = 12;
/// Tokens without a comma between them (each operand of an operator chain is one level of the tree), at most.
const CHAIN_MAX: usize = 2_000;

/// A text and where its lines start, to cut statements out of it.
pub(crate) struct Source<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { text, lines }
    }

    /// The text between two places, the second one excluded.
    pub(crate) fn between(&self, start: Position, end: Position) -> &'a str {
        self.text.get(self.offset(start)..self.offset(end)).unwrap_or_default()
    }

    /// The place after the last character that is no white space.
    pub(crate) fn end(&self) -> Position {
        let end = self.text.trim_end().len();
        let line = self.lines.partition_point(|start| *start <= end).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        Position { line: line as u64, column: self.text[start..end].chars().count() as u64 + 1 }
    }

    fn offset(&self, Position { line, column }: Position) -> usize {
        let start = self.lines.get(line as usize - 1).copied().unwrap_or(self.text.len());
        let rest = &self.text[start..];
        rest.char_indices().nth(column as usize - 1).map_or(self.text.len(), |(at, _)| start + at)
    }
}

/// A `/*+ ... */`, which is a comment to the tokenizer and not to us.
#[derive(Debug, Clone)]
pub(crate) struct Hint {
    /// What is between `/*+` and `*/`.
    pub(crate) text: String,
    /// Where it starts.
    pub(crate) position: Position,
    /// Where the token before it ended.
    pub(crate) after: Option<Location>,
}

/// The tokens of one statement, without whitespace, and where it ends.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) tokens: Vec<TokenWithSpan>,
    pub(crate) hints: Vec<Hint>,
    /// The place of the semicolon, or of the end of the text.
    pub(crate) end: Position,
    /// Whether a semicolon ends it.
    pub(crate) closed: bool,
}

impl Piece {
    pub(crate) fn start(&self) -> Position {
        self.tokens.first().map_or(self.end, |token| place(token.span.start))
    }
}

/// A location of the tokenizer as a position; the empty location is the start of the text.
pub(crate) fn place(location: Location) -> Position {
    Position { line: location.line.max(1), column: location.column.max(1) }
}

/// Cuts a text into the tokens of its statements; empty statements are left out.
pub(crate) fn pieces(source: &Source<'_>) -> Result<Vec<Piece>, Error> {
    let dialect = FlinkDialect::default();
    let mut tokens = Vec::new();
    let read = Tokenizer::new(&dialect, source.text).tokenize_with_location_into_buf(&mut tokens);
    if let Err(error) = read {
        return Err(unreadable(&error.message, place(error.location), &tokens, source));
    }
    let mut pieces = Vec::new();
    let mut open = Piece { tokens: Vec::new(), hints: Vec::new(), end: source.end(), closed: false };
    for token in tokens {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with('+') => {
                let after = open.tokens.last().map(|token| token.span.end);
                open.hints.push(Hint { text: text[1..].to_string(), position: place(token.span.start), after });
            }
            Token::Whitespace(_) => {}
            Token::SemiColon => {
                let piece = Piece { tokens: Vec::new(), hints: Vec::new(), end: source.end(), closed: false };
                let closed =
                    Piece { end: place(token.span.start), closed: true, ..std::mem::replace(&mut open, piece) };
                pieces.push(closed);
            }
            _ => open.tokens.push(token),
        }
    }
    pieces.push(open);
    pieces.retain(|piece| !piece.tokens.is_empty());
    Ok(pieces)
}

/// Refuses what would break or lose something in a parser: quotes and words it misreads, depth, length.
pub(crate) fn check(piece: &Piece) -> Result<(), Error> {
    check_characters(piece)?;
    check_words(piece)?;
    check_depth(piece)
}

fn check_characters(piece: &Piece) -> Result<(), Error> {
    for token in &piece.tokens {
        let position = place(token.span.start);
        let (problem, help) = match &token.token {
            Token::DoubleQuotedString(text) => (
                "double quotes mean nothing in Flink's SQL".to_string(),
                format!("write '{text}' for a text or `{text}` for a name"),
            ),
            Token::Char(char) => (format!("'{char}' means nothing in SQL"), "remove it".to_string()),
            Token::Backslash => {
                ("a backslash means nothing in SQL".to_string(), "inside texts, write '' for a quote".to_string())
            }
            Token::DoubleColon => {
                ("`::` is not a cast in Flink's SQL".to_string(), "write CAST(x AS type)".to_string())
            }
            Token::Placeholder(name) => {
                (format!("there are no parameters to fill in for {name}"), "write the value itself".to_string())
            }
            _ => continue,
        };
        return Err(Error::Unreadable { problem, position, help: Some(help) });
    }
    Ok(())
}

/// EMIT inside a query would be read as an alias, and FILTER without its condition would vanish.
fn check_words(piece: &Piece) -> Result<(), Error> {
    let word = |at: usize| piece.tokens.get(at).and_then(|token| bare_word(&token.token));
    let is = |at: usize, name: &str| word(at).is_some_and(|word| word.value.eq_ignore_ascii_case(name));
    for (at, token) in piece.tokens.iter().enumerate() {
        let position = place(token.span.start);
        let after_bracket = at > 0 && piece.tokens[at - 1].token == Token::RParen;
        let opens = piece.tokens.get(at + 1).is_some_and(|token| token.token == Token::LParen);
        if is(at, "FILTER") && after_bracket && !(opens && is(at + 2, "WHERE")) {
            return Err(Error::Unexpected {
                expected: "FILTER (WHERE condition)".to_string(),
                found: "FILTER alone".to_string(),
                position,
                help: Some("write FILTER (WHERE condition), or `filter` in backticks for a name".to_string()),
            });
        }
    }
    Ok(())
}

fn check_depth(piece: &Piece) -> Result<(), Error> {
    let mut open = vec![Level::default()];
    let mut previous = None;
    for (at, token) in piece.tokens.iter().enumerate() {
        let position = place(token.span.start);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                let query = holds_query(previous, piece.tokens.get(at + 1).map(|token| &token.token), open.last());
                open.push(Level { query, ..Level::default() });
            }
            Token::RParen | Token::RBracket | Token::RBrace if open.len() > 1 => {
                let Level { most, .. } = open.pop().unwrap_or_default();
                if let Some(level) = open.last_mut() {
                    level.add(most);
                }
            }
            Token::Comma => {
                if let Some(level) = open.last_mut() {
                    level.run = 0;
                }
            }
            _ => {}
        }
        if let Some(level) = open.last_mut() {
            level.add(1);
            if level.most > CHAIN_MAX {
                return Err(Error::TooDeep { limit: format!("{CHAIN_MAX} words without a comma"), position });
            }
        }
        if open.len() > DEPTH_MAX {
            return Err(Error::TooDeep { limit: format!("{DEPTH_MAX} open brackets"), position });
        }
        if open.iter().filter(|level| level.query).count() > QUERIES_MAX {
            return Err(Error::TooDeep { limit: format!("{QUERIES_MAX} queries inside each other"), position });
        }
        previous = Some(&token.token);
    }
    Ok(())
}

/// An open bracket, while depth is checked.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// The tokens since the last comma, those in closed brackets too.
    run: usize,
    /// The most there were between two commas.
    most: usize,
    /// A query or a table stands in it.
    query: bool,
}

impl Level {
    fn add(&mut self, tokens: usize) {
        self.run += tokens;
        self.most = self.most.max(self.run);
    }
}

/// Whether a bracket holds a query or tables, which take far more stack to read than an expression does.
fn holds_query(before: Option<&Token>, after: Option<&Token>, level: Option<&Level>) -> bool {
    let is = |token: Option<&Token>, words: &[&str]| {
        token.and_then(bare_word).is_some_and(|word| words.iter().any(|other| other.eq_ignore_ascii_case(&word.value)))
    };
    is(after, &["SELECT", "WITH", "VALUES"])
        || is(before, &["FROM", "JOIN", "UNION", "ALL", "EXCEPT", "INTERSECT", "AS", "TABLE", "LATERAL"])
        || before.is_none()
        || before == Some(&Token::LParen) && level.is_some_and(|level| level.query)
}

/// The word that a token is, unless it is quoted.
pub(crate) fn bare_word(token: &Token) -> Option<&Word> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word),
        _ => None,
    }
}

/// Turns the tokenizer's complaint into ours; the place is where the unfinished thing starts.
fn unreadable(message: &str, at: Position, read: &[TokenWithSpan], source: &Source<'_>) -> Error {
    let lower = message.to_lowercase();
    let start = read.last().map_or(Position { line: 1, column: 1 }, |token| place(token.span.end));
    let (problem, position, help) = if lower.contains("multi-line comment") {
        ("this comment never ends", start, "end it with */")
    } else if lower.contains("unterminated string") {
        ("this text never ends", start, "end it with a quote; write '' for a quote inside")
    } else if lower.contains("close delimiter") {
        ("this name never ends", start, "end it with a backtick; write `` for a backtick inside")
    } else {
        return Error::Unreadable {
            problem: format!("this cannot be read: {message}"),
            position: at.min(source.end()),
            help: None,
        };
    };
    Error::Unreadable { problem: problem.to_string(), position, help: Some(help.to_string()) }
}

//! `EXECUTE STATEMENT SET BEGIN ...; ...; END;` and `BEGIN STATEMENT SET; ...; END;`: inserts that run as one pipeline.
//!
//! The semicolons inside have already cut it into pieces, so a set is the pieces from its opening to its `END`.

use tidemill_base::Position;

use super::lex::{Piece, Source, bare_word};
use super::{Body, Statement, single};
use crate::dialect::FlinkDialect;
use crate::error::Error;

/// How a set opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    explained: bool,
    /// The words of the opening, in the piece they share with the first insert (or stand in alone).
    words: usize,
}

/// Whether a piece opens a set, and how many words that takes.
pub(super) fn opens(piece: &Piece) -> Option<Opening> {
    let starts = |words: &[&str]| words.iter().enumerate().all(|(at, word)| is(piece, at, word));
    let explained = is(piece, 0, "EXPLAIN");
    match () {
        () if starts(&["EXECUTE", "STATEMENT", "SET"]) => Some(Opening { explained, words: 3 }),
        () if starts(&["BEGIN", "STATEMENT", "SET"]) => Some(Opening { explained, words: 3 }),
        () if starts(&["EXPLAIN", "STATEMENT", "SET"]) => Some(Opening { explained, words: 3 }),
        () if starts(&["EXPLAIN", "PLAN", "FOR", "STATEMENT", "SET"]) => Some(Opening { explained, words: 5 }),
        () if starts(&["EXPLAIN", "EXECUTE", "STATEMENT", "SET"]) => Some(Opening { explained, words: 4 }),
        () if starts(&["BEGIN"]) && piece.tokens.len() == 1 => Some(Opening { explained, words: 1 }),
        () => None,
    }
}

/// Reads the set that `first` opens, taking the pieces up to its END.
pub(super) fn parse(
    opening: Opening,
    first: Piece,
    rest: &mut impl Iterator<Item = Piece>,
    dialect: &FlinkDialect,
    source: &Source<'_>,
) -> Result<Statement, Error> {
    let position = first.start();
    let semicolon = is(&first, 0, "BEGIN");
    let mut piece = open(opening, first, semicolon)?;
    let mut inserts = Vec::new();
    let end = loop {
        if let Some(current) = piece {
            if is(&current, 0, "END") {
                break close(current)?;
            }
            inserts.push(insert(&current, dialect, source)?);
            if !current.closed {
                return Err(unclosed(current.end));
            }
        }
        piece = Some(rest.next().ok_or_else(|| unclosed(source.end()))?);
    };
    if inserts.is_empty() {
        return Err(Error::Definition {
            problem: "a statement set needs an INSERT at least".to_string(),
            position,
            help: Some("write INSERT INTO ... between its begin and its END".to_string()),
        });
    }
    let text = source.between(position, end).trim_end().to_string();
    let set = Statement { body: Body::StatementSet(inserts), position, text: text.clone() };
    Ok(if opening.explained { Statement { body: Body::Explain(Box::new(set)), position, text } } else { set })
}

/// Takes the opening off; what is left is the first insert, or nothing.
fn open(opening: Opening, mut first: Piece, semicolon: bool) -> Result<Option<Piece>, Error> {
    if opening.words == 1 {
        return Err(expected("STATEMENT SET", &first, 1));
    }
    let mut words = opening.words;
    if !semicolon {
        if !is(&first, words, "BEGIN") {
            return Err(expected("BEGIN", &first, words));
        }
        words += 1;
    }
    first.tokens.drain(..words);
    match (semicolon, first.tokens.is_empty()) {
        (true, false) => Err(expected("`;` after BEGIN STATEMENT SET", &first, 0)),
        (false, true) => Err(expected("INSERT INTO", &first, 0)),
        (_, true) => Ok(None),
        (_, false) => Ok(Some(first)),
    }
}

fn insert(piece: &Piece, dialect: &FlinkDialect, source: &Source<'_>) -> Result<Statement, Error> {
    if is(piece, 0, "INSERT") {
        return single(piece, dialect, source);
    }
    Err(Error::Unexpected {
        expected: "INSERT INTO or END".to_string(),
        found: piece.tokens.first().map_or("nothing".to_string(), |token| super::shown_token(&token.token)),
        position: piece.start(),
        help: Some("a statement set holds INSERT statements only: move the others before it".to_string()),
    })
}

fn close(piece: Piece) -> Result<Position, Error> {
    if piece.tokens.len() > 1 {
        return Err(expected("`;` after END", &piece, 1));
    }
    Ok(piece.end)
}

fn unclosed(position: Position) -> Error {
    Error::Unexpected {
        expected: "END".to_string(),
        found: "the end of the text".to_string(),
        position,
        help: Some("end the statement set with END; and each INSERT in it with `;`".to_string()),
    }
}

fn expected(what: &str, piece: &Piece, at: usize) -> Error {
    let token = piece.tokens.get(at);
    Error::Unexpected {
        expected: what.to_string(),
        found: token.map_or("the end of the statement".to_string(), |token| super::shown_token(&token.token)),
        position: token.map_or(piece.end, |token| super::place(token.span.start)),
        help: Some("write EXECUTE STATEMENT SET BEGIN INSERT INTO ...; INSERT INTO ...; END;".to_string()),
    }
}

fn is(piece: &Piece, at: usize, word: &str) -> bool {
    piece
        .tokens
        .get(at)
        .and_then(|token| bare_word(&token.token))
        .is_some_and(|found| found.value.eq_ignore_ascii_case(word))
}

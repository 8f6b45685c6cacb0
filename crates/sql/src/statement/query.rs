//! A query: read by sqlparser, accepted, its hints put in place, rewritten; and `EMIT CHANGES` behind it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, TableFactor, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token};
use tidemill_base::Position;

use super::cursor::Cursor;
use super::lex::{self, Hint, Piece, Source};
use super::{Setting, accept, create_table, place};
use crate::dialect::FlinkDialect;
use crate::error::Error;
use crate::rewrite;

/// A query that the planner can take: accepted and rewritten.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What sqlparser read, with one spelling of each thing (see [`crate::rewrite`]).
    pub ast: Box<ast::Query>,
    /// `EMIT CHANGES` was written: updates are wanted before windows close.
    pub emit_changes: bool,
    /// Where it starts.
    pub position: Position,
}

/// Reads a query that stands alone, where rows may be ordered and limited.
pub(super) fn top_level(cursor: &mut Cursor<'_>) -> Result<Query, Error> {
    read(cursor, accept::Place::Top)
}

/// Reads a query that feeds a view or a table.
pub(super) fn inner(cursor: &mut Cursor<'_>) -> Result<Query, Error> {
    read(cursor, accept::Place::Continuous)
}

fn read(cursor: &mut Cursor<'_>, place: accept::Place) -> Result<Query, Error> {
    let position = cursor.position();
    let mut ast = cursor.query()?;
    let emit_changes = emit(cursor)?;
    cursor.finish()?;
    accept::query(&ast, cursor, place, position)?;
    place_hints(&mut ast, cursor)?;
    rewrite::query(&mut ast, position)?;
    Ok(Query { ast, emit_changes, position })
}

fn emit(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    if !cursor.take(&["EMIT"]) {
        return Ok(false);
    }
    if cursor.take(&["CHANGES"]) {
        return Ok(true);
    }
    Err(cursor
        .unexpected_with("CHANGES", "EMIT CHANGES asks for updates; without it windows are emitted when they close"))
}

/// The options that a hint gives a table in FROM.
pub fn table_options(factor: &TableFactor) -> Vec<Setting> {
    let TableFactor::Table { with_hints, .. } = factor else { return vec![] };
    let text = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some((text.clone(), place(value.span.start))),
            _ => None,
        },
        _ => None,
    };
    let setting = |hint: &Expr| match hint {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let ((key, key_position), (value, value_position)) = (text(left)?, text(right)?);
            Some(Setting { key, value, key_position, value_position })
        }
        _ => None,
    };
    with_hints.iter().filter_map(setting).collect()
}

/// Takes the hint that stands right after the token taken last, as options.
pub(super) fn take_options(cursor: &mut Cursor<'_>) -> Result<Vec<Setting>, Error> {
    let after = cursor.last_end();
    match cursor.hints.iter().position(|hint| hint.after == after) {
        Some(index) => options(&cursor.hints.remove(index)),
        None => Ok(vec![]),
    }
}

/// Gives each hint to the table whose name it follows; those that follow no table are left.
fn place_hints(query: &mut ast::Query, cursor: &mut Cursor<'_>) -> Result<(), Error> {
    if cursor.hints.is_empty() {
        return Ok(());
    }
    let mut placer = Placer { hints: std::mem::take(&mut cursor.hints) };
    let placed = query.visit(&mut placer);
    cursor.hints = placer.hints;
    match placed {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Placer {
    hints: Vec<Hint>,
}

impl VisitorMut for Placer {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args: None, with_hints, .. } = factor else { return ControlFlow::Continue(()) };
        let end = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.span.end);
        let Some(index) = self.hints.iter().position(|hint| hint.after == end) else {
            return ControlFlow::Continue(());
        };
        match options(&self.hints.remove(index)) {
            Ok(options) => *with_hints = options.into_iter().map(equation).collect(),
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

fn equation(setting: Setting) -> Expr {
    let text = |text: String, at: Position| {
        let location = Location { line: at.line, column: at.column };
        Box::new(Expr::Value(Value::SingleQuotedString(text).with_span(Span::new(location, location))))
    };
    Expr::BinaryOp {
        left: text(setting.key, setting.key_position),
        op: BinaryOperator::Eq,
        right: text(setting.value, setting.value_position),
    }
}

/// Reads `OPTIONS('k'='v', ...)`; all places are the hint's, which is one token to the reader.
fn options(hint: &Hint) -> Result<Vec<Setting>, Error> {
    let wrong = |problem: String| Error::Hint {
        problem,
        position: hint.position,
        help: Some(
            "the only hint is /*+ OPTIONS('key'='value', ...) */ after a table's name; or remove it".to_string(),
        ),
    };
    let source = Source::new(&hint.text);
    let pieces = lex::pieces(&source).map_err(|error| wrong(format!("the hint cannot be read: {error}")))?;
    let [piece @ Piece { .. }] = pieces.as_slice() else { return Err(wrong("the hint cannot be read".to_string())) };
    let dialect = FlinkDialect::default();
    let mut cursor = Cursor::new(&dialect, &source, piece);
    if !cursor.take(&["OPTIONS"]) {
        return Err(wrong(format!("the hint {} is not understood", hint.text.trim())));
    }
    let mut read = create_table::options(&mut cursor).map_err(|error| wrong(format!("in the hint: {error}")))?;
    if !cursor.sees_token(&Token::EOF) {
        return Err(wrong("only one hint can stand here".to_string()));
    }
    for setting in &mut read {
        (setting.key_position, setting.value_position) = (hint.position, hint.position);
    }
    Ok(read)
}

//! Flink's dialect for sqlparser: its lexical rules, and our own reading of everything that starts with a word.
//!
//! sqlparser would try several readings of a word one after the other, which loses the error of the right one and can take
//! exponential time. So the hook `parse_prefix` decides by the word and what follows it, once. Forms that are no plain
//! calls become plain calls there; the functions library implements these (names in capitals, units as texts):
//!
//! | written | becomes |
//! |---|---|
//! | `EXTRACT(unit FROM x)` | `EXTRACT('UNIT', x)` |
//! | `FLOOR(x TO unit)`, `CEIL(x TO unit)` | `FLOOR(x, 'UNIT')`, `CEIL(x, 'UNIT')`; without TO `FLOOR(x)`, `CEIL(x)` |
//! | `TIMESTAMPADD(unit, n, t)`, `TIMESTAMPDIFF(unit, a, b)` | the same with `'UNIT'` |
//! | `POSITION(a IN b)` | `POSITION(a, b)` |
//! | `SUBSTRING(a FROM b FOR c)`, `SUBSTR(a, b, c)` | `SUBSTRING(a, b, c)` |
//! | `OVERLAY(a PLACING b FROM c FOR d)` | `OVERLAY(a, b, c, d)` |
//! | `TRIM(x)`, `TRIM(BOTH FROM x)` | `TRIM(x)` |
//! | `TRIM(BOTH c FROM x)`, `LEADING`, `TRAILING` | `BTRIM(x, c)`, `LTRIM(x, c)`, `RTRIM(x, c)` |
//! | `MAP[k, v, ...]` | `MAP(k, v, ...)` |
//! | `ROW(a, b)` | `ROW(a, b)` |
//! | `ARRAY[a, b, ...]` | `ARRAY(a, b, ...)` |
//! | `CAST(x AS type)`, `TRY_CAST`, `DATE '...'`, `TIMESTAMP '...'` | `Expr::Cast`, `Expr::TypedString` with [`crate::types::MARKER`] |
//! | `1e3` | `CAST('1e3' AS DOUBLE)` |
//! | `INTERVAL '1:30' MINUTE TO SECOND` | `INTERVAL '90000' MILLISECONDS`; year-month ones `INTERVAL 'n' MONTHS` |
//! | `TABLE t PARTITION BY a ORDER BY b` | `$table(t) OVER (PARTITION BY a ORDER BY b)`, read by [`window_call`] |

mod forms;
mod interval;
mod literal;
mod table;
mod window;

use std::cell::{Cell, RefCell};

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::{self, Keyword};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use tidemill_base::Position;

pub(crate) use forms::call as plain_call;
pub use interval::{IntervalLiteral, interval_of};
pub(crate) use table::argument as table_argument;
pub(crate) use window::factor_position;
pub use window::{WindowCall, WindowInput, WindowKind, is_window_function, window_call};

use crate::error::Error;

/// Words that cannot be names unless they are in backticks; fewer than Flink's, so that its files pass.
const RESERVED: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "CROSS",
    "DISTINCT",
    "DROP",
    "ELSE",
    "EMIT",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FETCH",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "PRIMARY",
    "RIGHT",
    "SELECT",
    "SET",
    "TABLE",
    "THEN",
    "TRUE",
    "UNION",
    "UNNEST",
    "USING",
    "VALUES",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WITH",
];

/// How often an expression may be started for each token; more means that readings are tried without end.
const STARTS_PER_TOKEN: u64 = 200;

/// Whether a word, unquoted, cannot be a name.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// Flink's dialect, and what one parse has to remember: the first error of ours and the work that is left.
#[derive(Debug, Default)]
pub(crate) struct FlinkDialect {
    error: RefCell<Option<Error>>,
    fuel: Cell<u64>,
    end: Cell<Option<Position>>,
}

impl FlinkDialect {
    /// Gets ready for the tokens of a statement.
    pub(crate) fn refuel(&self, tokens: usize, end: Position) {
        self.fuel.set(1_000 + tokens as u64 * STARTS_PER_TOKEN);
        self.end.set(Some(end));
        self.error.take();
    }

    /// The error of ours that stopped the parser, if it was one.
    pub(crate) fn take_error(&self) -> Option<Error> {
        self.error.take()
    }

    fn end(&self) -> Position {
        self.end.get().unwrap_or(Position { line: 1, column: 1 })
    }

    fn burn(&self) -> bool {
        let left = self.fuel.get();
        self.fuel.set(left.saturating_sub(1));
        left > 0
    }

    /// sqlparser retries after every error but this one, so it carries all of ours.
    fn stop(&self, error: Error) -> ParserError {
        self.error.borrow_mut().get_or_insert(error);
        ParserError::RecursionLimitExceeded
    }
}

/// What ends the reading of a form early: an error of ours, or one of sqlparser's.
enum Stop {
    Ours(Error),
    Theirs(ParserError),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Ours(error)
    }
}

impl From<ParserError> for Stop {
    fn from(error: ParserError) -> Self {
        Stop::Theirs(error)
    }
}

impl Dialect for FlinkDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn is_column_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        !keywords::RESERVED_FOR_COLUMN_ALIAS.contains(keyword) && !stands_reserved(parser)
    }

    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        !keywords::RESERVED_FOR_TABLE_ALIAS.contains(keyword) && !stands_reserved(parser)
    }

    fn is_select_item_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        if explicit { !stands_reserved(parser) } else { self.is_column_alias(keyword, parser) }
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        if explicit { !stands_reserved(parser) } else { self.is_table_alias(keyword, parser) }
    }

    fn parse_infix(&self, parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        distinct_from(parser, left, precedence)
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        if !self.burn() {
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        let next = parser.peek_token_ref();
        let read = match &next.token {
            Token::Word(word) => {
                let word = word.clone();
                forms::word(parser, &word, self.end())
            }
            Token::Number(digits, _) if digits.contains(['e', 'E']) => {
                let (digits, span) = (digits.clone(), next.span);
                parser.next_token();
                Ok(literal::double(digits, span))
            }
            _ => return None,
        };
        Some(read.map_err(|stop| match stop {
            Stop::Ours(error) => self.stop(error),
            Stop::Theirs(error) => error,
        }))
    }
}

/// Reads `IS [NOT] DISTINCT FROM` as far as it binds; sqlparser would take all of `b AND c` after `a IS DISTINCT FROM`.
fn distinct_from(parser: &mut Parser<'_>, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
    use Keyword::{DISTINCT, FROM, IS, NOT};
    let same = parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]);
    if !same && !parser.parse_keywords(&[IS, DISTINCT, FROM]) {
        return None;
    }
    let left = Box::new(left.clone());
    Some(parser.parse_subexpr(precedence).map(Box::new).map(|right| match same {
        true => Expr::IsNotDistinctFrom(left, right),
        false => Expr::IsDistinctFrom(left, right),
    }))
}

/// The word that was just taken is reserved; sqlparser has no keyword for some of ours.
fn stands_reserved(parser: &Parser<'_>) -> bool {
    match &parser.get_current_token().token {
        Token::Word(word) => word.quote_style.is_none() && is_reserved(&word.value),
        _ => false,
    }
}

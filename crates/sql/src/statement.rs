//! Flink's statements: a text in, checked [`Statement`]s out, the first error with its place.
//!
//! Statements and types are read by us, token by token; queries and expressions by sqlparser from the same tokens, under
//! [`crate::dialect`]. Each query then passes [`accept`](self::accept), which refuses what cannot run, and
//! [`crate::rewrite`], which leaves one spelling of each thing for the planner. There is one file a statement.

mod accept;
mod create_endpoint;
mod create_function;
mod create_index;
mod create_table;
mod create_view;
mod cursor;
mod drop;
mod explain;
mod insert;
mod lex;
mod query;
mod refused;
mod set;
mod statement_set;
#[cfg(test)]
mod tests;

use datafusion::sql::sqlparser::tokenizer::Token;
use tidemill_base::Position;

pub use create_endpoint::{CreateEndpoint, RequestColumn};
pub use create_function::CreateFunction;
pub use create_index::CreateIndex;
pub use create_table::{Column, ColumnKind, CreateTable, Including, LikeClause, LikeFeature, PrimaryKey, Watermark};
pub use create_view::{CreateMaterializedView, CreateView};
pub(crate) use cursor::{name_start, shown as shown_token, start_of};
pub use drop::{Drop, DropKind};
pub use insert::Insert;
pub(crate) use lex::{bare_word, place};
pub use query::{Query, table_options};
pub use set::Setting;

use crate::dialect::FlinkDialect;
use crate::error::Error;
use cursor::Cursor;
use lex::Source;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it says.
    pub body: Body,
    /// Where it starts.
    pub position: Position,
    /// The source, without the semicolon.
    pub text: String,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // There are a few of them, for as long as it takes to plan them.
pub enum Body {
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `CREATE VIEW`.
    CreateView(CreateView),
    /// `CREATE MATERIALIZED VIEW`.
    CreateMaterializedView(CreateMaterializedView),
    /// `CREATE ENDPOINT`.
    CreateEndpoint(CreateEndpoint),
    /// `CREATE FUNCTION`.
    CreateFunction(CreateFunction),
    /// `CREATE INDEX`.
    CreateIndex(CreateIndex),
    /// `DROP TABLE`, `DROP VIEW`, `DROP FUNCTION`.
    Drop(Drop),
    /// `INSERT INTO`.
    Insert(Insert),
    /// `EXECUTE STATEMENT SET`: inserts that run as one.
    StatementSet(Vec<Statement>),
    /// `SET 'key' = 'value'`.
    Set(Setting),
    /// `EXPLAIN`, of a query, an insert or a set.
    Explain(Box<Statement>),
    /// A query alone.
    Query(Query),
}

/// A name as written, and where; names are compared by case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The name, without backticks.
    pub text: String,
    /// Where it stands.
    pub position: Position,
}

/// Reads all statements of a text.
///
/// # Errors
/// The first thing that is wrong, with its place; [`crate::error::render`] shows it.
pub fn parse(text: &str) -> Result<Vec<Statement>, Error> {
    let source = Source::new(text);
    let pieces = lex::pieces(&source)?;
    let dialect = FlinkDialect::default();
    let mut statements = Vec::new();
    let mut rest = pieces.into_iter();
    while let Some(piece) = rest.next() {
        statements.push(match statement_set::opens(&piece) {
            Some(opening) => statement_set::parse(opening, piece, &mut rest, &dialect, &source)?,
            None => single(&piece, &dialect, &source)?,
        });
    }
    Ok(statements)
}

/// Reads one statement that ends where its piece does.
fn single(piece: &lex::Piece, dialect: &FlinkDialect, source: &Source<'_>) -> Result<Statement, Error> {
    lex::check(piece)?;
    let mut cursor = Cursor::new(dialect, source, piece);
    let position = piece.start();
    let body = body(&mut cursor)?;
    cursor.finish()?;
    if let Some(hint) = cursor.hints.first() {
        return Err(Error::Hint {
            problem: "a hint is not understood here".to_string(),
            position: hint.position,
            help: Some("write /*+ OPTIONS('key'='value') */ right after a table's name, or remove it".to_string()),
        });
    }
    Ok(Statement { body, position, text: source.between(position, piece.end).trim_end().to_string() })
}

fn body(cursor: &mut Cursor<'_>) -> Result<Body, Error> {
    let first = bare_word(&cursor.parser.peek_token_ref().token).map(|word| word.value.to_ascii_uppercase());
    let bracket = cursor.sees_token(&Token::LParen);
    match first.as_deref() {
        Some("CREATE") => create(cursor),
        Some("DROP") => drop::parse(cursor).map(Body::Drop),
        Some("INSERT") => insert::parse(cursor).map(Body::Insert),
        Some("SET") => set::parse(cursor).map(Body::Set),
        Some("EXPLAIN") => explain::parse(cursor),
        Some("SELECT" | "WITH" | "VALUES") => query::top_level(cursor).map(Body::Query),
        None if bracket => query::top_level(cursor).map(Body::Query),
        _ => Err(refused::statement(cursor)),
    }
}

fn create(cursor: &mut Cursor<'_>) -> Result<Body, Error> {
    let temporary = usize::from(cursor.sees_nth(1, "TEMPORARY"));
    let second = bare_word(&cursor.parser.peek_nth_token_ref(1 + temporary).token);
    match second.map(|word| word.value.to_ascii_uppercase()).as_deref() {
        Some("TABLE") => create_table::parse(cursor).map(Body::CreateTable),
        Some("VIEW") => create_view::parse(cursor).map(Body::CreateView),
        Some("MATERIALIZED") if temporary == 0 && !cursor.sees_nth(2, "TABLE") => {
            create_view::parse_materialized(cursor).map(Body::CreateMaterializedView)
        }
        Some("ENDPOINT") if temporary == 0 => create_endpoint::parse(cursor).map(Body::CreateEndpoint),
        Some("FUNCTION" | "SYSTEM") => create_function::parse(cursor).map(Body::CreateFunction),
        Some("INDEX") if temporary == 0 => create_index::parse(cursor).map(Body::CreateIndex),
        _ => Err(refused::create(cursor, temporary)),
    }
}

//! `CREATE TABLE`: columns, computed and metadata columns, watermark, primary key, partitions, options, LIKE.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;
use tidemill_base::{Position, suggest};

use super::create_view::comment;
use super::cursor::Cursor;
use super::{Name, Setting, accept};
use crate::error::Error;
use crate::types::Type;

/// A table that events come from or go to.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// Its name.
    pub name: Name,
    /// Nothing happens when the name is taken.
    pub if_not_exists: bool,
    /// It is gone with the session; all of ours are.
    pub temporary: bool,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its event time, when it has one.
    pub watermark: Option<Watermark>,
    /// What identifies a row, when declared.
    pub primary_key: Option<PrimaryKey>,
    /// What it is for, in words.
    pub comment: Option<String>,
    /// The columns that name its folders.
    pub partitioned_by: Vec<Name>,
    /// What stands in WITH.
    pub options: Vec<Setting>,
    /// The table it takes definitions from.
    pub like: Option<LikeClause>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: Name,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// What it is for, in words.
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // There are a few of them, for as long as it takes to plan them.
pub enum ColumnKind {
    /// From the record.
    Physical(Type),
    /// From an expression over the other columns.
    Computed(ast::Expr),
    /// From what the connector knows of the record.
    Metadata {
        /// The column's type.
        data_type: Type,
        /// The connector's name for it; the column's when not given.
        key: Option<String>,
        /// It is read only, never written.
        is_virtual: bool,
    },
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// The time column.
    pub column: Name,
    /// The watermark that a row makes.
    pub expr: ast::Expr,
    /// Where it stands.
    pub position: Position,
}

/// `PRIMARY KEY (columns) NOT ENFORCED`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// The columns, one at least.
    pub columns: Vec<Name>,
    /// Where it stands.
    pub position: Position,
}

/// `LIKE table (options)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeClause {
    /// The table that definitions come from.
    pub table: Name,
    /// What is taken of it, beyond the columns.
    pub options: Vec<(Including, LikeFeature)>,
}

/// What to do with a part of the table named by LIKE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Including {
    /// Take it; it must not be there twice.
    Including,
    /// Leave it.
    Excluding,
    /// Take it; what this table says wins.
    Overwriting,
}

/// A part of a table that LIKE can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeFeature {
    /// Every part.
    All,
    /// The primary key.
    Constraints,
    /// How rows are spread, which is nothing here.
    Distribution,
    /// The computed columns.
    Generated,
    /// The metadata columns.
    Metadata,
    /// What stands in WITH.
    Options,
    /// PARTITIONED BY.
    Partitions,
    /// The watermark.
    Watermarks,
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<CreateTable, Error> {
    cursor.expect(&["CREATE"])?;
    let temporary = cursor.take(&["TEMPORARY"]);
    cursor.expect(&["TABLE"])?;
    let if_not_exists = cursor.take_if(&["NOT", "EXISTS"])?;
    let name = cursor.object_name("the table's name")?;
    let mut table = CreateTable {
        name,
        if_not_exists,
        temporary,
        columns: vec![],
        watermark: None,
        primary_key: None,
        comment: None,
        partitioned_by: vec![],
        options: vec![],
        like: None,
    };
    if cursor.sees_token(&Token::LParen) {
        cursor.list(|cursor| item(cursor, &mut table))?;
    }
    tail(cursor, &mut table)?;
    check(cursor, &table)?;
    Ok(table)
}

/// One thing between the brackets: a column, the watermark, or the key.
fn item(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<(), Error> {
    if cursor.sees("WATERMARK") {
        let watermark = watermark(cursor)?;
        return once(&mut table.watermark, watermark.position, watermark, "WATERMARK");
    }
    if cursor.sees_nth(1, "KEY") && cursor.sees("PRIMARY") || cursor.sees("CONSTRAINT") {
        let key = primary_key(cursor)?;
        return once(&mut table.primary_key, key.position, key, "PRIMARY KEY");
    }
    if cursor.sees("UNIQUE") || cursor.sees("FOREIGN") || cursor.sees("CHECK") {
        return Err(Error::Unsupported {
            what: "the only constraint is PRIMARY KEY".to_string(),
            position: cursor.position(),
            help: Some("remove it: rows are not checked against others".to_string()),
        });
    }
    column(cursor, table)
}

fn once<T>(slot: &mut Option<T>, position: Position, value: T, what: &str) -> Result<(), Error> {
    if slot.is_some() {
        let problem = format!("a table has one {what} only");
        return Err(Error::Definition { problem, position, help: Some("remove one of them".to_string()) });
    }
    *slot = Some(value);
    Ok(())
}

fn column(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<(), Error> {
    let name = cursor.name("a column's name")?;
    if table.columns.iter().any(|other| other.name.text == name.text) {
        return Err(Error::Definition {
            problem: format!("the column {} is defined twice", name.text),
            position: name.position,
            help: Some("rename or remove one of them".to_string()),
        });
    }
    let kind = match cursor.take(&["AS"]) {
        true => ColumnKind::Computed(expr(cursor)?),
        false => typed(cursor, &name, table)?,
    };
    let comment = comment(cursor)?;
    table.columns.push(Column { name, kind, comment });
    Ok(())
}

/// The type of a column and what follows it.
fn typed(cursor: &mut Cursor<'_>, name: &Name, table: &mut CreateTable) -> Result<ColumnKind, Error> {
    let data_type = cursor.data_type()?;
    let position = cursor.position();
    if cursor.take(&["METADATA"]) {
        let key = if cursor.take(&["FROM"]) { Some(cursor.string("the metadata's key, in quotes")?) } else { None };
        let is_virtual = cursor.take(&["VIRTUAL"]);
        return Ok(ColumnKind::Metadata { data_type, key, is_virtual });
    }
    if cursor.sees("CONSTRAINT") || cursor.sees("PRIMARY") {
        constraint_name(cursor)?;
        cursor.expect(&["PRIMARY", "KEY"])?;
        not_enforced(cursor)?;
        let key = PrimaryKey { columns: vec![name.clone()], position };
        once(&mut table.primary_key, position, key, "PRIMARY KEY")?;
    }
    if cursor.sees("DEFAULT") || cursor.sees("UNIQUE") || cursor.sees("REFERENCES") || cursor.sees("CHECK") {
        return Err(Error::Unsupported {
            what: "a column can have NOT NULL, PRIMARY KEY and COMMENT only".to_string(),
            position: cursor.position(),
            help: Some("compute other values in a view, for instance with COALESCE".to_string()),
        });
    }
    Ok(ColumnKind::Physical(data_type))
}

fn watermark(cursor: &mut Cursor<'_>) -> Result<Watermark, Error> {
    let position = cursor.position();
    cursor.expect(&["WATERMARK", "FOR"])?;
    let column = cursor.name("the time column")?;
    if cursor.sees_token(&Token::Period) {
        return Err(Error::Unsupported {
            what: "a watermark is for a column, not for a field inside one".to_string(),
            position: column.position,
            help: Some("define a computed column for it: ts AS row_column.field".to_string()),
        });
    }
    if !cursor.take(&["AS"]) {
        let help = format!("write WATERMARK FOR {} AS {} - INTERVAL '5' SECOND", column.text, column.text);
        return Err(cursor.unexpected_with("AS", &help));
    }
    Ok(Watermark { column, expr: expr(cursor)?, position })
}

fn expr(cursor: &mut Cursor<'_>) -> Result<ast::Expr, Error> {
    let position = cursor.position();
    let expr = cursor.expr()?;
    accept::expr(&expr, cursor, position)?;
    Ok(expr)
}

/// `[CONSTRAINT name] PRIMARY KEY (columns) NOT ENFORCED`.
pub(super) fn primary_key(cursor: &mut Cursor<'_>) -> Result<PrimaryKey, Error> {
    constraint_name(cursor)?;
    let position = cursor.position();
    cursor.expect(&["PRIMARY", "KEY"])?;
    let columns = cursor.list(|cursor| cursor.name("a column's name"))?;
    not_enforced(cursor)?;
    Ok(PrimaryKey { columns, position })
}

fn constraint_name(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    if cursor.take(&["CONSTRAINT"]) {
        cursor.name("the constraint's name")?;
    }
    Ok(())
}

fn not_enforced(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    if cursor.take(&["NOT", "ENFORCED"]) {
        return Ok(());
    }
    Err(cursor.unexpected_with(
        "NOT ENFORCED",
        "a key is a promise of the source, not checked: write PRIMARY KEY (id) NOT ENFORCED",
    ))
}

/// What follows the brackets.
fn tail(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<(), Error> {
    table.comment = comment(cursor)?;
    if cursor.sees("DISTRIBUTED") {
        return Err(Error::Unsupported {
            what: "DISTRIBUTED BY is not supported".to_string(),
            position: cursor.position(),
            help: Some("remove it: lanes share the keys by themselves".to_string()),
        });
    }
    if cursor.take(&["PARTITIONED", "BY"]) {
        table.partitioned_by = cursor.list(|cursor| cursor.name("a column's name"))?;
    }
    if cursor.take(&["WITH"]) {
        table.options = options(cursor)?;
    }
    if cursor.take(&["LIKE"]) {
        table.like = Some(like(cursor)?);
    }
    if cursor.sees("AS") {
        return Err(Error::Unsupported {
            what: "CREATE TABLE ... AS query is not supported".to_string(),
            position: cursor.position(),
            help: Some("write CREATE TABLE with its columns, then INSERT INTO it the query".to_string()),
        });
    }
    Ok(())
}

/// `('key' = 'value', ...)`.
pub(super) fn options(cursor: &mut Cursor<'_>) -> Result<Vec<Setting>, Error> {
    let mut options: Vec<Setting> = Vec::new();
    cursor.list(|cursor| {
        let key_position = cursor.position();
        let key = cursor.string("an option's key, in quotes")?;
        if options.iter().any(|other| other.key == key) {
            let problem = format!("the option '{key}' is given twice");
            return Err(Error::Definition {
                problem,
                position: key_position,
                help: Some("remove one of them".to_string()),
            });
        }
        cursor.expect_token(&Token::Eq)?;
        let value_position = cursor.position();
        let value = match &cursor.parser.peek_token_ref().token {
            Token::Number(number, _) => {
                let help = format!("write '{number}' in single quotes");
                return Err(cursor.unexpected_with("the option's value, in quotes", &help));
            }
            _ => cursor.string("the option's value, in quotes")?,
        };
        options.push(Setting { key, value, key_position, value_position });
        Ok(())
    })?;
    Ok(options)
}

fn like(cursor: &mut Cursor<'_>) -> Result<LikeClause, Error> {
    let table = cursor.object_name("the other table's name")?;
    let mut options = Vec::new();
    if cursor.take_token(&Token::LParen) {
        while !cursor.take_token(&Token::RParen) {
            options.push(like_option(cursor)?);
        }
    }
    Ok(LikeClause { table, options })
}

fn like_option(cursor: &mut Cursor<'_>) -> Result<(Including, LikeFeature), Error> {
    let including = if cursor.take(&["INCLUDING"]) {
        Including::Including
    } else if cursor.take(&["EXCLUDING"]) {
        Including::Excluding
    } else if cursor.take(&["OVERWRITING"]) {
        Including::Overwriting
    } else {
        return Err(cursor.unexpected("INCLUDING, EXCLUDING, OVERWRITING or `)`"));
    };
    let features = [
        ("ALL", LikeFeature::All),
        ("CONSTRAINTS", LikeFeature::Constraints),
        ("DISTRIBUTION", LikeFeature::Distribution),
        ("GENERATED", LikeFeature::Generated),
        ("METADATA", LikeFeature::Metadata),
        ("OPTIONS", LikeFeature::Options),
        ("PARTITIONS", LikeFeature::Partitions),
        ("WATERMARKS", LikeFeature::Watermarks),
    ];
    for (word, feature) in features {
        if cursor.take(&[word]) {
            return Ok((including, feature));
        }
    }
    let words: Vec<_> = features.iter().map(|(word, _)| *word).collect();
    Err(cursor.unexpected(&words.join(", ")))
}

/// What the parts say of each other.
fn check(cursor: &Cursor<'_>, table: &CreateTable) -> Result<(), Error> {
    if table.options.is_empty() && table.like.is_none() {
        return Err(cursor.unexpected_with(
            "WITH",
            &format!("say where {} comes from or goes to: WITH ('connector' = '...', ...)", table.name.text),
        ));
    }
    if table.like.is_some() {
        return Ok(());
    }
    if table.columns.is_empty() {
        return Err(Error::Definition {
            problem: format!("the table {} has no columns", table.name.text),
            position: table.name.position,
            help: Some("list them after its name: (id BIGINT, ...)".to_string()),
        });
    }
    let keys = table.primary_key.iter().flat_map(|key| &key.columns);
    for name in keys.chain(&table.partitioned_by).chain(table.watermark.iter().map(|watermark| &watermark.column)) {
        known(table, name)?;
    }
    Ok(())
}

fn known(table: &CreateTable, name: &Name) -> Result<(), Error> {
    let columns = || table.columns.iter().map(|column| column.name.text.as_str());
    if columns().any(|column| column == name.text) {
        return Ok(());
    }
    let help = match suggest::nearest(&name.text, columns()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("its columns are {}", columns().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::Unknown {
        what: "column",
        name: format!("{} in the table {}", name.text, table.name.text),
        position: Some(name.position),
        help: Some(help),
    })
}

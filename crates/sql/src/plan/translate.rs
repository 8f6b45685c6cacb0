//! What DataFusion's planner complains about, in our words and at its place in the text.

use datafusion::common::{Column, DataFusionError, SchemaError};
use tidemill_base::{Position, suggest};

use crate::catalog::Catalog;
use crate::error::Error;
use crate::rewrite::MERGED;
use crate::types::quoted;

/// Turns a planning error into ours; `fallback` is where the statement starts.
pub(crate) fn translate(error: DataFusionError, catalog: &Catalog, fallback: Position) -> Error {
    let mut position = None;
    let mut error = error;
    loop {
        error = match error {
            DataFusionError::Diagnostic(diagnostic, inner) => {
                let span = diagnostic.span.or_else(|| diagnostic.notes.iter().find_map(|note| note.span));
                position = position.or(span.map(|span| Position { line: span.start.line, column: span.start.column }));
                *inner
            }
            DataFusionError::Context(_, inner) => *inner,
            DataFusionError::Collection(mut errors) if !errors.is_empty() => errors.remove(0),
            other => break named(other, catalog, position, fallback),
        };
    }
}

fn named(error: DataFusionError, catalog: &Catalog, position: Option<Position>, fallback: Position) -> Error {
    let place = Some(position.unwrap_or(fallback));
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => placed(*ours, position.unwrap_or(fallback)),
            Err(other) => Error::Plan { problem: other.to_string(), position: place, help: None },
        },
        DataFusionError::Shared(inner) => {
            Error::Plan { problem: inner.message().into_owned(), position: place, help: None }
        }
        DataFusionError::SchemaError(inner, _) => schema(*inner, place),
        DataFusionError::Plan(message) => plan(&message, catalog, place),
        DataFusionError::NotImplemented(message) => {
            Error::Unsupported { what: refused(&message), position: position.unwrap_or(fallback), help: None }
        }
        DataFusionError::Execution(message) => {
            Error::Plan { problem: first_line(&message), position: place, help: None }
        }
        other => Error::Plan { problem: first_line(&other.find_root().message()), position: place, help: None },
    }
}

/// Fills in the place of an error that had none.
pub(crate) fn placed(error: Error, place: Position) -> Error {
    match error {
        Error::Unknown { what, name, position, help } => {
            Error::Unknown { what, name, position: Some(position.unwrap_or(place)), help }
        }
        Error::Plan { problem, position, help } => {
            Error::Plan { problem, position: Some(position.unwrap_or(place)), help }
        }
        other => other,
    }
}

fn schema(error: SchemaError, position: Option<Position>) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let spot = field.spans.first().map(|span| Position { line: span.start.line, column: span.start.column });
            unknown_column(&field, &valid_fields, spot.or(position))
        }
        SchemaError::AmbiguousReference { field } => Error::Plan {
            problem: format!("the column {} is in more than one table", field.name),
            position: field
                .spans
                .first()
                .map(|span| Position { line: span.start.line, column: span.start.column })
                .or(position),
            help: Some(format!("name the table too: t.{}", quoted(&field.name))),
        },
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::Plan {
                problem: format!("two columns are called {name}"),
                position,
                help: Some(format!("give one of them another name: {} AS other", quoted(&name))),
            }
        }
    }
}

fn unknown_column(field: &Column, valid: &[Column], position: Option<Position>) -> Error {
    let of_table: Vec<&Column> =
        valid.iter().filter(|column| field.relation.is_none() || column.relation == field.relation).collect();
    let merged = |column: &&Column| column.relation.as_ref().is_some_and(|table| table.table().starts_with(MERGED));
    if valid.iter().filter(merged).any(|column| column.name == field.name) {
        let help = format!("a join makes one column of those of both sides: write {} alone", quoted(&field.name));
        return Error::Unknown { what: "column", name: field.flat_name(), position, help: Some(help) };
    }
    if of_table.is_empty() && !valid.is_empty() {
        let table = field.relation.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut tables: Vec<String> =
            valid.iter().filter_map(|column| column.relation.as_ref()).map(|table| table.table().to_string()).collect();
        tables.dedup();
        let help =
            suggest::nearest(&table, tables.iter().map(String::as_str)).map(|meant| format!("did you mean {meant}?"));
        let help = help.or_else(|| (!tables.is_empty()).then(|| format!("this query reads {}", tables.join(", "))));
        return Error::Unknown { what: "table in this query called", name: table, position, help };
    }
    let names: Vec<&str> = of_table.iter().map(|column| column.name.as_str()).collect();
    let help = match suggest::nearest(&field.name, names.iter().copied()) {
        Some(meant) => Some(format!("did you mean {}?", quoted(meant))),
        None if names.is_empty() => None,
        None if names.len() > 20 => Some(format!("its columns start with {}", names[..20].join(", "))),
        None => Some(format!("its columns are {}", names.join(", "))),
    };
    Error::Unknown { what: "column", name: field.name.clone(), position, help }
}

fn plan(message: &str, catalog: &Catalog, position: Option<Position>) -> Error {
    let error = |problem: &str, help: &str| Error::Plan {
        problem: problem.to_string(),
        position,
        help: (!help.is_empty()).then(|| help.to_string()),
    };
    if let Some(name) = between(message, "Invalid function '", "'") {
        let help = catalog.nearest_function(name).map(|meant| format!("did you mean {meant}?"));
        let help = help.or(Some("docs/sql.md lists the functions there are".to_string()));
        return Error::Unknown { what: "function", name: name.to_uppercase(), position, help };
    }
    if let Some(rest) = message.strip_prefix("Column in ").and_then(|rest| rest.split_once(" must be in GROUP BY")) {
        let column = between(message, "column \"", "\"").map(bare).unwrap_or_default();
        let problem =
            format!("the column {column} in {} is neither in GROUP BY nor inside an aggregate function", rest.0);
        return error(&problem, &format!("add {column} to GROUP BY, or take MAX({column}) for instance"));
    }
    if message.starts_with("Aggregate functions are not allowed in the WHERE") {
        return error(
            "WHERE is decided row by row and cannot hold an aggregate function",
            "write the condition in HAVING",
        );
    }
    if message.contains("is nested inside") {
        return error("an aggregate function cannot be inside another", "compute the inner one in a subquery in FROM");
    }
    if message.contains("Correlated scalar subquery must be aggregated") {
        return error(
            "this query stands for a value, and may give several rows",
            "aggregate it, as in (SELECT MAX(b.x) FROM b WHERE b.id = a.id)",
        );
    }
    if message.contains("should only return one column") {
        return error("IN, ANY and ALL compare with the one column of a query", "select one column");
    }
    if let (Some(columns), Some(names)) =
        (between(message, "Source table contains ", " columns"), between(message, "but only ", " names"))
    {
        let problem = format!("there are {columns} columns here, and {names} wanted");
        return error(&problem, "name all of them, as in t (a, b), or compare with ANY and ALL of one");
    }
    if let Some(name) = between(message, "but the expression \"", "\"") {
        let problem = format!("two columns are called {}", bare(name));
        return error(&problem, "give each its own name with AS");
    }
    if message.contains("different number of columns") || message.contains("Union schemas have different number") {
        return error("the queries of UNION have different numbers of columns", "select as many in each");
    }
    if let Some(rest) = message.strip_prefix("Incompatible inputs for Union: ") {
        let column = between(rest, "on column '", "'").unwrap_or_default();
        let problem = format!("the queries of UNION have different types in the column {}", bare(column));
        return error(&problem, "CAST one of them to the other's type");
    }
    if let (true, Some(found)) = (message.starts_with("Cannot create filter"), between(message, "returning ", "\u{0}"))
    {
        let problem = format!("WHERE and HAVING take a condition, and this is {}", arrow_words(found));
        return error(&problem, "compare it with something");
    }
    if let Some(rest) = message.strip_prefix("Cannot infer common argument type for ") {
        let operation = rest.split_once("operation ").map_or(rest, |(_, operation)| operation);
        return error(
            &format!("{} cannot be compared", arrow_words(operation)),
            "CAST one side to the type of the other",
        );
    }
    if let Some(rest) = message.strip_prefix("Cannot coerce arithmetic expression ") {
        let operation = rest.trim_end_matches(" to valid types");
        return error(&format!("{} cannot be computed", arrow_words(operation)), "CAST one side to a type that fits");
    }
    if message.contains("SELECT * with no tables") {
        return error("SELECT * needs a table", "add FROM");
    }
    error(&arrow_words(&first_line(message)), "")
}

fn refused(message: &str) -> String {
    let message = first_line(message);
    let message = message.trim_end_matches('.');
    if message.contains("supported") || message.contains("take") || message.contains("joined") {
        return message.to_string();
    }
    format!("{message} is not supported")
}

/// A name without its table and quotes.
fn bare(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name).trim_matches('"')
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = &text[text.find(start)? + start.len()..];
    if end == "\u{0}" { Some(rest) } else { rest.find(end).map(|at| &rest[..at]) }
}

/// The first line, and of a complaint inside another only the inner one.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let inner = line.rsplit("Error during planning: ").next().unwrap_or(line);
    let inner = inner.trim_start_matches("Execution error: ");
    inner.split(". No function matches the given name").next().unwrap_or(inner).to_string()
}

/// Arrow's names of types in Flink's words.
fn arrow_words(text: &str) -> String {
    const WORDS: [(&str, &str); 12] = [
        ("LargeUtf8", "STRING"),
        ("Utf8", "STRING"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("Decimal128", "DECIMAL"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
    ];
    WORDS.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

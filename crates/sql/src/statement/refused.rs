//! Statements that Flink or another system has and tidemill does not: named, with what to do instead.

use tidemill_base::suggest;

use super::cursor::Cursor;
use super::lex::bare_word;
use crate::error::Error;

const STATEMENTS: &[&str] =
    &["CREATE", "DROP", "INSERT", "SELECT", "WITH", "VALUES", "SET", "EXPLAIN", "EXECUTE", "BEGIN"];

/// What to say of each first word.
fn reason(word: &str) -> Option<(&'static str, &'static str)> {
    Some(match word {
        "ALTER" => ("ALTER is not supported: a pipeline is its text", "change the CREATE statement and run again"),
        "UPDATE" => {
            ("UPDATE is not supported: rows change by what the sources send", "write a query that computes the new row")
        }
        "DELETE" => {
            ("DELETE is not supported: rows change by what the sources send", "filter the rows with WHERE in a query")
        }
        "TRUNCATE" => ("TRUNCATE is not supported", "remove the sink's files before the run"),
        "MERGE" => {
            ("MERGE is not supported", "a materialized view with a PRIMARY KEY keeps the latest row for each key")
        }
        "USE" => ("USE is not supported: there is one catalog, the pipeline itself", "remove the statement"),
        "LOAD" | "UNLOAD" => ("modules are not supported", "remove the statement: all functions are there"),
        "ADD" | "REMOVE" => ("jars are not supported: there is no Java in tidemill", "remove the statement"),
        "SHOW" | "DESCRIBE" | "DESC" => ("listing is not part of a pipeline", "in the shell (`tidemill sql`) use \\d"),
        "ANALYZE" => ("ANALYZE is not supported: no statistics are kept", "remove the statement"),
        "CALL" => ("procedures are not supported", "remove the statement"),
        "RESET" => ("RESET is not supported", "remove the SET statement that it undoes"),
        "COMPILE" => ("plans are not compiled to files", "run the statements themselves"),
        "REPLACE" => ("REPLACE TABLE is not supported", "write CREATE TABLE"),
        "COPY" => ("COPY is not supported", "write INSERT INTO a table WITH ('connector' = 'filesystem', ...)"),
        "GRANT" | "REVOKE" => ("there are no rights in SQL here", "remove the statement"),
        "COMMIT" | "ROLLBACK" | "START" => ("there are no transactions in SQL here", "remove the statement"),
        "STOP" => ("jobs are not stopped by SQL", "end the run with Ctrl-C"),
        _ => return None,
    })
}

/// Why a statement that starts like this one does not run.
pub(super) fn statement(cursor: &Cursor<'_>) -> Error {
    let word = bare_word(&cursor.parser.peek_token_ref().token).map(|word| word.value.clone());
    let Some(word) = word else { return cursor.unexpected("a statement") };
    if let Some((what, help)) = reason(&word.to_ascii_uppercase()) {
        return Error::Unsupported {
            what: what.to_string(),
            position: cursor.position(),
            help: Some(help.to_string()),
        };
    }
    match suggest::nearest(&word, STATEMENTS.iter().copied()) {
        Some(meant) => cursor.unexpected_with("a statement", &format!("did you mean {meant}?")),
        None => cursor.unexpected_with("a statement", &format!("statements start with {}", STATEMENTS.join(", "))),
    }
}

/// Why a CREATE of this kind does not run.
pub(super) fn create(cursor: &mut Cursor<'_>, temporary: usize) -> Error {
    for _ in 0..=temporary {
        cursor.parser.next_token();
    }
    let position = cursor.position();
    let word = bare_word(&cursor.parser.peek_token_ref().token).map(|word| word.value.to_ascii_uppercase());
    let (what, help) = match word.as_deref() {
        Some("ENDPOINT") => ("an endpoint is there as long as its pipeline", "write CREATE ENDPOINT"),
        Some("CATALOG" | "DATABASE" | "SCHEMA") => (
            "there are no catalogs or databases: every table lives in the pipeline",
            "remove the statement, and name tables alone",
        ),
        Some("OR") => ("CREATE OR REPLACE is not supported: each run starts from its text", "write CREATE"),
        Some("MATERIALIZED") => {
            ("CREATE MATERIALIZED TABLE is not supported", "write CREATE MATERIALIZED VIEW name AS query")
        }
        Some("MODEL" | "CONNECTION" | "AGENT") => ("models are not supported", "remove the statement"),
        Some("INDEX") => ("an index is there as long as its pipeline", "write CREATE INDEX name ON view (columns)"),
        Some("STREAM" | "SOURCE" | "SINK") => {
            ("streams, sources and sinks are tables", "write CREATE TABLE name (...) WITH ('connector' = '...')")
        }
        _ => return cursor.unexpected("TABLE, VIEW, MATERIALIZED VIEW, INDEX, ENDPOINT or FUNCTION"),
    };
    Error::Unsupported { what: what.to_string(), position, help: Some(help.to_string()) }
}

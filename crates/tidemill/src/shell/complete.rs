//! What the shell's line editor knows: when a statement is whole, and which words may come.

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Result};

use super::scan;

/// Words of the language that are worth completing.
const WORDS: [&str; 48] = [
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "CASE",
    "CAST",
    "COUNT",
    "CREATE",
    "CUMULATE",
    "DATE",
    "DESC",
    "DESCRIPTOR",
    "DISTINCT",
    "DOUBLE",
    "ELSE",
    "EMIT CHANGES",
    "END",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "GROUP BY",
    "HAVING",
    "HOP",
    "INSERT INTO",
    "INTERVAL",
    "IS NOT NULL",
    "LIKE",
    "LIMIT",
    "MATERIALIZED VIEW",
    "MAX",
    "MIN",
    "ORDER BY",
    "SELECT",
    "SESSION",
    "STRING",
    "SUM",
    "TABLE",
    "THEN",
    "TIMESTAMP(3)",
    "TUMBLE",
    "UNION ALL",
    "VIEW",
    "WATERMARK FOR",
    "WHERE",
    "WITH",
];

/// Commands of the shell.
const COMMANDS: [&str; 3] = ["\\d", "\\h", "\\q"];

/// Helps the line editor.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    /// Names of tables, views and columns.
    pub(crate) names: Vec<String>,
}

impl Helper {
    /// The words that begin like the one before `at`, and where that one begins.
    pub(crate) fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = line.get(..at).unwrap_or(line);
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\\'))
            .map_or(0, |end| end + before[end..].chars().next().map_or(1, char::len_utf8));
        let begun = &before[start..];
        if begun.is_empty() {
            return (start, Vec::new());
        }
        let upper = begun.to_uppercase();
        let names = self.names.iter().filter(|name| name.to_uppercase().starts_with(&upper)).cloned();
        let words = WORDS.iter().filter(|word| word.starts_with(&upper)).map(|word| word.to_string());
        let commands = COMMANDS.iter().filter(|word| word.starts_with(begun)).map(|word| word.to_string());
        (start, names.chain(words).chain(commands).collect())
    }
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _context: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let (start, words) = self.candidates(line, at);
        let pair = |word: String| Pair { display: word.clone(), replacement: word };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let input = context.input();
        let whole = input.trim().is_empty() || input.trim_start().starts_with('\\') || {
            let (statements, rest) = scan::statements(input);
            !statements.is_empty() && rest.trim().is_empty()
        };
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Helper {
    type Hint = String;
}

impl Highlighter for Helper {}

impl rustyline::Helper for Helper {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_names_and_words() {
        let helper = Helper { names: vec!["orders".to_string(), "Outlet".to_string()] };
        let check = |line: &str, start: usize, expected: &[&str]| {
            let (found, words) = helper.candidates(line, line.len());
            assert_eq!((found, words), (start, expected.iter().map(|word| word.to_string()).collect()), "{line}");
        };
        check("SELECT * FROM ord", 14, &["orders", "ORDER BY"]);
        check("sele", 0, &["SELECT"]);
        check("SELECT(ou", 7, &["Outlet"]);
        check("ü or", 3, &["orders", "ORDER BY"]);
        check("\\", 0, &["\\d", "\\h", "\\q"]);
        check("SELECT ", 7, &[]);
    }
}

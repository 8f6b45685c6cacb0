//! What can be wrong with SQL, and how it is shown: the line, the place underlined, and what to do.
//!
//! An error holds a [`Position`] only; what is underlined there is read from the text again, so that nothing has to carry
//! lengths around. The front end (statements, types, dialect, rewrites) uses TM1001 to TM1019, the planner TM1020 to
//! TM1049.

use std::fmt::Write as _;

use tidemill_base::{Explain, Kind, Position, options};

/// What is wrong with a piece of SQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text cannot be cut into words: a string or comment that never ends, a character that means nothing.
    #[error("{problem}")]
    Unreadable {
        /// What is there.
        problem: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// Something else had to stand here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What would have been right.
        expected: String,
        /// What stands there.
        found: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// A word of the language is used as a name.
    #[error("{word} is a reserved word and cannot be a name here")]
    Reserved {
        /// The word, as written.
        word: String,
        /// Where.
        position: Position,
    },
    /// Expressions, queries or types inside each other beyond what is allowed.
    #[error("more than {limit}")]
    TooDeep {
        /// The limit, in words.
        limit: String,
        /// Where it is passed.
        position: Position,
    },
    /// Valid SQL that tidemill does not run.
    #[error("{what}")]
    Unsupported {
        /// The whole sentence, such as `joins are not supported yet`.
        what: String,
        /// Where.
        position: Position,
        /// What can be done instead.
        help: Option<String>,
    },
    /// A type that does not exist or whose parameters are out of range.
    #[error("{problem}")]
    Type {
        /// What is wrong.
        problem: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// A literal that cannot be read as what it says it is.
    #[error("{problem}")]
    Literal {
        /// What is wrong.
        problem: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// A table, view or set of statements that contradicts itself.
    #[error("{problem}")]
    Definition {
        /// What is wrong.
        problem: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// A `/*+ hint */` that is not understood.
    #[error("{problem}")]
    Hint {
        /// What is wrong.
        problem: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// A window whose arguments do not make a window.
    #[error("{problem}")]
    Window {
        /// What is wrong.
        problem: String,
        /// Where.
        position: Position,
        /// How to fix it.
        help: Option<String>,
    },
    /// A name that nothing has.
    #[error("there is no {what} {name}")]
    Unknown {
        /// What the name was to name: `table`, `column`, `function`.
        what: &'static str,
        /// The name, as written.
        name: String,
        /// Where.
        position: Option<Position>,
        /// How to fix it, such as `did you mean price?`.
        help: Option<String>,
    },
    /// An option that nobody takes, that is missing, or whose value cannot be read.
    #[error("{source}")]
    Options {
        /// What is wrong with it.
        source: options::Error,
        /// Where the statement is.
        position: Option<Position>,
    },
    /// A query that reads well and cannot be planned.
    #[error("{problem}")]
    Plan {
        /// What is wrong.
        problem: String,
        /// Where.
        position: Option<Position>,
        /// How to fix it.
        help: Option<String>,
    },
    /// A broken promise of our own.
    #[error("this is a bug in tidemill: {problem}")]
    Bug {
        /// What broke.
        problem: String,
    },
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Unreadable { .. } => "TM1001",
            Error::Unexpected { .. } => "TM1002",
            Error::Reserved { .. } => "TM1003",
            Error::TooDeep { .. } => "TM1004",
            Error::Unsupported { .. } => "TM1005",
            Error::Type { .. } => "TM1006",
            Error::Literal { .. } => "TM1007",
            Error::Definition { .. } => "TM1008",
            Error::Hint { .. } => "TM1009",
            Error::Window { .. } => "TM1010",
            Error::Unknown { .. } => "TM1020",
            Error::Options { .. } => "TM1021",
            Error::Plan { .. } => "TM1022",
            Error::Bug { .. } => "TM1049",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::Bug { .. } => Kind::Bug,
            _ => Kind::Config,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Error::Unreadable { help, .. }
            | Error::Unexpected { help, .. }
            | Error::Unsupported { help, .. }
            | Error::Type { help, .. }
            | Error::Literal { help, .. }
            | Error::Definition { help, .. }
            | Error::Hint { help, .. }
            | Error::Window { help, .. }
            | Error::Unknown { help, .. }
            | Error::Plan { help, .. } => help.clone(),
            Error::Reserved { word, .. } => Some(format!("write it in backticks: `{word}`")),
            Error::TooDeep { .. } => Some("name a part of it in a view, and use the view".to_string()),
            Error::Options { source, .. } => Some(source.help()),
            Error::Bug { .. } => Some("please report it, with the statement".to_string()),
        }
    }

    fn position(&self) -> Option<Position> {
        match self {
            Error::Unreadable { position, .. }
            | Error::Unexpected { position, .. }
            | Error::Reserved { position, .. }
            | Error::TooDeep { position, .. }
            | Error::Unsupported { position, .. }
            | Error::Type { position, .. }
            | Error::Literal { position, .. }
            | Error::Definition { position, .. }
            | Error::Hint { position, .. }
            | Error::Window { position, .. } => Some(*position),
            Error::Unknown { position, .. } | Error::Options { position, .. } | Error::Plan { position, .. } => {
                *position
            }
            Error::Bug { .. } => None,
        }
    }
}

/// Writes an error for a person: code and message, file and place, the line with the place underlined, and the help.
///
/// `name` is what the text is called (a file's path); `text` is the whole text that was parsed. Any error that explains
/// itself can be shown so, an option's as well as a parser's.
pub fn render(error: &dyn Explain, name: &str, text: &str) -> String {
    let mut out = format!("error[{}]: {error}\n", error.code());
    if let Some(position) = error.position() {
        underline(&mut out, name, text, position);
    }
    if let Some(help) = error.help() {
        let _ = writeln!(out, "help: {help}");
    }
    out
}

fn underline(out: &mut String, name: &str, text: &str, Position { line, column }: Position) {
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let shown: Vec<char> = text.split('\n').nth(index).unwrap_or_default().trim_end_matches('\r').chars().collect();
    let start = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1).min(shown.len());
    let (cut, shown, start) = window(&shown, start);
    let gutter = line.to_string().len();
    let before: String = shown[..start].iter().map(|&c| if c == '\t' { '\t' } else { ' ' }).collect();
    let marks = "^".repeat(token_length(&shown[start..]));
    let lead = if cut { "..." } else { "" };
    let shown: String = shown.iter().collect();
    let _ = writeln!(out, "{:gutter$}--> {name}:{line}:{column}", "");
    let _ = writeln!(out, "{:gutter$} |", "");
    let _ = writeln!(out, "{line} | {lead}{}", shown.trim_end());
    let _ = writeln!(out, "{:gutter$} | {}{before}{marks}", "", " ".repeat(lead.len()));
}

/// The part of a very long line that is shown, and where in it the place is.
fn window(line: &[char], start: usize) -> (bool, &[char], usize) {
    const BEFORE: usize = 120;
    const WIDTH: usize = 200;
    if line.len() <= WIDTH {
        return (false, line, start);
    }
    let from = start.saturating_sub(BEFORE);
    (from > 0, &line[from..line.len().min(from + WIDTH)], start - from)
}

/// How many characters the token at the start of `rest` has, at least one.
fn token_length(rest: &[char]) -> usize {
    let word = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let length = match rest.first() {
        Some('/') if rest.get(1) == Some(&'*') => {
            rest.windows(2).position(|pair| pair == ['*', '/']).map_or(rest.len(), |end| end + 2)
        }
        Some(&quote @ ('\'' | '"' | '`')) => {
            rest.iter().skip(1).position(|&c| c == quote).map_or(rest.len(), |end| end + 2)
        }
        Some(c) if word(c) => rest.iter().take_while(|c| word(c)).count(),
        _ => 1,
    };
    length.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, line: u64, column: u64, expected: &str) {
        let error = Error::Reserved { word: "END".to_string(), position: Position { line, column } };
        let shown = render(&error, "file.sql", text);
        let lines: Vec<_> = shown.lines().skip(1).take(4).collect();
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn underlines_the_token() {
        check("SELECT a\nFROM end", 2, 6, " --> file.sql:2:6\n  |\n2 | FROM end\n  |      ^^^");
        check("SELECT 'it is'", 1, 8, " --> file.sql:1:8\n  |\n1 | SELECT 'it is'\n  |        ^^^^^^^");
        check("a;", 1, 2, " --> file.sql:1:2\n  |\n1 | a;\n  |  ^");
    }

    #[test]
    fn underlines_past_the_end_and_after_wide_characters() {
        check("SELECT", 1, 7, " --> file.sql:1:7\n  |\n1 | SELECT\n  |       ^");
        check("SELECT 'ü', end\r\n", 1, 13, " --> file.sql:1:13\n  |\n1 | SELECT 'ü', end\n  |             ^^^");
        check("", 9, 9, " --> file.sql:9:9\n  |\n9 | \n  | ^");
    }

    #[test]
    fn shows_a_part_of_a_very_long_line() {
        let text = format!("SELECT {}, end", "x".repeat(1_000));
        let error = Error::Reserved { word: "end".to_string(), position: Position { line: 1, column: 1_010 } };
        let shown = render(&error, "file.sql", &text);
        assert!(shown.lines().all(|line| line.chars().count() < 250), "{shown}");
        assert!(shown.contains("x, end\n"), "{shown}");
    }
}

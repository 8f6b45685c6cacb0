//! How an error speaks: what went wrong (`Display`), where ([`Position`]), what to do ([`Kind`], `help`).
//!
//! Each crate has one `thiserror` enum and implements [`Explain`] for it; the command line and the doors turn that into
//! text, JSON and exit codes in one place.

use std::fmt;

/// What the reader of an error has to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The SQL, an option or a flag is wrong: change it. Exit code 3.
    Config,
    /// A record or a file is not what was declared: fix the data, or say what to do with bad records.
    Input,
    /// The world is in the way (disk full, permission, connection refused): mend it and run again.
    Environment,
    /// A stored file is damaged or was changed: restore it.
    Restore,
    /// tidemill broke one of its own promises: report it.
    Bug,
}

impl Kind {
    /// The word used in JSON answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Input => "input",
            Kind::Environment => "environment",
            Kind::Restore => "restore",
            Kind::Bug => "bug",
        }
    }
}

/// A place in a text, both counted from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Character in the line, from 1.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// An error that can explain itself to the person at the keyboard.
pub trait Explain: std::error::Error {
    /// The code of the error's page, `docs/errors/TMnnnn.md`.
    fn code(&self) -> &'static str;

    /// What the reader has to do.
    fn kind(&self) -> Kind;

    /// How to fix it, one sentence, pasteable where it can be.
    fn help(&self) -> Option<String> {
        None
    }

    /// Where in the SQL text the error is.
    fn position(&self) -> Option<Position> {
        None
    }
}

//! Pipeline files: read and planned, or refused with the place and the reason.

use std::path::Path;

use tidemill_sql::pipeline::Warning;
use tidemill_sql::{Pipeline, PlanOptions};

use crate::console;
use crate::failure::Failure;

/// A text of SQL and what it is called.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The file's path, or what stands for it.
    pub(crate) name: String,
    /// The SQL.
    pub(crate) sql: String,
}

impl Text {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Text, Failure> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(sql) => Ok(Text { name, sql }),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(Failure::Usage(format!("{name} is not UTF-8 text")))
            }
            Err(error) => Err(Failure::Usage(format!("{name} cannot be read: {error}"))),
        }
    }

    /// Plans it.
    pub(crate) fn plan(&self) -> Result<Pipeline, Failure> {
        tidemill_sql::plan(&self.sql, PlanOptions::default())
            .map_err(|error| Failure::explained(&error, &self.name, &self.sql))
    }

    /// Says what a person should know of the pipeline.
    pub(crate) fn warn(&self, warnings: &[Warning]) {
        for warning in warnings {
            match warning.position {
                Some(place) => {
                    console::say(&format!("warning: {} ({}:{}:{})", warning.text, self.name, place.line, place.column))
                }
                None => console::say(&format!("warning: {}", warning.text)),
            }
        }
    }

    /// An error about it.
    pub(crate) fn failure(&self, error: &tidemill_node::Error) -> Failure {
        Failure::explained(error, &self.name, &self.sql)
    }
}

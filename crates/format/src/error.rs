//! What can go wrong between bytes and columns, and the record it went wrong in.

use arrow_schema::{ArrowError, DataType};
use tidemill_base::{Explain, Kind};

use crate::types;

/// The most characters of a record that an error shows.
pub const TEXT_CHARS_MAX: usize = 200;

/// A record that could not be turned into a row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which record of the block it is, from 0; blank lines do not count.
    pub record: u32,
    /// The line of the block where the fault is, from 1.
    pub line: u64,
    /// The character of that line where the fault is, from 1.
    pub column: u64,
    /// The byte of the block where the fault is, from 0.
    pub byte: u64,
    /// What was expected and what was found.
    pub reason: String,
    /// The record's text, cut at [`TEXT_CHARS_MAX`] characters.
    pub text: String,
}

impl Rejected {
    /// Moves the record by what stands before its block: `records`, `lines` and `bytes` of the file.
    pub fn shift(&mut self, records: u32, lines: u64, bytes: u64) {
        self.record = self.record.saturating_add(records);
        self.line += lines;
        self.byte += bytes;
    }
}

/// Why bytes could not become columns, or columns bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record is not what the schema says.
    #[error("bad {format} record at line {}, column {}: {}; the record is: {}", at.line, at.column, at.reason, at.text)]
    BadRecord {
        /// The format, such as `json`.
        format: &'static str,
        /// Where and why; line and byte are counted from the block's start.
        at: Box<Rejected>,
    },
    /// A column's type has no form in the format.
    #[error("{format} has no form for column '{column}' of type {}", types::sql_name(data_type))]
    UnsupportedType {
        /// The format.
        format: &'static str,
        /// The column, with dots between nested names.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A file's column cannot be read as the declared type without loss.
    #[error(
        "column '{column}' is {} in the {format} file, which does not fit the declared {}",
        types::sql_name(found),
        types::sql_name(declared)
    )]
    ColumnType {
        /// The format.
        format: &'static str,
        /// The column.
        column: String,
        /// What the table declares.
        declared: Box<DataType>,
        /// What the file holds.
        found: Box<DataType>,
    },
    /// A file lacks a declared column.
    #[error("the {format} input has no column '{column}'; it has '{}'", found.join("', '"))]
    MissingColumn {
        /// The format.
        format: &'static str,
        /// The declared column.
        column: String,
        /// The columns there are.
        found: Vec<String>,
    },
    /// A value of a NOT NULL column is null in a file.
    #[error("column '{column}' is declared NOT NULL, but the {format} file has a null in it")]
    Null {
        /// The format.
        format: &'static str,
        /// The column.
        column: String,
    },
    /// The format is read from whole files, not from a stream of bytes.
    #[error("{format} cannot be read from a stream of bytes")]
    NotAStream {
        /// The format.
        format: &'static str,
    },
    /// A row is taken back, and the format can only add.
    #[error("{format} cannot write a retraction: the rows to be written are updated or deleted later")]
    Retraction {
        /// The format.
        format: &'static str,
    },
    /// A block is longer than its positions can count.
    #[error("a block of {bytes} bytes is longer than the {limit} that can be decoded at once")]
    BlockTooLarge {
        /// The block's length.
        bytes: usize,
        /// The greatest length.
        limit: usize,
    },
    /// A table has more columns than the format can number.
    #[error("{format} numbers at most {limit} columns, and there are {columns}")]
    TooManyColumns {
        /// The format.
        format: &'static str,
        /// The columns of the table.
        columns: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A body is no message, or not the message of its table.
    #[error("byte {byte} of the message: {reason}")]
    BadMessage {
        /// Where the fault is, from 0.
        byte: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// The file is no Parquet file, or a damaged one.
    #[error("the parquet file cannot be read: {0}")]
    ParquetRead(#[source] parquet::errors::ParquetError),
    /// Rows could not be written as Parquet.
    #[error("rows cannot be written as parquet: {0}")]
    ParquetWrite(#[source] parquet::errors::ParquetError),
    /// Arrow refused columns that were made here.
    #[error("columns do not fit their schema: {0}")]
    Columns(#[from] ArrowError),
}

impl Error {
    /// Moves the place of a bad record by what stands before its block in the file.
    pub fn shift(mut self, records: u32, lines: u64, bytes: u64) -> Self {
        if let Error::BadRecord { at, .. } = &mut self {
            at.shift(records, lines, bytes);
        }
        self
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::BadRecord { .. } => "TM0201",
            Error::UnsupportedType { .. } => "TM0202",
            Error::ColumnType { .. } => "TM0203",
            Error::MissingColumn { .. } => "TM0204",
            Error::Null { .. } => "TM0205",
            Error::NotAStream { .. } => "TM0206",
            Error::Retraction { .. } => "TM0207",
            Error::BlockTooLarge { .. } => "TM0208",
            Error::ParquetRead(_) => "TM0209",
            Error::ParquetWrite(_) => "TM0210",
            Error::Columns(_) => "TM0211",
            Error::BadMessage { .. } => "TM0212",
            Error::TooManyColumns { .. } => "TM0213",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Error::BadRecord { .. } | Error::Null { .. } | Error::BlockTooLarge { .. } => Kind::Input,
            Error::ParquetRead(_) | Error::BadMessage { .. } => Kind::Input,
            Error::UnsupportedType { .. } | Error::ColumnType { .. } | Error::MissingColumn { .. } => Kind::Config,
            Error::TooManyColumns { .. } => Kind::Config,
            Error::NotAStream { .. } | Error::Retraction { .. } => Kind::Config,
            Error::ParquetWrite(_) => Kind::Environment,
            Error::Columns(_) => Kind::Bug,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Error::BadRecord { format, .. } => {
                format!(
                    "mend the record, or set '{format}.ignore-parse-errors' = 'true' to count and skip such records"
                )
            }
            Error::UnsupportedType { .. } => "use another format, or leave the column out".to_string(),
            Error::TooManyColumns { .. } => "put columns together as a ROW or a MAP".to_string(),
            Error::ColumnType { found, .. } => format!("declare the column as {}", types::sql_name(found)),
            Error::MissingColumn { .. } => {
                "declare only columns that the input has; names are case-sensitive".to_string()
            }
            Error::Null { .. } => "declare the column without NOT NULL".to_string(),
            Error::NotAStream { .. } => "use json, csv or debezium-json here".to_string(),
            Error::Retraction { .. } => "use 'format' = 'debezium-json', or a query that only adds rows".to_string(),
            Error::BlockTooLarge { limit, .. } => format!("a record must be shorter than {limit} bytes"),
            Error::BadMessage { .. } => {
                "generate the client from `tidemill proto TABLE` again, and send the message that the field is for"
                    .to_string()
            }
            Error::ParquetRead(_) => "check that the file is complete".to_string(),
            Error::ParquetWrite(_) | Error::Columns(_) => return None,
        })
    }
}

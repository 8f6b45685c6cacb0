//! CSV to columns and back, as RFC 4180 writes it, with Flink's `csv.*` options.
//!
//! Without a header the fields are the declared columns in order; with `'csv.header' = 'true'` they are matched by name.
//! An empty field is null, but for STRING columns, where it is an empty string unless `csv.null-literal` is empty.

mod decode;
mod encode;

pub use decode::CsvDecoder;
pub use encode::CsvEncoder;

use tidemill_base::options::{Error as OptionsError, Options};

use crate::cut::CsvCutter;

/// How CSV is read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// What stands between fields.
    pub delimiter: u8,
    /// What stands around fields with special characters; `None` when nothing does.
    pub quote: Option<u8>,
    /// What makes the next character of a quoted field an ordinary one, besides doubling a quote.
    pub escape: Option<u8>,
    /// The field that means null.
    pub null_literal: Option<String>,
    /// Whether lines that begin with `#` are skipped.
    pub allow_comments: bool,
    /// Whether the first record names the columns.
    pub header: bool,
    /// Whether a bad record is set aside instead of being an error.
    pub ignore_parse_errors: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            null_literal: None,
            allow_comments: false,
            header: false,
            ignore_parse_errors: false,
        }
    }
}

impl CsvOptions {
    pub(crate) fn from_options(options: &mut Options) -> Result<Self, OptionsError> {
        let default = CsvOptions::default();
        let delimiter = character(options, "csv.field-delimiter")?.unwrap_or(default.delimiter);
        let quote = character(options, "csv.quote-character")?.or(default.quote);
        let quote_disabled = options.boolean("csv.disable-quote-character")?.unwrap_or_default();
        Ok(CsvOptions {
            delimiter,
            quote: quote.filter(|_| !quote_disabled),
            escape: character(options, "csv.escape-character")?,
            null_literal: options.take("csv.null-literal"),
            allow_comments: options.boolean("csv.allow-comments")?.unwrap_or_default(),
            header: options.boolean("csv.header")?.unwrap_or_default(),
            ignore_parse_errors: options.boolean("csv.ignore-parse-errors")?.unwrap_or_default(),
        })
    }

    /// Finds the ends of records in a stream of these options.
    pub fn cutter(&self) -> CsvCutter {
        CsvCutter::new(self.delimiter, self.quote, self.escape, self.comment())
    }

    pub(crate) fn comment(&self) -> Option<u8> {
        self.allow_comments.then_some(b'#')
    }
}

/// Takes one ASCII character; `\t` may be written as a backslash and a `t`.
fn character(options: &mut Options, key: &str) -> Result<Option<u8>, OptionsError> {
    let expected = "one character of ASCII, such as ';' or '\\t'";
    let Some(value) = options.take(key) else { return Ok(None) };
    match value.as_bytes() {
        b"\\t" => Ok(Some(b'\t')),
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
        _ => Err(OptionsError::Invalid { key: key.into(), value, expected: expected.into() }),
    }
}

//! Columns to CSV. A field is quoted only when it has to be; rows, lists and maps are written as JSON in quotes.

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

use super::CsvOptions;
use crate::encode::{Cells, Style, weight};
use crate::error::Error;
use crate::format::Encoder;
use crate::scalar::time::TimestampStandard;

/// Writes one record a row. A row of weight `n` is written `n` times.
#[derive(Debug)]
pub struct CsvEncoder {
    options: CsvOptions,
    schema: SchemaRef,
    header_due: bool,
    /// A field that has to be written once more, in quotes.
    field: Vec<u8>,
}

/// A column, and whether its fields may have characters that ask for quotes.
struct Column {
    cells: Cells,
    quotable: bool,
}

impl CsvEncoder {
    /// An encoder of rows of `schema`, whose names become the header when the options ask for one.
    pub fn new(options: CsvOptions, schema: SchemaRef) -> Self {
        CsvEncoder { header_due: options.header, options, schema, field: Vec::new() }
    }

    fn header(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.header_due) {
            return;
        }
        for index in 0..self.schema.fields().len() {
            if index > 0 {
                out.push(self.options.delimiter);
            }
            let start = out.len();
            out.extend_from_slice(self.schema.field(index).name().as_bytes());
            self.quote_where_needed(index, start, out);
        }
        out.push(b'\n');
    }

    fn row(&mut self, columns: &[Column], row: usize, out: &mut Vec<u8>) {
        for (index, Column { cells, quotable }) in columns.iter().enumerate() {
            if index > 0 {
                out.push(self.options.delimiter);
            }
            let start = out.len();
            let null = cells.is_null(row);
            if !null {
                cells.write_text(row, Style::of(TimestampStandard::Sql), out);
            } else if let Some(null) = &self.options.null_literal {
                out.extend_from_slice(null.as_bytes());
            }
            // A record of one empty field would be a blank line, which is no record.
            if columns.len() == 1 && out.len() == start {
                self.quote(start, out);
            } else if *quotable || null {
                self.quote_where_needed(index, start, out);
            }
        }
        out.push(b'\n');
    }

    /// Whether fields that are a number, a time or a truth value may need quotes.
    fn quotes_figures(&self) -> bool {
        let CsvOptions { delimiter, quote, escape, .. } = &self.options;
        let special = [Some(*delimiter), *quote, *escape];
        special.iter().flatten().any(|byte| byte.is_ascii_alphanumeric() || b"+-.: ".contains(byte))
    }

    /// Puts the field from `start` on in quotes when a character in it asks for them.
    fn quote_where_needed(&mut self, index: usize, start: usize, out: &mut Vec<u8>) {
        let CsvOptions { delimiter, quote: Some(quote), escape, .. } = self.options else { return };
        let field = &out[start..];
        let escape = escape.unwrap_or(quote);
        let special =
            |byte: u8| (byte == b'\n') | (byte == b'\r') | (byte == delimiter) | (byte == quote) | (byte == escape);
        let comment =
            index == 0 && self.options.comment().is_some() && field.first().copied() == self.options.comment();
        // Without a way out of the loop it looks at many bytes at once.
        if comment || field.iter().fold(false, |found, byte| found | special(*byte)) {
            self.quote(start, out);
        }
    }

    /// Puts the field from `start` on in quotes.
    fn quote(&mut self, start: usize, out: &mut Vec<u8>) {
        let Some(quote) = self.options.quote else { return };
        self.field.clear();
        self.field.extend_from_slice(&out[start..]);
        out.truncate(start);
        out.push(quote);
        for &byte in &self.field {
            if byte == quote {
                out.push(quote);
            } else if Some(byte) == self.options.escape {
                out.push(byte);
            }
            out.push(byte);
        }
        out.push(quote);
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        if weights.is_some_and(|weights| weights.iter().any(|&weight| weight < 0)) {
            return Err(Error::Retraction { format: "csv" });
        }
        self.header(out);
        let quotes_figures = self.quotes_figures();
        let column = |array| {
            let cells = Cells::of(array)?;
            Ok(Column { quotable: quotes_figures || !cells.is_figure(), cells })
        };
        let columns = batch.columns().iter().map(column).collect::<Result<Vec<_>, ArrowError>>()?;
        for row in 0..batch.num_rows() {
            for _ in 0..weight(weights, row) {
                self.row(&columns, row, out);
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.header(out);
        Ok(())
    }
}

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
    field: Vec<u8>,
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
        for (index, field) in self.schema.fields().iter().enumerate() {
            if index > 0 {
                out.push(self.options.delimiter);
            }
            self.field.clear();
            self.field.extend_from_slice(field.name().as_bytes());
            write_field(&self.options, &self.field, index, out);
        }
        out.push(b'\n');
    }

    fn row(&mut self, cells: &[Cells], row: usize, out: &mut Vec<u8>) {
        for (index, column) in cells.iter().enumerate() {
            if index > 0 {
                out.push(self.options.delimiter);
            }
            self.field.clear();
            if !column.is_null(row) {
                column.write_text(row, Style::of(TimestampStandard::Sql), &mut self.field);
            } else if let Some(null) = &self.options.null_literal {
                self.field.extend_from_slice(null.as_bytes());
            }
            // A record of one empty field would be a blank line, which is no record.
            let alone = self.field.is_empty() && cells.len() == 1;
            write_field(&self.options, &self.field, if alone { usize::MAX } else { index }, out);
        }
        out.push(b'\n');
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        if weights.is_some_and(|weights| weights.iter().any(|&weight| weight < 0)) {
            return Err(Error::Retraction { format: "csv" });
        }
        self.header(out);
        let cells = batch.columns().iter().map(Cells::of).collect::<Result<Vec<_>, ArrowError>>()?;
        for row in 0..batch.num_rows() {
            for _ in 0..weight(weights, row) {
                self.row(&cells, row, out);
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.header(out);
        Ok(())
    }
}

/// Appends a field; index `usize::MAX` asks for quotes in any case.
fn write_field(options: &CsvOptions, field: &[u8], index: usize, out: &mut Vec<u8>) {
    let Some(quote) = options.quote else { return out.extend_from_slice(field) };
    let special = |byte: &u8| {
        matches!(byte, b'\n' | b'\r') || *byte == options.delimiter || *byte == quote || Some(*byte) == options.escape
    };
    let comment = index == 0 && options.comment().is_some() && field.first().copied() == options.comment();
    if index != usize::MAX && !comment && !field.iter().any(special) {
        return out.extend_from_slice(field);
    }
    out.push(quote);
    for &byte in field {
        if byte == quote {
            out.push(quote);
        } else if Some(byte) == options.escape {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(quote);
}

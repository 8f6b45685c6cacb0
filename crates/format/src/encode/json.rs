//! JSON lines, debezium's change records, and upserts.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;

use super::cells::{Cells, Style, write_json_object};
use super::weight;
use crate::error::Error;
use crate::format::Encoder;
use crate::json::JsonOptions;

impl JsonOptions {
    fn style(&self) -> Style {
        Style { ignore_null_fields: self.ignore_null_fields, ..Style::of(self.timestamp_standard) }
    }
}

/// Writes one JSON object a row and line. A row of weight `n` is written `n` times.
#[derive(Debug)]
pub struct JsonEncoder {
    style: Style,
}

impl JsonEncoder {
    /// An encoder with the options.
    pub fn new(options: JsonOptions) -> Self {
        JsonEncoder { style: options.style() }
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        if weights.is_some_and(|weights| weights.iter().any(|&weight| weight < 0)) {
            return Err(Error::Retraction { format: "json" });
        }
        let fields = fields(batch)?;
        for row in 0..batch.num_rows() {
            for _ in 0..weight(weights, row) {
                write_json_object(&fields, row, self.style, out);
                out.push(b'\n');
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }
}

/// Rows that are written one by one, as JSON objects.
pub struct JsonRows {
    fields: Vec<(String, Cells)>,
    style: Style,
}

impl JsonRows {
    /// The rows of a batch.
    ///
    /// # Errors
    /// [`Error::Columns`] when Arrow cannot read a column.
    pub fn new(batch: &RecordBatch, options: JsonOptions) -> Result<Self, Error> {
        Ok(JsonRows { fields: fields(batch)?, style: options.style() })
    }

    /// Appends a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_json_object(&self.fields, row, self.style, out);
    }
}

/// Writes change records: a row of positive weight as `"op":"c"`, one of negative weight as `"op":"d"`.
#[derive(Debug)]
pub struct DebeziumEncoder {
    style: Style,
}

impl DebeziumEncoder {
    /// An encoder with the options.
    pub fn new(options: JsonOptions) -> Self {
        DebeziumEncoder { style: options.style() }
    }
}

impl Encoder for DebeziumEncoder {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        let fields = fields(batch)?;
        for row in 0..batch.num_rows() {
            let weight = weight(weights, row);
            for _ in 0..weight.unsigned_abs() {
                if weight > 0 {
                    out.extend_from_slice(b"{\"before\":null,\"after\":");
                    write_json_object(&fields, row, self.style, out);
                    out.extend_from_slice(b",\"op\":\"c\"}\n");
                } else {
                    out.extend_from_slice(b"{\"before\":");
                    write_json_object(&fields, row, self.style, out);
                    out.extend_from_slice(b",\"after\":null,\"op\":\"d\"}\n");
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }
}

/// The name under which an upsert says what it does.
pub const UPSERT_OP: &str = "op";

/// Writes upserts: a row of positive weight whole with `"op":"+U"`, of one of negative weight its key with `"op":"-D"`.
#[derive(Debug)]
pub struct UpsertEncoder {
    style: Style,
    /// The columns that name a row.
    key: Vec<String>,
}

impl UpsertEncoder {
    /// An encoder of rows that are known by the columns of `key`; those that are not there are passed over.
    pub fn new(options: JsonOptions, key: Vec<String>) -> Self {
        UpsertEncoder { style: options.style(), key }
    }
}

impl Encoder for UpsertEncoder {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        let schema = batch.schema();
        let key: Vec<usize> = self.key.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let (fields, key) = (fields(batch)?, fields(&batch.project(&key)?)?);
        let (mut row_text, op) = (Vec::new(), UPSERT_OP);
        for row in 0..batch.num_rows() {
            let (columns, word) = match weight(weights, row) {
                0 => continue,
                1.. => (&fields, "+U"),
                _ => (&key, "-D"),
            };
            row_text.clear();
            write_json_object(columns, row, self.style, &mut row_text);
            out.extend_from_slice(format!("{{\"{op}\":\"{word}\"").as_bytes());
            if row_text != b"{}" {
                out.push(b',');
            }
            out.extend_from_slice(row_text.strip_prefix(b"{").unwrap_or(&row_text));
            out.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }
}

fn fields(batch: &RecordBatch) -> Result<Vec<(String, Cells)>, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    columns.map(|(field, column)| Ok((field.name().clone(), Cells::of(column)?))).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! Rows as an aligned table for people: numbers to the right, everything else to the left, nulls as `NULL`.

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};

use crate::encode::{Cells, Style, weight};
use crate::error::Error;
use crate::format::Encoder;
use crate::scalar::time::{Fraction, TimestampStandard};

/// What a row of a changelog does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `+I`: a row is added.
    Insert,
    /// `-U`: the row as it was before an update.
    UpdateBefore,
    /// `+U`: the row as it is after an update.
    UpdateAfter,
    /// `-D`: a row is taken back.
    Delete,
}

impl Op {
    /// The two characters it is shown as.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Insert => "+I",
            Op::UpdateBefore => "-U",
            Op::UpdateAfter => "+U",
            Op::Delete => "-D",
        }
    }

    /// What a weight says when nothing more is known.
    pub fn of_weight(weight: i64) -> Op {
        if weight < 0 { Op::Delete } else { Op::Insert }
    }
}

/// Writes rows as a table whose columns grow when they must: the header once, then a line a row.
#[derive(Debug)]
pub struct TableWriter {
    names: Vec<String>,
    widths: Vec<usize>,
    numbers: Vec<bool>,
    ops: bool,
    header_due: bool,
}

type Line = (Option<Op>, Vec<String>);

impl TableWriter {
    /// A table of rows of `schema`; `ops` adds a first column that says what each row does.
    pub fn new(schema: &Schema, ops: bool) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| clean(field.name())).collect();
        let widths = names.iter().map(|name| name.chars().count()).collect();
        let numbers = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        TableWriter { names, widths, numbers, ops, header_due: true }
    }

    /// Appends rows; `ops` has one entry a row.
    ///
    /// # Errors
    /// [`Error::Columns`] when Arrow cannot show a type.
    pub fn write(&mut self, batch: &RecordBatch, ops: Option<&[Op]>, out: &mut String) -> Result<(), Error> {
        let op_of = |row: usize| ops.and_then(|ops| ops.get(row).copied()).unwrap_or(Op::Insert);
        let lines = self.lines(batch, |row| (op_of(row), 1))?;
        self.write_lines(&lines, out);
        Ok(())
    }

    /// The cells of each row as often as `op_of` says; widens the columns so that they fit.
    fn lines(&mut self, batch: &RecordBatch, op_of: impl Fn(usize) -> (Op, u64)) -> Result<Vec<Line>, ArrowError> {
        let columns = batch.columns().iter().map(Cells::of).collect::<Result<Vec<_>, _>>()?;
        for (number, cells) in self.numbers.iter_mut().zip(&columns) {
            *number = cells.is_number();
        }
        let style = Style { fraction: Fraction::All, ..Style::of(TimestampStandard::Sql) };
        let mut lines = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let (op, times) = op_of(row);
            let cells: Vec<String> = columns.iter().map(|column| text(column, row, style)).collect();
            for (width, cell) in self.widths.iter_mut().zip(&cells) {
                *width = (*width).max(cell.chars().count());
            }
            lines.extend((0..times).map(|_| (self.ops.then_some(op), cells.clone())));
        }
        Ok(lines)
    }

    fn write_lines(&mut self, lines: &[Line], out: &mut String) {
        self.write_header(out);
        for (op, cells) in lines {
            if let Some(op) = op {
                out.push_str(op.as_str());
                out.push_str(" | ");
            }
            self.write_cells(cells, out);
        }
    }

    fn write_header(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.header_due) {
            return;
        }
        if self.ops {
            out.push_str("op | ");
        }
        self.write_cells(&self.names, out);
        if self.ops {
            out.push_str("---+-");
        }
        let dashes: Vec<String> = self.widths.iter().map(|&width| "-".repeat(width)).collect();
        out.push_str(&dashes.join("-+-"));
        out.push('\n');
    }

    fn write_cells(&self, cells: &[String], out: &mut String) {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                out.push_str(" | ");
            }
            let padding = " ".repeat(self.widths[index].saturating_sub(cell.chars().count()));
            if self.numbers[index] {
                out.push_str(&padding);
                out.push_str(cell);
            } else {
                out.push_str(cell);
                if index + 1 < cells.len() {
                    out.push_str(&padding);
                }
            }
        }
        out.push('\n');
    }
}

impl Encoder for TableWriter {
    fn encode(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut Vec<u8>) -> Result<(), Error> {
        let lines = self.lines(batch, |row| {
            let weight = weight(weights, row);
            (Op::of_weight(weight), weight.unsigned_abs())
        })?;
        let mut text = String::new();
        self.write_lines(&lines, &mut text);
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut text = String::new();
        self.write_header(&mut text);
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// A whole result as one table, with the number of rows below.
///
/// # Errors
/// [`Error::Columns`] when Arrow cannot show a type.
pub fn table(schema: &Schema, batches: &[RecordBatch]) -> Result<String, Error> {
    let mut writer = TableWriter::new(schema, false);
    let mut lines = Vec::new();
    for batch in batches {
        lines.append(&mut writer.lines(batch, |_| (Op::Insert, 1))?);
    }
    let mut out = String::new();
    writer.write_lines(&lines, &mut out);
    let rows = lines.len();
    out.push_str(&format!("({rows} {})\n", if rows == 1 { "row" } else { "rows" }));
    Ok(out)
}

fn text(cells: &Cells, row: usize, style: Style) -> String {
    if cells.is_null(row) {
        return "NULL".into();
    }
    let mut out = Vec::new();
    cells.write_text(row, style, &mut out);
    clean(&String::from_utf8_lossy(&out))
}

/// Shows control characters as escapes, so that a value stays on its line.
fn clean(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_string();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Decimal128Array, Int64Array, StringArray, TimestampMillisecondArray};

    use super::*;

    fn sample() -> RecordBatch {
        let prices = Decimal128Array::from(vec![Some(5), None]).with_precision_and_scale(10, 2).expect("fits");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("name", Arc::new(StringArray::from(vec![Some("Zoë"), None]))),
            ("id", Arc::new(Int64Array::from(vec![Some(7), Some(-1_234)]))),
            ("price", Arc::new(prices)),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(0), None]))),
        ];
        RecordBatch::try_from_iter(columns).expect("two rows each")
    }

    #[test]
    fn aligns_numbers_to_the_right() {
        let batch = sample();
        let expected = "\
name |    id | price | at
-----+-------+-------+------------------------
Zoë  |     7 |  0.05 | 1970-01-01 00:00:00.000
NULL | -1234 |  NULL | NULL
(2 rows)
";
        assert_eq!(table(&batch.schema(), std::slice::from_ref(&batch)).expect("plain types"), expected);
    }

    #[test]
    fn shows_what_rows_do() {
        let batch = sample();
        let mut writer = TableWriter::new(&batch.schema(), true);
        let mut out = String::new();
        writer.write(&batch, Some(&[Op::UpdateBefore, Op::UpdateAfter]), &mut out).expect("plain types");
        let ops: Vec<_> = out.lines().map(|line| &line[..2]).collect();
        assert_eq!(ops, ["op", "--", "-U", "+U"]);

        let mut writer = TableWriter::new(&batch.schema(), true);
        let mut out = Vec::new();
        writer.encode(&batch, Some(&[2, -1]), &mut out).expect("plain types");
        let text = String::from_utf8(out).expect("text");
        let ops: Vec<_> = text.lines().map(|line| &line[..2]).collect();
        assert_eq!(ops, ["op", "--", "+I", "+I", "-D"]);
    }

    #[test]
    fn keeps_a_value_on_its_line() {
        assert_eq!(clean("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
    }

    #[test]
    fn an_empty_result_has_its_header() {
        assert_eq!(
            table(&Schema::new(vec![arrow_schema::Field::new("a", arrow_schema::DataType::Int64, true)]), &[])
                .expect("nothing to show"),
            "a\n-\n(0 rows)\n"
        );
    }
}

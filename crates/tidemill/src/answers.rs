//! The rows of bare SELECTs, as they are printed.

use arrow_array::RecordBatch;
use tidemill_format::encode::JsonEncoder;
use tidemill_format::{CsvOptions, Encoder, Error, Format, JsonOptions, table};

use crate::arguments::Output;

/// The longest title of a table.
const TITLE_CHARS_MAX: usize = 100;

/// The rows of a SELECT as they are printed; `sql` is the SELECT.
pub(crate) fn printed(rows: &RecordBatch, sql: &str, output: Output) -> Result<Vec<u8>, Error> {
    match output {
        Output::Text => {
            Ok(format!("{}\n{}", title(sql), table::table(&rows.schema(), std::slice::from_ref(rows))?).into())
        }
        Output::Ndjson => lines(rows),
        Output::Json => lines(rows).map(array),
        Output::Csv => csv(rows),
    }
}

/// The beginning of a SELECT on one line.
fn title(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(TITLE_CHARS_MAX) {
        Some((end, _)) => {
            let cut = line[..end].rfind(' ').unwrap_or(end);
            format!("-- {} ...", &line[..cut])
        }
        None => format!("-- {line}"),
    }
}

fn lines(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    JsonEncoder::new(JsonOptions::default()).encode(rows, None, &mut out)?;
    Ok(out)
}

/// Lines as an array: a line break is never inside a value.
fn array(mut lines: Vec<u8>) -> Vec<u8> {
    if lines.last() == Some(&b'\n') {
        lines.pop();
    }
    for byte in &mut lines {
        if *byte == b'\n' {
            *byte = b',';
        }
    }
    lines.insert(0, b'[');
    lines.extend_from_slice(b"]\n");
    lines
}

fn csv(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let format = Format::Csv(CsvOptions { header: true, ..CsvOptions::default() });
    let mut encoder = format.encoder(rows.schema())?;
    let mut out = Vec::new();
    encoder.encode(rows, None, &mut out)?;
    encoder.finish(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn check(output: Output, expected: &str) {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a,b"), None]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 22]));
        let rows =
            RecordBatch::try_from_iter_with_nullable([("s", names, true), ("n", numbers, true)]).expect("columns");
        let printed = printed(&rows, "SELECT s,\n       n\nFROM t", output).expect("strings and integers");
        assert_eq!(String::from_utf8_lossy(&printed), expected);
    }

    #[test]
    fn prints_rows_in_every_form() {
        check(Output::Ndjson, "{\"s\":\"a,b\",\"n\":1}\n{\"s\":null,\"n\":22}\n");
        check(Output::Json, "[{\"s\":\"a,b\",\"n\":1},{\"s\":null,\"n\":22}]\n");
        check(Output::Csv, "s,n\n\"a,b\",1\n,22\n");
        check(Output::Text, "-- SELECT s, n FROM t\ns    |  n\n-----+---\na,b  |  1\nNULL | 22\n(2 rows)\n");
    }

    #[test]
    fn a_title_is_one_line() {
        assert_eq!(title("SELECT 1"), "-- SELECT 1");
        let long = title(&"word ".repeat(50));
        assert!(long.ends_with("word ...") && long.len() < 110, "{long}");
    }
}

//! The rows of bare SELECTs, as they are printed.

use arrow_array::RecordBatch;
use tidemill_format::encode::JsonEncoder;
use tidemill_format::{CsvOptions, Encoder, Error, Format, JsonOptions, table};

use crate::arguments::Output;

/// The longest title of a table.
const TITLE_CHARS_MAX: usize = 100;

/// The rows of a SELECT as they are printed; tables stand under `title`.
pub(crate) fn printed(rows: &RecordBatch, title: &str, output: Output) -> Result<Vec<u8>, Error> {
    match output {
        Output::Text => Ok(format!("-- {title}\n{}", table::table(&rows.schema(), std::slice::from_ref(rows))?).into()),
        Output::Ndjson => lines(rows),
        Output::Json => lines(rows).map(array),
        Output::Csv => csv(rows),
    }
}

/// What a SELECT's rows stand under: the comment right above line `line` of `file`, where the SELECT begins, or else
/// the SELECT itself. It is one line, cut when long.
pub(crate) fn title(file: &str, line: u64, select: &str) -> String {
    let above: Vec<&str> = file.lines().take((line as usize).saturating_sub(1)).collect();
    let comments = above.iter().rev().map_while(|line| line.trim_start().strip_prefix("--"));
    let mut comment: Vec<&str> = comments.flat_map(|line| line.split_whitespace().rev()).collect();
    comment.reverse();
    let words = if comment.is_empty() { select.split_whitespace().collect() } else { comment };
    let line = words.join(" ");
    match line.char_indices().nth(TITLE_CHARS_MAX) {
        Some((end, _)) => {
            let cut = line[..end].rfind(' ').unwrap_or(end);
            format!("{} ...", &line[..cut])
        }
        None => line,
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
        let printed = printed(&rows, "Names", output).expect("strings and integers");
        assert_eq!(String::from_utf8_lossy(&printed), expected);
    }

    #[test]
    fn prints_rows_in_every_form() {
        check(Output::Ndjson, "{\"s\":\"a,b\",\"n\":1}\n{\"s\":null,\"n\":22}\n");
        check(Output::Json, "[{\"s\":\"a,b\",\"n\":1},{\"s\":null,\"n\":22}]\n");
        check(Output::Csv, "s,n\n\"a,b\",1\n,22\n");
        check(Output::Text, "-- Names\ns    |  n\n-----+---\na,b  |  1\nNULL | 22\n(2 rows)\n");
    }

    #[test]
    fn a_title_is_the_comment_above_or_the_select() {
        assert_eq!(title("SELECT 1", 1, "SELECT 1"), "SELECT 1");
        assert_eq!(title("", 1, "SELECT s,\n       n\nFROM t"), "SELECT s, n FROM t");
        assert_eq!(title("SELECT 1;\n-- The\n  -- answer\nSELECT\n2", 4, "SELECT\n2"), "The answer");
        assert_eq!(title("-- Not this\n\nSELECT 3", 3, "SELECT 3"), "SELECT 3");
        let long = title("", 1, &"word ".repeat(50));
        assert!(long.ends_with("word ...") && long.len() < 110, "{long}");
    }
}

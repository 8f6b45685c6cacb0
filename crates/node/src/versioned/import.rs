//! CSV into a versioned table: one change of all its rows.

use std::path::Path;
use std::sync::Arc;

use arrow_array::StringArray;
use arrow_schema::{DataType, Field, Schema as Fields};
use tidemill_format::{CsvDecoder, CsvOptions, Decoded, Decoder as _};
use tidemill_state::submit::Accepted;
use tidemill_state::table::{Change, Schema, TableError, Type, Value};

use super::{Submission, Table};
use crate::error::Error;

/// A name that no header's field has, for their ends are trimmed.
const NOBODY: &str = "\n";

impl Table {
    /// Puts the rows of a CSV file, whose first line names columns; a column that it does not name is NULL, and so is an
    /// empty field but of texts. Returns how many rows there are, and what became of them.
    ///
    /// # Errors
    /// What is wrong with the file and where, or why the change is refused.
    pub fn import(&mut self, path: &Path, submission: &Submission) -> Result<(usize, Accepted), Error> {
        let wrong = |problem: String| Error::Import { path: path.to_path_buf(), problem };
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let changes = changes(self.schema(), &text).map_err(wrong)?;
        if changes.is_empty() {
            return Err(wrong("it has no rows".to_string()));
        }
        let accepted = self.submit_changes(submission, &changes)?;
        Ok((changes.len(), accepted))
    }
}

fn changes(schema: &Schema, text: &[u8]) -> Result<Vec<Change>, String> {
    let names = header(text)?;
    let options = CsvOptions { header: true, ..CsvOptions::default() };
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(format!("its header names column '{name}' twice"));
        }
        if !schema.columns().iter().any(|column| column.name == *name) {
            let known: Vec<&str> = schema.columns().iter().map(|column| column.name.as_str()).collect();
            return Err(format!("its header names '{name}'; the table's columns are {}", known.join(", ")));
        }
    }
    let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let mut decoded = Decoded::default();
    let mut decoder = CsvDecoder::new(options, Arc::new(Fields::new(fields))).map_err(|error| error.to_string())?;
    decoder.decode(text, &mut decoded).map_err(|error| error.to_string())?;
    let mut changes = Vec::with_capacity(decoded.rows());
    for batch in decoded.batches.iter().map(|decoded| &decoded.batch) {
        let texts: Vec<Option<&StringArray>> =
            schema.columns().iter().map(|column| batch.column_by_name(&column.name)?.as_any().downcast_ref()).collect();
        for row in 0..batch.num_rows() {
            let text = |column: &Option<&StringArray>| column.map(|column| column.value(row).to_string());
            let texts: Vec<Option<String>> = texts.iter().map(text).collect();
            let number = changes.len() + 1;
            changes.push(put(schema, &texts).map_err(|error| format!("row {number}: {error}"))?);
        }
    }
    Ok(changes)
}

/// The names in the first line.
fn header(text: &[u8]) -> Result<Vec<String>, String> {
    let options = CsvOptions { header: true, ..CsvOptions::default() };
    let nobody = Arc::new(Fields::new(vec![Field::new(NOBODY, DataType::Utf8, true)]));
    let mut decoder = CsvDecoder::new(options, nobody).map_err(|error| error.to_string())?;
    match decoder.decode(text, &mut Decoded::default()) {
        // A decoder that misses a column names those that it has found.
        Err(tidemill_format::Error::MissingColumn { found, .. }) => Ok(found),
        Err(error) => Err(error.to_string()),
        Ok(()) => Err("it is empty: its first line names the columns".to_string()),
    }
}

fn put(schema: &Schema, texts: &[Option<String>]) -> Result<Change, TableError> {
    let mut values = Vec::with_capacity(texts.len());
    for (column, text) in schema.columns().iter().zip(texts) {
        let is_text = matches!(column.kind, Type::String(_) | Type::Char(_));
        values.push(match text {
            None => Value::Null,
            Some(text) if text.trim().is_empty() && !is_text => Value::Null,
            Some(text) if is_text => schema.value_from_text(column, text)?,
            Some(text) => schema.value_from_text(column, text.trim())?,
        });
    }
    schema.row(&values).map(Change::Put)
}

#[cfg(test)]
mod tests {
    use super::super::declared;
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let schema = declared("ip STRING, score INT, note STRING", &["ip".to_string()], &[]).expect("it is sound");
        let rows = changes(&schema, text.as_bytes()).map(|changes| {
            let json = |change: &Change| schema.row_to_json(change.row().expect("rows are put")).expect("its own");
            changes.iter().map(|change| serde_json::Value::Object(json(change))).collect::<Vec<_>>()
        });
        match (rows, expected) {
            (Ok(rows), Ok(expected)) => {
                let expected = expected.iter().map(|text| serde_json::from_str(text).expect("JSON"));
                assert_eq!(rows, expected.collect::<Vec<serde_json::Value>>(), "{text}");
            }
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            (rows, _) => panic!("{text}: {rows:?}"),
        }
    }

    #[test]
    fn columns_are_found_by_name() {
        check(
            "score,ip,note\n3,a,\"x, y\"\n,b,\n",
            Ok(&[r#"{"ip":"a","note":"x, y","score":3}"#, r#"{"ip":"b","note":"","score":null}"#]),
        );
        check("ip\na\n", Ok(&[r#"{"ip":"a","note":null,"score":null}"#]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        check("", Err("it is empty"));
        check("ip,scor\na,1\n", Err("its header names 'scor'; the table's columns are ip, score, note"));
        check("ip,ip\na,1\n", Err("twice"));
        check("ip,score\na,1\nb,many\n", Err("row 2: column 'score' wants INT, not 'many'"));
        check("score\n1\n", Err("row 1: column 'ip' wants STRING NOT NULL"));
        check("ip,score\na\n", Err("expected 2 fields, found 1"));
    }
}

//! [`Sheet`]: a few rows of text, printed in the forms that the rows of a SELECT are printed in.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use serde::Serialize;

use crate::answers;
use crate::arguments::Output;
use crate::console;
use crate::failure::Failure;

/// Rows of text under names.
pub(crate) struct Sheet {
    columns: Vec<(String, Vec<String>)>,
}

impl Sheet {
    /// No rows yet.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Sheet { columns: names.into_iter().map(|name| (name.to_string(), Vec::new())).collect() }
    }

    /// Adds a row, with a value a column.
    pub(crate) fn row<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) {
        for ((_, column), value) in self.columns.iter_mut().zip(values) {
            column.push(value.to_string());
        }
    }

    /// What is printed.
    pub(crate) fn print(self, title: &str, output: Output) -> Result<Vec<u8>, Failure> {
        let columns = self.columns.into_iter().map(|(name, values)| {
            let values: ArrayRef = Arc::new(StringArray::from(values));
            (name, values)
        });
        let rows = RecordBatch::try_from_iter(columns).map_err(Failure::environment)?;
        answers::printed(&rows, title, output).map_err(|error| Failure::plain(&error))
    }
}

/// Prints as JSON when that was asked for.
pub(crate) fn as_json(value: &impl Serialize, output: Output) -> Result<bool, Failure> {
    if !matches!(output, Output::Json | Output::Ndjson) {
        return Ok(false);
    }
    let mut text = serde_json::to_vec(value).map_err(Failure::environment)?;
    text.push(b'\n');
    console::put(&text)?;
    Ok(true)
}

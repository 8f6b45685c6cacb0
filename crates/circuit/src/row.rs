//! Single rows: as JSON for people, as a digest for comparisons.

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use tidemill_base::hash;

use crate::delta::Delta;
use crate::key::KeyEncoder;

/// The most characters of a row that are shown to a person.
const JSON_CHARS_MAX: usize = 2_000;

/// A row as one line of JSON, cut to a readable length.
pub fn to_json(batch: &RecordBatch, row: usize) -> String {
    let mut text = String::from("{");
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.name().starts_with('$') {
            continue;
        }
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(&format!("{}: {}", quote(field.name()), value_json(column, row)));
    }
    text.push('}');
    match text.char_indices().nth(JSON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn value_json(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "null".to_string();
    }
    let options = FormatOptions::default();
    let text = match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(error) => return quote(&error.to_string()),
    };
    let bare = column.data_type().is_numeric() || matches!(column.data_type(), DataType::Boolean);
    if bare { text } else { quote(&text) }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The sum of weight x digest(row) over `delta`'s rows, which does not depend on their order or grouping.
///
/// Columns that cannot be keys (lists, maps, rows) are digested by their printed form.
pub fn digest(delta: &Delta) -> u128 {
    let mut low = vec![0_u64; delta.rows()];
    let mut high = vec![0_u64; delta.rows()];
    for (index, column) in delta.batch().columns().iter().enumerate() {
        let hashes = column_hashes(column);
        for ((low, high), value) in low.iter_mut().zip(&mut high).zip(hashes) {
            *low = hash::words(*low ^ index as u64, value);
            *high = hash::words(*high, value.rotate_left(32) ^ *low);
        }
    }
    let digests = low.iter().zip(&high).map(|(low, high)| u128::from(*low) | (u128::from(*high) << 64));
    match delta.weights() {
        None => digests.fold(0, u128::wrapping_add),
        Some(weights) => digests
            .zip(weights)
            .fold(0, |sum: u128, (digest, weight)| sum.wrapping_add(digest.wrapping_mul(*weight as u128))),
    }
}

fn column_hashes(column: &ArrayRef) -> Vec<u64> {
    match KeyEncoder::new(vec![column.data_type().clone()]) {
        Some(encoder) => encoder.encode(std::slice::from_ref(column), column.len()).hashes(),
        None => (0..column.len()).map(|row| hash::bytes(value_json(column, row).as_bytes())).collect(),
    }
}

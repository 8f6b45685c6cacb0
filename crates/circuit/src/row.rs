//! Single rows: as JSON for people, as a digest for comparisons.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use tidemill_base::hash;

use crate::decode::ORIGIN;
use crate::delta::Delta;
use crate::key::KeyEncoder;

/// The most characters of a row that are shown to a person.
const JSON_CHARS_MAX: usize = 2_000;

/// Spreads the bits of a digest's upper half: odd, so that no value is lost.
const SPREAD: u64 = 0xD6E8_FEB8_6659_FD93;

/// The hash of null, in every column.
const NULL: u64 = 0x6E75_6C6C_6E75_6C6C;

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

/// Where a row came from, when it says so.
pub fn origin(batch: &RecordBatch, row: usize) -> Option<u64> {
    let column = batch.column_by_name(ORIGIN)?.as_primitive_opt::<UInt64Type>()?;
    column.is_valid(row).then(|| column.value(row))
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
            *high = (high.rotate_left(29) ^ value).wrapping_mul(SPREAD);
        }
    }
    let digests = low.iter().zip(&high).map(|(low, high)| {
        let high = hash::words(*high, *low);
        u128::from(*low) | (u128::from(high) << 64)
    });
    match delta.weights() {
        None => digests.fold(0, u128::wrapping_add),
        Some(weights) => digests
            .zip(weights)
            .fold(0, |sum: u128, (digest, weight)| sum.wrapping_add(digest.wrapping_mul(*weight as u128))),
    }
}

/// A hash of each of `rows` rows, equal for equal rows; good for as long as the program runs.
pub(crate) fn hashes(columns: &[ArrayRef], rows: usize) -> Vec<u64> {
    let mut hashes = vec![0; rows];
    for column in columns {
        for (hash, value) in hashes.iter_mut().zip(column_hashes(column)) {
            *hash = hash::words(*hash, value);
        }
    }
    hashes
}

/// A hash of each value. The commonest types are hashed where they lie, the others by their key.
fn column_hashes(column: &ArrayRef) -> Vec<u64> {
    let mut hashes: Vec<u64> = if let Some(texts) = column.as_string_opt::<i32>() {
        let bytes = texts.value_data();
        texts.value_offsets().windows(2).map(|ends| hash::bytes(&bytes[ends[0] as usize..ends[1] as usize])).collect()
    } else if let Some(words) = words_of(column) {
        words.iter().map(|word| hash::word(*word as u64)).collect()
    } else {
        return match KeyEncoder::new(vec![column.data_type().clone()]) {
            Some(encoder) => encoder.encode(std::slice::from_ref(column), column.len()).hashes(),
            None => (0..column.len()).map(|row| hash::bytes(value_json(column, row).as_bytes())).collect(),
        };
    };
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        hashes.iter_mut().zip(nulls).filter(|(_, valid)| !valid).for_each(|(hash, _)| *hash = NULL);
    }
    hashes
}

/// The values of a column of 64-bit integers or times.
fn words_of(column: &ArrayRef) -> Option<ScalarBuffer<i64>> {
    let data = match column.data_type() {
        DataType::Int64 | DataType::Timestamp(..) => column.to_data(),
        _ => return None,
    };
    Some(ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray, TimestampMillisecondArray};

    use super::*;

    fn batch(texts: &[Option<&str>], numbers: &[Option<i64>]) -> RecordBatch {
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("text", Arc::new(StringArray::from(texts.to_vec())), true),
            ("number", Arc::new(Int64Array::from(numbers.to_vec())), true),
            ("time", Arc::new(TimestampMillisecondArray::from(numbers.to_vec())), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
    }

    fn digest_of(texts: &[Option<&str>], numbers: &[Option<i64>]) -> u128 {
        digest(&Delta::inserts(batch(texts, numbers)))
    }

    #[test]
    fn order_grouping_and_slices_do_not_change_a_digest() {
        let whole = digest_of(&[Some("a"), None, Some("")], &[Some(1), Some(0), None]);
        assert_eq!(digest_of(&[Some(""), Some("a"), None], &[None, Some(1), Some(0)]), whole);
        let parts = digest_of(&[Some("a")], &[Some(1)])
            .wrapping_add(digest_of(&[None], &[Some(0)]))
            .wrapping_add(digest_of(&[Some("")], &[None]));
        assert_eq!(parts, whole);
        let rows = batch(&[Some("x"), Some("a"), None, Some("")], &[Some(9), Some(1), Some(0), None]);
        assert_eq!(digest(&Delta::inserts(rows.slice(1, 3))), whole);
    }

    #[test]
    fn every_value_changes_a_digest() {
        let digests = [
            digest_of(&[Some("a")], &[Some(1)]),
            digest_of(&[Some("b")], &[Some(1)]),
            digest_of(&[Some("")], &[Some(1)]),
            digest_of(&[None], &[Some(1)]),
            digest_of(&[Some("a")], &[Some(0)]),
            digest_of(&[Some("a")], &[None]),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest), "{index}");
        }
    }

    #[test]
    fn a_row_taken_back_leaves_nothing() {
        let rows = batch(&[Some("a"), Some("a")], &[Some(1), Some(1)]);
        assert_eq!(digest(&Delta::weighted(rows, vec![1, -1])), 0);
    }
}

//! Single rows: as JSON for people, as a digest for comparisons.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use tidemill_base::hash;

use crate::decode::ORIGIN;
use crate::delta::Delta;
use crate::key::{KeyEncoder, hash_f64, hash_word};

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
    let mut halves = vec![(0_u64, 0_u64); delta.rows()];
    for (index, column) in delta.batch().columns().iter().enumerate() {
        fold_hashes(column, &mut halves, |(low, high), value| {
            *low = hash::words(*low ^ index as u64, value);
            *high = (high.rotate_left(29) ^ value).wrapping_mul(SPREAD);
        });
    }
    let digests = halves.iter().map(|(low, high)| {
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
        fold_hashes(column, &mut hashes, |hash, value| *hash = hash::words(*hash, value));
    }
    hashes
}

/// Tells each row's state the hash of its value. The commonest types are hashed where they lie, the others by their key.
fn fold_hashes<T>(column: &ArrayRef, states: &mut [T], mut each: impl FnMut(&mut T, u64)) {
    if let Some(texts) = column.as_string_opt::<i32>() {
        let bytes = texts.value_data();
        let ends = texts.value_offsets().windows(2);
        let hashes = ends.map(|ends| hash::bytes(&bytes[ends[0] as usize..ends[1] as usize]));
        fold(column, NULL, hashes, states, each);
    } else if let Some(words) = words_of(column) {
        fold(column, NULL, words.iter().map(|word| hash::word(*word as u64)), states, each);
    } else if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
        fold(column, hash_word(None), floats.values().iter().map(|value| hash_f64(*value)), states, each);
    } else if let Some(words) = column.as_primitive_opt::<UInt64Type>() {
        fold(column, hash_word(None), words.values().iter().map(|word| hash_word(Some(*word))), states, each);
    } else if let Some(encoder) = KeyEncoder::new(vec![column.data_type().clone()]) {
        let hashes = encoder.encode(std::slice::from_ref(column), column.len()).hashes();
        states.iter_mut().zip(hashes).for_each(|(state, hash)| each(state, hash));
    } else {
        let hashes = (0..column.len()).map(|row| hash::bytes(value_json(column, row).as_bytes()));
        states.iter_mut().zip(hashes).for_each(|(state, hash)| each(state, hash));
    }
}

/// The same, where the hashes of values are known and that of null.
fn fold<T>(
    column: &ArrayRef,
    null: u64,
    hashes: impl Iterator<Item = u64>,
    states: &mut [T],
    mut each: impl FnMut(&mut T, u64),
) {
    let all = states.iter_mut().zip(hashes);
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => all.for_each(|(state, hash)| each(state, hash)),
        Some(nulls) => {
            all.zip(nulls).for_each(|((state, hash), valid)| each(state, if valid { hash } else { null }));
        }
    }
}

/// The values of a column of 64-bit integers or times.
fn words_of(column: &ArrayRef) -> Option<&[i64]> {
    Some(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().values(),
        DataType::Timestamp(TimeUnit::Second, _) => column.as_primitive::<TimestampSecondType>().values(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => column.as_primitive::<TimestampMillisecondType>().values(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.as_primitive::<TimestampMicrosecondType>().values(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => column.as_primitive::<TimestampNanosecondType>().values(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, Int64Array, StringArray, TimestampMillisecondArray, UInt64Array};

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
    fn doubles_and_origins_are_hashed_as_their_keys_are() {
        let doubles = vec![Some(0.0), Some(-0.0), None, Some(1.5), Some(-1e300), Some(f64::NAN), Some(f64::INFINITY)];
        let origins = vec![Some(0), Some(1), None, Some(1 << 40), Some(u64::MAX), None, Some(7)];
        let columns: [ArrayRef; 2] = [Arc::new(Float64Array::from(doubles)), Arc::new(UInt64Array::from(origins))];
        for column in columns {
            let encoder = KeyEncoder::new(vec![column.data_type().clone()]).expect("it can be a key");
            let keys = encoder.encode(std::slice::from_ref(&column), column.len()).hashes();
            let mut hashes = vec![0; column.len()];
            fold_hashes(&column, &mut hashes, |hash, value| *hash = value);
            assert_eq!(hashes, keys);
            fold_hashes(&column.slice(2, 3), &mut hashes, |hash, value| *hash = value);
            assert_eq!(hashes[..3], keys[2..5]);
        }
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

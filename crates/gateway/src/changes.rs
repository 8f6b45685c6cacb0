//! What came into a view and what went out of it, as rows.

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use tidemill_circuit::Delta;

/// The rows that came (`sign` is 1) or went (-1), each as often as it did.
pub(crate) fn rows(deltas: &[Delta], sign: i64) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut batches = Vec::new();
    for delta in deltas {
        if delta.weights().is_none() && sign > 0 {
            batches.push(delta.batch().clone());
            continue;
        }
        let times = |row: u32| (delta.weight(row as usize) * sign).max(0) as usize;
        let picked: UInt32Array =
            (0..delta.rows() as u32).flat_map(|row| std::iter::repeat_n(row, times(row))).collect();
        if !picked.is_empty() {
            batches.push(delta.take(&picked)?.batch().clone());
        }
    }
    batches.retain(|batch| batch.num_rows() > 0);
    Ok(batches)
}

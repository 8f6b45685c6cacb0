//! [`Delta`]: rows with weights, the one thing that flows.
//!
//! A delta is an Arrow [`RecordBatch`] and, per row, how many times it comes (+n) or goes (-n). No weights means all +1:
//! the append-only path costs nothing. A second optional column marks *suspects*: rows that came below the watermark of
//! their own partition. A suspect carries that watermark; only a suspect can be late.
//!
//! What makes its rows of single rows passes their marks on, and so does a join for the rows of a side that it does not
//! judge. What goes by a time (windows, rankings and `OVER` whose keys expire, joins that forget, temporal joins) judges
//! suspects itself: it leaves those out whose time the watermark they carry has passed, and says the others without a mark.
//! That time is all that its output is known to be bounded by, so nobody after it finds late what it did not. Where no time
//! of the output is bounded (set operations, rankings that forget nothing, groups) nobody after it goes by time at all.

use std::sync::OnceLock;

use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, SchemaRef};

use crate::row;

/// The most rows that one delta holds where the engine cuts them itself.
pub const DELTA_ROWS_MAX: usize = 8_192;

/// The carried watermark of a row that is no suspect.
pub const NO_SUSPECT: i64 = i64::MIN;

/// Rows with weights.
#[derive(Debug, Clone)]
pub struct Delta {
    batch: RecordBatch,
    weights: Option<ScalarBuffer<i64>>,
    carried: Option<ScalarBuffer<i64>>,
    /// The digest of its rows, once it has been asked for.
    digest: OnceLock<u128>,
}

impl Delta {
    /// Rows that each come once.
    pub fn inserts(batch: RecordBatch) -> Self {
        Delta { batch, weights: None, carried: None, digest: OnceLock::new() }
    }

    /// Rows with a weight each; `weights` has one entry a row.
    pub fn weighted(batch: RecordBatch, weights: Vec<i64>) -> Self {
        debug_assert_eq!(batch.num_rows(), weights.len());
        Delta { weights: Some(weights.into()), ..Delta::inserts(batch) }
    }

    /// No rows of `schema`.
    pub fn empty(schema: SchemaRef) -> Self {
        Delta::inserts(RecordBatch::new_empty(schema))
    }

    /// Marks suspects: `carried` has the watermark each row came below, or [`NO_SUSPECT`].
    pub fn with_carried(mut self, carried: Option<Vec<i64>>) -> Self {
        debug_assert!(carried.as_ref().is_none_or(|carried| carried.len() == self.batch.num_rows()));
        self.carried = carried.map(ScalarBuffer::from);
        self
    }

    /// The same rows, weights and marks with other columns; `batch` has as many rows.
    pub fn with_batch(&self, batch: RecordBatch) -> Self {
        debug_assert_eq!(batch.num_rows(), self.batch.num_rows());
        Delta { weights: self.weights.clone(), carried: self.carried.clone(), ..Delta::inserts(batch) }
    }

    /// The columns.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Column `index`.
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.batch.column(index)
    }

    /// The weights; none means all +1.
    pub fn weights(&self) -> Option<&[i64]> {
        self.weights.as_deref()
    }

    /// The sum of weight x digest of its rows, which is computed once; see [`crate::row::digest`].
    pub fn digest(&self) -> u128 {
        *self.digest.get_or_init(|| row::digest(self))
    }

    /// The weight of a row.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights[row])
    }

    /// The watermark each suspect came below, [`NO_SUSPECT`] for other rows; none means there is no suspect.
    pub fn carried(&self) -> Option<&[i64]> {
        self.carried.as_deref()
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// The columns' schema.
    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    /// The rows for which `mask` is true; null is false.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Delta, ArrowError> {
        let batch = arrow_select::filter::filter_record_batch(&self.batch, mask)?;
        let pick = |values: &ScalarBuffer<i64>| -> Vec<i64> {
            let kept = |row: usize| mask.is_valid(row) && mask.value(row);
            values.iter().enumerate().filter(|(row, _)| kept(*row)).map(|(_, value)| *value).collect()
        };
        let (weights, carried) = (self.weights.as_ref().map(pick), self.carried.as_ref().map(pick));
        Ok(Delta { weights: weights.map(Into::into), carried: carried.map(Into::into), ..Delta::inserts(batch) })
    }

    /// The rows at `indices`, in that order; a row may be named more than once.
    pub fn take(&self, indices: &UInt32Array) -> Result<Delta, ArrowError> {
        let batch = arrow_select::take::take_record_batch(&self.batch, indices)?;
        let pick = |values: &ScalarBuffer<i64>| -> Vec<i64> {
            indices.values().iter().map(|index| values[*index as usize]).collect()
        };
        let (weights, carried) = (self.weights.as_ref().map(pick), self.carried.as_ref().map(pick));
        Ok(Delta { weights: weights.map(Into::into), carried: carried.map(Into::into), ..Delta::inserts(batch) })
    }

    /// The rows that each come once: one that comes several times stands there as often.
    ///
    /// # Errors
    /// When a row is taken back.
    pub fn repeated(self) -> Result<Delta, ArrowError> {
        let Some(weights) = self.weights() else { return Ok(self) };
        if weights.iter().any(|weight| *weight < 0) {
            let message = "a row was taken back, which the plan says never happens";
            return Err(ArrowError::ComputeError(message.to_string()));
        }
        let rows = weights.iter().enumerate();
        let rows = rows.flat_map(|(row, weight)| std::iter::repeat_n(row as u32, *weight as usize));
        let taken = self.take(&UInt32Array::from_iter_values(rows))?;
        Ok(Delta { weights: None, digest: OnceLock::new(), ..taken })
    }

    /// `length` rows from `offset`, without copying.
    pub fn slice(&self, offset: usize, length: usize) -> Delta {
        Delta {
            weights: self.weights.as_ref().map(|weights| weights.slice(offset, length)),
            carried: self.carried.as_ref().map(|carried| carried.slice(offset, length)),
            ..Delta::inserts(self.batch.slice(offset, length))
        }
    }

    /// The rows of `deltas` one after another; all have `schema`.
    pub fn concat(schema: &SchemaRef, deltas: &[Delta]) -> Result<Delta, ArrowError> {
        if let [only] = deltas {
            return Ok(only.clone());
        }
        let batch = arrow_select::concat::concat_batches(schema, deltas.iter().map(|delta| &delta.batch))?;
        let gather = |of: fn(&Delta) -> Option<&[i64]>, default: i64| -> Option<Vec<i64>> {
            deltas.iter().any(|delta| of(delta).is_some()).then(|| {
                let mut all = Vec::with_capacity(batch.num_rows());
                for delta in deltas {
                    match of(delta) {
                        Some(values) => all.extend_from_slice(values),
                        None => all.resize(all.len() + delta.rows(), default),
                    }
                }
                all
            })
        };
        let (weights, carried) = (gather(Delta::weights, 1), gather(Delta::carried, NO_SUSPECT));
        Ok(Delta { weights: weights.map(Into::into), carried: carried.map(Into::into), ..Delta::inserts(batch) })
    }

    /// The weights as a column, for tests and changelog writers.
    pub fn weight_column(&self) -> Int64Array {
        match &self.weights {
            Some(weights) => Int64Array::new(weights.clone(), None),
            None => Int64Array::from(vec![1; self.rows()]),
        }
    }
}

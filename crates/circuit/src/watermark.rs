//! Watermarks, row by row: how far the event time of a source has come, and which rows came below it.
//!
//! The watermark of a partition after row i is the greatest bound (`WATERMARK FOR ts AS bound`) up to row i. A row whose
//! time lies below its own partition's watermark before it is a *suspect* and carries that watermark along. So lateness
//! depends on the content of the partition alone, not on steps or lanes.

use std::collections::BTreeMap;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::delta::NO_SUSPECT;
use crate::plan::WatermarkSpec;

/// The watermark of one source: the least over its partitions.
#[derive(Debug)]
pub(crate) struct Tracker {
    partitions: BTreeMap<u32, Partition>,
    complete: bool,
    watermark: i64,
}

#[derive(Debug, Clone, Copy)]
struct Partition {
    bound: i64,
    idle: bool,
}

impl Tracker {
    /// A source of which nothing is known yet.
    pub fn new() -> Self {
        Tracker { partitions: BTreeMap::new(), complete: false, watermark: i64::MIN }
    }

    /// A partition is there; one that comes late starts at the source's watermark.
    pub fn open(&mut self, partition: u32) {
        self.partitions.entry(partition).or_insert(Partition { bound: self.watermark, idle: false });
    }

    /// The watermark before the next row of `partition`, which has rows again.
    pub fn before(&mut self, partition: u32) -> i64 {
        let state = self.partitions.entry(partition).or_insert(Partition { bound: self.watermark, idle: false });
        if state.idle {
            *state = Partition { bound: state.bound.max(self.watermark), idle: false };
        }
        state.bound
    }

    /// The rows of `partition` have come as far as `bound`.
    pub fn advance(&mut self, partition: u32, bound: i64) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.bound = state.bound.max(bound);
        }
    }

    /// A partition has nothing more and holds nothing back.
    pub fn end(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }

    /// A partition has been silent for too long and holds nothing back until it speaks again.
    pub fn idle(&mut self, partition: u32) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.idle = true;
        }
    }

    /// No partition will come any more.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Whether the source has ended.
    pub fn is_complete(&self) -> bool {
        self.complete && self.partitions.is_empty()
    }

    /// The source's watermark; it never goes back.
    pub fn watermark(&mut self) -> i64 {
        if self.is_complete() {
            self.watermark = i64::MAX;
        } else if let Some(least) = self.partitions.values().filter(|p| !p.idle).map(|p| p.bound).min() {
            self.watermark = self.watermark.max(least);
        }
        self.watermark
    }
}

/// What a tracker knows, as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tracked {
    /// The source's watermark.
    watermark: i64,
    /// Whether no partition will come any more.
    complete: bool,
    /// Each partition that has not ended: its number, its watermark, whether it is idle.
    partitions: Vec<(u32, i64, bool)>,
}

impl Tracker {
    /// What is known.
    pub fn save(&self) -> Tracked {
        let partitions = self.partitions.iter().map(|(partition, state)| (*partition, state.bound, state.idle));
        Tracked { watermark: self.watermark, complete: self.complete, partitions: partitions.collect() }
    }

    /// Goes on from what was known.
    pub fn restore(saved: &Tracked) -> Self {
        let partitions = saved.partitions.iter();
        let partitions =
            partitions.map(|(partition, bound, idle)| (*partition, Partition { bound: *bound, idle: *idle }));
        Tracker { partitions: partitions.collect(), complete: saved.complete, watermark: saved.watermark }
    }
}

/// Event times of a piece of rows, and how far they move the watermark.
#[derive(Debug)]
pub(crate) struct Times {
    times: Vec<i64>,
    /// The greatest bound up to and including each row, over this piece alone.
    bounds: Vec<i64>,
    least: i64,
    /// Whether some row lies below a bound before it within the piece.
    disordered: bool,
}

impl Times {
    /// Reads the times of a batch. A row without a time is an error: `(row, message)`.
    pub fn read(spec: &WatermarkSpec, batch: &RecordBatch) -> Result<Self, (usize, String)> {
        let column = batch.column(spec.time);
        if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
            let row = (0..batch.num_rows()).find(|row| nulls.is_null(*row)).unwrap_or(0);
            return Err((row, format!("the event time '{}' is null", batch.schema().field(spec.time).name())));
        }
        let times = millis(column).map_err(|message| (0, message))?;
        let bound = spec.bound.evaluate(batch).map_err(|message| (0, message))?;
        let mut bounds = millis(&bound).map_err(|message| (0, message))?;
        let (mut high, mut least, mut disordered) = (i64::MIN, i64::MAX, false);
        for (row, (time, slot)) in times.iter().zip(&mut bounds).enumerate() {
            disordered |= *time < high;
            least = least.min(*time);
            if bound.is_valid(row) {
                high = high.max(*slot);
            }
            *slot = high;
        }
        Ok(Times { times, bounds, least, disordered })
    }

    /// How far these rows alone move the watermark.
    pub fn high(&self) -> i64 {
        self.bounds.last().copied().unwrap_or(i64::MIN)
    }

    /// The watermark each suspect carries, when the partition stood at `before`; none when no row is one.
    pub fn carried(&self, before: i64) -> Option<Vec<i64>> {
        if !self.disordered && self.least >= before {
            return None;
        }
        let mut watermark = before;
        let mut any = false;
        let carried = self.times.iter().zip(&self.bounds).map(|(time, bound)| {
            let suspect = *time < watermark;
            any |= suspect;
            let mark = if suspect { watermark } else { NO_SUSPECT };
            watermark = watermark.max(*bound);
            mark
        });
        let carried = carried.collect();
        any.then_some(carried)
    }
}

/// A column of timestamps as milliseconds, rounded down; null reads as 0.
pub(crate) fn millis(column: &ArrayRef) -> Result<Vec<i64>, String> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    };
    let DataType::Timestamp(unit, _) = column.data_type() else {
        return Err(format!("{} is not a timestamp", column.data_type()));
    };
    Ok(match unit {
        TimeUnit::Second => {
            column.as_primitive::<TimestampSecondType>().values().iter().map(|t| t.saturating_mul(1_000)).collect()
        }
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values().to_vec(),
        TimeUnit::Microsecond => {
            column.as_primitive::<TimestampMicrosecondType>().values().iter().map(|t| t.div_euclid(1_000)).collect()
        }
        TimeUnit::Nanosecond => {
            column.as_primitive::<TimestampNanosecondType>().values().iter().map(|t| t.div_euclid(1_000_000)).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::TimestampMillisecondArray;
    use arrow_schema::{Field, Schema};

    use super::*;
    use crate::expr::Column;

    fn times(values: &[i64]) -> Times {
        let data_type = DataType::Timestamp(TimeUnit::Millisecond, None);
        let schema = Arc::new(Schema::new(vec![Field::new("ts", data_type.clone(), true)]));
        let column = Arc::new(TimestampMillisecondArray::from(values.to_vec()));
        let batch = RecordBatch::try_new(schema, vec![column]).expect("one column of one schema");
        let spec = WatermarkSpec { time: 0, bound: Column::new(0, "ts", data_type), idle_timeout_ms: None };
        Times::read(&spec, &batch).expect("no time is null")
    }

    #[test]
    fn only_rows_below_what_came_before_are_suspects() {
        let piece = times(&[5, 7, 6, 7, 9]);
        assert_eq!(piece.high(), 9);
        let none = NO_SUSPECT;
        assert_eq!(piece.carried(i64::MIN), Some(vec![none, none, 7, none, none]));
        assert_eq!(piece.carried(8), Some(vec![8, 8, 8, 8, none]));
        assert_eq!(times(&[1, 2, 2]).carried(1), None);
    }

    #[test]
    fn cutting_a_piece_in_two_changes_nothing() {
        let whole = times(&[3, 1, 4, 1, 5, 9, 2, 6]).carried(2).expect("there are suspects");
        let (left, right) = (times(&[3, 1, 4, 1]), times(&[5, 9, 2, 6]));
        let mut parts = left.carried(2).expect("there are suspects");
        parts.extend(right.carried(left.high().max(2)).expect("there are suspects"));
        assert_eq!(parts, whole);
    }

    #[test]
    fn the_least_partition_holds_the_watermark_until_it_is_idle_or_ends() {
        let mut tracker = Tracker::new();
        tracker.open(0);
        tracker.open(1);
        tracker.advance(0, 10);
        assert_eq!(tracker.watermark(), i64::MIN);
        tracker.advance(1, 5);
        assert_eq!(tracker.watermark(), 5);
        tracker.idle(1);
        assert_eq!(tracker.watermark(), 10);
        assert_eq!(tracker.before(1), 10, "what was idle comes back at the source's watermark");
        tracker.end(1);
        tracker.advance(0, 20);
        assert_eq!(tracker.watermark(), 20);
        tracker.end(0);
        assert_eq!(tracker.watermark(), 20, "more partitions may come");
        tracker.complete();
        assert_eq!(tracker.watermark(), i64::MAX);
    }
}

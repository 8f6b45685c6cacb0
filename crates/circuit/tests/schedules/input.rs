//! Random input: rows with weights in one to three partitions, cut into blocks and steps.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use tidemill_base::rand::Rng;
use tidemill_circuit::Delta;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::{SourceInput, StepInput};

use super::build::Case;
use super::table::{DELAY, TIME, decoded};
use super::value::{Row, Value};

/// One row on its way in.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) row: Row,
    pub(crate) weight: i64,
    partition: u32,
}

/// All rows in the order in which they come, and where steps are cut.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    entries: Vec<Entry>,
    partitions: u32,
    /// Where each step ends; the last one ends with the input.
    ends: Vec<usize>,
    /// The most rows of a block.
    block: usize,
}

impl Script {
    /// Rows that are never late: each partition's times go back by less than the watermark's delay.
    pub(crate) fn random(rng: &mut Rng, case: &Case) -> Self {
        let partitions = 1 + rng.below(3) as u32;
        let count = [0, 1, 20, 200][rng.below(4) as usize];
        Self::rows(rng, case, partitions, count.min(case.rows_max))
    }

    /// So many rows of one to three partitions.
    pub(crate) fn of(rng: &mut Rng, case: &Case, count: usize) -> Self {
        let partitions = 1 + rng.below(3) as u32;
        Self::rows(rng, case, partitions, count.min(case.rows_max))
    }

    fn rows(rng: &mut Rng, case: &Case, partitions: u32, count: usize) -> Self {
        let (mut entries, mut time): (Vec<Entry>, i64) = (Vec::new(), rng.below(400) as i64 - 200);
        let mut live: Vec<usize> = Vec::new();
        while entries.len() < count {
            time += if rng.chance(1, 30) { rng.below(200) as i64 } else { rng.below(6) as i64 };
            live.retain(|entry| matches!(entries[*entry].row[TIME], Value::Time(then) if then >= time - DELAY));
            if case.updating && !live.is_empty() && rng.chance(1, 3) {
                let taken = live.swap_remove(rng.below(live.len() as u64) as usize);
                entries.push(Entry { weight: -entries[taken].weight, ..entries[taken].clone() });
                continue;
            }
            let back = rng.below(DELAY as u64) as i64;
            let row = random_row(rng, time - back);
            let weight = if case.updating && rng.chance(1, 6) { 2 } else { 1 };
            entries.push(Entry { row, weight, partition: rng.below(u64::from(partitions)) as u32 });
            live.push(entries.len() - 1);
        }
        let script = Script { entries, partitions, ends: vec![count], block: 8_192 };
        if rng.chance(1, 2) { script.recut(rng) } else { script }
    }

    /// The same rows in other steps and blocks.
    pub(crate) fn recut(&self, rng: &mut Rng) -> Self {
        let mut ends: Vec<usize> = (0..self.entries.len()).filter(|_| rng.chance(1, 12)).collect();
        ends.push(self.entries.len());
        Script { ends, block: 1 + rng.below(40) as usize, ..self.clone() }
    }

    /// The number of steps.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The same first `done` steps, and the other rows in other steps and blocks.
    pub(crate) fn recut_after(&self, done: usize, rng: &mut Rng) -> Self {
        let from = done.checked_sub(1).map_or(0, |last| self.ends[last]);
        let mut ends: Vec<usize> = self.ends[..done].to_vec();
        if done < self.ends.len() {
            ends.extend((from..self.entries.len()).filter(|_| rng.chance(1, 12)));
            ends.push(self.entries.len());
        }
        Script { ends, ..self.clone() }
    }

    /// The rows of the steps up to and including `step`, with `$origin` as their last value.
    pub(crate) fn upto(&self, step: usize) -> Vec<Entry> {
        let mut counts = vec![0_i64; self.partitions as usize];
        let mut entries = self.entries[..self.ends[step]].to_vec();
        for entry in &mut entries {
            let count = &mut counts[entry.partition as usize];
            entry.row.push(Value::Int((i64::from(entry.partition) << 40) | *count));
            *count += 1;
        }
        entries
    }

    /// The watermark after `step`.
    pub(crate) fn watermark(&self, step: usize) -> i64 {
        if step + 1 == self.ends.len() {
            return i64::MAX;
        }
        let of = |partition: u32| {
            let rows = self.entries[..self.ends[step]].iter().filter(|entry| entry.partition == partition);
            let times = rows.map(|entry| if let Value::Time(time) = entry.row[TIME] { time - DELAY } else { i64::MIN });
            times.max().unwrap_or(i64::MIN)
        };
        (0..self.partitions).map(of).min().unwrap_or(i64::MIN)
    }

    /// The input of each step.
    pub(crate) fn steps(&self) -> Vec<StepInput> {
        let mut counts = vec![0_u64; self.partitions as usize];
        let mut start = 0;
        let mut steps = Vec::new();
        for (step, end) in self.ends.iter().enumerate() {
            let last = step + 1 == self.ends.len();
            let mut news = SourceInput { source: "rows".to_string(), ..SourceInput::default() };
            for entries in self.entries[start..*end].chunk_by(|a, b| a.partition == b.partition) {
                news.blocks.extend(entries.chunks(self.block).map(|entries| block(entries, &mut counts)));
            }
            if step == 0 {
                news.opened = (0..self.partitions).collect();
            }
            if last {
                news.ended = (0..self.partitions).collect();
                news.complete = true;
            }
            steps.push(StepInput { now: step as i64, sources: vec![news] });
            start = *end;
        }
        steps
    }

    pub(crate) fn describe(&self) -> String {
        let entry = |entry: &Entry| format!("  {:+} p{} {:?}", entry.weight, entry.partition, entry.row);
        let rows: Vec<_> = self.entries.iter().take(40).map(entry).collect();
        format!("{} rows, steps end at {:?}\n{}", self.entries.len(), self.ends, rows.join("\n"))
    }
}

fn random_row(rng: &mut Rng, time: i64) -> Row {
    let maybe = |value: Value, rng: &mut Rng| if rng.chance(1, 8) { Value::Null } else { value };
    let key = maybe(Value::Int(rng.below(4) as i64), rng);
    let text = maybe(Value::Text(["", "a", "bb", "ccc", "ä"][rng.below(5) as usize].to_string()), rng);
    let number = maybe(Value::Int(rng.below(12) as i64 - 5), rng);
    let float = maybe(Value::Float((rng.below(2_000) as f64 - 1_000.0) / 8.0), rng);
    let flag = maybe(Value::Flag(rng.chance(1, 2)), rng);
    vec![key, text, number, float, flag, Value::Time(time)]
}

/// The rows of one partition as a block.
fn block(entries: &[Entry], counts: &mut [u64]) -> Block {
    let partition = entries[0].partition;
    let first = counts[partition as usize];
    counts[partition as usize] += entries.len() as u64;
    let batch = RecordBatch::try_new(decoded(), columns(entries)).expect("the columns are the schema's");
    let weighted = entries.iter().any(|entry| entry.weight != 1);
    let delta = if weighted {
        Delta::weighted(batch, entries.iter().map(|entry| entry.weight).collect())
    } else {
        Delta::inserts(batch)
    };
    let to = first + entries.len() as u64;
    Block {
        partition,
        from: first,
        to,
        first_record: first,
        records: entries.len() as u32,
        data: BlockData::Rows(delta),
    }
}

fn columns(entries: &[Entry]) -> Vec<ArrayRef> {
    let (mut key, mut text, mut number) = (Int64Builder::new(), StringBuilder::new(), Int64Builder::new());
    let (mut float, mut flag, mut time) =
        (Float64Builder::new(), BooleanBuilder::new(), TimestampMillisecondBuilder::new());
    let int = |value: &Value| if let Value::Int(value) = value { Some(*value) } else { None };
    for Entry { row, .. } in entries {
        key.append_option(int(&row[0]));
        text.append_option(if let Value::Text(value) = &row[1] { Some(value) } else { None });
        number.append_option(int(&row[2]));
        float.append_option(if let Value::Float(value) = row[3] { Some(value) } else { None });
        flag.append_option(if let Value::Flag(value) = row[4] { Some(value) } else { None });
        time.append_option(if let Value::Time(value) = row[5] { Some(value) } else { None });
    }
    vec![
        Arc::new(key.finish()),
        Arc::new(text.finish()),
        Arc::new(number.finish()),
        Arc::new(float.finish()),
        Arc::new(flag.finish()),
        Arc::new(time.finish()),
    ]
}

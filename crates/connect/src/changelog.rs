//! [`Changelog`]: the rows of a step as changes that can be told one after another.
//!
//! Inside a step rows come in any order, and one may come and go again. A reader of a changelog is told what is different
//! after the step and nothing else: rows that cancel out are left out, and under each key the row that goes comes before
//! the row that takes its place.

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_circuit::key::{KeyEncoder, KeyIndex};
use tidemill_format::table::Op;

use crate::error::Error;
use crate::sink::Rows;

/// What a reader is told of a row that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// The row that goes and the row that comes.
    Changes,
    /// The row that comes, or that there is none any more: the reader knows rows by their key.
    Upserts,
}

/// Makes changes of the rows of each step.
#[derive(Debug, Clone)]
pub(crate) struct Changelog {
    schema: SchemaRef,
    /// The columns that name a row.
    key: Option<(Vec<usize>, KeyEncoder)>,
    /// All columns, when they can be compared.
    row: Option<KeyEncoder>,
    telling: Telling,
}

/// Rows, and what happens to each.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    pub(crate) batch: RecordBatch,
    pub(crate) ops: Vec<Op>,
}

/// A row that is different after the step, and how often it has come, or gone.
#[derive(Debug, Clone, Copy)]
struct Entry {
    row: u32,
    weight: i64,
    /// What its key is called in this step, in the order of appearance.
    group: u32,
}

impl Changelog {
    pub(crate) fn new(rows: &Rows, telling: Telling) -> Self {
        let encoder = |columns: &[usize]| {
            KeyEncoder::new(columns.iter().map(|index| rows.schema.field(*index).data_type().clone()).collect())
        };
        let all: Vec<usize> = (0..rows.schema.fields().len()).collect();
        // Rows that only come have nothing to do with one another, and stay in their order.
        let key = rows.key.clone().filter(|_| rows.updating);
        let key = key.and_then(|key| encoder(&key).map(|encoder| (key, encoder)));
        Changelog { schema: rows.schema.clone(), key, row: encoder(&all), telling }
    }

    /// What the rows of a step change.
    ///
    /// # Errors
    /// What Arrow does not like about them.
    pub(crate) fn of(&self, rows: &[Delta]) -> Result<Changes, ArrowError> {
        if rows.is_empty() {
            return Ok(Changes { batch: RecordBatch::new_empty(self.schema.clone()), ops: Vec::new() });
        }
        let all = Delta::concat(&rows[0].schema(), rows)?;
        let mut entries = self.entries(&all);
        // Those of a key stand together, in the order in which keys first appear, and what goes stands first.
        entries.sort_by_key(|entry| (entry.group, entry.weight > 0));
        let told = match self.telling {
            Telling::Changes => changes(&entries),
            Telling::Upserts => upserts(&entries),
        };
        let indices: UInt32Array = told.iter().map(|(row, _)| *row).collect::<Vec<u32>>().into();
        let batch = all.take(&indices)?.batch().clone();
        Ok(Changes { batch, ops: told.into_iter().map(|(_, op)| op).collect() })
    }

    /// What the rows of a step change, each row with the weight of what happens to it.
    ///
    /// # Errors
    /// What Arrow does not like about them.
    pub(crate) fn told(&self, table: &str, rows: &[Delta]) -> Result<Delta, Error> {
        let changes = self.of(rows).map_err(tidemill_format::Error::from);
        let Changes { batch, ops } =
            changes.map_err(|error| Error::Format { table: table.to_string(), path: None, error })?;
        let weight = |op: &Op| if matches!(op, Op::Insert | Op::UpdateAfter) { 1 } else { -1 };
        let weights = ops.iter().map(weight).collect();
        Ok(Delta::weighted(batch, weights))
    }

    /// The rows that are different after the step, each with the group of its key.
    fn entries(&self, all: &Delta) -> Vec<Entry> {
        let rows = all.rows();
        let groups = match &self.key {
            Some((columns, encoder)) => numbered(encoder, all.batch(), columns),
            // Without a key no two rows have anything to do with each other.
            None => (0..rows as u32).collect(),
        };
        let mut entries: Vec<Entry> = Vec::with_capacity(rows);
        let comes_and_goes = all.weights().is_some_and(|weights| weights.iter().any(|weight| *weight < 0));
        let Some(encoder) = self.row.as_ref().filter(|_| comes_and_goes) else {
            entries.extend((0..rows).map(|row| Entry { row: row as u32, weight: all.weight(row), group: groups[row] }));
            entries.retain(|entry| entry.weight != 0);
            return entries;
        };
        let columns: Vec<usize> = (0..all.batch().num_columns()).collect();
        for (row, number) in numbered(encoder, all.batch(), &columns).into_iter().enumerate() {
            match entries.get_mut(number as usize) {
                Some(entry) => entry.weight += all.weight(row),
                None => entries.push(Entry { row: row as u32, weight: all.weight(row), group: groups[row] }),
            }
        }
        entries.retain(|entry| entry.weight != 0);
        entries
    }
}

/// Numbers the distinct values of some columns in the order in which they first appear.
fn numbered(encoder: &KeyEncoder, batch: &RecordBatch, columns: &[usize]) -> Vec<u32> {
    let keys = encoder.encode_batch(batch, columns);
    let mut numbers = Vec::new();
    KeyIndex::default().intern(&keys, &keys.hashes(), &mut numbers);
    numbers
}

/// Each entry as often as it counts; as many as come in place of others are updates.
fn changes(entries: &[Entry]) -> Vec<(u32, Op)> {
    let mut told = Vec::with_capacity(entries.len());
    for group in entries.chunk_by(|a, b| a.group == b.group) {
        let count = |sign: i64| -> u64 {
            group.iter().filter(|entry| entry.weight.signum() == sign).map(|entry| entry.weight.unsigned_abs()).sum()
        };
        let updates = count(-1).min(count(1));
        let (mut gone, mut come) = (updates, updates);
        for entry in group {
            for _ in 0..entry.weight.unsigned_abs() {
                let (left, update, other) = match entry.weight < 0 {
                    true => (&mut gone, Op::UpdateBefore, Op::Delete),
                    false => (&mut come, Op::UpdateAfter, Op::Insert),
                };
                told.push((entry.row, if *left > 0 { update } else { other }));
                *left = left.saturating_sub(1);
            }
        }
    }
    told
}

/// The last row of each key, or the one that is gone.
fn upserts(entries: &[Entry]) -> Vec<(u32, Op)> {
    let groups = entries.chunk_by(|a, b| a.group == b.group);
    let last = |group: &[Entry]| match group {
        [.., last] if last.weight > 0 => (last.row, Op::UpdateAfter),
        [first, ..] => (first.row, Op::Delete),
        [] => (0, Op::Delete),
    };
    groups.map(last).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    type Row<'a> = (&'a str, i64, i64);

    fn delta(rows: &[Row<'_>]) -> Delta {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
        let batch = RecordBatch::try_from_iter([("name", names), ("n", counts)]).expect("two columns of one length");
        Delta::weighted(batch, rows.iter().map(|row| row.2).collect())
    }

    fn check(telling: Telling, key: Option<Vec<usize>>, deltas: &[&[Row<'_>]], expected: &[&str]) {
        let deltas: Vec<Delta> = deltas.iter().map(|rows| delta(rows)).collect();
        let rows = Rows { schema: delta(&[]).schema(), key, updating: true };
        let Changes { batch, ops } = Changelog::new(&rows, telling).of(&deltas).expect("plain columns");
        let (names, counts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        let told: Vec<String> = ops
            .iter()
            .enumerate()
            .map(|(row, op)| format!("{} {} {}", op.as_str(), names.value(row), counts.value(row)))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn pairs_what_goes_with_what_comes_under_a_key() {
        let name = Some(vec![0]);
        let changes =
            |deltas: &[&[Row<'_>]], expected: &[&str]| check(Telling::Changes, name.clone(), deltas, expected);
        changes(&[&[("a", 1, 1), ("b", 1, 1)]], &["+I a 1", "+I b 1"]);
        changes(&[&[("a", 2, 1), ("b", 1, -1), ("a", 1, -1)]], &["-U a 1", "+U a 2", "-D b 1"]);
        changes(&[&[("a", 2, 1)], &[("b", 3, 1)], &[("a", 1, -1)]], &["-U a 1", "+U a 2", "+I b 3"]);
        changes(&[&[("a", 1, -2), ("a", 2, 1)]], &["-U a 1", "-D a 1", "+U a 2"]);
    }

    #[test]
    fn what_comes_and_goes_within_a_step_is_not_told() {
        let name = Some(vec![0]);
        check(Telling::Changes, name.clone(), &[&[("a", 1, 1), ("a", 2, 1)], &[("a", 1, -1)]], &["+I a 2"]);
        check(Telling::Changes, name, &[&[("a", 1, 1), ("a", 1, -1)]], &[]);
        check(Telling::Changes, None, &[&[("a", 1, 2), ("b", 1, -1), ("a", 1, -1)]], &["+I a 1", "-D b 1"]);
    }

    #[test]
    fn upserts_say_the_last_row_of_each_key() {
        let upserts =
            |deltas: &[&[Row<'_>]], expected: &[&str]| check(Telling::Upserts, Some(vec![0]), deltas, expected);
        upserts(&[&[("a", 1, -1), ("a", 2, 1), ("b", 1, -1), ("c", 7, 1)]], &["+U a 2", "-D b 1", "+U c 7"]);
        upserts(&[&[("a", 2, 1)], &[("a", 1, -1), ("a", 3, 1)], &[("a", 2, -1)]], &["+U a 3"]);
        upserts(&[&[]], &[]);
    }
}

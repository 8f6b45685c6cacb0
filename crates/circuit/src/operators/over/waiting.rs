//! [`Waiting`]: rows that wait for the watermark to pass their time.
//!
//! A row waits as the bytes of its values, in the form in which it is saved. It leaves in the order of time; of one time in
//! the order of arrival where that is known, else in the order of its bytes, so that no lane and no step changes the order.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef};

use crate::delta::Delta;
use crate::keep::keeper::name_of;
use crate::keep::marks::Marks;
use crate::keep::value::{Builder, Column};
use crate::keep::wire::{Damage, Reader, begin_block, end_block};

/// Rows that wait.
pub(super) struct Waiting {
    schema: SchemaRef,
    keys: Vec<usize>,
    origin: Option<usize>,
    /// The rows, by slot; empty when there is none.
    rows: Vec<Row>,
    /// The slots of each time.
    order: BTreeMap<i64, Vec<u32>>,
    free: Vec<u32>,
    bytes: usize,
    /// Changes of rows.
    pub marks: Marks,
}

/// A row that waits.
#[derive(Debug, Clone, Default)]
struct Row {
    at: i64,
    origin: u64,
    values: Box<[u8]>,
}

impl Waiting {
    /// No rows of `schema` yet, of which these columns are the key; or what is not supported.
    pub fn new(schema: SchemaRef, keys: Vec<usize>, origin: Option<usize>) -> Result<Self, String> {
        for field in schema.fields() {
            Builder::new(field.data_type()).map_err(|error| error.to_string())?;
        }
        let (rows, order, free) = (Vec::new(), BTreeMap::new(), Vec::new());
        Ok(Waiting { schema, keys, origin, rows, order, free, bytes: 0, marks: Marks::default() })
    }

    /// Takes rows in, each with the time up to which it waits.
    pub fn push(&mut self, delta: &Delta, times: &[i64]) -> Result<(), ArrowError> {
        let columns = delta.batch().columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        let origins = self.origin.map(|origin| delta.column(origin).as_primitive::<UInt64Type>().values().clone());
        let mut bytes = Vec::new();
        for (row, at) in times.iter().enumerate() {
            bytes.clear();
            columns.iter().for_each(|column| column.write(row, &mut bytes));
            let origin = origins.as_ref().map_or(0, |origins| origins[row]);
            for _ in 0..delta.weight(row).max(0) {
                self.insert(Row { at: *at, origin, values: bytes.as_slice().into() });
            }
        }
        Ok(())
    }

    fn insert(&mut self, row: Row) {
        let slot = self.free.pop().unwrap_or(self.rows.len() as u32);
        self.order.entry(row.at).or_default().push(slot);
        self.bytes += row.values.len();
        match self.rows.get_mut(slot as usize) {
            Some(place) => *place = row,
            None => self.rows.push(row),
        }
        self.marks.resize(self.rows.len());
        self.marks.born(slot);
    }

    /// The next rows whose times are below `bound`, in their order, and their times: all rows of a time, and of further
    /// ones up to about `rows_max`. None when there are no more.
    pub fn next(&mut self, bound: i64, rows_max: usize) -> Result<Option<(RecordBatch, Vec<i64>)>, ArrowError> {
        let (mut slots, mut times) = (Vec::new(), Vec::new());
        while slots.len() < rows_max {
            // At the end of time nothing waits.
            let Some(entry) = self.order.first_entry().filter(|entry| *entry.key() < bound || bound == i64::MAX) else {
                break;
            };
            let (at, mut same) = entry.remove_entry();
            let of = |slot: &u32| &self.rows[*slot as usize];
            same.sort_by(|one, other| (of(one).origin, &of(one).values).cmp(&(of(other).origin, &of(other).values)));
            times.resize(times.len() + same.len(), at);
            slots.append(&mut same);
        }
        if slots.is_empty() {
            return Ok(None);
        }
        let rows = slots.iter().map(|slot| &self.rows[*slot as usize].values);
        let batch = decode(&self.schema, rows.map(|row| Reader::new(row)));
        let batch = batch.map_err(|damage| ArrowError::ComputeError(damage.0))?;
        for slot in slots {
            self.remove(slot);
        }
        Ok(Some((batch, times)))
    }

    fn remove(&mut self, slot: u32) {
        if let Some(mut wanted) = self.marks.touch(&[slot]) {
            while let Some((slot, image)) = wanted.next() {
                self.write(slot, image);
            }
            self.marks.keep(wanted);
        }
        self.bytes -= std::mem::take(&mut self.rows[slot as usize]).values.len();
        self.free.push(slot);
    }

    /// The number of slots there have been at once.
    pub fn slots(&self) -> usize {
        self.rows.len()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        (self.bytes + self.rows.capacity() * size_of::<Row>() + self.order.len() * 80) as u64 + self.marks.bytes()
    }

    /// Appends a row, named by its time and origin; false when the slot has none.
    pub fn write(&self, slot: u32, out: &mut Vec<u8>) -> bool {
        let row = &self.rows[slot as usize];
        if row.values.is_empty() {
            return false;
        }
        let start = begin_block(out);
        out.extend_from_slice(&row.at.to_le_bytes());
        out.extend_from_slice(&row.origin.to_le_bytes());
        end_block(out, start);
        out.extend_from_slice(&row.values);
        true
    }

    /// The columns of the key.
    pub fn keys(&self) -> &[usize] {
        &self.keys
    }

    /// The columns of saved rows.
    pub fn columns(&self, rows: &[&[u8]]) -> Result<Vec<ArrayRef>, Damage> {
        let values = rows.iter().map(|row| Ok(name_of(row)?.1)).collect::<Result<Vec<_>, Damage>>()?;
        Ok(decode(&self.schema, values.into_iter())?.columns().to_vec())
    }

    /// Puts saved rows back.
    pub fn restore(&mut self, rows: &[&[u8]]) -> Result<(), Damage> {
        // What is no row of these columns is found out now, not when it leaves.
        self.columns(rows)?;
        for row in rows {
            let (name, values) = name_of(row)?;
            let mut name = Reader::new(name);
            let (at, origin) = (name.i64()?, name.u64()?);
            name.end()?;
            self.insert(Row { at, origin, values: values.rest().into() });
        }
        Ok(())
    }
}

/// The rows of whose values these are the bytes.
fn decode<'a>(schema: &SchemaRef, rows: impl Iterator<Item = Reader<'a>>) -> Result<RecordBatch, Damage> {
    let fields = schema.fields().iter();
    let mut builders = fields.map(|field| Builder::new(field.data_type())).collect::<Result<Vec<_>, _>>()?;
    let mut count = 0;
    for mut row in rows {
        builders.iter_mut().try_for_each(|builder| builder.read(&mut row))?;
        row.end()?;
        count += 1;
    }
    let columns = builders.into_iter().map(Builder::finish).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

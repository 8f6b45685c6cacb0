//! What the changes of a table say of its versions: an update begins one, and a row that goes ends what was valid.
//!
//! A record of an update has the row that was, taken back, and the row that is. What was stays what it was before the new
//! row's time, so of such a pair of one key the first is passed over. Any other row that is taken back has no successor:
//! it comes out as a row that says so, at its own time. Where the watermark of its partition has passed that time already,
//! as it has where a row that goes still carries the time at which it came, it counts from that watermark on. So nothing
//! that comes out is ever taken back.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::zip::zip;

use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::key::{KeyEncoder, KeyIndex};
use crate::operator::{Context, Flush, Operator, Output};
use crate::operators::guard::Guard;
use crate::operators::time::{column_of, millis};
use crate::plan::VersionsSpec;

struct Versions {
    spec: VersionsSpec,
    encoder: KeyEncoder,
    schema: SchemaRef,
    guard: Guard,
    /// A row that was taken back at the end of what has come: the next one may be its successor.
    held: Option<Delta>,
}

impl Operator for Versions {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        let mut delta = match self.held.take() {
            None => delta,
            Some(held) => Delta::concat(&delta.schema(), &[held, delta]).map_err(|error| self.guard.broken(error))?,
        };
        let rows = delta.rows();
        if rows > 0 && delta.weight(rows - 1) < 0 {
            self.held = Some(delta.slice(rows - 1, 1));
            delta = delta.slice(0, rows - 1);
        }
        out.emit(self.versions(&delta)?);
        Ok(())
    }

    fn flush(&mut self, _context: &Context, out: &mut Output) -> Result<Flush, Error> {
        if let Some(held) = self.held.take() {
            out.emit(self.versions(&held)?);
        }
        Ok(Flush::Done)
    }
}

impl Versions {
    /// What whole records say.
    fn versions(&self, delta: &Delta) -> Result<Delta, Error> {
        let succeeded = self.succeeded(delta);
        let told: Vec<u32> = (0..delta.rows() as u32).filter(|row| !succeeded[*row as usize]).collect();
        let ended = told.iter().map(|row| Some(delta.weight(*row as usize) < 0)).collect();
        let told = UInt32Array::from(told);
        delta.take(&told).and_then(|told| self.with_ends(&told, ended)).map_err(|error| self.guard.broken(error))
    }

    /// Which rows are nothing, or are taken back by a record that has their successor.
    fn succeeded(&self, delta: &Delta) -> Vec<bool> {
        let keys = self.encoder.encode_batch(delta.batch(), &self.spec.keys);
        let (mut index, mut slots) = (KeyIndex::default(), Vec::new());
        index.intern(&keys, &keys.hashes(), &mut slots);
        let origins = delta.column(self.spec.origin).as_primitive::<UInt64Type>();
        let is_successor = |row: usize, next: usize| {
            next < delta.rows()
                && delta.weight(next) > 0
                && slots[next] == slots[row]
                && origins.value(next) == origins.value(row)
        };
        let is_gone = |row: usize| match delta.weight(row) {
            0 => true,
            1.. => false,
            _ => is_successor(row, row + 1),
        };
        (0..delta.rows()).map(is_gone).collect()
    }

    /// The rows with what says of each that nothing is valid from its time on. Where that is late, it is so from the
    /// watermark on that it came below.
    fn with_ends(&self, told: &Delta, ended: BooleanArray) -> Result<Delta, ArrowError> {
        let mut columns = told.batch().columns().to_vec();
        let mut carried = told.carried().map(<[i64]>::to_vec);
        if let Some(carried) = &mut carried {
            let late: BooleanArray =
                (0..told.rows()).map(|row| Some(ended.value(row) && carried[row] != NO_SUSPECT)).collect();
            columns[self.spec.time] = later(&columns[self.spec.time], &late, carried)?;
            late.values().set_indices().for_each(|row| carried[row] = NO_SUSPECT);
        }
        columns.push(Arc::new(ended) as ArrayRef);
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Delta::inserts(batch).with_carried(carried))
    }
}

/// A column of times with others, in milliseconds, where the mask says so.
fn later(times: &ArrayRef, mask: &BooleanArray, others: &[i64]) -> Result<ArrayRef, ArrowError> {
    if mask.true_count() == 0 {
        return Ok(times.clone());
    }
    let others = others.iter().zip(mask.values()).map(|(other, wanted)| if wanted { *other } else { 0 }).collect();
    let others = column_of(times.data_type(), others)
        .ok_or_else(|| ArrowError::ComputeError("the time of versions is no time".to_string()))?;
    zip(mask, &others, times)
}

/// One task, on whatever lane the rows are: the rows of a record are together.
///
/// # Errors
/// [`Error::Unsupported`] for keys of lists, maps or rows, and times that are none.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &VersionsSpec) -> Result<TaskId, Error> {
    let unsupported = |what: &str| Error::Unsupported { what: what.to_string(), position: lowering.node.position };
    let input = &lowering.input_schemas[0];
    let types = spec.keys.iter().map(|key| input.field(*key).data_type().clone()).collect();
    let encoder = KeyEncoder::new(types).ok_or_else(|| unsupported("versions by lists, maps or rows"))?;
    let time = input.field(spec.time);
    if column_of(time.data_type(), vec![]).is_none()
        || millis(&arrow_array::new_empty_array(time.data_type())).is_none()
    {
        return Err(unsupported(&format!("versions by '{}', which is no time", time.name())));
    }
    if *input.field(spec.origin).data_type() != DataType::UInt64 {
        return Err(Error::broken(&lowering.name, "changes do not say of which record they are"));
    }
    let (spec, schema, guard) = (spec.clone(), lowering.node.schema.clone(), Guard::of(lowering));
    let make = move || {
        let (spec, encoder, schema, guard) = (spec.clone(), encoder.clone(), schema.clone(), guard.clone());
        Ok(Box::new(Versions { spec, encoder, schema, guard, held: None }) as Box<dyn Operator>)
    };
    Ok(graph.add(lowering.task(vec![lowering.input()], lowering.node.schema.clone(), Arc::new(make))))
}

#[cfg(test)]
mod tests;

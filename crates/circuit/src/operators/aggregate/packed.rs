//! [`Packed`]: long keys that travel as they are written, beside their hashes.
//!
//! A key with texts takes long to write, hash and read. With several lanes it is written and hashed once, where its row is
//! ([`Pack`]); whoever groups by it after that, on whichever lane, takes those bytes for the key and that hash for its own.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, BinaryArray, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::Design;
use super::stages::batch_of;
use crate::delta::Delta;
use crate::error::Error;
use crate::graph::{Graph, Lowering, Placement, TaskId};
use crate::key::{KeyEncoder, Keys};
use crate::operator::{Context, Operator, Output};

/// Keys as they are written, and their hashes.
pub(super) struct Packed {
    pub keys: Keys,
    pub hashes: Vec<u64>,
}

impl Packed {
    /// The types of the columns that hold keys.
    pub const TYPES: [DataType; 2] = [DataType::Binary, DataType::UInt64];

    /// Whether keys of these types are worth it, and can have values of `more` columns behind them.
    pub fn suits(types: &[DataType], more: usize) -> bool {
        let null_bytes = |columns: usize| columns.div_ceil(8);
        let encoder = KeyEncoder::new(types.to_vec());
        encoder.is_some_and(|encoder| encoder.is_long()) && null_bytes(types.len()) == null_bytes(types.len() + more)
    }

    /// The columns of keys.
    pub fn columns(self) -> Result<Vec<ArrayRef>, ArrowError> {
        let Keys::Bytes { data, offsets } = self.keys else {
            return Err(ArrowError::ComputeError("short keys do not travel as they are written".to_string()));
        };
        let end = offsets.last().copied().unwrap_or_default();
        i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?;
        let offsets: Vec<i32> = offsets.into_iter().map(|offset| offset as i32).collect();
        let keys = BinaryArray::try_new(OffsetBuffer::new(offsets.into()), data.into(), None)?;
        Ok(vec![Arc::new(keys), Arc::new(UInt64Array::from(self.hashes))])
    }

    /// The keys that two columns hold.
    pub fn of(keys: &ArrayRef, hashes: &ArrayRef) -> Self {
        let keys = keys.as_binary::<i32>();
        let first = keys.value_offsets()[0];
        let offsets: Vec<usize> = keys.value_offsets().iter().map(|offset| (offset - first) as usize).collect();
        let end = first as usize + offsets.last().copied().unwrap_or_default();
        let data = keys.value_data()[first as usize..end].to_vec();
        Packed { keys: Keys::Bytes { data, offsets }, hashes: hashes.as_primitive::<UInt64Type>().values().to_vec() }
    }
}

/// The lane of keys whose columns stand at `at`, and of the columns `more`.
pub(super) fn placed(design: &Design, at: usize, more: &[usize]) -> Placement {
    Placement::ByWritten { key: at, hash: at + 1, types: design.key_types.clone(), more: more.to_vec() }
}

/// Adds the task that writes the keys of rows behind their columns.
pub(super) fn lower(graph: &mut Graph, lowering: &Lowering<'_>, design: &Arc<Design>) -> (TaskId, SchemaRef) {
    let input = &lowering.input_schemas[0];
    let names = ["$key", "$hash"].iter().zip(Packed::TYPES);
    let added = names.map(|(name, data_type)| Arc::new(Field::new(*name, data_type, false)));
    let schema = Arc::new(Schema::new(input.fields().iter().cloned().chain(added).collect::<Vec<_>>()));
    let (design, output) = (design.clone(), schema.clone());
    let make = move || {
        let encoder = KeyEncoder::new(design.key_types.clone());
        let encoder = encoder.ok_or_else(|| design.unsupported.error("grouping by lists, maps or rows"))?;
        Ok(Box::new(Pack { design: design.clone(), encoder, schema: output.clone() }) as Box<dyn Operator>)
    };
    (graph.add(lowering.task(vec![lowering.input()], schema.clone(), Arc::new(make))), schema)
}

/// Writes the keys of rows.
struct Pack {
    design: Arc<Design>,
    encoder: KeyEncoder,
    schema: SchemaRef,
}

impl Pack {
    fn pack(&self, delta: &Delta) -> Result<Delta, ArrowError> {
        let keys = self.encoder.encode_batch(delta.batch(), &self.design.keys);
        let mut columns = delta.batch().columns().to_vec();
        columns.extend(Packed { hashes: keys.hashes(), keys }.columns()?);
        Ok(delta.with_batch(batch_of(&self.schema, columns, delta.rows())?))
    }
}

impl Operator for Pack {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        out.emit(self.pack(&delta).map_err(|error| self.design.guard.broken(error))?);
        Ok(())
    }
}

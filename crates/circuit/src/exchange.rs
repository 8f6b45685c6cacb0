//! The exchange: which lane a row belongs to, and the parting of a chunk by it.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use tidemill_base::hash;

use crate::delta::Delta;
use crate::graph::Placement;
use crate::key::KeyEncoder;

/// Parts the chunks of one edge over the lanes.
#[derive(Debug, Clone)]
pub(crate) enum Exchange {
    /// All rows go to lane 0.
    Gather,
    /// A row goes to the lane of its key's shard.
    ByKey {
        /// The columns of the key.
        columns: Vec<usize>,
        /// Writes the keys.
        encoder: KeyEncoder,
    },
    /// The same, of a key that is written already, and of columns after it.
    ByWritten {
        /// The columns of the key, of its hash, and those after it.
        columns: Vec<usize>,
        /// Writes them all.
        encoder: KeyEncoder,
    },
}

impl Exchange {
    /// The exchange that `placement` asks for over rows of `schema`; none when rows stay, an error when a column cannot
    /// be a key.
    pub fn of(placement: &Placement, schema: &SchemaRef) -> Result<Option<Self>, String> {
        let columns = match placement {
            Placement::Stay => return Ok(None),
            Placement::Gather => return Ok(Some(Exchange::Gather)),
            Placement::ByKey(columns) if columns.is_empty() => return Ok(Some(Exchange::Gather)),
            Placement::ByKey(columns) => columns.clone(),
            Placement::ByWritten { more, .. } => more.clone(),
        };
        let types = columns.iter().map(|column| schema.field(*column).data_type().clone());
        let (written, first) = match placement {
            Placement::ByWritten { key, hash, types, .. } => (types.as_slice(), vec![*key, *hash]),
            _ => ([].as_slice(), Vec::new()),
        };
        let encoder = KeyEncoder::new(written.iter().cloned().chain(types).collect());
        let encoder = encoder.ok_or_else(|| "a list, map or row cannot be a key".to_string())?;
        Ok(Some(match first.is_empty() {
            true => Exchange::ByKey { columns, encoder },
            false => Exchange::ByWritten { columns: [first, columns].concat(), encoder },
        }))
    }

    /// The hash of each row's key; `columns` are the exchange's.
    fn hashes(&self, columns: &[ArrayRef], rows: usize) -> Vec<u64> {
        match (self, columns) {
            (Exchange::ByWritten { .. }, [_, hashes]) => hashes.as_primitive::<UInt64Type>().values().to_vec(),
            (Exchange::ByWritten { encoder, .. }, [keys, _, more @ ..]) => encoder.hashes_after(keys.as_binary(), more),
            (Exchange::ByKey { encoder, .. }, columns) => encoder.encode(columns, rows).hashes(),
            _ => Vec::new(),
        }
    }

    /// Appends the part of `delta` that belongs to each lane to that lane's list.
    pub fn part(&self, delta: Delta, lanes: &mut [Vec<Delta>]) -> Result<(), ArrowError> {
        let (Exchange::ByKey { columns, .. } | Exchange::ByWritten { columns, .. }) = self else {
            lanes[0].push(delta);
            return Ok(());
        };
        let keys: Vec<ArrayRef> = columns.iter().map(|column| delta.column(*column).clone()).collect();
        let hashes = self.hashes(&keys, delta.rows());
        let mut rows: Vec<Vec<u32>> = vec![Vec::with_capacity(hashes.len() / lanes.len() + 64); lanes.len()];
        for (row, hash) in hashes.iter().enumerate() {
            rows[lane_of(*hash, lanes.len())].push(row as u32);
        }
        for (lane, rows) in lanes.iter_mut().zip(rows) {
            if rows.len() == delta.rows() {
                lane.push(delta);
                return Ok(());
            }
            if !rows.is_empty() {
                lane.push(delta.take(&UInt32Array::from(rows))?);
            }
        }
        Ok(())
    }
}

/// The lane of a key: shards are dealt out in equal ranges.
pub(crate) fn lane_of(key_hash: u64, lanes: usize) -> usize {
    (hash::shard(key_hash) as usize * lanes) / hash::SHARDS as usize
}

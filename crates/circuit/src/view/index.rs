//! [`Index`]: where the row of each key is, or each row where there is no key.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::delta::Delta;
use crate::keep::value::{Builder, Column};
use crate::key::{KeyEncoder, KeyIndex, Keys};

/// What tells rows apart.
pub(super) enum Identity {
    /// These columns.
    Key { columns: Vec<usize>, encoder: KeyEncoder },
    /// The values of these columns, whatever their types, exactly as they are.
    Values { columns: Vec<usize> },
}

/// The place of a row: its chunk, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub chunk: u32,
    pub row: u32,
}

/// The place of no row.
pub(super) const NOWHERE: Place = Place { chunk: u32::MAX, row: u32::MAX };

/// Finds rows; a slot for each.
#[derive(Default)]
pub(super) struct Index {
    keys: KeyIndex,
    places: Vec<Place>,
}

impl Identity {
    /// What tells the rows of a view apart that is keyed by some columns, or by none.
    ///
    /// # Errors
    /// When values of a column cannot be compared.
    pub fn new(schema: &SchemaRef, key: Option<&[usize]>) -> Result<Self, ArrowError> {
        let types = |columns: &[usize]| -> Vec<DataType> {
            columns.iter().map(|column| schema.field(*column).data_type().clone()).collect()
        };
        if let Some(key) = key
            && let Some(encoder) = KeyEncoder::new(types(key))
        {
            return Ok(Identity::Key { columns: key.to_vec(), encoder });
        }
        let columns = key.map_or_else(|| (0..schema.fields().len()).collect(), <[usize]>::to_vec);
        types(&columns).iter().try_for_each(|data_type| Builder::new(data_type).map(drop))?;
        Ok(Identity::Values { columns })
    }

    /// The identity of each row of a batch of the view.
    pub fn of(&self, batch: &RecordBatch) -> Result<Keys, ArrowError> {
        let (Identity::Key { columns, .. } | Identity::Values { columns }) = self;
        let columns: Vec<ArrayRef> = columns.iter().map(|column| batch.column(*column).clone()).collect();
        self.keys(&columns, batch.num_rows())
    }

    /// The identities that these columns make.
    pub fn keys(&self, columns: &[ArrayRef], rows: usize) -> Result<Keys, ArrowError> {
        match self {
            Identity::Key { encoder, .. } => Ok(encoder.encode(columns, rows)),
            Identity::Values { .. } => bytes(columns, rows),
        }
    }
}

/// The values of each row as bytes.
pub(super) fn bytes(columns: &[ArrayRef], rows: usize) -> Result<Keys, ArrowError> {
    let columns = columns.iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let (mut data, mut offsets) = (Vec::new(), Vec::with_capacity(rows + 1));
    offsets.push(0);
    for row in 0..rows {
        columns.iter().for_each(|column| column.write(row, &mut data));
        offsets.push(data.len());
    }
    Ok(Keys::Bytes { data, offsets })
}

/// The bytes of each row of a delta.
pub(super) fn rows_as_bytes(delta: &Delta, rows: &[u32]) -> Result<Vec<Vec<u8>>, ArrowError> {
    let columns = delta.batch().columns().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
    let row = |row: &u32| {
        let mut bytes = Vec::new();
        columns.iter().for_each(|column| column.write(*row as usize, &mut bytes));
        bytes
    };
    Ok(rows.iter().map(row).collect())
}

impl Index {
    /// The slots of identities; those that are not there get one, and are nowhere.
    pub fn intern(&mut self, keys: &Keys, hashes: &[u64], slots: &mut Vec<u32>) {
        self.keys.intern(keys, hashes, slots);
        self.places.resize(self.keys.slots().max(self.places.len()), NOWHERE);
    }

    /// The places of identities that are there.
    pub fn find(&self, keys: &Keys) -> impl Iterator<Item = Place> {
        let found = self.keys.find(keys, &keys.hashes());
        found.into_iter().flatten().map(|slot| self.places[slot as usize])
    }

    /// Where the row of a slot is.
    pub fn place(&self, slot: u32) -> Place {
        self.places[slot as usize]
    }

    /// The row of a slot is there from now on.
    pub fn set(&mut self, slot: u32, place: Place) {
        self.places[slot as usize] = place;
    }

    /// Forgets the row of a slot, and the slot, if there is one.
    pub fn forget(&mut self, slot: u32) {
        self.places[slot as usize] = NOWHERE;
        if self.keys.contains(slot) {
            self.keys.remove(slot);
        }
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        self.keys.bytes() + (self.places.capacity() * size_of::<Place>()) as u64
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Makes room for so many more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.keys.reserve(rows);
        self.places.reserve(rows);
    }
}

//! [`LookupTable`]: a versioned table as running queries read it, one version at a time.
//!
//! The shell fills the cell, from whatever thread it likes; a circuit takes what was set last at the beginning of a step
//! and reads that to the step's end, on all lanes. So a step reads one version of a table, which its header names: a
//! replay that sets the same versions gives the same rows.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;

use crate::error::Error;
use crate::key::{KeyEncoder, KeyIndex};
use crate::step::TableVersion;

/// A table that others edit and that queries look rows up in.
pub struct LookupTable {
    name: String,
    schema: SchemaRef,
    key: Vec<usize>,
    encoder: KeyEncoder,
    cell: RwLock<Cell>,
}

#[derive(Default)]
struct Cell {
    /// What was set last.
    newest: Option<Arc<LookupRows>>,
    /// What the step reads.
    read: Option<Arc<LookupRows>>,
}

/// The rows of a table at one version, with an index by their key.
pub struct LookupRows {
    version: String,
    rows: RecordBatch,
    /// The slot of a key is the row's place.
    index: KeyIndex,
    /// The rows by other columns, as far as somebody has asked for them.
    groups: RwLock<Vec<Arc<Groups>>>,
}

/// The rows of a table by columns that several of them may share.
pub(crate) struct Groups {
    columns: Vec<usize>,
    index: KeyIndex,
    /// Where the rows of each slot begin, and where the last ones end.
    starts: Vec<u32>,
    /// The places of rows, those of a slot together and in their order.
    rows: Vec<u32>,
}

impl LookupTable {
    /// A table that has not been filled yet; `key` are the columns of `schema` that name a row.
    ///
    /// # Errors
    /// [`Error::Lookup`] when a column cannot be a key, or there is none.
    pub fn new(name: &str, schema: SchemaRef, key: Vec<usize>) -> Result<Self, Error> {
        let wrong = |message: String| Error::Lookup { table: name.to_string(), message };
        if key.is_empty() {
            return Err(wrong("it has no key to look rows up by".to_string()));
        }
        let Some(types) = key.iter().map(|column| Some(schema.fields().get(*column)?.data_type().clone())).collect()
        else {
            return Err(wrong("its key names a column that is not there".to_string()));
        };
        let encoder =
            KeyEncoder::new(types).ok_or_else(|| wrong("its key has a type that cannot be one".to_string()))?;
        Ok(LookupTable { name: name.to_string(), schema, key, encoder, cell: RwLock::default() })
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns that name a row.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// Lets `rows` be read from the next step on; what was asked for of the rows before is there for these too.
    pub fn set(&self, rows: Arc<LookupRows>) {
        let asked = self.get().map_or_else(Vec::new, |before| before.all_groups());
        asked.iter().for_each(|groups| drop(rows.by(&groups.columns)));
        self.cell.write().unwrap_or_else(PoisonError::into_inner).newest = Some(rows);
    }

    /// What was set last; none before the first time.
    pub fn get(&self) -> Option<Arc<LookupRows>> {
        self.cell.read().unwrap_or_else(PoisonError::into_inner).newest.clone()
    }

    /// Begins a step: what was set last is read from now on, and its version is returned.
    pub(crate) fn turn(&self) -> Option<TableVersion> {
        let mut cell = self.cell.write().unwrap_or_else(PoisonError::into_inner);
        cell.read = cell.newest.clone();
        let version = cell.read.as_ref()?.version.clone();
        Some(TableVersion { table: self.name.clone(), version })
    }

    /// What the step reads.
    pub(crate) fn read(&self) -> Result<Arc<LookupRows>, Error> {
        let read = self.cell.read().unwrap_or_else(PoisonError::into_inner).read.clone();
        read.ok_or_else(|| Error::Lookup {
            table: self.name.clone(),
            message: "no version of it has been read yet".to_string(),
        })
    }
}

impl fmt::Debug for LookupTable {
    /// The table's name alone: what it holds changes, and nodes of a plan are told apart by what is printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LookupTable").field(&self.name).finish()
    }
}

impl LookupRows {
    /// The rows of `table` at a version; `rows` has the columns of the table's schema.
    ///
    /// # Errors
    /// [`Error::Lookup`] when the columns are others, a key is null, or two rows have one key.
    pub fn new(table: &LookupTable, version: &str, rows: RecordBatch) -> Result<Self, Error> {
        let wrong = |message: String| Error::Lookup { table: table.name.clone(), message };
        let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(rows.schema_ref()) != types(&table.schema) {
            return Err(wrong(format!("version {version} has other columns than the table")));
        }
        if let Some(column) = table.key.iter().find(|column| rows.column(**column).null_count() > 0) {
            let name = table.schema.field(*column).name();
            return Err(wrong(format!("version {version} has a row whose key {name} is null")));
        }
        let keys = table.encoder.encode_batch(&rows, &table.key);
        let (mut index, mut slots) = (KeyIndex::default(), Vec::new());
        index.intern(&keys, &keys.hashes(), &mut slots);
        // Slots are given in order, so the first row that is not at its own has the key of an earlier one.
        if let Some(row) = (0..slots.len()).find(|row| slots[*row] as usize != *row) {
            let row = crate::row::to_json(&rows, row);
            return Err(wrong(format!("version {version} has two rows of one key, the second is {row}")));
        }
        Ok(LookupRows { version: version.to_string(), rows, index, groups: RwLock::default() })
    }

    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The rows by key.
    pub(crate) fn index(&self) -> &KeyIndex {
        &self.index
    }

    /// The rows by these columns; none when they cannot be a key.
    pub(crate) fn by(&self, columns: &[usize]) -> Option<Arc<Groups>> {
        let there = |groups: &[Arc<Groups>]| groups.iter().find(|groups| groups.columns == columns).cloned();
        if let Some(groups) = there(&self.groups.read().unwrap_or_else(PoisonError::into_inner)) {
            return Some(groups);
        }
        // Whoever comes meanwhile waits: rows are grouped once.
        let mut all = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(groups) = there(&all) {
            return Some(groups);
        }
        let groups = Arc::new(Groups::of(&self.rows, columns)?);
        all.push(groups.clone());
        Some(groups)
    }

    fn all_groups(&self) -> Vec<Arc<Groups>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> u64 {
        let groups: u64 = self.all_groups().iter().map(|groups| groups.bytes()).sum();
        self.rows.get_array_memory_size() as u64 + self.index.bytes() + groups
    }
}

impl Groups {
    fn of(rows: &RecordBatch, columns: &[usize]) -> Option<Self> {
        let types = columns.iter().map(|column| rows.column(*column).data_type().clone()).collect();
        let keys = KeyEncoder::new(types)?.encode_batch(rows, columns);
        let (mut index, mut slots) = (KeyIndex::default(), Vec::new());
        index.intern(&keys, &keys.hashes(), &mut slots);
        let mut starts = vec![0_u32; index.slots() + 1];
        slots.iter().for_each(|slot| starts[*slot as usize + 1] += 1);
        (1..starts.len()).for_each(|slot| starts[slot] += starts[slot - 1]);
        let (mut next, mut places) = (starts.clone(), vec![0; slots.len()]);
        for (row, slot) in slots.iter().enumerate() {
            let place = &mut next[*slot as usize];
            places[*place as usize] = row as u32;
            *place += 1;
        }
        Some(Groups { columns: columns.to_vec(), index, starts, rows: places })
    }

    /// The slots of the rows by their key.
    pub(crate) fn index(&self) -> &KeyIndex {
        &self.index
    }

    /// The places of the rows of a slot.
    pub(crate) fn rows(&self, slot: u32) -> &[u32] {
        let slot = slot as usize;
        &self.rows[self.starts[slot] as usize..self.starts[slot + 1] as usize]
    }

    fn bytes(&self) -> u64 {
        self.index.bytes() + 4 * (self.starts.capacity() + self.rows.capacity()) as u64
    }
}

impl fmt::Debug for LookupRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupRows").field("version", &self.version).field("rows", &self.rows.num_rows()).finish()
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn table() -> LookupTable {
        let fields = vec![Field::new("name", DataType::Utf8, true), Field::new("id", DataType::Int64, true)];
        LookupTable::new("people", Arc::new(Schema::new(fields)), vec![1]).expect("integers can be keys")
    }

    fn rows(table: &LookupTable, names: Vec<&str>, ids: Vec<Option<i64>>) -> Result<LookupRows, Error> {
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names)), Arc::new(Int64Array::from(ids))];
        let batch = RecordBatch::try_new(table.schema().clone(), columns).expect("the table's columns");
        LookupRows::new(table, "7", batch)
    }

    fn refused(names: Vec<&str>, ids: Vec<Option<i64>>, expected: &str) {
        let error = rows(&table(), names, ids).expect_err("these are no rows of it");
        assert_eq!(error.to_string(), format!("the versioned table 'people' cannot be read: {expected}"));
    }

    #[test]
    fn two_rows_of_one_key_are_refused() {
        let second = r#"version 7 has two rows of one key, the second is {"name": "b", "id": 1}"#;
        refused(vec!["a", "b", "c"], vec![Some(1), Some(1), Some(2)], second);
    }

    #[test]
    fn a_null_key_is_refused() {
        refused(vec!["a", "b"], vec![Some(1), None], "version 7 has a row whose key id is null");
    }

    #[test]
    fn other_columns_are_refused() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("id", ids)]).expect("one column");
        let error = LookupRows::new(&table(), "7", batch).expect_err("a column is missing");
        let expected = "the versioned table 'people' cannot be read: version 7 has other columns than the table";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn rows_that_share_a_value_are_grouped_once_a_version() {
        let table = table();
        let (names, ids) = (vec!["b", "a", "b", "c", "b"], (1..6).map(Some).collect());
        let first = Arc::new(rows(&table, names, ids).expect("five rows"));
        table.set(first.clone());
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "x"]));
        let keys = KeyEncoder::new(vec![DataType::Utf8]).expect("texts can be keys").encode(&[names], 3);
        let groups = first.by(&[0]).expect("texts can be keys");
        let found = groups.index().find(&keys, &keys.hashes());
        let places: Vec<_> = found.iter().map(|slot| slot.map(|slot| groups.rows(slot).to_vec())).collect();
        assert_eq!(places, [Some(vec![1]), Some(vec![0, 2, 4]), None]);
        assert!(Arc::ptr_eq(&groups, &first.by(&[0]).expect("they are there")));
        let second = Arc::new(rows(&table, vec!["a"], vec![Some(1)]).expect("one row"));
        table.set(second.clone());
        assert_eq!(second.all_groups().len(), 1, "before a step has asked for them");
    }

    #[test]
    fn what_is_set_is_read_from_the_next_step_on() {
        let table = table();
        assert!(table.read().is_err() && table.turn().is_none() && table.get().is_none());
        table.set(Arc::new(rows(&table, vec!["a"], vec![Some(1)]).expect("one row")));
        assert!(table.read().is_err(), "no step has begun since");
        assert_eq!(table.turn().map(|read| read.version).as_deref(), Some("7"));
        assert_eq!(table.read().map(|rows| rows.rows().num_rows()).ok(), Some(1));
    }
}

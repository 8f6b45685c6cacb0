//! What a versioned table's rows look like: columns, primary key, and how columns are merged.
//!
//! A row is its values' canonical bytes, those of the primary key first and in the key's order, so that a row's key is
//! the front of its bytes: [`Row`], [`Key`].

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tidemill_base::suggest;

use super::error::TableError;
use super::text;
use super::types::Type;
use super::value::Value;

/// How two changes of one row's column become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// Both differences are added to what both started from; NULL counts as zero.
    Sum,
    /// The larger value.
    Max,
    /// The smaller value.
    Min,
    /// The items of both arrays, each once.
    Union,
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Merge::Sum => "sum",
            Merge::Max => "max",
            Merge::Min => "min",
            Merge::Union => "union",
        })
    }
}

impl FromStr for Merge {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        match text {
            "sum" => Ok(Merge::Sum),
            "max" => Ok(Merge::Max),
            "min" => Ok(Merge::Min),
            "union" => Ok(Merge::Union),
            _ => Err(TableError::schema(format!("'{text}' is no merge function; there are sum, max, min and union"))),
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Whether it may be NULL.
    #[serde(default = "yes")]
    pub nullable: bool,
    /// How changes of two sides are merged; they are not when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
}

fn yes() -> bool {
    true
}

impl Column {
    /// A column that may be NULL and is not merged.
    pub fn new(name: &str, kind: Type) -> Self {
        Column { name: name.to_string(), kind, nullable: true, merge: None }
    }

    /// The same, never NULL.
    pub fn not_null(self) -> Self {
        Column { nullable: false, ..self }
    }

    /// The same, merged so.
    pub fn merged(self, merge: Merge) -> Self {
        Column { merge: Some(merge), ..self }
    }
}

/// The columns and the primary key of a table, found to be sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Declared", into = "Declared")]
pub struct Schema {
    columns: Vec<Column>,
    key: Vec<String>,
    /// Columns in the order of a row's bytes: the key's first.
    stored: Vec<usize>,
}

/// A schema as it is written down.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    columns: Vec<Column>,
    key: Vec<String>,
}

impl From<Schema> for Declared {
    fn from(schema: Schema) -> Self {
        Declared { columns: schema.columns, key: schema.key }
    }
}

impl TryFrom<Declared> for Schema {
    type Error = TableError;

    fn try_from(declared: Declared) -> Result<Self, TableError> {
        Schema::new(declared.columns, declared.key)
    }
}

impl Schema {
    /// A schema; the key's columns are NOT NULL from then on.
    ///
    /// # Errors
    /// [`TableError::BadSchema`] when a name is there twice or not at all, there is no key, or a column's type does not
    /// go with its role.
    pub fn new(mut columns: Vec<Column>, key: Vec<String>) -> Result<Self, TableError> {
        if key.is_empty() {
            return Err(TableError::schema("a versioned table needs a PRIMARY KEY"));
        }
        for (index, column) in columns.iter().enumerate() {
            if columns[..index].iter().any(|other| other.name == column.name) {
                return Err(TableError::schema(format!("column '{}' is declared twice", column.name)));
            }
            check_merge(column)?;
        }
        let mut stored = Vec::with_capacity(columns.len());
        for name in &key {
            let found = columns.iter().position(|column| column.name == *name);
            let index = found.ok_or_else(|| TableError::schema(format!("the key names no column: '{name}'")))?;
            let column = &mut columns[index];
            if stored.contains(&index) {
                return Err(TableError::schema(format!("the key names column '{name}' twice")));
            }
            if column.merge.is_some() {
                return Err(TableError::schema(format!("column '{name}' is of the key and cannot be merged")));
            }
            if matches!(column.kind, Type::Array(_)) {
                return Err(TableError::schema(format!("column '{name}' is {} and cannot be of the key", column.kind)));
            }
            column.nullable = false;
            stored.push(index);
        }
        let others: Vec<usize> = (0..columns.len()).filter(|index| !stored.contains(index)).collect();
        stored.extend(others);
        Ok(Schema { columns, key, stored })
    }

    /// The columns as declared.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The names of the primary key's columns, in its order.
    pub fn key_names(&self) -> &[String] {
        &self.key
    }

    /// The columns of the primary key, in its order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.stored[..self.key.len()].iter().map(|&index| &self.columns[index])
    }

    /// Whether any column is merged.
    pub fn merges(&self) -> bool {
        self.columns.iter().any(|column| column.merge.is_some())
    }

    /// Makes a row of one value for each column, in their declared order.
    ///
    /// # Errors
    /// [`TableError::BadValue`] names the column and what was expected.
    pub fn row(&self, values: &[Value]) -> Result<Row, TableError> {
        if values.len() != self.columns.len() {
            return Err(TableError::ValueCount { expected: self.columns.len(), got: values.len() });
        }
        let mut bytes = Vec::with_capacity(values.len() * 12);
        let mut key_bytes = 0;
        for (place, &index) in self.stored.iter().enumerate() {
            check(&self.columns[index], &values[index])?;
            values[index].write(&mut bytes);
            if place + 1 == self.key.len() {
                key_bytes = bytes.len();
            }
        }
        Row::checked(bytes, key_bytes)
    }

    /// Makes a key of one value for each of its columns, in the key's order.
    ///
    /// # Errors
    /// [`TableError::BadValue`] names the column and what was expected.
    pub fn key(&self, values: &[Value]) -> Result<Key, TableError> {
        if values.len() != self.key.len() {
            return Err(TableError::ValueCount { expected: self.key.len(), got: values.len() });
        }
        let mut bytes = Vec::with_capacity(values.len() * 12);
        for (column, value) in self.key_columns().zip(values) {
            check(column, value)?;
            value.write(&mut bytes);
        }
        Ok(Key(bytes.into()))
    }

    /// The values of a row, in the columns' declared order.
    ///
    /// # Errors
    /// [`TableError::BadRow`] when the row is not of this table.
    pub fn values(&self, row: &Row) -> Result<Vec<Value>, TableError> {
        let mut rest = row.bytes();
        let mut values = vec![Value::Null; self.columns.len()];
        for &index in &self.stored {
            let value = Value::read(&mut rest).filter(|value| allows(&self.columns[index], value));
            values[index] = value.ok_or(TableError::BadRow)?;
        }
        if rest.is_empty() { Ok(values) } else { Err(TableError::BadRow) }
    }

    /// Reads a row from a JSON object; a column that is not in it is NULL.
    ///
    /// # Errors
    /// The column and what was expected of it.
    pub fn row_from_json(&self, object: &Map<String, Json>) -> Result<Row, TableError> {
        self.check_names(object, self.columns.iter())?;
        let read = |column: &Column| self.value_from_json(column, object.get(&column.name));
        let values: Vec<Value> = self.columns.iter().map(read).collect::<Result<_, _>>()?;
        self.row(&values)
    }

    /// Reads a key from a JSON object that has the key's columns and no other.
    ///
    /// # Errors
    /// The column and what was expected of it.
    pub fn key_from_json(&self, object: &Map<String, Json>) -> Result<Key, TableError> {
        self.check_names(object, self.key_columns())?;
        let read = |column: &Column| self.value_from_json(column, object.get(&column.name));
        let values: Vec<Value> = self.key_columns().map(read).collect::<Result<_, _>>()?;
        self.key(&values)
    }

    /// Reads a column's value from its text, as in CSV.
    ///
    /// # Errors
    /// The column and what was expected of it.
    pub fn value_from_text(&self, column: &Column, text: &str) -> Result<Value, TableError> {
        text::from_text(&column.kind, text).ok_or_else(|| bad(column, format!("'{}'", short(text))))
    }

    /// Writes a row as a JSON object.
    ///
    /// # Errors
    /// [`TableError::BadRow`] when the row is not of this table.
    pub fn row_to_json(&self, row: &Row) -> Result<Map<String, Json>, TableError> {
        let values = self.values(row)?;
        let named = self.columns.iter().zip(&values);
        Ok(named.map(|(column, value)| (column.name.clone(), text::to_json(&column.kind, value))).collect())
    }

    /// Writes a key as a JSON object.
    ///
    /// # Errors
    /// [`TableError::BadRow`] when the key is not of this table.
    pub fn key_to_json(&self, key: &Key) -> Result<Map<String, Json>, TableError> {
        let mut rest = key.bytes();
        let mut object = Map::new();
        for column in self.key_columns() {
            let value = Value::read(&mut rest).ok_or(TableError::BadRow)?;
            object.insert(column.name.clone(), text::to_json(&column.kind, &value));
        }
        Ok(object)
    }

    /// What of a declaration differs from this one, in words; none when nothing does.
    pub fn difference(&self, declared: &Schema) -> Option<String> {
        if self.key != declared.key {
            let keys = (self.key.join(", "), declared.key.join(", "));
            return Some(format!("its primary key is ({}), not ({})", keys.0, keys.1));
        }
        for (mine, theirs) in self.columns.iter().zip(&declared.columns) {
            if mine != theirs {
                return Some(format!("it has column {}, not {}", words(mine), words(theirs)));
            }
        }
        let (mine, theirs) = (self.columns.len(), declared.columns.len());
        (mine != theirs).then(|| format!("it has {mine} columns, not {theirs}"))
    }

    fn value_from_json(&self, column: &Column, json: Option<&Json>) -> Result<Value, TableError> {
        let json = json.unwrap_or(&Json::Null);
        text::from_json(&column.kind, json).ok_or_else(|| bad(column, short(&json.to_string())))
    }

    fn check_names<'a>(
        &self,
        object: &Map<String, Json>,
        known: impl Iterator<Item = &'a Column>,
    ) -> Result<(), TableError> {
        let known: Vec<&str> = known.map(|column| column.name.as_str()).collect();
        match object.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(TableError::UnknownColumn {
                column: name.clone(),
                meant: suggest::nearest(name, known.iter().copied()).map(str::to_string),
                known: known.join(", "),
            }),
        }
    }
}

fn check_merge(column: &Column) -> Result<(), TableError> {
    let goes = match column.merge {
        None => true,
        Some(Merge::Sum) => column.kind.is_number(),
        Some(Merge::Max | Merge::Min) => !matches!(column.kind, Type::Array(_)),
        Some(Merge::Union) => matches!(column.kind, Type::Array(_)),
    };
    match column.merge {
        Some(merge) if !goes => {
            let (name, kind) = (&column.name, &column.kind);
            Err(TableError::schema(format!("column '{name}' is {kind} and cannot be merged by {merge}")))
        }
        _ => Ok(()),
    }
}

fn allows(column: &Column, value: &Value) -> bool {
    (column.nullable || !value.is_null()) && text::fits(&column.kind, value)
}

fn check(column: &Column, value: &Value) -> Result<(), TableError> {
    if allows(column, value) {
        Ok(())
    } else {
        Err(bad(column, short(&text::to_json(&column.kind, value).to_string())))
    }
}

fn bad(column: &Column, got: String) -> TableError {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    TableError::BadValue { column: column.name.clone(), expected: format!("{}{not_null}", column.kind), got }
}

fn words(column: &Column) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    let merge = column.merge.map(|merge| format!(" merged by {merge}")).unwrap_or_default();
    format!("'{}' {}{not_null}{merge}", column.name, column.kind)
}

/// The beginning of a text, for messages.
fn short(text: &str) -> String {
    const CHARACTERS: usize = 80;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// A row's primary key: its canonical bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key whose bytes these are.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Key(bytes.into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// A row: its values' canonical bytes, the key's in front.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Row {
    bytes: Arc<[u8]>,
    key_bytes: u32,
}

impl Row {
    /// The most bytes of a row.
    pub const BYTES_MAX: usize = 16 << 20;

    /// A row of canonical bytes, of which the first `key_bytes` are the key's.
    ///
    /// # Errors
    /// [`TableError::RowTooLarge`] above [`Row::BYTES_MAX`].
    pub(crate) fn checked(bytes: Vec<u8>, key_bytes: usize) -> Result<Self, TableError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(TableError::RowTooLarge { bytes: bytes.len(), most: Self::BYTES_MAX });
        }
        debug_assert!(key_bytes <= bytes.len(), "the key is the front of the row");
        Ok(Row { bytes: bytes.into(), key_bytes: key_bytes as u32 })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of its key.
    pub fn key_bytes(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    /// Its key.
    pub fn key(&self) -> Key {
        Key(self.key_bytes().into())
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.bytes.escape_ascii())
    }
}

#[cfg(test)]
mod tests;

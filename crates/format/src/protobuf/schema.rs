//! [`Messages`]: what a table is in Protocol Buffers, by the types of its columns.
//!
//! Field numbers are the places of columns, so a column that is added at the end leaves all others where they are. Every
//! field of a row is `optional`: what is left out is NULL, and zero is zero. Names that Protocol Buffers does not take are
//! changed until it does; the name in JSON stays the column's own.

use std::collections::BTreeSet;

use arrow_schema::{DataType, Field as Column, Schema, TimeUnit};

use super::values::{FIRST, SECOND};
use super::{COLUMNS_MAX, COUNT, FORMAT, ROWS};
use crate::error::Error;
use crate::types;

/// The package of every table's messages.
const PACKAGE: &str = "tidemill.tables";
const GO_PACKAGE: &str = "tidemill.dev/proto/tidemill/tables;tables";

/// The messages of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    /// The table, by its name in SQL.
    pub table: String,
    /// The name of the file they are in, such as `tidemill/tables/payments.proto`.
    pub file: String,
    /// The package they are in.
    pub package: &'static str,
    /// The package of the Go that is made of them.
    pub go_package: &'static str,
    /// A row, the message of rows, and the message of columns.
    pub messages: [Message; 3],
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name, without the messages it is in.
    pub name: String,
    /// What it is.
    pub comment: String,
    /// Its fields, by their numbers.
    pub fields: Vec<Field>,
    /// The messages in it.
    pub nested: Vec<Message>,
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The name of its column.
    pub column: String,
    /// Its number.
    pub number: u32,
    /// How many there are.
    pub label: Label,
    /// What it holds.
    pub kind: Kind,
    /// What the type does not say.
    pub comment: String,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// One, and zero when it is left out.
    Single,
    /// One or none.
    Optional,
    /// Any number.
    Repeated,
    /// Any number, by a string each.
    Map,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `float`
    Float,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// The message of this path, such as `.tidemill.tables.Payments.Address`.
    Message(String),
}

impl Messages {
    /// The messages of a table or a view.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] for a column without a form in Protocol Buffers; [`Error::TooManyColumns`].
    pub fn of(table: &str, schema: &Schema) -> Result<Messages, Error> {
        let columns = schema.fields().len();
        if columns > COLUMNS_MAX {
            return Err(Error::TooManyColumns { format: FORMAT, columns, limit: COLUMNS_MAX });
        }
        let name = capitalised(table);
        let row = row(table, &name, schema)?;
        let rows = Message {
            name: format!("{name}Rows"),
            comment: format!("Rows of '{table}'."),
            fields: vec![Field {
                name: "rows".to_string(),
                column: "rows".to_string(),
                number: ROWS,
                label: Label::Repeated,
                kind: Kind::Message(format!(".{PACKAGE}.{name}")),
                comment: String::new(),
            }],
            nested: Vec::new(),
        };
        let columns = columns_of(table, &row, schema)?;
        let file = format!("tidemill/tables/{}.proto", identifier(table));
        Ok(Messages {
            table: table.to_string(),
            file,
            package: PACKAGE,
            go_package: GO_PACKAGE,
            messages: [row, rows, columns],
        })
    }
}

/// A row: a field for each column.
fn row(table: &str, name: &str, schema: &Schema) -> Result<Message, Error> {
    let mut scope = Scope::new(format!(".{PACKAGE}.{name}"));
    let fields = scope.fields("", schema.fields().iter().map(AsRef::as_ref))?;
    let comment = format!("A row of '{table}'. What is left out is NULL.");
    Ok(Message { name: name.to_string(), comment, fields, nested: scope.nested })
}

/// Rows by columns: a repeated field for each, and a bitmap for each. ROWs are the messages that they are in `row`.
fn columns_of(table: &str, row: &Message, schema: &Schema) -> Result<Message, Error> {
    let name = format!("{}Columns", row.name);
    let mut scope = Scope::new(format!(".{PACKAGE}.{name}"));
    let mut fields = Vec::new();
    for ((column, in_row), number) in schema.fields().iter().zip(&row.fields).zip(1..) {
        let kind = match column.data_type() {
            DataType::Struct(_) => in_row.kind.clone(),
            _ => scope.alone("", column.name(), column)?,
        };
        let comment = scalar_comment(column);
        fields.push(scope.field(column.name(), number, Label::Repeated, kind, comment));
    }
    let mut extra = |name: &str, number, kind, comment: &str| {
        let mut field = scope.field(name, number, Label::Single, kind, comment.to_string());
        if schema.index_of(name).is_ok() {
            // The column has the name in JSON.
            field.column = camel(&field.name);
        }
        fields.push(field);
    };
    extra("rows", COUNT, Kind::Uint32, "How many rows these are.");
    for (column, number) in schema.fields().iter().zip(COUNT + 1..) {
        extra(&format!("{}_present", column.name()), number, Kind::Bytes, "");
    }
    let comment = format!(
        "Rows of '{table}' by columns. A column that is sent has one value a row, whatever stands for NULL; one that is\n\
         not sent is NULL. Bit r of `.._present`, the lowest of a byte first, says whether row r has a value there;\n\
         without it all have one."
    );
    Ok(Message { name, comment, fields, nested: scope.nested })
}

/// A message that is being described.
struct Scope {
    /// Its path, from the package on.
    path: String,
    /// What its names are in camel case.
    names: BTreeSet<String>,
    nested: Vec<Message>,
}

impl Scope {
    fn new(path: String) -> Self {
        Scope { path, names: BTreeSet::new(), nested: Vec::new() }
    }

    fn field(&mut self, column: &str, number: u32, label: Label, kind: Kind, comment: String) -> Field {
        let name = match label {
            Label::Map => self.unique(identifier(column), |name| Some(entry_name(name))),
            _ => self.unique(identifier(column), |_| None),
        };
        Field { name, column: column.to_string(), number, label, kind, comment }
    }

    /// A name that nothing else in the message has, in camel case either, and for which that is so of its companion too.
    fn unique(&mut self, name: String, companion: fn(&str) -> Option<String>) -> String {
        let names = &self.names;
        let is_free = |name: &String| {
            let companion = companion(name);
            !names.contains(&camel(name)) && companion.is_none_or(|name| !names.contains(&camel(&name)))
        };
        let mut candidates = std::iter::once(name.clone()).chain((2..).map(|number: u32| format!("{name}_{number}")));
        let free = candidates.find(is_free).unwrap_or_default();
        self.names.extend(companion(&free).map(|name| camel(&name)));
        self.names.insert(camel(&free));
        free
    }

    /// The fields of a row, or of a ROW in it.
    fn fields<'a>(&mut self, path: &str, columns: impl Iterator<Item = &'a Column>) -> Result<Vec<Field>, Error> {
        let mut fields = Vec::new();
        for (column, number) in columns.zip(1..) {
            let name = column.name();
            let (label, kind) = self.inline(path, name, column)?;
            fields.push(self.field(name, number, label, kind, scalar_comment(column)));
        }
        Ok(fields)
    }

    /// A column as a field of its own: an ARRAY and a MAP are repeated.
    fn inline(&mut self, path: &str, hint: &str, column: &Column) -> Result<(Label, Kind), Error> {
        let inner = joined(path, column);
        Ok(match column.data_type() {
            DataType::List(item) => (Label::Repeated, self.alone(&inner, hint, item)?),
            DataType::Map(entries, _) => (Label::Map, self.map_value(&inner, hint, entries)?),
            _ => (Label::Optional, self.alone(path, hint, column)?),
        })
    }

    /// A value of a column's type that stands alone: an ARRAY and a MAP need a message around them.
    fn alone(&mut self, path: &str, hint: &str, column: &Column) -> Result<Kind, Error> {
        let path = joined(path, column);
        Ok(match column.data_type() {
            DataType::Struct(columns) => self.nest(hint, "", types::sql_name(column.data_type()), |scope| {
                scope.fields(&path, columns.iter().map(AsRef::as_ref))
            })?,
            DataType::List(item) => self.nest(hint, "List", types::sql_name(column.data_type()), |scope| {
                let kind = scope.alone(&path, hint, item)?;
                Ok(vec![scope.field("items", FIRST, Label::Repeated, kind, String::new())])
            })?,
            DataType::Map(entries, _) => self.nest(hint, "Map", types::sql_name(column.data_type()), |scope| {
                let kind = scope.map_value(&path, hint, entries)?;
                Ok(vec![scope.field("entries", FIRST, Label::Map, kind, String::new())])
            })?,
            scalar => scalar_kind(scalar).ok_or_else(|| unsupported(path, column))?,
        })
    }

    fn map_value(&mut self, path: &str, hint: &str, entries: &Column) -> Result<Kind, Error> {
        match entries.data_type() {
            DataType::Struct(fields) if fields.len() == SECOND as usize && fields[0].data_type() == &DataType::Utf8 => {
                self.alone(path, hint, &fields[1])
            }
            _ => Err(unsupported(path.to_string(), entries)),
        }
    }

    /// A message within this one.
    fn nest(
        &mut self,
        hint: &str,
        ending: &str,
        comment: String,
        fields: impl FnOnce(&mut Scope) -> Result<Vec<Field>, Error>,
    ) -> Result<Kind, Error> {
        let name = self.unique(format!("{}{ending}", capitalised(hint)), |_| None);
        let path = format!("{}.{name}", self.path);
        let mut scope = Scope::new(path.clone());
        let fields = fields(&mut scope)?;
        self.nested.push(Message { name, comment, fields, nested: scope.nested });
        Ok(Kind::Message(path))
    }
}

fn joined(path: &str, column: &Column) -> String {
    if path.is_empty() { column.name().clone() } else { format!("{path}.{}", column.name()) }
}

fn scalar_kind(data_type: &DataType) -> Option<Kind> {
    Some(match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32 => Kind::Int32,
        DataType::Int64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => Kind::Int64,
        DataType::Float32 => Kind::Float,
        DataType::Float64 => Kind::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Decimal128(..) => Kind::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Bytes,
        _ => return None,
    })
}

/// What the type of a field does not say about its column.
fn scalar_comment(column: &Column) -> String {
    let name = types::sql_name(column.data_type());
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "milliseconds",
        TimeUnit::Microsecond => "microseconds",
        TimeUnit::Nanosecond => "nanoseconds",
    };
    let name = match column.data_type() {
        DataType::Date32 => format!("{name}: days since 1970-01-01"),
        DataType::Time32(of) | DataType::Time64(of) => format!("{name}: {} since midnight", unit(of)),
        DataType::Timestamp(of, None) => format!("{name}: {} since 1970-01-01 00:00:00", unit(of)),
        DataType::Timestamp(of, Some(_)) => format!("{name}: {} since 1970-01-01 00:00:00 UTC", unit(of)),
        DataType::Decimal128(..) => format!("{name}: as text, such as \"12.50\""),
        _ => name,
    };
    if column.is_nullable() { name } else { format!("{name} NOT NULL") }
}

fn unsupported(column: String, field: &Column) -> Error {
    Error::UnsupportedType { format: FORMAT, column, data_type: field.data_type().clone() }
}

/// A name that Protocol Buffers takes for a field: letters, digits and underscores, a letter first.
fn identifier(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match clean.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() => clean,
        _ => format!("x{clean}"),
    }
}

/// The message of the entries of a map's field, which is made by those who read the file.
pub fn entry_name(field: &str) -> String {
    format!("{}Entry", capitalised(field))
}

/// What Protocol Buffers makes of a field's name in JSON.
pub(super) fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut raise = false;
    for c in name.chars() {
        match c {
            '_' => raise = true,
            c => {
                out.push(if raise { c.to_ascii_uppercase() } else { c });
                raise = false;
            }
        }
    }
    out
}

/// A name as messages are named: `card_payments` is `CardPayments`.
fn capitalised(name: &str) -> String {
    let name = identifier(name);
    let words = name.split('_').filter(|word| !word.is_empty());
    words.flat_map(|word| [word[..1].to_ascii_uppercase(), word[1..].to_string()]).collect()
}

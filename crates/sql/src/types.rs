//! Flink's types: read from tokens, written in Flink's words, and what each is in Arrow.
//!
//! [`Type`] keeps everything Flink's type says (lengths, precision, NOT NULL), because a cast needs it; columns need only
//! [`Type::to_arrow`]. TIMESTAMP(p) and TIME(p) have millisecond columns for p <= 3, microsecond ones for 4..6,
//! nanosecond ones above. All texts are Utf8, all bytes Binary. [`name_of`] names an Arrow type in Flink's words, for
//! errors and listings.
//!
//! A cast reaches the planner as sqlparser's custom type named [`MARKER`] with the type's text inside; [`planned`] reads
//! it back. Every other sqlparser type is refused before planning, so each type has one spelling there.

mod read;

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast;

pub(crate) use read::parse;
pub use read::parse_text;

/// The name of the custom type that carries one of ours through sqlparser's AST.
pub const MARKER: &str = "$type";

/// A type as Flink has it, and whether it may be NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Type {
    /// What it is.
    pub kind: TypeKind,
    /// False when NOT NULL was written.
    pub nullable: bool,
}

/// What a type is, apart from NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// `CHAR(n)`: exactly n characters.
    Char(u32),
    /// `VARCHAR(n)`, or `STRING` when unbounded.
    Varchar(Option<u32>),
    /// `BOOLEAN`.
    Boolean,
    /// `BINARY(n)`: exactly n bytes.
    Binary(u32),
    /// `VARBINARY(n)`, or `BYTES` when unbounded.
    Varbinary(Option<u32>),
    /// `DECIMAL(precision, scale)`.
    Decimal(u8, u8),
    /// `TINYINT`, 8 bits.
    TinyInt,
    /// `SMALLINT`, 16 bits.
    SmallInt,
    /// `INT`, 32 bits.
    Int,
    /// `BIGINT`, 64 bits.
    BigInt,
    /// `FLOAT`, 32 bits.
    Float,
    /// `DOUBLE`, 64 bits.
    Double,
    /// `DATE`.
    Date,
    /// `TIME(p)`.
    Time(u8),
    /// `TIMESTAMP(p)`: a wall clock's reading.
    Timestamp(u8),
    /// `TIMESTAMP_LTZ(p)`: a point in time.
    TimestampLtz(u8),
    /// `INTERVAL YEAR TO MONTH`.
    YearMonth,
    /// `INTERVAL DAY TO SECOND`.
    DayTime,
    /// `ARRAY<t>`.
    Array(Box<Type>),
    /// `MAP<k, v>`.
    Map(Box<Type>, Box<Type>),
    /// `ROW<name type, ...>`.
    Row(Vec<(String, Type)>),
}

impl Type {
    /// The type, NULL allowed.
    pub fn nullable(kind: TypeKind) -> Self {
        Type { kind, nullable: true }
    }

    /// The Arrow type of a column of it.
    pub fn to_arrow(&self) -> DataType {
        match &self.kind {
            TypeKind::Char(_) | TypeKind::Varchar(_) => DataType::Utf8,
            TypeKind::Boolean => DataType::Boolean,
            TypeKind::Binary(_) | TypeKind::Varbinary(_) => DataType::Binary,
            TypeKind::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale as i8),
            TypeKind::TinyInt => DataType::Int8,
            TypeKind::SmallInt => DataType::Int16,
            TypeKind::Int => DataType::Int32,
            TypeKind::BigInt => DataType::Int64,
            TypeKind::Float => DataType::Float32,
            TypeKind::Double => DataType::Float64,
            TypeKind::Date => DataType::Date32,
            TypeKind::Time(precision) => match unit(*precision) {
                TimeUnit::Millisecond => DataType::Time32(TimeUnit::Millisecond),
                finer => DataType::Time64(finer),
            },
            TypeKind::Timestamp(precision) => DataType::Timestamp(unit(*precision), None),
            TypeKind::TimestampLtz(precision) => DataType::Timestamp(unit(*precision), Some(Arc::from("UTC"))),
            TypeKind::YearMonth => DataType::Interval(IntervalUnit::YearMonth),
            TypeKind::DayTime => DataType::Interval(IntervalUnit::MonthDayNano),
            TypeKind::Array(item) => DataType::List(Arc::new(item.to_field("item"))),
            TypeKind::Map(key, value) => {
                let key = Field::new("key", key.to_arrow(), false);
                let entries = DataType::Struct(Fields::from(vec![key, value.to_field("value")]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            TypeKind::Row(fields) => {
                DataType::Struct(fields.iter().map(|(name, kind)| kind.to_field(name)).collect::<Fields>())
            }
        }
    }

    /// A column of it.
    pub fn to_field(&self, name: &str) -> Field {
        Field::new(name, self.to_arrow(), self.nullable)
    }

    /// As sqlparser's AST carries it.
    pub fn to_ast(&self) -> ast::DataType {
        let name = ast::ObjectName::from(vec![ast::Ident::new(MARKER)]);
        ast::DataType::Custom(name, vec![self.to_string()])
    }
}

/// The type that a cast in a parsed query names; `None` for an AST type that is not ours.
pub fn planned(data_type: &ast::DataType) -> Option<Type> {
    let ast::DataType::Custom(name, text) = data_type else { return None };
    let [ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
    let [text] = text.as_slice() else { return None };
    if name.value != MARKER || name.quote_style.is_some() {
        return None;
    }
    parse_text(text).ok()
}

/// The unit of the columns of TIMESTAMP(p) and TIME(p).
pub fn unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        if self.nullable { Ok(()) } else { f.write_str(" NOT NULL") }
    }
}

impl fmt::Display for TypeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeKind::Char(length) => write!(f, "CHAR({length})"),
            TypeKind::Varchar(Some(length)) => write!(f, "VARCHAR({length})"),
            TypeKind::Varchar(None) => f.write_str("STRING"),
            TypeKind::Boolean => f.write_str("BOOLEAN"),
            TypeKind::Binary(length) => write!(f, "BINARY({length})"),
            TypeKind::Varbinary(Some(length)) => write!(f, "VARBINARY({length})"),
            TypeKind::Varbinary(None) => f.write_str("BYTES"),
            TypeKind::Decimal(precision, scale) => write!(f, "DECIMAL({precision}, {scale})"),
            TypeKind::TinyInt => f.write_str("TINYINT"),
            TypeKind::SmallInt => f.write_str("SMALLINT"),
            TypeKind::Int => f.write_str("INT"),
            TypeKind::BigInt => f.write_str("BIGINT"),
            TypeKind::Float => f.write_str("FLOAT"),
            TypeKind::Double => f.write_str("DOUBLE"),
            TypeKind::Date => f.write_str("DATE"),
            TypeKind::Time(precision) => write!(f, "TIME({precision})"),
            TypeKind::Timestamp(precision) => write!(f, "TIMESTAMP({precision})"),
            TypeKind::TimestampLtz(precision) => write!(f, "TIMESTAMP_LTZ({precision})"),
            TypeKind::YearMonth => f.write_str("INTERVAL YEAR TO MONTH"),
            TypeKind::DayTime => f.write_str("INTERVAL DAY TO SECOND"),
            TypeKind::Array(item) => write!(f, "ARRAY<{item}>"),
            TypeKind::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            TypeKind::Row(fields) => {
                f.write_str("ROW<")?;
                for (index, (name, kind)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}`{}` {kind}", name.replace('`', "``"))?;
                }
                f.write_str(">")
            }
        }
    }
}

/// The name of an Arrow type in Flink's words.
///
/// Types that no Flink type is stored as, which only batch evaluation makes, are named after the nearest one.
pub fn name_of(data_type: &DataType) -> String {
    let field = |field: &Field| {
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{}{null}", name_of(field.data_type()))
    };
    match data_type {
        DataType::Null => "NULL".to_string(),
        DataType::Boolean => "BOOLEAN".to_string(),
        DataType::Int8 => "TINYINT".to_string(),
        DataType::Int16 | DataType::UInt8 => "SMALLINT".to_string(),
        DataType::Int32 | DataType::UInt16 => "INT".to_string(),
        DataType::Int64 | DataType::UInt32 => "BIGINT".to_string(),
        DataType::UInt64 => "DECIMAL(20, 0)".to_string(),
        DataType::Float16 | DataType::Float32 => "FLOAT".to_string(),
        DataType::Float64 => "DOUBLE".to_string(),
        DataType::Date32 | DataType::Date64 => "DATE".to_string(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(*unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(*unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".to_string(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL DAY TO SECOND".to_string(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_string(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_string(),
        DataType::FixedSizeBinary(length) => format!("BINARY({length})"),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("ARRAY<{}>", field(item)),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|part| format!("{} {}", quoted(part.name()), field(part))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("MAP<{}, {}>", name_of(pair[0].data_type()), field(&pair[1]))
            }
            other => format!("MAP<{}>", name_of(other)),
        },
        DataType::Dictionary(_, value) => name_of(value),
        DataType::RunEndEncoded(_, value) => name_of(value.data_type()),
        DataType::Union(..) => "a union, which Flink does not have".to_string(),
    }
}

/// A name as it can be written in SQL: in backticks when it has to be.
pub fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && !crate::dialect::is_reserved(name);
    if plain { name.to_string() } else { format!("`{}`", name.replace('`', "``")) }
}

fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests;

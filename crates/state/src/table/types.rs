//! The types a column of a versioned table can have, by their SQL names.
//!
//! Values are kept as Arrow keeps columns of these types: times with a precision of at most 3 in milliseconds, at most 6
//! in microseconds, else in nanoseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A column's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// `BOOLEAN`.
    Boolean,
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
    /// `DECIMAL(precision, scale)`, up to 38 digits.
    Decimal {
        /// All digits.
        precision: u8,
        /// Those after the point.
        scale: u8,
    },
    /// `CHAR(n)`: exactly n characters.
    Char(u32),
    /// `STRING`, or `VARCHAR(n)`: at most n characters.
    String(Option<u32>),
    /// `BINARY(n)`: exactly n bytes.
    Binary(u32),
    /// `BYTES`, or `VARBINARY(n)`: at most n bytes.
    Bytes(Option<u32>),
    /// `DATE`.
    Date,
    /// `TIME(p)`.
    Time(u8),
    /// `TIMESTAMP(p)`: a wall clock's reading.
    Timestamp(u8),
    /// `TIMESTAMP_LTZ(p)`: a point in time.
    TimestampLtz(u8),
    /// `ARRAY<t>` of a type that is no array.
    Array(Box<Type>),
}

impl Type {
    /// The values of an integer type; `None` for another one.
    pub fn integers(&self) -> Option<std::ops::RangeInclusive<i64>> {
        Some(match self {
            Type::TinyInt => i8::MIN.into()..=i8::MAX.into(),
            Type::SmallInt => i16::MIN.into()..=i16::MAX.into(),
            Type::Int => i32::MIN.into()..=i32::MAX.into(),
            Type::BigInt => i64::MIN..=i64::MAX,
            _ => return None,
        })
    }

    /// Whether values can be added.
    pub fn is_number(&self) -> bool {
        self.integers().is_some() || matches!(self, Type::Float | Type::Double | Type::Decimal { .. })
    }

    /// How many units of a time's value make a second; 1 for what is no time.
    pub fn per_second(&self) -> i64 {
        match self {
            Type::Time(precision) | Type::Timestamp(precision) | Type::TimestampLtz(precision) => match precision {
                0..=3 => 1_000,
                4..=6 => 1_000_000,
                _ => 1_000_000_000,
            },
            _ => 1,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Boolean => f.write_str("BOOLEAN"),
            Type::TinyInt => f.write_str("TINYINT"),
            Type::SmallInt => f.write_str("SMALLINT"),
            Type::Int => f.write_str("INT"),
            Type::BigInt => f.write_str("BIGINT"),
            Type::Float => f.write_str("FLOAT"),
            Type::Double => f.write_str("DOUBLE"),
            Type::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            Type::Char(length) => write!(f, "CHAR({length})"),
            Type::String(None) => f.write_str("STRING"),
            Type::String(Some(length)) => write!(f, "VARCHAR({length})"),
            Type::Binary(length) => write!(f, "BINARY({length})"),
            Type::Bytes(None) => f.write_str("BYTES"),
            Type::Bytes(Some(length)) => write!(f, "VARBINARY({length})"),
            Type::Date => f.write_str("DATE"),
            Type::Time(precision) => write!(f, "TIME({precision})"),
            Type::Timestamp(precision) => write!(f, "TIMESTAMP({precision})"),
            Type::TimestampLtz(precision) => write!(f, "TIMESTAMP_LTZ({precision})"),
            Type::Array(item) => write!(f, "ARRAY<{item}>"),
        }
    }
}

/// A text that names no type of a versioned table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no type of a versioned table")]
pub struct NoType(String);

impl FromStr for Type {
    type Err = NoType;

    fn from_str(text: &str) -> Result<Self, NoType> {
        let upper = text.trim().to_uppercase();
        parse(&upper).ok_or_else(|| NoType(text.to_string()))
    }
}

fn parse(text: &str) -> Option<Type> {
    if let Some(item) = text.strip_prefix("ARRAY<").and_then(|rest| rest.strip_suffix('>')) {
        let item = parse(item.trim())?;
        return (!matches!(item, Type::Array(_))).then(|| Type::Array(Box::new(item)));
    }
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name.trim_end(), numbers(rest.strip_suffix(')')?)?),
        None => (text, Vec::new()),
    };
    let precision = |default: u8| match arguments.as_slice() {
        [] => Some(default),
        [digits @ 0..=9] => Some(*digits as u8),
        _ => None,
    };
    let length = || match arguments.as_slice() {
        [length] => Some(*length).filter(|&length| length > 0),
        _ => None,
    };
    let found = match name {
        "CHAR" if arguments.is_empty() => Type::Char(1),
        "CHAR" => Type::Char(length()?),
        "VARCHAR" => Type::String(Some(length()?)),
        "BINARY" if arguments.is_empty() => Type::Binary(1),
        "BINARY" => Type::Binary(length()?),
        "VARBINARY" => Type::Bytes(Some(length()?)),
        "DECIMAL" => match arguments.as_slice() {
            [] => Type::Decimal { precision: 10, scale: 0 },
            [digits @ 1..=38] => Type::Decimal { precision: *digits as u8, scale: 0 },
            [digits @ 1..=38, scale] if scale <= digits => {
                Type::Decimal { precision: *digits as u8, scale: *scale as u8 }
            }
            _ => return None,
        },
        "TIME" => Type::Time(precision(0)?),
        "TIMESTAMP" => Type::Timestamp(precision(6)?),
        "TIMESTAMP_LTZ" => Type::TimestampLtz(precision(6)?),
        _ if !arguments.is_empty() || text.contains('(') => return None,
        "BOOLEAN" => Type::Boolean,
        "TINYINT" => Type::TinyInt,
        "SMALLINT" => Type::SmallInt,
        "INT" | "INTEGER" => Type::Int,
        "BIGINT" => Type::BigInt,
        "FLOAT" => Type::Float,
        "DOUBLE" | "DOUBLE PRECISION" => Type::Double,
        "STRING" => Type::String(None),
        "BYTES" => Type::Bytes(None),
        "DATE" => Type::Date,
        _ => return None,
    };
    Some(found)
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split(',').map(|number| number.trim().parse().ok()).collect()
}

impl Serialize for Type {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_as_it_is_written() {
        for text in [
            "BOOLEAN",
            "TINYINT",
            "SMALLINT",
            "INT",
            "BIGINT",
            "FLOAT",
            "DOUBLE",
            "DECIMAL(38, 9)",
            "CHAR(3)",
            "STRING",
            "VARCHAR(20)",
            "BINARY(16)",
            "BYTES",
            "VARBINARY(9)",
            "DATE",
            "TIME(0)",
            "TIMESTAMP(3)",
            "TIMESTAMP_LTZ(9)",
            "ARRAY<DECIMAL(4, 2)>",
        ] {
            assert_eq!(text.parse::<Type>().map(|parsed| parsed.to_string()), Ok(text.to_string()));
        }
        let check = |text: &str, name: &str| assert_eq!(text.parse::<Type>().expect(text).to_string(), name);
        check(" decimal ( 5 ,2 ) ", "DECIMAL(5, 2)");
        check("decimal", "DECIMAL(10, 0)");
        check("timestamp", "TIMESTAMP(6)");
        check("array< int >", "ARRAY<INT>");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "TEXT",
            "INT(3)",
            "INT()",
            "DECIMAL(39, 1)",
            "DECIMAL(2, 3)",
            "VARCHAR",
            "VARCHAR(0)",
            "TIMESTAMP(10)",
            "ARRAY<ARRAY<INT>>",
            "ARRAY<INT",
            "MAP<INT, INT>",
            "DECIMAL(1, 2, 3)",
        ] {
            assert!(text.parse::<Type>().is_err(), "{text}");
        }
    }
}

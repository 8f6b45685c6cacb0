//! Values, and their canonical bytes.
//!
//! Equal values have equal bytes, today and in every later version: digests and keys rest on it. So there is one NaN and
//! one zero, whatever was written. A value's bytes say where they end; they are read back without knowing the type.
//!
//! A tag, then: nothing (null, true and false have tags of their own), 8 bytes (integers, floats, times), 4 (dates), 16
//! (decimals), or a length of 4 bytes and what is so long (texts, bytes, arrays). All numbers are little-endian.

/// The value of one column in one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// `BOOLEAN`.
    Boolean(bool),
    /// `TINYINT` to `BIGINT`.
    Integer(i64),
    /// `FLOAT` and `DOUBLE`.
    Float(f64),
    /// `DECIMAL`, in units of its last digit.
    Decimal(i128),
    /// `CHAR`, `VARCHAR`, `STRING`.
    String(String),
    /// `BINARY`, `VARBINARY`, `BYTES`.
    Bytes(Vec<u8>),
    /// `DATE`, in days since 1970-01-01.
    Date(i32),
    /// `TIME`, in the type's units since midnight.
    Time(i64),
    /// `TIMESTAMP` and `TIMESTAMP_LTZ`, in the type's units since 1970-01-01 00:00:00.
    Timestamp(i64),
    /// `ARRAY`.
    Array(Vec<Value>),
}

mod tag {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const INTEGER: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DECIMAL: u8 = 5;
    pub const STRING: u8 = 6;
    pub const BYTES: u8 = 7;
    pub const ARRAY: u8 = 8;
    pub const DATE: u8 = 9;
    pub const TIME: u8 = 10;
    pub const TIMESTAMP: u8 = 11;
}

/// How deep arrays may lie in arrays when bytes are read.
const DEPTH_MAX: u32 = 4;

impl Value {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Appends its canonical bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(tag::NULL),
            Value::Boolean(false) => out.push(tag::FALSE),
            Value::Boolean(true) => out.push(tag::TRUE),
            Value::Integer(value) => fixed(out, tag::INTEGER, value.to_le_bytes()),
            Value::Float(value) => fixed(out, tag::FLOAT, canonical(*value).to_bits().to_le_bytes()),
            Value::Decimal(value) => fixed(out, tag::DECIMAL, value.to_le_bytes()),
            Value::String(value) => sized(out, tag::STRING, value.as_bytes()),
            Value::Bytes(value) => sized(out, tag::BYTES, value),
            Value::Date(value) => fixed(out, tag::DATE, value.to_le_bytes()),
            Value::Time(value) => fixed(out, tag::TIME, value.to_le_bytes()),
            Value::Timestamp(value) => fixed(out, tag::TIMESTAMP, value.to_le_bytes()),
            Value::Array(items) => {
                fixed(out, tag::ARRAY, (items.len() as u32).to_le_bytes());
                items.iter().for_each(|item| item.write(out));
            }
        }
    }

    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Reads a value from the front of `bytes` and leaves what follows; none when they are no canonical bytes.
    pub fn read(bytes: &mut &[u8]) -> Option<Value> {
        read(bytes, DEPTH_MAX)
    }

    /// Steps over a value at the front of `bytes`; none when there is no whole one.
    pub fn skip(bytes: &mut &[u8]) -> Option<()> {
        skip(bytes, DEPTH_MAX)
    }
}

/// The one spelling of a float: there is one NaN, and zero has no sign.
fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

fn fixed<const N: usize>(out: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    out.push(tag);
    out.extend(bytes);
}

fn sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    fixed(out, tag, (bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

pub(crate) fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (first, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(first)
}

fn read(bytes: &mut &[u8], depth: u32) -> Option<Value> {
    let [tag] = take(bytes)?;
    Some(match tag {
        tag::NULL => Value::Null,
        tag::FALSE => Value::Boolean(false),
        tag::TRUE => Value::Boolean(true),
        tag::INTEGER => Value::Integer(i64::from_le_bytes(take(bytes)?)),
        tag::FLOAT => {
            let value = f64::from_bits(u64::from_le_bytes(take(bytes)?));
            if canonical(value).to_bits() != value.to_bits() {
                return None;
            }
            Value::Float(value)
        }
        tag::DECIMAL => Value::Decimal(i128::from_le_bytes(take(bytes)?)),
        tag::STRING => Value::String(String::from_utf8(take_sized(bytes)?.to_vec()).ok()?),
        tag::BYTES => Value::Bytes(take_sized(bytes)?.to_vec()),
        tag::DATE => Value::Date(i32::from_le_bytes(take(bytes)?)),
        tag::TIME => Value::Time(i64::from_le_bytes(take(bytes)?)),
        tag::TIMESTAMP => Value::Timestamp(i64::from_le_bytes(take(bytes)?)),
        tag::ARRAY if depth > 0 => {
            let count = u32::from_le_bytes(take(bytes)?) as usize;
            if count > bytes.len() {
                return None;
            }
            Value::Array((0..count).map(|_| read(bytes, depth - 1)).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn skip(bytes: &mut &[u8], depth: u32) -> Option<()> {
    let [tag] = take(bytes)?;
    let length = match tag {
        tag::NULL | tag::FALSE | tag::TRUE => 0,
        tag::DATE => 4,
        tag::INTEGER | tag::FLOAT | tag::TIME | tag::TIMESTAMP => 8,
        tag::DECIMAL => 16,
        tag::STRING | tag::BYTES => return take_sized(bytes).map(|_| ()),
        tag::ARRAY if depth > 0 => {
            let count = u32::from_le_bytes(take(bytes)?);
            return (0..count).try_for_each(|_| skip(bytes, depth - 1));
        }
        _ => return None,
    };
    *bytes = bytes.split_at_checked(length)?.1;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Float),
            any::<i128>().prop_map(Value::Decimal),
            ".{0,8}".prop_map(Value::String),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
            any::<i32>().prop_map(Value::Date),
            any::<i64>().prop_map(Value::Time),
            any::<i64>().prop_map(Value::Timestamp),
        ];
        scalar.prop_recursive(2, 8, 4, |item| prop::collection::vec(item, 0..4).prop_map(Value::Array))
    }

    #[test]
    fn the_bytes_never_change() {
        let check = |value: Value, bytes: &[u8]| assert_eq!(value.to_bytes(), bytes, "{value:?}");
        check(Value::Null, &[0]);
        check(Value::Boolean(true), &[2]);
        check(Value::Integer(-2), &[3, 254, 255, 255, 255, 255, 255, 255, 255]);
        check(Value::Float(1.5), &[4, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F]);
        check(Value::String("ab".into()), &[6, 2, 0, 0, 0, b'a', b'b']);
        check(Value::Bytes(vec![9]), &[7, 1, 0, 0, 0, 9]);
        check(Value::Date(1), &[9, 1, 0, 0, 0]);
        check(Value::Time(1), &[10, 1, 0, 0, 0, 0, 0, 0, 0]);
        check(Value::Timestamp(1), &[11, 1, 0, 0, 0, 0, 0, 0, 0]);
        check(Value::Array(vec![Value::Null, Value::Boolean(false)]), &[8, 2, 0, 0, 0, 0, 1]);
        assert_eq!(Value::Decimal(-1).to_bytes(), [&[5_u8][..], &[255; 16]].concat());
    }

    #[test]
    fn there_is_one_zero_and_one_nan() {
        assert_eq!(Value::Float(-0.0).to_bytes(), Value::Float(0.0).to_bytes());
        assert_eq!(Value::Float(-f64::NAN).to_bytes(), Value::Float(f64::NAN).to_bytes());
        let mut other = Value::Float(f64::NAN).to_bytes();
        other[1] = 1;
        assert_eq!(Value::read(&mut other.as_slice()), None);
    }

    proptest! {
        #[test]
        fn a_value_is_read_from_its_bytes(value in values(), tail in prop::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = value.to_bytes();
            let length = bytes.len();
            bytes.extend(&tail);
            let (mut read, mut skipped) = (bytes.as_slice(), bytes.as_slice());
            let back = Value::read(&mut read).expect("they are canonical");
            prop_assert_eq!(back.to_bytes(), &bytes[..length]);
            prop_assert_eq!(read, &tail);
            Value::skip(&mut skipped).expect("they are canonical");
            prop_assert_eq!(skipped, &tail);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut rest = bytes.as_slice();
            if let Some(value) = Value::read(&mut rest) {
                prop_assert_eq!(value.to_bytes(), &bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}

//! [`Order`]: which of two rows comes first.
//!
//! The columns of `ORDER BY` are written into a *prefix* of 64 bits once a batch, so that most comparisons are of two
//! numbers: a bit for null, then the value's bits in an order-preserving form, one column after another as far as they fit
//! in; of a number that does not fit the low bits, so that those that are too great or too small are alike. Where prefixes
//! are equal and do not say all, and where `ORDER BY` does not tell two rows apart, values are compared where they lie.
//! Floats are in their total order (-0 before 0, NaN at the ends), so that rows that compare as equal are equal in every
//! bit.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ArrowNativeTypeOp, downcast_primitive};
use arrow_ord::ord::make_comparator;
use arrow_schema::{DataType, Schema, SortOptions};

use crate::plan::OrderBy;

/// The bits of a prefix.
const BITS: u32 = u64::BITS;

/// How rows are put in order.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The columns of `ORDER BY`.
    by: Vec<OrderBy>,
    /// The other columns.
    rest: Vec<OrderBy>,
    /// Whether prefixes say all of `ORDER BY`.
    exact: bool,
}

/// A row in its columns.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Its prefix.
    pub prefix: u64,
    /// The columns.
    pub columns: &'a [ArrayRef],
    /// Its place in them.
    pub row: usize,
}

impl Order {
    /// The order of rows of `schema`: by these columns, and by the others where these do not tell two rows apart.
    pub fn new(by: &[OrderBy], schema: &Schema) -> Self {
        let ascending = |column: usize| OrderBy { column, descending: false, nulls_first: true };
        let others = (0..schema.fields().len()).filter(|column| by.iter().all(|by| by.column != *column));
        let widths = by.iter().map(|by| form(schema.field(by.column).data_type()).width());
        let bits = widths.map(|width| width.map(|width| width + 1)).sum::<Option<u32>>();
        Order { by: by.to_vec(), rest: others.map(ascending).collect(), exact: bits.is_some_and(|bits| bits <= BITS) }
    }

    /// The prefix of each row.
    pub fn prefixes(&self, columns: &[ArrayRef], rows: usize) -> Vec<u64> {
        let mut prefixes = vec![0; rows];
        let mut room = BITS;
        for by in &self.by {
            let Some(left) = fill(&mut prefixes, &columns[by.column], by, room) else { break };
            room = left;
        }
        prefixes
    }

    /// Which row comes first; equal rows are the same in every bit.
    pub fn compare(&self, one: Place<'_>, other: Place<'_>) -> Ordering {
        self.compare_keys(one, other).then_with(|| compare_all(&self.rest, one, other))
    }

    /// Which row comes first by `ORDER BY` alone.
    pub fn compare_keys(&self, one: Place<'_>, other: Place<'_>) -> Ordering {
        match one.prefix.cmp(&other.prefix) {
            Ordering::Equal if !self.exact => compare_all(&self.by, one, other),
            ordering => ordering,
        }
    }
}

fn compare_all(by: &[OrderBy], one: Place<'_>, other: Place<'_>) -> Ordering {
    by.iter().map(|by| compare(by, one, other)).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

fn compare(by: &OrderBy, one: Place<'_>, other: Place<'_>) -> Ordering {
    let (left, right) = (&one.columns[by.column], &other.columns[by.column]);
    match (left.is_null(one.row), right.is_null(other.row)) {
        (true, true) => Ordering::Equal,
        (false, false) => {
            let ordering = compare_values(left, one.row, right, other.row);
            if by.descending { ordering.reverse() } else { ordering }
        }
        (null, _) if null == by.nulls_first => Ordering::Less,
        _ => Ordering::Greater,
    }
}

macro_rules! compare_primitives {
    ($type:ty, $left:ident, $i:ident, $right:ident, $j:ident) => {
        $left.as_primitive::<$type>().value($i).compare($right.as_primitive::<$type>().value($j))
    };
}

/// Compares two values of one type that are not null.
fn compare_values(left: &ArrayRef, i: usize, right: &ArrayRef, j: usize) -> Ordering {
    downcast_primitive! {
        left.data_type() => (compare_primitives, left, i, right, j),
        DataType::Null => Ordering::Equal,
        DataType::Boolean => left.as_boolean().value(i).cmp(&right.as_boolean().value(j)),
        DataType::Utf8 => left.as_string::<i32>().value(i).cmp(right.as_string::<i32>().value(j)),
        DataType::Binary => left.as_binary::<i32>().value(i).cmp(right.as_binary::<i32>().value(j)),
        // Lists, maps and rows; what cannot be compared is refused when the plan is lowered.
        _ => make_comparator(left, right, SortOptions { descending: false, nulls_first: true })
            .map_or(Ordering::Equal, |compare| compare(i, j)),
    }
}

/// Whether values of this type have an order.
pub(crate) fn is_ordered(data_type: &DataType) -> bool {
    let none = arrow_array::new_empty_array(data_type);
    data_type.is_null() || make_comparator(&none, &none, SortOptions::default()).is_ok()
}

/// How values of a type become bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A number of so many bytes, of two's complement.
    Signed(u32),
    /// A number of so many bytes.
    Unsigned(u32),
    /// A float of so many bytes.
    Float(u32),
    Boolean,
    Bytes,
    Other,
}

impl Form {
    /// The bits of every value; none when values differ in length.
    fn width(self) -> Option<u32> {
        match self {
            Form::Signed(bytes) | Form::Unsigned(bytes) | Form::Float(bytes) => Some(8 * bytes),
            Form::Boolean => Some(1),
            Form::Bytes | Form::Other => None,
        }
    }
}

fn form(data_type: &DataType) -> Form {
    use DataType::*;
    match data_type {
        Boolean => Form::Boolean,
        Int8 => Form::Signed(1),
        Int16 => Form::Signed(2),
        Int32 | Date32 | Time32(_) => Form::Signed(4),
        Int64 | Date64 | Time64(_) | Timestamp(_, _) | Duration(_) => Form::Signed(8),
        Decimal128(_, _) => Form::Signed(16),
        UInt8 => Form::Unsigned(1),
        UInt16 => Form::Unsigned(2),
        UInt32 => Form::Unsigned(4),
        UInt64 => Form::Unsigned(8),
        Float32 => Form::Float(4),
        Float64 => Form::Float(8),
        Utf8 | Binary => Form::Bytes,
        _ => Form::Other,
    }
}

/// Writes a column into the last `room` bits of prefixes, and returns how many are left; none when nothing may follow.
fn fill(prefixes: &mut [u64], column: &ArrayRef, by: &OrderBy, room: u32) -> Option<u32> {
    let room = room.checked_sub(1)?;
    let form = form(column.data_type());
    let width = match form {
        Form::Bytes => 8 * (room / 8),
        Form::Other => 0,
        _ => form.width().unwrap_or(0),
    };
    let (fits, mut bits) = (width.min(room), vec![0_u128; prefixes.len()]);
    read(&mut bits, column, form, width);
    let mask = (1 << fits) - 1;
    for (row, (prefix, bits)) in prefixes.iter_mut().zip(bits).enumerate() {
        let null = column.is_null(row);
        let value = if fits == 0 || null { 0 } else { squeezed(bits, form, width, fits) };
        let value = if by.descending && !null { !value & mask } else { value };
        *prefix |= u64::from(null != by.nulls_first) << room | (value as u64) << (room - fits);
    }
    (form.width().is_some() && fits == width).then_some(room - fits)
}

/// A number of `width` bits in `fits` of them: the least and the greatest numbers stand for all beyond them, and of a float
/// or a text the first bits stand for those that begin alike.
#[inline]
fn squeezed(bits: u128, form: Form, width: u32, fits: u32) -> u128 {
    match form {
        _ if fits == width => bits,
        Form::Signed(_) => {
            let (least, most) = ((1 << (width - 1)) - (1 << (fits - 1)), (1 << fits) - 1);
            bits.saturating_sub(least).min(most)
        }
        Form::Unsigned(_) => bits.min((1 << fits) - 1),
        _ => bits >> (width - fits),
    }
}

/// The values of a column as numbers of `width` bits that are ordered as they are.
fn read(bits: &mut [u128], column: &ArrayRef, form: Form, width: u32) {
    let signed = |value: u128| value ^ (1 << (width - 1));
    let float = |value: u128| {
        let negative = value >> (width - 1) & 1 == 1;
        if negative { !value & ((1 << width) - 1) } else { signed(value) }
    };
    match form {
        Form::Signed(16) => each(bits, column, |bytes| signed(u128::from_le_bytes(bytes))),
        Form::Signed(8) => each(bits, column, |bytes| signed(u64::from_le_bytes(bytes).into())),
        Form::Signed(4) => each(bits, column, |bytes| signed(u32::from_le_bytes(bytes).into())),
        Form::Signed(2) => each(bits, column, |bytes| signed(u16::from_le_bytes(bytes).into())),
        Form::Signed(_) => each(bits, column, |bytes| signed(u8::from_le_bytes(bytes).into())),
        Form::Unsigned(8) => each(bits, column, |bytes| u64::from_le_bytes(bytes).into()),
        Form::Unsigned(4) => each(bits, column, |bytes| u32::from_le_bytes(bytes).into()),
        Form::Unsigned(2) => each(bits, column, |bytes| u16::from_le_bytes(bytes).into()),
        Form::Unsigned(_) => each(bits, column, |bytes| u8::from_le_bytes(bytes).into()),
        Form::Float(8) => each(bits, column, |bytes| float(u64::from_le_bytes(bytes).into())),
        Form::Float(_) => each(bits, column, |bytes| float(u32::from_le_bytes(bytes).into())),
        Form::Boolean => {
            bits.iter_mut().zip(column.as_boolean().values()).for_each(|(bits, value)| *bits = value.into())
        }
        Form::Bytes => {
            let bytes_of = |row: usize| match column.data_type() {
                DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
                _ => column.as_binary::<i32>().value(row),
            };
            for (row, bits) in bits.iter_mut().enumerate() {
                let start = bytes_of(row).iter().chain(std::iter::repeat(&0)).take(width as usize / 8);
                *bits = start.fold(0, |bits, byte| bits << 8 | u128::from(*byte));
            }
        }
        Form::Other => {}
    }
}

/// Reads little-endian values of `N` bytes.
fn each<const N: usize>(bits: &mut [u128], column: &ArrayRef, read: impl Fn([u8; N]) -> u128) {
    let data = column.to_data();
    let start = data.offset() * N;
    let (values, _) = data.buffers()[0].as_slice()[start..start + bits.len() * N].as_chunks::<N>();
    bits.iter_mut().zip(values).for_each(|(bits, value)| *bits = read(*value));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BooleanArray, Decimal128Array, Float64Array, Int8Array, Int64Array, StringArray, TimestampMillisecondArray,
        UInt16Array,
    };
    use arrow_schema::{Field, SortOptions};

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        let decimals = [-1, 1, i128::MAX, i128::MIN, 5, 6].map(Some);
        let decimals = Decimal128Array::from_iter(decimals.into_iter().chain([None]));
        vec![
            Arc::new(Int64Array::from(vec![Some(3), None, Some(-1), Some(3), Some(i64::MIN), Some(i64::MAX), Some(0)])),
            Arc::new(Float64Array::from(vec![
                Some(0.0),
                Some(-0.0),
                Some(f64::NAN),
                Some(f64::NEG_INFINITY),
                None,
                Some(1.5),
                Some(-1.5),
            ])),
            Arc::new(StringArray::from(vec![
                Some("b"),
                Some(""),
                None,
                Some("a\0"),
                Some("a"),
                Some("the same sixteen bytes, and more"),
                Some("the same sixteen bytes, and less"),
            ])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), None, Some(true), Some(false), None])),
            Arc::new(Int8Array::from(vec![Some(-128), Some(127), Some(0), None, Some(-1), Some(1), None])),
            Arc::new(UInt16Array::from(vec![Some(1), Some(65_535), Some(0), None, Some(255), Some(256), Some(1)])),
            Arc::new(TimestampMillisecondArray::from(vec![
                Some(7),
                Some(-7),
                None,
                Some(0),
                Some(7),
                Some(1),
                Some(2),
            ])),
            Arc::new(decimals),
        ]
    }

    /// Compares all pairs of rows as Arrow's own comparators do.
    fn check(by: &[OrderBy]) {
        let columns = columns();
        let fields = columns.iter().enumerate();
        let fields = fields.map(|(n, column)| Field::new(format!("c{n}"), column.data_type().clone(), true));
        let order = Order::new(by, &Schema::new(fields.collect::<Vec<_>>()));
        let rows = columns[0].len();
        let prefixes = order.prefixes(&columns, rows);
        let place = |row: usize| Place { prefix: prefixes[row], columns: &columns, row };
        let comparators = |by: &[OrderBy]| -> Vec<_> {
            let one = |by: &OrderBy| {
                let options = SortOptions { descending: by.descending, nulls_first: by.nulls_first };
                make_comparator(&columns[by.column], &columns[by.column], options).expect("the types have an order")
            };
            by.iter().map(one).collect()
        };
        let (keys, rest) = (comparators(by), comparators(&order.rest));
        for left in 0..rows {
            for right in 0..rows {
                let first = |list: &Vec<arrow_ord::ord::DynComparator>| {
                    list.iter().map(|compare| compare(left, right)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
                };
                let expected = first(&keys);
                assert_eq!(order.compare_keys(place(left), place(right)), expected, "{by:?}: {left}, {right}");
                let expected = expected.then(first(&rest));
                assert_eq!(order.compare(place(left), place(right)), expected, "{by:?}: {left}, {right}");
                assert!(
                    place(left).prefix <= place(right).prefix || order.compare_keys(place(left), place(right)).is_gt()
                );
            }
        }
    }

    #[test]
    fn rows_are_ordered_as_their_values_are() {
        for descending in [false, true] {
            for nulls_first in [false, true] {
                let by = |column: usize| OrderBy { column, descending, nulls_first };
                (0..8).for_each(|column| check(&[by(column)]));
                (0..8).for_each(|column| check(&[by(3), by(column)]));
                check(&[by(3), by(0), by(6)]);
                check(&[by(0), by(6), by(1)]);
                check(&[by(2), by(0)]);
                check(&[by(7), by(4), by(5)]);
                check(&[]);
            }
        }
    }
}

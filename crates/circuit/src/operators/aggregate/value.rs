//! Values of columns as ordered Rust values, for aggregates that compare them.
//!
//! Everything of at most 8 bytes is one `i64` whose order is the column's order, decimals are an `i128`, strings their
//! bytes, and whatever else (lists, rows) the comparable bytes of arrow-row. Floats order as SQL does: NaN is greatest.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, StringArray, make_array};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_data::ArrayData;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType};

use crate::keep::value::{Builder, Column, is_saved};
use crate::keep::wire::{Damage, Reader, put_block};

/// `column` in the type of a result.
pub(super) fn finish(column: ArrayRef, result: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == result { Ok(column) } else { cast(&column, result) }
}

/// Turns columns into ordered values and back.
pub(super) trait Codec: Send + Sized + 'static {
    /// A value that is not null.
    type Value: Ord + Clone + Send + 'static;

    /// The value of each row; what a null row has is not said.
    fn encode(&self, column: &ArrayRef) -> Result<Vec<Self::Value>, ArrowError>;

    /// A column of values and nulls.
    fn decode(&self, values: Vec<Option<Self::Value>>) -> Result<ArrayRef, ArrowError>;

    /// Bytes that a value holds on the heap.
    fn heap_bytes(&self, value: &Self::Value) -> usize;

    /// Appends a value in its canonical form.
    fn write(&self, value: &Self::Value, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// Reads what [`Codec::write`] wrote.
    fn read(&self, from: &mut Reader<'_>) -> Result<Self::Value, Damage>;
}

/// Values of at most 8 bytes.
#[derive(Clone)]
pub(super) struct Words(pub DataType);

impl Words {
    /// The codec of a type, when its values fit.
    pub fn of(data_type: &DataType) -> Option<Self> {
        use DataType::*;
        let fits = matches!(
            data_type,
            Boolean
                | Int8
                | Int16
                | Int32
                | Int64
                | UInt8
                | UInt16
                | UInt32
                | UInt64
                | Float32
                | Float64
                | Date32
                | Date64
                | Time32(_)
                | Time64(_)
                | Timestamp(_, _)
                | Duration(_)
        );
        fits.then(|| Words(data_type.clone()))
    }
}

/// The bits of a float in an order-preserving form; one NaN, greatest of all.
pub(super) fn ordered_f64(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() } as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The inverse of [`ordered_f64`].
pub(super) fn float_of(ordered: i64) -> f64 {
    f64::from_bits((ordered ^ (((ordered >> 63) as u64) >> 1) as i64) as u64)
}

fn natives<T: ArrowNativeType>(column: &ArrayRef, map: impl Fn(T) -> i64) -> Vec<i64> {
    let data = column.to_data();
    let values = &data.buffers()[0].typed_data::<T>()[data.offset()..data.offset() + data.len()];
    values.iter().map(|value| map(*value)).collect()
}

impl Codec for Words {
    type Value = i64;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<i64>, ArrowError> {
        use DataType::*;
        Ok(match &self.0 {
            Boolean => column.as_boolean().values().iter().map(i64::from).collect(),
            Int8 => natives(column, |value: i8| value.into()),
            UInt8 => natives(column, |value: u8| value.into()),
            Int16 => natives(column, |value: i16| value.into()),
            UInt16 => natives(column, |value: u16| value.into()),
            Int32 | Date32 | Time32(_) => natives(column, |value: i32| value.into()),
            UInt32 => natives(column, |value: u32| value.into()),
            UInt64 => natives(column, |value: u64| (value ^ (1 << 63)) as i64),
            Float32 => natives(column, |value: f32| ordered_f64(value.into())),
            Float64 => natives(column, ordered_f64),
            _ => natives(column, |value: i64| value),
        })
    }

    fn decode(&self, values: Vec<Option<i64>>) -> Result<ArrayRef, ArrowError> {
        use DataType::*;
        Ok(match &self.0 {
            Boolean => {
                Arc::new(values.into_iter().map(|value| value.map(|value| value != 0)).collect::<BooleanArray>())
            }
            Int8 | UInt8 => fixed(&self.0, values, |value| value as u8)?,
            Int16 | UInt16 => fixed(&self.0, values, |value| value as u16)?,
            Int32 | UInt32 | Date32 | Time32(_) => fixed(&self.0, values, |value| value as u32)?,
            UInt64 => fixed(&self.0, values, |value| value as u64 ^ (1 << 63))?,
            Float32 => fixed(&self.0, values, |value| float_of(value) as f32)?,
            Float64 => fixed(&self.0, values, float_of)?,
            _ => fixed(&self.0, values, |value| value)?,
        })
    }

    fn heap_bytes(&self, _value: &i64) -> usize {
        0
    }

    fn write(&self, value: &i64, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<i64, Damage> {
        from.i64()
    }
}

/// A column of a fixed-width type from its native values.
pub(super) fn fixed<V: Copy, T: ArrowNativeType>(
    data_type: &DataType,
    values: Vec<Option<V>>,
    native: impl Fn(V) -> T,
) -> Result<ArrayRef, ArrowError> {
    let rows = values.len();
    let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| values[row].is_some()));
    let natives: Vec<T> = values.into_iter().map(|value| value.map_or_else(T::default, &native)).collect();
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(Buffer::from_vec(natives))
        .nulls((nulls.null_count() > 0).then_some(nulls));
    Ok(make_array(data.build()?))
}

/// 128-bit decimals.
#[derive(Clone)]
pub(super) struct Decimals(pub DataType);

impl Codec for Decimals {
    type Value = i128;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<i128>, ArrowError> {
        Ok(column.as_primitive::<arrow_array::types::Decimal128Type>().values().to_vec())
    }

    fn decode(&self, values: Vec<Option<i128>>) -> Result<ArrayRef, ArrowError> {
        fixed(&self.0, values, |value| value)
    }

    fn heap_bytes(&self, _value: &i128) -> usize {
        0
    }

    fn write(&self, value: &i128, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<i128, Damage> {
        from.i128()
    }
}

/// Strings and bytes.
#[derive(Clone)]
pub(super) struct Texts(pub DataType);

impl Texts {
    /// The column of values, one after another.
    pub fn column<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef, ArrowError> {
        let (mut bytes, mut offsets, mut valid) = (Vec::new(), vec![0_i32], Vec::new());
        for value in values {
            valid.push(value.is_some());
            bytes.extend_from_slice(value.unwrap_or_default());
            offsets.push(i32::try_from(bytes.len()).map_err(|_| ArrowError::OffsetOverflowError(bytes.len()))?);
        }
        let nulls = NullBuffer::from(valid);
        let (offsets, nulls) = (OffsetBuffer::new(offsets.into()), (nulls.null_count() > 0).then_some(nulls));
        Ok(match self.0 {
            DataType::Utf8 => Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?),
            _ => Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?),
        })
    }
}

impl Codec for Texts {
    type Value = Box<[u8]>;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<Box<[u8]>>, ArrowError> {
        Ok(match self.0 {
            DataType::Utf8 => {
                let column = column.as_string::<i32>();
                (0..column.len()).map(|row| column.value(row).as_bytes().into()).collect()
            }
            _ => {
                let column = column.as_binary::<i32>();
                (0..column.len()).map(|row| column.value(row).into()).collect()
            }
        })
    }

    fn decode(&self, values: Vec<Option<Box<[u8]>>>) -> Result<ArrayRef, ArrowError> {
        self.column(values.iter().map(Option::as_deref))
    }

    fn heap_bytes(&self, value: &Box<[u8]>) -> usize {
        value.len()
    }

    fn write(&self, value: &Box<[u8]>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        put_block(out, value);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Box<[u8]>, Damage> {
        let value = from.block()?;
        if self.0 == DataType::Utf8 && std::str::from_utf8(value).is_err() {
            return Err(Damage::of("a text is no UTF-8"));
        }
        Ok(value.into())
    }
}

/// Values of any types, nulls among them, as comparable bytes.
pub(super) struct AnyRow {
    converter: RowConverter,
    types: Vec<DataType>,
}

impl AnyRow {
    /// The codec of rows of these types, when there is one.
    pub fn of(types: Vec<DataType>) -> Option<Self> {
        let fields: Vec<SortField> = types.iter().cloned().map(SortField::new).collect();
        if !RowConverter::supports_fields(&fields) || !types.iter().all(is_saved) {
            return None;
        }
        RowConverter::new(fields).ok().map(|converter| AnyRow { converter, types })
    }

    /// The bytes of each row of `columns`.
    pub fn encode_rows(&self, columns: &[ArrayRef]) -> Result<Vec<Box<[u8]>>, ArrowError> {
        Ok(self.converter.convert_columns(columns)?.iter().map(|row| row.as_ref().into()).collect())
    }

    /// Hands a function that appends the values of a row to `each`, for one row after another.
    pub fn write_rows<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
        mut each: impl FnMut(usize, &dyn Fn(&mut Vec<u8>)),
    ) -> Result<(), ArrowError> {
        let columns = self.decode_rows(rows)?;
        let count = columns.first().map_or(0, |column| column.len());
        let columns = columns.iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        for row in 0..count {
            each(row, &|out| columns.iter().for_each(|column| column.write(row, out)));
        }
        Ok(())
    }

    /// Reads the values of a row.
    pub fn read_row(&self, from: &mut Reader<'_>) -> Result<Box<[u8]>, Damage> {
        let column = |data_type: &DataType| -> Result<ArrayRef, Damage> {
            let mut builder = Builder::new(data_type)?;
            builder.read(from)?;
            builder.finish()
        };
        let columns = self.types.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let mut rows = self.encode_rows(&columns)?;
        rows.pop().ok_or_else(|| Damage::of("a row of no columns"))
    }

    /// The columns of rows.
    pub fn decode_rows<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        let rows: Vec<_> = rows.map(|row| parser.parse(row)).collect();
        self.converter.convert_rows(rows)
    }
}

impl Codec for AnyRow {
    type Value = Box<[u8]>;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<Box<[u8]>>, ArrowError> {
        self.encode_rows(std::slice::from_ref(column))
    }

    fn decode(&self, values: Vec<Option<Box<[u8]>>>) -> Result<ArrayRef, ArrowError> {
        let null = self.encode_rows(&[arrow_array::new_null_array(&self.types[0], 1)])?;
        let columns = self.decode_rows(values.iter().map(|value| value.as_deref().unwrap_or(&null[0])))?;
        Ok(columns[0].clone())
    }

    fn heap_bytes(&self, value: &Box<[u8]>) -> usize {
        value.len()
    }

    fn write(&self, value: &Box<[u8]>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.write_rows(std::iter::once(value.as_ref()), |_, write| write(out))
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Box<[u8]>, Damage> {
        self.read_row(from)
    }
}

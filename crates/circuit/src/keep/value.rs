//! Values of any type as bytes, exactly as they are: what views and collected values are saved as.
//!
//! A value is one byte (0 for null) and, when it is not null: a fixed-width value little-endian, a string with its
//! length, a list with its count and its elements, a row with its fields. Unlike a key it keeps every bit, -0 and the
//! payload of a NaN too.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, FieldRef};

use super::wire::{Damage, Reader, put_block};

/// A column whose values are written one by one.
pub(crate) struct Column {
    nulls: Option<NullBuffer>,
    body: Body,
}

enum Body {
    Null,
    Fixed { width: usize, bytes: Buffer },
    Boolean(BooleanBuffer),
    Variable { offsets: OffsetBuffer<i32>, bytes: Buffer },
    List { offsets: OffsetBuffer<i32>, items: Box<Column> },
    Row(Vec<Column>),
}

impl Column {
    /// Reads `column`.
    ///
    /// # Errors
    /// When there is no form for its type.
    pub fn new(column: &ArrayRef) -> Result<Self, ArrowError> {
        let body = match column.data_type() {
            DataType::Null => Body::Null,
            DataType::Boolean => Body::Boolean(column.as_boolean().values().clone()),
            DataType::Utf8 => {
                let text = column.as_string::<i32>();
                Body::Variable { offsets: text.offsets().clone(), bytes: text.values().clone() }
            }
            DataType::Binary => {
                let binary = column.as_binary::<i32>();
                Body::Variable { offsets: binary.offsets().clone(), bytes: binary.values().clone() }
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let items = Box::new(Column::new(list.values())?);
                Body::List { offsets: list.offsets().clone(), items }
            }
            DataType::Map(_, _) => {
                let map = column.as_map();
                let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
                Body::List { offsets: map.offsets().clone(), items: Box::new(Column::new(&entries)?) }
            }
            DataType::Struct(_) => {
                Body::Row(column.as_struct().columns().iter().map(Column::new).collect::<Result<_, _>>()?)
            }
            other => {
                let width = other.primitive_width().ok_or_else(|| unsaved(other))?;
                let data = column.to_data();
                let bytes = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                Body::Fixed { width, bytes }
            }
        };
        Ok(Column { nulls: column.nulls().cloned(), body })
    }

    /// Appends the value of `row`.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.push(0);
        }
        out.push(u8::from(!matches!(self.body, Body::Null)));
        match &self.body {
            Body::Null => {}
            Body::Fixed { width, bytes } => out.extend_from_slice(&bytes.as_slice()[row * width..(row + 1) * width]),
            Body::Boolean(values) => out.push(u8::from(values.value(row))),
            Body::Variable { offsets, bytes } => put_block(out, &bytes.as_slice()[span(offsets, row)]),
            Body::List { offsets, items } => {
                let items_of_row = span(offsets, row);
                out.extend_from_slice(&(items_of_row.len() as u32).to_le_bytes());
                items_of_row.for_each(|item| items.write(item, out));
            }
            Body::Row(fields) => fields.iter().for_each(|field| field.write(row, out)),
        }
    }

    /// Whether the value of `row` is, bit by bit, that of `other_row` in a column of the same type.
    pub fn is_same(&self, row: usize, other: &Column, other_row: usize) -> bool {
        match (self.is_null(row), other.is_null(other_row)) {
            (false, false) => {}
            (one, two) => return one == two,
        }
        match (&self.body, &other.body) {
            (Body::Null, Body::Null) => true,
            (Body::Fixed { width, bytes }, Body::Fixed { bytes: others, .. }) => {
                bytes[row * width..(row + 1) * width] == others[other_row * width..(other_row + 1) * width]
            }
            (Body::Boolean(values), Body::Boolean(others)) => values.value(row) == others.value(other_row),
            (Body::Variable { offsets, bytes }, Body::Variable { offsets: other_offsets, bytes: others }) => {
                bytes[span(offsets, row)] == others[span(other_offsets, other_row)]
            }
            (Body::List { offsets, items }, Body::List { offsets: other_offsets, items: others }) => {
                let (mine, theirs) = (span(offsets, row), span(other_offsets, other_row));
                mine.len() == theirs.len() && mine.zip(theirs).all(|(item, other)| items.is_same(item, others, other))
            }
            (Body::Row(fields), Body::Row(others)) => {
                fields.iter().zip(others).all(|(field, other)| field.is_same(row, other, other_row))
            }
            _ => false,
        }
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

/// Where the bytes or items of a row are.
fn span(offsets: &OffsetBuffer<i32>, row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn unsaved(data_type: &DataType) -> ArrowError {
    ArrowError::NotYetImplemented(format!("values of type {data_type} cannot be saved"))
}

/// Whether values of this type can be saved.
pub(crate) fn is_saved(data_type: &DataType) -> bool {
    Builder::new(data_type).is_ok()
}

/// Collects values of one type into a column.
pub(crate) struct Builder {
    data_type: DataType,
    valid: Vec<bool>,
    parts: Parts,
}

enum Parts {
    Null,
    Fixed { width: usize, bytes: Vec<u8> },
    Boolean(Vec<bool>),
    Variable { offsets: Vec<i32>, bytes: Vec<u8> },
    List { offsets: Vec<i32>, count: usize, items: Box<Builder> },
    Row(Vec<Builder>),
}

impl Builder {
    /// No values of a type.
    ///
    /// # Errors
    /// When there is no form for it.
    pub fn new(data_type: &DataType) -> Result<Self, ArrowError> {
        let list = |item: &FieldRef| -> Result<Parts, ArrowError> {
            let items = Box::new(Builder::new(item.data_type())?);
            Ok(Parts::List { offsets: vec![0], count: 0, items })
        };
        let parts = match data_type {
            DataType::Null => Parts::Null,
            DataType::Boolean => Parts::Boolean(Vec::new()),
            DataType::Utf8 | DataType::Binary => Parts::Variable { offsets: vec![0], bytes: Vec::new() },
            DataType::List(item) => list(item)?,
            DataType::Map(entry, _) => list(entry)?,
            DataType::Struct(fields) => {
                Parts::Row(fields.iter().map(|field| Builder::new(field.data_type())).collect::<Result<_, _>>()?)
            }
            other => Parts::Fixed { width: other.primitive_width().ok_or_else(|| unsaved(other))?, bytes: Vec::new() },
        };
        Ok(Builder { data_type: data_type.clone(), valid: Vec::new(), parts })
    }

    /// Reads the next value.
    pub fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Damage> {
        match from.u8()? {
            0 => self.null(),
            1 => self.value(from)?,
            other => return Err(Damage(format!("{other} stands where a value begins"))),
        }
        Ok(())
    }

    /// Adds a null.
    pub fn null(&mut self) {
        self.valid.push(false);
        match &mut self.parts {
            Parts::Null => {}
            Parts::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Parts::Boolean(values) => values.push(false),
            Parts::Variable { offsets, bytes } => offsets.push(bytes.len() as i32),
            Parts::List { offsets, count, .. } => offsets.push(*count as i32),
            Parts::Row(fields) => fields.iter_mut().for_each(Builder::null),
        }
    }

    fn value(&mut self, from: &mut Reader<'_>) -> Result<(), Damage> {
        let end = |length: usize| i32::try_from(length).map_err(|_| Damage::of("a column of more than 2 GiB"));
        match &mut self.parts {
            Parts::Null => return Err(Damage::of("a value in a column of nulls")),
            Parts::Fixed { width, bytes } => bytes.extend_from_slice(from.take(*width)?),
            Parts::Boolean(values) => values.push(from.u8()? != 0),
            Parts::Variable { offsets, bytes } => {
                bytes.extend_from_slice(from.block()?);
                offsets.push(end(bytes.len())?);
            }
            Parts::List { offsets, count, items } => {
                let more = from.count(1)?;
                (0..more).try_for_each(|_| items.read(from))?;
                *count += more;
                offsets.push(end(*count)?);
            }
            Parts::Row(fields) => fields.iter_mut().try_for_each(|field| field.read(from))?,
        }
        self.valid.push(true);
        Ok(())
    }

    /// The column of all that was read.
    ///
    /// # Errors
    /// What Arrow does not like about it: text that is no UTF-8, a null where none may be.
    pub fn finish(self) -> Result<ArrayRef, Damage> {
        Ok(make_array(self.data()?))
    }

    fn data(self) -> Result<ArrayData, ArrowError> {
        let rows = self.valid.len();
        let all_null = matches!(self.parts, Parts::Null);
        let nulls = NullBuffer::new(BooleanBuffer::from(self.valid));
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0 && !all_null);
        let data = ArrayData::builder(self.data_type).len(rows).nulls(nulls);
        let data = match self.parts {
            Parts::Null => data,
            // Copied into memory that is aligned for every type.
            Parts::Fixed { bytes, .. } => data.add_buffer(Buffer::from_slice_ref(&bytes)),
            Parts::Boolean(values) => data.add_buffer(BooleanBuffer::from(values).into_inner()),
            Parts::Variable { offsets, bytes } => {
                data.add_buffer(Buffer::from_vec(offsets)).add_buffer(Buffer::from_vec(bytes))
            }
            Parts::List { offsets, items, .. } => {
                data.add_buffer(Buffer::from_vec(offsets)).add_child_data(items.data()?)
            }
            Parts::Row(fields) => fields
                .into_iter()
                .try_fold(data, |data, field| Ok::<_, ArrowError>(data.add_child_data(field.data()?)))?,
        };
        data.build()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
    use arrow_array::{BinaryArray, BooleanArray, Decimal128Array, Float64Array, StringArray, StructArray};
    use arrow_schema::Field;

    use super::*;

    fn round_trip(column: ArrayRef) {
        let written = Column::new(&column).expect("the type can be saved");
        let mut bytes = Vec::new();
        (0..column.len()).for_each(|row| written.write(row, &mut bytes));
        let mut builder = Builder::new(column.data_type()).expect("the type can be saved");
        let mut reader = Reader::new(&bytes);
        (0..column.len()).for_each(|_| builder.read(&mut reader).expect("the bytes are whole"));
        reader.end().expect("all was read");
        let read = builder.finish().expect("the column is sound");
        assert_eq!(&read, &column);
        let again = Column::new(&read).expect("the type can be saved");
        for (row, other) in (0..column.len()).flat_map(|row| (0..column.len()).map(move |other| (row, other))) {
            assert_eq!(written.is_same(row, &again, other), row == other, "rows {row} and {other}");
        }
        for cut in 0..bytes.len() {
            let mut builder = Builder::new(column.data_type()).expect("the type can be saved");
            let mut reader = Reader::new(&bytes[..cut]);
            assert!((0..column.len()).any(|_| builder.read(&mut reader).is_err()), "cut at {cut}");
        }
    }

    #[test]
    fn values_of_every_kind_come_back() {
        round_trip(Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::INFINITY)])));
        round_trip(Arc::new(StringArray::from(vec![Some(""), None, Some("Ärger")])));
        round_trip(Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\0\xff"), None])));
        round_trip(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
        round_trip(Arc::new(Decimal128Array::from(vec![Some(-1), None, Some(i128::MAX)])));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("left out"), Some("b"), None]));
        round_trip(texts.slice(1, 2));
    }

    #[test]
    fn nested_values_come_back() {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(1), None, Some(3)]);
        lists.append_null();
        lists.append_value([]);
        let lists: ArrayRef = Arc::new(lists.finish());
        round_trip(lists.clone());
        round_trip(lists.slice(1, 2));
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        maps.keys().append_value("a");
        maps.values().append_null();
        maps.append(true).expect("keys and values are as many");
        maps.append(false).expect("nothing was appended");
        round_trip(Arc::new(maps.finish()));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("z")]));
        round_trip(Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("lists", lists.data_type().clone(), true)), lists),
            (Arc::new(Field::new("names", DataType::Utf8, true)), names),
        ])));
    }
}

//! The arguments of one evaluation, and the ways to read and build columns without an allocation a row.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BinaryArray, PrimitiveArray, StringArray};
use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::ColumnarValue;

use super::step::Session;

/// One evaluation of a function over a batch of `rows` rows.
pub(super) struct Call<'a> {
    pub(super) args: &'a [ColumnarValue],
    pub(super) rows: usize,
    pub(super) result: &'a DataType,
    pub(super) session: &'a Session,
}

/// A text argument: one value for all rows, or a column.
#[derive(Clone, Copy)]
pub(super) enum Text<'a> {
    One(Option<&'a str>),
    Many(&'a StringArray),
}

impl<'a> Text<'a> {
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Text::One(value) => *value,
            Text::Many(array) if array.is_null(row) => None,
            Text::Many(array) => Some(array.value(row)),
        }
    }
}

/// A bytes argument.
pub(super) enum Bytes<'a> {
    One(Option<&'a [u8]>),
    Many(&'a BinaryArray),
}

impl<'a> Bytes<'a> {
    pub(super) fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Bytes::One(value) => *value,
            Bytes::Many(array) if array.is_null(row) => None,
            Bytes::Many(array) => Some(array.value(row)),
        }
    }
}

/// A numeric or temporal argument.
pub(super) enum Numbers<'a, T: ArrowPrimitiveType> {
    One(Option<T::Native>),
    Many(&'a PrimitiveArray<T>),
}

impl<T: ArrowPrimitiveType> Numbers<'_, T> {
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        match self {
            Numbers::One(value) => *value,
            Numbers::Many(array) if array.is_null(row) => None,
            Numbers::Many(array) => Some(array.value(row)),
        }
    }
}

impl<'a> Call<'a> {
    /// How many arguments were given.
    pub(super) fn count(&self) -> usize {
        self.args.len()
    }

    /// The type of an argument.
    pub(super) fn data_type(&self, index: usize) -> DataType {
        self.args[index].data_type()
    }

    /// An argument as a column of `rows` rows.
    pub(super) fn array(&self, index: usize) -> Result<ArrayRef> {
        self.args[index].to_array(self.rows)
    }

    /// The one value of an argument that is the same for all rows.
    pub(super) fn scalar(&self, index: usize) -> Option<&'a ScalarValue> {
        match &self.args[index] {
            ColumnarValue::Scalar(value) => Some(value),
            ColumnarValue::Array(_) => None,
        }
    }

    pub(super) fn text(&self, index: usize) -> Result<Text<'a>> {
        match &self.args[index] {
            ColumnarValue::Array(array) => match array.as_string_opt::<i32>() {
                Some(array) => Ok(Text::Many(array)),
                None => internal_err!("argument {index} is {} instead of text", array.data_type()),
            },
            ColumnarValue::Scalar(ScalarValue::Utf8(value)) => Ok(Text::One(value.as_deref())),
            ColumnarValue::Scalar(other) => internal_err!("argument {index} is {other} instead of text"),
        }
    }

    pub(super) fn bytes(&self, index: usize) -> Result<Bytes<'a>> {
        match &self.args[index] {
            ColumnarValue::Array(array) => match array.as_binary_opt::<i32>() {
                Some(array) => Ok(Bytes::Many(array)),
                None => internal_err!("argument {index} is {} instead of bytes", array.data_type()),
            },
            ColumnarValue::Scalar(ScalarValue::Binary(value)) => Ok(Bytes::One(value.as_deref())),
            ColumnarValue::Scalar(other) => internal_err!("argument {index} is {other} instead of bytes"),
        }
    }

    pub(super) fn numbers<T: ArrowPrimitiveType>(&self, index: usize) -> Result<Numbers<'a, T>> {
        match &self.args[index] {
            ColumnarValue::Array(array) => match array.as_primitive_opt::<T>() {
                Some(array) => Ok(Numbers::Many(array)),
                None => internal_err!("argument {index} is {} instead of {}", array.data_type(), T::DATA_TYPE),
            },
            ColumnarValue::Scalar(value) => {
                let array = value.to_array()?;
                match array.as_primitive_opt::<T>() {
                    Some(array) => Ok(Numbers::One((!array.is_null(0)).then(|| array.value(0)))),
                    None => internal_err!("argument {index} is {value} instead of {}", T::DATA_TYPE),
                }
            }
        }
    }

    /// Builds a text column from slices that live elsewhere.
    pub(super) fn borrow_text<'s>(&self, mut value: impl FnMut(usize) -> Option<&'s str>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 8);
        for row in 0..self.rows {
            builder.append_option(value(row));
        }
        Ok(Arc::new(builder.finish()))
    }

    /// Builds a text column; `write` appends a row's text to the empty buffer and says whether it is not NULL.
    pub(super) fn write_text(
        &self,
        mut write: impl FnMut(usize, &mut String) -> Result<Option<()>>,
    ) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 8);
        let mut buffer = String::new();
        for row in 0..self.rows {
            buffer.clear();
            match write(row, &mut buffer)? {
                Some(()) => builder.append_value(&buffer),
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    pub(super) fn build_flags(&self, mut value: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
        let mut builder = BooleanBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            builder.append_option(value(row)?);
        }
        Ok(Arc::new(builder.finish()))
    }

    /// Builds a column of the result's type.
    pub(super) fn build_numbers<T: ArrowPrimitiveType>(
        &self,
        mut value: impl FnMut(usize) -> Result<Option<T::Native>>,
    ) -> Result<ArrayRef> {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(self.rows).with_data_type(self.result.clone());
        for row in 0..self.rows {
            builder.append_option(value(row)?);
        }
        Ok(Arc::new(builder.finish()))
    }
}

//! [`Row`]: which field of a message goes to which column.
//!
//! Fields are numbered by the columns that are declared; what is read is only what is needed, which may leave out columns,
//! and fields of a ROW wherever it stands.

use arrow_schema::{DataType, Field, Fields};

use super::FORMAT;
use crate::error::Error;

/// The index of a column that is not needed.
const SKIPPED: u32 = u32::MAX;

/// The message of a row.
#[derive(Debug)]
pub(super) struct Row {
    /// The column of field `i + 1`, or [`SKIPPED`].
    numbers: Vec<u32>,
    /// What each column is.
    pub(super) shapes: Vec<Shape>,
}

/// What a column is.
#[derive(Debug)]
pub(super) enum Shape {
    /// A single value.
    Scalar,
    /// A row.
    Row(Row),
    /// Several of something: an ARRAY, or the values of a MAP.
    Several(Box<Shape>),
}

impl Row {
    /// The columns `needed` of those that are `declared`.
    pub(super) fn of(declared: &Fields, needed: &Fields) -> Result<Row, Error> {
        let mut row = Row { numbers: vec![SKIPPED; declared.len()], shapes: Vec::new() };
        for (field, index) in needed.iter().zip(0..) {
            let Some((place, whole)) = declared.find(field.name()) else {
                let found = declared.iter().map(|field| field.name().clone()).collect();
                return Err(Error::MissingColumn { format: FORMAT, column: field.name().clone(), found });
            };
            row.numbers[place] = index;
            row.shapes.push(Shape::of(whole, field)?);
        }
        Ok(row)
    }

    /// The index of the column of a field's number; one beyond all columns when none needs it.
    #[inline(always)]
    pub(super) fn column(&self, number: u32) -> usize {
        self.numbers.get((number as usize).wrapping_sub(1)).copied().unwrap_or(SKIPPED) as usize
    }
}

impl Shape {
    fn of(declared: &Field, needed: &Field) -> Result<Shape, Error> {
        Ok(match (declared.data_type(), needed.data_type()) {
            (DataType::Struct(declared), DataType::Struct(needed)) => Shape::Row(Row::of(declared, needed)?),
            (DataType::List(declared), DataType::List(needed)) => Shape::several(declared, needed)?,
            (DataType::Map(declared, _), DataType::Map(needed, _)) => {
                match (declared.data_type(), needed.data_type()) {
                    (DataType::Struct(declared), DataType::Struct(needed))
                        if declared.len() == 2 && needed.len() == 2 =>
                    {
                        Shape::several(&declared[1], &needed[1])?
                    }
                    _ => Shape::Scalar,
                }
            }
            _ => Shape::Scalar,
        })
    }

    fn several(declared: &Field, needed: &Field) -> Result<Shape, Error> {
        Ok(Shape::Several(Box::new(Shape::of(declared, needed)?)))
    }

    /// What an element of it is.
    #[inline(always)]
    pub(super) fn inner(&self) -> &Shape {
        match self {
            Shape::Several(inner) => inner,
            other => other,
        }
    }
}

//! The condition of a lookup, taken apart: what rows are found by, and the rest.

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::{BinaryExpr, Cast};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, try_cast};
use tidemill_base::Position;

use super::Lookup;
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{columns_of, print, unaliased};
use crate::types::{name_of, quoted};

/// What columns of the table equal, and what else has to be true.
pub(super) struct Split {
    /// The columns: the whole key in its order, or all others of which something is said.
    pub(super) by: Vec<usize>,
    /// What each of them equals, with its type.
    pub(super) keys: Vec<Expr>,
    pub(super) rest: Vec<Expr>,
}

/// Takes a condition apart. By the whole key one row is found; where not all of it is named every row is, by whatever
/// columns are.
pub(super) fn split(on: Expr, lookup: &Lookup) -> Result<Split> {
    let table = &lookup.table.0;
    let sides = Sides {
        schema: &lookup.schema,
        width: lookup.input.schema().fields().len(),
        columns: &lookup.columns,
        position: lookup.position,
    };
    let mut parts = Vec::new();
    for part in split_conjunction_owned(on) {
        let equation = equation(&part, &sides)?;
        if let Some(equation @ Equation { equals: Equals::Unlike { .. }, .. }) = &equation
            && table.key().contains(&equation.column)
        {
            return Err(sides.unfit(equation));
        }
        parts.push((part, equation));
    }
    let named = |column: &usize| parts.iter().any(|(_, equation)| equation.as_ref().is_some_and(|e| e.finds(*column)));
    let by: Vec<usize> = match table.key().iter().all(named) {
        true => table.key().to_vec(),
        false => (0..table.schema().fields().len()).filter(named).collect(),
    };
    if by.is_empty() {
        return Err(nothing_equal(&format!("the table {}", quoted(table.name())), lookup.position));
    }
    let (mut keys, mut rest) = (vec![None; by.len()], Vec::new());
    for (part, equation) in parts {
        let key = equation.as_ref().and_then(|equation| by.iter().position(|column| *column == equation.column));
        match (equation.map(|equation| equation.equals), key) {
            (Some(Equals::To { expr, exact }), Some(key)) if keys[key].is_none() => {
                keys[key] = Some(expr);
                if !exact {
                    rest.push(part);
                }
            }
            _ => rest.push(part),
        }
    }
    Ok(Split { by, keys: keys.into_iter().flatten().collect(), rest })
}

/// The error that nothing finds a row.
pub(crate) fn nothing_equal(of: &str, position: Option<Position>) -> DataFusionError {
    outside(Error::Plan {
        problem: format!("rows are looked up by columns of {of}, and nothing of the left side is said to equal one"),
        position,
        help: Some("write ON b.k = .., with a value of the left side alone".to_string()),
    })
}

/// The two sides of a lookup's condition.
pub(super) struct Sides<'s> {
    /// The columns of both.
    pub(super) schema: &'s DFSchema,
    /// How many of them are of the left side.
    pub(super) width: usize,
    /// The others: which column of what is looked up in each is, and what the query calls it.
    pub(super) columns: &'s [(usize, String)],
    pub(super) position: Option<Position>,
}

/// `column = expression of the left side`.
pub(super) struct Equation {
    /// The column of what is looked up in.
    pub(super) column: usize,
    /// What it equals.
    pub(super) equals: Equals,
}

impl Equation {
    /// Whether rows are found by it in a column.
    fn finds(&self, column: usize) -> bool {
        self.column == column && matches!(self.equals, Equals::To { .. })
    }
}

/// What a column equals.
pub(super) enum Equals {
    /// This, with the column's type.
    To {
        expr: Expr,
        /// Whether the lookup alone makes the equation true.
        exact: bool,
    },
    /// This, which has another type that cannot be made the column's.
    Unlike { name: String, wanted: DataType, expr: Expr },
}

impl Sides<'_> {
    /// The error that a key equals something of another type.
    fn unfit(&self, equation: &Equation) -> DataFusionError {
        let Equals::Unlike { name, wanted, expr } = &equation.equals else {
            return DataFusionError::Internal("an equation that fits".to_string());
        };
        outside(Error::Plan {
            problem: format!(
                "the key {} is {}, and {} cannot be looked up in it as it is",
                quoted(name),
                name_of(wanted),
                print(expr)
            ),
            position: self.position,
            help: Some(format!("CAST({} AS {})", print(expr), name_of(wanted))),
        })
    }
}

/// Reads a part of the condition as an equation of the two sides, when it is one.
pub(super) fn equation(part: &Expr, sides: &Sides<'_>) -> Result<Option<Equation>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = unaliased(part) else { return Ok(None) };
    for (ours, theirs) in [(left, right), (right, left)] {
        if columns_of(ours, sides.schema)?.into_iter().any(|column| column >= sides.width) {
            continue;
        }
        let (column, cast) = match unaliased(theirs) {
            Expr::Column(column) => (column, None),
            Expr::Cast(Cast { expr, field }) => match unaliased(expr) {
                Expr::Column(column) => (column, Some(field.data_type())),
                _ => continue,
            },
            _ => continue,
        };
        let index = sides.schema.index_of_column(column)?;
        let Some((of, _)) = index.checked_sub(sides.width).and_then(|found| sides.columns.get(found)) else { continue };
        let wanted = sides.schema.field(index).data_type();
        let equals = match cast {
            None if ours.get_type(sides.schema)? == *wanted => Equals::To { expr: ours.as_ref().clone(), exact: true },
            Some(compared) if widens(wanted, compared) => {
                Equals::To { expr: try_cast(ours.as_ref().clone(), wanted.clone()), exact: false }
            }
            _ => Equals::Unlike { name: column.name.clone(), wanted: wanted.clone(), expr: ours.as_ref().clone() },
        };
        return Ok(Some(Equation { column: *of, equals }));
    }
    Ok(None)
}

/// Whether every value of `key` is one of `wide`, and no other value of `key` becomes the same.
///
/// Then a value of `wide` that equals a key is that key when it is cast back, and one that was changed by the cast is
/// told by comparing again.
fn widens(key: &DataType, wide: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp};
    let digits = |integer: &DataType| match integer {
        Int8 => Some(3),
        Int16 => Some(5),
        Int32 => Some(10),
        Int64 => Some(19),
        _ => None,
    };
    match (key, wide) {
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
        | (Int16, Int32 | Int64 | Float32 | Float64)
        | (Int32, Int64 | Float64)
        | (Float32, Float64)
        | (Date32, Timestamp(_, None)) => true,
        (Decimal128(all, scale), Decimal128(wide_all, wide_scale)) => {
            wide_scale >= scale && i16::from(*wide_all) - i16::from(*wide_scale) >= i16::from(*all) - i16::from(*scale)
        }
        (integer, Decimal128(all, scale)) => {
            digits(integer).is_some_and(|digits| i16::from(*all) - i16::from(*scale) >= digits)
        }
        (Timestamp(unit, zone), Timestamp(wide_unit, wide_zone)) => {
            zone == wide_zone && fineness(*wide_unit) >= fineness(*unit)
        }
        _ => false,
    }
}

fn fineness(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

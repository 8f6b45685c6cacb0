//! The condition of a lookup, taken apart: what the whole key equals, and the rest.

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Cast};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, try_cast};

use super::Lookup;
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{columns_of, print, unaliased};
use crate::types::{name_of, quoted};

/// What each column of the key equals, in the key's order, and what else has to be true.
pub(super) fn split(on: Expr, lookup: &Lookup) -> Result<(Vec<Expr>, Vec<Expr>)> {
    let table = &lookup.table.0;
    let mut keys: Vec<Option<Expr>> = vec![None; table.key().len()];
    let mut rest = Vec::new();
    for part in split_conjunction_owned(on) {
        match equation(&part, lookup)? {
            Some(Equation { key, equals, exact }) if keys[key].is_none() => {
                keys[key] = Some(equals);
                if !exact {
                    rest.push(part);
                }
            }
            _ => rest.push(part),
        }
    }
    let missing: Vec<_> = table.key().iter().zip(&keys).filter(|(_, equals)| equals.is_none()).collect();
    if missing.is_empty() {
        return Ok((keys.into_iter().flatten().collect(), rest));
    }
    let name = |column: usize| {
        let called = lookup.columns.iter().find(|(of, _)| *of == column).map(|(_, name)| quoted(name));
        let called = called.unwrap_or_default();
        match &lookup.alias {
            Some(alias) => format!("{}.{called}", quoted(alias.table())),
            None => called,
        }
    };
    let missing: Vec<_> = missing.into_iter().map(|(column, _)| name(*column)).collect();
    let whole: Vec<_> = table.key().iter().map(|column| format!("{} = ..", name(*column))).collect();
    Err(outside(Error::Plan {
        problem: format!(
            "a row of {} is looked up by its whole key, and nothing of the left side is said to equal {}",
            quoted(table.name()),
            missing.join(", ")
        ),
        position: lookup.position,
        help: Some(format!("write ON {}, with values of the left side alone", whole.join(" AND "))),
    }))
}

/// `key = expression of the left side`.
struct Equation {
    /// The place in the key.
    key: usize,
    /// The expression, with the key's type.
    equals: Expr,
    /// Whether the lookup alone makes the equation true.
    exact: bool,
}

fn equation(part: &Expr, lookup: &Lookup) -> Result<Option<Equation>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = unaliased(part) else { return Ok(None) };
    let width = lookup.input.schema().fields().len();
    for (ours, theirs) in [(left, right), (right, left)] {
        let is_left = columns_of(ours, &lookup.schema)?.into_iter().all(|column| column < width);
        if !is_left {
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
        let Some(found) = lookup.schema.index_of_column(column)?.checked_sub(width) else { continue };
        let Some((of, _)) = lookup.columns.get(found) else { continue };
        let Some(key) = lookup.table.0.key().iter().position(|key| key == of) else { continue };
        let wanted = lookup.table.0.schema().field(*of).data_type();
        return match cast {
            None if ours.get_type(&lookup.schema)? == *wanted => {
                Ok(Some(Equation { key, equals: ours.as_ref().clone(), exact: true }))
            }
            Some(compared) if widens(wanted, compared) => {
                Ok(Some(Equation { key, equals: try_cast(ours.as_ref().clone(), wanted.clone()), exact: false }))
            }
            _ => Err(outside(Error::Plan {
                problem: format!(
                    "the key {} is {}, and {} cannot be looked up in it as it is",
                    quoted(&column.name),
                    name_of(wanted),
                    print(ours)
                ),
                position: lookup.position,
                help: Some(format!("CAST({} AS {})", print(ours), name_of(wanted))),
            })),
        };
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

//! INSERT: the query's columns onto the table's, with the casts that Flink makes by itself.

use std::sync::Arc;

use arrow_schema::{DataType, Field, SchemaRef};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use tidemill_base::{Position, suggest};

use super::length::{self, Declared};
use crate::catalog::outside;
use crate::error::Error;
use crate::functions::{Registry, cast_expr};
use crate::statement::{Insert, Name};
use crate::types::{TypeKind, name_of, quoted};

/// The table that takes the rows.
pub(super) struct Target<'t> {
    /// Its name.
    pub(super) table: &'t str,
    /// The columns that it takes.
    pub(super) writable: &'t SchemaRef,
    /// For each of them its type, when that has a length.
    pub(super) lengths: &'t [Option<TypeKind>],
}

/// The query with the columns of the table, in its order and types; those that are not filled are NULL.
pub(super) fn fit(
    query: LogicalPlan,
    target: &Target<'_>,
    insert: &Insert,
    functions: &Registry,
    declared: Declared<'_>,
) -> Result<LogicalPlan> {
    let Target { table, writable, lengths } = *target;
    let position = insert.query.position;
    let targets = targets(table, writable, &insert.columns)?;
    let given = query.schema().fields().len();
    if given != targets.len() {
        let names: Vec<_> = targets.iter().map(|index| quoted(writable.field(*index).name())).collect();
        return Err(outside(Error::Plan {
            problem: format!("the query gives {}, and {table} takes {}", columns_of(given), columns_of(targets.len())),
            position: Some(position),
            help: Some(format!("select for: {}", names.join(", "))),
        }));
    }
    let sources: Vec<(Column, DataType)> = query
        .schema()
        .iter()
        .map(|(qualifier, field)| (Column::new(qualifier.cloned(), field.name()), field.data_type().clone()))
        .collect();
    let mut exprs = Vec::with_capacity(writable.fields().len());
    for (index, field) in writable.fields().iter().enumerate() {
        let expr = match targets.iter().position(|target| *target == index) {
            Some(place) => {
                let (column, from) = &sources[place];
                let expr = Expr::Column(column.clone());
                if same(from, field.data_type()) {
                    match &lengths[index] {
                        Some(kind) if !length::fits(&query, place, kind, declared) => {
                            cast_expr(functions, expr, &kind.to_string(), false)?
                        }
                        _ => expr,
                    }
                } else if implicit(from, field.data_type()) {
                    cast_expr(functions, expr, &name_of(field.data_type()), false)?
                } else {
                    return Err(outside(unfit(from, field, table, place, position)));
                }
            }
            None if field.is_nullable() => Expr::Literal(ScalarValue::try_from(field.data_type())?, None),
            None => return Err(outside(unfilled(field, table, position))),
        };
        exprs.push(expr.alias(field.name()));
    }
    LogicalPlanBuilder::from(query).project(exprs)?.build()
}

fn columns_of(count: usize) -> String {
    if count == 1 { "1 column".to_string() } else { format!("{count} columns") }
}

fn unfilled(field: &Arc<Field>, table: &str, position: Position) -> Error {
    Error::Plan {
        problem: format!("the column {} of {table} is NOT NULL and gets no value", field.name()),
        position: Some(position),
        help: Some(format!("add {} to the columns of INSERT", quoted(field.name()))),
    }
}

/// The places of the named columns in the table; all of them when none is named.
fn targets(table: &str, writable: &SchemaRef, columns: &[Name]) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Ok((0..writable.fields().len()).collect());
    }
    let find = |name: &Name| match writable.index_of(&name.text) {
        Ok(index) => Ok(index),
        Err(_) => {
            let names = writable.fields().iter().map(|field| field.name().as_str());
            let help = match suggest::nearest(&name.text, names.clone()) {
                Some(meant) => format!("did you mean {}?", quoted(meant)),
                None => format!("it takes {}", names.collect::<Vec<_>>().join(", ")),
            };
            let name_in = format!("{} in the table {table}", name.text);
            Err(outside(Error::Unknown {
                what: "column",
                name: name_in,
                position: Some(name.position),
                help: Some(help),
            }))
        }
    };
    columns.iter().map(find).collect()
}

fn unfit(from: &DataType, field: &Arc<Field>, table: &str, place: usize, position: Position) -> Error {
    let to = field.data_type();
    Error::Plan {
        problem: format!(
            "column {} of the query is {}, and {} of {table} is {}",
            place + 1,
            name_of(from),
            quoted(field.name()),
            name_of(to)
        ),
        position: Some(position),
        help: Some(format!("write CAST(... AS {})", name_of(to))),
    }
}

/// Equal but for the names of fields inside and for what may be null.
fn same(a: &DataType, b: &DataType) -> bool {
    a == b || a.equals_datatype(b)
}

/// Whether Flink casts on insert without being asked: never where a value could be lost.
fn implicit(from: &DataType, to: &DataType) -> bool {
    let rank = |data_type: &DataType| match data_type {
        DataType::Int8 => Some(1),
        DataType::Int16 => Some(2),
        DataType::Int32 => Some(3),
        DataType::Int64 => Some(4),
        _ => None,
    };
    match (from, to) {
        (DataType::Null, _) => true,
        (from, to) if rank(from).is_some() && rank(to).is_some() => rank(from) < rank(to),
        (from, DataType::Decimal128(..)) => rank(from).is_some() || matches!(from, DataType::Decimal128(..)),
        (from, DataType::Float32) => rank(from).is_some() || matches!(from, DataType::Decimal128(..)),
        (from, DataType::Float64) => {
            rank(from).is_some() || matches!(from, DataType::Decimal128(..) | DataType::Float32)
        }
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        (DataType::Timestamp(_, None), DataType::Date32 | DataType::Time32(_) | DataType::Time64(_)) => true,
        (DataType::Date32, DataType::Timestamp(_, None)) => true,
        (DataType::Time32(_), DataType::Time64(_)) => true,
        (DataType::List(a), DataType::List(b)) => {
            same(a.data_type(), b.data_type()) || implicit(a.data_type(), b.data_type())
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            let fits = |(a, b): (&Arc<Field>, &Arc<Field>)| {
                same(a.data_type(), b.data_type()) || implicit(a.data_type(), b.data_type())
            };
            a.len() == b.len() && a.iter().zip(b).all(fits)
        }
        _ => false,
    }
}

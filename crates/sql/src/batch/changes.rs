//! OVER in any order over rows that are all there: the partition of each row, sorted, and in it the row's frame.
//!
//! This is the definition written down once more, apart from the circuit's. Rows that ORDER BY does not tell apart stand in
//! the order of their other columns, upwards and nulls first.

use std::cmp::Ordering;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_ord::ord::make_comparator;
use arrow_schema::{DataType, SortOptions, TimeUnit};
use arrow_select::take::take;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};

use super::over::{result_type, same};
use crate::aggregate;
use crate::expr::compile_in_order;
use crate::lower::over::{millis_of, rows_of};
use crate::window_function::{DENSE_RANK, LAG, LEAD, RANK, ROW_NUMBER};

type Compare = Box<dyn Fn(usize, usize) -> Ordering + Send + Sync>;

/// What a call gives for each row.
pub(super) fn column(call: &WindowFunction, rows: &RecordBatch, schema: &DFSchema) -> Result<ArrayRef> {
    let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, distinct, null_treatment: _ } =
        &call.params;
    let value = |expr: &Expr| compile_in_order(expr, schema)?.evaluate(rows).map_err(DataFusionError::Execution);
    let keys: Vec<ArrayRef> = partition_by.iter().map(value).collect::<Result<_>>()?;
    let args: Vec<ArrayRef> = args.iter().map(value).collect::<Result<_>>()?;
    let filter = filter.as_ref().map(|filter| value(filter)).transpose()?;
    let order: Vec<ArrayRef> = order_by.iter().map(|key| value(&key.expr)).collect::<Result<_>>()?;
    let peers = compare(&order, order_by)?;
    let whole = whole_rows(rows)?;
    let before = |row: &usize, other: &usize| peers(*row, *other).then_with(|| whole(*row, *other));
    let mut values: Vec<Option<ScalarValue>> = vec![None; rows.num_rows()];
    for first in 0..rows.num_rows() {
        if values[first].is_some() {
            continue;
        }
        let mut partition = Vec::new();
        for other in first..rows.num_rows() {
            if same(&keys, first, other)? {
                partition.push(other);
            }
        }
        partition.sort_by(before);
        for (place, row) in partition.iter().enumerate() {
            let equal = |other: &usize| peers(*row, *other) == Ordering::Equal;
            let start = partition.iter().position(equal).unwrap_or(place);
            let end = start + partition[start..].iter().take_while(|other| equal(other)).count();
            let found = match &call.fun {
                WindowFunctionDefinition::WindowUDF(function) => match function.name() {
                    ROW_NUMBER => number(place + 1),
                    RANK => number(start + 1),
                    DENSE_RANK => {
                        let mut sorted = partition[..start].to_vec();
                        sorted.dedup_by(|a, b| peers(*a, *b) == Ordering::Equal);
                        number(sorted.len() + 1)
                    }
                    LAG => shifted(&args, &partition, place, -1, *row)?,
                    LEAD => shifted(&args, &partition, place, 1, *row)?,
                    other => return internal_err!("{other} with OVER"),
                },
                WindowFunctionDefinition::AggregateUDF(function) => {
                    let frame = framed(window_frame, &partition, place, start..end, order.first())?;
                    let chosen = partition[frame].iter().map(|row| *row as u32);
                    let kept = |row: &u32| match &filter {
                        Some(filter) => filter.is_valid(*row as usize) && filter.as_boolean().value(*row as usize),
                        None => true,
                    };
                    let chosen: UInt32Array = chosen.filter(kept).collect::<Vec<_>>().into();
                    let args = args.iter().map(|arg| take(arg, &chosen, None)).collect::<Result<Vec<_>, _>>()?;
                    let Some(mut twin) = aggregate::twin(function, &args, *distinct)? else {
                        return internal_err!("{} is none of our functions", function.name());
                    };
                    twin.update_batch(&args)?;
                    twin.evaluate()?
                }
            };
            values[*row] = Some(found);
        }
    }
    match values.is_empty() {
        false => ScalarValue::iter_to_array(values.into_iter().flatten()),
        true => Ok(arrow_array::new_empty_array(&result_type(call, &args)?)),
    }
}

fn number(number: usize) -> ScalarValue {
    ScalarValue::Int64(Some(number as i64))
}

/// The order of rows by ORDER BY.
fn compare(order: &[ArrayRef], by: &[Sort]) -> Result<Compare> {
    let mut compared = Vec::new();
    for (column, Sort { asc, nulls_first, .. }) in order.iter().zip(by) {
        let options = SortOptions { descending: !asc, nulls_first: *nulls_first };
        compared.push(make_comparator(column, column, options)?);
    }
    Ok(Box::new(move |row, other| {
        compared.iter().map(|compare| compare(row, other)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }))
}

/// The order of rows by all their columns; columns that have none, such as maps, do not count.
fn whole_rows(rows: &RecordBatch) -> Result<Compare> {
    let options = SortOptions { descending: false, nulls_first: true };
    let columns = rows.columns().iter().filter_map(|column| make_comparator(column, column, options).ok());
    let compared: Vec<_> = columns.collect();
    Ok(Box::new(move |row, other| {
        compared.iter().map(|compare| compare(row, other)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }))
}

/// The value of LAG or LEAD.
fn shifted(args: &[ArrayRef], partition: &[usize], place: usize, sign: i64, row: usize) -> Result<ScalarValue> {
    let offset = match args.get(1) {
        None => 1,
        Some(offset) => {
            let offset = arrow_cast::cast(offset, &DataType::Int64)?;
            offset.as_primitive::<Int64Type>().value(row)
        }
    };
    let other = usize::try_from(place as i64 + sign * offset).ok().and_then(|place| partition.get(place));
    match (other, args.get(2)) {
        (Some(other), _) => ScalarValue::try_from_array(&args[0], *other),
        (None, Some(default)) => ScalarValue::try_from_array(default, row),
        (None, None) => ScalarValue::try_from(args[0].data_type()),
    }
}

/// The places in a partition that are in the frame of the row at one.
fn framed(
    frame: &WindowFrame,
    partition: &[usize],
    place: usize,
    peers: Range<usize>,
    order: Option<&ArrayRef>,
) -> Result<Range<usize>> {
    let count = partition.len() as i64;
    let rows = matches!(frame.units, WindowFrameUnits::Rows);
    // How far a bound is from the row, before it below zero; none when there is no bound.
    let distance = |bound: &WindowFrameBound| -> Result<Option<i64>> {
        let (value, sign) = match bound {
            WindowFrameBound::CurrentRow => return Ok(Some(0)),
            WindowFrameBound::Preceding(value) => (value, -1),
            WindowFrameBound::Following(value) => (value, 1),
        };
        if value.is_null() {
            return Ok(None);
        }
        Ok(Some(sign * if rows { rows_of(value)? as i64 } else { millis_of(value)? }))
    };
    let (from, to) = (distance(&frame.start_bound)?, distance(&frame.end_bound)?);
    let (from, to) = if rows {
        let at = |distance: i64| place as i64 + distance;
        (from.map_or(0, at), to.map_or(count, |to| at(to) + 1))
    } else {
        let time = |place: usize| -> Result<Option<i64>> {
            let Some(order) = order else { return internal_err!("RANGE without an order") };
            let millis = arrow_cast::cast(order, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            let millis = arrow_cast::cast(&millis, &DataType::Int64)?;
            let (millis, row) = (millis.as_primitive::<Int64Type>().clone(), partition[place]);
            Ok(millis.is_valid(row).then(|| millis.value(row)))
        };
        let first = |fits: &dyn Fn(i64) -> bool| -> Result<i64> {
            for other in 0..partition.len() {
                if time(other)?.is_some_and(fits) {
                    return Ok(other as i64);
                }
            }
            Ok(count)
        };
        let from = match from {
            None => 0,
            Some(0) => peers.start as i64,
            Some(from) => match time(place)? {
                None => peers.start as i64,
                Some(time) => first(&|other| other >= time + from)?,
            },
        };
        let to = match to {
            None => count,
            Some(0) => peers.end as i64,
            Some(to) => match time(place)? {
                None => peers.end as i64,
                Some(time) => first(&|other| other > time + to)?,
            },
        };
        (from, to)
    };
    let (from, to) = (from.clamp(0, count), to.clamp(0, count));
    Ok(from as usize..to.max(from) as usize)
}

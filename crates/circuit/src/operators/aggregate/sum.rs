//! SUM and AVG: of integers wrapping at 64 bits as in Flink, of decimals in 256 bits, of floats exactly.
//!
//! SUM and AVG of the same argument share one state: the sum and the number of values. AVG of integers truncates
//! towards zero; decimals are rounded half away from zero, and are null when they do not fit their type.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Decimal256Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Decimal256Array, Float64Array, Int64Array};
use arrow_buffer::i256;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Family, Rows};
use super::value::{finish, fixed};
use crate::exact::ExactSum;
use crate::keep::wire::{Damage, Reader, begin_block, end_block};

/// What a call makes of sum and count.
#[derive(Debug, Clone)]
pub(super) enum Total {
    /// The sum, in this type.
    Sum(DataType),
    /// The mean, in this type.
    Avg(DataType),
}

/// The argument, the filter and the calls of a sum.
pub(super) struct Spec {
    /// The summed column.
    pub arg: usize,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// What is computed from the sum.
    pub totals: Vec<Total>,
}

/// A sum and the number of summed values.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum<T> {
    sum: T,
    count: i64,
}

/// What is summed, as saved bytes.
pub(super) trait Amount: Sized {
    /// Appends the amount in its canonical form.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads it back.
    fn read(from: &mut Reader<'_>) -> Result<Self, Damage>;
}

impl Amount for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Damage> {
        from.i64()
    }
}

impl Amount for i256 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(i256::from_parts(from.u128()?, from.i128()?))
    }
}

impl Amount for ExactSum {
    fn write(&self, out: &mut Vec<u8>) {
        let start = begin_block(out);
        self.canonical().write(out);
        end_block(out, start);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Damage> {
        ExactSum::read(from.block()?).ok_or_else(|| Damage::of("an exact sum cannot be read"))
    }
}

impl<T: Amount> Sum<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.sum.write(out);
        self.count.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Sum { sum: T::read(from)?, count: from.i64()? })
    }
}

/// Sums of integers.
pub(super) struct Integers(pub Spec);

impl Family for Integers {
    type State = Sum<i64>;

    fn update(&self, states: &mut [Sum<i64>], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.0.arg], self.0.filter);
        let column = finish(rows.columns[self.0.arg].clone(), &DataType::Int64)?;
        let values = column.as_primitive::<Int64Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            let state = &mut states[slot];
            state.sum = state.sum.wrapping_add(values[row].wrapping_mul(weight));
            state.count += weight;
        });
        Ok(())
    }

    fn merge(&self, into: &mut Sum<i64>, from: &Sum<i64>) {
        into.sum = into.sum.wrapping_add(from.sum);
        into.count += from.count;
    }

    fn unmerge(&self, into: &mut Sum<i64>, from: &Sum<i64>) {
        into.sum = into.sum.wrapping_sub(from.sum);
        into.count -= from.count;
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&Sum<i64>]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.0.totals.iter().map(|total| integer_column(states, total)).collect()
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64, DataType::Int64])
    }

    fn partial(&self, states: &[&Sum<i64>]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            Arc::new(states.iter().map(|state| state.sum).collect::<Int64Array>()),
            Arc::new(states.iter().map(|state| state.count).collect::<Int64Array>()),
        ])
    }

    fn merge_partial(&self, states: &mut [Sum<i64>], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let (sums, counts) = (columns[0].as_primitive::<Int64Type>(), columns[1].as_primitive::<Int64Type>());
        for ((slot, sum), count) in slots.iter().zip(sums.values()).zip(counts.values()) {
            self.merge(&mut states[*slot as usize], &Sum { sum: *sum, count: *count });
        }
        Ok(())
    }

    fn write(&self, state: &Sum<i64>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.write(out);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Sum<i64>, Damage> {
        Sum::read(from)
    }
}

fn integer_column(states: &[&Sum<i64>], total: &Total) -> Result<ArrayRef, ArrowError> {
    let (result, average) = match total {
        Total::Sum(result) => (result, false),
        Total::Avg(result) => (result, true),
    };
    let present = states.iter().map(|state| (state.count > 0).then_some(*state));
    if result.is_floating() {
        let value = |state: &Sum<i64>| state.sum as f64 / if average { state.count as f64 } else { 1.0 };
        return finish(Arc::new(present.map(|state| state.map(value)).collect::<Float64Array>()), result);
    }
    let value = |state: &Sum<i64>| if average { state.sum.wrapping_div(state.count) } else { state.sum };
    let values: Vec<Option<i64>> = present.map(|state| state.map(value)).collect();
    // Narrow results wrap, as the sums do.
    match result {
        DataType::Int8 | DataType::UInt8 => fixed(result, values, |value| value as u8),
        DataType::Int16 | DataType::UInt16 => fixed(result, values, |value| value as u16),
        DataType::Int32 | DataType::UInt32 => fixed(result, values, |value| value as u32),
        _ => finish(Arc::new(Int64Array::from(values)), result),
    }
}

/// Sums of decimals.
pub(super) struct Decimals {
    /// Argument, filter, calls.
    pub spec: Spec,
    /// The argument's digits after the point.
    pub scale: i8,
}

impl Family for Decimals {
    type State = Sum<i256>;

    fn update(&self, states: &mut [Sum<i256>], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.spec.arg], self.spec.filter);
        let values = rows.columns[self.spec.arg].as_primitive::<Decimal128Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            let state = &mut states[slot];
            let value = i256::from_i128(values[row]);
            let value = if weight == 1 { value } else { value.wrapping_mul(i256::from_i128(weight.into())) };
            state.sum = state.sum.wrapping_add(value);
            state.count += weight;
        });
        Ok(())
    }

    fn merge(&self, into: &mut Sum<i256>, from: &Sum<i256>) {
        into.sum = into.sum.wrapping_add(from.sum);
        into.count += from.count;
    }

    fn unmerge(&self, into: &mut Sum<i256>, from: &Sum<i256>) {
        into.sum = into.sum.wrapping_sub(from.sum);
        into.count -= from.count;
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&Sum<i256>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |total: &Total| {
            let (result, average) = match total {
                Total::Sum(result) => (result, false),
                Total::Avg(result) => (result, true),
            };
            let value = |state: &&Sum<i256>| {
                let divisor = if average { state.count } else { 1 };
                if state.count > 0 { rescale(state.sum, self.scale, divisor, result) } else { None }
            };
            decimal_column(states.iter().map(value).collect(), self.scale, result)
        };
        self.spec.totals.iter().map(column).collect()
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Decimal256(76, 0), DataType::Int64])
    }

    fn partial(&self, states: &[&Sum<i256>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let sums: Decimal256Array = states.iter().map(|state| Some(state.sum)).collect();
        Ok(vec![
            Arc::new(sums.with_data_type(DataType::Decimal256(76, 0))),
            Arc::new(states.iter().map(|state| state.count).collect::<Int64Array>()),
        ])
    }

    fn merge_partial(&self, states: &mut [Sum<i256>], slots: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let (sums, counts) = (columns[0].as_primitive::<Decimal256Type>(), columns[1].as_primitive::<Int64Type>());
        for ((slot, sum), count) in slots.iter().zip(sums.values()).zip(counts.values()) {
            self.merge(&mut states[*slot as usize], &Sum { sum: *sum, count: *count });
        }
        Ok(())
    }

    fn write(&self, state: &Sum<i256>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.write(out);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Sum<i256>, Damage> {
        Sum::read(from)
    }
}

/// A number before it is a decimal of its type: unscaled digits, or a float for types that are none.
pub(super) enum Scaled {
    /// Unscaled digits in the result's scale.
    Digits(i128),
    /// The value itself.
    Float(f64),
}

/// `value * 10^-scale / divisor` for a result type; none when a decimal does not hold it.
pub(super) fn rescale(value: i256, scale: i8, divisor: i64, result: &DataType) -> Option<Scaled> {
    let DataType::Decimal128(precision, result_scale) = result else {
        return Some(Scaled::Float(float_of_i256(value) / 10_f64.powi(scale.into()) / divisor as f64));
    };
    let shift = i32::from(*result_scale) - i32::from(scale);
    let power = |digits: i32| i256::from_i128(10).checked_pow(digits as u32);
    let (numerator, denominator) = match shift >= 0 {
        true => (value.checked_mul(power(shift)?)?, i256::from_i128(divisor.into())),
        false => (value, power(-shift)?.checked_mul(i256::from_i128(divisor.into()))?),
    };
    let digits = divide_half_up(numerator, denominator)?.to_i128()?;
    let limit = 10_i128.checked_pow((*precision).into())?;
    (digits.unsigned_abs() < limit.unsigned_abs()).then_some(Scaled::Digits(digits))
}

/// The quotient, rounded half away from zero; `denominator` is positive.
pub(super) fn divide_half_up(numerator: i256, denominator: i256) -> Option<i256> {
    let (quotient, rest) = (numerator.checked_div(denominator)?, numerator.checked_rem(denominator)?);
    let rest = rest.wrapping_abs();
    if rest < denominator.wrapping_sub(rest) {
        return Some(quotient);
    }
    let away = if numerator.is_negative() { i256::MINUS_ONE } else { i256::ONE };
    quotient.checked_add(away)
}

/// A value as the nearest float, to within its last bit.
pub(super) fn float_of_i256(value: i256) -> f64 {
    match value.to_i128() {
        Some(value) => value as f64,
        None => {
            let (low, high) = value.to_parts();
            high as f64 * 2_f64.powi(128) + low as f64
        }
    }
}

/// A column of decimals, or of whatever `result` is.
pub(super) fn decimal_column(
    values: Vec<Option<Scaled>>,
    scale: i8,
    result: &DataType,
) -> Result<ArrayRef, ArrowError> {
    if matches!(result, DataType::Decimal128(_, _)) {
        let digits = values.into_iter().map(|value| match value {
            Some(Scaled::Digits(digits)) => Some(digits),
            Some(Scaled::Float(_)) | None => None,
        });
        return fixed(result, digits.collect(), |digits| digits);
    }
    let floats = values.into_iter().map(|value| match value {
        Some(Scaled::Float(value)) => Some(value),
        Some(Scaled::Digits(digits)) => Some(digits as f64 / 10_f64.powi(scale.into())),
        None => None,
    });
    cast(&(Arc::new(floats.collect::<Float64Array>()) as ArrayRef), result)
}

/// Sums of floats.
pub(super) struct Floats(pub Spec);

impl Family for Floats {
    type State = Sum<ExactSum>;

    fn update(&self, states: &mut [Sum<ExactSum>], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.0.arg], self.0.filter);
        let column = finish(rows.columns[self.0.arg].clone(), &DataType::Float64)?;
        let values = column.as_primitive::<Float64Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            let state = &mut states[slot];
            state.sum.add(values[row], weight);
            state.count += weight;
        });
        Ok(())
    }

    fn merge(&self, into: &mut Sum<ExactSum>, from: &Sum<ExactSum>) {
        into.sum.merge(&from.sum);
        into.count += from.count;
    }

    fn unmerge(&self, into: &mut Sum<ExactSum>, from: &Sum<ExactSum>) {
        into.sum.unmerge(&from.sum);
        into.count -= from.count;
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&Sum<ExactSum>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |total: &Total| {
            let (result, average) = match total {
                Total::Sum(result) => (result, false),
                Total::Avg(result) => (result, true),
            };
            let value = |state: &&Sum<ExactSum>| {
                let sum = state.sum.value();
                (state.count > 0).then_some(if average { sum / state.count as f64 } else { sum })
            };
            let whole = states.iter().all(|state| state.count > 0);
            let column: Float64Array = match whole {
                true => Float64Array::from_iter_values(states.iter().filter_map(value)),
                false => states.iter().map(value).collect(),
            };
            finish(Arc::new(column), result)
        };
        self.0.totals.iter().map(column).collect()
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Binary, DataType::Int64])
    }

    fn partial(&self, states: &[&Sum<ExactSum>]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            write_sums(states.iter().map(|state| &state.sum)),
            Arc::new(states.iter().map(|state| state.count).collect::<Int64Array>()),
        ])
    }

    fn merge_partial(
        &self,
        states: &mut [Sum<ExactSum>],
        slots: &[u32],
        columns: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        let counts = columns[1].as_primitive::<Int64Type>().values();
        for (row, slot) in slots.iter().enumerate() {
            let state = Sum { sum: read_sum(&columns[0], row)?, count: counts[row] };
            self.merge(&mut states[*slot as usize], &state);
        }
        Ok(())
    }

    fn write(&self, state: &Sum<ExactSum>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.write(out);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Sum<ExactSum>, Damage> {
        Sum::read(from)
    }

    fn heap_bytes(&self, state: &Sum<ExactSum>) -> usize {
        state.sum.heap_bytes()
    }

    const FLAT: bool = false;
}

/// Exact sums as a column of bytes.
pub(super) fn write_sums<'a>(sums: impl Iterator<Item = &'a ExactSum>) -> ArrayRef {
    let mut builder = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for sum in sums {
        bytes.clear();
        sum.write(&mut bytes);
        builder.append_value(&bytes);
    }
    Arc::new(builder.finish())
}

/// One sum of a column that [`write_sums`] made.
pub(super) fn read_sum(column: &ArrayRef, row: usize) -> Result<ExactSum, ArrowError> {
    debug_assert!(column.is_valid(row));
    ExactSum::read(column.as_binary::<i32>().value(row))
        .ok_or_else(|| ArrowError::ComputeError("an exact sum from another lane cannot be read".to_string()))
}

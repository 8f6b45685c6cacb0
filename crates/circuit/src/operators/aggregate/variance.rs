//! VAR_POP, VAR_SAMP, STDDEV_POP, STDDEV_SAMP from exact sums of values and of their squares.
//!
//! Over floats the final formula works in pairs of doubles, over decimals in 256-bit integers. Over integers it is
//! Flink's own: the argument's type throughout, wrapping, so that results are the same even where they overflow.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Decimal256Type, Float64Type, Int64Type};
use arrow_array::{ArrayRef, Decimal256Array, Float64Array, Int64Array};
use arrow_buffer::i256;
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Family, Rows};
use super::sum::{Amount, Scaled, decimal_column, divide_half_up, float_of_i256, read_sum, write_sums};
use super::value::{finish, fixed};
use crate::exact::{ExactSum, add_square, squared_deviations};
use crate::keep::wire::{Damage, Reader};

/// What a call makes of the sums.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    /// Divided by one less than the number of values.
    pub sample: bool,
    /// The square root.
    pub root: bool,
    /// The type of the result.
    pub result: DataType,
}

impl Spread {
    /// What to divide by; none when there are too few values.
    fn divisor(&self, count: i64) -> Option<i64> {
        let divisor = if self.sample { count - 1 } else { count };
        (count > 0 && divisor > 0).then_some(divisor)
    }
}

/// The argument, the filter and the calls of a variance.
pub(super) struct Spec {
    /// The column.
    pub arg: usize,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// What is computed.
    pub spreads: Vec<Spread>,
}

/// Number, sum and sum of squares.
#[derive(Debug, Clone, Default)]
pub(super) struct Moments<T> {
    count: i64,
    sum: T,
    squares: T,
}

impl<T: Amount> Moments<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.count.write(out);
        self.sum.write(out);
        self.squares.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Damage> {
        Ok(Moments { count: from.i64()?, sum: T::read(from)?, squares: T::read(from)? })
    }
}

fn counts<T>(states: &[&Moments<T>]) -> ArrayRef {
    Arc::new(states.iter().map(|state| state.count).collect::<Int64Array>())
}

/// Variances of floats.
pub(super) struct Floats(pub Spec);

impl Family for Floats {
    type State = Moments<ExactSum>;

    fn update(&self, states: &mut [Moments<ExactSum>], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.0.arg], self.0.filter);
        let column = finish(rows.columns[self.0.arg].clone(), &DataType::Float64)?;
        let values = column.as_primitive::<Float64Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            let state = &mut states[slot];
            state.count += weight;
            state.sum.add(values[row], weight);
            add_square(&mut state.squares, values[row], weight);
        });
        Ok(())
    }

    fn merge(&self, into: &mut Moments<ExactSum>, from: &Moments<ExactSum>) {
        into.count += from.count;
        into.sum.merge(&from.sum);
        into.squares.merge(&from.squares);
    }

    fn unmerge(&self, into: &mut Moments<ExactSum>, from: &Moments<ExactSum>) {
        into.count -= from.count;
        into.sum.unmerge(&from.sum);
        into.squares.unmerge(&from.squares);
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&Moments<ExactSum>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |spread: &Spread| {
            let value = |state: &&Moments<ExactSum>| {
                let divisor = spread.divisor(state.count)?;
                let variance = squared_deviations(&state.sum, &state.squares, state.count) / divisor as f64;
                Some(if spread.root { variance.sqrt() } else { variance })
            };
            finish(Arc::new(states.iter().map(value).collect::<Float64Array>()), &spread.result)
        };
        self.0.spreads.iter().map(column).collect()
    }

    fn write(&self, state: &Moments<ExactSum>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.write(out);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Moments<ExactSum>, Damage> {
        Moments::read(from)
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64, DataType::Binary, DataType::Binary])
    }

    fn partial(&self, states: &[&Moments<ExactSum>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let sums = write_sums(states.iter().map(|state| &state.sum));
        Ok(vec![counts(states), sums, write_sums(states.iter().map(|state| &state.squares))])
    }

    fn merge_partial(
        &self,
        states: &mut [Moments<ExactSum>],
        slots: &[u32],
        columns: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        let counts = columns[0].as_primitive::<Int64Type>().values();
        for (row, slot) in slots.iter().enumerate() {
            let (sum, squares) = (read_sum(&columns[1], row)?, read_sum(&columns[2], row)?);
            self.merge(&mut states[*slot as usize], &Moments { count: counts[row], sum, squares });
        }
        Ok(())
    }

    fn heap_bytes(&self, state: &Moments<ExactSum>) -> usize {
        state.sum.heap_bytes() + state.squares.heap_bytes()
    }

    const FLAT: bool = false;
}

/// Variances of integers, in Flink's arithmetic.
pub(super) struct Integers {
    /// Argument, filter, calls.
    pub spec: Spec,
    /// The bits of the argument's type.
    pub bits: u32,
}

impl Integers {
    /// `value` in the argument's type.
    fn wrap(&self, value: i64) -> i64 {
        let unused = 64 - self.bits;
        (value << unused) >> unused
    }

    /// Flink's `(sum(x * x) - sum(x) * sum(x) / count) / divisor`.
    fn variance(&self, state: &Moments<i64>, divisor: i64) -> i64 {
        let (sum, squares) = (self.wrap(state.sum), self.wrap(state.squares));
        let mean = self.wrap(sum.wrapping_mul(sum)).wrapping_div(state.count);
        self.wrap(squares.wrapping_sub(mean)).wrapping_div(divisor)
    }
}

impl Family for Integers {
    type State = Moments<i64>;

    fn update(&self, states: &mut [Moments<i64>], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.spec.arg], self.spec.filter);
        let column = finish(rows.columns[self.spec.arg].clone(), &DataType::Int64)?;
        let values = column.as_primitive::<Int64Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            let (state, value) = (&mut states[slot], values[row]);
            state.count += weight;
            state.sum = state.sum.wrapping_add(value.wrapping_mul(weight));
            state.squares = state.squares.wrapping_add(value.wrapping_mul(value).wrapping_mul(weight));
        });
        Ok(())
    }

    fn merge(&self, into: &mut Moments<i64>, from: &Moments<i64>) {
        into.count += from.count;
        into.sum = into.sum.wrapping_add(from.sum);
        into.squares = into.squares.wrapping_add(from.squares);
    }

    fn unmerge(&self, into: &mut Moments<i64>, from: &Moments<i64>) {
        into.count -= from.count;
        into.sum = into.sum.wrapping_sub(from.sum);
        into.squares = into.squares.wrapping_sub(from.squares);
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&Moments<i64>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |spread: &Spread| {
            let value = |state: &&Moments<i64>| {
                let variance = self.variance(state, spread.divisor(state.count)?);
                Some(if spread.root { (variance as f64).sqrt() as i64 } else { variance })
            };
            let values: Vec<Option<i64>> = states.iter().map(value).collect();
            match spread.result {
                DataType::Int8 => fixed(&spread.result, values, |value| value as i8),
                DataType::Int16 => fixed(&spread.result, values, |value| value as i16),
                DataType::Int32 => fixed(&spread.result, values, |value| value as i32),
                _ => finish(Arc::new(Int64Array::from(values)), &spread.result),
            }
        };
        self.spec.spreads.iter().map(column).collect()
    }

    fn write(&self, state: &Moments<i64>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.write(out);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Moments<i64>, Damage> {
        Moments::read(from)
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64; 3])
    }

    fn partial(&self, states: &[&Moments<i64>]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            counts(states),
            Arc::new(states.iter().map(|state| state.sum).collect::<Int64Array>()),
            Arc::new(states.iter().map(|state| state.squares).collect::<Int64Array>()),
        ])
    }

    fn merge_partial(
        &self,
        states: &mut [Moments<i64>],
        slots: &[u32],
        columns: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        let column = |index: usize| columns[index].as_primitive::<Int64Type>().values();
        let (counts, sums, squares) = (column(0), column(1), column(2));
        for (row, slot) in slots.iter().enumerate() {
            let from = Moments { count: counts[row], sum: sums[row], squares: squares[row] };
            self.merge(&mut states[*slot as usize], &from);
        }
        Ok(())
    }
}

/// Variances of decimals.
pub(super) struct Decimals {
    /// Argument, filter, calls.
    pub spec: Spec,
    /// The argument's digits after the point.
    pub scale: i8,
}

impl Decimals {
    /// The variance or its root, in the result's scale.
    fn value(&self, state: &Moments<i256>, spread: &Spread) -> Option<Scaled> {
        let divisor = spread.divisor(state.count)?;
        let (DataType::Decimal128(_, scale), false) = (&spread.result, spread.root) else {
            let variance = self.float(state) / divisor as f64;
            let value = if spread.root { variance.sqrt() } else { variance };
            return self.scaled(value, spread);
        };
        // (count * squares - sum^2) / (count * divisor), in units of 10^(-2 * scale).
        let count = i256::from_i128(state.count.into());
        let exact = || {
            let numerator = count.checked_mul(state.squares)?.checked_sub(state.sum.checked_mul(state.sum)?)?;
            let denominator = count.checked_mul(i256::from_i128(divisor.into()))?;
            let shift = i32::from(*scale) - 2 * i32::from(self.scale);
            let power = i256::from_i128(10).checked_pow(shift.unsigned_abs())?;
            match shift >= 0 {
                true => divide_half_up(numerator.checked_mul(power)?, denominator)?.to_i128(),
                false => divide_half_up(numerator, denominator.checked_mul(power)?)?.to_i128(),
            }
        };
        match exact() {
            Some(digits) => Some(Scaled::Digits(digits)),
            None => self.scaled(self.float(state) / divisor as f64, spread),
        }
    }

    /// The sum of squared distances from the mean as a float.
    fn float(&self, state: &Moments<i256>) -> f64 {
        let count = i256::from_i128(state.count.into());
        let product = count.checked_mul(state.squares).zip(state.sum.checked_mul(state.sum));
        let numerator = match product.and_then(|(left, right)| left.checked_sub(right)) {
            Some(numerator) => float_of_i256(numerator) / state.count as f64,
            None => float_of_i256(state.squares) - float_of_i256(state.sum).powi(2) / state.count as f64,
        };
        numerator.max(0.0) / 10_f64.powi(2 * i32::from(self.scale))
    }

    fn scaled(&self, value: f64, spread: &Spread) -> Option<Scaled> {
        match spread.result {
            DataType::Decimal128(precision, scale) => {
                let digits = (value * 10_f64.powi(scale.into())).round();
                (digits.abs() < 10_f64.powi(precision.into())).then_some(Scaled::Digits(digits as i128))
            }
            _ => Some(Scaled::Float(value)),
        }
    }
}

impl Family for Decimals {
    type State = Moments<i256>;

    fn update(&self, states: &mut [Moments<i256>], slots: &[u32], rows: &Rows<'_>) -> Result<(), ArrowError> {
        let mask = rows.mask(&[self.spec.arg], self.spec.filter);
        let values = rows.columns[self.spec.arg].as_primitive::<Decimal128Type>().values();
        rows.each(slots, mask.as_ref(), |row, slot, weight| {
            let (state, value) = (&mut states[slot], i256::from_i128(values[row]));
            let weighted = value.wrapping_mul(i256::from_i128(weight.into()));
            state.count += weight;
            state.sum = state.sum.wrapping_add(weighted);
            state.squares = state.squares.wrapping_add(value.wrapping_mul(weighted));
        });
        Ok(())
    }

    fn merge(&self, into: &mut Moments<i256>, from: &Moments<i256>) {
        into.count += from.count;
        into.sum = into.sum.wrapping_add(from.sum);
        into.squares = into.squares.wrapping_add(from.squares);
    }

    fn unmerge(&self, into: &mut Moments<i256>, from: &Moments<i256>) {
        into.count -= from.count;
        into.sum = into.sum.wrapping_sub(from.sum);
        into.squares = into.squares.wrapping_sub(from.squares);
    }

    const TAKES_BACK: bool = true;

    fn evaluate(&self, states: &[&Moments<i256>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |spread: &Spread| {
            let values = states.iter().map(|state| self.value(state, spread)).collect();
            decimal_column(values, self.scale, &spread.result)
        };
        self.spec.spreads.iter().map(column).collect()
    }

    fn write(&self, state: &Moments<i256>, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        state.write(out);
        Ok(())
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Moments<i256>, Damage> {
        Moments::read(from)
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64, DataType::Decimal256(76, 0), DataType::Decimal256(76, 0)])
    }

    fn partial(&self, states: &[&Moments<i256>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let column = |of: fn(&Moments<i256>) -> i256| -> ArrayRef {
            let values: Decimal256Array = states.iter().map(|state| Some(of(state))).collect();
            Arc::new(values.with_data_type(DataType::Decimal256(76, 0)))
        };
        Ok(vec![counts(states), column(|state| state.sum), column(|state| state.squares)])
    }

    fn merge_partial(
        &self,
        states: &mut [Moments<i256>],
        slots: &[u32],
        columns: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        let counts = columns[0].as_primitive::<Int64Type>().values();
        let column = |index: usize| columns[index].as_primitive::<Decimal256Type>().values();
        let (sums, squares) = (column(1), column(2));
        for (row, slot) in slots.iter().enumerate() {
            let from = Moments { count: counts[row], sum: sums[row], squares: squares[row] };
            self.merge(&mut states[*slot as usize], &from);
        }
        Ok(())
    }
}

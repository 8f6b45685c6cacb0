//! What each aggregate function is, written down over the list of all its rows.

use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use tidemill_circuit::plan::AggregateFunction;

/// The answer over `rows`, each with the arguments of one call; rows that do not count are left out already.
pub(super) fn fold(
    function: AggregateFunction,
    rows: &[Vec<ScalarValue>],
    types: &[DataType],
    result: &DataType,
) -> Result<ScalarValue> {
    if function == AggregateFunction::Count {
        return Ok(ScalarValue::Int64(Some(rows.len() as i64)));
    }
    let values: Vec<&ScalarValue> = rows.iter().filter_map(|row| row.first()).collect();
    if function == AggregateFunction::ApproxCountDistinct {
        let distinct: std::collections::HashSet<_> = values.into_iter().collect();
        return Ok(ScalarValue::Int64(Some(distinct.len() as i64)));
    }
    if values.is_empty() {
        return ScalarValue::try_from(result);
    }
    match function {
        AggregateFunction::Count | AggregateFunction::ApproxCountDistinct => internal_err!("counted above"),
        AggregateFunction::Min => extreme(&values, std::cmp::Ordering::Less),
        AggregateFunction::Max => extreme(&values, std::cmp::Ordering::Greater),
        AggregateFunction::FirstValue => Ok(values[0].clone()),
        AggregateFunction::LastValue => Ok(values[values.len() - 1].clone()),
        AggregateFunction::BoolAnd => {
            Ok(ScalarValue::Boolean(Some(values.iter().all(|value| **value == ScalarValue::Boolean(Some(true))))))
        }
        AggregateFunction::BoolOr => {
            Ok(ScalarValue::Boolean(Some(values.iter().any(|value| **value == ScalarValue::Boolean(Some(true))))))
        }
        AggregateFunction::ArrayAgg => {
            let values: Vec<ScalarValue> = values.into_iter().cloned().collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &types[0])))
        }
        AggregateFunction::ListAgg => Ok(ScalarValue::from(joined(rows))),
        AggregateFunction::Sum => sum(&values, result),
        AggregateFunction::Avg => mean(&values, result),
        AggregateFunction::VarPop => variance(&values, 0, false, result),
        AggregateFunction::VarSamp => variance(&values, 1, false, result),
        AggregateFunction::StddevPop => variance(&values, 0, true, result),
        AggregateFunction::StddevSamp => variance(&values, 1, true, result),
        // The share is the call's second argument; what the declaration names is none of a call.
        AggregateFunction::ApproxQuantile(_) => quantile(&values, share(rows)?),
    }
}

fn extreme(values: &[&ScalarValue], wanted: std::cmp::Ordering) -> Result<ScalarValue> {
    let mut best = values[0];
    for value in &values[1..] {
        if value.try_cmp(best)? == wanted {
            best = value;
        }
    }
    Ok(best.clone())
}

fn joined(rows: &[Vec<ScalarValue>]) -> String {
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            text += &row.get(1).map_or(",".to_string(), ToString::to_string);
        }
        text += &row[0].to_string();
    }
    text
}

/// Integers and decimals as i128 at their own scale; none for floats.
fn integers(values: &[&ScalarValue]) -> Option<Vec<i128>> {
    values
        .iter()
        .map(|value| match value {
            ScalarValue::Int8(Some(value)) => Some(i128::from(*value)),
            ScalarValue::Int16(Some(value)) => Some(i128::from(*value)),
            ScalarValue::Int32(Some(value)) => Some(i128::from(*value)),
            ScalarValue::Int64(Some(value)) => Some(i128::from(*value)),
            ScalarValue::Decimal128(Some(value), _, _) => Some(*value),
            _ => None,
        })
        .collect()
}

fn floats(values: &[&ScalarValue]) -> Result<Vec<f64>> {
    values
        .iter()
        .map(|value| match value.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(Some(value)) => Ok(value),
            other => Err(exec_datafusion_err!("{other} is no number")),
        })
        .collect()
}

fn scale_of(value: &ScalarValue) -> u32 {
    match value {
        ScalarValue::Decimal128(_, _, scale) => u32::try_from(*scale).unwrap_or(0),
        _ => 0,
    }
}

/// The number as a value of the result's type; integers wrap, decimals beyond 38 digits are null, as in Flink.
fn integer(value: i128, result: &DataType) -> Result<ScalarValue> {
    Ok(match result {
        DataType::Int8 => ScalarValue::Int8(Some(value as i8)),
        DataType::Int16 => ScalarValue::Int16(Some(value as i16)),
        DataType::Int32 => ScalarValue::Int32(Some(value as i32)),
        DataType::Int64 => ScalarValue::Int64(Some(value as i64)),
        DataType::Decimal128(precision, scale) => {
            let fits = value.unsigned_abs() < 10_u128.pow(u32::from(*precision));
            ScalarValue::Decimal128(fits.then_some(value), *precision, *scale)
        }
        other => return internal_err!("an integer as {other}"),
    })
}

fn float(value: f64, result: &DataType) -> Result<ScalarValue> {
    match result {
        DataType::Float32 => Ok(ScalarValue::Float32(Some(value as f32))),
        DataType::Float64 => Ok(ScalarValue::Float64(Some(value))),
        other => internal_err!("a float as {other}"),
    }
}

fn sum(values: &[&ScalarValue], result: &DataType) -> Result<ScalarValue> {
    match integers(values) {
        Some(numbers) => integer(numbers.iter().fold(0, |sum: i128, number| sum.wrapping_add(*number)), result),
        None => float(exact_sum(&floats(values)?), result),
    }
}

fn mean(values: &[&ScalarValue], result: &DataType) -> Result<ScalarValue> {
    let count = values.len() as i128;
    match (integers(values), result) {
        (Some(numbers), DataType::Decimal128(_, scale)) => {
            let up = 10_i128.pow(u32::try_from(*scale).unwrap_or(0) - scale_of(values[0]));
            integer(divide_half_up(numbers.iter().sum::<i128>() * up, count), result)
        }
        (Some(numbers), result) => {
            let sum = numbers.iter().fold(0_i64, |sum, number| sum.wrapping_add(*number as i64));
            integer(i128::from(sum) / count, result)
        }
        (None, result) => float(exact_sum(&floats(values)?) / count as f64, result),
    }
}

fn divide_half_up(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    if rest.unsigned_abs() * 2 >= by.unsigned_abs() { quotient + value.signum() * by.signum() } else { quotient }
}

fn variance(values: &[&ScalarValue], less: usize, root: bool, result: &DataType) -> Result<ScalarValue> {
    if values.len() <= less {
        return ScalarValue::try_from(result);
    }
    let divisor = values.len() - less;
    if let (Some(numbers), true) = (integers(values), result.is_integer()) {
        return integer_variance(&numbers, divisor as i128, root, result);
    }
    let numbers = floats(values)?;
    let center = exact_sum(&numbers) / numbers.len() as f64;
    let squares: Vec<f64> = numbers.iter().map(|number| (number - center) * (number - center)).collect();
    let variance = exact_sum(&squares) / divisor as f64;
    let value = if root { variance.sqrt() } else { variance };
    match result {
        DataType::Decimal128(_, scale) => integer((value * 10_f64.powi(i32::from(*scale))).round() as i128, result),
        _ => float(value, result),
    }
}

/// Flink's `(SUM(x * x) - SUM(x) * SUM(x) / COUNT(x)) / divisor`, every part of it in the argument's type.
fn integer_variance(numbers: &[i128], divisor: i128, root: bool, result: &DataType) -> Result<ScalarValue> {
    let wrapped = |value: i128| -> Result<i128> {
        Ok(match integer(value, result)?.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(value)) => value.into(),
            other => return internal_err!("{other} is no integer"),
        })
    };
    let sum = wrapped(numbers.iter().sum())?;
    let squares = wrapped(numbers.iter().map(|number| number * number).sum())?;
    let mean = wrapped(wrapped(sum * sum)? / numbers.len() as i128)?;
    let variance = wrapped(wrapped(squares - mean)? / divisor)?;
    integer(if root { (variance as f64).sqrt() as i128 } else { variance }, result)
}

/// The second argument, which is the same in every row.
fn share(rows: &[Vec<ScalarValue>]) -> Result<f64> {
    let share = rows.first().and_then(|row| row.get(1)).map(|share| share.cast_to(&DataType::Float64)).transpose()?;
    match share {
        Some(ScalarValue::Float64(Some(share))) => Ok(share),
        other => internal_err!("a quantile of the share {other:?}"),
    }
}

fn quantile(values: &[&ScalarValue], share: f64) -> Result<ScalarValue> {
    let mut numbers = floats(values)?;
    numbers.sort_by(f64::total_cmp);
    let rank = (share * (numbers.len() - 1) as f64).floor() as usize;
    Ok(ScalarValue::Float64(Some(numbers[rank])))
}

/// The sum rounded once: partial sums that do not overlap are kept apart until the end.
///
/// Source: J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic", grow-expansion.
fn exact_sum(values: &[f64]) -> f64 {
    if let Some(special) = special_sum(values) {
        return special;
    }
    let mut partials: Vec<f64> = Vec::new();
    for &value in values {
        let mut carry = value;
        let mut kept = 0;
        for index in 0..partials.len() {
            let (high, low) = two_sum(carry, partials[index]);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            carry = high;
        }
        partials.truncate(kept);
        partials.push(carry);
    }
    round_expansion(&partials)
}

fn special_sum(values: &[f64]) -> Option<f64> {
    let special: Vec<f64> = values.iter().copied().filter(|value| !value.is_finite()).collect();
    (!special.is_empty()).then(|| special.iter().sum())
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let back = sum - a;
    (sum, (a - (sum - back)) + (b - back))
}

/// Rounds parts in ascending order of size, which do not overlap, half to even.
fn round_expansion(partials: &[f64]) -> f64 {
    let Some((&last, rest)) = partials.split_last() else { return 0.0 };
    let mut high = last;
    let mut low = 0.0;
    let mut below = rest.len();
    while below > 0 {
        below -= 1;
        let (sum, error) = two_sum(high, rest[below]);
        high = sum;
        low = error;
        if low != 0.0 {
            break;
        }
    }
    let same_side = below > 0 && ((low < 0.0 && rest[below - 1] < 0.0) || (low > 0.0 && rest[below - 1] > 0.0));
    if same_side {
        let (doubled, sum) = (low * 2.0, high + low * 2.0);
        if sum - high == doubled {
            return sum;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(values: &[f64], expected: f64) {
        assert_eq!(exact_sum(values).to_bits(), expected.to_bits(), "{values:?}");
    }

    #[test]
    fn sums_are_rounded_once() {
        sum_of(&[], 0.0);
        sum_of(&[0.1; 10], 1.0);
        sum_of(&[1e100, 1.0, -1e100], 1.0);
        sum_of(&[1.0, 1e-16, 1e-16], 1.0000000000000002);
        sum_of(&[f64::INFINITY, 1.0], f64::INFINITY);
        assert!(exact_sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    fn check(function: AggregateFunction, values: &[i32], expected: Option<i32>) {
        let rows: Vec<_> = values.iter().map(|value| vec![ScalarValue::Int32(Some(*value))]).collect();
        let answer = fold(function, &rows, &[DataType::Int32], &DataType::Int32).expect("the types fit");
        assert_eq!(answer, ScalarValue::Int32(expected), "{function:?} {values:?}");
    }

    #[test]
    fn integers_stay_integers_as_in_flink() {
        check(AggregateFunction::Sum, &[100, -100, 7], Some(7));
        check(AggregateFunction::Sum, &[i32::MAX, i32::MAX], Some(-2));
        check(AggregateFunction::Avg, &[100, -100, 7], Some(2));
        check(AggregateFunction::Avg, &[-100, 93], Some(-3));
        check(AggregateFunction::VarPop, &[100, -100, 7], Some(6677));
        check(AggregateFunction::VarSamp, &[100, -100, 7], Some(10016));
        check(AggregateFunction::StddevPop, &[100, -100, 7], Some(81));
        check(AggregateFunction::StddevSamp, &[5], None);
        check(AggregateFunction::VarPop, &[1, 2], Some(0));
        check(AggregateFunction::VarSamp, &[0, 1], Some(1));
        check(AggregateFunction::VarSamp, &[1, 2, 4], Some(2));
        check(AggregateFunction::Min, &[3, -1, 2], Some(-1));
        check(AggregateFunction::Max, &[], None);
    }

    #[test]
    fn a_quantile_has_the_share_of_its_call() {
        let quantile = |share: f64| {
            let row = |value: i64| vec![ScalarValue::Int64(Some(value)), ScalarValue::Float64(Some(share))];
            let rows: Vec<_> = (1..=5).map(row).collect();
            fold(AggregateFunction::ApproxQuantile(0.5), &rows, &[DataType::Int64], &DataType::Float64)
                .expect("the types fit")
        };
        assert_eq!(quantile(0.0), ScalarValue::Float64(Some(1.0)));
        assert_eq!(quantile(0.5), ScalarValue::Float64(Some(3.0)));
        assert_eq!(quantile(1.0), ScalarValue::Float64(Some(5.0)));
    }
}

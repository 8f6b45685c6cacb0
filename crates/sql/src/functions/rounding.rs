//! CEIL, FLOOR, ROUND, TRUNCATE of numbers; half rounds away from zero, and DOUBLE is rounded by its decimal digits.

use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};

use super::call::Call;
use super::function::Function;
use super::number_text::{power_of_ten, rescale, shortest, shortest_float, truncate};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "ceil",
        "CEIL(NUMERIC) -> ANY; CEIL(TEMPORAL, STRING) -> ANY",
        "The least whole number that is not smaller; `CEIL(time TO unit)`: the first start of a unit not before a time.",
        &[("CEIL(-1.2)", "-1"), ("CEIL(DATE '2020-02-29' TO MONTH)", "2020-03-01")],
        |call| if call.count() == 1 { whole(call, f64::ceil, 1) } else { super::unit::ceil(call) },
    )
    .aliases(&["ceiling"])
    .returns(whole_type),
    Function::new(
        "floor",
        "FLOOR(NUMERIC) -> ANY; FLOOR(TEMPORAL, STRING) -> ANY",
        "The greatest whole number that is not greater; `FLOOR(time TO unit)`: the start of the unit a time is in, a week \
         starting on Sunday.",
        &[("FLOOR(-1.2)", "-2"), ("CAST(FLOOR(TIMESTAMP '2020-02-29 12:34:56' TO HOUR) AS STRING)", "2020-02-29 12:00:00.000")],
        |call| if call.count() == 1 { whole(call, f64::floor, -1) } else { super::unit::floor(call) },
    )
    .returns(whole_type),
    Function::new(
        "round",
        "ROUND(NUMERIC[, INT]) -> ANY",
        "Rounded to so many digits after the point, 0 by default; a negative number counts before the point.",
        &[("ROUND(1.25, 1)", "1.3"), ("ROUND(125, -1)", "130")],
        |call| to_digits(call, rescale),
    )
    .returns_by_literals(digits_type),
    Function::new(
        "truncate",
        "TRUNCATE(NUMERIC[, INT]) -> ANY",
        "Cut to so many digits after the point, 0 by default.",
        &[("TRUNCATE(42.345, 2)", "42.34")],
        |call| to_digits(call, truncate),
    )
    .returns_by_literals(digits_type),
];

fn whole_type(types: &[DataType]) -> Result<DataType> {
    Ok(match types[0] {
        DataType::Decimal128(precision, _) => DataType::Decimal128(precision, 0),
        ref other => other.clone(),
    })
}

/// A decimal's type after rounding; the digits must be known when planned.
fn digits_type(types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let DataType::Decimal128(precision, scale) = types[0] else { return Ok(types[0].clone()) };
    let digits = match literals {
        [_] => 0,
        [_, Some(ScalarValue::Int32(Some(digits)))] => *digits,
        [_, Some(value)] if value.is_null() => 0,
        _ => {
            return plan_err!(
                "ROUND and TRUNCATE of a DECIMAL need a literal number of digits, for the type of the result"
            );
        }
    };
    let whole = i32::from(precision) - i32::from(scale);
    Ok(match digits {
        _ if digits >= i32::from(scale) => types[0].clone(),
        ..0 => DataType::Decimal128((1 + whole).min(38) as u8, 0),
        _ => DataType::Decimal128((1 + whole + digits).min(38) as u8, digits as i8),
    })
}

/// CEIL and FLOOR; `away` is 1 upwards and -1 downwards.
fn whole(call: &Call<'_>, apply: fn(f64) -> f64, away: i128) -> Result<ArrayRef> {
    match (call.data_type(0), call.result) {
        (DataType::Float32, _) => {
            let value = call.numbers::<Float32Type>(0)?;
            call.build_numbers::<Float32Type>(|row| Ok(value.get(row).map(|value| apply(f64::from(value)) as f32)))
        }
        (DataType::Float64, _) => {
            let value = call.numbers::<Float64Type>(0)?;
            // Adding 0 turns -0.0 into 0.0, which is what Flink answers.
            call.build_numbers::<Float64Type>(|row| Ok(value.get(row).map(|value| apply(value) + 0.0)))
        }
        (DataType::Decimal128(_, scale), _) => {
            let value = call.numbers::<Decimal128Type>(0)?;
            let unit = power_of_ten(scale.max(0).unsigned_abs().into()).unwrap_or(1);
            call.build_numbers::<Decimal128Type>(|row| {
                Ok(value.get(row).map(|value| {
                    let (whole, rest) = (value / unit, value % unit);
                    if rest.signum() == away { whole + away } else { whole }
                }))
            })
        }
        _ => call.array(0),
    }
}

type Rescale = fn(i128, i32, i32) -> Option<i128>;

fn to_digits(call: &Call<'_>, rescale: Rescale) -> Result<ArrayRef> {
    match call.data_type(0) {
        DataType::Int8 => integers::<Int8Type>(call, rescale, |value| value as i8),
        DataType::Int16 => integers::<Int16Type>(call, rescale, |value| value as i16),
        DataType::Int32 => integers::<Int32Type>(call, rescale, |value| value as i32),
        DataType::Int64 => integers::<Int64Type>(call, rescale, |value| value as i64),
        DataType::Float32 => with_digits::<Float32Type>(call, |value: f32, digits| {
            let (decimal, exponent) = shortest_float(value);
            if value.is_finite() { from_digits(decimal, exponent, digits, rescale) as f32 } else { value }
        }),
        DataType::Float64 => with_digits::<Float64Type>(call, |value: f64, digits| {
            let (decimal, exponent) = shortest(value);
            if value.is_finite() { from_digits(decimal, exponent, digits, rescale) } else { value }
        }),
        DataType::Decimal128(_, scale) => {
            let DataType::Decimal128(_, result_scale) = *call.result else {
                return internal_err!("a DECIMAL rounds to {}", call.result);
            };
            with_digits::<Decimal128Type>(call, |value, digits| {
                let rounded =
                    if digits >= i32::from(scale) { Some(value) } else { rescale(value, scale.into(), digits) };
                let from = digits.min(scale.into());
                rounded.and_then(|rounded| super::number_text::rescale(rounded, from, result_scale.into())).unwrap_or(0)
            })
        }
        other => internal_err!("ROUND of {other}"),
    }
}

fn with_digits<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    apply: impl Fn(T::Native, i32) -> T::Native,
) -> Result<ArrayRef> {
    let value = call.numbers::<T>(0)?;
    let digits = if call.count() > 1 { Some(call.numbers::<Int32Type>(1)?) } else { None };
    call.build_numbers::<T>(|row| {
        let digits = digits.as_ref().map_or(Some(0), |digits| digits.get(row));
        Ok(value.get(row).zip(digits).map(|(value, digits)| apply(value, digits)))
    })
}

fn integers<T: ArrowPrimitiveType>(call: &Call<'_>, rescale: Rescale, narrow: fn(i128) -> T::Native) -> Result<ArrayRef>
where
    i128: From<T::Native>,
{
    with_digits::<T>(call, |value, digits| {
        if digits >= 0 {
            return value;
        }
        let cut = rescale(value.into(), 0, digits).unwrap_or(0);
        narrow(power_of_ten(digits.unsigned_abs()).map_or(0, |unit| cut.wrapping_mul(unit)))
    })
}

fn from_digits(decimal: i128, exponent: i32, digits: i32, rescale: Rescale) -> f64 {
    let scale = -exponent;
    let (value, scale) = match rescale(decimal, scale, digits) {
        Some(value) if digits < scale => (value, digits),
        _ => (decimal, scale),
    };
    // Reading the decimal back gives the nearest DOUBLE, which a multiplication would not.
    format!("{value}e{}", -scale).parse().unwrap_or(f64::NAN)
}

//! Functions of real numbers, in DOUBLE; a domain error is NaN or an infinity, as in Java.

use std::fmt::Write;

use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;
use datafusion::common::{Result, internal_err};

use super::call::Call;
use super::function::{Example, Function};
use super::number_text::power_of_ten;

const fn real(
    name: &'static str,
    signature: &'static str,
    doc: &'static str,
    examples: &'static [Example],
    body: fn(&Call<'_>) -> Result<ArrayRef>,
) -> Function {
    Function::new(name, signature, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("abs", "ABS(NUMERIC) -> ANY", "Without its sign.", &[("ABS(-1.50)", "1.50")], abs)
        .returns(|types| Ok(types[0].clone())),
    Function::new(
        "sign",
        "SIGN(NUMERIC) -> ANY",
        "-1, 0 or 1, in the type of the argument.",
        &[("SIGN(-5)", "-1"), ("SIGN(2.55)", "1.00")],
        sign,
    )
    .returns(|types| Ok(types[0].clone())),
    real(
        "power",
        "POWER(DOUBLE, DOUBLE) -> DOUBLE",
        "The first to the power of the second.",
        &[("POWER(2, 10)", "1024.0")],
        |call| two(call, f64::powf),
    ),
    real("sqrt", "SQRT(DOUBLE) -> DOUBLE", "The square root.", &[("SQRT(16)", "4.0")], |call| one(call, f64::sqrt)),
    real("exp", "EXP(DOUBLE) -> DOUBLE", "e to a power.", &[("EXP(0)", "1.0")], |call| one(call, f64::exp)),
    real("ln", "LN(DOUBLE) -> DOUBLE", "The natural logarithm.", &[("LN(1)", "0.0")], |call| one(call, f64::ln)),
    real(
        "log",
        "LOG(DOUBLE[, DOUBLE]) -> DOUBLE",
        "The natural logarithm, or with two arguments the logarithm of the second to the base of the first.",
        &[("LOG(2, 8)", "3.0")],
        |call| if call.count() == 1 { one(call, f64::ln) } else { two(call, |base, value| value.ln() / base.ln()) },
    ),
    real("log10", "LOG10(DOUBLE) -> DOUBLE", "The logarithm to base 10.", &[("LOG10(1000)", "3.0")], |call| {
        one(call, f64::log10)
    }),
    real("log2", "LOG2(DOUBLE) -> DOUBLE", "The logarithm to base 2.", &[("LOG2(8)", "3.0")], |call| {
        one(call, |value| value.ln() / 2_f64.ln())
    }),
    real("sin", "SIN(DOUBLE) -> DOUBLE", "The sine.", &[("SIN(0)", "0.0")], |call| one(call, f64::sin)),
    real("cos", "COS(DOUBLE) -> DOUBLE", "The cosine.", &[("COS(0)", "1.0")], |call| one(call, f64::cos)),
    real("tan", "TAN(DOUBLE) -> DOUBLE", "The tangent.", &[("TAN(0)", "0.0")], |call| one(call, f64::tan)),
    real("cot", "COT(DOUBLE) -> DOUBLE", "The cotangent.", &[("ROUND(COT(1), 4)", "0.6421")], |call| {
        one(call, |value| 1.0 / value.tan())
    }),
    real("asin", "ASIN(DOUBLE) -> DOUBLE", "The arc sine.", &[("ASIN(0)", "0.0")], |call| one(call, f64::asin)),
    real("acos", "ACOS(DOUBLE) -> DOUBLE", "The arc cosine.", &[("ACOS(1)", "0.0")], |call| one(call, f64::acos)),
    real("atan", "ATAN(DOUBLE) -> DOUBLE", "The arc tangent.", &[("ATAN(0)", "0.0")], |call| one(call, f64::atan)),
    real(
        "atan2",
        "ATAN2(DOUBLE, DOUBLE) -> DOUBLE",
        "The angle of the point (second, first).",
        &[("ATAN2(0, 1)", "0.0")],
        |call| two(call, f64::atan2),
    ),
    real("sinh", "SINH(DOUBLE) -> DOUBLE", "The hyperbolic sine.", &[("SINH(0)", "0.0")], |call| one(call, f64::sinh)),
    real("cosh", "COSH(DOUBLE) -> DOUBLE", "The hyperbolic cosine.", &[("COSH(0)", "1.0")], |call| {
        one(call, f64::cosh)
    }),
    real("tanh", "TANH(DOUBLE) -> DOUBLE", "The hyperbolic tangent.", &[("TANH(0)", "0.0")], |call| {
        one(call, f64::tanh)
    }),
    real("degrees", "DEGREES(DOUBLE) -> DOUBLE", "From radians to degrees.", &[("DEGREES(PI())", "180.0")], |call| {
        one(call, f64::to_degrees)
    }),
    real(
        "radians",
        "RADIANS(DOUBLE) -> DOUBLE",
        "From degrees to radians.",
        &[("RADIANS(180) = PI()", "true")],
        |call| one(call, f64::to_radians),
    ),
    real("pi", "PI() -> DOUBLE", "The number pi.", &[("PI()", "3.141592653589793")], |call| {
        call.build_numbers::<Float64Type>(|_| Ok(Some(std::f64::consts::PI)))
    }),
    real("e", "E() -> DOUBLE", "The number e.", &[("E()", "2.718281828459045")], |call| {
        call.build_numbers::<Float64Type>(|_| Ok(Some(std::f64::consts::E)))
    }),
    Function::new(
        "bin",
        "BIN(BIGINT) -> STRING",
        "In binary, negative numbers as 64-bit two's complement.",
        &[("BIN(4)", "100")],
        |call| {
            let value = call.numbers::<Int64Type>(0)?;
            call.write_text(|row, out| {
                Ok(value.get(row).map(|value| {
                    write!(out, "{value:b}").ok();
                }))
            })
        },
    ),
];

fn one(call: &Call<'_>, apply: fn(f64) -> f64) -> Result<ArrayRef> {
    let value = call.numbers::<Float64Type>(0)?;
    call.build_numbers::<Float64Type>(|row| Ok(value.get(row).map(apply)))
}

fn two(call: &Call<'_>, apply: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) = (call.numbers::<Float64Type>(0)?, call.numbers::<Float64Type>(1)?);
    call.build_numbers::<Float64Type>(|row| {
        Ok(left.get(row).zip(right.get(row)).map(|(left, right)| apply(left, right)))
    })
}

fn same<T: ArrowPrimitiveType>(call: &Call<'_>, apply: impl Fn(T::Native) -> T::Native) -> Result<ArrayRef> {
    let value = call.numbers::<T>(0)?;
    call.build_numbers::<T>(|row| Ok(value.get(row).map(&apply)))
}

fn abs(call: &Call<'_>) -> Result<ArrayRef> {
    match call.result {
        DataType::Int8 => same::<Int8Type>(call, i8::wrapping_abs),
        DataType::Int16 => same::<Int16Type>(call, i16::wrapping_abs),
        DataType::Int32 => same::<Int32Type>(call, i32::wrapping_abs),
        DataType::Int64 => same::<Int64Type>(call, i64::wrapping_abs),
        DataType::Float32 => same::<Float32Type>(call, f32::abs),
        DataType::Float64 => same::<Float64Type>(call, f64::abs),
        DataType::Decimal128(..) => same::<Decimal128Type>(call, i128::wrapping_abs),
        other => internal_err!("ABS of {other}"),
    }
}

fn sign(call: &Call<'_>) -> Result<ArrayRef> {
    // Java's signum keeps zeroes and NaN as they are.
    let float = |value: f64| if value == 0.0 || value.is_nan() { value } else { value.signum() };
    match call.result {
        DataType::Int8 => same::<Int8Type>(call, i8::signum),
        DataType::Int16 => same::<Int16Type>(call, i16::signum),
        DataType::Int32 => same::<Int32Type>(call, i32::signum),
        DataType::Int64 => same::<Int64Type>(call, i64::signum),
        DataType::Float32 => same::<Float32Type>(call, |value| float(f64::from(value)) as f32),
        DataType::Float64 => same::<Float64Type>(call, float),
        DataType::Decimal128(_, scale) => {
            let one = power_of_ten(scale.unsigned_abs().into()).unwrap_or(1);
            same::<Decimal128Type>(call, |value| value.signum() * one)
        }
        other => internal_err!("SIGN of {other}"),
    }
}

//! `+ - * / %` with Flink's result types: integers wrap, decimals round half up and become NULL when they overflow.
//!
//! The planner calls these by their names (`$add`, ..) for operators on numbers; see
//! [`FlinkExprPlanner`](super::FlinkExprPlanner).

use arrow_array::ArrayRef;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{ArrowNativeTypeOp, ArrowPrimitiveType};
use arrow_buffer::i256;
use arrow_cast::cast;
use arrow_schema::DataType;
use datafusion::common::{Result, exec_err, internal_err, plan_err};
use datafusion::logical_expr::ColumnarValue;

use super::call::Call;
use super::function::Function;
use super::number_text::{divide_half_up, divide_half_up_wide, fits, power_of_ten, rescale};
use super::signature::{common_type, decimal_of};
use crate::types::name_of;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("$add", "$add(NUMERIC, NUMERIC) -> ANY", "`a + b`.", &[("1.5 + 1", "2.5")], |call| {
        evaluate(call, Operator::Add)
    })
    .shown("NUMERIC + NUMERIC")
    .returns(|types| result_type(Operator::Add, types)),
    Function::new("$subtract", "$subtract(NUMERIC, NUMERIC) -> ANY", "`a - b`.", &[("1.5 - 0.25", "1.25")], |call| {
        evaluate(call, Operator::Subtract)
    })
    .shown("NUMERIC - NUMERIC")
    .returns(|types| result_type(Operator::Subtract, types)),
    Function::new(
        "$multiply",
        "$multiply(NUMERIC, NUMERIC) -> ANY",
        "`a * b`.",
        &[("0.908 * 100", "90.800")],
        |call| evaluate(call, Operator::Multiply),
    )
    .shown("NUMERIC * NUMERIC")
    .returns(|types| result_type(Operator::Multiply, types)),
    Function::new(
        "$divide",
        "$divide(NUMERIC, NUMERIC) -> ANY",
        "`a / b`; integers cut off the fraction, 0 as divisor is an error.",
        &[("7 / 2", "3"), ("1.0 / 3", "0.333333333333")],
        |call| evaluate(call, Operator::Divide),
    )
    .shown("NUMERIC / NUMERIC")
    .returns(|types| result_type(Operator::Divide, types)),
    Function::new(
        "mod",
        "MOD(NUMERIC, NUMERIC) -> ANY",
        "The rest of a division, with the sign of the first argument; `a % b` is the same.",
        &[("MOD(-7, 3)", "-1"), ("7.5 % 0.4", "0.3")],
        |call| evaluate(call, Operator::Remainder),
    )
    .aliases(&["$remainder"])
    .returns(|types| result_type(Operator::Remainder, types)),
    Function::new(
        "$negate",
        "$negate(NUMERIC) -> ANY",
        "`-a`; the least integer stays as it is.",
        &[("-CAST(5 AS BIGINT)", "-5")],
        negate,
    )
    .shown("- NUMERIC")
    .returns(|types| Ok(types[0].clone())),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The type of `left operator right`, as Flink derives it.
fn result_type(operator: Operator, types: &[DataType]) -> Result<DataType> {
    let [left, right] = types else { return plan_err!("an operator takes two numbers") };
    let decimal = matches!(left, DataType::Decimal128(..)) || matches!(right, DataType::Decimal128(..));
    match (decimal_of(left), decimal_of(right)) {
        (Some(left), Some(right)) if decimal => Ok(decimal_result(operator, left, right)),
        _ if operator == Operator::Remainder && types.iter().any(DataType::is_floating) => {
            plan_err!("MOD and % take whole or decimal numbers, not {} and {}", name_of(left), name_of(right))
        }
        _ if operator == Operator::Remainder && !decimal && right != &DataType::Null => Ok(right.clone()),
        _ => match common_type(types) {
            Some(DataType::Null) => Ok(DataType::Int32),
            Some(common) => Ok(common),
            None => plan_err!("arithmetic needs two numbers"),
        },
    }
}

/// Precision and scale of a decimal result; when 38 digits are not enough, scale is given up down to 6.
fn decimal_result(operator: Operator, left: (u8, i8), right: (u8, i8)) -> DataType {
    let (left_precision, left_scale) = (i32::from(left.0), i32::from(left.1));
    let (right_precision, right_scale) = (i32::from(right.0), i32::from(right.1));
    let (left_whole, right_whole) = (left_precision - left_scale, right_precision - right_scale);
    let (whole, scale) = match operator {
        Operator::Add | Operator::Subtract => (left_whole.max(right_whole) + 1, left_scale.max(right_scale)),
        Operator::Multiply => (left_whole + right_whole + 1, left_scale + right_scale),
        Operator::Divide => (left_whole + right_scale, (left_scale + right_precision + 1).max(6)),
        Operator::Remainder => (left_whole.min(right_whole), left_scale.max(right_scale)),
    };
    if whole + scale <= 38 {
        return DataType::Decimal128((whole + scale) as u8, scale as i8);
    }
    DataType::Decimal128(38, (38 - whole).max(scale.min(6)) as i8)
}

fn evaluate(call: &Call<'_>, operator: Operator) -> Result<ArrayRef> {
    // MOD of a wide and a narrow integer computes wide and answers narrow.
    let types = [call.data_type(0), call.data_type(1)];
    let common = common_type(&types).unwrap_or(DataType::Null);
    match common {
        DataType::Int8 => same::<Int8Type>(call, operator, &common),
        DataType::Int16 => same::<Int16Type>(call, operator, &common),
        DataType::Int32 | DataType::Null => same::<Int32Type>(call, operator, &DataType::Int32),
        DataType::Int64 => same::<Int64Type>(call, operator, &common),
        DataType::Float32 => same::<Float32Type>(call, operator, &common),
        DataType::Float64 => same::<Float64Type>(call, operator, &common),
        DataType::Decimal128(..) => decimals(call, operator),
        other => internal_err!("arithmetic on {other}"),
    }
}

/// Both arguments in one type.
fn operands(call: &Call<'_>, common: &DataType) -> Result<[ColumnarValue; 2]> {
    let convert = |index: usize| -> Result<ColumnarValue> {
        let value = &call.args[index];
        if value.data_type() == *common {
            return Ok(value.clone());
        }
        match value {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(cast(array, common)?)),
            ColumnarValue::Scalar(value) => Ok(ColumnarValue::Scalar(value.cast_to(common)?)),
        }
    };
    Ok([convert(0)?, convert(1)?])
}

fn over<'a>(call: &'a Call<'a>, args: &'a [ColumnarValue], result: &'a DataType) -> Call<'a> {
    Call { args, rows: call.rows, result, session: call.session }
}

/// Both sides and the result in one type; integers wrap, and dividing by zero is an error for all.
fn same<T: ArrowPrimitiveType>(call: &Call<'_>, operator: Operator, common: &DataType) -> Result<ArrayRef>
where
    T::Native: ArrowNativeTypeOp,
{
    let args = operands(call, common)?;
    let inner = over(call, &args, common);
    let array = match operator {
        Operator::Add => binary::<T>(&inner, |left, right| Ok(left.add_wrapping(right))),
        Operator::Subtract => binary::<T>(&inner, |left, right| Ok(left.sub_wrapping(right))),
        Operator::Multiply => binary::<T>(&inner, |left, right| Ok(left.mul_wrapping(right))),
        Operator::Divide => binary::<T>(&inner, |left, right| nonzero(right).map(|right| left.div_wrapping(right))),
        Operator::Remainder => binary::<T>(&inner, |left, right| nonzero(right).map(|right| left.mod_wrapping(right))),
    }?;
    if array.data_type() == call.result { Ok(array) } else { Ok(cast(&array, call.result)?) }
}

fn negate(call: &Call<'_>) -> Result<ArrayRef> {
    fn each<T: ArrowPrimitiveType>(call: &Call<'_>) -> Result<ArrayRef>
    where
        T::Native: ArrowNativeTypeOp,
    {
        let value = call.numbers::<T>(0)?;
        call.build_numbers::<T>(|row| Ok(value.get(row).map(ArrowNativeTypeOp::neg_wrapping)))
    }
    match call.result {
        DataType::Int8 => each::<Int8Type>(call),
        DataType::Int16 => each::<Int16Type>(call),
        DataType::Int32 => each::<Int32Type>(call),
        DataType::Int64 => each::<Int64Type>(call),
        DataType::Float32 => each::<Float32Type>(call),
        DataType::Float64 => each::<Float64Type>(call),
        DataType::Decimal128(..) => each::<Decimal128Type>(call),
        other => internal_err!("the negative of {other}"),
    }
}

fn nonzero<N: ArrowNativeTypeOp>(divisor: N) -> Result<N> {
    if divisor.is_zero() { exec_err!("division by zero") } else { Ok(divisor) }
}

fn binary<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    apply: impl Fn(T::Native, T::Native) -> Result<T::Native>,
) -> Result<ArrayRef> {
    let (left, right) = (call.numbers::<T>(0)?, call.numbers::<T>(1)?);
    call.build_numbers::<T>(|row| match (left.get(row), right.get(row)) {
        (Some(left), Some(right)) => apply(left, right).map(Some),
        _ => Ok(None),
    })
}

fn decimals(call: &Call<'_>, operator: Operator) -> Result<ArrayRef> {
    let types = [call.data_type(0), call.data_type(1)];
    let digits = |index: usize| decimal_of(&types[index]).unwrap_or((10, 0));
    let ((left_precision, left_scale), (right_precision, right_scale)) = (digits(0), digits(1));
    let DataType::Decimal128(precision, scale) = *call.result else {
        return internal_err!("decimal arithmetic answers {}", call.result);
    };
    let as_decimal = |index: usize, precision: u8, scale: i8| -> Result<ColumnarValue> {
        let target = DataType::Decimal128(precision, scale);
        Ok(match &call.args[index] {
            ColumnarValue::Array(array) if array.data_type() != &target => ColumnarValue::Array(cast(array, &target)?),
            ColumnarValue::Scalar(value) if value.data_type() != target => {
                ColumnarValue::Scalar(value.cast_to(&target)?)
            }
            same => same.clone(),
        })
    };
    let args = [as_decimal(0, left_precision, left_scale)?, as_decimal(1, right_precision, right_scale)?];
    let inner = over(call, &args, call.result);
    let (left, right) = (inner.numbers::<Decimal128Type>(0)?, inner.numbers::<Decimal128Type>(1)?);
    let scales = Scales { left: left_scale.into(), right: right_scale.into(), result: scale.into() };
    inner.build_numbers::<Decimal128Type>(|row| {
        let (Some(left), Some(right)) = (left.get(row), right.get(row)) else { return Ok(None) };
        let value = match operator {
            Operator::Add => scales.aligned(left, right, i256::checked_add, i128::checked_add),
            Operator::Subtract => scales.aligned(left, right, i256::checked_sub, i128::checked_sub),
            Operator::Multiply => scales.multiply(left, right),
            Operator::Divide => scales.divide(left, nonzero(right)?),
            Operator::Remainder => scales.aligned(left, nonzero(right)?, i256::checked_rem, i128::checked_rem),
        };
        Ok(value.filter(|value| fits(*value, precision)))
    })
}

/// The scales of two decimals and of their result.
struct Scales {
    left: i32,
    right: i32,
    result: i32,
}

impl Scales {
    /// Applies an operator that needs both sides in one scale.
    fn aligned(
        &self,
        left: i128,
        right: i128,
        wide: fn(i256, i256) -> Option<i256>,
        narrow: fn(i128, i128) -> Option<i128>,
    ) -> Option<i128> {
        let scale = self.left.max(self.right);
        let sides = rescale(left, self.left, scale).zip(rescale(right, self.right, scale));
        if let Some(value) = sides.and_then(|(left, right)| narrow(left, right)) {
            return rescale(value, scale, self.result);
        }
        let left = widen(left, scale - self.left)?;
        let value = wide(left, widen(right, scale - self.right)?)?;
        self.narrow(value, scale)
    }

    fn multiply(&self, left: i128, right: i128) -> Option<i128> {
        let scale = self.left + self.right;
        match left.checked_mul(right) {
            Some(value) => rescale(value, scale, self.result),
            None => self.narrow(i256::from_i128(left).checked_mul(i256::from_i128(right))?, scale),
        }
    }

    fn divide(&self, left: i128, right: i128) -> Option<i128> {
        let power = self.result + self.right - self.left;
        if power < 0 {
            let right = i256::from_i128(right).checked_mul(i256::from_i128(power_of_ten(power.unsigned_abs())?))?;
            return divide_half_up_wide(i256::from_i128(left), right);
        }
        match power_of_ten(power as u32).and_then(|power| left.checked_mul(power)) {
            Some(left) => Some(divide_half_up(left, right)),
            None => divide_half_up_wide(widen(left, power)?, i256::from_i128(right)),
        }
    }

    fn narrow(&self, value: i256, scale: i32) -> Option<i128> {
        if scale <= self.result {
            return widen_more(value, self.result - scale)?.to_i128();
        }
        divide_half_up_wide(value, i256::from_i128(power_of_ten((scale - self.result) as u32)?))
    }
}

fn widen(value: i128, power: i32) -> Option<i256> {
    widen_more(i256::from_i128(value), power)
}

fn widen_more(mut value: i256, mut power: i32) -> Option<i256> {
    while power > 0 {
        let step = power.min(38);
        value = value.checked_mul(i256::from_i128(power_of_ten(step as u32)?))?;
        power -= step;
    }
    Some(value)
}

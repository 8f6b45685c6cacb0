//! COALESCE, IF and their like: functions that choose among their arguments.
//!
//! COALESCE, IFNULL and IF become CASE when planned, so that an argument that is not chosen is not evaluated and cannot
//! fail; the bodies here serve callers that skip that rewrite.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, Scalar, new_null_array};
use arrow_cast::cast;
use arrow_ord::cmp;
use arrow_schema::DataType;
use arrow_select::nullif::nullif;
use arrow_select::zip::zip;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::simplify::ExprSimplifyResult;

use super::call::Call;
use super::function::Function;
use super::signature::common_type;
use crate::types::name_of;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "coalesce",
        "COALESCE(T, T...) -> T",
        "The first argument that is not NULL.",
        &[("COALESCE(CAST(NULL AS INT), 2, 3)", "2")],
        coalesce,
    ),
    Function::new(
        "ifnull",
        "IFNULL(T, T) -> T",
        "The first argument unless it is NULL, then the second.",
        &[("IFNULL(CAST(NULL AS STRING), 'x')", "x")],
        coalesce,
    ),
    Function::new(
        "nullif",
        "NULLIF(ANY, ANY) -> ANY",
        "NULL when the arguments are equal, else the first.",
        &[("NULLIF(1, 1)", "NULL"), ("NULLIF(1, 2)", "1")],
        null_if,
    )
    .returns(|types| match common_type(types) {
        Some(_) => Ok(types[0].clone()),
        None => plan_err!("NULLIF cannot compare {} with {}", name_of(&types[0]), name_of(&types[1])),
    }),
    Function::new(
        "if",
        "IF(BOOLEAN, T, T) -> T",
        "The second argument when the first is true, else the third.",
        &[("IF(1 > 0, 'yes', 'no')", "yes")],
        choose,
    ),
    Function::new(
        "greatest",
        "GREATEST(T, T...) -> T",
        "The greatest argument; NULL when one is NULL.",
        &[("GREATEST(1, 3, 2)", "3"), ("GREATEST(1, CAST(NULL AS INT))", "NULL")],
        |call| extreme(call, |left, right| cmp::gt(left, right)),
    ),
    Function::new(
        "least",
        "LEAST(T, T...) -> T",
        "The least argument; NULL when one is NULL.",
        &[("LEAST('b', 'a')", "a")],
        |call| extreme(call, |left, right| cmp::lt(left, right)),
    ),
];

/// The CASE that a function stands for, when it does.
pub(super) fn as_case(name: &str, mut args: Vec<Expr>) -> Result<ExprSimplifyResult> {
    let case = |pairs: Vec<(Expr, Expr)>, otherwise: Expr| {
        let pairs = pairs.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect();
        Ok(ExprSimplifyResult::Simplified(Expr::Case(Case::new(None, pairs, Some(Box::new(otherwise))))))
    };
    match (name, args.len()) {
        ("coalesce" | "ifnull", 1) => Ok(ExprSimplifyResult::Simplified(args.remove(0))),
        ("coalesce" | "ifnull", 2..) => {
            let last = args.remove(args.len() - 1);
            case(args.into_iter().map(|arg| (arg.clone().is_not_null(), arg)).collect(), last)
        }
        ("if", 3) => {
            let (otherwise, then) = (args.remove(2), args.remove(1));
            case(vec![(args.remove(0), then)], otherwise)
        }
        _ => Ok(ExprSimplifyResult::Original(args)),
    }
}

fn coalesce(call: &Call<'_>) -> Result<ArrayRef> {
    let mut result = call.array(0)?;
    for index in 1..call.count() {
        if result.logical_null_count() == 0 {
            break;
        }
        let present = arrow_is_not_null(&result);
        result = zip(&present, &result, &call.array(index)?)?;
    }
    Ok(result)
}

fn arrow_is_not_null(array: &ArrayRef) -> BooleanArray {
    match array.logical_nulls() {
        Some(nulls) => BooleanArray::new(nulls.inner().clone(), None),
        None => BooleanArray::from(vec![true; array.len()]),
    }
}

fn null_if(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.array(0)?, call.array(1)?);
    let common = common_type(&[left.data_type().clone(), right.data_type().clone()]).unwrap_or(DataType::Null);
    let equal = cmp::eq(&cast(&left, &common)?, &cast(&right, &common)?)?;
    Ok(nullif(&left, &equal)?)
}

fn choose(call: &Call<'_>) -> Result<ArrayRef> {
    Ok(zip(call.array(0)?.as_boolean(), &call.array(1)?, &call.array(2)?)?)
}

fn extreme(
    call: &Call<'_>,
    better: impl Fn(&ArrayRef, &ArrayRef) -> Result<BooleanArray, arrow_schema::ArrowError>,
) -> Result<ArrayRef> {
    let mut result = call.array(0)?;
    for index in 1..call.count() {
        let next = call.array(index)?;
        // A NULL comparison keeps the left side, so the result is set to NULL where either side is.
        let chosen = zip(&better(&result, &next)?, &result, &next)?;
        let absent = BooleanArray::from_iter((0..call.rows).map(|row| Some(result.is_null(row) || next.is_null(row))));
        let nothing: ArrayRef = Arc::new(new_null_array(chosen.data_type(), 1));
        result = zip(&absent, &Scalar::new(nothing), &chosen)?;
    }
    Ok(result)
}

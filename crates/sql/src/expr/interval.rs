//! A time and an interval of a fixed length: added as numbers, a whole column at once.
//!
//! DataFusion adds an interval by the calendar, value by value, whether it has months or not. Every event of a table passes
//! such an expression: the bound of its watermark.

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};

const NANOS_A_DAY: i128 = 86_400_000_000_000;

/// The expression with a duration in the time's own unit in place of each interval that is one.
pub(super) fn replace(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let replaced = expr.transform_up(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) = &part else {
            return Ok(Transformed::no(part));
        };
        let DataType::Timestamp(unit, zone) = left.get_type(schema)? else { return Ok(Transformed::no(part)) };
        let Some(duration) = duration(right, unit, zone.is_some()) else { return Ok(Transformed::no(part)) };
        let Expr::BinaryExpr(sum) = part else { return Ok(Transformed::no(part)) };
        let right = Box::new(Expr::Literal(duration, None));
        Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { right, ..sum })))
    })?;
    Ok(replaced.data)
}

/// An interval in a unit; none when its length depends on the calendar, or is no whole number of units.
fn duration(interval: &Expr, unit: TimeUnit, zoned: bool) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = interval else { return None };
    // A day of a time zone may be longer than others.
    if interval.months != 0 || (zoned && interval.days != 0) {
        return None;
    }
    let nanos = i128::from(interval.days) * NANOS_A_DAY + i128::from(interval.nanoseconds);
    let (size, make): (i128, fn(Option<i64>) -> ScalarValue) = match unit {
        TimeUnit::Second => (1_000_000_000, ScalarValue::DurationSecond),
        TimeUnit::Millisecond => (1_000_000, ScalarValue::DurationMillisecond),
        TimeUnit::Microsecond => (1_000, ScalarValue::DurationMicrosecond),
        TimeUnit::Nanosecond => (1, ScalarValue::DurationNanosecond),
    };
    if nanos % size != 0 {
        return None;
    }
    i64::try_from(nanos / size).ok().map(|count| make(Some(count)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::IntervalMonthDayNano;
    use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray, TimestampMillisecondArray};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::{col, lit};

    use super::*;
    use crate::expr::physical;

    const TIMES: [Option<i64>; 7] =
        [Some(0), Some(-1), Some(1_699), None, Some(1_700_000_000_123), Some(-86_400_001), Some(59)];

    /// Whether an interval is replaced beside times of both units; the sums are the same then.
    fn check(months: i32, days: i32, nanoseconds: i64, replaced: [bool; 2]) {
        let interval = IntervalMonthDayNano { months, days, nanoseconds };
        let interval = lit(ScalarValue::IntervalMonthDayNano(Some(interval)));
        let times: [ArrayRef; 2] = [
            Arc::new(TimestampMillisecondArray::from(TIMES.to_vec())),
            Arc::new(TimestampMicrosecondArray::from(TIMES.to_vec())),
        ];
        for (times, replaced) in times.into_iter().zip(replaced) {
            let batch = RecordBatch::try_from_iter_with_nullable([("t", times, true)]).expect("one column");
            let schema = DFSchema::try_from(batch.schema()).expect("a schema of one field");
            for expr in [col("t") - interval.clone(), col("t") + interval.clone()] {
                let other = replace(expr.clone(), &schema).expect("an expression over the schema");
                assert_eq!(other != expr, replaced, "{expr}");
                let evaluate = |expr: &Expr| {
                    let value = physical(expr, &schema).and_then(|expr| expr.evaluate(&batch)).expect("a sum of times");
                    value.into_array(batch.num_rows()).expect("a column")
                };
                assert_eq!(&evaluate(&other), &evaluate(&expr), "{expr}");
            }
        }
    }

    #[test]
    fn intervals_of_a_fixed_length_are_added_as_numbers() {
        check(0, 0, 4_000_000_000, [true, true]);
        check(0, -3, 1_000_000, [true, true]);
        check(0, 0, 0, [true, true]);
        check(0, 1, 5_000, [false, true]);
    }

    #[test]
    fn others_are_added_by_the_calendar() {
        check(1, 0, 0, [false, false]);
        check(-14, 2, 1_000_000, [false, false]);
        check(0, 0, 1, [false, false]);
    }
}

//! Time bounds of columns: how far below the watermark the times of rows still to come may be.
//!
//! A column is *bounded by* `slack` when every row that comes (or is taken back) after a step has a time of at least
//! `watermark - slack` there, in milliseconds; nulls aside. Event time is bounded by 0, the end of a window by -1, since a
//! window whose end the watermark has reached is closed. From a join's condition follows more: with `a.ts <= b.ts + 5 s`
//! a pair that a new row of `a` makes has a `b.ts` of at least `watermark - 5 s`, so rows of `b` below that can meet no
//! new row any more, and are freed.

use std::collections::BTreeMap;

use arrow_schema::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use tidemill_circuit::plan::Expiry;

use super::facts::{Attribute, NodeFacts};
use crate::expr::unaliased;

const NANOS_A_MILLI: i64 = 1_000_000;
const MILLIS_A_DAY: i64 = 86_400_000;

/// For each bounded column its slack in milliseconds.
pub(crate) type Bounds = BTreeMap<usize, i64>;

/// `earlier <= later + by_ms`, of two columns: what a condition says when it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    earlier: usize,
    later: usize,
    by_ms: i64,
}

/// What conditions that all hold say of times, by the columns' places in `schema`.
pub(crate) fn orders<'e>(conditions: impl Iterator<Item = &'e Expr>, schema: &DFSchema) -> Result<Vec<Order>> {
    let mut orders = Vec::new();
    for condition in conditions {
        match unaliased(condition) {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => compared(left, *op, right, schema, &mut orders)?,
            Expr::Between(Between { expr, negated: false, low, high }) => {
                compared(low, Operator::LtEq, expr, schema, &mut orders)?;
                compared(expr, Operator::LtEq, high, schema, &mut orders)?;
            }
            _ => {}
        }
    }
    Ok(orders)
}

/// Whether any of them says something of columns on both sides of `width`.
pub(crate) fn across(orders: &[Order], width: usize) -> bool {
    orders.iter().any(|order| (order.earlier < width) != (order.later < width))
}

fn compared(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema, orders: &mut Vec<Order>) -> Result<()> {
    if op == Operator::And {
        for side in [left, right] {
            orders.extend(self::orders(std::iter::once(side), schema)?);
        }
        return Ok(());
    }
    let (Some(left), Some(right)) = (shifted(left, schema)?, shifted(right, schema)?) else { return Ok(()) };
    let mut at_most = |(earlier, before): (usize, i64), (later, after): (usize, i64)| {
        let Some(nanos) = after.checked_sub(before) else { return };
        orders.push(Order { earlier, later, by_ms: ceil_millis(nanos) });
    };
    if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
        at_most(left, right);
    }
    if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
        at_most(right, left);
    }
    Ok(())
}

fn ceil_millis(nanos: i64) -> i64 {
    nanos.div_euclid(NANOS_A_MILLI) + i64::from(nanos.rem_euclid(NANOS_A_MILLI) > 0)
}

/// The column of time that an expression is, and the nanoseconds that it adds.
///
/// Casts between times of one kind are followed: they change a time by less than a millisecond, downwards, and a column is
/// looked at in whole milliseconds.
fn shifted(expr: &Expr, schema: &DFSchema) -> Result<Option<(usize, i64)>> {
    let kind = |expr: &Expr| -> Result<Option<bool>> {
        Ok(match expr.get_type(schema)? {
            DataType::Timestamp(_, zone) => Some(zone.is_some()),
            _ => None,
        })
    };
    let Some(zoned) = kind(expr)? else { return Ok(None) };
    match unaliased(expr) {
        Expr::Column(column) => Ok(Some((schema.index_of_column(column)?, 0))),
        Expr::Cast(Cast { expr: inner, .. }) if kind(inner)? == Some(zoned) => shifted(inner, schema),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "$cast" => match args.as_slice() {
            [inner, target] if kind(inner)? == Some(zoned) && keeps_millis(target) => shifted(inner, schema),
            _ => Ok(None),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let (time, by) = match (interval(left), interval(right)) {
                (None, Some(by)) => (left, by),
                (Some(by), None) if *op == Operator::Plus => (right, by),
                _ => return Ok(None),
            };
            let by = if *op == Operator::Minus { by.checked_neg() } else { Some(by) };
            let shifted = shifted(time, schema)?;
            Ok(shifted.and_then(|(column, already)| Some((column, already.checked_add(by?)?))))
        }
        _ => Ok(None),
    }
}

/// Whether a cast to this type leaves whole milliseconds as they are.
fn keeps_millis(target: &Expr) -> bool {
    let Expr::Literal(ScalarValue::Utf8(Some(target)), _) = target else { return false };
    let digits = target.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(digits, _)| digits.trim());
    digits.and_then(|digits| digits.parse::<u8>().ok()).is_none_or(|digits| digits >= 3)
}

/// The nanoseconds of an interval that is written out and has no months.
fn interval(expr: &Expr) -> Option<i64> {
    let days = |days: i32| i64::from(days).checked_mul(MILLIS_A_DAY)?.checked_mul(NANOS_A_MILLI);
    let nanos = |millis: i64| millis.checked_mul(NANOS_A_MILLI);
    match unaliased(expr) {
        Expr::Literal(value, _) => match value {
            ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => {
                days(value.days)?.checked_add(value.nanoseconds)
            }
            ScalarValue::IntervalDayTime(Some(value)) => {
                days(value.days)?.checked_add(nanos(i64::from(value.milliseconds))?)
            }
            ScalarValue::DurationMillisecond(Some(value)) => nanos(*value),
            ScalarValue::DurationSecond(Some(value)) => nanos(value.checked_mul(1_000)?),
            ScalarValue::DurationMicrosecond(Some(value)) => value.checked_mul(1_000),
            ScalarValue::DurationNanosecond(Some(value)) => Some(*value),
            _ => None,
        },
        Expr::Negative(inner) => interval(inner)?.checked_neg(),
        _ => None,
    }
}

/// The slack of an expression over columns, some of which are bounded: of a time shifted by a constant.
pub(crate) fn of_expr(expr: &Expr, schema: &DFSchema, slack: impl Fn(usize) -> Option<i64>) -> Result<Option<i64>> {
    let Some((column, nanos)) = shifted(expr, schema)? else { return Ok(None) };
    // The shift makes later what it adds, so the bound comes nearer by it.
    Ok(slack(column).and_then(|slack| slack.checked_add(ceil_millis(nanos.checked_neg()?))))
}

/// What is so of the times of any window: it ends a millisecond after its last time, and `length` after its start at most.
///
/// `places` are the columns of one window, by what they mean.
pub(crate) fn of_window(places: &[(usize, Attribute)], length: Option<i64>) -> Vec<Order> {
    let mut orders = Vec::new();
    for (end, _) in places.iter().filter(|(_, attribute)| matches!(attribute, Attribute::End(..))) {
        for (place, attribute) in places {
            match attribute {
                Attribute::Time(..) => orders.extend([
                    Order { earlier: *end, later: *place, by_ms: 1 },
                    Order { earlier: *place, later: *end, by_ms: -1 },
                ]),
                Attribute::Start(..) => {
                    orders.extend(length.map(|length| Order { earlier: *end, later: *place, by_ms: length }));
                }
                Attribute::End(..) | Attribute::Plain => {}
            }
        }
    }
    orders
}

/// What is bounded besides when these columns are, in rows for which the orders hold.
pub(crate) fn propagated(known: &Bounds, orders: &[Order]) -> Bounds {
    let mut bounds = known.clone();
    // Contradictory conditions would go round for ever.
    for _ in 0..=orders.len() {
        let mut changed = false;
        for Order { earlier, later, by_ms } in orders {
            let Some(slack) = bounds.get(earlier).and_then(|slack| slack.checked_add(*by_ms)) else { continue };
            if bounds.get(later).is_none_or(|known| slack < *known) {
                bounds.insert(*later, slack);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    bounds
}

/// For columns that both know, the greater slack: what holds of the rows of either.
pub(crate) fn either(one: &Bounds, two: &Bounds) -> Bounds {
    one.iter().filter_map(|(column, slack)| Some((*column, *slack.max(two.get(column)?)))).collect()
}

/// The attributes of columns that still say how far time has moved on, and by how much their times may be below the
/// watermark at most.
pub(crate) fn kept(attributes: &[Attribute], bounds: &Bounds) -> (Vec<Attribute>, i64) {
    use tidemill_circuit::plan::TimeDomain::Event;
    // A window is closed once the watermark has reached its end, so an end of exactly the watermark comes too late.
    let needed = |column: usize, attribute: &Attribute| match attribute {
        Attribute::Time(Event, _) => bounds.get(&column).copied(),
        Attribute::End(Event, _) => bounds.get(&column).map(|slack| slack + 1),
        _ => None,
    };
    let open: Vec<usize> = attributes
        .iter()
        .enumerate()
        .filter(|(column, attribute)| needed(*column, attribute).is_some())
        .filter_map(|(_, attribute)| if let Attribute::End(_, window) = attribute { Some(*window) } else { None })
        .collect();
    let mut behind = 0;
    let mut kept = Vec::with_capacity(attributes.len());
    for (column, attribute) in attributes.iter().enumerate() {
        let still = match attribute {
            Attribute::Start(Event, window) => open.contains(window),
            other => needed(column, other).inspect(|slack| behind = behind.max(*slack)).is_some(),
        };
        kept.push(if still { *attribute } else { Attribute::Plain });
    }
    (kept, behind)
}

/// When keys of these columns get no row any more: by the time among them that passes first.
pub(crate) fn expiry(bounds: &Bounds, keys: &[usize]) -> Option<Expiry> {
    let bounded = keys.iter().filter_map(|key| Some((*key, *bounds.get(key)?)));
    bounded.min_by_key(|(_, slack)| *slack).map(|(time, after_ms)| Expiry { time, after_ms })
}

/// The facts of rows whose times are told by a watermark that is so much behind.
pub(crate) fn delayed(facts: &NodeFacts, behind_ms: i64) -> NodeFacts {
    let bounds = facts.bounds.iter().map(|(column, slack)| (*column, slack - behind_ms)).collect();
    NodeFacts { bounds, ..facts.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(earlier: usize, later: usize, by_ms: i64) -> Order {
        Order { earlier, later, by_ms }
    }

    fn check(known: &[(usize, i64)], orders: &[Order], expected: &[(usize, i64)]) {
        let known = known.iter().copied().collect();
        assert_eq!(propagated(&known, orders), expected.iter().copied().collect(), "{known:?} {orders:?}");
    }

    #[test]
    fn a_bound_goes_from_the_earlier_time_to_the_later() {
        check(&[(0, 0)], &[order(0, 1, 5)], &[(0, 0), (1, 5)]);
        check(&[(1, 0)], &[order(0, 1, 5)], &[(1, 0)]);
        check(&[(0, 0)], &[order(1, 2, 2), order(0, 1, 5)], &[(0, 0), (1, 5), (2, 7)]);
        check(&[(0, 0), (1, 3)], &[order(0, 1, 5)], &[(0, 0), (1, 3)]);
        check(&[(0, 0), (1, 9)], &[order(0, 1, 5)], &[(0, 0), (1, 5)]);
    }

    #[test]
    fn the_end_of_a_window_bounds_its_other_times() {
        use tidemill_circuit::plan::TimeDomain::Event;
        let window =
            [(3, Attribute::Start(Event, 7)), (4, Attribute::End(Event, 7)), (5, Attribute::Time(Event, Some(7)))];
        let bounded = |known: &[(usize, i64)], length| -> Vec<(usize, i64)> {
            propagated(&known.iter().copied().collect(), &of_window(&window, length)).into_iter().collect()
        };
        assert_eq!(bounded(&[(4, -1)], Some(10)), [(3, 9), (4, -1), (5, 0)]);
        assert_eq!(bounded(&[(5, 0)], None), [(4, -1), (5, 0)]);
        assert_eq!(bounded(&[(3, 9)], Some(10)), [(3, 9)], "windows of CUMULATE differ in length");
    }

    #[test]
    fn contradictory_orders_end() {
        let bounds = propagated(&[(0, 0)].into(), &[order(0, 1, -1), order(1, 0, -1)]);
        assert!(bounds.len() == 2);
    }
}

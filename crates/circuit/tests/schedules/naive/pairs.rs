//! Joins, lookups and set operations, by looking at every pair.

use tidemill_circuit::expr::Expr;
use tidemill_circuit::plan::{
    Emit, Expiry, JoinKind, JoinNulls, JoinSpec, LookupSpec, SetOperation, SetSpec, TemporalJoinSpec, ViewLookupSpec,
};

use super::{Bag, key_of};
use crate::schedules::table::is_near;
use crate::schedules::value::{Row, Value};

/// Whether what has to be true besides is true.
fn holds(residual: Option<&Expr>, row: &Row) -> bool {
    let Some(residual) = residual else { return true };
    let printed = residual.print();
    let columns = residual.columns().unwrap_or_default();
    match (printed.as_str(), columns.as_slice()) {
        ("number <= number", [left, right]) => {
            matches!((&row[*left], &row[*right]), (Value::Int(left), Value::Int(right)) if left <= right)
        }
        ("time near time", [left, right]) => {
            matches!((&row[*left], &row[*right]), (Value::Time(left), Value::Time(right)) if is_near(*left, *right))
        }
        _ => super::is_above(residual, row),
    }
}

/// Whether keys are equal.
fn equal(left: &Row, right: &Row, nulls: JoinNulls) -> bool {
    left == right && (nulls == JoinNulls::Equal || !left.iter().any(Value::is_null))
}

fn beside(left: &Row, right: &Row) -> Row {
    left.iter().chain(right).cloned().collect()
}

fn nulls(width: usize) -> Row {
    vec![Value::Null; width]
}

/// Adds a row so many times.
fn add(bag: &mut Bag, row: Row, weight: i64) {
    *bag.entry(row).or_default() += weight;
}

/// A join of rows that are `widths` wide.
pub(super) fn join(left: &Bag, right: &Bag, spec: &JoinSpec, widths: [usize; 2], watermark: i64) -> Bag {
    let mut joined = Bag::new();
    let chosen = |row: Row| -> Row { spec.columns.iter().map(|column| row[*column].clone()).collect() };
    let is_pair = |one: &Row, other: &Row| {
        equal(&key_of(one, &spec.left_keys), &key_of(other, &spec.right_keys), spec.nulls)
            && holds(spec.residual.as_ref(), &beside(one, other))
    };
    let says_alone = |row: &Row, expiry: Option<Expiry>| match (spec.pad, expiry) {
        (Emit::OnClose, Some(expiry)) => {
            matches!(row[expiry.time], Value::Time(time) if time + expiry.after_ms < watermark)
        }
        _ => true,
    };
    for (row, weight) in left {
        let mut met = false;
        for (other, times) in right.iter().filter(|(other, _)| is_pair(row, other)) {
            met = true;
            if !matches!(spec.kind, JoinKind::Semi | JoinKind::Anti) {
                add(&mut joined, chosen(beside(row, other)), weight * times);
            }
        }
        match spec.kind {
            JoinKind::Inner => {}
            JoinKind::Semi if met => add(&mut joined, chosen(row.clone()), *weight),
            JoinKind::Semi => {}
            JoinKind::Anti if spec.nulls == JoinNulls::Unknown && !is_none_of(row, right, spec) => {}
            JoinKind::Left | JoinKind::Full | JoinKind::Anti => {
                if !met && says_alone(row, spec.expiry[0]) {
                    add(&mut joined, chosen(beside(row, &nulls(widths[1]))), *weight);
                }
            }
        }
    }
    if spec.kind == JoinKind::Full {
        for (row, weight) in right {
            if !left.keys().any(|other| is_pair(other, row)) && says_alone(row, spec.expiry[1]) {
                add(&mut joined, chosen(beside(&nulls(widths[0]), row)), *weight);
            }
        }
    }
    joined
}

/// `NOT IN`: whether it is known that no row of the right side is the row's.
fn is_none_of(row: &Row, right: &Bag, spec: &JoinSpec) -> bool {
    let key = key_of(row, &spec.left_keys);
    let is_unknown = |key: &Row| key.iter().any(Value::is_null);
    let mut keys = right.keys().map(|other| key_of(other, &spec.right_keys));
    right.is_empty() || !is_unknown(&key) && keys.all(|other| !is_unknown(&other) && other != key)
}

/// Rows beside what was valid at their time, once the watermark is above that.
pub(super) fn temporal_join(left: &Bag, right: &Bag, spec: &TemporalJoinSpec, watermark: i64) -> Bag {
    let mut joined = Bag::new();
    let time = |row: &Row, column: usize| if let Value::Time(time) = row[column] { time } else { i64::MIN };
    for (row, weight) in left {
        let at = time(row, spec.left_time);
        if at >= watermark && watermark < i64::MAX {
            continue;
        }
        let key = key_of(row, &spec.left_keys);
        let is_there = |then: i64| if spec.strict { then < at } else { then <= at };
        let known = right.iter().filter(|(other, _)| {
            equal(&key, &key_of(other, &spec.right_keys), JoinNulls::Unequal) && is_there(time(other, spec.right_time))
        });
        let known: Vec<(&Row, i64)> = known.map(|(other, times)| (other, *times)).collect();
        let newest = known.iter().map(|(other, _)| time(other, spec.right_time)).max();
        let valid = known.into_iter().filter(|(other, _)| Some(time(other, spec.right_time)) == newest);
        let valid = valid.filter(|(other, _)| spec.ended.is_none_or(|ended| other[ended] == Value::Flag(false)));
        let found = valid.map(|(other, times)| (beside(row, &key_of(other, &spec.columns)), times));
        let mut found: Vec<(Row, i64)> = found.filter(|(row, _)| holds(spec.residual.as_ref(), row)).collect();
        if found.is_empty() && spec.outer {
            found.push((beside(row, &nulls(spec.columns.len())), 1));
        }
        found.into_iter().for_each(|(row, times)| add(&mut joined, row, weight * times));
    }
    joined
}

/// Rows beside those of a versioned table.
pub(super) fn look_up(bag: &Bag, spec: &LookupSpec, table: &[(Row, Row)], version: &str) -> Bag {
    let version: Row = spec.version.then(|| Value::Text(version.to_string())).into_iter().collect();
    let found = |row: &Row| {
        let key = key_of(row, &spec.keys);
        let found = table.iter().filter(|(other, _)| equal(&key, other, JoinNulls::Unequal));
        found.map(|(_, row)| [row.clone(), version.clone()].concat()).collect()
    };
    let absent = [nulls(spec.columns.len()), version.clone()].concat();
    looked_up(bag, found, spec.residual.as_ref(), spec.outer.then_some(absent))
}

/// Rows beside those of a view as it stands.
pub(super) fn look_in_view(bag: &Bag, view: &Bag, spec: &ViewLookupSpec) -> Bag {
    let found = |row: &Row| {
        let key = key_of(row, &spec.keys);
        let is_found = |other: &Row| equal(&key, &key_of(other, &spec.view_keys), JoinNulls::Unequal);
        let found = view.iter().filter(|(other, _)| is_found(other));
        found.flat_map(|(row, times)| std::iter::repeat_n(key_of(row, &spec.columns), *times as usize)).collect()
    };
    looked_up(bag, found, spec.residual.as_ref(), spec.outer.then(|| nulls(spec.columns.len())))
}

/// Rows beside what is found for each, or beside what stands for nothing.
fn looked_up(bag: &Bag, found: impl Fn(&Row) -> Vec<Row>, residual: Option<&Expr>, absent: Option<Row>) -> Bag {
    let mut looked = Bag::new();
    for (row, weight) in bag {
        let mut rows: Vec<Row> = found(row).iter().map(|found| beside(row, found)).collect();
        rows.retain(|row| holds(residual, row));
        if let (true, Some(absent)) = (rows.is_empty(), &absent) {
            rows.push(beside(row, absent));
        }
        rows.into_iter().for_each(|row| add(&mut looked, row, *weight));
    }
    looked
}

/// `INTERSECT` and `EXCEPT`.
pub(super) fn set_operation(left: &Bag, right: &Bag, spec: SetSpec) -> Bag {
    let mut bag = Bag::new();
    for (row, here) in left {
        let there = right.get(row).copied().unwrap_or(0);
        let weight = match (spec.operation, spec.all) {
            (SetOperation::Intersect, true) => (*here).min(there),
            (SetOperation::Intersect, false) => i64::from(there > 0),
            (SetOperation::Except, true) => (here - there).max(0),
            (SetOperation::Except, false) => i64::from(there == 0),
        };
        if weight > 0 {
            bag.insert(row.clone(), weight);
        }
    }
    bag
}

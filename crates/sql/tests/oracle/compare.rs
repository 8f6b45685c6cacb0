//! Whether two integrals are the same: exactly, but for columns whose names say how near they have to be.
//!
//! `near..` are variances of floats: 1e-9. `rounded..` are variances of decimals, exact here and of floats in the reference,
//! which may round half of the last of six digits the other way. `about..` are estimated numbers of distinct values: 2 %. `quantile..` are
//! quantiles: 1 %. Rows are paired by their other columns, which name a row in every query that has such columns.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::run::Integral;

/// By the name of a column how much of a value and how much at all may differ; a little always, for the variance of equal
/// floats need not be 0 in the reference.
const TOLERANCES: [(&str, Tolerance); 4] =
    [("near", (1e-9, TINY)), ("rounded", (1e-9, 1.5e-6)), ("about", (0.02, TINY)), ("quantile", (0.01, TINY))];

const TINY: f64 = 1e-12;

type Tolerance = (f64, f64);

fn tolerance(column: &str) -> Option<Tolerance> {
    TOLERANCES.iter().find(|(prefix, _)| column.starts_with(prefix)).map(|(_, tolerance)| *tolerance)
}

/// What differs, in a few lines; none when nothing does.
pub(crate) fn difference(expected: &Integral, found: &Integral) -> Option<String> {
    if expected == found || alike(expected, found).unwrap_or(false) {
        return None;
    }
    let mut lines = Vec::new();
    for (row, count) in expected {
        let other = found.get(row).copied().unwrap_or(0);
        if other != *count {
            lines.push(format!("  expected {count}, found {other}: {row}"));
        }
    }
    for (row, count) in found {
        if !expected.contains_key(row) {
            lines.push(format!("  expected 0, found {count}: {row}"));
        }
    }
    lines.truncate(12);
    Some(lines.join("\n"))
}

/// Values that are only near, each with how near it has to be.
type Near = Vec<(Tolerance, Option<f64>)>;

/// Whether rows with the same exact columns are near each other; none when there are no others.
fn alike(expected: &Integral, found: &Integral) -> Option<bool> {
    let (left, right) = (parted(expected)?, parted(found)?);
    if left.len() != right.len() {
        return Some(false);
    }
    let same = |(key, (count, values)): (&String, &(i64, Near))| {
        right.get(key).is_some_and(|(other, others)| other == count && near(values, others))
    };
    Some(left.iter().all(same))
}

/// Whether each value is as near the other as it has to be.
fn near(values: &Near, others: &Near) -> bool {
    values.iter().zip(others).all(|(((share, least), value), (_, other))| match (value, other) {
        (Some(a), Some(b)) => (a - b).abs() <= (share * a.abs().max(b.abs())).max(*least),
        (a, b) => a == b,
    })
}

/// Each row's exact columns with its count and its other values.
fn parted(integral: &Integral) -> Option<BTreeMap<String, (i64, Near)>> {
    let mut parted = BTreeMap::new();
    for (row, count) in integral {
        let (exact, near) = columns(row)?;
        parted.insert(Value::Object(exact).to_string(), (*count, near));
    }
    (parted.len() == integral.len()).then_some(parted)
}

/// A row's exact columns and its others; none when there are no others.
fn columns(row: &str) -> Option<(Map<String, Value>, Near)> {
    let Value::Object(row) = serde_json::from_str(row).ok()? else { return None };
    let mut parted = (Map::new(), Near::new());
    for (name, value) in row {
        match tolerance(&name) {
            Some(tolerance) => parted.1.push((tolerance, value.as_f64())),
            None => drop(parted.0.insert(name, value)),
        }
    }
    (!parted.1.is_empty()).then_some(parted)
}

#[test]
fn only_the_named_columns_may_differ_and_only_a_little() {
    let integral = |row: &str| Integral::from([(row.to_string(), 1)]);
    let check = |left: &str, right: &str, same: bool| {
        assert_eq!(difference(&integral(left), &integral(right)).is_none(), same, "{left} {right}");
    };
    check(r#"{"k": 1, "about0": 1000}"#, r#"{"k": 1, "about0": 1010}"#, true);
    check(r#"{"k": 1, "about0": 1000}"#, r#"{"k": 1, "about0": 1100}"#, false);
    check(r#"{"k": 1, "about0": 1000}"#, r#"{"k": 2, "about0": 1000}"#, false);
    check(r#"{"k": 1, "about0": 0}"#, r#"{"k": 1, "about0": 1}"#, false);
    check(r#"{"k": 1, "near0": 1.4e-16}"#, r#"{"k": 1, "near0": 0.0}"#, true);
    check(r#"{"k": 1, "rounded0": 4.939912}"#, r#"{"k": 1, "rounded0": 4.939913}"#, true);
    check(r#"{"k": 1, "rounded0": 4.939912}"#, r#"{"k": 1, "rounded0": 4.939914}"#, false);
    check(r#"{"k": 1, "near0": null}"#, r#"{"k": 1, "near0": 0.0}"#, false);
    check(r#"{"k": 1, "c0": 1000}"#, r#"{"k": 1, "c0": 1001}"#, false);
}

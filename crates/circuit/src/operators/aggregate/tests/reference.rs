//! What aggregates should be, computed from all rows in the plainest way.

use std::collections::BTreeMap;

use super::*;
use crate::exact::ExactSum;

/// The table of an aggregate without windows.
pub(super) fn table(case: &Case, rows: &[Row]) -> Table {
    let mut groups: BTreeMap<Vec<String>, Vec<Row>> = BTreeMap::new();
    if case.keys.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for row in rows {
        let key = case.keys.iter().map(|_| key_text(row)).collect();
        groups.entry(key).or_default().push(row.clone());
    }
    groups.into_iter().map(|(key, rows)| (line(key, &case.calls, &rows), 1)).collect()
}

pub(super) fn key_text(row: &Row) -> String {
    row.key.map_or("_".to_string(), |key| format!("k{key}"))
}

/// A row of output.
pub(super) fn line(mut head: Vec<String>, calls: &[AggregateCall], rows: &[Row]) -> String {
    head.extend(calls.iter().map(|call| value(call, rows)));
    head.join(" ")
}

fn value(call: &AggregateCall, rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| match call.filter {
            Some(FILTER) => row.filter == Some(true),
            Some(_) => row.bool == Some(true),
            None => true,
        })
        .collect();
    if call.function == Count && call.args.is_empty() {
        return rows.len().to_string();
    }
    let show = |text: Option<String>| text.unwrap_or("_".to_string());
    match call.args[0] {
        INT => {
            let values: Vec<Option<i64>> = rows.iter().map(|row| row.int).collect();
            show(ints(call, &values))
        }
        FLOAT => show(floats(call, rows.iter().filter_map(|row| row.float).collect())),
        DECIMAL => show(decimals(call, rows.iter().filter_map(|row| row.decimal).collect())),
        TEXT => show(texts(call, rows.iter().filter_map(|row| row.text).collect())),
        _ => show(bools(call, rows.iter().filter_map(|row| row.bool).collect())),
    }
}

fn distinct<T: Clone + PartialEq>(call: &AggregateCall, values: Vec<T>) -> Vec<T> {
    if !call.distinct {
        return values;
    }
    let mut different: Vec<T> = Vec::new();
    for value in values {
        if !different.contains(&value) {
            different.push(value);
        }
    }
    different
}

fn ints(call: &AggregateCall, all: &[Option<i64>]) -> Option<String> {
    if call.function == ArrayAgg {
        let items: Vec<String> = all.iter().map(|v| v.map_or("_".to_string(), |value| value.to_string())).collect();
        return (!all.is_empty()).then(|| format!("[{}]", items.join(", ")));
    }
    let values: Vec<i64> = distinct(call, all.iter().flatten().copied().collect());
    if call.function == Count {
        return Some(values.len().to_string());
    }
    let (sum, count) = (values.iter().sum::<i64>(), values.len() as i64);
    let result = match call.function {
        Sum => sum,
        _ if values.is_empty() => return None,
        Avg => sum / count,
        Min => *values.iter().min()?,
        Max => *values.iter().max()?,
        LastValue => *values.last()?,
        VarSamp if count > 1 => {
            (values.iter().map(|value| value * value).sum::<i64>() - sum * sum / count) / (count - 1)
        }
        _ => return None,
    };
    (!values.is_empty()).then(|| result.to_string())
}

fn shown(value: f64) -> String {
    // As Arrow shows it.
    let array: ArrayRef = Arc::new(arrow_array::Float64Array::from(vec![value]));
    let batch = RecordBatch::try_from_iter([("v", array)]).expect("one column");
    crate::operators::testing::lines(&batch).remove(0)
}

fn floats(call: &AggregateCall, values: Vec<f64>) -> Option<String> {
    let values = distinct(call, values);
    if values.is_empty() {
        return None;
    }
    let mut exact = ExactSum::default();
    values.iter().for_each(|value| exact.add(*value, 1));
    let (sum, count) = (exact.value(), values.len() as f64);
    let result = match call.function {
        Sum => sum,
        Avg => sum / count,
        Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        VarPop | StddevSamp => {
            let mut squares = ExactSum::default();
            values.iter().for_each(|value| crate::exact::add_square(&mut squares, *value, 1));
            let deviations = crate::exact::squared_deviations(&exact, &squares, values.len() as i64);
            match call.function {
                VarPop => deviations / count,
                _ if values.len() > 1 => (deviations / (count - 1.0)).sqrt(),
                _ => return None,
            }
        }
        _ => {
            // The median, known within a 64th of its power of two.
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(0.5 * (sorted.len() - 1) as f64).floor() as usize];
            let bits = exact.to_bits() >> 46 << 46;
            let (low, high) = (f64::from_bits(bits), f64::from_bits(bits | ((1 << 46) - 1)));
            match () {
                () if exact == 0.0 => 0.0,
                () if exact.is_infinite() => exact,
                () => low / 2.0 + high / 2.0,
            }
        }
    };
    Some(shown(result))
}

fn decimals(call: &AggregateCall, values: Vec<i64>) -> Option<String> {
    if values.is_empty() {
        return None;
    }
    let (sum, count) = (values.iter().sum::<i64>() as i128, values.len() as i128);
    let half_up = |numerator: i128, denominator: i128| {
        let twice = 2 * numerator.abs() + denominator;
        numerator.signum() * (twice / (2 * denominator))
    };
    let (digits, scale) = match call.function {
        Sum => (sum, 2),
        Avg => (half_up(sum * 10_000, count), 6),
        Max => (i128::from(*values.iter().max()?), 2),
        _ => {
            let squares: i128 = values.iter().map(|value| i128::from(value * value)).sum();
            (half_up((count * squares - sum * sum) * 100, count * count), 6)
        }
    };
    let sign = if digits < 0 { "-" } else { "" };
    let (whole, rest) = (digits.unsigned_abs() / 10_u128.pow(scale), digits.unsigned_abs() % 10_u128.pow(scale));
    Some(format!("{sign}{whole}.{rest:0width$}", width = scale as usize))
}

fn texts(call: &AggregateCall, values: Vec<u8>) -> Option<String> {
    let text = |value: &u8| format!("s{value}");
    let mut different = values.clone();
    different.sort();
    different.dedup();
    match call.function {
        Count | ApproxCountDistinct => Some(different.len().to_string()),
        Min => different.first().map(text),
        Max => different.last().map(text),
        FirstValue => values.first().map(text),
        _ => {
            let values = distinct(call, values);
            (!values.is_empty()).then(|| values.iter().map(text).collect::<Vec<_>>().join(","))
        }
    }
}

fn bools(call: &AggregateCall, values: Vec<bool>) -> Option<String> {
    let result = match call.function {
        BoolAnd => values.iter().all(|value| *value),
        _ => values.iter().any(|value| *value),
    };
    (!values.is_empty()).then(|| result.to_string())
}

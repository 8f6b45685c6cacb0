//! The naive side: evaluates a plan over all rows so far, from nothing, in the simplest way.

use std::collections::BTreeMap;

use tidemill_circuit::plan::{AggregateCall, AggregateFunction, AggregateSpec, Emit, Spec, Window, WindowKey};

use super::input::Script;
use super::plans::{Case, NUMBER, TIME};
use super::value::{Row, Value};

/// Rows, each as often as it is there.
type Bag = BTreeMap<Row, i64>;

/// The integral of the output after `step`.
pub(crate) fn answer(case: &Case, script: &Script, step: usize) -> Bag {
    let watermark = script.watermark(step);
    let mut bag = Bag::new();
    let origin = |case: &Case, row: &mut Row| {
        // Rows that are taken back must meet the rows that came, whose `$origin` is another.
        if case.updating {
            row.pop();
            row.push(Value::Int(0));
        }
    };
    for mut entry in script.upto(step) {
        origin(case, &mut entry.row);
        *bag.entry(entry.row).or_default() += entry.weight;
    }
    bag.retain(|_, weight| *weight != 0);
    for node in &case.plan.nodes {
        bag = match &node.spec {
            Spec::Filter(predicate) => {
                let least: i64 = predicate.print()["number > ".len()..].parse().expect("it prints its bound");
                bag.into_iter().filter(|(row, _)| matches!(row[NUMBER], Value::Int(n) if n > least)).collect()
            }
            Spec::AssignWindow(spec) => assign(&bag, spec.window),
            Spec::Aggregate(spec) => aggregate(&bag, spec, watermark),
            _ => bag,
        };
    }
    bag
}

fn assign(bag: &Bag, window: Window) -> Bag {
    let mut assigned = Bag::new();
    for (row, weight) in bag {
        let Value::Time(time) = row[TIME] else { continue };
        for (start, end) in windows_of(time, window) {
            let mut row = row.clone();
            row.extend([Value::Time(start), Value::Time(end), Value::Time(end - 1)]);
            *assigned.entry(row).or_default() += weight;
        }
    }
    assigned
}

/// The windows that hold `time`, by trying each.
fn windows_of(time: i64, window: Window) -> Vec<(i64, i64)> {
    let aligned = |size: i64, offset: i64| (time - offset).div_euclid(size) * size + offset;
    match window {
        Window::Tumble { size, offset } => vec![(aligned(size, offset), aligned(size, offset) + size)],
        Window::Hop { slide, size, offset } => {
            let last = aligned(slide, offset);
            (0..size / slide).map(|k| last - k * slide).map(|start| (start, start + size)).collect()
        }
        Window::Cumulate { step, max, offset } => {
            let start = aligned(max, offset);
            (1..=max / step).map(|k| (start, start + k * step)).filter(|(_, end)| time < *end).collect()
        }
        Window::Session { .. } => unreachable!("sessions depend on the other rows"),
    }
}

fn aggregate(bag: &Bag, spec: &AggregateSpec, watermark: i64) -> Bag {
    let key = |row: &Row| -> Row { spec.keys.iter().map(|key| row[*key].clone()).collect() };
    let mut groups: BTreeMap<Row, Bag> = BTreeMap::new();
    match &spec.window {
        None => {
            if spec.keys.is_empty() && !spec.calls.is_empty() {
                groups.insert(vec![], Bag::new());
            }
            for (row, weight) in bag {
                groups.entry(key(row)).or_default().insert(row.clone(), *weight);
            }
        }
        Some(WindowKey::Columns { start, end, .. }) => {
            for (row, weight) in bag {
                let Value::Time(last) = row[*end] else { continue };
                let window = [row[*start].clone(), row[*end].clone(), Value::Time(last - 1)];
                let group: Row = key(row).into_iter().chain(window).collect();
                *groups.entry(group).or_default().entry(row.clone()).or_default() += weight;
            }
        }
        Some(WindowKey::Time { window: Window::Session { gap }, .. }) => sessions(bag, *gap, key, &mut groups),
        Some(WindowKey::Time { window, .. }) => {
            for (row, weight) in bag {
                let Value::Time(time) = row[TIME] else { continue };
                for (start, end) in windows_of(time, *window) {
                    let window = [Value::Time(start), Value::Time(end), Value::Time(end - 1)];
                    let group: Row = key(row).into_iter().chain(window).collect();
                    groups.entry(group).or_default().insert(row.clone(), *weight);
                }
            }
        }
    }
    if spec.window.is_some() && spec.emit == Emit::OnClose {
        let end = spec.keys.len() + 1;
        // As in Flink a row exactly a gap behind still joins its session, so a session stays open at its end.
        let session = matches!(spec.window, Some(WindowKey::Time { window: Window::Session { .. }, .. }));
        let closed = |end: i64| if session { end < watermark } else { end <= watermark };
        groups.retain(|group, _| matches!(group[end], Value::Time(end) if closed(end)));
    }
    let finish = |(group, rows): (Row, Bag)| {
        let values = spec.calls.iter().map(|call| evaluate(call, &rows));
        (group.into_iter().chain(values).collect::<Row>(), 1)
    };
    groups.into_iter().map(finish).collect()
}

fn sessions(bag: &Bag, gap: i64, key: impl Fn(&Row) -> Row, groups: &mut BTreeMap<Row, Bag>) {
    let mut by_key: BTreeMap<Row, Vec<(i64, &Row, i64)>> = BTreeMap::new();
    for (row, weight) in bag {
        let Value::Time(time) = row[TIME] else { continue };
        by_key.entry(key(row)).or_default().push((time, row, *weight));
    }
    for (key, mut rows) in by_key {
        rows.sort();
        for session in rows.chunk_by(|a, b| b.0 - a.0 <= gap) {
            let (start, end) = (session[0].0, session[session.len() - 1].0 + gap);
            let window = [Value::Time(start), Value::Time(end), Value::Time(end - 1)];
            let group: Row = key.iter().cloned().chain(window).collect();
            groups.insert(group, session.iter().map(|(_, row, weight)| ((*row).clone(), *weight)).collect());
        }
    }
}

/// The argument of each row that counts, with multiplicity, in the order of `$origin` where there is one.
fn arguments(call: &AggregateCall, rows: &Bag) -> Vec<Value> {
    let counts = |row: &Row| call.filter.is_none_or(|filter| row[filter] == Value::Flag(true));
    let order = |row: &Row| call.args.get(1).map(|origin| row[*origin].clone());
    let mut kept: Vec<_> = rows.iter().filter(|(row, _)| counts(row)).map(|(row, n)| (order(row), row, *n)).collect();
    kept.sort();
    let argument = |row: &Row| call.args.first().map_or(Value::Int(1), |argument| row[*argument].clone());
    let repeated = kept.into_iter().flat_map(|(_, row, n)| std::iter::repeat_n(argument(row), n.max(0) as usize));
    let mut values: Vec<Value> = repeated.collect();
    if call.function != AggregateFunction::ArrayAgg {
        values.retain(|value| !value.is_null());
    }
    if call.distinct {
        values.sort();
        values.dedup();
    }
    values
}

fn evaluate(call: &AggregateCall, rows: &Bag) -> Value {
    use AggregateFunction::*;
    let values = arguments(call, rows);
    let ints: Vec<i64> = values.iter().filter_map(|v| if let Value::Int(n) = v { Some(*n) } else { None }).collect();
    let floats: Vec<f64> = values
        .iter()
        .filter_map(|value| match value {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            _ => None,
        })
        .collect();
    let flags: Vec<bool> = values.iter().filter_map(|v| if let Value::Flag(f) = v { Some(*f) } else { None }).collect();
    let integers = matches!(values.first(), Some(Value::Int(_)));
    let n = values.len() as f64;
    if values.is_empty() {
        return if call.function == Count { Value::Int(0) } else { Value::Null };
    }
    let mean = floats.iter().sum::<f64>() / n;
    let squares: f64 = floats.iter().map(|value| (value - mean).powi(2)).sum();
    match call.function {
        Count => Value::Int(values.len() as i64),
        Sum if integers => Value::Int(ints.iter().sum()),
        Sum => Value::Float(floats.iter().sum()),
        Avg if integers => Value::Int(ints.iter().sum::<i64>() / ints.len() as i64),
        Avg => Value::Float(mean),
        Min => values.into_iter().min().unwrap_or(Value::Null),
        Max => values.into_iter().max().unwrap_or(Value::Null),
        VarPop => Value::Float(squares / n),
        StddevSamp if values.len() < 2 => Value::Null,
        StddevSamp => Value::Float((squares / (n - 1.0)).sqrt()),
        BoolAnd => Value::Flag(flags.iter().all(|flag| *flag)),
        BoolOr => Value::Flag(flags.iter().any(|flag| *flag)),
        FirstValue => values.into_iter().next().unwrap_or(Value::Null),
        LastValue => values.into_iter().last().unwrap_or(Value::Null),
        ArrayAgg => Value::List(values),
        other => panic!("the plans use no {other:?}"),
    }
}

//! The naive side: evaluates a plan over all rows so far, from nothing, in the simplest way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tidemill_circuit::expr::Expr;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, LookupSpec, NodeId, Spec, UnnestSpec, Window, WindowKey,
};

use super::build::Case;
use super::input::{Entry, Script};
use super::table::{NUMBER, ORIGIN, TIME};
use super::value::{self, Row, Value};

mod ordered;
mod pairs;

/// Rows, each as often as it is there.
type Bag = BTreeMap<Row, i64>;

/// What a plan says about the rows of a script.
pub(crate) struct Naive<'a> {
    case: &'a Case,
    script: &'a Script,
    /// What nodes were found to say after steps.
    known: RefCell<BTreeMap<(NodeId, usize), Rc<Bag>>>,
    /// The steps in which rows came, by `$origin`.
    arrived: BTreeMap<Value, usize>,
}

impl<'a> Naive<'a> {
    pub(crate) fn new(case: &'a Case, script: &'a Script) -> Self {
        let came = |step| script.upto(step).into_iter().map(move |entry| (entry.row[ORIGIN].clone(), step));
        let arrived = (0..script.count()).rev().flat_map(came).collect();
        Naive { case, script, known: RefCell::default(), arrived }
    }

    /// The integral of the output after `step`.
    pub(crate) fn answer(&self, step: usize) -> Rc<Bag> {
        self.bag(self.case.plan.nodes.len() - 1, step)
    }

    fn bag(&self, node: NodeId, step: usize) -> Rc<Bag> {
        if let Some(known) = self.known.borrow().get(&(node, step)) {
            return known.clone();
        }
        let bag = Rc::new(self.evaluate(node, step));
        self.known.borrow_mut().insert((node, step), bag.clone());
        bag
    }

    fn evaluate(&self, id: NodeId, step: usize) -> Bag {
        let node = &self.case.plan.nodes[id];
        let inputs: Vec<Rc<Bag>> = node.inputs.iter().map(|input| self.bag(*input, step)).collect();
        let (first, watermark) = (|| (*inputs[0]).clone(), self.watermark(id, step));
        match &node.spec {
            Spec::Source(_) => self.source(step),
            Spec::Filter(predicate) => first().into_iter().filter(|(row, _)| is_above(predicate, row)).collect(),
            Spec::Project(exprs) => mapped(&inputs[0], |row| exprs.iter().map(|expr| computed(expr, row)).collect()),
            Spec::Unnest(spec) => unnest(&inputs[0], spec),
            Spec::Lookup(spec) => look_up(&inputs[0], spec),
            Spec::ViewLookup(spec) => {
                // Each row found what was there after its own step.
                let before = if step == 0 { Bag::new() } else { (*self.bag(id, step - 1)).clone() };
                let mut news = first();
                if step > 0 {
                    self.bag(node.inputs[0], step - 1).keys().for_each(|row| _ = news.remove(row));
                }
                before.into_iter().chain(pairs::look_in_view(&news, &inputs[1], spec)).collect()
            }
            Spec::Over(spec) => ordered::over(&inputs[0], spec, watermark, |row| self.arrived[&row[ORIGIN]]),
            Spec::OverChanges(spec) => ordered::over_changes(&inputs[0], spec),
            Spec::Rank(spec) => ordered::rank(&inputs[0], spec, watermark),
            Spec::Join(spec) => {
                let width = |side: usize| self.case.plan.nodes[node.inputs[side]].schema.fields().len();
                pairs::join(&inputs[0], &inputs[1], spec, [width(0), width(1)], watermark)
            }
            Spec::TemporalJoin(spec) => pairs::temporal_join(&inputs[0], &inputs[1], spec, watermark),
            Spec::Versions(_) => {
                // Each row is a record of its own, and none is late: one that is taken back ends what was valid.
                let told = |entry: Entry| (entry.row.into_iter().chain([Value::Flag(entry.weight < 0)]).collect(), 1);
                self.script.upto(step).into_iter().map(told).collect()
            }
            Spec::SetOperation(spec) => pairs::set_operation(&inputs[0], &inputs[1], *spec),
            Spec::Union => inputs.iter().flat_map(|bag| bag.iter()).fold(Bag::new(), |mut all, (row, weight)| {
                *all.entry(row.clone()).or_default() += weight;
                all
            }),
            Spec::AssignWindow(spec) => assign(&inputs[0], spec.window),
            Spec::Aggregate(spec) => aggregate(&inputs[0], spec, watermark),
            Spec::Delay(_) | Spec::Output(_) => first(),
        }
    }

    fn source(&self, step: usize) -> Bag {
        let mut bag = Bag::new();
        for mut entry in self.script.upto(step) {
            if self.case.updating {
                // Rows that are taken back must meet the rows that came, whose `$origin` is another.
                entry.row[ORIGIN] = Value::Int(0);
            }
            *bag.entry(entry.row).or_default() += entry.weight;
        }
        bag.retain(|_, weight| *weight != 0);
        bag
    }

    /// The watermark of a node's inputs after a step.
    fn watermark(&self, node: NodeId, step: usize) -> i64 {
        let inputs = self.case.plan.nodes[node].inputs.iter();
        let of_input = |input: &NodeId| match (&self.case.plan.nodes[*input].spec, self.watermark(*input, step)) {
            (Spec::Delay(spec), watermark) if watermark < i64::MAX => watermark.saturating_sub(spec.behind_ms),
            (_, watermark) => watermark,
        };
        inputs.map(of_input).min().unwrap_or_else(|| self.script.watermark(step))
    }
}

/// The values of some columns.
fn key_of(row: &Row, columns: &[usize]) -> Row {
    columns.iter().map(|column| row[*column].clone()).collect()
}

fn mapped(bag: &Bag, map: impl Fn(&Row) -> Row) -> Bag {
    let mut all = Bag::new();
    for (row, weight) in bag {
        *all.entry(map(row)).or_default() += weight;
    }
    all
}

/// Whether the row's number is above the one that the predicate prints.
fn is_above(predicate: &Expr, row: &Row) -> bool {
    let least: i64 = predicate.print()["number > ".len()..].parse().expect("it prints its bound");
    matches!(row[NUMBER], Value::Int(number) if number > least)
}

/// A column, or the numbers up to the row's own.
fn computed(expr: &Expr, row: &Row) -> Value {
    match (expr.column(), &row[NUMBER]) {
        (Some(column), _) => row[column].clone(),
        (None, Value::Int(number)) => Value::List((0..*number).map(Value::Int).collect()),
        (None, _) => Value::Null,
    }
}

fn unnest(bag: &Bag, spec: &UnnestSpec) -> Bag {
    let mut all = Bag::new();
    let mut add = |row: &Row, more: [Value; 2], weight: i64| {
        let more = more.into_iter().take(1 + usize::from(spec.ordinality));
        *all.entry(row.iter().cloned().chain(more).collect()).or_default() += weight;
    };
    for (row, weight) in bag {
        let elements = if let Value::List(elements) = &row[spec.column] { elements.as_slice() } else { &[] };
        for (index, element) in elements.iter().enumerate() {
            add(row, [element.clone(), Value::Int(index as i64 + 1)], *weight);
        }
        if elements.is_empty() && spec.outer {
            add(row, [Value::Null, Value::Null], *weight);
        }
    }
    all
}

fn look_up(bag: &Bag, spec: &LookupSpec) -> Bag {
    let table = spec.table.get().expect("the table is filled");
    let rows = value::rows(table.rows());
    let rows: Vec<(Row, Row)> =
        rows.iter().map(|row| (key_of(row, &spec.table_keys), key_of(row, &spec.columns))).collect();
    pairs::look_up(bag, spec, &rows, table.version())
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
    let key = |row: &Row| key_of(row, &spec.keys);
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
        let rows: Vec<(&Row, i64)> = rows.iter().map(|(row, weight)| (row, *weight)).collect();
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
fn arguments(call: &AggregateCall, rows: &[(&Row, i64)]) -> Vec<Value> {
    let counts = |row: &Row| call.filter.is_none_or(|filter| row[filter] == Value::Flag(true));
    let order = |row: &Row| call.args.get(1).map(|origin| row[*origin].clone());
    let mut kept: Vec<_> = rows.iter().filter(|(row, _)| counts(row)).map(|(row, n)| (order(row), *row, *n)).collect();
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

fn evaluate(call: &AggregateCall, rows: &[(&Row, i64)]) -> Value {
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

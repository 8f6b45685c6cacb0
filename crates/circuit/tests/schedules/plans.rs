//! Random plans: a source, perhaps a filter, and either one or two levels of aggregation with and without windows, or
//! [`layers`] of what keeps rows.

use arrow_schema::DataType;
use tidemill_base::rand::Rng;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, Emit, NodeId, OverTurn, Spec, TimeDomain, Window, WindowKey,
};

use super::build::{Case, Pipeline, call};
use super::layers;
use super::table::{DELAY, FLAG, FLOAT, KEY, NUMBER, ORIGIN, TEXT, TIME, list_type, time_type};

/// The most rows of a script over layers: joins make many of them.
const LAYERED_ROWS_MAX: usize = 40;

/// A random plan.
pub(crate) fn random(rng: &mut Rng) -> Case {
    let (mut p, mut input) = Pipeline::over(rng.chance(1, 2), DELAY);
    if rng.chance(1, 3) {
        input = p.filter(input, rng.below(5) as i64 - 3);
    }
    let (layered, second, windowed) = (rng.chance(1, 2), rng.chance(1, 3), rng.chance(2, 3));
    let mut node = match (layered, windowed) {
        (true, _) => layers::random(rng, &mut p, input),
        (false, true) => windowed_aggregate(rng, &mut p, input),
        (false, false) => grouped_aggregate(rng, &mut p, input),
    };
    if second {
        node = second_aggregate(rng, &mut p, node);
    }
    p.output("out", node);
    // What is found, and what has come first, depends on how steps are cut.
    let cuts = !p.plan.nodes.iter().any(|node| match &node.spec {
        Spec::ViewLookup(_) => true,
        Spec::Over(spec) => spec.turn == OverTurn::Arrival,
        _ => false,
    });
    let rows_max = if layered { LAYERED_ROWS_MAX } else { 200 };
    Case { closes: windowed && !second && !layered, cuts, rows_max, ..p.case() }
}

pub(crate) fn random_window(rng: &mut Rng) -> Window {
    let offset = if rng.chance(1, 3) { rng.below(20) as i64 - 10 } else { 0 };
    match rng.below(4) {
        0 => Window::Tumble { size: 10 + rng.below(60) as i64, offset },
        1 => {
            let slide = 5 + rng.below(20) as i64;
            Window::Hop { slide, size: slide * (1 + rng.below(5) as i64), offset }
        }
        2 => {
            let step = 5 + rng.below(20) as i64;
            Window::Cumulate { step, max: step * (1 + rng.below(5) as i64), offset }
        }
        _ => Window::Session { gap: 5 + rng.below(30) as i64 },
    }
}

pub(crate) fn random_keys(rng: &mut Rng) -> Vec<usize> {
    [KEY, TEXT, FLAG].into_iter().filter(|_| rng.chance(1, 3)).collect()
}

fn windowed_aggregate(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let emit = if rng.chance(3, 4) { Emit::OnClose } else { Emit::Changes };
    let (window, domain, mut keys) = (random_window(rng), TimeDomain::Event, random_keys(rng));
    let assigned = !matches!(window, Window::Session { .. }) && rng.chance(1, 4);
    let (input, key) = match assigned {
        true => {
            let (input, end) = p.assigned(input, window);
            (input, WindowKey::Columns { start: end - 1, end, domain })
        }
        false => (input, WindowKey::Time { time: TIME, window, domain }),
    };
    if rng.chance(1, 4) {
        keys.clear();
    }
    let calls = random_calls(rng, (!p.updating).then_some(ORIGIN));
    p.aggregate(input, &keys, Some(key), calls, emit, 0)
}

fn grouped_aggregate(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let keys = random_keys(rng);
    let distinct = !keys.is_empty() && rng.chance(1, 5);
    let calls = if distinct { Vec::new() } else { random_calls(rng, (!p.updating).then_some(ORIGIN)) };
    p.group(input, &keys, calls)
}

/// Groups rows by one of their columns, or by nothing.
fn second_aggregate(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let schema = p.schema(input);
    let column = rng.below(schema.fields().len() as u64) as usize;
    let groupable = !matches!(schema.field(column).data_type(), DataType::List(_) | DataType::Float64);
    let keys = if groupable && rng.chance(3, 4) { vec![column] } else { vec![] };
    let mut calls = vec![call(AggregateFunction::Count, vec![], DataType::Int64)];
    for (index, field) in schema.fields().iter().enumerate() {
        if *field.data_type() == DataType::Int64 && rng.chance(1, 2) {
            let function =
                [AggregateFunction::Sum, AggregateFunction::Max, AggregateFunction::Min, AggregateFunction::Avg];
            calls.push(call(function[rng.below(4) as usize], vec![index], DataType::Int64));
        }
    }
    p.group(input, &keys, calls)
}

/// Calls over the table; those that take rows in an order have it from column `order`, if there is one.
pub(crate) fn random_calls(rng: &mut Rng, order: Option<usize>) -> Vec<AggregateCall> {
    let count = 1 + rng.below(5);
    (0..count).map(|_| random_call(rng, order)).collect()
}

fn random_call(rng: &mut Rng, order: Option<usize>) -> AggregateCall {
    use AggregateFunction::*;
    let by = order.unwrap_or_default();
    let mut call = match rng.below(if order.is_none() { 15 } else { 19 }) {
        0 => call(Count, vec![], DataType::Int64),
        1 => call(Count, vec![[KEY, TEXT, NUMBER, FLOAT][rng.below(4) as usize]], DataType::Int64),
        2 => call(Sum, vec![NUMBER], DataType::Int64),
        3 => call(Sum, vec![FLOAT], DataType::Float64),
        4 => call(Avg, vec![NUMBER], DataType::Int64),
        5 => call(Avg, vec![FLOAT], DataType::Float64),
        6 => call(Min, vec![NUMBER], DataType::Int64),
        7 => call(Max, vec![TEXT], DataType::Utf8),
        8 => call(Max, vec![FLOAT], DataType::Float64),
        9 => call(Min, vec![TIME], time_type()),
        10 => call(VarPop, vec![FLOAT], DataType::Float64),
        11 => call(StddevSamp, vec![NUMBER], DataType::Float64),
        12 => call(BoolAnd, vec![FLAG], DataType::Boolean),
        13 => call(BoolOr, vec![FLAG], DataType::Boolean),
        14 => call(Count, vec![[KEY, TEXT, NUMBER][rng.below(3) as usize]], DataType::Int64),
        15 => call(FirstValue, vec![NUMBER, by], DataType::Int64),
        16 => call(LastValue, vec![TEXT, by], DataType::Utf8),
        17 => call(ArrayAgg, vec![NUMBER, by], list_type()),
        _ => call(Max, vec![NUMBER], DataType::Int64),
    };
    if rng.chance(1, 4) {
        call.filter = Some(FLAG);
    }
    let can_be_distinct =
        matches!((call.function, call.args.as_slice()), (Count | Sum | Avg, [column]) if *column != FLOAT);
    call.distinct = can_be_distinct && rng.chance(1, 2);
    call
}

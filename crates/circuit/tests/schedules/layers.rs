//! Random plans of operators that keep rows, one over another.
//!
//! What a layer reads and gives begins with the columns of the table; the first layer reads the table itself, and may go by
//! the time of its rows and by where they came from.

use std::sync::Arc;

use arrow_schema::DataType;
use tidemill_base::rand::Rng;
use tidemill_circuit::expr::Expr;
use tidemill_circuit::plan::{
    AggregateFunction, Emit, Expiry, Frame, FrameBound, FrameUnits, JoinKind, JoinNulls, NodeId, OrderBy, OverCall,
    OverFrame, OverFunction, OverTurn, RankFunction, RankSpec, SetOperation, SetSpec, Spec, TemporalJoinSpec,
    ViewLookupSpec, Window,
};

use super::build::Pipeline;
use super::plans::{random_calls, random_keys, random_window};
use super::table::{Above, FLAG, FLOAT, KEY, NUMBER, ORIGIN, PLAIN, TEXT, TIME, less_beside, near, nearby};

/// Adds an operator over a node.
type Layer = fn(&mut Rng, &mut Pipeline, NodeId) -> NodeId;

/// Over the source, when none of its rows is taken back.
const ANSWERED_ONCE: [Layer; 3] = [over, named, looked_up];

/// Over the table, by the time of its rows.
const IN_TIME: [Layer; 6] = [closing, passing, nearby_pairs, pairs_of_windows, beside_versions, windows_of_pairs];

/// Over any rows.
const ANY: [Layer; 6] = [ranked, numbered, over_changes, matched, combined, met];

const KINDS: [JoinKind; 5] = [JoinKind::Inner, JoinKind::Left, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];

/// One to three layers over the source.
pub(crate) fn random(rng: &mut Rng, p: &mut Pipeline, source: NodeId) -> NodeId {
    let table = p.table(source);
    let mut node = match rng.below(4) {
        0 | 1 if !p.updating => one(rng, &ANSWERED_ONCE)(rng, p, source),
        0..3 => one(rng, &IN_TIME)(rng, p, table),
        _ => one(rng, &ANY)(rng, p, table),
    };
    for _ in 0..rng.below(3) {
        let Some(input) = again(p, node) else { break };
        node = one(rng, &ANY)(rng, p, input);
    }
    node
}

fn one<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.below(all.len() as u64) as usize]
}

/// What another layer can read: without what is computed inexactly, by which rows must not be told apart.
fn again(p: &mut Pipeline, node: NodeId) -> Option<NodeId> {
    let schema = p.schema(node);
    if schema.fields().len() < PLAIN
        || (0..PLAIN).any(|column| schema.field(column).name() != p.schema(0).field(column).name())
    {
        return None;
    }
    let exact = |column: &usize| !matches!(schema.field(*column).data_type(), DataType::Float64 | DataType::List(_));
    let columns: Vec<usize> = (0..schema.fields().len()).filter(|column| *column < PLAIN || exact(column)).collect();
    Some(if columns.len() == schema.fields().len() { node } else { p.columns(node, &columns) })
}

/// The rows of a node whose number is not small.
fn some(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    p.filter(input, rng.below(6) as i64 - 3)
}

fn some_keys(rng: &mut Rng) -> Vec<usize> {
    let keys = random_keys(rng);
    if keys.is_empty() { vec![one(rng, &[KEY, TEXT])] } else { keys }
}

fn random_order(rng: &mut Rng) -> Vec<OrderBy> {
    let by = |rng: &mut Rng| {
        let column = one(rng, &[KEY, TEXT, NUMBER, FLOAT, FLAG, TIME]);
        OrderBy { column, descending: rng.chance(1, 2), nulls_first: rng.chance(1, 2) }
    };
    (0..1 + rng.below(2)).map(|_| by(rng)).collect()
}

fn over(rng: &mut Rng, p: &mut Pipeline, source: NodeId) -> NodeId {
    let turn = one(rng, &[OverTurn::Arrival, OverTurn::Watermark]);
    let frame = match rng.below(4) {
        0 => Frame::Rows { preceding: None },
        1 => Frame::Rows { preceding: Some(rng.below(5)) },
        2 => Frame::Range { preceding_ms: None, unit_ms: rng.chance(1, 2).then_some(20) },
        _ => Frame::Range { preceding_ms: Some(rng.below(4) as i64 * 20), unit_ms: rng.chance(1, 2).then_some(20) },
    };
    let mut calls = random_calls(rng, Some(ORIGIN));
    calls.retain(|call| call.function != AggregateFunction::ArrayAgg);
    if turn == OverTurn::Arrival && matches!(frame, Frame::Range { preceding_ms: None, .. }) {
        // Values would have to be kept with all the times at which they came.
        calls.iter_mut().for_each(|call| call.distinct = false);
    }
    let mut calls: Vec<OverCall> = calls.into_iter().map(OverCall::Aggregate).collect();
    if rng.chance(1, 2) {
        let default = rng.chance(1, 2).then_some(KEY);
        calls.extend([OverCall::RowNumber, OverCall::Lag { column: NUMBER, offset: 1 + rng.below(3), default }]);
    }
    let keys = random_keys(rng);
    p.framed(source, &keys, turn, frame, calls)
}

fn named(rng: &mut Rng, p: &mut Pipeline, source: NodeId) -> NodeId {
    let residual: Option<Expr> = if rng.chance(1, 2) { Some(Arc::new(Above(rng.below(4) as i64))) } else { None };
    p.named(source, rng.chance(1, 2), residual, rng.chance(1, 2))
}

fn looked_up(rng: &mut Rng, p: &mut Pipeline, source: NodeId) -> NodeId {
    let calls = random_calls(rng, Some(ORIGIN)).into_iter().filter(|call| call.result != DataType::Float64).collect();
    let rows = some(rng, p, source);
    let view = match rng.chance(1, 2) {
        true => p.group(rows, &[KEY], calls),
        false => p.window(rows, &[KEY], Window::Tumble { size: 1 << 40, offset: -(1 << 39) }, calls),
    };
    // By its key, or by values that several of its rows may share.
    let (view, column) = if rng.chance(1, 2) { (view, None) } else { (rows, Some(one(rng, &[KEY, TEXT, NUMBER]))) };
    let columns = (0..p.schema(view).fields().len()).collect();
    let (keys, view_keys) = (vec![column.unwrap_or(KEY)], vec![column.unwrap_or(0)]);
    let (unique, outer) = (column.is_none(), rng.chance(1, 2));
    p.look_up(source, view, ViewLookupSpec { keys, view_keys, unique, columns, residual: None, outer })
}

fn assignable(rng: &mut Rng) -> Window {
    loop {
        let window = random_window(rng);
        if !matches!(window, Window::Session { .. }) {
            return window;
        }
    }
}

fn closing(rng: &mut Rng, p: &mut Pipeline, table: NodeId) -> NodeId {
    let (rows, end) = p.assigned(table, assignable(rng));
    let (close, after_ms) = (rng.chance(1, 2).then_some(end), rng.below(9) as i64);
    let expiry = close.is_none().then_some(Expiry { time: end, after_ms });
    let spec = ranking(rng);
    let keys = spec.keys.iter().copied().chain([end]).collect();
    p.rank(rows, RankSpec { keys, close, expiry, ..spec })
}

/// Keys and groups of a time, which go when it has passed.
fn passing(rng: &mut Rng, p: &mut Pipeline, table: NodeId) -> NodeId {
    let after_ms = rng.below(9) as i64;
    if rng.chance(1, 2) {
        let (keys, calls) = ([random_keys(rng), vec![TIME]].concat(), random_calls(rng, None));
        return p.passing(table, &keys, calls, after_ms);
    }
    let keys = [vec![TIME], random_keys(rng)].concat();
    let over = changing(rng, p, table, &keys);
    p.expiring(over, after_ms);
    over
}

fn nearby_pairs(rng: &mut Rng, p: &mut Pipeline, table: NodeId) -> NodeId {
    let kind = one(rng, &KINDS);
    let (right, keys) = (some(rng, p, table), some_keys(rng));
    let pad = if p.updating || rng.chance(1, 2) { Emit::Changes } else { Emit::OnClose };
    p.join(kind, table, right, &keys, |spec| (spec.residual, spec.expiry, spec.pad) = (near(), nearby(), pad))
}

/// Pairs of rows that are in one window.
fn pairs_of_windows(rng: &mut Rng, p: &mut Pipeline, table: NodeId) -> NodeId {
    let kind = one(rng, &KINDS);
    let (window, right) = (assignable(rng), some(rng, p, table));
    let ((left, end), (right, _)) = (p.assigned(table, window), p.assigned(right, window));
    let keys: Vec<usize> = some_keys(rng).into_iter().chain([end]).collect();
    let pad = if p.updating || rng.chance(1, 2) { Emit::Changes } else { Emit::OnClose };
    let expiry = [Some(Expiry { time: end, after_ms: -1 }); 2];
    p.join(kind, left, right, &keys, |spec| (spec.expiry, spec.late, spec.pad) = (expiry, expiry, pad))
}

fn beside_versions(rng: &mut Rng, p: &mut Pipeline, table: NodeId) -> NodeId {
    let left_keys = random_keys(rng);
    let (versions, ended) = match rng.chance(1, 2) {
        true => (some(rng, p, table), None),
        // What the changes of the table say of its versions.
        false => {
            let (changes, ended) = p.versions(0, &left_keys);
            let keys = left_keys.iter().copied().chain([TIME]).collect();
            let order = vec![OrderBy { column: ORIGIN, descending: true, nulls_first: true }];
            let (function, expiry) = (RankFunction::RowNumber, Some(Expiry { time: TIME, after_ms: 0 }));
            let last = RankSpec { keys, order, function, from: 1, to: Some(1), number: false, close: None, expiry };
            (p.rank(changes, last), Some(ended))
        }
    };
    let residual: Option<Expr> = if rng.chance(1, 3) { Some(Arc::new(Above(0))) } else { None };
    let spec = TemporalJoinSpec {
        right_keys: left_keys.clone(),
        left_keys,
        left_time: TIME,
        right_time: TIME,
        strict: rng.chance(1, 2),
        ended,
        columns: vec![NUMBER, FLAG, TIME],
        residual,
        outer: rng.chance(1, 2),
    };
    p.temporal(table, versions, spec)
}

/// Windows over pairs, whose times may be as far behind as a join keeps rows.
fn windows_of_pairs(rng: &mut Rng, p: &mut Pipeline, table: NodeId) -> NodeId {
    let (right, keys) = (some(rng, p, table), some_keys(rng));
    let pairs = p.join(JoinKind::Inner, table, right, &keys, |spec| (spec.residual, spec.expiry) = (near(), nearby()));
    let pairs = p.delay(pairs, 30 + rng.below(10) as i64);
    let (keys, window, calls) = (random_keys(rng), random_window(rng), random_calls(rng, None));
    p.window(pairs, &keys, window, calls)
}

fn ranking(rng: &mut Rng) -> RankSpec {
    let function = one(rng, &[RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank]);
    let (from, number) = (1 + rng.below(2), rng.chance(1, 2));
    let to = rng.chance(4, 5).then(|| from + rng.below(4));
    let (keys, order) = (random_keys(rng), random_order(rng));
    RankSpec { keys, order, function, from, to, number, close: None, expiry: None }
}

fn ranked(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let spec = ranking(rng);
    p.rank(input, spec)
}

fn numbered(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let (outer, ordinality, input) = (rng.chance(1, 2), rng.chance(1, 2), some(rng, p, input));
    p.numbers(input, outer, ordinality)
}

fn over_changes(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let keys = random_keys(rng);
    changing(rng, p, input, &keys)
}

fn changing(rng: &mut Rng, p: &mut Pipeline, input: NodeId, keys: &[usize]) -> NodeId {
    let mut order = random_order(rng);
    let count = |rng: &mut Rng| rng.below(4);
    let (start, end) = match rng.below(5) {
        0 => (FrameBound::Unbounded, FrameBound::CurrentRow),
        1 => (FrameBound::Preceding(count(rng)), FrameBound::CurrentRow),
        2 => (FrameBound::CurrentRow, FrameBound::Following(count(rng))),
        3 => (FrameBound::Preceding(3 + count(rng)), FrameBound::Preceding(count(rng))),
        _ => (FrameBound::Unbounded, FrameBound::Unbounded),
    };
    let units = one(rng, &[FrameUnits::Rows, FrameUnits::Range]);
    if units == FrameUnits::Range {
        order.truncate(1);
        order[0].column = one(rng, &[NUMBER, TIME, KEY]);
    }
    let place = p.schema(input).fields().len();
    let calls = random_calls(rng, Some(place)).into_iter().map(OverFunction::Aggregate);
    let default = rng.chance(1, 2).then_some(KEY);
    let offset = rng.below(3);
    let more = [
        OverFunction::RowNumber,
        OverFunction::Rank,
        OverFunction::DenseRank,
        OverFunction::Lag { column: NUMBER, offset, default },
        OverFunction::Lead { column: TEXT, offset, default: None },
    ];
    let mut calls: Vec<OverFunction> = calls.chain(more).collect();
    calls.retain(|call| matches!(call, OverFunction::Aggregate(_)) || rng.chance(1, 4));
    p.changing(input, keys, &order, OverFrame { units, start, end }, calls)
}

/// Pairs, once in a plan: they are many.
fn matched(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    if p.plan.nodes.iter().any(|node| matches!(node.spec, Spec::Join(_))) {
        return met(rng, p, input);
    }
    let kind = one(rng, &[JoinKind::Inner, JoinKind::Left, JoinKind::Full]);
    join(rng, p, input, kind)
}

/// Rows that meet some, or none.
fn met(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let kind = one(rng, &[JoinKind::Semi, JoinKind::Anti]);
    if kind == JoinKind::Anti && rng.chance(1, 3) {
        let right = some(rng, p, input);
        return p.join(kind, input, right, &[NUMBER], |spec| spec.nulls = JoinNulls::Unknown);
    }
    join(rng, p, input, kind)
}

fn join(rng: &mut Rng, p: &mut Pipeline, input: NodeId, kind: JoinKind) -> NodeId {
    let [left, right] = [some(rng, p, input), some(rng, p, input)];
    let (left, keys) = (if rng.chance(1, 2) { left } else { input }, some_keys(rng));
    let width = p.schema(left).fields().len();
    let nulls = one(rng, &[JoinNulls::Equal, JoinNulls::Unequal]);
    let residual = if rng.chance(1, 2) { less_beside(width) } else { None };
    p.join(kind, left, right, &keys, |spec| (spec.nulls, spec.residual) = (nulls, residual))
}

/// Unions, and what they have in common with others.
fn combined(rng: &mut Rng, p: &mut Pipeline, input: NodeId) -> NodeId {
    let [left, right] = [some(rng, p, input), some(rng, p, input)];
    let both = p.union(vec![left, right]);
    if rng.chance(1, 4) {
        return both;
    }
    let operation = one(rng, &[SetOperation::Intersect, SetOperation::Except]);
    let (left, right) = if rng.chance(1, 2) { (both, input) } else { (input, both) };
    let right = if rng.chance(1, 2) { some(rng, p, right) } else { right };
    p.set(left, right, SetSpec { operation, all: rng.chance(1, 2) })
}

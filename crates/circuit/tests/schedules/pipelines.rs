//! Pipelines written by hand that use every operator and every aggregate function there is, over the script's table.
//!
//! Whoever adds an operator or a function adds it here: [`missing`] names what no pipeline uses.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field};
use tidemill_circuit::expr::Expr;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AssignSpec, DelaySpec, Emit, Expiry, Frame, FrameBound, FrameUnits, JoinKind,
    JoinNulls, LookupSpec, OverCall, OverFrame, OverFunction, OverTurn, Plan, RankFunction, RankSpec, SetOperation,
    SetSpec, Spec, TemporalJoinSpec, TimeDomain, UnnestSpec, ViewLookupSpec, Window, WindowKey,
};

use super::build::{Case, Pipeline, by, call, first, names};
use super::table::{
    Above, AsDecimal, DECIMAL, DELAY, FLAG, FLOAT, KEY, NUMBER, ORIGIN, Partition, Shifted, TEXT, TIME, Upto, decoded,
    less, list_type, near, nearby, not_before, window_fields, with,
};

use AggregateFunction::*;

fn counts(args: &[usize], distinct: bool) -> Vec<AggregateCall> {
    let one = |filter| AggregateCall { filter, distinct, ..call(Count, args.to_vec(), DataType::Int64) };
    vec![one(None), one(Some(FLAG))]
}

fn numbers() -> Vec<AggregateCall> {
    let float = || DataType::Float64;
    vec![
        call(Count, vec![], DataType::Int64),
        call(Sum, vec![NUMBER], DataType::Int64),
        call(Avg, vec![NUMBER], DataType::Int64),
        call(Sum, vec![FLOAT], float()),
        call(Avg, vec![FLOAT], float()),
        call(VarPop, vec![FLOAT], float()),
        call(VarSamp, vec![NUMBER], DataType::Int64),
        call(StddevPop, vec![NUMBER], float()),
        call(StddevSamp, vec![FLOAT], float()),
        call(BoolAnd, vec![FLAG], DataType::Boolean),
        call(BoolOr, vec![FLAG], DataType::Boolean),
    ]
}

fn edges(origin: usize) -> Vec<AggregateCall> {
    vec![
        call(FirstValue, vec![NUMBER, origin], DataType::Int64),
        call(LastValue, vec![TEXT, origin], DataType::Utf8),
        call(Min, vec![TEXT], DataType::Utf8),
        call(Max, vec![TEXT], DataType::Utf8),
        call(Min, vec![FLOAT], DataType::Float64),
        call(Max, vec![NUMBER], DataType::Int64),
    ]
}

fn collections(origin: usize) -> Vec<AggregateCall> {
    let distinct = AggregateCall { distinct: true, ..call(ListAgg, vec![TEXT, origin], DataType::Utf8) };
    vec![call(ArrayAgg, vec![NUMBER, origin], list_type()), call(ListAgg, vec![TEXT, origin], DataType::Utf8), distinct]
}

/// What orders rows: where they came from, unless a row that is taken back must say the same.
fn order(updating: bool) -> usize {
    if updating { TIME } else { ORIGIN }
}

fn sketches() -> Vec<AggregateCall> {
    vec![
        call(ApproxCountDistinct, vec![TEXT], DataType::Int64),
        call(ApproxCountDistinct, vec![TIME], DataType::Int64),
        call(ApproxQuantile(0.5), vec![FLOAT], DataType::Float64),
        call(ApproxQuantile(0.9), vec![FLOAT], DataType::Float64),
    ]
}

fn distincts() -> Vec<AggregateCall> {
    let distinct = |function, column, result| AggregateCall { distinct: true, ..call(function, vec![column], result) };
    let mut calls = counts(&[NUMBER], true);
    calls.push(distinct(Count, TEXT, DataType::Int64));
    calls.push(distinct(Sum, NUMBER, DataType::Int64));
    calls.push(distinct(Sum, FLOAT, DataType::Float64));
    calls.push(call(Count, vec![], DataType::Int64));
    calls
}

fn aggregates(calls: Vec<AggregateCall>) -> Vec<OverCall> {
    calls.into_iter().map(OverCall::Aggregate).collect()
}

fn looks_back() -> Vec<OverCall> {
    let lag = |column, offset, default| OverCall::Lag { column, offset, default };
    vec![OverCall::RowNumber, lag(TEXT, 1, None), lag(NUMBER, 3, Some(KEY)), lag(TIME, 2, None)]
}

fn rows(preceding: Option<u64>) -> Frame {
    Frame::Rows { preceding }
}

fn range(preceding_ms: Option<i64>, unit_ms: Option<i64>) -> Frame {
    Frame::Range { preceding_ms, unit_ms }
}

fn hop() -> Window {
    Window::Hop { slide: 20, size: 60, offset: 5 }
}

/// A pipeline's name, and its plan for rows that are taken back or never.
pub(crate) type Named = (&'static str, fn(bool) -> Case);

/// All pipelines.
pub(crate) const PIPELINES: &[Named] = &[
    ("statistics by key", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[KEY, TEXT], numbers());
        p.output("out", node);
        p.case()
    }),
    ("one row of statistics", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[], [numbers(), distincts()].concat());
        p.output("out", node);
        p.case()
    }),
    ("edges by key, text last", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[TEXT], edges(order(updating)));
        p.output("out", node);
        p.case()
    }),
    ("collections by key", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[KEY], collections(order(updating)));
        p.output("out", node);
        p.case()
    }),
    ("collections and different values", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let calls = [collections(order(updating)), distincts()].concat();
        let node = p.group(rows, &[FLAG], calls);
        p.output("out", node);
        p.case()
    }),
    ("sketches by key", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[KEY], sketches());
        p.output("out", node);
        p.case()
    }),
    ("different values by key", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[KEY, FLAG], distincts());
        p.output("out", node);
        p.case()
    }),
    ("different rows, counted", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let node = p.group(rows, &[TEXT, NUMBER], vec![]);
        let count =
            p.group(node, &[0], vec![call(Count, vec![], DataType::Int64), call(Max, vec![1], DataType::Int64)]);
        p.output("out", count);
        p.output("rows", node);
        p.case()
    }),
    ("tumbling windows", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let rows = p.filter(rows, -3);
        let window = Window::Tumble { size: 40, offset: -7 };
        let node = p.window(rows, &[KEY], window, [numbers(), edges(order(updating)), distincts()].concat());
        p.output("out", node);
        p.case()
    }),
    ("hopping windows of panes, and of different values", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let panes = p.window(rows, &[TEXT], hop(), [numbers(), edges(order(updating))].concat());
        let values = p.window(rows, &[FLAG], hop(), distincts());
        p.output("panes", panes);
        p.output("values", values);
        p.case()
    }),
    ("cumulating windows that say changes", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let key = |window| WindowKey::Time { time: TIME, window, domain: TimeDomain::Event };
        let window = key(Window::Cumulate { step: 15, max: 60, offset: 0 });
        let changes = p.aggregate(rows, &[KEY], Some(window.clone()), distincts(), Emit::Changes, 0);
        let closed = p.aggregate(rows, &[], Some(window), numbers(), Emit::OnClose, 0);
        p.output("changes", changes);
        p.output("closed", closed);
        p.case()
    }),
    ("windows with late rows", |updating| {
        let (mut p, rows) = Pipeline::over(updating, 10);
        let key = |window| Some(WindowKey::Time { time: TIME, window, domain: TimeDomain::Event });
        let tumble = key(Window::Tumble { size: 30, offset: 0 });
        let tumble = p.aggregate(rows, &[KEY], tumble, [numbers(), distincts()].concat(), Emit::OnClose, 25);
        let session = key(Window::Session { gap: 12 });
        let session = p.aggregate(rows, &[KEY], session, numbers(), Emit::OnClose, 25);
        let panes = p.window(rows, &[KEY], hop(), numbers());
        p.output("tumble", tumble);
        p.output("session", session);
        p.output("panes", panes);
        p.case()
    }),
    ("sessions", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let calls = || [numbers(), edges(order(updating)), distincts()].concat();
        let node = p.window(rows, &[TEXT], Window::Session { gap: 9 }, calls());
        let all = p.window(rows, &[], Window::Session { gap: 4 }, counts(&[TEXT], true));
        p.output("out", node);
        p.output("all", all);
        p.case()
    }),
    ("sessions that say changes", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let key = WindowKey::Time { time: TIME, window: Window::Session { gap: 15 }, domain: TimeDomain::Event };
        let calls = [numbers(), distincts()].concat();
        let node = p.aggregate(rows, &[KEY], Some(key), calls, Emit::Changes, 0);
        p.output("out", node);
        p.case()
    }),
    ("assigned windows over a union", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (high, low) = (p.filter(rows, 3), p.filter(rows, -2));
        let both = p.add(Spec::Union, vec![high, low], p.schema(rows));
        let schema = with(&p.schema(both), window_fields());
        let width = schema.fields().len();
        let spec = AssignSpec { time: TIME, window: hop(), domain: TimeDomain::Event };
        let assigned = p.add(Spec::AssignWindow(spec), vec![both], schema);
        let key = WindowKey::Columns { start: width - 3, end: width - 2, domain: TimeDomain::Event };
        let node = p.aggregate(assigned, &[KEY], Some(key), [numbers(), distincts()].concat(), Emit::OnClose, 0);
        p.output("out", node);
        p.case()
    }),
    ("windows that wait for a delay", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let late = p.add(Spec::Delay(DelaySpec { behind_ms: 25 }), vec![rows], p.schema(rows));
        let node = p.window(late, &[KEY], hop(), numbers());
        p.output("out", node);
        p.case()
    }),
    ("elements of lists, and decimals", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let rows = p.project(rows, vec![("list", Arc::new(Upto)), ("decimal", Arc::new(AsDecimal))]);
        let schema = with(&p.schema(rows), [Field::new("element", DataType::Int64, true)]);
        let (width, decimal) = (schema.fields().len(), schema.fields().len() - 2);
        let spec = UnnestSpec { column: width - 3, outer: true, ordinality: false };
        let elements = p.add(Spec::Unnest(spec), vec![rows], schema);
        let wide = |digits| DataType::Decimal128(38, digits);
        let calls = vec![
            call(Sum, vec![decimal], wide(2)),
            call(Avg, vec![decimal], wide(6)),
            call(VarPop, vec![decimal], wide(6)),
            call(Max, vec![decimal], DECIMAL),
            call(Count, vec![width - 1], DataType::Int64),
        ];
        let node = p.group(elements, &[width - 1], calls.clone());
        let by_decimal = p.group(elements, &[decimal, TEXT], calls);
        p.output("out", node);
        p.output("by_decimal", by_decimal);
        p.case()
    }),
    ("rows looked up in a table", |_| {
        // What is looked up for a row is not remembered, so rows that are taken back cannot be looked up.
        let (mut p, rows) = Pipeline::over(false, DELAY);
        let table = names();
        let fields = [("name", DataType::Utf8), ("version", DataType::Utf8)];
        let schema = with(&p.schema(rows), fields.map(|(name, data_type)| Field::new(name, data_type, true)));
        let (name, keys, columns) = (schema.fields().len() - 2, vec![KEY], vec![1]);
        let residual: Option<Expr> = Some(Arc::new(Above(0)));
        let spec = LookupSpec { table, keys, table_keys: vec![0], columns, version: true, residual, outer: true };
        let looked = p.add(Spec::Lookup(spec.clone()), vec![rows], schema.clone());
        let inner = p.add(Spec::Lookup(LookupSpec { residual: None, outer: false, ..spec }), vec![rows], schema);
        let by_name = p.group(looked, &[name], numbers());
        let by_version = p.group(inner, &[name + 1], numbers());
        p.output("by_name", by_name);
        p.output("by_version", by_version);
        p.case()
    }),
    ("rows looked up in views", |updating| {
        let (mut p, source) = Pipeline::over(updating, DELAY);
        // Rows that are taken back cannot be looked up, windows that have closed are not taken back.
        let window = Window::Tumble { size: 30, offset: 0 };
        let count = vec![call(Count, vec![], DataType::Int64)];
        let rows = if updating { p.window(source, &[KEY, TEXT], window, count.clone()) } else { source };
        let by_key = p.group(source, &[KEY], [edges(order(updating)), numbers()].concat());
        let sums = p.group(source, &[TEXT], [count.clone(), vec![call(Sum, vec![NUMBER], DataType::Int64)]].concat());
        let high = p.filter(sums, 4);
        let all = p.group(by_key, &[], count.clone());
        for (name, view, keys, view_keys) in
            [("by_key", by_key, vec![0], vec![0]), ("high", high, vec![1], vec![0]), ("all", all, vec![], vec![])]
        {
            // What is found depends on how steps are cut, so it is left out of what is counted; what is kept does not.
            let columns: Vec<usize> = (0..p.schema(view).fields().len()).collect();
            let found = p.schema(view);
            let found = found.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let schema = with(&p.schema(rows), found);
            let spec = ViewLookupSpec { keys, view_keys, unique: true, columns, residual: None, outer: true };
            let looked = p.add(Spec::ViewLookup(spec), vec![rows, view], schema);
            let counted = p.group(looked, &[0, 1], count.clone());
            p.output(name, counted);
        }
        p.case()
    }),
    ("rows that find several", |updating| {
        let (mut p, source) = Pipeline::over(updating, DELAY);
        let count = || vec![call(Count, vec![], DataType::Int64)];
        // What looks rows up comes when all is over, so that what it finds does not depend on how steps are cut.
        let all = Window::Tumble { size: 1_000_000, offset: 500_000 };
        let rows = p.window(source, &[KEY, TEXT], all, count());
        let table = p.table(source);
        let sums = p.group(source, &[TEXT], vec![call(Sum, vec![NUMBER], DataType::Int64)]);
        for (name, view, keys, view_keys) in
            [("table", table, vec![1, 0], vec![TEXT, KEY]), ("sums", sums, vec![0], vec![1])]
        {
            let found = p.schema(view);
            let columns: Vec<usize> = (0..found.fields().len()).collect();
            let found = found.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let schema = with(&p.schema(rows), found);
            let asked = p.schema(rows).fields().len();
            let spec = ViewLookupSpec { keys, view_keys, unique: false, columns, residual: None, outer: true };
            let looked = p.add(Spec::ViewLookup(spec), vec![rows, view], schema);
            let counted = p.group(looked, &[0, asked], count());
            p.output(name, counted);
        }
        let schema = with(&p.schema(rows), [Field::new("number", DataType::Int64, true)]);
        let (table, keys, table_keys, number) = (names(), vec![1], vec![1], schema.fields().len() - 1);
        let spec =
            LookupSpec { table, keys, table_keys, columns: vec![0], version: false, residual: None, outer: true };
        let looked = p.add(Spec::Lookup(spec), vec![rows], schema);
        let named = p.group(looked, &[KEY, number], count());
        p.output("named", named);
        p.case()
    }),
    ("windows by processing time", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        // Windows that the clock of the steps passes at the end alone, so that how steps are cut says nothing.
        let later: Expr = Arc::new(Shifted { column: TIME, millis: 1_000_000 });
        let rows = p.project(rows, vec![("later", later)]);
        let end = p.schema(rows).fields().len() - 1;
        let key = WindowKey::Columns { start: TIME, end, domain: TimeDomain::Processing };
        let node = p.aggregate(rows, &[KEY], Some(key), [numbers(), distincts()].concat(), Emit::OnClose, 0);
        p.output("out", node);
        p.case()
    }),
    ("rows over those before them in time", |_| {
        let (mut p, source) = Pipeline::over(false, DELAY);
        let calls = || aggregates([numbers(), edges(ORIGIN), distincts()].concat());
        let time = p.framed(source, &[KEY], OverTurn::Watermark, range(Some(60), None), calls());
        let units = p.framed(source, &[TEXT], OverTurn::Watermark, range(Some(60), Some(20)), calls());
        let count = p.framed(source, &[KEY], OverTurn::Watermark, rows(Some(4)), [calls(), looks_back()].concat());
        p.output("time", time);
        p.output("units", units);
        p.output("count", count);
        p.case()
    }),
    ("rows over all before them in time", |_| {
        let (mut p, source) = Pipeline::over(false, 10);
        let calls = || aggregates([numbers(), edges(ORIGIN), distincts()].concat());
        let time = p.framed(source, &[], OverTurn::Watermark, range(None, None), calls());
        let count = p.framed(source, &[TEXT], OverTurn::Watermark, rows(None), [calls(), looks_back()].concat());
        p.output("time", time);
        p.output("count", count);
        p.case()
    }),
    ("rows over those that came before them", |_| {
        let (mut p, source) = Pipeline::over(false, 10);
        // What came first is known within a partition, whatever the steps.
        let source = p.project(source, vec![("partition", Arc::new(Partition))]);
        let partition = p.schema(source).fields().len() - 1;
        let calls = || aggregates([numbers(), edges(ORIGIN), distincts()].concat());
        let time = p.framed(source, &[partition, KEY], OverTurn::Arrival, range(Some(60), None), calls());
        let more = [calls(), looks_back()].concat();
        let units = p.framed(source, &[partition, FLAG], OverTurn::Arrival, range(Some(40), Some(10)), more.clone());
        let count = p.framed(source, &[TEXT, partition], OverTurn::Arrival, rows(Some(3)), more);
        p.output("time", time);
        p.output("units", units);
        p.output("count", count);
        p.case()
    }),
    ("rows over all that came before them", |_| {
        let (mut p, source) = Pipeline::over(false, DELAY);
        let source = p.project(source, vec![("partition", Arc::new(Partition))]);
        let partition = p.schema(source).fields().len() - 1;
        let plain = aggregates([numbers(), edges(ORIGIN)].concat());
        let calls = [plain.clone(), aggregates(distincts()), looks_back()].concat();
        let time = p.framed(source, &[partition], OverTurn::Arrival, range(None, Some(10)), plain);
        let count = p.framed(source, &[partition, KEY], OverTurn::Arrival, rows(None), calls);
        p.output("time", time);
        p.output("count", count);
        p.case()
    }),
    ("first rows by key", |updating| {
        let (mut p, source) = Pipeline::over(updating, DELAY);
        let source = p.table(source);
        let prices = [by(NUMBER, true), by(TIME, false)];
        let three = p.rank(source, first(&[KEY], &prices, RankFunction::RowNumber, Some(3)));
        let newest = first(&[KEY, TEXT], &[by(TIME, true)], RankFunction::RowNumber, Some(1));
        let newest = p.rank(source, RankSpec { number: false, ..newest });
        let tied = p.rank(source, first(&[TEXT], &[by(NUMBER, false)], RankFunction::Rank, Some(4)));
        let all = RankSpec { from: 2, ..first(&[], &[by(TEXT, true)], RankFunction::DenseRank, Some(3)) };
        let all = p.rank(source, all);
        p.output("three", three);
        p.output("newest", newest);
        p.output("tied", tied);
        p.output("all", all);
        p.case()
    }),
    ("what has not changed for a while", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (source, high) = (p.table(rows), p.filter(rows, 1));
        let right = p.table(high);
        let groups = p.group(source, &[KEY, TEXT], [numbers(), distincts()].concat());
        let groups = p.forget(groups, 2);
        let again =
            p.group(groups, &[1], vec![call(Count, vec![], DataType::Int64), call(Count, vec![2], DataType::Int64)]);
        let again = p.forget(again, 3);
        let different = p.group(source, &[TEXT, NUMBER], vec![]);
        let different = p.forget(different, 1);
        let newest = p.rank(source, first(&[KEY, FLAG], &[by(TIME, true)], RankFunction::RowNumber, Some(2)));
        let newest = p.forget(newest, 2);
        let inner = p.join(JoinKind::Inner, source, right, &[KEY, TEXT], |_| {});
        let inner = p.forget(inner, 2);
        let outer = p.join(JoinKind::Full, source, right, &[KEY], |spec| spec.residual = less());
        let outer = p.forget(outer, 3);
        for (name, node) in
            [("again", again), ("different", different), ("newest", newest), ("inner", inner), ("outer", outer)]
        {
            p.output(name, node);
        }
        p.case()
    }),
    ("rows that meet no others for a while", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (left, high) = (p.table(rows), p.filter(rows, 1));
        let right = p.table(high);
        let kinds =
            [("left", JoinKind::Left), ("full", JoinKind::Full), ("semi", JoinKind::Semi), ("anti", JoinKind::Anti)];
        for (name, kind) in kinds {
            let join = p.join(kind, left, right, &[KEY, TEXT], |_| {});
            let join = p.forget(join, 2);
            p.output(name, join);
        }
        let columns = [KEY, TEXT, FLAG];
        let [left, right] = [left, right].map(|input| p.columns(input, &columns));
        for (name, operation) in [("both", SetOperation::Intersect), ("one", SetOperation::Except)] {
            let rows = p.add(Spec::SetOperation(SetSpec { operation, all: true }), vec![left, right], p.schema(left));
            let rows = p.forget(rows, 2);
            p.output(name, rows);
        }
        p.case()
    }),
    ("rows that surely meet none for a while", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (left, high) = (p.table(rows), p.filter(rows, 3));
        let right = p.table(high);
        let not_in = p.join(JoinKind::Anti, left, right, &[NUMBER], |spec| spec.nulls = JoinNulls::Unknown);
        let not_in = p.forget(not_in, 2);
        p.output("not_in", not_in);
        let newest = first(&[], &[by(TIME, true)], RankFunction::RowNumber, Some(1));
        let newest = p.rank(right, RankSpec { number: false, ..newest });
        for (name, kind, right) in
            [("none", JoinKind::Anti, right), ("all", JoinKind::Inner, right), ("newest", JoinKind::Left, newest)]
        {
            let join = p.join(kind, left, right, &[], |_| {});
            let join = p.forget(join, 2);
            p.output(name, join);
        }
        p.case()
    }),
    ("versions of keys that nobody asks for", |updating| {
        let (mut p, source) = Pipeline::over(updating, 10);
        let source = p.table(source);
        let versions = p.filter(source, 2);
        let found = decoded().field(NUMBER).clone().with_nullable(true);
        let schema = with(&p.schema(source), vec![found]);
        let spec = TemporalJoinSpec {
            left_keys: vec![KEY],
            right_keys: vec![KEY],
            left_time: TIME,
            right_time: TIME,
            strict: false,
            ended: None,
            columns: vec![NUMBER],
            residual: None,
            outer: true,
        };
        let join = p.add(Spec::TemporalJoin(spec), vec![source, versions], schema);
        let join = p.forget(join, 2);
        p.output("found", join);
        p.case()
    }),
    ("groups and keys of times that pass", |updating| {
        let (mut p, source) = Pipeline::over(updating, 10);
        let source = p.table(source);
        let groups = p.passing(source, &[KEY, TIME], [numbers(), distincts()].concat(), 7);
        let rows = p.passing(source, &[TIME, TEXT], vec![], 0);
        let frame = OverFrame { units: FrameUnits::Rows, start: FrameBound::Preceding(1), end: FrameBound::CurrentRow };
        let calls = numbers().into_iter().map(OverFunction::Aggregate).chain([OverFunction::RowNumber]);
        let over = p.changing(source, &[FLAG, TIME], &[by(NUMBER, true)], frame, calls.collect());
        p.expiring(over, 3);
        p.output("groups", groups);
        p.output("rows", rows);
        p.output("over", over);
        p.case()
    }),
    ("versions that changes begin and end", |updating| {
        let (mut p, source) = Pipeline::over(updating, 10);
        let (versions, ended) = p.versions(source, &[KEY]);
        let last = first(&[KEY, TIME], &[by(ORIGIN, true)], RankFunction::RowNumber, Some(1));
        let versions = p.rank(versions, RankSpec { expiry: Some(Expiry { time: TIME, after_ms: 0 }), ..last });
        let rows = p.table(source);
        let spec = TemporalJoinSpec {
            left_keys: vec![KEY],
            right_keys: vec![KEY],
            left_time: TIME,
            right_time: TIME,
            strict: false,
            ended: Some(ended),
            columns: vec![NUMBER, TEXT],
            residual: None,
            outer: true,
        };
        let join = p.temporal(rows, versions, spec);
        p.output("out", join);
        p.case()
    }),
    ("rows before those that may change", |updating| {
        let (mut p, source) = Pipeline::over(updating, 10);
        let source = p.table(source);
        let frame = |units, start, end| OverFrame { units, start, end };
        let two = frame(FrameUnits::Rows, FrameBound::Preceding(2), FrameBound::Following(1));
        let near = frame(FrameUnits::Range, FrameBound::Preceding(9), FrameBound::CurrentRow);
        let lead = OverFunction::Lead { column: NUMBER, offset: 1, default: None };
        for (name, keys, frame) in [("two", vec![KEY], two), ("near", vec![TEXT], near), ("all", vec![], two)] {
            let calls = numbers().into_iter().map(OverFunction::Aggregate).chain([lead.clone()]);
            // A RANGE that counts goes by one column.
            let order = &[by(TIME, false), by(NUMBER, true)][..if name == "near" { 1 } else { 2 }];
            let over = p.changing(source, &keys, order, frame, calls.collect());
            if let Spec::OverChanges(spec) = &mut p.plan.nodes[over].spec {
                spec.settled = Some(Expiry { time: TIME, after_ms: 0 });
            }
            p.output(name, over);
        }
        p.case()
    }),
    ("rows numbered by key", |updating| {
        let (mut p, source) = Pipeline::over(updating, DELAY);
        let source = p.table(source);
        let numbered = p.rank(source, first(&[KEY], &[by(FLOAT, true)], RankFunction::RowNumber, None));
        let groups = p.group(source, &[TEXT, NUMBER], numbers());
        // Groups change, so rows are taken back whatever the input.
        let best = p.rank(groups, first(&[0], &[by(2, true)], RankFunction::Rank, Some(2)));
        p.output("numbered", numbered);
        p.output("best", best);
        p.case()
    }),
    ("first rows of windows", |updating| {
        let (mut p, source) = Pipeline::over(updating, 10);
        let source = p.table(source);
        let (rows, end) = p.assigned(source, hop());
        let closing = first(&[end, KEY], &[by(NUMBER, true)], RankFunction::RowNumber, Some(2));
        let closing = p.rank(rows, RankSpec { close: Some(end), ..closing });
        let expiry = Some(Expiry { time: end, after_ms: 7 });
        let expiring = first(&[TEXT, end], &[by(FLOAT, false)], RankFunction::DenseRank, Some(2));
        let expiring = p.rank(rows, RankSpec { expiry, ..expiring });
        p.output("closing", closing);
        p.output("expiring", expiring);
        p.case()
    }),
    ("rows beside what was valid at their time", |updating| {
        let (mut p, source) = Pipeline::over(updating, 10);
        let source = p.table(source);
        let versions = p.filter(source, 2);
        let join = |p: &mut Pipeline, left_keys: Vec<usize>, residual: Option<Expr>, strict: bool, outer: bool| {
            let (columns, right_keys) = (vec![NUMBER, FLOAT, TIME], left_keys.clone());
            let found = columns.iter().map(|column| decoded().field(*column).clone().with_nullable(true));
            let schema = with(&p.schema(source), found.collect::<Vec<_>>());
            let (left_time, right_time, ended) = (TIME, TIME, None);
            let spec = TemporalJoinSpec {
                left_keys,
                right_keys,
                left_time,
                right_time,
                strict,
                ended,
                columns,
                residual,
                outer,
            };
            p.add(Spec::TemporalJoin(spec), vec![source, versions], schema)
        };
        let by_key = join(&mut p, vec![KEY], None, false, true);
        let by_text = join(&mut p, vec![TEXT, FLAG], Some(Arc::new(Above(0))), true, true);
        let all = join(&mut p, vec![], None, true, false);
        p.output("by_key", by_key);
        p.output("by_text", by_text);
        p.output("all", all);
        p.case()
    }),
    ("pairs by key", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (left, high) = (p.table(rows), p.filter(rows, 1));
        let right = p.table(high);
        let pairs = p.join(JoinKind::Inner, left, right, &[KEY, TEXT], |_| {});
        let equal = p.join(JoinKind::Inner, right, left, &[TEXT, FLAG], |spec| {
            (spec.nulls, spec.residual) = (JoinNulls::Equal, less());
        });
        let one = p.group(rows, &[], vec![call(Count, vec![], DataType::Int64)]);
        let crossed = p.join(JoinKind::Inner, right, one, &[], |_| {});
        p.output("pairs", pairs);
        p.output("equal", equal);
        p.output("crossed", crossed);
        p.case()
    }),
    ("pairs near in time, some of them late", |updating| {
        let (mut p, rows) = Pipeline::over(updating, 10);
        let (left, high) = (p.table(rows), p.filter(rows, 1));
        let right = p.table(high);
        let inner = p.join(JoinKind::Inner, left, right, &[KEY], |spec| {
            (spec.residual, spec.expiry) = (near(), nearby());
        });
        let outer = p.join(JoinKind::Left, left, right, &[KEY], |spec| {
            (spec.residual, spec.expiry) = (near(), nearby());
            spec.pad = if updating { Emit::Changes } else { Emit::OnClose };
        });
        let full = p.join(JoinKind::Full, right, left, &[KEY, TEXT], |spec| {
            (spec.residual, spec.expiry) = (near(), nearby());
        });
        p.output("inner", inner);
        p.output("outer", outer);
        p.output("full", full);
        p.case()
    }),
    ("pairs of one window, whatever the order of their rows", |updating| {
        let (mut p, rows) = Pipeline::over(updating, 10);
        let (left, high) = (p.table(rows), p.filter(rows, 2));
        let right = p.table(high);
        let ((left, end), (right, _)) = (p.assigned(left, hop()), p.assigned(right, hop()));
        for (name, kind) in [("inner", JoinKind::Inner), ("outer", JoinKind::Left), ("semi", JoinKind::Semi)] {
            let joined = p.join(kind, left, right, &[KEY, end], |spec| {
                spec.expiry = [Some(Expiry { time: end, after_ms: -1 }); 2];
                spec.late = spec.expiry;
                spec.pad = if updating || kind != JoinKind::Left { Emit::Changes } else { Emit::OnClose };
            });
            p.output(name, joined);
        }
        p.case()
    }),
    ("windows over rows of which one side goes, some of them late", |_| {
        let (mut p, rows) = Pipeline::over(false, 0);
        let (left, high) = (p.table(rows), p.filter(rows, 1));
        let right = p.table(high);
        for (name, kind, pad) in [
            ("inner", JoinKind::Inner, Emit::Changes),
            ("left", JoinKind::Left, Emit::Changes),
            ("left_once", JoinKind::Left, Emit::OnClose),
            ("semi", JoinKind::Semi, Emit::Changes),
            ("anti", JoinKind::Anti, Emit::Changes),
        ] {
            let expiry = [Some(Expiry { time: TIME, after_ms: 5 }), None];
            let joined = p.join(kind, left, right, &[KEY], |spec| {
                (spec.residual, spec.expiry, spec.pad) = (not_before(), expiry, pad);
            });
            let joined = p.delay(joined, 5);
            let windows = p.window(joined, &[TEXT], Window::Tumble { size: 10, offset: 0 }, numbers());
            p.output(name, windows);
        }
        p.case()
    }),
    ("windows over rows that were judged before, some of them late", |updating| {
        // What judges rows by a time leaves suspects out that are late, and says the others without their marks.
        let (mut p, source) = Pipeline::over(updating, 0);
        let source = p.table(source);
        let versions = p.filter(source, 2);
        let window = || Window::Tumble { size: 10, offset: 0 };
        let expiry = |time, after_ms| Some(Expiry { time, after_ms });
        let first = |keys: &[usize]| first(keys, &[by(NUMBER, true)], RankFunction::RowNumber, Some(2));
        let ranked = p.rank(source, RankSpec { expiry: expiry(TIME, 0), ..first(&[KEY, TIME]) });
        let frame = OverFrame { units: FrameUnits::Rows, start: FrameBound::Preceding(1), end: FrameBound::CurrentRow };
        let calls = numbers().into_iter().map(OverFunction::Aggregate);
        let changing = p.changing(source, &[TIME, FLAG], &[by(NUMBER, true)], frame, calls.collect());
        p.expiring(changing, 0);
        let (keys, columns) = (vec![KEY], vec![NUMBER]);
        let spec = TemporalJoinSpec {
            left_keys: keys.clone(),
            right_keys: keys,
            left_time: TIME,
            right_time: TIME,
            strict: false,
            ended: None,
            columns,
            residual: None,
            outer: true,
        };
        let temporal = p.temporal(source, versions, spec);
        for (name, rows) in [("ranked", ranked), ("changing", changing), ("temporal", temporal)] {
            let windows = p.window(rows, &[TEXT], window(), numbers());
            p.output(name, windows);
        }
        let (rows, end) = p.assigned(source, window());
        let closing = p.rank(rows, RankSpec { close: Some(end), ..first(&[KEY, end]) });
        let passing = p.rank(rows, RankSpec { expiry: expiry(end, -1), ..first(&[KEY, end]) });
        for (name, rows) in [("closing", closing), ("passing", passing)] {
            let key = WindowKey::Columns { start: end - 1, end, domain: TimeDomain::Event };
            let windows = p.aggregate(rows, &[TEXT], Some(key), numbers(), Emit::OnClose, 0);
            p.output(name, windows);
        }
        p.case()
    }),
    ("rows and those that they meet", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (left, high) = (p.table(rows), p.filter(rows, 2));
        let right = p.table(high);
        let outer = p.join(JoinKind::Left, left, right, &[KEY, TEXT], |_| {});
        let some = p.join(JoinKind::Left, right, left, &[KEY], |spec| spec.residual = less());
        let full = p.join(JoinKind::Full, left, right, &[TEXT, FLAG], |spec| spec.nulls = JoinNulls::Equal);
        let both = p.join(JoinKind::Full, left, right, &[KEY, FLAG], |spec| spec.residual = less());
        p.output("outer", outer);
        p.output("some", some);
        p.output("full", full);
        p.output("both", both);
        p.case()
    }),
    ("rows that meet any, and that meet none", |updating| {
        let (mut p, rows) = Pipeline::over(updating, DELAY);
        let (left, high) = (p.table(rows), p.filter(rows, 3));
        let right = p.table(high);
        let semi = p.join(JoinKind::Semi, left, right, &[KEY, TEXT], |_| {});
        let anti = p.join(JoinKind::Anti, left, right, &[KEY, TEXT], |_| {});
        let less_semi = p.join(JoinKind::Semi, left, right, &[KEY], |spec| spec.residual = less());
        let less_anti = p.join(JoinKind::Anti, left, right, &[TEXT], |spec| spec.residual = less());
        let not_in = p.join(JoinKind::Anti, left, right, &[NUMBER], |spec| spec.nulls = JoinNulls::Unknown);
        let none = p.join(JoinKind::Anti, left, right, &[], |_| {});
        p.output("semi", semi);
        p.output("anti", anti);
        p.output("less_semi", less_semi);
        p.output("less_anti", less_anti);
        p.output("not_in", not_in);
        p.output("none", none);
        p.case()
    }),
    ("rows of both sides, and of one alone", |updating| {
        let (mut p, source) = Pipeline::over(updating, DELAY);
        let source = p.table(source);
        let (high, columns) = (p.filter(source, 2), [KEY, TEXT, FLAG]);
        let [left, right] = [source, high].map(|input| p.columns(input, &columns));
        for (name, operation) in [("both", SetOperation::Intersect), ("one", SetOperation::Except)] {
            let once = p.add(Spec::SetOperation(SetSpec { operation, all: false }), vec![left, right], p.schema(left));
            let all = p.add(Spec::SetOperation(SetSpec { operation, all: true }), vec![left, right], p.schema(left));
            p.output(name, once);
            p.output(&format!("{name}_all"), all);
        }
        p.case()
    }),
    ("rows that met any before they expired", |updating| {
        let (mut p, rows) = Pipeline::over(updating, 10);
        let (left, high) = (p.table(rows), p.filter(rows, 1));
        let right = p.table(high);
        let semi = p.join(JoinKind::Semi, left, right, &[KEY], |spec| {
            (spec.residual, spec.expiry) = (near(), nearby());
        });
        let anti = p.join(JoinKind::Anti, left, right, &[KEY, FLAG], |spec| {
            (spec.residual, spec.expiry) = (near(), nearby());
            spec.pad = if updating { Emit::Changes } else { Emit::OnClose };
        });
        let same = p.join(JoinKind::Left, left, right, &[KEY, TIME], |spec| {
            spec.expiry = [0, 0].map(|after_ms| Some(Expiry { time: TIME, after_ms }));
        });
        p.output("semi", semi);
        p.output("anti", anti);
        p.output("same", same);
        p.case()
    }),
    ("rows over all rows of their key", |updating| {
        let (mut p, source) = Pipeline::over(updating, DELAY);
        let source = p.table(source);
        let place = decoded().fields().len();
        let calls = || {
            let calls = [numbers(), edges(place), distincts(), collections(place), sketches()].concat();
            let shift = [(true, NUMBER, 1, None), (false, TEXT, 2, None), (false, NUMBER, 3, Some(KEY))];
            let shifts = shift.map(|(ahead, column, offset, default)| match ahead {
                true => OverFunction::Lead { column, offset, default },
                false => OverFunction::Lag { column, offset, default },
            });
            let ranks = [OverFunction::RowNumber, OverFunction::Rank, OverFunction::DenseRank];
            calls.into_iter().map(OverFunction::Aggregate).chain(shifts).chain(ranks).collect::<Vec<_>>()
        };
        let rows = OverFrame { units: FrameUnits::Rows, start: FrameBound::Preceding(3), end: FrameBound::CurrentRow };
        let rows = p.changing(source, &[KEY], &[by(NUMBER, true), by(TEXT, false)], rows, calls());
        let near = FrameBound::Preceding(25);
        let range = OverFrame { units: FrameUnits::Range, start: near, end: FrameBound::Following(10) };
        let range = p.changing(source, &[TEXT, FLAG], &[by(TIME, false)], range, calls());
        let all = OverFrame { units: FrameUnits::Range, start: FrameBound::Unbounded, end: FrameBound::Unbounded };
        let all = p.changing(source, &[], &[by(FLOAT, true)], all, calls());
        p.output("rows", rows);
        p.output("range", range);
        p.output("all", all);
        p.case()
    }),
];

/// The kind of a node; a new one does not compile before it is named here, and then fails until a pipeline uses it.
fn kind(spec: &Spec) -> &'static str {
    match spec {
        Spec::Source(_) => "source",
        Spec::Filter(_) => "filter",
        Spec::Project(_) => "project",
        Spec::Unnest(_) => "unnest",
        Spec::Lookup(_) => "lookup",
        Spec::ViewLookup(_) => "view_lookup",
        Spec::Over(_) => "over",
        Spec::OverChanges(_) => "over_changes",
        Spec::Join(_) => "join",
        Spec::TemporalJoin(_) => "temporal_join",
        Spec::Versions(_) => "versions",
        Spec::SetOperation(_) => "set_operation",
        Spec::Rank(_) => "rank",
        Spec::Union => "union",
        Spec::Delay(_) => "delay",
        Spec::AssignWindow(_) => "assign_window",
        Spec::Aggregate(_) => "aggregate",
        Spec::Output(_) => "output",
    }
}

fn function(function: AggregateFunction) -> &'static str {
    match function {
        Count => "Count",
        Sum => "Sum",
        Avg => "Avg",
        Min => "Min",
        Max => "Max",
        FirstValue => "FirstValue",
        LastValue => "LastValue",
        StddevPop => "StddevPop",
        StddevSamp => "StddevSamp",
        VarPop => "VarPop",
        VarSamp => "VarSamp",
        BoolAnd => "BoolAnd",
        BoolOr => "BoolOr",
        ArrayAgg => "ArrayAgg",
        ListAgg => "ListAgg",
        ApproxCountDistinct => "ApproxCountDistinct",
        ApproxQuantile(_) => "ApproxQuantile",
    }
}

const FUNCTIONS: [&str; 17] = [
    "Count",
    "Sum",
    "Avg",
    "Min",
    "Max",
    "FirstValue",
    "LastValue",
    "StddevPop",
    "StddevSamp",
    "VarPop",
    "VarSamp",
    "BoolAnd",
    "BoolOr",
    "ArrayAgg",
    "ListAgg",
    "ApproxCountDistinct",
    "ApproxQuantile",
];

/// Files among the operators that are no operator.
const HELPERS: [&str; 6] = ["census", "guard", "ordered", "testing", "time", "ttl"];

/// The operators there are.
fn operators() -> impl Iterator<Item = String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/operators");
    let files = std::fs::read_dir(folder).expect("the operators are there");
    let names =
        files.map(|file| file.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned());
    names.filter(|name| !HELPERS.contains(&name.as_str()))
}

/// Operators that none of these plans uses.
pub(crate) fn unused(plans: impl Iterator<Item = Plan>) -> Vec<String> {
    let used: BTreeSet<&str> = plans.flat_map(|plan| plan.nodes).map(|node| kind(&node.spec)).collect();
    operators().filter(|name| !used.contains(name.as_str())).collect()
}

/// Operators and functions that no pipeline uses.
pub(crate) fn missing() -> Vec<String> {
    let plans = || PIPELINES.iter().flat_map(|(_, make)| [make(false), make(true)]).map(|case| case.plan);
    let calls = |spec: &Spec| match spec {
        Spec::Aggregate(spec) => spec.calls.iter().map(|call| function(call.function)).collect(),
        _ => Vec::new(),
    };
    let used: BTreeSet<&str> = plans().flat_map(|plan| plan.nodes).flat_map(|node| calls(&node.spec)).collect();
    let functions = FUNCTIONS.iter().filter(|name| !used.contains(*name)).map(ToString::to_string);
    unused(plans()).into_iter().chain(functions).collect()
}

//! OVER: calls over the rows of a key.
//!
//! There are three ways to keep a call up. Where rows only come, in the order of a time, and a frame ends with its row, each
//! row is answered once ([`OverSpec`], in this file): when it comes, in an endpoint and by processing time, or when the
//! watermark passes it. A rank of which only the first are wanted is a [`super::rank`]. All else follows the changes of its
//! rows ([`super::changes`]).
//!
//! Keys, times and arguments become columns first; then each window (keys, time, frame) is one [`OverSpec`], one after the
//! other, each adding its calls' columns to the rows. ROW_NUMBER and LAG have no frame and go with any window of their keys.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::Window;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, lit,
};
use tidemill_base::Position;
use tidemill_circuit::plan::{Frame, OverCall, OverSpec, OverTurn, Spec, TimeDomain};

use super::facts::{Attribute, NodeFacts, is_proctime};
use super::{Builder, Lowered, ORIGIN, Project, Slot, is_random, place_of, type_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::explain::shouted;
use crate::expr::{columns_of, duration, print, unaliased};
use crate::plan::asked::Asked;
use crate::plan::endpoint::path;
use crate::window_function::{LAG, ROW_NUMBER};

const MINUTE: i64 = 60_000;

/// What a time is truncated to, in milliseconds.
const UNITS: [(&str, i64); 4] =
    [("SECOND", 1_000), ("MINUTE", MINUTE), ("HOUR", 60 * MINUTE), ("DAY", 24 * 60 * MINUTE)];

/// Why event time that is a TIMESTAMP_LTZ does not go with readings of a wall clock in one circuit.
const BY_THE_WALL: (&str, &str) = (
    "OVER by a TIMESTAMP_LTZ beside windows or event time on a wall clock that is not UTC's is not supported",
    "SET 'table.local-time-zone' = 'UTC', or run the two in files of their own",
);

/// Calls over one window.
struct Group {
    keys: Vec<usize>,
    order: usize,
    /// None when no call has a frame.
    frame: Option<Frame>,
    /// Each with its place among the calls of the plan's node.
    calls: Vec<(usize, OverCall)>,
    position: Option<Position>,
}

/// One call, its window made of columns.
struct Windowed {
    keys: Vec<usize>,
    order: usize,
    frame: Option<Frame>,
    call: OverCall,
    position: Option<Position>,
}

impl Builder<'_> {
    pub(super) fn over(&mut self, window: &Window, origin: bool) -> Result<Lowered> {
        let (input, calls) = match self.asking || self.answering {
            true => (window.input.as_ref(), window.window_expr.iter().map(call).collect::<Result<_>>()?),
            false => stacked(window)?,
        };
        let schema = &window.schema;
        let (wanted, versions) = (self.wanted.take(), self.versions.take());
        let random = calls.iter().flat_map(|call| parts(call)).any(is_random);
        let arrival = calls.iter().any(|call| wants_arrival(call, input.schema())) && self.gives_origin(input);
        let lowered = self.lower(input, origin || random || arrival)?;
        let mut lowered = self.materialise(lowered)?;
        self.versions = versions;
        let width = input.schema().fields().len();
        let (mut timed, mut changing, mut ranked) = (Vec::new(), Vec::new(), None);
        for (index, call) in calls.iter().enumerate() {
            let first = wanted.filter(|wanted| wanted.call == index);
            match (self.is_timed(call, first.is_some(), &lowered, input.schema())?, first) {
                (true, _) => timed.push(index),
                (false, Some(wanted)) => ranked = Some(wanted),
                (false, None) => changing.push(index),
            }
        }
        if origin && timed.len() < calls.len() {
            return Err(self.unordered("OVER whose answers change"));
        }
        if !timed.is_empty() {
            lowered = self.timely(lowered);
            let chosen: Vec<_> = timed.iter().map(|index| calls[*index]).collect();
            let (with_columns, windowed) = self.windowed_calls(&chosen, &lowered, input.schema())?;
            lowered = with_columns;
            let mut places = vec![0; calls.len()];
            for group in grouped(timed.iter().copied().zip(windowed)) {
                lowered = self.add_over(group, lowered, schema, width, &mut places)?;
            }
            lowered.slots.extend(timed.iter().map(|index| Slot::At(places[*index])));
        }
        if !changing.is_empty() {
            let chosen: Vec<_> = changing.iter().map(|index| calls[*index]).collect();
            lowered = self.changes(&chosen, &lowered, input.schema())?;
        }
        match ranked {
            Some(wanted) => lowered = self.add_rank(calls[wanted.call], wanted, &lowered, input.schema())?,
            None => self.wanted = wanted,
        }
        // What was computed stands behind the fields in the order in which it was.
        let order = timed.into_iter().chain(changing).chain(ranked.map(|wanted| wanted.call));
        let mut computed: Vec<_> = order.zip(lowered.slots.split_off(width)).collect();
        computed.sort_by_key(|(call, _)| *call);
        lowered.slots.extend(computed.into_iter().map(|(_, slot)| slot));
        Ok(lowered)
    }

    /// Whether a call is answered once for each row, in the order of a time; `first` says whether it is a rank of which
    /// only the first are wanted.
    fn is_timed(&self, call: &WindowFunction, first: bool, lowered: &Lowered, schema: &DFSchema) -> Result<bool> {
        if self.asking || self.answering {
            return self.check_asked(call, schema).map(|()| true);
        }
        if !is_timely(call, schema) || !self.plan.append_only()[lowered.node] {
            return Ok(false);
        }
        let (time, unit) = order_of(&call.params.order_by)?;
        let attribute = match unaliased(time) {
            column @ Expr::Column(_) => match lowered.slot_of(column, schema)? {
                Slot::At(column) => {
                    let NodeFacts { attributes, later, .. } = self.facts.of(lowered.node);
                    let attributes = later.as_ref().map_or(attributes, |later| &later.attributes);
                    attributes.get(column).copied().unwrap_or(Attribute::Plain)
                }
                _ => return Ok(false),
            },
            computed if is_proctime(computed) => Attribute::Time(TimeDomain::Processing, None),
            _ => return Ok(false),
        };
        let in_place = is_edge(call);
        let by_order = matches!(call.params.window_frame.units, WindowFrameUnits::Rows) || !is_framed(call) || in_place;
        Ok(match attribute {
            Attribute::Time(TimeDomain::Processing, _) => lowered.origin.is_some(),
            Attribute::Time(TimeDomain::Event, _) => {
                let zoned = matches!(type_of(time, schema)?, DataType::Timestamp(_, Some(_)));
                let apart = zoned && self.cuts_by_the_wall(TimeDomain::Event) && !self.watermark_is_instant();
                let ordered = lowered.origin.is_some() || !by_order;
                unit.is_none() && !first && !in_place && !apart && ordered
            }
            Attribute::Plain | Attribute::Start(..) | Attribute::End(..) => false,
        })
    }

    /// In an endpoint a row is answered when it comes, by those before it.
    fn check_asked(&self, call: &WindowFunction, schema: &DFSchema) -> Result<()> {
        let position = || parts(&call).into_iter().find_map(place_of).or(self.position);
        let name = call.fun.name().to_uppercase();
        let (problem, help) = if !is_framed(call) && !ends_with_row(call) {
            let help = "take LAG or ROW_NUMBER by time; or rank the rows in a view, and look it up";
            (format!("{name} changes with rows that are still to come, and an endpoint answers once"), help)
        } else if !ends_with_row(call) {
            let help = "write RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW";
            ("a frame in an endpoint ends with its row: what follows has not come yet".to_string(), help)
        } else if !orders_time(&call.params.order_by, schema) {
            let help = "order by a column that WATERMARK is declared FOR, or by PROCTIME()";
            ("OVER in an endpoint is ordered by one time, upwards".to_string(), help)
        } else {
            return Ok(());
        };
        Err(outside(Error::Plan { problem, position: position(), help: Some(help.to_string()) }))
    }

    /// The rows with a column for everything that the calls name.
    fn windowed_calls(
        &mut self,
        calls: &[&WindowFunction],
        lowered: &Lowered,
        schema: &DFSchema,
    ) -> Result<(Lowered, Vec<Windowed>)> {
        let statement = self.position;
        let width = self.plan.nodes[lowered.node].schema.fields().len();
        let zone = self.zone;
        let bare = calls.iter().flat_map(|call| parts(call)).all(|part| {
            matches!(unaliased(part), Expr::Column(_))
                || truncated(part).is_some_and(|(time, _)| matches!(time, Expr::Column(_)))
        });
        let mut project = self.project(lowered, schema);
        if bare {
            // Every column stays in its place, and the projection falls away.
            for column in 0..width {
                project.keep(column);
            }
        }
        let slots = project.keep_all(lowered)?;
        let mut windowed = Vec::with_capacity(calls.len());
        for call in calls {
            windowed.push(project.windowed(call, lowered, schema, (zone != chrono_tz::Tz::UTC, statement))?);
        }
        let lowered = if bare && project.is_untouched(width) { lowered.clone() } else { project.finish(slots)? };
        Ok((lowered, windowed))
    }

    fn add_over(
        &mut self,
        group: Group,
        lowered: Lowered,
        schema: &DFSchema,
        inputs: usize,
        places: &mut [usize],
    ) -> Result<Lowered> {
        let Group { keys, order, frame, calls, position } = group;
        let before = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let mut facts = self.facts.of(lowered.node).clone();
        let Attribute::Time(domain, _) = facts.attributes[order] else {
            return Err(no_time(before.field(order).name(), position.or(self.position)));
        };
        let turn = match domain {
            TimeDomain::Event if !self.asking => OverTurn::Watermark,
            TimeDomain::Event | TimeDomain::Processing => OverTurn::Arrival,
        };
        if turn == OverTurn::Watermark {
            facts.wait_for(order);
        }
        if lowered.origin.is_none() && (turn == OverTurn::Arrival || by_order(&calls, frame)) {
            return Err(outside(Error::Unsupported {
                what: "this OVER follows the order in which rows come, and its input has none".to_string(),
                position: position.or(self.position).unwrap_or(Position { line: 1, column: 1 }),
                help: Some(
                    "write RANGE BETWEEN INTERVAL .. PRECEDING AND CURRENT ROW over event time, or write OVER right over a \
                     table, below UNION, UNNEST and GROUP BY"
                        .to_string(),
                ),
            }));
        }
        let zoned = matches!(before.field(order).data_type(), DataType::Timestamp(_, Some(_)));
        let apart = zoned && self.cuts_by_the_wall(domain) && !self.watermark_is_instant();
        if let Some((what, help)) = unkept(&calls, frame, turn, domain).or(apart.then_some(BY_THE_WALL)) {
            return Err(outside(Error::Unsupported {
                what: what.to_string(),
                position: position.or(self.position).unwrap_or(Position { line: 1, column: 1 }),
                help: Some(help.to_string()),
            }));
        }
        let mut fields: Vec<FieldRef> = before.fields().iter().map(Arc::clone).collect();
        for (index, call) in &calls {
            places[*index] = fields.len();
            let data_type = schema.field(inputs + index).data_type().clone();
            fields.push(Arc::new(Field::new(title(call, &before, &keys, frame), data_type, true)));
            facts.attributes.push(Attribute::Plain);
        }
        facts.schedule_dependent |= turn == OverTurn::Arrival;
        let spec = OverSpec {
            keys,
            order: Some(order),
            domain,
            origin: lowered.origin,
            turn,
            frame: frame.unwrap_or(Frame::Rows { preceding: Some(0) }),
            calls: calls.into_iter().map(|(_, call)| call).collect(),
        };
        let statement = self.position;
        self.position = position.or(statement);
        let node = self.add(Spec::Over(spec), vec![lowered.node], Arc::new(Schema::new(fields)), facts);
        self.position = statement;
        Ok(Lowered { node, ..lowered })
    }

    /// Whether each row of a plan has a place in a source that tells it from all others.
    fn gives_origin(&self, plan: &LogicalPlan) -> bool {
        match plan {
            LogicalPlan::TableScan(scan) => {
                self.sources.get(scan.table_name.table()).is_some_and(|source| source.append_only)
            }
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => true,
            LogicalPlan::Filter(filter) if super::rank::ranks(&filter.predicate, &filter.input) => false,
            LogicalPlan::Window(window) => {
                let timely = |expr: &Expr| {
                    let Ok(call) = call(expr) else { return false };
                    let time = call.params.order_by.first().is_some_and(|key| self.is_time(&window.input, &key.expr));
                    time && call.params.order_by.len() == 1 && is_timely(call, window.input.schema()) && !is_edge(call)
                };
                window.window_expr.iter().all(timely) && self.gives_origin(&window.input)
            }
            LogicalPlan::Extension(Extension { node }) if node.as_any().is::<Asked>() => {
                node.inputs().into_iter().all(|input| self.gives_origin(input))
            }
            LogicalPlan::Extension(Extension { node }) if node.as_any().is::<crate::plan::unnest::Unnest>() => false,
            other => path::next(other).is_some_and(|input| self.gives_origin(input)),
        }
    }
}

impl Builder<'_> {
    /// Whether an expression is a time that moves on with the rows of a plan.
    fn is_time(&self, plan: &LogicalPlan, expr: &Expr) -> bool {
        let expr = unaliased(expr);
        let Expr::Column(column) = expr else { return is_proctime(expr) };
        let Some(place) = plan.schema().maybe_index_of_column(column) else { return false };
        match plan {
            LogicalPlan::TableScan(scan) => {
                let Some(source) = self.sources.get(scan.table_name.table()) else { return false };
                let place = scan.projection.as_ref().map_or(place, |places| places[place]);
                let event = source.watermark.as_ref().is_some_and(|(time, _)| *time == place);
                event || is_proctime(&source.columns[place].1)
            }
            LogicalPlan::Projection(projection) => self.is_time(&projection.input, &projection.expr[place]),
            other => match path::next(other) {
                Some(input) if place < input.schema().fields().len() => {
                    self.is_time(input, &Expr::Column(input.schema().columns()[place].clone()))
                }
                _ => false,
            },
        }
    }
}

impl Project<'_, '_> {
    fn windowed(
        &mut self,
        function: &WindowFunction,
        input: &Lowered,
        schema: &DFSchema,
        (zoned, statement): (bool, Option<Position>),
    ) -> Result<Windowed> {
        let WindowFunction { fun, params } = function;
        let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, null_treatment, distinct } =
            params;
        let position = parts(&function).into_iter().find_map(place_of).or(statement);
        let (time, unit) = order_of(order_by)?;
        let keys = partition_by.iter().map(|key| self.column(key, input, schema, &print(unaliased(key))));
        let keys = keys.collect::<Result<_>>()?;
        let wrong = |problem: &str, help: &str| {
            let (problem, help) = (problem.to_string(), Some(help.to_string()));
            outside(Error::Plan { problem, position: place_of(time).or(position), help })
        };
        let by_the_wall = zoned && matches!(type_of(time, schema)?, DataType::Timestamp(_, Some(_)));
        if by_the_wall && unit.is_some_and(|unit| unit > MINUTE) {
            let help = "write FLOOR(ts TO MINUTE), or SET 'table.local-time-zone' = 'UTC'";
            return Err(wrong("hours and days of a wall clock differ in length: OVER cannot be kept by them", help));
        }
        let order = self.column(time, input, schema, &print(time))?;
        let framed = matches!(fun, WindowFunctionDefinition::AggregateUDF(_));
        let frame = if framed { Some(frame(window_frame, unit)?) } else { None };
        if let (Some(_), Some(Frame::Rows { .. })) = (unit, frame) {
            return Err(wrong("ROWS counts rows, whose time is not truncated", "write ORDER BY ts itself"));
        }
        let call = match fun {
            WindowFunctionDefinition::AggregateUDF(func) => {
                let call = AggregateFunction::new_udf(
                    Arc::clone(func),
                    args.clone(),
                    *distinct,
                    filter.clone(),
                    vec![],
                    *null_treatment,
                );
                OverCall::Aggregate(self.call(&call, input, schema, position)?)
            }
            WindowFunctionDefinition::WindowUDF(func) if func.name() == ROW_NUMBER => OverCall::RowNumber,
            WindowFunctionDefinition::WindowUDF(func) if func.name() == LAG => {
                let [value, more @ ..] = args.as_slice() else { return internal_err!("LAG of nothing") };
                let column = self.column(value, input, schema, &print(unaliased(value)))?;
                let offset = more.first().map_or(Some(1), number).filter(|rows| *rows > 0);
                let Some(offset) = offset else {
                    let problem = "LAG looks a number of rows back, written out, from 1".to_string();
                    return Err(outside(Error::Plan { problem, position, help: Some("write LAG(x, 1)".to_string()) }));
                };
                let default = more.get(1).map(|value| self.column(value, input, schema, &print(unaliased(value))));
                OverCall::Lag { column, offset, default: default.transpose()? }
            }
            WindowFunctionDefinition::WindowUDF(func) => return internal_err!("{} in the order of time", func.name()),
        };
        Ok(Windowed { keys, order, frame, call, position })
    }
}

/// The calls of each window, each with its place; those without a frame go where the keys and the time are the same.
fn grouped(windowed: impl Iterator<Item = (usize, Windowed)>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let (framed, others): (Vec<_>, Vec<_>) = windowed.partition(|(_, windowed)| windowed.frame.is_some());
    for (index, Windowed { keys, order, frame, call, position }) in framed.into_iter().chain(others) {
        let found = groups
            .iter_mut()
            .find(|group| group.keys == keys && group.order == order && (frame.is_none() || group.frame == frame));
        match found {
            Some(group) => group.calls.push((index, call)),
            None => groups.push(Group { keys, order, frame, calls: vec![(index, call)], position }),
        }
    }
    groups
}

/// Whether what the calls give depends on the order of rows of one time.
fn by_order(calls: &[(usize, OverCall)], frame: Option<Frame>) -> bool {
    use tidemill_circuit::plan::AggregateFunction::{FirstValue, LastValue};
    let ordered = |call: &OverCall| match call {
        OverCall::Aggregate(call) => matches!(call.function, FirstValue | LastValue),
        OverCall::RowNumber | OverCall::Lag { .. } => true,
    };
    !matches!(frame, Some(Frame::Range { .. })) || calls.iter().any(|(_, call)| ordered(call))
}

/// What the column of a call is called: nobody can name it, but it is shown.
fn title(call: &OverCall, input: &Schema, keys: &[usize], frame: Option<Frame>) -> String {
    let name = |column: &usize| input.field(*column).name().clone();
    let called = match call {
        OverCall::Aggregate(call) => {
            let args = call.args.iter().filter(|arg| input.field(**arg).name() != ORIGIN).map(name);
            let args = args.collect::<Vec<_>>().join(", ");
            let distinct = if call.distinct { "DISTINCT " } else { "" };
            let function = shouted(&format!("{:?}", call.function));
            format!("{function}({distinct}{})", if args.is_empty() { "*" } else { &args })
        }
        OverCall::RowNumber => "ROW_NUMBER()".to_string(),
        OverCall::Lag { column, offset: 1, .. } => format!("LAG({})", name(column)),
        OverCall::Lag { column, offset, .. } => format!("LAG({}, {offset})", name(column)),
    };
    let mut window: Vec<String> = keys.iter().map(name).collect();
    window.extend(match (call, frame) {
        (OverCall::Aggregate(_), Some(Frame::Range { preceding_ms: Some(millis), .. })) => Some(duration(millis)),
        (OverCall::Aggregate(_), Some(Frame::Rows { preceding: Some(rows) })) => Some(format!("{rows} rows")),
        _ => None,
    });
    format!("{called} OVER ({})", window.join(", "))
}

/// What cannot be kept up over a window, and what to write instead.
fn unkept(
    calls: &[(usize, OverCall)],
    frame: Option<Frame>,
    turn: OverTurn,
    domain: TimeDomain,
) -> Option<(&'static str, &'static str)> {
    use tidemill_circuit::plan::AggregateFunction::{FirstValue, LastValue};
    let aggregates = || {
        calls.iter().filter_map(|(_, call)| match call {
            OverCall::Aggregate(call) => Some(call),
            _ => None,
        })
    };
    if turn == OverTurn::Watermark && matches!(frame, Some(Frame::Range { unit_ms: Some(_), .. })) {
        let help = "write ORDER BY ts itself, or order by processing time; in an endpoint truncated event time is fine";
        return Some(("OVER by truncated event time is for rows that are answered when they come", help));
    }
    let ordered = aggregates().any(|call| matches!(call.function, FirstValue | LastValue));
    if turn == OverTurn::Watermark && ordered {
        let help = "write LAG(x), MIN(x) or MAX(x), or order by processing time";
        return Some((
            "FIRST_VALUE and LAST_VALUE follow the order in which rows come, and OVER here the order of event time",
            help,
        ));
    }
    let open = matches!(frame, Some(Frame::Range { preceding_ms: None, .. }));
    let disordered = turn == OverTurn::Arrival && domain == TimeDomain::Event;
    if open && disordered && aggregates().any(|call| call.distinct) {
        let help = "say how far back: RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND CURRENT ROW, or ROWS";
        return Some((
            "DISTINCT over all rows so far cannot be kept up by event time when rows are answered as they come",
            help,
        ));
    }
    None
}

fn call(expr: &Expr) -> Result<&WindowFunction> {
    match unaliased(expr) {
        Expr::WindowFunction(call) => Ok(call),
        other => internal_err!("{} is no call with OVER", print(other)),
    }
}

/// Everything of a call that is computed for each row.
pub(super) fn parts<'c>(call: &&'c WindowFunction) -> Vec<&'c Expr> {
    let WindowFunctionParams { args, partition_by, order_by, filter, .. } = &call.params;
    let order = order_by.iter().map(|key| &key.expr);
    let all = args.iter().chain(partition_by).chain(order).chain(filter.as_deref());
    all.filter(|part| !matches!(unaliased(part), Expr::Literal(..))).collect()
}

/// Whether rows are ordered by one time upwards, as they come.
fn orders_time(order_by: &[Sort], schema: &DFSchema) -> bool {
    let [key, unit @ ..] = order_by else { return false };
    let is_unit = |unit: &Sort| number(&unit.expr).is_some();
    let timestamp = || matches!(type_of(&key.expr, schema), Ok(DataType::Timestamp(..)));
    unit.len() <= 1 && unit.iter().all(is_unit) && key.asc && key.nulls_first && timestamp()
}

fn is_framed(call: &WindowFunction) -> bool {
    matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_))
}

/// Whether a call looks at no row after its own.
fn ends_with_row(call: &WindowFunction) -> bool {
    let WindowFrame { start_bound, end_bound, .. } = &call.params.window_frame;
    match is_framed(call) {
        true => {
            matches!(end_bound, WindowFrameBound::CurrentRow) && !matches!(start_bound, WindowFrameBound::Following(_))
        }
        false => [ROW_NUMBER, LAG].contains(&call.fun.name()),
    }
}

/// Whether a call can be answered in the order of a time, row by row.
pub(crate) fn is_timely(call: &WindowFunction, schema: &DFSchema) -> bool {
    orders_time(&call.params.order_by, schema) && ends_with_row(call)
}

/// Whether a call may follow the order in which rows come.
fn wants_arrival(call: &WindowFunction, schema: &DFSchema) -> bool {
    let zoned = |key: &Sort| matches!(type_of(&key.expr, schema), Ok(DataType::Timestamp(_, Some(_))));
    is_timely(call, schema) || call.params.order_by.iter().any(zoned)
}

/// Whether a call of a window may follow the order in which rows come.
pub(super) fn follows_arrival(window: &Window) -> bool {
    window.window_expr.iter().any(|expr| call(expr).is_ok_and(|call| wants_arrival(call, window.input.schema())))
}

/// Whether a call takes the first or the last row of its frame.
fn is_edge(call: &WindowFunction) -> bool {
    matches!(call.fun.name(), "first_value" | "last_value")
}

/// The calls of windows that stand on one another and do not name each other's results, the lowest first, and the rows
/// that all of them are over.
pub(super) fn stacked(window: &Window) -> Result<(&LogicalPlan, Vec<&WindowFunction>)> {
    let mut calls: Vec<&WindowFunction> = window.window_expr.iter().map(call).collect::<Result<_>>()?;
    let mut input = window.input.as_ref();
    while let LogicalPlan::Window(below) = input {
        let width = below.input.schema().fields().len();
        for part in calls.iter().flat_map(parts) {
            if columns_of(part, input.schema())?.iter().any(|column| *column >= width) {
                return Ok((input, calls));
            }
        }
        let more: Vec<&WindowFunction> = below.window_expr.iter().map(call).collect::<Result<_>>()?;
        calls.splice(0..0, more);
        input = &below.input;
    }
    Ok((input, calls))
}

/// Whether a call of a window may ask how far event time has moved on.
pub(super) fn follows_time(window: &Window) -> bool {
    let schema = window.input.schema();
    let timed = |expr: &Expr| matches!(type_of(expr, schema), Ok(DataType::Timestamp(..)));
    let by = |call: &WindowFunction| {
        orders_time(&call.params.order_by, schema) || call.params.partition_by.iter().any(timed)
    };
    window.window_expr.iter().any(|expr| call(expr).is_ok_and(by))
}

/// What the column of a rank is called: nobody can name it, but it is shown.
pub(super) fn rank_title(call: &WindowFunction, input: &Schema, keys: &[usize]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| input.field(*key).name().as_str()).collect();
    format!("{}() OVER ({})", call.fun.name().to_uppercase(), keys.join(", "))
}

/// What a call is ordered by, and the unit in milliseconds to which that is truncated.
pub(crate) fn order_of(order_by: &[Sort]) -> Result<(&Expr, Option<i64>)> {
    match order_by {
        [time] => Ok((unaliased(&time.expr), None)),
        [time, unit] => match number(&unit.expr).and_then(|unit| i64::try_from(unit).ok()) {
            Some(unit) => Ok((unaliased(&time.expr), Some(unit))),
            None => internal_err!("a time truncated to {}", print(&unit.expr)),
        },
        _ => internal_err!("OVER without the time it is ordered by"),
    }
}

/// `FLOOR(time TO unit)`: the time, and the unit in milliseconds; none for a unit that has no fixed length.
fn truncated(expr: &Expr) -> Option<(&Expr, Option<i64>)> {
    let Expr::ScalarFunction(call) = unaliased(expr) else { return None };
    match (call.func.name(), call.args.as_slice()) {
        ("floor", [time, Expr::Literal(ScalarValue::Utf8(Some(unit)), _)]) => {
            let known = UNITS.iter().find(|(name, _)| name == unit);
            Some((unaliased(time), known.map(|(_, millis)| *millis)))
        }
        _ => None,
    }
}

/// The frame of a call; `unit_ms` is what its time is truncated to.
pub(crate) fn frame(frame: &WindowFrame, unit_ms: Option<i64>) -> Result<Frame> {
    let WindowFrame { units, start_bound, end_bound, .. } = frame;
    if !matches!(end_bound, WindowFrameBound::CurrentRow) {
        return internal_err!("a frame that does not end with its row");
    }
    match (units, start_bound) {
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(rows)) => {
            Ok(Frame::Rows { preceding: if rows.is_null() { None } else { Some(rows_of(rows)?) } })
        }
        (WindowFrameUnits::Rows, WindowFrameBound::CurrentRow) => Ok(Frame::Rows { preceding: Some(0) }),
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(size)) => {
            let preceding_ms = if size.is_null() { None } else { Some(millis_of(size)?) };
            Ok(Frame::Range { preceding_ms, unit_ms })
        }
        (WindowFrameUnits::Range, WindowFrameBound::CurrentRow) => Ok(Frame::Range { preceding_ms: Some(0), unit_ms }),
        (units, bound) => internal_err!("a frame of {units:?} from {bound:?}"),
    }
}

pub(crate) fn rows_of(value: &ScalarValue) -> Result<u64> {
    match value.cast_to(&DataType::UInt64)? {
        ScalarValue::UInt64(Some(rows)) => Ok(rows),
        other => internal_err!("{other} rows"),
    }
}

pub(crate) fn millis_of(value: &ScalarValue) -> Result<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            Ok(i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000)
        }
        ScalarValue::Utf8(Some(text)) => {
            let number = text.strip_suffix(" MILLISECONDS").and_then(|number| number.parse().ok());
            number.map_or_else(|| internal_err!("a frame of {text}"), Ok)
        }
        other => internal_err!("a frame of {other}"),
    }
}

/// A whole number that is written out.
pub(super) fn number(expr: &Expr) -> Option<u64> {
    match unaliased(expr) {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(Some(number)) => u64::try_from(number).ok(),
            _ => None,
        },
        Expr::Cast(cast) => number(&cast.expr),
        _ => None,
    }
}

fn no_time(name: &str, position: Option<Position>) -> datafusion::common::DataFusionError {
    outside(Error::Plan {
        problem: format!("{name} is no time attribute: nothing says how far it has moved on"),
        position,
        help: Some(format!(
            "declare WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND on its table, and select the column as it is; \
             or order by PROCTIME()"
        )),
    })
}

/// The plan with times that calls are ordered by made plain, before types are made to fit.
///
/// `ORDER BY FLOOR(ts TO SECOND)` becomes the time and the unit beside it, so that no rule takes the call for something
/// that could be computed below.
pub(crate) fn ordered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let ordered = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Window(Window { input, .. }) = &node else { return Ok(Transformed::no(node)) };
        let schema = Arc::clone(input.schema());
        let preserver = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = preserver.save(&expr);
            let ordered = expr.transform_up(|part| match part {
                Expr::WindowFunction(mut call) => {
                    call.params.order_by = order(std::mem::take(&mut call.params.order_by), &schema)?;
                    Ok(Transformed::yes(Expr::WindowFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(Transformed::yes(name.restore(ordered.data)))
        })
    })?;
    Ok(ordered.data)
}

fn order(order_by: Vec<Sort>, schema: &DFSchema) -> Result<Vec<Sort>> {
    let [key] = order_by.as_slice() else { return Ok(order_by) };
    if !orders_time(&order_by, schema) {
        return Ok(order_by);
    }
    match truncated(&key.expr) {
        Some((time, Some(unit))) => Ok([time.clone(), lit(unit)].map(|expr| Sort { expr, ..key.clone() }).to_vec()),
        None | Some((_, None)) => Ok(order_by),
    }
}

impl Builder<'_> {
    /// ORDER BY with truncated times as they were written.
    pub(super) fn untruncated(&self, order_by: &[Sort]) -> Result<Vec<Sort>> {
        let [key, unit] = order_by else { return Ok(order_by.to_vec()) };
        let Some(unit) = number(&unit.expr) else { return Ok(order_by.to_vec()) };
        let unit = UNITS.iter().find(|(_, millis)| u64::try_from(*millis) == Ok(unit));
        let (Some((unit, _)), Some(floor)) = (unit, self.functions.get("floor")) else {
            return internal_err!("a time truncated to {unit:?}");
        };
        Ok(vec![Sort { expr: floor.call(vec![key.expr.clone(), lit(*unit)]), ..key.clone() }])
    }
}

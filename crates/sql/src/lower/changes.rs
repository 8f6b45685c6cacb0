//! OVER that follows changes: any order, any frame, over rows that may be taken back.
//!
//! Keys, order and arguments become columns first; then each window (keys, order, frame) is one [`OverChangesSpec`], one
//! after the other. Functions that look at no frame go with any window of their keys and order.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use tidemill_base::Position;
use tidemill_circuit::plan::{
    Expiry, FrameBound, FrameUnits, NodeId, OrderBy, OverChangesSpec, OverFrame, OverFunction, Spec, TimeDomain,
};

use super::bounds;
use super::facts::Attribute;
use super::over::{millis_of, number, parts, rows_of};
use super::{Builder, Lowered, Project, Slot, place_of, rank, type_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::explain::shouted;
use crate::expr::{print, unaliased};
use crate::types::name_of;
use crate::window_function::{DENSE_RANK, LAG, LEAD, RANK, ROW_NUMBER};

/// Stands for the place of a row in its key until the number of columns is known.
const PLACE: usize = usize::MAX;

/// One call, its window made of columns.
struct Changing {
    /// Its place among the calls.
    index: usize,
    keys: Vec<usize>,
    order: Vec<OrderBy>,
    /// None for a function that looks at no frame.
    frame: Option<OverFrame>,
    function: OverFunction,
    position: Option<Position>,
}

impl Builder<'_> {
    /// The rows with what the calls give for them behind their fields, of which the first are those of `schema`.
    pub(super) fn changes(
        &mut self,
        calls: &[&WindowFunction],
        lowered: &Lowered,
        schema: &DFSchema,
    ) -> Result<Lowered> {
        let append_only = self.plan.append_only()[lowered.node];
        let statement = self.position;
        let mut project = self.project(lowered, schema);
        let slots = project.keep_all(lowered)?;
        project.place = Some(PLACE);
        let mut changing = Vec::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            let position = parts(call).into_iter().find_map(place_of).or(statement);
            changing.push(project.changing((index, call), lowered, schema, (append_only, position))?);
        }
        project.input.origin = None;
        let mut lowered = project.finish(slots)?;
        let width = self.plan.nodes[lowered.node].schema.fields().len();
        let mut places = vec![0; calls.len()];
        for group in grouped(changing) {
            let first = self.plan.nodes[lowered.node].schema.fields().len();
            group.iter().enumerate().for_each(|(offset, call)| places[call.index] = first + offset);
            lowered = self.add_changes(group, calls, lowered, schema, width)?;
        }
        lowered.slots.extend(places.into_iter().map(Slot::At));
        Ok(Lowered { origin: None, asked: None, ..lowered })
    }

    /// Adds one window's calls; `width` is the number of columns before the first of them.
    fn add_changes(
        &mut self,
        group: Vec<Changing>,
        calls: &[&WindowFunction],
        lowered: Lowered,
        schema: &DFSchema,
        width: usize,
    ) -> Result<Lowered> {
        let before = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let mut fields: Vec<FieldRef> = before.fields().iter().map(Arc::clone).collect();
        let mut facts = self.facts.of(lowered.node).clone();
        let Some(Changing { keys, order, position, .. }) = group.first() else { return Ok(lowered) };
        let (keys, order, position) = (keys.clone(), order.clone(), *position);
        let settled = self.settled(lowered.node, &order);
        let bounds = facts.bounds.clone();
        let expiry = self.until(&mut facts, &keys).1.or_else(|| bounds::expiry(&bounds, &keys));
        let frame = group.iter().find_map(|call| call.frame).unwrap_or(TO_THE_ROW);
        let mut functions = Vec::with_capacity(group.len());
        for Changing { index, function, .. } in group {
            let result = type_of(&Expr::WindowFunction(Box::new(calls[index].clone())), schema)?;
            fields.push(Arc::new(Field::new(title(&function, &before, width, &keys), result, true)));
            facts.attributes.push(Attribute::Plain);
            functions.push(placed(function, before.fields().len()));
        }
        let mut spec = OverChangesSpec { keys, order, frame, calls: functions, expiry, settled };
        spec.settled = spec.settled.filter(|_| spec.reach().is_some());
        let statement = self.position;
        self.position = position.or(statement);
        let node = self.add(Spec::OverChanges(spec), vec![lowered.node], Arc::new(Schema::new(fields)), facts);
        self.position = statement;
        Ok(Lowered { node, ..lowered })
    }
}

impl Builder<'_> {
    /// When rows of a node, in an order that begins with event time, neither come nor go any more before a row. Rows that
    /// only come are late then, as they are for every OVER in an order of event time; others must have been left out already.
    fn settled(&self, node: NodeId, order: &[OrderBy]) -> Option<Expiry> {
        let facts = self.facts.of(node);
        let first = order.first().filter(|by| !by.descending)?;
        let is_time = matches!(facts.attributes[first.column], Attribute::Time(TimeDomain::Event, _));
        let slack = facts.bounds.get(&first.column).filter(|_| is_time)?;
        let in_time = self.is_in_time(node) || self.plan.append_only()[node];
        in_time.then_some(Expiry { time: first.column, after_ms: *slack })
    }
}

/// What a function without a frame has for one.
const TO_THE_ROW: OverFrame =
    OverFrame { units: FrameUnits::Rows, start: FrameBound::Unbounded, end: FrameBound::CurrentRow };

impl Project<'_, '_> {
    fn changing(
        &mut self,
        (index, call): (usize, &WindowFunction),
        input: &Lowered,
        schema: &DFSchema,
        (append_only, position): (bool, Option<Position>),
    ) -> Result<Changing> {
        let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, null_treatment, distinct } =
            &call.params;
        let wrong =
            |problem: String, help: &str| outside(Error::Plan { problem, position, help: Some(help.to_string()) });
        let framed = matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_));
        if !framed && order_by.is_empty() {
            let name = call.fun.name().to_uppercase();
            return Err(wrong(
                format!("{name} needs the order of its rows"),
                "write OVER (PARTITION BY key ORDER BY ts)",
            ));
        }
        let keys = self.columns(partition_by, input, schema)?;
        let place = input.origin.filter(|_| rank::function(call).is_none_or(is_row_number));
        let order = self.ordered(order_by, input, schema, (append_only, place, position))?;
        let frame = if framed { Some(frame(window_frame)?) } else { None };
        let counts = |bound: FrameBound| matches!(bound, FrameBound::Preceding(_) | FrameBound::Following(_));
        if let (Some(frame), [key, ..]) = (frame, order_by.as_slice())
            && frame.units == FrameUnits::Range
            && (counts(frame.start) || counts(frame.end))
        {
            let data_type = type_of(&key.expr, schema)?;
            if !matches!(data_type, DataType::Timestamp(..)) {
                let problem = format!("RANGE counts by a time, and {} is {}", print(&key.expr), name_of(&data_type));
                return Err(wrong(problem, "write ROWS BETWEEN 9 PRECEDING AND CURRENT ROW"));
            }
        }
        let mut shift = || {
            let [value, more @ ..] = args.as_slice() else { return internal_err!("{} of nothing", call.fun.name()) };
            let column = self.column(value, input, schema, &print(unaliased(value)))?;
            let Some(offset) = more.first().map_or(Some(1), number).filter(|rows| *rows > 0) else {
                let name = call.fun.name().to_uppercase();
                let problem = format!("{name} looks a number of rows away, written out, from 1");
                return Err(wrong(problem, &format!("write {name}(x, 1)")));
            };
            let default = more.get(1).map(|value| self.column(value, input, schema, &print(unaliased(value))));
            Ok((column, offset, default.transpose()?))
        };
        let function = match &call.fun {
            WindowFunctionDefinition::WindowUDF(func) => match func.name() {
                ROW_NUMBER => OverFunction::RowNumber,
                RANK => OverFunction::Rank,
                DENSE_RANK => OverFunction::DenseRank,
                LAG => {
                    let (column, offset, default) = shift()?;
                    OverFunction::Lag { column, offset, default }
                }
                LEAD => {
                    let (column, offset, default) = shift()?;
                    OverFunction::Lead { column, offset, default }
                }
                other => return internal_err!("{other} with OVER"),
            },
            WindowFunctionDefinition::AggregateUDF(func) => {
                let (args, filter) = (args.clone(), filter.clone());
                let call =
                    AggregateFunction::new_udf(Arc::clone(func), args, *distinct, filter, vec![], *null_treatment);
                OverFunction::Aggregate(self.call(&call, input, schema, position)?)
            }
        };
        Ok(Changing { index, keys, order, frame, function, position })
    }
}

fn is_row_number(function: tidemill_circuit::plan::RankFunction) -> bool {
    function == tidemill_circuit::plan::RankFunction::RowNumber
}

/// The calls of each window; those without a frame go where the keys and the order are the same.
fn grouped(calls: Vec<Changing>) -> Vec<Vec<Changing>> {
    let mut groups: Vec<Vec<Changing>> = Vec::new();
    let (framed, others): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.frame.is_some());
    for call in framed.into_iter().chain(others) {
        let same = |group: &&mut Vec<Changing>| {
            let first = &group[0];
            let fits = call.frame.is_none() || first.frame == call.frame;
            first.keys == call.keys && first.order == call.order && fits
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(call),
            None => groups.push(vec![call]),
        }
    }
    groups
}

/// The function, for an input of so many columns.
fn placed(function: OverFunction, width: usize) -> OverFunction {
    match function {
        OverFunction::Aggregate(mut call) => {
            call.args.iter_mut().filter(|arg| **arg == PLACE).for_each(|arg| *arg = width);
            OverFunction::Aggregate(call)
        }
        other => other,
    }
}

fn frame(frame: &WindowFrame) -> Result<OverFrame> {
    let WindowFrame { units, start_bound, end_bound, .. } = frame;
    let (units, rows) = match units {
        WindowFrameUnits::Rows => (FrameUnits::Rows, true),
        WindowFrameUnits::Range => (FrameUnits::Range, false),
        WindowFrameUnits::Groups => return internal_err!("a frame of groups"),
    };
    let bound = |bound: &WindowFrameBound| -> Result<FrameBound> {
        let (value, before) = match bound {
            WindowFrameBound::CurrentRow => return Ok(FrameBound::CurrentRow),
            WindowFrameBound::Preceding(value) => (value, true),
            WindowFrameBound::Following(value) => (value, false),
        };
        if value.is_null() {
            return Ok(FrameBound::Unbounded);
        }
        let size = if rows { rows_of(value)? } else { u64::try_from(millis_of(value)?).unwrap_or_default() };
        Ok(match (size, before) {
            (0, _) => FrameBound::CurrentRow,
            (size, true) => FrameBound::Preceding(size),
            (size, false) => FrameBound::Following(size),
        })
    };
    Ok(OverFrame { units, start: bound(start_bound)?, end: bound(end_bound)? })
}

/// What the column of a call is called: nobody can name it, but it is shown.
fn title(function: &OverFunction, input: &Schema, width: usize, keys: &[usize]) -> String {
    let name = |column: &usize| input.field(*column).name().clone();
    let called = match function {
        OverFunction::Aggregate(call) => {
            let args = call.args.iter().filter(|arg| **arg < width).map(name);
            let args = args.collect::<Vec<_>>().join(", ");
            let distinct = if call.distinct { "DISTINCT " } else { "" };
            let function = shouted(&format!("{:?}", call.function));
            format!("{function}({distinct}{})", if args.is_empty() { "*" } else { &args })
        }
        OverFunction::RowNumber => "ROW_NUMBER()".to_string(),
        OverFunction::Rank => "RANK()".to_string(),
        OverFunction::DenseRank => "DENSE_RANK()".to_string(),
        OverFunction::Lag { column, offset, .. } => format!("LAG({}, {offset})", name(column)),
        OverFunction::Lead { column, offset, .. } => format!("LEAD({}, {offset})", name(column)),
    };
    format!("{called} OVER ({})", keys.iter().map(name).collect::<Vec<_>>().join(", "))
}

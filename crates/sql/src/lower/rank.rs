//! First ranks: a condition on ROW_NUMBER, RANK or DENSE_RANK bounds what OVER keeps.
//!
//! `SELECT .. FROM (SELECT .., ROW_NUMBER() OVER (..) AS rn ..) WHERE rn <= 3` is a filter over a window, with projections
//! between. The parts of the condition that compare the rank with a number become the bounds of one [`RankSpec`]; the
//! rest stays a filter. The rank itself is computed only where something names it, since without it far fewer rows change.
//!
//! Keys that hold the start and the end of a window make it answered once, when the window closes; keys that hold a time
//! let it forget.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, Sort, WindowFunction};
use datafusion::logical_expr::logical_plan::{Projection, SubqueryAlias};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use tidemill_base::Position;
use tidemill_circuit::plan::{Emit, Expiry, OrderBy, RankFunction, RankSpec, Spec, TimeDomain};

use super::bounds;
use super::facts::{Attribute, NodeFacts, is_proctime};
use super::over::{self, number};
use super::{Builder, Lowered, Project, Slot};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{columns_of, print, unaliased};
use crate::window_function::{DENSE_RANK, RANK, ROW_NUMBER};

/// The ranks that are wanted of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The call's place in its window.
    pub(super) call: usize,
    from: u64,
    to: Option<u64>,
    /// Whether the rank is needed as a column.
    number: bool,
}

/// The function of a call that ranks rows.
pub(super) fn function(call: &WindowFunction) -> Option<RankFunction> {
    match call.fun.name() {
        ROW_NUMBER => Some(RankFunction::RowNumber),
        RANK => Some(RankFunction::Rank),
        DENSE_RANK => Some(RankFunction::DenseRank),
        _ => None,
    }
}

impl Builder<'_> {
    /// The rows below a projection of first ranks, lowered: without the rank where none of `exprs` names it.
    pub(super) fn ranked_for(&mut self, exprs: &[Expr], input: &LogicalPlan, origin: bool) -> Result<Option<Lowered>> {
        let mut below = input;
        while let LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) = below {
            below = input;
        }
        let LogicalPlan::Filter(filter) = below else { return Ok(None) };
        let Some(rank) = rank_of(&filter.predicate, &filter.input)? else { return Ok(None) };
        let mut named = false;
        for expr in exprs {
            named |= columns_of(expr, input.schema())?.contains(&rank.column);
        }
        self.ranked(&filter.predicate, &filter.input, origin, named)
    }

    /// The rows of `input` with the ranks that the predicate asks for, when it asks for first ones; `named` says whether the
    /// rank is needed above.
    pub(super) fn ranked(
        &mut self,
        predicate: &Expr,
        input: &LogicalPlan,
        origin: bool,
        named: bool,
    ) -> Result<Option<Lowered>> {
        // In an endpoint each row is answered when it comes, by the rows before it.
        if self.asking || self.answering {
            return Ok(None);
        }
        let Some(rank) = rank_of(predicate, input)? else { return Ok(None) };
        let mut number = named || rank.computed;
        for part in &rank.rest {
            number |= columns_of(part, input.schema())?.contains(&rank.column);
        }
        self.wanted = Some(Wanted { call: rank.call, from: rank.from, to: rank.to, number });
        let lowered = self.lower(input, origin || super::is_random(predicate))?;
        // It is still wanted where OVER keeps the order of arrival, in which no rank ever changes.
        let rest = match self.wanted.take() {
            Some(_) => Some(predicate.clone()),
            None => conjunction(rank.rest),
        };
        match rest {
            None => Ok(Some(lowered)),
            Some(rest) => self.filtered(&rest, input, lowered).map(Some),
        }
    }

    /// Ranks rows by a call over `lowered`, the first of whose fields are those of `schema`; the rank follows the others.
    pub(super) fn add_rank(
        &mut self,
        call: &WindowFunction,
        wanted: Wanted,
        lowered: &Lowered,
        schema: &DFSchema,
    ) -> Result<Lowered> {
        let Some(function) = function(call) else { return internal_err!("{} is no rank", call.fun.name()) };
        let statement = self.position;
        let position = over::parts(&call).into_iter().find_map(super::place_of).or(statement);
        let append_only = self.plan.append_only()[lowered.node];
        let mut project = self.project(lowered, schema);
        let slots = project.keep_all(lowered)?;
        let mut keys = project.columns(&call.params.partition_by, lowered, schema)?;
        let place = (function == RankFunction::RowNumber).then_some(lowered.origin).flatten();
        let mut order = project.ordered(&call.params.order_by, lowered, schema, (append_only, place, position))?;
        project.input.origin = None;
        let mut lowered = project.finish(slots)?;
        let input = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let mut facts = self.facts.of(lowered.node).clone();
        let by_time = |by: &&OrderBy| by.descending && facts.bounds.contains_key(&by.column);
        let last = order.first().filter(by_time).filter(|_| append_only && (wanted.from, wanted.to) == (1, Some(1)));
        if let (Some(false), RankFunction::RowNumber, Some(time)) = (self.versions, function, last) {
            // Not the last row of each key, but the last row of each time at which it was that.
            self.versions = Some(true);
            keys.push(time.column);
            order.remove(0);
        }
        let (close, expiry) = self.until(&mut facts, &keys);
        if function == RankFunction::RowNumber {
            let one = wanted.to == Some(wanted.from);
            facts.keys.extend(one.then(|| keys.clone()));
            facts.keys.extend(wanted.number.then(|| [keys.as_slice(), &[input.fields().len()]].concat()));
        }
        let mut fields: Vec<FieldRef> = input.fields().iter().map(Arc::clone).collect();
        lowered.slots.push(if wanted.number { Slot::At(fields.len()) } else { Slot::Gone });
        if wanted.number {
            fields.push(Arc::new(Field::new(over::rank_title(call, &input, &keys), DataType::Int64, true)));
            facts.attributes.push(Attribute::Plain);
        }
        let Wanted { from, to, number, .. } = wanted;
        let spec = RankSpec { keys, order, function, from, to, number, close, expiry };
        self.position = position;
        let node = self.add(Spec::Rank(spec), vec![lowered.node], Arc::new(Schema::new(fields)), facts);
        self.position = statement;
        Ok(Lowered { node, origin: None, asked: None, ..lowered })
    }

    /// When keys get no row any more: the end of a window that is answered when it closes, or a time at which a key is
    /// forgotten. Of the rows' times only those stay times in `facts` that changes still to come are not below.
    pub(super) fn until(&self, facts: &mut NodeFacts, keys: &[usize]) -> (Option<usize>, Option<Expiry>) {
        use Attribute::{End, Start, Time};
        let attribute = |key: &usize| facts.attributes[*key];
        let window = keys.iter().find_map(|end| match attribute(end) {
            End(TimeDomain::Event, id) => {
                let start = keys.iter().any(|start| matches!(attribute(start), Start(_, other) if other == id));
                start.then_some((*end, id))
            }
            _ => None,
        });
        let window = window.filter(|(end, _)| facts.bounds.get(end).is_some_and(|slack| *slack <= -1));
        let (close, expiry) = match window {
            Some((end, _)) if self.emit == Emit::OnClose => (Some(end), None),
            _ => (None, bounds::expiry(&facts.bounds, keys)),
        };
        let judged = close.map(|time| Expiry { time, after_ms: -1 }).or(expiry);
        let bounds = judged.map(|judged| self.judged(facts, judged)).unwrap_or_default();
        let id = judged
            .and_then(|judged| attribute(&judged.time).window())
            .filter(|id| window.is_some_and(|(_, of)| of == *id));
        let stays = |(column, attribute): (usize, &Attribute)| match *attribute {
            Start(_, of) | End(_, of) | Time(_, Some(of)) => Some(of) == id,
            _ => keys.contains(&column) && bounds.contains_key(&column),
        };
        let stays: Vec<bool> = facts.attributes.iter().enumerate().map(stays).collect();
        for (column, _) in stays.iter().enumerate().filter(|(_, stays)| !**stays) {
            facts.attributes[column] = Attribute::Plain;
        }
        facts.bounds = bounds.into_iter().filter(|(column, _)| stays[*column]).collect();
        facts.later = None;
        (close, expiry)
    }
}

impl Project<'_, '_> {
    /// The columns of these expressions.
    pub(super) fn columns(&mut self, exprs: &[Expr], input: &Lowered, schema: &DFSchema) -> Result<Vec<usize>> {
        exprs.iter().map(|expr| self.column(expr, input, schema, &print(unaliased(expr)))).collect()
    }

    /// The columns of ORDER BY.
    ///
    /// Processing time is the same for all rows of a step, so rows of one time follow `place`, theirs in the source.
    pub(super) fn ordered(
        &mut self,
        order_by: &[Sort],
        input: &Lowered,
        schema: &DFSchema,
        (append_only, place, position): (bool, Option<usize>, Option<Position>),
    ) -> Result<Vec<OrderBy>> {
        let mut order = Vec::with_capacity(order_by.len());
        let taken_back = || {
            let problem = "ORDER BY processing time is for rows that are never taken back".to_string();
            outside(Error::Plan { problem, position, help: Some("order by a column that the rows carry".to_string()) })
        };
        for Sort { expr, asc, nulls_first } in &self.builder.untruncated(order_by)? {
            if is_proctime(expr) && !append_only {
                return Err(taken_back());
            }
            let column = self.column(expr, input, schema, &print(unaliased(expr)))?;
            order.push(OrderBy { column, descending: !asc, nulls_first: *nulls_first });
            let of_input = &self.builder.facts.of(self.input.node).attributes;
            let clock = match self.attributes[column] {
                Some(before) if before < of_input.len() => {
                    matches!(of_input[before], Attribute::Time(TimeDomain::Processing, None))
                }
                _ => is_proctime(expr),
            };
            if !clock {
                continue;
            }
            if !append_only {
                return Err(taken_back());
            }
            if let Some(place) = place {
                let column = self.keep(place);
                order.push(OrderBy { column, descending: !asc, nulls_first: true });
            }
        }
        Ok(order)
    }
}

/// What a condition asks of a rank.
struct Asked {
    /// The rank, among the columns that the condition is over, and its call.
    column: usize,
    call: usize,
    from: u64,
    to: Option<u64>,
    /// What the condition says besides.
    rest: Vec<Expr>,
    /// Whether something between the window and the condition is computed from the rank.
    computed: bool,
}

/// The rank that a condition bounds, when it does.
fn rank_of(predicate: &Expr, input: &LogicalPlan) -> Result<Option<Asked>> {
    let mut asked: Option<Asked> = None;
    let mut rest = Vec::new();
    for part in split_conjunction(predicate) {
        let found = match bound(part) {
            Some((expr, from, to)) => {
                let column = input.schema().maybe_index_of_column(expr);
                column.and_then(|column| Some((column, from, to, traced(input, column)?)))
            }
            None => None,
        };
        match (found, &mut asked) {
            (Some((column, from, to, (call, computed))), None) => {
                asked = Some(Asked { column, call, from, to, rest: vec![], computed });
            }
            (Some((column, from, to, _)), Some(asked)) if asked.column == column => {
                asked.from = asked.from.max(from);
                asked.to = asked.to.map_or(to, |known| Some(to.map_or(known, |to| known.min(to))));
            }
            _ => rest.push(part.clone()),
        }
    }
    let asked = asked.filter(|asked| asked.to.is_none_or(|to| to >= asked.from));
    Ok(asked.map(|asked| Asked { rest, ..asked }))
}

/// Whether a condition bounds a rank.
pub(super) fn ranks(predicate: &Expr, input: &LogicalPlan) -> bool {
    matches!(rank_of(predicate, input), Ok(Some(_)))
}

/// A comparison of a column with a number, as the first and the last value that make it true.
fn bound(part: &Expr) -> Option<(&datafusion::common::Column, u64, Option<u64>)> {
    let column = |expr| match unaliased(expr) {
        Expr::Column(column) => Some(column),
        _ => None,
    };
    let (rank, from, to) = match unaliased(part) {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (rank, op, value) = match (column(left), column(right)) {
                (Some(rank), None) => (rank, *op, number(right)?),
                (None, Some(rank)) => (rank, op.swap()?, number(left)?),
                _ => return None,
            };
            match op {
                Operator::Eq => (rank, value, Some(value)),
                Operator::LtEq => (rank, 1, Some(value)),
                Operator::Lt => (rank, 1, Some(value.checked_sub(1)?)),
                Operator::GtEq => (rank, value, None),
                Operator::Gt => (rank, value.checked_add(1)?, None),
                _ => return None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            (column(expr)?, number(low)?, Some(number(high)?))
        }
        Expr::InList(InList { expr, list, negated: false }) => match list.as_slice() {
            [value] => (column(expr)?, number(value)?, Some(number(value)?)),
            _ => return None,
        },
        _ => return None,
    };
    Some((rank, from.max(1), to))
}

/// The call of the next window below that a column is, when it is a rank; and whether others are computed from it.
fn traced(plan: &LogicalPlan, column: usize) -> Option<(usize, bool)> {
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => traced(input, column),
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            let Expr::Column(name) = unaliased(&expr[column]) else { return None };
            let below = input.schema().maybe_index_of_column(name)?;
            let (call, computed) = traced(input, below)?;
            let names = |other: &Expr| columns_of(other, input.schema()).is_ok_and(|names| names.contains(&below));
            let others = expr.iter().enumerate().filter(|(index, _)| *index != column);
            let named = others.map(|(_, other)| other).any(names);
            Some((call, computed || named))
        }
        LogicalPlan::Window(window) => {
            let (input, calls) = over::stacked(window).ok()?;
            let call = column.checked_sub(input.schema().fields().len())?;
            function(calls.get(call)?).map(|_| (call, false))
        }
        _ => None,
    }
}

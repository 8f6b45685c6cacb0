//! Joins and set operations.
//!
//! A join's condition is taken apart: equations of the two sides become keys, which are columns of their own where they are
//! computed; the rest is looked at for each pair. Below each side a projection leaves what the join keeps: its keys, what
//! the rest of the condition names, and what is needed above. What the condition says of times bounds how long rows are
//! kept ([`super::bounds`]), and which times of the pairs still move windows on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, internal_err};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::logical_plan::{Filter, Join, SubqueryAlias};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, lit};
use tidemill_base::Position;
use tidemill_circuit::expr::Column as CircuitColumn;
use tidemill_circuit::key::KeyEncoder;
use tidemill_circuit::plan::{
    AggregateSpec, AssignSpec, DelaySpec, Emit, Expiry, JoinKind, JoinNulls, JoinSpec, NodeId, SetSpec, Spec, WindowKey,
};

use super::bounds::{self, Bounds, Order};
use super::facts::{self, Attribute, Later, NodeFacts, WindowId};
use super::window::length;
use super::{Builder, Lowered, Slot, fields_of, is_random, nullable, place_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::{columns_of, compile, compile_named};
use crate::plan::set_operation::SetOperation;
use crate::types::name_of;

/// The columns of a join that something above needs; none means all.
pub(super) type Needed = Option<BTreeSet<usize>>;

/// The columns that are times of windows, by the window and what they mean.
type Windows = BTreeMap<WindowId, Vec<(usize, Attribute)>>;

/// Whether the condition of a join says something of times on both sides.
pub(super) fn is_timed(join: &Join) -> Result<bool> {
    let schema = join.left.schema().join(join.right.schema())?;
    let orders = bounds::orders(conditions(join).iter(), &schema)?;
    Ok(bounds::across(&orders, join.left.schema().fields().len()))
}

/// Everything that has to be true of a pair.
fn conditions(join: &Join) -> Vec<Expr> {
    let on = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    on.chain(join.filter.iter().flat_map(split_conjunction).cloned()).collect()
}

/// A join, its sides in the order in which the circuit takes them.
struct Joining<'j> {
    sides: [&'j LogicalPlan; 2],
    kind: JoinKind,
    /// The columns of both sides.
    schema: DFSchema,
    /// How many of them are of the first side.
    width: usize,
    /// What is equal, over the columns of both sides.
    keys: Vec<[Expr; 2]>,
    nulls: JoinNulls,
    residual: Option<Expr>,
    /// What the condition says of times.
    orders: Vec<Order>,
    /// The columns that come out: places in `schema`.
    columns: Vec<usize>,
    /// Whether each of them is needed above.
    needed: Vec<bool>,
    position: Option<Position>,
}

/// One side, lowered: its columns are what the join keeps.
struct Side {
    node: NodeId,
    /// Where each field of the side is, if it is.
    places: Vec<Option<usize>>,
    keys: Vec<usize>,
}

impl Builder<'_> {
    /// Lowers a plan of whose columns only those are needed that these expressions name.
    pub(super) fn lower_for(&mut self, exprs: &[Expr], plan: &LogicalPlan, origin: bool) -> Result<Lowered> {
        match plan {
            LogicalPlan::Join(join) => {
                let mut needed = BTreeSet::new();
                for expr in exprs {
                    needed.extend(columns_of(expr, plan.schema())?);
                }
                self.join(join, Some(needed), origin)
            }
            LogicalPlan::Filter(Filter { predicate, input, .. })
                if matches!(input.as_ref(), LogicalPlan::Join(_)) && !is_random(predicate) =>
            {
                let named: Vec<Expr> = exprs.iter().chain([predicate]).cloned().collect();
                let lowered = self.lower_for(&named, input, origin)?;
                self.filtered(predicate, input, lowered)
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias: _, schema, .. })
                if matches!(input.as_ref(), LogicalPlan::Join(_)) =>
            {
                let mut needed = Vec::new();
                for expr in exprs {
                    for column in columns_of(expr, schema)? {
                        let (qualifier, field) = input.schema().qualified_field(column);
                        needed.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
                    }
                }
                self.lower_for(&needed, input, origin)
            }
            other => self.lower(other, origin),
        }
    }

    pub(super) fn join(&mut self, join: &Join, needed: Needed, origin: bool) -> Result<Lowered> {
        if self.asking || self.answering {
            return Err(self.refused(
                "JOIN in an endpoint",
                "join in a view, and look it up: JOIN v FOR SYSTEM_TIME AS OF PROCTIME() ON r.k = v.k",
            ));
        }
        if origin {
            return Err(self.unordered("a join"));
        }
        if let JoinType::LeftMark | JoinType::RightMark = join.join_type {
            return self.marked(join);
        }
        let joining = Joining::new(join, needed)?;
        let statement = self.position;
        let sides = joining.sides.map(|side| {
            let lowered = self.lower(side, false)?;
            self.materialise(lowered)
        });
        let [left, right] = sides;
        self.position = joining.position.or(statement);
        let joined = self.joined(&joining, [left?, right?]);
        self.position = statement;
        joined
    }

    /// The rows of the left side, each with whether it meets one of the right side: those that do and those that do not.
    fn marked(&mut self, join: &Join) -> Result<Lowered> {
        let left = join.join_type == JoinType::LeftMark;
        let types =
            if left { [JoinType::LeftSemi, JoinType::LeftAnti] } else { [JoinType::RightSemi, JoinType::RightAnti] };
        let Some(mark) = join.schema.fields().last() else { return internal_err!("a marked row has no mark") };
        let side = if left { &join.left } else { &join.right };
        let empty = DFSchema::empty();
        let mut nodes = Vec::new();
        for (join_type, met) in types.into_iter().zip([true, false]) {
            let half = Join { join_type, schema: Arc::clone(side.schema()), ..join.clone() };
            let lowered = self.join(&half, None, false)?;
            let schema = Arc::clone(&self.plan.nodes[lowered.node].schema);
            let mut exprs = Vec::new();
            let mut columns = Vec::new();
            let mut fields = Vec::new();
            for place in lowered.places() {
                let Some(place) = place else { return internal_err!("a column of a marked row is not there") };
                let field = schema.field(place);
                fields.push(Arc::new(field.clone()));
                exprs.push(CircuitColumn::new(place, field.name().clone(), field.data_type().clone()));
                columns.push(Some(place));
            }
            exprs.push(compile(&lit(met), &empty, &[])?);
            columns.push(None);
            fields.push(Arc::clone(mark));
            let facts = self.facts.of(lowered.node).projected(&columns);
            nodes.push(self.add(Spec::Project(exprs), vec![lowered.node], nullable(&fields), facts));
        }
        let keys = self.facts.of(nodes[0]).keys.clone();
        // No row is on both sides.
        let facts = NodeFacts { keys, ..self.facts.union(&nodes) };
        let schema = Arc::clone(&self.plan.nodes[nodes[0]].schema);
        let node = self.add(Spec::Union, nodes, schema, facts);
        Ok(Lowered::in_order(node, join.schema.fields().len()))
    }

    fn joined(&mut self, joining: &Joining<'_>, sides: [Lowered; 2]) -> Result<Lowered> {
        let known = [0, 1].map(|side| self.known(joining, &sides[side], side));
        // What is so of the rows of pairs that a new row of each side makes.
        let made = [0, 1].map(|side| bounds::propagated(&known[side], &joining.orders));
        let expires = [0, 1].map(|side| joining.expires(side, &known[side], &made[1 - side]));
        let windows = [0, 1].map(|side| self.windows(joining, &sides[side], side));
        let late = [0, 1].map(|side| joining.late(side, &known[side], expires, &windows[side]));
        let within: Vec<Order> = [0, 1].iter().flat_map(|side| self.orders_within(&windows[*side])).collect();
        // What is so of suspects too: of one that is in time because its window is open, no more than that.
        let known = [0, 1].map(|side| match late[side] {
            Some(until) => bounds::propagated(&Bounds::from([until]), &within),
            None => known[side].clone(),
        });
        let orders = [joining.orders.as_slice(), &within].concat();
        let made = [0, 1].map(|side| bounds::propagated(&known[side], &orders));
        let [left, right] = sides;
        let left = self.side(joining, left, 0, [expires[0], late[0]])?;
        let right = self.side(joining, right, 1, [expires[1], late[1]])?;
        let sides = [left, right];
        let append_only = self.plan.append_only();
        let appends = sides.iter().all(|side| append_only[side.node]);
        // A time that is no time attribute may be null, and then the row would never expire.
        let closing = |side: usize| expires[side].is_some_and(|(time, _)| known[side].contains_key(&time));
        let closes = match joining.kind {
            JoinKind::Left | JoinKind::Anti => closing(0),
            JoinKind::Full => closing(0) && closing(1),
            JoinKind::Inner | JoinKind::Semi => false,
        };
        let pad = if closes && appends && self.emit == Emit::OnClose { Emit::OnClose } else { Emit::Changes };
        let bounds = joining.bounds(&known, &made, expires[0], pad, &within);
        self.add_join(joining, &sides, [expires, late], pad, &bounds)
    }

    /// The bounds of the columns of one side, by their places among those of both.
    fn known(&self, joining: &Joining<'_>, lowered: &Lowered, side: usize) -> Bounds {
        let facts = &self.facts.of(lowered.node).bounds;
        let from = if side == 0 { 0 } else { joining.width };
        let slack = |(field, slot): (usize, &Slot)| match slot {
            Slot::At(column) => Some((from + field, *facts.get(column)?)),
            _ => None,
        };
        lowered.slots.iter().enumerate().filter_map(slack).collect()
    }

    /// The columns of one side that are times of windows, by their places among those of both.
    fn windows(&self, joining: &Joining<'_>, lowered: &Lowered, side: usize) -> Windows {
        let attributes = &self.facts.of(lowered.node).attributes;
        let from = if side == 0 { 0 } else { joining.width };
        let mut windows = Windows::new();
        for (field, slot) in lowered.slots.iter().enumerate() {
            let Slot::At(column) = slot else { continue };
            if let Some(id) = attributes[*column].window() {
                windows.entry(id).or_default().push((from + field, attributes[*column]));
            }
        }
        windows
    }

    /// What is known of the times of rows that are left out once one of them is over: no more than follows from that one,
    /// for of others a row may be behind the watermark and not be late.
    pub(super) fn judged(&self, facts: &NodeFacts, judged: Expiry) -> Bounds {
        let mut windows = Windows::new();
        for (column, attribute) in facts.attributes.iter().enumerate() {
            if let Some(id) = attribute.window() {
                windows.entry(id).or_default().push((column, *attribute));
            }
        }
        bounds::propagated(&Bounds::from([(judged.time, judged.after_ms)]), &self.orders_within(&windows))
    }

    /// What is so of the times of each window.
    fn orders_within(&self, windows: &Windows) -> Vec<Order> {
        let length = |id: WindowId| match &self.plan.nodes.get(id)?.spec {
            Spec::AssignWindow(AssignSpec { window, .. }) => length(window),
            Spec::Aggregate(AggregateSpec { window: Some(WindowKey::Time { window, .. }), .. }) => length(window),
            _ => None,
        };
        windows.iter().flat_map(|(id, places)| bounds::of_window(places, length(*id))).collect()
    }

    /// A side with the columns that the join keeps, and nothing else.
    fn side(
        &mut self,
        joining: &Joining<'_>,
        lowered: Lowered,
        side: usize,
        times: [Option<(usize, i64)>; 2],
    ) -> Result<Side> {
        let schema = joining.sides[side].schema();
        let used = joining.used(side, times)?;
        let width = self.plan.nodes[lowered.node].schema.fields().len();
        let mut columns: Vec<usize> = Vec::new();
        for field in &used {
            match lowered.slots[*field] {
                Slot::At(column) => columns.push(column),
                other => return internal_err!("a column of a join is {other:?}"),
            }
        }
        columns.sort_unstable();
        if columns.is_empty() && joining.keys.is_empty() {
            columns.push(0);
        }
        let mut project = self.project(&lowered, schema);
        for column in columns {
            project.keep(column);
        }
        let mut slots = vec![Slot::Gone; lowered.slots.len()];
        for field in &used {
            if let Slot::At(column) = lowered.slots[*field] {
                slots[*field] = Slot::At(project.keep(column));
            }
        }
        let mut keys = Vec::with_capacity(joining.keys.len());
        for (index, key) in joining.keys.iter().enumerate() {
            keys.push(project.column(&key[side], &lowered, schema, &format!("$key.{index}"))?);
        }
        let lowered = if project.is_untouched(width) { Lowered { slots, ..lowered } } else { project.finish(slots)? };
        Ok(Side { node: lowered.node, places: lowered.places(), keys })
    }

    fn add_join(
        &mut self,
        joining: &Joining<'_>,
        sides: &[Side; 2],
        times: [[Option<(usize, i64)>; 2]; 2],
        pad: Emit,
        bounds: &Bounds,
    ) -> Result<Lowered> {
        let nodes = [0, 1].map(|side| Arc::clone(&self.plan.nodes[sides[side].node].schema));
        let width = nodes[0].fields().len();
        let at = |field: usize| {
            let (side, field) = joining.side_of(field);
            sides[side].places[field].map(|place| place + side * width)
        };
        let places: Vec<Option<usize>> = (0..joining.schema.fields().len()).map(at).collect();
        let both = Schema::new(nodes[0].fields().iter().chain(nodes[1].fields()).map(Arc::clone).collect::<Vec<_>>());
        if joining.residual.as_ref().is_some_and(is_random) {
            let help = "compute it in a query below the join, and name its column in ON";
            return Err(self.refused("RAND or UUID in the condition of a join", help));
        }
        for side in sides {
            joining.residual.iter().try_for_each(|residual| self.check_clock(residual, side.node))?;
        }
        let names = told_apart(&nodes[0], &nodes[1]);
        let compiled = |residual: &Expr| compile_named(residual, &joining.schema, &places, Some(&names));
        let residual = joining.residual.as_ref().map(compiled).transpose()?;
        let mut columns = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let mut slots = Vec::with_capacity(joining.columns.len());
        let mut sources = Vec::new();
        for (field, needed) in joining.columns.iter().zip(&joining.needed) {
            let Some(place) = places[*field].filter(|_| *needed) else {
                slots.push(Slot::Gone);
                continue;
            };
            slots.push(Slot::At(columns.len()));
            columns.push(place);
            sources.push(*field);
            fields.push(both.field(place).clone().with_nullable(true));
        }
        if columns.is_empty() {
            columns.push(0);
            fields.push(both.field(0).clone().with_nullable(true));
            sources.push(usize::MAX);
        }
        let facts = self.facts_of(joining, sides, &columns, &sources, bounds);
        let [expiry, late] = times.map(|times| {
            [0, 1].map(|side| {
                let (field, after_ms) = times[side]?;
                let time = sides[side].places[joining.side_of(field).1]?;
                Some(Expiry { time, after_ms })
            })
        });
        let spec = JoinSpec {
            kind: joining.kind,
            left_keys: sides[0].keys.clone(),
            right_keys: sides[1].keys.clone(),
            nulls: joining.nulls,
            residual,
            columns,
            expiry,
            late,
            pad,
        };
        let inputs = vec![sides[0].node, sides[1].node];
        let node = self.add(Spec::Join(spec), inputs, Arc::new(Schema::new(fields)), facts);
        Ok(Lowered { node, slots, origin: None, asked: None, pending: None })
    }

    /// What is known of the rows of a join: `columns` are its columns among those of both sides' nodes, `sources` their
    /// places among the fields of both.
    fn facts_of(
        &self,
        joining: &Joining<'_>,
        sides: &[Side; 2],
        columns: &[usize],
        sources: &[usize],
        bounds: &Bounds,
    ) -> NodeFacts {
        let of = [0, 1].map(|side| self.facts.of(sides[side].node));
        let width = of[0].attributes.len();
        let attribute = |column: &usize| match *column {
            left if left < width => of[0].attributes[left],
            right => of[1].attributes[right - width],
        };
        let attributes: Vec<Attribute> = columns.iter().map(attribute).collect();
        let slack = |(place, field): (usize, &usize)| Some((place, *bounds.get(field)?));
        let bounds: Bounds = sources.iter().enumerate().filter_map(slack).collect();
        let (kept, behind_ms) = bounds::kept(&attributes, &bounds);
        let plain = vec![Attribute::Plain; kept.len()];
        let (attributes, later) = match behind_ms {
            0 => (kept, None),
            _ => (plain, Some(Later { attributes: kept, behind_ms })),
        };
        let clock = joining.residual.as_ref().is_some_and(facts::reads_clock);
        let place = |column: &usize| columns.iter().position(|kept| kept == column);
        let keys = joining.unique(sides, of);
        NodeFacts {
            attributes,
            bounds,
            later,
            keys: keys.iter().filter_map(|key| key.iter().map(place).collect()).collect(),
            several: false,
            schedule_dependent: of.iter().any(|facts| facts.schedule_dependent) || clock,
        }
    }

    /// The rows with a watermark that is behind where their times ask for it.
    pub(crate) fn timely(&mut self, lowered: Lowered) -> Lowered {
        let facts = self.facts.of(lowered.node);
        let Some(Later { attributes, behind_ms }) = facts.later.clone() else { return lowered };
        let width = facts.attributes.len();
        let mut facts = NodeFacts { later: None, ..bounds::delayed(facts, behind_ms) };
        facts.attributes = attributes;
        facts.attributes.resize(width, Attribute::Plain);
        let schema = Arc::clone(&self.plan.nodes[lowered.node].schema);
        let node = self.add(Spec::Delay(DelaySpec { behind_ms }), vec![lowered.node], schema, facts);
        Lowered { node, ..lowered }
    }

    pub(super) fn set_operation(&mut self, operation: &SetOperation, origin: bool) -> Result<Lowered> {
        let SetOperation { left, right, intersect: _, all, schema } = operation;
        if origin {
            return Err(self.unordered("INTERSECT or EXCEPT"));
        }
        let fields = fields_of(schema);
        if let Some(field) = fields.iter().find(|field| !is_key(field.data_type())) {
            let what = format!("INTERSECT or EXCEPT of {}, as {} is,", name_of(field.data_type()), field.name());
            return Err(self.refused(&what, "select its parts"));
        }
        let mut nodes = Vec::with_capacity(2);
        for side in [left, right] {
            let lowered = self.lower(side, false)?;
            let lowered = self.materialise(lowered)?;
            nodes.push(self.in_order(&lowered, &fields)?);
        }
        let mut keys = self.facts.of(nodes[0]).keys.clone();
        if !all {
            keys.push((0..fields.len()).collect());
        }
        let schedule_dependent = nodes.iter().any(|node| self.facts.of(*node).schedule_dependent);
        let attributes = vec![Attribute::Plain; fields.len()];
        let facts = NodeFacts { attributes, keys, schedule_dependent, ..NodeFacts::default() };
        let spec = Spec::SetOperation(SetSpec { operation: operation.operation(), all: *all });
        let node = self.add(spec, nodes, nullable(&fields), facts);
        Ok(Lowered::in_order(node, fields.len()))
    }
}

impl<'j> Joining<'j> {
    fn new(join: &'j Join, needed: Needed) -> Result<Self> {
        let Join { left, right, on: _, filter, join_type, join_constraint: _, schema: _, null_equality, null_aware } =
            join;
        let (kind, swapped) = match join_type {
            JoinType::Inner => (JoinKind::Inner, false),
            JoinType::Left => (JoinKind::Left, false),
            JoinType::Right => (JoinKind::Left, true),
            JoinType::Full => (JoinKind::Full, false),
            JoinType::LeftSemi => (JoinKind::Semi, false),
            JoinType::RightSemi => (JoinKind::Semi, true),
            JoinType::LeftAnti => (JoinKind::Anti, false),
            JoinType::RightAnti => (JoinKind::Anti, true),
            JoinType::LeftMark | JoinType::RightMark => return internal_err!("a join that marks rows"),
        };
        let sides: [&LogicalPlan; 2] = if swapped { [right, left] } else { [left, right] };
        let schema = sides[0].schema().join(sides[1].schema())?;
        let width = sides[0].schema().fields().len();
        let conditions = conditions(join);
        let orders = bounds::orders(conditions.iter(), &schema)?;
        let equal = *null_equality == NullEquality::NullEqualsNull;
        let position = conditions.iter().find_map(place_of);
        let (candidates, rest): (Vec<Expr>, Vec<Expr>) = match equal {
            // Nulls are equal in what is joined ON, and not in the rest of the condition.
            true => (
                join.on.iter().map(|(left, right)| left.clone().eq(right.clone())).collect(),
                filter.iter().flat_map(split_conjunction).cloned().collect(),
            ),
            false => (conditions, vec![]),
        };
        let mut joining = Joining {
            sides,
            kind,
            schema,
            width,
            keys: Vec::new(),
            nulls: if equal { JoinNulls::Equal } else { JoinNulls::Unequal },
            residual: None,
            orders,
            columns: Vec::new(),
            needed: Vec::new(),
            position,
        };
        let mut others = rest;
        for candidate in candidates {
            match joining.key(&candidate)? {
                Some(key) if !joining.keys.contains(&key) => joining.keys.push(key),
                Some(_) => {}
                None if equal => return internal_err!("{candidate} is no key of a join"),
                None => others.push(candidate),
            }
        }
        let always = |expr: &Expr| *expr == lit(true);
        joining.residual = conjunction(others.into_iter().filter(|expr| !always(expr)));
        if *null_aware {
            joining.nulls = JoinNulls::Unknown;
            joining.orders.clear();
            if joining.keys.len() != 1 || joining.residual.is_some() {
                return Err(no_key(joining.position));
            }
        }
        let of_first = 0..width;
        let of_second = width..joining.schema.fields().len();
        joining.columns = match kind {
            JoinKind::Semi | JoinKind::Anti => of_first.collect(),
            _ if swapped => of_second.chain(of_first).collect(),
            _ => of_first.chain(of_second).collect(),
        };
        let is_needed = |column: usize| needed.as_ref().is_none_or(|needed| needed.contains(&column));
        joining.needed = (0..joining.columns.len()).map(is_needed).collect();
        Ok(joining)
    }

    /// The side of a column of both, and its place there.
    fn side_of(&self, field: usize) -> (usize, usize) {
        if field < self.width { (0, field) } else { (1, field - self.width) }
    }

    /// An equation of the two sides.
    fn key(&self, condition: &Expr) -> Result<Option<[Expr; 2]>> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return Ok(None) };
        let side = |expr: &Expr| -> Result<Option<usize>> {
            let columns = columns_of(expr, &self.schema)?;
            Ok(match columns.as_slice() {
                [] => None,
                all if all.iter().all(|column| *column < self.width) => Some(0),
                all if all.iter().all(|column| *column >= self.width) => Some(1),
                _ => None,
            })
        };
        let (first, second) = match (side(left)?, side(right)?) {
            (Some(0), Some(1)) => (left, right),
            (Some(1), Some(0)) => (right, left),
            _ => return Ok(None),
        };
        let (one, two) = (first.get_type(&self.schema)?, second.get_type(&self.schema)?);
        let fits = one == two && is_key(&one) && !is_random(first) && !is_random(second);
        Ok(fits.then(|| [first.as_ref().clone(), second.as_ref().clone()]))
    }

    /// When a row of a side can meet no row still to come: a column of time and what is added to it. `made` is what is
    /// known of the pairs that a new row of the other side makes.
    fn expires(&self, side: usize, known: &Bounds, made: &Bounds) -> Option<(usize, i64)> {
        let of_side = made.iter().filter(|(field, _)| self.side_of(**field).0 == side);
        // A row that may still be taken back is kept until then.
        let after = of_side.map(|(field, slack)| (*field, known.get(field).map_or(*slack, |own| *slack.max(own))));
        after.min_by_key(|(field, after)| (*after, *field))
    }

    /// By which time of its window a suspect of a side is known to be in time: a column and its slack, if what the rows of
    /// the other side expire by follows from it.
    fn late(
        &self,
        side: usize,
        known: &Bounds,
        expires: [Option<(usize, i64)>; 2],
        windows: &Windows,
    ) -> Option<(usize, i64)> {
        let (theirs, after) = expires[1 - side]?;
        let follows = |(field, slack): (&usize, &i64)| {
            let made = bounds::propagated(&Bounds::from([(*field, *slack)]), &self.orders);
            made.get(&theirs).is_some_and(|made| *made <= after)
        };
        let ours = expires[side].map(|(field, _)| field);
        let first =
            known.iter().filter(|known| follows(*known)).min_by_key(|(field, _)| (Some(**field) != ours, **field));
        let (field, slack) = first?;
        let of_window = windows.values().flatten().any(|(place, _)| place == field);
        of_window.then_some((*field, *slack))
    }

    /// The fields of a side that the join keeps.
    fn used(&self, side: usize, times: [Option<(usize, i64)>; 2]) -> Result<BTreeSet<usize>> {
        let mut all: BTreeSet<usize> = times.into_iter().flatten().map(|(field, _)| field).collect();
        if let Some(residual) = &self.residual {
            all.extend(columns_of(residual, &self.schema)?);
        }
        for key in &self.keys {
            if let Expr::Column(_) = key[side] {
                all.extend(columns_of(&key[side], &self.schema)?);
            }
        }
        all.extend(self.columns.iter().zip(&self.needed).filter(|(_, needed)| **needed).map(|(column, _)| *column));
        Ok(all
            .into_iter()
            .map(|field| self.side_of(field))
            .filter(|(of, _)| *of == side)
            .map(|(_, field)| field)
            .collect())
    }

    /// The bounds of the columns that come out.
    fn bounds(
        &self,
        known: &[Bounds; 2],
        made: &[Bounds; 2],
        expires: Option<(usize, i64)>,
        pad: Emit,
        within: &[Order],
    ) -> Bounds {
        match (self.kind, pad) {
            (JoinKind::Inner | JoinKind::Semi, _) => bounds::either(&made[0], &made[1]),
            // A row that meets none comes as it is, and is taken back by what it meets.
            (JoinKind::Left | JoinKind::Anti, Emit::Changes) => bounds::either(&known[0], &made[1]),
            // It comes when it expires, and then only the time by which it does is near the watermark.
            (JoinKind::Left | JoinKind::Anti, Emit::OnClose) => {
                let Some((time, after)) = expires.filter(|(time, _)| known[0].contains_key(time)) else {
                    return Bounds::new();
                };
                bounds::propagated(&Bounds::from([(time, after)]), within)
            }
            // Either side may be null.
            (JoinKind::Full, _) => Bounds::new(),
        }
    }

    /// Sets of columns of both sides' nodes that name a row that comes out.
    fn unique(&self, sides: &[Side; 2], of: [&NodeFacts; 2]) -> Vec<Vec<usize>> {
        let width = of[0].attributes.len();
        let left = || of[0].keys.iter().cloned();
        if let JoinKind::Semi | JoinKind::Anti = self.kind {
            return left().collect();
        }
        let moved = |key: &Vec<usize>| key.iter().map(|column| column + width).collect::<Vec<_>>();
        let mut unique = Vec::new();
        // At most one row of the other side is met where what it is joined by names it.
        let alone =
            |side: usize| of[side].keys.iter().any(|key| key.iter().all(|column| sides[side].keys.contains(column)));
        if alone(1) && self.kind != JoinKind::Full {
            unique.extend(left());
        }
        if alone(0) && self.kind == JoinKind::Inner {
            unique.extend(of[1].keys.iter().map(moved));
        }
        for key in left() {
            unique.extend(of[1].keys.iter().map(|other| [key.as_slice(), &moved(other)].concat()));
        }
        unique
    }
}

/// The columns of both sides under names that tell them apart, for what is printed.
fn told_apart(left: &Schema, right: &Schema) -> Schema {
    let named = |of: &Schema, other: &Schema, side: &str| {
        let name = |field: &Arc<Field>| match other.column_with_name(field.name()) {
            Some(_) => field.as_ref().clone().with_name(format!("{side}.{}", field.name())),
            None => field.as_ref().clone(),
        };
        of.fields().iter().map(name).collect::<Vec<_>>()
    };
    Schema::new([named(left, right, "left"), named(right, left, "right")].concat())
}

/// Whether rows can be found by values of this type.
fn is_key(data_type: &DataType) -> bool {
    KeyEncoder::new(vec![data_type.clone()]).is_some()
}

fn no_key(position: Option<Position>) -> datafusion::common::DataFusionError {
    outside(Error::Plan {
        problem: "NOT IN compares one value of each side, of a type that can be grouped by".to_string(),
        position,
        help: Some("write NOT EXISTS (SELECT 1 FROM t WHERE t.x = a.x)".to_string()),
    })
}

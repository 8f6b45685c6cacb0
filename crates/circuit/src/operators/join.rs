//! Pairs the rows of two inputs that have equal keys, and meet a condition besides.
//!
//! Both sides are kept ([`state`]): a row that comes is held against the rows of the other side that are there, and stays
//! for those still to come, until none of them can meet it (its deadline, which the plan knows). Inner joins ([`Inner`])
//! say pairs at once. Joins that say whether a row has met any ([`outer`]) take a step's rows in first and then say, once for
//! each row, what the step has changed.

use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};

use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, TaskId};
use crate::keep::keeper::Keeper;
use crate::keep::value::is_saved;
use crate::key::KeyEncoder;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::operators::guard::Guard;
use crate::operators::time::is_time;
use crate::plan::{Emit, JoinKind, JoinNulls, JoinSpec};
use outer::Outer;
use pairs::{Pairs, Pick, kept};
use side::Shape;
use state::State;
use store::NONE;

mod deadlines;
mod index;
mod kept;
mod outer;
mod pairs;
mod side;
mod state;
mod store;

/// The left and the right input; a side's number is its port.
const LEFT: usize = 0;
const RIGHT: usize = 1;

/// What all lanes' operators of one node have in common.
struct Design {
    spec: JoinSpec,
    inputs: [SchemaRef; 2],
    encoder: KeyEncoder,
    pairs: Pairs,
    /// For each side whether no row of it is taken back.
    appends: [bool; 2],
    /// For each side whether it never has more than one row, which then has no time to live.
    singles: [bool; 2],
    /// How long a row is kept that does not change and that no time bounds, where that is said.
    ttl_ms: Option<i64>,
}

impl Design {
    /// The design of a node; or what is not supported.
    fn new(lowering: &Lowering<'_>, spec: &JoinSpec) -> Result<Self, String> {
        let ([left, right], [left_appends, right_appends], [left_single, right_single]) =
            (lowering.input_schemas, lowering.appends, lowering.singles)
        else {
            return Err("a join of other than two inputs".into());
        };
        let types = |schema: &SchemaRef, columns: &[usize]| -> Vec<DataType> {
            columns.iter().map(|column| schema.field(*column).data_type().clone()).collect()
        };
        let keys = types(left, &spec.left_keys);
        if types(right, &spec.right_keys) != keys {
            return Err("a join by columns of different types".into());
        }
        let encoder = KeyEncoder::new(keys).ok_or("a join by lists, maps or rows")?;
        let pairs = Pairs::new(
            lowering.input_schemas,
            &spec.columns,
            spec.residual.as_ref(),
            lowering.node.schema.clone(),
            Guard::of(lowering),
        );
        let (inputs, appends) = ([left.clone(), right.clone()], [*left_appends, *right_appends]);
        let ttl_ms = lowering.ttl_ms.filter(|_| lowering.node.takes_ttl()).map(|ttl_ms| ttl_ms.max(1));
        let singles = [*left_single, *right_single];
        let design = Design { spec: spec.clone(), inputs, encoder, pairs, appends, singles, ttl_ms };
        design.check(&lowering.node.schema)?;
        Ok(design)
    }

    /// Whether the plan asks for something that there is.
    fn check(&self, output: &SchemaRef) -> Result<(), String> {
        let spec = &self.spec;
        let fields = || self.inputs.iter().flat_map(|input| input.fields());
        if let Some(field) = fields().find(|field| !is_saved(field.data_type())) {
            return Err(format!("a join that keeps values of type {}", field.data_type()));
        }
        let types: Vec<&DataType> = fields().map(|field| field.data_type()).collect();
        let one_sided = matches!(spec.kind, JoinKind::Semi | JoinKind::Anti);
        let wanted = if one_sided { self.inputs[LEFT].fields().len() } else { types.len() };
        let given = spec.columns.iter().map(|column| types.get(*column).filter(|_| *column < wanted).copied());
        if !given.eq(output.fields().iter().map(|field| Some(field.data_type()))) {
            return Err("a join with other columns than its inputs'".into());
        }
        for (input, at) in self.inputs.iter().zip([LEFT, RIGHT]) {
            let mut times = [spec.expiry[at], spec.late[at]].into_iter().flatten();
            if times.any(|expiry| !is_time(input.field(expiry.time).data_type())) {
                return Err("a join whose rows expire by something else than a time".into());
            }
        }
        let expires = spec.expiry.map(|expiry| expiry.is_some());
        if spec.nulls == JoinNulls::Unknown
            && (spec.kind != JoinKind::Anti || spec.residual.is_some() || expires[RIGHT])
        {
            return Err("NOT IN with a condition besides".into());
        }
        if self.pads_late()
            && (self.appends != [true; 2] || !expires[LEFT] || (self.is_padded(RIGHT) && !expires[RIGHT]))
        {
            return Err("rows that are padded for ever, of inputs that take rows back or never expire".into());
        }
        Ok(())
    }

    /// Whether a row of this side says something of its own, by whether it has met a row of the other side.
    fn is_padded(&self, side: usize) -> bool {
        match self.spec.kind {
            JoinKind::Inner => false,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti => side == LEFT,
            JoinKind::Full => true,
        }
    }

    /// Whether a null may equal anything, and each left row is held against the nulls of the right side as against its equals.
    /// Without a time to live it is enough to know how many nulls there are.
    fn meets_nulls(&self) -> bool {
        self.spec.nulls == JoinNulls::Unknown && self.counts(LEFT)
    }

    /// Whether rows that have met none say so when they expire, and not before.
    fn pads_late(&self) -> bool {
        self.spec.pad == Emit::OnClose && !matches!(self.spec.kind, JoinKind::Inner | JoinKind::Semi)
    }

    /// Whether pairs come out.
    fn says_pairs(&self) -> bool {
        !matches!(self.spec.kind, JoinKind::Semi | JoinKind::Anti)
    }

    /// Whether what a row of this side has met is counted row by row: where a condition tells rows of a key apart, or where
    /// rows that were met expire.
    fn counts(&self, side: usize) -> bool {
        let expires = self.spec.expiry[1 - side].is_some() || self.ages(1 - side);
        self.is_padded(side) && (self.spec.residual.is_some() || expires)
    }

    /// Whether left rows go that have met one.
    fn lets_met_go(&self) -> bool {
        self.spec.lets_met_go(self.appends, self.ttl_ms.is_some())
    }

    /// Whether pairs are said as rows come. Where rows that are taken back may have expired before, it has to be known first
    /// whether they are still there.
    fn is_linear(&self) -> bool {
        self.spec.kind == JoinKind::Inner && (self.ttl_ms.is_none() || self.appends == [true; 2])
    }

    /// Whether rows of this side are forgotten that do not change, if it has several.
    fn ages(&self, side: usize) -> bool {
        self.ttl_ms.is_some() && self.spec.expiry[side].is_none()
    }

    /// For how many milliseconds a row of this side is kept that does not change; none where its time says so, or nothing.
    fn lifetime(&self, side: usize) -> Option<i64> {
        self.ttl_ms.filter(|_| self.ages(side) && !self.singles[side])
    }

    /// Whether equal rows of this side are kept as one: where rows are taken back, and where nothing is asked of the rows of
    /// a key but how many there are.
    fn merges(&self, side: usize) -> bool {
        let only_met = side == RIGHT && !self.says_pairs() && self.spec.residual.is_none();
        !self.appends[side] || (only_met && self.ages(RIGHT))
    }

    /// Whether the rows of this side are counted by key, for the rows of the other side.
    fn has_totals(&self, side: usize) -> bool {
        self.is_padded(1 - side) && !self.counts(1 - side)
    }

    /// Whether of the right side nothing is needed but how many rows each key has.
    fn has_totals_only(&self) -> bool {
        !self.says_pairs() && self.has_totals(RIGHT)
    }

    /// Whether a row of this side is kept though a null in its key equals nothing.
    fn keeps_nulls(&self, side: usize) -> bool {
        match self.spec.nulls {
            JoinNulls::Equal | JoinNulls::Unknown => true,
            JoinNulls::Unequal => self.pads_late() && self.is_padded(side),
        }
    }

    /// Whether keys that hold a null are told apart.
    fn marks_nulls(&self) -> bool {
        match self.spec.nulls {
            JoinNulls::Equal => false,
            JoinNulls::Unknown => true,
            JoinNulls::Unequal => self.pads_late(),
        }
    }

    /// Whether suspects of this side stay suspects. Where the other side expires they have been judged; where neither does
    /// no time of what comes out is bounded, so that nobody asks.
    fn keeps_suspects(&self, side: usize) -> bool {
        self.spec.expiry[side].is_some() && self.spec.expiry[1 - side].is_none()
    }

    fn keys(&self, side: usize) -> &[usize] {
        if side == LEFT { &self.spec.left_keys } else { &self.spec.right_keys }
    }

    fn shape(&self, side: usize) -> Shape {
        let merges = self.merges(side);
        Shape {
            width: self.inputs[side].fields().len(),
            merges,
            expires: self.spec.expiry[side].is_some(),
            lifetime: self.lifetime(side),
            leaves: side == LEFT && self.lets_met_go(),
            counts: self.counts(side),
            logs: merges || !self.is_linear(),
            suspects: self.keeps_suspects(side),
        }
    }
}

/// An inner join: linear in each of its sides, so it says pairs as rows come.
struct Inner {
    state: State,
    /// Pairs that are looked at: rows of the chunk that came, and of those that are kept.
    rows: Vec<u32>,
    ids: Vec<u32>,
}

impl Operator for Inner {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        self.state.begin_step(context);
        let (delta, _) = self.state.admit(port, delta, context, out)?;
        if delta.is_empty() {
            return Ok(());
        }
        let (delta, rows) = self.state.enter(port, delta)?;
        self.probe(port, &delta, &rows.slots, context, out)?;
        self.state.take(port, &rows)
    }

    fn flush(&mut self, context: &Context, _out: &mut Output) -> Result<Flush, Error> {
        self.state.begin_step(context);
        let due = self.state.due(context.watermark.millis());
        self.state.end_step(&due, context.watermark.millis())?;
        Ok(Flush::Done)
    }

    fn state_size(&self) -> StateSize {
        self.state.size()
    }

    fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        self.state.largest_keys(most)
    }

    fn keeper(&mut self) -> Option<&mut dyn Keeper> {
        Some(&mut self.state)
    }
}

impl Inner {
    /// Pairs rows with those of the other side that are there.
    fn probe(
        &mut self,
        port: usize,
        delta: &Delta,
        slots: &[u32],
        context: &Context,
        out: &mut Output,
    ) -> Result<(), Error> {
        for (row, slot) in slots.iter().enumerate() {
            let mut id = self.state.sides[1 - port].head(*slot);
            while id != NONE {
                let side = &self.state.sides[1 - port];
                if side.weight(id) != 0 {
                    self.rows.push(row as u32);
                    self.ids.push(id);
                }
                id = side.next(id);
                if self.ids.len() == DELTA_ROWS_MAX {
                    self.say(port, delta, context, out)?;
                }
            }
        }
        if self.ids.is_empty() { Ok(()) } else { self.say(port, delta, context, out) }
    }

    /// Says the pairs that meet the condition.
    fn say(&mut self, port: usize, delta: &Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        let Inner { state, rows, ids } = self;
        let (pairs, side) = (&state.design.pairs, &state.sides[1 - port]);
        let holds = pairs.holding(picks(port, delta, rows, side, ids), ids.len(), context, out)?;
        kept(rows, holds.as_ref());
        kept(ids, holds.as_ref());
        if !ids.is_empty() {
            let mut weights = Vec::new();
            if delta.weights().is_some() || side.shape().merges {
                weights.extend(
                    rows.iter().zip(ids.iter()).map(|(row, id)| delta.weight(*row as usize) * side.weight(*id)),
                );
            }
            let said = pairs.rows(picks(port, delta, rows, side, ids), ids.len(), weights)?;
            let given = delta.carried().map(|carried| rows.iter().map(|row| carried[*row as usize]).collect());
            out.emit(said.with_carried(later(given, side.carried(ids))));
        }
        rows.clear();
        ids.clear();
        Ok(())
    }
}

/// The greater watermark of each pair of rows that came below one.
fn later(one: Option<Vec<i64>>, other: Option<Vec<i64>>) -> Option<Vec<i64>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.into_iter().zip(other).map(|(one, other)| one.max(other)).collect()),
        (one, other) => one.or(other),
    }
}

/// The pairs of rows that came and rows that are kept.
fn picks<'a>(port: usize, delta: &'a Delta, rows: &'a [u32], side: &'a side::Side, ids: &'a [u32]) -> [Pick<'a>; 2] {
    let (given, kept) = (Pick::Given(delta.batch(), rows), Pick::Kept(&side.store, ids));
    if port == LEFT { [given, kept] } else { [kept, given] }
}

/// One task, to which the rows of both sides come by their keys.
///
/// # Errors
/// [`Error::Unsupported`] for keys that cannot be compared, values that cannot be kept, and expiries and nulls that the kind
/// of the join has no use for.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>, spec: &JoinSpec) -> Result<TaskId, Error> {
    let unsupported = |what: String| Error::Unsupported { what, position: lowering.node.position };
    let design = Arc::new(Design::new(lowering, spec).map_err(unsupported)?);
    let input = |(side, task): (usize, &TaskId)| {
        // A null that may equal anything is of no lane.
        let keys = if spec.nulls == JoinNulls::Unknown { &[] } else { design.keys(side) };
        Input { task: *task, placement: lowering.together(keys) }
    };
    let inputs = lowering.inputs.iter().enumerate().map(input).collect();
    let make = move || -> Result<Box<dyn Operator>, Error> {
        let state = State::new(design.clone());
        Ok(match design.is_linear() {
            true => Box::new(Inner { state, rows: Vec::new(), ids: Vec::new() }),
            false => Box::new(Outer::new(state)),
        })
    };
    Ok(graph.add(lowering.task(inputs, lowering.node.schema.clone(), Arc::new(make))))
}

#[cfg(test)]
mod tests;

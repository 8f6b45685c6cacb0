//! [`Outer`]: joins whose rows say something of their own, by whether they have met a row of the other side: outer joins,
//! semi and anti joins; and inner joins for which rows are taken back that may have expired.
//!
//! All rows of a step are taken in before anything is said. Then each pair that the step has changed is looked at once,
//! with the weights that its rows had before and have now. What a row has met is known by its key, or counted row by row
//! ([`Design::counts`]). At last every row that was changed, or met its first or lost its last one, says how that is now.
//!
//! [`Design::counts`]: super::Design::counts

use std::collections::VecDeque;

use super::pairs::Pick;
use super::side::Before;
use super::state::{State, Verdict, merged};
use super::store::NONE;
use super::{LEFT, RIGHT, later};
use crate::delta::{DELTA_ROWS_MAX, Delta};
use crate::error::Error;
use crate::keep::keeper::Keeper;
use crate::operator::{Context, Flush, KeySize, Operator, Output, StateSize};
use crate::plan::JoinKind;

/// An outer, semi or anti join.
pub(super) struct Outer {
    state: State,
    /// Rows of each side that meet none, ever.
    strangers: [Vec<Delta>; 2],
    /// By how much the step changes the number of right rows of keys, where nothing else is kept of them.
    changes: Vec<(u32, i64)>,
    /// What was said and has not left.
    said: VecDeque<Delta>,
    is_settled: bool,
    pairs: Candidates,
}

/// Pairs that the step may have changed.
#[derive(Default)]
struct Candidates {
    lefts: Vec<u32>,
    rights: Vec<u32>,
    changes: Vec<Change>,
}

/// By how much a pair changes what is known.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// How often the pair is there.
    weight: i64,
    /// How many rows the left row has met, and the right one.
    counts: [i64; 2],
}

/// The keys of a side with another number of rows than before the step, in order, and that number.
type Totals = Vec<(u32, i64)>;

impl Operator for Outer {
    fn push(&mut self, port: usize, delta: Delta, context: &Context, out: &mut Output) -> Result<(), Error> {
        self.state.begin_step(context);
        let (delta, strangers) = self.state.admit(port, delta, context, out)?;
        let design = &self.state.design;
        if design.is_padded(port) && design.spec.kind != JoinKind::Semi {
            self.strangers[port].extend(strangers);
        }
        if delta.is_empty() {
            return Ok(());
        }
        let (delta, rows) = self.state.enter(port, delta)?;
        if port == LEFT || !self.state.design.has_totals_only() {
            return self.state.take(port, &rows);
        }
        self.changes.extend(rows.slots.iter().enumerate().map(|(row, slot)| (*slot, delta.weight(row))));
        Ok(())
    }

    fn flush(&mut self, context: &Context, out: &mut Output) -> Result<Flush, Error> {
        if !self.is_settled {
            self.state.begin_step(context);
            self.settle(context, out)?;
            self.is_settled = true;
        }
        if let Some(delta) = self.said.pop_front() {
            out.emit(delta);
            return Ok(Flush::More);
        }
        self.is_settled = false;
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

impl Outer {
    /// Nothing is kept yet.
    pub fn new(state: State) -> Self {
        let (strangers, changes, said) = (Default::default(), Vec::new(), VecDeque::new());
        Outer { state, strangers, changes, said, is_settled: false, pairs: Candidates::default() }
    }

    /// Says rows that meet none, ever.
    fn say_strangers(&mut self, side: usize) -> Result<(), Error> {
        let strangers = std::mem::take(&mut self.strangers[side]);
        if strangers.is_empty() {
            return Ok(());
        }
        let design = self.state.design.clone();
        let all = Delta::concat(&design.inputs[side], &strangers).map_err(|error| design.pairs.broken(error))?;
        let all = if design.appends[side] { all } else { merged(all).map_err(|error| design.pairs.broken(error))?.0 };
        for start in (0..all.rows()).step_by(DELTA_ROWS_MAX) {
            let some = all.slice(start, DELTA_ROWS_MAX.min(all.rows() - start));
            let rows: Vec<u32> = (0..some.rows() as u32).collect();
            let weights = some.weights().map(<[i64]>::to_vec).unwrap_or_default();
            let picks = self.alone(side, Pick::Given(some.batch(), &rows));
            let said = design.pairs.rows(picks, rows.len(), weights)?;
            self.said.push_back(said.with_carried(some.carried().map(<[i64]>::to_vec)));
        }
        Ok(())
    }

    /// Rows of one side, and nulls for the other.
    fn alone<'a>(&'a self, side: usize, rows: Pick<'a>) -> [Pick<'a>; 2] {
        let nobody = Pick::Nobody(&self.state.design.inputs[1 - side]);
        if side == LEFT { [rows, nobody] } else { [nobody, rows] }
    }

    /// Finds out what the step has changed.
    fn settle(&mut self, context: &Context, out: &mut Output) -> Result<(), Error> {
        let verdict = self.state.verdict();
        self.state.forgive();
        self.meet(LEFT, context, out)?;
        self.meet(RIGHT, context, out)?;
        let totals = [self.count(LEFT)?, self.count(RIGHT)?];
        if self.state.verdict() != verdict {
            let all: Vec<u32> = self.state.sides[LEFT].ids().collect();
            all.into_iter().for_each(|id| self.state.sides[LEFT].log(id));
        }
        for side in [LEFT, RIGHT] {
            self.say_strangers(side)?;
            self.say_changed(side, &totals[1 - side], verdict)?;
        }
        for (slot, _) in totals.iter().flatten() {
            self.state.release(*slot);
        }
        let watermark = context.watermark.millis();
        let mut due = self.state.due(watermark);
        for side in [LEFT, RIGHT] {
            self.say_unmet(side, &due[side])?;
        }
        if self.state.design.lets_met_go() {
            let leaving = self.met(&totals[RIGHT], &due[LEFT]);
            due[LEFT].extend(leaving);
        }
        self.state.end_step(&due, watermark)
    }

    /// The changed rows of the left side that have met one, but for those that are due.
    fn met(&self, totals: &Totals, due: &[u32]) -> Vec<u32> {
        let is_met = |before: &&Before| self.is_met(LEFT, before, totals).1 && due.binary_search(&before.id).is_err();
        self.state.sides[LEFT].logged().iter().filter(is_met).map(|before| before.id).collect()
    }

    /// Looks at the pairs of changed rows of a side; those of two changed rows are looked at from the left.
    fn meet(&mut self, side: usize, context: &Context, out: &mut Output) -> Result<(), Error> {
        let design = &self.state.design;
        if !design.says_pairs() && !design.counts(LEFT) {
            return Ok(());
        }
        let null = if design.meets_nulls() { self.state.index.null() } else { None };
        for at in 0..self.state.sides[side].logged().len() {
            let changed = self.state.sides[side].logged()[at];
            let slot = self.state.sides[side].owner(changed.id);
            let is_null = self.state.index.is_strange(slot);
            if changed.weight == self.state.sides[side].weight(changed.id) {
                continue;
            }
            if is_null && null.is_some() {
                let all: Vec<u32> = self.state.sides[1 - side].ids().collect();
                all.into_iter().try_for_each(|theirs| self.look_at(side, changed, theirs, context, out))?;
            }
            let keys = [(!is_null).then_some(slot), null.filter(|_| !is_null)];
            for key in keys.into_iter().flatten() {
                let mut theirs = self.state.sides[1 - side].head(key);
                while theirs != NONE {
                    self.look_at(side, changed, theirs, context, out)?;
                    theirs = self.state.sides[1 - side].next(theirs);
                }
            }
        }
        if self.pairs.lefts.is_empty() { Ok(()) } else { self.judge(context, out) }
    }

    /// Adds the pair of a changed row and one of the other side, if it has changed by that.
    #[inline]
    fn look_at(
        &mut self,
        side: usize,
        changed: Before,
        theirs: u32,
        context: &Context,
        out: &mut Output,
    ) -> Result<(), Error> {
        let Before { id: mine, weight: was, .. } = changed;
        let (is, other) = (self.state.sides[side].weight(mine), &self.state.sides[1 - side]);
        let (their_was, their_is) = (other.weight_before(theirs), other.weight(theirs));
        if side == LEFT {
            self.pairs.push([mine, theirs], [was, their_was], [is, their_is]);
        } else if their_was == their_is {
            self.pairs.push([theirs, mine], [their_was, was], [their_is, is]);
        }
        if self.pairs.lefts.len() == DELTA_ROWS_MAX { self.judge(context, out) } else { Ok(()) }
    }

    /// Counts the pairs that meet the condition, and says them.
    fn judge(&mut self, context: &Context, out: &mut Output) -> Result<(), Error> {
        let Outer { state, pairs, said, .. } = self;
        let design = state.design.clone();
        let holds = design.pairs.holding(pairs.picks(state), pairs.lefts.len(), context, out)?;
        pairs.retain(|pair, _| holds.as_ref().is_none_or(|holds| holds.value(pair)));
        for (side, ids) in [(LEFT, &pairs.lefts), (RIGHT, &pairs.rights)] {
            let counted = ids.iter().zip(&pairs.changes).filter(|(_, change)| change.counts[side] != 0);
            for (id, change) in counted.filter(|_| design.counts(side)) {
                state.sides[side].log(*id);
                state.sides[side].meet(*id, change.counts[side], &state.index);
            }
        }
        pairs.retain(|_, change| change.weight != 0);
        if design.says_pairs() && !pairs.lefts.is_empty() {
            let weights = pairs.changes.iter().map(|change| change.weight).collect();
            let rows = design.pairs.rows(pairs.picks(state), pairs.lefts.len(), weights)?;
            let [left, right] = &state.sides;
            said.push_back(rows.with_carried(later(left.carried(&pairs.lefts), right.carried(&pairs.rights))));
        }
        pairs.retain(|_, _| false);
        Ok(())
    }

    /// Counts the rows of a side by key, and logs the rows of the other side whose first one has come or last one gone.
    fn count(&mut self, side: usize) -> Result<Totals, Error> {
        let state = &mut self.state;
        if !state.design.has_totals(side) {
            return Ok(Vec::new());
        }
        let mut changes = std::mem::take(&mut self.changes);
        if !state.design.has_totals_only() {
            let rows = &state.sides[side];
            changes = rows.logged().iter().map(|row| (rows.owner(row.id), rows.weight(row.id) - row.weight)).collect();
        }
        changes.sort_unstable_by_key(|(slot, _)| *slot);
        let mut totals = Totals::new();
        for same in changes.chunk_by(|one, other| one.0 == other.0) {
            let (slot, change) = (same[0].0, same.iter().map(|(_, change)| change).sum::<i64>());
            totals.push((slot, state.totals[side][slot as usize]));
            let was = state.has_total(side, slot);
            if state.design.has_totals_only() {
                state.touch_totals(&[slot]);
            }
            if !state.add_total(side, slot, change) {
                let name = if side == LEFT { "left" } else { "right" };
                return Err(state
                    .design
                    .pairs
                    .broken(format!("rows of the {name} side are taken back that are not there")));
            }
            if state.has_total(side, slot) != was {
                let other = &mut state.sides[1 - side];
                let mut id = other.head(slot);
                while id != NONE {
                    other.log(id);
                    id = other.next(id);
                }
            }
        }
        Ok(totals)
    }

    /// Says of the changed rows of a side what is another than before; `totals` are those of the other side, as they were.
    fn say_changed(&mut self, side: usize, totals: &Totals, verdict: Verdict) -> Result<(), Error> {
        let state = &self.state;
        let mut changed = (Vec::new(), Vec::new());
        if state.design.is_padded(side) && !state.design.pads_late() {
            let now = state.verdict();
            for before in state.sides[side].logged() {
                let (was_met, is_met) = self.is_met(side, before, totals);
                let slot = state.sides[side].owner(before.id);
                let was = if self.shows(slot, was_met, verdict) { before.weight } else { 0 };
                let is = if self.shows(slot, is_met, now) { state.sides[side].weight(before.id) } else { 0 };
                if was != is {
                    changed.0.push(before.id);
                    changed.1.push(is - was);
                }
            }
        }
        self.say_alone(side, &changed.0, &changed.1)
    }

    /// Whether a row of `side` had met a row of the other side before the step, and whether it has now.
    fn is_met(&self, side: usize, before: &Before, totals: &Totals) -> (bool, bool) {
        let state = &self.state;
        if state.design.counts(side) {
            return (before.count > 0, state.sides[side].count(before.id) > 0);
        }
        let slot = state.sides[side].owner(before.id);
        let is_met = state.has_total(1 - side, slot);
        match totals.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(found) => (totals[found].1 > 0 && !state.index.is_strange(slot), is_met),
            Err(_) => (is_met, is_met),
        }
    }

    /// Whether a row comes out by itself.
    fn shows(&self, slot: u32, is_met: bool, verdict: Verdict) -> bool {
        match (self.state.design.spec.kind, verdict) {
            (JoinKind::Semi, _) => is_met,
            (_, Verdict::Every) => true,
            (_, Verdict::Nobody) => false,
            // A null on the left may equal whatever the right side has, if it has any.
            (JoinKind::Anti, Verdict::Each) if self.is_not_in() && !self.state.design.meets_nulls() => {
                !is_met && !self.state.index.is_strange(slot)
            }
            (_, Verdict::Each) => !is_met,
        }
    }

    fn is_not_in(&self) -> bool {
        self.state.design.spec.nulls == crate::plan::JoinNulls::Unknown
    }

    /// Says the rows that expire and have met none, where they do not say so before.
    fn say_unmet(&mut self, side: usize, due: &[u32]) -> Result<(), Error> {
        let state = &self.state;
        if !state.design.is_padded(side) || !state.design.pads_late() {
            return Ok(());
        }
        let unmet = |id: &u32| {
            let before = Before { id: *id, weight: 1, count: state.sides[side].count(*id) };
            let (_, is_met) = self.is_met(side, &before, &Totals::new());
            self.shows(state.sides[side].owner(*id), is_met, state.verdict())
        };
        let unmet: Vec<u32> = due.iter().copied().filter(unmet).collect();
        self.say_alone(side, &unmet, &vec![1; unmet.len()])
    }

    /// Says rows of one side, with nulls for the other side where its columns come out.
    fn say_alone(&mut self, side: usize, ids: &[u32], weights: &[i64]) -> Result<(), Error> {
        for (ids, weights) in ids.chunks(DELTA_ROWS_MAX).zip(weights.chunks(DELTA_ROWS_MAX)) {
            let picks = self.alone(side, Pick::Kept(&self.state.sides[side].store, ids));
            let said = self.state.design.pairs.rows(picks, ids.len(), weights.to_vec())?;
            self.said.push_back(said.with_carried(self.state.sides[side].carried(ids)));
        }
        Ok(())
    }
}

impl Candidates {
    /// Adds a pair of a left and a right row, with how often each was there and is.
    fn push(&mut self, ids: [u32; 2], was: [i64; 2], is: [i64; 2]) {
        // A row that was not there meets all there are, others those that come or go.
        let met = |side: usize| if was[side] == 0 { is[1 - side] } else { is[1 - side] - was[1 - side] };
        let change = Change { weight: is[0] * is[1] - was[0] * was[1], counts: [met(0), met(1)] };
        if change.weight != 0 || change.counts != [0; 2] {
            self.lefts.push(ids[0]);
            self.rights.push(ids[1]);
            self.changes.push(change);
        }
    }

    fn picks<'a>(&'a self, state: &'a State) -> [Pick<'a>; 2] {
        let [left, right] = &state.sides;
        [Pick::Kept(&left.store, &self.lefts), Pick::Kept(&right.store, &self.rights)]
    }

    /// Keeps those of which `wanted` is true, by their place and change.
    fn retain(&mut self, wanted: impl Fn(usize, &Change) -> bool) {
        let mut kept = 0;
        for pair in 0..self.lefts.len() {
            if wanted(pair, &self.changes[pair]) {
                self.lefts[kept] = self.lefts[pair];
                self.rights[kept] = self.rights[pair];
                self.changes[kept] = self.changes[pair];
                kept += 1;
            }
        }
        self.lefts.truncate(kept);
        self.rights.truncate(kept);
        self.changes.truncate(kept);
    }
}

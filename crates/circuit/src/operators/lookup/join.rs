//! [`Join`]: rows beside what was found for each of them, in a versioned table or in a view: one row at most, or all that
//! [`Asking`] names.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::take::take;

use super::asking::{Asking, Pick};
use crate::delta::Delta;
use crate::error::Error;
use crate::expr::Expr;
use crate::graph::Lowering;
use crate::operator::{Context, Output};
use crate::operators::guard::Guard;

/// For each row of a delta the row that belongs to it.
pub(in crate::operators) type Found = Vec<Option<u32>>;

/// The rows that were looked in.
pub(in crate::operators) struct Theirs<'a> {
    /// Their columns, those that follow the columns of the rows.
    pub columns: Vec<ArrayRef>,
    /// What follows as a last column, whether a row is found or not.
    pub version: Option<&'a str>,
}

/// What becomes of rows and of what was found for them.
#[derive(Clone)]
pub(in crate::operators) struct Join {
    residual: Option<Expr>,
    outer: bool,
    schema: SchemaRef,
    guard: Guard,
}

impl Join {
    /// The join of the node that is being lowered.
    pub fn of(lowering: &Lowering<'_>, residual: Option<Expr>, outer: bool) -> Self {
        Join { residual, outer, schema: lowering.node.schema.clone(), guard: Guard::of(lowering) }
    }

    /// A broken promise of the operator.
    pub fn broken(&self, message: impl ToString) -> Error {
        self.guard.broken(message)
    }

    /// The rows with what was found for each, in their order; a row for which nothing is found stays in an outer join.
    pub fn join(
        &self,
        delta: Delta,
        found: Found,
        theirs: &Theirs<'_>,
        context: &Context,
        out: &mut Output,
    ) -> Result<Delta, Error> {
        let (delta, found) = match &self.residual {
            None => (delta, found),
            Some(_) => self.checked(delta, found, theirs, context, out)?,
        };
        let joined = match self.outer {
            true => self.joined(&delta, found, theirs),
            false => matched(&delta, &found).and_then(|(delta, found)| self.joined(&delta, found, theirs)),
        };
        joined.map_err(|error| self.guard.broken(error))
    }

    /// Holds what was found against the rest of the condition: a row stays found when that is true.
    ///
    /// Rows on which it fails are left out or not found, as `on-error` says.
    fn checked(
        &self,
        delta: Delta,
        mut found: Found,
        theirs: &Theirs<'_>,
        context: &Context,
        out: &mut Output,
    ) -> Result<(Delta, Found), Error> {
        let broken = |error| self.guard.broken(error);
        let places: Vec<u32> = (0..delta.rows() as u32).filter(|row| found[*row as usize].is_some()).collect();
        let (candidates, rows) = matched(&delta, &found).map_err(broken)?;
        if candidates.is_empty() {
            return Ok((delta, found));
        }
        let candidates = self.joined(&candidates, rows, theirs).map_err(broken)?;
        let evaluated = self.guard.attempt(self.residual.as_slice(), &candidates, context, out)?;
        let holds = evaluated.columns[0].as_boolean();
        for (candidate, place) in places.iter().enumerate() {
            if !(holds.is_valid(candidate) && holds.value(candidate)) {
                found[*place as usize] = None;
            }
        }
        let Some(failed) = evaluated.failed else { return Ok((delta, found)) };
        let mut kept = vec![true; delta.rows()];
        failed.values().set_indices().for_each(|candidate| kept[places[candidate] as usize] = false);
        let found = found.into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(found, _)| found).collect();
        Ok((delta.filter(&kept.into()).map_err(broken)?, found))
    }

    /// Picked rows with what was found for each, in their order. A row of which all is told and nothing was found stays in
    /// an outer join; unless the condition failed on it and `on-error` leaves it out.
    pub fn picked(
        &self,
        asking: &mut Asking,
        picks: Vec<Pick>,
        theirs: &Theirs<'_>,
        context: &Context,
        out: &mut Output,
    ) -> Result<Delta, Error> {
        let broken = |error| self.guard.broken(error);
        let found = || picks.iter().copied().filter(|(_, found)| found.is_some());
        let picks = match (&self.residual, self.outer) {
            (None, false) => found().collect(),
            (None, true) => asking.told(picks, |_| (true, false)),
            (Some(residual), _) => {
                let pairs = self.paired(asking.delta(), &found().collect::<Vec<_>>(), theirs).map_err(broken)?;
                let evaluated = self.guard.attempt(std::slice::from_ref(residual), &pairs, context, out)?;
                let holds = evaluated.columns[0].as_boolean();
                let failed = |pair: usize| evaluated.failed.as_ref().is_some_and(|failed| failed.value(pair));
                let kept = |pair: usize| holds.is_valid(pair) && holds.value(pair) && !failed(pair);
                if !self.outer {
                    return pairs.filter(&(0..pairs.rows()).map(|pair| Some(kept(pair))).collect()).map_err(broken);
                }
                asking.told(picks, |pair| (kept(pair), failed(pair)))
            }
        };
        self.paired(asking.delta(), &picks, theirs).map_err(broken)
    }

    /// Rows beside others, or beside nothing.
    fn paired(&self, delta: &Delta, pairs: &[Pick], theirs: &Theirs<'_>) -> Result<Delta, ArrowError> {
        let rows = || pairs.iter().map(|(row, _)| *row);
        let once = pairs.len() == delta.rows() && rows().eq(0..delta.rows() as u32);
        let ours = if once { delta.clone() } else { delta.take(&UInt32Array::from_iter_values(rows()))? };
        self.joined(&ours, pairs.iter().map(|(_, found)| *found).collect(), theirs)
    }

    /// The rows with what was found for each.
    fn joined(&self, delta: &Delta, found: Found, theirs: &Theirs<'_>) -> Result<Delta, ArrowError> {
        let mut columns = delta.batch().columns().to_vec();
        let in_order = found.iter().enumerate().all(|(row, found)| *found == Some(row as u32));
        let indices = UInt32Array::from(found);
        for column in &theirs.columns {
            columns.push(match in_order && column.len() == indices.len() {
                true => column.clone(),
                false => take(column, &indices, None)?,
            });
        }
        if let Some(version) = theirs.version {
            let version = std::iter::repeat_n(version, delta.rows());
            columns.push(Arc::new(StringArray::from_iter_values(version)) as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(delta.rows()));
        Ok(delta.with_batch(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

/// Takes what was found for null keys away: they equal nothing.
pub(in crate::operators) fn without_null_keys(delta: &Delta, keys: &[usize], found: &mut Found) {
    let nulls = keys.iter().filter_map(|key| delta.column(*key).nulls());
    for nulls in nulls.filter(|nulls| nulls.null_count() > 0) {
        for (_, found) in found.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(*row)) {
            *found = None;
        }
    }
}

/// The rows for which there is one, and which.
fn matched(delta: &Delta, found: &Found) -> Result<(Delta, Found), ArrowError> {
    if found.iter().all(Option::is_some) {
        return Ok((delta.clone(), found.clone()));
    }
    let rows = (0..delta.rows() as u32).filter(|row| found[*row as usize].is_some());
    let taken = delta.take(&UInt32Array::from_iter_values(rows))?;
    Ok((taken, found.iter().copied().filter(Option::is_some).collect()))
}

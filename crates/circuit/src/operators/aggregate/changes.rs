//! What has changed between old and new rows: a retraction and an insertion for each row that differs.

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_ord::cmp::not_distinct;
use arrow_ord::ord::make_comparator;
use arrow_schema::{ArrowError, SortOptions};
use arrow_select::interleave::interleave;
use arrow_select::take::take;

/// The calls' columns of changed groups, the retraction of each before its insertion.
pub(super) struct Changes {
    /// For each row its group.
    pub groups: Vec<u32>,
    /// -1 or 1.
    pub weights: Vec<i64>,
    /// The calls' columns.
    pub columns: Vec<ArrayRef>,
}

/// Compares rows: `was` and `is` have for each group the place of its row in `old` and in `new`, if it has one.
pub(super) fn changes(
    old: &[ArrayRef],
    was: &[Option<u32>],
    new: &[ArrayRef],
    is: &[Option<u32>],
) -> Result<Changes, ArrowError> {
    let changed = changed(old, was, new, is)?;
    let (mut groups, mut weights, mut order) = (Vec::new(), Vec::new(), Vec::new());
    for (group, (was, is)) in was.iter().zip(is).enumerate().filter(|(group, _)| changed[*group]) {
        for (side, place, weight) in [(0, was, -1), (1, is, 1)] {
            if let Some(place) = place {
                groups.push(group as u32);
                weights.push(weight);
                order.push((side, *place as usize));
            }
        }
    }
    let columns = old.iter().zip(new).map(|(old, new)| interleave(&[old, new], &order));
    Ok(Changes { groups, weights, columns: columns.collect::<Result<_, _>>()? })
}

/// For each group whether its new row differs from its old one.
fn changed(
    old: &[ArrayRef],
    was: &[Option<u32>],
    new: &[ArrayRef],
    is: &[Option<u32>],
) -> Result<Vec<bool>, ArrowError> {
    let mut changed: Vec<bool> = was.iter().zip(is).map(|(was, is)| was.is_some() != is.is_some()).collect();
    let both: Vec<usize> = (0..was.len()).filter(|index| was[*index].is_some() && is[*index].is_some()).collect();
    if both.is_empty() {
        return Ok(changed);
    }
    let places = |of: &[Option<u32>]| UInt32Array::from_iter_values(both.iter().filter_map(|index| of[*index]));
    let (left, right) = (places(was), places(is));
    for (old, new) in old.iter().zip(new) {
        if old.data_type().is_nested() {
            let compare = make_comparator(old, new, SortOptions::default())?;
            for ((index, left), right) in both.iter().zip(left.values()).zip(right.values()) {
                changed[*index] |= compare(*left as usize, *right as usize).is_ne();
            }
        } else {
            let same = not_distinct(&take(old, &left, None)?, &take(new, &right, None)?)?;
            both.iter().zip(same.values()).for_each(|(index, same)| changed[*index] |= !same);
        }
    }
    Ok(changed)
}

//! Session windows: rows of a key that lie no further apart than a gap.
//!
//! As in Flink a row at `t` is the window `[t, t + gap]` and windows that touch are one, so a session is open until the
//! watermark has passed its last row by more than the gap. A row below its own partition's watermark (less the allowed
//! lateness) is late: it could touch a session that has been said already, and whether it does must not depend on steps
//! or lanes. Rows that are never taken back are merged into one state a session ([`merged`]); otherwise each key keeps
//! its times, so that sessions can split again ([`updating`]).

use std::sync::Arc;

use arrow_array::UInt32Array;

use super::Design;
use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::keep::keeper::{Route, name_of};
use crate::keep::wire::{Damage, Reader};
use crate::key::{KeyEncoder, KeyIndex};
use crate::operator::{Context, Operator, Output};
use crate::plan::{Emit, TimeDomain};

mod merged;
mod updating;

/// The operator for a session window; or what is not supported.
pub(super) fn make(design: Arc<Design>) -> Result<Box<dyn Operator>, Error> {
    let simple = design.recipe.setting.append_only && design.emit == Emit::OnClose && design.lateness == 0;
    Ok(match simple {
        true => Box::new(merged::Merged::new(design)?),
        false => Box::new(updating::Updating::new(design)?),
    })
}

/// The key of a row's name, and the last `times` bytes of it.
fn split(name: &[u8], times: usize) -> Result<(&[u8], Reader<'_>), Damage> {
    let at = name.len().checked_sub(times).ok_or_else(|| Damage::of("a session without times"))?;
    Ok((&name[..at], Reader::new(&name[at..])))
}

/// Rows as their keys, their `times` bytes of times, and their states.
type Split<'a> = (Vec<&'a [u8]>, Vec<Reader<'a>>, Vec<Reader<'a>>);

/// Splits rows into these parts.
fn parts<'a>(rows: &[&'a [u8]], times: usize) -> Result<Split<'a>, Damage> {
    let mut parts: Split<'a> = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (name, state) = name_of(row)?;
        let (key, times) = split(name, times)?;
        parts.0.push(key);
        parts.1.push(times);
        parts.2.push(state);
    }
    Ok(parts)
}

/// The slots of keys that were saved.
fn intern(encoder: &KeyEncoder, index: &mut KeyIndex, keys: &[&[u8]]) -> Result<Vec<u32>, Damage> {
    let keys = encoder.unpack(keys).ok_or_else(|| Damage::of("a key has other types"))?;
    let mut slots = Vec::new();
    index.intern(&keys, &keys.hashes(), &mut slots);
    Ok(slots)
}

/// Rows belong on the lane of their key, which stands before the last `times` bytes of their names.
fn route(encoder: &KeyEncoder, rows: &[&[u8]], times: usize) -> Result<Route, Damage> {
    if encoder.types().is_empty() {
        return Ok(Route::First);
    }
    let keys = rows.iter().map(|row| Ok(split(name_of(row)?.0, times)?.0)).collect::<Result<Vec<_>, Damage>>()?;
    let keys = encoder.unpack(&keys).ok_or_else(|| Damage::of("a key has other types"))?;
    Ok(Route::ByHash(keys.hashes()))
}

/// Whether `end` is passed by a watermark.
fn passed(end: i64, watermark: i64) -> bool {
    end < watermark || watermark == i64::MAX
}

/// Leaves out rows that are late, and counts them; `closed` is how far sessions have been closed.
fn admit(
    design: &Design,
    delta: Delta,
    times: Vec<i64>,
    closed: i64,
    context: &Context,
    out: &mut Output,
) -> Result<(Delta, Vec<i64>), Error> {
    let carried = delta.carried().filter(|_| design.domain == TimeDomain::Event);
    let bound = |row: usize| match carried.map_or(NO_SUSPECT, |carried| carried[row]).max(closed) {
        NO_SUSPECT => NO_SUSPECT,
        watermark => watermark.saturating_sub(design.lateness),
    };
    let kept: Vec<u32> = (0..times.len() as u32).filter(|row| times[*row as usize] >= bound(*row as usize)).collect();
    if kept.len() == times.len() {
        return Ok((delta, times));
    }
    let mut next = kept.iter().peekable();
    for row in 0..times.len() {
        if next.next_if(|kept| **kept as usize == row).is_none() {
            design.guard.late(&delta, row, context, out);
        }
    }
    let times = kept.iter().map(|row| times[*row as usize]).collect();
    Ok((delta.take(&UInt32Array::from(kept)).map_err(|error| design.guard.broken(error))?, times))
}

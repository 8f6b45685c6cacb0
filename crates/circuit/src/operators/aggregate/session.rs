//! Session windows: rows of a key that lie no further apart than a gap.
//!
//! As in Flink a row at `t` is the window `[t, t + gap]` and windows that touch are one, so a session is open until the
//! watermark has passed its last row by more than the gap. A suspect joins no session that its own partition has left
//! behind already; where none takes it and its own window has been passed, it is late. Rows that are never taken back
//! are merged into one state a session ([`merged`]); otherwise each key keeps its times, so that sessions can split
//! again ([`updating`]).

use std::sync::Arc;

use super::Design;
use crate::delta::{Delta, NO_SUSPECT};
use crate::error::Error;
use crate::operator::Operator;
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

/// Whether `end` is passed by a watermark.
fn passed(end: i64, watermark: i64) -> bool {
    end < watermark || watermark == i64::MAX
}

/// The watermark that a row's sessions must not be behind.
fn bound_of(design: &Design, delta: &Delta, row: usize) -> i64 {
    let carried = match design.domain {
        TimeDomain::Event => delta.carried().map_or(NO_SUSPECT, |carried| carried[row]),
        TimeDomain::Processing => NO_SUSPECT,
    };
    if carried == NO_SUSPECT { carried } else { carried.saturating_sub(design.lateness) }
}

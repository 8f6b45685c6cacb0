//! The clock over rows that are taken back: it says another time then than when they came, so what reads it is refused.
//!
//! A row that is taken back is computed anew, and has to be what it was: whatever compares the two, a join as much as a
//! sink, would not find it. Over rows that only come everything that reads the clock is computed once and kept.

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use tidemill_circuit::plan::NodeId;

use super::facts::{is_proctime, reads_clock};
use super::fields::{self, Demand};
use super::{Builder, place_of};
use crate::catalog::outside;
use crate::error::Error;
use crate::expr::print;
use crate::plan::subquery::place_where;

impl Builder<'_> {
    /// Nothing that a plan needs of tables whose rows are taken back is read from the clock; `written` is the plan before it
    /// was optimised, which has all places.
    pub(crate) fn check_clocks(&self, plan: &LogicalPlan, written: &LogicalPlan) -> Result<()> {
        let mut found = None;
        fields::demand(plan, &mut |scan, demanded| {
            let source = self.sources.get(scan.table_name.table()).filter(|source| !source.append_only);
            let Some(source) = source else { return };
            for (index, _) in demanded.iter().enumerate().filter(|(_, demand)| **demand != Demand::default()) {
                let place = scan.projection.as_ref().map_or(index, |places| places[index]);
                let (field, expr) = &source.columns[place];
                if reads_clock(expr) {
                    found.get_or_insert((source.name.clone(), field.name().clone(), is_proctime(expr)));
                }
            }
        })?;
        let Some((table, column, is_proctime)) = found else { return Ok(()) };
        let is = if is_proctime { "is the time at which a row is read" } else { "reads the clock" };
        let problem = format!(
            "{column} {is}, and rows of {table} are taken back: what is taken back would have another value than what came"
        );
        let position = place_where(written, |named| named.name == column);
        let help =
            format!("let the rows carry their time: use a column of {table} in place of {column}, or leave it out");
        Err(outside(Error::Plan { problem, position, help: Some(help) }))
    }

    /// An expression over rows that may be taken back does not read the clock.
    pub(super) fn check_clock(&self, expr: &Expr, input: NodeId) -> Result<()> {
        if !reads_clock(expr) || self.plan.append_only()[input] {
            return Ok(());
        }
        Err(outside(Error::Plan {
            problem: format!(
                "{} reads the clock over rows that may be taken back: what is taken back would have another value than what \
                 came",
                print(expr)
            ),
            position: place_of(expr).or(self.position),
            help: Some(
                "read the clock where rows only come, in a query below the one that changes them: MAX(PROCTIME()) of a group \
                 is the time of its newest row; or use a column that the rows carry"
                    .to_string(),
            ),
        }))
    }
}

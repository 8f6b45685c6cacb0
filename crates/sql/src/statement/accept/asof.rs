//! `ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts) ON a.k = t.k`.

use datafusion::sql::sqlparser::ast::{Expr, JoinConstraint, TableFactor};
use tidemill_base::Position;

use super::Accept;
use crate::error::Error;
use crate::rewrite::asof_times;

const ASOF_HELP: &str =
    "write a ASOF JOIN t MATCH_CONDITION (a.ts >= t.ts) ON a.k = t.k, with ts event time on both sides";

impl Accept<'_, '_> {
    pub(super) fn asof(
        &self,
        relation: &TableFactor,
        condition: &Expr,
        constraint: &JoinConstraint,
        at: Position,
    ) -> Result<(), Error> {
        if !matches!(relation, TableFactor::Table { args: None, version: None, .. }) {
            return Err(self.unsupported(at, "ASOF joins a table or a view by its name", ASOF_HELP));
        }
        self.factor(relation)?;
        self.expr(condition)?;
        if asof_times(condition).is_none() {
            let what = "MATCH_CONDITION compares a time of the left side with one of the right side by >= or >";
            return Err(self.unsupported(self.at(condition), what, ASOF_HELP));
        }
        match constraint {
            JoinConstraint::On(on) => self.expr(on),
            JoinConstraint::None => Ok(()),
            JoinConstraint::Using(_) | JoinConstraint::Natural => {
                Err(self.unsupported(at, "ASOF joins take ON", ASOF_HELP))
            }
        }
    }
}

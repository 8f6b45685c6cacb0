//! Flink's scalar functions, each with Flink's meaning, vectorised over Arrow columns.
//!
//! The one idea: a function is one [`Function`] entry, and its signature text (`"LPAD(STRING, INT, STRING) -> STRING"`)
//! is at once the documentation and the typing rule, so the two cannot disagree. [`Registry::new`] binds the entries to a
//! [`Session`] (time zone, the step's clock and seed); only what it holds can be called from SQL.
//!
//! Meaning is pinned by `tests/flink/*.jsonl`, recorded from real Flink; an evaluation error (division by zero, a bad
//! cast) is an error of the row, which the engine handles by its own policy.

mod arithmetic;
mod call;
mod cast;
mod collection;
mod conditional;
mod date_format;
mod datetime;
mod encoding;
mod function;
mod json;
mod math;
mod number_text;
mod planner;
mod regexp;
mod rounding;
mod signature;
mod step;
mod string;
mod temporal;
mod timestamp;
mod unit;
mod url;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use function::{Example, Function};
pub(crate) use planner::wall_floor;
pub use planner::{FlinkExprPlanner, TYPE_KEY, cast_expr, planned_field, replace_casts};
pub use signature::common_type;
pub use step::{Session, StepCell};
pub(crate) use temporal::{Ambiguous, from_wall_millis, to_wall_millis};

/// The families in the order `docs/sql.md` lists them: title, functions.
pub const FAMILIES: &[(&str, &[Function])] = &[
    ("Conditions", conditional::FUNCTIONS),
    ("Strings", string::FUNCTIONS),
    ("Regular expressions", regexp::FUNCTIONS),
    ("Encoding and digests", encoding::FUNCTIONS),
    ("URLs", url::FUNCTIONS),
    ("JSON", json::FUNCTIONS),
    ("Arithmetic", arithmetic::FUNCTIONS),
    ("Mathematics", math::FUNCTIONS),
    ("Rounding", rounding::FUNCTIONS),
    ("Dates and times", datetime::FUNCTIONS),
    ("Timestamps and text", timestamp::FUNCTIONS),
    ("Units of time", unit::FUNCTIONS),
    ("Step clock and randomness", step::FUNCTIONS),
    ("Collections", collection::FUNCTIONS),
    ("Casts", cast::FUNCTIONS),
];

/// Functions that only the planner calls.
const INTERNAL: &[Function] = &[timestamp::WALL_FLOOR];

/// The functions of one session, by lower-case name.
#[derive(Debug, Clone)]
pub struct Registry {
    by_name: BTreeMap<&'static str, Arc<ScalarUDF>>,
}

impl Registry {
    /// Binds every function to a session.
    pub fn new(session: &Arc<Session>) -> Self {
        let mut by_name = BTreeMap::new();
        for function in FAMILIES.iter().flat_map(|(_, functions)| functions.iter()).chain(INTERNAL) {
            let udf = Arc::new(function::udf(function, session));
            by_name.insert(function.name, Arc::clone(&udf));
            for alias in function.aliases {
                by_name.insert(alias, Arc::clone(&udf));
            }
        }
        Registry { by_name }
    }

    /// Finds a function; users may write its name in any case.
    pub fn get(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        match self.by_name.get(name) {
            Some(udf) => Some(Arc::clone(udf)),
            None => self.by_name.get(name.to_ascii_lowercase().as_str()).map(Arc::clone),
        }
    }

    /// Every name that can be called, aliases included, in order.
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().map(ToString::to_string).collect()
    }

    /// Every function once.
    pub fn all(&self) -> Vec<Arc<ScalarUDF>> {
        self.by_name.iter().filter(|(name, udf)| udf.name() == **name).map(|(_, udf)| Arc::clone(udf)).collect()
    }
}

//! The functions that are called with OVER alone, as SQL sees them: ROW_NUMBER, RANK, DENSE_RANK, LAG and LEAD.
//!
//! The circuit computes them; the batch oracle has its own evaluation of OVER, so DataFusion is never asked to.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

use crate::types::name_of;

/// The number of a row among those before it.
pub(crate) const ROW_NUMBER: &str = "row_number";

/// The number of rows before a row and its equals, and one.
pub(crate) const RANK: &str = "rank";

/// The number of a row among those that are not equal.
pub(crate) const DENSE_RANK: &str = "dense_rank";

/// The value some rows before.
pub(crate) const LAG: &str = "lag";

/// The value some rows after.
pub(crate) const LEAD: &str = "lead";

/// The functions that give a row its place.
const NUMBERS: [&str; 3] = [ROW_NUMBER, RANK, DENSE_RANK];

/// Aggregates that DataFusion looks for here too; [`crate::catalog`] puts the aggregate in their place.
const AGGREGATES: [&str; 2] = ["first_value", "last_value"];

/// The functions, as the documentation lists them: form and what it gives.
pub const WINDOW_FUNCTIONS: &[(&str, &str)] = &[
    ("ROW_NUMBER() -> BIGINT", "The number of the row among the rows of its partition, from 1."),
    (
        "RANK() -> BIGINT",
        "The number of rows before the row in its partition, and 1; rows that are equal in ORDER BY have one.",
    ),
    ("DENSE_RANK() -> BIGINT", "As RANK, but counting rows that are equal in ORDER BY once."),
    (
        "LAG(T[, INT[, T]]) -> T",
        "The value one row before, or so many rows; null, or the third argument, when there is none.",
    ),
    (
        "LEAD(T[, INT[, T]]) -> T",
        "The value one row after, or so many rows; null, or the third argument, when there is none.",
    ),
];

/// The function of this name, in any case.
pub(crate) fn get(name: &str) -> Option<Arc<WindowUDF>> {
    let mut names = NUMBERS.into_iter().chain([LAG, LEAD]).chain(AGGREGATES);
    let name = names.find(|known| known.eq_ignore_ascii_case(name))?;
    let signature = Signature::user_defined(Volatility::Immutable);
    Some(Arc::new(WindowUDF::new_from_impl(Function { name, signature })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    signature: Signature,
}

impl WindowUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.name, types) {
            (name, []) if NUMBERS.contains(&name) => Ok(vec![]),
            (name, _) if NUMBERS.contains(&name) => plan_err!("{} takes no arguments", name.to_uppercase()),
            (_, [value]) => Ok(vec![value.clone()]),
            (_, [value, offset]) if offset.is_integer() => Ok(vec![value.clone(), DataType::Int64]),
            (_, [value, offset, default]) if offset.is_integer() && fits(default, value) => {
                Ok(vec![value.clone(), DataType::Int64, value.clone()])
            }
            (_, types) => {
                let found: Vec<_> = types.iter().map(name_of).collect();
                plan_err!(
                    "{} takes a value, a number of rows and a value of the same type, not ({})",
                    self.name.to_uppercase(),
                    found.join(", ")
                )
            }
        }
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        match args.get_input_field(0) {
            Some(value) => Ok(Arc::new(Field::new(args.name(), value.data_type().clone(), true))),
            None => Ok(Arc::new(Field::new(args.name(), DataType::Int64, false))),
        }
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        internal_err!("{} is still in a plan of DataFusion's", self.name)
    }
}

/// Whether a default can be made the type of the value without losing anything.
fn fits(default: &DataType, value: &DataType) -> bool {
    default == value
        || *default == DataType::Null
        || (default.is_integer() && value.is_numeric())
        || (default.is_numeric() && (value.is_floating() || value.is_decimal()))
}

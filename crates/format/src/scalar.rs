//! Single values as text: numbers, decimals, dates and times, read strictly and written back.
//!
//! The one idea: JSON, CSV and the table writer share these, so that a value means the same in every format.

pub(crate) mod number;
pub(crate) mod time;

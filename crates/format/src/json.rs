//! JSON to columns: NDJSON blocks, request bodies, and debezium envelopes.

pub(crate) mod body;
pub(crate) mod debezium;
pub(crate) mod gather;
pub(crate) mod lines;
pub(crate) mod parse;
pub(crate) mod scan;
pub(crate) mod shape;

pub use debezium::DebeziumDecoder;
pub use gather::{JsonGather, JsonKeys, Unkept};
pub use lines::JsonDecoder;

use crate::scalar::time::TimestampStandard;

/// How JSON is read and written; the names are those of Flink's `json.*` options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonOptions {
    /// Whether a bad record is set aside instead of being an error.
    pub ignore_parse_errors: bool,
    /// Whether a missing key is a bad record; otherwise it is null.
    pub fail_on_missing_field: bool,
    /// How timestamps are written; both standards are read.
    pub timestamp_standard: TimestampStandard,
    /// Whether fields that are null are left out when writing.
    pub ignore_null_fields: bool,
    /// Reads every value by the general path; the rows are the same, so this is for tests and measurements.
    pub general_path_only: bool,
}

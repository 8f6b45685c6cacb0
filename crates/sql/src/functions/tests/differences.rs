//! Where we answer otherwise than Flink, on purpose, each with its reason; a case that is equal must not be listed.

/// SQL and why our answer differs.
pub(super) const DIFFERENCES: &[(&str, &str)] = &[
];

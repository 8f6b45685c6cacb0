//! What is fuzzed, one file a target.

pub mod json;
pub mod sql;

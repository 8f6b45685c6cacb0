//! What is fuzzed, one file a target.

pub mod json;

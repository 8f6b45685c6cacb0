//! The tests of doors, on the standard stack.

#[path = "doors/mod.rs"]
mod tests;

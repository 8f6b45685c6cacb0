//! The tests of doors, on the fast stack.

#[path = "doors/mod.rs"]
mod tests;

//! Flink's SQL dialect: from text to a checked, optimised, lowered pipeline; batch queries over what is kept.
//!
//! Reading order: [`statement`] what a text says, [`types`] and [`functions`] what values are, [`plan`] how statements
//! become one [`Pipeline`], `lower` how plans become the circuit's nodes, [`mod@explain`] how that is shown, [`batch`]
//! how DataFusion answers at once. This is the only crate that names DataFusion, and no public type shows it.

pub mod aggregate;
pub mod batch;
mod catalog;
pub mod dialect;
pub mod error;
pub mod explain;
mod expr;
pub mod functions;
mod lower;
pub mod pipeline;
pub mod plan;
pub mod rewrite;
pub mod statement;
pub mod types;
pub mod window_function;

pub use batch::BatchSession;
pub use error::Error;
pub use pipeline::Pipeline;
pub use plan::{PlanOptions, plan};

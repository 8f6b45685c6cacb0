//! The deterministic, incremental dataflow at the heart of tidemill.
//!
//! A *circuit* turns (state, input deltas, now) into (state', output deltas), one *step* at a time. It reads no clock,
//! no socket and no random number: one input, cut into the same steps over the same number of lanes, gives the same
//! bytes. Rows carry weights (+1 insert, -1 retract), and the integral of every output is the query's answer over the
//! input so far, as in DBSP (Budiu et al., "DBSP: Automatic Incremental View Maintenance", VLDB 2023).
//!
//! Reading order: [`delta`] what flows, [`expr`] what is computed on it, [`plan`] what a query asks for, [`operator`]
//! how one node works, [`graph`] how a plan becomes operators on lanes, [`circuit`] how a step runs, [`keep`] how what it
//! knows is saved and restored.

pub mod circuit;
pub mod decode;
pub mod delta;
pub mod error;
pub mod exact;
mod exchange;
pub mod expr;
pub mod fingerprint;
pub mod graph;
pub mod keep;
pub mod key;
mod lane;
pub mod lookup;
pub mod operator;
pub mod operators;
pub mod plan;
mod pool;
pub mod row;
pub mod step;
pub mod view;
mod watermark;

pub use circuit::Circuit;
pub use delta::Delta;
pub use error::Error;
pub use expr::{Expr, Scalar};
pub use plan::Plan;

//! [`Circuit`]: a plan that runs, one step at a time.

use tidemill_base::Timestamp;

use crate::decode::Decoders;
use crate::error::Error;
use crate::operator::{Sides, StateSize};
use crate::plan::Plan;
use crate::step::{StepInput, StepLog, StepOutput};

/// How a circuit runs.
pub struct Options {
    /// Threads that decode and step, at least 1.
    pub lanes: usize,
    /// The seed of RAND and UUID.
    pub seed: u64,
    /// Which side rows are collected.
    pub sides: Sides,
    /// Whether trailers carry digests of the outputs.
    pub digests: bool,
    /// Where headers and trailers go.
    pub log: Option<Box<dyn StepLog>>,
}
// (interface; body being written)
// impl Circuit {
//     pub fn new(plan: &Plan, decoders: &Decoders, options: Options) -> Result<Circuit, Error>;
//     pub fn step(&mut self, input: StepInput) -> Result<StepOutput, Error>;   // after an Err every further call is Error::Stopped
//     pub fn next_due(&self) -> Option<Timestamp>;                              // least processing time at which an empty step is due
//     pub fn state(&self) -> Vec<(NodeId, StateSize)>;                          // over all lanes
// }

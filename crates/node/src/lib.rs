//! Assembly: a planned pipeline becomes threads, channels and doors, runs, and stops in order.
//!
//! The one idea: a pipeline is a graph of stages. One reader a source, one *driver* in the middle that cuts steps and
//! owns the circuit, one writer a sink; every channel is bounded, so a slow sink holds back the source. What the stages
//! do is elsewhere (connectors, circuit, doors); here is who is joined with whom, what a step takes in, and in which
//! order all of it ends.
//!
//! Reading order: [`Runner`] is what a program uses; [`mod@driver`] holds the loop at the heart; [`mod@record`] and
//! [`mod@replay`] write a run down and run it again.

pub mod driver;
pub mod journal;
pub mod record;
pub mod replay;

mod answer;
mod assembly;
mod budget;
mod doors;
mod endpoint;
mod error;
mod feed;
mod intake;
mod keep;
mod nice;
mod outputs;
mod pace;
mod part;
mod progress;
mod side;
mod tables;
mod values;
pub mod versioned;
pub mod versions;

pub use answer::answer;
pub use assembly::{Options, Runner};
pub use error::Error;
pub use keep::dry::{DryRun, dry_run};
pub use keep::verify::{Checked, replay as replay_versions};
pub use outputs::{Report, Written};
pub use part::MAIN;
pub use progress::{Progress, Standing};
pub use tables::{check, deliveries};

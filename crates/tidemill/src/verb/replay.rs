//! `tidemill replay`: a recorded run, run again.

use tidemill_node::replay::Replayer;

use crate::arguments::Replay;
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::pipeline::Text;

/// Runs every recorded step again and compares.
pub(crate) fn run(replay: &Replay) -> Result<(), Failure> {
    let replayer = Replayer::open(&replay.file).map_err(|error| Failure::plain(&error))?;
    let text = Text { name: replayer.name().to_string(), sql: replayer.sql().to_string() };
    let pipeline = text.plan()?;
    let replayed = replayer.run(&pipeline).map_err(|error| text.failure(&error))?;
    let (steps, records) = (thousands(replayed.steps), thousands(replayed.records));
    console::say(&format!("{steps} steps with {records} records gave what they gave when they were recorded"));
    if !replayed.complete {
        console::say("the record has no end: the run was cut off, and what is missing could not be checked");
    }
    Ok(())
}

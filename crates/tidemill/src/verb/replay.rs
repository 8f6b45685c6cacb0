//! `tidemill replay`: recorded steps, run again.

use tidemill_node::replay::Replayer;
use tidemill_node::replay_versions;
use tidemill_node::versions::Versions;
use tidemill_state::store::S3;

use crate::arguments::Replay;
use crate::console::{self, thousands};
use crate::failure::Failure;
use crate::pipeline::Text;

/// Runs every recorded step again and compares.
pub(crate) fn run(replay: &Replay) -> Result<(), Failure> {
    if replay.file.is_dir() {
        return between_versions(replay);
    }
    if replay.from.is_some() || replay.to.is_some() || replay.verify {
        return Err(Failure::Usage(format!(
            "{} is a record of one run: --from, --to and --verify go with a state folder",
            replay.file.display()
        )));
    }
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

/// Runs the steps between two versions of a state folder again.
fn between_versions(replay: &Replay) -> Result<(), Failure> {
    let versions =
        Versions::open(&replay.file, None, &S3::default(), &replay.circuit).map_err(|error| Failure::plain(&error))?;
    let from = replay.from.as_deref();
    let sql = versions.sql(from.unwrap_or("oldest")).map_err(|error| Failure::plain(&error))?;
    let text = Text { name: replay.file.join("pipeline.sql").display().to_string(), sql };
    let pipeline = text.plan()?;
    let range = (from, replay.to.as_deref());
    let checked = replay_versions(&replay.file, None, (&pipeline, &replay.circuit), range, replay.verify);
    let checked = checked.map_err(|error| text.failure(&error))?;
    let (steps, records) = (thousands(checked.replayed.steps), thousands(checked.replayed.records));
    console::say(&format!("{steps} steps with {records} records gave what they gave when they ran"));
    if replay.verify {
        console::say(&format!("and the state was that of all {} versions on the way", thousands(checked.versions)));
    }
    Ok(())
}

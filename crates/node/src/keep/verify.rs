//! The steps between two versions, run again and compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tidemill_base::time::{Clock, SystemClock};
use tidemill_circuit::Circuit;
use tidemill_circuit::operator::Sides;
use tidemill_sql::Pipeline;
use tidemill_stage::Halt;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::{Cause, Manifest};

use super::folder::Folder;
use super::recover::Again;
use super::start::{begun, blobs_of, read_meta};
use crate::doors::InboxDoor;
use crate::error::Error;
use crate::intake::Doorway;
use crate::part::Part;
use crate::replay::Replayed;
use crate::tables::Tables;
use crate::versioned::feed::Lookups;
use crate::versions::Versions;

/// What a replay between versions has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The steps and records.
    pub replayed: Replayed,
    /// The versions whose state was compared too.
    pub versions: u64,
}

/// Runs the steps of a circuit between two versions again; `pipeline` is the SQL of the first, planned. With `verify` the
/// state at each version on the way is compared too.
///
/// # Errors
/// When a version or a step is not there any more, or a step or a state differs.
pub fn replay(
    path: &Path,
    store: Option<&str>,
    (pipeline, circuit): (&Pipeline, &str),
    (from, to): (Option<&str>, Option<&str>),
    verify: bool,
) -> Result<Checked, Error> {
    let part = Part::named(pipeline, circuit)?;
    let mut settings = pipeline.settings.state.clone();
    settings.store = store.map(str::to_string).or(settings.store);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (folder, _) = Folder::open(path, &settings, clock)?;
    let instance = folder.instance(&part.name)?;
    let versions = Versions::of(path, instance.clone());
    let (from, to) = (versions.find(from.unwrap_or("oldest"))?, versions.find(to.unwrap_or("newest"))?);
    let session = part.session.clone();
    let between = between(&folder, &instance, &from, &to)?;
    let meta = read_meta(path, &from)?;
    let (mut again, mut circuit) = stepper(&folder, pipeline, part, &from, &to)?;
    circuit.restore(&blobs_of(&from))?;
    for chunk in instance.reader(&from) {
        let (id, rows) = chunk?;
        // Views are what the outputs add up to, and those are compared.
        circuit.restore_chunk(id, &rows)?;
    }
    let mut checked = Checked { replayed: Replayed { steps: 0, records: 0, complete: true }, versions: 0 };
    let check = |step: u64, circuit: &mut Circuit, versions: &mut u64| match between.get(&step) {
        Some(manifest) if verify => {
            *versions += 1;
            compare(manifest, circuit)
        }
        _ => Ok(()),
    };
    check(from.meta.step, &mut circuit, &mut checked.versions)?;
    let ran =
        again.run(&folder.journal, &mut circuit, &move |now, seed| session.step.set(now, seed), &mut |out, circuit| {
            checked.replayed.steps += 1;
            checked.replayed.records += out.records;
            Ok(check(out.header.step, circuit, &mut checked.versions)?)
        });
    match ran {
        Ok(()) => {}
        Err(Halt::Failed(cause)) => return Err(unwrapped(cause)),
        Err(Halt::Stopped) => return Err(Error::Keep("the replay was stopped".to_string())),
    }
    let steps = to.meta.step - meta.step;
    if checked.replayed.steps != steps {
        return Err(Error::Resume {
            path: path.to_path_buf(),
            problem: format!(
                "there are {steps} steps between the versions, and the journal has {}",
                checked.replayed.steps
            ),
            help:
                "begin with a later version: the journal keeps what 'journal.retain-time' and 'journal.retain-size' say"
                    .to_string(),
        });
    }
    Ok(checked)
}

/// The versions from one to another, by step; refuses a way over a rollback.
fn between(
    folder: &Folder,
    instance: &Instance,
    from: &Manifest,
    to: &Manifest,
) -> Result<BTreeMap<u64, Manifest>, Error> {
    let wrong = |problem: String| Error::Resume {
        path: folder.path.clone(),
        problem,
        help: "name two versions of one branch, the earlier first: tidemill versions ls".to_string(),
    };
    if from.sequence > to.sequence || from.meta.step > to.meta.step {
        return Err(wrong(format!("version {} comes after version {}", from.sequence, to.sequence)));
    }
    let mut steps = BTreeMap::new();
    for (sequence, read) in instance.snapshots()? {
        if sequence < from.sequence || sequence > to.sequence {
            continue;
        }
        let manifest = read?;
        if sequence > from.sequence && matches!(manifest.cause, Cause::Rollback { .. }) {
            return Err(wrong(format!("version {sequence} between them is a rollback")));
        }
        steps.insert(manifest.meta.step, manifest);
    }
    Ok(steps)
}

/// What runs the steps, and an empty circuit.
fn stepper(
    folder: &Folder,
    pipeline: &Pipeline,
    part: Part,
    from: &Manifest,
    to: &Manifest,
) -> Result<(Again, Circuit), Error> {
    let (before, after) = (read_meta(&folder.path, from)?, read_meta(&folder.path, to)?);
    let tables = Tables::of(pipeline, &part)?;
    let decoders = tables.decoders();
    let (mut replays, mut doors) = (BTreeMap::new(), BTreeMap::new());
    for table in tables.sources {
        if let (Some(handle), Some(format)) = (table.source.inbox(), &table.format) {
            let columns = table.decoded.clone();
            let door = Arc::new(InboxDoor::new(&table.name, handle, format, table.decoded)?);
            doors.insert(table.name, Doorway { door, columns });
            continue;
        }
        if table.source.is_journaled() {
            continue;
        }
        let positions = begun(before.positions.of(&table.name), after.positions.of(&table.name));
        replays.insert(table.name, table.source.replay(&positions)?);
    }
    let lookups = Arc::new(Lookups::open(pipeline, std::slice::from_ref(&part), Some(&folder.path))?);
    let (circuit, sources) = (part.name.clone(), part.sources().map(str::to_string).collect());
    let make = part.make(decoders, before.run.seed, Sides::default());
    let empty = make(before.run.lanes)?;
    let abandoned_before = matches!(from.cause, Cause::Rollback { .. }).then_some(from.sequence);
    let again = Again {
        from: tidemill_journal::Sequence(before.journal).max(folder.journal.usage().first),
        after: before.step,
        until: after.step,
        abandoned_before,
        strict: true,
        replays,
        doors,
        lookups,
        circuit,
        sources,
        make,
        opened: Default::default(),
    };
    Ok((again, empty))
}

/// Compares the state after a step with that of the version that was made there.
fn compare(manifest: &Manifest, circuit: &mut Circuit) -> Result<(), Error> {
    let roots = circuit.roots()?;
    let (step, meta) = (manifest.meta.step, &manifest.meta);
    if roots.content != meta.content_root {
        let difference = format!("its content root is {}, and was {}", roots.content, meta.content_root);
        return Err(Error::Differs { step, difference });
    }
    if meta.build == env!("CARGO_PKG_VERSION") && roots.state != meta.state_hash {
        let difference = format!("its state hash is {}, and was {}", roots.state, meta.state_hash);
        return Err(Error::Differs { step, difference });
    }
    Ok(())
}

/// The error of a stage that was none.
fn unwrapped(cause: tidemill_stage::Cause) -> Error {
    Error::Stage(tidemill_stage::Error::Failed { stage: "replay".to_string(), cause, others: Vec::new() })
}

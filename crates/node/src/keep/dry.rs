//! What a run would keep of the state there is, said before it runs.

use tidemill_circuit::operator::Sides;
use tidemill_sql::Pipeline;

use super::folder;
use super::start::{keepers, path_of, read_meta};
use crate::assembly::Options;
use crate::error::Error;
use crate::part::Part;
use crate::tables::Tables;

/// What becomes of the state of each operator and view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// Where the state is, and which version of it.
    pub title: String,
    /// The operators and views that keep state, and what becomes of it.
    pub operators: Vec<(String, String)>,
}

/// Says what a run of a circuit of `pipeline` would keep, without running it.
///
/// # Errors
/// What would keep it from running, as far as that is seen without it.
pub fn dry_run(pipeline: &Pipeline, circuit: &str, options: &Options) -> Result<DryRun, Error> {
    let part = Part::named(pipeline, circuit)?;
    let tables = Tables::of(pipeline, &part)?;
    let mut journaled = tables.journaled().next().is_some();
    for other in Part::all(pipeline)? {
        journaled |= Tables::of(pipeline, &other)?.journaled().next().is_some();
    }
    let Some(path) = path_of(pipeline, options, journaled) else {
        let title = "the pipeline keeps no state: name a folder with --state".to_string();
        return Ok(DryRun { title, operators: Vec::new() });
    };
    tables.check_resumable(pipeline)?;
    let mut circuit = part.make(tables.decoders(), 0, Sides::default())(1)?;
    let now = keepers(&mut circuit, &part.plan, &part.views());
    let store = pipeline.settings.state.store.as_deref();
    let newest = match folder::circuit_folder(&path, &part.name).join("store").is_dir() || store.is_some() {
        true => folder::instance(&path, store, &folder::s3(&pipeline.settings.state)?, &part.name)?.newest()?,
        false => None,
    };
    let Some(newest) = newest else {
        let title = format!("{} has no version of '{}' yet", path.display(), part.name);
        let operators = now.into_iter().map(|keeper| (keeper.title, "starts empty".to_string())).collect();
        return Ok(DryRun { title, operators });
    };
    let before = read_meta(&path, &newest)?;
    let has = |keepers: &[super::meta::Keeper], fingerprint| keepers.iter().any(|one| one.fingerprint == fingerprint);
    let mut operators = Vec::new();
    for keeper in &now {
        let fate = match has(&before.keepers, keeper.fingerprint) {
            true => "kept",
            false => "rebuilt from the journal, as far as it reaches back",
        };
        operators.push((keeper.title.clone(), fate.to_string()));
    }
    for keeper in before.keepers.iter().filter(|keeper| !has(&now, keeper.fingerprint)) {
        operators.push((keeper.title.clone(), "dropped: the SQL does not ask for it any more".to_string()));
    }
    let title = format!("state in {}, version {} of step {}", path.display(), newest.sequence, newest.meta.step);
    Ok(DryRun { title, operators })
}

//! [`Start`]: what a kept run begins with: its state folder opened, the newest snapshot and the journal looked through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_base::time::Clock;
use tidemill_circuit::keep::Blob;
use tidemill_circuit::plan::NodeId;
use tidemill_circuit::view::ViewWriter;
use tidemill_circuit::{Circuit, Plan};
use tidemill_connect::{Position, Replay, Staged};
use tidemill_journal::Level;
use tidemill_sql::Pipeline;
use tidemill_state::snapshot::{Cause, Manifest};

use super::folder::Folder;
use super::input::{InputKeep, Outstanding};
use super::line::{FORMAT, Run};
use super::meta::{Keeper, Meta};
use super::survey::Survey;
use crate::assembly::Options;
use crate::doors::InboxDoor;
use crate::error::Error;
use crate::tables::{TableSource, Tables};

/// What a kept run begins with.
pub(crate) struct Start {
    pub(crate) folder: Arc<Folder>,
    pub(crate) outstanding: Arc<Outstanding>,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) meta: Option<Meta>,
    pub(crate) survey: Survey,
    /// The SQL that is to run.
    pub(crate) sql: String,
    /// What a person should know of what was found.
    pub(crate) notes: Vec<String>,
}

impl Start {
    /// Opens the state of a pipeline; none when it keeps none.
    ///
    /// # Errors
    /// When the state is in use, damaged, or another's, or a source cannot go on from it.
    pub(crate) fn of(
        pipeline: &Pipeline,
        options: &Options,
        tables: &Tables,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Start>, Error> {
        let journaled: BTreeSet<String> = tables.journaled().map(str::to_string).collect();
        let Some(path) = path_of(pipeline, options, !journaled.is_empty()) else { return Ok(None) };
        tables.check_resumable(pipeline)?;
        let (mut folder, found) = Folder::open(&path, &pipeline.settings.state, clock.clone())?;
        // What leaves must survive what its input was acknowledged to survive.
        let levels = journaled.iter().map(|name| level_of(pipeline, name, folder.acknowledged));
        folder.level = levels.max().unwrap_or(folder.level);
        let mut notes = Vec::new();
        if let Some(torn) = &found.torn {
            notes.push(format!("{} bytes at the end of the journal were never flushed and are left out", torn.bytes));
        }
        let manifest = folder.instance.newest()?;
        let meta = manifest.as_ref().map(|manifest| read_meta(&path, manifest)).transpose()?;
        if let Some(meta) = &meta
            && meta.run.journal != folder.journal_name()
        {
            return Err(Error::Resume {
                path,
                problem: format!("its snapshots go with the journal {}, which is not there", meta.run.journal),
                help: "bring the folder 'journal' back from a copy, or begin in another state folder".to_string(),
            });
        }
        let abandoned_before = manifest.as_ref().and_then(abandoned_before);
        let survey = Survey::read(&folder.journal, meta.as_ref(), abandoned_before, &journaled)?;
        notes.push(standing(&path, &folder, &survey));
        let outstanding = Arc::new(Outstanding::default());
        for (source, pending) in &survey.pending {
            pending.iter().for_each(|(first, (sequence, _))| outstanding.add(source, *first, *sequence));
        }
        let sql = options.sql.clone();
        Ok(Some(Start { folder: Arc::new(folder), outstanding, manifest, meta, survey, sql, notes }))
    }

    /// The snapshot that took back the steps in the journal, if the newest one did.
    pub(crate) fn abandoned_before(&self) -> Option<u64> {
        self.manifest.as_ref().and_then(abandoned_before)
    }

    /// This run, in the state's own words.
    pub(crate) fn run(&self, options: &Options, lanes: usize, seed: u64) -> Run {
        Run {
            format: FORMAT,
            build: env!("CARGO_PKG_VERSION").to_string(),
            name: options.name.clone(),
            sql: options.sql.clone(),
            lanes,
            seed,
            snapshot: self.manifest.as_ref().map_or(0, |manifest| manifest.sequence),
            journal: self.folder.journal_name(),
        }
    }

    /// Lets the sources go on where the steps in the journal have left them.
    pub(crate) fn resume(
        &self,
        pipeline: &Pipeline,
        sources: &mut [TableSource],
        doors: &BTreeMap<String, Arc<InboxDoor>>,
    ) -> Result<(), Error> {
        for table in sources {
            table.source.resume(self.survey.positions.of(&table.name))?;
            if !table.source.is_journaled() {
                continue;
            }
            let keep = InputKeep::new(&table.name, self.folder.journal.clone(), self.outstanding.clone());
            let (inbox, door) = (table.source.inbox(), doors.get(&table.name).map(Arc::as_ref));
            match &inbox {
                Some(inbox) => inbox.keep_in(Arc::new(keep)),
                None => table.source.keep_in(Arc::new(keep.held_until(self.level(pipeline, &table.name)))),
            }
            if let Some(kept) = self.survey.last.get(&table.name) {
                table.source.resume_behind(kept);
            }
            for (sequence, input) in self.survey.pending.get(&table.name).into_iter().flat_map(BTreeMap::values) {
                let block = super::recover::block(door, *sequence, input.clone())?;
                match &inbox {
                    Some(inbox) => inbox.put_back(block),
                    None => table.source.put_back(block),
                }
            }
        }
        Ok(())
    }

    /// What input of a table survives unless it is told otherwise.
    pub(crate) fn level(&self, pipeline: &Pipeline, table: &str) -> Level {
        level_of(pipeline, table, self.folder.acknowledged)
    }

    /// What reads again the input of the steps since the snapshot, or of all steps, that is not in the journal.
    pub(crate) fn replays(
        &self,
        pipeline: &Pipeline,
        all_steps: bool,
    ) -> Result<BTreeMap<String, Box<dyn Replay>>, Error> {
        let mut replays = BTreeMap::new();
        if self.survey.steps == 0 && !all_steps {
            return Ok(replays);
        }
        for table in Tables::of(pipeline)?.sources {
            if table.source.is_journaled() {
                continue;
            }
            let before = self.meta.as_ref().filter(|_| !all_steps);
            let before = before.map_or(&[][..], |meta| meta.positions.of(&table.name));
            let positions = begun(before, self.survey.positions.of(&table.name));
            replays.insert(table.name, table.source.replay(&positions)?);
        }
        Ok(replays)
    }

    /// The operators and views that the newest snapshot knows nothing of, because the SQL has changed.
    ///
    /// # Errors
    /// [`Error::Resume`] when there are some, but steps have to be run again first.
    pub(crate) fn fresh(&self, circuit: &mut Circuit, view_nodes: &[NodeId]) -> Result<BTreeSet<NodeId>, Error> {
        self.check_unchanged()?;
        let Some(meta) = &self.meta else { return Ok(BTreeSet::new()) };
        let known: BTreeSet<u64> = meta.keepers.iter().map(|keeper| keeper.fingerprint).collect();
        let kept = circuit.keepers();
        let fingerprints = circuit.fingerprints();
        let nodes = kept.into_iter().chain(view_nodes.iter().copied());
        Ok(nodes.filter(|node| !known.contains(&fingerprints[*node])).collect())
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        let changed = self.survey.run.as_ref().is_some_and(|run| run.sql != self.sql);
        if !changed || self.survey.steps == 0 {
            return Ok(());
        }
        let path = self.folder.path.clone();
        let script = path.join("pipeline.sql");
        Err(Error::Resume {
            problem:
                "the SQL has changed, and the run before did not stop in order: its last steps have to be run again \
                      as they were"
                    .to_string(),
            help: format!(
                "run `tidemill run {} --state {}` once and stop it with Ctrl-C, then run the changed SQL",
                script.display(),
                path.display()
            ),
            path,
        })
    }

    /// The small things in the newest snapshot.
    pub(crate) fn blobs(&self) -> Vec<Blob> {
        self.manifest.as_ref().map(blobs_of).unwrap_or_default()
    }

    /// Fills a circuit and views from the newest snapshot.
    pub(crate) fn restore(
        &self,
        blobs: &[Blob],
        circuit: &mut Circuit,
        views: &mut [ViewWriter],
        view_nodes: &[NodeId],
    ) -> Result<(), Error> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        circuit.restore(blobs)?;
        let fingerprints = circuit.fingerprints().to_vec();
        let places: BTreeMap<u64, usize> =
            view_nodes.iter().enumerate().map(|(view, node)| (fingerprints[*node], view)).collect();
        for chunk in self.folder.instance.reader(manifest) {
            let (id, rows) = chunk?;
            match places.get(&id.operator) {
                Some(view) => views[*view].restore_chunk(manifest.meta.step, &rows)?,
                None => {
                    circuit.restore_chunk(id, &rows)?;
                }
            }
        }
        Ok(())
    }

    /// What a sink has staged for the newest snapshot, and whether that may not have been shown yet.
    pub(crate) fn staged(&self, table: &str) -> (Staged, bool) {
        let staged = self.meta.as_ref().and_then(|meta| meta.staged.get(table)).cloned().unwrap_or_default();
        let unshown = self
            .manifest
            .as_ref()
            .is_some_and(|manifest| matches!(manifest.cause, Cause::Steps) && manifest.sequence > self.survey.shown);
        (staged, unshown)
    }

    /// Writes the SQL beside the state, so that it can be run again as it was.
    pub(crate) fn write_sql(&self, sql: &str) -> Result<(), Error> {
        let path = self.folder.path.join("pipeline.sql");
        let staged = path.with_extension("sql.tmp");
        let written = std::fs::write(&staged, sql).and_then(|()| std::fs::rename(&staged, &path));
        written.map_err(|error| Error::Keep(format!("{}: {error}", path.display())))
    }
}

/// What input of a table survives; `otherwise` when the table does not say.
fn level_of(pipeline: &Pipeline, table: &str, otherwise: Level) -> Level {
    let own = pipeline.table(table).and_then(|def| def.option("durability"));
    own.and_then(super::level).unwrap_or(otherwise)
}

/// Where partitions stood `before`, and the beginnings of those that were opened until `after`.
pub(crate) fn begun(before: &[Position], after: &[Position]) -> Vec<Position> {
    let opened = after.iter().skip(before.len()).map(|position| Position::start(position.origin.clone()));
    before.iter().cloned().chain(opened).collect()
}

/// The small things in a snapshot.
pub(crate) fn blobs_of(manifest: &Manifest) -> Vec<Blob> {
    manifest.blobs.iter().map(|(name, bytes)| Blob { name: name.clone(), bytes: bytes.to_vec() }).collect()
}

fn abandoned_before(manifest: &Manifest) -> Option<u64> {
    matches!(manifest.cause, Cause::Rollback { .. }).then_some(manifest.sequence)
}

/// The description in a snapshot.
pub(crate) fn read_meta(path: &Path, manifest: &Manifest) -> Result<Meta, Error> {
    Meta::decode(&manifest.meta.note).map_err(|problem| Error::Resume {
        path: path.to_path_buf(),
        problem: format!("snapshot {}: {problem}", manifest.sequence),
        help: "use the version of tidemill that wrote it, or a later one".to_string(),
    })
}

/// The nodes whose state is kept.
pub(crate) fn keepers(circuit: &mut Circuit, plan: &Plan, view_nodes: &[NodeId]) -> Vec<Keeper> {
    let kept = circuit.keepers();
    let fingerprints = circuit.fingerprints();
    let kept = kept.into_iter().chain(view_nodes.iter().copied());
    kept.map(|node| Keeper { fingerprint: fingerprints[node], title: title(plan, node) }).collect()
}

/// What a node is called when state is spoken of.
pub(crate) fn title(plan: &Plan, node: NodeId) -> String {
    let node = &plan.nodes[node];
    let name = match &node.spec {
        tidemill_circuit::plan::Spec::Output(output) => format!("view '{}'", output.name),
        _ => node.title().to_string(),
    };
    match node.position {
        Some(position) => format!("{name} ({position})"),
        None => name,
    }
}

/// Where a pipeline's state is; none when it keeps none.
pub(crate) fn path_of(pipeline: &Pipeline, options: &Options, journaled: bool) -> Option<PathBuf> {
    let asked = options.state.as_deref().or(pipeline.settings.state.path.as_deref());
    match asked {
        Some("none") => None,
        Some(path) => Some(PathBuf::from(path)),
        // What comes in over HTTP or through a ring is nowhere else.
        None if journaled => {
            let stem = Path::new(&options.name).file_stem().filter(|stem| !stem.is_empty());
            let mut name = stem.unwrap_or("pipeline".as_ref()).to_os_string();
            name.push(".state");
            Some(PathBuf::from(name))
        }
        None => None,
    }
}

/// One sentence about the state that was found.
fn standing(path: &Path, folder: &Folder, survey: &Survey) -> String {
    let level = folder.acknowledged;
    let path = path.display();
    if survey.run.is_none() {
        return format!("state in {path} (new); acknowledged means {level}");
    }
    let pending: usize = survey.pending.values().map(BTreeMap::len).sum();
    let mut text = format!("state in {path} at step {}", survey.step - survey.steps);
    if survey.steps > 0 {
        text += &format!(", {} more steps are run again", survey.steps);
    }
    if pending > 0 {
        text += &format!(", {pending} pieces of input wait in the journal");
    }
    text + &format!("; acknowledged means {level}")
}

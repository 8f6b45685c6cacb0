//! [`State`]: a pipeline's state as a run finds it; [`Start`]: what each of its circuits begins with, the newest snapshot
//! and the journal looked through.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use tidemill_base::time::Clock;
use tidemill_circuit::keep::{Blob, ChunkId};
use tidemill_circuit::plan::NodeId;
use tidemill_circuit::view::ViewWriter;
use tidemill_circuit::{Circuit, Plan};
use tidemill_connect::{Position, Replay, Staged};
use tidemill_journal::{Level, Sequence};
use tidemill_sql::Pipeline;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::{Cause, Manifest};

use super::folder::{self, Folder};
use super::input::Outstanding;
use super::line::{FORMAT, Run};
use super::meta::{Keeper, Meta};
use super::retention::Need;
use super::survey::Survey;
use crate::assembly::Options;
use crate::error::Error;
use crate::part::Part;
use crate::tables::Tables;

/// About how many bytes of chunks are restored at once, on all lanes.
const RESTORE_BYTES: usize = 16 << 20;

/// Chunks of views that wait for the thread that fills them.
const CHUNKS_WAITING: usize = 64;

/// A pipeline's state, opened for a run.
pub(crate) struct State {
    pub(crate) folder: Arc<Folder>,
    /// What each circuit begins with, in the order of the parts.
    pub(crate) starts: Vec<Start>,
    /// What a person should know of what was found.
    pub(crate) notes: Vec<String>,
}

/// What a circuit that is kept begins with.
pub(crate) struct Start {
    pub(crate) folder: Arc<Folder>,
    /// The circuit's name.
    pub(crate) circuit: String,
    /// Its snapshots.
    pub(crate) instance: Instance,
    pub(crate) outstanding: Arc<Outstanding>,
    pub(crate) need: Arc<Need>,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) meta: Option<Meta>,
    pub(crate) survey: Survey,
    /// What the input of rows survives when they leave.
    pub(crate) level: Level,
    /// The SQL that is to run.
    pub(crate) sql: String,
}

impl State {
    /// Opens the state of a pipeline; none when it keeps none.
    ///
    /// # Errors
    /// When the state is in use, damaged, or another's, or a source cannot go on from it.
    pub(crate) fn open(
        pipeline: &Pipeline,
        parts: &[Part],
        tables: &[Tables],
        options: &Options,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<State>, Error> {
        let journaled = tables.iter().any(|tables| tables.journaled().next().is_some());
        let Some(path) = path_of(pipeline, options, journaled) else { return Ok(None) };
        tables.iter().try_for_each(|tables| tables.check_resumable(pipeline))?;
        let (folder, found) = Folder::open(&path, &pipeline.settings.state, clock.clone())?;
        let mut notes = Vec::new();
        if let Some(torn) = &found.torn {
            notes.push(format!("{} bytes at the end of the journal were never flushed and are left out", torn.bytes));
        }
        let folder = Arc::new(folder);
        let mut starts = Vec::new();
        for (part, tables) in parts.iter().zip(tables) {
            starts.push(Start::of(folder.clone(), part, tables, pipeline, &options.sql)?);
        }
        notes.extend(starts.iter().map(|start| start.standing(parts.len() > 1)));
        for circuit in folder::circuits(&path) {
            if !parts.iter().any(|part| part.name == circuit) {
                let kept = folder::circuit_folder(&path, &circuit);
                notes.push(format!(
                    "no endpoint takes requests into '{circuit}' any more: what was kept for them stays in {}",
                    kept.display()
                ));
            }
        }
        Ok(Some(State { folder, starts, notes }))
    }

    /// What input of a table survives unless it is told otherwise.
    pub(crate) fn level(&self, pipeline: &Pipeline, table: &str) -> Level {
        level_of(pipeline, table, self.folder.acknowledged)
    }

    /// The seed of the runs before, when there were any.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.starts.iter().find_map(|start| start.survey.run.as_ref()).map(|run| run.seed)
    }

    /// Writes the SQL beside the state, so that it can be run again as it was.
    pub(crate) fn write_sql(&self, sql: &str) -> Result<(), Error> {
        let path = self.folder.path.join("pipeline.sql");
        let staged = path.with_extension("sql.tmp");
        let written = std::fs::write(&staged, sql).and_then(|()| std::fs::rename(&staged, &path));
        written.map_err(|error| Error::Keep(format!("{}: {error}", path.display())))
    }
}

impl Start {
    fn of(folder: Arc<Folder>, part: &Part, tables: &Tables, pipeline: &Pipeline, sql: &str) -> Result<Start, Error> {
        let journaled: BTreeSet<String> = tables.journaled().map(str::to_string).collect();
        let instance = folder.instance(&part.name)?;
        let manifest = instance.newest()?;
        let path = &folder.path;
        let meta = manifest.as_ref().map(|manifest| read_meta(path, manifest)).transpose()?;
        if let Some(meta) = &meta
            && meta.run.journal != folder.journal_name()
        {
            return Err(Error::Resume {
                path: path.clone(),
                problem: format!("its snapshots go with the journal {}, which is not there", meta.run.journal),
                help: "bring the folder 'journal' back from a copy, or begin in another state folder".to_string(),
            });
        }
        let abandoned_before = manifest.as_ref().and_then(abandoned_before);
        let survey = Survey::read(&folder.journal, &part.name, meta.as_ref(), abandoned_before, &journaled)?;
        let newest = manifest.as_ref().map_or(0, |manifest| manifest.sequence);
        let needed = meta.as_ref().map_or(Sequence::FIRST, |meta| Sequence(meta.journal));
        if survey.saved > newest && needed < folder.journal.usage().first {
            return Err(Error::Resume {
                path: path.clone(),
                problem: format!("snapshot {} of circuit '{}' is not there any more", survey.saved, part.name),
                help: "bring the folder back from a copy, or begin in another state folder".to_string(),
            });
        }
        let outstanding = Arc::new(Outstanding::default());
        for (source, pending) in &survey.pending {
            pending.iter().for_each(|(first, waiting)| outstanding.add(source, *first, waiting.sequence));
        }
        let level = leaving_level(part, pipeline, &journaled, folder.acknowledged);
        let need = folder.retention.of(&part.name, survey.from, survey.steps > 0, outstanding.clone());
        let (circuit, sql) = (part.name.clone(), sql.to_string());
        Ok(Start { folder, circuit, instance, outstanding, need, manifest, meta, survey, level, sql })
    }

    /// The snapshot that took back the steps in the journal, if the newest one did.
    pub(crate) fn abandoned_before(&self) -> Option<u64> {
        self.manifest.as_ref().and_then(abandoned_before)
    }

    /// This run of the circuit, in the state's own words.
    pub(crate) fn run(&self, options: &Options, lanes: usize, seed: u64) -> Run {
        Run {
            format: FORMAT,
            circuit: self.circuit.clone(),
            build: env!("CARGO_PKG_VERSION").to_string(),
            name: options.name.clone(),
            sql: options.sql.clone(),
            lanes,
            seed,
            snapshot: self.manifest.as_ref().map_or(0, |manifest| manifest.sequence),
            journal: self.folder.journal_name(),
        }
    }

    /// What reads again the input of the steps since the snapshot, or of all steps, that is not in the journal.
    pub(crate) fn replays(
        &self,
        pipeline: &Pipeline,
        part: &Part,
        all_steps: bool,
    ) -> Result<BTreeMap<String, Box<dyn Replay>>, Error> {
        let mut replays = BTreeMap::new();
        if self.survey.steps == 0 && !all_steps {
            return Ok(replays);
        }
        for table in Tables::of(pipeline, part)?.sources {
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
        let (to_views, waiting) = bounded::<(usize, ChunkId, Bytes)>(CHUNKS_WAITING);
        let step = manifest.meta.step;
        thread::scope(|scope| {
            let filling = scope.spawn(|| {
                waiting.into_iter().try_for_each(|(view, id, rows)| views[view].restore_stored(step, id, &rows))
            });
            let filled = self.fill(manifest, circuit, &places, to_views);
            filling.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            filled
        })?;
        if circuit.resume_saves() {
            views.iter_mut().for_each(|view| {
                view.resume_saves();
            });
        }
        Ok(())
    }

    /// Fills a circuit with its chunks, and hands on those of the views in `places`, until nobody takes them.
    fn fill(
        &self,
        manifest: &Manifest,
        circuit: &mut Circuit,
        places: &BTreeMap<u64, usize>,
        to_views: Sender<(usize, ChunkId, Bytes)>,
    ) -> Result<(), Error> {
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        for chunk in self.instance.reader(manifest) {
            let (id, rows) = chunk?;
            if let Some(view) = places.get(&id.operator) {
                if to_views.send((*view, id, rows)).is_err() {
                    return Ok(());
                }
                continue;
            }
            bytes += rows.len();
            chunks.push((id, rows));
            if bytes >= RESTORE_BYTES {
                circuit.restore_chunks(&std::mem::take(&mut chunks))?;
                bytes = 0;
            }
        }
        circuit.restore_chunks(&chunks)?;
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

    /// One sentence about the state that was found; `named` when there are other circuits too.
    fn standing(&self, named: bool) -> String {
        let (path, level) = (self.folder.path.display(), self.folder.acknowledged);
        let circuit = if named { format!("circuit '{}': ", self.circuit) } else { String::new() };
        if self.survey.run.is_none() {
            return format!("{circuit}state in {path} (new); acknowledged means {level}");
        }
        let pending: usize = self.survey.pending.values().map(BTreeMap::len).sum();
        let mut text = format!("{circuit}state in {path} at step {}", self.survey.step - self.survey.steps);
        if self.survey.steps > 0 {
            text += &format!(", {} more steps are run again", self.survey.steps);
        }
        if pending > 0 {
            text += &format!(", {pending} pieces of input wait in the journal");
        }
        text + &format!("; acknowledged means {level}")
    }
}

/// What the input of rows survives when they leave a circuit. Rows that go to tables survive what their input was
/// acknowledged to survive; answers what their endpoints say, for the request is acknowledged by them.
fn leaving_level(part: &Part, pipeline: &Pipeline, journaled: &BTreeSet<String>, acknowledged: Level) -> Level {
    if part.decides() {
        let levels = part.endpoints.iter().filter_map(|endpoint| endpoint.options.durability.as_deref());
        return levels.filter_map(super::level).max().unwrap_or(Level::Process);
    }
    let levels = journaled.iter().map(|name| level_of(pipeline, name, acknowledged));
    levels.max().unwrap_or(acknowledged)
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

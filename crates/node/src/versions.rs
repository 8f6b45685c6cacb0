//! The versions of a pipeline: its snapshots, which rest on one another, read and named without running it.
//!
//! A version is named by its number (`7`), by itself (`17-0-3`), by a savepoint's name, or `oldest` or `newest`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tidemill_base::time::{Clock, SystemClock};
use tidemill_state::instance::{By, Instance};
use tidemill_state::snapshot::{Cause, Manifest};
use tidemill_state::store::S3;
use tidemill_state::{Replica, Version};

use crate::error::Error;
use crate::keep::folder;
use crate::keep::meta::Meta;
use crate::keep::start::read_meta;
use crate::part::MAIN;

/// The node number of versions that no run has made.
const BY_HAND: u64 = 1;

/// The versions in a state folder.
pub struct Versions {
    path: PathBuf,
    instance: Instance,
}

/// A version, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// Itself.
    pub version: String,
    /// The versions it rests on.
    pub deps: Vec<String>,
    /// Why it was made: `steps`, `rollback to N` or `claim`.
    pub cause: String,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
    /// The step whose state it is.
    pub step: u64,
    /// The root over all state; comparable between versions of one build.
    pub state_hash: String,
    /// The root over what can be seen from outside.
    pub content_root: String,
    /// The build that made it.
    pub build: String,
    /// The bytes of its state, as they are stored.
    pub bytes: u64,
    /// The bytes that were written for it.
    pub bytes_written: u64,
    /// The savepoints that name it.
    pub savepoints: Vec<String>,
}

/// A version with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// As it is listed.
    #[serde(flatten)]
    pub listed: Listed,
    /// The pipeline that ran.
    pub pipeline: String,
    /// Its lanes.
    pub lanes: usize,
    /// Whether every source had come to its end.
    pub finished: bool,
    /// How far each partition had been taken.
    pub sources: Vec<Partition>,
    /// What is kept.
    pub operators: Vec<Kept>,
    /// Files that were staged for it.
    pub files: Vec<PathBuf>,
}

/// How far a partition had been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The source.
    pub source: String,
    /// The file, or the connector.
    pub origin: String,
    /// Records taken.
    pub records: u64,
    /// Whether it gives no more.
    pub ended: bool,
}

/// What an operator or a view keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The operator or view.
    pub title: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Chunks of rows.
    pub chunks: u64,
    /// Their bytes as stored.
    pub bytes: u64,
}

/// How two versions differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The first.
    pub from: Listed,
    /// The second.
    pub to: Listed,
    /// Records taken in between, by source.
    pub records: BTreeMap<String, i64>,
    /// Chunks of rows by operator or view.
    pub operators: BTreeMap<String, ChunkDifference>,
}

/// How the chunks of an operator or view differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChunkDifference {
    /// In the second only.
    pub added: u64,
    /// In both, with other rows.
    pub changed: u64,
    /// In the first only.
    pub removed: u64,
}

/// What a rollback does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollback {
    /// The version whose state comes back.
    pub target: Listed,
    /// The new version; none when it was only asked what would happen.
    pub made: Option<Listed>,
    /// Steps that are taken back.
    pub steps: u64,
    /// Records that will be taken in again, by source.
    pub records: BTreeMap<String, u64>,
    /// Files that were shown since, and stay.
    pub seen: Vec<PathBuf>,
}

impl Versions {
    /// The versions of a circuit in a state folder, or in the store that is named instead of the folder's own; `s3` says
    /// how that is reached.
    ///
    /// # Errors
    /// When there is no state, or no such circuit.
    pub fn open(path: &Path, store: Option<&str>, s3: &S3, circuit: &str) -> Result<Versions, Error> {
        let known = folder::circuits(path);
        if store.is_none() && circuit != MAIN && !known.iter().any(|known| known == circuit) {
            let names = [MAIN.to_string()].into_iter().chain(known).collect();
            return Err(Error::NoCircuit { name: circuit.to_string(), names });
        }
        if store.is_none() && !folder::circuit_folder(path, circuit).join("store").is_dir() {
            return Err(Error::Resume {
                path: path.to_path_buf(),
                problem: "there is none".to_string(),
                help: "name the folder that the pipeline said it keeps its state in, such as NAME.state".to_string(),
            });
        }
        Ok(Versions { path: path.to_path_buf(), instance: folder::instance(path, store, s3, circuit)? })
    }

    /// The versions of an instance that is open already.
    pub(crate) fn of(path: &Path, instance: Instance) -> Versions {
        Versions { path: path.to_path_buf(), instance }
    }

    /// Every version there is, the oldest first; those that cannot be read with the reason.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn all(&self) -> Result<Vec<Result<Listed, Error>>, Error> {
        let names = self.savepoints()?;
        let listed = self.instance.snapshots()?.into_iter();
        Ok(listed.map(|(_, read)| read.map(|manifest| of(&manifest, &names)).map_err(Error::State)).collect())
    }

    /// The names of the savepoints of each version's number.
    fn savepoints(&self) -> Result<BTreeMap<u64, Vec<String>>, Error> {
        let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for savepoint in self.instance.savepoints()? {
            names.entry(savepoint.sequence).or_default().push(savepoint.name);
        }
        Ok(names)
    }

    /// The version of a name.
    pub(crate) fn find(&self, name: &str) -> Result<Manifest, Error> {
        if name == "newest" {
            return self.instance.newest()?.ok_or_else(|| Error::Resume {
                path: self.path.clone(),
                problem: "it has no version yet".to_string(),
                help: "a version is made every minute while the pipeline runs, and when it is stopped".to_string(),
            });
        }
        if name == "oldest" {
            let oldest = self.instance.sequences()?.first().copied().unwrap_or(1);
            return Ok(self.instance.manifest(oldest)?);
        }
        if let Ok(number) = name.parse::<u64>() {
            return Ok(self.instance.manifest(number)?);
        }
        if let Some(savepoint) = self.instance.savepoints()?.into_iter().find(|savepoint| savepoint.name == name) {
            return Ok(self.instance.manifest(savepoint.sequence)?);
        }
        Ok(self.instance.version(name.parse::<Version>()?)?)
    }

    /// A version with what is in it.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be read.
    pub fn show(&self, name: &str) -> Result<Shown, Error> {
        let manifest = self.find(name)?;
        let meta = read_meta(&self.path, &manifest)?;
        let mut operators: BTreeMap<u64, Kept> = BTreeMap::new();
        for keeper in &meta.keepers {
            let (title, fingerprint) = (keeper.title.clone(), format!("{:016x}", keeper.fingerprint));
            operators.insert(keeper.fingerprint, Kept { title, fingerprint, chunks: 0, bytes: 0 });
        }
        for chunk in manifest.chunks.iter() {
            if let Some(kept) = operators.get_mut(&chunk.id.operator) {
                kept.chunks += 1;
                kept.bytes += u64::from(chunk.frame.stored);
            }
        }
        let sources = meta.positions.all().flat_map(|(source, positions)| {
            positions.iter().map(move |position| Partition {
                source: source.to_string(),
                origin: position.origin.name.clone(),
                records: position.records,
                ended: position.ended,
            })
        });
        Ok(Shown {
            listed: of(&manifest, &self.savepoints()?),
            pipeline: meta.run.name.clone(),
            lanes: meta.run.lanes,
            finished: meta.finished,
            sources: sources.collect(),
            operators: operators.into_values().collect(),
            files: files(&meta),
        })
    }

    /// The SQL that ran when a version was made.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be read.
    pub fn sql(&self, name: &str) -> Result<String, Error> {
        Ok(read_meta(&self.path, &self.find(name)?)?.run.sql)
    }

    /// Reads every byte of a version's state: the packs, chunks and bytes that were found whole.
    ///
    /// # Errors
    /// What is damaged, and where.
    pub fn verify(&self, name: &str) -> Result<(u64, u64, u64), Error> {
        let checked = self.instance.verify(&self.find(name)?)?;
        Ok((checked.packs, checked.chunks, checked.bytes))
    }

    /// How two versions differ.
    ///
    /// # Errors
    /// When one of them is not there, or cannot be read.
    pub fn diff(&self, from: &str, to: &str) -> Result<Difference, Error> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        let (before, after) = (read_meta(&self.path, &from)?, read_meta(&self.path, &to)?);
        let titles: BTreeMap<u64, String> = before
            .keepers
            .iter()
            .chain(&after.keepers)
            .map(|keeper| (keeper.fingerprint, format!("{} {:016x}", keeper.title, keeper.fingerprint)))
            .collect();
        let title = |operator: u64| titles.get(&operator).cloned().unwrap_or_else(|| format!("{operator:016x}"));
        let mut operators: BTreeMap<String, ChunkDifference> = BTreeMap::new();
        let diff = from.diff(&to);
        for id in diff.added {
            operators.entry(title(id.operator)).or_default().added += 1;
        }
        for id in diff.changed {
            operators.entry(title(id.operator)).or_default().changed += 1;
        }
        for id in diff.removed {
            operators.entry(title(id.operator)).or_default().removed += 1;
        }
        let mut records = taken(&after);
        for (source, count) in taken(&before) {
            *records.entry(source).or_default() -= count;
        }
        let names = self.savepoints()?;
        Ok(Difference { from: of(&from, &names), to: of(&to, &names), records, operators })
    }

    /// Takes the state back to that of a version, by a new version that rests on the newest and on it. A pipeline that
    /// runs on it stops, for it is fenced; started again it takes in again what came since.
    ///
    /// With `dry` it is only told what would happen; with `past_damage` a newest version that cannot be read is passed
    /// over.
    ///
    /// # Errors
    /// When the version is not there, or another was made meanwhile.
    pub fn rollback(&self, name: &str, dry: bool, past_damage: bool) -> Result<Rollback, Error> {
        let target = self.find(name)?;
        let meta = read_meta(&self.path, &target)?;
        let names = self.savepoints()?;
        let head = match self.instance.newest() {
            Err(tidemill_state::Error::DamagedSnapshot { .. }) if past_damage => None,
            newest => newest?,
        };
        let head_meta = head.as_ref().map(|head| read_meta(&self.path, head)).transpose()?;
        let mut records = BTreeMap::new();
        for (source, count) in head_meta.iter().flat_map(taken) {
            let again = count - taken(&meta).get(&source).copied().unwrap_or_default();
            records.insert(source, u64::try_from(again).unwrap_or_default());
        }
        let mut seen = Vec::new();
        for (number, manifest) in self.instance.snapshots()? {
            if let (true, Ok(manifest)) = (number > target.sequence, manifest) {
                seen.extend(files(&read_meta(&self.path, &manifest)?));
            }
        }
        let steps = head.as_ref().map_or(0, |head| head.meta.step.saturating_sub(target.meta.step));
        let mut rollback = Rollback { target: of(&target, &names), made: None, steps, records, seen };
        if !dry {
            let lamport = head.as_ref().map_or(target.meta.version.lamport, |head| head.meta.version.lamport) + 1;
            let replica = Replica::new(BY_HAND, 0).unwrap_or_default();
            let by = By {
                version: Version::new(lamport, replica),
                epoch: head.as_ref().map_or(target.meta.epoch, |head| head.meta.epoch),
                created_ms: SystemClock::new().now().millis(),
                build: env!("CARGO_PKG_VERSION").to_string(),
            };
            rollback.made = Some(of(&self.instance.rollback(target.sequence, by, past_damage)?, &names));
        }
        Ok(rollback)
    }

    /// Keeps a version under a name until the name is dropped.
    ///
    /// # Errors
    /// When the name is taken, or the version is not there.
    pub fn save(&self, savepoint: &str, name: &str) -> Result<Listed, Error> {
        let manifest = self.find(name)?;
        self.instance.savepoint(savepoint, manifest.sequence, SystemClock::new().now().millis())?;
        Ok(of(&manifest, &self.savepoints()?))
    }

    /// Forgets a savepoint; its version may go then.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self, savepoint: &str) -> Result<(), Error> {
        Ok(self.instance.drop_savepoint(savepoint)?)
    }
}

/// Whether a name says a version by itself, so that a savepoint of that name would not be found.
pub fn is_taken(name: &str) -> bool {
    matches!(name, "newest" | "oldest") || name.parse::<u64>().is_ok() || name.parse::<Version>().is_ok()
}

fn of(manifest: &Manifest, names: &BTreeMap<u64, Vec<String>>) -> Listed {
    let meta = &manifest.meta;
    Listed {
        number: manifest.sequence,
        version: meta.version.to_string(),
        deps: manifest.deps.iter().map(Version::to_string).collect(),
        cause: match manifest.cause {
            Cause::Steps => "steps".to_string(),
            Cause::Rollback { to } => format!("rollback to {to}"),
            Cause::Claim => "claim".to_string(),
        },
        created_ms: meta.created_ms,
        step: meta.step,
        state_hash: meta.state_hash.to_string(),
        content_root: meta.content_root.to_string(),
        build: meta.build.clone(),
        bytes: manifest.bytes_stored(),
        bytes_written: manifest.stats.bytes_written + manifest.stats.bytes_repacked,
        savepoints: names.get(&manifest.sequence).cloned().unwrap_or_default(),
    }
}

fn files(meta: &Meta) -> Vec<PathBuf> {
    meta.staged.values().flat_map(|staged| &staged.files).map(|file| file.target.clone()).collect()
}

/// Records taken in, by source.
fn taken(meta: &Meta) -> BTreeMap<String, i64> {
    let records = |positions: &[tidemill_connect::Position]| positions.iter().map(|one| one.records as i64).sum();
    meta.positions.all().map(|(source, positions)| (source.to_string(), records(positions))).collect()
}

//! [`Folder`]: where a pipeline's state is: the journal, and the store of its snapshots.
//!
//! ```text
//! DIR/journal/   segments of the journal; locked while a pipeline runs on it
//! DIR/store/     snapshots, when they are not kept elsewhere
//! DIR/tables/    versioned tables
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidemill_base::time::Clock;
use tidemill_circuit::keep::Roots;
use tidemill_journal::{Disk, Journal, Level, Options as JournalOptions, Recovery};
use tidemill_sql::pipeline::StateSettings;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::{Manifest, Meta as SnapshotMeta};
use tidemill_state::store::{S3, Store};
use tidemill_state::{Replica, Version};

use super::meta::Meta;
use crate::error::Error;

/// The instance of a pipeline in its store.
const INSTANCE: &str = "main";

/// Where a pipeline's state is, opened for a run.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) journal: Arc<Journal>,
    pub(crate) instance: Instance,
    /// What events survive when they are acknowledged, unless their table or request says otherwise.
    pub(crate) acknowledged: Level,
    /// What the input of rows survives when they leave: the most that any table promises.
    pub(crate) level: Level,
}

impl Folder {
    /// Opens the state in `path`, or makes it there.
    ///
    /// # Errors
    /// When it is in use, damaged, or cannot be written.
    pub(crate) fn open(
        path: &Path,
        settings: &StateSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Folder, Recovery), Error> {
        let disk = Arc::new(Disk::open(path.join("journal"))?);
        let (journal, recovery) = Journal::open(disk, journal_options(settings), clock)?;
        let instance = instance(path, settings.store.as_deref())?;
        let level = settings.durability.as_deref().and_then(super::level).unwrap_or_default();
        Ok((
            Folder { path: path.to_path_buf(), journal: Arc::new(journal), instance, acknowledged: level, level },
            recovery,
        ))
    }

    /// What a snapshot is told of itself.
    pub(crate) fn meta(
        &self,
        meta: &Meta,
        newest: Option<&Manifest>,
        roots: Roots,
        clock: &dyn Clock,
    ) -> Result<SnapshotMeta, Error> {
        let before = newest.map_or(Version::GENESIS, |newest| newest.meta.version);
        Ok(SnapshotMeta {
            version: Version::new(before.lamport + 1, self.replica()?),
            epoch: self.journal.incarnation(),
            created_ms: clock.now().millis(),
            build: meta.run.build.clone(),
            state_hash: roots.state,
            content_root: roots.content,
            journal: meta.journal,
            step: meta.step,
            note: Bytes::from(meta.encode().map_err(Error::Keep)?),
        })
    }

    /// This start of the pipeline.
    fn replica(&self) -> Result<Replica, Error> {
        let incarnation = self.journal.incarnation();
        Replica::new(0, incarnation)
            .ok_or_else(|| Error::Keep(format!("the pipeline was started {incarnation} times, which is too often")))
    }

    /// A word that names this state in the files of its sinks.
    pub(crate) fn owner(&self) -> String {
        format!("{:08x}", self.journal.id() as u32)
    }

    /// The journal's name, by which a snapshot knows the journal it goes with.
    pub(crate) fn journal_name(&self) -> String {
        format!("{:032x}", self.journal.id())
    }
}

/// The instance in a state folder, or in the store named instead.
pub(crate) fn instance(path: &Path, store: Option<&str>) -> Result<Instance, Error> {
    Ok(Instance::new(open_store(path, store)?, INSTANCE)?)
}

fn open_store(path: &Path, store: Option<&str>) -> Result<Arc<dyn Store>, Error> {
    let address = store.map_or_else(|| path.join("store").display().to_string(), str::to_string);
    tidemill_state::store::open(&address, &S3::default()).map_err(|error| Error::State(error.into()))
}

fn journal_options(settings: &StateSettings) -> JournalOptions {
    let defaults = JournalOptions::default();
    let segment_bytes = settings.journal_segment_bytes.unwrap_or(defaults.segment_bytes);
    JournalOptions {
        segment_bytes,
        quota_bytes: settings.journal_quota.unwrap_or(defaults.quota_bytes),
        retain_age: settings.journal_retain_time.unwrap_or(defaults.retain_age),
        retain_bytes: settings.journal_retain_bytes.unwrap_or(defaults.retain_bytes),
        ..defaults
    }
}

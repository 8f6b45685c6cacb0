//! [`Folder`]: where a pipeline's state is: the journal, and the store of its snapshots.
//!
//! ```text
//! DIR/journal/   segments of the journal; locked while a pipeline runs on it
//! DIR/store/     snapshots of the circuit `main`, when they are not kept elsewhere
//! DIR/circuits/  a folder for each other circuit, with a store of its snapshots
//! DIR/tables/    versioned tables
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidemill_base::options::Options;
use tidemill_base::time::Clock;
use tidemill_journal::{Disk, Journal, Level, Options as JournalOptions, Recovery};
use tidemill_sql::pipeline::StateSettings;
use tidemill_state::digest::Sum;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::{Manifest, Meta as SnapshotMeta};
use tidemill_state::store::S3;
use tidemill_state::{Replica, Version};

use super::meta::Meta;
use super::retention::Retention;
use crate::error::Error;
use crate::part::MAIN;

/// The instance of a circuit in its store.
const INSTANCE: &str = "main";

/// The folder of the circuits that are not [`MAIN`].
const CIRCUITS: &str = "circuits";

/// Where a pipeline's state is, opened for a run.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) journal: Arc<Journal>,
    /// What the circuits need of the journal.
    pub(crate) retention: Arc<Retention>,
    /// Where snapshots are when not in the folder, and how that is reached.
    store: Option<String>,
    s3: S3,
    /// What events survive when they are acknowledged, unless their table or request says otherwise.
    pub(crate) acknowledged: Level,
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
        let folder = Folder {
            path: path.to_path_buf(),
            journal: Arc::new(journal),
            retention: Arc::default(),
            store: settings.store.clone(),
            s3: s3(settings)?,
            acknowledged: settings.durability.as_deref().and_then(super::level).unwrap_or_default(),
        };
        Ok((folder, recovery))
    }

    /// The snapshots of a circuit.
    ///
    /// # Errors
    /// When there is no such store.
    pub(crate) fn instance(&self, circuit: &str) -> Result<Instance, Error> {
        instance(&self.path, self.store.as_deref(), &self.s3, circuit)
    }

    /// What a snapshot is told of itself.
    pub(crate) fn meta(
        &self,
        meta: &Meta,
        newest: Option<&Manifest>,
        content_root: Sum,
        clock: &dyn Clock,
    ) -> Result<SnapshotMeta, Error> {
        let before = newest.map_or(Version::GENESIS, |newest| newest.meta.version);
        Ok(SnapshotMeta {
            version: Version::new(before.lamport + 1, self.replica()?),
            epoch: self.journal.incarnation(),
            created_ms: clock.now().millis(),
            build: meta.run.build.clone(),
            // Told by who writes the state.
            state_hash: Sum::ZERO,
            content_root,
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

/// A circuit's instance in a state folder, or in the store named instead.
pub(crate) fn instance(path: &Path, store: Option<&str>, s3: &S3, circuit: &str) -> Result<Instance, Error> {
    let address = match (store, circuit) {
        (None, circuit) => circuit_folder(path, circuit).join("store").display().to_string(),
        (Some(store), MAIN) => store.to_string(),
        (Some(store), circuit) => format!("{}/{CIRCUITS}/{}", store.trim_end_matches('/'), written(circuit)),
    };
    let store = tidemill_state::store::open(&address, s3).map_err(|error| Error::State(error.into()))?;
    Ok(Instance::new(store, INSTANCE)?)
}

/// How buckets are reached, as far as it was set; the rest is in the environment.
///
/// # Errors
/// [`Error::Keep`] when a setting cannot be read, as planning has said before.
pub(crate) fn s3(settings: &StateSettings) -> Result<S3, Error> {
    let mut options = Options::new("SET", settings.s3.clone());
    S3::take(&mut options).map_err(|error| Error::Keep(error.to_string()))
}

/// The folder of a circuit in a state folder.
pub(crate) fn circuit_folder(path: &Path, circuit: &str) -> PathBuf {
    match circuit {
        MAIN => path.to_path_buf(),
        circuit => path.join(CIRCUITS).join(written(circuit)),
    }
}

/// The circuits that a state folder has folders of, besides [`MAIN`].
pub(crate) fn circuits(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.join(CIRCUITS)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| read(entry.file_name().to_str()?)).collect();
    names.sort();
    names
}

/// A circuit's name as a folder's: what could mean something to a file system is `=` and two digits a byte.
fn written(circuit: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+');
    let mut name = String::new();
    for byte in circuit.bytes() {
        match plain(byte) {
            true => name.push(byte.into()),
            false => name += &format!("={byte:02x}"),
        }
    }
    name
}

/// The circuit of a folder's name; none when it is no circuit's.
fn read(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), name.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_s_name_is_found_again_in_its_folder() {
        for name in ["score", "score+review", "Kärtchen", "a/../b", ".hidden", "a b", "100%"] {
            let written = written(name);
            assert!(!written.contains(['/', '.', ' ', '%']), "{written}");
            assert_eq!(read(&written).as_deref(), Some(name));
        }
        assert_eq!(read("=zz"), None);
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["b", "a+c"] {
            std::fs::create_dir_all(circuit_folder(folder.path(), name)).expect("the folder is ours");
        }
        assert_eq!(circuits(folder.path()), ["a+c", "b"]);
        assert_eq!(circuit_folder(folder.path(), MAIN), folder.path());
    }

    #[test]
    fn how_a_bucket_is_reached_is_set_key_by_key() {
        let sql = "SET 'state.s3.endpoint' = 'http://localhost:9000'; SET 'state.s3.region' = 'eu-1';
             SET 'state.s3.allow-http' = 'true'; SELECT 1 AS a;";
        let pipeline = tidemill_sql::plan(sql, tidemill_sql::PlanOptions::default()).expect("it is sound");
        let found = s3(&pipeline.settings.state).expect("they are what they should be");
        assert_eq!((found.endpoint.as_deref(), found.region.as_deref()), (Some("http://localhost:9000"), Some("eu-1")));
        assert!(found.allow_http && found.access_key.is_none());
        let wrong = "SET 'state.s3.endpiont' = 'x'; SELECT 1 AS a;";
        let error = tidemill_sql::plan(wrong, tidemill_sql::PlanOptions::default()).expect_err("it is misspelt");
        assert!(tidemill_base::Explain::help(&error).is_some_and(|help| help.contains("state.s3.endpoint")), "{error}");
    }
}

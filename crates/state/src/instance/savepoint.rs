//! Savepoints: snapshots that are kept under a name until they are dropped. And holds, which keep one for a moment.
//!
//! Collecting and keeping may meet. The rule: who keeps writes his mark first and then looks at the boundary; who
//! collects writes the boundary first and then looks at the marks. So at least one of the two sees the other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Instance, check_part};
use crate::Error;
use crate::gc::Boundary;
use crate::snapshot::frame::{open_record, seal_record};
use crate::snapshot::layout::{self, Folder};
use crate::store::StoreError;
use crate::version::Version;

/// The format that is written, and the newest that is read.
const FORMAT: u16 = 1;
const MAGIC: &[u8; 8] = b"tmsaved\n";

/// A snapshot that is kept under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    /// The name.
    pub name: String,
    /// The snapshot.
    pub sequence: u64,
    /// Its version.
    pub version: Version,
    /// When it was named, in milliseconds since 1970.
    pub created_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    sequence: u64,
    version: Version,
    created_ms: i64,
}

impl Instance {
    /// Keeps a snapshot under a name.
    ///
    /// # Errors
    /// [`Error::SavepointExists`]; [`Error::NoSnapshot`]; why it cannot be read.
    pub fn savepoint(&self, name: &str, sequence: u64, created_ms: i64) -> Result<Savepoint, Error> {
        check_part(name)?;
        let version = self.manifest(sequence)?.meta.version;
        let object = layout::savepoint(&self.name, name);
        match self.mark(&object, &Mark { sequence, version, created_ms }) {
            Err(Error::Store(StoreError::Exists { .. })) => {
                Err(Error::SavepointExists { instance: self.name.clone(), savepoint: name.to_string() })
            }
            marked => marked.map(|()| Savepoint { name: name.to_string(), sequence, version, created_ms }),
        }
    }

    /// The savepoints, by name.
    ///
    /// # Errors
    /// Why one cannot be read.
    pub fn savepoints(&self) -> Result<Vec<Savepoint>, Error> {
        let mut savepoints = Vec::new();
        for (object, Mark { sequence, version, created_ms }) in self.marks(Folder::Savepoints)? {
            let name = layout::last_part(&object).to_string();
            savepoints.push(Savepoint { name, sequence, version, created_ms });
        }
        Ok(savepoints)
    }

    /// Does not keep a snapshot under this name any more.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when there is no such savepoint; the store's.
    pub fn drop_savepoint(&self, name: &str) -> Result<(), Error> {
        check_part(name)?;
        let object = layout::savepoint(&self.name, name);
        match self.store.get(&object) {
            Err(StoreError::NotFound { .. }) => {
                Err(Error::NoSnapshot { instance: self.name.clone(), wanted: format!("under the name '{name}'") })
            }
            found => found.and_then(|_| self.store.delete(&object)).map_err(Error::from),
        }
    }

    /// Keeps a snapshot until the number `until` is decided, or the object returned is removed.
    pub(super) fn hold(&self, sequence: u64, until: u64, version: Version) -> Result<String, Error> {
        let object = layout::hold(&self.name, until, version);
        match self.mark(&object, &Mark { sequence, version, created_ms: 0 }) {
            // The same one, held by an attempt of which nobody knew how it had ended.
            Err(Error::Store(StoreError::Exists { .. })) => {}
            marked => marked?,
        }
        Ok(object)
    }

    /// Writes a mark, and takes it back when the snapshot was given up before.
    fn mark(&self, object: &str, mark: &Mark) -> Result<(), Error> {
        self.store.put_new(object, seal_record(MAGIC, FORMAT, mark))?;
        match Boundary::newest(self)? {
            Some(boundary) if !boundary.spares(mark.sequence) => {
                self.store.delete(object)?;
                Err(self.none(mark.sequence))
            }
            _ => Ok(()),
        }
    }

    /// The snapshots that are kept, by savepoints and by holds.
    pub(crate) fn pinned(&self) -> Result<BTreeSet<u64>, Error> {
        let (saved, held) = (self.marks(Folder::Savepoints)?, self.marks(Folder::Holds)?);
        Ok(saved.iter().chain(&held).map(|(_, mark)| mark.sequence).collect())
    }

    fn marks(&self, folder: Folder) -> Result<Vec<(String, Mark)>, Error> {
        let mut marks = Vec::new();
        for object in self.store.list(&folder.of(&self.name))? {
            match self.store.get(&object) {
                // Dropped after it was listed.
                Err(StoreError::NotFound { .. }) => {}
                found => {
                    let mark = open_record(&object, MAGIC, FORMAT, &found?)?;
                    marks.push((object, mark));
                }
            }
        }
        Ok(marks)
    }
}

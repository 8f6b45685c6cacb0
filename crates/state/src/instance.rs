//! An instance in a store: its snapshots, which of them is the newest, and how it goes on from them.
//!
//! The newest snapshot is the one with the highest number. If that cannot be read, nothing else is taken in its place:
//! the error names the object, and the snapshot before it, to which someone may decide to go back.
//!
//! Rolling back goes forward: a new snapshot with the state of an old one, resting on both. Its number is decided as any
//! snapshot's is, so whoever was about to write that number is fenced.

mod savepoint;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Error;
use crate::gc::Boundary;
use crate::snapshot::layout::{self, Folder};
use crate::snapshot::{Cause, ChunkId, Manifest, Meta, Reader, Stats, Writer, manifest, pack};
use crate::store::{Store, StoreError, check_name};
use crate::version::Version;

pub use savepoint::Savepoint;

/// How often a listing is read again because a snapshot in it was collected meanwhile.
const READS_MAX: u32 = 10;

/// A running circuit's place in a store. Clones name the same.
#[derive(Clone)]
pub struct Instance {
    store: Arc<dyn Store>,
    name: String,
}

/// A snapshot's number, and its manifest or why that cannot be read.
pub type Numbered = (u64, Result<Manifest, Error>);

/// Who takes an instance back or over, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The version of the new snapshot; later than all it rests on.
    pub version: Version,
    /// The owner's epoch.
    pub epoch: u64,
    /// Now, in milliseconds since 1970.
    pub created_ms: i64,
    /// The build.
    pub build: String,
}

/// What was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Packs.
    pub packs: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of the packs.
    pub bytes: u64,
}

impl Instance {
    /// The instance of a name, there or not.
    ///
    /// # Errors
    /// [`StoreError::BadName`] when nothing can be called that.
    pub fn new(store: Arc<dyn Store>, name: &str) -> Result<Self, Error> {
        check_part(name)?;
        Ok(Instance { store, name: name.to_string() })
    }

    /// The names of the instances in a store.
    ///
    /// # Errors
    /// The store's.
    pub fn all(store: &dyn Store) -> Result<Vec<String>, Error> {
        let objects = store.list(layout::INSTANCES)?;
        let names: BTreeSet<&str> = objects.iter().filter_map(|object| object.split('/').nth(1)).collect();
        Ok(names.into_iter().map(str::to_string).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The newest snapshot; none when there never was one.
    ///
    /// # Errors
    /// [`Error::DamagedSnapshot`] when it is there and cannot be read; [`Error::Newer`]; the store's.
    pub fn newest(&self) -> Result<Option<Manifest>, Error> {
        for _ in 0..READS_MAX {
            let Some(head) = self.sequences()?.pop() else { return Ok(None) };
            match self.read(head) {
                // Collected after it was listed, so there are newer ones now.
                Err(Error::Store(StoreError::NotFound { .. })) => {}
                read => return read.map(Some),
            }
        }
        let reason = "its snapshots are listed, but are not there".to_string();
        Err(Error::Damaged { name: Folder::Snapshots.of(&self.name), reason })
    }

    /// The numbers of all snapshots that are there, in order.
    ///
    /// # Errors
    /// [`Error::Damaged`] when snapshots are missing that must be there; the store's.
    pub fn sequences(&self) -> Result<Vec<u64>, Error> {
        // The boundary first: a snapshot above it is there at any time after.
        let boundary = Boundary::newest(self)?;
        let listed = self.listed()?;
        let Some(boundary) = boundary else { return Ok(listed) };
        if listed.last().is_none_or(|head| *head < boundary.below) {
            let reason = format!("snapshot {} and all after it are missing", boundary.below);
            return Err(Error::Damaged { name: Folder::Snapshots.of(&self.name), reason });
        }
        let pinned = self.pinned()?;
        let alive = |sequence: &u64| boundary.spares(*sequence) || pinned.contains(sequence);
        Ok(listed.into_iter().filter(alive).collect())
    }

    /// All snapshots that are there, in order, each with its manifest or why that cannot be read.
    ///
    /// # Errors
    /// The store's.
    pub fn snapshots(&self) -> Result<Vec<Numbered>, Error> {
        let read = self.sequences()?.into_iter().map(|sequence| (sequence, self.read(sequence)));
        Ok(read.filter(|(_, read)| !matches!(read, Err(Error::Store(StoreError::NotFound { .. })))).collect())
    }

    /// A snapshot by its number.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or why it cannot be read.
    pub fn manifest(&self, sequence: u64) -> Result<Manifest, Error> {
        let none = || Error::NoSnapshot { instance: self.name.clone(), wanted: sequence.to_string() };
        if !self.sequences()?.contains(&sequence) {
            return Err(none());
        }
        match self.read(sequence) {
            Err(Error::Store(StoreError::NotFound { .. })) => Err(none()),
            read => read,
        }
    }

    /// A snapshot by its version, the newest when several have it.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or why one cannot be read.
    pub fn version(&self, version: Version) -> Result<Manifest, Error> {
        let mut none = Error::NoSnapshot { instance: self.name.clone(), wanted: version.to_string() };
        for (_, read) in self.snapshots()?.into_iter().rev() {
            match read {
                Ok(manifest) if manifest.meta.version == version => return Ok(manifest),
                Ok(_) => {}
                // It may have been this one.
                Err(error) => none = error,
            }
        }
        Err(none)
    }

    /// Begins the snapshot after `previous`; without one, the first.
    ///
    /// # Errors
    /// None but of memory.
    pub fn begin(&self, previous: Option<&Manifest>) -> Result<Writer, Error> {
        Writer::begin(self.clone(), previous)
    }

    /// Reads the chunks of a snapshot.
    pub fn reader(&self, manifest: &Manifest) -> Reader {
        Reader::new(self.clone(), manifest, |_| true)
    }

    /// Reads the chunks of a snapshot that are `wanted`.
    pub fn reader_of(&self, manifest: &Manifest, wanted: impl Fn(&ChunkId) -> bool) -> Reader {
        Reader::new(self.clone(), manifest, wanted)
    }

    /// Checks every byte that a snapshot needs.
    ///
    /// # Errors
    /// [`Error::DamagedSnapshot`], naming the pack and the byte; the store's.
    pub fn verify(&self, manifest: &Manifest) -> Result<Checked, Error> {
        let blame = |error| self.blame(manifest.sequence, error);
        let mut checked = Checked::default();
        for pack in manifest.packs.iter() {
            let content = self.store.get(&pack.name).map_err(|error| blame(error.into()))?;
            pack::decode(&pack.name, &content).map_err(blame)?;
            checked.packs += 1;
            checked.bytes += content.len() as u64;
        }
        for chunk in self.reader(manifest) {
            chunk?;
            checked.chunks += 1;
        }
        Ok(checked)
    }

    /// Takes the state back to that of snapshot `target`, by a snapshot that rests on the newest and on it.
    ///
    /// With `past_damage` it is done even when the newest cannot be read, and rests on the target alone.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`]; [`Error::Fenced`] when another snapshot was written meanwhile; [`Error::NotLater`]; why one
    /// of the two cannot be read.
    pub fn rollback(&self, target: u64, by: By, past_damage: bool) -> Result<Manifest, Error> {
        let head = match self.newest() {
            Err(Error::DamagedSnapshot { sequence, .. }) if past_damage => Err(sequence),
            newest => Ok(newest?.ok_or_else(|| self.none(target))?),
        };
        let sequence = 1 + match &head {
            Ok(head) => head.sequence,
            Err(damaged) => *damaged,
        };
        let hold = self.hold(target, sequence, by.version)?;
        let from = self.manifest(target)?;
        let mut deps: Vec<Version> = head.iter().map(|head| head.meta.version).collect();
        if !deps.contains(&from.meta.version) {
            deps.push(from.meta.version);
        }
        let epoch = head.as_ref().map_or(from.meta.epoch, |head| head.meta.epoch);
        let manifest = forward(from, sequence, Cause::Rollback { to: target }, deps, by);
        for dep in &manifest.deps {
            self.check_later(manifest.meta.version, *dep)?;
        }
        self.check_epoch(sequence, manifest.meta.epoch, epoch)?;
        self.publish(&manifest)?;
        self.store.delete(&hold)?;
        Ok(manifest)
    }

    /// Takes the instance over as it is, by a snapshot under the new owner's epoch: who owned it before is fenced from now
    /// on, and cannot commit even once. `head` is the newest.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another snapshot was written meanwhile; [`Error::NotLater`].
    pub fn claim(&self, head: &Manifest, by: By) -> Result<Manifest, Error> {
        let (sequence, version) = (head.sequence + 1, head.meta.version);
        let manifest = forward(head.clone(), sequence, Cause::Claim, vec![version], by);
        self.check_successor(head, &manifest.meta)?;
        self.publish(&manifest)?;
        Ok(manifest)
    }

    /// Checks that a snapshot may follow another.
    pub(crate) fn check_successor(&self, previous: &Manifest, meta: &Meta) -> Result<(), Error> {
        self.check_later(meta.version, previous.meta.version)?;
        self.check_epoch(previous.sequence + 1, meta.epoch, previous.meta.epoch)
    }

    fn check_later(&self, version: Version, head: Version) -> Result<(), Error> {
        if version > head { Ok(()) } else { Err(Error::NotLater { version, head }) }
    }

    fn check_epoch(&self, sequence: u64, epoch: u64, head: u64) -> Result<(), Error> {
        if epoch >= head { Ok(()) } else { Err(self.fenced(sequence)) }
    }

    /// Writes a manifest: the moment at which it becomes the newest snapshot.
    pub(crate) fn publish(&self, manifest: &Manifest) -> Result<(), Error> {
        let name = layout::manifest(&self.name, manifest.sequence);
        match self.store.put_new(&name, manifest::encode(manifest)?) {
            Err(StoreError::Exists { .. }) => return Err(self.fenced(manifest.sequence)),
            put => put?,
        }
        // The number may have been free only because it was used and collected: then the boundary was there before.
        match Boundary::newest(self)? {
            Some(boundary) if manifest.sequence < boundary.below => Err(self.fenced(manifest.sequence)),
            _ => Ok(()),
        }
    }

    pub(crate) fn fenced(&self, sequence: u64) -> Error {
        Error::Fenced { instance: self.name.clone(), sequence }
    }

    fn none(&self, sequence: u64) -> Error {
        Error::NoSnapshot { instance: self.name.clone(), wanted: sequence.to_string() }
    }

    /// The numbers of all manifests, whether they count or not.
    pub(crate) fn listed(&self) -> Result<Vec<u64>, Error> {
        let names = self.store.list(&Folder::Snapshots.of(&self.name))?;
        Ok(names.iter().filter_map(|name| layout::number(name)).collect())
    }

    /// Reads a manifest, whether it counts or not; [`StoreError::NotFound`] when it is not there.
    pub(crate) fn read(&self, sequence: u64) -> Result<Manifest, Error> {
        let name = layout::manifest(&self.name, sequence);
        let content = self.store.get(&name)?;
        let manifest = manifest::decode(&name, &content).map_err(|error| self.blame(sequence, error))?;
        if manifest.instance == self.name && manifest.sequence == sequence {
            return Ok(manifest);
        }
        let reason = format!("it says that it is snapshot {} of '{}'", manifest.sequence, manifest.instance);
        Err(self.blame(sequence, Error::Damaged { name, reason }))
    }

    /// Says of damage that it is a snapshot's, and which one is before it; of a snapshot that was collected meanwhile,
    /// that it is not there.
    pub(crate) fn blame(&self, sequence: u64, error: Error) -> Error {
        // That there is damage is what has to be told; what is before it, only where that can be found out.
        let sequences = self.sequences();
        let collected = sequences.as_ref().is_ok_and(|sequences| !sequences.contains(&sequence));
        let (name, reason) = match error {
            Error::Damaged { name, reason } => (name, reason),
            Error::Store(StoreError::NotFound { .. }) if collected => return self.none(sequence),
            Error::Store(StoreError::NotFound { name, .. }) => (name, "it is not there".to_string()),
            Error::Store(StoreError::TooShort { name, end, .. }) => (name, format!("it ends before byte {end}")),
            other => return other,
        };
        let before = sequences.unwrap_or_default().into_iter().rfind(|before| *before < sequence);
        Error::DamagedSnapshot {
            store: self.store.describe(),
            instance: self.name.clone(),
            sequence,
            name,
            reason,
            before,
        }
    }
}

/// A snapshot with the state of another.
fn forward(from: Manifest, sequence: u64, cause: Cause, deps: Vec<Version>, by: By) -> Manifest {
    let By { version, epoch, created_ms, build } = by;
    let meta = Meta { version, epoch, created_ms, build, ..from.meta };
    Manifest { sequence, cause, deps, meta, stats: Stats::default(), ..from }
}

/// Checks a name that is one part of an object's name.
fn check_part(name: &str) -> Result<(), Error> {
    check_name(name)?;
    match name.contains('/') {
        true => Err(StoreError::BadName { name: name.to_string(), reason: "it has a '/'" }.into()),
        false => Ok(()),
    }
}

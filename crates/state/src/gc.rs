//! Collects what nobody needs any more: old snapshots, and packs that no snapshot names.
//!
//! Kept are the newest snapshots, those with a savepoint, those being rolled back to, and every pack that one of them
//! names. The one idea: first a *boundary* is made durable, "below number n there is nothing but ...", and only then
//! anything is removed. So a crash in between leaves a good store, and a number that has become free again cannot be taken
//! by someone who slept: he finds the boundary and knows that he is late.
//!
//! Packs carry the number of the snapshot they were written for. One above the newest snapshot belongs to somebody who is
//! about to commit, and is let be.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::instance::Instance;
use crate::snapshot::frame::{open_record, seal_record};
use crate::snapshot::layout::{self, Folder};
use crate::store::StoreError;

/// The format that is written, and the newest that is read.
const FORMAT: u16 = 1;
const MAGIC: &[u8; 8] = b"tmbound\n";

/// How many of the newest snapshots are kept when nothing else is said.
pub const KEEP: usize = 3;

/// How often a boundary is looked for again because a newer one has replaced it meanwhile.
const READS_MAX: u32 = 10;

/// Below which number there are no snapshots any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boundary {
    /// Its own number, from 1.
    pub number: u64,
    /// The first snapshot that counts.
    pub below: u64,
    /// Those below that count nevertheless.
    pub kept: BTreeSet<u64>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Snapshots.
    pub snapshots: Vec<u64>,
    /// How many packs.
    pub packs: u64,
}

impl Boundary {
    /// The boundary that holds now.
    ///
    /// # Errors
    /// Why it cannot be read; then nobody knows what counts.
    pub fn newest(instance: &Instance) -> Result<Option<Boundary>, Error> {
        let folder = Folder::Boundaries.of(instance.name());
        for _ in 0..READS_MAX {
            let Some(name) = instance.store().list(&folder)?.pop() else { return Ok(None) };
            match instance.store().get(&name) {
                Err(StoreError::NotFound { .. }) => {}
                found => return Boundary::decode(&name, &found?).map(Some),
            }
        }
        Err(Error::Damaged { name: folder, reason: "its objects are listed, but are not there".to_string() })
    }

    /// Reads a boundary; `name` is for errors.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Newer`].
    pub fn decode(name: &str, content: &[u8]) -> Result<Boundary, Error> {
        open_record(name, MAGIC, FORMAT, content)
    }

    /// Whether a snapshot counts, savepoints apart.
    pub fn spares(&self, sequence: u64) -> bool {
        sequence >= self.below || self.kept.contains(&sequence)
    }
}

impl Instance {
    /// Removes all but the `keep` newest snapshots, those that are kept otherwise, and what they need. At least one is
    /// kept. When another collection is under way nothing is done.
    ///
    /// # Errors
    /// Why a snapshot that is to be kept cannot be read: then nothing is removed, for nobody knows what it needs; the
    /// store's.
    pub fn collect(&self, keep: usize) -> Result<Collected, Error> {
        let Some(boundary) = self.draw_boundary(keep)? else { return Ok(Collected::default()) };
        // Marks written after this one was drawn have seen it; those written before are seen now.
        let pinned = self.pinned()?;
        let (alive, dead): (Vec<u64>, Vec<u64>) =
            self.listed()?.into_iter().partition(|sequence| boundary.spares(*sequence) || pinned.contains(sequence));
        let Some(head) = alive.last().copied() else { return Ok(Collected::default()) };
        let Some(needed) = self.needed(&alive)? else { return Ok(Collected::default()) };
        for sequence in &dead {
            self.store().delete(&layout::manifest(self.name(), *sequence))?;
        }
        let garbage = |name: &String| !needed.contains(name) && layout::number(name).is_some_and(|of| of <= head);
        let packs = self.remove(Folder::Packs, garbage)?;
        self.remove(Folder::Boundaries, |name| layout::number(name).is_some_and(|number| number < boundary.number))?;
        self.remove(Folder::Holds, |name| layout::number(name).is_some_and(|until| until <= head))?;
        Ok(Collected { snapshots: dead, packs })
    }

    /// The boundary that is to hold, made durable if it is new; none when there is nothing to collect, or another was
    /// drawn at the same time.
    fn draw_boundary(&self, keep: usize) -> Result<Option<Boundary>, Error> {
        let old = Boundary::newest(self)?;
        let old = old.unwrap_or(Boundary { number: 0, below: 0, kept: BTreeSet::new() });
        let sequences = self.sequences()?;
        let newest: Vec<u64> =
            sequences.iter().rev().copied().filter(|one| *one >= old.below).take(keep.max(1)).collect();
        let Some(below) = newest.last().copied() else { return Ok(None) };
        let pinned = self.pinned()?;
        let kept = |sequence: &u64| *sequence < below && old.spares(*sequence) && pinned.contains(sequence);
        let kept: BTreeSet<u64> = sequences.iter().copied().filter(kept).collect();
        // Before anything is given up: if one of these is damaged, what it would be replaced by must stay.
        if self.needed(newest.iter().chain(&kept))?.is_none() {
            return Ok(None);
        }
        if below == old.below && kept == old.kept {
            return Ok(Some(old));
        }
        let boundary = Boundary { number: old.number + 1, below, kept };
        let name = layout::boundary(self.name(), boundary.number);
        match self.store().put_new(&name, seal_record(MAGIC, FORMAT, &boundary)) {
            Err(StoreError::Exists { .. }) => return Ok(None),
            put => put?,
        }
        // Its number may have been free only because it was used and collected.
        let newest = Boundary::newest(self)?;
        Ok(newest.filter(|newest| *newest == boundary))
    }

    /// The packs that snapshots need; none when one of them was collected meanwhile.
    fn needed<'a>(&self, sequences: impl IntoIterator<Item = &'a u64>) -> Result<Option<HashSet<String>>, Error> {
        let mut needed = HashSet::new();
        for sequence in sequences {
            match self.read(*sequence) {
                Err(Error::Store(StoreError::NotFound { .. })) => return Ok(None),
                read => needed.extend(read?.packs.iter().map(|pack| pack.name.clone())),
            }
        }
        Ok(Some(needed))
    }

    fn remove(&self, folder: Folder, garbage: impl Fn(&String) -> bool) -> Result<u64, Error> {
        let mut removed = 0;
        for name in self.store().list(&folder.of(self.name()))?.into_iter().filter(|name| garbage(name)) {
            self.store().delete(&name)?;
            removed += 1;
        }
        Ok(removed)
    }
}

//! The rules of submitting: what becomes of a change that rests on some versions when the head is perhaps another.
//!
//! | the submit | what happens |
//! |---|---|
//! | is of an epoch that is over | [`Conflict::Fenced`] |
//! | rests on an unknown version | it waits for it; [`Conflict::Unreachable`] when it does not come |
//! | rests on a version that was rolled back or is no longer kept | [`Conflict::Unreachable`] |
//! | rests on the head | it becomes the head |
//! | rests on what the head rests on, and changes other keys | merged |
//! | changes the same keys, in columns that declare how | merged, value by value |
//! | changes the same keys otherwise | [`Conflict::Overlap`] |
//! | rests on an older version | merged likewise if it asks for it, else [`Conflict::Stale`] |
//!
//! What a submit rests on is taken without what the rest of it rests on, so `{head, older}` is the head. Of several
//! versions that do not rest on each other there must be a merge; its content is what the submit was made on.
//!
//! A merge makes two checkpoints: the commit, beside the line of heads, and the head that rests on it and on the old head.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;
use tidemill_base::Timestamp;
use tidemill_base::planted::{self, Bug};

use crate::digest::{self, Sum};
use crate::merge::{self, Refused};
use crate::table::{
    Change, Checkpoint, Conflict, Edit, Key, Kind, Overlap, Past, Record, Row, Standing, Table, TableError, Written,
    edit_trie,
};
use crate::trie::Trie;
use crate::{Error, Replica, Version};

/// A change that someone asks for.
#[derive(Debug, Clone, Default)]
pub struct Submit {
    /// Its version; none to be given one. Sent again with the same version, the same change is answered as the first time.
    pub version: Option<Version>,
    /// The versions that it was made on; none for the empty table.
    pub deps: Vec<Version>,
    /// The epoch of who asks.
    pub epoch: u64,
    /// What is to be changed, each key once.
    pub changes: Vec<Change>,
    /// Whether it shall be merged when it rests on an older version.
    pub merge: bool,
    /// Who asks for it.
    pub author: String,
    /// Why.
    pub message: String,
}

/// A return to an older version's content, as a new version.
#[derive(Debug, Clone, Default)]
pub struct Rollback {
    /// The version whose content shall come back.
    pub target: Version,
    /// What the head must be; none for whatever it is.
    pub head: Option<Version>,
    /// The epoch of who asks.
    pub epoch: u64,
    /// Who asks for it.
    pub author: String,
    /// Why.
    pub message: String,
}

/// Who decides, and when: what a new version is made of.
#[derive(Debug, Clone, Copy)]
pub struct By {
    /// Who counts.
    pub replica: Replica,
    /// The time that the checkpoint says.
    pub now: Timestamp,
}

/// What a submit became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Its version.
    pub version: Version,
    /// The head that it made, or was merged into.
    pub head: Version,
    /// The root of the head.
    pub root: Sum,
    /// Whether it was merged.
    pub merged: bool,
}

/// What the rules say to a submit, unless they refuse it.
#[derive(Debug)]
pub enum Verdict {
    /// It is accepted once this record is written down and applied.
    Write(Accepted, Record),
    /// It was accepted before.
    Again(Accepted),
    /// It rests on versions that nobody knows yet.
    Missing(Vec<Version>),
}

impl Table {
    /// Judges a submit against the head.
    ///
    /// # Errors
    /// [`Conflict`], what is wrong with the submit itself, or what [`Past`] says.
    pub fn judge(&self, submit: &Submit, by: By, past: &dyn Past) -> Result<Verdict, Error> {
        self.check_epoch(submit.epoch)?;
        self.check_changes(&submit.changes)?;
        let asked = sorted(&submit.deps);
        let digest = digest_of(&asked, &submit.changes);
        if let Some(known) = submit.version.and_then(|version| self.history().get(version)) {
            return Ok(Verdict::Again(self.again(known, digest)?));
        }
        let standing = |wanted| asked.iter().copied().filter(move |&dep| self.history().standing(dep) == wanted);
        let missing: Vec<Version> = standing(Standing::Unknown).collect();
        if !missing.is_empty() {
            return Ok(Verdict::Missing(missing));
        }
        let (rolled_back, pruned) = (standing(Standing::RolledBack).collect(), standing(Standing::Pruned).collect());
        let unreachable = Conflict::Unreachable { missing, rolled_back, pruned };
        if asked.iter().any(|&dep| self.history().standing(dep) != Standing::Live) {
            return Err(conflict(unreachable));
        }
        let version = self.version_of(submit, &asked, by)?;
        let deps = self.history().maximal(&asked);
        let head = self.history().head();
        let draft = Draft { table: self, submit, by, version, deps: &deps, digest };
        if deps == [head.version] {
            return Ok(draft.append());
        }
        let base = match deps.as_slice() {
            [base] => Some(*base),
            several => self.history().merge_of(several),
        };
        match base.and_then(|base| self.history().get(base)) {
            Some(base) if deps == head.deps || submit.merge => draft.merge(base, past),
            _ => Err(conflict(Conflict::Stale { deps: asked, head: head.version })),
        }
    }

    /// The record that returns to an older version.
    ///
    /// # Errors
    /// [`Conflict`], [`TableError::NoVersion`], [`TableError::Pruned`], or what [`Past`] says.
    pub fn roll_back(&self, rollback: &Rollback, by: By, past: &dyn Past) -> Result<(Accepted, Record), Error> {
        self.check_epoch(rollback.epoch)?;
        let head = self.history().head();
        if let Some(wanted) = rollback.head.filter(|&wanted| wanted != head.version) {
            return Err(conflict(Conflict::Stale { deps: vec![wanted], head: head.version }));
        }
        let target = self.checkpoint(rollback.target)?;
        let edits: Vec<Edit> = self
            .diff(head.version, target.version, past)?
            .into_iter()
            .map(|difference| Edit { key: difference.key, before: difference.before, after: difference.after })
            .collect();
        let version = Version::new(self.history().next_lamport(), by.replica);
        let checkpoint = Checkpoint {
            version,
            deps: sorted(&[head.version, target.version]),
            kind: Kind::Rollback { target: target.version },
            parent: head.version,
            root: target.root,
            digest: Sum::ZERO,
            rows: target.rows,
            puts: edits.iter().filter(|edit| edit.after.is_some()).count() as u64,
            deletes: edits.iter().filter(|edit| edit.after.is_none()).count() as u64,
            author: rollback.author.clone(),
            message: rollback.message.clone(),
            time: by.now.0,
            sequence: 0,
        };
        let accepted = Accepted { version, head: version, root: target.root, merged: false };
        let epoch = rollback.epoch.max(self.epoch());
        Ok((accepted, Record::Commit { epoch, written: vec![Written { checkpoint, edits: edits.into() }] }))
    }

    /// Whether an epoch is not over.
    ///
    /// # Errors
    /// [`Conflict::Fenced`].
    pub fn check_epoch(&self, epoch: u64) -> Result<(), Error> {
        if epoch < self.epoch() && !planted::is(Bug::IgnoreEpoch) {
            return Err(conflict(Conflict::Fenced { epoch, current: self.epoch() }));
        }
        Ok(())
    }

    fn check_changes(&self, changes: &[Change]) -> Result<(), Error> {
        let mut seen = HashSet::with_capacity(changes.len());
        for change in changes {
            if let Change::Put(row) = change {
                self.schema().values(row)?;
            }
            let key = change.key();
            let json = self.schema().key_to_json(&key)?;
            if !seen.insert(key) {
                return Err(TableError::DuplicateKey { key: text(json) }.into());
            }
        }
        Ok(())
    }

    /// The answer to a submit whose version is known.
    fn again(&self, known: &Checkpoint, digest: Sum) -> Result<Accepted, TableError> {
        if known.kind != Kind::Commit || known.digest != digest {
            return Err(TableError::VersionTaken { version: known.version });
        }
        let merges = |other: &&Checkpoint| other.sequence == known.sequence && other.kind == Kind::Merge;
        let head = self.history().newest_first().into_iter().find(merges).unwrap_or(known);
        let merged = head.kind == Kind::Merge;
        Ok(Accepted { version: known.version, head: head.version, root: head.root, merged })
    }

    fn version_of(&self, submit: &Submit, deps: &[Version], by: By) -> Result<Version, TableError> {
        let Some(version) = submit.version else {
            return Ok(Version::new(self.history().next_lamport(), by.replica));
        };
        let latest = deps.iter().copied().chain(self.history().pruned()).max().unwrap_or(Version::GENESIS);
        if version.lamport <= latest.lamport {
            return Err(TableError::VersionTooEarly { version, than: latest });
        }
        Ok(version)
    }
}

/// A submit that is about to become a record.
struct Draft<'a> {
    table: &'a Table,
    submit: &'a Submit,
    by: By,
    version: Version,
    deps: &'a [Version],
    digest: Sum,
}

impl Draft<'_> {
    fn append(&self) -> Verdict {
        let (head, mut trie) = (self.table.history().head(), self.table.trie().clone());
        let edits: Vec<Edit> = self.edits(|key| self.table.head().get(key).cloned());
        let commit = self.commit(head, &mut trie, edits);
        let (version, root) = (self.version, commit.checkpoint.root);
        let accepted = Accepted { version, head: version, root, merged: false };
        Verdict::Write(accepted, self.record(vec![commit]))
    }

    fn merge(&self, base: &Checkpoint, past: &dyn Past) -> Result<Verdict, Error> {
        let head = self.table.history().head();
        let theirs = self.table.history().changes(base.version, head.version, past)?;
        let at_head = |key: &Key| self.table.head().get(key).cloned();
        let at_base = |key: &Key| theirs.get(key).map_or_else(|| at_head(key), |change| change.before.clone());
        let ours = self.edits(at_base);
        let merged = self.resolve(&ours, base.version, past)?;

        let mut trie = self.table.trie().clone();
        for (key, change) in &theirs {
            edit_trie(&mut trie, key, change.after.as_ref(), change.before.as_ref());
        }
        let commit = self.commit(base, &mut trie, ours);

        let edits: Vec<Edit> =
            merged.into_iter().map(|(key, after)| Edit { before: at_head(&key), key, after }).collect();
        let lamport = self.table.history().next_lamport().max(self.version.lamport + 1);
        let mut checkpoint = Checkpoint {
            version: Version::new(lamport, self.by.replica),
            deps: sorted(&[head.version, self.version]),
            kind: Kind::Merge,
            parent: head.version,
            digest: Sum::ZERO,
            message: format!("merge {} into {}", self.version, head.version),
            ..commit.checkpoint.clone()
        };
        count(&mut checkpoint, head.rows, &edits);
        checkpoint.root = rooted(&mut self.table.trie().clone(), &edits);
        let accepted =
            Accepted { version: self.version, head: checkpoint.version, root: checkpoint.root, merged: true };
        let merge = Written { checkpoint, edits: edits.into() };
        Ok(Verdict::Write(accepted, self.record(vec![commit, merge])))
    }

    /// What becomes of each changed key at the head.
    fn resolve(&self, ours: &[Edit], base: Version, past: &dyn Past) -> Result<Vec<(Key, Option<Row>)>, Error> {
        let (schema, head) = (self.table.schema(), self.table.head());
        let written = self.table.history().written_since(base, past)?;
        let (mut merged, mut refused) = (Vec::with_capacity(ours.len()), Vec::new());
        for edit in ours {
            let theirs = head.get(&edit.key);
            let both = written.contains(&edit.key) || theirs != edit.before.as_ref();
            if !both || planted::is(Bug::MergeOverlap) {
                merged.push((edit.key.clone(), edit.after.clone()));
                continue;
            }
            match merge::rows(schema, edit.before.as_ref(), edit.after.as_ref(), theirs)? {
                Ok(row) => merged.push((edit.key.clone(), row)),
                Err(Refused::Overlap) => refused.push(edit),
                Err(Refused::Overflow { column, merge }) => {
                    return Err(TableError::MergeOverflow {
                        key: text(schema.key_to_json(&edit.key)?),
                        column: column.name,
                        merge: merge.to_string(),
                        expected: column.kind.to_string(),
                    }
                    .into());
                }
            }
        }
        if refused.is_empty() { Ok(merged) } else { Err(self.overlap(refused, base)?) }
    }

    fn overlap(&self, mut refused: Vec<&Edit>, base: Version) -> Result<Error, TableError> {
        let (schema, head) = (self.table.schema(), self.table.head());
        let json = |row: Option<&Row>| row.map(|row| schema.row_to_json(row)).transpose();
        refused.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let count = refused.len();
        let named = refused.into_iter().take(Conflict::KEYS_MAX).map(|edit| {
            Ok(Overlap {
                key: schema.key_to_json(&edit.key)?,
                base: json(edit.before.as_ref())?,
                head: json(head.get(&edit.key))?,
                submitted: json(edit.after.as_ref())?,
            })
        });
        let keys = named.collect::<Result<_, TableError>>()?;
        Ok(conflict(Conflict::Overlap { keys, count, base, head: head.version(), version: self.version }))
    }

    fn edits(&self, before: impl Fn(&Key) -> Option<Row>) -> Vec<Edit> {
        let edit = |change: &Change| {
            let key = change.key();
            Edit { before: before(&key), after: change.row().cloned(), key }
        };
        self.submit.changes.iter().map(edit).collect()
    }

    /// The checkpoint of the submit itself, on what it was made on; `trie` is that one's.
    fn commit(&self, base: &Checkpoint, trie: &mut Trie, edits: Vec<Edit>) -> Written {
        let mut checkpoint = Checkpoint {
            version: self.version,
            deps: self.deps.to_vec(),
            kind: Kind::Commit,
            parent: base.version,
            root: rooted(trie, &edits),
            digest: self.digest,
            rows: 0,
            puts: 0,
            deletes: 0,
            author: self.submit.author.clone(),
            message: self.submit.message.clone(),
            time: self.by.now.0,
            sequence: 0,
        };
        count(&mut checkpoint, base.rows, &edits);
        Written { checkpoint, edits: edits.into() }
    }

    fn record(&self, written: Vec<Written>) -> Record {
        // An epoch that is over never comes back, even where it was let through.
        Record::Commit { epoch: self.submit.epoch.max(self.table.epoch()), written }
    }
}

fn count(checkpoint: &mut Checkpoint, before: u64, edits: &[Edit]) {
    let of = |what: fn(&Edit) -> bool| edits.iter().filter(|edit| what(edit)).count() as u64;
    checkpoint.puts = of(|edit| edit.after.is_some());
    checkpoint.deletes = of(|edit| edit.after.is_none());
    let (came, went) = (
        of(|edit| edit.before.is_none() && edit.after.is_some()),
        of(|edit| edit.before.is_some() && edit.after.is_none()),
    );
    checkpoint.rows = (before + came).saturating_sub(went);
}

fn rooted(trie: &mut Trie, edits: &[Edit]) -> Sum {
    for edit in edits {
        edit_trie(trie, &edit.key, edit.before.as_ref(), edit.after.as_ref());
    }
    trie.root()
}

fn conflict(conflict: Conflict) -> Error {
    Error::Table(TableError::Conflict(conflict))
}

/// Versions in order, each once; genesis when there are none.
fn sorted(versions: &[Version]) -> Vec<Version> {
    let mut sorted: BTreeSet<Version> = versions.iter().copied().collect();
    if sorted.is_empty() {
        sorted.insert(Version::GENESIS);
    }
    sorted.into_iter().collect()
}

/// By what a submit is known again: what it rests on and what it changes, in any order.
fn digest_of(deps: &[Version], changes: &[Change]) -> Sum {
    let deps = deps.iter().map(|dep| digest::entry_of(1, &dep.to_bytes()));
    let changes = changes.iter().map(|change| match change {
        Change::Put(row) => digest::entry_of(2, row.bytes()),
        Change::Delete(key) => digest::entry_of(3, key.bytes()),
    });
    deps.chain(changes).sum()
}

fn text(json: serde_json::Map<String, serde_json::Value>) -> String {
    serde_json::Value::Object(json).to_string()
}

#[cfg(test)]
mod tests;

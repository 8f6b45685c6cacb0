//! The history of a table against plain maps: what each version must hold, told by what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tidemill_base::Timestamp;
use tidemill_state::Version;
use tidemill_state::digest::Sum;
use tidemill_state::submit::{Accepted, Submit};
use tidemill_state::table::{Answer, Checkpoint, Kind, Snapshot, Standing, TableStore, Value};

use super::{Desk, TABLE, Told, Writer, lock, replica};
use crate::scenario::{Violation, promise};
use crate::storage::SimStorage;

/// The rows of a version.
type Content = BTreeMap<i64, i64>;

/// Judges what the store holds by now, as somebody sees it for whom nothing fails.
pub(super) fn judge(desk: &Desk) -> Result<TableStore, Violation> {
    let view = desk.store.of(SimStorage::new(desk.world.clone(), 0));
    let opened = TableStore::open(Arc::new(view), TABLE, replica(99, 1));
    let table = opened.map_err(|error| format!("the table cannot be opened: {error}"))?;
    let mut checkpoints: Vec<Checkpoint> = table.log(usize::MAX);
    checkpoints.sort_by_key(|checkpoint| (checkpoint.sequence, checkpoint.kind == Kind::Merge));
    let (told, mut model) = (lock(&desk.told), lock(&desk.model));
    for checkpoint in &checkpoints {
        let (version, kind) = (checkpoint.version, checkpoint.kind);
        let found = table.at(version).map_err(|error| format!("version {version} cannot be read: {error}"))?;
        let found = content(&found)?;
        if checkpoint.sequence > model.sequence {
            model.take(checkpoint, &told, &found)?;
        }
        let expected = model.contents.get(&version).ok_or_else(|| format!("{version} was not there before"))?;
        promise!(found == *expected, "{kind:?} {version} holds {found:?}, not {expected:?}");
        promise!(checkpoint.rows == expected.len() as u64, "{version} says it has {} rows", checkpoint.rows);
    }
    let head = table.table().head().clone();
    promise!(model.head == head.version(), "the head is {}, not {}", head.version(), model.head);
    model.sequence = table.table().sequence();
    desk.world.note(format_args!("{} versions, the head is {} {}", checkpoints.len(), head.version(), head.root()));
    Ok(table)
}

/// Judges the end: all answers that were given, and what all writers see.
pub(super) fn end(desk: &Desk, writers: &[Arc<Mutex<Writer>>]) -> Result<(), Violation> {
    let mut table = judge(desk)?;
    let head = table.table().head().clone();
    lock(&desk.model).check_answers(&table, &lock(&desk.told))?;
    for writer in writers {
        let writer = lock(writer);
        let theirs = writer.table.as_ref().map(|table| (table.table().head().version(), table.table().head().root()));
        promise!(theirs == Some((head.version(), head.root())), "writer {} sees another head", writer.node);
    }
    let epoch = table.table().epoch();
    let last = lock(&desk.model).contents[&head.version()].clone();
    goes_on(desk, &mut table, head.version(), epoch, last)
}

/// In peace a submit on the head becomes the head.
fn goes_on(
    desk: &Desk,
    table: &mut TableStore,
    head: Version,
    epoch: u64,
    mut expected: Content,
) -> Result<(), Violation> {
    let changes = vec![desk.change(0, Some(7))];
    let submit = Submit { deps: vec![head], epoch, changes, ..Submit::default() };
    match table.submit(submit, Timestamp(0)) {
        Ok(Answer::Accepted(accepted)) => promise!(!accepted.merged, "a submit on the head is merged"),
        other => return Err(format!("a submit on the head is not accepted: {other:?}")),
    }
    expected.insert(0, 7);
    let found = content(table.table().head())?;
    promise!(found == expected, "the head holds {found:?}, not {expected:?}");
    Ok(())
}

fn content(snapshot: &Snapshot) -> Result<Content, Violation> {
    let mut content = Content::new();
    for row in snapshot.rows().iter() {
        match snapshot.schema().values(row).as_deref() {
            Ok([Value::Integer(key), Value::Integer(value)]) => drop(content.insert(*key, *value)),
            other => return Err(format!("a row is {other:?}")),
        }
    }
    Ok(content)
}

/// What the versions must hold, from the first on.
pub(super) struct Model {
    sums: bool,
    contents: BTreeMap<Version, Content>,
    /// The versions whose content went into each.
    deps: BTreeMap<Version, Vec<Version>>,
    /// Which submit a commit was, and the root of each head.
    commits: BTreeMap<Version, usize>,
    roots: BTreeMap<Version, Sum>,
    head: Version,
    /// The commit that waits to be merged by the same record.
    beside: Option<(Checkpoint, usize)>,
    seen: BTreeSet<usize>,
    /// The last record that was judged.
    sequence: u64,
    /// Whether somebody has asked for versions to be forgotten.
    pub(super) pruned: bool,
}

impl Model {
    pub(super) fn new(sums: bool) -> Self {
        Model {
            sums,
            contents: BTreeMap::from([(Version::GENESIS, Content::new())]),
            deps: BTreeMap::new(),
            commits: BTreeMap::new(),
            roots: BTreeMap::new(),
            head: Version::GENESIS,
            beside: None,
            seen: BTreeSet::new(),
            sequence: 0,
            pruned: false,
        }
    }

    fn take(&mut self, checkpoint: &Checkpoint, told: &Told, found: &Content) -> Result<(), Violation> {
        let version = checkpoint.version;
        promise!(self.contents.contains_key(&checkpoint.parent), "{version} leads on from what is not there");
        match checkpoint.kind {
            Kind::Genesis => return Ok(()),
            Kind::Commit => self.commit(checkpoint, told)?,
            // Its commit rested on what was forgotten before anybody looked, and was forgotten with it.
            Kind::Merge if self.beside.is_none() && self.pruned => {
                promise!(checkpoint.deps.contains(&self.head), "merge {version} does not follow the head");
                self.contents.insert(version, found.clone());
                self.head = version;
            }
            Kind::Merge => self.merge(checkpoint, told)?,
            Kind::Rollback { target } => {
                promise!(checkpoint.parent == self.head, "rollback {version} does not follow the head");
                // The target may have been forgotten before anybody looked.
                let unseen = self.pruned.then_some(found);
                let content = self.contents.get(&target).or(unseen).cloned();
                self.contents.insert(version, content.ok_or_else(|| format!("{version} goes back to nowhere"))?);
                self.head = version;
            }
        }
        self.deps.insert(version, checkpoint.content_deps().to_vec());
        self.roots.insert(version, checkpoint.root);
        Ok(())
    }

    fn commit(&mut self, checkpoint: &Checkpoint, told: &Told) -> Result<(), Violation> {
        let version = checkpoint.version;
        let index: usize = checkpoint.message.parse().map_err(|_| format!("nobody asked for {version}"))?;
        promise!(self.seen.insert(index), "submit {index} is there twice");
        self.commits.insert(version, index);
        let (changes, epoch) = told.asked.get(index).ok_or_else(|| format!("nobody asked for {version}"))?;
        for (begun, sequence) in &told.fences {
            let late = checkpoint.sequence > *sequence && epoch < begun;
            promise!(!late, "submit {index} is written under epoch {epoch}, after {begun} had begun");
        }
        let live = self.live();
        for dep in &checkpoint.deps {
            promise!(live.contains(dep), "submit {index} rests on {dep}, which is not part of {}", self.head);
        }
        let mut content = self.contents[&checkpoint.parent].clone();
        for (key, value) in changes {
            match value {
                Some(value) => content.insert(*key, *value),
                None => content.remove(key),
            };
        }
        self.contents.insert(version, content);
        if checkpoint.parent == self.head && checkpoint.deps == [self.head] {
            self.head = version;
        } else {
            self.beside = Some((checkpoint.clone(), index));
        }
        Ok(())
    }

    fn merge(&mut self, checkpoint: &Checkpoint, told: &Told) -> Result<(), Violation> {
        let version = checkpoint.version;
        let (commit, index) = self.beside.take().ok_or_else(|| format!("{version} merges nothing"))?;
        promise!(commit.sequence == checkpoint.sequence, "{version} merges a commit of another record");
        let rests: BTreeSet<Version> = checkpoint.deps.iter().copied().collect();
        promise!(rests == BTreeSet::from([self.head, commit.version]), "{version} rests on {rests:?}");
        let base = &self.contents[&commit.parent];
        let mut content = self.contents[&self.head].clone();
        for (key, ours) in &told.asked[index].0 {
            let (before, theirs) = (base.get(key).copied(), content.get(key).copied());
            let merged = match (*ours, theirs) {
                (ours, theirs) if theirs == before => ours,
                (None, None) if self.sums => None,
                (Some(ours), Some(theirs)) if self.sums => Some(theirs + ours - before.unwrap_or(0)),
                _ => return Err(format!("{version} merges key {key}, which both sides changed")),
            };
            match merged {
                Some(value) => content.insert(*key, value),
                None => content.remove(key),
            };
        }
        self.contents.insert(version, content);
        self.head = version;
        Ok(())
    }

    /// The versions whose content went into the head.
    fn live(&self) -> BTreeSet<Version> {
        let mut live = BTreeSet::from([Version::GENESIS]);
        let mut next = vec![self.head];
        while let Some(version) = next.pop() {
            if live.insert(version) {
                next.extend(self.deps.get(&version).into_iter().flatten());
            }
        }
        live
    }

    /// Every answer that was given is so, and is still known or was forgotten on purpose.
    fn check_answers(&self, table: &TableStore, told: &Told) -> Result<(), Violation> {
        for (index, accepted) in &told.accepted {
            let Accepted { version, head, root, merged } = *accepted;
            let standing = table.table().history().standing(version);
            promise!(standing != Standing::Unknown, "submit {index} was accepted as {version}, which nobody knows");
            let forgotten = standing == Standing::Pruned && !self.commits.contains_key(&version);
            let right = forgotten || self.commits.get(&version) == Some(index);
            let right = right && self.roots.get(&head) == Some(&root) && (version != head) == merged;
            promise!(right, "submit {index} was answered {accepted:?}, which is not so");
        }
        Ok(())
    }
}

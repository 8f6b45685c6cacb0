//! The history of a table against plain maps: what each version must hold, told by what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tidemill_base::Timestamp;
use tidemill_state::Version;
use tidemill_state::submit::Submit;
use tidemill_state::table::{Answer, Checkpoint, Kind, Snapshot, TableStore, Value};

use super::{Desk, TABLE, Told, Writer, lock, replica};
use crate::scenario::{Violation, promise};
use crate::storage::SimStorage;

/// The rows of a version.
type Content = BTreeMap<i64, i64>;

/// Judges what is in the store at the end, with nothing failing.
pub(super) fn judge(desk: &Desk, writers: &[Arc<Mutex<Writer>>]) -> Result<(), Violation> {
    let view = desk.store.of(SimStorage::new(desk.world.clone(), 0));
    let opened = TableStore::open(Arc::new(view), TABLE, replica(99, 1));
    let mut table = opened.map_err(|error| format!("the table cannot be opened: {error}"))?;
    let told = lock(&desk.told);
    let mut model = Model { told: &told, sums: desk.sums, ..Model::new(&told) };
    let mut checkpoints: Vec<Checkpoint> = table.log(usize::MAX);
    checkpoints.sort_by_key(|checkpoint| (checkpoint.sequence, checkpoint.kind == Kind::Merge));
    for checkpoint in &checkpoints {
        model.take(checkpoint)?;
        let (version, kind) = (checkpoint.version, checkpoint.kind);
        let found = table.at(version).map_err(|error| format!("version {version} cannot be read: {error}"))?;
        let (found, expected) = (content(&found)?, &model.contents[&version]);
        promise!(found == *expected, "{kind:?} {version} holds {found:?}, not {expected:?}");
        promise!(checkpoint.rows == expected.len() as u64, "{version} says it has {} rows", checkpoint.rows);
    }
    let head = table.table().head().clone();
    promise!(model.head == head.version(), "the head is {}, not {}", head.version(), model.head);
    model.check_answers(&table)?;
    for writer in writers {
        let writer = lock(writer);
        let theirs = writer.table.as_ref().map(|table| (table.table().head().version(), table.table().head().root()));
        promise!(theirs == Some((head.version(), head.root())), "writer {} sees another head", writer.node);
    }
    desk.world.note(format_args!("{} versions, the head is {} {}", checkpoints.len(), head.version(), head.root()));
    let epoch = table.table().epoch();
    let (version, last) = (head.version(), model.contents[&head.version()].clone());
    drop(told);
    goes_on(desk, &mut table, version, epoch, last)
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
struct Model<'a> {
    told: &'a Told,
    sums: bool,
    contents: BTreeMap<Version, Content>,
    /// The versions whose content went into each.
    deps: BTreeMap<Version, Vec<Version>>,
    head: Version,
    /// The commit that waits to be merged by the same record.
    beside: Option<(Checkpoint, usize)>,
    seen: BTreeSet<usize>,
}

impl<'a> Model<'a> {
    fn new(told: &'a Told) -> Self {
        Model {
            told,
            sums: false,
            contents: BTreeMap::from([(Version::GENESIS, Content::new())]),
            deps: BTreeMap::new(),
            head: Version::GENESIS,
            beside: None,
            seen: BTreeSet::new(),
        }
    }

    fn take(&mut self, checkpoint: &Checkpoint) -> Result<(), Violation> {
        let version = checkpoint.version;
        promise!(self.contents.contains_key(&checkpoint.parent), "{version} leads on from what is not there");
        match checkpoint.kind {
            Kind::Genesis => return Ok(()),
            Kind::Commit => self.commit(checkpoint)?,
            Kind::Merge => self.merge(checkpoint)?,
            Kind::Rollback { target } => {
                promise!(checkpoint.parent == self.head, "rollback {version} does not follow the head");
                let content = self.contents.get(&target).cloned();
                self.contents.insert(version, content.ok_or_else(|| format!("{version} goes back to nowhere"))?);
                self.head = version;
            }
        }
        self.deps.insert(version, checkpoint.content_deps().to_vec());
        Ok(())
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<(), Violation> {
        let (version, told) = (checkpoint.version, self.told);
        let index: usize = checkpoint.message.parse().map_err(|_| format!("nobody asked for {version}"))?;
        promise!(self.seen.insert(index), "submit {index} is there twice");
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

    fn merge(&mut self, checkpoint: &Checkpoint) -> Result<(), Violation> {
        let (version, told) = (checkpoint.version, self.told);
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

    /// Every answer that was given is so.
    fn check_answers(&self, table: &TableStore) -> Result<(), Violation> {
        for (index, accepted) in &self.told.accepted {
            let get = |version| table.table().history().get(version);
            let (commit, head) = (get(accepted.version), get(accepted.head));
            let (Some(commit), Some(head)) = (commit, head) else {
                return Err(format!("submit {index} was accepted as {}, which is not there", accepted.version));
            };
            let same = commit.message == index.to_string() && commit.sequence == head.sequence;
            promise!(same && head.root == accepted.root, "submit {index} was answered {accepted:?}, but is {commit:?}");
            promise!((accepted.version != accepted.head) == accepted.merged, "submit {index}: {accepted:?}");
        }
        Ok(())
    }
}

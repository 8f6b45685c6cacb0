//! The checkpoints of a table, and how they hang together.
//!
//! Checkpoints form a graph by what they rest on. The log puts the heads there ever were on a *line*, each of which
//! leads on from the one before by its edits; a commit that was merged stands *beside* the line and leads on from the
//! version it was made on, on the line or beside it. So between any two versions there is one path of edits.
//!
//! *Live* is what the head's content came from: the head, and what its live checkpoints rest on. What is known and not
//! live was rolled back.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::checkpoint::{Checkpoint, Edit, Kind, Past};
use super::schema::{Key, Row};
use crate::{Error, Version};

/// The checkpoints of a table.
#[derive(Debug, Clone)]
pub struct History {
    nodes: HashMap<Version, Node>,
    /// Versions of the line, oldest first.
    line: Vec<Version>,
    live: HashSet<Version>,
    /// The latest version that is no longer kept; none when all are.
    pruned: Option<Version>,
    /// The latest Lamport time there ever was.
    lamport: u64,
}

#[derive(Debug, Clone)]
struct Node {
    checkpoint: Checkpoint,
    /// Its index on the line, when it is there.
    place: Option<usize>,
}

/// What a version is to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The head's content rests on it.
    Live,
    /// It is known, and was rolled back.
    RolledBack,
    /// It may have been known, and is no longer kept.
    Pruned,
    /// Nobody has heard of it.
    Unknown,
}

/// How a key changed on the way from one version to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row at the first version.
    pub before: Option<Row>,
    /// The row at the second one.
    pub after: Option<Row>,
}

impl History {
    /// A history of one checkpoint on the line.
    pub fn new(first: Checkpoint) -> Self {
        let mut history =
            History { nodes: HashMap::new(), line: Vec::new(), live: HashSet::new(), pruned: None, lamport: 0 };
        history.push(first);
        history
    }

    /// The head.
    pub fn head(&self) -> &Checkpoint {
        &self.nodes[&self.line[self.line.len() - 1]].checkpoint
    }

    /// The oldest version of the line.
    pub fn oldest(&self) -> Version {
        self.line[0]
    }

    /// The latest version that is no longer kept; none when all are.
    pub fn pruned(&self) -> Option<Version> {
        self.pruned
    }

    /// A Lamport time that is later than every other one.
    pub fn next_lamport(&self) -> u64 {
        self.lamport + 1
    }

    /// A checkpoint.
    pub fn get(&self, version: Version) -> Option<&Checkpoint> {
        self.nodes.get(&version).map(|node| &node.checkpoint)
    }

    /// The number of checkpoints.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// What a version is to the head.
    pub fn standing(&self, version: Version) -> Standing {
        if self.live.contains(&version) {
            Standing::Live
        } else if self.nodes.contains_key(&version) {
            Standing::RolledBack
        } else if self.pruned.is_some_and(|pruned| version.lamport <= pruned.lamport) {
            Standing::Pruned
        } else {
            Standing::Unknown
        }
    }

    /// All checkpoints, newest record first; a merge before the commit it merged.
    pub fn newest_first(&self) -> Vec<&Checkpoint> {
        let mut all: Vec<&Node> = self.nodes.values().collect();
        all.sort_unstable_by_key(|node| {
            let checkpoint = &node.checkpoint;
            std::cmp::Reverse((checkpoint.sequence, node.place.is_some(), checkpoint.version))
        });
        all.into_iter().map(|node| &node.checkpoint).collect()
    }

    /// Makes a checkpoint the head.
    pub fn push(&mut self, checkpoint: Checkpoint) {
        self.lamport = self.lamport.max(checkpoint.version.lamport);
        let version = checkpoint.version;
        let rolled_back = matches!(checkpoint.kind, Kind::Rollback { .. });
        self.nodes.insert(version, Node { checkpoint, place: Some(self.line.len()) });
        self.line.push(version);
        if rolled_back {
            self.find_live();
        } else {
            self.live.insert(version);
        }
    }

    /// Puts a commit beside the line; the merge that is pushed next rests on it.
    pub fn push_beside(&mut self, checkpoint: Checkpoint) {
        self.lamport = self.lamport.max(checkpoint.version.lamport);
        self.live.insert(checkpoint.version);
        self.nodes.insert(checkpoint.version, Node { checkpoint, place: None });
    }

    fn find_live(&mut self) {
        self.live.clear();
        let mut open = vec![self.head().version];
        while let Some(version) = open.pop() {
            let Some(node) = self.nodes.get(&version) else { continue };
            if self.live.insert(version) {
                open.extend(node.checkpoint.content_deps());
            }
        }
    }

    /// Of versions that are known, those that no other one of them rests on.
    pub fn maximal(&self, versions: &[Version]) -> Vec<Version> {
        let rests = |version: Version, on: Version| version != on && self.rests_on(version, on);
        let kept = versions.iter().filter(|&&on| !versions.iter().any(|&version| rests(version, on)));
        kept.copied().collect()
    }

    /// Whether the content of `version` came from `on`, or is it.
    fn rests_on(&self, version: Version, on: Version) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![version];
        while let Some(version) = open.pop() {
            if version == on {
                return true;
            }
            let node = self.nodes.get(&version);
            // What is older than `on` cannot rest on it.
            if let Some(node) = node.filter(|_| version > on && seen.insert(version)) {
                open.extend(node.checkpoint.content_deps());
            }
        }
        false
    }

    /// The live merge that rests on exactly these versions.
    pub fn merge_of(&self, deps: &[Version]) -> Option<Version> {
        let is_it = |version: &&Version| {
            let checkpoint = &self.nodes[*version].checkpoint;
            checkpoint.kind == Kind::Merge && checkpoint.deps == deps && self.live.contains(*version)
        };
        self.line.iter().rev().find(is_it).copied()
    }

    /// How keys changed from one known version to another: every key that an edit on the way names.
    ///
    /// # Errors
    /// What [`Past`] says, or [`Error::Damaged`] when the way is broken.
    pub fn changes(&self, from: Version, to: Version, past: &dyn Past) -> Result<HashMap<Key, Change>, Error> {
        let mut changes = HashMap::new();
        if from == to {
            return Ok(changes);
        }
        let broken = |version: Version| Error::Damaged {
            name: format!("the history of version {version}"),
            reason: "it does not begin on the line of heads".to_string(),
        };
        let (start, down) = self.to_line(from).ok_or_else(|| broken(from))?;
        let (end, mut up) = self.to_line(to).ok_or_else(|| broken(to))?;
        for checkpoint in &down {
            follow(&mut changes, &past.edits(checkpoint)?, true);
        }
        if start <= end {
            for version in &self.line[start + 1..=end] {
                follow(&mut changes, &past.edits(&self.nodes[version].checkpoint)?, false);
            }
        } else {
            for version in self.line[end + 1..=start].iter().rev() {
                follow(&mut changes, &past.edits(&self.nodes[version].checkpoint)?, true);
            }
        }
        up.reverse();
        for checkpoint in up {
            follow(&mut changes, &past.edits(checkpoint)?, false);
        }
        Ok(changes)
    }

    /// The keys that live commits wrote on which `base` does not rest, if only to what they were.
    ///
    /// # Errors
    /// What [`Past`] says.
    pub fn written_since(&self, base: Version, past: &dyn Past) -> Result<HashSet<Key>, Error> {
        let mut keys = HashSet::new();
        for checkpoint in self.since(base) {
            // What was merged of a commit that is no longer kept is known by its merge.
            let known = checkpoint.deps.iter().all(|dep| self.nodes.contains_key(dep));
            if checkpoint.kind == Kind::Commit || (checkpoint.kind == Kind::Merge && !known) {
                keys.extend(past.edits(checkpoint)?.iter().map(|edit| edit.key.clone()));
            }
        }
        Ok(keys)
    }

    /// The live checkpoints that `base` does not rest on. Looks from the latest down, for what a checkpoint rests on is
    /// earlier, until all that is left is what `base` rests on too.
    fn since(&self, base: Version) -> Vec<&Checkpoint> {
        let mut found = Vec::new();
        let mut open = BTreeMap::from([(self.head().version, false)]);
        open.insert(base, true);
        while open.values().any(|&seen| !seen) {
            let Some((version, seen)) = open.pop_last() else { break };
            let Some(node) = self.nodes.get(&version) else { continue };
            for dep in node.checkpoint.content_deps() {
                *open.entry(*dep).or_insert(seen) |= seen;
            }
            if !seen {
                found.push(&node.checkpoint);
            }
        }
        found
    }

    /// Where the way from a version down its parents comes to the line, and the checkpoints beside it on that way.
    fn to_line(&self, version: Version) -> Option<(usize, Vec<&Checkpoint>)> {
        let mut beside = Vec::new();
        let mut node = self.nodes.get(&version)?;
        loop {
            match node.place {
                Some(place) => return Some((place, beside)),
                // A parent is earlier than what leads on from it, so the way has an end.
                None if node.checkpoint.parent < node.checkpoint.version => {
                    beside.push(&node.checkpoint);
                    node = self.nodes.get(&node.checkpoint.parent)?;
                }
                None => return None,
            }
        }
    }

    /// The number of the oldest record whose edits are still needed: that of the oldest version, for a commit that does
    /// not rest on it may still be merged.
    pub fn first_record(&self) -> u64 {
        self.nodes.values().map(|node| node.checkpoint.sequence).min().unwrap_or(0)
    }

    /// Forgets what is older than a version of the line; none when the version is not on the line.
    pub fn prune(&mut self, boundary: Version) -> Option<()> {
        let first = self.nodes.get(&boundary)?.place?;
        let on_the_way = |version: &Version| self.to_line(*version).is_some_and(|(place, _)| place >= first);
        let kept: HashSet<Version> = self.nodes.keys().filter(|version| on_the_way(version)).copied().collect();
        let stays = |node: &Node| kept.contains(&node.checkpoint.version);
        let gone = self.nodes.values().filter(|node| !stays(node)).map(|node| node.checkpoint.version).max();
        self.pruned = self.pruned.max(gone);
        self.nodes.retain(|_, node| stays(node));
        self.line.drain(..first);
        for (place, version) in self.line.iter().enumerate() {
            if let Some(node) = self.nodes.get_mut(version) {
                node.place = Some(place);
            }
        }
        self.find_live();
        Some(())
    }

    /// What a compacted record holds of the history.
    pub(crate) fn to_parts(&self) -> Parts {
        let on_line = self.line.iter().map(|version| self.nodes[version].checkpoint.clone()).collect();
        let mut beside: Vec<Checkpoint> =
            self.nodes.values().filter(|node| node.place.is_none()).map(|node| node.checkpoint.clone()).collect();
        beside.sort_unstable_by_key(|checkpoint| checkpoint.version);
        Parts { line: on_line, beside, pruned: self.pruned, lamport: self.lamport }
    }

    /// The history of [`History::to_parts`]; none when there is no head.
    pub(crate) fn from_parts(parts: Parts) -> Option<Self> {
        let mut line = parts.line.into_iter();
        let mut history = History::new(line.next()?);
        parts.beside.into_iter().for_each(|checkpoint| history.push_beside(checkpoint));
        line.for_each(|checkpoint| history.push(checkpoint));
        history.find_live();
        history.pruned = parts.pruned;
        history.lamport = history.lamport.max(parts.lamport);
        Some(history)
    }
}

/// A history as it is written down.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Parts {
    line: Vec<Checkpoint>,
    beside: Vec<Checkpoint>,
    pruned: Option<Version>,
    lamport: u64,
}

fn follow(changes: &mut HashMap<Key, Change>, edits: &[Edit], back: bool) {
    for edit in edits {
        let (before, after) = if back { (&edit.after, &edit.before) } else { (&edit.before, &edit.after) };
        match changes.get_mut(&edit.key) {
            Some(change) => change.after.clone_from(after),
            None => {
                changes.insert(edit.key.clone(), Change { before: before.clone(), after: after.clone() });
            }
        }
    }
}

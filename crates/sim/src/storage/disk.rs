//! The simulated disk: files, the names they have, and the names they will have had after a power cut.
//!
//! A change of a name is a line in a list until its folder is synced; when the power goes, each line is kept or lost by
//! itself. A file's content follows the file, whatever its names.

use std::collections::{BTreeMap, BTreeSet};

use super::file::File;
use crate::world::World;

/// What names a file whatever its path.
pub(super) type FileId = u64;

/// A change of names that is not durable yet.
enum Change {
    /// `path` names `file` from now on, and `gone`, if any, is no name any more: a rename within a folder is one change.
    Link { path: String, file: FileId, gone: Option<String> },
    /// `path` is no name any more.
    Unlink { path: String },
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Change::Link { path, file, gone } => {
                if let Some(gone) = gone {
                    names.remove(gone);
                }
                names.insert(path.clone(), *file);
            }
            Change::Unlink { path } => {
                names.remove(path);
            }
        }
    }
}

/// Files and names.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<FileId, File>,
    /// The names that the process sees.
    pub(super) names: BTreeMap<String, FileId>,
    /// The names that outlive the power.
    kept: BTreeMap<String, FileId>,
    /// The changes from the one to the other, oldest first.
    changes: Vec<Change>,
    next: FileId,
}

impl Disk {
    /// The sizes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        named.iter().filter_map(|id| self.files.get(id)).map(File::bytes).sum()
    }

    /// Adds a file and its name.
    pub(super) fn link(&mut self, path: &str, file: File) -> FileId {
        let id = self.next;
        self.next += 1;
        self.files.insert(id, file);
        self.change(Change::Link { path: path.to_string(), file: id, gone: None });
        id
    }

    /// Gives `path` to a new file at once and for good.
    pub(super) fn replace(&mut self, path: &str, file: File) {
        self.link(path, file);
        self.sync(parent(path));
    }

    /// Renames; false when `from` is not there.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(file) = self.names.get(from).copied() else { return false };
        let to_path = to.to_string();
        if parent(from) == parent(to) {
            self.change(Change::Link { path: to_path, file, gone: Some(from.to_string()) });
        } else {
            self.change(Change::Link { path: to_path, file, gone: None });
            self.change(Change::Unlink { path: from.to_string() });
        }
        true
    }

    /// Removes a name; false when it is not there.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let there = self.names.contains_key(path);
        if there {
            self.change(Change::Unlink { path: path.to_string() });
        }
        there
    }

    /// Makes the names in `folder` durable.
    pub(super) fn sync(&mut self, folder: &str) {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| parent(change.path()) == folder);
        now.iter().for_each(|change| change.apply(&mut self.kept));
        self.changes = later;
    }

    /// What a new process finds on the same machine.
    pub(super) fn after_kill(&mut self, world: &World) {
        self.files.values_mut().for_each(|file| file.after_kill(world));
        self.forget_unnamed();
    }

    /// What is there after the power came back.
    pub(super) fn after_power_cut(&mut self, world: &World) {
        for change in std::mem::take(&mut self.changes) {
            if world.chance(500) {
                change.apply(&mut self.kept);
            }
        }
        self.names = self.kept.clone();
        self.forget_unnamed();
        let files = std::mem::take(&mut self.files);
        self.files = files.into_iter().map(|(id, file)| (id, file.after_power_cut(world))).collect();
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// Files that no name leads to, now or after a power cut, are gone with the process that held them.
    fn forget_unnamed(&mut self) {
        let mut named: BTreeSet<FileId> = self.names.values().chain(self.kept.values()).copied().collect();
        named.extend(self.changes.iter().filter_map(|change| match change {
            Change::Link { file, .. } => Some(*file),
            Change::Unlink { .. } => None,
        }));
        self.files.retain(|id, _| named.contains(id));
    }
}

/// The folder that a path is in.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

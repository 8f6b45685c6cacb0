//! [`Staging`]: files that are whole but wait for their names until a version is durable.
//!
//! A name says whose file it is, which run wrote it, for which of its versions, and the file's number there, so no name is
//! ever given twice. After a crash the files of versions that never became durable are removed and written again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::part::{Part, remove};
use crate::error::{Error, Role};
use crate::sink::{Staged, StagedFile};

/// Files of the version that is being written.
pub(super) struct Staging {
    owner: String,
    /// The run.
    start: u64,
    /// The version, counted within the run from 1.
    version: u64,
    files: Vec<StagedFile>,
}

/// What was given its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Staging {
    /// Begins with the first version of a run; removes what `owner` has left of versions that did not become durable.
    pub(super) fn begin(table: &str, folder: &Path, owner: &str, start: u64, kept: &Staged) -> Result<Self, Error> {
        let kept: BTreeSet<&Path> = kept.files.iter().map(|file| file.temporary.as_path()).collect();
        sweep(folder, &format!(".part-{owner}-"), &kept)
            .map_err(|error| Error::io(table, Role::Sink, "clean up", folder, error))?;
        Ok(Staging { owner: owner.to_string(), start, version: 1, files: Vec::new() })
    }

    /// The name of the next file in a folder, without its extension.
    pub(super) fn name(&self, number: &mut u32) -> String {
        let name = format!("part-{}-{:04}-{:06}-{:05}", self.owner, self.start, self.version, *number);
        *number += 1;
        name
    }

    /// Takes a sealed file.
    pub(super) fn add(&mut self, part: Part) {
        self.files.push(part.keep_staged());
    }

    /// Takes back files of a version that did not become durable.
    pub(super) fn restage(&mut self, staged: Staged) {
        self.files.extend(staged.files);
    }

    /// Makes the names of the staged files durable, and goes on with the next version.
    pub(super) fn prepare(&mut self, table: &str, root: &Path) -> Result<Staged, Error> {
        let files = std::mem::take(&mut self.files);
        sync_folders(&files, root).map_err(|error| Error::io(table, Role::Sink, "write files to", root, error))?;
        self.version += 1;
        Ok(Staged { files })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.files.iter().for_each(|file| remove(&file.temporary));
    }
}

/// Gives staged files their names.
pub(super) fn publish(table: &str, staged: &Staged) -> Result<Shown, Error> {
    let mut shown = Shown::default();
    let mut folders = BTreeSet::new();
    for StagedFile { temporary, target, bytes } in &staged.files {
        match fs::rename(temporary, target) {
            Ok(()) => {
                shown.files += 1;
                shown.bytes += bytes;
                folders.extend(target.parent());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && target.exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (table, staged, path) = (table.to_string(), temporary.clone(), target.clone());
                return Err(Error::StagedLost { table, staged, path });
            }
            Err(error) => return Err(Error::io(table, Role::Sink, "create", target, error)),
        }
    }
    for folder in folders {
        sync(folder).map_err(|error| Error::io(table, Role::Sink, "write files to", folder, error))?;
    }
    Ok(shown)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the names of the files durable, and of the folders down from `root` that they are in.
fn sync_folders(files: &[StagedFile], root: &Path) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for file in files {
        let above = file.temporary.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.extend(above);
    }
    folders.into_iter().rev().try_for_each(sync)
}

/// Removes the files in `folder` and below whose names begin with `prefix`.
fn sweep(folder: &Path, prefix: &str, kept: &BTreeSet<&Path>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            sweep(&path, prefix, kept)?;
        } else if name.to_string_lossy().starts_with(prefix) && !kept.contains(path.as_path()) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

//! A store in a folder of this machine.
//!
//! The one idea: an object is written under a name of its own, flushed, and only then linked to its name, which the file
//! system does once or not at all; the folder is flushed after. So a power cut leaves the whole object or none. What a
//! crash leaves behind while writing lies in one folder, locked by its writer for as long as that lives, and is removed
//! when the store is opened next.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{Store, StoreError, check_name};

/// Where objects lie until they have their names; `~` is in no object's name.
const STAGING: &str = "~staging";

/// How often a name for a staged object is looked for.
const STAGE_ATTEMPTS_MAX: u32 = 100;

static STAGED: AtomicU64 = AtomicU64::new(0);

/// Objects as files below a folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The store in `root`, which is made when it is not there. In one that is there nothing is written until an object is.
    ///
    /// # Errors
    /// [`StoreError::BadAddress`] when it can neither be found nor made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        match make_folder(&root).and_then(|()| sweep(&root.join(STAGING))) {
            Ok(()) => Ok(Folder { root }),
            Err(error) => {
                Err(StoreError::BadAddress { address: root.display().to_string(), reason: error.to_string() })
            }
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    fn failed(&self, verb: &'static str, name: &str, error: &io::Error) -> StoreError {
        let (store, name) = (self.describe(), name.to_string());
        match error.kind() {
            ErrorKind::NotFound => StoreError::NotFound { store, name },
            _ => StoreError::Failed { store, verb, name, reason: error.to_string() },
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let staging = self.root.join(STAGING);
        make_folder(&staging)?;
        let (mut file, staged) = stage(&staging)?;
        let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| {
            make_folder(parent(path))?;
            fs::hard_link(&staged, path)
        });
        // The object has its name or never will; what cannot be removed here is swept at the next start.
        let _ = fs::remove_file(&staged);
        written?;
        sync_folder(parent(path))
    }
}

impl Store for Folder {
    fn put_new(&self, name: &str, content: Bytes) -> Result<(), StoreError> {
        let path = self.path(name)?;
        self.write(&path, &content).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => StoreError::Exists { store: self.describe(), name: name.to_string() },
            _ => StoreError::Failed {
                store: self.describe(),
                verb: "write",
                name: name.to_string(),
                reason: error.to_string(),
            },
        })
    }

    fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let path = self.path(name)?;
        fs::read(path).map(Bytes::from).map_err(|error| self.failed("read", name, &error))
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let path = self.path(name)?;
        let end = offset.saturating_add(length);
        let short = || StoreError::TooShort { store: self.describe(), name: name.to_string(), end };
        let read = || {
            let file = File::open(path)?;
            if file.metadata()?.len() < end {
                return Ok(None);
            }
            let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut content, offset)?;
            Ok(Some(Bytes::from(content)))
        };
        read().map_err(|error| self.failed("read", name, &error))?.ok_or_else(short)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let from = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        walk(&from, folder, &mut names).map_err(|error| StoreError::Failed {
            store: self.describe(),
            verb: "list",
            name: folder.to_string(),
            reason: error.to_string(),
        })?;
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        match fs::remove_file(&path).and_then(|()| sync_folder(parent(&path))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("remove", name, &error)),
            _ => Ok(()),
        }
    }

    fn describe(&self) -> String {
        format!("folder {}", self.root.display())
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, and each of their names durable.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folder(parent(folder))?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    sync_folder(parent(folder))
}

/// A new file for an object on its way, locked as long as it is open.
fn stage(staging: &Path) -> io::Result<(File, PathBuf)> {
    for _ in 0..STAGE_ATTEMPTS_MAX {
        let number = STAGED.fetch_add(1, Ordering::Relaxed);
        let path = staging.join(format!("{}-{number}", std::process::id()));
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        match file.try_lock() {
            // Whoever swept the folder just now may have been between the two; then the file has no name any more.
            Ok(()) if path.exists() => return Ok((file, path)),
            Ok(()) | Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!("no name is free in {}", staging.display())))
}

/// Removes what dead writers left.
fn sweep(staging: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(staging) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Adds the names of the objects in `folder`; what no object can be called is not one.
fn walk(folder: &Path, name: &str, names: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(part) = entry.file_name().into_string() else { continue };
        let name = if name.is_empty() { part } else { format!("{name}/{part}") };
        if check_name(&name).is_err() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &name, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::keeps_the_promises;
    use super::*;

    #[test]
    fn a_folder_keeps_the_promises_of_a_store() {
        let folder = tempfile::tempdir().expect("a folder");
        keeps_the_promises(&Folder::open(folder.path().join("a/b")).expect("a store"));
    }

    #[test]
    fn of_many_writers_of_a_name_one_succeeds() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Folder::open(folder.path()).expect("a store");
        for round in 0..20 {
            let name = format!("decided/{round}");
            let put = |writer: u8| store.put_new(&name, Bytes::from(vec![writer; 1_000])).is_ok();
            let winners: Vec<u8> = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..4).map(|writer| (writer, scope.spawn(move || put(writer)))).collect();
                writers
                    .into_iter()
                    .filter_map(|(writer, put)| put.join().expect("no panic").then_some(writer))
                    .collect()
            });
            assert_eq!(winners.len(), 1);
            assert_eq!(store.get(&name).expect("there"), vec![winners[0]; 1_000]);
        }
    }

    #[test]
    fn what_a_dead_writer_left_is_swept_and_never_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Folder::open(folder.path()).expect("a store");
        let staging = folder.path().join(STAGING);
        assert!(!staging.exists(), "nothing is made by looking");
        make_folder(&staging).expect("made");
        let (_alive, alive) = stage(&staging).expect("a file");
        let (dead_file, dead) = stage(&staging).expect("a file");
        drop(dead_file);
        assert_eq!(store.list("").expect("listed"), Vec::<String>::new());
        Folder::open(folder.path()).expect("a store");
        assert!(alive.exists() && !dead.exists());
    }

    #[test]
    fn a_file_is_no_folder_to_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, b"").expect("written");
        assert!(matches!(Folder::open(file), Err(StoreError::BadAddress { .. })));
    }
}

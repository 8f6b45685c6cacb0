//! A real folder.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidemill_base::Explain;
use tidemill_base::storage::{Region, Storage};
use tidemill_base::time::SystemClock;
use tidemill_journal::inspect::verify;
use tidemill_journal::{Disk, Journal, Level, Options, Sequence};

use crate::memory::{append, read_all};

fn options() -> Options {
    Options { segment_bytes: 64 << 10, quota_bytes: 64 << 20, ..Options::default() }
}

fn open(folder: &std::path::Path) -> Journal {
    let disk = Arc::new(Disk::open(folder).expect("the folder is free"));
    Journal::open(disk, options(), Arc::new(SystemClock::new())).expect("it opens").0
}

#[test]
fn a_journal_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a/journal");
    let mut last = Sequence::NONE;
    for _ in 0..3 {
        let journal = open(&folder);
        assert_eq!(read_all(&journal, Sequence::FIRST, Level::Flushed).unwrap(), last);
        for bytes in 0..300 {
            last = append(&journal, bytes * 3);
        }
        journal.wait(last, Level::Flushed).unwrap();
        assert_eq!(read_all(&journal, Sequence::FIRST, Level::Flushed).unwrap(), last);
    }
    let found = verify(&Disk::view(&folder)).unwrap();
    assert_eq!((found.last, found.damage), (last, vec![]));
}

#[test]
fn a_folder_is_for_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let error = Disk::open(folder.path()).expect_err("it is open");
    assert_eq!(error.code(), "TM1110");
    let expected = format!("{} is in use by process {}", folder.path().display(), std::process::id());
    assert_eq!(error.to_string(), expected);
    drop(disk);
    Disk::open(folder.path()).expect("it was let go");
}

#[test]
fn a_view_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let view = Disk::view(folder.path().join("not there"));
    assert_eq!(view.list("").unwrap(), Vec::<String>::new());
    let denied = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    denied(view.create("x", 4096).map(drop));
    denied(view.open("x").map(drop));
    denied(view.replace("x", b""));
    denied(view.rename("x", "y"));
    denied(view.remove("x"));
    denied(view.sync_folder(""));
}

#[test]
fn files_are_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let region = disk.create("below/file", 8192).unwrap();
    assert_eq!(disk.create("below/file", 8192).map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(region.words().len(), 1024);
    region.populate(0, 8192).unwrap();
    region.words()[512].store(u64::from_le_bytes(*b"tidemill").to_le(), Ordering::Relaxed);
    region.flush(4096, 4104).unwrap();
    assert_eq!(disk.read("below/file", 4096, 8).unwrap(), b"tidemill");
    assert_eq!(disk.read("below/file", 8190, 8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(
        disk.open("below/file").unwrap().words()[512].load(Ordering::Relaxed),
        region.words()[512].load(Ordering::Relaxed)
    );
    disk.rename("below/file", "file").unwrap();
    disk.replace("small", b"one").unwrap();
    disk.replace("small", b"two").unwrap();
    assert_eq!(disk.read("small", 0, 3).unwrap(), b"two");
    assert_eq!(disk.list("").unwrap(), ["below", "file", "small"]);
    assert_eq!(disk.open("small").map(drop).unwrap_err().kind(), ErrorKind::InvalidData);
    disk.sync_folder("").unwrap();
    disk.remove("file").unwrap();
    assert_eq!(disk.size("file").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_that_finds_no_room_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let error = disk.create("vast", 1 << 60).map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{error}");
    assert_eq!(disk.list("").unwrap(), Vec::<String>::new());
}

/// A disk on which the journal's own thread is slow to make files.
struct SlowToMake(Disk);

impl Storage for SlowToMake {
    fn list(&self, folder: &str) -> std::io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn create(&self, path: &str, bytes: u64) -> std::io::Result<Arc<dyn Region>> {
        if std::thread::current().name() == Some("journal") {
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        self.0.create(path, bytes)
    }

    fn open(&self, path: &str) -> std::io::Result<Arc<dyn Region>> {
        self.0.open(path)
    }

    fn size(&self, path: &str) -> std::io::Result<u64> {
        self.0.size(path)
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        self.0.read(path, offset, length)
    }

    fn replace(&self, path: &str, content: &[u8]) -> std::io::Result<()> {
        self.0.replace(path, content)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.0.remove(path)
    }

    fn sync_folder(&self, folder: &str) -> std::io::Result<()> {
        self.0.sync_folder(folder)
    }
}

#[test]
fn segments_are_begun_in_order_however_slowly_the_next_is_made_ready() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SlowToMake(Disk::open(folder.path()).unwrap()));
    let (journal, _) = Journal::open(disk, options(), Arc::new(SystemClock::new())).expect("it opens");
    let mut last = Sequence::NONE;
    for record in 0..600 {
        last = append(&journal, 1_000);
        if record % 45 == 40 {
            // The journal's thread finds the segment half full, and begins to make the next one.
            std::thread::sleep(std::time::Duration::from_millis(12));
        }
    }
    journal.wait(last, Level::Flushed).unwrap();
    drop(journal);
    let found = verify(&Disk::view(folder.path())).unwrap();
    assert_eq!((found.last, found.damage), (last, vec![]));
    assert_eq!(read_all(&open(folder.path()), Sequence::FIRST, Level::Flushed).unwrap(), last);
}

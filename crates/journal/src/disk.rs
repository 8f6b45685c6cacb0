//! A folder of the machine's file system as [`Storage`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidemill_base::storage::{Region, Storage};

use crate::error::{Error, Result};
use crate::map::{self, Map, PAGE_BYTES};

/// The file that says which process uses a folder.
const LOCK: &str = "lock";
/// How the names of files begin that are being written by [`Storage::replace`].
const HIDDEN: char = '.';

/// A folder on disk, for one process at a time.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// Held open for its lock; none for one that only looks.
    lock: Option<File>,
}

impl Disk {
    /// Opens a folder for writing, and makes it when it is not there.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it open, or what the system says.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Disk> {
        let folder = folder.into();
        let shown = folder.display().to_string();
        make_folder(&folder).map_err(Error::io("create", &shown))?;
        let path = folder.join(LOCK);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = opened.map_err(Error::io("open", path.display().to_string()))?;
        if !map::lock(&lock).map_err(Error::io("lock", path.display().to_string()))? {
            let mut owner = String::new();
            // Who it is only matters to the reader of the error.
            let _ = lock.read_to_string(&mut owner);
            return Err(Error::Locked { folder, owner: owner.trim().to_string() });
        }
        let written = lock.set_len(0).and_then(|()| lock.rewind());
        let written = written.and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(Error::io("write", path.display().to_string()))?;
        Ok(Disk { folder, lock: Some(lock) })
    }

    /// Looks at a folder without changing or locking it: what would write fails with `PermissionDenied`.
    pub fn view(folder: impl Into<PathBuf>) -> Disk {
        Disk { folder: folder.into(), lock: None }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn writable(&self, path: &str) -> io::Result<PathBuf> {
        match self.lock {
            Some(_) => Ok(self.path(path)),
            None => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder is open for looking only")),
        }
    }

    fn region(file: File) -> io::Result<Arc<dyn Region>> {
        let map = Map::new(&file)?;
        Ok(Arc::new(Mapped { map, file }))
    }
}

impl Storage for Disk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name = name.into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the name {} is no UTF-8", name.display()))
            })?;
            if !name.starts_with(HIDDEN) && name != LOCK {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn Region>> {
        let path = self.writable(path)?;
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        // The size is made durable here, so that later flushes have bytes to write and nothing else.
        let made = map::allocate(&file, bytes.next_multiple_of(PAGE_BYTES)).and_then(|()| file.sync_data());
        let mapped = made.and_then(|()| Ok(Mapped { map: Map::new(&file)?, file }));
        let region = mapped.map(|mapped| {
            mapped.map.keep_pages_apart();
            Arc::new(mapped) as Arc<dyn Region>
        });
        if region.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_file(&path);
        }
        region
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn Region>> {
        let path = self.writable(path)?;
        Disk::region(OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        fs::metadata(self.path(path)).map(|metadata| metadata.len())
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        File::open(self.path(path))?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let path = self.writable(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename));
        };
        make_folder(parent)?;
        let temporary = parent.join(format!("{HIDDEN}{}.new", name.display()));
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync(parent)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.writable(from)?, self.writable(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.writable(path)?)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync(&self.writable(folder)?)
    }
}

/// Makes a folder and those above it, each name durable.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A mapped file.
#[derive(Debug)]
struct Mapped {
    map: Map,
    file: File,
}

impl Region for Mapped {
    fn words(&self) -> &[AtomicU64] {
        self.map.words()
    }

    fn populate(&self, from: u64, to: u64) -> io::Result<()> {
        self.map.populate(from, to)
    }

    fn flush(&self, from: u64, to: u64) -> io::Result<()> {
        map::write_ahead(&self.file, from, to);
        self.map.sync(from, to)
    }
}

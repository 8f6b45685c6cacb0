//! Which files a path means, and what they are.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tidemill_base::hash;

use crate::error::{Error, Role};
use crate::source::Origin;

/// The deepest nesting of folders that is read; deeper is taken for a loop of links.
const DEPTH_MAX: usize = 64;

/// The bytes at each end of a file that its digest covers.
const DIGEST_BYTES: u64 = 4 << 10;

/// The files that `path` means, sorted: itself, those in the folder and below, or those that match the pattern. Names that
/// begin with `.` or `_` do not count.
pub(super) fn find(table: &str, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    match fs::metadata(path) {
        Ok(metadata) => add(table, path, &metadata, 0, &mut files)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(path) => {
            for path in matches(table, path)? {
                let metadata = fs::metadata(&path).map_err(|error| failed(table, "look at", &path, error))?;
                add(table, &path, &metadata, 0, &mut files)?;
            }
        }
        Err(error) => return Err(failed(table, "look at", path, error)),
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn matches(table: &str, pattern: &Path) -> Result<Vec<PathBuf>, Error> {
    let options =
        glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let paths = glob::glob_with(&pattern.to_string_lossy(), options).map_err(|error| Error::Schema {
        table: table.to_string(),
        message: format!("'path' = '{}' is no pattern: {error}", pattern.display()),
        help: "write [[] for a bracket, [*] for a star, [?] for a question mark".to_string(),
    })?;
    let found: Result<Vec<_>, _> = paths.filter(|path| path.as_ref().map_or(true, |path| !is_hidden(path))).collect();
    found.map_err(|error| {
        let path = error.path().to_path_buf();
        failed(table, "look at", &path, error.into())
    })
}

fn add(table: &str, path: &Path, metadata: &Metadata, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if !metadata.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(failed(table, "read", path, io::Error::other("folders are nested too deep, or in a loop")));
    }
    for entry in fs::read_dir(path).map_err(|error| failed(table, "read", path, error))? {
        let path = entry.map_err(|error| failed(table, "read", path, error))?.path();
        if is_hidden(&path) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) => add(table, &path, &metadata, depth + 1, files)?,
            // It was renamed or removed since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(table, "look at", &path, error)),
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']))
}

/// What a file is now.
pub(super) fn origin(table: &str, path: &Path) -> Result<Origin, Error> {
    let read = || -> io::Result<Origin> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        let mut ends = Vec::with_capacity(2 * DIGEST_BYTES as usize);
        (&mut file).take(DIGEST_BYTES).read_to_end(&mut ends)?;
        file.seek(SeekFrom::Start(size.saturating_sub(DIGEST_BYTES)))?;
        file.take(DIGEST_BYTES).read_to_end(&mut ends)?;
        Ok(Origin {
            name: path.to_string_lossy().into_owned(),
            size: Some(size),
            modified: Some(modified(&metadata)),
            digest: Some(format!("{:016x}", hash::bytes(&ends))),
        })
    };
    read().map_err(|error| failed(table, "read", path, error))
}

/// When a file was changed last, milliseconds UTC; 0 where the system does not say.
pub(super) fn modified(metadata: &Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_millis() as i64)
}

pub(super) fn failed(table: &str, action: &'static str, path: &Path, error: io::Error) -> Error {
    Error::io(table, Role::Source, action, path, error)
}

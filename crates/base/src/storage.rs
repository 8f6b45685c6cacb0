//! Storage, handed in: files that are mapped, flushed, renamed and lost, behind [`Storage`] and [`Region`].
//!
//! What is kept on disk is written through these traits, so that a simulation can stand in for the machine and cut the
//! power between any two calls. The promises are those a file system makes and no more: bytes last once a
//! [`Region::flush`] that covers them has returned, a new or changed name lasts once [`Storage::sync_folder`] has
//! returned, and before that either may be gone, alone or together, a 512-byte sector at a time.
//!
//! Paths are relative, with `/` between their parts, and stand below whatever folder the storage was made for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A folder and what is below it.
pub trait Storage: Send + Sync {
    /// The names in `folder`, sorted; none when it is not there.
    ///
    /// # Errors
    /// Why the folder cannot be read; "unreadable" is never "empty".
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes a file of `bytes` zeros, a multiple of 4,096, whose blocks are allocated, and maps it.
    ///
    /// Folders on the way are made. The name is not durable until [`Storage::sync_folder`].
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `StorageFull` when there is no room.
    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn Region>>;

    /// Maps a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or why it cannot be mapped.
    fn open(&self, path: &str) -> io::Result<Arc<dyn Region>>;

    /// The size of a file in bytes.
    ///
    /// # Errors
    /// `NotFound`, or why it cannot be told.
    fn size(&self, path: &str) -> io::Result<u64>;

    /// Reads `length` bytes from `offset` without mapping.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is shorter, or why it cannot be read.
    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Gives a small file new content: after a crash it has the old or the new one, and once this has returned the new.
    ///
    /// # Errors
    /// Why it cannot be written; the old content may or may not be replaced then.
    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had it. Durable after [`Storage::sync_folder`] of both folders.
    ///
    /// # Errors
    /// `NotFound`, or why it cannot be done.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Storage::sync_folder`].
    ///
    /// # Errors
    /// `NotFound`, or why it cannot be done.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in `folder` durable.
    ///
    /// # Errors
    /// Why it cannot be done; then nothing is known of the names.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// A mapped file.
pub trait Region: Send + Sync {
    /// Its content as words; little-endian in the file. A store is seen by every process that maps the file at once,
    /// and outlives the process, but not a power cut.
    fn words(&self) -> &[AtomicU64];

    /// Has the pages of these bytes ready for writing, so that no store waits for one.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn populate(&self, from: u64, to: u64) -> io::Result<()>;

    /// Makes these bytes durable; they are when it has returned.
    ///
    /// # Errors
    /// Why they cannot be. What is durable is unknown then, and asking again does not tell.
    fn flush(&self, from: u64, to: u64) -> io::Result<()>;
}

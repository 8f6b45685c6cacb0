//! The machine's own calls on mapped files: the one place of the journal where `unsafe` stands.
//!
//! A [`Map`] is a file mapped shared, seen as atomic words: every process that maps the file sees a store at once, no
//! store tears, and a store outlives the process that made it. Everything above is safe code over those words.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// The size of a page, and what sizes of mapped files are multiples of.
pub const PAGE_BYTES: u64 = 4096;

/// A whole file, mapped shared for reading and writing.
#[derive(Debug)]
pub struct Map {
    words: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only reached through `&[AtomicU64]`.
unsafe impl Send for Map {}
// SAFETY: as above; atomic words may be loaded and stored by several threads at once.
unsafe impl Sync for Map {}

impl Map {
    /// Maps all of `file`, which must be open for reading and writing and hold a multiple of [`PAGE_BYTES`].
    ///
    /// The file must keep its size while it is mapped: a word beyond its end cannot be loaded.
    ///
    /// # Errors
    /// `InvalidData` when the size is no multiple of a page, or why it cannot be mapped.
    pub fn new(file: &File) -> io::Result<Map> {
        let bytes = file.metadata()?.len();
        if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) {
            let reason = format!("its {bytes} bytes are no multiple of {PAGE_BYTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the arguments are valid
        // and the result is checked.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Map { words, bytes })
    }

    /// The content, as words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `words` points to `bytes` mapped bytes, aligned to a page, for as long as `self` lives; any bit
        // pattern is a valid `AtomicU64`, and all access in this process is atomic.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.bytes / size_of::<AtomicU64>()) }
    }

    /// Has the pages of these bytes in memory and writable, where the kernel can (Linux 5.14); quietly nothing where not.
    ///
    /// # Errors
    /// Why the pages cannot be had: no memory, no room, a failing disk.
    pub fn populate(&self, from: u64, to: u64) -> io::Result<()> {
        let Some((at, bytes)) = self.pages(from, to) else { return Ok(()) };
        // SAFETY: `pages` gives whole pages inside the mapping; populating changes no content.
        let done = unsafe { libc::madvise(at, bytes, libc::MADV_POPULATE_WRITE) };
        match done {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Has every page of the file kept by itself, for a file whose bytes become durable a few at a time.
    ///
    /// What the kernel reads ahead it keeps in pieces of many pages, and writes such a piece out whole for each byte in it
    /// that has changed: a file that grows by less than that between two syncs would be written many times over.
    pub fn keep_pages_apart(&self) {
        // SAFETY: the mapping is whole; advice changes no content. A kernel that takes none does what it would have done.
        unsafe { libc::madvise(self.words.as_ptr().cast(), self.bytes, libc::MADV_RANDOM) };
    }

    /// Makes the pages of these bytes durable, and what the file system must know to find them.
    ///
    /// This is `fdatasync` for a part of the file: pages that were made ready beyond `to` are left alone.
    ///
    /// # Errors
    /// Why they are not.
    pub fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        let Some((at, bytes)) = self.pages(from, to) else { return Ok(()) };
        // SAFETY: `pages` gives whole pages inside the mapping; writing them out changes no content.
        match unsafe { libc::msync(at, bytes, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The whole pages around bytes `from..to`, as an address and a size; none when there are no bytes.
    fn pages(&self, from: u64, to: u64) -> Option<(*mut libc::c_void, usize)> {
        let end = to.min(self.bytes as u64).next_multiple_of(PAGE_BYTES).min(self.bytes as u64);
        let start = from - from % PAGE_BYTES;
        if start >= end {
            return None;
        }
        let at = self.words.as_ptr().cast::<u8>().wrapping_add(start as usize);
        Some((at.cast(), (end - start) as usize))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and size, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.bytes) };
    }
}

/// Gives `file` `bytes` zeros whose blocks are allocated, so that no later store meets a full disk.
///
/// # Errors
/// `StorageFull` when there is no room.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while `file` is borrowed; the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Starts to write the dirty pages of these bytes without waiting, so that a sync that follows has less to wait for.
pub fn write_ahead(file: &File, from: u64, to: u64) {
    let (Ok(from), Ok(bytes)) = (i64::try_from(from), i64::try_from(to.saturating_sub(from))) else { return };
    // SAFETY: the descriptor is open while `file` is borrowed; the call touches no memory of ours. Its failure is of no
    // consequence, for the sync that follows meets it again.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Takes the lock of an open file for this process; false when another holds it.
///
/// # Errors
/// Why the file cannot be locked at all.
pub fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open while `file` is borrowed; the call touches no memory of ours.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
    }
}

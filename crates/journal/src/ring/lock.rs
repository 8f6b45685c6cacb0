//! Who is attached to a ring, told by locks that the kernel drops with their process.
//!
//! The locks are on bytes far behind the end of the file, which need not exist. They belong to the open file, not to the
//! process (`F_OFD_SETLK`): two rings opened by one process are two, and closing one leaves the other's alone. A child
//! made by `fork` shares the open file and with it the lock, until it closes the file or runs another program.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Held for a moment by whoever attaches.
pub const ATTACH: i64 = 1 << 62;
/// Held by the consumer.
pub const CONSUMER: i64 = ATTACH + 1;

/// The byte held by a producer.
pub fn producer(index: usize) -> i64 {
    CONSUMER + 1 + index as i64
}

/// Takes the lock on these bytes, if nobody has one on any of them.
///
/// # Errors
/// Why the file cannot be locked at all.
pub fn try_lock(file: &File, bytes: Range<i64>) -> io::Result<bool> {
    match set(file, libc::F_OFD_SETLK, libc::F_WRLCK, bytes) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for the lock on these bytes.
///
/// # Errors
/// Why the file cannot be locked at all.
pub fn lock(file: &File, bytes: Range<i64>) -> io::Result<()> {
    loop {
        match set(file, libc::F_OFD_SETLKW, libc::F_WRLCK, bytes.clone()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Gives up the lock on these bytes.
///
/// # Errors
/// Why the kernel did not.
pub fn unlock(file: &File, bytes: Range<i64>) -> io::Result<()> {
    set(file, libc::F_OFD_SETLK, libc::F_UNLCK, bytes)
}

fn set(file: &File, command: i32, kind: i32, bytes: Range<i64>) -> io::Result<()> {
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: bytes.start,
        l_len: bytes.end - bytes.start,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open while `file` is borrowed, and `lock` is a whole `flock` that outlives the call,
    // which reads it alone.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

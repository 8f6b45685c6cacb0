//! Buffers for reading, used again when the last block that was cut from one is gone.
//!
//! A buffer is always as long as its capacity and was zeroed once, so that nothing is cleared or faulted in twice.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The length of a buffer for files.
pub(crate) const FILE_BYTES: usize = 1 << 20;

/// The length of a buffer for what comes line by line: a short block keeps all of it while it lives.
pub(crate) const LINE_BYTES: usize = 64 << 10;

/// The most buffers that wait to be used again.
const FREE_MAX: usize = 64;

/// Where buffers wait.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    bytes: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    /// A pool of buffers of `bytes` bytes each.
    pub(crate) fn new(bytes: usize) -> Self {
        Pool { bytes, free: Arc::default() }
    }

    /// A buffer, with whatever was in it.
    pub(crate) fn take(&self) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; self.bytes])
    }

    /// Makes a buffer's first `length` bytes shareable; it comes back when the last share is dropped.
    pub(crate) fn share(&self, buffer: Vec<u8>, length: usize) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() }).slice(..length)
    }

    /// Takes a buffer back; one of another length is given to the system.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() == self.bytes && free.len() < FREE_MAX {
            free.push(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_share_is_gone() {
        let pool = Pool::new(64);
        let mut buffer = pool.take();
        buffer[..5].copy_from_slice(b"hello");
        let address = buffer.as_ptr();
        let whole = pool.share(buffer, 5);
        let part = whole.slice(1..3);
        drop(whole);
        let other = pool.take();
        assert_ne!(other.as_ptr(), address);
        assert_eq!(&part[..], b"el");
        drop(part);
        let again = pool.take();
        assert_eq!(again.as_ptr(), address);
    }
}

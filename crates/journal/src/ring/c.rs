//! The ring for C and whatever speaks it: `include/tidemill_ring.h` says what each function promises.
//!
//! Codes are the numbers of the error pages, 0 is done. No panic crosses the border: it is turned into
//! [`BUG`].

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tidemill_base::Explain;

use super::error::{Error, Result};
use super::file::{Producer, Ring};

/// Done.
pub const OK: c_int = 0;
/// A promise inside tidemill is broken; the producer must be closed.
pub const BUG: c_int = 9999;

/// Opens the ring at `path` as a producer and stores it in `producer`.
///
/// On failure `producer` becomes null and `message`, when there is room for it, tells why: at most `message_bytes` bytes
/// with the closing zero, UTF-8.
///
/// # Safety
/// `path` is null or a string that ends with a zero; `producer` is null or may be written; `message` is null or may be
/// written for `message_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidemill_ring_open(
    path: *const c_char,
    producer: *mut *mut Producer,
    message: *mut c_char,
    message_bytes: usize,
) -> c_int {
    let opened = guard(|| {
        if path.is_null() || producer.is_null() {
            return Err(Error::BadArgument { what: "tidemill_ring_open: path and producer must not be NULL" });
        }
        // SAFETY: `producer` is not null, so the caller promises that it may be written.
        unsafe { producer.write(std::ptr::null_mut()) };
        // SAFETY: `path` is not null, so the caller promises a string that ends with a zero, which outlives the call.
        let path = unsafe { CStr::from_ptr(path) };
        let opened = Ring::open(OsStr::from_bytes(path.to_bytes()))?.producer()?;
        // SAFETY: as above. The box is given back by `tidemill_ring_close`.
        unsafe { producer.write(Box::into_raw(Box::new(opened))) };
        Ok(())
    });
    let text = match opened {
        Ok(Ok(())) => return OK,
        Ok(Err(ref error)) => describe(error),
        Err(_) => "a promise inside tidemill is broken".to_string(),
    };
    if !message.is_null() && message_bytes > 0 {
        let text = &text.as_bytes()[..text.floor_char_boundary(message_bytes - 1)];
        // SAFETY: the caller promises that `message` may be written for `message_bytes` bytes, and `text` and the zero
        // behind it take no more; a string of ours does not overlap with it.
        unsafe {
            message.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
            message.add(text.len()).write(0);
        }
    }
    flat(opened)
}

/// Appends a record and stores its position, unless `position` is null.
///
/// # Safety
/// `producer` is null or comes from [`tidemill_ring_open`], is not closed and not in use by another thread; `record` may
/// be read for `bytes` bytes, and may be null when they are none; `position` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidemill_ring_append(
    producer: *mut Producer,
    record: *const u8,
    bytes: usize,
    position: *mut u64,
) -> c_int {
    flat(guard(|| {
        // SAFETY: null, or a producer that the caller promises to be open and ours alone for the call.
        let Some(producer) = (unsafe { producer.as_mut() }) else {
            return Err(Error::BadArgument { what: "tidemill_ring_append: producer must not be NULL" });
        };
        let record = match (record.is_null(), bytes) {
            (_, 0) => &[][..],
            (true, _) => return Err(Error::BadArgument { what: "tidemill_ring_append: record must not be NULL" }),
            (false, _) if bytes > isize::MAX as usize => {
                return Err(Error::BadArgument { what: "tidemill_ring_append: no record has so many bytes" });
            }
            // SAFETY: not null, and the caller promises `bytes` bytes, fewer than an allocation may have.
            (false, _) => unsafe { std::slice::from_raw_parts(record, bytes) },
        };
        let at = producer.try_append(record)?;
        if !position.is_null() {
            // SAFETY: not null, so the caller promises that it may be written.
            unsafe { position.write(at) };
        }
        Ok(())
    }))
}

/// Every record below the returned position has been taken over by the reader; 0 when `producer` is null.
///
/// # Safety
/// `producer` is null or comes from [`tidemill_ring_open`], is not closed and not in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidemill_ring_released(producer: *const Producer) -> u64 {
    // SAFETY: null, or a producer that the caller promises to be open and ours alone for the call.
    unsafe { producer.as_ref() }.map_or(0, Producer::released)
}

/// The largest record in bytes; 0 when `producer` is null.
///
/// # Safety
/// `producer` is null or comes from [`tidemill_ring_open`] and is not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidemill_ring_record_bytes_max(producer: *const Producer) -> usize {
    // SAFETY: null, or a producer that the caller promises to be open.
    unsafe { producer.as_ref() }.map_or(0, |producer| producer.shape().record_bytes_max())
}

/// Closes a producer; its records stay. Nothing when `producer` is null.
///
/// # Safety
/// `producer` is null or comes from [`tidemill_ring_open`], is not closed and not in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidemill_ring_close(producer: *mut Producer) {
    if !producer.is_null() {
        // SAFETY: the box that `tidemill_ring_open` gave away, which the caller promises to give back once.
        let producer = unsafe { Box::from_raw(producer) };
        // A panic in closing has nobody to tell.
        let _ = guard(|| {
            drop(producer);
            Ok(())
        });
    }
}

/// What a code means, in a sentence that ends with a zero and is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn tidemill_ring_error_text(code: c_int) -> *const c_char {
    let text = match code {
        OK => c"done",
        1150 => c"the machine refused to open or map the ring",
        1151 => c"the file is no ring",
        1152 => c"the ring was made by a later version",
        1153 => c"the ring is damaged",
        1154 => c"no ring can have this shape",
        1155 => c"the ring is being read already",
        1156 => c"all places for producers are taken",
        1157 => c"the ring is full: none of this producer's records is released yet",
        1158 => c"the record does not fit into a slot",
        1159 => c"a null or impossible argument",
        BUG => c"a promise inside tidemill is broken",
        _ => c"no code of the ring",
    };
    text.as_ptr()
}

/// Runs `work` and holds its panics back.
fn guard(work: impl FnOnce() -> Result<()>) -> std::thread::Result<Result<()>> {
    catch_unwind(AssertUnwindSafe(work))
}

/// The code of how it went.
fn flat(result: std::thread::Result<Result<()>>) -> c_int {
    match result {
        Ok(Ok(())) => OK,
        Ok(Err(error)) => code(&error),
        Err(_) => BUG,
    }
}

/// The number of the error's page: `TM1157` is 1157.
fn code(error: &Error) -> c_int {
    error.code().trim_start_matches("TM").parse().unwrap_or(BUG)
}

fn describe(error: &Error) -> String {
    match error.help() {
        Some(help) => format!("{error}; {help} ({})", error.code()),
        None => format!("{error} ({})", error.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Damaged, Refused, Shape};
    use super::*;

    #[test]
    fn every_error_has_a_code_and_a_text() {
        let path = || "a.ring".into();
        let errors = [
            Error::Io { action: "open", path: path(), cause: std::io::ErrorKind::NotFound.into() },
            Error::NotARing { path: path() },
            Error::Format { path: path(), found: 2, known: 1 },
            Error::BadHeader { path: path(), what: "short".into() },
            Error::BadShape { field: "slots", value: 3, rule: "a power of two" },
            Error::ReaderTaken { path: path() },
            Error::PlacesTaken { path: path(), producers: 2 },
            Error::Refused(Refused::Full { slots: 4 }),
            Error::Refused(Refused::TooLarge { bytes: 65, limit: 48 }),
            Error::BadArgument { what: "null" },
        ];
        let codes: Vec<_> = errors.iter().map(code).collect();
        assert_eq!(codes, (1150..=1159).collect::<Vec<_>>());
        assert_eq!(code(&Error::Damaged(Damaged { position: 7 })), 1153);
        for code in codes.into_iter().chain([OK, BUG]) {
            // SAFETY: a string that ends with a zero and lives for ever.
            let text = unsafe { CStr::from_ptr(tidemill_ring_error_text(code)) };
            assert_ne!(text, c"no code of the ring", "{code}");
        }
    }

    #[test]
    fn nulls_are_errors() {
        let null = std::ptr::null_mut();
        let mut message = [1; 200];
        // SAFETY: nulls are allowed everywhere, and the message has as many bytes as are told.
        unsafe {
            assert_eq!(tidemill_ring_open(std::ptr::null(), std::ptr::null_mut(), null, 0), 1159);
            let mut producer = std::ptr::null_mut();
            let code = tidemill_ring_open(std::ptr::null(), &raw mut producer, message.as_mut_ptr(), message.len());
            assert_eq!(code, 1159);
            assert!(CStr::from_ptr(message.as_ptr()).to_str().is_ok_and(|text| text.contains("must not be NULL")));
            assert_eq!(tidemill_ring_append(std::ptr::null_mut(), std::ptr::null(), 0, std::ptr::null_mut()), 1159);
            assert_eq!(tidemill_ring_released(std::ptr::null()), 0);
            assert_eq!(tidemill_ring_record_bytes_max(std::ptr::null()), 0);
            tidemill_ring_close(std::ptr::null_mut());
        }
    }

    #[test]
    fn a_message_is_cut_to_its_room() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let path = std::ffi::CString::new(folder.path().join("é".repeat(40)).as_os_str().as_bytes()).expect("no zeros");
        for room in 1..200 {
            let mut message = vec![1 as c_char; room + 1];
            let mut producer = std::ptr::null_mut();
            // SAFETY: all are whole, and the message has a byte more than is told.
            unsafe {
                assert_eq!(tidemill_ring_open(path.as_ptr(), &raw mut producer, message.as_mut_ptr(), room), 1150);
                assert!(producer.is_null());
                assert!(CStr::from_ptr(message.as_ptr()).to_str().is_ok(), "cut between characters");
            }
            assert_eq!(message[room], 1, "the byte behind the room is not touched");
        }
    }

    #[test]
    fn appends_what_the_rust_side_reads() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("c.ring");
        let shape = Shape { producers: 2, slots: 2, slot_bytes: 64 };
        let mut consumer = Ring::create(&path, shape)?.consumer()?;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let (mut producer, mut at) = (std::ptr::null_mut(), 9);
        // SAFETY: all arguments are whole, and the producer is closed once, at the end.
        unsafe {
            assert_eq!(tidemill_ring_open(path.as_ptr(), &raw mut producer, std::ptr::null_mut(), 0), OK);
            assert_eq!(tidemill_ring_record_bytes_max(producer), 48);
            assert_eq!(tidemill_ring_append(producer, b"abc".as_ptr(), 3, &raw mut at), OK);
            assert_eq!(tidemill_ring_append(producer, std::ptr::null(), 0, std::ptr::null_mut()), OK);
            assert_eq!(tidemill_ring_append(producer, b"abc".as_ptr(), 3, &raw mut at), 1157);
            assert_eq!(tidemill_ring_append(producer, [0; 49].as_ptr(), 49, &raw mut at), 1158);
            assert_eq!(tidemill_ring_append(producer, std::ptr::null(), 3, &raw mut at), 1159);
            assert_eq!(tidemill_ring_append(producer, b"abc".as_ptr(), usize::MAX, &raw mut at), 1159);
            assert_eq!(at, 0);
            assert_eq!(consumer.next()?.map(|record| record.bytes.to_vec()), Some(b"abc".to_vec()));
            assert_eq!(consumer.next()?.map(|record| record.bytes.to_vec()), Some(vec![]));
            consumer.release(1);
            assert_eq!(tidemill_ring_released(producer), 1);
            tidemill_ring_close(producer);
        }
        Ok(())
    }
}

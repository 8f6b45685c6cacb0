//! Appending allocates nothing, and neither does reading once it has begun.

#![cfg(not(loom))]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tidemill_journal::ring::{Ring, Shape};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: everything is left to the system's allocator; the counter is a plain thread-local that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn appending_and_reading_allocate_nothing() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("quiet.ring");
    let mut consumer = Ring::create(&path, Shape { producers: 2, slots: 8, slot_bytes: 128 })?.consumer()?;
    let mut producer = Ring::open(&path)?.producer()?;
    let record = [7; 112];
    let before = ALLOCATIONS.get();
    let (mut refused, mut read) = (0, 0);
    for number in 0..10_000 {
        refused += usize::from(producer.try_append(&record[..number % 113]).is_err());
        refused += usize::from(producer.try_append(&[0; 200]).is_err());
        if number % 16 == 0 {
            while let Some(record) = consumer.next()? {
                read = record.position + 1;
            }
            consumer.release(read);
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(refused > 10_000 && read > 4_000, "there were refusals ({refused}) and records ({read})");
    assert!(!Box::<[u8]>::from(&record[..]).is_empty() && ALLOCATIONS.get() > before, "the counter counts");
    Ok(())
}

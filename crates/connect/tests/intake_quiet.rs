//! Taking a short body in allocates nothing, once the columns have grown to what a step takes.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use tidemill_base::time::SystemClock;
use tidemill_connect::{Connector, Full, InboxHandle, Keep, Note, Reading, Short, Table};
use tidemill_format::JsonOptions;
use tidemill_journal::{Disk, Journal, Options};

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

const BODIES: [&str; 4] = [
    r#"{"card":"4929-1111-2222-3333","amount":12.50,"at":"2026-11-22T10:00:00.123","items":3,"note":null}"#,
    r#"{"card":"4929-9999-2222-3333","amount":7,"at":"2026-11-22T10:00:01","items":1,"note":"gift"}"#,
    r#"{"amount":7,"card":"4929-9999-2222-3333","at":"2026-11-22T10:01:01","extra":[1,2],"items":1}"#,
    "{\"card\":\"a\",\"amount\":1,\"items\":null}\n{\"card\":\"\\u00e9\",\"amount\":2}",
];

/// Keeps bodies in a journal.
struct Kept(Journal);

impl Keep for Kept {
    fn keep(&self, first_record: u64, records: u32, _: &Note<'_>, body: &[u8]) -> Result<u64, Full> {
        let (first_record, records) = (first_record.to_le_bytes(), records.to_le_bytes());
        self.0.append(1, 7, &[&first_record, &records, body]).map(|place| place.0).map_err(|_| Full::Lost)
    }

    fn is_durable(&self, _: u64) -> bool {
        true
    }

    fn let_go(&self, _: u64) {}
}

/// Takes so many bodies; how often that allocated.
fn take(inbox: &InboxHandle, bodies: usize) -> u64 {
    let before = ALLOCATIONS.get();
    for number in 0..bodies {
        let note = Note { asked: (number % 2) as u32, ..Note::default() };
        let body = BODIES[number % BODIES.len()].as_bytes();
        let short = Short { body, note, ..Short::default() };
        let taken = inbox.take(&short, |accepted| assert!(accepted.records > 0));
        assert!(taken.is_ok_and(|(_, rejected)| rejected.is_empty()));
    }
    ALLOCATIONS.get() - before
}

#[test]
fn taking_short_bodies_allocates_nothing() -> Result<(), Box<dyn std::error::Error>> {
    let fields = vec![
        Field::new("card", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("items", DataType::Int32, true),
        Field::new("note", DataType::Utf8, true),
    ];
    let decoded = Arc::new(Schema::new(fields.clone()));
    let rows = Arc::new(Schema::new([fields, vec![Field::new("asked", DataType::Boolean, false)]].concat()));
    let options = vec![("connector".to_string(), "http".to_string())];
    let table = Table { name: "payments".into(), columns: decoded.clone(), partitioned_by: vec![], options };
    let source = Connector::new(table)?.source(decoded.clone())?;
    let inbox = source.inbox().ok_or("it is an inbox")?;
    inbox.read_json(JsonOptions::default(), decoded, rows)?;
    let folder = tempfile::tempdir()?;
    let disk = Arc::new(Disk::open(folder.path().join("journal"))?);
    let (journal, _) = Journal::open(disk, Options::default(), Arc::new(SystemClock::new()))?;
    inbox.keep_in(Arc::new(Kept(journal)));
    let mut reader = inbox.reader(Reading::Deciding);
    drop(source);
    let (mut blocks, mut records) = (VecDeque::new(), 0);
    let mut allocations = Vec::new();
    for round in 0..60 {
        allocations.push(take(&inbox, 400 - round % 7));
        reader.pull(u64::MAX, &mut blocks)?;
        records += blocks.drain(..).map(|block| u64::from(block.records)).sum::<u64>();
    }
    assert_eq!(allocations[10..].iter().sum::<u64>(), 0, "{allocations:?}");
    assert!(allocations[0] > 0, "the counter counts");
    assert!(records > 60 * 394, "{records} rows came out");
    Ok(())
}

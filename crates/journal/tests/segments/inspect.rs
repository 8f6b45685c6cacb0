//! Looking at a journal, and mending it.

use std::sync::Arc;

use tidemill_base::storage::Storage;
use tidemill_journal::inspect::{self, Repaired, repair, verify};
use tidemill_journal::{Level, Sequence};

use crate::memory::{Memory, append, append_all, open, read_all, small, try_open};

/// A closed journal of 40 records in several segments.
fn closed() -> Arc<Memory> {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    append_all(&journal, [500; 40]);
    journal.close().unwrap();
    memory
}

#[test]
fn a_whole_journal_is_found_whole() {
    let memory = closed();
    let found = verify(memory.as_ref()).unwrap();
    assert_eq!((found.records, found.first, found.last), (40, Sequence(1), Sequence(40)));
    assert_eq!(found.damage, []);
    let listed = inspect::ls(memory.as_ref()).unwrap();
    assert_eq!(listed.len(), memory.segments().len());
    let firsts: Vec<_> = listed.iter().map(|segment| segment.header.unwrap().first.0).take(3).collect();
    assert_eq!(firsts, [1, 6, 11]);
    assert!(listed.iter().all(|segment| segment.error.is_none()));
    assert_eq!(listed.last().unwrap().flushed_bytes, 1024 + 5 * (24 + 512));
    let mut seen = Vec::new();
    let end = inspect::inspect(memory.as_ref(), 2, |record, payload| {
        assert_eq!(payload.len(), record.payload_bytes as usize);
        seen.push(record.sequence.0);
    });
    assert_eq!(seen, [6, 7, 8, 9, 10]);
    assert_eq!(end.unwrap(), (1024 + 5 * (24 + 512), None));
    assert!(inspect::inspect(memory.as_ref(), 99, |_, _| ()).is_err());
}

#[test]
fn a_journal_in_use_is_found_whole_too() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    for _ in 0..40 {
        append(&journal, 500);
        if journal.durable(Level::Process).0 % 3 == 0 {
            journal.flush_once().unwrap();
        }
        let found = verify(memory.as_ref()).unwrap();
        assert!(found.is_whole(), "{found:?}");
        assert_eq!(found.last, journal.durable(Level::Process));
    }
}

/// Damages a closed journal, and says what is found and what a repair makes of it.
fn check(change: impl Fn(&Memory), damage: &str, last: u64) -> Repaired {
    let memory = closed();
    change(&memory);
    if let Ok(found) = verify(memory.as_ref()) {
        let first = found.damage.first().expect("it is damaged");
        assert_eq!(format!("{}:{}: {}", first.segment, first.offset, first.defect), damage);
        assert!(!found.is_whole());
    }
    let repaired = repair(memory.as_ref()).unwrap();
    assert_eq!(repaired.last, Sequence(last), "{repaired:?}");
    assert_eq!(repair(memory.as_ref()).unwrap().damage, [], "once is enough");
    let (journal, found) = try_open(&memory, small()).expect("it opens again");
    assert_eq!(found.last, Sequence(last));
    assert_eq!(read_all(&journal, found.first, Level::Flushed).unwrap(), Sequence(last));
    assert_eq!(append(&journal, 1), Sequence(last + 1));
    repaired
}

#[test]
fn damage_is_named_cut_off_and_kept() {
    let third = "00000000000000000003.segment";
    let at = 1024 + 24 + 512;
    let repaired = check(|memory| memory.flip(third, (at + 100) * 8), "3:1560: the checksum of record 12 is wrong", 11);
    assert_eq!(repaired.cut_files.len(), 6, "five later segments, and the rest of the third");
    assert!(repaired.cut_files.contains(&format!("{third}.cut")));
    assert_eq!(repaired.lost_records, 29);

    check(|memory| memory.flip(third, 8), "3:0: this is no header of a segment", 10);
    check(|memory| memory.flip(third, 50 * 8), "3:0: the header's checksum is wrong", 10);
    check(|memory| memory.flip(third, 515 * 8), "3:512: the flush mark is not one", 40);
    check(|memory| memory.remove(third).unwrap(), "4:0: segment 3, which comes before it, is not there", 10);
}

#[test]
fn a_lost_identity_is_made_up_from_the_segments() {
    let repaired = check(|memory| memory.remove("identity").unwrap(), "", 40);
    assert!(repaired.identity);
    let repaired = check(|memory| memory.flip("identity", 8 * 20), "", 40);
    assert!(repaired.identity);
}

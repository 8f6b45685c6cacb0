//! Quota, retention, and who keeps what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_base::Timestamp;
use tidemill_base::storage::Storage;
use tidemill_base::time::ManualClock;
use tidemill_journal::{Error, Fullness, Journal, Level, Options, Sequence};

use crate::memory::{Memory, append, append_all, open, read_all, small, try_open};

/// Four segments of three records each.
fn tight() -> Options {
    Options { quota_bytes: 4 * 4096, ..small() }
}

/// Appends until it is full; returns the last record.
fn fill(journal: &Journal) -> (Sequence, Error) {
    loop {
        if let Err(error) = journal.append(1, 2, &[&[0; 900]]) {
            return (journal.durable(Level::Process), error);
        }
    }
}

#[test]
fn a_full_journal_refuses_and_goes_on_when_readers_let_go() {
    let (journal, _) = try_open(&Memory::new(), tight()).unwrap();
    journal.retain("slow", Sequence(4));
    let (last, error) = fill(&journal);
    assert_eq!(last, Sequence(12));
    assert_eq!(
        error.to_string(),
        "the journal is full: 16384 of 16384 bytes hold records that are still needed by 'slow'"
    );
    assert_eq!(journal.usage().fullness, Fullness::Full);
    journal.flush_once().unwrap();

    assert_eq!(journal.retire(last).unwrap(), 1, "the first segment ends with record 3");
    assert_eq!(journal.usage().first, Sequence(4));
    assert_eq!(fill(&journal).0, Sequence(15));
    journal.release("slow");
    journal.flush_once().unwrap();
    journal.retire(last).unwrap();
    assert_eq!(journal.usage().first, Sequence(13));
    assert_eq!(journal.usage().fullness, Fullness::Fine);
}

/// Admits until it is refused; returns how many records were taken.
fn admit_all(journal: &Journal) -> usize {
    let admitted = |_: &usize| match journal.admit(1, 2, 900) {
        Ok(place) => place.commit(&[&[0; 900]]).is_ok(),
        Err(error) => !matches!(error, Error::Full { .. }),
    };
    (0..1_000).take_while(admitted).count()
}

#[test]
fn the_last_segment_is_left_to_those_who_make_room() {
    let (journal, _) = try_open(&Memory::new(), tight()).unwrap();
    assert_eq!(admit_all(&journal), 9, "three of four segments");
    assert_eq!(journal.usage().fullness, Fullness::Full);
    let left = journal.left();
    assert_eq!(admit_all(&journal), 0);
    assert_eq!(journal.left(), left, "what is refused takes nothing");
    assert_eq!(append(&journal, 900), Sequence(10), "there is room for others");
    assert!(journal.left() < left);
    assert_eq!(fill(&journal).0, Sequence(12));

    journal.flush_once().unwrap();
    assert_eq!(journal.retire(Sequence(3)).unwrap(), 1);
    assert_eq!(admit_all(&journal), 0, "the segment that came free is the last now");
    assert_eq!(append(&journal, 900), Sequence(13));
    journal.flush_once().unwrap();
    assert_eq!(journal.retire(Sequence(6)).unwrap(), 1);
    assert_eq!(admit_all(&journal), 2, "what the present segment has room for, as another fits behind it");
}

#[test]
fn what_is_admitted_has_what_is_kept_for_its_age_alone_removed() {
    let options = Options { retain_age: Duration::from_secs(60), ..tight() };
    let (journal, _) = try_open(&Memory::new(), options).unwrap();
    assert_eq!(admit_all(&journal), 9);
    journal.flush_once().unwrap();
    assert_eq!(journal.retire(Sequence(9)).unwrap(), 0, "its time has not come");
    assert_eq!(admit_all(&journal), 9);
    assert_eq!(journal.usage().first, Sequence(10));
}

#[test]
fn a_start_begins_a_segment_though_the_quota_is_used_up() {
    let memory = Memory::new();
    let full = {
        let (journal, _) = try_open(&memory, tight()).unwrap();
        let last = append_all(&journal, [900; 12]);
        assert!(fill(&journal).1.is_full());
        journal.flush_once().unwrap();
        last
    };
    for start in 1..=3_u64 {
        let (journal, found) = try_open(&memory, tight()).unwrap();
        assert_eq!(found.last.0, full.0 + start - 1);
        assert_eq!(journal.usage().fullness, Fullness::Full);
        assert_eq!(admit_all(&journal), 0);
        assert_eq!(append(&journal, 900).0, full.0 + start, "steps go on");
        journal.flush_once().unwrap();
    }
    let (journal, found) = try_open(&memory, tight()).unwrap();
    assert_eq!(read_all(&journal, Sequence::FIRST, Level::Process).unwrap(), found.last);
    journal.flush_once().unwrap();
    journal.retire(found.last).unwrap();
    assert_eq!(admit_all(&journal), 9, "all that was full is free again");
}

#[test]
fn a_blocked_append_goes_on_when_there_is_room() {
    let (journal, _) = try_open(&Memory::new(), tight()).unwrap();
    let (last, _) = fill(&journal);
    journal.flush_once().unwrap();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| journal.append_blocking(1, 2, &[&[0; 900]]).unwrap());
        journal.retire(last).unwrap();
        assert_eq!(blocked.join().unwrap(), last.next());
    });
}

#[test]
fn nothing_is_removed_that_is_not_flushed_or_not_covered() {
    let (journal, _) = open(&Memory::new());
    let last = append_all(&journal, [900; 30]);
    assert_eq!(journal.retire(Sequence(8)).unwrap(), 0, "nothing is flushed");
    journal.flush_once().unwrap();
    assert_eq!(journal.retire(Sequence(8)).unwrap(), 2, "record 8 is in the third segment, which has more");
    assert_eq!(read_all(&journal, Sequence(7), Level::Flushed).unwrap(), last);
    let error = journal.reader(Sequence(6), Level::Flushed).err().expect("record 6 is gone");
    assert_eq!(error.to_string(), "record 6 is no longer in the journal, which begins with 7");
}

#[test]
fn a_reader_whose_records_are_removed_says_so() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    let last = append_all(&journal, [900; 30]);
    journal.flush_once().unwrap();
    let mut reader = journal.reader(Sequence::FIRST, Level::Flushed).unwrap();
    journal.retire(last).unwrap();
    assert!(matches!(reader.next(), Err(Error::Retired { sequence: Sequence(1), .. })));
}

#[test]
fn covered_segments_stay_for_their_time_and_within_their_bytes() {
    let open = |retain_age, retain_bytes| {
        let clock = Arc::new(ManualClock::default());
        let options = Options { retain_age, retain_bytes, ..small() };
        let storage: Arc<dyn Storage> = Memory::new();
        let (journal, _) = Journal::open(storage, options, Arc::clone(&clock) as _).unwrap();
        let last = append_all(&journal, [900; 30]);
        journal.flush_once().unwrap();
        (journal, clock, last)
    };
    let (journal, clock, last) = open(Duration::from_secs(60), 1 << 30);
    clock.set(Timestamp(59_999));
    assert_eq!(journal.retire(last).unwrap(), 0);
    clock.set(Timestamp(60_000));
    assert_eq!(journal.retire(last).unwrap(), 9);

    let (journal, _, last) = open(Duration::from_secs(60), 5 * 4096);
    journal.retire(last).unwrap();
    assert_eq!(journal.usage().bytes, 5 * 4096);
}

#[test]
fn what_was_written_since_a_time_is_found_by_its_segment() {
    let clock = Arc::new(ManualClock::default());
    let storage: Arc<dyn Storage> = Memory::new();
    let (journal, _) = Journal::open(storage, small(), Arc::clone(&clock) as _).unwrap();
    assert_eq!(journal.since(Timestamp(0)), Sequence::FIRST);
    let mut written = Vec::new();
    for second in 1..=20 {
        clock.set(Timestamp(second * 1_000));
        written.push((second * 1_000, append(&journal, 900)));
    }
    for (time, sequence) in &written {
        let since = journal.since(Timestamp(*time));
        assert!(since <= *sequence && sequence.0 - since.0 < 4, "{since} for {sequence}");
    }
    assert_eq!(journal.since(Timestamp(-1)), Sequence::FIRST);
}

#[test]
fn retention_gives_way_to_the_quota() {
    let options = Options { retain_age: Duration::from_secs(60), ..tight() };
    let (journal, _) = try_open(&Memory::new(), options).unwrap();
    let (last, _) = fill(&journal);
    journal.flush_once().unwrap();
    assert_eq!(journal.retire(last).unwrap(), 0, "its time has not come");
    assert_eq!(journal.append(1, 2, &[&[0; 900]]).unwrap(), last.next());
    assert_eq!(journal.usage().first, Sequence(4));
}

#[test]
fn a_full_disk_is_told_apart_and_overcome() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    memory.faults.room.store(4096, Ordering::SeqCst);
    let (last, error) = fill(&journal);
    assert!(matches!(error, Error::NoSpace { bytes: 4096, .. }), "{error}");
    assert_eq!(last, Sequence(6));
    memory.faults.room.store(1 << 20, Ordering::SeqCst);
    assert_eq!(append(&journal, 900), Sequence(7));
    assert_eq!(open(&memory).1.last, Sequence(7), "all records outlive the process");
}

#[test]
fn numbers_go_on_although_everything_was_removed() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    let last = append_all(&journal, [900; 30]);
    journal.close().unwrap();
    for _ in 0..3 {
        let (journal, found) = open(&memory);
        assert_eq!(found.last, last);
        journal.flush_once().unwrap();
        journal.retire(last).unwrap();
        assert_eq!(journal.usage().first, last.next());
        assert_eq!(memory.segments().len(), 1);
    }
}

//! Appending, waiting and acknowledging.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tidemill_base::Explain;
use tidemill_base::storage::Storage;
use tidemill_base::time::SystemClock;
use tidemill_journal::{Error, Journal, Level, Options, Sequence};

use crate::memory::{Memory, append, append_all, open, payload, read_all, small, try_open};

#[test]
fn records_are_numbered_and_read_back() {
    let (journal, _) = open(&Memory::new());
    for (number, bytes) in [0, 1, 7, 8, 9, 500, 2_000, 3, 3_000, 3_040, 1].into_iter().enumerate() {
        assert_eq!(append(&journal, bytes), Sequence(number as u64 + 1));
    }
    assert_eq!(read_all(&journal, Sequence::FIRST, Level::Process).unwrap(), Sequence(11));
    assert_eq!(read_all(&journal, Sequence(7), Level::Process).unwrap(), Sequence(11));
    assert_eq!(read_all(&journal, Sequence::FIRST, Level::Flushed).unwrap(), Sequence::NONE);
    journal.flush_once().unwrap();
    assert_eq!(read_all(&journal, Sequence::FIRST, Level::Flushed).unwrap(), Sequence(11));
}

#[test]
fn a_reader_goes_on_where_it_stopped() {
    let (journal, _) = open(&Memory::new());
    let mut reader = journal.reader(Sequence::FIRST, Level::Process).unwrap();
    for number in 1..200 {
        assert_eq!(reader.next().unwrap(), None);
        let sequence = append(&journal, 100);
        if number % 7 == 0 {
            journal.flush_once().unwrap();
        }
        let record = reader.next().unwrap().expect("it was just appended");
        assert_eq!((record.sequence, sequence), (Sequence(number), Sequence(number)));
    }
}

#[test]
fn a_flush_acknowledges_everything_before_it() {
    let (journal, _) = open(&Memory::new());
    let last = append_all(&journal, [200; 100]);
    assert_eq!(journal.durable(Level::Process), last);
    assert_eq!(journal.durable(Level::Flushed), Sequence::NONE);
    journal.wait(last, Level::Flushed).unwrap();
    assert_eq!(journal.durable(Level::Flushed), last);
}

#[test]
fn nothing_is_acknowledged_behind_a_record_that_is_not_whole() {
    let (journal, _) = open(&Memory::new());
    append(&journal, 10);
    let gap = journal.reserve(1, 2, 12).unwrap();
    // Enough to go on in later segments.
    let last = append_all(&journal, [200; 100]);
    journal.flush_once().unwrap();
    for level in Level::ALL {
        assert_eq!(journal.durable(level), Sequence(1), "{level}");
        assert_eq!(read_all(&journal, Sequence::FIRST, level).unwrap(), Sequence(1));
    }
    let whole = payload(gap.sequence(), 4);
    gap.commit(&[&whole[..3], &whole[3..]]).unwrap();
    journal.flush_once().unwrap();
    for level in Level::ALL {
        assert_eq!(journal.durable(level), last, "{level}");
        assert_eq!(read_all(&journal, Sequence::FIRST, level).unwrap(), last);
    }
}

#[test]
fn a_number_that_was_given_up_is_skipped() {
    let (journal, _) = open(&Memory::new());
    append(&journal, 5);
    drop(journal.reserve(1, 2, 100).unwrap());
    let error = journal.reserve(1, 2, 100).unwrap().commit(&[b"short"]).expect_err("five are not a hundred");
    assert_eq!(error.to_string(), "100 bytes were reserved in the journal, but 5 came");
    append(&journal, 6);
    let mut reader = journal.reader(Sequence::FIRST, Level::Process).unwrap();
    let numbers: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).map(|record| record.sequence.0).collect();
    assert_eq!(numbers, [1, 4]);
}

#[test]
fn what_never_fits_is_refused() {
    let (journal, _) = open(&Memory::new());
    let limit = small().payload_bytes_max();
    let error = journal.append(0, 0, &[&vec![0; limit as usize + 1]]).expect_err("it is larger than a segment");
    assert!(matches!(error, Error::TooLarge { bytes, .. } if bytes == limit + 1));
    assert_eq!(journal.append(0, 0, &[&vec![0; limit as usize]]).unwrap(), Sequence(1));
}

#[test]
fn a_failed_flush_stops_the_journal_for_good() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    let kept = append(&journal, 10);
    journal.wait(kept, Level::Flushed).unwrap();
    let lost = append(&journal, 10);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    memory.faults.failing.store(true, Ordering::SeqCst);
    journal.notify(lost, Level::Flushed, Box::new(move |result| tells.lock().unwrap().push(result.is_err())));
    assert_eq!(*told.lock().unwrap(), [true]);

    memory.faults.failing.store(false, Ordering::SeqCst);
    let flushes = memory.faults.flushes.load(Ordering::SeqCst);
    for result in
        [journal.flush_once().map(drop), journal.wait(lost, Level::Flushed), journal.wait(lost, Level::Process)]
    {
        let error = result.expect_err("it is poisoned");
        assert_eq!(error.code(), "TM1106");
        assert_eq!(error.to_string(), "the journal stopped: flushing segment 1 failed: input/output error");
    }
    assert!(journal.append(0, 0, &[b"more"]).is_err());
    assert!(journal.append_blocking(0, 0, &[b"more"]).is_err());
    assert_eq!(memory.faults.flushes.load(Ordering::SeqCst), flushes, "a failed flush is never tried again");
    assert_eq!(journal.durable(Level::Flushed), kept);
    journal.wait(kept, Level::Flushed).expect("what was flushed before stays so");
}

#[test]
fn a_closed_journal_takes_nothing_and_fails_those_who_wait() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    append(&journal, 1);
    let told = Arc::new(Mutex::new(None));
    let tells = Arc::clone(&told);
    journal.notify(Sequence(9), Level::Process, Box::new(move |result| *tells.lock().unwrap() = Some(result)));
    journal.close().unwrap();
    assert!(matches!(*told.lock().unwrap(), Some(Err(Error::Closed))));
    assert_eq!(open(&memory).1.last, Sequence(1));
}

#[test]
fn threads_append_at_once_and_share_flushes() {
    const THREADS: u64 = 4;
    const RECORDS: u64 = 2_000;
    let memory = Memory::new();
    let options = Options { segment_bytes: 64 << 10, quota_bytes: 64 << 20, flusher: true, ..small() };
    let (journal, _) = try_open(&memory, options).unwrap();
    let total = Sequence(THREADS * RECORDS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || {
                let mut before = Sequence::NONE;
                for number in 0..RECORDS {
                    let sequence = journal.append(7, thread as u32, &[&number.to_le_bytes(), &[0; 40]]).unwrap();
                    assert!(sequence > before);
                    before = sequence;
                    if number % 50 == 0 {
                        journal.wait(sequence, Level::Flushed).unwrap();
                        assert!(journal.durable(Level::Flushed) >= sequence);
                    }
                }
            });
        }
        let mut reader = journal.reader(Sequence::FIRST, Level::Process).unwrap();
        let mut numbers = [0; THREADS as usize];
        let mut last = Sequence::NONE;
        while last < total {
            let Some(record) = reader.next().unwrap() else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!(record.sequence, last.next());
            last = record.sequence;
            let next = &mut numbers[record.stream as usize];
            assert_eq!(record.payload[..8], u64::to_le_bytes(*next), "a thread's records keep their order");
            *next += 1;
        }
    });
    journal.wait(total, Level::Flushed).unwrap();
    assert!(memory.faults.flushes.load(Ordering::SeqCst) < THREADS * RECORDS / 4);
    journal.close().unwrap();
    assert_eq!(open(&memory).1.last, total);
}

#[test]
fn the_flusher_flushes_without_being_asked() {
    let options = Options { flusher: true, flush_every: std::time::Duration::from_millis(1), ..small() };
    let storage: Arc<dyn Storage> = Memory::new();
    let (journal, _) = Journal::open(storage, options, Arc::new(SystemClock::new())).unwrap();
    let last = append(&journal, 1);
    while journal.durable(Level::Flushed) < last {
        std::thread::yield_now();
    }
}

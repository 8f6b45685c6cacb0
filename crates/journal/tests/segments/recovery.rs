//! What is there after a crash, a power cut, or damage.

use std::sync::Arc;

use proptest::prelude::*;
use tidemill_base::Explain;
use tidemill_base::rand::Rng;
use tidemill_journal::{Error, Journal, Level, Sequence};

use crate::memory::{Memory, append, append_all, open, read_all, small, try_open};

#[test]
fn a_killed_process_loses_nothing() {
    let memory = Memory::new();
    for start in 1..=5 {
        let (journal, found) = open(&memory);
        assert_eq!((found.incarnation, journal.incarnation()), (start, start));
        assert_eq!(found.last, Sequence((start - 1) * 20));
        assert_eq!(found.torn, None);
        assert_eq!(read_all(&journal, Sequence::FIRST, Level::Flushed).unwrap(), found.last);
        for bytes in 0..20 {
            append(&journal, bytes * 10);
        }
    }
}

#[test]
fn a_record_that_was_never_whole_ends_the_journal() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    append(&journal, 100);
    // Its thread is gone before it is written.
    std::mem::forget(journal.reserve(1, 2, 100).unwrap());
    append(&journal, 100);
    let (journal, found) = open(&memory);
    assert_eq!(found.last, Sequence(1));
    let torn = found.torn.expect("a record behind it was not acknowledged");
    assert_eq!((torn.segment, torn.offset), (1, 1024 + 24 + 112));
    assert_eq!(append(&journal, 3), Sequence(2));
    assert_eq!(read_all(&journal, Sequence::FIRST, Level::Process).unwrap(), Sequence(2));
}

#[test]
fn starts_without_records_leave_nothing_behind() {
    let memory = Memory::new();
    for _ in 0..10 {
        open(&memory);
        assert_eq!(memory.segments().len(), 1);
    }
}

#[test]
fn damage_before_the_flush_mark_halts_and_is_named() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    append_all(&journal, [100; 3]);
    journal.close().unwrap();
    let second = 1024 + 24 + 112;
    memory.flip("00000000000000000001.segment", (second + 30) * 8);
    let error = try_open(&memory, small()).expect_err("record 2 was flushed");
    assert_eq!(error.code(), "TM1104");
    assert_eq!(
        error.to_string(),
        "segment 1 of the journal is damaged at byte 1160: the checksum of record 2 is wrong"
    );
}

#[test]
fn damage_behind_the_flush_mark_is_cut_off_and_counted() {
    let memory = Memory::new();
    let (journal, _) = open(&memory);
    append_all(&journal, [100; 3]);
    drop(journal);
    memory.flip("00000000000000000001.segment", (1024 + 24 + 112 + 30) * 8);
    let (_, found) = open(&memory);
    assert_eq!(found.last, Sequence(1));
    assert_eq!(
        found.to_string(),
        "start 2: records 1 to 1 in 1 segments, 1 checked; 268 bytes never flushed were cut off at byte 1160 of \
         segment 1: the checksum of record 2 is wrong"
    );
}

/// A journal of several segments, closed.
fn closed() -> Arc<Memory> {
    let memory = Memory::new();
    for _ in 0..2 {
        let (journal, _) = open(&memory);
        append_all(&journal, (0..20).map(|bytes| bytes * 30));
        journal.close().unwrap();
    }
    memory
}

#[test]
fn missing_and_foreign_files_are_refused() {
    let check = |change: &dyn Fn(&Memory), code: &str| {
        let memory = closed();
        change(&memory);
        let error = try_open(&memory, small()).expect_err(code);
        assert_eq!(error.code(), code, "{error}");
    };
    use tidemill_base::storage::Storage;
    check(&|memory| memory.remove("identity").unwrap(), "TM1105");
    check(&|memory| memory.flip("identity", 8 * 30), "TM1105");
    check(&|memory| memory.remove(&memory.segments()[1]).unwrap(), "TM1104");
    check(&|memory| memory.remove(memory.segments().last().unwrap()).unwrap(), "TM1104");
    check(
        &|memory| {
            let name = &memory.segments()[0];
            let mut bytes = memory.bytes(name);
            bytes[8] = 2;
            memory.put(name, &bytes);
        },
        "TM1102",
    );
    check(
        &|memory| {
            let other = Memory::new();
            let options = tidemill_journal::Options { seed: Some(2), ..small() };
            try_open(&other, options).unwrap();
            memory.put("00000000000000000099.segment", &other.bytes("00000000000000000001.segment"));
        },
        "TM1103",
    );
}

/// What is done to a journal.
#[derive(Debug, Clone)]
enum Act {
    Append(usize),
    /// A record whose thread dies before it is whole.
    Abandon(usize),
    Flush,
    Retire(u64),
    Kill,
    PowerCut(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        12 => (0..1_500_usize).prop_map(Act::Append),
        1 => (0..300_usize).prop_map(Act::Abandon),
        6 => Just(Act::Flush),
        2 => (0..40_u64).prop_map(Act::Retire),
        2 => Just(Act::Kill),
        2 => any::<u64>().prop_map(Act::PowerCut),
    ];
    prop::collection::vec(act, 1..80)
}

/// Opens again after a crash, and checks that everything up to `acknowledged` is there.
fn reopen(memory: &Arc<Memory>, acknowledged: Sequence, appended: Sequence) -> Journal {
    let (journal, found) = open(memory);
    assert!(found.last >= acknowledged, "{} were acknowledged, {} are there", acknowledged, found.last);
    assert!(found.last <= appended, "{} were appended, {} are there", appended, found.last);
    let read = read_all(&journal, found.first, Level::Flushed).expect("what was recovered can be read");
    // The last ones may have been given up.
    assert!(read <= found.last);
    journal
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn recovery_is_a_prefix_with_everything_acknowledged(acts in acts()) {
        let mut memory = Memory::new();
        let mut journal = open(&memory).0;
        let mut incarnation = 1;
        let mut appended = Sequence::NONE;
        let mut covered = Sequence::NONE;
        for act in acts {
            match act {
                Act::Append(bytes) => appended = append(&journal, bytes),
                Act::Abandon(bytes) => std::mem::forget(journal.reserve(1, 2, bytes).unwrap()),
                Act::Flush => drop(journal.flush_once().unwrap()),
                Act::Retire(back) => {
                    let to = Sequence(journal.durable(Level::Flushed).0.saturating_sub(back));
                    covered = covered.max(to);
                    journal.retire(to).unwrap();
                    prop_assert!(journal.usage().first <= covered.next());
                }
                Act::Kill | Act::PowerCut(_) => {
                    let (process, flushed) = (journal.durable(Level::Process), journal.durable(Level::Flushed));
                    drop(journal);
                    let acknowledged = match act {
                        Act::PowerCut(seed) => {
                            memory = memory.after_power_cut(&mut Rng::seeded(seed));
                            flushed
                        }
                        _ => process,
                    };
                    journal = reopen(&memory, acknowledged, appended);
                    appended = journal.durable(Level::Process);
                    incarnation += 1;
                    prop_assert_eq!(journal.incarnation(), incarnation);
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_never_read_as_a_record(file in any::<prop::sample::Index>(), bit in any::<u64>()) {
        let memory = closed();
        let names = memory.segments();
        let name = &names[file.index(names.len())];
        let bits = memory.bytes(name).len() as u64 * 8;
        memory.flip(name, bit % bits);
        // `read_all` compares every payload with what was written.
        let read = try_open(&memory, small()).and_then(|(journal, found)| {
            read_all(&journal, found.first, Level::Flushed).map(|last| (last, found.last))
        });
        match read {
            Ok((last, found)) => prop_assert_eq!((last, found), (Sequence(40), Sequence(40))),
            Err(error) => prop_assert!(
                matches!(error, Error::Corrupt { .. } | Error::Format { .. } | Error::Foreign { .. }),
                "{}", error
            ),
        }
    }

    #[test]
    fn a_file_cut_short_is_a_prefix_or_an_error(file in any::<prop::sample::Index>(), pages in 0..3_usize, mut odd in 0..9_usize) {
        let memory = closed();
        let names = memory.segments();
        let name = &names[file.index(names.len())];
        odd *= 8;
        let bytes = memory.bytes(name);
        memory.put(name, &bytes[..(pages * 4096 + odd).min(bytes.len())]);
        if let Ok((journal, found)) = try_open(&memory, small()) {
            match read_all(&journal, found.first, Level::Flushed) {
                Ok(last) => prop_assert_eq!(last, Sequence(40)),
                Err(error) => prop_assert!(matches!(error, Error::Corrupt { .. } | Error::Io { .. }), "{}", error),
            }
        }
    }
}

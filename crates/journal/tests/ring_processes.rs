//! Producers in processes of their own, killed and stopped at random moments while this process reads.

#![cfg(not(loom))]

use std::collections::HashMap;
use std::error::Error;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tidemill_base::rand::Rng;
use tidemill_journal::ring::{Consumer, Patience, Refused, Ring, Shape};

type Outcome = Result<(), Box<dyn Error>>;

const RING: &str = "TIDEMILL_TEST_RING";
const NAME: &str = "TIDEMILL_TEST_NAME";
const COUNT: &str = "TIDEMILL_TEST_COUNT";

/// Not a test of its own: what a producing process runs. Record: its name, a number, filling that tells of both.
#[test]
fn child() -> Outcome {
    let Ok(path) = std::env::var(RING) else { return Ok(()) };
    let (name, count) = (std::env::var(NAME)?.parse::<u64>()?, std::env::var(COUNT)?.parse::<u64>()?);
    let mut producer = Ring::open(path)?.producer()?;
    let (mut number, parent) = (0, parent_id());
    while number < count {
        match producer.try_append(&record(name, number)) {
            Ok(_) => number += 1,
            // Nobody reads on when the test is gone.
            Err(Refused::Full { .. }) if parent_id() != parent => return Ok(()),
            Err(Refused::Full { .. }) => std::thread::yield_now(),
            Err(refused) => return Err(refused.into()),
        }
    }
    Ok(())
}

fn record(name: u64, number: u64) -> Vec<u8> {
    let filling = tidemill_base::hash::words(name, number).to_le_bytes();
    let filling = filling.iter().cycle().take(number as usize % 97).copied();
    name.to_le_bytes().into_iter().chain(number.to_le_bytes()).chain(filling).collect()
}

fn start(ring: &Path, name: u64, count: u64) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "child"]).stdout(Stdio::null());
    command.env(RING, ring).env(NAME, name.to_string()).env(COUNT, count.to_string()).spawn()
}

/// Reads and checks all there is: each process's records are whole, in order, without gaps or repetition.
fn check(consumer: &mut Consumer, next: &mut HashMap<u64, u64>) -> Outcome {
    while let Some(found) = consumer.next()? {
        let word = |at: usize| found.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        let (name, number) = word(0).zip(word(8)).ok_or("records have a name and a number")?;
        let (name, number) = (u64::from_le_bytes(name), u64::from_le_bytes(number));
        let expected = next.entry(name).or_default();
        assert_eq!(number, *expected, "of process {name}");
        assert_eq!(found.bytes, record(name, number));
        *expected += 1;
    }
    consumer.release(consumer.position());
    Ok(())
}

#[test]
fn killed_producers_lose_nothing_and_hold_nobody_up() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("killed.ring");
    // Two places for three processes that come and go, of which one is always just being replaced.
    let mut consumer = Ring::create(&path, Shape { producers: 2, slots: 16, slot_bytes: 128 })?.consumer()?;
    let (mut next, mut rng) = (HashMap::new(), Rng::seeded(7));
    let lasting_count = 20_000;
    let mut lasting = start(&path, 0, lasting_count)?;
    for name in 1..=30 {
        let mut dying = start(&path, name, u64::MAX)?;
        // It is killed some records after it has begun.
        let records = 1 + rng.below(2_000);
        while next.get(&name).is_none_or(|&read| read < records) {
            consumer.wait(Patience::default());
            check(&mut consumer, &mut next)?;
            assert!(dying.try_wait()?.is_none(), "it appends until it is killed");
        }
        dying.kill()?;
        dying.wait()?;
    }
    while lasting.try_wait()?.is_none() {
        consumer.wait(Patience::default());
        check(&mut consumer, &mut next)?;
    }
    check(&mut consumer, &mut next)?;
    assert!(lasting.wait()?.success());
    assert_eq!(next.len(), 31);
    assert_eq!(next[&0], lasting_count);
    Ok(())
}

#[test]
fn a_stopped_producer_holds_nobody_up() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("stopped.ring");
    let mut consumer = Ring::create(&path, Shape { producers: 2, slots: 16, slot_bytes: 128 })?.consumer()?;
    let mut next = HashMap::new();
    let mut stopped = start(&path, 1, u64::MAX)?;
    while next.get(&1).is_none_or(|&read| read < 100) {
        consumer.wait(Patience::default());
        check(&mut consumer, &mut next)?;
        assert!(stopped.try_wait()?.is_none(), "it appends until it is killed");
    }
    let stop = Command::new("kill").args(["-STOP", &stopped.id().to_string()]).status()?;
    assert!(stop.success());
    let mut other = start(&path, 2, 5_000)?;
    while other.try_wait()?.is_none() {
        consumer.wait(Patience::default());
        check(&mut consumer, &mut next)?;
    }
    check(&mut consumer, &mut next)?;
    assert!(other.wait()?.success());
    assert_eq!(next[&2], 5_000);
    stopped.kill()?;
    stopped.wait()?;
    Ok(())
}

#[test]
fn a_reader_that_dies_leaves_what_it_did_not_release() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("reader.ring");
    let mut consumer = Ring::create(&path, Shape { producers: 1, slots: 64, slot_bytes: 128 })?.consumer()?;
    let (mut producer, mut kept, mut rng) = (start(&path, 1, 10_000)?, 0_u64, Rng::seeded(3));
    while kept < 10_000 {
        let (stop_at, gone) = (kept + rng.below(200), producer.try_wait()?);
        assert!(gone.is_none_or(|status| status.success()), "the producer fails");
        while let Some(found) = consumer.next()? {
            assert_eq!(found.bytes, record(1, found.position), "a position names the same record each time");
            let after = found.position + 1;
            if after >= stop_at {
                break;
            }
            if rng.chance(1, 3) {
                consumer.release(after);
                kept = after;
            }
        }
        if kept + 64 >= 10_000 && consumer.position() == 10_000 {
            consumer.release(10_000);
            kept = 10_000;
        }
        // The death of a reader is no more than this: its memory is gone, its lock is dropped.
        drop(consumer);
        consumer = Ring::open(&path)?.consumer()?;
        assert_eq!(consumer.position(), kept);
    }
    assert!(producer.wait()?.success());
    Ok(())
}

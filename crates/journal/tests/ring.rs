//! Rings in files: what they answer to producers, consumers and damaged files.

#![cfg(not(loom))]

use std::error::Error as StdError;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tidemill_base::Explain;
use tidemill_journal::ring::{Consumer, Error, Patience, Producer, Refused, Ring, Shape};

type Outcome = Result<(), Box<dyn StdError>>;

const SMALL: Shape = Shape { producers: 2, slots: 4, slot_bytes: 64 };

fn ring(shape: Shape) -> Result<(TempDir, PathBuf, Consumer), Box<dyn StdError>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("test.ring");
    let consumer = Ring::create(&path, shape)?.consumer()?;
    Ok((folder, path, consumer))
}

fn producer(path: &Path) -> Result<Producer, Error> {
    Ring::open(path)?.producer()
}

fn drain(consumer: &mut Consumer) -> Result<Vec<(u64, usize, Vec<u8>)>, Error> {
    let mut found = Vec::new();
    while let Some(record) = consumer.next()? {
        found.push((record.position, record.producer, record.bytes.to_vec()));
    }
    Ok(found)
}

#[test]
fn records_come_in_the_order_of_their_positions() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let (mut one, mut two) = (producer(&path)?, producer(&path)?);
    assert_eq!(drain(&mut consumer)?, []);
    assert_eq!(one.try_append(b"a")?, 0);
    assert_eq!(two.try_append(b"b")?, 1);
    assert_eq!(one.try_append(b"")?, 2);
    assert_eq!(one.try_append(&[7; 48])?, 3);
    let expected = [(0, 0, b"a".to_vec()), (1, 1, b"b".to_vec()), (2, 0, vec![]), (3, 0, vec![7; 48])];
    assert_eq!(drain(&mut consumer)?, expected);
    Ok(())
}

#[test]
fn every_length_comes_back_as_it_was() -> Outcome {
    let (_folder, path, mut consumer) = ring(Shape { slot_bytes: 128, ..SMALL })?;
    let mut producer = producer(&path)?;
    for length in 0..=producer.shape().record_bytes_max() {
        let record: Vec<u8> = (0..length).map(|at| (at * 31 + length) as u8).collect();
        let position = producer.try_append(&record)?;
        assert_eq!(drain(&mut consumer)?, [(position, 0, record)]);
        consumer.release(position + 1);
    }
    Ok(())
}

#[test]
fn a_full_ring_refuses_until_it_is_released() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let (mut one, mut two) = (producer(&path)?, producer(&path)?);
    for number in 0..4 {
        one.try_append(&[number])?;
    }
    assert_eq!(one.try_append(b"x"), Err(Refused::Full { slots: 4 }));
    two.try_append(b"others have slots of their own")?;
    assert_eq!(drain(&mut consumer)?.len(), 5);
    assert_eq!(one.try_append(b"x"), Err(Refused::Full { slots: 4 }), "reading does not release");
    consumer.release(1);
    assert_eq!(one.try_append(b"y")?, 5);
    assert_eq!(one.try_append(b"x"), Err(Refused::Full { slots: 4 }));
    Ok(())
}

#[test]
fn a_record_too_large_is_refused_and_leaves_no_trace() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let mut producer = producer(&path)?;
    let refused = producer.try_append(&[0; 49]);
    assert_eq!(refused, Err(Refused::TooLarge { bytes: 49, limit: 48 }));
    let help = refused.err().and_then(|refused| refused.help());
    assert!(help.is_some_and(|help| help.contains("128 bytes")), "the size that would do is told");
    producer.try_append(b"a")?;
    assert_eq!(drain(&mut consumer)?, [(0, 0, b"a".to_vec())]);
    Ok(())
}

#[test]
fn what_was_not_released_is_read_again_by_the_next_consumer() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let mut producer = producer(&path)?;
    for number in 0..4 {
        producer.try_append(&[number])?;
    }
    assert_eq!(drain(&mut consumer)?.len(), 4);
    consumer.release(2);
    assert_eq!(producer.released(), 2);
    let id = consumer.id();
    drop(consumer);
    let mut consumer = Ring::open(&path)?.consumer()?;
    assert_eq!(consumer.id(), id);
    assert_eq!(drain(&mut consumer)?, [(2, 0, vec![2]), (3, 0, vec![3])]);
    Ok(())
}

#[test]
fn what_was_not_read_is_not_released() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let mut producer = producer(&path)?;
    for number in 0..4 {
        producer.try_append(&[number])?;
    }
    consumer.next()?;
    consumer.release(100);
    assert_eq!((consumer.released(), consumer.position()), (1, 1));
    consumer.release(0);
    assert_eq!(consumer.released(), 1, "a release is never taken back");
    assert_eq!(drain(&mut consumer)?.len(), 3);
    Ok(())
}

#[test]
fn records_outlive_their_producer_and_its_place_is_free_again() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let (first, second) = (producer(&path)?, producer(&path)?);
    assert_eq!((first.place(), second.place()), (0, 1));
    assert!(matches!(producer(&path), Err(Error::PlacesTaken { producers: 2, .. })));
    drop(first);
    for number in 0..4 {
        let mut short = producer(&path)?;
        assert_eq!(short.place(), 0);
        short.try_append(&[number])?;
    }
    assert_eq!(producer(&path)?.try_append(b"x"), Err(Refused::Full { slots: 4 }), "an heir does not overwrite");
    let found: Vec<_> = drain(&mut consumer)?.into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(found, [[0], [1], [2], [3]]);
    Ok(())
}

#[test]
fn a_ring_has_one_reader() -> Outcome {
    let (_folder, path, consumer) = ring(SMALL)?;
    assert!(matches!(Ring::open(&path)?.consumer(), Err(Error::ReaderTaken { .. })));
    drop(consumer);
    assert!(Ring::open(&path)?.consumer().is_ok());
    Ok(())
}

#[test]
fn a_ring_is_not_made_over_another_file() -> Outcome {
    let (folder, path, _consumer) = ring(SMALL)?;
    let error = Ring::create(&path, SMALL).err().ok_or("it is there")?;
    assert!(matches!(&error, Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::AlreadyExists));
    assert!(producer(&path).is_ok(), "the ring that was there is as it was");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1, "no draft stays behind");
    assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

#[test]
fn waits_for_a_record_and_not_for_ever() -> Outcome {
    let (_folder, path, consumer) = ring(SMALL)?;
    let patience = Patience { spins: 10, nap: Duration::from_micros(20), limit: Duration::from_millis(1) };
    assert!(!consumer.wait(patience));
    let mut producer = producer(&path)?;
    let appending = std::thread::spawn(move || producer.try_append(b"a"));
    assert!(consumer.wait(Patience { limit: Duration::from_secs(60), ..patience }));
    appending.join().map_err(|_| "the producer panics")??;
    Ok(())
}

/// Opens a ring of which some bytes were changed.
fn open_changed(at: u64, bytes: &[u8]) -> Result<Error, Box<dyn StdError>> {
    let (_folder, path, consumer) = ring(SMALL)?;
    drop(consumer);
    OpenOptions::new().write(true).open(&path)?.write_all_at(bytes, at)?;
    Ok(Ring::open(&path).err().ok_or("the ring opens")?)
}

#[test]
fn files_that_are_no_sound_rings_are_refused() -> Outcome {
    assert!(matches!(open_changed(0, b"x")?, Error::NotARing { .. }));
    assert!(matches!(open_changed(8, &[2])?, Error::Format { found: 2, known: 1, .. }));
    assert!(matches!(open_changed(12, &[0x55])?, Error::BadHeader { .. }), "the checksum");
    for field in 16..32 {
        assert!(matches!(open_changed(field, &[0x55])?, Error::BadHeader { .. }), "byte {field}");
    }
    let (folder, path, consumer) = ring(SMALL)?;
    drop(consumer);
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(SMALL.file_bytes() + 4096)?;
    assert!(matches!(Ring::open(&path), Err(Error::BadHeader { .. })), "too long");
    file.set_len(8192)?;
    assert!(matches!(Ring::open(&path), Err(Error::BadHeader { .. } | Error::NotARing { .. })), "too short");
    for size in [0, 10, 4096, 5000] {
        file.set_len(size)?;
        assert!(matches!(Ring::open(&path), Err(Error::NotARing { .. })), "{size} bytes");
    }
    let missing = Ring::open(folder.path().join("missing")).err().ok_or("it is not there")?;
    assert_eq!(missing.code(), "TM1150");
    assert!(missing.help().is_some_and(|help| help.contains("start its reader first")));
    Ok(())
}

/// Where the payload of a slot begins in a ring of the small shape.
fn payload_at(slot: u64) -> u64 {
    8192 + slot * 64 + 16
}

#[test]
fn a_damaged_record_is_named_and_the_next_is_read() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    let mut producer = producer(&path)?;
    for record in [b"first", b"other", b"third"] {
        producer.try_append(record)?;
    }
    let file = OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(b"O", payload_at(1))?;
    assert_eq!(consumer.next()?.map(|record| record.position), Some(0));
    match consumer.next() {
        Err(Error::Damaged(damaged)) => assert_eq!(damaged.position, 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(drain(&mut consumer)?, [(2, 0, b"third".to_vec())]);
    consumer.release(3);
    assert_eq!(producer.released(), 3);
    Ok(())
}

#[test]
fn lengths_beyond_a_slot_are_damage() -> Outcome {
    let (_folder, path, mut consumer) = ring(SMALL)?;
    producer(&path)?.try_append(b"first")?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&[255; 4], payload_at(0) - 8)?;
    assert!(matches!(consumer.next(), Err(Error::Damaged(_))));
    assert_eq!(drain(&mut consumer)?, []);
    Ok(())
}

#[test]
fn after_a_start_of_the_machine_positions_have_a_new_name_and_lost_records_are_told() -> Outcome {
    let (_folder, path, consumer) = ring(SMALL)?;
    let id = consumer.id();
    drop(consumer);
    let mut lost = producer(&path)?;
    for record in [b"first", b"other", b"third"] {
        lost.try_append(record)?;
    }
    drop(lost);
    let file = OpenOptions::new().write(true).open(&path)?;
    // Another boot; and the order's second word was not on disk, nor the tail.
    file.write_all_at(&[1; 8], 32)?;
    file.write_all_at(&[0; 8], 4096 + 8)?;
    file.write_all_at(&[0; 8], 128)?;
    let mut producer = producer(&path)?;
    assert_eq!(producer.try_append(b"fourth")?, 3);
    let mut consumer = Ring::open(&path)?.consumer()?;
    assert_ne!(consumer.id(), id);
    assert_eq!(consumer.next()?.map(|record| record.bytes.to_vec()), Some(b"first".to_vec()));
    assert!(matches!(consumer.next(), Err(Error::Damaged(damaged)) if damaged.position == 1));
    assert_eq!(drain(&mut consumer)?, [(2, 0, b"third".to_vec()), (3, 0, b"fourth".to_vec())]);
    Ok(())
}

//! A ring's file: whatever its bytes are, opening it is an error or gives a ring that can be read to its end.
//!
//! An input is the file's pages, each without the zeros at its end: header, order, slots.

use std::fs;
use std::path::Path;

use tidemill_base::Explain;
use tidemill_journal::ring::{Consumer, Error, Producer, Refused, Ring, Shape};

use super::image::{join, paged, put_word, split, trimmed, word};

const SHAPE: Shape = Shape { producers: 2, slots: 4, slot_bytes: 128 };
/// Where the file says in which run of the machine it was used last.
const BOOT_AT: usize = 32;
/// The pages of an input that are looked at.
const PAGES_MAX: usize = 8;
/// What is appended to a ring that opened.
const RECORD: &[u8] = b"one more";

/// Rings that are empty, filled, read and released.
pub fn seeds() -> Vec<Vec<u8>> {
    [(0, 0), (3, 0), (4, 2), (9, 9), (30, 29)]
        .into_iter()
        .map(|(appended, released)| seed(appended, released))
        .collect()
}

fn seed(appended: u64, released: u64) -> Vec<u8> {
    let folder = folder();
    let path = folder.path().join("seed.ring");
    let mut consumer = Ring::create(&path, SHAPE).and_then(Ring::consumer).expect("nobody else has it");
    let mut producer = Ring::open(&path).and_then(Ring::producer).expect("nobody else has it");
    for number in 0..appended {
        producer.try_append(format!("record {number}").repeat(number as usize % 3).as_bytes()).expect("there is room");
        if number < released {
            consumer.next().expect("it is whole");
            consumer.release(number + 1);
        }
    }
    let bytes = fs::read(&path).expect("it is there");
    join(&bytes.chunks(4_096).map(trimmed).collect::<Vec<_>>())
}

/// Opens `input` as a ring of an earlier run of the machine, and as one of this run.
pub fn run(input: &[u8]) -> Vec<String> {
    let folder = folder();
    let path = folder.path().join("fuzz.ring");
    let mut bytes: Vec<u8> = split(input).into_iter().take(PAGES_MAX).flat_map(paged).collect();
    let boot = boot(&folder.path().join("fresh.ring"));
    let mut found = check(&path, &bytes, word(&bytes, BOOT_AT) != boot);
    put_word(&mut bytes, BOOT_AT, boot);
    found.extend(check(&path, &bytes, false).into_iter().map(|found| format!("this run: {found}")));
    found
}

/// A folder for rings, in memory where the machine has that.
fn folder() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("there is room for a folder")
}

/// What stands in a ring of this run of the machine.
fn boot(path: &Path) -> u64 {
    Ring::create(path, SHAPE).expect("there is room for a ring");
    word(&fs::read(path).expect("it is there"), BOOT_AT)
}

/// Reads the ring to its end, and puts one record through it. One that is `mended` first has no more records than slots.
fn check(path: &Path, bytes: &[u8], mended: bool) -> Vec<String> {
    fs::write(path, bytes).expect("there is room for a ring");
    let (mut consumer, mut producer) = match attach(path) {
        Ok(both) => both,
        Err(error) => return vec![error],
    };
    let shape = consumer.shape();
    let slots = u64::from(shape.producers) * u64::from(shape.slots);
    let (records, damaged, ended) = drain(&mut consumer, 4 * slots);
    assert!(ended || !mended, "a mended ring has {} records in {slots} slots", records + damaged);
    let mut found = vec![format!("{} records, {} damaged", records.min(9), damaged.min(9))];
    if ended {
        consumer.release(consumer.position());
        match producer.try_append(RECORD) {
            Ok(_) => found.push("appended".to_string()),
            Err(Refused::Full { .. }) => {
                assert!(!mended, "a mended ring whose records are released has room");
                found.push("full".to_string());
            }
            Err(error) => panic!("it fits: {error}"),
        }
        if mended {
            let record = consumer.next().expect("it is whole").expect("it was appended");
            assert_eq!(record.bytes, RECORD, "what was appended is read");
        }
    }
    found
}

fn attach(path: &Path) -> Result<(Consumer, Producer), String> {
    let error = |error: Error| error.code().to_string();
    let consumer = Ring::open(path).and_then(Ring::consumer).map_err(error)?;
    assert_eq!(
        consumer.shape().file_bytes(),
        fs::metadata(path).map_or(0, |file| file.len()),
        "the file fits its shape"
    );
    Ok((consumer, Ring::open(path).and_then(Ring::producer).map_err(error)?))
}

/// Reads up to `most` positions: how many have records, how many are damaged, and whether that is all.
fn drain(consumer: &mut Consumer, most: u64) -> (u64, u64, bool) {
    let (mut records, mut damaged) = (0, 0);
    let limit = consumer.shape().record_bytes_max();
    for _ in 0..=most {
        match consumer.next() {
            Ok(None) => return (records, damaged, true),
            Ok(Some(record)) => {
                assert!(record.bytes.len() <= limit, "a record fits into a slot");
                records += 1;
            }
            Err(_) => damaged += 1,
        }
    }
    (records, damaged, false)
}

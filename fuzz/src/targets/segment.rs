//! A journal's folder: whatever its files hold, opening gives a prefix of what was appended or says what is wrong, and
//! repair gives a journal that opens.
//!
//! An input is the folder: the file `identity`, then segments without the zeros at their ends. Every seed is appended by
//! one rule, [`payload`], so that any record that comes back can be told to be one that was appended.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_base::Explain;
use tidemill_base::storage::Storage;
use tidemill_journal::format::{self, Head, Header, IDENTITY, Identity, MARK_AT, RECORDS_AT, RecordHead};
use tidemill_journal::{Error, Journal, Level, Options, Recovery, Sequence, inspect};
use tidemill_sim::{SimStorage, World};

use super::image::{join, paged, put_word, split, trimmed, word};

const SEGMENT_BYTES: u64 = 4_096;
const DISK_BYTES: u64 = 1 << 20;
/// The segments of an input that are looked at.
const SEGMENTS_MAX: usize = 8;

/// Folders of journals that were appended to, stopped and started in different ways.
pub fn seeds() -> Vec<Vec<u8>> {
    let check = |starts: &[(u64, bool)]| {
        let storage = disk();
        for (records, close) in starts {
            let (journal, recovery) = open(&storage).expect("an untouched journal opens");
            append(&journal, recovery.last.next(), *records);
            if *close {
                journal.close().expect("the disk works");
            }
        }
        image(&storage)
    };
    let histories: [&[(u64, bool)]; 6] = [
        &[(0, true)],
        &[(5, true)],
        &[(5, false)],
        &[(3, true), (4, true), (2, false)],
        &[(2, true), (0, true), (3, true)],
        &[(90, true)],
    ];
    histories.into_iter().map(check).collect()
}

fn disk() -> SimStorage {
    SimStorage::new(World::seeded(1, false), DISK_BYTES)
}

fn open(storage: &SimStorage) -> Result<(Journal, Recovery), Error> {
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        quota_bytes: DISK_BYTES,
        flusher: false,
        seed: Some(7),
        ..Options::default()
    };
    Journal::open(Arc::new(storage.clone()), options, World::seeded(1, false).clock())
}

/// Appends records, flushing all but the last two; every fourth is given up.
fn append(journal: &Journal, from: Sequence, records: u64) {
    for number in from.0..from.0 + records {
        let payload = payload(Sequence(number));
        let reserved = journal.reserve(number as u8, number as u32, payload.len()).expect("there is room");
        if number % 4 == 0 {
            drop(reserved);
        } else {
            reserved.commit(&[&payload]).expect("it is as long as it was said to be");
        }
        if number + 2 == from.0 + records || records > 50 {
            journal.flush_once().expect("the disk works");
        }
    }
}

/// What is appended under a number.
fn payload(sequence: Sequence) -> Vec<u8> {
    let number = sequence.0;
    format!("{number}|").repeat(1 + number as usize % 4).into_bytes()
}

/// The folder as an input.
fn image(storage: &SimStorage) -> Vec<u8> {
    let names = storage.list("").expect("the disk works");
    let read = |name: &str| storage.read(name, 0, storage.size(name).expect("it was listed") as usize);
    let segments = names.iter().filter(|name| format::segment_number(name).is_some());
    let files = std::iter::once(IDENTITY).chain(segments.map(String::as_str));
    join(&files.map(|name| trimmed(&read(name).expect("it was listed")).to_vec()).collect::<Vec<_>>())
}

/// Opens `input` as it is and with its checksums made right.
pub fn run(input: &[u8]) -> Vec<String> {
    let parts = split(input);
    let (identity, segments) = parts.split_first().map_or((&[][..], &[][..]), |(first, rest)| (*first, rest));
    let segments: Vec<_> = segments.iter().take(SEGMENTS_MAX).map(|segment| paged(segment)).collect();
    let mut found = check(identity, &segments, true);
    let (identity, segments) = resealed(identity, segments);
    found.extend(check(&identity, &segments, false).into_iter().map(|found| format!("sealed: {found}")));
    found
}

/// Looks at the folder, opens and goes on with it, or repairs it first. Records of a `genuine` one are as they were appended.
fn check(identity: &[u8], segments: &[Vec<u8>], genuine: bool) -> Vec<String> {
    let storage = disk();
    if !identity.is_empty() {
        storage.replace(IDENTITY, identity).expect("the disk works");
    }
    for (index, segment) in segments.iter().enumerate() {
        let number = Some(word(segment, 32)).filter(|number| (1..1_000).contains(number)).unwrap_or(index as u64 + 1);
        storage.replace(&format::segment_name(number), segment).expect("the disk works");
    }
    let mut found = vec![looked_at(&storage)];
    let whole = matches!(inspect::verify(&storage), Ok(verified) if verified.is_whole());
    let opened = open(&storage);
    match opened {
        Ok(opened) => found.extend(go_on(&storage, opened, genuine)),
        Err(error) => {
            found.push(words("open", &error));
            assert!(!whole, "what is whole opens: {error}");
            match inspect::repair(&storage) {
                Ok(repaired) => {
                    found.push(format!("repaired {} places", repaired.damage.len().min(4)));
                    let opened = open(&storage).unwrap_or_else(|error| panic!("what was repaired opens: {error}"));
                    found.extend(go_on(&storage, opened, genuine));
                }
                Err(error) => found.push(words("repair", &error)),
            }
        }
    }
    found
}

/// Lists, verifies and inspects every segment.
fn looked_at(storage: &SimStorage) -> String {
    let mut records = 0;
    for segment in inspect::ls(storage).expect("the disk works") {
        let visit = |info: inspect::RecordInfo, payload: &Bytes| {
            assert_eq!(payload.len(), info.payload_bytes as usize, "a payload is as long as its head says");
            records += 1;
        };
        // A segment without a header is an error, and says so.
        let _ = inspect::inspect(storage, segment.number, visit);
    }
    match inspect::verify(storage) {
        Ok(verified) => {
            let defects = verified.damage.iter().map(|damage| letters(&damage.defect.to_string()));
            format!("verified, {} records: {}", records.min(3), defects.collect::<Vec<_>>().join(", "))
        }
        Err(error) => words("verify", &error),
    }
}

/// Reads a journal that opened, appends to it, and opens it again.
fn go_on(storage: &SimStorage, (journal, recovery): (Journal, Recovery), genuine: bool) -> Vec<String> {
    let torn = recovery.torn.as_ref().map_or("whole".to_string(), |torn| letters(&torn.defect.to_string()));
    let (before, error) = read(&journal, recovery.first, genuine);
    let mut found = vec![format!("open, {torn}")];
    found.extend(error.map(|error| words("read", &error)));
    assert!(before.iter().all(|sequence| *sequence <= recovery.last), "no record comes after the last");

    let next = recovery.last.next();
    let appended = journal.append(next.0 as u8, next.0 as u32, &[&payload(next)]).expect("there is room");
    assert_eq!(appended, next, "numbers go on");
    journal.close().expect("the disk works");
    let (journal, again) = open(storage).unwrap_or_else(|error| panic!("what has gone on opens: {error}"));
    assert_eq!((again.first, again.last, again.torn), (recovery.first, next, None), "nothing else has changed");
    let (after, _) = read(&journal, again.first, genuine);
    let same = after.iter().filter(|sequence| **sequence < next).eq(before.iter());
    assert!(same, "the same records are read: {before:?}, {after:?}");
    assert_eq!(read(&journal, next, genuine).0, [next], "what was appended is there");
    found
}

/// The numbers of the records from one on, up to the first that is damaged.
fn read(journal: &Journal, from: Sequence, genuine: bool) -> (Vec<Sequence>, Option<Error>) {
    let mut read = Vec::new();
    let mut reader = match journal.reader(from, Level::Process) {
        Ok(reader) => reader,
        Err(error) => return (read, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(None) => return (read, None),
            Err(error) => return (read, Some(error)),
            Ok(Some(record)) => {
                assert!(read.last().is_none_or(|last| *last < record.sequence), "numbers rise");
                if genuine {
                    assert_eq!(record.payload, payload(record.sequence), "a record is as it was appended");
                    assert_eq!(record.stream, record.sequence.0 as u32, "a record is as it was appended");
                }
                read.push(record.sequence);
            }
        }
    }
}

fn words(what: &str, error: &Error) -> String {
    format!("{what}: {} {}", error.code(), letters(&error.to_string()))
}

fn letters(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    words.collect::<Vec<_>>().join(" ")
}

/// The folder with every checksum as its writer would have made it.
fn resealed(identity: &[u8], segments: Vec<Vec<u8>>) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut text = String::from_utf8_lossy(identity).into_owned();
    if let Some(end) = text.find("checksum") {
        text.truncate(end);
        let checksum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("checksum {checksum:08x}\n"));
    }
    let journal = Identity::decode(text.as_bytes()).map(|identity| identity.journal);
    let segments = segments.into_iter().map(|mut segment| {
        reseal(&mut segment, journal.as_ref().ok().copied());
        segment
    });
    (text.into_bytes(), segments.collect())
}

fn reseal(segment: &mut [u8], journal: Option<u128>) {
    let number = |at: usize| word(segment, 8 * at);
    let written = u128::from(number(2)) | u128::from(number(3)) << 64;
    let header = Header {
        journal: journal.unwrap_or(written),
        segment: number(4),
        previous: number(5),
        base: Sequence(number(6)),
        epoch: number(7),
        created: tidemill_base::Timestamp(number(8) as i64),
    };
    header.encode().into_iter().enumerate().for_each(|(at, word)| put_word(segment, 8 * at, word));
    assert_eq!(Header::decode(segment), Head::Written(header), "a header is read as it was written");
    let salt = header.salt();
    let mark = word(segment, MARK_AT as usize);
    if mark != 0 {
        put_word(segment, MARK_AT as usize, format::mark(salt, (mark >> 32) * 8));
    }
    let mut at = RECORDS_AT as usize;
    while let Some(Ok(Some(head))) = segment.get(at..).map(RecordHead::decode) {
        let payload = at + format::RECORD_BYTES as usize;
        let Some(bytes) = segment.get(payload..payload + head.payload_bytes as usize) else { return };
        let sum = format::head_checksum(salt, at as u64, head.commit, head.stream, head.sequence);
        let sum = crc32c::crc32c_append(sum, bytes);
        put_word(segment, at + 8, format::checksum_word(sum, head.stream));
        at += head.bytes() as usize;
    }
}

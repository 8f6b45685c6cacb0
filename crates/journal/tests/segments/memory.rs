//! Storage in memory that loses at a power cut whatever was not flushed, and what every test of the journal needs.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_base::rand::Rng;
use tidemill_base::storage::{Region, Storage};
use tidemill_base::time::ManualClock;
use tidemill_journal::{Journal, Level, Options, Recovery, Result, Sequence};

const SECTOR_WORDS: usize = 64;

/// A file: its words, and those that outlive the power.
pub struct File {
    bytes: usize,
    words: Box<[AtomicU64]>,
    durable: Mutex<Box<[u64]>>,
    memory: Arc<Faults>,
}

/// What goes wrong, and how often was flushed.
#[derive(Default)]
pub struct Faults {
    pub failing: AtomicBool,
    pub flushes: AtomicU64,
    pub room: AtomicU64,
}

#[derive(Default)]
struct Names {
    now: BTreeMap<String, Arc<File>>,
    durable: BTreeMap<String, Arc<File>>,
}

pub struct Memory {
    names: Mutex<Names>,
    pub faults: Arc<Faults>,
}

impl Memory {
    pub fn new() -> Arc<Memory> {
        let faults = Faults { room: AtomicU64::new(u64::MAX), ..Faults::default() };
        Arc::new(Memory { names: Mutex::default(), faults: Arc::new(faults) })
    }

    /// What is there after the power was cut: of each sector and name not flushed the old or the new.
    pub fn after_power_cut(&self, rng: &mut Rng) -> Arc<Memory> {
        let names = self.names.lock().unwrap();
        let cut = Memory::new();
        let mut all: Vec<&String> = names.now.keys().chain(names.durable.keys()).collect();
        all.sort();
        all.dedup();
        for name in all {
            let (now, durable) = (names.now.get(name), names.durable.get(name));
            let same = matches!((now, durable), (Some(now), Some(durable)) if Arc::ptr_eq(now, durable));
            if let Some(file) = if same || rng.chance(1, 2) { now } else { durable } {
                cut.put(name, &file.torn(rng));
            }
        }
        cut
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let length = self.size(name).unwrap();
        self.read(name, 0, length as usize).unwrap()
    }

    /// Puts a durable file there.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let words: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(word)
            })
            .collect();
        let file = Arc::new(File {
            bytes: bytes.len(),
            words: words.iter().map(|word| AtomicU64::new(*word)).collect(),
            durable: Mutex::new(words.into()),
            memory: Arc::clone(&self.faults),
        });
        let mut names = self.names.lock().unwrap();
        names.now.insert(name.to_string(), Arc::clone(&file));
        names.durable.insert(name.to_string(), file);
    }

    pub fn flip(&self, name: &str, bit: u64) {
        let file = self.file(name).unwrap();
        let word = bit as usize / 64;
        file.words[word].fetch_xor(1 << (bit % 64), Ordering::SeqCst);
        file.durable.lock().unwrap()[word] ^= 1 << (bit % 64);
    }

    /// The segment files.
    pub fn segments(&self) -> Vec<String> {
        let names = self.list("").unwrap();
        names.into_iter().filter(|name| name.ends_with(".segment")).collect()
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        self.names.lock().unwrap().now.get(name).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl File {
    fn torn(&self, rng: &mut Rng) -> Vec<u8> {
        let durable = self.durable.lock().unwrap();
        let mut bytes = Vec::new();
        for (now, old) in self.words.chunks(SECTOR_WORDS).zip(durable.chunks(SECTOR_WORDS)) {
            let new = rng.chance(1, 2);
            for (now, old) in now.iter().zip(old) {
                let word = if new { now.load(Ordering::SeqCst) } else { *old };
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes.truncate(self.bytes);
        bytes
    }
}

impl Region for File {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn populate(&self, _from: u64, _to: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self, from: u64, to: u64) -> io::Result<()> {
        self.memory.flushes.fetch_add(1, Ordering::SeqCst);
        if self.memory.failing.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        let mut durable = self.durable.lock().unwrap();
        let to = (to as usize).div_ceil(8).next_multiple_of(SECTOR_WORDS).min(durable.len());
        let from = from as usize / 8 / SECTOR_WORDS * SECTOR_WORDS;
        for (old, now) in durable[from..to].iter_mut().zip(&self.words[from..to]) {
            *old = now.load(Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Storage for Memory {
    fn list(&self, _folder: &str) -> io::Result<Vec<String>> {
        Ok(self.names.lock().unwrap().now.keys().cloned().collect())
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn Region>> {
        if self.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let room = self.faults.room.load(Ordering::SeqCst);
        if room < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.faults.room.store(room - bytes, Ordering::SeqCst);
        let words = bytes as usize / 8;
        let file = Arc::new(File {
            bytes: bytes as usize,
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            durable: Mutex::new(vec![0; words].into()),
            memory: Arc::clone(&self.faults),
        });
        self.names.lock().unwrap().now.insert(path.to_string(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn Region>> {
        Ok(self.file(path)?)
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        Ok(self.file(path)?.bytes as u64)
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(path)?;
        let start = offset as usize;
        if start + length > file.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let words = &file.words[start / 8..(start + length).div_ceil(8)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Ordering::SeqCst).to_le_bytes()).collect();
        Ok(bytes[start % 8..start % 8 + length].to_vec())
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.put(path, content);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = self.names.lock().unwrap();
        let file = names.now.remove(from).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        names.now.insert(to.to_string(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.names.lock().unwrap().now.remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        let mut names = self.names.lock().unwrap();
        names.durable = names.now.clone();
        Ok(())
    }
}

/// Small segments, no thread, nothing kept longer than needed.
pub fn small() -> Options {
    Options {
        segment_bytes: 4096,
        quota_bytes: 1 << 20,
        retain_age: std::time::Duration::ZERO,
        flusher: false,
        seed: Some(1),
        ..Options::default()
    }
}

pub fn try_open(memory: &Arc<Memory>, options: Options) -> Result<(Journal, Recovery)> {
    let storage: Arc<dyn Storage> = Arc::clone(memory) as Arc<dyn Storage>;
    Journal::open(storage, options, Arc::new(ManualClock::default()))
}

pub fn open(memory: &Arc<Memory>) -> (Journal, Recovery) {
    try_open(memory, small()).expect("it opens")
}

/// Appends a record that tells its number and has `bytes` bytes or a few more.
pub fn append(journal: &Journal, bytes: usize) -> Sequence {
    let reservation = journal.reserve(1, 2, bytes + 8).expect("there is room");
    let payload = payload(reservation.sequence(), bytes);
    reservation.commit(&[&payload]).expect("the length is right")
}

/// Appends a record of each size; returns the last.
pub fn append_all(journal: &Journal, bytes: impl IntoIterator<Item = usize>) -> Sequence {
    bytes.into_iter().fold(Sequence::NONE, |_, bytes| append(journal, bytes))
}

pub fn payload(sequence: Sequence, bytes: usize) -> Vec<u8> {
    let mut payload = sequence.0.to_le_bytes().to_vec();
    payload.extend((0..bytes).map(|index| (sequence.0 as usize * 31 + index * 7) as u8));
    payload
}

/// Reads everything there is and checks that each record is what [`append`] wrote; returns the last number.
pub fn read_all(journal: &Journal, from: Sequence, level: Level) -> Result<Sequence> {
    let mut reader = journal.reader(from, level)?;
    let mut last = from.previous();
    while let Some(record) = reader.next()? {
        assert!(record.sequence > last, "{} after {last}", record.sequence);
        last = record.sequence;
        assert_eq!(record.payload, payload(last, record.payload.len() - 8), "record {last}");
        assert_eq!((record.kind, record.stream), (1, 2));
    }
    Ok(last)
}

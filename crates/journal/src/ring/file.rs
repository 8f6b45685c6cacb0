//! Rings in files: made, opened, attached to.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill_base::rand::Rng;
use tidemill_base::time::{Clock, SystemClock};

use super::error::{Error, Refused, Result};
use super::lock;
use super::protocol::{Memory, Reader, Record, Writer, mend};
use super::shape::{Layout, Shape};
use crate::map::{Map, PAGE_BYTES, allocate};

const MAGIC: u64 = u64::from_le_bytes(*b"tidering");
/// The newest format of a ring that is known here.
pub const FORMAT: u32 = 1;
/// The word that tells in which run of the machine the ring was used last, and the word of its id.
const BOOT: usize = 4;
const ID: usize = 5;

impl Memory for Map {
    fn words(&self) -> &[AtomicU64] {
        Map::words(self)
    }
}

/// An open ring, to become a producer or the consumer of.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    file: File,
    map: Map,
    shape: Shape,
}

impl Ring {
    /// Makes an empty ring and opens it. The file is there whole or not at all, and readable by its owner alone.
    ///
    /// In `/dev/shm` its pages are never written to a disk, which on one now and then delays an append by microseconds.
    ///
    /// # Errors
    /// [`Error::BadShape`], or [`Error::Io`]: there is a file of that name, no room, no folder.
    pub fn create(path: impl AsRef<Path>, shape: Shape) -> Result<Ring> {
        let (path, shape) = (path.as_ref(), shape.checked()?);
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.new", std::process::id()));
        let draft = PathBuf::from(draft);
        let done = write_new(&draft, shape).and_then(|()| std::fs::hard_link(&draft, path));
        let cleared = std::fs::remove_file(&draft);
        done.and(cleared).map_err(io_error("make", path))?;
        Ring::open(path)
    }

    /// Opens a ring that was made.
    ///
    /// # Errors
    /// [`Error::NotARing`], [`Error::Format`], [`Error::BadHeader`], or [`Error::Io`] when it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Ring> {
        let path = path.as_ref();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error("open", path))?;
        let bytes = file.metadata().map_err(io_error("open", path))?.len();
        if bytes < 2 * PAGE_BYTES || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(Error::NotARing { path: path.into() });
        }
        let map = Map::new(&file).map_err(io_error("map", path))?;
        let shape = read_header(path, map.words())?;
        let needed = shape.file_bytes();
        if bytes != needed {
            let what = format!("it has {bytes} bytes and should have {needed}");
            return Err(Error::BadHeader { path: path.into(), what });
        }
        Ok(Ring { path: path.into(), file, map, shape })
    }

    /// What the ring measures.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Attaches as a producer.
    ///
    /// # Errors
    /// [`Error::PlacesTaken`] when there are as many as the ring is made for, or [`Error::Io`].
    pub fn producer(self) -> Result<Producer> {
        let Some(place) = self.take_one_of(0..self.shape.producers as usize, lock::producer)? else {
            return Err(Error::PlacesTaken { path: self.path, producers: self.shape.producers });
        };
        let layout = Layout::of(self.shape);
        let populated = self.map.populate(0, layout.order_bytes());
        let populated = populated.and_then(|()| {
            let slots = layout.slots_bytes(place);
            self.map.populate(slots.start, slots.end)
        });
        populated.map_err(io_error("attach to", &self.path))?;
        let Ring { file, map, shape, .. } = self;
        let held = Held { file, byte: lock::producer(place) };
        Ok(Producer { writer: Writer::attach(map, shape, place), shape, place, _held: held })
    }

    /// Attaches as the consumer, at the first record that is not released.
    ///
    /// # Errors
    /// [`Error::ReaderTaken`] when there is one, or [`Error::Io`].
    pub fn consumer(self) -> Result<Consumer> {
        if self.take_one_of(0..1, |_| lock::CONSUMER)?.is_none() {
            return Err(Error::ReaderTaken { path: self.path });
        }
        self.map.populate(0, self.shape.file_bytes()).map_err(io_error("attach to", &self.path))?;
        let id = self.map.words()[ID].load(Ordering::Relaxed);
        let Ring { file, map, shape, .. } = self;
        let held = Held { file, byte: lock::CONSUMER };
        Ok(Consumer { reader: Reader::attach(map, shape), shape, id, _held: held })
    }

    /// Takes the first place that is free, one attaching at a time; the first after a start of the machine mends.
    fn take_one_of(&self, places: Range<usize>, byte: fn(usize) -> i64) -> Result<Option<usize>> {
        let io = io_error("attach to", &self.path);
        lock::lock(&self.file, lock::ATTACH..lock::ATTACH + 1).map_err(&io)?;
        let _attaching = Attaching(&self.file);
        self.mend_after_restart().map_err(&io)?;
        for place in places {
            if lock::try_lock(&self.file, byte(place)..byte(place) + 1).map_err(&io)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Mends the ring when the machine was started since it was used last: nobody can be attached then.
    fn mend_after_restart(&self) -> io::Result<()> {
        let (words, boot) = (self.map.words(), boot()?);
        if words[BOOT].load(Ordering::Relaxed) != boot {
            mend(&self.map, self.shape);
            words[ID].store(new_id(), Ordering::Relaxed);
            // Last, so that who dies here leaves it to the next.
            words[BOOT].store(boot, Ordering::Release);
        }
        Ok(())
    }
}

/// The lock of who is attaching, dropped at the end of it.
struct Attaching<'a>(&'a File);

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        // What fails here is undone with the file.
        let _ = lock::unlock(self.0, lock::ATTACH..lock::ATTACH + 1);
    }
}

/// The lock of a place, given up when dropped: closing the file alone would leave it to a child that is just being made.
#[derive(Debug)]
struct Held {
    file: File,
    byte: i64,
}

impl Drop for Held {
    fn drop(&mut self) {
        // What fails here is undone with the file.
        let _ = lock::unlock(&self.file, self.byte..self.byte + 1);
    }
}

/// Appends records to a ring. Belongs to one thread at a time, and to the process that opened it: not to its forks.
#[derive(Debug)]
pub struct Producer {
    writer: Writer<Map>,
    shape: Shape,
    place: usize,
    /// Dropped last, when no more is appended.
    _held: Held,
}

impl Producer {
    /// Appends a record and returns its position among the records of all producers, from 0.
    ///
    /// No system call, no allocation, no waiting. Once it returns, the record outlives this process; it is where it
    /// outlives a power cut when [`Producer::released`] has passed its position.
    ///
    /// # Errors
    /// [`Refused::Full`] when all of this producer's slots are unreleased, [`Refused::TooLarge`].
    pub fn try_append(&mut self, record: &[u8]) -> Result<u64, Refused> {
        Ok(self.writer.stage(record)?.commit())
    }

    /// Every record below this position has been taken over by the consumer.
    pub fn released(&self) -> u64 {
        self.writer.released()
    }

    /// The ring's measures.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// This producer's place, which its records name.
    pub fn place(&self) -> usize {
        self.place
    }
}

/// Reads a ring; each has one.
#[derive(Debug)]
pub struct Consumer {
    reader: Reader<Map>,
    shape: Shape,
    id: u64,
    /// Dropped last, when no more is read.
    _held: Held,
}

impl Consumer {
    /// The next record, if there is one yet; the order is that of their positions.
    ///
    /// A record is read again by the next consumer until it is released.
    ///
    /// # Errors
    /// [`Error::Damaged`] when a record is not as it was appended; the call after it goes on with the one behind.
    // A record borrows from its reader, which an iterator's item cannot.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        Ok(self.reader.next()?)
    }

    /// Gives the slots of all records below position `up_to` back, once they are kept elsewhere.
    ///
    /// What was not read yet is never released.
    pub fn release(&mut self, up_to: u64) {
        self.reader.release(up_to);
    }

    /// The position of the record that is read next.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Every position below this one is released.
    pub fn released(&self) -> u64 {
        self.reader.released()
    }

    /// The ring's measures.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// A number that with a record's position names the record for ever.
    ///
    /// No other ring has it, and the ring has another one after each start of the machine: positions may then come
    /// again, for what came last may not have been on disk.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits until there is something to read, first turning and then sleeping; false when there is nothing in time.
    pub fn wait(&self, patience: Patience) -> bool {
        for _ in 0..patience.spins {
            if self.reader.is_ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        let mut slept = Duration::ZERO;
        while !self.reader.is_ready() {
            let nap = patience.nap.max(Duration::from_micros(1)).min(patience.limit.saturating_sub(slept));
            if nap.is_zero() {
                return false;
            }
            std::thread::sleep(nap);
            slept += nap;
        }
        true
    }
}

/// How [`Consumer::wait`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Looks before the first sleep, each some nanoseconds. Default 2,000; more takes more of a core and sees a record
    /// sooner.
    pub spins: u32,
    /// Sleep between two looks. Default 50 us; the kernel adds about as much.
    pub nap: Duration,
    /// Sleep in all. Default 10 ms.
    pub limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { spins: 2_000, nap: Duration::from_micros(50), limit: Duration::from_millis(10) }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |cause| Error::Io { action, path: path.into(), cause }
}

/// Writes an empty ring to a file that is not there yet.
fn write_new(path: &Path, shape: Shape) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    allocate(&file, shape.file_bytes())?;
    let map = Map::new(&file)?;
    for (word, value) in map.words().iter().zip(header(shape)) {
        word.store(value, Ordering::Relaxed);
    }
    map.words()[BOOT].store(boot()?, Ordering::Relaxed);
    map.words()[ID].store(new_id(), Ordering::Relaxed);
    file.sync_all()
}

/// A number that two rings hardly share.
fn new_id() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let seed = SystemClock::new().now().millis() as u64 ^ u64::from(std::process::id()) << 44;
    Rng::derived(seed, 0, made).next_u64()
}

/// A number for the time since the machine was started.
fn boot() -> io::Result<u64> {
    Ok(tidemill_base::hash::bytes(&std::fs::read("/proc/sys/kernel/random/boot_id")?))
}

/// The words that say what the ring is; they never change.
fn header(shape: Shape) -> [u64; 4] {
    let fields = [u64::from(shape.producers) | u64::from(shape.slots) << 32, shape.slot_bytes.into()];
    [MAGIC, u64::from(FORMAT) | u64::from(checksum(FORMAT, fields)) << 32, fields[0], fields[1]]
}

fn checksum(format: u32, fields: [u64; 2]) -> u32 {
    let start = crc32c::crc32c(&format.to_le_bytes());
    fields.iter().fold(start, |crc, field| crc32c::crc32c_append(crc, &field.to_le_bytes()))
}

/// The shape that a ring's first words tell.
fn read_header(path: &Path, words: &[AtomicU64]) -> Result<Shape> {
    let word = |at: usize| words[at].load(Ordering::Relaxed);
    if word(0) != MAGIC {
        return Err(Error::NotARing { path: path.into() });
    }
    let found = word(1) as u32;
    if found > FORMAT {
        return Err(Error::Format { path: path.into(), found, known: FORMAT });
    }
    let fields = [word(2), word(3)];
    let shape = Shape { producers: fields[0] as u32, slots: (fields[0] >> 32) as u32, slot_bytes: fields[1] as u32 };
    let sound = (word(1) >> 32) as u32 == checksum(found, fields) && fields[1] >> 32 == 0;
    match shape.checked() {
        Ok(shape) if sound => Ok(shape),
        _ => Err(Error::BadHeader { path: path.into(), what: "its header fails its checksum".into() }),
    }
}

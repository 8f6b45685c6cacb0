//! A journal through several lives: nothing acknowledged is lost at its level, what is recovered is a prefix of what was
//! appended, nothing is there that nobody wrote, and after a failed flush nothing more is acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_base::hash;
use tidemill_base::storage::Storage;
use tidemill_base::{Explain, Kind};
use tidemill_journal::format::IDENTITY;
use tidemill_journal::{Error, Journal, Level, Options, Recovery, Reservation, Sequence, inspect};

use super::{Violation, promise};
use crate::storage::{Crash, Faults, SimStorage, Tally};
use crate::world::World;

/// Processes of one run.
const LIVES: u64 = 4;
/// The most things that a process does.
const TURNS: u64 = 40;
/// How often opening is tried while faults come.
const OPENINGS: usize = 4;

pub(super) fn run(world: &World) -> Result<(), Violation> {
    let options = options(world);
    let storage = SimStorage::new(world.clone(), 24 * options.segment_bytes);
    let faults = faults(world);
    let mut model = Model { next: 1, ..Model::default() };
    for _ in 0..LIVES {
        storage.set_faults(faults.clone());
        let journal = open(world, &storage, &options, &mut model)?;
        let most = options.payload_bytes_max();
        model.crash = Life::new(world, &storage, &journal, most, &mut model).run()?;
        let closed = model.crash.is_none() && close(&storage, journal, &mut model)?;
        storage.set_faults(Faults::default());
        storage.restart();
        if closed {
            flip(world, &storage, &options, &mut model)?;
        }
    }
    drop(open(world, &storage, &options, &mut model)?);
    storage.restart();
    mend(world, &storage, &options, &model)
}

fn options(world: &World) -> Options {
    let segment_bytes = *world.pick(&[4_096, 4_096, 8_192]);
    Options {
        segment_bytes,
        quota_bytes: world.between(3, 12) * segment_bytes,
        retain_age: Duration::from_millis(*world.pick(&[0, 20])),
        retain_bytes: *world.pick(&[0, 1 << 20]),
        flusher: false,
        seed: Some(world.below(u64::MAX)),
        ..Options::default()
    }
}

/// Most runs have few kinds of faults, so that the rare ones are not always drowned by others.
fn faults(world: &World) -> Faults {
    let some = |rate: u32| if world.chance(350) { rate } else { 0 };
    Faults {
        kill: some(8),
        power_cut: some(8),
        flush: some(30),
        names: some(20),
        replace: some(100),
        read: some(10),
        full: some(60),
        write_back: some(100),
    }
}

/// What was written under a number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// Nothing yet.
    Reserved,
    /// Given up.
    Void,
    /// A record.
    Record { kind: u8, stream: u32, payload: Vec<u8> },
}

/// What is known about the journal from outside.
#[derive(Default)]
struct Model {
    records: BTreeMap<u64, Content>,
    /// Up to where records were acknowledged at each level.
    acknowledged: [u64; 2],
    /// Up to where records may have been removed.
    removable: u64,
    incarnation: u64,
    /// The number that comes next.
    next: u64,
    /// Records made up so far.
    written: u64,
    /// How the last process ended; none when it was closed.
    crash: Option<Crash>,
    /// Whether a flush has failed in the last process.
    failed: bool,
}

impl Model {
    /// The last number before which all have content.
    fn contiguous(&self) -> u64 {
        let gap = self.records.iter().find(|(_, content)| **content == Content::Reserved);
        gap.map_or(self.next, |(sequence, _)| *sequence) - 1
    }

    fn acknowledge(&mut self, level: Level, sequence: Sequence) {
        let at = &mut self.acknowledged[level as usize];
        *at = (*at).max(sequence.0);
    }

    /// Judges what was recovered, and goes on from there.
    fn check(&mut self, found: &Recovery) -> Result<(), Violation> {
        let (first, last) = (found.first.0, found.last.0);
        let (process, flushed) = (self.acknowledged[0], self.acknowledged[1]);
        promise!(found.incarnation > self.incarnation, "incarnation {} comes again", found.incarnation);
        promise!(last >= flushed, "record {flushed} was flushed, but the journal ends with {last}");
        let survives = self.crash != Some(Crash::PowerCut) && !self.failed;
        promise!(!survives || last >= process, "record {process} was acknowledged, but the journal ends with {last}");
        promise!(last <= self.contiguous(), "the journal ends with {last}, whole are {}", self.contiguous());
        promise!(first <= self.removable + 1, "it begins with {first}; removable is {}", self.removable);
        self.records.split_off(&(last + 1));
        self.next = last + 1;
        self.acknowledged = [last; 2];
        self.incarnation = found.incarnation;
        (self.crash, self.failed) = (None, false);
        Ok(())
    }
}

/// Opens the journal and reads everything in it; only a fault that was injected may prevent that.
fn open(world: &World, storage: &SimStorage, options: &Options, model: &mut Model) -> Result<Journal, Violation> {
    for attempt in 1..=OPENINGS {
        if attempt == OPENINGS {
            storage.set_faults(Faults::default());
        }
        let last = storage.in_peace(|| verify(storage))?;
        let before = storage.tally();
        let opened = Journal::open(Arc::new(storage.clone()), options.clone(), world.clock());
        let error = match opened {
            Ok((journal, recovery)) => {
                world.note(format_args!("opened: {recovery}"));
                model.check(&recovery)?;
                let same = last.is_none_or(|last| last == recovery.last);
                promise!(same, "the journal was looked at and ends with {last:?}, and opened with {}", recovery.last);
                match read(&journal, model, recovery.first, Level::Flushed)? {
                    None => return Ok(journal),
                    Some(error) => error,
                }
            }
            Err(error) => error,
        };
        world.note(format_args!("not opened: {error}"));
        promise!(storage.tally() != before, "the journal cannot be opened again: {error}");
        model.failed |= storage.tally().flushes != before.flushes;
        if model.crash != Some(Crash::PowerCut) {
            model.crash = storage.down().or(model.crash);
        }
        storage.restart();
    }
    Err("the journal cannot be opened although nothing fails".to_string())
}

/// Looks at a journal without opening it: whatever happened, nothing that was flushed is damaged. Returns its last
/// record.
fn verify(storage: &SimStorage) -> Result<Option<Sequence>, Violation> {
    if !storage.paths().iter().any(|path| path == IDENTITY) {
        return Ok(None);
    }
    let found = inspect::verify(storage).map_err(|error| format!("the journal cannot be looked at: {error}"))?;
    promise!(found.is_whole(), "looked at, the journal is damaged: {:?}", found.damage);
    Ok(Some(found.last))
}

/// Closes the journal; true when that succeeded.
fn close(storage: &SimStorage, journal: Journal, model: &mut Model) -> Result<bool, Violation> {
    let before = storage.tally();
    match journal.close() {
        Ok(()) => {
            promise!(!model.failed, "the journal is closed in peace although a flush has failed");
            model.acknowledge(Level::Flushed, Sequence(model.contiguous()));
            Ok(true)
        }
        Err(error) => {
            let excused = model.failed || storage.tally() != before || matches!(error, Error::Poisoned { .. });
            promise!(excused, "the journal cannot be closed: {error}");
            model.failed |= storage.tally().flushes != before.flushes;
            model.crash = storage.down();
            Ok(false)
        }
    }
}

/// Reads from a record to the watermark of a level and compares; says how far it came.
fn read(journal: &Journal, model: &Model, from: Sequence, level: Level) -> Result<Option<Error>, Violation> {
    let mut reader = match journal.reader(from, level) {
        Ok(reader) => reader,
        Err(error) => return Ok(Some(error)),
    };
    let end = journal.durable(level).0;
    let mut expected = model
        .records
        .range(from.0..=end.max(from.0))
        .filter(|(sequence, content)| **sequence <= end && **content != Content::Void);
    loop {
        let found = match reader.next() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => return Ok(Some(error)),
        };
        let (sequence, kind, stream) = (found.sequence.0, found.kind, found.stream);
        let content = Content::Record { kind, stream, payload: found.payload.to_vec() };
        match expected.next() {
            Some((number, written)) => {
                promise!(*number == sequence, "record {sequence} is read where {number} belongs");
                promise!(*written == content, "record {sequence} is not what was written: {content:?}, {written:?}");
            }
            None => return Err(format!("record {sequence} is read, but nobody wrote it")),
        }
    }
    match expected.next() {
        Some((number, _)) => Err(format!("record {number} is not read, although {end} is the watermark of {level}")),
        None => Ok(None),
    }
}

/// A number that was given out, and what will be written under it.
struct Open<'a> {
    reservation: Reservation<'a>,
    content: Content,
}

/// One process and its journal.
struct Life<'a> {
    world: &'a World,
    storage: &'a SimStorage,
    journal: &'a Journal,
    model: &'a mut Model,
    payload_bytes_max: u64,
    open: Vec<Open<'a>>,
    acks: Arc<Mutex<Vec<(Level, Sequence)>>>,
    /// Up to where records were said to be covered, and from where on a reader holds them.
    covered: u64,
    held: u64,
    /// What had gone wrong before this life, and what the journal took: a start begins a segment whatever the quota.
    before: Tally,
    bytes_before: u64,
}

impl<'a> Life<'a> {
    fn new(world: &'a World, storage: &'a SimStorage, journal: &'a Journal, most: u64, model: &'a mut Model) -> Self {
        Life {
            world,
            storage,
            journal,
            model,
            payload_bytes_max: most,
            open: Vec::new(),
            acks: Arc::default(),
            covered: 0,
            held: u64::MAX,
            before: storage.tally(),
            bytes_before: journal.usage().bytes,
        }
    }

    /// Does this and that until the process ends; none when it ends in peace.
    fn run(mut self) -> Result<Option<Crash>, Violation> {
        if self.world.chance(300) {
            self.hold(self.journal.usage().first.0);
        }
        for _ in 0..self.world.between(1, TURNS) {
            self.turn()?;
            self.observe()?;
            if self.storage.down().is_some() {
                break;
            }
            self.world.pass(Duration::from_millis(10));
        }
        let end = *self.world.pick(&[None, Some(Crash::Kill), Some(Crash::PowerCut)]);
        match end {
            None if self.storage.down().is_none() => self.open.drain(..).for_each(|open| {
                self.model.records.insert(open.reservation.sequence().0, Content::Void);
            }),
            _ => self.storage.crash(end.unwrap_or(Crash::Kill)),
        }
        self.model.failed |= self.failed();
        Ok(self.storage.down())
    }

    fn turn(&mut self) -> Result<(), Violation> {
        match self.world.below(100) {
            0..35 => self.append(),
            35..45 => self.reserve(),
            45..57 => self.settle(),
            57..72 => self.flush(),
            72..80 => self.ask(),
            80..88 => self.read_some(),
            88..96 => self.retire(),
            _ => {
                self.hold(self.held.saturating_add(self.world.below(10)));
                Ok(())
            }
        }
    }

    fn append(&mut self) -> Result<(), Violation> {
        let content = self.content();
        let Content::Record { kind, stream, payload } = &content else { return Ok(()) };
        let (left, right) = payload.split_at(self.world.below(payload.len() as u64 + 1) as usize);
        match self.journal.append(*kind, *stream, &[left, right]) {
            Ok(sequence) => self.numbered(sequence, content),
            Err(error) => self.excuse(&error),
        }
    }

    fn reserve(&mut self) -> Result<(), Violation> {
        let content = self.content();
        let Content::Record { kind, stream, payload } = &content else { return Ok(()) };
        match self.journal.reserve(*kind, *stream, payload.len()) {
            Ok(reservation) => {
                self.numbered(reservation.sequence(), Content::Reserved)?;
                self.open.push(Open { reservation, content });
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// A new record, unlike all others.
    fn content(&mut self) -> Content {
        let most = self.payload_bytes_max;
        let length = match self.world.below(20) {
            0..13 => self.world.below(90),
            13..18 => self.world.below(900),
            18 => self.world.below(most + 1),
            _ => most - self.world.below(40),
        };
        self.model.written += 1;
        let words = (0..length.div_ceil(8)).flat_map(|word| hash::words(self.model.written, word).to_le_bytes());
        let payload = words.take(length as usize).collect();
        Content::Record { kind: self.world.below(256) as u8, stream: self.world.below(4) as u32, payload }
    }

    /// A number was given out.
    fn numbered(&mut self, sequence: Sequence, content: Content) -> Result<(), Violation> {
        self.world.note(format_args!("record {sequence}"));
        promise!(!self.failed(), "record {sequence} is taken although a flush has failed");
        let expected = self.model.next;
        promise!(sequence.0 == expected, "record {sequence} is numbered where {expected} comes next");
        self.model.records.insert(sequence.0, content);
        self.model.next += 1;
        Ok(())
    }

    /// Writes or gives up something reserved.
    fn settle(&mut self) -> Result<(), Violation> {
        if self.open.is_empty() {
            return Ok(());
        }
        let Open { reservation, content } = self.open.swap_remove(self.world.below(self.open.len() as u64) as usize);
        let sequence = reservation.sequence();
        let Content::Record { payload, .. } = &content else { return Ok(()) };
        let written = match self.world.below(10) {
            0..8 => reservation.commit(&[payload]).is_ok(),
            8 => reservation.commit(&[payload, b"more"]).is_ok(),
            _ => {
                drop(reservation);
                false
            }
        };
        self.world.note(format_args!("record {sequence} is {}", if written { "written" } else { "given up" }));
        self.model.records.insert(sequence.0, if written { content } else { Content::Void });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Violation> {
        match self.journal.flush_once() {
            Ok(sequence) => {
                promise!(!self.failed(), "a flush up to {sequence} is told to have succeeded after one failed");
                self.model.acknowledge(Level::Flushed, sequence);
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// Asks to be told when a record has reached a level.
    fn ask(&mut self) -> Result<(), Violation> {
        let (sequence, level) = (Sequence(self.world.below(self.model.next)), *self.world.pick(&Level::ALL));
        let acks = self.acks.clone();
        let told = move |result: Result<(), Error>| {
            if result.is_ok() {
                acks.lock().unwrap_or_else(PoisonError::into_inner).push((level, sequence));
            }
        };
        self.journal.notify(sequence, level, Box::new(told));
        Ok(())
    }

    fn read_some(&mut self) -> Result<(), Violation> {
        let (from, level) = (Sequence(1 + self.world.below(self.model.next)), *self.world.pick(&Level::ALL));
        match read(self.journal, self.model, from, level)? {
            Some(Error::Retired { sequence, first }) => {
                promise!(sequence < first && first == self.journal.usage().first, "{sequence} is told to be retired");
                Ok(())
            }
            Some(error) => self.excuse(&error),
            None => Ok(()),
        }
    }

    fn retire(&mut self) -> Result<(), Violation> {
        self.covered = self.covered.max(self.world.below(self.journal.durable(Level::Process).0 + 1));
        self.remember_removable();
        match self.journal.retire(Sequence(self.covered)) {
            Ok(_) => Ok(()),
            Err(error) => self.excuse(&error),
        }
    }

    /// A reader needs the records from `first` on.
    fn hold(&mut self, first: u64) {
        self.held = first;
        match first {
            u64::MAX => self.journal.release("reader"),
            first => self.journal.retain("reader", Sequence(first)),
        }
        self.remember_removable();
    }

    fn remember_removable(&mut self) {
        self.model.removable = self.model.removable.max(self.covered.min(self.held - 1));
    }

    /// Looks at what the journal says of itself, and takes it at its word.
    fn observe(&mut self) -> Result<(), Violation> {
        let [process, flushed] = Level::ALL.map(|level| self.journal.durable(level));
        let whole = self.model.contiguous();
        promise!(process.0 <= whole, "record {process} is acknowledged, but whole are only those up to {whole}");
        promise!(flushed <= process, "record {flushed} is flushed before it is there");
        self.model.acknowledge(Level::Process, process);
        self.model.acknowledge(Level::Flushed, flushed);
        for (level, sequence) in self.acks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let reached = self.journal.durable(level);
            promise!(sequence <= reached, "record {sequence} is told to be {level}, but {reached} is the watermark");
        }
        let (usage, removable) = (self.journal.usage(), self.model.removable);
        promise!(usage.first.0 <= removable + 1, "records before {} are gone; removable is {removable}", usage.first);
        let most = usage.quota_bytes.max(self.bytes_before);
        promise!(usage.bytes <= most, "{} bytes are more than {most}", usage.bytes);
        self.world.note(format_args!("{process} there, {flushed} flushed, from {}", usage.first));
        Ok(())
    }

    /// Whether a flush has failed in this life.
    fn failed(&self) -> bool {
        self.storage.tally().flushes > self.before.flushes
    }

    /// An error is as it should be when there was a reason for it.
    fn excuse(&self, error: &Error) -> Result<(), Violation> {
        let usage = self.journal.usage();
        match error {
            _ if self.storage.down().is_some() => {}
            Error::Full { used, .. } => promise!(used + usage.bytes > 0, "full for no reason: {error}"),
            Error::NoSpace { .. } | Error::Io { .. } | Error::Poisoned { .. } => {
                promise!(self.storage.tally() != self.before, "nothing has failed, but: {error}");
            }
            error => return Err(format!("unexpected: {error}")),
        }
        self.world.note(format_args!("refused: {error}"));
        Ok(())
    }
}

/// Turns bits over in a journal that was closed in peace: damage is refused by name or does no harm.
fn flip(world: &World, storage: &SimStorage, options: &Options, model: &mut Model) -> Result<(), Violation> {
    for _ in 0..4 {
        let paths = storage.paths();
        let path = world.pick(&paths);
        let Ok(bytes) = storage.size(path) else { continue };
        let bit = world.below(bytes.min(*world.pick(&[600, 2_048, 8_192])) * 8);
        storage.flip(path, bit);
        match Journal::open(Arc::new(storage.clone()), options.clone(), world.clock()) {
            Ok((journal, recovery)) => {
                model.check(&recovery)?;
                match read(&journal, model, recovery.first, Level::Flushed)? {
                    None | Some(Error::Corrupt { .. }) => {}
                    Some(error) => return Err(format!("bit {bit} of {path} is turned over, and told is: {error}")),
                }
                drop(journal);
                storage.restart();
            }
            Err(error) => {
                promise!(error.kind() != Kind::Bug, "bit {bit} of {path} is turned over, and told is: {error}");
                world.note(format_args!("refused: {error}"));
            }
        }
        storage.flip(path, bit);
    }
    Ok(())
}

/// Turns a bit over and repairs the journal: it can be opened then, and what is left is what was written.
fn mend(world: &World, storage: &SimStorage, options: &Options, model: &Model) -> Result<(), Violation> {
    let paths = storage.paths();
    let path = world.pick(&paths);
    let bytes = storage.size(path).map_err(|error| error.to_string())?;
    storage.flip(path, world.below(bytes.min(2_048) * 8));
    let repaired = match inspect::repair(storage) {
        // The bit was one of the format's; what a later version wrote is not touched.
        Err(Error::Format { .. }) => return Ok(()),
        repaired => repaired.map_err(|error| format!("the journal cannot be repaired: {error}"))?,
    };
    world.note(format_args!("repaired: {repaired:?}"));
    let opened = Journal::open(Arc::new(storage.clone()), options.clone(), world.clock());
    let (journal, recovery) = opened.map_err(|error| format!("repaired, the journal cannot be opened: {error}"))?;
    let unread = read(&journal, model, recovery.first, Level::Flushed)?;
    promise!(unread.is_none(), "repaired, the journal cannot be read: {unread:?}");
    Ok(())
}

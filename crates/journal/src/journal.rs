//! The journal: appending from several threads, and knowing how far it is kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill_base::Timestamp;
use tidemill_base::planted::{self, Bug};
use tidemill_base::storage::Storage;
use tidemill_base::time::Clock;

use crate::error::{Error, Result};
use crate::format::{self, Header, IDENTITY, Identity};
use crate::level::{Level, Sequence};
use crate::notify::{Callback, Waiters, lock};
use crate::options::Options;
use crate::reader::Reader;
use crate::recovery::{self, Recovery};
use crate::segment::{Place, Segment};
use crate::segments::{Entry, Segments, Spare, Usage};

/// A durable log of records.
///
/// Records are appended by any number of threads, numbered without gaps, kept in order, and read by any number of
/// readers. See the [crate] for an example.
pub struct Journal {
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
}

/// Where the next record goes.
pub(crate) struct Head {
    pub segment: Arc<Segment>,
    pub tail: Place,
    /// Whether another segment was seen to fit behind this one; that stays so, for only the next one can take its place.
    pub followed: bool,
}

impl Head {
    /// At the start of a segment.
    pub fn at(segment: Arc<Segment>) -> Head {
        Head { segment, tail: Place::START, followed: false }
    }
}

/// What the journal, its flusher and its readers have in common. Locks are taken in the order of the fields.
pub(crate) struct Shared {
    pub storage: Arc<dyn Storage>,
    pub clock: Arc<dyn Clock>,
    pub options: Options,
    pub journal: u128,
    pub incarnation: u64,
    pub head: Mutex<Head>,
    /// Held by whoever flushes.
    pub flushing: Mutex<()>,
    /// Held by whoever makes a segment or takes the spare one, so that segments are begun in the order of their numbers.
    /// Taken after `head`, before `segments`.
    pub making: Mutex<()>,
    pub segments: Mutex<Segments>,
    /// The number of the segment whose records are being published; those of later ones wait.
    publishing: AtomicU64,
    published: AtomicU64,
    pub flushed: AtomicU64,
    failure: OnceLock<Error>,
    pub closed: AtomicBool,
    pub waiters: Waiters,
    pub wake: Sender<()>,
    room: Condvar,
    room_lock: Mutex<()>,
}

impl Journal {
    /// Opens the journal in `storage`, or makes one there, and says what was found.
    ///
    /// The records are those of a prefix of what was appended, with everything that was acknowledged at its level.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when something durable is damaged, [`Error::Format`] when a later version wrote it, and what
    /// the storage says. Nothing is changed then.
    pub fn open(storage: Arc<dyn Storage>, options: Options, clock: Arc<dyn Clock>) -> Result<(Journal, Recovery)> {
        options.check()?;
        let start = recovery::start(storage.as_ref(), &options, clock.now())?;
        let segment = Arc::new(start.segment);
        segment.set_flushed(Place::START);
        let mut entries = start.entries;
        entries.push_back(Entry::of(&segment));
        let last = start.recovery.last;
        let (wake, woken) = bounded(1);
        let flusher = options.flusher;
        let shared = Arc::new(Shared {
            storage,
            clock,
            options,
            journal: start.identity.journal,
            incarnation: start.identity.incarnation,
            publishing: AtomicU64::new(segment.header.segment),
            segments: Mutex::new(Segments::new(entries, segment.header.segment + 1)),
            head: Mutex::new(Head::at(segment)),
            flushing: Mutex::new(()),
            making: Mutex::new(()),
            published: AtomicU64::new(last.0),
            flushed: AtomicU64::new(last.0),
            failure: OnceLock::new(),
            closed: AtomicBool::new(false),
            waiters: Waiters::default(),
            wake,
            room: Condvar::new(),
            room_lock: Mutex::new(()),
        });
        let flusher = if flusher { Some(spawn(Arc::clone(&shared), woken)?) } else { None };
        Ok((Journal { shared, flusher }, start.recovery))
    }

    /// Appends a record, its payload given in parts, and returns its number.
    ///
    /// When it returns the record outlives the process as soon as every record before it is there too, which
    /// [`Journal::wait`] tells. Makes no system call and allocates nothing, unless a segment is full and no other is
    /// ready.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::NoSpace`] when there is no room now, [`Error::TooLarge`], and for good
    /// [`Error::Poisoned`] once a flush has failed.
    pub fn append(&self, kind: u8, stream: u32, parts: &[&[u8]]) -> Result<Sequence> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.reserve(kind, stream, bytes)?.commit(parts)
    }

    /// Appends a record, and waits for room while there is none.
    ///
    /// # Errors
    /// As [`Journal::append`], but for want of room.
    pub fn append_blocking(&self, kind: u8, stream: u32, parts: &[&[u8]]) -> Result<Sequence> {
        loop {
            match self.append(kind, stream, parts) {
                Err(error) if error.is_full() => self.shared.wait_for_room(),
                done => return done,
            }
        }
    }

    /// Takes the next number for a record of `payload_bytes`, to be written by [`Reservation::commit`].
    ///
    /// No record after it is acknowledged or read before it is committed or dropped.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn reserve(&self, kind: u8, stream: u32, payload_bytes: usize) -> Result<Reservation<'_>> {
        self.place(kind, stream, payload_bytes, false)
    }

    /// Takes the next number as [`Journal::reserve`] does, for a record that its sender can be asked to bring again later.
    ///
    /// The last segment of the quota is not for such records: it is left to those of whoever works off what the journal
    /// is full of, for nothing could be let go of without them.
    ///
    /// # Errors
    /// As [`Journal::append`]; [`Error::Full`] as soon as only the last segment is left.
    pub fn admit(&self, kind: u8, stream: u32, payload_bytes: usize) -> Result<Reservation<'_>> {
        self.place(kind, stream, payload_bytes, true)
    }

    fn place(&self, kind: u8, stream: u32, payload_bytes: usize, admitted: bool) -> Result<Reservation<'_>> {
        self.shared.check()?;
        let limit = self.shared.options.payload_bytes_max().min(u64::from(u32::MAX));
        if payload_bytes as u64 > limit {
            return Err(Error::TooLarge { bytes: payload_bytes as u64, limit });
        }
        let bytes = format::record_bytes(payload_bytes as u64);
        let mut head = lock(&self.shared.head);
        if admitted {
            self.shared.leave_room(&mut head)?;
        }
        if head.tail.offset + bytes > head.segment.bytes {
            self.shared.roll(&mut head)?;
            if admitted {
                self.shared.leave_room(&mut head)?;
            }
        }
        let place = head.tail;
        head.tail = place.after(bytes);
        let segment = Arc::clone(&head.segment);
        drop(head);
        let sequence = segment.last_before(place).next();
        let offset = place.offset;
        Ok(Reservation { shared: &self.shared, segment, offset, sequence, kind, stream, payload_bytes, open: true })
    }

    /// The watermark of a level: every record up to it survives what the level says.
    pub fn durable(&self, level: Level) -> Sequence {
        self.shared.durable(level)
    }

    /// Waits until the record `sequence` and all before it have reached `level`.
    ///
    /// Without a flusher thread this flushes itself; it must not be called then while a reservation before `sequence` is
    /// held by the same thread.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when it never will, [`Error::Closed`] when the journal was closed before.
    pub fn wait(&self, sequence: Sequence, level: Level) -> Result<()> {
        if self.shared.settled(sequence, level)? {
            return Ok(());
        }
        let (told, answer) = bounded(1);
        self.notify(sequence, level, Box::new(move |result| drop(told.send(result))));
        answer.recv().unwrap_or(Err(Error::Closed))
    }

    /// Has `callback` called once the record `sequence` and all before it have reached `level`, or never will.
    ///
    /// It is called by the thread that gets it there, often the flusher, or at once by this one: it must be short and
    /// must not call the journal.
    pub fn notify(&self, sequence: Sequence, level: Level, callback: Callback) {
        let shared = &self.shared;
        match shared.settled(sequence, level) {
            Ok(true) => return callback(Ok(())),
            Err(error) => return callback(Err(error)),
            Ok(false) => shared.waiters.register(sequence, level, callback),
        }
        if level == Level::Flushed && self.flusher.is_some() {
            // A full channel means that it is being woken already.
            let _ = shared.wake.try_send(());
        } else if level == Level::Flushed {
            // The failure reaches the callback as well.
            let _ = shared.flush_once();
        }
        match shared.check() {
            Ok(()) => shared.waiters.reached(level, shared.durable(level)),
            Err(error) => shared.waiters.fail(&error),
        }
    }

    /// Flushes what is published and not flushed, and returns the watermark of [`Level::Flushed`] then.
    ///
    /// Called again when nothing was appended in between, it writes down how far the journal was flushed.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when it failed, now or before; it is not tried again.
    pub fn flush_once(&self) -> Result<Sequence> {
        self.shared.flush_once()?;
        if !self.shared.options.flusher {
            self.shared.prepare();
        }
        Ok(self.durable(Level::Flushed))
    }

    /// A reader that begins with record `from`, up to what has reached `level` whenever it is asked.
    ///
    /// # Errors
    /// [`Error::Retired`] when that record is gone.
    pub fn reader(&self, from: Sequence, level: Level) -> Result<Reader> {
        Reader::new(Arc::clone(&self.shared), from, level)
    }

    /// Says that the reader `name` needs the records from `first` on, until it says otherwise.
    ///
    /// A reader that must not miss anything registers before it reads, and moves on as it goes.
    pub fn retain(&self, name: &str, first: Sequence) {
        lock(&self.shared.segments).holders.insert(name.to_string(), first);
    }

    /// Says that the reader `name` needs nothing any more.
    pub fn release(&self, name: &str) {
        lock(&self.shared.segments).holders.remove(name);
    }

    /// Says that snapshots cover every record up to `sequence`, and removes the segments that nobody needs for longer
    /// than they are to be kept; returns how many.
    ///
    /// # Errors
    /// What the storage says.
    pub fn retire(&self, sequence: Sequence) -> Result<usize> {
        self.shared.retire(sequence)
    }

    /// The bytes that the present segment still takes, those of records' heads included.
    pub fn left(&self) -> u64 {
        let head = lock(&self.shared.head);
        head.segment.bytes - head.tail.offset
    }

    /// The size of a segment.
    pub fn segment_bytes(&self) -> u64 {
        self.shared.options.segment_bytes
    }

    /// What the journal takes and holds.
    pub fn usage(&self) -> Usage {
        lock(&self.shared.segments).usage(self.durable(Level::Process), &self.shared.options)
    }

    /// A record before which everything was written before `time`: the first of the newest segment that was begun by then,
    /// or the oldest.
    pub fn since(&self, time: Timestamp) -> Sequence {
        let segments = lock(&self.shared.segments);
        let begun = segments.entries.iter().rev().find(|entry| entry.header.created <= time);
        begun.or(segments.entries.front()).map_or(Sequence::FIRST, |entry| entry.header.base)
    }

    /// How often this journal was opened, this time included; no two starts have the same number.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// The name of the journal, drawn when it was made.
    pub fn id(&self) -> u128 {
        self.shared.journal
    }

    /// Flushes everything, writes down that it is, and closes the journal.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when that failed.
    pub fn close(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        if self.shared.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(flusher) = self.flusher.take() {
            let _ = self.shared.wake.try_send(());
            // It has said what it had to say, and its panic is logged by the runtime.
            let _ = flusher.join();
        }
        let closed = self.shared.flush_once().and_then(|()| self.shared.flush_once());
        let closed = closed.and_then(|()| self.shared.write_floor());
        self.shared.waiters.fail(&Error::Closed);
        closed
    }
}

impl Drop for Journal {
    /// Closes a journal that has a flusher thread; one without is left as it is, as after a crash.
    fn drop(&mut self) {
        if self.flusher.is_some() && self.stop().is_err() {
            tracing::error!("The journal could not be flushed when it was closed.");
        }
        self.shared.waiters.fail(&Error::Closed);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (incarnation, last) = (self.incarnation(), self.durable(Level::Process));
        write!(f, "Journal {{ id: {:032x}, incarnation: {incarnation}, last: {last} }}", self.id())
    }
}

/// A record that has its number and its place, and waits for its content.
#[must_use = "records after it wait until it is committed"]
pub struct Reservation<'a> {
    shared: &'a Shared,
    segment: Arc<Segment>,
    offset: u64,
    sequence: Sequence,
    kind: u8,
    stream: u32,
    payload_bytes: usize,
    open: bool,
}

impl Reservation<'_> {
    /// The number the record has.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Writes the record; the parts have as many bytes together as were reserved.
    ///
    /// # Errors
    /// [`Error::Length`] when they have not; the number is given up then.
    pub fn commit(mut self, parts: &[&[u8]]) -> Result<Sequence> {
        let given: usize = parts.iter().map(|part| part.len()).sum();
        if given != self.payload_bytes {
            return Err(Error::Length { reserved: self.payload_bytes as u64, given: given as u64 });
        }
        self.write(false, parts);
        Ok(self.sequence)
    }

    fn write(&mut self, void: bool, parts: &[&[u8]]) {
        self.open = false;
        // `reserve` has checked that the length fits into 32 bits.
        let commit = format::commit_word(self.kind, void, self.payload_bytes as u32);
        self.segment.write(self.offset, commit, self.stream, self.sequence, parts);
        if planted::is(Bug::AckBeforeContiguous) {
            self.shared.published.fetch_max(self.sequence.0, Ordering::SeqCst);
        }
        self.shared.publish(&self.segment);
    }
}

impl Drop for Reservation<'_> {
    /// Gives the number up, so that the records after it do not wait for ever.
    fn drop(&mut self) {
        if self.open {
            self.write(true, &[&vec![0; self.payload_bytes]]);
        }
    }
}

impl Shared {
    pub fn durable(&self, level: Level) -> Sequence {
        match level {
            Level::Process => Sequence(self.published.load(Ordering::Acquire)),
            Level::Flushed => Sequence(self.flushed.load(Ordering::Acquire)),
        }
    }

    /// Fails when nothing more can be appended.
    pub fn check(&self) -> Result<()> {
        self.unfailed()?;
        if self.closed.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Fails when a flush has failed.
    pub fn unfailed(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Whether a record has reached a level; an error when it never will.
    fn settled(&self, sequence: Sequence, level: Level) -> Result<bool> {
        // What was flushed before a failure stays so.
        let failed = self.failure.get().is_some();
        if sequence <= self.durable(level) && (!failed || level == Level::Flushed) {
            return Ok(true);
        }
        self.check().map(|()| false)
    }

    /// Stops everything for good: what is durable is not known any more.
    pub fn poison(&self, action: String, cause: io::Error) -> Error {
        let error = Error::Poisoned { action, cause: Arc::new(cause) };
        let error = self.failure.get_or_init(|| error).clone();
        tracing::error!(%error, "The journal stops: nothing more is acknowledged.");
        self.waiters.fail(&error);
        self.room.notify_all();
        error
    }

    /// Writes down how far the journal reaches, so that the loss of its last segment would be noticed.
    fn write_floor(&self) -> Result<()> {
        let floor = self.durable(Level::Flushed);
        let identity = Identity { journal: self.journal, incarnation: self.incarnation, floor };
        self.storage.replace(IDENTITY, identity.encode().as_bytes()).map_err(Error::io("write", IDENTITY))
    }

    /// Makes records visible that are committed without a gap before them.
    fn publish(&self, segment: &Segment) {
        // Between storing a commit word and looking for others; see `Segment::advance`.
        fence(Ordering::SeqCst);
        if self.publishing.load(Ordering::SeqCst) != segment.header.segment {
            // A gap in an earlier segment: who fills it comes by here.
            return;
        }
        self.advance(segment);
        if self.waiters.at_process() {
            self.waiters.reached(Level::Process, self.durable(Level::Process));
        }
    }

    fn advance(&self, segment: &Segment) {
        let mut later: Option<Arc<Segment>> = None;
        loop {
            let segment = later.as_deref().unwrap_or(segment);
            let place = segment.advance();
            self.published.fetch_max(segment.last_before(place).0, Ordering::SeqCst);
            if !segment.ends_at(place) {
                return;
            }
            let Some(next) = self.after(segment.header.segment) else { return };
            let (old, new) = (segment.header.segment, next.header.segment);
            if self.publishing.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                // Another thread moves on.
                return;
            }
            later = Some(next);
        }
    }

    /// The segment after the one with this number.
    fn after(&self, number: u64) -> Option<Arc<Segment>> {
        let segments = lock(&self.segments);
        segments.entries.iter().find(|entry| entry.header.segment > number)?.live.clone()
    }

    /// Ends the present segment and begins another.
    fn roll(&self, head: &mut Head) -> Result<()> {
        let making = lock(&self.making);
        let spare = lock(&self.segments).spare.take();
        let spare = match spare {
            Some(spare) => spare,
            None => self.make_segment()?,
        };
        drop(making);
        let header = Header {
            journal: self.journal,
            segment: spare.number,
            previous: head.segment.header.segment,
            base: head.segment.last_before(head.tail).next(),
            epoch: self.incarnation,
            created: self.clock.now(),
        };
        let segment = Arc::new(Segment::begin(header, spare.region));
        segment.populated.store(spare.populated, Ordering::Relaxed);
        {
            let mut segments = lock(&self.segments);
            segments.entries.push_back(Entry::of(&segment));
            segments.warn(&self.options);
        }
        let Head { segment: full, tail, .. } = std::mem::replace(head, Head::at(segment));
        full.close(tail);
        self.publish(&full);
        Ok(())
    }

    /// Fails when the present segment is the last that the quota allows.
    fn leave_room(&self, head: &mut Head) -> Result<()> {
        if !head.followed {
            let mut segments = lock(&self.segments);
            if segments.spare.is_none() && segments.coming_bytes == 0 {
                self.make_way(&mut segments)?;
            }
            head.followed = true;
        }
        Ok(())
    }

    /// Removes segments that are kept for their age alone until another one fits.
    fn make_way(&self, segments: &mut Segments) -> Result<()> {
        while !segments.has_room(&self.options) {
            if !self.drop_oldest(segments, true)? {
                return Err(segments.full(&self.options));
            }
        }
        Ok(())
    }

    /// Makes a segment file within the quota, and its name durable.
    pub fn make_segment(&self) -> Result<Spare> {
        let bytes = self.options.segment_bytes;
        let number = {
            let mut segments = lock(&self.segments);
            self.make_way(&mut segments)?;
            segments.coming_bytes += bytes;
            segments.next_number += 1;
            segments.next_number - 1
        };
        let made = self.make_file(number, bytes);
        lock(&self.segments).coming_bytes -= bytes;
        made
    }

    fn make_file(&self, number: u64, bytes: u64) -> Result<Spare> {
        let name = format::segment_name(number);
        let region = recovery::create(self.storage.as_ref(), &name, bytes)?;
        if !planted::is(Bug::SkipFolderSync) {
            let synced = self.storage.sync_folder("");
            synced.map_err(|cause| self.poison("making the name of a segment durable".to_string(), cause))?;
        }
        Ok(Spare { number, region, populated: 0 })
    }

    fn retire(&self, sequence: Sequence) -> Result<usize> {
        self.check()?;
        let mut segments = lock(&self.segments);
        segments.covered = segments.covered.max(sequence);
        let mut dropped = 0;
        while self.drop_oldest(&mut segments, false)? {
            dropped += 1;
        }
        segments.warn(&self.options);
        drop(segments);
        // Taken and let go, so that nobody is between looking for room and beginning to wait.
        drop(lock(&self.room_lock));
        self.room.notify_all();
        Ok(dropped)
    }

    /// Removes the oldest segment when it may go, durably, so that never a later one is gone before it.
    fn drop_oldest(&self, segments: &mut Segments, wanted: bool) -> Result<bool> {
        if !segments.can_drop_oldest(self.durable(Level::Flushed), self.clock.now(), &self.options, wanted) {
            return Ok(false);
        }
        let Some(oldest) = segments.entries.front() else { return Ok(false) };
        self.storage.remove(&oldest.name).map_err(Error::io("remove", &oldest.name))?;
        segments.entries.pop_front();
        let synced = self.storage.sync_folder("");
        synced.map_err(|cause| self.poison("making the removal of a segment durable".to_string(), cause))?;
        Ok(true)
    }

    fn wait_for_room(&self) {
        let waiting = lock(&self.room_lock);
        // Room can also come from the disk, which tells nobody.
        drop(self.room.wait_timeout(waiting, Duration::from_millis(20)));
    }
}

fn spawn(shared: Arc<Shared>, woken: Receiver<()>) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("journal".to_string());
    thread.spawn(move || crate::flush::run(&shared, &woken)).map_err(Error::io("start a thread for", "its flushes"))
}

//! [`Snapshots`]: when state is saved, and how: in slices between steps, written by a thread of its own.
//!
//! A snapshot holds the state after one step. The circuit gives its chunks slice by slice while further steps run, the
//! views are read through, the sinks make durable what they have staged; then one manifest makes all of it the newest
//! snapshot at once. After that the sinks show what was staged, and the journal may let go of what the snapshot covers.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender as Reply, TryRecvError, bounded};
use tidemill_circuit::keep::digests::SaveDigests;
use tidemill_circuit::keep::{Blob, Chunk, ChunkId};
use tidemill_circuit::view;
use tidemill_connect::Staged;
use tidemill_journal::{Fullness, Level, Sequence};
use tidemill_stage::{Cancel, Halt, Sender};
use tidemill_state::Error as StateError;
use tidemill_state::digest::Sum;
use tidemill_state::instance::Instance;
use tidemill_state::snapshot::{self, Manifest, Writer};
use tidemill_state::store::StoreError;

use super::line::{FORMAT, Line};
use super::meta::{Keeper, Meta};
use crate::driver::Driver;
use crate::error::Error;
use crate::outputs::Work;

/// About how many bytes are taken from each lane between two steps: less than a millisecond of work.
const SLICE_BYTES: usize = 512 << 10;

/// The same where requests wait meanwhile: less than 100 us of work.
const DECIDING_SLICE_BYTES: usize = 16 << 10;

/// Slices that wait for the thread that writes.
const SLICES_WAITING: usize = 4;

/// The newest snapshots that are kept, whatever else is.
const VERSIONS_KEPT: usize = 3;

/// How long to wait for others before looking at a snapshot again, when nothing else is to be done.
const PAUSE: Duration = Duration::from_micros(200);

/// How long to wait before looking for room in the journal again.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// How long to wait before a snapshot that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// When state is saved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// The longest time between snapshots while anything changes.
    pub(crate) interval: Duration,
    /// The bytes of input after which state is saved; as many as the last snapshot wrote, if those are more.
    pub(crate) bytes: u64,
}

/// The snapshots of a run.
pub(crate) struct Snapshots {
    policy: Policy,
    newest: Option<Manifest>,
    keepers: Vec<Keeper>,
    phase: Phase,
    /// Bytes of input since the newest snapshot.
    input: u64,
    /// When the newest one was taken, or the run began.
    at: Duration,
    /// The step of the newest one.
    step: u64,
    not_before: Duration,
}

enum Phase {
    Idle,
    Saving(Box<Saving>),
    Showing(Showing),
}

/// A snapshot that is being taken.
struct Saving {
    meta: Meta,
    /// The digest of what came out.
    content_root: Sum,
    /// The sinks that have not yet said what they have staged.
    awaited: usize,
    staged: Receiver<(String, Staged)>,
    to_writer: Option<Reply<Piece>>,
    writer: Option<JoinHandle<Result<Manifest, Error>>>,
    done: Receiver<()>,
    circuit_done: bool,
}

/// A snapshot that is durable, and whose files are being shown.
struct Showing {
    awaited: usize,
    shown: Receiver<()>,
    step: u64,
}

/// A piece of a snapshot on its way to the thread that writes it.
enum Piece {
    Chunks(Vec<Chunk>),
    Commit(Box<snapshot::Meta>),
}

/// Where the driver stands with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// None is being taken.
    Idle,
    /// One is being taken: look again soon.
    Busy,
}

impl Snapshots {
    /// No snapshot is due before something has changed; `newest` is the one the run began with.
    pub(crate) fn new(policy: Policy, newest: Option<Manifest>, keepers: Vec<Keeper>, now: Duration) -> Self {
        let step = newest.as_ref().map_or(0, |newest| newest.meta.step);
        let (phase, input, not_before) = (Phase::Idle, 0, Duration::ZERO);
        Snapshots { policy, newest, keepers, phase, input, at: now, step, not_before }
    }

    /// Counts input of a step.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.input += bytes;
    }

    /// How long until one is due for its age; none when nothing has changed since the last.
    pub(crate) fn due_in(&self, step: u64, now: Duration) -> Option<Duration> {
        let due = (self.at + self.policy.interval).max(self.not_before);
        (step > self.step && matches!(self.phase, Phase::Idle)).then(|| due.saturating_sub(now))
    }

    fn is_due(&self, step: u64, now: Duration, journal_is_high: bool) -> bool {
        if !matches!(self.phase, Phase::Idle) || step <= self.step || now < self.not_before {
            return false;
        }
        let written = self.newest.as_ref().map_or(0, |newest| newest.stats.bytes_written);
        now.saturating_sub(self.at) >= self.policy.interval
            || self.input >= self.policy.bytes.max(written)
            || journal_is_high
    }
}

impl Driver {
    /// Takes a snapshot a little further, or begins one that is due. Called between steps.
    pub(crate) fn tend(&mut self, sinks: &mut [Sender<Work>]) -> Result<Stand, Halt> {
        self.release(false, sinks)?;
        let now = self.clock.monotonic();
        let Some(keep) = &mut self.keep else { return Ok(Stand::Idle) };
        match &keep.snapshots.phase {
            Phase::Idle => {
                let high = keep.fullness(now) != Fullness::Fine;
                if !keep.snapshots.is_due(keep.step, now, high) {
                    return Ok(Stand::Idle);
                }
                self.begin_snapshot(sinks)?;
                // Nobody waits for the next step of bounded input, which may be long in coming.
                while self.bounded && self.is_slicing() {
                    self.save_on(sinks)?;
                }
            }
            Phase::Saving(_) => self.save_on(sinks)?,
            Phase::Showing(_) => self.show_on()?,
        }
        Ok(Stand::Busy)
    }

    /// Takes a snapshot of the last step, waits until it is durable, and shows what was staged for it.
    pub(crate) fn save_now(&mut self, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let mut tried = None;
        loop {
            let Some(keep) = &self.keep else { return Ok(()) };
            let snapshots = &keep.snapshots;
            match &snapshots.phase {
                Phase::Idle if snapshots.step >= keep.step => return Ok(()),
                Phase::Idle if tried.is_some_and(|before| snapshots.not_before > before) => {
                    let problem =
                        "the last snapshot could not be written; the journal has everything since the one before it";
                    return Err(Error::Keep(problem.to_string()).into());
                }
                Phase::Idle => {
                    tried = Some(snapshots.not_before);
                    self.begin_snapshot(sinks)?;
                }
                Phase::Saving(_) => self.save_on(sinks)?,
                Phase::Showing(_) => self.show_on()?,
            }
            thread::sleep(PAUSE);
        }
    }

    /// Takes a snapshot before the next step when the journal has no room for more segments: what it covers may go.
    ///
    /// A step that takes no input out of the journal frees nothing of it: it waits for others when they have left little
    /// room for the lines of steps that do.
    pub(crate) fn make_room(&mut self, sinks: &mut [Sender<Work>], cancel: &Cancel) -> Result<(), Halt> {
        loop {
            let now = self.clock.monotonic();
            let Some(keep) = &mut self.keep else { return Ok(()) };
            if keep.fullness(now) != Fullness::Full {
                return Ok(());
            }
            if keep.step > keep.snapshots.step && now >= keep.snapshots.not_before {
                self.save_now(sinks)?;
            } else {
                // It may be that others have taken since what it is full of.
                keep.folder.retention.let_go(&keep.folder.journal).map_err(Error::Journal)?;
            }
            let Some(keep) = &self.keep else { return Ok(()) };
            let spares = keep.outstanding.oldest().is_none() && keep.log.is_short();
            if !spares || !cancel.sleep(ROOM_PAUSE) {
                return Ok(());
            }
        }
    }

    /// Whether the circuit is still giving what a snapshot is to hold.
    pub(crate) fn is_slicing(&self) -> bool {
        let Some(keep) = &self.keep else { return false };
        matches!(&keep.snapshots.phase, Phase::Saving(saving) if !saving.circuit_done)
    }

    fn begin_snapshot(&mut self, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        // What is saved has left, as far as the pipeline is concerned: else it would have to be shown by nobody.
        self.release(true, sinks)?;
        let Some(keep) = &mut self.keep else { return Ok(()) };
        let limit = keep.folder.journal.durable(Level::Process).next();
        let oldest = keep.outstanding.oldest().map_or(limit, |oldest| limit.min(Sequence(oldest)));
        let full = keep.snapshots.newest.is_none();
        let start = self.circuit.begin_save(full).map_err(Error::Circuit)?;
        let fingerprints = self.circuit.fingerprints();
        let views = self.outputs.views.iter_mut().zip(&self.outputs.view_nodes);
        let views: Vec<view::Save> =
            views.map(|(view, node)| view.begin_save(start.full, fingerprints[*node])).collect();
        let (staged_to, staged) = bounded(sinks.len());
        for sink in sinks.iter_mut() {
            sink.send(Work::Prepare(staged_to.clone()))?;
        }
        let meta = Meta {
            format: FORMAT,
            run: keep.run.clone(),
            step: keep.step,
            now: keep.now,
            finished: keep.finished,
            journal: oldest.0,
            delivered: keep.delivered.step(keep.step),
            positions: keep.positions.clone(),
            staged: BTreeMap::new(),
            keepers: keep.snapshots.keepers.clone(),
        };
        let (to_writer, pieces) = bounded(SLICES_WAITING);
        let (told, done) = bounded(1);
        let (instance, previous) = (keep.instance.clone(), keep.snapshots.newest.clone());
        let (blobs, full, digests) = (start.blobs, start.full, start.digests);
        let content_root = digests.content();
        let writer = thread::Builder::new().name("snapshot".to_string()).spawn(move || {
            let result = write(&instance, previous.as_ref(), full, &blobs, views, &digests, &pieces);
            // The driver may have been stopped.
            let _ = told.send(());
            result
        });
        let writer = Some(writer.map_err(|error| Error::Keep(format!("no thread can be started: {error}")))?);
        let (awaited, to_writer) = (sinks.len(), Some(to_writer));
        let saving = Saving { meta, content_root, awaited, staged, to_writer, writer, done, circuit_done: false };
        keep.snapshots.phase = Phase::Saving(Box::new(saving));
        Ok(())
    }

    fn save_on(&mut self, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let Some(keep) = &mut self.keep else { return Ok(()) };
        let Phase::Saving(saving) = &mut keep.snapshots.phase else { return Ok(()) };
        while let Ok((table, staged)) = saving.staged.try_recv() {
            saving.awaited -= 1;
            if !staged.files.is_empty() {
                saving.meta.staged.insert(table, staged);
            }
        }
        // With bounded input nothing else is to be done, and the next slice waits for the thread that writes.
        if let Some(to_writer) = saving.to_writer.as_ref().filter(|_| !saving.circuit_done)
            && (self.bounded || !to_writer.is_full())
        {
            let bytes = if self.decides { DECIDING_SLICE_BYTES } else { SLICE_BYTES };
            let slice = self.circuit.save_slice(bytes).map_err(Error::Circuit)?;
            saving.circuit_done = slice.done;
            // A writer that has failed says so below.
            let _ = to_writer.send(Piece::Chunks(slice.chunks));
        }
        if saving.circuit_done
            && saving.awaited == 0
            && let Some(to_writer) = saving.to_writer.take()
        {
            let (newest, clock) = (keep.snapshots.newest.as_ref(), self.clock.as_ref());
            let meta = keep.folder.meta(&saving.meta, newest, saving.content_root, clock)?;
            let _ = to_writer.send(Piece::Commit(Box::new(meta)));
        }
        match saving.done.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Ok(()) | Err(TryRecvError::Disconnected) => self.saved(sinks),
        }
    }

    /// Goes on after the thread that writes has ended.
    fn saved(&mut self, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let now = self.clock.monotonic();
        let Some(keep) = &mut self.keep else { return Ok(()) };
        let Phase::Saving(mut saving) = std::mem::replace(&mut keep.snapshots.phase, Phase::Idle) else {
            return Ok(());
        };
        let result = saving.writer.take().map(JoinHandle::join);
        let manifest = match result {
            Some(Ok(Ok(manifest))) => manifest,
            Some(Ok(Err(error))) if is_transient(&error) => {
                // What was staged stays staged for the next one.
                tracing::warn!(%error, "A snapshot could not be written; it is tried again.");
                self.circuit.end_save(false);
                self.outputs.views.iter_mut().for_each(|view| view.end_save(false));
                keep.snapshots.not_before = now + RETRY;
                return self.restage(saving.meta.staged, sinks);
            }
            Some(Ok(Err(error))) => return Err(error.into()),
            Some(Err(_)) | None => return Err(Error::Keep("the thread that writes snapshots died".to_string()).into()),
        };
        self.circuit.end_save(true);
        self.outputs.views.iter_mut().for_each(|view| view.end_save(true));
        keep.log
            .write(&Line::Snapshot { sequence: manifest.sequence, step: manifest.meta.step })
            .map_err(Error::Keep)?;
        let snapshots = &mut keep.snapshots;
        (snapshots.at, snapshots.step, snapshots.input) = (now, manifest.meta.step, 0);
        keep.need.saved(Sequence(saving.meta.journal), keep.step == manifest.meta.step);
        let (sequence, step) = (manifest.sequence, manifest.meta.step);
        tracing::info!(sequence, step, bytes = manifest.stats.bytes_written, "A snapshot is durable.");
        snapshots.newest = Some(manifest);
        keep.folder.retention.let_go(&keep.folder.journal).map_err(Error::Journal)?;
        let (shown_to, shown) = bounded(sinks.len());
        let mut awaited = 0;
        for (table, staged) in std::mem::take(&mut saving.meta.staged) {
            let Some(index) = self.outputs.tables.get(&table) else { continue };
            sinks[*index].send(Work::Publish(staged, shown_to.clone()))?;
            awaited += 1;
        }
        keep.snapshots.phase = Phase::Showing(Showing { awaited, shown, step: sequence });
        self.show_on()
    }

    /// Gives staged files back to their sinks, to be part of the next snapshot.
    fn restage(&mut self, staged: BTreeMap<String, Staged>, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        for (table, staged) in staged {
            let Some(index) = self.outputs.tables.get(&table) else { continue };
            sinks[*index].send(Work::Restage(staged))?;
        }
        Ok(())
    }

    fn show_on(&mut self) -> Result<(), Halt> {
        let Some(keep) = &mut self.keep else { return Ok(()) };
        let Phase::Showing(showing) = &mut keep.snapshots.phase else { return Ok(()) };
        while showing.awaited > 0 && showing.shown.try_recv().is_ok() {
            showing.awaited -= 1;
        }
        if showing.awaited == 0 {
            keep.log.write(&Line::Shown { sequence: showing.step }).map_err(Error::Keep)?;
            keep.snapshots.phase = Phase::Idle;
        }
        Ok(())
    }
}

/// Whether the same may succeed later.
fn is_transient(error: &Error) -> bool {
    matches!(error, Error::State(StateError::Store(StoreError::Failed { .. })))
}

/// Writes a snapshot as its pieces come; an end without a [`Piece::Commit`] gives it up.
fn write(
    instance: &Instance,
    previous: Option<&Manifest>,
    full: bool,
    blobs: &[Blob],
    views: Vec<view::Save>,
    digests: &SaveDigests,
    pieces: &Receiver<Piece>,
) -> Result<Manifest, Error> {
    let mut writer = instance.begin(previous)?;
    if full {
        writer.clear();
    }
    for blob in blobs {
        writer.blob(&blob.name, Bytes::copy_from_slice(&blob.bytes));
    }
    for mut view in views {
        while let Some(chunk) = view.next_chunk()? {
            put(&mut writer, chunk.id, chunk.rows.as_deref())?;
        }
    }
    loop {
        match pieces.recv() {
            Ok(Piece::Chunks(chunks)) => chunks.into_iter().try_for_each(|chunk| {
                digests.put(&chunk);
                put(&mut writer, chunk.id, chunk.stored().as_deref())
            })?,
            Ok(Piece::Commit(meta)) => {
                let manifest = writer.commit(snapshot::Meta { state_hash: digests.roots().state, ..*meta })?;
                if let Err(error) = instance.collect(VERSIONS_KEPT) {
                    tracing::warn!(%error, "Old snapshots could not be removed; it is tried again after the next.");
                }
                return Ok(manifest);
            }
            Err(_) => return Err(Error::Keep("the run was stopped before its snapshot was complete".to_string())),
        }
    }
}

fn put(writer: &mut Writer, id: ChunkId, rows: Option<&[u8]>) -> Result<(), Error> {
    match rows {
        Some(rows) => Ok(writer.chunk(id, rows)?),
        None => {
            writer.remove(id);
            Ok(())
        }
    }
}

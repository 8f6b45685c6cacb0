//! A running process: producers append, steps run, rows leave, snapshots are taken, segments go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidemill_base::planted::{self, Bug};
use tidemill_base::time::Clock;
use tidemill_circuit::Circuit;
use tidemill_circuit::step::{StepHeader, StepInput, StepLog, StepOutput, StepTrailer};
use tidemill_journal::{Journal, Level, Sequence};
use tidemill_state::snapshot::{Manifest, Meta, Writer};
use tidemill_state::{Error, Replica, Version};

use super::Site;
use super::pipeline::{self, Input};
use super::recover::Recovered;
use crate::scenario::{Violation, promise};
use crate::storage::Crash;

/// The kinds of records.
pub(super) const INPUT: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const TRAILER: u8 = 3;

/// The most turns of a life.
const TURNS: u64 = 50;
/// Different keys; few, so that counts are taken back.
const KEYS: u64 = 5;
/// Snapshots that are kept.
const KEPT: usize = 2;

/// What a step gave, and the record of its header.
struct Held {
    header: Sequence,
    output: StepOutput,
}

/// A snapshot that is being written.
struct Saving {
    writer: Writer,
    meta: Meta,
}

/// One process.
pub(super) struct Life<'a> {
    site: &'a mut Site,
    journal: Arc<Journal>,
    circuit: Circuit,
    header: Arc<AtomicU64>,
    waiting: VecDeque<Input>,
    taken: Sequence,
    next: u64,
    held: VecDeque<Held>,
    newest: Option<Manifest>,
    /// Whether a snapshot may have been written without our knowing.
    unsure: bool,
    saving: Option<Saving>,
}

impl<'a> Life<'a> {
    pub(super) fn new(site: &'a mut Site, recovered: Recovered) -> Self {
        let Recovered { journal, mut circuit, newest, waiting, taken, next } = recovered;
        let header = Arc::new(AtomicU64::new(0));
        circuit.log_to(Some(Box::new(Log { journal: journal.clone(), header: header.clone() })));
        let (held, unsure, saving) = (VecDeque::new(), false, None);
        Life { site, journal, circuit, header, waiting, taken, next, held, newest, unsure, saving }
    }

    /// Does this and that until it ends.
    pub(super) fn run(mut self) -> Result<(), Violation> {
        for _ in 0..self.site.world.between(1, TURNS) {
            self.turn()?;
            self.observe()?;
            if self.site.storage.down().is_some() {
                return Ok(());
            }
            self.site.world.pass(Duration::from_millis(10));
        }
        let crash = *self.site.world.pick(&[Crash::Kill, Crash::PowerCut]);
        self.site.storage.crash(crash);
        Ok(())
    }

    /// Takes all input and shows all rows, with nothing failing, and compares with a run that nothing disturbed.
    pub(super) fn finish(mut self) -> Result<(), Violation> {
        while !self.waiting.is_empty() {
            self.step()?;
        }
        self.flush()?;
        self.release()?;
        promise!(self.held.is_empty(), "rows of {} steps do not leave", self.held.len());
        let outside = &self.site.outside;
        outside.sink.shows(&outside.counts(Sequence::MAX))?;
        let all: Vec<Input> = outside.inputs.iter().scan(0, whole).collect();
        let mut undisturbed = pipeline::circuit(1)?;
        if self.circuit.steps() > 0 {
            let step = undisturbed.step(pipeline::step(0, &all, false)?);
            step.map_err(|error| format!("the undisturbed run fails: {error}"))?;
        }
        let roots = [&mut self.circuit, &mut undisturbed].map(|circuit| circuit.roots());
        let [ours, expected] = roots.map(|roots| roots.map(|roots| roots.content).map_err(|error| error.to_string()));
        promise!(ours == expected, "the content is {ours:?}, that of an undisturbed run is {expected:?}");
        self.site.world.note(format_args!("{} records, {} steps, {ours:?}", all.len(), self.circuit.steps()));
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Violation> {
        match self.site.world.below(100) {
            0..30 => self.append(),
            30..50 => self.step(),
            50..62 => self.flush(),
            62..76 => self.release(),
            76..94 => self.save(),
            94..97 => self.collect(),
            _ => self.stumble(),
        }
    }

    /// A producer sends an event of a few keys.
    fn append(&mut self) -> Result<(), Violation> {
        let world = &self.site.world;
        let keys: Vec<u8> = (0..world.between(1, 3)).map(|_| world.below(KEYS) as u8).collect();
        match self.journal.append(INPUT, 0, &[&keys]) {
            Ok(sequence) => {
                world.note(format_args!("record {sequence} is {keys:?}"));
                self.site.outside.inputs.insert(sequence.0, keys.clone());
                self.waiting.push_back(Input { sequence, first: self.next, keys });
                self.next = self.waiting.back().map_or(self.next, Input::end);
                Ok(())
            }
            Err(error) => self.stop(&error),
        }
    }

    /// Runs a step over some of what waits.
    fn step(&mut self) -> Result<(), Violation> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let count = self.site.world.between(1, self.waiting.len() as u64) as usize;
        let inputs: Vec<Input> = self.waiting.drain(..count).collect();
        let now = self.site.world.clock().now().millis();
        let opened = self.circuit.positions().iter().any(|position| !position.partitions.is_empty());
        match self.circuit.step(pipeline::step(now, &inputs, opened)?) {
            Ok(output) => {
                let header = Sequence(self.header.load(Ordering::SeqCst));
                self.taken = inputs.last().map_or(self.taken, |input| input.sequence);
                let (step, digest) = (output.header.step, pipeline::digest(&output));
                self.site.world.note(format_args!("step {step} takes up to {}, gives {digest}", self.taken));
                self.held.push_back(Held { header, output });
                Ok(())
            }
            Err(error) => self.stop(&error),
        }
    }

    fn flush(&mut self) -> Result<(), Violation> {
        match self.journal.flush_once() {
            Ok(_) => Ok(()),
            Err(error) => self.stop(&error),
        }
    }

    /// Lets rows leave whose steps are durable.
    fn release(&mut self) -> Result<(), Violation> {
        let durable = self.journal.durable(Level::Flushed);
        while let Some(held) = self.held.pop_front() {
            if held.header > durable && !planted::is(Bug::OutputBeforeHeader) {
                self.held.push_front(held);
                break;
            }
            self.site.world.note(format_args!("step {} is shown", held.output.header.step));
            self.site.outside.sink.take(&held.output)?;
        }
        Ok(())
    }

    /// Begins a snapshot, goes on with it, or ends it.
    fn save(&mut self) -> Result<(), Violation> {
        let Some(Saving { mut writer, meta }) = self.saving.take() else { return self.begin_save() };
        let slice = self.circuit.save_slice(self.site.world.between(1, 60) as usize);
        let slice = slice.map_err(|error| format!("a slice cannot be saved: {error}"))?;
        for chunk in slice.chunks {
            let id = chunk.id;
            match chunk.stored() {
                Some(rows) => writer.chunk(id, &rows).map_err(|error| error.to_string())?,
                None => writer.remove(id),
            }
        }
        let shown = self.held.front().is_none_or(|held| held.output.header.step > meta.step);
        match slice.done && shown {
            true => self.commit(writer, meta),
            false => {
                self.saving = Some(Saving { writer, meta });
                Ok(())
            }
        }
    }

    fn begin_save(&mut self) -> Result<(), Violation> {
        if self.unsure && !self.look()? {
            return Ok(());
        }
        let start = self.circuit.begin_save(self.site.world.chance(100));
        let start = start.map_err(|error| format!("a save cannot begin: {error}"))?;
        let roots = self.circuit.roots().map_err(|error| error.to_string())?;
        let mut writer = self.site.instance.begin(self.newest.as_ref()).map_err(|error| error.to_string())?;
        if start.full {
            writer.clear();
        }
        for blob in start.blobs {
            writer.blob(&blob.name, Bytes::from(blob.bytes));
        }
        let lamport = self.newest.as_ref().map_or(0, |newest| newest.meta.version.lamport) + 1;
        let meta = Meta {
            version: Version::new(lamport, Replica::new(1, self.journal.incarnation()).unwrap_or_default()),
            epoch: self.journal.incarnation(),
            created_ms: self.site.world.clock().now().millis(),
            build: "sim".to_string(),
            state_hash: roots.state,
            content_root: roots.content,
            journal: self.taken.next().0,
            step: start.step,
            note: Bytes::new(),
        };
        self.site.world.note(format_args!("snapshot {} of step {} begins", writer.sequence(), start.step));
        self.saving = Some(Saving { writer, meta });
        Ok(())
    }

    fn commit(&mut self, writer: Writer, meta: Meta) -> Result<(), Violation> {
        match writer.commit(meta) {
            Ok(manifest) => {
                self.circuit.end_save(true);
                self.site.world.note(format_args!("snapshot {} is there", manifest.sequence));
                self.cover(manifest)
            }
            Err(error) => {
                self.circuit.end_save(false);
                self.unsure = true;
                self.excuse(&error)
            }
        }
    }

    /// Takes a snapshot for the newest, and lets segments go that it covers.
    fn cover(&mut self, manifest: Manifest) -> Result<(), Violation> {
        let covered = Sequence(manifest.meta.journal).previous();
        self.newest = Some(manifest);
        match self.journal.retire(covered) {
            Ok(_) => Ok(()),
            Err(error) => self.stop(&error),
        }
    }

    /// Asks which snapshot is the newest; false when there is no answer.
    fn look(&mut self) -> Result<bool, Violation> {
        match self.site.instance.newest() {
            Ok(newest) => {
                let before = self.newest.as_ref().map(|newest| newest.sequence);
                let found = newest.as_ref().map(|newest| newest.sequence);
                promise!(found >= before, "the newest snapshot was {before:?}, and now is {found:?}");
                (self.newest, self.unsure) = (newest, false);
                Ok(true)
            }
            Err(error) => {
                self.excuse(&error)?;
                Ok(false)
            }
        }
    }

    fn collect(&mut self) -> Result<(), Violation> {
        match self.site.instance.collect(KEPT) {
            Ok(collected) => {
                self.site.world.note(format_args!("collected {collected:?}"));
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn stumble(&mut self) -> Result<(), Violation> {
        let crash = *self.site.world.pick(&[Crash::Kill, Crash::PowerCut]);
        self.site.storage.crash(crash);
        Ok(())
    }

    /// Takes the journal at its word.
    fn observe(&mut self) -> Result<(), Violation> {
        for level in Level::ALL {
            self.site.outside.acknowledge(level, self.journal.durable(level));
        }
        if self.saving.is_none() && self.held.is_empty() && self.site.storage.down().is_none() {
            let outside = &self.site.outside;
            outside.sink.shows(&outside.counts(self.taken))?;
        }
        Ok(())
    }

    /// The process cannot go on.
    fn stop(&mut self, error: &dyn std::error::Error) -> Result<(), Violation> {
        let failed = self.site.storage.tally() != self.site.before;
        promise!(failed, "nothing has failed, but: {error}");
        self.site.world.note(format_args!("stops: {error}"));
        self.site.storage.crash(Crash::Kill);
        Ok(())
    }

    /// A store's error is as it should be when there was a reason for it.
    fn excuse(&mut self, error: &Error) -> Result<(), Violation> {
        let failed = self.site.storage.down().is_some() || self.site.store.failures() > 0;
        promise!(failed && matches!(error, Error::Store(_)), "unexpected: {error}");
        self.site.world.note(format_args!("no snapshot: {error}"));
        Ok(())
    }
}

/// An input record with the keys before it.
fn whole(first: &mut u64, (sequence, keys): (&u64, &Vec<u8>)) -> Option<Input> {
    let input = Input { sequence: Sequence(*sequence), first: *first, keys: keys.clone() };
    *first = input.end();
    Some(input)
}

/// Writes headers and trailers into the journal.
struct Log {
    journal: Arc<Journal>,
    header: Arc<AtomicU64>,
}

impl Log {
    fn write(&self, kind: u8, line: &impl serde::Serialize) -> Result<Sequence, String> {
        let line = serde_json::to_vec(line).map_err(|error| error.to_string())?;
        self.journal.append(kind, 0, &[&line]).map_err(|error| error.to_string())
    }
}

impl StepLog for Log {
    fn header(&mut self, header: &StepHeader, _input: &StepInput) -> Result<(), String> {
        self.header.store(self.write(HEADER, header)?.0, Ordering::SeqCst);
        Ok(())
    }

    fn trailer(&mut self, trailer: &StepTrailer) -> Result<(), String> {
        self.write(TRAILER, trailer).map(drop)
    }
}

//! The driver: what a step takes in, and when.
//!
//! With bounded sources alone, steps are cut by the number of rows and nothing else: one block from each source in
//! rotation, waiting for it, until 65,536 rows are together. The same files over the same lanes so give the same steps.
//! As soon as one source never ends, the driver takes what is waiting, up to what the budget buys, and steps at once;
//! when nothing is waiting it sleeps until something comes, a timer of the circuit is due, or a partition has been
//! silent for too long.
//!
//! A bounded source in which rows of others are looked up is read to its end before any of these is taken: none is answered
//! from half a table.
//!
//! Where requests wait for what a step gives, they are taken first and then every event that is there, so that each sees
//! whatever was acknowledged before it came.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tidemill_base::time::{Clock, Stopwatch};
use tidemill_circuit::decode::{Block, BlockData, STEP_ROWS_MAX};
use tidemill_circuit::step::{StepInput, StepOutput};
use tidemill_circuit::{Circuit, error::Error as CircuitError};
use tidemill_journal::{Level, Sequence};
use tidemill_stage::{Cancel, Halt, Sender, Waits};

use crate::budget::Scale;
use crate::error::Error;
use crate::feed::Feed;
use crate::intake::Tap;
use crate::keep::Keep;
use crate::keep::snapshot::Stand;
use crate::outputs::{Outputs, Work};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::record::Recorder;
use crate::versioned::feed::Lookups;

/// How long the driver sleeps at most while a snapshot is being taken.
const BUSY: Duration = Duration::from_millis(1);

/// How long a circuit sleeps at most that has unsaved steps, while somebody may wait for room in the journal.
const UNSAVED: Duration = Duration::from_millis(500);

/// The ends that the driver works on.
pub(crate) struct Ends {
    /// Events, one tap a source.
    pub(crate) sources: Vec<Tap>,
    /// Rows, one channel a sink.
    pub(crate) sinks: Vec<Sender<Work>>,
}

/// The circuit with all that surrounds it.
pub(crate) struct Driver {
    /// The circuit's name.
    pub(crate) name: String,
    pub(crate) circuit: Circuit,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) outputs: Outputs,
    /// Tells the circuit's functions the time and the seed of the step to come.
    pub(crate) announce: Box<dyn Fn(i64, u64) + Send>,
    pub(crate) seed: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) recorder: Option<Recorder>,
    /// What keeps the run, when it is kept.
    pub(crate) keep: Option<Keep>,
    /// The versioned tables that rows are looked up in.
    pub(crate) lookups: Arc<Lookups>,
    /// Whether every source comes to an end by itself.
    pub(crate) bounded: bool,
    /// Whether requests wait for what it gives.
    pub(crate) decides: bool,
    /// How far it may be behind its inboxes, in work, before they take no more; none where nobody waits.
    pub(crate) lag_max: Option<Duration>,
    /// Whether the pipeline has other circuits.
    pub(crate) shares: bool,
    pub(crate) turn: usize,
    /// When it is weighed, and what it may hold.
    pub(crate) scale: Scale,
    pub(crate) pace: Pace,
    /// Runs since there was something to do.
    pub(crate) turned: Stopwatch,
    pub(crate) now: i64,
}

impl Driver {
    /// Steps until every source has ended or was stopped. This is the work of a stage.
    pub(crate) fn run(&mut self, ends: &mut Ends, cancel: &Cancel) -> Result<(), Halt> {
        let ran = self.steps(ends, cancel);
        self.outputs.answers.iter().for_each(|(endpoint, _)| endpoint.end());
        ran.map_err(|halt| match (halt, self.journal_failure()) {
            // Whatever noticed it first, a journal that has failed is what stopped the run.
            (Halt::Failed(_), Some(failure)) => failure.into(),
            (halt, _) => halt,
        })
    }

    fn steps(&mut self, ends: &mut Ends, cancel: &Cancel) -> Result<(), Halt> {
        self.recover(&mut ends.sinks)?;
        self.lookups.go_live(&self.name)?;
        self.weigh(u64::MAX, &mut ends.sinks)?;
        while self.gather(ends, cancel)? {
            self.make_room(&mut ends.sinks, cancel)?;
            let input = StepInput { now: self.now(), sources: self.feeds.iter_mut().filter_map(Feed::news).collect() };
            let bytes = input.sources.iter().flat_map(|source| &source.blocks).map(bytes_of).sum();
            let output = self.step(input)?;
            let records = output.records;
            self.deliver(output, &mut ends.sinks)?;
            if cancel.is_aborted() {
                return Err(Halt::Stopped);
            }
            if let Some(keep) = &mut self.keep {
                keep.snapshots.count(bytes);
            }
            self.tend(&mut ends.sinks)?;
            self.weigh(records, &mut ends.sinks)?;
            self.pace.turned(records, self.turned.elapsed());
        }
        self.release(true, &mut ends.sinks)?;
        self.save_now(&mut ends.sinks)?;
        if let Some(recorder) = &self.recorder {
            recorder.finish()?;
        }
        Ok(())
    }

    /// Gets together what the next step takes in; false when there is no next step.
    fn gather(&mut self, ends: &mut Ends, cancel: &Cancel) -> Result<bool, Halt> {
        if self.bounded {
            self.gather_by_count(&mut ends.sources)?;
            self.note_origins()?;
            return Ok(self.has_news());
        }
        if let Some(lag_max) = self.lag_max {
            let records = self.pace.rows_in(lag_max);
            ends.sources.iter().for_each(|tap| tap.permit(records));
        }
        self.turned = Stopwatch::start();
        loop {
            if cancel.is_draining() {
                ends.sources.iter_mut().for_each(Tap::close);
            }
            match self.decides && !self.reads_first() && !ends.sources.iter().any(Tap::is_behind) {
                true => self.gather_requests(&mut ends.sources)?,
                false => self.gather_waiting(&mut ends.sources)?,
            }
            self.note_origins()?;
            let now = self.clock.monotonic();
            self.feeds.iter_mut().filter(|feed| feed.open).for_each(|feed| feed.mark_idle(now));
            if self.has_news() || self.due_in() == Some(Duration::ZERO) {
                return Ok(true);
            }
            self.release_idle(&mut ends.sinks)?;
            let busy = self.tend(&mut ends.sinks)? == Stand::Busy;
            if !self.sleep(&ends.sources, busy, cancel) {
                return Ok(false);
            }
            self.turned = Stopwatch::start();
        }
    }

    /// One block from each source in rotation, until a step is full.
    fn gather_by_count(&mut self, sources: &mut [Tap]) -> Result<(), Halt> {
        let mut rows = 0;
        while rows < STEP_ROWS_MAX as u64 {
            let Some(index) = self.next_open() else { break };
            let feed = &mut self.feeds[index];
            let mut block = feed.held.take();
            while block.is_none() && feed.open {
                block = feed.note(sources[index].recv()?, Duration::ZERO);
            }
            if let Some(block) = block {
                let records = u64::from(block.records);
                if rows > 0 && rows + records > STEP_ROWS_MAX as u64 {
                    feed.held = Some(block);
                    self.turn = index;
                    return Ok(());
                }
                rows += records;
                feed.take(block);
            }
            self.turn = index + 1;
        }
        Ok(())
    }

    /// What is waiting now, from each source in turn, up to the budget; while some have to give what was taken before this
    /// run, from those alone.
    fn gather_waiting(&mut self, sources: &mut [Tap]) -> Result<(), Halt> {
        let at = self.clock.monotonic();
        let behind = sources.iter().any(Tap::is_behind);
        let (mut rows, mut silent) = (0, 0);
        let rows_max = if self.is_slicing() { self.pace.rows_while_saving() } else { self.pace.rows() };
        while rows < rows_max && silent < self.feeds.len() {
            let Some(index) = self.next_open() else { break };
            self.turn = index + 1;
            let feed = &mut self.feeds[index];
            let Poll::Ready(event) = sources[index].poll_if(!behind, rows_max - rows)? else {
                silent += 1;
                continue;
            };
            silent = 0;
            if let Some(block) = feed.note(event, at) {
                rows += u64::from(block.records);
                feed.take(block);
            }
        }
        Ok(())
    }

    /// Requests that wait, up to the budget, and then all events that wait: whatever was acknowledged before a request
    /// came is in its step or in an earlier one.
    fn gather_requests(&mut self, sources: &mut [Tap]) -> Result<(), Halt> {
        let at = self.clock.monotonic();
        for requests in [true, false] {
            for (feed, tap) in self.feeds.iter_mut().zip(sources.iter_mut()) {
                if feed.requests != requests || !feed.open {
                    continue;
                }
                let most = if tap.is_pulled() && !requests { u64::MAX } else { self.pace.rows() };
                let mut rows = 0;
                let mut polled = tap.try_recv(most)?;
                while let Poll::Ready(event) = polled {
                    if let Some(block) = feed.note(event, at) {
                        rows += u64::from(block.records);
                        feed.take(block);
                    }
                    // A source that is asked itself is asked once: else one that is fast would not let go.
                    polled = match tap.is_pulled() {
                        true => tap.pulled()?.map_or(Poll::Pending, |event| Poll::Ready(Some(event))),
                        false if rows < most && feed.open => tap.try_recv(most)?,
                        false => Poll::Pending,
                    };
                }
            }
        }
        Ok(())
    }

    /// The next source in rotation that may have more.
    fn next_open(&self) -> Option<usize> {
        let count = self.feeds.len();
        let first = self.reads_first();
        (0..count).map(|offset| (self.turn + offset) % count).find(|index| {
            let feed = &self.feeds[*index];
            (feed.open || feed.held.is_some()) && (feed.first || !first)
        })
    }

    /// Whether a source is still being read before the others.
    fn reads_first(&self) -> bool {
        self.feeds.iter().any(|feed| feed.first && (feed.open || feed.held.is_some()))
    }

    fn has_news(&self) -> bool {
        self.feeds.iter().any(Feed::has_news)
    }

    /// How long until the circuit has something to say by itself.
    fn due_in(&self) -> Option<Duration> {
        let due = self.circuit.next_due()?.millis();
        let wait = due.saturating_sub(self.clock.now().millis().max(self.now));
        Some(Duration::from_millis(wait.max(0) as u64))
    }

    /// Waits for an event, a timer or a time-out; false when every source has ended.
    fn sleep(&self, sources: &[Tap], busy: bool, cancel: &Cancel) -> bool {
        let mut waits = Waits::new();
        let mut open = false;
        let first = self.reads_first();
        for (_, tap) in self.feeds.iter().zip(sources).filter(|(feed, _)| feed.open && (feed.first || !first)) {
            open = true;
            tap.wait_on(&mut waits);
        }
        if !open {
            return false;
        }
        if !cancel.is_draining() && sources.iter().any(Tap::is_pulled) {
            // Those that are asked by nobody else have to be told of a stop.
            waits.on_bell(cancel.drain_signal());
        }
        let now = self.clock.monotonic();
        let idle = self.feeds.iter().filter(|feed| feed.open).filter_map(Feed::idle_at).min();
        let idle = idle.map(|at| at.saturating_sub(now));
        let mut save = None;
        if let Some(keep) = &self.keep {
            if self.is_holding() {
                waits.on_bell(keep.log.bell());
            }
            save = match busy {
                true => Some(BUSY),
                false => keep.snapshots.due_in(keep.step, now).map(|due| due.min(UNSAVED)),
            };
        }
        waits.wait(self.due_in().into_iter().chain(idle).chain(save).min());
        true
    }

    /// Processing time, which never goes back.
    fn now(&mut self) -> i64 {
        self.now = self.now.max(self.clock.now().millis());
        self.now
    }

    fn step(&mut self, input: StepInput) -> Result<StepOutput, Halt> {
        (self.announce)(input.now, self.seed);
        if let Some(keep) = &self.keep {
            keep.need.step();
        }
        let stopwatch = Stopwatch::start();
        let output = self.circuit.step(input).map_err(|error| place(&self.feeds, error))?;
        self.pace.measured(output.records, stopwatch.elapsed());
        self.progress.count(&output);
        Ok(output)
    }

    /// Why the journal takes nothing any more, when it has failed for good.
    pub(crate) fn journal_failure(&self) -> Option<Error> {
        let journal = &self.keep.as_ref()?.folder.journal;
        journal.wait(Sequence::NONE, Level::Process).err().map(Error::Journal)
    }

    /// Writes down partitions that were seen for the first time.
    fn note_origins(&mut self) -> Result<(), Error> {
        self.keep_origins()?;
        let Some(recorder) = &self.recorder else { return Ok(()) };
        self.feeds.iter().try_for_each(|feed| recorder.origins(&feed.name, &feed.origins))
    }
}

/// The bytes of a block, as input is counted.
fn bytes_of(block: &Block) -> u64 {
    match &block.data {
        BlockData::Bytes(bytes) => bytes.len() as u64,
        BlockData::Rows(delta) => delta.batch().get_array_memory_size() as u64,
    }
}

/// Says which file a bad record is in.
fn place(feeds: &[Feed], error: CircuitError) -> Error {
    let CircuitError::Record { origin: table, partition, message } = error else { return Error::Circuit(error) };
    let feed = feeds.iter().find(|feed| feed.name == table);
    match feed.and_then(|feed| feed.origins.get(partition as usize)) {
        Some(origin) => Error::Record { table, origin: origin.name.clone(), message },
        None => Error::Circuit(CircuitError::Record { origin: table, partition, message }),
    }
}

#[cfg(test)]
mod tests;

//! A run that is kept: input and steps in a journal, what the circuit holds in snapshots, so that a restart goes on exactly
//! where the run before it stopped, however it stopped.
//!
//! The one idea: a step is a function of the state before it, the input its header names, and the header itself. The
//! header is in the journal before anything of the step leaves, and so is the input. After a crash the newest snapshot is
//! restored and the steps since are run again ([`recover`]); they give what they gave, and only what sinks have not shown
//! yet is shown.
//!
//! Reading order: [`line`] what is written, [`input`] how input comes in, [`log`] how steps are written, [`survey`] what is
//! read at a start, [`recover`] how steps run again, [`snapshot`] when and how state is saved.

pub(crate) mod dry;
pub(crate) mod folder;
pub(crate) mod input;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod meta;
pub(crate) mod rebuild;
pub(crate) mod recover;
pub(crate) mod retention;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod survey;
pub(crate) mod verify;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::planted::{self, Bug};
use tidemill_circuit::step::{StepHeader, StepOutput};
use tidemill_journal::{Fullness, Level, Sequence};
use tidemill_stage::{Halt, Sender};
use tidemill_state::instance::Instance;

use crate::driver::Driver;
use crate::error::Error;
use crate::outputs::Work;
use folder::Folder;
use input::{Outstanding, taken};
use line::{Line, Run};
use log::{Delivered, Log};
use meta::Positions;
use recover::Recovery;
use retention::Need;
use snapshot::Snapshots;

/// Steps that may have run while what they gave waits for their headers to become durable.
const HELD_MAX: usize = 16;

/// How long what was seen of the journal's fullness is believed: less than it takes to fill what is left.
const LOOK: Duration = Duration::from_millis(1);

/// What a driver needs to keep a run.
pub(crate) struct Keep {
    pub(crate) folder: Arc<Folder>,
    /// The circuit's snapshots.
    pub(crate) instance: Instance,
    pub(crate) log: Log,
    pub(crate) need: Arc<Need>,
    /// How full the journal was, and when that was looked at.
    pub(crate) looked: Option<(Duration, Fullness)>,
    pub(crate) outstanding: Arc<Outstanding>,
    pub(crate) delivered: Delivered,
    pub(crate) positions: Positions,
    pub(crate) run: Run,
    /// How many partitions of each source have been written down, in the order of the feeds.
    pub(crate) named: Vec<usize>,
    pub(crate) snapshots: Snapshots,
    /// What is to be done before anything else.
    pub(crate) recovery: Option<Recovery>,
    /// What came out of steps whose headers may not be durable yet.
    pub(crate) held: VecDeque<(Sequence, StepOutput)>,
    /// Whether nothing is left to do.
    pub(crate) finished: bool,
    /// The last step and its processing time.
    pub(crate) step: u64,
    pub(crate) now: i64,
}

impl Keep {
    /// Notes that a step has run, and keeps what it gave until it may leave.
    fn hold(&mut self, output: StepOutput) {
        self.note(&output.header);
        self.held.push_back((self.log.header(), output));
    }

    /// How full the journal is, or was a moment ago.
    fn fullness(&mut self, now: Duration) -> Fullness {
        match self.looked {
            Some((at, fullness)) if now.saturating_sub(at) < LOOK => fullness,
            _ => {
                let fullness = self.folder.journal.usage().fullness;
                self.looked = Some((now, fullness));
                fullness
            }
        }
    }

    /// Notes what a step has taken.
    pub(crate) fn note(&mut self, header: &StepHeader) {
        self.positions.take(header);
        for range in &header.sources {
            self.outstanding.remove(&range.source, range.blocks.iter().map(taken));
        }
        self.finished = header.last;
        (self.step, self.now) = (header.step, header.now);
    }
}

impl Driver {
    /// Hands on what a step gave, once its header is durable.
    pub(crate) fn deliver(&mut self, output: StepOutput, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let Some(keep) = &mut self.keep else { return self.outputs.take(output, None, sinks) };
        keep.hold(output);
        let wait = keep.held.len() > HELD_MAX;
        self.release(wait, sinks)
    }

    /// Hands on what may leave; with `wait` everything, once it may.
    pub(crate) fn release(&mut self, wait: bool, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let Some(keep) = &mut self.keep else { return Ok(()) };
        let level = keep.log.level();
        if let (true, Some((last, _))) = (wait, keep.held.back()) {
            keep.folder.journal.wait(*last, level).map_err(Error::Journal)?;
        }
        let durable = match planted::is(Bug::OutputBeforeHeader) {
            true => Sequence::MAX,
            false => keep.folder.journal.durable(level),
        };
        while keep.held.front().is_some_and(|(header, _)| *header <= durable) {
            let Some((header, output)) = keep.held.pop_front() else { break };
            self.outputs.take(output, Some(header.0), sinks)?;
        }
        Ok(())
    }

    /// Hands on what may leave when nothing else is to be done; what stays is told of by the log's bell.
    pub(crate) fn release_idle(&mut self, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        if let Some(keep) = &self.keep {
            keep.log.hush();
        }
        self.release(false, sinks)?;
        match self.journal_failure().filter(|_| self.is_holding()) {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Whether something waits to leave.
    pub(crate) fn is_holding(&self) -> bool {
        self.keep.as_ref().is_some_and(|keep| !keep.held.is_empty())
    }

    /// Writes down partitions that were seen for the first time.
    pub(crate) fn keep_origins(&mut self) -> Result<(), Error> {
        let Some(keep) = &mut self.keep else { return Ok(()) };
        for (feed, named) in self.feeds.iter().zip(&mut keep.named) {
            for (origin, partition) in feed.origins.iter().zip(0_u32..).skip(*named) {
                let (source, origin) = (feed.name.clone(), origin.clone());
                // The step that takes the news of it follows.
                keep.need.step();
                keep.positions.open(&source, partition, origin.clone());
                keep.log.write(&Line::Opened { source, partition, origin }).map_err(Error::Keep)?;
            }
            *named = feed.origins.len();
        }
        Ok(())
    }
}

/// The level of durability of a word.
pub(crate) fn level(word: &str) -> Option<Level> {
    word.parse().ok()
}

//! One circuit of a pipeline: made, filled from its state when it is kept, and given to a driver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::time::{Clock, Stopwatch};
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::operator::Sides;
use tidemill_circuit::{Circuit, circuit};
use tidemill_sql::Pipeline;

use super::Options;
use crate::budget::{Budget, Scale};
use crate::driver::Driver;
use crate::error::Error;
use crate::feed::Feed;
use crate::intake::Doorway;
use crate::keep::Keep;
use crate::keep::line::Line;
use crate::keep::log::{Delivered, Log};
use crate::keep::rebuild;
use crate::keep::recover::{Again, MakeCircuit, Recovery};
use crate::keep::snapshot::{Policy, Snapshots};
use crate::keep::start::{self, Start};
use crate::nice;
use crate::outputs::Outputs;
use crate::pace::Pace;
use crate::part::Part;
use crate::progress::Progress;
use crate::record::Recorder;
use crate::versioned::feed::Lookups;

/// The longest time between snapshots while anything changes, when nothing is said.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(60);

/// The bytes of input between snapshots, when nothing is said.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// What the circuits of a run have in common.
pub(super) struct Common<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) options: &'a Options,
    pub(super) lookups: &'a Arc<Lookups>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) recorder: Option<&'a Recorder>,
    /// Whether there are several circuits.
    pub(super) shares: bool,
    /// What all of them may hold.
    pub(super) budget: &'a Arc<Budget>,
}

/// What a circuit is put together from.
pub(super) struct Pieces<'a> {
    pub(super) part: &'a Part,
    /// What it begins with, when it is kept.
    pub(super) start: Option<&'a Start>,
    pub(super) decoders: Decoders,
    /// The doors of its inboxes.
    pub(super) doorways: BTreeMap<String, Doorway>,
    pub(super) outputs: Outputs,
    pub(super) delivered: Delivered,
    /// For each of its sources after which silence a partition stops holding the watermark.
    pub(super) idle_timeouts: Vec<Option<Duration>>,
    /// For each of its sources whether it is read to its end before the others.
    pub(super) first: Vec<bool>,
    /// Whether every one of its sources comes to an end by itself.
    pub(super) bounded: bool,
}

impl Common<'_> {
    /// The driver of a circuit.
    pub(super) fn driver(&self, mut pieces: Pieces<'_>) -> Result<Driver, Error> {
        let part = pieces.part;
        // The threads of its lanes have the priority of the one that makes it.
        let aside = self.shares && !part.decides();
        let (circuit, keep) = nice::aside(aside, || self.circuit(&mut pieces))?;
        let finished = keep.as_ref().is_some_and(|keep| keep.finished);
        let requested = part.requested();
        let mut feeds = Vec::new();
        for ((name, idle_timeout), first) in part.sources().zip(&pieces.idle_timeouts).zip(&pieces.first) {
            let mut feed = Feed::new(name, *idle_timeout);
            feed.first = *first;
            if let Some(start) = pieces.start {
                feed.resume(start.survey.positions.of(name));
            }
            // Once every source had come to its end there is nothing to read.
            feed.open = !finished;
            feed.requests = requested.contains(name);
            feeds.push(feed);
        }
        let session = part.session.clone();
        let decides = part.decides();
        Ok(Driver {
            name: part.name.clone(),
            circuit,
            feeds,
            outputs: pieces.outputs,
            announce: Box::new(move |now, seed| session.step.set(now, seed)),
            seed: self.seed,
            clock: self.clock.clone(),
            progress: self.progress.clone(),
            recorder: self.recorder.cloned(),
            keep,
            lookups: self.lookups.clone(),
            bounded: pieces.bounded,
            decides,
            lag_max: part.endpoints.iter().map(|endpoint| endpoint.options.lag_max).min(),
            shares: self.shares,
            turn: 0,
            scale: Scale::new(self.budget),
            pace: if decides { Pace::deciding() } else { Pace::new() },
            turned: Stopwatch::start(),
            now: i64::MIN,
        })
    }

    fn circuit(&self, pieces: &mut Pieces<'_>) -> Result<(Circuit, Option<Keep>), Error> {
        let part = pieces.part;
        let (lanes, sides) = (lanes(self.pipeline, part, self.options), sides(self.pipeline, part));
        let decoders = std::mem::take(&mut pieces.decoders);
        match pieces.start {
            None => {
                let log = self.recorder.cloned().map(|recorder| Box::new(recorder) as _);
                let (seed, digests) = (self.seed, log.is_some());
                let options = circuit::Options { lanes, seed, sides, digests, log, ..Default::default() };
                Ok((Circuit::new(&part.plan, &decoders, options)?, None))
            }
            Some(start) => {
                let make = part.make(decoders, self.seed, sides);
                let (circuit, keep) = self.kept(start, pieces, make, lanes)?;
                Ok((circuit, Some(keep)))
            }
        }
    }

    /// The circuit of a run that is kept, filled from the newest snapshot, and what keeps it.
    fn kept(
        &self,
        start: &Start,
        pieces: &mut Pieces<'_>,
        make: MakeCircuit,
        lanes: usize,
    ) -> Result<(Circuit, Keep), Error> {
        let Start { folder, outstanding, manifest, meta, survey, .. } = start;
        let (part, outputs) = (pieces.part, &mut pieces.outputs);
        let mut circuit = make(lanes)?;
        let again = |from, after, until, strict: bool| -> Result<Again, Error> {
            Ok(Again {
                from,
                after,
                until,
                abandoned_before: start.abandoned_before().filter(|_| strict),
                strict,
                replays: start.replays(self.pipeline, part, !strict)?,
                doors: pieces.doorways.clone(),
                lookups: self.lookups.clone(),
                circuit: part.name.clone(),
                sources: part.sources().map(str::to_string).collect(),
                make: make.clone(),
                opened: Default::default(),
            })
        };
        let saved = meta.as_ref().map_or(0, |meta| meta.step);
        let fresh = start.fresh(&mut circuit, &outputs.view_nodes)?;
        if fresh.is_empty() {
            start.restore(&start.blobs(), &mut circuit, &mut outputs.views, &outputs.view_nodes)?;
        } else {
            let again = again(folder.journal.usage().first, 0, saved, false)?;
            rebuild::restore(start, again, part, &fresh, &mut circuit, outputs)?;
        }
        let run = start.run(self.options, lanes, self.seed);
        let log = Log::new(folder.journal.clone(), &part.name, pieces.delivered.clone(), start.level);
        log.write(&Line::Run(run.clone())).map_err(Error::Keep)?;
        let settings = &self.pipeline.settings.state;
        let policy = Policy {
            interval: settings.snapshot_interval.unwrap_or(SNAPSHOT_INTERVAL),
            bytes: settings.snapshot_bytes.unwrap_or(SNAPSHOT_BYTES),
        };
        let keepers = start::keepers(&mut circuit, &part.plan, &outputs.view_nodes);
        let again = again(survey.from, saved, u64::MAX, true)?;
        let recovery = Recovery { steps: survey.steps, delivered: survey.delivered, again, lanes };
        let before = meta.as_ref();
        let mut positions = before.map(|meta| meta.positions.clone()).unwrap_or_default();
        // What was opened since the snapshot is in the journal, and is not written down again.
        positions.open_all(&survey.positions);
        let keep = Keep {
            folder: folder.clone(),
            instance: start.instance.clone(),
            log,
            need: start.need.clone(),
            looked: None,
            outstanding: outstanding.clone(),
            delivered: pieces.delivered.clone(),
            positions,
            run,
            named: part.sources().map(|name| survey.positions.of(name).len()).collect(),
            snapshots: Snapshots::new(policy, manifest.clone(), keepers, self.clock.monotonic()),
            recovery: Some(recovery),
            held: Default::default(),
            finished: survey.finished,
            step: saved,
            now: before.map_or(i64::MIN, |meta| meta.now),
        };
        Ok((circuit, keep))
    }
}

/// The lanes of a circuit. One with endpoints has few unless more are asked for: its steps are short, and whoever waits
/// for one would wait for all lanes.
pub(super) fn lanes(pipeline: &Pipeline, part: &Part, options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let usual = || if part.decides() { cores() / 4 } else { cores() };
    options.lanes.or(pipeline.settings.lanes).unwrap_or_else(usual).max(1)
}

/// Which side rows have somewhere to go.
fn sides(pipeline: &Pipeline, part: &Part) -> Sides {
    if part.decides() {
        // The request that a row is may have to be answered that it failed.
        return Sides { late: false, dead_letter: true, bad_record: false };
    }
    let settings = &pipeline.settings;
    Sides {
        late: settings.late.is_some(),
        dead_letter: settings.dead_letter.is_some(),
        bad_record: settings.bad_records.is_some(),
    }
}

//! [`Runner`]: a planned pipeline, opened and joined together, ready to run.
//!
//! Everything that can be wrong before the first row is found here: options, files that are not there, a port that is
//! taken, rows that a sink cannot take back. After that a run is one call.

mod chores;
mod circuit;
mod hall;
mod sinks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidemill_base::time::{Clock, Stopwatch, SystemClock};
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::view::View;
use tidemill_gateway::{Config, Doors, Reload};
use tidemill_sql::Pipeline;
use tidemill_stage::{Cancel, Graph};

use crate::budget::Budget;
use crate::driver::{Driver, Ends};
use crate::endpoint::Desks;
use crate::error::Error;
use crate::intake::Intake;
use crate::keep::start::{self, State};
use crate::nice;
use crate::outputs::{Report, Writings};
use crate::part::Part;
use crate::progress::Progress;
use crate::record::{FORMAT, Recorder, Run};
use crate::tables::Tables;
use crate::versioned::feed::{Lookups, Watch};
use chores::Chores;
use circuit::{Common, Pieces};
use hall::Leads;
use sinks::{Leaving, Left};

/// Blocks that wait between a reader and the driver: enough for the next step while one runs.
const BLOCKS_WAITING: usize = 16;

/// How long requests that are being answered may keep the door open at the end.
const DOOR_TIMEOUT: Duration = Duration::from_secs(5);

/// How a pipeline is run; each field left out is taken from the pipeline's settings, and then has a default.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Threads that decode and step. Default: one a core.
    pub lanes: Option<usize>,
    /// The seed of RAND and UUID. Default: from the clock.
    pub seed: Option<u64>,
    /// Where the door listens. Default: 127.0.0.1:8080, and only when the pipeline has an inbox.
    pub listen: Option<String>,
    /// The doors and who may come through them. Default: one door, at `listen`, for anybody.
    pub doors: Option<Config>,
    /// Whether the door may be reachable from other machines though it does not ask who calls.
    pub insecure: bool,
    /// The folder of the pipeline's state, or `none`. Default: a folder beside, when events come in over HTTP or through a ring.
    pub state: Option<String>,
    /// Where the run is written down, and what its SQL is called there.
    pub record: Option<PathBuf>,
    /// What the SQL is called, such as its path.
    pub name: String,
    /// The SQL, as it is written into the record.
    pub sql: String,
}

/// A pipeline that is ready to run.
pub struct Runner {
    graph: Graph,
    cancel: Cancel,
    server: Option<Doors>,
    progress: Arc<Progress>,
    views: BTreeMap<String, View>,
    writings: Writings,
    bounded: bool,
    notes: Vec<String>,
    lookups: Arc<Lookups>,
    chores: Chores,
}

impl Runner {
    /// Opens everything a pipeline needs. `cancel` stops the run: gracefully, or at once.
    ///
    /// # Errors
    /// Whatever can be wrong before the first row.
    pub fn new(pipeline: &Pipeline, options: &Options, cancel: &Cancel) -> Result<Runner, Error> {
        Runner::of(pipeline, &Part::all(pipeline)?, options, cancel)
    }

    /// The same for `parts`, the circuits of the pipeline.
    fn of(pipeline: &Pipeline, parts: &[Part], options: &Options, cancel: &Cancel) -> Result<Runner, Error> {
        let mut tables = parts.iter().map(|part| Tables::of(pipeline, part)).collect::<Result<Vec<Tables>, Error>>()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let journaled = tables.iter().any(|tables| tables.journaled().next().is_some());
        let path = start::path_of(pipeline, options, journaled);
        let lookups = Arc::new(Lookups::open(pipeline, parts, path.as_deref())?);
        let state = State::open(pipeline, parts, &tables, options, &clock)?;
        let state = state.as_ref();
        let seed = state.and_then(State::seed).or(options.seed).or(pipeline.settings.seed);
        let seed = seed.unwrap_or_else(|| clock.now().millis() as u64);
        let sources: Vec<Sources> = tables.iter().map(|tables| Sources::of(pipeline, tables)).collect();
        let connectors = tables.first_mut().map(|tables| std::mem::take(&mut tables.connectors)).unwrap_or_default();
        let mut intake = Intake::of(pipeline, parts, tables);
        let recorder = recorder(pipeline, parts, options, seed, path, intake.fleeting())?;
        let inboxes = Arc::new(intake.doors(pipeline, state)?);
        let desks = Arc::<Desks>::default();
        let mut graph = Graph::new(cancel, BLOCKS_WAITING);
        let (writings, progress) = (Writings::default(), Arc::<Progress>::default());
        let shares = parts.len() > 1;
        let (lookups_of, recorder, clock, progress_of) = (&lookups, recorder.as_ref(), &clock, &progress);
        let budget = &Arc::new(Budget::new(pipeline.settings.state.memory));
        let common = Common {
            pipeline,
            options,
            lookups: lookups_of,
            clock,
            seed,
            progress: progress_of,
            recorder,
            shares,
            budget,
        };
        let (mut drivers, mut views) = (Vec::new(), BTreeMap::new());
        for (index, (part, Sources { decoders, idle_timeouts, first, bounded })) in
            parts.iter().zip(sources).enumerate()
        {
            let start = state.map(|state| &state.starts[index]);
            let left = match part.decides() {
                true => Left::answers(part, &|endpoint, inboxes| desks.open(endpoint, inboxes), &inboxes)?,
                false => Leaving::new(&mut graph, cancel, pipeline, &connectors, &writings, start).open()?,
            };
            let Left { outputs, views: kept, senders, delivered } = left;
            let doorways = intake.doorways(index, &inboxes);
            let pieces = Pieces { part, start, decoders, doorways, outputs, delivered, idle_timeouts, first, bounded };
            drivers.push((common.driver(pieces)?, senders));
            views.extend(kept);
        }
        if let Some(state) = state {
            state.write_sql(&options.sql)?;
            intake.resume(pipeline, state)?;
            desks.recall(&inboxes, &state.folder.journal)?;
        }
        let leads = Leads { inboxes: &inboxes, desks: &desks, views: &views, lookups: &lookups, state };
        let server = hall::open(&leads, pipeline, options)?;
        let bounded = drivers.iter().all(|(driver, _)| driver.bounded);
        let finished: Vec<bool> =
            drivers.iter().map(|(driver, _)| driver.keep.as_ref().is_some_and(|keep| keep.finished)).collect();
        if finished.contains(&false) {
            intake.attach(pipeline)?;
        }
        let taps = intake.taps(&mut graph, state, &inboxes, &finished);
        for ((driver, sinks), sources) in drivers.into_iter().zip(taps) {
            drive(&mut graph, driver, Ends { sources, sinks });
        }
        let notes = state.map(|state| state.notes.clone()).unwrap_or_default();
        let cancel = cancel.clone();
        let chores = Chores { inboxes, desks };
        Ok(Runner { graph, cancel, server, progress, views, writings, bounded, notes, lookups, chores })
    }

    /// What a person should know before it runs: where its state is, and what was found there.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where the first door listens, when there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().and_then(|doors| doors.addresses().first().copied())
    }

    /// Where all doors listen, as clients write it.
    pub fn urls(&self) -> Vec<String> {
        self.server.as_ref().map(Doors::urls).unwrap_or_default()
    }

    /// What takes a changed configuration of the doors while they are open, when there are doors.
    pub fn reload(&self) -> Option<Reload> {
        self.server.as_ref().map(Doors::reload)
    }

    /// Whether the run comes to an end by itself.
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// The counters of the run.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// What the outputs that are kept hold, by the outputs' names; readable while it runs, and after.
    pub fn views(&self) -> BTreeMap<String, View> {
        self.views.clone()
    }

    /// Runs until every source has ended, or the run was stopped.
    ///
    /// # Errors
    /// The first failure of a stage, or that the run was aborted.
    pub fn run(self) -> Result<Report, Error> {
        let stopwatch = Stopwatch::start();
        let watch: Option<Watch> = self.lookups.watch()?;
        let chores = self.chores.begin()?;
        let result = self.graph.run();
        drop((watch, chores));
        if let Some(doors) = self.server {
            doors.stop(DOOR_TIMEOUT);
        }
        result?;
        let mut written = std::mem::take(&mut *self.writings.lock().unwrap_or_else(PoisonError::into_inner));
        written.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(Report {
            drained: self.cancel.is_draining(),
            standing: self.progress.standing(),
            elapsed: stopwatch.elapsed(),
            written,
        })
    }
}

/// What a circuit has to know of its sources, which others may share.
struct Sources {
    decoders: Decoders,
    idle_timeouts: Vec<Option<Duration>>,
    first: Vec<bool>,
    bounded: bool,
}

impl Sources {
    fn of(pipeline: &Pipeline, tables: &Tables) -> Sources {
        let looked_up = |name: &str| pipeline.table(name).is_some_and(|table| table.is_looked_up);
        let first = tables.sources.iter().map(|table| table.source.is_bounded() && looked_up(&table.name));
        Sources {
            decoders: tables.decoders(),
            idle_timeouts: tables.sources.iter().map(|table| table.idle_timeout).collect(),
            first: first.collect(),
            bounded: tables.sources.iter().all(|table| table.source.is_bounded()),
        }
    }
}

fn recorder(
    pipeline: &Pipeline,
    parts: &[Part],
    options: &Options,
    seed: u64,
    state: Option<PathBuf>,
    fleeting: Vec<String>,
) -> Result<Option<Recorder>, Error> {
    let Some(path) = &options.record else { return Ok(None) };
    if let Some(endpoint) = parts.iter().flat_map(|part| &part.endpoints).next() {
        return Err(Error::RecordEndpoint { endpoint: endpoint.name.clone(), position: Some(endpoint.position) });
    }
    let lanes = parts.first().map_or(1, |part| circuit::lanes(pipeline, part, options));
    let run = Run {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_string(),
        name: options.name.clone(),
        sql: options.sql.clone(),
        lanes,
        seed,
        state,
    };
    Recorder::create(path, run, fleeting).map(Some)
}

/// A stage for a circuit. Where requests wait for another one it steps aside.
fn drive(graph: &mut Graph, mut driver: Driver, ends: Ends) {
    let name = match driver.shares {
        true => format!("circuit '{}'", driver.name),
        false => "circuit".to_string(),
    };
    graph.stage(name, ends, move |ends, cancel| {
        if driver.shares && !driver.decides {
            nice::step_aside();
        }
        driver.run(ends, cancel)
    });
}

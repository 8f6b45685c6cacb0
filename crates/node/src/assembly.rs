//! [`Runner`]: a planned pipeline, opened and joined together, ready to run.
//!
//! Everything that can be wrong before the first row is found here: options, files that are not there, a port that is
//! taken, rows that a sink cannot take back. After that a run is one call.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidemill_base::time::{Clock, Stopwatch, SystemClock};
use tidemill_circuit::Circuit;
use tidemill_circuit::circuit;
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::operator::{SideKind, Sides as Collected};
use tidemill_circuit::plan::Spec;
use tidemill_circuit::view::{View, ViewSpec, view};
use tidemill_connect::{Connector, Delivery, Rows, Sink, SourceEvent};
use tidemill_gateway::{Hall, Server};
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::{Changelog, OutputDef, OutputKind, TableDef};
use tidemill_stage::{Cancel, Graph, Receiver, Sender};

use crate::doors::{InboxDoor, ViewDoor};
use crate::driver::{Driver, Ends};
use crate::error::Error;
use crate::feed::Feed;
use crate::keep::Keep;
use crate::keep::folder::Folder;
use crate::keep::line::Line;
use crate::keep::log::{Delivered, Log};
use crate::keep::rebuild;
use crate::keep::recover::{Again, MakeCircuit, Recovery};
use crate::keep::snapshot::{Policy, Snapshots};
use crate::keep::start::{self, Start};
use crate::outputs::{self, Opened, Outputs, Report, Route, Work, Writings};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::record::{FORMAT, Recorder, Run};
use crate::side::Sides;
use crate::tables::{TableSource, Tables, placed};
use crate::versioned::door::{TableDoor, VersionsDoor};
use crate::versioned::feed::{Lookups, Watch};
use crate::versions::Versions;

/// Blocks that wait between a reader and the driver: enough for the next step while one runs.
const BLOCKS_WAITING: usize = 16;

/// Steps whose rows wait between the driver and a writer.
const STEPS_WAITING: usize = 4;

/// The longest time between snapshots while anything changes, when nothing is said.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(60);

/// The bytes of input between snapshots, when nothing is said.
const SNAPSHOT_BYTES: u64 = 64 << 20;

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
    server: Option<Server>,
    progress: Arc<Progress>,
    views: BTreeMap<String, View>,
    writings: Writings,
    bounded: bool,
    notes: Vec<String>,
    lookups: Arc<Lookups>,
}

impl Runner {
    /// Opens everything a pipeline needs. `cancel` stops the run: gracefully, or at once.
    ///
    /// # Errors
    /// Whatever can be wrong before the first row.
    pub fn new(pipeline: &Pipeline, options: &Options, cancel: &Cancel) -> Result<Runner, Error> {
        let mut tables = Tables::of(pipeline)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let lanes = lanes(pipeline, options);
        let state = start::path_of(pipeline, options, tables.journaled().next().is_some());
        let lookups = Arc::new(Lookups::open(pipeline, state.as_deref())?);
        let start = Start::of(pipeline, options, &tables, &clock)?;
        let before = start.as_ref().and_then(|start| start.survey.run.as_ref()).map(|run| run.seed);
        let seed = before.or(options.seed).or(pipeline.settings.seed);
        let seed = seed.unwrap_or_else(|| clock.now().millis() as u64);
        let mut build = Build {
            graph: Graph::new(cancel, BLOCKS_WAITING),
            cancel,
            writings: Writings::default(),
            senders: Vec::new(),
            indices: BTreeMap::new(),
            start: start.as_ref(),
            delivered: Delivered::default(),
            staged: Vec::new(),
        };
        let (mut outputs, views) = build.outputs(pipeline, &tables.connectors)?;
        let recorder = recorder(options, lanes, seed, state, &tables.sources)?;
        let (decoders, sides): (Decoders, _) = (tables.decoders(), collected(pipeline));
        let circuit_options = move |lanes, keep| circuit::Options { lanes, seed, sides, keep, ..Default::default() };
        let doors = doors(&tables.sources, pipeline, start.as_ref())?;
        let (delivered, notes) =
            (std::mem::take(&mut build.delivered), start.as_ref().map(|start| start.notes.clone()));
        let (circuit, keep) = match &start {
            None => {
                let digests = recorder.is_some();
                let log = recorder.clone().map(|recorder| Box::new(recorder) as _);
                let circuit_options = circuit::Options { digests, log, ..circuit_options(lanes, false) };
                (Circuit::new(&pipeline.plan, &decoders, circuit_options)?, None)
            }
            Some(start) => {
                let plan = pipeline.plan.clone();
                let make: MakeCircuit =
                    Arc::new(move |lanes| Circuit::new(&plan, &decoders, circuit_options(lanes, true)));
                let filled = Filled { start, doors: &doors, lookups: &lookups, make };
                let kept = kept(filled, pipeline, options, (lanes, seed), &mut outputs, delivered, &*clock)?;
                start.resume(pipeline, &mut tables.sources, &doors)?;
                (kept.0, Some(kept.1))
            }
        };
        let server = server(&doors, &views, &lookups, start.as_ref(), pipeline, options)?;
        let session = pipeline.session.clone();
        let progress = Arc::new(Progress::default());
        let bounded = tables.sources.iter().all(|table| table.source.is_bounded());
        let finished = keep.as_ref().is_some_and(|keep| keep.finished);
        let mut feeds: Vec<Feed> =
            tables.sources.iter().map(|table| Feed::new(&table.name, table.idle_timeout)).collect();
        if let Some(start) = &start {
            feeds.iter_mut().for_each(|feed| feed.resume(start.survey.positions.of(&feed.name.clone())));
        }
        if finished {
            // Every source had come to its end: there is nothing to read.
            feeds.iter_mut().for_each(|feed| feed.open = false);
        }
        let driver = Driver {
            circuit,
            feeds,
            outputs,
            announce: Box::new(move |now, seed| session.step.set(now, seed)),
            seed,
            clock,
            progress: progress.clone(),
            recorder,
            keep,
            lookups: lookups.clone(),
            bounded,
            turn: 0,
            pace: Pace::new(),
            now: i64::MIN,
        };
        let Build { mut graph, writings, senders, .. } = build;
        let sources = if finished { Vec::new() } else { attached(tables.sources, pipeline)? };
        let receivers = readers(&mut graph, sources);
        drive(&mut graph, driver, Ends { sources: receivers, sinks: senders });
        Ok(Runner {
            graph,
            cancel: cancel.clone(),
            server,
            progress,
            views,
            writings,
            bounded,
            notes: notes.unwrap_or_default(),
            lookups,
        })
    }

    /// What a person should know before it runs: where its state is, and what was found there.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where the door listens, when there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
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
        let result = self.graph.run();
        drop(watch);
        if let Some(server) = self.server {
            server.stop(DOOR_TIMEOUT);
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

fn lanes(pipeline: &Pipeline, options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    options.lanes.or(pipeline.settings.lanes).unwrap_or_else(cores).max(1)
}

/// Which side rows have somewhere to go.
fn collected(pipeline: &Pipeline) -> Collected {
    let settings = &pipeline.settings;
    Collected {
        late: settings.late.is_some(),
        dead_letter: settings.dead_letter.is_some(),
        bad_record: settings.bad_records.is_some(),
    }
}

fn recorder(
    options: &Options,
    lanes: usize,
    seed: u64,
    state: Option<PathBuf>,
    sources: &[TableSource],
) -> Result<Option<Recorder>, Error> {
    let Some(path) = &options.record else { return Ok(None) };
    let run = Run {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_string(),
        name: options.name.clone(),
        sql: options.sql.clone(),
        lanes,
        seed,
        state,
    };
    let fleeting = sources.iter().filter(|table| table.is_fleeting).map(|table| table.name.clone());
    Recorder::create(path, run, fleeting.collect()).map(Some)
}

/// The inboxes, by their tables.
fn doors(
    sources: &[TableSource],
    pipeline: &Pipeline,
    start: Option<&Start>,
) -> Result<BTreeMap<String, Arc<InboxDoor>>, Error> {
    let mut doors = BTreeMap::new();
    for table in sources {
        let (Some(handle), Some(format)) = (table.source.inbox(), &table.format) else { continue };
        let mut door = InboxDoor::new(&table.name, handle, format, table.decoded.clone())?;
        if let Some(start) = start {
            door = door.kept_in(start.folder.journal.clone(), start.level(pipeline, &table.name));
        }
        doors.insert(table.name.clone(), Arc::new(door));
    }
    Ok(doors)
}

/// What a circuit of a run that is kept is filled from.
struct Filled<'a> {
    start: &'a Start,
    doors: &'a BTreeMap<String, Arc<InboxDoor>>,
    lookups: &'a Arc<Lookups>,
    make: MakeCircuit,
}

/// The circuit of a run that is kept, filled from the newest snapshot, and what keeps it.
fn kept(
    Filled { start, doors, lookups, make }: Filled<'_>,
    pipeline: &Pipeline,
    options: &Options,
    (lanes, seed): (usize, u64),
    outputs: &mut Outputs,
    delivered: Delivered,
    clock: &dyn Clock,
) -> Result<(Circuit, Keep), Error> {
    let Start { folder, outstanding, manifest, meta, survey, .. } = start;
    let mut circuit = make(lanes)?;
    let fresh = start.fresh(&mut circuit, &outputs.view_nodes)?;
    if fresh.is_empty() {
        start.restore(&start.blobs(), &mut circuit, &mut outputs.views, &outputs.view_nodes)?;
    } else {
        let again = Again {
            from: folder.journal.usage().first,
            after: 0,
            until: meta.as_ref().map_or(0, |meta| meta.step),
            abandoned_before: None,
            strict: false,
            replays: start.replays(pipeline, true)?,
            doors: doors.clone(),
            lookups: lookups.clone(),
            make: make.clone(),
            opened: Default::default(),
        };
        rebuild::restore(start, again, pipeline, &fresh, &mut circuit, outputs)?;
    }
    let run = start.run(options, lanes, seed);
    let log = Log::new(folder.journal.clone(), delivered.clone(), folder.level);
    log.write(&Line::Run(run.clone())).map_err(Error::Keep)?;
    start.write_sql(&options.sql)?;
    let state = &pipeline.settings.state;
    let policy = Policy {
        interval: state.snapshot_interval.unwrap_or(SNAPSHOT_INTERVAL),
        bytes: state.snapshot_bytes.unwrap_or(SNAPSHOT_BYTES),
    };
    let keepers = start::keepers(&mut circuit, &pipeline.plan, &outputs.view_nodes);
    let again = Again {
        from: survey.from,
        after: meta.as_ref().map_or(0, |meta| meta.step),
        until: u64::MAX,
        abandoned_before: start.abandoned_before(),
        strict: true,
        replays: start.replays(pipeline, false)?,
        doors: doors.clone(),
        lookups: lookups.clone(),
        make,
        opened: Default::default(),
    };
    let recovery = Recovery { steps: survey.steps, delivered: survey.delivered, again, lanes };
    let before = meta.as_ref();
    let mut positions = before.map(|meta| meta.positions.clone()).unwrap_or_default();
    // What was opened since the snapshot is in the journal, and is not written down again.
    positions.open_all(&survey.positions);
    let named = sources_of(pipeline).map(|name| survey.positions.of(name).len()).collect();
    let keep = Keep {
        folder: folder.clone(),
        log,
        outstanding: outstanding.clone(),
        delivered,
        positions,
        run,
        named,
        snapshots: Snapshots::new(policy, manifest.clone(), keepers, clock.monotonic()),
        recovery: Some(recovery),
        held: Default::default(),
        finished: survey.finished,
        step: before.map_or(0, |meta| meta.step),
        now: before.map_or(i64::MIN, |meta| meta.now),
    };
    Ok((circuit, keep))
}

/// The sources of the plan, in its order.
fn sources_of(pipeline: &Pipeline) -> impl Iterator<Item = &str> {
    pipeline.plan.nodes.iter().filter_map(|node| match &node.spec {
        Spec::Source(source) => Some(source.name.as_str()),
        _ => None,
    })
}

/// Opens the door, when the pipeline has an inbox or an address was given.
fn server(
    doors: &BTreeMap<String, Arc<InboxDoor>>,
    views: &BTreeMap<String, View>,
    lookups: &Lookups,
    start: Option<&Start>,
    pipeline: &Pipeline,
    options: &Options,
) -> Result<Option<Server>, Error> {
    let mut hall = Hall::new();
    let listen = options.listen.as_ref().or(pipeline.settings.listen.as_ref());
    let mut wanted = listen.is_some();
    for (name, door) in doors {
        wanted = true;
        hall.add_inbox(name.clone(), door.clone());
    }
    if !wanted {
        return Ok(None);
    }
    for output in &pipeline.outputs {
        if let (OutputKind::MaterializedView { name }, Some(view)) = (&output.kind, views.get(&output.name)) {
            hall.add_view(name.clone(), Arc::new(ViewDoor(view.clone())));
        }
    }
    for table in lookups.tables() {
        hall.add_table(table.name(), Arc::new(TableDoor::new(table.clone())));
    }
    if let Some(Start { folder, .. }) = start {
        let versions = Versions::of(&folder.path, folder.instance.clone());
        hall.show_versions(Arc::new(VersionsDoor(versions)));
    }
    let mut door = tidemill_gateway::Options { insecure: options.insecure, ..Default::default() };
    if let Some(listen) = listen {
        door.listen = address(listen)?;
    }
    Ok(Some(Server::start(door, hall)?))
}

fn address(listen: &str) -> Result<SocketAddr, Error> {
    let wrong = || Error::Listen { value: listen.to_string() };
    listen.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}

/// The stages and channels of a run, while they are put together.
struct Build<'a> {
    graph: Graph,
    cancel: &'a Cancel,
    writings: Writings,
    senders: Vec<Sender<Work>>,
    /// Which of the senders goes to which table.
    indices: BTreeMap<String, usize>,
    /// What the run begins with, when it is kept.
    start: Option<&'a Start>,
    delivered: Delivered,
    /// For each sender whether its sink shows rows only with their version.
    staged: Vec<bool>,
}

impl Build<'_> {
    /// Opens a sink for each table that is written and a view for each output that is kept.
    fn outputs(
        &mut self,
        pipeline: &Pipeline,
        connectors: &BTreeMap<String, Connector>,
    ) -> Result<(Outputs, BTreeMap<String, View>), Error> {
        let mut outputs = Outputs::default();
        let mut views = BTreeMap::new();
        for output in &pipeline.outputs {
            let route = match &output.kind {
                OutputKind::Sink { table } => Route::Sink(self.sink(table, pipeline, connectors)?),
                OutputKind::MaterializedView { .. } | OutputKind::Select { .. } => {
                    let (writer, reader) = view(ViewSpec {
                        name: shown_name(output),
                        schema: output.schema.clone(),
                        // The one row of a global aggregate has a key of no columns, by which nothing is found.
                        key: output.key.clone().filter(|key| !key.is_empty()),
                        append_only: output.changelog == Changelog::AppendOnly,
                    })?;
                    views.insert(output.name.clone(), reader);
                    outputs.views.push(writer);
                    outputs.view_nodes.push(output.node);
                    Route::View(outputs.views.len() - 1)
                }
            };
            outputs.routes.insert(output.name.clone(), route);
        }
        self.sides(pipeline, connectors, &mut outputs.sides)?;
        outputs.tables = self.indices.clone();
        outputs.staged = self.staged.clone();
        Ok((outputs, views))
    }

    /// Opens the sink of a table, once.
    fn sink(
        &mut self,
        table: &str,
        pipeline: &Pipeline,
        connectors: &BTreeMap<String, Connector>,
    ) -> Result<usize, Error> {
        if let Some(index) = self.indices.get(table) {
            return Ok(*index);
        }
        let (Some(connector), Some(def)) = (connectors.get(table), pipeline.table(table)) else {
            let problem = format!("the plan writes '{table}', which no table is");
            return Err(tidemill_circuit::Error::broken("the planner", problem).into());
        };
        let sink = connector.sink(rows_of(pipeline, def), self.cancel).map_err(|error| placed(error, def))?;
        self.add_sink(table, sink)
    }

    fn add_sink(&mut self, table: &str, mut sink: Box<dyn Sink>) -> Result<usize, Error> {
        let counter = Arc::<AtomicU64>::default();
        let delivery = match self.start {
            None => Delivery::AtLeastOnce,
            Some(start) => {
                let (staged, unshown) = start.staged(table);
                let Folder { journal, .. } = start.folder.as_ref();
                let delivery = sink.stage(&start.folder.owner(), journal.incarnation(), &staged)?;
                if unshown {
                    sink.publish(&staged)?;
                }
                if delivery == Delivery::AtLeastOnce {
                    self.delivered.add(counter.clone(), start.survey.delivered);
                }
                delivery
            }
        };
        self.staged.push(delivery == Delivery::ExactlyOnce);
        let (sender, stream) = self.graph.channel_of(STEPS_WAITING);
        let opened = Opened { table: table.to_string(), sink, delivered: counter };
        let writings = self.writings.clone();
        self.graph.stage(format!("sink '{table}'"), stream.into_receiver(), move |work, _| {
            outputs::write(opened, work, &writings)
        });
        self.senders.push(sender);
        self.indices.insert(table.to_string(), self.senders.len() - 1);
        Ok(self.senders.len() - 1)
    }

    /// Opens the sinks of the side outputs that were declared.
    fn sides(
        &mut self,
        pipeline: &Pipeline,
        connectors: &BTreeMap<String, Connector>,
        sides: &mut Sides,
    ) -> Result<(), Error> {
        let settings = &pipeline.settings;
        let declared = [
            (SideKind::Late, "side-output.late", &settings.late),
            (SideKind::DeadLetter, "side-output.dead-letter", &settings.dead_letter),
            (SideKind::BadRecord, "side-output.bad-records", &settings.bad_records),
        ];
        for (kind, setting, table) in declared {
            let Some(table) = table else { continue };
            let Some(def) = pipeline.table(table) else {
                let problem = "there is no such table".to_string();
                return Err(Error::Side { setting, table: table.clone(), problem });
            };
            let sink = self.sink(table, pipeline, connectors)?;
            sides.add(kind, setting, table, sink, def.writable())?;
        }
        Ok(())
    }
}

/// The rows that come to a table, from all outputs that write it.
fn rows_of(pipeline: &Pipeline, def: &TableDef) -> Rows {
    let writes = |output: &&OutputDef| matches!(&output.kind, OutputKind::Sink { table } if *table == def.name);
    let outputs: Vec<&OutputDef> = pipeline.outputs.iter().filter(writes).collect();
    let key = match outputs.as_slice() {
        [only] => only.key.clone(),
        _ => None,
    };
    let updating = outputs.iter().any(|output| output.changelog != Changelog::AppendOnly);
    Rows { schema: def.writable(), key, updating }
}

fn shown_name(output: &OutputDef) -> String {
    match &output.kind {
        OutputKind::MaterializedView { name } => name.clone(),
        _ => output.name.clone(),
    }
}

/// The sources, each with what it reads from.
fn attached(mut sources: Vec<TableSource>, pipeline: &Pipeline) -> Result<Vec<TableSource>, Error> {
    for table in &mut sources {
        table.source.attach().map_err(|error| match pipeline.table(&table.name) {
            Some(def) => placed(error, def),
            None => error.into(),
        })?;
    }
    Ok(sources)
}

/// A stage for each source, and where its events come out.
fn readers(graph: &mut Graph, sources: Vec<TableSource>) -> Vec<Receiver<SourceEvent>> {
    let read = |table: TableSource| {
        let source = table.source;
        let events = graph.source(format!("source '{}'", table.name), move |out, cancel| source.read(out, cancel));
        events.into_receiver()
    };
    sources.into_iter().map(read).collect()
}

fn drive(graph: &mut Graph, mut driver: Driver, ends: Ends) {
    graph.stage("circuit", ends, move |ends, cancel| driver.run(ends, cancel));
}

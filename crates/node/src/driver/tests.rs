use std::path::Path;
use std::sync::Mutex;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::planted::{self, Bug};
use tidemill_base::time::SystemClock;
use tidemill_circuit::circuit;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::expr::OnError;
use tidemill_circuit::plan::{Node, OutputSpec, Plan, SourceSpec, Spec};
use tidemill_circuit::step::{SourceInput, StepHeader, StepLog, StepTrailer};
use tidemill_circuit::view::{View, ViewSpec, view};
use tidemill_circuit::{Delta, plan};
use tidemill_connect::{Origin, SourceEvent};
use tidemill_sql::pipeline::StateSettings;
use tidemill_stage::{Error as StageError, Graph};

use super::*;
use crate::budget::Budget;
use crate::intake::{Backlog, News};
use crate::keep::folder::Folder;
use crate::keep::input::Outstanding;
use crate::keep::line::{Line, Run};
use crate::keep::log::{Delivered, Log};
use crate::keep::meta::Positions;
use crate::keep::snapshot::{Policy, Snapshots};
use crate::keep::start;
use crate::outputs::Route;
use crate::part::MAIN;
use crate::side::Sides;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]))
}

/// A plan that hands the rows of two sources, `left` and `right`, to one output.
fn union() -> Plan {
    let node = |spec, inputs| Node { spec, inputs, schema: columns(), position: None, on_error: OnError::Stop };
    let source = |name: &str| {
        Spec::Source(SourceSpec {
            name: name.to_string(),
            decoded: columns(),
            origin: false,
            computed: None,
            watermark: None,
            append_only: true,
        })
    };
    let mut plan = plan::Plan::default();
    let (left, right) = (plan.add(node(source("left"), vec![])), plan.add(node(source("right"), vec![])));
    let all = plan.add(node(Spec::Union, vec![left, right]));
    plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![all]));
    plan
}

/// What a scripted source does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Sends a block of so many rows.
    Rows(u32),
    /// Waits.
    Pause(u64),
    /// Ends by itself; a script without it ends as if it were stopped.
    Complete,
    /// Waits until so many records have been taken in.
    Until(u64),
}

/// Headers, as the circuit was given them.
#[derive(Debug, Clone, Default)]
struct Headers(Arc<Mutex<Vec<StepHeader>>>);

impl StepLog for Headers {
    fn header(&mut self, header: &StepHeader, _input: &StepInput) -> Result<(), String> {
        self.0.lock().expect("no panic holds it").push(header.clone());
        Ok(())
    }

    fn trailer(&mut self, _trailer: &StepTrailer) -> Result<(), String> {
        Ok(())
    }
}

/// What a scripted run came to.
struct Ran {
    result: Result<(), StageError>,
    headers: Vec<StepHeader>,
    view: View,
}

impl Ran {
    /// For each step the records of each block, `left` and `right`.
    fn steps(&self) -> Vec<[Vec<u32>; 2]> {
        let records = |header: &StepHeader, source: usize| {
            header.sources[source].blocks.iter().map(|block| block.records).collect::<Vec<_>>()
        };
        self.headers.iter().map(|header| [records(header, 0), records(header, 1)]).collect()
    }

    fn rows(&self) -> usize {
        self.view.scan().expect("integers can be gathered").batches.iter().map(RecordBatch::num_rows).sum()
    }
}

fn play(
    script: Vec<Act>,
    progress: Arc<Progress>,
) -> impl FnOnce(&mut Sender<SourceEvent>, &Cancel) -> Result<(), Halt> {
    move |out, cancel| {
        let origin = Origin { name: "script".to_string(), size: None, modified: None, digest: None };
        out.send(SourceEvent::Opened { partition: 0, origin })?;
        let mut at = 0;
        for act in script {
            match act {
                Act::Rows(records) => {
                    let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..records).map(i64::from)));
                    let batch = RecordBatch::try_new(columns(), vec![column]).expect("one column");
                    let (from, to) = (at, at + u64::from(records));
                    let data = BlockData::Rows(Delta::inserts(batch));
                    out.send(SourceEvent::Block(Block { partition: 0, from, to, first_record: from, records, data }))?;
                    at = to;
                }
                Act::Pause(millis) => {
                    cancel.sleep(Duration::from_millis(millis));
                }
                Act::Until(records) => {
                    while progress.standing().records < records && cancel.sleep(Duration::from_millis(1)) {}
                }
                Act::Complete => {
                    out.send(SourceEvent::Ended { partition: 0 })?;
                    out.send(SourceEvent::Complete)?;
                }
            }
        }
        Ok(())
    }
}

/// A driver of the union, whose output is a view.
fn driver(circuit: Circuit, bounded: bool, progress: Arc<Progress>) -> (Driver, View) {
    let spec = ViewSpec { name: "out".to_string(), schema: columns(), key: None, append_only: true };
    let (writer, view) = view(spec).expect("integers can be compared");
    let driver = Driver {
        name: MAIN.to_string(),
        circuit,
        feeds: vec![Feed::new("left", None), Feed::new("right", None)],
        outputs: Outputs {
            routes: [("out".to_string(), Route::View(0))].into(),
            views: vec![writer],
            view_nodes: vec![3],
            staged: Vec::new(),
            tables: Default::default(),
            sides: Sides::default(),
            answers: Vec::new(),
        },
        announce: Box::new(|_, _| {}),
        seed: 0,
        clock: Arc::new(SystemClock::new()),
        progress,
        recorder: None,
        keep: None,
        lookups: Arc::default(),
        bounded,
        decides: false,
        lag_max: None,
        shares: false,
        turn: 0,
        scale: Scale::new(&Arc::new(Budget::new(None))),
        pace: Pace::new(),
        turned: Stopwatch::start(),
        now: i64::MIN,
    };
    (driver, view)
}

/// Runs the union over two scripts.
fn run(bounded: bool, left: Vec<Act>, right: Vec<Act>) -> Ran {
    run_with(bounded, left, right, |_| {})
}

/// Runs the union over two scripts with a driver that is changed before.
fn run_with(bounded: bool, left: Vec<Act>, right: Vec<Act>, change: impl FnOnce(&mut Driver)) -> Ran {
    let headers = Headers::default();
    let options = circuit::Options { log: Some(Box::new(headers.clone())), ..circuit::Options::default() };
    let circuit = Circuit::new(&union(), &Default::default(), options).expect("unions run");
    let progress = Arc::new(Progress::default());
    let (mut driver, view) = driver(circuit, bounded, progress.clone());
    change(&mut driver);
    let cancel = Cancel::new();
    let mut graph = Graph::new(&cancel, 2);
    let sources = [("left", left), ("right", right)]
        .map(|(name, script)| graph.source(name, play(script, progress.clone())).into_receiver())
        .map(|events| Tap::new(News::Stage(events), Backlog::default(), None));
    let ends = Ends { sources: sources.into(), sinks: Vec::new() };
    graph.stage("circuit", ends, move |ends, cancel| driver.run(ends, cancel));
    let result = graph.run().map(|_| ());
    let headers = headers.0.lock().expect("no panic holds it").clone();
    Ran { result, headers, view }
}

#[test]
fn steps_of_bounded_sources_are_cut_by_count_alone() {
    use Act::{Complete, Pause, Rows};
    let left = |pause| vec![Rows(30_000), Rows(30_000), Pause(pause), Rows(30_000), Complete];
    let right = |pause| vec![Pause(pause), Rows(10_000), Rows(20_000), Complete];
    for pauses in [(0, 0), (50, 0), (0, 50)] {
        let ran = run(true, left(pauses.0), right(pauses.1));
        ran.result.as_ref().expect("nothing fails");
        // In rotation: 30 left, 10 right; 30 left more would be too many.
        let expected: Vec<[Vec<u32>; 2]> =
            vec![[vec![30_000], vec![10_000]], [vec![30_000], vec![20_000]], [vec![30_000], vec![]]];
        let steps: Vec<_> = ran.steps().into_iter().filter(|[l, r]| !l.is_empty() || !r.is_empty()).collect();
        assert_eq!(steps, expected, "{pauses:?}");
        assert_eq!(ran.rows(), 120_000);
        let last = ran.headers.last().expect("there were steps");
        assert!(last.last && last.sources.iter().all(|source| source.complete), "{last:?}");
    }
}

#[test]
fn what_is_waiting_is_taken_at_once_when_a_source_never_ends() {
    use Act::{Rows, Until};
    // Each block is sent only when the one before has been taken in: a driver that waited for a full step would hang.
    let left = (0..20).flat_map(|round| [Rows(1), Until(round + 1)]).collect();
    let ran = run(false, left, vec![]);
    ran.result.as_ref().expect("nothing fails");
    assert_eq!(ran.rows(), 20);
    assert!(ran.steps().iter().all(|[left, _]| left.len() <= 1));
    assert!(ran.headers.iter().all(|header| !header.last), "sources that were stopped are not complete");
}

#[test]
fn a_flood_is_taken_in_large_steps() {
    let ran = run(false, vec![Act::Rows(1_000); 100], vec![Act::Rows(1_000); 100]);
    ran.result.as_ref().expect("nothing fails");
    assert_eq!(ran.rows(), 200_000);
    assert!(ran.headers.len() < 200, "{} steps", ran.headers.len());
}

#[test]
fn a_source_that_is_looked_up_in_is_read_before_the_others() {
    use Act::{Complete, Pause, Rows};
    for bounded in [true, false] {
        let left = vec![Rows(10), Rows(20), Complete];
        let right = vec![Pause(30), Rows(7), Pause(30), Rows(8), Complete];
        let ran = run_with(bounded, left, right, |driver| driver.feeds[1].first = true);
        ran.result.as_ref().expect("nothing fails");
        assert_eq!(ran.rows(), 45);
        let steps = ran.steps();
        let first = steps.iter().position(|[left, _]| !left.is_empty()).expect("the left side has rows");
        let before: u32 = steps[..=first].iter().flat_map(|[_, right]| right).sum();
        assert_eq!(before, 15, "bounded: {bounded}, {steps:?}");
    }
}

#[test]
fn an_end_by_itself_completes_an_endless_pipeline_too() {
    let ran = run(false, vec![Act::Rows(5), Act::Complete], vec![Act::Complete]);
    ran.result.as_ref().expect("nothing fails");
    assert_eq!(ran.rows(), 5);
    assert!(ran.headers.last().is_some_and(|header| header.last));
}

#[test]
fn a_bad_record_is_placed_in_its_file() {
    let error = CircuitError::Record { origin: "left".to_string(), partition: 0, message: "line 3".to_string() };
    let mut feed = Feed::new("left", None);
    let origin = Origin { name: "orders.json".to_string(), size: None, modified: None, digest: None };
    feed.note(Some(SourceEvent::Opened { partition: 0, origin }), Duration::ZERO);
    let explained = place(&[feed], error);
    assert_eq!(explained.to_string(), "table 'left', orders.json: line 3");
}

/// One step of the union with a row of each source, the first of a run.
fn step(circuit: &mut Circuit) -> StepOutput {
    let row = |source: &str| {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values([7]));
        let batch = RecordBatch::try_new(columns(), vec![column]).expect("one column");
        let data = BlockData::Rows(Delta::inserts(batch));
        let block = Block { partition: 0, from: 0, to: 1, first_record: 0, records: 1, data };
        SourceInput { source: source.to_string(), blocks: vec![block], opened: vec![0], ..SourceInput::default() }
    };
    circuit.step(StepInput { now: 1, sources: vec![row("left"), row("right")] }).expect("unions run")
}

/// What keeps a driver of the union in a folder.
fn keep(folder: &Path, circuit: &mut Circuit) -> Keep {
    let (folder, _) =
        Folder::open(folder, &StateSettings::default(), Arc::new(SystemClock::new())).expect("it is ours");
    let folder = Arc::new(folder);
    let outstanding = Arc::<Outstanding>::default();
    let policy = Policy { interval: Duration::from_secs(60), bytes: 1 << 20 };
    let keepers = start::keepers(circuit, &union(), &[3]);
    Keep {
        instance: folder.instance(MAIN).expect("a folder is a store"),
        log: Log::new(folder.journal.clone(), MAIN, Delivered::default(), Level::Flushed),
        need: folder.retention.of(MAIN, Sequence::FIRST, false, outstanding.clone()),
        looked: None,
        outstanding,
        delivered: Delivered::default(),
        positions: Positions::default(),
        run: Run {
            format: 1,
            circuit: MAIN.to_string(),
            build: String::new(),
            name: String::new(),
            sql: String::new(),
            lanes: 1,
            seed: 0,
            snapshot: 0,
            journal: folder.journal_name(),
        },
        named: vec![0, 0],
        snapshots: Snapshots::new(policy, None, keepers, Duration::ZERO),
        recovery: None,
        held: Default::default(),
        finished: false,
        step: 0,
        now: i64::MIN,
        folder,
    }
}

#[test]
fn nothing_of_a_step_leaves_before_its_header_is_durable() {
    let left = |bug: Option<Bug>| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut circuit = Circuit::new(&union(), &Default::default(), circuit::Options::default()).expect("unions run");
        let output = step(&mut circuit);
        let kept = keep(folder.path(), &mut circuit);
        let log = kept.log.clone();
        let (mut driver, view) = driver(circuit, false, Arc::default());
        driver.keep = Some(kept);
        let header = log.write(&Line::Step { header: output.header.clone(), delivered: 0 }).expect("there is room");
        // It stands a little behind what is written: nothing makes it durable before more is.
        let later = Sequence(header.0 + 1);
        driver.keep.as_mut().expect("it was set").held.push_back((later, output));
        let mut release = || driver.release(false, &mut []).expect("views take rows");
        match bug {
            Some(bug) => planted::with(bug, release),
            None => release(),
        }
        let rows = |view: &View| {
            view.scan().expect("integers can be gathered").batches.iter().map(RecordBatch::num_rows).sum()
        };
        let before: usize = rows(&view);
        log.write(&Line::Shown { sequence: 0 }).expect("there is room");
        driver.release(true, &mut []).expect("the disk is well");
        (before, rows(&view))
    };
    assert_eq!(left(None), (0, 2));
    assert_eq!(left(Some(Bug::OutputBeforeHeader)), (2, 2), "the planted bug is seen");
}

#[test]
fn rows_that_were_shown_are_not_shown_again() {
    let told = |bug: Option<Bug>, shown: bool| {
        let mut circuit = Circuit::new(&union(), &Default::default(), circuit::Options::default()).expect("unions run");
        let output = step(&mut circuit);
        let graph = Graph::new(&Cancel::new(), 2);
        let (sender, stream) = graph.channel::<Work>();
        let routes = [("out".to_string(), Route::Sink(0))].into();
        let mut outputs = Outputs { routes, staged: vec![false], ..Outputs::default() };
        let again = || outputs.take_again(output, shown, &mut [sender]).expect("there is room");
        match bug {
            Some(bug) => planted::with(bug, again),
            None => again(),
        }
        matches!(stream.into_receiver().try_recv(), Ok(Poll::Ready(Some(Work::Rows { step: 1, .. }))))
    };
    assert!(told(None, false), "they were not shown before the restart");
    assert!(!told(None, true));
    assert!(told(Some(Bug::RepeatOutput), true), "the planted bug is seen");
}

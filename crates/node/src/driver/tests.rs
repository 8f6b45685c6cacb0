use std::sync::Mutex;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::time::SystemClock;
use tidemill_circuit::circuit;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::expr::OnError;
use tidemill_circuit::plan::{Node, OutputSpec, Plan, SourceSpec, Spec};
use tidemill_circuit::step::{StepHeader, StepLog, StepTrailer};
use tidemill_circuit::view::{View, ViewSpec, view};
use tidemill_circuit::{Delta, plan};
use tidemill_connect::{Origin, SourceEvent};
use tidemill_stage::{Error as StageError, Graph};

use super::*;
use crate::intake::{Backlog, News};
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

/// Runs the union over two scripts.
fn run(bounded: bool, left: Vec<Act>, right: Vec<Act>) -> Ran {
    let headers = Headers::default();
    let options = circuit::Options { log: Some(Box::new(headers.clone())), ..circuit::Options::default() };
    let circuit = Circuit::new(&union(), &Default::default(), options).expect("unions run");
    let spec = ViewSpec { name: "out".to_string(), schema: columns(), key: None, append_only: true };
    let (writer, view) = view(spec).expect("integers can be compared");
    let progress = Arc::new(Progress::default());
    let mut driver = Driver {
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
        progress: progress.clone(),
        recorder: None,
        keep: None,
        lookups: Arc::default(),
        bounded,
        decides: false,
        lag_max: None,
        shares: false,
        turn: 0,
        pace: Pace::new(),
        now: i64::MIN,
    };
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

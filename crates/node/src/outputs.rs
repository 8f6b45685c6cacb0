//! Where the rows of a step go: to sinks, into views, to side outputs; and what was written in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_base::planted::{self, Bug};
use tidemill_circuit::Delta;
use tidemill_circuit::plan::NodeId;
use tidemill_circuit::step::StepOutput;
use tidemill_circuit::view::ViewWriter;
use tidemill_connect::{Sink, SinkSummary, Staged};
use tidemill_stage::{Halt, Receiver, Sender, Stopped};

use crate::endpoint::{Answering, Given};
use crate::error::Error;
use crate::progress::Standing;
use crate::side::Sides;

/// What a sink is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Take the rows of a step.
    Rows {
        /// The step.
        step: u64,
        /// Its rows.
        rows: Vec<Delta>,
    },
    /// Make durable what came so far, for a version, and tell what is staged.
    Prepare(crossbeam_channel::Sender<(String, Staged)>),
    /// Show what was staged, and say so.
    Publish(Staged, crossbeam_channel::Sender<()>),
    /// Take back what was staged for a version that did not become durable: it belongs to the next one.
    Restage(Staged),
}

/// A sink, and how far it has delivered.
pub(crate) struct Opened {
    pub(crate) table: String,
    pub(crate) sink: Box<dyn Sink>,
    /// The last step whose rows have left.
    pub(crate) delivered: Arc<AtomicU64>,
}

/// Where an output's rows go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// To the sink of this index.
    Sink(usize),
    /// Into the view of this index.
    View(usize),
    /// To whoever waits for the answers of the endpoint of this index.
    Answer(usize),
}

/// Where the rows of all outputs go.
#[derive(Default)]
pub(crate) struct Outputs {
    /// By the output's name in the plan.
    pub(crate) routes: BTreeMap<String, Route>,
    pub(crate) views: Vec<ViewWriter>,
    /// The output node of each view.
    pub(crate) view_nodes: Vec<NodeId>,
    /// For each sink whether it shows rows only with their version.
    pub(crate) staged: Vec<bool>,
    /// The sink of each table.
    pub(crate) tables: BTreeMap<String, usize>,
    pub(crate) sides: Sides,
    /// Who knows the requests that wait, for each endpoint, and the nodes whose rows become its answers: a row that failed
    /// elsewhere, in a view that is looked up, may have the number of a request and is not one.
    pub(crate) answers: Vec<(Arc<dyn Answering>, BTreeSet<NodeId>)>,
}

/// How the rows of a step come to be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The step has run; its header stands there in the journal, when there is one.
    First(Option<u64>),
    /// It ran before a restart, and sinks that show rows at once have shown its rows, or not.
    Again { shown: bool },
}

impl Outputs {
    /// Hands the rows of a step on. Views change first, then requests are answered, then sinks are told.
    pub(crate) fn take(
        &mut self,
        output: StepOutput,
        header: Option<u64>,
        sinks: &mut [Sender<Work>],
    ) -> Result<(), Halt> {
        self.hand_on(output, Turn::First(header), sinks)
    }

    /// Hands the rows of a step on that has run before. Sinks that have `shown` its rows are not given them again.
    pub(crate) fn take_again(
        &mut self,
        output: StepOutput,
        shown: bool,
        sinks: &mut [Sender<Work>],
    ) -> Result<(), Halt> {
        self.hand_on(output, Turn::Again { shown: shown && !planted::is(Bug::RepeatOutput) }, sinks)
    }

    fn hand_on(&mut self, output: StepOutput, turn: Turn, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let step = output.header.step;
        let mut changed = vec![false; self.views.len()];
        let mut answers: Vec<Vec<Delta>> = vec![Vec::new(); self.answers.len()];
        let mut parcels = Vec::new();
        for rows in output.outputs {
            match self.routes.get(&rows.name) {
                Some(Route::View(index)) => {
                    self.views[*index].apply(step, &rows.deltas).map_err(Error::View)?;
                    changed[*index] = true;
                }
                Some(Route::Answer(index)) => answers[*index].extend(rows.deltas),
                Some(Route::Sink(index)) => parcels.push((*index, rows.deltas)),
                None => {}
            }
        }
        for (view, _) in self.views.iter_mut().zip(&changed).filter(|(_, changed)| !**changed) {
            view.pass(step);
        }
        let place = match turn {
            Turn::First(place) => place,
            Turn::Again { .. } => None,
        };
        for ((endpoint, path), rows) in self.answers.iter().zip(&answers) {
            let failed = output.side.iter().filter(|row| path.contains(&row.node)).collect();
            endpoint.answers(&Given { header: &output.header, place, rows, failed });
        }
        parcels.extend(self.sides.rows(&output.side)?);
        let staged = |sink: usize| self.staged.get(sink).copied().unwrap_or_default();
        for (index, rows) in parcels {
            if turn == (Turn::Again { shown: true }) && !staged(index) {
                continue;
            }
            sinks[index].send(Work::Rows { step, rows })?;
        }
        Ok(())
    }
}

/// What a sink has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The table.
    pub table: String,
    /// What was written.
    pub summary: SinkSummary,
}

/// How a run came to its end.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whether it was stopped before its sources had ended.
    pub drained: bool,
    /// What was done.
    pub standing: Standing,
    /// How long it took.
    pub elapsed: Duration,
    /// What each sink wrote, in the order of their names.
    pub written: Vec<Written>,
}

/// What sinks report when they have finished.
pub(crate) type Writings = Arc<Mutex<Vec<Written>>>;

/// Writes rows until none come any more, and commits; this is the work of a sink's stage.
pub(crate) fn write(opened: Opened, work: &mut Receiver<Work>, writings: &Writings) -> Result<(), Halt> {
    let Opened { table, mut sink, delivered } = opened;
    loop {
        match work.recv() {
            Ok(Some(work)) => {
                if let Err(error) = do_work(&table, sink.as_mut(), work, &delivered) {
                    sink.abort();
                    return Err(error.into());
                }
            }
            Ok(None) => {
                let summary = sink.finish()?;
                let written = Written { table, summary };
                writings.lock().unwrap_or_else(PoisonError::into_inner).push(written);
                return Ok(());
            }
            Err(Stopped) => {
                sink.abort();
                return Err(Halt::Stopped);
            }
        }
    }
}

fn do_work(table: &str, sink: &mut dyn Sink, work: Work, delivered: &AtomicU64) -> Result<(), tidemill_connect::Error> {
    match work {
        Work::Rows { step, rows } => {
            sink.write(step, &rows)?;
            delivered.store(step, Ordering::Release);
        }
        Work::Prepare(reply) => {
            // Who asked may be gone, when the run is being aborted.
            let _ = reply.send((table.to_string(), sink.prepare()?));
        }
        Work::Publish(staged, reply) => {
            sink.publish(&staged)?;
            let _ = reply.send(());
        }
        Work::Restage(staged) => sink.restage(staged),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidemill_circuit::operator::{SideKind, SideRow};
    use tidemill_circuit::step::{StepHeader, StepTrailer};

    use super::*;

    /// Whoever waits for answers, and the operators of the rows that are said to have failed.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Answering for Heard {
        fn answers(&self, given: &Given<'_>) {
            let failed = given.failed.iter().map(|row| row.operator.clone());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
        }

        fn end(&self) {}
    }

    #[test]
    fn a_row_that_failed_in_a_view_is_no_request_that_failed() {
        let (one, other) = (Arc::<Heard>::default(), Arc::<Heard>::default());
        let mut outputs = Outputs::default();
        outputs.answers.push((one.clone(), BTreeSet::from([0, 2, 5])));
        outputs.answers.push((other.clone(), BTreeSet::from([0, 3])));
        // All of them have the number of a request, in sources that number their rows each for itself.
        let row = |node: NodeId| SideRow {
            kind: SideKind::DeadLetter,
            operator: format!("node {node}"),
            node,
            reason: "an expression failed".to_string(),
            row: String::new(),
            origin: Some(7),
        };
        let header =
            StepHeader { step: 1, now: 0, last: false, seed: 0, lanes: 1, sources: Vec::new(), tables: Vec::new() };
        let trailer = StepTrailer { step: 1, outputs: Vec::new(), late_rows: 0, dead_rows: 5, bad_records: 0 };
        let side = [0, 1, 2, 3, 4].map(row).into();
        let output = StepOutput { header, trailer, outputs: Vec::new(), side, records: 0, watermark: 0 };
        outputs.take(output, None, &mut []).expect("nothing is written");
        let heard = |heard: &Heard| heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(heard(&one), ["node 0", "node 2"]);
        assert_eq!(heard(&other), ["node 0", "node 3"]);
    }
}

//! Where the rows of a step go: to sinks, into views, to side outputs; and what was written in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_circuit::Delta;
use tidemill_circuit::step::StepOutput;
use tidemill_circuit::view::ViewWriter;
use tidemill_connect::{Sink, SinkSummary};
use tidemill_stage::{Halt, Receiver, Sender, Stopped};

use crate::error::Error;
use crate::progress::Standing;
use crate::side::Sides;

/// Rows of one step for one sink.
#[derive(Debug)]
pub(crate) struct SinkRows {
    pub(crate) step: u64,
    pub(crate) rows: Vec<Delta>,
}

/// Where an output's rows go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// To the sink of this index.
    Sink(usize),
    /// Into the view of this index.
    View(usize),
}

/// Where the rows of all outputs go.
pub(crate) struct Outputs {
    /// By the output's name in the plan.
    pub(crate) routes: BTreeMap<String, Route>,
    pub(crate) views: Vec<ViewWriter>,
    pub(crate) sides: Sides,
}

impl Outputs {
    /// Hands the rows of a step on. Views change first, then sinks are told.
    pub(crate) fn take(&mut self, output: StepOutput, sinks: &mut [Sender<SinkRows>]) -> Result<(), Halt> {
        let step = output.header.step;
        let mut changed = vec![false; self.views.len()];
        let mut parcels = Vec::new();
        for rows in output.outputs {
            match self.routes.get(&rows.name) {
                Some(Route::View(index)) => {
                    self.views[*index].apply(step, &rows.deltas).map_err(Error::View)?;
                    changed[*index] = true;
                }
                Some(Route::Sink(index)) => parcels.push((*index, rows.deltas)),
                None => {}
            }
        }
        for (view, _) in self.views.iter_mut().zip(&changed).filter(|(_, changed)| !**changed) {
            view.pass(step);
        }
        parcels.extend(self.sides.rows(&output.side)?);
        for (index, rows) in parcels {
            sinks[index].send(SinkRows { step, rows })?;
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
pub(crate) fn write(
    table: &str,
    mut sink: Box<dyn Sink>,
    rows: &mut Receiver<SinkRows>,
    writings: &Writings,
) -> Result<(), Halt> {
    loop {
        match rows.recv() {
            Ok(Some(SinkRows { step, rows })) => {
                if let Err(error) = sink.write(step, &rows) {
                    sink.abort();
                    return Err(error.into());
                }
            }
            Ok(None) => {
                let summary = sink.finish()?;
                let written = Written { table: table.to_string(), summary };
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

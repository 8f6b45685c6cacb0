//! What leaves a circuit: a sink for each table that is written, a view for each output that is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tidemill_circuit::operator::SideKind;
use tidemill_circuit::plan::Spec;
use tidemill_circuit::view::{View, ViewSpec, indexed};
use tidemill_connect::{Connector, Delivery, Rows, Sink};
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::{Changelog, OutputDef, OutputKind, TableDef};
use tidemill_stage::{Cancel, Graph, Sender};

use crate::endpoint::{Doors, MakeDesk};
use crate::error::Error;
use crate::keep::log::Delivered;
use crate::keep::start::Start;
use crate::outputs::{self, Opened, Outputs, Route, Work, Writings};
use crate::part::Part;
use crate::side::Sides;
use crate::tables::placed;

/// Steps whose rows wait between the driver and a writer.
const STEPS_WAITING: usize = 4;

/// What leaves a circuit, while it is put together.
pub(super) struct Leaving<'a> {
    graph: &'a mut Graph,
    cancel: &'a Cancel,
    pipeline: &'a Pipeline,
    connectors: &'a BTreeMap<String, Connector>,
    writings: &'a Writings,
    /// What the circuit begins with, when it is kept.
    start: Option<&'a Start>,
    senders: Vec<Sender<Work>>,
    /// Which of the senders goes to which table.
    indices: BTreeMap<String, usize>,
    delivered: Delivered,
    /// For each sender whether its sink shows rows only with their version.
    staged: Vec<bool>,
}

/// What leaves a circuit.
pub(super) struct Left {
    pub(super) outputs: Outputs,
    pub(super) views: BTreeMap<String, View>,
    pub(super) senders: Vec<Sender<Work>>,
    pub(super) delivered: Delivered,
}

impl Left {
    /// Of a circuit whose answers go to those that `desk` makes.
    pub(super) fn answers(part: &Part, desk: MakeDesk<'_>, doors: &Doors) -> Result<Left, Error> {
        let mut outputs = Outputs::default();
        for endpoint in &part.endpoints {
            outputs.routes.insert(endpoint.output.clone(), Route::Answer(outputs.answers.len()));
            let node = part
                .plan
                .nodes
                .iter()
                .position(|node| matches!(&node.spec, Spec::Output(output) if output.name == endpoint.output));
            let path = node.map(|node| part.plan.row_path(node)).unwrap_or_default();
            outputs.answers.push((desk(endpoint, doors)?, path));
        }
        Ok(Left { outputs, views: BTreeMap::new(), senders: Vec::new(), delivered: Delivered::default() })
    }
}

impl<'a> Leaving<'a> {
    pub(super) fn new(
        graph: &'a mut Graph,
        cancel: &'a Cancel,
        pipeline: &'a Pipeline,
        connectors: &'a BTreeMap<String, Connector>,
        writings: &'a Writings,
        start: Option<&'a Start>,
    ) -> Self {
        let (senders, indices, staged) = (Vec::new(), BTreeMap::new(), Vec::new());
        let delivered = Delivered::default();
        Leaving { graph, cancel, pipeline, connectors, writings, start, senders, indices, delivered, staged }
    }

    /// Opens a sink for each table that is written and a view for each output that is kept.
    pub(super) fn open(mut self) -> Result<Left, Error> {
        let mut outputs = Outputs::default();
        let mut views = BTreeMap::new();
        for output in &self.pipeline.outputs {
            let route = match &output.kind {
                OutputKind::Sink { table } => Route::Sink(self.sink(table)?),
                OutputKind::MaterializedView { .. } | OutputKind::Select { .. } => {
                    let spec = ViewSpec {
                        name: shown_name(output),
                        schema: output.schema.clone(),
                        // The one row of a global aggregate has a key of no columns, by which nothing is found.
                        key: output.key.clone().filter(|key| !key.is_empty()),
                        append_only: output.changelog == Changelog::AppendOnly,
                    };
                    let indexes: Vec<Vec<usize>> = output.indexes.iter().map(|index| index.columns.clone()).collect();
                    let (writer, reader) = indexed(spec, &indexes)?;
                    views.insert(output.name.clone(), reader);
                    outputs.views.push(writer);
                    outputs.view_nodes.push(output.node);
                    Route::View(outputs.views.len() - 1)
                }
            };
            outputs.routes.insert(output.name.clone(), route);
        }
        self.sides(&mut outputs.sides)?;
        let Leaving { senders, indices, delivered, staged, .. } = self;
        (outputs.tables, outputs.staged) = (indices, staged);
        Ok(Left { outputs, views, senders, delivered })
    }

    /// Opens the sink of a table, once.
    fn sink(&mut self, table: &str) -> Result<usize, Error> {
        if let Some(index) = self.indices.get(table) {
            return Ok(*index);
        }
        let (Some(connector), Some(def)) = (self.connectors.get(table), self.pipeline.table(table)) else {
            let problem = format!("the plan writes '{table}', which no table is");
            return Err(tidemill_circuit::Error::broken("the planner", problem).into());
        };
        let sink = connector.sink(rows_of(self.pipeline, def), self.cancel).map_err(|error| placed(error, def))?;
        self.add_sink(table, sink)
    }

    fn add_sink(&mut self, table: &str, mut sink: Box<dyn Sink>) -> Result<usize, Error> {
        let counter = Arc::<AtomicU64>::default();
        let delivery = match self.start {
            None => Delivery::AtLeastOnce,
            Some(start) => {
                let (staged, unshown) = start.staged(table);
                let folder = &start.folder;
                let delivery = sink.stage(&folder.owner(), folder.journal.incarnation(), &staged)?;
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
    fn sides(&mut self, sides: &mut Sides) -> Result<(), Error> {
        let settings = &self.pipeline.settings;
        let declared = [
            (SideKind::Late, "side-output.late", &settings.late),
            (SideKind::DeadLetter, "side-output.dead-letter", &settings.dead_letter),
            (SideKind::BadRecord, "side-output.bad-records", &settings.bad_records),
        ];
        for (kind, setting, table) in declared {
            let Some(table) = table else { continue };
            let Some(def) = self.pipeline.table(table) else {
                let problem = "there is no such table".to_string();
                return Err(Error::Side { setting, table: table.clone(), problem });
            };
            let sink = self.sink(table)?;
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

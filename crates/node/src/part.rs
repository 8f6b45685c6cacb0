//! [`Part`]: one of the circuits that a pipeline runs as, as it was planned.
//!
//! Everything that is no endpoint is one circuit, [`MAIN`]; endpoints have circuits of their own, one for each source into
//! which requests go, so that nothing an endpoint does not read can delay it. Each circuit has its own steps, positions and versions; all of them have one
//! journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::lookup::LookupTable;
use tidemill_circuit::operator::Sides;
use tidemill_circuit::plan::Spec;
use tidemill_circuit::{Circuit, Plan};
use tidemill_sql::Pipeline;
use tidemill_sql::functions::Session;
use tidemill_sql::pipeline::{EndpointDef, OutputDef, OutputKind};

use crate::error::Error;
use crate::keep::recover::MakeCircuit;

/// The name of the circuit of everything that is no endpoint.
pub const MAIN: &str = "main";

/// The slots of a chunk of state where requests wait between two chunks of a snapshot.
const DECIDING_SLOTS: usize = 512;

/// A circuit of a pipeline, as it was planned.
pub(crate) struct Part {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) plan: Plan,
    /// Clock, seed and zone of its functions.
    pub(crate) session: Arc<Session>,
    /// What leaves it for tables and views.
    pub(crate) outputs: Vec<OutputDef>,
    /// The endpoints whose requests it answers.
    pub(crate) endpoints: Vec<EndpointDef>,
    /// Where it reads versioned tables.
    pub(crate) cells: Vec<Arc<LookupTable>>,
}

impl Part {
    /// The circuits of a pipeline, [`MAIN`] first where there is anything for it to do.
    ///
    /// # Errors
    /// When a versioned table cannot be looked up in, as planning has said before.
    pub(crate) fn all(pipeline: &Pipeline) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        if !pipeline.plan.nodes.is_empty() || pipeline.decisions.is_empty() {
            parts.push(Part::main(pipeline));
        }
        for decisions in &pipeline.decisions {
            let (plan, cells) = with_own_cells(&decisions.plan)?;
            parts.push(Part {
                name: name_of(&decisions.endpoints),
                plan,
                session: decisions.session.clone(),
                outputs: Vec::new(),
                endpoints: decisions.endpoints.clone(),
                cells,
            });
        }
        Ok(parts)
    }

    /// The circuit of everything that is no endpoint.
    pub(crate) fn main(pipeline: &Pipeline) -> Part {
        Part {
            name: MAIN.to_string(),
            plan: pipeline.plan.clone(),
            session: pipeline.session.clone(),
            outputs: pipeline.outputs.clone(),
            endpoints: Vec::new(),
            cells: pipeline.lookups.iter().map(|lookup| lookup.cell.clone()).collect(),
        }
    }

    /// The circuit of this name, or of the endpoint of this name.
    ///
    /// # Errors
    /// [`Error::NoCircuit`].
    pub(crate) fn named(pipeline: &Pipeline, name: &str) -> Result<Part, Error> {
        let parts = Part::all(pipeline)?;
        let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
        let at = parts.iter().position(|part| part.name == name);
        let at =
            at.or_else(|| parts.iter().position(|part| part.endpoints.iter().any(|endpoint| endpoint.name == name)));
        at.and_then(|at| parts.into_iter().nth(at)).ok_or_else(|| Error::NoCircuit { name: name.to_string(), names })
    }

    /// Makes it run, with no state and no log.
    pub(crate) fn make(&self, decoders: Decoders, seed: u64, sides: Sides) -> MakeCircuit {
        let (plan, decides) = (self.plan.clone(), self.decides());
        Arc::new(move |lanes| {
            let mut options = Options { lanes, seed, sides, keep: true, ..Options::default() };
            if decides {
                options.chunk_slots = DECIDING_SLOTS;
            }
            Circuit::new(&plan, &decoders, options)
        })
    }

    /// Whether it answers requests.
    pub(crate) fn decides(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// The sources of its plan, in its order.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.plan.nodes.iter().filter_map(|node| match &node.spec {
            Spec::Source(source) => Some(source.name.as_str()),
            _ => None,
        })
    }

    /// The sources into which requests come.
    pub(crate) fn requested(&self) -> BTreeSet<&str> {
        self.endpoints.iter().map(|endpoint| endpoint.source.as_str()).collect()
    }

    /// The output nodes that are kept as views, in the order of the outputs.
    pub(crate) fn views(&self) -> Vec<usize> {
        let kept = self.outputs.iter().filter(|output| !matches!(output.kind, OutputKind::Sink { .. }));
        kept.map(|output| output.node).collect()
    }
}

/// The name of the circuit of some endpoints: that of the source into which their requests go. It is the same when one
/// more endpoint takes requests into that source, so that what the others keep is found again.
fn name_of(endpoints: &[EndpointDef]) -> String {
    match endpoints.first().map_or("", |endpoint| endpoint.source.as_str()) {
        MAIN => format!("{MAIN}+"),
        source => source.to_string(),
    }
}

/// A plan whose lookups read cells that no other circuit reads: circuits that run steps again are shown different versions.
fn with_own_cells(plan: &Plan) -> Result<(Plan, Vec<Arc<LookupTable>>), Error> {
    let (mut plan, mut cells) = (plan.clone(), Vec::<Arc<LookupTable>>::new());
    for node in &mut plan.nodes {
        let Spec::Lookup(lookup) = &mut node.spec else { continue };
        let table = &lookup.table;
        let cell = match cells.iter().find(|cell| cell.name() == table.name()) {
            Some(cell) => cell.clone(),
            None => {
                let cell = LookupTable::new(table.name(), table.schema().clone(), table.key().to_vec())?;
                cells.push(Arc::new(cell));
                cells[cells.len() - 1].clone()
            }
        };
        lookup.table = cell;
    }
    Ok((plan, cells))
}

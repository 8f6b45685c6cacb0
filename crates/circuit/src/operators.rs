//! The operators, one a file; each says in `lower` how its node becomes tasks.

use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::plan::Spec;

pub mod filter;
pub(crate) mod guard;
pub mod project;

/// Adds the tasks of one node to `graph` and returns the one that gives its rows.
///
/// Sources and outputs are the circuit's own affair and never come here.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>) -> Result<TaskId, Error> {
    match &lowering.node.spec {
        Spec::Filter(predicate) => Ok(filter::lower(graph, lowering, predicate)),
        Spec::Project(exprs) => Ok(project::lower(graph, lowering, exprs)),
        _ => Err(Error::Unsupported { what: lowering.name.clone(), position: lowering.node.position }),
    }
}

//! The operators, one a file; each says in `lower` how its node becomes tasks.

use crate::error::Error;
use crate::graph::{Graph, Lowering, TaskId};
use crate::plan::Spec;

pub mod aggregate;
pub mod assign_window;
pub(crate) mod census;
pub mod filter;
pub(crate) mod guard;
pub mod join;
pub mod lookup;
pub(crate) mod ordered;
pub mod over;
pub mod over_changes;
pub mod project;
pub mod rank;
pub mod set_operation;
pub mod temporal_join;
pub(crate) mod time;
pub(crate) mod ttl;
pub mod union;
pub mod unnest;
pub mod versions;
pub mod view_lookup;

#[cfg(test)]
pub(crate) mod testing;

/// Adds the tasks of one node to `graph` and returns the one that gives its rows.
///
/// Sources, outputs and delays are the circuit's own affair and never come here.
pub fn lower(graph: &mut Graph, lowering: &Lowering<'_>) -> Result<TaskId, Error> {
    match &lowering.node.spec {
        Spec::Filter(predicate) => Ok(filter::lower(graph, lowering, predicate)),
        Spec::Project(exprs) => Ok(project::lower(graph, lowering, exprs)),
        Spec::Unnest(spec) => Ok(unnest::lower(graph, lowering, spec)),
        Spec::Lookup(spec) => lookup::lower(graph, lowering, spec),
        Spec::ViewLookup(spec) => view_lookup::lower(graph, lowering, spec),
        Spec::Over(spec) => over::lower(graph, lowering, spec),
        Spec::Join(spec) => join::lower(graph, lowering, spec),
        Spec::SetOperation(spec) => set_operation::lower(graph, lowering, spec),
        Spec::Rank(spec) => rank::lower(graph, lowering, spec),
        Spec::TemporalJoin(spec) => temporal_join::lower(graph, lowering, spec),
        Spec::Versions(spec) => versions::lower(graph, lowering, spec),
        Spec::OverChanges(spec) => over_changes::lower(graph, lowering, spec),
        Spec::Union => Ok(union::lower(graph, lowering)),
        Spec::AssignWindow(spec) => Ok(assign_window::lower(graph, lowering, spec)),
        Spec::Aggregate(spec) => aggregate::lower(graph, lowering, spec),
        Spec::Source(_) | Spec::Output(_) | Spec::Delay(_) => {
            Err(Error::broken(&lowering.name, "what rows only pass is not lowered"))
        }
    }
}

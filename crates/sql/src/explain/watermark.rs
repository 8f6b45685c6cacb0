//! Tables without a watermark that hold back those of others.
//!
//! The watermark of an operator is the least of its inputs'. A table without one has none until it ends, so whatever waits
//! for time waits for that.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_circuit::plan::{NodeId, OverTurn, Plan, Spec, TimeDomain, WindowKey};

/// Which sources the watermark of a node follows.
#[derive(Default, Clone)]
struct Followed {
    /// Whether one of them has a watermark.
    timed: bool,
    /// Those that have none.
    silent: BTreeSet<NodeId>,
}

/// The tables that hold others back, each with the first operator that waits for it.
pub(super) fn held_back(plan: &Plan) -> BTreeMap<&str, NodeId> {
    let mut followed: Vec<Followed> = Vec::with_capacity(plan.nodes.len());
    let mut held = BTreeMap::new();
    for (id, node) in plan.nodes.iter().enumerate() {
        let mut of = Followed::default();
        for input in &node.inputs {
            of.timed |= followed[*input].timed;
            of.silent.extend(&followed[*input].silent);
        }
        match &node.spec {
            Spec::Source(source) if source.watermark.is_some() => of.timed = true,
            // Rows that stand in the text end at once.
            Spec::Source(source) if !source.name.starts_with('$') => drop(of.silent.insert(id)),
            spec if of.timed && waits(spec) => {
                for silent in &of.silent {
                    if let Spec::Source(source) = &plan.nodes[*silent].spec {
                        held.entry(source.name.as_str()).or_insert(id);
                    }
                }
            }
            _ => {}
        }
        followed.push(of);
    }
    held
}

/// Whether an operator answers, or forgets, when the watermark says so.
fn waits(spec: &Spec) -> bool {
    match spec {
        Spec::Join(spec) => spec.expiry.iter().any(Option::is_some),
        Spec::TemporalJoin(_) => true,
        Spec::Over(spec) => spec.turn == OverTurn::Watermark,
        Spec::OverChanges(spec) => spec.expiry.is_some(),
        Spec::Rank(spec) => spec.close.is_some() || spec.expiry.is_some(),
        Spec::Aggregate(spec) => match &spec.window {
            Some(WindowKey::Time { domain, .. } | WindowKey::Columns { domain, .. }) => *domain == TimeDomain::Event,
            None => spec.expiry.is_some(),
        },
        _ => false,
    }
}

//! How an aggregate is spread over lanes.

use std::sync::Arc;

use super::Design;
use super::feed::Feed;
use super::grouped::Grouped;
use super::paned::Paned;
use super::session;
use super::windows::Cut;
use crate::error::Error;
use crate::graph::{Graph, Input, Lowering, MakeOperator, Placement, TaskId};
use crate::operator::Operator;

/// Adds the tasks of an aggregate.
pub(super) fn lower(graph: &mut Graph, lowering: &Lowering<'_>, design: Arc<Design>) -> Result<TaskId, Error> {
    let placement = match (lowering.lanes, design.keys.is_empty()) {
        (1, _) => Placement::Stay,
        (_, true) => Placement::Gather,
        (_, false) => Placement::ByKey(design.keys.clone()),
    };
    let input = Input { task: lowering.inputs[0], placement };
    let make = operator(design.clone(), Feed::Rows);
    // Whatever cannot be made is refused now.
    make()?;
    Ok(graph.add(lowering.task(vec![input], design.schema.clone(), make)))
}

/// Makes the operator that gives the node's rows.
fn operator(design: Arc<Design>, feed: Feed) -> MakeOperator {
    Arc::new(move || {
        if design.session().is_some() {
            return session::make(design.clone());
        }
        let cut = design.window.as_ref().and_then(|window| Cut::of(window, design.by_panes()));
        Ok(match cut {
            Some(cut @ Cut::Panes(_, panes)) => {
                Box::new(Paned::new(design.clone(), feed.clone(), cut, panes)?) as Box<dyn Operator>
            }
            cut => Box::new(Grouped::new(design.clone(), feed.clone(), cut)?),
        })
    })
}

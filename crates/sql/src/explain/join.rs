//! Joins and set operations, explained: which rows meet, what is kept of both sides, and when it goes.

use tidemill_circuit::plan::{
    Emit, JoinKind, JoinNulls, JoinSpec, Node, NodeId, Plan, SetOperation, SetSpec, Spec, TemporalJoinSpec,
};

use crate::lower::Facts;
use crate::types::quoted;

/// Which rows meet.
pub(super) fn detail(plan: &Plan, node: &Node) -> String {
    let named = |side: usize, column: &usize| {
        let name = plan.nodes[node.inputs[side]].schema.field(*column).name();
        let other = node.inputs.get(1 - side).map(|other| &plan.nodes[*other].schema);
        match other.and_then(|other| other.column_with_name(name)) {
            Some(_) => format!("{}.{}", ["left", "right"][side], quoted(name)),
            None => quoted(name),
        }
    };
    let pairs = |left: &[usize], right: &[usize], equals: &str| {
        let pairs = left.iter().zip(right);
        let pairs = pairs.map(|(left, right)| format!("{} {equals} {}", named(0, left), named(1, right)));
        pairs.collect::<Vec<_>>().join(" and ")
    };
    match &node.spec {
        Spec::Join(spec) => {
            let equals = if spec.nulls == JoinNulls::Equal { "is not distinct from" } else { "=" };
            let keys = Some(pairs(&spec.left_keys, &spec.right_keys, equals)).filter(|keys| !keys.is_empty());
            let met: Vec<String> = keys.into_iter().chain(spec.residual.as_ref().map(|rest| rest.print())).collect();
            let met = if met.is_empty() {
                ": every row with every row".to_string()
            } else {
                format!(" where {}", met.join(" and "))
            };
            format!("{}{met}{}", kind(spec), padded(spec))
        }
        Spec::TemporalJoin(spec) => {
            let keys = pairs(&spec.left_keys, &spec.right_keys, "=");
            let when = if spec.strict { "before" } else { "at" };
            let residual = spec.residual.as_ref().map(|rest| format!(" and {}", rest.print())).unwrap_or_default();
            let outer = if spec.outer { ", rows that find none stay" } else { "" };
            format!("{keys}{residual}, as it was {when} {}{outer}", named(0, &spec.left_time))
        }
        Spec::SetOperation(SetSpec { operation, all }) => {
            let operation = match operation {
                SetOperation::Intersect => "rows of both inputs",
                SetOperation::Except => "rows of the first input that the second has not",
            };
            format!("{operation}{}", if *all { ", as often as they are there" } else { ", each once" })
        }
        _ => String::new(),
    }
}

fn kind(spec: &JoinSpec) -> &'static str {
    match spec.kind {
        JoinKind::Inner => "pairs",
        JoinKind::Left => "pairs, and rows of the left side that meet none",
        JoinKind::Full => "pairs, and rows of both sides that meet none",
        JoinKind::Semi => "rows of the left side that meet one",
        JoinKind::Anti if spec.nulls == JoinNulls::Unknown => "rows of the left side that surely meet none",
        JoinKind::Anti => "rows of the left side that meet none",
    }
}

fn padded(spec: &JoinSpec) -> &'static str {
    match (spec.kind, spec.pad) {
        (JoinKind::Left | JoinKind::Full | JoinKind::Anti, Emit::OnClose) => {
            "; who meets none is known when it expires"
        }
        _ => "",
    }
}

/// Joins of every row with every row, where neither side has one row at most.
pub(super) fn crossed(plan: &Plan, facts: &Facts) -> Vec<NodeId> {
    let one = |input: &NodeId| facts.of(*input).keys.iter().any(Vec::is_empty);
    let all = plan.nodes.iter().enumerate();
    let crossed = all.filter(|(_, node)| match &node.spec {
        // Whether there is any row is known without looking at them all.
        Spec::Join(spec) if matches!(spec.kind, JoinKind::Semi | JoinKind::Anti) && spec.residual.is_none() => false,
        Spec::Join(spec) => spec.left_keys.is_empty() && !node.inputs.iter().any(one),
        _ => false,
    });
    crossed.map(|(id, _)| id).collect()
}

/// What is kept, and what bounds it.
pub(super) fn kept(
    plan: &Plan,
    node: &Node,
    (append_only, single): (&[bool], &[bool]),
    forgets: bool,
) -> (Option<String>, Option<String>) {
    match &node.spec {
        Spec::Join(_) if node.inputs.iter().all(|input| single[*input]) => {
            (Some("one row of each side".to_string()), Some("it does not grow".to_string()))
        }
        Spec::Join(spec) => {
            let appends = [0, 1].map(|side| append_only[node.inputs[side]]);
            let leaves = spec.lets_met_go(appends, forgets);
            let goes = |side: usize| -> Option<String> {
                let schema = &plan.nodes[node.inputs[side]].schema;
                Some(super::passes(spec.expiry[side]?, &|time| quoted(schema.field(time).name())))
            };
            match (goes(0), goes(1)) {
                (Some(left), Some(right)) => {
                    let bound = format!("a row of the left side goes when {left}, one of the right side when {right}");
                    (Some("the rows of both sides".to_string()), Some(bound))
                }
                (Some(left), None) => {
                    (Some(format!("all rows of the right side, and each of the left side until {left}")), None)
                }
                (None, Some(right)) => {
                    (Some(format!("all rows of the left side, and each of the right side until {right}")), None)
                }
                (None, None) if leaves => (
                    Some("the rows of the right side, and of the left side those that have met none".to_string()),
                    None,
                ),
                (None, None) => (Some("the rows of both sides".to_string()), None),
            }
        }
        Spec::TemporalJoin(TemporalJoinSpec { right_time, .. }) => {
            let time = quoted(plan.nodes[node.inputs[1]].schema.field(*right_time).name());
            let bound = format!(
                "a left row goes when the watermark passes its time; of the right side a key's newest row up to the \
                 watermark stays, by {time}"
            );
            (Some("left rows that wait, and the right side's rows by key and time".to_string()), Some(bound))
        }
        Spec::SetOperation(_) => (Some("how often each row is on either side".to_string()), None),
        _ => (None, None),
    }
}

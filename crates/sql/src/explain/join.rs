//! Joins and set operations, explained: which rows meet, what is kept of both sides, and when it goes.

use tidemill_circuit::plan::{
    Emit, Expiry, JoinKind, JoinNulls, JoinSpec, Node, Plan, SetOperation, SetSpec, Spec, TemporalJoinSpec,
};

use crate::expr::duration;
use crate::types::quoted;

/// Which rows meet.
pub(super) fn detail(plan: &Plan, node: &Node) -> String {
    let named = |side: usize, column: &usize| quoted(plan.nodes[node.inputs[side]].schema.field(*column).name());
    let pairs = |left: &[usize], right: &[usize], equals: &str| {
        let pairs = left.iter().zip(right);
        let pairs = pairs.map(|(left, right)| format!("{} {equals} {}", named(0, left), named(1, right)));
        pairs.collect::<Vec<_>>().join(" and ")
    };
    match &node.spec {
        Spec::Join(spec) => {
            let equals = if spec.nulls == JoinNulls::Equal { "is not distinct from" } else { "=" };
            let keys = match spec.left_keys.is_empty() {
                true => "every row with every row".to_string(),
                false => pairs(&spec.left_keys, &spec.right_keys, equals),
            };
            let residual = spec.residual.as_ref().map(|rest| format!(" and {}", rest.print())).unwrap_or_default();
            format!("{} where {keys}{residual}{}", kind(spec), padded(spec))
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
        JoinKind::Left => "pairs, and rows of the left side that meet none,",
        JoinKind::Full => "pairs, and rows of both sides that meet none,",
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

/// What is kept, and what bounds it.
pub(super) fn kept(plan: &Plan, node: &Node) -> (Option<String>, Option<String>) {
    match &node.spec {
        Spec::Join(spec) => {
            let expires = |side: usize| -> Option<String> {
                let Expiry { time, after_ms } = spec.expiry[side]?;
                let time = quoted(plan.nodes[node.inputs[side]].schema.field(time).name());
                let after = match after_ms {
                    0 => String::new(),
                    more if more > 0 => format!(" by {}", duration(more)),
                    less => format!(" less {}", duration(-less)),
                };
                let side = ["left", "right"][side];
                Some(format!("a row of the {side} side goes when the watermark passes its {time}{after}"))
            };
            let bound = match (expires(0), expires(1)) {
                (Some(left), Some(right)) => Some(format!("{left}; {right}")),
                _ => None,
            };
            (Some("the rows of both sides".to_string()), bound)
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

//! Rankings, explained.

use tidemill_circuit::plan::{RankFunction, RankSpec};

/// Which rows stay.
pub(super) fn detail(spec: &RankSpec, input: &dyn Fn(usize) -> String) -> String {
    let mut parts = Vec::new();
    if !spec.keys.is_empty() {
        parts.push(format!("by {}", spec.keys.iter().map(|key| input(*key)).collect::<Vec<_>>().join(", ")));
    }
    let order = spec.order.iter().map(|by| format!("{}{}", input(by.column), if by.descending { " DESC" } else { "" }));
    if !spec.order.is_empty() {
        parts.push(format!("ordered by {}", order.collect::<Vec<_>>().join(", ")));
    }
    let function = match spec.function {
        RankFunction::RowNumber => "ROW_NUMBER()",
        RankFunction::Rank => "RANK()",
        RankFunction::DenseRank => "DENSE_RANK()",
    };
    parts.push(match (spec.from, spec.to) {
        (1, None) => format!("{function} of all rows"),
        (from, None) => format!("{function} >= {from}"),
        (1, Some(to)) => format!("{function} <= {to}"),
        (from, Some(to)) => format!("{function} from {from} to {to}"),
    });
    if spec.close.is_some() {
        parts.push("answered when the window closes".to_string());
    }
    parts.join("; ")
}

/// What is kept, and what bounds it.
pub(super) fn kept(
    spec: &RankSpec,
    append_only: bool,
    input: &dyn Fn(usize) -> String,
) -> (Option<String>, Option<String>) {
    let kept = match spec.to {
        Some(1) if append_only => "the first row".to_string(),
        Some(to) if append_only => format!("the first {to} rows"),
        _ => "all rows".to_string(),
    };
    let kept = if spec.keys.is_empty() { kept } else { format!("{kept} of each key") };
    let bound = match (spec.close, spec.expiry) {
        (Some(end), _) => Some(format!("a window goes when the watermark reaches its {}", input(end))),
        (None, Some(expiry)) => Some(format!("a key goes when {}", super::passes(expiry, input))),
        (None, None) => {
            (spec.keys.is_empty() && spec.to.is_some() && append_only).then(|| "it does not grow".to_string())
        }
    };
    (Some(kept), bound)
}

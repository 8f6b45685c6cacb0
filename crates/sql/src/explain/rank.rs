//! Rankings, explained.

use tidemill_circuit::plan::{RankFunction, RankSpec};

use crate::expr::duration;

/// Which rows stay.
pub(super) fn detail(spec: &RankSpec, input: &dyn Fn(usize) -> String) -> String {
    let mut parts = Vec::new();
    if !spec.keys.is_empty() {
        parts.push(format!("by {}", spec.keys.iter().map(|key| input(*key)).collect::<Vec<_>>().join(", ")));
    }
    let order = spec.order.iter().map(|by| format!("{}{}", input(by.column), if by.descending { " DESC" } else { "" }));
    parts.push(format!("ordered by {}", order.collect::<Vec<_>>().join(", ")));
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
        Some(to) if append_only => format!("the first {to} rows of each key"),
        _ => "all rows of each key".to_string(),
    };
    let bound = match (spec.close, spec.expiry) {
        (Some(end), _) => Some(format!("a window goes when the watermark reaches its {}", input(end))),
        (None, Some(expiry)) => {
            let after = if expiry.after_ms == 0 { String::new() } else { format!(" by {}", duration(expiry.after_ms)) };
            Some(format!("a key goes when the watermark passes its {}{after}", input(expiry.time)))
        }
        (None, None) => None,
    };
    (Some(kept), bound)
}

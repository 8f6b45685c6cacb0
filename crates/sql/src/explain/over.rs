//! `OVER`, explained: what each row sees, and what is kept so that it can.

use tidemill_circuit::plan::{
    AggregateCall, Frame, FrameBound, FrameUnits, OverCall, OverChangesSpec, OverFrame, OverFunction, OverSpec,
    OverTurn, TimeDomain,
};

use super::called;
use crate::expr::duration;
use crate::lower::{Attribute, NodeFacts};

/// What is computed over which rows.
pub(super) fn detail(spec: &OverSpec, input: &dyn Fn(usize) -> String) -> String {
    let mut parts = Vec::new();
    if !spec.keys.is_empty() {
        parts.push(format!("by {}", spec.keys.iter().map(|key| input(*key)).collect::<Vec<_>>().join(", ")));
    }
    let order = spec.order.map(input).unwrap_or_else(|| "arrival".to_string());
    let frame = match spec.frame {
        _ if spec.calls.iter().all(|call| !matches!(call, OverCall::Aggregate(_))) => String::new(),
        Frame::Rows { preceding: None } => ", all rows before".to_string(),
        Frame::Rows { preceding: Some(rows) } => format!(", {rows} rows before"),
        Frame::Range { preceding_ms, unit_ms } => {
            let unit = unit_ms.map(|unit| format!(", by the {}", unit_of(unit))).unwrap_or_default();
            match preceding_ms {
                None => format!("{unit}, all before"),
                Some(millis) => format!("{unit}, {} before", duration(millis)),
            }
        }
    };
    parts.push(format!("ordered by {order}{frame}"));
    let call = |call: &OverCall| match call {
        OverCall::Aggregate(call) => called(call, input),
        OverCall::RowNumber => "ROW_NUMBER()".to_string(),
        OverCall::Lag { column, offset, default } => {
            let default = default.map(|default| format!(", {}", input(default))).unwrap_or_default();
            format!("LAG({}, {offset}{default})", input(*column))
        }
    };
    parts.push(spec.calls.iter().map(call).collect::<Vec<_>>().join(", "));
    parts.push(match spec.turn {
        OverTurn::Arrival => "answered when a row comes".to_string(),
        OverTurn::Watermark => "answered when the watermark passes a row".to_string(),
    });
    parts.join("; ")
}

/// What is kept so that answers follow changes, and what bounds it.
pub(super) fn kept_changes(
    spec: &OverChangesSpec,
    input: &dyn Fn(usize) -> String,
) -> (Option<String>, Option<String>) {
    let of = if spec.keys.is_empty() { "" } else { " of each key" };
    if let Some(expiry) = spec.expiry {
        return (Some(format!("all rows{of}")), Some(format!("a key goes when {}", super::passes(expiry, input))));
    }
    let Some((settled, reach)) = spec.settled.zip(spec.reach()) else { return (Some(format!("all rows{of}")), None) };
    let rows = reach.back + reach.ahead;
    let last = (rows > 0).then(|| format!("the last {rows}"));
    let near = reach.range.map(|(before, after)| format!("those of the last {}", duration(before + after)));
    let below = last.into_iter().chain(near).collect::<Vec<_>>().join(" and ");
    let below = if below.is_empty() { String::new() } else { format!(", and before that {below}") };
    let kept = format!("the rows{of} until {}{below}", super::passes(settled, input));
    (Some(kept), spec.keys.is_empty().then(|| "rows further back go".to_string()))
}

/// What is computed over which rows of an input of so many columns, and follows their changes.
pub(super) fn changes(spec: &OverChangesSpec, width: usize, input: &dyn Fn(usize) -> String) -> String {
    let mut parts = Vec::new();
    if !spec.keys.is_empty() {
        parts.push(format!("by {}", spec.keys.iter().map(|key| input(*key)).collect::<Vec<_>>().join(", ")));
    }
    let order = spec.order.iter().map(|by| format!("{}{}", input(by.column), if by.descending { " DESC" } else { "" }));
    let framed = spec.calls.iter().any(|call| matches!(call, OverFunction::Aggregate(_)));
    let frame = if framed { format!(", {}", frame_of(&spec.frame)) } else { String::new() };
    let order = order.collect::<Vec<_>>().join(", ");
    let order = if order.is_empty() { "in no order".to_string() } else { format!("ordered by {order}") };
    parts.push(format!("{order}{frame}"));
    // The place of a row in its key, where a function takes rows in their order, goes without saying.
    let call = |call: &OverFunction| match call {
        OverFunction::Aggregate(call) => {
            let args = call.args.iter().copied().filter(|arg| *arg < width).collect();
            called(&AggregateCall { args, ..call.clone() }, input)
        }
        OverFunction::RowNumber => "ROW_NUMBER()".to_string(),
        OverFunction::Rank => "RANK()".to_string(),
        OverFunction::DenseRank => "DENSE_RANK()".to_string(),
        OverFunction::Lag { column, offset, default } => shifted("LAG", *column, *offset, *default, input),
        OverFunction::Lead { column, offset, default } => shifted("LEAD", *column, *offset, *default, input),
    };
    parts.push(spec.calls.iter().map(call).collect::<Vec<_>>().join(", "));
    parts.push("follows changes".to_string());
    parts.join("; ")
}

fn shifted(name: &str, column: usize, offset: u64, default: Option<usize>, input: &dyn Fn(usize) -> String) -> String {
    let default = default.map(|default| format!(", {}", input(default))).unwrap_or_default();
    format!("{name}({}, {offset}{default})", input(column))
}

/// A frame as SQL says it; a bound of a RANGE is told as a number.
fn frame_of(frame: &OverFrame) -> String {
    let bound = |bound: FrameBound, end: &str| match bound {
        FrameBound::Unbounded => format!("UNBOUNDED {end}"),
        FrameBound::Preceding(count) => format!("{count} PRECEDING"),
        FrameBound::CurrentRow => "CURRENT ROW".to_string(),
        FrameBound::Following(count) => format!("{count} FOLLOWING"),
    };
    let units = if frame.units == FrameUnits::Rows { "ROWS" } else { "RANGE" };
    format!("{units} BETWEEN {} AND {}", bound(frame.start, "PRECEDING"), bound(frame.end, "FOLLOWING"))
}

fn unit_of(millis: i64) -> String {
    match millis {
        1_000 => "second".to_string(),
        60_000 => "minute".to_string(),
        3_600_000 => "hour".to_string(),
        86_400_000 => "day".to_string(),
        other => duration(other),
    }
}

/// What is kept, and what bounds it.
pub(super) fn kept(spec: &OverSpec, facts: &NodeFacts) -> (Option<String>, Option<String>) {
    let processing = spec
        .order
        .is_some_and(|order| matches!(facts.attributes.get(order), Some(Attribute::Time(TimeDomain::Processing, _))));
    let clock = if processing { "processing time" } else { "the watermark" };
    let per = if spec.keys.is_empty() { "in all" } else { "a key" };
    let before = spec.calls.iter().filter_map(|call| match call {
        OverCall::Lag { offset, .. } => Some(*offset),
        _ => None,
    });
    let lagged = before.max().map(|rows| format!(" and the last {}", counted(rows))).unwrap_or_default();
    let distinct = spec.calls.iter().any(|call| matches!(call, OverCall::Aggregate(call) if call.distinct));
    let lagged = if distinct { format!(" and the different values{lagged}") } else { lagged };
    let aggregates = spec.calls.iter().any(|call| matches!(call, OverCall::Aggregate(_)));
    let (state, bound) = match spec.frame {
        _ if !aggregates => (format!("a counter{lagged} {per}"), None),
        Frame::Rows { preceding: None } => (format!("one partial result{lagged} {per}"), None),
        Frame::Rows { preceding: Some(rows) } => (format!("the last {}{lagged} {per}", counted(rows + 1)), None),
        Frame::Range { preceding_ms: None, .. } => (format!("one partial result{lagged} {per}"), None),
        Frame::Range { preceding_ms: Some(millis), unit_ms: Some(unit) } => {
            let (unit, size) = (unit_of(unit), duration(millis));
            let state = format!("a ring of one partial result a {unit}{lagged} {per}, O(1) a row");
            (state, Some(format!("a {unit} goes when {clock} passes it by {size}")))
        }
        Frame::Range { preceding_ms: Some(millis), unit_ms: None } => {
            let state =
                format!("the rows with a partial result for each {}{lagged} {per}, O(log n) a row", OverSpec::RUN);
            (state, Some(format!("a row goes when {clock} passes it by {}", duration(millis))))
        }
    };
    // What counts or remembers rows does so for every key there ever was.
    let numbered = spec.calls.iter().any(|call| !matches!(call, OverCall::Aggregate(_)));
    let single = spec.keys.is_empty().then(|| "it does not grow".to_string());
    (Some(state), bound.filter(|_| !numbered).or(single))
}

fn counted(rows: u64) -> String {
    if rows == 1 { "row".to_string() } else { format!("{rows} rows") }
}

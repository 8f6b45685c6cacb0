//! Rankings and `OVER`, by sorting all rows of a key.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use tidemill_circuit::plan::{
    Frame, FrameBound, FrameUnits, OrderBy, OverCall, OverChangesSpec, OverFunction, OverSpec, OverTurn, RankFunction,
    RankSpec,
};

use super::{Bag, evaluate, key_of};
use crate::schedules::value::{Row, Value};

/// The order of rows, as far as the query says.
fn compare(order: &[OrderBy], one: &Row, other: &Row) -> Ordering {
    let compare = |by: &OrderBy| {
        let (a, b) = (&one[by.column], &other[by.column]);
        match (a.is_null(), b.is_null()) {
            (false, false) if by.descending => b.cmp(a),
            (false, false) => a.cmp(b),
            (true, true) => Ordering::Equal,
            (a_is_null, _) if a_is_null == by.nulls_first => Ordering::Less,
            _ => Ordering::Greater,
        }
    };
    order.iter().map(compare).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// The rows of each key in their order, each as often as it is there.
fn sorted(bag: &Bag, keys: &[usize], order: &[OrderBy]) -> Vec<Vec<Row>> {
    let mut groups: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
    for (row, weight) in bag {
        let rows = groups.entry(key_of(row, keys)).or_default();
        rows.extend(std::iter::repeat_n(row.clone(), *weight as usize));
    }
    // Those that the order does not tell apart stay as they are, ordered by all columns, nulls first.
    groups.values_mut().for_each(|rows| rows.sort_by(|one, other| compare(order, one, other)));
    groups.into_values().collect()
}

/// The rank of each of some rows by each function: ROW_NUMBER, RANK, DENSE_RANK.
fn ranks(rows: &[Row], order: &[OrderBy]) -> Vec<[u64; 3]> {
    let (mut rank, mut dense) = (0, 0);
    let mut ranks = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        if place == 0 || compare(order, &rows[place - 1], row).is_ne() {
            (rank, dense) = (place as u64 + 1, dense + 1);
        }
        ranks.push([place as u64 + 1, rank, dense]);
    }
    ranks
}

/// A ranking; of windows only those that the watermark has closed.
pub(super) fn rank(bag: &Bag, spec: &RankSpec, watermark: i64) -> Bag {
    let mut ranked = Bag::new();
    let function = match spec.function {
        RankFunction::RowNumber => 0,
        RankFunction::Rank => 1,
        RankFunction::DenseRank => 2,
    };
    for rows in sorted(bag, &spec.keys, &spec.order) {
        let is_closed = |end: usize| matches!(rows[0][end], Value::Time(end) if end <= watermark);
        if spec.close.is_some_and(|end| !is_closed(end)) {
            continue;
        }
        let ranks = ranks(&rows, &spec.order);
        for (mut row, rank) in rows.into_iter().zip(ranks) {
            let rank = rank[function];
            if rank >= spec.from && spec.to.is_none_or(|to| rank <= to) {
                row.extend(spec.number.then_some(Value::Int(rank as i64)));
                *ranked.entry(row).or_default() += 1;
            }
        }
    }
    ranked
}

/// `OVER` that follows changes.
pub(super) fn over_changes(bag: &Bag, spec: &OverChangesSpec) -> Bag {
    let mut answered = Bag::new();
    for mut rows in sorted(bag, &spec.keys, &spec.order) {
        let ranks = ranks(&rows, &spec.order);
        let frames: Vec<(usize, usize)> = (0..rows.len()).map(|place| frame(&rows, place, spec)).collect();
        // The number of the input's columns stands for the place.
        rows.iter_mut().enumerate().for_each(|(place, row)| row.push(Value::Int(place as i64)));
        for (place, (start, end)) in frames.into_iter().enumerate() {
            let shifted = |other: Option<usize>, column: usize, default: Option<usize>| match other {
                Some(other) if other < rows.len() => rows[other][column].clone(),
                _ => default.map_or(Value::Null, |default| rows[place][default].clone()),
            };
            let seen: Vec<(&Row, i64)> = rows[start.min(end)..end].iter().map(|row| (row, 1)).collect();
            let value = |call: &OverFunction| match call {
                OverFunction::Aggregate(call) => evaluate(call, &seen),
                OverFunction::RowNumber => Value::Int(ranks[place][0] as i64),
                OverFunction::Rank => Value::Int(ranks[place][1] as i64),
                OverFunction::DenseRank => Value::Int(ranks[place][2] as i64),
                OverFunction::Lag { column, offset, default } => {
                    shifted(place.checked_sub(*offset as usize), *column, *default)
                }
                OverFunction::Lead { column, offset, default } => {
                    shifted(Some(place + *offset as usize), *column, *default)
                }
            };
            let mut row = rows[place].clone();
            row.pop();
            row.extend(spec.calls.iter().map(value));
            *answered.entry(row).or_default() += 1;
        }
    }
    answered
}

/// The first place that a place sees, and the one after the last.
fn frame(rows: &[Row], place: usize, spec: &OverChangesSpec) -> (usize, usize) {
    let count = |count: u64| count as usize;
    if spec.frame.units == FrameUnits::Rows {
        let start = match spec.frame.start {
            FrameBound::Unbounded => 0,
            FrameBound::Preceding(rows) => place.saturating_sub(count(rows)),
            FrameBound::CurrentRow => place,
            FrameBound::Following(rows) => place + count(rows),
        };
        let end = match spec.frame.end {
            FrameBound::Unbounded => rows.len(),
            FrameBound::Preceding(rows) => (place + 1).saturating_sub(count(rows)),
            FrameBound::CurrentRow => place + 1,
            FrameBound::Following(rows) => place + 1 + count(rows),
        };
        return (start, end.min(rows.len()));
    }
    let is_peer = |other: &usize| compare(&spec.order, &rows[*other], &rows[place]).is_eq();
    let peers: Vec<usize> = (0..rows.len()).filter(is_peer).collect();
    let (first, last) = (peers[0], peers[peers.len() - 1]);
    // How far a row is behind this one, in the order; of a null nothing is known.
    let by = spec.order[0];
    let number = |row: &Row| match row[by.column] {
        Value::Int(number) | Value::Time(number) => Some(number),
        _ => None,
    };
    let behind = |other: usize| {
        let distance = number(&rows[other])? - number(&rows[place])?;
        Some(if by.descending { -distance } else { distance })
    };
    let is_null = number(&rows[place]).is_none();
    let from = |least: i64| (0..rows.len()).find(|other| behind(*other).is_some_and(|by| by >= least));
    let upto = |most: i64| (0..rows.len()).rfind(|other| behind(*other).is_some_and(|by| by <= most));
    let start = match spec.frame.start {
        FrameBound::Unbounded => 0,
        FrameBound::CurrentRow => first,
        _ if is_null => first,
        FrameBound::Preceding(by) => from(-(by as i64)).unwrap_or(rows.len()),
        FrameBound::Following(by) => from(by as i64).unwrap_or(rows.len()),
    };
    let end = match spec.frame.end {
        FrameBound::Unbounded => rows.len(),
        FrameBound::CurrentRow => last + 1,
        _ if is_null => last + 1,
        FrameBound::Preceding(by) => upto(-(by as i64)).map_or(0, |last| last + 1),
        FrameBound::Following(by) => upto(by as i64).map_or(0, |last| last + 1),
    };
    (start, end)
}

/// `OVER` that answers each row once; `arrived` tells in which step a row came.
pub(super) fn over(bag: &Bag, spec: &OverSpec, watermark: i64, arrived: impl Fn(&Row) -> usize) -> Bag {
    let (preceding, unit) = match spec.frame {
        Frame::Rows { .. } => (None, 1),
        Frame::Range { preceding_ms, unit_ms } => (preceding_ms, unit_ms.unwrap_or(1)),
    };
    let (order, origin) = (spec.order.expect("a time"), spec.origin.expect("an origin"));
    let floor = |time: i64| time.div_euclid(unit).saturating_mul(unit);
    let time = |row: &Row| if let Value::Time(time) = row[order] { floor(time) } else { i64::MIN };
    let waits = spec.turn == OverTurn::Watermark;
    let mut groups: BTreeMap<Row, Vec<&Row>> = BTreeMap::new();
    for row in bag.keys() {
        if !waits || watermark == i64::MAX || time(row) < floor(watermark) {
            groups.entry(key_of(row, &spec.keys)).or_default().push(row);
        }
    }
    let mut answered = Bag::new();
    for mut rows in groups.into_values() {
        match waits {
            true => rows.sort_by_key(|row| (time(row), row[origin].clone())),
            false => rows.sort_by_key(|row| (arrived(row), row[origin].clone())),
        }
        for (place, row) in rows.iter().enumerate() {
            let seen: Vec<(&Row, i64)> = match spec.frame {
                Frame::Rows { preceding } => {
                    let start = preceding.map_or(0, |preceding| place.saturating_sub(preceding as usize));
                    rows[start..=place].iter().map(|row| (*row, 1)).collect()
                }
                Frame::Range { .. } => {
                    let least = preceding.map_or(i64::MIN, |preceding| time(row) - preceding);
                    let known = if waits { &rows[..] } else { &rows[..=place] };
                    let is_seen = |other: &&&Row| (least..=time(row)).contains(&time(other));
                    known.iter().filter(is_seen).map(|row| (*row, 1)).collect()
                }
            };
            let value = |call: &OverCall| match call {
                OverCall::Aggregate(call) => evaluate(call, &seen),
                OverCall::RowNumber => Value::Int(place as i64 + 1),
                OverCall::Lag { column, offset, default } => match place.checked_sub(*offset as usize) {
                    Some(before) => rows[before][*column].clone(),
                    None => default.map_or(Value::Null, |default| row[default].clone()),
                },
            };
            answered.insert(row.iter().cloned().chain(spec.calls.iter().map(value)).collect(), 1);
        }
    }
    answered
}

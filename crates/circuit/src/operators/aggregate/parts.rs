//! [`Parts`]: which accumulators compute which calls.
//!
//! Calls that can read one state share it: SUM and AVG, the variances, BOOL_AND and BOOL_OR of one argument, and every
//! DISTINCT call of one argument, whatever its filter.

use arrow_array::ArrayRef;
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Accumulator, Cells};
use super::distinct::Distinct;
use super::{approx, collect, count, extreme, sum, variance};
use crate::key::KeyEncoder;
use crate::plan::{AggregateCall, AggregateFunction};

/// What an accumulator is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    Sum,
    Variance,
    Bools,
    Extreme,
    Edge,
    Collect,
    ApproxDistinct,
    Quantile,
    Distinct,
}

/// Calls that share an accumulator.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    kind: Kind,
    calls: Vec<AggregateCall>,
}

impl Part {
    /// The calls.
    pub fn calls(&self) -> &[AggregateCall] {
        &self.calls
    }

    /// Whether it keeps different values.
    pub fn is_distinct(&self) -> bool {
        self.kind == Kind::Distinct
    }
}

/// The circumstances of accumulators.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The types of the input's columns.
    pub types: Vec<DataType>,
    /// Whether no row is ever taken back.
    pub append_only: bool,
    /// Whether groups are forgotten while they have rows, as windows are, or are merged.
    pub retiring: bool,
    /// Whether different values are saved with their group, whose name changes.
    pub inline: bool,
}

/// The accumulators of an aggregate, and where each call's column comes from.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    /// For each call its part and its place in it.
    outputs: Vec<(usize, usize)>,
}

impl Parts {
    /// Parts for `calls`.
    pub fn new(calls: &[AggregateCall], append_only: bool) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let mut outputs = Vec::with_capacity(calls.len());
        for call in calls {
            let (kind, call) = normal(call, append_only);
            let found =
                parts.iter().position(|part| part.kind == kind && shares(kind, append_only, &part.calls[0], &call));
            let part = found.unwrap_or_else(|| {
                parts.push(Part { kind, calls: Vec::new() });
                parts.len() - 1
            });
            outputs.push((part, parts[part].calls.len()));
            parts[part].calls.push(call);
        }
        Parts { parts, outputs }
    }

    /// The parts.
    pub fn list(&self) -> &[Part] {
        &self.parts
    }

    /// Some of the parts, without the calls' order.
    pub fn only(&self, parts: &[usize]) -> Self {
        Parts { parts: parts.iter().map(|part| self.parts[*part].clone()).collect(), outputs: Vec::new() }
    }

    /// Fresh accumulators, one a part; or what is not supported.
    pub fn make(&self, setting: &Setting) -> Result<Vec<Box<dyn Accumulator>>, String> {
        self.parts.iter().map(|part| make(part, setting)).collect()
    }

    /// The calls' columns in their order, from accumulators that [`Parts::make`] made.
    pub fn evaluate(&self, accumulators: &[Box<dyn Accumulator>], slots: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = accumulators.iter().map(|accumulator| accumulator.evaluate(slots));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(self.outputs.iter().map(|(part, place)| columns[*part][*place].clone()).collect())
    }
}

/// The kind of a call, and the call in the form that its accumulator takes.
fn normal(call: &AggregateCall, append_only: bool) -> (Kind, AggregateCall) {
    use AggregateFunction::*;
    let mut call = call.clone();
    if call.function == ApproxCountDistinct && !append_only {
        call.function = Count;
        call.distinct = true;
    }
    // Equal values change nothing here.
    if matches!(call.function, Min | Max | BoolAnd | BoolOr | FirstValue | LastValue | ApproxCountDistinct) {
        call.distinct = false;
    }
    let kind = match call.function {
        ArrayAgg | ListAgg => Kind::Collect,
        _ if call.distinct => Kind::Distinct,
        Count => Kind::Count,
        Sum | Avg => Kind::Sum,
        Min | Max => Kind::Extreme,
        FirstValue | LastValue => Kind::Edge,
        StddevPop | StddevSamp | VarPop | VarSamp => Kind::Variance,
        BoolAnd | BoolOr => Kind::Bools,
        ApproxCountDistinct => Kind::ApproxDistinct,
        ApproxQuantile(_) => Kind::Quantile,
    };
    (kind, call)
}

fn shares(kind: Kind, append_only: bool, left: &AggregateCall, right: &AggregateCall) -> bool {
    let same = left.args == right.args && left.filter == right.filter;
    match kind {
        Kind::Distinct => left.args == right.args,
        Kind::Sum | Kind::Variance | Kind::Bools | Kind::Quantile => same,
        Kind::Extreme | Kind::Edge => same && !append_only,
        Kind::Count | Kind::Collect | Kind::ApproxDistinct => false,
    }
}

fn make(part: &Part, setting: &Setting) -> Result<Box<dyn Accumulator>, String> {
    let call = &part.calls[0];
    let filter = call.filter;
    let arg = || call.args.first().copied().ok_or_else(|| format!("{:?} without an argument", call.function));
    match part.kind {
        Kind::Count => {
            let (args, result) = (call.args.clone(), call.result.clone());
            Ok(Box::new(Cells::new(count::Count { args, filter, result })))
        }
        Kind::Bools => {
            let all = part.calls.iter().map(|call| call.function == AggregateFunction::BoolAnd).collect();
            Ok(Box::new(Cells::new(count::Bools { arg: boolean(arg()?, setting)?, filter, all })))
        }
        Kind::Sum => sums(part, arg()?, setting),
        Kind::Variance => variances(part, arg()?, setting),
        Kind::Extreme | Kind::Edge => extremes(part, arg()?, setting),
        Kind::Collect => {
            let is_array = call.function == AggregateFunction::ArrayAgg;
            let form = if is_array { collect::Form::Array } else { collect::Form::Text };
            let (args, types, distinct, result) = (&call.args, &setting.types, call.distinct, &call.result);
            let type_of = &types[arg()?];
            let ask = collect::Ask { form, args, types, filter, distinct, result };
            let family = collect::Collect::of(&ask).ok_or_else(|| format!("{:?} of {type_of}", call.function))?;
            Ok(Box::new(Cells::new(family)))
        }
        Kind::ApproxDistinct => {
            let types = call.args.iter().map(|arg| setting.types[*arg].clone()).collect();
            let encoder = KeyEncoder::new(types).ok_or("counting different lists, maps or rows")?;
            let (args, result) = (call.args.clone(), call.result.clone());
            Ok(Box::new(Cells::new(approx::Distinct { args, filter, encoder, result })))
        }
        Kind::Quantile => {
            let share = |call: &AggregateCall| match call.function {
                AggregateFunction::ApproxQuantile(share) => (share, call.result.clone()),
                _ => (0.5, call.result.clone()),
            };
            let (arg, shares) = (number(arg()?, call, setting)?, part.calls.iter().map(share).collect());
            Ok(Box::new(Cells::new(approx::Quantile { arg, filter, shares })))
        }
        Kind::Distinct => Ok(Box::new(Distinct::new(&part.calls, setting)?)),
    }
}

fn boolean(arg: usize, setting: &Setting) -> Result<usize, String> {
    match &setting.types[arg] {
        DataType::Boolean => Ok(arg),
        other => Err(format!("BOOL_AND or BOOL_OR of {other}")),
    }
}

fn number(arg: usize, call: &AggregateCall, setting: &Setting) -> Result<usize, String> {
    match &setting.types[arg] {
        data_type if data_type.is_numeric() => Ok(arg),
        other => Err(format!("{:?} of {other}", call.function)),
    }
}

fn sums(part: &Part, arg: usize, setting: &Setting) -> Result<Box<dyn Accumulator>, String> {
    let total = |call: &AggregateCall| match call.function {
        AggregateFunction::Avg => sum::Total::Avg(call.result.clone()),
        _ => sum::Total::Sum(call.result.clone()),
    };
    let (filter, totals) = (part.calls[0].filter, part.calls.iter().map(total).collect());
    let spec = sum::Spec { arg, filter, totals };
    Ok(match &setting.types[arg] {
        data_type if data_type.is_integer() => Box::new(Cells::new(sum::Integers(spec))),
        data_type if data_type.is_floating() => Box::new(Cells::new(sum::Floats(spec))),
        DataType::Decimal128(_, scale) => Box::new(Cells::new(sum::Decimals { spec, scale: *scale })),
        other => return Err(format!("{:?} of {other}", part.calls[0].function)),
    })
}

fn variances(part: &Part, arg: usize, setting: &Setting) -> Result<Box<dyn Accumulator>, String> {
    use AggregateFunction::{StddevPop, StddevSamp, VarSamp};
    let spread = |call: &AggregateCall| variance::Spread {
        sample: matches!(call.function, StddevSamp | VarSamp),
        root: matches!(call.function, StddevPop | StddevSamp),
        result: call.result.clone(),
    };
    let spec = variance::Spec { arg, filter: part.calls[0].filter, spreads: part.calls.iter().map(spread).collect() };
    let integers = part.calls.iter().all(|call| call.result.is_integer());
    Ok(match &setting.types[arg] {
        DataType::Int8 if integers => Box::new(Cells::new(variance::Integers { spec, bits: 8 })),
        DataType::Int16 if integers => Box::new(Cells::new(variance::Integers { spec, bits: 16 })),
        DataType::Int32 if integers => Box::new(Cells::new(variance::Integers { spec, bits: 32 })),
        DataType::Int64 if integers => Box::new(Cells::new(variance::Integers { spec, bits: 64 })),
        DataType::Decimal128(_, scale) => Box::new(Cells::new(variance::Decimals { spec, scale: *scale })),
        data_type if data_type.is_numeric() => Box::new(Cells::new(variance::Floats(spec))),
        other => return Err(format!("{:?} of {other}", part.calls[0].function)),
    })
}

fn extremes(part: &Part, arg: usize, setting: &Setting) -> Result<Box<dyn Accumulator>, String> {
    use AggregateFunction::{LastValue, Max};
    let call = &part.calls[0];
    let ask = extreme::Ask {
        args: &call.args,
        types: &setting.types,
        filter: call.filter,
        greatest: part.calls.iter().map(|call| matches!(call.function, Max | LastValue)).collect(),
        append_only: setting.append_only,
    };
    let made = if part.kind == Kind::Extreme { ask.by_value() } else { ask.by_order() };
    made.ok_or_else(|| format!("{:?} of {}", call.function, setting.types[arg]))
}

//! Signature texts: parsed once, they say which arguments a function takes and what it answers.
//!
//! `"LOCATE(STRING, STRING[, INT]) -> INT"`: optional arguments in brackets, `STRING...` repeats the last one, `T` stands
//! for one common type, `ANY` for whatever comes. Widening is implicit (INT to BIGINT to DECIMAL to DOUBLE, NULL to
//! everything), nothing else is: text never becomes a number without a CAST.

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::{Result, plan_err};

use super::function::Function;
use crate::types::name_of;

/// What a parameter accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
    Boolean,
    Int,
    Long,
    Double,
    /// Any number, unchanged.
    Numeric,
    /// TINYINT to BIGINT, unchanged.
    Integer,
    Date,
    Time,
    /// TIMESTAMP without time zone, any precision, unchanged.
    Timestamp,
    /// TIMESTAMP_LTZ, any precision, unchanged.
    Instant,
    /// DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ, unchanged.
    Temporal,
    Array,
    Map,
    /// One type for all that are marked so.
    Common,
    Any,
}

/// One form of a function.
#[derive(Debug)]
pub(super) struct Overload {
    parameters: Vec<Kind>,
    required: usize,
    repeats: bool,
    result: Kind,
}

impl Overload {
    /// Parses `NAME(..) -> TYPE; ..`; the texts are ours, and a test parses every one.
    pub(super) fn parse_all(text: &str) -> Vec<Overload> {
        text.split("; ").map(Self::parse).collect()
    }

    fn parse(text: &str) -> Overload {
        let (head, result) = text.split_once(" -> ").unwrap_or_else(|| panic!("{text}: no result"));
        let inside = head.find('(').map_or("", |open| head[open + 1..].trim_end_matches(')'));
        let required = inside.split('[').next().unwrap_or_default();
        let count = |part: &str| part.split(',').filter(|word| !word.trim().is_empty()).count();
        let words = inside.replace(['[', ']'], "");
        let repeats = words.ends_with("...");
        let parameters = words
            .split(',')
            .map(|word| word.trim().trim_end_matches("..."))
            .filter(|word| !word.is_empty())
            .map(Kind::parse)
            .collect();
        Overload { parameters, required: count(required), repeats, result: Kind::parse(result) }
    }

    /// Picks the first form that fits exactly, else the first that fits after widening.
    pub(super) fn choose(
        function: &Function,
        overloads: &[Overload],
        types: &[DataType],
    ) -> Result<(Vec<DataType>, DataType)> {
        let fits = overloads.iter().filter_map(|overload| overload.accept(types));
        match fits.min_by_key(|(cost, _, _)| *cost) {
            Some((_, arguments, result)) => Ok((arguments, result)),
            None => {
                if function.shown.starts_with("RAND") || function.shown.starts_with("UUID") {
                    return plan_err!("{} needs the ordinal of its row, which it cannot have here", function.shown);
                }
                let given: Vec<String> = types.iter().map(name_of).collect();
                plan_err!(
                    "{} does not take ({}); it is {}",
                    function.name.to_uppercase(),
                    given.join(", "),
                    function.shown
                )
            }
        }
    }

    fn accept(&self, types: &[DataType]) -> Option<(u32, Vec<DataType>, DataType)> {
        let most = if self.repeats { usize::MAX } else { self.parameters.len() };
        if types.len() < self.required || types.len() > most {
            return None;
        }
        let last = self.parameters.len().checked_sub(1);
        let kind_at = |index: usize| last.map(|last| self.parameters[index.min(last)]);
        let shared: Vec<DataType> = types
            .iter()
            .enumerate()
            .filter(|(index, _)| kind_at(*index) == Some(Kind::Common))
            .map(|(_, data_type)| data_type.clone())
            .collect();
        let common = if shared.is_empty() { DataType::Null } else { common_type(&shared)? };
        let mut cost = 0;
        let mut arguments = Vec::with_capacity(types.len());
        for (index, data_type) in types.iter().enumerate() {
            let kind = kind_at(index)?;
            let target = if kind == Kind::Common { common.clone() } else { kind.accept(data_type)? };
            cost += u32::from(&target != data_type);
            arguments.push(target);
        }
        let result = if self.result == Kind::Common { common } else { self.result.default_type() };
        Some((cost, arguments, result))
    }
}

impl Kind {
    fn parse(word: &str) -> Kind {
        match word {
            "STRING" => Kind::Text,
            "BYTES" => Kind::Bytes,
            "BOOLEAN" => Kind::Boolean,
            "INT" => Kind::Int,
            "BIGINT" => Kind::Long,
            "DOUBLE" => Kind::Double,
            "NUMERIC" => Kind::Numeric,
            "INTEGER" => Kind::Integer,
            "DATE" => Kind::Date,
            "TIME" => Kind::Time,
            "TIMESTAMP" => Kind::Timestamp,
            "TIMESTAMP_LTZ" => Kind::Instant,
            "TEMPORAL" => Kind::Temporal,
            "ARRAY" => Kind::Array,
            "MAP" => Kind::Map,
            "T" => Kind::Common,
            _ => Kind::Any,
        }
    }

    fn default_type(self) -> DataType {
        match self {
            Kind::Text => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Boolean => DataType::Boolean,
            Kind::Int => DataType::Int32,
            Kind::Long | Kind::Integer => DataType::Int64,
            Kind::Double | Kind::Numeric => DataType::Float64,
            Kind::Date => DataType::Date32,
            Kind::Time => DataType::Time32(TimeUnit::Millisecond),
            Kind::Timestamp | Kind::Temporal => DataType::Timestamp(TimeUnit::Millisecond, None),
            Kind::Instant => instant(TimeUnit::Millisecond),
            Kind::Array | Kind::Map | Kind::Common | Kind::Any => DataType::Null,
        }
    }

    fn accept(self, from: &DataType) -> Option<DataType> {
        use DataType::{Boolean, Date32, Float32, Float64, Int32, Int64, List, Map, Null, Timestamp};
        if from == &Null && self != Kind::Any {
            return Some(self.default_type());
        }
        let unchanged = Some(from.clone());
        match self {
            Kind::Any => unchanged,
            Kind::Text if is_text(from) => Some(DataType::Utf8),
            Kind::Bytes if is_bytes(from) => Some(DataType::Binary),
            Kind::Boolean if from == &Boolean => unchanged,
            // DataFusion plans integer literals as BIGINT; a value that does not fit fails when it is converted.
            Kind::Int if is_integer(from) => Some(Int32),
            Kind::Long if is_integer(from) => Some(Int64),
            Kind::Double if is_number(from) => Some(Float64),
            Kind::Numeric if is_number(from) || matches!(from, Float32 | Float64) => unchanged,
            Kind::Integer if is_integer(from) => unchanged,
            Kind::Date if from == &Date32 => unchanged,
            Kind::Time if matches!(from, DataType::Time32(_) | DataType::Time64(_)) => unchanged,
            Kind::Timestamp if matches!(from, Timestamp(_, None)) => unchanged,
            Kind::Instant if matches!(from, Timestamp(_, Some(_))) => unchanged,
            Kind::Temporal if from.is_temporal() => unchanged,
            Kind::Array if matches!(from, List(_)) => unchanged,
            Kind::Map if matches!(from, Map(..)) => unchanged,
            _ => None,
        }
    }
}

/// TIMESTAMP_LTZ in a unit.
pub(super) fn instant(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

pub(super) fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

pub(super) fn is_number(data_type: &DataType) -> bool {
    is_integer(data_type) || matches!(data_type, DataType::Decimal128(..) | DataType::Float32 | DataType::Float64)
}

/// The digits an integer or decimal type holds: precision and scale.
pub(super) fn decimal_of(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

/// The least type that holds values of all the given types, as Flink's CASE and COALESCE choose it.
pub fn common_type(types: &[DataType]) -> Option<DataType> {
    let mut known = types.iter().filter(|data_type| *data_type != &DataType::Null);
    let Some(first) = known.next() else { return Some(DataType::Null) };
    known.try_fold(first.clone(), |common, next| common_of_two(&common, next))
}

fn common_of_two(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType::{Date32, Decimal128, Float32, Float64, List, Map, Timestamp, Utf8};
    if left == right {
        return Some(left.clone());
    }
    match (left, right) {
        _ if is_text(left) && is_text(right) => Some(Utf8),
        _ if is_bytes(left) && is_bytes(right) => Some(DataType::Binary),
        _ if is_integer(left) && is_integer(right) => {
            let wider = decimal_of(left) > decimal_of(right);
            Some(if wider { left.clone() } else { right.clone() })
        }
        (Float32 | Float64, other) | (other, Float32 | Float64) if is_number(other) => {
            let narrow = [left, right].iter().all(|side| is_integer(side) || **side == Float32);
            Some(if narrow { Float32 } else { Float64 })
        }
        _ if is_number(left) && is_number(right) => {
            let ((left_precision, left_scale), (right_precision, right_scale)) =
                (decimal_of(left)?, decimal_of(right)?);
            let scale = left_scale.max(right_scale);
            let whole = (left_precision as i8 - left_scale).max(right_precision as i8 - right_scale);
            Some(Decimal128((whole + scale).min(38) as u8, scale))
        }
        (Timestamp(left_unit, left_zone), Timestamp(right_unit, right_zone)) => {
            let unit = *left_unit.max(right_unit);
            Some(Timestamp(unit, if left_zone.is_some() { left_zone.clone() } else { right_zone.clone() }))
        }
        (Date32, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date32) => Some(Timestamp(*unit, zone.clone())),
        (List(left), List(right)) => {
            let element = common_type(&[left.data_type().clone(), right.data_type().clone()])?;
            Some(List(std::sync::Arc::new(left.as_ref().clone().with_data_type(element).with_nullable(true))))
        }
        (Map(..), Map(..)) => None,
        _ => None,
    }
}

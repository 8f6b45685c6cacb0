//! Aggregate functions as SQL sees them: names, argument and result types, all as in Flink.
//!
//! The circuit computes them incrementally. What DataFusion runs in batch (oracles, bare SELECTs over views) is the
//! *naive twin* of each: it keeps every row and computes the answer at the end, from the definition.

mod fold;
pub(crate) mod grouping;
mod naive;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use tidemill_circuit::plan::AggregateFunction;

use crate::types::name_of;

/// How the arguments of a function are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Takes {
    /// Anything, any number of columns.
    AnyColumns,
    /// One column of any type.
    Any,
    /// One column of a type that has an order.
    Ordered,
    /// One number.
    Number,
    /// One boolean.
    Boolean,
    /// A text, and optionally a literal separator.
    Text,
    /// A number, and a literal share between 0 and 1.
    NumberAndShare,
}

/// How the result's type follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Gives {
    /// BIGINT, never null.
    Count,
    /// The argument's type.
    Same,
    /// The argument's type, decimals at full precision.
    Sum,
    /// The argument's type, decimals at full precision with at least six digits behind the point.
    Mean,
    /// An array of the argument's type.
    List,
    /// DOUBLE.
    Double,
}

/// One aggregate function.
#[derive(Debug, PartialEq)]
pub struct Declaration {
    /// The lower-case name.
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// One line of documentation.
    pub doc: &'static str,
    takes: Takes,
    gives: Gives,
    function: AggregateFunction,
}

/// Every aggregate function, in the order of the documentation.
pub const AGGREGATES: &[Declaration] = &[
    declare(
        "count",
        &[],
        "The number of rows, or of rows whose arguments are not null.",
        Takes::AnyColumns,
        Gives::Count,
        AggregateFunction::Count,
    ),
    declare(
        "sum",
        &[],
        "The exact sum; null of nothing. Integers keep their type and wrap as in Flink.",
        Takes::Number,
        Gives::Sum,
        AggregateFunction::Sum,
    ),
    declare(
        "avg",
        &[],
        "The mean; of integers truncated towards zero.",
        Takes::Number,
        Gives::Mean,
        AggregateFunction::Avg,
    ),
    declare("min", &[], "The least value.", Takes::Ordered, Gives::Same, AggregateFunction::Min),
    declare("max", &[], "The greatest value.", Takes::Ordered, Gives::Same, AggregateFunction::Max),
    declare(
        "first_value",
        &[],
        "The first value that is not null, in the order of the source.",
        Takes::Any,
        Gives::Same,
        AggregateFunction::FirstValue,
    ),
    declare(
        "last_value",
        &[],
        "The last value that is not null, in the order of the source.",
        Takes::Any,
        Gives::Same,
        AggregateFunction::LastValue,
    ),
    declare(
        "stddev_pop",
        &[],
        "The standard deviation of the population.",
        Takes::Number,
        Gives::Mean,
        AggregateFunction::StddevPop,
    ),
    declare(
        "stddev_samp",
        &["stddev"],
        "The standard deviation of a sample; null of fewer than two values.",
        Takes::Number,
        Gives::Mean,
        AggregateFunction::StddevSamp,
    ),
    declare("var_pop", &[], "The variance of the population.", Takes::Number, Gives::Mean, AggregateFunction::VarPop),
    declare(
        "var_samp",
        &["variance"],
        "The variance of a sample; null of fewer than two values.",
        Takes::Number,
        Gives::Mean,
        AggregateFunction::VarSamp,
    ),
    declare(
        "bool_and",
        &["every"],
        "Whether all values are true.",
        Takes::Boolean,
        Gives::Same,
        AggregateFunction::BoolAnd,
    ),
    declare("bool_or", &[], "Whether any value is true.", Takes::Boolean, Gives::Same, AggregateFunction::BoolOr),
    declare(
        "array_agg",
        &[],
        "All values in the order of the source, nulls kept.",
        Takes::Any,
        Gives::List,
        AggregateFunction::ArrayAgg,
    ),
    declare(
        "listagg",
        &[],
        "All texts in the order of the source, joined by a comma or the second argument.",
        Takes::Text,
        Gives::Same,
        AggregateFunction::ListAgg,
    ),
    declare(
        "approx_count_distinct",
        &[],
        "The number of different values, estimated within about 2 %.",
        Takes::Any,
        Gives::Count,
        AggregateFunction::ApproxCountDistinct,
    ),
    declare(
        "approx_quantile",
        &["approx_percentile", "percentile_approx"],
        "The value below which the given share (0 to 1) of the values lies, within 1 %.",
        Takes::NumberAndShare,
        Gives::Double,
        AggregateFunction::ApproxQuantile(0.5),
    ),
];

impl Declaration {
    /// Its forms as a person writes them, and the type of the result.
    pub fn signature(&self) -> String {
        let name = self.name.to_uppercase();
        let arguments: &[&str] = match self.takes {
            Takes::AnyColumns => &["*", "ANY..."],
            Takes::Any => &["ANY"],
            Takes::Ordered => &["ORDERED"],
            Takes::Number => &["NUMERIC"],
            Takes::Boolean => &["BOOLEAN"],
            Takes::Text => &["STRING[, STRING]"],
            Takes::NumberAndShare => &["NUMERIC, DOUBLE"],
        };
        let result = match self.gives {
            Gives::Count => "BIGINT",
            Gives::Same => "the argument's type",
            Gives::Sum => "the argument's type; of DECIMAL(p, s) DECIMAL(38, s)",
            Gives::Mean => "the argument's type; of DECIMAL(p, s) DECIMAL(38, s), s at least 6",
            Gives::List => "ARRAY of the argument's type",
            Gives::Double => "DOUBLE",
        };
        let forms: Vec<String> = arguments.iter().map(|arguments| format!("{name}({arguments})")).collect();
        format!("{} -> {result}", forms.join(", "))
    }
}

const fn declare(
    name: &'static str,
    aliases: &'static [&'static str],
    doc: &'static str,
    takes: Takes,
    gives: Gives,
    function: AggregateFunction,
) -> Declaration {
    Declaration { name, aliases, doc, takes, gives, function }
}

/// The aggregate functions by lower-case name.
#[derive(Debug, Clone)]
pub(crate) struct Aggregates {
    by_name: BTreeMap<&'static str, Arc<AggregateUDF>>,
}

impl Aggregates {
    pub(crate) fn new() -> Self {
        let mut by_name = BTreeMap::new();
        for declaration in AGGREGATES {
            let function = Arc::new(AggregateUDF::new_from_impl(Declared {
                declaration,
                signature: Signature::user_defined(Volatility::Immutable),
            }));
            for name in std::iter::once(&declaration.name).chain(declaration.aliases) {
                by_name.insert(*name, Arc::clone(&function));
            }
        }
        let grouping = grouping::function();
        by_name.extend(grouping::NAMES.map(|name| (name, Arc::clone(&grouping))));
        Aggregates { by_name }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.by_name.get(name.to_ascii_lowercase().as_str()).map(Arc::clone)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.by_name.keys().map(ToString::to_string).collect()
    }
}

/// What the circuit is told about a call: its function, and how many of the arguments are columns.
pub(crate) struct Lowered {
    /// The function, literal arguments folded in.
    pub(crate) function: AggregateFunction,
    /// The leading arguments that are columns.
    pub(crate) columns: usize,
    /// Whether `$origin` follows as the last column.
    pub(crate) ordered: bool,
}

/// Reads a call for the circuit; none when the function is not one of ours or a literal is missing.
pub(crate) fn lowered(function: &AggregateUDF, args: &[Expr]) -> Option<Lowered> {
    let declared = (function.inner().as_ref() as &dyn Any).downcast_ref::<Declared>()?;
    let ordered = matches!(
        declared.declaration.function,
        AggregateFunction::FirstValue
            | AggregateFunction::LastValue
            | AggregateFunction::ArrayAgg
            | AggregateFunction::ListAgg
    );
    let (function, columns) = match declared.declaration.function {
        AggregateFunction::ApproxQuantile(_) => (AggregateFunction::ApproxQuantile(share(args.get(1)?)?), 1),
        function => (function, args.len()),
    };
    Some(Lowered { function, columns, ordered })
}

/// What computes a function from its definition over rows of `args`; none when it is none of ours.
pub(crate) fn twin(function: &AggregateUDF, args: &[ArrayRef], distinct: bool) -> Result<Option<Box<dyn Accumulator>>> {
    let Some(declared) = (function.inner().as_ref() as &dyn Any).downcast_ref::<Declared>() else { return Ok(None) };
    let types: Vec<DataType> = args.iter().map(|arg| arg.data_type().clone()).collect();
    let result = declared.return_type(&types)?;
    Ok(Some(Box::new(naive::Naive::new(declared.declaration.function, distinct, types, result))))
}

/// The value of a literal share.
fn share(expr: &Expr) -> Option<f64> {
    let Expr::Literal(value, _) = crate::expr::unaliased(expr) else { return None };
    let ScalarValue::Float64(Some(share)) = value.cast_to(&DataType::Float64).ok()? else { return None };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// A declaration as DataFusion sees it.
#[derive(PartialEq, Eq, Hash)]
struct Declared {
    declaration: &'static Declaration,
    signature: Signature,
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.declaration.name)
    }
}

impl Eq for Declaration {}

impl std::hash::Hash for Declaration {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for Declared {
    fn name(&self) -> &str {
        self.declaration.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check(self.declaration, types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(result_type(self.declaration.gives, types.first().unwrap_or(&DataType::Null)))
    }

    fn is_nullable(&self) -> bool {
        self.declaration.gives != Gives::Count
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.declaration.gives {
            Gives::Count => Ok(ScalarValue::Int64(Some(0))),
            _ => ScalarValue::try_from(data_type),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let types = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let result = args.return_field.data_type().clone();
        Ok(Box::new(naive::Naive::new(self.declaration.function, args.is_distinct, types, result)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |index: usize, data_type: &DataType| {
            Arc::new(Field::new_list(
                format!("{}[{index}]", args.name),
                Field::new("item", data_type.clone(), true),
                true,
            ))
        };
        Ok(args.input_fields.iter().enumerate().map(|(index, field)| list(index, field.data_type())).collect())
    }
}

fn check(declaration: &Declaration, types: &[DataType]) -> Result<Vec<DataType>> {
    let number = |data_type: &DataType| data_type.is_numeric() || matches!(data_type, DataType::Null);
    let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::Null);
    let fits = match (declaration.takes, types) {
        (Takes::AnyColumns, _) => true,
        (Takes::Any, [_]) => true,
        (Takes::Ordered, [data_type]) => !data_type.is_nested(),
        (Takes::Number, [data_type]) => number(data_type),
        (Takes::Boolean, [data_type]) => matches!(data_type, DataType::Boolean | DataType::Null),
        (Takes::Text, [data_type]) => text(data_type),
        (Takes::Text, [data_type, separator]) => text(data_type) && text(separator),
        (Takes::NumberAndShare, [data_type, share]) => number(data_type) && number(share),
        _ => false,
    };
    if fits {
        return Ok(types.to_vec());
    }
    let wanted = match declaration.takes {
        Takes::AnyColumns | Takes::Any => "one column",
        Takes::Ordered => "one column that can be compared",
        Takes::Number => "one number",
        Takes::Boolean => "one boolean",
        Takes::Text => "a text, and optionally a separator",
        Takes::NumberAndShare => "a number and a share between 0 and 1",
    };
    let found: Vec<_> = types.iter().map(name_of).collect();
    plan_err!("{} takes {wanted}, not ({})", declaration.name.to_uppercase(), found.join(", "))
}

fn result_type(gives: Gives, argument: &DataType) -> DataType {
    match (gives, argument) {
        (Gives::Count, _) => DataType::Int64,
        (Gives::Double, _) => DataType::Float64,
        (Gives::List, item) => DataType::List(Arc::new(Field::new("item", item.clone(), true))),
        (Gives::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, *scale),
        (Gives::Mean, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, (*scale).max(6)),
        (Gives::Same | Gives::Sum | Gives::Mean, same) => same.clone(),
    }
}

//! What a function is, and how DataFusion sees it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::call::Call;
use super::signature::Overload;
use super::step::Session;

/// An example of the documentation, which a test evaluates.
pub type Example = (&'static str, &'static str);

/// How the type of the result follows from the types of the arguments.
#[derive(Debug, Clone, Copy)]
pub enum Returns {
    /// As the signature says after `->`; `T` is the common type of the arguments marked `T`.
    Signature,
    /// Computed from the coerced argument types.
    Types(fn(&[DataType]) -> Result<DataType>),
    /// Computed from the coerced argument types and the arguments that are literals.
    Literals(fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>),
}

/// One scalar function: name, typing, meaning, documentation.
#[derive(Debug)]
pub struct Function {
    /// The lower-case name.
    pub name: &'static str,
    /// Other names it answers to, lower case.
    pub aliases: &'static [&'static str],
    /// Its forms as the documentation shows them and as the planner checks them, separated by `; `.
    pub signature: &'static str,
    /// Its forms as a user writes them, where they are not calls or the planner adds arguments.
    pub shown: &'static str,
    /// One line of documentation.
    pub doc: &'static str,
    /// SQL and its value as text.
    pub examples: &'static [Example],
    pub(super) returns: Returns,
    pub(super) volatility: Volatility,
    pub(super) body: fn(&Call<'_>) -> Result<ArrayRef>,
}

impl Function {
    /// A pure function typed by its signature alone, without aliases.
    pub(super) const fn new(
        name: &'static str,
        signature: &'static str,
        doc: &'static str,
        examples: &'static [Example],
        body: fn(&Call<'_>) -> Result<ArrayRef>,
    ) -> Self {
        let (returns, volatility) = (Returns::Signature, Volatility::Immutable);
        Function { name, aliases: &[], signature, shown: signature, doc, examples, returns, volatility, body }
    }

    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(super) const fn shown(mut self, shown: &'static str) -> Self {
        self.shown = shown;
        self
    }

    pub(super) const fn returns(mut self, returns: fn(&[DataType]) -> Result<DataType>) -> Self {
        self.returns = Returns::Types(returns);
        self
    }

    pub(super) const fn returns_by_literals(
        mut self,
        returns: fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>,
    ) -> Self {
        self.returns = Returns::Literals(returns);
        self
    }

    pub(super) const fn volatile(mut self) -> Self {
        self.volatility = Volatility::Volatile;
        self
    }
}

/// A function bound to a session.
#[derive(Debug)]
pub(super) struct Bound {
    function: &'static Function,
    overloads: Vec<Overload>,
    session: Arc<Session>,
    signature: Signature,
}

/// Makes DataFusion's form of a function.
pub(super) fn udf(function: &'static Function, session: &Arc<Session>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Bound {
        function,
        overloads: Overload::parse_all(function.signature),
        session: Arc::clone(session),
        signature: Signature::user_defined(function.volatility),
    })
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && Arc::ptr_eq(&self.session, &other.session)
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl Bound {
    fn result_type(&self, types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
        match self.function.returns {
            Returns::Types(returns) => returns(types),
            Returns::Literals(returns) => returns(types, literals),
            Returns::Signature => Overload::choose(self.function, &self.overloads, types).map(|(_, result)| result),
        }
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Overload::choose(self.function, &self.overloads, types).map(|(arguments, _)| arguments)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.result_type(types, &vec![None; types.len()])
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let result = self.result_type(&types, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.function.name, result, true)))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        super::conditional::as_case(self.function.name, args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)))
            && self.function.volatility == Volatility::Immutable;
        let rows = if scalar { 1 } else { args.number_rows };
        let call = Call { args: &args.args, rows, result: args.return_field.data_type(), session: &self.session };
        let array = (self.function.body)(&call)?;
        if array.data_type() != call.result || array.len() != rows {
            return internal_err!(
                "{} answered {} rows of {} instead of {rows} rows of {}",
                self.function.name,
                array.len(),
                array.data_type(),
                call.result
            );
        }
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

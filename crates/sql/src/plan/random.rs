//! RAND, RAND_INTEGER and UUID: functions of the step's seed, of where they stand in the text, and of the row.
//!
//! A person writes `RAND()`; the function takes the ordinal of the row and the number of the call site before the other
//! arguments. The ordinal is a marker, [`Ordinal`], until the lowering puts the row's place in its source there.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Value, VisitMut,
    VisitorMut,
};

/// The name of the marker; no text can name it.
pub(crate) const ORDINAL: &str = "$ordinal";

const RANDOM: [&str; 3] = ["RAND", "RAND_INTEGER", "UUID"];

/// Stands for the place of the row in its source; in batch, for its place in the batch.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordinal {
    signature: Signature,
}

/// The marker as a function.
pub(crate) fn ordinal() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Ordinal { signature: Signature::nullary(Volatility::Volatile) }))
}

impl ScalarUDFImpl for Ordinal {
    fn name(&self) -> &str {
        ORDINAL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = i64::try_from(args.number_rows).unwrap_or(i64::MAX);
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef))
    }
}

/// Gives every random call of a query the marker and a site of its own, counted on in `sites`.
pub(crate) fn mark(query: &mut Query, sites: &mut u64) {
    let _ = query.visit(&mut Marker(sites));
}

struct Marker<'s>(&'s mut u64);

impl VisitorMut for Marker<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(Function { name, args, .. }) = expr else { return ControlFlow::Continue(()) };
        let name = name.to_string();
        let (FunctionArguments::List(list), true) = (args, RANDOM.iter().any(|known| name.eq_ignore_ascii_case(known)))
        else {
            return ControlFlow::Continue(());
        };
        *self.0 += 1;
        let site = Expr::Value(Value::Number(self.0.to_string(), false).into());
        let unnamed = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
        list.args.splice(0..0, [unnamed(marker()), unnamed(site)]);
        ControlFlow::Continue(())
    }
}

fn marker() -> Expr {
    use datafusion::sql::sqlparser::ast::FunctionArgumentList;
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(ORDINAL)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

//! `TABLE_VERSION(b)`: the version of a versioned table that was read for a row, `b` what FROM calls the lookup.
//!
//! The name is no column, so the call becomes one of a function no text can name, with the name as a text
//! ([`crate::rewrite`]); [`super::lookup`] puts the lookup's column in its place.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The name of the marker; no text can name it.
pub(crate) const MARKER: &str = "$table_version";

/// Stands for the version of the lookup whose name is its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    signature: Signature,
}

/// The marker as a function.
pub(crate) fn marker() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Marker {
        signature: Signature::exact(vec![DataType::Utf8], Volatility::Volatile),
    }))
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        MARKER
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("TABLE_VERSION is still in the plan")
    }
}

/// The name of the lookup, when the expression is a call of the marker.
pub(crate) fn named(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == MARKER => match call.args.as_slice() {
            [Expr::Literal(ScalarValue::Utf8(Some(name)), _)] => Some(name),
            _ => None,
        },
        _ => None,
    }
}

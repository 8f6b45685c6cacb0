//! `row.field`, null where the row is.
//!
//! DataFusion's own field access gives the column inside as it is, whatever stands there for rows that are null.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_schema::{DataType, FieldRef};
use arrow_select::nullif::nullif;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

const NAME: &str = "get_field";

/// Field access that is null where the row is; of maps it is DataFusion's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FieldOf {
    inner: Arc<ScalarUDF>,
}

/// The expression with our field access in place of DataFusion's.
pub(super) fn replace(expr: Expr) -> Result<Expr> {
    let replaced = expr.transform_up(|part| match part {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == NAME => {
            let func = Arc::new(ScalarUDF::new_from_impl(FieldOf { inner: func }));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}

impl ScalarUDFImpl for FieldOf {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        Ok(Arc::new(field.as_ref().clone().with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.split_first().and_then(|(row, names)| path(row, names)) {
            Some(column) => Ok(ColumnarValue::Array(column)),
            None => self.inner.invoke_with_args(args),
        }
    }
}

/// The column at the end of a path of names through rows; none when it leads through something else.
fn path(row: &ColumnarValue, names: &[ColumnarValue]) -> Option<ArrayRef> {
    let ColumnarValue::Array(row) = row else { return None };
    let mut column = Arc::clone(row);
    for name in names {
        let ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))) = name else { return None };
        let rows = column.as_struct_opt()?;
        let inner = rows.column_by_name(name)?;
        column = match rows.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => Arc::clone(inner),
            Some(nulls) => nullif(inner, &BooleanArray::new(!nulls.inner(), None)).ok()?,
        };
    }
    Some(column)
}

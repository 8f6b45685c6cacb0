//! How Flink's operators and literals become calls of our functions when DataFusion plans SQL.
//!
//! [`FlinkExprPlanner`] is given to the `ContextProvider`; [`replace_casts`] goes over each planned expression, because
//! DataFusion offers no hook for casts and plans every integer literal as BIGINT.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference, plan_err};
use datafusion::logical_expr::expr::{Cast, Like, TryCast};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawDictionaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::Registry;
use super::signature::{is_number, is_text};
use crate::types::{Type, name_of};

/// The metadata key of a planned type under which its text is kept, so that lengths survive until the cast.
pub const TYPE_KEY: &str = "tidemill.type";

/// Plans Flink's operators as calls of our functions.
#[derive(Debug, Clone)]
pub struct FlinkExprPlanner {
    registry: Registry,
}

impl FlinkExprPlanner {
    /// A planner that calls the functions of a registry.
    pub fn new(registry: Registry) -> Self {
        FlinkExprPlanner { registry }
    }

    fn planned<T>(&self, name: &str, args: Vec<Expr>) -> Result<PlannerResult<T>> {
        Ok(PlannerResult::Planned(call(&self.registry, name, args)?))
    }
}

/// The type of an expression, of which a name may still be that of several columns: those that USING makes one have one
/// type, and for others an error follows.
fn type_in(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    let first = |part: Expr| match &part {
        Expr::Column(column) if column.relation.is_none() => {
            let found = schema.qualified_fields_with_unqualified_name(&column.name);
            match found.first().filter(|_| found.len() > 1) {
                Some((qualifier, field)) => Ok(Transformed::yes(Expr::from((*qualifier, *field)))),
                None => Ok(Transformed::no(part)),
            }
        }
        _ => Ok(Transformed::no(part)),
    };
    match expr.get_type(schema) {
        Ok(data_type) => Ok(data_type),
        Err(_) => expr.clone().transform(first)?.data.get_type(schema),
    }
}

impl ExprPlanner for FlinkExprPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (type_in(&expr.left, schema)?, type_in(&expr.right, schema)?);
        let numbers = (is_number(&left) || left.is_null()) && (is_number(&right) || right.is_null());
        let texts = (is_text(&left) || left.is_null()) && (is_text(&right) || right.is_null());
        let name = match expr.op {
            BinaryOperator::Plus if numbers => "$add",
            BinaryOperator::Minus if numbers => "$subtract",
            BinaryOperator::Multiply if numbers => "$multiply",
            BinaryOperator::Divide if numbers => "$divide",
            BinaryOperator::Modulo if numbers => "$remainder",
            BinaryOperator::StringConcat if texts => "concat",
            BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Divide
                if is_text(&left) || is_text(&right) =>
            {
                return plan_err!(
                    "{} {} {} is not possible: cast the text to a number",
                    name_of(&left),
                    expr.op,
                    name_of(&right)
                );
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        self.planned(name, vec![narrow(expr.left), narrow(expr.right)])
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        match expr.field_access {
            GetFieldAccess::ListIndex { key } => self.planned("$item", vec![expr.expr, narrow(*key)]),
            GetFieldAccess::NamedStructField { name } if matches!(type_in(&expr.expr, schema)?, DataType::Map(..)) => {
                self.planned("$item", vec![expr.expr, lit(name)])
            }
            GetFieldAccess::NamedStructField { name } => Ok(PlannerResult::Planned(
                datafusion::functions::core::expr_fn::get_field(expr.expr, field_name(name)?),
            )),
            GetFieldAccess::ListRange { .. } => plan_err!("a range of an array is not supported"),
        }
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("array", exprs.into_iter().map(narrow).collect())
    }

    fn plan_dictionary_literal(
        &self,
        expr: RawDictionaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawDictionaryExpr>> {
        let pairs = expr.keys.into_iter().zip(expr.values).flat_map(|(key, value)| [narrow(key), narrow(value)]);
        self.planned("map", pairs.collect())
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("map", args.into_iter().map(narrow).collect())
    }

    fn plan_struct_literal(&self, args: Vec<Expr>, is_named_struct: bool) -> Result<PlannerResult<Vec<Expr>>> {
        if is_named_struct {
            return Ok(PlannerResult::Original(args));
        }
        self.planned("row", args.into_iter().map(narrow).collect())
    }

    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("position", args)
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("extract", args)
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("substring", args.into_iter().map(narrow).collect())
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("overlay", args.into_iter().map(narrow).collect())
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let nested = nested_names
            .iter()
            .fold(column, |row, name| datafusion::functions::core::expr_fn::get_field(row, name.as_str()));
        Ok(PlannerResult::Planned(nested))
    }
}

fn field_name(name: ScalarValue) -> Result<String> {
    match name {
        ScalarValue::Utf8(Some(name)) | ScalarValue::LargeUtf8(Some(name)) | ScalarValue::Utf8View(Some(name)) => {
            Ok(name)
        }
        other => plan_err!("{other} is not the name of a field"),
    }
}

/// The field that a type planner answers for a type: its Arrow type, and its text for the cast.
pub fn planned_field(planned: &Type) -> Arc<Field> {
    let text = [(TYPE_KEY.to_owned(), planned.to_string())];
    Arc::new(Field::new("", planned.to_arrow(), true).with_metadata(text.into()))
}

/// A call of CAST or TRY_CAST with our meaning.
pub fn cast_expr(registry: &Registry, expr: Expr, target: &str, lenient: bool) -> Result<Expr> {
    let name = if lenient { "$try_cast" } else { "$cast" };
    call(registry, name, vec![narrow(expr), lit(target)])
}

/// The least that the session's wall clock reads from a time on.
pub(crate) fn wall_floor(registry: &Registry, expr: Expr) -> Result<Expr> {
    call(registry, "$wall_floor", vec![expr])
}

/// Puts our CAST, negation, SIMILAR TO and ESCAPE in the place of DataFusion's, and types number literals as Flink does.
///
/// To be applied to what `SqlToRel` planned, before the analyzer adds casts of its own; keep the names of a plan's columns
/// (`NamePreserver`), since a call is named differently from a cast.
///
/// # Errors
/// When a registry without `$cast` is given.
pub fn replace_casts(registry: &Registry, expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::Cast(Cast { expr, field }) => {
            Ok(Transformed::yes(cast_expr(registry, *expr, &type_text(&field), false)?))
        }
        Expr::TryCast(TryCast { expr, field }) => {
            Ok(Transformed::yes(cast_expr(registry, *expr, &type_text(&field), true)?))
        }
        Expr::Literal(ScalarValue::Int64(Some(_)) | ScalarValue::Decimal128(..), _) => {
            let narrowed = narrow(expr.clone());
            Ok(if narrowed == expr { Transformed::no(expr) } else { Transformed::yes(narrowed) })
        }
        Expr::Negative(inner) if !matches!(*inner, Expr::Literal(..)) => {
            Ok(Transformed::yes(call(registry, "$negate", vec![*inner])?))
        }
        Expr::SimilarTo(Like { negated, expr, pattern, escape_char: None, case_insensitive: _ }) => {
            let matched = call(registry, "$similar_to", vec![*expr, *pattern])?;
            Ok(Transformed::yes(if negated { Expr::Not(Box::new(matched)) } else { matched }))
        }
        Expr::SimilarTo(_) => plan_err!("SIMILAR TO with ESCAPE is not supported: write REGEXP(text, pattern)"),
        Expr::Like(like) if like.escape_char != Some('\\') => {
            with_backslash(registry, like)?.map_data(|like| Ok(Expr::Like(like)))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// A LIKE whose pattern escapes with the backslash, the only character DataFusion knows for it. Without ESCAPE none does
/// in SQL, so a backslash in the pattern escapes itself.
fn with_backslash(registry: &Registry, like: Like) -> Result<Transformed<Like>> {
    const BACKSLASH: Option<char> = Some('\\');
    let Like { pattern, escape_char: escape, .. } = &like;
    let pattern = match (pattern.as_ref(), escape) {
        (Expr::Literal(ScalarValue::Utf8(Some(pattern)), _), None) if !pattern.contains('\\') => {
            return Ok(Transformed::no(like));
        }
        (Expr::Literal(ScalarValue::Utf8(Some(pattern)), metadata), escape) => {
            Expr::Literal(ScalarValue::Utf8(Some(escaped(pattern, *escape)?)), metadata.clone())
        }
        (Expr::Literal(..), None) => return Ok(Transformed::no(like)),
        (pattern, None) => call(registry, "replace", vec![pattern.clone(), lit("\\"), lit("\\\\")])?,
        (_, Some(_)) => return plan_err!("LIKE with ESCAPE needs a literal as its pattern"),
    };
    Ok(Transformed::yes(Like { pattern: Box::new(pattern), escape_char: BACKSLASH, ..like }))
}

/// A pattern whose escape character is another one, or none, with the backslash in its place.
fn escaped(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if Some(c) == escape => match chars.next() {
                Some(next @ ('%' | '_')) => out.extend(['\\', next]),
                Some(next) if Some(next) == escape => out.push(next),
                _ => {
                    return plan_err!("the escape character of LIKE '{pattern}' stands before neither %, _ nor itself");
                }
            },
            '\\' => out.push_str("\\\\"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

fn call(registry: &Registry, name: &str, args: Vec<Expr>) -> Result<Expr> {
    match registry.get(name) {
        Some(udf) => Ok(udf.call(args)),
        None => plan_err!("the function {name} does not exist"),
    }
}

fn type_text(field: &Field) -> String {
    match field.metadata().get(TYPE_KEY) {
        Some(text) => text.clone(),
        None => name_of(field.data_type()),
    }
}

/// A number literal as Flink types it: INT when it fits, and a DECIMAL that has a digit before its point.
fn narrow(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(value) => Expr::Literal(ScalarValue::Int32(Some(value)), metadata),
            Err(_) => Expr::Literal(ScalarValue::Int64(Some(value)), metadata),
        },
        Expr::Literal(ScalarValue::Decimal128(value, precision, scale), metadata) => {
            let precision = precision.max(scale.max(0).unsigned_abs() + 1).min(38);
            Expr::Literal(ScalarValue::Decimal128(value, precision, scale), metadata)
        }
        other => other,
    }
}

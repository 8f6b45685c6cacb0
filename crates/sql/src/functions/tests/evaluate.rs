//! Evaluates one SQL expression as a pipeline would: our parser, DataFusion's planner, our functions.

use std::sync::{Arc, OnceLock};

use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference, plan_err};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use super::super::{FlinkExprPlanner, Registry, Session, planned_field, replace_casts};
use crate::statement::{Body, parse};
use crate::types::planned;

/// Rows of a batch when literals become columns, so that columns of several rows are met.
const ROWS: usize = 3;

struct Provider {
    registry: Registry,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        Ok(planned(sql_type).map(|planned| planned_field(&planned)))
    }
}

impl ContextProvider for Provider {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("no table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.registry.get(name)
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.registry.names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

/// A session whose step is at 2020-02-29 12:34:56.789 UTC.
pub(super) fn session() -> Arc<Session> {
    let session = Session::default();
    session.step.set(1_582_979_696_789, 1);
    Arc::new(session)
}

/// One provider for all tests, because it reads every signature.
fn provider() -> &'static Provider {
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let registry = Registry::new(&session());
        let mut options = ConfigOptions::new();
        options.sql_parser.parse_float_as_decimal = true;
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(FlinkExprPlanner::new(registry.clone()))];
        Provider { registry, options, planners }
    })
}

fn bug(error: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Plan(error.to_string())
}

/// Plans an expression as far as the analyzer would.
fn plan(sql: &str) -> Result<Expr> {
    let provider = provider();
    let statements = parse(&format!("SELECT {sql} AS v")).map_err(bug)?;
    let [statement] = statements.as_slice() else { return plan_err!("{} statements", statements.len()) };
    let Body::Query(query) = &statement.body else { return plan_err!("no query") };
    let ast::SetExpr::Select(select) = query.ast.body.as_ref() else { return plan_err!("no select") };
    let Some(ast::SelectItem::ExprWithAlias { expr, .. }) = select.projection.first() else {
        return plan_err!("no item");
    };
    let options = ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false);
    let planner = SqlToRel::new_with_options(provider, options);
    let planned = planner.sql_to_expr(expr.clone(), &DFSchema::empty(), &mut PlannerContext::new())?;
    Ok(replace_casts(&provider.registry, planned)?.data)
}

fn evaluate(expr: Expr, batch: &RecordBatch) -> Result<ArrayRef> {
    let schema = Arc::new(DFSchema::try_from(batch.schema().as_ref().clone())?);
    let context = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr, &schema)?)?;
    let physical = create_physical_expr(&expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    physical.evaluate(batch)?.into_array(batch.num_rows())
}

fn batch(columns: Vec<(Field, ArrayRef)>, rows: usize) -> Result<RecordBatch> {
    // A column of its own keeps the number of rows when there are no others.
    let own = (Field::new("$row", DataType::Int32, false), Arc::new(Int32Array::from(vec![0; rows])) as ArrayRef);
    let (fields, arrays): (Vec<_>, Vec<_>) = std::iter::once(own).chain(columns).unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// The value of an expression, as a column of one row.
pub(super) fn constant(sql: &str) -> Result<ArrayRef> {
    evaluate(plan(sql)?, &batch(vec![], 1)?)
}

/// The value when every literal that may be one is a column; `None` when no literal may.
pub(super) fn column(sql: &str) -> Result<Option<ArrayRef>> {
    let mut columns = Vec::new();
    let hoisted = hoist(plan(sql)?, &mut columns)?;
    if columns.is_empty() {
        return Ok(None);
    }
    let array = evaluate(hoisted, &batch(columns, ROWS)?)?;
    for row in 1..ROWS {
        assert_eq!(&array.slice(0, 1), &array.slice(row, 1), "{sql}: rows of equal input differ");
    }
    Ok(Some(array.slice(0, 1)))
}

/// Puts columns in the place of literals, but for arguments that have to be literals.
fn hoist(expr: Expr, columns: &mut Vec<(Field, ArrayRef)>) -> Result<Expr> {
    let hoisted = expr.transform_down(|expr| match expr {
        Expr::Literal(value, _) if is_hoistable(&value) => {
            let name = format!("c{}", columns.len());
            let field = Field::new(&name, value.data_type(), true);
            columns.push((field, value.to_array_of_size(ROWS)?));
            Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
        }
        Expr::ScalarFunction(mut call) => {
            let kept = match call.func.name() {
                "$cast" | "$try_cast" | "round" | "truncate" | "get_field" => Some(1),
                "timestampadd" => Some(0),
                _ => None,
            };
            for (index, arg) in call.args.iter_mut().enumerate() {
                if Some(index) != kept {
                    *arg = hoist(std::mem::take(arg), columns)?;
                }
            }
            Ok(Transformed::new(Expr::ScalarFunction(call), true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(hoisted.data)
}

fn is_hoistable(value: &ScalarValue) -> bool {
    !matches!(value, ScalarValue::Null | ScalarValue::IntervalMonthDayNano(_))
}

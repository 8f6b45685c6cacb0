//! [`Catalog`]: the names a query may use (tables, views, functions), as DataFusion's planner asks for them.
//!
//! Nothing is registered that is not ours: functions are those of [`crate::functions`] and [`crate::aggregate`]. A view
//! is its query's plan, which is put in wherever the view is named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, TableType,
    WindowFunctionDefinition, WindowUDF, lit,
};
use datafusion::sql::sqlparser::ast;
use tidemill_base::suggest;
use tidemill_circuit::lookup::LookupTable;

use crate::aggregate::Aggregates;
use crate::error::Error;
use crate::functions::{FlinkExprPlanner, Registry, Session, planned_field};
use crate::plan::lookup::ViewTarget;
use crate::plan::relation::Relations;
use crate::plan::{random, table_version};
use crate::{types, window_function};

/// The names of one pipeline, and how expressions and relations are planned.
pub(crate) struct Catalog {
    sources: BTreeMap<String, Arc<dyn TableSource>>,
    functions: Registry,
    named: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: Aggregates,
    options: ConfigOptions,
    expressions: Vec<Arc<dyn ExprPlanner>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
}

/// A table, to the planner: a name and columns.
#[derive(Debug)]
pub(crate) struct Declared {
    /// All columns that a query may name, in the order of the declaration.
    pub(crate) schema: SchemaRef,
    /// The columns that its declaration says make a row unique.
    key: Vec<usize>,
    /// The columns that are the time at which a row is read.
    clocks: Vec<usize>,
}

impl Declared {
    /// A table with these columns.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Declared { schema, key: vec![], clocks: vec![] }
    }

    /// Whether a column is the time at which a row is read.
    pub(crate) fn is_clock(&self, column: usize) -> bool {
        self.clocks.contains(&column)
    }
}

impl TableSource for Declared {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// A versioned table, to the planner.
pub(crate) struct VersionedSource {
    /// Where its rows are.
    pub(crate) table: Arc<LookupTable>,
}

impl TableSource for VersionedSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }
}

/// A view, to the planner: the plan of its query.
#[derive(Debug)]
pub(crate) struct Viewed {
    plan: Arc<LogicalPlan>,
    key: Option<Vec<usize>>,
    emit_changes: bool,
}

impl Viewed {
    /// The view as something that rows are looked up in.
    fn target(&self, name: &str) -> ViewTarget {
        let Viewed { plan, key, emit_changes } = self;
        let (plan, key, emit_changes) = (Arc::clone(plan), key.clone(), *emit_changes);
        ViewTarget { name: name.to_string(), plan, key, emit_changes, is_table: false }
    }
}

impl TableSource for Viewed {
    fn schema(&self) -> SchemaRef {
        Arc::new(self.plan.schema().as_arrow().clone())
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(self.plan.as_ref()))
    }
}

impl Catalog {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        let functions = Registry::new(session);
        Catalog {
            sources: BTreeMap::new(),
            functions: functions.clone(),
            named: BTreeMap::new(),
            aggregates: Aggregates::new(),
            options: config(),
            expressions: vec![
                Arc::new(FlinkExprPlanner::new(functions)),
                Arc::new(Calls { aggregates: Aggregates::new() }),
            ],
            relations: vec![Arc::new(Relations { zone: session.zone })],
        }
    }

    /// Adds a table whose columns a query may name.
    pub(crate) fn add_table(&mut self, name: &str, schema: SchemaRef) {
        self.sources.insert(name.to_string(), Arc::new(Declared::new(schema)));
    }

    /// Adds a declared table: the columns that make a row of it unique, and those that are the time at which it is read.
    pub(crate) fn add_declared(&mut self, name: &str, schema: SchemaRef, key: &[String], clocks: Vec<usize>) {
        let key = key.iter().filter_map(|column| schema.index_of(column).ok()).collect();
        self.sources.insert(name.to_string(), Arc::new(Declared { schema, key, clocks }));
    }

    /// What rows are looked up in under a name, when it is a view or a table whose rows come in from outside.
    pub(crate) fn target(source: &Arc<dyn TableSource>, name: &str) -> Result<Option<ViewTarget>> {
        if let Some(view) = source.downcast_ref::<Viewed>() {
            return Ok(Some(view.target(name)));
        }
        let Some(Declared { key, .. }) = source.downcast_ref::<Declared>() else { return Ok(None) };
        let plan = Arc::new(LogicalPlanBuilder::scan(name, Arc::clone(source), None)?.build()?);
        let key = (!key.is_empty()).then(|| key.clone());
        Ok(Some(ViewTarget { name: name.to_string(), plan, key, emit_changes: false, is_table: true }))
    }

    /// Adds a versioned table, in which rows are looked up.
    pub(crate) fn add_versioned(&mut self, name: &str, table: Arc<LookupTable>) {
        self.sources.insert(name.to_string(), Arc::new(VersionedSource { table }));
    }

    /// Adds a name for a plan.
    pub(crate) fn add_view(&mut self, name: &str, plan: LogicalPlan) {
        self.add_kept(name, plan, None, false);
    }

    /// Adds a name for a plan: the columns that make a row of it unique, when that is declared, and whether it has rows
    /// before windows close.
    pub(crate) fn add_kept(&mut self, name: &str, plan: LogicalPlan, key: Option<Vec<usize>>, emit_changes: bool) {
        self.sources.insert(name.to_string(), Arc::new(Viewed { plan: Arc::new(plan), key, emit_changes }));
    }

    /// Takes a name out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.sources.remove(name);
        self.named.remove(&name.to_ascii_lowercase());
    }

    /// Gives a function that there is another name; false when there is no such function.
    pub(crate) fn name_function(&mut self, name: &str, existing: &str) -> bool {
        let Some(function) = self.functions.get(existing) else { return false };
        self.named.insert(name.to_ascii_lowercase(), function);
        true
    }

    /// Our scalar functions.
    pub(crate) fn functions(&self) -> &Registry {
        &self.functions
    }

    /// Whether a function of this name can be called.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.get_function_meta(name).is_some() || self.aggregates.get(name).is_some()
    }

    /// The function that can be called which is spelt most like `name`.
    pub(crate) fn nearest_function(&self, name: &str) -> Option<String> {
        let names: Vec<_> = self.udf_names().into_iter().chain(self.udaf_names()).collect();
        suggest::nearest(name, names.iter().map(String::as_str)).map(str::to_uppercase)
    }
}

/// How DataFusion plans and evaluates for us: Flink's meaning of names, literals, nulls.
pub(crate) fn config() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.default_null_ordering = "nulls_min".to_string();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.optimizer.skip_failed_rules = false;
    options.optimizer.max_passes = 8;
    // A query that stands for a value is joined: the circuit has no other way to bring its row along.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.execution.target_partitions = 1;
    options
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(source) = self.sources.get(name.table()) {
            return Ok(Arc::clone(source));
        }
        let help = match suggest::nearest(name.table(), self.sources.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant}?"),
            None if self.sources.is_empty() => "declare it with CREATE TABLE before the query".to_string(),
            None => {
                let known: Vec<_> = self.sources.keys().map(|name| types::quoted(name)).collect();
                format!("there are: {}", known.join(", "))
            }
        };
        let name = name.table().to_string();
        Err(outside(Error::Unknown { what: "table or view", name, position: None, help: Some(help) }))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expressions
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == random::ORDINAL {
            return Some(random::ordinal());
        }
        if name == table_version::MARKER {
            return Some(table_version::marker());
        }
        self.named.get(&name.to_ascii_lowercase()).cloned().or_else(|| self.functions.get(name))
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        window_function::get(name)
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.named.keys().cloned().chain(self.functions.names()).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.names()
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

/// Carries an error of ours through DataFusion.
pub(crate) fn outside(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Our types in casts.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        match types::planned(sql_type) {
            Some(planned) => Ok(Some(planned_field(&planned))),
            None => plan_err!("{sql_type} is no type of Flink's"),
        }
    }
}

/// `COUNT(*)` counts a constant, and FIRST_VALUE is the same function with OVER and without.
#[derive(Debug)]
struct Calls {
    aggregates: Aggregates,
}

impl ExprPlanner for Calls {
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        if !counts_rows(expr.func.name(), &expr.args, expr.distinct)? {
            return Ok(PlannerResult::Original(expr));
        }
        let counted = vec![lit(1_i64)];
        let call =
            AggregateFunction::new_udf(expr.func, counted, false, expr.filter, expr.order_by, expr.null_treatment);
        Ok(PlannerResult::Planned(Expr::AggregateFunction(call).alias("count(*)")))
    }

    fn plan_window(&self, mut expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        // DataFusion asks for a function of its own where these have OVER.
        if let WindowFunctionDefinition::WindowUDF(function) = &expr.func_def
            && let Some(same) = self.aggregates.get(function.name())
        {
            expr.func_def = WindowFunctionDefinition::AggregateUDF(same);
        }
        if counts_rows(expr.func_def.name(), &expr.args, expr.distinct)? {
            expr.args = vec![lit(1_i64)];
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Whether a call is `COUNT(*)`.
fn counts_rows(function: &str, args: &[Expr], distinct: bool) -> Result<bool> {
    #[expect(deprecated)]
    let star = matches!(args, [] | [Expr::Wildcard { .. }]);
    match function == "count" && star {
        true if distinct => plan_err!("COUNT(DISTINCT *) means nothing: name the columns"),
        counts => Ok(counts),
    }
}

/// The columns of a plan, as a schema of their own.
pub(crate) fn schema_of(plan: &LogicalPlan) -> SchemaRef {
    let fields: Vec<FieldRef> = plan.schema().fields().iter().map(Arc::clone).collect();
    Arc::new(Schema::new(fields))
}

//! DataFusion in batch: bare SELECTs over materialised views, the shell, and the oracle of every test.
//!
//! A plan is the same as for the circuit; window table functions become plain relational nodes and aggregates their naive
//! twins. It runs on a thread of its own with a small runtime, so it can be called from anywhere.

mod changes;
mod lookup;
mod over;
mod sessions;
mod set_operation;
mod unnest;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use chrono_tz::Tz;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, TableReference};
use datafusion::datasource::{DefaultTableSource, MemTable};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::collect;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use tidemill_base::Position;
use tidemill_circuit::plan::Window;

use crate::aggregate::grouping;
use crate::catalog::{Catalog, Declared, config, schema_of};
use crate::error::Error;
use crate::expr::sentence;
use crate::functions::{Ambiguous, Session, from_wall_millis, to_wall_millis};
use crate::plan::assign::WindowAssign;
use crate::plan::lookup::{Lookup, ViewLookup};
use crate::plan::set_operation::SetOperation;
use crate::plan::subquery;
use crate::plan::unnest::Unnest;
use crate::plan::{PlanOptions, logical, optimise, planned, scanned};
use crate::statement::{self, Body};

/// Tables in memory, and SELECT over them.
pub struct BatchSession {
    catalog: Catalog,
    tables: BTreeMap<String, RecordBatch>,
}

impl BatchSession {
    /// A session without tables.
    pub fn new(session: &Arc<Session>) -> Self {
        BatchSession { catalog: Catalog::new(session), tables: BTreeMap::new() }
    }

    /// Gives rows a name, or a name other rows.
    pub fn register(&mut self, name: &str, rows: RecordBatch) {
        self.catalog.add_table(name, rows.schema());
        self.tables.insert(name.to_string(), rows);
    }

    /// Gives a query a name.
    ///
    /// # Errors
    /// What is wrong with the query.
    pub fn register_view(&mut self, name: &str, query: &str) -> Result<(), Error> {
        let plan = self.planned(query)?;
        self.catalog.add_view(name, plan);
        Ok(())
    }

    /// The rows of one SELECT.
    ///
    /// # Errors
    /// What is wrong with the query, or a row on which an expression fails.
    pub fn select(&self, query: &str) -> Result<RecordBatch, Error> {
        let plan = self.planned(query)?;
        run(plan, &self.tables, self.catalog.options())
    }

    fn planned(&self, query: &str) -> Result<LogicalPlan, Error> {
        let statements = statement::parse(query)?;
        let wrong = |position: Option<Position>| Error::Plan {
            problem: "one SELECT is expected here".to_string(),
            position,
            help: Some("write SELECT ... FROM view".to_string()),
        };
        match statements.as_slice() {
            [one] => match &one.body {
                Body::Query(query) => planned(&query.ast, &self.catalog, query.position),
                _ => Err(wrong(Some(one.position))),
            },
            [] => Err(wrong(None)),
            [_, second, ..] => Err(wrong(Some(second.position))),
        }
    }
}

/// A SELECT over materialised views, ready to run at any step.
#[derive(Debug)]
pub struct ViewQuery {
    plan: LogicalPlan,
    _session: Arc<Session>,
}

impl ViewQuery {
    pub(crate) fn new(plan: LogicalPlan, session: Arc<Session>) -> Self {
        ViewQuery { plan, _session: session }
    }

    /// The views that it reads.
    pub fn views(&self) -> Vec<String> {
        scanned(&self.plan)
    }

    /// Its rows, from the rows of its views.
    ///
    /// # Errors
    /// When a view is missing, or an expression fails on a row.
    pub fn rows(&self, views: &BTreeMap<String, RecordBatch>) -> Result<RecordBatch, Error> {
        run(self.plan.clone(), views, &config())
    }
}

/// What every output of a text holds once `rows` are all its tables ever had: the answers to compare a run with.
///
/// `rows` has the decoded columns of each table that is read. Every plan runs as it was written, in batch, window table
/// functions as plain relational nodes and aggregates as their naive twins. The rows of a versioned table say in their
/// schema's metadata, under `version`, which version they are.
///
/// # Errors
/// What is wrong with the text, or a row on which an expression fails.
pub fn answers(text: &str, rows: &BTreeMap<String, RecordBatch>) -> Result<BTreeMap<String, Vec<RecordBatch>>, Error> {
    let (queries, sources) = logical(text, PlanOptions::default())?;
    let mut tables = BTreeMap::new();
    for source in sources {
        if let Some(rows) = rows.get(&source.name) {
            tables.insert(source.name.clone(), source.read(rows)?);
        }
    }
    let mut answers: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    for (name, plan) in queries {
        answers.entry(name).or_default().push(run(plan, &tables, &config())?);
    }
    Ok(answers)
}

/// Runs a checked plan over tables in memory.
pub(crate) fn run(
    plan: LogicalPlan,
    tables: &BTreeMap<String, RecordBatch>,
    options: &ConfigOptions,
) -> Result<RecordBatch, Error> {
    let schema = schema_of(&plan);
    let batches = on_a_thread(|| {
        let mut tables = tables.clone();
        let plan = subquery::decorrelated(plan, options)?;
        let plan = relational(plan, &mut tables, options)?;
        evaluated(plan, &tables, options)
    });
    let batches = batches.map_err(|error| Error::Plan { problem: sentence(&error), position: None, help: None })?;
    joined(&schema, &batches)
}

/// The batches as one, with the columns of `schema`.
fn joined(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, Error> {
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let bug = |error: arrow_schema::ArrowError| Error::Bug { problem: error.to_string() };
    let batches = batches.iter().map(|batch| {
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)
    });
    let batches = batches.collect::<Result<Vec<_>, _>>().map_err(bug)?;
    arrow_select::concat::concat_batches(&schema, &batches).map_err(bug)
}

/// A time as the wall clock reads it that cuts the windows.
fn on_the_wall(millis: i64, wall: Option<Tz>) -> i64 {
    wall.map_or(millis, |zone| to_wall_millis(millis, zone))
}

/// The time at which that clock reads so, first when it does twice.
fn off_the_wall(millis: i64, wall: Option<Tz>) -> i64 {
    wall.map_or(millis, |zone| from_wall_millis(millis, zone, Ambiguous::Earlier))
}

/// Window table functions as plain relational nodes; sessions and elements are computed at once and become a table.
fn relational(
    plan: LogicalPlan,
    tables: &mut BTreeMap<String, RecordBatch>,
    options: &ConfigOptions,
) -> Result<LogicalPlan> {
    let relational = plan.transform_up(|node| {
        if let LogicalPlan::Window(window) = &node {
            let input = evaluated(window.input.as_ref().clone(), tables, options)?;
            let name = format!("$over.{}", tables.len());
            let (rows, plan) = over::relational(window, &input, &name)?;
            tables.insert(name, rows);
            return Ok(Transformed::yes(plan));
        }
        if let LogicalPlan::Aggregate(aggregate) = &node
            && let Some(plan) = grouping::resolved(aggregate)?
        {
            return Ok(Transformed::yes(plan));
        }
        if let LogicalPlan::Limit(_) = &node {
            // Inside a larger plan nothing asks for an order, and the rows would be the first of none.
            let schema = Arc::clone(node.schema());
            let first = together(&schema, &evaluated(node, tables, options)?)?;
            let rows = numbered(first.columns().to_vec(), first.num_rows())?;
            let name = format!("$first.{}", tables.len());
            let plan = named(&rows, &name, &schema)?;
            tables.insert(name, rows);
            return Ok(Transformed::yes(plan));
        }
        let LogicalPlan::Extension(Extension { node: extension }) = &node else { return Ok(Transformed::no(node)) };
        if let Some(unnest) = extension.as_any().downcast_ref::<Unnest>() {
            let input = evaluated(unnest.input.as_ref().clone(), tables, options)?;
            let name = format!("$elements.{}", tables.len());
            let (rows, plan) = unnest::relational(unnest, &input, &name)?;
            tables.insert(name, rows);
            return Ok(Transformed::yes(plan));
        }
        if let Some(lookup) = extension.as_any().downcast_ref::<Lookup>() {
            let input = evaluated(lookup.input.as_ref().clone(), tables, options)?;
            let name = format!("$found.{}", tables.len());
            let (rows, plan) = lookup::relational(lookup, &input, tables, &name)?;
            tables.insert(name, rows);
            return Ok(Transformed::yes(plan));
        }
        if let Some(lookup) = extension.as_any().downcast_ref::<ViewLookup>() {
            let input = evaluated(lookup.input.as_ref().clone(), tables, options)?;
            let view = evaluated(lookup.view.as_ref().clone(), tables, options)?;
            let name = format!("$found.{}", tables.len());
            let (rows, plan) = lookup::of_view(lookup, &input, &view, &name)?;
            tables.insert(name, rows);
            return Ok(Transformed::yes(plan));
        }
        if let Some(operation) = extension.as_any().downcast_ref::<SetOperation>() {
            let left = evaluated(operation.left.as_ref().clone(), tables, options)?;
            let right = evaluated(operation.right.as_ref().clone(), tables, options)?;
            let name = format!("$set.{}", tables.len());
            let (rows, plan) = set_operation::relational(operation, &left, &right, &name)?;
            tables.insert(name, rows);
            return Ok(Transformed::yes(plan));
        }
        let Some(assign) = extension.as_any().downcast_ref::<WindowAssign>() else { return Ok(Transformed::no(node)) };
        if !matches!(assign.window.0, Window::Session { .. }) {
            return Ok(Transformed::yes(windows::relational(assign)?));
        }
        let input = evaluated(assign.input.as_ref().clone(), tables, options)?;
        let name = format!("$sessions.{}", tables.len());
        let (rows, plan) = sessions::relational(assign, &input, &name)?;
        tables.insert(name, rows);
        Ok(Transformed::yes(plan))
    })?;
    Ok(relational.data)
}

/// The rows of a plan with `schema` as one batch.
fn together(schema: &DFSchema, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    joined(&Arc::new(Schema::new(fields)), batches).map_err(|error| DataFusionError::Execution(error.to_string()))
}

/// Columns under the names that [`named`] reads them by.
fn numbered(columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let field = |(index, column): (usize, &ArrayRef)| Field::new(format!("c{index}"), column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// A plan that reads `rows` from the table `name` as the columns of `schema`.
fn named(rows: &RecordBatch, name: &str, schema: &DFSchema) -> Result<LogicalPlan> {
    let scan = LogicalPlanBuilder::scan(name, Arc::new(Declared::new(rows.schema())), None)?;
    let column = |(index, (qualifier, field)): (usize, (Option<&TableReference>, &FieldRef))| {
        let column = Expr::Column(Column::new(Some(name.to_string()), format!("c{index}")));
        column.alias_qualified(qualifier.cloned(), field.name())
    };
    scan.project(schema.iter().enumerate().map(column))?.build()
}

/// Optimises and runs a plan of relational nodes.
fn evaluated(
    plan: LogicalPlan,
    tables: &BTreeMap<String, RecordBatch>,
    options: &ConfigOptions,
) -> Result<Vec<RecordBatch>> {
    let plan = optimise(plan, options, true)?;
    execute(with_tables(plan, tables)?, options)
}

/// Puts the rows behind the tables that the plan scans.
fn with_tables(plan: LogicalPlan, tables: &BTreeMap<String, RecordBatch>) -> Result<LogicalPlan> {
    let placed = plan.transform_up(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
        let Some(rows) = tables.get(scan.table_name.table()) else {
            return Err(DataFusionError::Execution(format!("there are no rows of {}", scan.table_name.table())));
        };
        let declared = scan.source.schema();
        let rows = RecordBatch::try_new(Arc::clone(&declared), rows.columns().to_vec())?;
        let source = Arc::new(DefaultTableSource::new(Arc::new(MemTable::try_new(declared, vec![vec![rows]])?)));
        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
    })?;
    Ok(placed.data)
}

fn execute(plan: LogicalPlan, options: &ConfigOptions) -> Result<Vec<RecordBatch>> {
    let mut config = SessionConfig::from(options.clone());
    // A common expression may be said to be nullable where it was not before it was shared; the aggregates take both.
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    let state = SessionStateBuilder::new().with_config(config).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let physical = DefaultPhysicalPlanner::default().create_physical_plan(&plan, &state).await?;
        collect(physical, state.task_ctx()).await
    })
}

/// Runs `work` where no other runtime is.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let handle =
            std::thread::Builder::new().name("batch".to_string()).stack_size(16 << 20).spawn_scoped(scope, work)?;
        handle.join().unwrap_or_else(|_| Err(DataFusionError::Internal("the batch query panicked".to_string())))
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::DataType;
    use tidemill_circuit::row::to_json;

    use super::*;
    use crate::pipeline::SelectKind;
    use crate::{PlanOptions, plan};

    fn bids() -> RecordBatch {
        let fields = vec![Field::new("auction", DataType::Int64, true), Field::new("channel", DataType::Utf8, true)];
        let auctions = Int64Array::from(vec![Some(1), Some(2), Some(1), None]);
        let channels = StringArray::from(vec!["a", "b", "a", "c"]);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(auctions), Arc::new(channels)])
            .expect("the columns fit")
    }

    fn check(query: &str, expected: &[&str]) {
        let mut session = BatchSession::new(&Arc::default());
        session.register("bid", bids());
        session.register_view("busy", "SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction").expect("a good view");
        let rows = session.select(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let found: Vec<_> = (0..rows.num_rows()).map(|row| to_json(&rows, row)).collect();
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn a_session_answers_over_its_tables_and_views() {
        check("SELECT auction FROM bid WHERE channel = 'b'", &[r#"{"auction": 2}"#]);
        check("SELECT n FROM busy WHERE auction = 1", &[r#"{"n": 2}"#]);
        check("SELECT * FROM busy ORDER BY n DESC, auction LIMIT 1", &[r#"{"auction": 1, "n": 2}"#]);
        check("SELECT MAX(n) AS m, COUNT(DISTINCT auction) AS d FROM busy", &[r#"{"m": 2, "d": 2}"#]);
        check("SELECT DISTINCT channel FROM bid WHERE auction = 1", &[r#"{"channel": "a"}"#]);
    }

    #[test]
    fn the_first_rows_of_a_query_inside_another_are_those_of_its_order() {
        let first = |order: &str, limit: &str| {
            format!("SELECT auction FROM bid WHERE channel IN (SELECT channel FROM bid ORDER BY {order} {limit})")
        };
        check(&first("auction DESC", "LIMIT 1"), &[r#"{"auction": 2}"#]);
        check(&first("auction", "LIMIT 1"), &[r#"{"auction": null}"#]);
        check(&first("auction", "OFFSET 3"), &[r#"{"auction": 2}"#]);
        check(&first("auction", "FETCH FIRST ROW ONLY"), &[r#"{"auction": null}"#]);
        check(&first("auction", "LIMIT 0"), &[]);
        check("SELECT auction FROM bid ORDER BY auction DESC LIMIT 0", &[]);
    }

    #[test]
    fn a_session_runs_one_select_only() {
        let session = BatchSession::new(&Arc::default());
        assert!(session.select("SET 'a' = 'b'").is_err());
        assert!(session.select("SELECT 1; SELECT 2").is_err());
        assert!(session.select("SELECT x FROM nowhere").is_err());
    }

    #[test]
    fn the_rows_of_a_select_are_ordered_and_cut_when_printed() {
        let text = "CREATE TABLE bid (auction BIGINT, channel STRING) WITH ('connector' = 'x');
                    SELECT channel FROM bid ORDER BY auction DESC LIMIT 2;";
        let pipeline = plan(text, PlanOptions::default()).expect("a good text");
        let SelectKind::Circuit { tail, output } = &pipeline.selects[0].kind else { panic!("it reads no view") };
        let kept = &pipeline.outputs[*output].schema;
        let places: Vec<_> =
            kept.fields().iter().map(|field| bids().schema().index_of(field.name()).expect("a column")).collect();
        let rows = tail.rows(&bids().project(&places).expect("columns")).expect("rows");
        let found: Vec<_> = (0..rows.num_rows()).map(|row| to_json(&rows, row)).collect();
        assert_eq!(found, [r#"{"channel": "b"}"#, r#"{"channel": "a"}"#]);
    }
}

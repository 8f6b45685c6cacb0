//! What stands in FROM and is no plain table: window table functions, UNNEST, lookups and temporal joins.

use arrow_schema::DataType;
use chrono_tz::Tz;
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result, TableReference};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TableAlias,
    TableFactor, TableVersion, Value,
};
use std::sync::Arc;
use tidemill_base::{Position, suggest};
use tidemill_circuit::plan::Window;

use super::assign::{WINDOW_COLUMNS, WindowAssign};
use super::lookup::{AsOf, LookupCall, Target, Versioned};
use super::unnest::UnnestCall;
use super::{translate, using, versioned};
use crate::catalog::{Catalog, VersionedSource, outside};
use crate::dialect::{WindowCall, WindowInput, WindowKind, window_call};
use crate::error::Error;
use crate::rewrite::{ASOF, MERGED};
use crate::types::name_of;

/// Plans window table functions, UNNEST and lookups.
#[derive(Debug)]
pub(crate) struct Relations {
    /// The session's time zone, whose wall clock cuts windows over TIMESTAMP_LTZ.
    pub(crate) zone: Tz,
}

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if let Some(call) = window_call(&relation) {
            return window(call.map_err(outside)?, self.zone, context);
        }
        match relation {
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality,
            } => {
                let [list] = array_exprs.as_slice() else {
                    let position = array_exprs.get(1).map(at);
                    let problem = "UNNEST takes one ARRAY or MAP".to_string();
                    let help = Some("write one CROSS JOIN UNNEST for each".to_string());
                    return Err(outside(Error::Plan { problem, position: position.flatten(), help }));
                };
                let list = context.sql_expr_to_logical_expr(list.clone(), &DFSchema::empty())?;
                let data_type = match &list {
                    Expr::OuterReferenceColumn(field, _) => field.data_type().clone(),
                    other => other.get_type(&DFSchema::empty())?,
                };
                let plan = UnnestCall::plan(list, &data_type, with_ordinality)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            TableFactor::Table { name, alias, args: None, version: Some(version), .. } => {
                lookup(&name, alias, &version, context)
            }
            TableFactor::NestedJoin { table_with_joins, alias: Some(alias) } if alias.name.value == MERGED => {
                let plan = using::merged(*table_with_joins, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// What rows are looked up in under this name, when they can be; a name that nothing has is left to others.
fn target(name: &ObjectName, context: &dyn RelationPlannerContext) -> Result<Option<Target>> {
    let reference = context.object_name_to_table_reference(name.clone())?;
    let called = reference.table().to_string();
    let Ok(source) = context.context_provider().get_table_source(reference) else { return Ok(None) };
    if let Some(source) = source.downcast_ref::<VersionedSource>() {
        return Ok(Some(Target::Table(Versioned(Arc::clone(&source.table)))));
    }
    Ok(Catalog::target(&source, &called)?.map(Target::View))
}

/// A table's name, and where it stands.
fn called(name: &ObjectName) -> (String, Option<Position>) {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map_or((name.to_string(), None), |last| (last.value.clone(), named_at(last)))
}

/// `t FOR SYSTEM_TIME AS OF ..`.
fn lookup(
    name: &ObjectName,
    alias: Option<TableAlias>,
    version: &TableVersion,
    context: &dyn RelationPlannerContext,
) -> Result<RelationPlanning> {
    let (called, position) = called(name);
    let Some(target) = target(name, context)? else {
        // A name that nothing has is told as such.
        let reference = context.object_name_to_table_reference(name.clone())?;
        context.context_provider().get_table_source(reference).map_err(|error| placed(error, position))?;
        return Err(outside(versioned::no_versions(&called, position.unwrap_or(Position { line: 1, column: 1 }))));
    };
    let (when, asof) = when(version, position)?;
    let alias =
        alias.unwrap_or_else(|| TableAlias { explicit: true, name: Ident::new(&called), columns: vec![], at: None });
    let plan = LookupCall::plan(target, when, asof, position)?;
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias)))))
}

/// The column of the left side that says when, none for `PROCTIME()`; and what ASOF compares it with.
fn when(version: &TableVersion, position: Option<Position>) -> Result<(Option<Column>, Option<AsOf>)> {
    let TableVersion::ForSystemTimeAsOf(expr) = version else { return Err(outside(no_time_of_lookup(position))) };
    let column = |expr: &SqlExpr| match expr {
        SqlExpr::Identifier(name) => Some(time_column(None, name)),
        SqlExpr::CompoundIdentifier(path) if path.len() == 2 => Some(time_column(Some(&path[0]), &path[1])),
        _ => None,
    };
    if let SqlExpr::Function(function) = expr
        && let FunctionArguments::List(list) = &function.args
    {
        let name = function.name.to_string();
        let args = list.args.iter().filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        match args.collect::<Vec<_>>().as_slice() {
            [] if name.eq_ignore_ascii_case("PROCTIME") => return Ok((None, None)),
            [left, right, SqlExpr::Value(strict)] if name == ASOF => {
                if let (Some(left), Some(right)) = (column(left), column(right)) {
                    let strict = strict.value == Value::Boolean(true);
                    return Ok((Some(left), Some(AsOf { column: right, strict })));
                }
            }
            _ => {}
        }
    }
    match column(expr) {
        Some(column) => Ok((Some(column), None)),
        None => Err(outside(no_time_of_lookup(at(expr).or(position)))),
    }
}

/// The error that a name is unknown, with its place.
fn placed(error: DataFusionError, at: Option<Position>) -> DataFusionError {
    let DataFusionError::External(inner) = error else { return error };
    match inner.downcast::<Error>() {
        Ok(error) => outside(match at {
            Some(at) => translate::placed(*error, at),
            None => *error,
        }),
        Err(inner) => DataFusionError::External(inner),
    }
}

fn time_column(table: Option<&Ident>, name: &Ident) -> Column {
    // From a text DataFusion would read a name in lower case.
    let table = table.map(|table| TableReference::bare(table.value.clone()));
    let mut column = Column::new(table, &name.value);
    column.spans.0.extend(datafusion::common::Span::try_from_sqlparser_span(name.span));
    column
}

/// `AS OF` what is no time.
pub(crate) fn no_time_of_lookup(position: Option<Position>) -> Error {
    Error::Plan {
        problem: "rows are looked up as of a time that moves on with the rows".to_string(),
        position,
        help: Some(
            "write FOR SYSTEM_TIME AS OF PROCTIME(), or a column of the left side that WATERMARK is declared FOR, or that \
             CREATE TABLE declares as p AS PROCTIME()"
                .to_string(),
        ),
    }
}

/// `AS OF` event time, in what has no versions by event time.
pub(crate) fn no_processing_time(position: Option<Position>) -> Error {
    Error::Plan {
        problem: "a versioned table is read as it is when a row comes".to_string(),
        position,
        help: Some(
            "write FOR SYSTEM_TIME AS OF PROCTIME(), or a column that CREATE TABLE declares as p AS PROCTIME()"
                .to_string(),
        ),
    }
}

fn at(node: &impl Spanned) -> Option<Position> {
    let start = node.span().start;
    (start.line > 0).then_some(Position { line: start.line, column: start.column })
}

fn named_at(name: &Ident) -> Option<Position> {
    let start = name.span.start;
    (start.line > 0).then_some(Position { line: start.line, column: start.column })
}

fn window(call: WindowCall, zone: Tz, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
    let WindowCall { kind, input, partition_by, time, offset_millis, alias, position } = call;
    let factor = match input {
        WindowInput::Table(name) => TableFactor::Table {
            name,
            alias: None,
            args: None,
            with_hints: vec![],
            version: None,
            with_ordinality: false,
            partitions: vec![],
            json_path: None,
            sample: None,
            index_hints: vec![],
        },
        WindowInput::Query(subquery) => TableFactor::Derived { lateral: false, subquery, alias: None, sample: None },
    };
    let input = context.plan(factor)?;
    let offset = offset_millis;
    let window = match kind {
        WindowKind::Tumble { size_millis } => Window::Tumble { size: size_millis, offset },
        WindowKind::Hop { slide_millis, size_millis } => Window::Hop { slide: slide_millis, size: size_millis, offset },
        WindowKind::Cumulate { step_millis, max_millis } => {
            Window::Cumulate { step: step_millis, max: max_millis, offset }
        }
        WindowKind::Session { gap_millis } => Window::Session { gap: gap_millis },
    };
    for name in WINDOW_COLUMNS {
        if input.schema().has_column_with_unqualified_name(name) {
            return Err(outside(Error::Window {
                problem: format!("the input of the window has a column {name} already"),
                position,
                help: Some("rename the column in a query or view below the window".to_string()),
            }));
        }
    }
    let column = column(&time, input.schema())?;
    let data_type = input.schema().field_from_column(&column)?.data_type().clone();
    if !matches!(data_type, DataType::Timestamp(..)) {
        return Err(outside(no_time(&time, &data_type, position)));
    }
    let partition =
        partition_by.iter().map(|name| Ok(Expr::Column(self::column(name, input.schema())?))).collect::<Result<_>>()?;
    let position = named_at(&time).unwrap_or(position);
    let wall = (matches!(data_type, DataType::Timestamp(_, Some(_))) && zone != Tz::UTC).then_some(zone);
    let node = WindowAssign::new(input, Expr::Column(column), partition, window, wall, Some(position))?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
}

fn no_time(time: &Ident, data_type: &DataType, position: Position) -> Error {
    Error::Window {
        problem: format!(
            "{} is {} and no time: windows need a TIMESTAMP or TIMESTAMP_LTZ",
            time.value,
            name_of(data_type)
        ),
        position: named_at(time).unwrap_or(position),
        help: Some(
            "compute one in CREATE TABLE, such as ts AS TO_TIMESTAMP_LTZ(millis, 3), with a WATERMARK".to_string(),
        ),
    }
}

/// The column of this name.
pub(super) fn column(name: &Ident, schema: &DFSchema) -> Result<Column> {
    let found = schema.qualified_fields_with_unqualified_name(&name.value);
    if let [(qualifier, field)] = found.as_slice() {
        return Ok(Column::new(qualifier.cloned(), field.name()));
    }
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let help = match suggest::nearest(&name.value, names.clone()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("its columns are {}", names.collect::<Vec<_>>().join(", ")),
    };
    Err(outside(Error::Unknown {
        what: "column",
        name: name.value.clone(),
        position: named_at(name),
        help: Some(help),
    }))
}

//! CREATE TABLE: what a table's columns are, how computed ones are computed, and how far its event time has moved on.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::logical_plan::{EmptyRelation, Projection};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use tidemill_base::Position;

use super::translate::translate;
use super::{length, optimize};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::expr::print;
use crate::lower::{Needs, Source, is_proctime};
use crate::pipeline::{ColumnDef, ColumnOrigin, OptionDef, TableDef};
use crate::rewrite;
use crate::statement::{ColumnKind, CreateTable, Including, LikeFeature, Setting};
use crate::types::{TypeKind, name_of};

/// A declared table.
#[derive(Debug)]
pub(crate) struct Table {
    /// What a person declared.
    pub(crate) def: TableDef,
    /// What computes each column, over the decodable ones.
    exprs: Vec<Expr>,
    decodable: DFSchema,
    watermark: Option<(usize, Expr)>,
    /// The type of each column whose type has a length.
    lengths: Vec<Option<TypeKind>>,
}

impl Table {
    /// Reads a declaration whose LIKE is resolved.
    pub(crate) fn new(create: &CreateTable, catalog: &Catalog) -> Result<Self, Error> {
        let name = &create.name.text;
        let mut decodable = Vec::new();
        for column in &create.columns {
            if let ColumnKind::Physical(kind) = &column.kind {
                decodable.push(kind.to_field(&column.name.text));
            }
        }
        for column in &create.columns {
            if let ColumnKind::Metadata { data_type, .. } = &column.kind {
                decodable.push(data_type.to_field(&column.name.text));
            }
        }
        for field in &decodable {
            if field.data_type() == &DataType::Null {
                return Err(Error::Bug { problem: format!("{} has no type", field.name()) });
            }
        }
        let schema = Arc::new(Schema::new(decodable));
        let decodable = frame(&schema)?;
        let mut columns = Vec::new();
        let mut exprs = Vec::new();
        for column in &create.columns {
            let (def, expr) = read_column(&column.name.text, &column.kind, column.name.position, &decodable, catalog)?;
            columns.push(def);
            exprs.push(expr);
        }
        let options = create.options.iter().map(option).collect();
        let names = |names: &[crate::statement::Name]| names.iter().map(|name| name.text.clone()).collect::<Vec<_>>();
        let mut def = TableDef {
            name: name.clone(),
            columns,
            schema,
            primary_key: create.primary_key.as_ref().map(|key| names(&key.columns)).unwrap_or_default(),
            partitioned_by: names(&create.partitioned_by),
            options,
            watermark: None,
            is_source: false,
            is_sink: false,
            is_looked_up: false,
            position: create.name.position,
        };
        let watermark = watermark(create, &def, catalog)?;
        if let Some((time, bound)) = &watermark {
            def.watermark = Some((def.columns[*time].field.name().clone(), print(bound)));
        }
        let lengths = create.columns.iter().map(|column| match &column.kind {
            ColumnKind::Physical(kind) | ColumnKind::Metadata { data_type: kind, .. } => {
                length::with_length(&kind.kind)
            }
            ColumnKind::Computed(_) => None,
        });
        Ok(Table { def, exprs, decodable, watermark, lengths: lengths.collect() })
    }

    /// The same table under another name and with other options.
    pub(crate) fn variant(&self, name: String, options: &[Setting]) -> Table {
        let mut def = self.def.clone();
        def.name = name;
        (def.is_source, def.is_sink, def.is_looked_up) = (false, false, false);
        for setting in options {
            def.options.retain(|option| option.key != setting.key);
            def.options.push(option(setting));
        }
        Table {
            def,
            exprs: self.exprs.clone(),
            decodable: self.decodable.clone(),
            watermark: self.watermark.clone(),
            lengths: self.lengths.clone(),
        }
    }

    /// The columns that are the time at which a row is read, as places in the declaration.
    pub(crate) fn clocks(&self) -> Vec<usize> {
        (0..self.exprs.len()).filter(|place| is_proctime(&self.exprs[*place])).collect()
    }

    /// The type of the column at a place in the declaration, when it has a length.
    pub(crate) fn length(&self, place: usize) -> Option<TypeKind> {
        self.lengths.get(place).cloned().flatten()
    }

    /// For each column of `writable`, its type when that has a length.
    pub(crate) fn lengths(&self, writable: &Schema) -> Vec<Option<TypeKind>> {
        let place = |name: &str| self.def.columns.iter().position(|column| column.field.name() == name);
        writable.fields().iter().map(|field| self.length(place(field.name())?)).collect()
    }

    /// The table as something to scan.
    pub(crate) fn source(&self, needs: Needs, idle_timeout_ms: Option<u64>) -> Result<Source, Error> {
        let columns = self.def.columns.iter().map(|column| column.field.clone()).zip(self.exprs.iter().cloned());
        let place = |name: &String| self.def.columns.iter().position(|column| column.field.name() == name);
        let idle = self.def.option("scan.watermark.idle-timeout").and_then(tidemill_base::options::parse_duration);
        let idle = idle.and_then(|idle| u64::try_from(idle.as_millis()).ok());
        Ok(Source {
            name: self.def.name.clone(),
            position: self.def.position,
            decodable: self.decodable.clone(),
            columns: columns.collect(),
            watermark: self.watermark.clone(),
            readable: frame(&self.def.readable())?,
            primary_key: self.def.primary_key.iter().filter_map(place).collect(),
            append_only: !self.def.updates(),
            idle_timeout_ms: idle.or(idle_timeout_ms),
            needs,
        })
    }
}

fn frame(schema: &Arc<Schema>) -> Result<DFSchema, Error> {
    DFSchema::try_from(Arc::clone(schema)).map_err(|error| Error::Bug { problem: error.to_string() })
}

fn option(setting: &Setting) -> OptionDef {
    OptionDef { key: setting.key.clone(), value: setting.value.clone(), position: setting.key_position }
}

fn read_column(
    name: &str,
    kind: &ColumnKind,
    position: Position,
    decodable: &DFSchema,
    catalog: &Catalog,
) -> Result<(ColumnDef, Expr), Error> {
    let itself = || Expr::Column(datafusion::common::Column::new_unqualified(name));
    Ok(match kind {
        ColumnKind::Physical(kind) => {
            (ColumnDef { field: kind.to_field(name), kind: ColumnOrigin::Physical }, itself())
        }
        ColumnKind::Metadata { data_type, key, is_virtual } => {
            let key = key.clone().unwrap_or_else(|| name.to_string());
            let kind = ColumnOrigin::Metadata { key, writable: !is_virtual };
            (ColumnDef { field: data_type.to_field(name), kind }, itself())
        }
        ColumnKind::Computed(ast) => {
            let expr = expression(ast, decodable, catalog, position)?;
            let data_type = expr.get_type(decodable).map_err(|error| translate(error, catalog, position))?;
            let kind = ColumnOrigin::Computed(print(&expr));
            (ColumnDef { field: Field::new(name, data_type, true), kind }, expr)
        }
    })
}

fn watermark(create: &CreateTable, def: &TableDef, catalog: &Catalog) -> Result<Option<(usize, Expr)>, Error> {
    let Some(watermark) = &create.watermark else { return Ok(None) };
    let wrong = |problem: String, help: &str| Error::Definition {
        problem,
        position: watermark.position,
        help: Some(help.to_string()),
    };
    let Some(time) = def.columns.iter().position(|column| *column.field.name() == watermark.column.text) else {
        return Err(wrong(format!("the table has no column {}", watermark.column.text), "name one of its columns"));
    };
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
    let data_type = def.columns[time].field.data_type();
    if !is_time(data_type) {
        let problem = format!("{} is {} and no time", watermark.column.text, name_of(data_type));
        return Err(wrong(problem, "compute a TIMESTAMP: ts AS TO_TIMESTAMP_LTZ(millis, 3), and use that"));
    }
    let schema = frame(&def.readable())?;
    let bound = expression(&watermark.expr, &schema, catalog, watermark.position)?;
    let bound_type = bound.get_type(&schema).map_err(|error| translate(error, catalog, watermark.position))?;
    if !is_time(&bound_type) {
        let problem = format!("the watermark is {} and no time", name_of(&bound_type));
        return Err(wrong(problem, "write for instance WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"));
    }
    Ok(Some((time, bound)))
}

/// An expression over a table's own columns, its types made to fit.
fn expression(ast: &ast::Expr, schema: &DFSchema, catalog: &Catalog, position: Position) -> Result<Expr, Error> {
    let planned = || -> Result<Expr> {
        let planner = SqlToRel::new(catalog);
        let mut ast = ast.clone();
        rewrite::expression(&mut ast);
        let expr = planner.sql_to_expr(ast, schema, &mut PlannerContext::new())?;
        let input =
            LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(schema.clone()) });
        let projection = Projection::try_new(vec![expr.alias("$computed")], Arc::new(input))?;
        let checked = optimize::check(LogicalPlan::Projection(projection), catalog)?;
        let expr = checked.expressions().into_iter().next();
        expr.ok_or_else(|| datafusion::common::DataFusionError::Internal("an expression got lost".to_string()))
    };
    planned().map(|expr| crate::expr::unaliased(&expr).clone()).map_err(|error| translate(error, catalog, position))
}

/// A declaration with what its LIKE takes from `base`.
pub(crate) fn like(mut create: CreateTable, base: &CreateTable) -> Result<CreateTable, Error> {
    let Some(clause) = create.like.take() else { return Ok(create) };
    let said = |feature: LikeFeature| {
        let of =
            |wanted: LikeFeature| clause.options.iter().rev().find(|(_, known)| *known == wanted).map(|(how, _)| *how);
        let usual = if feature == LikeFeature::Options { Including::Overwriting } else { Including::Including };
        of(feature).or(of(LikeFeature::All)).unwrap_or(usual)
    };
    let takes = |feature: LikeFeature| said(feature) != Including::Excluding;
    let mut columns = Vec::new();
    for column in &base.columns {
        let wanted = match column.kind {
            ColumnKind::Physical(_) => true,
            ColumnKind::Computed(_) => takes(LikeFeature::Generated),
            ColumnKind::Metadata { .. } => takes(LikeFeature::Metadata),
        };
        if !wanted {
            continue;
        }
        match create.columns.iter().find(|own| own.name.text == column.name.text) {
            None => columns.push(column.clone()),
            Some(own) if matches!(own.kind, ColumnKind::Physical(_)) => {
                return Err(Error::Definition {
                    problem: format!("the column {} is in {} already", own.name.text, base.name.text),
                    position: own.name.position,
                    help: Some("remove it here, or give it another name".to_string()),
                });
            }
            Some(_) => {}
        }
    }
    columns.append(&mut create.columns);
    create.columns = columns;
    if create.watermark.is_none() && takes(LikeFeature::Watermarks) {
        create.watermark.clone_from(&base.watermark);
    }
    if create.primary_key.is_none() && takes(LikeFeature::Constraints) {
        create.primary_key.clone_from(&base.primary_key);
    }
    if create.partitioned_by.is_empty() && takes(LikeFeature::Partitions) {
        create.partitioned_by.clone_from(&base.partitioned_by);
    }
    if takes(LikeFeature::Options) {
        for setting in &base.options {
            match create.options.iter().find(|own| own.key == setting.key) {
                None => create.options.push(setting.clone()),
                Some(own) if said(LikeFeature::Options) == Including::Including => {
                    return Err(Error::Definition {
                        problem: format!("the option '{}' is given here and in {}", own.key, base.name.text),
                        position: own.key_position,
                        help: Some("write LIKE ... (OVERWRITING OPTIONS)".to_string()),
                    });
                }
                Some(_) => {}
            }
        }
    }
    Ok(create)
}

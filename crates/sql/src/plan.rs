//! From the text of a pipeline file to a [`Pipeline`].
//!
//! Statements are taken in order: declarations fill the catalog, queries are planned over it. When all are known, every
//! query is optimised, what they need of each table is gathered, and one circuit is written for all of them.

pub(crate) mod asked;
pub(crate) mod assign;
pub(crate) mod endpoint;
mod insert;
mod length;
pub(crate) mod lookup;
mod naming;
mod optimize;
pub(crate) mod random;
pub(crate) mod rebind;
pub(crate) mod relation;
mod sessions;
pub(crate) mod set_operation;
mod settings;
pub(crate) mod subquery;
mod table;
pub(crate) mod table_version;
pub mod tail;
mod top;
mod translate;
pub(crate) mod unnest;
mod using;
mod versioned;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::SqlToRel;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, TableFactor, VisitMut, VisitorMut};
use tidemill_base::Position;
use tidemill_circuit::key::KeyEncoder;
use tidemill_circuit::plan::{Emit, NodeId, Spec};

pub(crate) use optimize::{check, optimise};

use crate::batch::ViewQuery;
use crate::catalog::{Catalog, schema_of};
use crate::error::Error;
use crate::explain;
use crate::functions::Session;
use crate::lower::{Builder, Needs, Source};
use crate::pipeline::{
    Changelog, ExplainDef, IndexDef, LookupDef, OutputDef, OutputKind, Pipeline, SelectDef, SelectKind, Settings,
    TableDef, Warning,
};
use crate::statement::{
    self, Body, CreateFunction, CreateIndex, CreateMaterializedView, CreateTable, CreateView, Drop, DropKind, Insert,
    Name, Query, Setting, Statement, table_options,
};
use endpoint::Endpoint;
use table::Table;
use tail::Tail;
use translate::translate;

/// Classes that stand for functions of ours.
const CLASSES: &[(&str, &str)] = &[
    ("com.github.nexmark.flink.udf.CountChar", "count_char"),
    ("org.apache.flink.nexmark.udf.CountChar", "count_char"),
];

/// How a text is planned.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    /// Whether plans are optimised; without, they run as written, which tests compare with.
    pub rules: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions { rules: true }
    }
}

/// Plans everything a text asks for.
///
/// # Errors
/// The first thing that is wrong, with its place; [`crate::error::render`] shows it.
pub fn plan(text: &str, options: PlanOptions) -> Result<Pipeline, Error> {
    let statements = statement::parse(text)?;
    let mut planner = Planner::new(&statements, options)?;
    for statement in &statements {
        planner.statement(statement)?;
    }
    planner.finish()
}

/// Plans, each with the name of its output.
pub(crate) type NamedPlans = Vec<(String, LogicalPlan)>;

/// The queries of a text as they were written, each with the name of its output, and its tables.
pub(crate) fn logical(text: &str, options: PlanOptions) -> Result<(NamedPlans, Vec<Source>), Error> {
    let statements = statement::parse(text)?;
    let mut planner = Planner::new(&statements, options)?;
    for statement in &statements {
        planner.statement(statement)?;
    }
    let sources = planner.tables.iter().map(|table| table.source(Needs::default(), None)).collect::<Result<_, _>>()?;
    let queries = planner.queries.into_iter().map(|query| (output_name(&query.kind), query.plan)).collect();
    Ok((queries, sources))
}

/// A query whose rows leave the circuit.
struct Planned {
    kind: OutputKind,
    plan: LogicalPlan,
    emit: Emit,
    position: Position,
    key: Option<Vec<usize>>,
    /// The indexes of a materialised view.
    indexes: Vec<IndexDef>,
    /// Its own `'state.ttl'`; none is the pipeline's, and some of none keeps everything.
    ttl: Option<Option<Duration>>,
}

/// What a name in the catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    View,
    MaterializedView,
}

pub(crate) struct Planner {
    options: PlanOptions,
    session: Arc<Session>,
    settings: Settings,
    catalog: Catalog,
    /// The materialised views as tables, and views over them: what a bare SELECT can read in batch.
    kept: Catalog,
    kinds: BTreeMap<String, Kind>,
    creates: BTreeMap<String, CreateTable>,
    tables: Vec<Table>,
    queries: Vec<Planned>,
    endpoints: Vec<Endpoint>,
    selects: Vec<SelectDef>,
    explains: Vec<ExplainDef>,
    /// Calls of RAND and its like so far.
    sites: u64,
}

impl Planner {
    fn new(statements: &[Statement], options: PlanOptions) -> Result<Self, Error> {
        let mut settings = Settings::default();
        for statement in statements {
            if let Body::Set(set) = &statement.body {
                settings::apply(&mut settings, set)?;
            }
        }
        let zone = settings.time_zone.as_deref().and_then(|zone| zone.parse().ok()).unwrap_or(chrono_tz::Tz::UTC);
        let session = Arc::new(Session { step: Arc::default(), zone });
        Ok(Planner {
            options,
            catalog: Catalog::new(&session),
            kept: Catalog::new(&session),
            session,
            settings,
            kinds: BTreeMap::new(),
            creates: BTreeMap::new(),
            tables: Vec::new(),
            queries: Vec::new(),
            endpoints: Vec::new(),
            selects: Vec::new(),
            explains: Vec::new(),
            sites: 0,
        })
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Error> {
        match &statement.body {
            Body::CreateTable(create) => self.create_table(create),
            Body::CreateView(create) => self.create_view(create),
            Body::CreateMaterializedView(create) => self.create_materialized_view(create),
            Body::CreateEndpoint(create) => self.create_endpoint(create, &statement.text),
            Body::CreateFunction(create) => self.create_function(create),
            Body::CreateIndex(create) => self.create_index(create),
            Body::Drop(drop) => self.drop(drop),
            Body::Insert(insert) => {
                let planned = self.insert(insert, statement.position)?;
                self.queries.push(planned);
                Ok(())
            }
            Body::StatementSet(inserts) => inserts.iter().try_for_each(|insert| self.statement(insert)),
            Body::Set(_) => Ok(()),
            Body::Explain(inner) => self.explain(inner),
            Body::Query(query) => self.select(query, statement),
        }
    }

    fn create_table(&mut self, create: &CreateTable) -> Result<(), Error> {
        if self.is_taken(&create.name, create.if_not_exists)? {
            return Ok(());
        }
        let mut create = create.clone();
        if let Some(clause) = &create.like {
            let base = self.creates.get(&clause.table.text).cloned().ok_or_else(|| self.no_table(&clause.table))?;
            create = table::like(create, &base)?;
        }
        let table = Table::new(&create, &self.catalog)?;
        match table.def.is_versioned() {
            true => self.catalog.add_versioned(&create.name.text, versioned::table(&create, &table.def)?),
            false => {
                let (name, def) = (&create.name.text, &table.def);
                self.catalog.add_declared(name, def.readable(), &def.primary_key, table.clocks());
            }
        }
        self.kinds.insert(create.name.text.clone(), Kind::Table);
        self.tables.push(table);
        self.creates.insert(create.name.text.clone(), create);
        Ok(())
    }

    fn create_view(&mut self, create: &CreateView) -> Result<(), Error> {
        if self.is_taken(&create.name, create.if_not_exists)? {
            return Ok(());
        }
        let plan = self.checked(&create.query)?;
        let plan = renamed(plan, &create.columns, create.name.position)?;
        self.catalog.add_kept(&create.name.text, plan, None, create.query.emit_changes);
        self.kinds.insert(create.name.text.clone(), Kind::View);
        if let Ok(Some(plan)) = self.over_kept(&create.query) {
            let plan = renamed(plan, &create.columns, create.name.position)?;
            self.kept.add_view(&create.name.text, plan);
        }
        Ok(())
    }

    fn create_materialized_view(&mut self, create: &CreateMaterializedView) -> Result<(), Error> {
        if self.is_taken(&create.name, create.if_not_exists)? {
            return Ok(());
        }
        let ttl = settings::of_view(&create.options)?;
        let plan = self.checked(&create.query)?;
        let schema = schema_of(&plan);
        let key = match &create.primary_key {
            Some(key) => Some(key.columns.iter().map(|name| column_place(&schema, name)).collect::<Result<_, _>>()?),
            None => None,
        };
        self.queries.push(Planned {
            kind: OutputKind::MaterializedView { name: create.name.text.clone() },
            plan: plan.clone(),
            emit: emit(&create.query),
            position: create.name.position,
            key: key.clone(),
            indexes: Vec::new(),
            ttl,
        });
        self.catalog.add_kept(&create.name.text, plan, key, create.query.emit_changes);
        self.kept.add_table(&create.name.text, schema);
        self.kinds.insert(create.name.text.clone(), Kind::MaterializedView);
        Ok(())
    }

    fn create_function(&mut self, create: &CreateFunction) -> Result<(), Error> {
        let Some((_, function)) = CLASSES.iter().find(|(class, _)| *class == create.class) else {
            return Err(Error::Unsupported {
                what: format!("the class {} is not known to tidemill", create.class),
                position: create.class_position,
                help: Some("compute it with the built-in functions, which docs/sql.md lists".to_string()),
            });
        };
        if create.name.text.eq_ignore_ascii_case(function) && self.catalog.has_function(function) {
            return Ok(());
        }
        for catalog in [&mut self.catalog, &mut self.kept] {
            if !catalog.name_function(&create.name.text, function) {
                return Err(Error::Bug { problem: format!("there is no function {function}") });
            }
        }
        Ok(())
    }

    fn create_index(&mut self, create: &CreateIndex) -> Result<(), Error> {
        let named = |index: &IndexDef| index.name == create.name.text;
        if self.queries.iter().flat_map(|query| &query.indexes).any(named) {
            return match create.if_not_exists {
                true => Ok(()),
                false => Err(Error::Definition {
                    problem: format!("the index {} exists already", create.name.text),
                    position: create.name.position,
                    help: Some("choose another name".to_string()),
                }),
            };
        }
        let kind = OutputKind::MaterializedView { name: create.view.text.clone() };
        let Some(query) = self.queries.iter_mut().find(|query| query.kind == kind) else {
            return Err(match self.kinds.contains_key(&create.view.text) {
                false => self.no_table(&create.view),
                true => Error::Definition {
                    problem: format!(
                        "{} is no materialised view: nothing is kept that could be found",
                        create.view.text
                    ),
                    position: create.view.position,
                    help: Some("index a view that is made by CREATE MATERIALIZED VIEW".to_string()),
                },
            });
        };
        let schema = schema_of(&query.plan);
        let mut columns = Vec::with_capacity(create.columns.len());
        for name in &create.columns {
            let column = column_place(&schema, name)?;
            if columns.contains(&column) {
                return Err(Error::Definition {
                    problem: format!("the column {} is in the index twice", name.text),
                    position: name.position,
                    help: Some("name each column once".to_string()),
                });
            }
            if KeyEncoder::new(vec![schema.field(column).data_type().clone()]).is_none() {
                return Err(Error::Unsupported {
                    what: format!("the column {} is of a type that rows are not found by", name.text),
                    position: name.position,
                    help: Some("index columns of numbers, texts, times or bytes".to_string()),
                });
            }
            columns.push(column);
        }
        query.indexes.push(IndexDef { name: create.name.text.clone(), columns });
        Ok(())
    }

    fn drop(&mut self, drop: &Drop) -> Result<(), Error> {
        if drop.kind == DropKind::Function {
            self.catalog.remove(&drop.name.text);
            return Ok(());
        }
        let name = &drop.name.text;
        let Some(kind) = self.kinds.get(name).copied() else {
            return if drop.if_exists { Ok(()) } else { Err(self.no_table(&drop.name)) };
        };
        let answers = |endpoint: &Endpoint| endpoint.records(name) || reads(endpoint.plan(), name);
        let in_use = self.queries.iter().any(|query| reads(&query.plan, name)) || self.endpoints.iter().any(answers);
        if kind == Kind::MaterializedView || in_use {
            return Err(Error::Definition {
                problem: format!("{name} is in use: the statements of a file run together"),
                position: drop.name.position,
                help: Some("remove the DROP, or the statements that use it".to_string()),
            });
        }
        self.catalog.remove(name);
        self.kept.remove(name);
        self.kinds.remove(name);
        self.creates.remove(name);
        self.tables.retain(|table| table.def.name != *name);
        Ok(())
    }

    fn is_taken(&self, name: &Name, if_not_exists: bool) -> Result<bool, Error> {
        let endpoint = self.endpoints.iter().any(|endpoint| endpoint.name() == name.text);
        if !self.kinds.contains_key(&name.text) && !endpoint {
            return Ok(false);
        }
        if if_not_exists {
            return Ok(true);
        }
        Err(Error::Definition {
            problem: format!("{} exists already", name.text),
            position: name.position,
            help: Some("choose another name".to_string()),
        })
    }

    fn no_table(&self, name: &Name) -> Error {
        let nearest = tidemill_base::suggest::nearest(&name.text, self.kinds.keys().map(String::as_str));
        Error::Unknown {
            what: "table",
            name: name.text.clone(),
            position: Some(name.position),
            help: nearest.map(|meant| format!("did you mean {meant}?")),
        }
    }

    fn insert(&mut self, insert: &Insert, position: Position) -> Result<Planned, Error> {
        match self.kinds.get(&insert.table.text) {
            Some(Kind::Table) => {}
            None => return Err(self.no_table(&insert.table)),
            Some(Kind::View | Kind::MaterializedView) => {
                return Err(Error::Definition {
                    problem: format!("{} is a view: rows cannot be inserted into it", insert.table.text),
                    position: insert.table.position,
                    help: Some("insert into a table declared WITH a connector".to_string()),
                });
            }
        }
        if self.table(&insert.table.text).is_some_and(TableDef::is_versioned) {
            return Err(versioned::no_sink(&insert.table));
        }
        let name = match insert.options.as_slice() {
            [] => insert.table.text.clone(),
            options => self.variant(&insert.table.text, options),
        };
        let plan = self.checked(&insert.query)?;
        let Some(table) = self.tables.iter_mut().find(|table| table.def.name == name) else {
            return Err(Error::Bug { problem: format!("the table {name} got lost") });
        };
        table.def.is_sink = true;
        let writable = table.def.writable();
        let key = table.def.primary_key.iter().map(|name| writable.index_of(name).ok()).collect::<Option<Vec<_>>>();
        let lengths = table.lengths(&writable);
        let declared = |name: &str, place: usize| {
            self.tables.iter().find(|table| table.def.name == name).and_then(|table| table.length(place))
        };
        let target = insert::Target { table: &insert.table.text, writable: &writable, lengths: &lengths };
        let fitted = insert::fit(plan, &target, insert, self.catalog.functions(), &declared);
        let plan = fitted.map_err(|error| translate(error, &self.catalog, insert.query.position))?;
        Ok(Planned {
            kind: OutputKind::Sink { table: name },
            plan,
            emit: emit(&insert.query),
            position,
            key: key.filter(|key| !key.is_empty()),
            indexes: Vec::new(),
            ttl: None,
        })
    }

    fn table(&self, name: &str) -> Option<&TableDef> {
        self.tables.iter().find(|table| table.def.name == name).map(|table| &table.def)
    }

    /// A table under another name, with options of a hint.
    fn variant(&mut self, name: &str, options: &[Setting]) -> String {
        let count = self.tables.len();
        let variant = format!("{name}${count}");
        if let Some(table) = self.tables.iter().find(|table| table.def.name == name) {
            let table = table.variant(variant.clone(), options);
            self.catalog.add_declared(&variant, table.def.readable(), &table.def.primary_key, table.clocks());
            self.tables.push(table);
        }
        variant
    }

    fn select(&mut self, query: &Query, statement: &Statement) -> Result<(), Error> {
        let index = self.selects.len();
        let (schema, kind) = match self.over_kept(query)? {
            Some(plan) => (schema_of(&plan), SelectKind::Views(ViewQuery::new(plan, Arc::clone(&self.session)))),
            None => {
                let plan = self.checked(query)?;
                let schema = schema_of(&plan);
                let translated = |error| translate(error, &self.catalog, query.position);
                let (plan, tail) = Tail::split(plan).map_err(translated)?;
                let kind = OutputKind::Select { index };
                let (emit, position) = (emit(query), statement.position);
                self.queries.push(Planned { kind, plan, emit, position, key: None, indexes: Vec::new(), ttl: None });
                (schema, SelectKind::Circuit { output: self.queries.len() - 1, tail })
            }
        };
        self.selects.push(SelectDef { text: statement.text.clone(), position: statement.position, schema, kind });
        Ok(())
    }

    fn explain(&mut self, inner: &Statement) -> Result<(), Error> {
        let before = self.queries.len();
        let selects = self.selects.len();
        let sinks: Vec<bool> = self.tables.iter().map(|table| table.def.is_sink).collect();
        self.statement(inner)?;
        let explained: Vec<Planned> = self.queries.drain(before..).collect();
        self.selects.truncate(selects);
        for (table, is_sink) in self.tables.iter_mut().zip(sinks) {
            table.def.is_sink = is_sink;
        }
        let pipeline = self.lowered(&explained)?;
        let plan = explain::text(&pipeline);
        self.explains.push(ExplainDef { text: inner.text.clone(), position: inner.position, plan });
        Ok(())
    }

    /// The plan of a query, its types made to fit.
    fn checked(&mut self, query: &Query) -> Result<LogicalPlan, Error> {
        let mut ast = query.ast.clone();
        self.take_hints(&mut ast)?;
        random::mark(&mut ast, &mut self.sites);
        planned(&ast, &self.catalog, query.position)
    }

    /// The plan of a query that reads nothing but what is kept; none when it reads something else.
    fn over_kept(&self, query: &Query) -> Result<Option<LogicalPlan>, Error> {
        let any = self.kinds.values().any(|kind| *kind == Kind::MaterializedView);
        if !any || query.emit_changes {
            return Ok(None);
        }
        match planned(&query.ast, &self.kept, query.position) {
            Ok(plan) => Ok(reads_any(&plan).then_some(plan)),
            Err(Error::Unknown { what: "table or view", .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives tables with a hint a name of their own.
    fn take_hints(&mut self, query: &mut ast::Query) -> Result<(), Error> {
        struct Hints<'p>(&'p mut Planner);
        impl VisitorMut for Hints<'_> {
            type Break = Error;
            fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
                let options = table_options(factor);
                let TableFactor::Table { name, alias, with_hints, .. } = factor else {
                    return ControlFlow::Continue(());
                };
                with_hints.clear();
                let Some(ident) = name.0.last().and_then(|part| part.as_ident()).cloned() else {
                    return ControlFlow::Continue(());
                };
                if options.is_empty() || self.0.kinds.get(&ident.value) != Some(&Kind::Table) {
                    return ControlFlow::Continue(());
                }
                if self.0.table(&ident.value).is_some_and(TableDef::is_versioned) {
                    return ControlFlow::Break(versioned::no_hint(&ident.value, options[0].key_position));
                }
                let variant = self.0.variant(&ident.value, &options);
                alias.get_or_insert_with(|| ast::TableAlias {
                    explicit: true,
                    name: ident.clone(),
                    columns: vec![],
                    at: None,
                });
                *name = ObjectName::from(vec![Ident::with_span(ident.span, variant)]);
                ControlFlow::Continue(())
            }
        }
        match query.visit(&mut Hints(self)) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Pipeline, Error> {
        for (key, table) in [
            ("late", &self.settings.late),
            ("dead-letter", &self.settings.dead_letter),
            ("bad-records", &self.settings.bad_records),
        ] {
            let Some(name) = table else { continue };
            let Some(found) = self.tables.iter_mut().find(|table| table.def.name == *name) else {
                return Err(Error::Unknown {
                    what: "table",
                    name: name.clone(),
                    position: None,
                    help: Some(format!("SET 'side-output.{key}' names a table: declare it with CREATE TABLE")),
                });
            };
            if found.def.is_versioned() {
                return Err(versioned::no_sink(&Name { text: name.clone(), position: found.def.position }));
            }
            found.def.is_sink = true;
        }
        let queries = std::mem::take(&mut self.queries);
        let mut pipeline = self.lowered(&queries)?;
        pipeline.decisions = self.decisions(&mut pipeline.tables, &mut pipeline.values)?;
        for circuit in &pipeline.decisions {
            add_lookups(&mut pipeline.lookups, &circuit.plan);
        }
        pipeline.warnings = self.warnings(&pipeline);
        pipeline.selects = std::mem::take(&mut self.selects);
        pipeline.explains = std::mem::take(&mut self.explains);
        for select in &mut pipeline.selects {
            if let SelectKind::Circuit { output, .. } = &mut select.kind {
                let kind = &queries[*output].kind;
                *output = pipeline.outputs.iter().position(|output| output.kind == *kind).unwrap_or_default();
            }
        }
        Ok(pipeline)
    }

    /// One circuit for these queries.
    fn lowered(&self, queries: &[Planned]) -> Result<Pipeline, Error> {
        let translated = |error: DataFusionError, position| translate(error, &self.catalog, position);
        let mut needs = BTreeMap::new();
        let mut optimised = Vec::with_capacity(queries.len());
        for query in queries {
            let plan = top::ranked(query.plan.clone())
                .and_then(|plan| sessions::filtered(plan, &self.catalog))
                .and_then(|plan| optimise(plan, self.catalog.options(), self.options.rules))
                .map_err(|error| translated(error, query.position))?;
            Needs::gather(&plan, &mut needs).map_err(|error| translated(error, query.position))?;
            optimised.push(plan);
        }
        let mut sources = BTreeMap::new();
        let mut tables: Vec<TableDef> = self.tables.iter().map(|table| table.def.clone()).collect();
        for (table, def) in self.tables.iter().zip(&mut tables) {
            if let Some(needs) = needs.remove(&def.name) {
                def.is_source = true;
                sources.insert(def.name.clone(), table.source(needs, self.settings.idle_timeout_ms)?);
            }
        }
        let mut builder = Builder::new(
            &sources,
            (self.catalog.functions(), self.session.zone),
            self.settings.on_error,
            self.settings.allowed_lateness_ms,
        );
        let mut nodes: Vec<NodeId> = Vec::with_capacity(queries.len());
        for (query, plan) in queries.iter().zip(&optimised) {
            builder.ttl_ms = query.ttl.unwrap_or(self.settings.state.ttl).map(settings::ttl_ms);
            let checked = builder.check_clocks(plan, &query.plan);
            let node = checked.and_then(|()| builder.query(plan, query.emit, query.position));
            nodes.push(node.map_err(|error| translated(error, query.position))?);
        }
        let outputs = add_outputs(&mut builder, queries, &nodes);
        let Builder { plan, facts, values, looked_up, .. } = builder;
        tables.iter_mut().for_each(|table| table.is_looked_up = looked_up.contains(&table.name));
        let outputs = outputs.into_iter().map(|output| with_changelog(output, &plan)).collect();
        let mut lookups = Vec::new();
        add_lookups(&mut lookups, &plan);
        Ok(Pipeline {
            tables,
            values,
            lookups,
            plan,
            outputs,
            selects: Vec::new(),
            decisions: Vec::new(),
            explains: Vec::new(),
            settings: self.settings.clone(),
            session: Arc::clone(&self.session),
            warnings: Vec::new(),
            facts,
        })
    }

    /// What a person should know of a pipeline.
    fn warnings(&self, pipeline: &Pipeline) -> Vec<Warning> {
        let mut warnings = explain::warnings(pipeline);
        let ignored = self.settings.ignored.iter();
        let told = |key: &String| Warning { text: format!("SET '{key}' changes nothing in tidemill"), position: None };
        warnings.extend(ignored.map(told));
        warnings
    }
}

/// Adds the tables that a circuit looks rows up in, each once.
fn add_lookups(lookups: &mut Vec<LookupDef>, plan: &tidemill_circuit::Plan) {
    for node in &plan.nodes {
        let Spec::Lookup(spec) = &node.spec else { continue };
        if !lookups.iter().any(|known| Arc::ptr_eq(&known.cell, &spec.table)) {
            lookups.push(LookupDef { table: spec.table.name().to_string(), cell: Arc::clone(&spec.table) });
        }
    }
}

/// One output for each sink table, view and SELECT.
fn add_outputs(builder: &mut Builder<'_>, queries: &[Planned], nodes: &[NodeId]) -> Vec<OutputDef> {
    let mut outputs: Vec<OutputDef> = Vec::new();
    for (index, query) in queries.iter().enumerate() {
        if outputs.iter().any(|output| output.kind == query.kind) {
            continue;
        }
        let same = queries.iter().zip(nodes).skip(index).filter(|(other, _)| other.kind == query.kind);
        let inputs: Vec<NodeId> = same.map(|(_, node)| *node).collect();
        let name = output_name(&query.kind);
        let unique = match inputs.as_slice() {
            [only] => builder.facts.of(*only).keys.clone(),
            _ => Vec::new(),
        };
        let inferred = unique.iter().min_by_key(|key| key.len()).cloned();
        let key = query.key.clone().or(inferred);
        let node = builder.output(&name, &inputs, key.clone(), query.position);
        outputs.push(OutputDef {
            name,
            node,
            kind: query.kind.clone(),
            schema: Arc::clone(&builder.plan.nodes[node].schema),
            key,
            indexes: query.indexes.clone(),
            unique,
            changelog: Changelog::AppendOnly,
            position: query.position,
        });
    }
    outputs
}

fn output_name(kind: &OutputKind) -> String {
    match kind {
        OutputKind::Sink { table } => table.clone(),
        OutputKind::MaterializedView { name } => name.clone(),
        OutputKind::Select { index } => format!("$select.{index}"),
    }
}

fn with_changelog(mut output: OutputDef, plan: &tidemill_circuit::Plan) -> OutputDef {
    let append_only = plan.append_only();
    let mut node = output.node;
    while !append_only[node] {
        match plan.nodes[node].inputs.iter().find(|input| !append_only[**input]) {
            Some(input) => node = *input,
            None => {
                let operator = match &plan.nodes[node].spec {
                    Spec::Source(source) => format!("Source {}", source.name),
                    _ => plan.nodes[node].title().to_string(),
                };
                output.changelog = Changelog::Updating { operator, position: plan.nodes[node].position };
                break;
            }
        }
    }
    output
}

fn emit(query: &Query) -> Emit {
    if query.emit_changes { Emit::Changes } else { Emit::OnClose }
}

/// Plans a query over a catalog and makes its types fit.
pub(crate) fn planned(query: &ast::Query, catalog: &Catalog, position: Position) -> Result<LogicalPlan, Error> {
    let mut query = query.clone();
    naming::name(&mut query);
    let statement = ast::Statement::Query(Box::new(query));
    let plan = SqlToRel::new(catalog).sql_statement_to_plan(statement.clone());
    if let Some(table) = plan.as_ref().ok().and_then(versioned::scanned) {
        return Err(versioned::no_source(&table, naming::place(&statement, &table).unwrap_or(position)));
    }
    plan.and_then(|plan| check(plan, catalog)).map_err(|error| translate(error, catalog, position))
}

fn renamed(plan: LogicalPlan, columns: &[Name], position: Position) -> Result<LogicalPlan, Error> {
    if columns.is_empty() {
        return Ok(plan);
    }
    let given = plan.schema().fields().len();
    if given != columns.len() {
        return Err(Error::Definition {
            problem: format!("the view names {} columns, and its query gives {given}", columns.len()),
            position,
            help: Some("name as many columns as the query selects".to_string()),
        });
    }
    let fields = plan.schema().columns().into_iter();
    let exprs: Vec<_> = fields
        .zip(columns)
        .map(|(column, name)| datafusion::logical_expr::Expr::Column(column).alias(&name.text))
        .collect();
    let renamed = LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build);
    renamed.map_err(|error| Error::Bug { problem: error.to_string() })
}

fn column_place(schema: &SchemaRef, name: &Name) -> Result<usize, Error> {
    schema.index_of(&name.text).map_err(|_| {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let nearest =
            tidemill_base::suggest::nearest(&name.text, names.clone()).map(|meant| format!("did you mean {meant}?"));
        Error::Unknown {
            what: "column",
            name: name.text.clone(),
            position: Some(name.position),
            help: nearest.or_else(|| Some(format!("its columns are {}", names.collect::<Vec<_>>().join(", ")))),
        }
    })
}

/// The names of the tables that a plan scans.
pub(crate) fn scanned(plan: &LogicalPlan) -> Vec<String> {
    use datafusion::common::tree_node::TreeNodeRecursion;
    let mut names = Vec::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.push(scan.table_name.table().to_string());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names.sort();
    names.dedup();
    names
}

fn reads(plan: &LogicalPlan, name: &str) -> bool {
    scanned(plan).iter().any(|scanned| scanned == name) || lookup::reads(plan, name)
}

fn reads_any(plan: &LogicalPlan) -> bool {
    !scanned(plan).is_empty()
}

//! CREATE ENDPOINT: what a request is, which rows its query may read, and the circuits that answer.
//!
//! A request is a row: of the table named by `'record'`, beside rows that nobody waits for, or of a source of the
//! endpoint's own, which its query reads as `request`. Endpoints of one source share a circuit, which has everything that
//! their queries read and nothing else.

mod options;
pub(crate) mod path;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, TableFactor, VisitMut, VisitorMut};
use tidemill_base::{Position, hash, suggest};
use tidemill_circuit::expr::OnError;

use super::asked::Asked;
use super::table::Table;
use super::translate::translate;
use super::{Planner, optimise, planned, random, rebind, sessions, top};
use crate::error::Error;
use crate::explain;
use crate::functions::{Registry, Session};
use crate::lower::{Builder, Needs, Source, nullable};
use crate::pipeline::{ColumnOrigin, Decisions, EndpointDef, TableDef, ValuesDef};
use crate::statement::{Column, ColumnKind, CreateEndpoint, CreateTable, Name};
use crate::types::{name_of, quoted};

/// The relation of requests that are not recorded.
const REQUEST: &str = "request";

/// An endpoint whose query is planned.
pub(super) struct Endpoint {
    def: EndpointDef,
    plan: LogicalPlan,
    /// Its source, when that is its own.
    own: Option<Table>,
    /// Its statement.
    text: String,
    position: Position,
}

impl Endpoint {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.def.name
    }

    /// What it answers by.
    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// Whether its requests become rows of this table.
    pub(super) fn records(&self, table: &str) -> bool {
        self.def.recorded && self.def.source == table
    }
}

impl Planner {
    pub(super) fn create_endpoint(&mut self, create: &CreateEndpoint, text: &str) -> Result<(), Error> {
        if self.is_taken(&create.name, create.if_not_exists)? {
            return Ok(());
        }
        let said = options::read(create)?;
        let (request, own, source) = match &said.record {
            Some(record) => (self.recorded(create, record)?, None, record.text.clone()),
            None => {
                let own = self.request(create)?;
                let name = own.def.name.clone();
                (Arc::clone(&own.def.schema), Some(own), name)
            }
        };
        let plan = self.endpoint_query(create, own.as_ref())?;
        let position = create.query.position;
        let reads = if own.is_some() { REQUEST } else { source.as_str() };
        path::check(&plan, &source, reads, position)?;
        let fed = said.strict.then(|| path::fed_by(&plan, &source)).flatten();
        if let Some((view, at)) = fed {
            return Err(Error::Unsupported {
                what: format!("'strict' = 'true' refuses to look rows up in {view}, which {source} feeds"),
                position: at.unwrap_or(position),
                help: Some(
                    "the view has the request itself and perhaps others of its step: write OVER, which sees exactly the rows \
                     before it, or remove 'strict'"
                        .to_string(),
                ),
            });
        }
        let answer = nullable(&plan.schema().fields().iter().map(Arc::clone).collect::<Vec<_>>());
        let mut options = said.options;
        if let (Some(text), Some(at)) = (&options.fallback, said.fallback_position) {
            options.fallback = Some(options::fallback(text, &answer, at)?);
        }
        let name = create.name.text.clone();
        let def = EndpointDef {
            output: name.clone(),
            name,
            request,
            source,
            recorded: own.is_none(),
            answer,
            rule: String::new(),
            options,
            position: create.name.position,
        };
        self.endpoints.push(Endpoint { def, plan, own, text: text.to_string(), position });
        Ok(())
    }

    /// The columns of a request that becomes a row of a table.
    fn recorded(&self, create: &CreateEndpoint, record: &Name) -> Result<SchemaRef, Error> {
        let wrong = |problem: String, position, help: String| Error::Definition { problem, position, help: Some(help) };
        let Some(table) = self.table(&record.text) else {
            return match self.kinds.contains_key(&record.text) {
                true => Err(wrong(
                    format!("'record' names {}, which is a view", record.text),
                    record.position,
                    "name a table with 'connector' = 'http', whose rows requests become".to_string(),
                )),
                false => Err(self.no_table(record)),
            };
        };
        if table.option("connector") != Some("http") {
            return Err(wrong(
                format!("requests cannot become rows of {}: its connector is not 'http'", record.text),
                record.position,
                "name a table with 'connector' = 'http', or leave 'record' out and read FROM request".to_string(),
            ));
        }
        let physical: Vec<&Field> =
            table.columns.iter().filter(|column| column.kind == ColumnOrigin::Physical).map(|c| &c.field).collect();
        if create.columns.is_empty() {
            return Ok(Arc::new(Schema::new(physical.into_iter().cloned().collect::<Vec<_>>())));
        }
        let mut fields = Vec::with_capacity(create.columns.len());
        for column in &create.columns {
            let name = &column.name.text;
            let Some(field) = physical.iter().find(|field| field.name() == name) else {
                return Err(self.no_physical(table, &physical, &column.name));
            };
            let declared = column.data_type.to_field(name);
            if !declared.data_type().equals_datatype(field.data_type()) {
                let (one, other) = (name_of(declared.data_type()), name_of(field.data_type()));
                return Err(wrong(
                    format!("{} is {one} here and {other} in {}", quoted(name), record.text),
                    column.name.position,
                    format!("declare it as {other}, or leave the list of columns out"),
                ));
            }
            fields.push((*field).clone());
        }
        let unfilled = physical.iter().find(|field| !field.is_nullable() && !fields.contains(field));
        if let Some(field) = unfilled {
            return Err(wrong(
                format!("{} of {} is NOT NULL, and a request does not have it", quoted(field.name()), record.text),
                create.name.position,
                format!("add {} to the columns of the endpoint, or leave the list out", quoted(field.name())),
            ));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// A column that a request cannot have, because the table's record does not.
    fn no_physical(&self, table: &TableDef, physical: &[&Field], name: &Name) -> Error {
        let names = physical.iter().map(|field| field.name().as_str());
        let computed = table.columns.iter().any(|column| *column.field.name() == name.text);
        let help = match suggest::nearest(&name.text, names.clone()) {
            _ if computed => format!("{} is not part of a record: a request has {}", name.text, joined(names)),
            Some(meant) => format!("did you mean {}?", quoted(meant)),
            None => format!("a record of it has {}", joined(names)),
        };
        Error::Unknown {
            what: "column",
            name: format!("{} in the records of {}", name.text, table.name),
            position: Some(name.position),
            help: Some(help),
        }
    }

    /// The source of requests that are not recorded.
    fn request(&self, create: &CreateEndpoint) -> Result<Table, Error> {
        if create.columns.is_empty() {
            return Err(Error::Definition {
                problem: format!("nothing says what a request of {} has", create.name.text),
                position: create.name.position,
                help: Some(
                    "name its columns: CREATE ENDPOINT score (card STRING, amount DOUBLE) .., or a table WITH ('record' = '..')"
                        .to_string(),
                ),
            });
        }
        let column = |column: &crate::statement::RequestColumn| Column {
            name: column.name.clone(),
            kind: ColumnKind::Physical(column.data_type.clone()),
            comment: None,
        };
        let name = Name { text: format!("{REQUEST}.{}", create.name.text), position: create.name.position };
        let declared = CreateTable {
            name,
            if_not_exists: false,
            temporary: true,
            columns: create.columns.iter().map(column).collect(),
            watermark: None,
            primary_key: None,
            comment: None,
            partitioned_by: vec![],
            options: vec![],
            like: None,
        };
        Table::new(&declared, &self.catalog)
    }

    fn endpoint_query(&mut self, create: &CreateEndpoint, own: Option<&Table>) -> Result<LogicalPlan, Error> {
        let mut ast = create.query.ast.clone();
        self.take_hints(&mut ast)?;
        random::mark(&mut ast, &mut self.sites);
        let position = create.query.position;
        let Some(own) = own else {
            let unrecorded = |error| match error {
                Error::Unknown { what: what @ "table or view", name, position, .. } if name == REQUEST => {
                    let help = Some("with 'record' a request is a row of that table: read FROM it".to_string());
                    Error::Unknown { what, name, position, help }
                }
                other => other,
            };
            return planned(&ast, &self.catalog, position).map_err(unrecorded);
        };
        let named = |with: &ast::With| with.cte_tables.iter().any(|cte| cte.alias.name.value == REQUEST);
        if !ast.with.as_ref().is_some_and(named) {
            let _ = ast.visit(&mut Requests(&own.def.name));
        }
        self.catalog.add_table(&own.def.name, own.def.readable());
        let plan = planned(&ast, &self.catalog, position);
        self.catalog.remove(&own.def.name);
        plan
    }

    /// The circuits of all endpoints, with what they need of the file's rows and tables.
    pub(super) fn decisions(
        &self,
        tables: &mut [TableDef],
        values: &mut Vec<ValuesDef>,
    ) -> Result<Vec<Decisions>, Error> {
        let mut groups: Vec<Vec<&Endpoint>> = Vec::new();
        for endpoint in &self.endpoints {
            match groups.iter_mut().find(|group| group[0].def.source == endpoint.def.source) {
                Some(group) => group.push(endpoint),
                None => groups.push(vec![endpoint]),
            }
        }
        groups.into_iter().map(|group| self.decision(&group, tables, values)).collect()
    }

    fn decision(
        &self,
        group: &[&Endpoint],
        tables: &mut [TableDef],
        values: &mut Vec<ValuesDef>,
    ) -> Result<Decisions, Error> {
        let session = Arc::new(Session { step: Arc::default(), zone: self.session.zone });
        let registry = Registry::new(&session);
        let translated = |error: DataFusionError, position| translate(error, &self.catalog, position);
        let mut needs: BTreeMap<String, Needs> = BTreeMap::new();
        let mut plans = Vec::with_capacity(group.len());
        for endpoint in group {
            let plan = top::ranked(endpoint.plan.clone())
                .and_then(|plan| sessions::filtered(plan, &self.catalog))
                .and_then(|plan| optimise(plan, self.catalog.options(), self.options.rules))
                .and_then(|plan| rebind::plan(plan, &registry))
                .map_err(|error| translated(error, endpoint.position))?;
            // What is left of a query that can never give a row does not read the request.
            path::check(&plan, &endpoint.def.source, &endpoint.def.source, endpoint.position)
                .map_err(|_| never(endpoint))?;
            Needs::gather(&plan, &mut needs).map_err(|error| translated(error, endpoint.position))?;
            plans.push(Asked::placed(plan).map_err(|error| translated(error, endpoint.position))?);
        }
        if let Some(of_request) = needs.get_mut(&group[0].def.source) {
            (of_request.origin, of_request.asked) = (true, true);
        }
        let sources = self.sources_of(group, needs, tables, &registry)?;
        let on_error = match self.settings.on_error {
            // One bad request must not stop those that follow it.
            OnError::Stop => OnError::DeadLetter,
            other => other,
        };
        let bound = (&registry, self.session.zone);
        let builder = Builder::new(&sources, bound, on_error, self.settings.allowed_lateness_ms);
        let mut builder = builder.with_values_before(values.len());
        builder.ttl_ms = self.settings.state.ttl.map(super::settings::ttl_ms);
        let mut endpoints: Vec<EndpointDef> = Vec::with_capacity(group.len());
        for (endpoint, plan) in group.iter().zip(&plans) {
            let node =
                builder.answers(plan, endpoint.position).map_err(|error| translated(error, endpoint.position))?;
            builder.output(&endpoint.def.output, &[node], None, endpoint.position);
            endpoints.push(endpoint.def.clone());
        }
        let Builder { plan, facts, values: own, looked_up, .. } = builder;
        tables.iter_mut().for_each(|table| table.is_looked_up |= looked_up.contains(&table.name));
        values.extend(own);
        let name = group[0].def.source.clone();
        let mut decisions = Decisions { name, plan, endpoints, session, facts };
        for (index, endpoint) in group.iter().enumerate() {
            let told = format!("{}\n{}", endpoint.text, explain::rule(&decisions, &endpoint.def.output));
            decisions.endpoints[index].rule = format!("{:016x}", hash::bytes(told.as_bytes()));
        }
        Ok(decisions)
    }

    /// The sources that a circuit of endpoints reads, with the functions of its own session.
    fn sources_of(
        &self,
        group: &[&Endpoint],
        mut needs: BTreeMap<String, Needs>,
        tables: &mut [TableDef],
        registry: &Registry,
    ) -> Result<BTreeMap<String, Source>, Error> {
        let mut sources = BTreeMap::new();
        for (table, def) in self.tables.iter().zip(tables.iter_mut()) {
            if let Some(needs) = needs.remove(&def.name) {
                def.is_source = true;
                sources.insert(def.name.clone(), table.source(needs, self.settings.idle_timeout_ms)?);
            }
        }
        for own in group.iter().filter_map(|endpoint| endpoint.own.as_ref()) {
            if let Some(needs) = needs.remove(&own.def.name) {
                sources.insert(own.def.name.clone(), own.source(needs, None)?);
            }
        }
        for source in sources.values_mut() {
            let position = source.position;
            source.rebind(registry).map_err(|error| translate(error, &self.catalog, position))?;
        }
        Ok(sources)
    }
}

fn joined<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn never(endpoint: &Endpoint) -> Error {
    Error::Plan {
        problem: format!("the query of {} never gives a row", endpoint.def.name),
        position: Some(endpoint.position),
        help: Some("its conditions cannot be true together".to_string()),
    }
}

/// Gives `request` in FROM the name of the endpoint's own source.
struct Requests<'s>(&'s str);

impl VisitorMut for Requests<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let [part] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let Some(ident) = part.as_ident().filter(|ident| ident.value == REQUEST).cloned() else {
            return ControlFlow::Continue(());
        };
        *name = ObjectName::from(vec![Ident::with_span(ident.span, self.0)]);
        alias.get_or_insert_with(|| ast::TableAlias { explicit: true, name: ident, columns: vec![], at: None });
        ControlFlow::Continue(())
    }
}

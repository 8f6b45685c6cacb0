//! The tables of a pipeline: their options understood, their sources opened, their sinks able to take what comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Schema, SchemaRef};
use tidemill_base::options;
use tidemill_circuit::decode::Decoders;
use tidemill_circuit::plan::{SourceSpec, Spec};
use tidemill_connect::{Connector, Delivery, Source, Table, Takes};
use tidemill_format::{Format, JsonOptions};
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::{Changelog, ColumnOrigin, EndpointDef, OutputDef, OutputKind, TableDef};

use crate::error::Error;
use crate::part::Part;
use crate::values::Values;

/// A table that rows come from.
pub(crate) struct TableSource {
    /// Its name.
    pub(crate) name: String,
    /// Where the rows come from.
    pub(crate) source: Box<dyn Source>,
    /// Whether its rows cannot be read again.
    pub(crate) is_fleeting: bool,
    /// After which silence a partition stops holding the watermark.
    pub(crate) idle_timeout: Option<Duration>,
    /// The columns that its blocks are decoded to.
    pub(crate) decoded: SchemaRef,
    /// The format of an inbox.
    pub(crate) format: Option<Format>,
}

/// The tables of a pipeline, their options understood.
pub(crate) struct Tables {
    /// The sources, in the order of the plan.
    pub(crate) sources: Vec<TableSource>,
    /// All connectors, by their tables' names.
    pub(crate) connectors: BTreeMap<String, Connector>,
}

impl Tables {
    /// Understands all options and opens the sources of a circuit.
    pub(crate) fn of(pipeline: &Pipeline, part: &Part) -> Result<Tables, Error> {
        let connectors = connectors(pipeline)?;
        check_outputs(pipeline, &connectors)?;
        let sources = sources(pipeline, part, &connectors)?;
        Ok(Tables { sources, connectors })
    }

    /// The sources whose events are nowhere but in the pipeline's journal.
    pub(crate) fn journaled(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter(|table| table.source.is_journaled()).map(|table| table.name.as_str())
    }

    /// The decoders of the sources that take bytes.
    pub(crate) fn decoders(&self) -> Decoders {
        self.sources.iter().filter_map(|table| Some((table.name.clone(), table.source.decoder()?))).collect()
    }

    /// Checks that every source can go on where an earlier run stopped.
    pub(crate) fn check_resumable(&self, pipeline: &Pipeline) -> Result<(), Error> {
        for table in &self.sources {
            let (Some(connector), Some(def)) = (self.connectors.get(&table.name), pipeline.table(&table.name)) else {
                continue;
            };
            if let Err(what) = connector.check_resumable() {
                let error = tidemill_connect::Error::NotResumable { table: table.name.clone(), what };
                return Err(placed(error, def));
            }
        }
        Ok(())
    }
}

/// Checks the options of every table, and that every sink can take the rows that go there, without opening anything.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(pipeline: &Pipeline) -> Result<(), Error> {
    check_outputs(pipeline, &connectors(pipeline)?)
}

/// How often a row arrives at each table that is written, when the pipeline keeps state.
///
/// # Errors
/// When an option of a table is wrong.
pub fn deliveries(pipeline: &Pipeline) -> Result<BTreeMap<String, Delivery>, Error> {
    let written = connectors(pipeline)?
        .into_iter()
        .filter(|(name, connector)| connector.is_sink() && pipeline.table(name).is_some_and(|table| table.is_sink));
    Ok(written.map(|(name, connector)| (name, connector.delivery())).collect())
}

fn connectors(pipeline: &Pipeline) -> Result<BTreeMap<String, Connector>, Error> {
    // Versioned tables have no rows that come and go: nothing connects to them.
    let connected = pipeline.tables.iter().filter(|table| !table.is_versioned());
    connected.map(|table| Ok((table.name.clone(), connector(table)?))).collect()
}

/// Checks that rows are taken back only where a sink can be told of it.
fn check_outputs(pipeline: &Pipeline, connectors: &BTreeMap<String, Connector>) -> Result<(), Error> {
    for output in &pipeline.outputs {
        let OutputKind::Sink { table } = &output.kind else { continue };
        let Changelog::Updating { operator, position } = &output.changelog else { continue };
        let (Some(connector), Some(def)) = (connectors.get(table), pipeline.table(table)) else { continue };
        if !connector.is_sink() {
            continue;
        }
        match connector.takes() {
            Takes::Changes => {}
            Takes::Upserts => check_upserts(output, def)?,
            Takes::Inserts => {
                let (table, operator) = (table.clone(), operator.clone());
                return Err(Error::Retraction { table, operator, position: position.or(Some(output.position)) });
            }
        }
        connector.check_updates().map_err(|error| placed(error, def))?;
    }
    Ok(())
}

/// Checks that a table which knows rows by its key is never told of two rows of one key.
fn check_upserts(output: &OutputDef, def: &TableDef) -> Result<(), Error> {
    let columns = def.writable();
    let key: Vec<usize> = def.primary_key.iter().filter_map(|name| columns.index_of(name).ok()).collect();
    if output.unique.iter().any(|unique| unique.iter().all(|column| key.contains(column))) {
        return Ok(());
    }
    let names = |key: &Vec<usize>| {
        let names = key.iter().map(|column| columns.field(*column).name().as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    Err(Error::Upserts {
        table: def.name.clone(),
        key: def.primary_key.join(", "),
        unique: output.unique.iter().min_by_key(|unique| unique.len()).map(names),
        position: output.position,
    })
}

/// Understands the options of a table.
fn connector(def: &TableDef) -> Result<Connector, Error> {
    let physical = def.columns.iter().filter(|column| column.kind == ColumnOrigin::Physical);
    let table = Table {
        name: def.name.clone(),
        columns: Arc::new(Schema::new(physical.map(|column| column.field.clone()).collect::<Vec<_>>())),
        partitioned_by: def.partitioned_by.clone(),
        options: def.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect(),
    };
    let connector = Connector::new(table).map_err(|error| placed(error, def))?;
    Ok(connector.keyed_by(def.primary_key.clone()))
}

/// An error with the place of the option, or the table, that it is about.
pub(crate) fn placed(error: tidemill_connect::Error, def: &TableDef) -> Error {
    let option = error.option().and_then(|key| def.options.iter().find(|option| option.key == key));
    let position = option.map_or(def.position, |option| option.position);
    Error::Connect { error: Box::new(error), position: Some(position) }
}

/// Opens the sources of a circuit's plan, in its order.
fn sources(
    pipeline: &Pipeline,
    part: &Part,
    connectors: &BTreeMap<String, Connector>,
) -> Result<Vec<TableSource>, Error> {
    let mut sources = Vec::new();
    for node in &part.plan.nodes {
        let Spec::Source(spec) = &node.spec else { continue };
        let idle_timeout = spec.watermark.as_ref().and_then(|watermark| watermark.idle_timeout_ms);
        let idle_timeout = idle_timeout.or(pipeline.settings.idle_timeout_ms).map(Duration::from_millis);
        let (source, is_fleeting, format) = source(pipeline, part, connectors, spec)?;
        let decoded = spec.decoded.clone();
        sources.push(TableSource { name: spec.name.clone(), source, is_fleeting, idle_timeout, decoded, format });
    }
    Ok(sources)
}

/// A source, whether its rows cannot be read again, and the format of an inbox.
type Opened = (Box<dyn Source>, bool, Option<Format>);

/// Opens a source: rows of the file itself, an endpoint's requests, or a table.
fn source(
    pipeline: &Pipeline,
    part: &Part,
    connectors: &BTreeMap<String, Connector>,
    spec: &SourceSpec,
) -> Result<Opened, Error> {
    if let Some(values) = pipeline.values.iter().find(|values| values.source == spec.name) {
        return Ok((Box::new(Values::new(values.rows.clone())), false, None));
    }
    let own = part.endpoints.iter().find(|endpoint| !endpoint.recorded && endpoint.source == spec.name);
    if let Some(endpoint) = own {
        let source = requests(endpoint)?.source(spec.decoded.clone())?;
        return Ok((source, true, Some(Format::Json(JsonOptions::default()))));
    }
    let (Some(connector), Some(def)) = (connectors.get(&spec.name), pipeline.table(&spec.name)) else {
        let problem = format!("the plan reads '{}', which no table is", spec.name);
        return Err(tidemill_circuit::Error::broken("the planner", problem).into());
    };
    let source = connector.source(spec.decoded.clone()).map_err(|error| placed(error, def))?;
    Ok((source, matches!(connector.name(), "stdin" | "http" | "ring"), inbox_format(def)))
}

/// The connector of requests that are no table's rows.
fn requests(endpoint: &EndpointDef) -> Result<Connector, Error> {
    let table = Table {
        name: endpoint.source.clone(),
        columns: endpoint.request.clone(),
        partitioned_by: Vec::new(),
        options: vec![("connector".to_string(), "http".to_string())],
    };
    Ok(Connector::new(table)?)
}

/// The format of an inbox; none when it has an unknown one, which its connector has refused before.
fn inbox_format(def: &TableDef) -> Option<Format> {
    let pairs = def.options.iter().map(|option| (option.key.clone(), option.value.clone()));
    let mut options = options::Options::new(format!("table '{}'", def.name), pairs);
    let name = options.take("format").unwrap_or_else(|| "json".to_string());
    Format::named(&name, &mut options).ok().flatten()
}

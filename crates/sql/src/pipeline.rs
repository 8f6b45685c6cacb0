//! [`Pipeline`]: everything one SQL file asks for, planned: tables, one circuit, what leaves it, how answers are printed.
//!
//! Connector options are carried as they were written; whoever runs the pipeline hands them to the connectors. No type
//! of the SQL library shows here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Field, SchemaRef};
use tidemill_base::Position;
use tidemill_circuit::Plan;
use tidemill_circuit::expr::OnError;
use tidemill_circuit::lookup::LookupTable;
use tidemill_circuit::plan::NodeId;

use crate::batch::ViewQuery;
use crate::functions::Session;
use crate::plan::tail::Tail;

/// The connector of versioned tables.
pub const VERSIONED: &str = "versioned";

/// Everything a pipeline file asks for.
#[derive(Debug)]
pub struct Pipeline {
    /// The tables, in the order of the file.
    pub tables: Vec<TableDef>,
    /// Rows that stand in the file itself (`VALUES`, a SELECT without FROM): sources that the shell feeds at once.
    pub values: Vec<ValuesDef>,
    /// One circuit for every INSERT, materialised view and bare SELECT; sources and equal parts are shared.
    pub plan: Plan,
    /// The versioned tables that rows are looked up in: whoever runs the pipeline fills them before the first step.
    pub lookups: Vec<LookupDef>,
    /// What each output node of the circuit is.
    pub outputs: Vec<OutputDef>,
    /// The bare SELECT statements, in the order of the file.
    pub selects: Vec<SelectDef>,
    /// The circuits of the endpoints, apart from everything else: nothing that an endpoint does not read can delay it.
    pub decisions: Vec<Decisions>,
    /// What EXPLAIN statements asked for.
    pub explains: Vec<ExplainDef>,
    /// What SET statements said.
    pub settings: Settings,
    /// Clock, seed and zone of the pipeline's functions; the driver sets its step cell before each step.
    pub session: Arc<Session>,
    /// What a person should know: state without bound, settings that mean nothing here.
    pub warnings: Vec<Warning>,
    /// For each node of the plan where its columns' time comes from and what makes rows unique.
    pub(crate) facts: crate::lower::Facts,
}

/// A circuit that answers requests: endpoints that read the same sources share one.
#[derive(Debug)]
pub struct Decisions {
    /// What it is called in state folders and reports: the name of the source that takes the requests, the table of
    /// `'record'` or `request.ENDPOINT`.
    pub name: String,
    /// The circuit. An output node stands for each endpoint.
    pub plan: Plan,
    /// The endpoints.
    pub endpoints: Vec<EndpointDef>,
    /// Clock, seed and zone of the circuit's functions; the driver sets its step cell before each step.
    pub session: Arc<Session>,
    pub(crate) facts: crate::lower::Facts,
}

/// The column that says of each row of a source whether somebody waits for its answer: it follows the decoded columns of a
/// source into which an endpoint's requests go, and is filled in by the door.
pub const ASKED: &str = "$asked";

/// An endpoint declared by CREATE ENDPOINT: a request is a row, and its answer the rows that the query gives for it.
#[derive(Debug, Clone)]
pub struct EndpointDef {
    /// Its name.
    pub name: String,
    /// The columns of a request, as they are decoded from its body.
    pub request: SchemaRef,
    /// The source of the plan whose rows requests become.
    pub source: String,
    /// Whether that source is a table of the file, which has other rows too and other readers; else it is the endpoint's own.
    pub recorded: bool,
    /// The name of its output node. The node's schema is the answer's columns and then `$origin`.
    pub output: String,
    /// The columns of an answer.
    pub answer: SchemaRef,
    /// What names the rule that answered: the same for the same statement over the same declarations.
    pub rule: String,
    /// How it behaves.
    pub options: EndpointOptions,
    /// Where it is declared.
    pub position: Position,
}

/// What WITH says of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointOptions {
    /// How long a request waits for its answer before the fallback is its answer.
    pub deadline: Duration,
    /// The answer when there is none in time: a JSON object with the answer's columns. None answers an error instead.
    pub fallback: Option<String>,
    /// What a request survives before it is answered, unless it says otherwise: `process` or `flushed`.
    pub durability: Option<String>,
    /// Whether a request that finds too many others waiting gets the fallback instead of a refusal.
    pub sheds_to_fallback: bool,
    /// The most requests that wait at once.
    pub waiting_max: usize,
    /// How far the circuit may be behind its sources, in work, before requests are refused.
    pub lag_max: Duration,
    /// How long the answer to a request with an idempotency key is kept.
    pub idempotency_window: Duration,
    /// How many bytes of such answers are kept.
    pub idempotency_bytes: u64,
}

/// A sentence for the person at the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is so.
    pub text: String,
    /// Where.
    pub position: Option<Position>,
}

/// A table declared by CREATE TABLE.
#[derive(Debug, Clone)]
pub struct TableDef {
    /// Its name.
    pub name: String,
    /// All its columns, in order.
    pub columns: Vec<ColumnDef>,
    /// The columns that rows are decoded to and encoded from: physical ones, then metadata.
    pub schema: SchemaRef,
    /// The columns that identify a row, when declared.
    pub primary_key: Vec<String>,
    /// The columns that name folders or partitions.
    pub partitioned_by: Vec<String>,
    /// What stands in WITH, and in hints.
    pub options: Vec<OptionDef>,
    /// The time column, and the watermark as written, when declared.
    pub watermark: Option<(String, String)>,
    /// Whether the pipeline reads it.
    pub is_source: bool,
    /// Whether the pipeline writes it.
    pub is_sink: bool,
    /// Whether rows of other tables are looked up in it as it stands when they come; then it has to be there before them.
    pub is_looked_up: bool,
    /// Where its name stands.
    pub position: Position,
}

/// An option as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionDef {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Where the key stands.
    pub position: Position,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Name, type and whether it may be null.
    pub field: Field,
    /// Where its values come from.
    pub kind: ColumnOrigin,
}

/// Where the values of a column come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnOrigin {
    /// The record.
    Physical,
    /// What the connector knows of the record under this key; `writable` when sinks take it.
    Metadata {
        /// The connector's name for it.
        key: String,
        /// Whether a sink takes it.
        writable: bool,
    },
    /// An expression over the other columns, as printed.
    Computed(String),
}

/// Rows that stand in the file.
#[derive(Debug, Clone)]
pub struct ValuesDef {
    /// The name of the source in the plan.
    pub source: String,
    /// The rows, with the source's decoded columns.
    pub rows: RecordBatch,
}

/// A versioned table that rows are looked up in.
#[derive(Debug, Clone)]
pub struct LookupDef {
    /// The table's name in [`Pipeline::tables`].
    pub table: String,
    /// Where the circuit reads its rows: the table's columns in the order of their declaration.
    pub cell: Arc<LookupTable>,
}

/// Rows that leave the circuit.
#[derive(Debug, Clone)]
pub struct OutputDef {
    /// The name of the output in the plan.
    pub name: String,
    /// The output node.
    pub node: NodeId,
    /// What becomes of the rows.
    pub kind: OutputKind,
    /// The columns.
    pub schema: SchemaRef,
    /// The columns that identify a row, when any do.
    pub key: Option<Vec<usize>>,
    /// What the rows of a materialised view are found by besides its key.
    pub indexes: Vec<IndexDef>,
    /// All sets of columns that are known to identify a row, whatever a table declares.
    pub unique: Vec<Vec<usize>>,
    /// Whether no row is ever taken back; else the first operator that takes rows back is named.
    pub changelog: Changelog,
    /// Where the statement stands.
    pub position: Position,
}

/// An index of a materialised view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDef {
    /// Its name.
    pub name: String,
    /// The columns of the view.
    pub columns: Vec<usize>,
}

/// What becomes of an output's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// They go to a table.
    Sink {
        /// The table.
        table: String,
    },
    /// They are kept, to be read.
    MaterializedView {
        /// The view.
        name: String,
    },
    /// They are kept for the bare SELECT of this index.
    Select {
        /// The index in [`Pipeline::selects`].
        index: usize,
    },
}

/// Whether rows are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changelog {
    /// Rows only come.
    AppendOnly,
    /// Rows come and go; this operator is the first to take one back.
    Updating {
        /// The operator, as `explain` names it.
        operator: String,
        /// Where the query asks for it.
        position: Option<Position>,
    },
}

/// A bare SELECT.
#[derive(Debug)]
pub struct SelectDef {
    /// Its text.
    pub text: String,
    /// Where it stands.
    pub position: Position,
    /// The columns of the answer.
    pub schema: SchemaRef,
    /// How the answer is had.
    pub kind: SelectKind,
}

/// How the answer of a bare SELECT is had.
#[derive(Debug)]
pub enum SelectKind {
    /// From the integral of an output, through ORDER BY, LIMIT and what is above them.
    Circuit {
        /// The index in [`Pipeline::outputs`].
        output: usize,
        /// What is done with its rows at the end.
        tail: Tail,
    },
    /// In batch, over materialised views at one step.
    Views(ViewQuery),
}

/// An EXPLAIN statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainDef {
    /// The statement that is explained.
    pub text: String,
    /// Where it stands.
    pub position: Position,
    /// The explanation.
    pub plan: String,
}

/// What SET statements said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `'on-error'`: what becomes of a row on which an expression fails.
    pub on_error: OnError,
    /// `'lanes'` or `'parallelism.default'`.
    pub lanes: Option<usize>,
    /// `'seed'` of RAND and UUID.
    pub seed: Option<u64>,
    /// `'pipeline.name'`.
    pub name: Option<String>,
    /// `'side-output.late'`: the table that gets rows that came too late.
    pub late: Option<String>,
    /// `'side-output.dead-letter'`: the table that gets rows on which an expression failed.
    pub dead_letter: Option<String>,
    /// `'side-output.bad-records'`: the table that gets records that could not be decoded.
    pub bad_records: Option<String>,
    /// `'http.listen'`: where the HTTP door listens, as written.
    pub listen: Option<String>,
    /// `'allowed-lateness'` of windows, in milliseconds.
    pub allowed_lateness_ms: i64,
    /// `'table.exec.source.idle-timeout'`, in milliseconds.
    pub idle_timeout_ms: Option<u64>,
    /// `'table.local-time-zone'`, as written.
    pub time_zone: Option<String>,
    /// What SET statements said of the pipeline's state.
    pub state: StateSettings,
    /// Settings of Flink's that change nothing here.
    pub ignored: Vec<String>,
}

/// What SET statements said of the pipeline's state; what was not said is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateSettings {
    /// `'state.path'`: the folder that state is kept in, or `none`.
    pub path: Option<String>,
    /// `'state.store'`: where snapshots are kept when not in that folder, such as `s3://bucket/folder`.
    pub store: Option<String>,
    /// `'state.s3.endpoint'` and so on: how buckets are reached, by the keys after `state.`; what is not said is taken from
    /// the environment.
    pub s3: BTreeMap<String, String>,
    /// `'state.ttl'`: after which time without a change entries of state are forgotten that nothing else bounds.
    pub ttl: Option<Duration>,
    /// `'state.memory'`: the most bytes of state that operators and views hold.
    pub memory: Option<u64>,
    /// `'state.durability'`: what events survive once they are acknowledged, `process` or `flushed`.
    pub durability: Option<String>,
    /// `'state.snapshot-interval'`: the longest time between snapshots while anything changes.
    pub snapshot_interval: Option<Duration>,
    /// `'state.snapshot-size'`: the most bytes of input between snapshots.
    pub snapshot_bytes: Option<u64>,
    /// `'journal.retain-time'`: how long input stays though a snapshot covers it.
    pub journal_retain_time: Option<Duration>,
    /// `'journal.retain-size'`: how much input stays at most though a snapshot covers it.
    pub journal_retain_bytes: Option<u64>,
    /// `'journal.quota'`: the most bytes that the journal takes on the disk.
    pub journal_quota: Option<u64>,
    /// `'journal.segment-size'`: the bytes of a file of the journal.
    pub journal_segment_bytes: Option<u64>,
}

impl Pipeline {
    /// The table of this name.
    pub fn table(&self, name: &str) -> Option<&TableDef> {
        self.tables.iter().find(|table| table.name == name)
    }
}

impl TableDef {
    /// An option's value.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|option| option.key == key).map(|option| option.value.as_str())
    }

    /// The columns that a query may name.
    pub(crate) fn readable(&self) -> SchemaRef {
        Arc::new(arrow_schema::Schema::new(self.columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
    }

    /// The columns that INSERT fills.
    pub fn writable(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .filter(|column| match &column.kind {
                ColumnOrigin::Physical => true,
                ColumnOrigin::Metadata { writable, .. } => *writable,
                ColumnOrigin::Computed(_) => false,
            })
            .map(|column| column.field.clone())
            .collect();
        Arc::new(arrow_schema::Schema::new(fields))
    }

    /// Whether it is a versioned table: edited with `tidemill table`, and looked up in by queries.
    pub fn is_versioned(&self) -> bool {
        self.option("connector") == Some(VERSIONED)
    }

    /// Whether its connector can take rows back.
    pub(crate) fn updates(&self) -> bool {
        let format = self.option("format").or_else(|| self.option("value.format")).unwrap_or_default();
        matches!(format, "debezium-json" | "canal-json" | "maxwell-json" | "ogg-json")
            || self.option("connector").is_some_and(|connector| connector.starts_with("upsert"))
            || self.option("changelog") == Some("true")
    }
}

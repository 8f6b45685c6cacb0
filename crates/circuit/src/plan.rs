//! [`Plan`]: what a query asks for, as nodes over columns, before lanes and operators are chosen.
//!
//! The SQL crate writes plans and [`crate::graph`] turns them into operators. A plan names columns by index and carries
//! expressions as [`Expr`], so it knows nothing of SQL; `explain` and fingerprints read nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use tidemill_base::Position;

use crate::expr::{Expr, OnError};
use crate::lookup::LookupTable;

pub mod join;
pub mod over;
pub mod rank;

pub use join::{Expiry, JoinKind, JoinNulls, JoinSpec, SetOperation, SetSpec, TemporalJoinSpec, VersionsSpec};
pub use over::{FrameBound, FrameUnits, OverChangesSpec, OverFrame, OverFunction, Reach};
pub use rank::{OrderBy, RankFunction, RankSpec};

/// The index of a node in its plan.
pub type NodeId = usize;

/// A dataflow: nodes in topological order, inputs before those who read them.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The nodes; a node's inputs have smaller indices.
    pub nodes: Vec<Node>,
    /// After how many milliseconds of processing time without a change nodes forget an entry of their state, for those that
    /// were asked to. What was said of it stays said; when a row of it comes again it begins anew.
    pub ttls: BTreeMap<NodeId, i64>,
}

/// One node of a plan.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it does.
    pub spec: Spec,
    /// Where its rows come from.
    pub inputs: Vec<NodeId>,
    /// The columns of its output.
    pub schema: SchemaRef,
    /// Where the query asks for it.
    pub position: Option<Position>,
    /// What to do with a row on which one of its expressions fails.
    pub on_error: OnError,
}

/// What a node does.
#[derive(Debug, Clone)]
pub enum Spec {
    /// Takes the rows of a table in.
    Source(SourceSpec),
    /// Keeps the rows for which the expression is true.
    Filter(Expr),
    /// Computes one column an expression.
    Project(Vec<Expr>),
    /// Makes one row of each element of a list or map column.
    Unnest(UnnestSpec),
    /// Looks rows up in a versioned table.
    Lookup(LookupSpec),
    /// Looks rows up in a view that the same circuit keeps.
    ViewLookup(ViewLookupSpec),
    /// Adds to each row what is computed over the rows of its key before it, and itself (`OVER`).
    Over(OverSpec),
    /// Adds to each row what is computed over the rows of its key, and follows their changes (`OVER`).
    OverChanges(OverChangesSpec),
    /// Pairs the rows of two inputs.
    Join(JoinSpec),
    /// Pairs each row of an input with the row of another that was valid at its time.
    TemporalJoin(TemporalJoinSpec),
    /// Makes versions of the changes of a table.
    Versions(VersionsSpec),
    /// The rows of both inputs, or of the first one alone.
    SetOperation(SetSpec),
    /// Keeps the first rows of each key.
    Rank(RankSpec),
    /// All rows of all inputs.
    Union,
    /// Gives its rows on as they are, with a watermark that is behind.
    Delay(DelaySpec),
    /// Adds `window_start`, `window_end`, `window_time` to each row, once for each window the row is in.
    AssignWindow(AssignSpec),
    /// Groups rows and aggregates each group; without calls it is DISTINCT.
    Aggregate(AggregateSpec),
    /// Hands the rows out of the circuit.
    Output(OutputSpec),
}

/// A table whose rows come in from outside.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The table's name; the shell finds the connector by it.
    pub name: String,
    /// The columns that the decoder has to yield, by name and type.
    pub decoded: SchemaRef,
    /// Whether a column `$origin` (UInt64: partition << 40 | row in partition) follows the decoded ones.
    pub origin: bool,
    /// The columns of the node from the decoded ones (and `$origin`); none when they are the same.
    pub computed: Option<Vec<Expr>>,
    /// How the event time of the table moves on.
    pub watermark: Option<WatermarkSpec>,
    /// Whether no row is ever taken back.
    pub append_only: bool,
}

/// `WATERMARK FOR time AS bound`.
#[derive(Debug, Clone)]
pub struct WatermarkSpec {
    /// The column of event time, in the node's schema.
    pub time: usize,
    /// The least event time still to come, as each row tells it.
    pub bound: Expr,
    /// After how many milliseconds a silent partition stops holding the watermark back.
    pub idle_timeout_ms: Option<u64>,
}

/// `CROSS JOIN UNNEST(column)`.
#[derive(Debug, Clone)]
pub struct UnnestSpec {
    /// The list or map column. The node's schema is the input's columns and then the element's.
    pub column: usize,
    /// Whether a row with no element stays, with nulls (`LEFT JOIN UNNEST .. ON TRUE`).
    pub outer: bool,
    /// Whether the element's number (from 1) follows as a last column.
    pub ordinality: bool,
}

/// `JOIN table FOR SYSTEM_TIME AS OF proctime ON ..`, with a versioned table.
///
/// The node's schema is the input's columns, then `columns` of the table, then the version.
#[derive(Debug, Clone)]
pub struct LookupSpec {
    /// The table.
    pub table: Arc<LookupTable>,
    /// The columns of the input that equal columns of the table, with their types.
    pub keys: Vec<usize>,
    /// These columns of the table: its key, of which there is one row, or others, of which every row is found.
    pub table_keys: Vec<usize>,
    /// The columns of the table that follow those of the input.
    pub columns: Vec<usize>,
    /// Whether the version that was read follows as a last column.
    pub version: bool,
    /// What has to be true besides, over the node's own columns.
    pub residual: Option<Expr>,
    /// Whether a row for which nothing is found stays, with nulls.
    pub outer: bool,
}

/// `JOIN view FOR SYSTEM_TIME AS OF proctime ON ..`, with a view that the same circuit keeps.
///
/// The node has two inputs: the rows, which are never taken back and not kept, and the view's rows, which are kept. All rows
/// of a step are answered from the view as it stands after that step. The node's schema is the columns of the rows, then
/// `columns` of the view.
#[derive(Debug, Clone)]
pub struct ViewLookupSpec {
    /// The columns of the rows that equal columns of the view, with their types.
    pub keys: Vec<usize>,
    /// These columns of the view.
    pub view_keys: Vec<usize>,
    /// Whether they make a row of the view unique. Otherwise a row comes out once for each that is found.
    pub unique: bool,
    /// The columns of the view that follow those of the rows.
    pub columns: Vec<usize>,
    /// What has to be true besides, over the node's own columns.
    pub residual: Option<Expr>,
    /// Whether a row for which nothing is found stays, with nulls.
    pub outer: bool,
}

/// `function(..) OVER (PARTITION BY .. ORDER BY .. frame)`: several calls over one window.
///
/// The input is never taken back. The node's schema is the input's columns and then one column a call.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// The columns of `PARTITION BY`; none makes one partition.
    pub keys: Vec<usize>,
    /// The column of time in `ORDER BY`; none orders rows by their arrival. A `RANGE` with a bound or a unit needs one.
    pub order: Option<usize>,
    /// Whether that is event time, which the watermark bounds from below, or the processing time of the row's own step.
    pub domain: TimeDomain,
    /// The column of `$origin`, by which rows of one step (and of one time) are put in the order of their arrival; without
    /// it they are taken as they stand, which with several lanes depends on the lanes.
    pub origin: Option<usize>,
    /// When a row is answered, and so which rows are before it.
    pub turn: OverTurn,
    /// The rows that each row sees.
    pub frame: Frame,
    /// What is computed.
    pub calls: Vec<OverCall>,
}

impl OverSpec {
    /// The rows under a partial result, and the partial results under one above.
    pub const RUN: u64 = 16;
}

/// When `OVER` answers a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverTurn {
    /// At once: it sees the rows of its frame that came before it, and itself; rows in the order (source, partition, offset).
    /// A row below the watermark of its partition counts as if its time were that watermark.
    Arrival,
    /// When the watermark is above its time, in the order of times (and of arrival within a time): it sees all rows of its
    /// frame. Rows below the watermark of their partition are late and get no answer. Event time only.
    Watermark,
}

/// The rows of a key that a row sees; all frames end with the row itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// This many rows before it, or all, and itself.
    Rows {
        /// How many; none means all.
        preceding: Option<u64>,
    },
    /// The rows whose time is at most this much less than its own, or any less, and not more: peers included.
    Range {
        /// Milliseconds; none means all.
        preceding_ms: Option<i64>,
        /// The unit to which the time is truncated before rows are compared, in milliseconds: with it a key keeps one partial
        /// result a unit instead of rows.
        unit_ms: Option<i64>,
    },
}

/// One function of `OVER`.
#[derive(Debug, Clone)]
pub enum OverCall {
    /// An aggregate over the frame.
    Aggregate(AggregateCall),
    /// The number of the row among all rows of its key so far, from 1.
    RowNumber,
    /// The value of a column `offset` rows before, whatever the frame; `default` when there is none.
    Lag {
        /// The column.
        column: usize,
        /// How many rows before, at least 1.
        offset: u64,
        /// The column of the value when there is no such row; none means null.
        default: Option<usize>,
    },
}

/// How event time is cut into windows; all in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// One window after another.
    Tumble {
        /// The length of a window.
        size: i64,
        /// What the windows' starts are shifted by.
        offset: i64,
    },
    /// Windows of `size` that start every `slide`; `size` is a multiple of `slide`.
    Hop {
        /// The distance of two starts.
        slide: i64,
        /// The length of a window.
        size: i64,
        /// What the windows' starts are shifted by.
        offset: i64,
    },
    /// Windows that start together every `max` and end every `step`; `max` is a multiple of `step`.
    Cumulate {
        /// By how much each window is longer than the one before.
        step: i64,
        /// The length of the longest window.
        max: i64,
        /// What the windows' starts are shifted by.
        offset: i64,
    },
    /// Windows that end when a key has been silent for `gap`.
    Session {
        /// The silence that ends a session.
        gap: i64,
    },
}

/// What moves a window on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeDomain {
    /// The watermark.
    Event,
    /// The `now` of the step.
    Processing,
}

/// A window table function whose rows are not aggregated right away. Never a session.
#[derive(Debug, Clone)]
pub struct AssignSpec {
    /// The column of time.
    pub time: usize,
    /// The windows.
    pub window: Window,
    /// What moves them on.
    pub domain: TimeDomain,
}

/// Rows whose times may be below the watermark by so much, such as those of a join that keeps rows for a while.
///
/// What reads the node sees a watermark that is so much less, so that windows over the rows' times wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelaySpec {
    /// Milliseconds.
    pub behind_ms: i64,
}

/// `GROUP BY`.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// The grouping columns, windows' columns left out.
    pub keys: Vec<usize>,
    /// The window that the groups are in besides.
    pub window: Option<WindowKey>,
    /// What is computed for each group.
    ///
    /// The node's schema is `keys`, then `window_start, window_end, window_time` with a window, then the calls.
    pub calls: Vec<AggregateCall>,
    /// When results leave.
    pub emit: Emit,
    /// For how long after its end a window takes rows and emits corrections, in milliseconds.
    pub allowed_lateness_ms: i64,
    /// When a row's group gets no row any more, of groups by a time without a window: they are forgotten then, and stay said.
    pub expiry: Option<Expiry>,
}

/// How the windows of a windowed aggregate are known.
#[derive(Debug, Clone)]
pub enum WindowKey {
    /// The aggregate assigns them itself, by panes.
    Time {
        /// The column of time.
        time: usize,
        /// The windows.
        window: Window,
        /// What moves them on.
        domain: TimeDomain,
    },
    /// The rows carry them already.
    Columns {
        /// `window_start`.
        start: usize,
        /// `window_end`.
        end: usize,
        /// What moves them on.
        domain: TimeDomain,
    },
}

/// When the results of an aggregate leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Once, when the window closes.
    OnClose,
    /// As often as they change.
    Changes,
}

/// One aggregate function over columns.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// The function.
    pub function: AggregateFunction,
    /// The argument columns.
    pub args: Vec<usize>,
    /// The boolean column of `FILTER (WHERE ..)`.
    pub filter: Option<usize>,
    /// Whether equal arguments count once.
    pub distinct: bool,
    /// The type of the result.
    pub result: DataType,
}

/// The aggregate functions. All take null arguments as absent unless said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AggregateFunction {
    /// Rows, or rows whose arguments are not null.
    Count,
    /// Exact sum; null of nothing.
    Sum,
    /// Exact mean; of integers truncated towards zero, as in Flink.
    Avg,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The value of the row with the least second argument (`$origin`).
    FirstValue,
    /// The value of the row with the greatest second argument (`$origin`).
    LastValue,
    /// Standard deviation of the population.
    StddevPop,
    /// Standard deviation of a sample.
    StddevSamp,
    /// Variance of the population.
    VarPop,
    /// Variance of a sample.
    VarSamp,
    /// Whether all are true.
    BoolAnd,
    /// Whether any is true.
    BoolOr,
    /// All values in the order of the second argument (`$origin`), nulls kept.
    ArrayAgg,
    /// All strings in the order of the last argument (`$origin`), joined by the second.
    ListAgg,
    /// The number of different values, estimated by HyperLogLog; exact over updating input.
    ApproxCountDistinct,
    /// The value below which this share (0..=1) of the values lies, by DDSketch within 1 %.
    ApproxQuantile(f64),
}

/// Rows that leave the circuit.
#[derive(Debug, Clone)]
pub struct OutputSpec {
    /// The name by which the shell finds the sink or the view.
    pub name: String,
    /// Columns that name a row, when any do.
    pub key: Option<Vec<usize>>,
}

impl LookupSpec {
    /// Whether at most one row is found.
    pub fn is_unique(&self) -> bool {
        self.table_keys == self.table.key()
    }
}

impl Plan {
    /// Adds a node and returns its id.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The nodes whose rows become those of `node`, itself included; those that are only looked into are not among them.
    pub fn row_path(&self, node: NodeId) -> BTreeSet<NodeId> {
        let (mut path, mut open) = (BTreeSet::new(), vec![node]);
        while let Some(node) = open.pop() {
            if path.insert(node) {
                open.extend_from_slice(self.nodes[node].row_inputs());
            }
        }
        path
    }

    /// For each node, whether none of its rows is ever taken back.
    pub fn append_only(&self) -> Vec<bool> {
        let mut facts: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs = node.row_inputs().iter().all(|input| facts[*input]);
            facts.push(match &node.spec {
                Spec::Source(source) => source.append_only,
                Spec::Aggregate(aggregate) if aggregate.allowed_lateness_ms > 0 => false,
                Spec::Aggregate(AggregateSpec { emit: Emit::OnClose, .. }) => true,
                Spec::Aggregate(aggregate) => aggregate.calls.is_empty() && inputs,
                Spec::Join(join) => inputs && join.appends(),
                Spec::Rank(rank) => inputs && rank.close.is_some(),
                Spec::OverChanges(_) => false,
                Spec::Versions(_) => true,
                Spec::SetOperation(set) => inputs && set.operation == SetOperation::Intersect,
                _ => inputs,
            });
        }
        facts
    }

    /// For each node, whether it never has more than one row at the end of a step.
    pub fn single(&self) -> Vec<bool> {
        let mut facts: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let all = node.inputs.iter().all(|input| facts[*input]);
            facts.push(match &node.spec {
                Spec::Aggregate(spec) => spec.keys.is_empty() && spec.window.is_none(),
                Spec::Rank(spec) => {
                    let first = spec.function == RankFunction::RowNumber && spec.to == Some(1);
                    all || (spec.keys.is_empty() && first)
                }
                Spec::Join(JoinSpec { kind: JoinKind::Inner | JoinKind::Left, .. }) => all,
                Spec::Join(JoinSpec { kind: JoinKind::Semi | JoinKind::Anti, .. }) => {
                    node.inputs.first().is_some_and(|left| facts[*left])
                }
                Spec::Filter(_) | Spec::Project(_) | Spec::Delay(_) | Spec::Output(_) => all,
                _ => false,
            });
        }
        facts
    }

    /// Whether a node that is to be added forgets something after a time to live.
    pub fn takes_ttl(&self, node: &Node) -> bool {
        let keyless = matches!(&node.spec, Spec::Join(spec) if spec.left_keys.is_empty());
        node.takes_ttl() && !(keyless && node.inputs.iter().all(|input| self.single()[*input]))
    }
}

impl Node {
    /// The inputs whose rows become the node's own; rows of others are only looked into.
    pub fn row_inputs(&self) -> &[NodeId] {
        match &self.spec {
            Spec::ViewLookup(_) | Spec::TemporalJoin(_) => self.inputs.get(..1).unwrap_or_default(),
            _ => &self.inputs,
        }
    }

    /// Whether it keeps entries that nothing else bounds, and can forget those that do not change.
    pub fn takes_ttl(&self) -> bool {
        match &self.spec {
            Spec::Aggregate(spec) => spec.window.is_none() && spec.expiry.is_none() && !spec.keys.is_empty(),
            Spec::Rank(spec) => spec.close.is_none() && spec.expiry.is_none() && !spec.keys.is_empty(),
            Spec::OverChanges(spec) => spec.expiry.is_none() && !spec.keys.is_empty(),
            Spec::Join(spec) => spec.expiry.contains(&None),
            Spec::TemporalJoin(spec) => !spec.right_keys.is_empty(),
            Spec::SetOperation(_) => true,
            _ => false,
        }
    }

    /// The node's kind, as `explain` and errors name it.
    pub fn title(&self) -> &'static str {
        match &self.spec {
            Spec::Source(_) => "Source",
            Spec::Filter(_) => "Filter",
            Spec::Project(_) => "Project",
            Spec::Unnest(_) => "Unnest",
            Spec::Lookup(_) => "Lookup",
            Spec::ViewLookup(_) => "ViewLookup",
            Spec::Join(_) => "Join",
            Spec::TemporalJoin(_) => "TemporalJoin",
            Spec::Versions(_) => "Versions",
            Spec::SetOperation(_) => "SetOperation",
            Spec::Rank(_) => "Rank",
            Spec::Over(_) | Spec::OverChanges(_) => "Over",
            Spec::Union => "Union",
            Spec::Delay(_) => "Delay",
            Spec::AssignWindow(_) => "AssignWindow",
            Spec::Aggregate(spec) if spec.calls.is_empty() => "Distinct",
            Spec::Aggregate(_) => "Aggregate",
            Spec::Output(_) => "Output",
        }
    }
}

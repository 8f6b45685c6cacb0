//! [`Graph`]: operators on lanes, and where rows change lanes on their way.
//!
//! Lowering turns each node of a [`crate::Plan`] into one or more *tasks*; an operator file says itself how it is
//! lowered, so that a two-stage aggregate is its own affair. A task's input has a [`Placement`]: rows either stay on
//! their lane or are exchanged by key.

use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use tidemill_base::Position;

use crate::error::Error;
use crate::operator::Operator;
use crate::plan::NodeId;

/// The index of a task in its graph.
pub type TaskId = usize;

/// On which lane an input's rows are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Where they are.
    Stay,
    /// All rows of equal values in these columns on one lane, chosen by the stable hash's shard.
    ByKey(Vec<usize>),
    /// Where [`Placement::ByKey`] has them by columns of these types and then the columns `more`, of which the former are written
    /// in one: `key` has what [`crate::key::KeyEncoder`] makes of them, and `hash` the hash of that.
    ByWritten {
        /// The column of keys.
        key: usize,
        /// The column of their hashes.
        hash: usize,
        /// The types of the columns that are written in a key.
        types: Vec<DataType>,
        /// More columns; they need no more null bytes than there are.
        more: Vec<usize>,
    },
    /// All rows on lane 0.
    Gather,
}

/// Where a task takes rows from.
#[derive(Debug, Clone)]
pub struct Input {
    /// The task.
    pub task: TaskId,
    /// On which lane the rows are needed.
    pub placement: Placement,
}

/// Makes the operator of a task for one lane.
pub type MakeOperator = Arc<dyn Fn() -> Result<Box<dyn Operator>, Error> + Send + Sync>;

/// One operator, once on each lane.
pub struct Task {
    /// The plan's node it works for.
    pub node: NodeId,
    /// What it is called in errors and reports, such as `Aggregate (line 3, column 1)`.
    pub name: String,
    /// Where the query asks for it.
    pub position: Option<Position>,
    /// Its inputs; an input's place here is the operator's port.
    pub inputs: Vec<Input>,
    /// The columns of its output.
    pub schema: SchemaRef,
    /// Makes its operators.
    pub make: MakeOperator,
}

/// Tasks in topological order.
#[derive(Default)]
pub struct Graph {
    /// The tasks; a task's inputs have smaller indices.
    pub tasks: Vec<Task>,
}

impl Graph {
    /// Adds a task and returns its id.
    pub fn add(&mut self, task: Task) -> TaskId {
        debug_assert!(task.inputs.iter().all(|input| input.task < self.tasks.len()));
        self.tasks.push(task);
        self.tasks.len() - 1
    }
}

/// What lowering a node needs to know.
pub struct Lowering<'a> {
    /// The node.
    pub node: &'a crate::plan::Node,
    /// Its id.
    pub id: NodeId,
    /// The tasks that give its inputs.
    pub inputs: &'a [TaskId],
    /// The columns of its inputs.
    pub input_schemas: &'a [SchemaRef],
    /// For each of its inputs whether no row of it is ever taken back.
    pub appends: &'a [bool],
    /// For each of its inputs whether it never has more than one row at the end of a step.
    pub singles: &'a [bool],
    /// Whether no row of its inputs is ever taken back, of those whose rows become its own.
    pub append_only: bool,
    /// After how many milliseconds without a change an entry of its state is forgotten, when that is asked for.
    pub ttl_ms: Option<i64>,
    /// The number of lanes; with one nothing needs to be exchanged.
    pub lanes: usize,
    /// What the node is called in errors and reports.
    pub name: String,
}

impl Lowering<'_> {
    /// A task of the node, called as it is.
    pub fn task(&self, inputs: Vec<Input>, schema: SchemaRef, make: MakeOperator) -> Task {
        Task { node: self.id, name: self.name.clone(), position: self.node.position, inputs, schema, make }
    }

    /// Where rows are needed that belong together by these columns; by none, all of them do.
    pub fn together(&self, keys: &[usize]) -> Placement {
        match (self.lanes, keys) {
            (1, _) => Placement::Stay,
            (_, []) => Placement::Gather,
            (_, keys) => Placement::ByKey(keys.to_vec()),
        }
    }

    /// The node's only input, staying on its lane.
    pub fn input(&self) -> Input {
        Input { task: self.inputs[0], placement: Placement::Stay }
    }
}

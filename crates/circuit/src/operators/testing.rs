//! Runs one node over rows without a circuit: what its tasks say on 1 to n lanes, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::SchemaRef;
use tidemill_base::Timestamp;

use crate::delta::Delta;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::expr::OnError;
use crate::graph::{Graph, Input, Lowering, Placement, Task};
use crate::operator::{Context, Flush, KeySize, Operator, Output, Sides, StateSize};
use crate::operators;
use crate::plan::{Node, Spec};

/// Rows as text, and how often each is there.
pub(crate) type Table = BTreeMap<String, i64>;

/// One node on some lanes.
pub(crate) struct Bench {
    graph: Graph,
    /// By task and lane.
    operators: Vec<Vec<Box<dyn Operator>>>,
    lanes: usize,
    step: u64,
    next: usize,
    /// The rows of all steps, added up.
    pub integral: Table,
    /// What has been said besides rows.
    pub said: Output,
}

struct Pass;

impl Operator for Pass {
    fn push(&mut self, _port: usize, delta: Delta, _context: &Context, out: &mut Output) -> Result<(), Error> {
        out.emit(delta);
        Ok(())
    }
}

impl Bench {
    /// A node that reads rows of `input`.
    pub fn new(
        spec: Spec,
        input: SchemaRef,
        output: SchemaRef,
        append_only: bool,
        lanes: usize,
    ) -> Result<Self, Error> {
        Self::with(spec, input, output, append_only, lanes, OnError::Stop)
    }

    /// [`Bench::new`] with `on-error`.
    pub fn with(
        spec: Spec,
        input: SchemaRef,
        output: SchemaRef,
        append_only: bool,
        lanes: usize,
        on_error: OnError,
    ) -> Result<Self, Error> {
        Self::made(spec, input, output, append_only, lanes, on_error, None)
    }

    /// [`Bench::new`] with a time to live.
    pub fn expiring(
        spec: Spec,
        input: SchemaRef,
        output: SchemaRef,
        append_only: bool,
        lanes: usize,
        ttl_ms: i64,
    ) -> Result<Self, Error> {
        Self::made(spec, input, output, append_only, lanes, OnError::Stop, Some(ttl_ms))
    }

    fn made(
        spec: Spec,
        input: SchemaRef,
        output: SchemaRef,
        append_only: bool,
        lanes: usize,
        on_error: OnError,
        ttl_ms: Option<i64>,
    ) -> Result<Self, Error> {
        let mut graph = Graph::default();
        let make = Arc::new(|| Ok(Box::new(Pass) as Box<dyn Operator>));
        let (name, position) = ("Input".to_string(), None);
        graph.add(Task { node: 0, name, position, inputs: Vec::new(), schema: input.clone(), make });
        let node = Node { spec, inputs: vec![0], schema: output, position: None, on_error };
        let name = node.title().to_string();
        let schemas = [input];
        let (inputs, input_schemas, appends) = (&[0], &schemas, &[append_only]);
        let singles = &[false];
        let lowering =
            Lowering { node: &node, id: 1, inputs, input_schemas, appends, singles, append_only, ttl_ms, lanes, name };
        let last = operators::lower(&mut graph, &lowering)?;
        assert_eq!(last + 1, graph.tasks.len(), "the last task gives the node's rows");
        let make = |task: &Task| (0..lanes).map(|_| (task.make)()).collect::<Result<Vec<_>, _>>();
        let operators = graph.tasks.iter().map(make).collect::<Result<Vec<_>, _>>()?;
        let said = Output::default();
        Ok(Bench { graph, operators, lanes, step: 0, next: 0, integral: Table::new(), said })
    }

    /// Runs a step and returns its rows.
    pub fn step(&mut self, deltas: Vec<Delta>, watermark: i64, now: i64) -> Result<Vec<Delta>, Error> {
        self.step += 1;
        let mut inboxes: Vec<Vec<Vec<Vec<Delta>>>> =
            self.graph.tasks.iter().map(|task| vec![vec![Vec::new(); task.inputs.len().max(1)]; self.lanes]).collect();
        for delta in deltas {
            inboxes[0][self.next][0].push(delta);
            self.next = (self.next + 1) % self.lanes;
        }
        let mut rows = Vec::new();
        for task in 0..self.graph.tasks.len() {
            let mut said: Vec<Vec<Delta>> = Vec::new();
            let inbox = std::mem::take(&mut inboxes[task]);
            for (lane, ports) in inbox.into_iter().enumerate() {
                let sides = Sides { late: true, dead_letter: true, ..Sides::default() };
                let (watermark, now) = (Timestamp(watermark), Timestamp(now));
                let context = Context { step: self.step, lane, now, watermark, sides };
                let (operator, mut out) = (&mut self.operators[task][lane], Output::default());
                for (port, deltas) in ports.into_iter().enumerate() {
                    for delta in deltas {
                        operator.push(port, delta, &context, &mut out)?;
                    }
                }
                while operator.flush(&context, &mut out)? == Flush::More {}
                self.said.late_rows += out.late_rows;
                self.said.dead_rows += out.dead_rows;
                self.said.side.append(&mut out.side);
                said.push(out.deltas);
            }
            self.route(task, &said, &mut inboxes);
            rows = said.concat();
        }
        rows.iter().for_each(|delta| add(&mut self.integral, delta));
        self.integral.retain(|_, weight| *weight != 0);
        Ok(rows)
    }

    fn route(&self, from: usize, said: &[Vec<Delta>], inboxes: &mut [Vec<Vec<Vec<Delta>>>]) {
        for (task, reader) in self.graph.tasks.iter().enumerate() {
            for (port, Input { placement, .. }) in reader.inputs.iter().enumerate().filter(|(_, i)| i.task == from) {
                let exchange = match (self.lanes, placement) {
                    (1, _) | (_, Placement::Stay) => None,
                    _ => Exchange::of(placement, &self.graph.tasks[from].schema).expect("these columns can be keys"),
                };
                for (lane, deltas) in said.iter().enumerate() {
                    for delta in deltas {
                        let mut parts = vec![Vec::new(); self.lanes];
                        match &exchange {
                            None => parts[lane].push(delta.clone()),
                            Some(exchange) => exchange.part(delta.clone(), &mut parts).expect("rows can be parted"),
                        }
                        for (to, mut part) in parts.into_iter().enumerate() {
                            inboxes[task][to][port].append(&mut part);
                        }
                    }
                }
            }
        }
    }

    /// The number of tasks, the input's among them.
    pub fn tasks(&self) -> usize {
        self.graph.tasks.len()
    }

    /// What all tasks keep.
    pub fn size(&self) -> StateSize {
        let sizes = self.operators.iter().flatten().map(|operator| operator.state_size());
        sizes.fold(StateSize::default(), |sum, size| StateSize {
            entries: sum.entries + size.entries,
            bytes: sum.bytes + size.bytes,
        })
    }

    /// The keys that most is kept for.
    pub fn largest_keys(&self, most: usize) -> Vec<KeySize> {
        self.operators.iter().flatten().flat_map(|operator| operator.largest_keys(most)).collect()
    }

    /// The least processing time at which something is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.operators.iter().flatten().filter_map(|operator| operator.next_due()).min()
    }
}

/// Adds rows, as text, to a table.
pub(crate) fn add(table: &mut Table, delta: &Delta) {
    for (row, text) in lines(delta.batch()).into_iter().enumerate() {
        *table.entry(text).or_default() += delta.weight(row);
    }
}

/// Rows as text: values one after another, null as `_`.
pub(crate) fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("_");
    let formatters: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("the column can be shown"))
        .collect();
    let line = |row| formatters.iter().map(|f| f.value(row).to_string()).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(line).collect()
}

/// Asserts that a table holds these rows: `+2 a b` is one that is there twice.
pub(crate) fn check(table: &Table, expected: &str) {
    let lines: Vec<String> = table
        .iter()
        .map(|(row, weight)| if *weight == 1 { row.clone() } else { format!("{weight:+} {row}") })
        .collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, expected);
}

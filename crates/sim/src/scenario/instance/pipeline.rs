//! The pipeline of the scenario, rows per key, counted; and the sink it writes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::OnError;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, NodeId, OutputSpec, Plan, SourceSpec, Spec,
};
use tidemill_circuit::step::{SourceInput, StepInput, StepOutput};
use tidemill_circuit::{Circuit, Delta};
use tidemill_journal::Sequence;

use crate::scenario::{Violation, promise};

/// The one source.
const SOURCE: &str = "events";

/// Keys in the journal's record `sequence`, after `first` others.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) sequence: Sequence,
    pub(super) first: u64,
    pub(super) keys: Vec<u8>,
}

impl Input {
    /// The number of the key after these.
    pub(super) fn end(&self) -> u64 {
        self.first + self.keys.len() as u64
    }
}

fn keys() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]))
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    let mut add = |spec, inputs: Vec<NodeId>, schema| {
        plan.add(Node { spec, inputs, schema, position: None, on_error: OnError::Stop })
    };
    let source = SourceSpec {
        name: SOURCE.to_string(),
        decoded: keys(),
        origin: false,
        computed: None,
        watermark: None,
        append_only: true,
    };
    let source = add(Spec::Source(source), vec![], keys());
    let count = AggregateCall {
        function: AggregateFunction::Count,
        args: vec![],
        filter: None,
        distinct: false,
        result: DataType::Int64,
    };
    let counts = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("count", DataType::Int64, false),
    ]));
    let aggregate = AggregateSpec {
        keys: vec![0],
        window: None,
        calls: vec![count],
        emit: Emit::Changes,
        allowed_lateness_ms: 0,
        expiry: None,
    };
    let aggregate = add(Spec::Aggregate(aggregate), vec![source], counts.clone());
    add(Spec::Output(OutputSpec { name: "counts".to_string(), key: Some(vec![0]) }), vec![aggregate], counts);
    plan
}

/// A circuit that has taken nothing.
pub(super) fn circuit(lanes: usize) -> Result<Circuit, Violation> {
    // Small chunks, so that a save has several.
    let options = Options { lanes, keep: true, digests: true, chunk_slots: 2, ..Options::default() };
    Circuit::new(&plan(), &Decoders::new(), options).map_err(|error| format!("the circuit cannot be made: {error}"))
}

/// A step over these records; `opened` says whether some were taken before.
pub(super) fn step(now: i64, inputs: &[Input], opened: bool) -> Result<StepInput, Violation> {
    let mut source = SourceInput { source: SOURCE.to_string(), ..SourceInput::default() };
    if !opened {
        source.opened.push(0);
    }
    for input in inputs {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(input.keys.iter().map(|key| i64::from(*key))));
        let batch = RecordBatch::try_new(keys(), vec![column]).map_err(|error| error.to_string())?;
        source.blocks.push(Block {
            partition: 0,
            from: input.first,
            to: input.end(),
            first_record: input.first,
            records: input.keys.len() as u32,
            data: BlockData::Rows(Delta::inserts(batch)),
        });
    }
    Ok(StepInput { now, sources: vec![source] })
}

/// Keys and their counts.
pub(super) type Counts = BTreeMap<i64, i64>;

/// The answer to these keys.
pub(super) fn counts<'a>(inputs: impl Iterator<Item = &'a Vec<u8>>) -> Counts {
    let mut counts = Counts::new();
    for key in inputs.flatten() {
        *counts.entry(i64::from(*key)).or_default() += 1;
    }
    counts
}

/// Something outside that shows rows at once and for good, and knows which step it has shown last.
#[derive(Debug, Default)]
pub(super) struct Sink {
    /// The last step; 0 before the first.
    pub(super) step: u64,
    /// (key, count) and how often it was added, less how often it was taken away.
    rows: BTreeMap<(i64, i64), i64>,
    /// What each step gave.
    digests: BTreeMap<u64, String>,
}

impl Sink {
    /// Shows what a step gave.
    pub(super) fn take(&mut self, output: &StepOutput) -> Result<(), Violation> {
        self.step = self.step.max(output.header.step);
        for delta in output.outputs.iter().flat_map(|output| &output.deltas) {
            let column = |index: usize| delta.column(index).as_primitive::<Int64Type>().clone();
            let (keys, counts) = (column(0), column(1));
            for row in 0..delta.rows() {
                *self.rows.entry((keys.value(row), counts.value(row))).or_default() += delta.weight(row);
            }
        }
        self.rows.retain(|_, weight| *weight != 0);
        self.check(output)
    }

    /// A step that runs again gives what it gave.
    pub(super) fn check(&mut self, output: &StepOutput) -> Result<(), Violation> {
        let (step, digest) = (output.header.step, digest(output));
        let before = self.digests.entry(step).or_insert_with(|| digest.clone());
        promise!(*before == digest, "step {step} gave {before}, and now gives {digest}");
        Ok(())
    }

    /// What it shows is exactly this.
    pub(super) fn shows(&self, expected: &Counts) -> Result<(), Violation> {
        let rows: BTreeMap<(i64, i64), i64> = expected.iter().map(|(key, count)| ((*key, *count), 1)).collect();
        promise!(self.rows == rows, "after step {} it shows {:?}, not {expected:?}", self.step, self.rows);
        Ok(())
    }
}

/// What a step gave, in short.
pub(super) fn digest(output: &StepOutput) -> String {
    output.trailer.outputs.iter().map(|output| output.digest.as_str()).collect()
}

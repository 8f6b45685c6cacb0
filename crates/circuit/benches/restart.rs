//! What a restart costs: state and a view are restored, and steps are run again.
//!
//! `cargo bench -p tidemill-circuit --bench restart`, with `-- KEYS LANES` for others than two million and 2. Counts, sums
//! and greatest texts by a number, with a view; prints seconds of CPU and of the clock, and what the next save gives.

#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use tidemill_base::rand::Rng;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::OnError;
use tidemill_circuit::keep::{Blob, Chunk, ChunkId};
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, OutputSpec, Plan, SourceSpec, Spec,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::view::{self, ViewSpec, ViewWriter};
use tidemill_circuit::{Circuit, Delta};

/// Rows of a step that is run again, as in a step of 20 ms at 330,000 rows a second.
const STEP_ROWS: usize = 6_600;
const STEPS: usize = 454;
const CHUNK_ROWS: usize = 8_192;

fn input() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("v", DataType::Int64),
        field("name", DataType::Utf8),
    ]))
}

fn output() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("n", DataType::Int64),
        field("total", DataType::Int64),
        field("name", DataType::Utf8),
    ]))
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    let node = |spec, inputs, schema| Node { spec, inputs, schema, position: None, on_error: OnError::Stop };
    let (name, decoded) = ("events".to_string(), input());
    let source = SourceSpec { name, decoded, origin: false, computed: None, watermark: None, append_only: true };
    plan.add(node(Spec::Source(source), vec![], input()));
    let call = |function, args: &[usize], result| AggregateCall {
        function,
        args: args.to_vec(),
        filter: None,
        distinct: false,
        result,
    };
    let calls = vec![
        call(AggregateFunction::Count, &[], DataType::Int64),
        call(AggregateFunction::Sum, &[1], DataType::Int64),
        call(AggregateFunction::Max, &[2], DataType::Utf8),
    ];
    let spec =
        AggregateSpec { keys: vec![0], window: None, calls, emit: Emit::Changes, allowed_lateness_ms: 0, expiry: None };
    plan.add(node(Spec::Aggregate(spec), vec![0], output()));
    let spec = OutputSpec { name: "totals".to_string(), key: Some(vec![0]) };
    plan.add(node(Spec::Output(spec), vec![1], output()));
    plan
}

struct Running {
    circuit: Circuit,
    view: ViewWriter,
    records: u64,
}

impl Running {
    fn new(lanes: usize) -> Self {
        let options = Options { lanes, keep: true, ..Options::default() };
        let circuit = Circuit::new(&plan(), &Decoders::new(), options).expect("the plan is supported");
        let spec = ViewSpec { name: "totals".to_string(), schema: output(), key: Some(vec![0]), append_only: false };
        let (view, _) = view::view(spec).expect("numbers can be compared");
        Running { circuit, view, records: 0 }
    }

    fn step(&mut self, rows: Vec<Delta>) {
        let mut blocks = Vec::new();
        for delta in rows {
            let (from, records) = (self.records, delta.rows() as u64);
            self.records += records;
            let (to, data) = (self.records, BlockData::Rows(delta));
            blocks.push(Block { partition: 0, from, to, first_record: from, records: records as u32, data });
        }
        let news = SourceInput { source: "events".to_string(), blocks, ..SourceInput::default() };
        let output = self.circuit.step(StepInput { now: 0, sources: vec![news] }).expect("the step runs");
        for rows in &output.outputs {
            self.view.apply(output.header.step, &rows.deltas).expect("the view takes the changes");
        }
    }

    fn save(&mut self) -> (Vec<Blob>, Vec<Chunk>, Vec<Chunk>) {
        let start = self.circuit.begin_save(false).expect("state is kept");
        let mut save = self.view.begin_save(start.full, 0);
        let slice = self.circuit.save_slice(usize::MAX).expect("values can be written");
        slice.chunks.iter().for_each(|chunk| start.digests.put(chunk));
        let rows = std::iter::from_fn(|| save.next_chunk().expect("values can be written")).collect();
        self.circuit.end_save(true);
        self.view.end_save(true);
        (start.blobs, slice.chunks, rows)
    }
}

/// Rows of `ids`, with names of 32 letters.
fn events(rng: &mut Rng, ids: Vec<i64>) -> Delta {
    let values: Vec<i64> = ids.iter().map(|_| rng.below(1_000) as i64).collect();
    let names: Vec<String> = ids.iter().map(|_| format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())).collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(ids)), Arc::new(Int64Array::from(values)), Arc::new(StringArray::from(names))];
    Delta::inserts(RecordBatch::try_new(input(), columns).expect("columns of the schema"))
}

/// Seconds of CPU that the process has taken.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn told<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (clock, before) = (Instant::now(), cpu());
    let done = work();
    println!("{what:40} {:6.2} s, {:6.2} s of CPU", clock.elapsed().as_secs_f64(), cpu() - before);
    done
}

fn bytes(chunks: &[Chunk]) -> f64 {
    chunks.iter().filter_map(|chunk| chunk.rows.as_ref()).map(Vec::len).sum::<usize>() as f64 / 1e6
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (keys, lanes) = (numbers.first().copied().unwrap_or(2_000_000), numbers.get(1).copied().unwrap_or(2));
    let mut rng = Rng::seeded(1);
    let mut running = Running::new(lanes);
    for from in (0..keys).step_by(8 * CHUNK_ROWS) {
        let chunk = |from: usize| events(&mut rng, (from..(from + CHUNK_ROWS).min(keys)).map(|id| id as i64).collect());
        let rows = (from..(from + 8 * CHUNK_ROWS).min(keys)).step_by(CHUNK_ROWS).map(chunk).collect();
        running.step(rows);
    }
    let (blobs, chunks, rows) = told("saved whole", || running.save());
    println!("{keys} keys on {lanes} lanes: {:.0} MB of state and {:.0} MB of the view", bytes(&chunks), bytes(&rows));
    let stored = |chunks: Vec<Chunk>| -> Vec<(ChunkId, Bytes)> {
        chunks.into_iter().filter_map(|chunk| Some((chunk.id, Bytes::from(chunk.rows?)))).collect()
    };
    let (chunks, rows, step, records) = (stored(chunks), stored(rows), running.circuit.steps(), running.records);
    drop(running);
    let mut again = Running::new(lanes);
    again.records = records;
    told("restored the circuit", || {
        again.circuit.restore(&blobs).expect("the blobs are whole");
        chunks.chunks(64).for_each(|chunks| drop(again.circuit.restore_chunks(chunks).expect("the rows are whole")));
        assert!(again.circuit.resume_saves());
    });
    told("restored the view", || {
        for (id, rows) in &rows {
            again.view.restore_stored(step, *id, rows).expect("the rows are whole");
        }
        assert!(again.view.resume_saves());
    });
    let step = |_| {
        let ids = (0..STEP_ROWS).map(|_| rng.below(keys as u64) as i64).collect();
        vec![events(&mut rng, ids)]
    };
    let steps: Vec<Vec<Delta>> = (0..STEPS).map(step).collect();
    told("454 steps of 6,600 rows", || steps.into_iter().for_each(|rows| again.step(rows)));
    let (_, chunks, rows) = told("saved again", || again.save());
    println!("    {:.0} MB of state and {:.0} MB of the view", bytes(&chunks), bytes(&rows));
    let (_, chunks, rows) = told("saved with nothing changed", || again.save());
    println!("    {:.0} MB of state and {:.0} MB of the view", bytes(&chunks), bytes(&rows));
}

//! How long steps take while a large keyed state is saved, and while it is not.
//!
//! `cargo bench -p tidemill-circuit --bench pauses`, with `-- MEBIBYTES` for another state than 256 MiB of saved rows. Counts,
//! sums and greatest values by a number; every step changes rows anywhere, evenly. Steps are as long as those of a
//! pipeline that never ends: what 20 ms buy at the measured cost of a row, and half as many rows while a save is under
//! way, each with the slice that is saved after it. Prints milliseconds of CPU of the one lane, so that other load on the
//! machine counts little.

#![allow(clippy::print_stdout)]

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_base::rand::Rng;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::OnError;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, OutputSpec, Plan, SourceSpec, Spec,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Delta};

/// How long a step may take, as where nobody waits for its answer.
const BUDGET_NANOS: u64 = 20_000_000;
/// What is saved after each step of a save.
const SLICE_BYTES: usize = 512 << 10;
/// The bytes of a row as it is saved, its length included: 5 + 9 of its name, 8 of its weight, 8 + 8 + 9 of its calls.
const ROW_BYTES: usize = 50;
const CHUNK_ROWS: usize = 8_192;
const STEP_ROWS_MAX: usize = 65_536;
/// Steps without a save that are measured.
const STEPS: usize = 200;
const SAVES: usize = 3;

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn plan() -> Plan {
    let (input, output) = (schema(&["id", "v"]), schema(&["id", "n", "total", "greatest"]));
    let mut plan = Plan::default();
    let node = |spec, inputs, schema| Node { spec, inputs, schema, position: None, on_error: OnError::Stop };
    let (name, decoded) = ("events".to_string(), input.clone());
    let source = SourceSpec { name, decoded, origin: false, computed: None, watermark: None, append_only: true };
    plan.add(node(Spec::Source(source), vec![], input));
    let call = |function, args: &[usize]| {
        let (args, result) = (args.to_vec(), DataType::Int64);
        AggregateCall { function, args, filter: None, distinct: false, result }
    };
    let calls = vec![
        call(AggregateFunction::Count, &[]),
        call(AggregateFunction::Sum, &[1]),
        call(AggregateFunction::Max, &[1]),
    ];
    let (window, emit) = (None, Emit::Changes);
    let spec = AggregateSpec { keys: vec![0], window, calls, emit, allowed_lateness_ms: 0, expiry: None };
    plan.add(node(Spec::Aggregate(spec), vec![0], output.clone()));
    plan.add(node(Spec::Output(OutputSpec { name: "totals".to_string(), key: Some(vec![0]) }), vec![1], output));
    plan
}

struct Running {
    circuit: Circuit,
    records: u64,
    rng: Rng,
    keys: u64,
}

impl Running {
    /// Runs a step over these numbers.
    fn step(&mut self, ids: &[i64]) {
        let mut blocks = Vec::new();
        for ids in ids.chunks(CHUNK_ROWS) {
            let values = Int64Array::from_iter_values(ids.iter().map(|_| self.rng.below(1_000) as i64));
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(values)];
            let batch = RecordBatch::try_new(schema(&["id", "v"]), columns).expect("columns of the schema");
            let (from, records) = (self.records, ids.len() as u64);
            self.records += records;
            let (to, data) = (self.records, BlockData::Rows(Delta::inserts(batch)));
            blocks.push(Block { partition: 0, from, to, first_record: from, records: records as u32, data });
        }
        let news = SourceInput { source: "events".to_string(), blocks, ..SourceInput::default() };
        self.circuit.step(StepInput { now: 0, sources: vec![news] }).expect("the step runs");
    }

    /// Changes so many rows in one step, and says how long that and what `after` does took.
    fn measured(&mut self, rows: usize, after: impl FnOnce(&mut Circuit)) -> u64 {
        let ids: Vec<i64> = (0..rows).map(|_| self.rng.below(self.keys) as i64).collect();
        let before = cpu_nanos();
        self.step(&ids);
        after(&mut self.circuit);
        cpu_nanos() - before
    }
}

/// Nanoseconds that this thread has run.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn print(title: &str, mut nanos: Vec<u64>) {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    let (count, middle, most) = (nanos.len(), at(0.5), at(1.0));
    println!("{title:16} {count:5} steps, ms of CPU: median {middle:5.2}, p99 {:5.2}, longest {most:5.2}", at(0.99));
}

fn main() {
    let mebibytes = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(256_usize);
    let keys = ((mebibytes << 20) / ROW_BYTES) as u64;
    let options = Options { keep: true, ..Options::default() };
    let circuit = Circuit::new(&plan(), &Decoders::new(), options).expect("the plan is supported");
    let mut running = Running { circuit, records: 0, rng: Rng::seeded(1), keys };
    let ids: Vec<i64> = (0..keys as i64).collect();
    ids.chunks(STEP_ROWS_MAX).for_each(|ids| running.step(ids));
    drop(ids);
    let sample: u64 = (0..10).map(|_| running.measured(10_000, |_| {})).sum();
    let rows = ((BUDGET_NANOS * 100_000 / sample) as usize).min(STEP_ROWS_MAX);
    println!("{keys} keys, {rows} rows a step, {} while saving, {SLICE_BYTES} bytes a slice", rows / 2);
    for _ in 0..SAVES {
        print("without a save", (0..STEPS).map(|_| running.measured(rows, |_| {})).collect());
        let (mut steps, mut bytes, mut done) = (Vec::new(), 0, false);
        let before = cpu_nanos();
        running.circuit.begin_save(false).expect("state is kept");
        let begun = cpu_nanos() - before;
        while !done {
            let mut chunks = Vec::new();
            steps.push(running.measured(rows / 2, |circuit| {
                let slice = circuit.save_slice(SLICE_BYTES).expect("values can be written");
                (chunks, done) = (slice.chunks, slice.done);
            }));
            bytes += chunks.iter().filter_map(|chunk| chunk.rows.as_ref()).map(Vec::len).sum::<usize>();
        }
        let before = cpu_nanos();
        running.circuit.end_save(true);
        let ended = cpu_nanos() - before;
        steps[0] += begun;
        print("during a save", steps);
        let millis = |nanos: u64| nanos as f64 / 1e6;
        println!(
            "{:.0} MiB saved, begun in {:.2} ms, ended in {:.2}",
            bytes as f64 / 1048576.0,
            millis(begun),
            millis(ended)
        );
    }
}

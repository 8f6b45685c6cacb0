//! What a decision costs: rows with three keys, three features over each, in steps of one row and of a thousand.
//!
//! `cargo bench -p tidemill-circuit --bench over` prints the CPU time of a row, for each kind of frame; a title after `--`
//! runs that one alone.

// It prints what it measures.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::rand::Rng;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::{Expr, OnError, Scalar};
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, Frame, Node, NodeId, OutputSpec, OverCall, OverSpec, OverTurn, Plan, SourceSpec,
    Spec, TimeDomain, WatermarkSpec,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Delta};

const AMOUNT: usize = 3;
const TIME: usize = 4;
const ORIGIN: usize = 5;

/// Different cards, devices and addresses.
const KEYS: [u64; 3] = [100_000, 60_000, 30_000];

/// Milliseconds between two rows.
const APART_MS: i64 = 2;

const DAY_MS: i64 = 86_400_000;

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn decoded() -> SchemaRef {
    let types = [DataType::Int64, DataType::Int64, DataType::Int64, DataType::Float64, time_type()];
    let names = ["card", "device", "address", "amount", "time"];
    let field = |(name, data_type): (&str, DataType)| Field::new(name, data_type, true);
    Arc::new(Schema::new(names.into_iter().zip(types).map(field).collect::<Vec<_>>()))
}

/// `time - 1 s`.
#[derive(Debug)]
struct Behind;

impl Scalar for Behind {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let times = batch.column(TIME).as_primitive::<TimestampMillisecondType>();
        Ok(Arc::new(times.unary::<_, TimestampMillisecondType>(|time| time - 1_000)))
    }

    fn data_type(&self) -> DataType {
        time_type()
    }

    fn print(&self) -> String {
        "time - 1 s".to_string()
    }
}

/// `amount >= 0`, which is always so.
#[derive(Debug)]
struct Paid;

impl Scalar for Paid {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let amounts = batch.column(AMOUNT).as_primitive::<Float64Type>();
        Ok(Arc::new(amounts.iter().map(|amount| amount.map(|amount| amount >= 0.0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        "amount >= 0".to_string()
    }
}

fn calls(functions: &[AggregateFunction]) -> Vec<OverCall> {
    let call = |function: &AggregateFunction| {
        let (args, result) = match function {
            AggregateFunction::Count => (vec![], DataType::Int64),
            _ => (vec![AMOUNT], DataType::Float64),
        };
        OverCall::Aggregate(AggregateCall { function: *function, args, filter: None, distinct: false, result })
    };
    functions.iter().map(call).collect()
}

/// Source, a chain of `OVER` by each key, filter, output.
fn plan(frame: Frame, turn: OverTurn, functions: &[AggregateFunction], keys: usize) -> Plan {
    let mut plan = Plan::default();
    let mut schema = decoded();
    let mut add = |spec: Spec, inputs: Vec<NodeId>, schema: &SchemaRef| {
        plan.add(Node { spec, inputs, schema: schema.clone(), position: None, on_error: OnError::Stop })
    };
    let more = |schema: &SchemaRef, fields: Vec<Field>| -> SchemaRef {
        let all = schema.fields().iter().map(|field| field.as_ref().clone()).chain(fields);
        Arc::new(Schema::new(all.collect::<Vec<_>>()))
    };
    let bound: Expr = Arc::new(Behind);
    let source = SourceSpec {
        name: "payments".to_string(),
        decoded: decoded(),
        origin: true,
        computed: None,
        watermark: Some(WatermarkSpec { time: TIME, bound, idle_timeout_ms: None }),
        append_only: true,
    };
    schema = more(&schema, vec![Field::new("$origin", DataType::UInt64, false)]);
    let mut node = add(Spec::Source(source), vec![], &schema);
    for key in 0..keys {
        let calls = calls(functions);
        let field = |(n, call): (usize, &OverCall)| match call {
            OverCall::Aggregate(call) => Field::new(format!("f{key}_{n}"), call.result.clone(), true),
            _ => Field::new(format!("f{key}_{n}"), DataType::Int64, true),
        };
        schema = more(&schema, calls.iter().enumerate().map(field).collect());
        let (order, origin, domain) = (Some(TIME), Some(ORIGIN), TimeDomain::Event);
        let spec = OverSpec { keys: vec![key], order, domain, origin, turn, frame, calls };
        node = add(Spec::Over(spec), vec![node], &schema);
    }
    let filter = add(Spec::Filter(Arc::new(Paid)), vec![node], &schema);
    add(Spec::Output(OutputSpec { name: "score".to_string(), key: None }), vec![filter], &schema);
    plan
}

fn block(rng: &mut Rng, first: u64, rows: usize) -> Block {
    let numbers = |rng: &mut Rng, below: u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..rows).map(|_| rng.below(below) as i64)))
    };
    let times = (first..first + rows as u64).map(|row| row as i64 * APART_MS);
    let columns: Vec<ArrayRef> = vec![
        numbers(rng, KEYS[0]),
        numbers(rng, KEYS[1]),
        numbers(rng, KEYS[2]),
        Arc::new(Float64Array::from_iter_values((0..rows).map(|_| rng.below(100_000) as f64 / 100.0))),
        Arc::new(TimestampMillisecondArray::from_iter_values(times)),
    ];
    let batch = RecordBatch::try_new(decoded(), columns).expect("columns of the schema");
    let (from, to, data) = (first, first + rows as u64, BlockData::Rows(Delta::inserts(batch)));
    Block { partition: 0, from, to, first_record: from, records: rows as u32, data }
}

/// Runs `steps` steps of `rows` rows after `warm` rows, and prints what one row costs.
fn run(title: &str, plan: &Plan, rows: usize, warm: usize, steps: usize, keep: bool) {
    let options = Options { keep, ..Options::default() };
    let mut circuit = Circuit::new(plan, &Decoders::new(), options).expect("the plan is supported");
    let (mut rng, mut first) = (Rng::seeded(1), 0);
    let step = |circuit: &mut Circuit, blocks: Vec<Block>, opened: Vec<u32>| {
        let news = SourceInput { source: "payments".to_string(), blocks, opened, ..SourceInput::default() };
        circuit.step(StepInput { now: 0, sources: vec![news] }).expect("the step runs")
    };
    while first < warm as u64 {
        let block = block(&mut rng, first, 1_000);
        let opened = if first == 0 { vec![0] } else { vec![] };
        step(&mut circuit, vec![block], opened);
        first += 1_000;
    }
    let mut longest = 0;
    let mut total = 0;
    // What reading the clock costs is spread over many steps.
    let batch = (1_000 / rows).clamp(1, 100);
    for _ in 0..steps / batch {
        let blocks: Vec<Block> = (0..batch).map(|at| block(&mut rng, first + (at * rows) as u64, rows)).collect();
        first += (batch * rows) as u64;
        let before = cpu_nanos();
        for block in blocks {
            step(&mut circuit, vec![block], vec![]);
        }
        let spent = cpu_nanos() - before;
        longest = longest.max(spent / batch as u64);
        total += spent;
    }
    let (entries, bytes) =
        circuit.state().iter().fold((0, 0), |sum, (_, size)| (sum.0 + size.entries, sum.1 + size.bytes));
    println!(
        "{title:40} {rows:5} rows a step {:8} ns/step {:6} ns/row, worst {:8} ns/step {entries:8} entries {:6.1} MB",
        total / steps as u64,
        total / (steps * rows) as u64,
        longest,
        bytes as f64 / 1e6
    );
}

/// Nanoseconds that this thread has run.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn main() {
    use AggregateFunction::{Avg, Count, Max, Sum};
    let range = |preceding_ms: i64, unit_ms: Option<i64>| Frame::Range { preceding_ms: Some(preceding_ms), unit_ms };
    let arrival = OverTurn::Arrival;
    let sums = [Count, Sum, Avg];
    let cases = [
        ("no OVER", plan(range(60_000, None), arrival, &sums, 0)),
        ("1 key, last minute", plan(range(60_000, None), arrival, &sums, 1)),
        ("3 keys, last minute", plan(range(60_000, None), arrival, &sums, 3)),
        ("3 keys, last minute, count alone", plan(range(60_000, None), arrival, &[Count], 3)),
        ("3 keys, last minute, with max", plan(range(60_000, None), arrival, &[Count, Sum, Max], 3)),
        ("3 keys, last hour by minutes", plan(range(3_600_000, Some(60_000)), arrival, &sums, 3)),
        ("3 keys, last day", plan(range(DAY_MS, None), arrival, &sums, 3)),
        ("3 keys, last 20 rows", plan(Frame::Rows { preceding: Some(20) }, arrival, &sums, 3)),
        ("3 keys, last minute, in order of time", plan(range(60_000, None), OverTurn::Watermark, &sums, 3)),
    ];
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |title: &str| wanted.as_ref().is_none_or(|wanted| title == wanted);
    for (title, plan) in cases.iter().filter(|(title, _)| wanted(title)) {
        run(title, plan, 1, 200_000, 50_000, false);
        run(title, plan, 1_000, 200_000, 200, false);
    }
    if wanted("3 keys, last minute, kept") {
        run("3 keys, last minute, kept", &cases[2].1, 1, 200_000, 50_000, true);
    }
}

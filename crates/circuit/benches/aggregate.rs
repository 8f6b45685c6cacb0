//! What an aggregate costs a row: shapes of the Nexmark queries over made-up bids, one lane, rows already decoded.
//!
//! `cargo bench -p tidemill-circuit --bench aggregate`. Prints nanoseconds of CPU a row (0 where Linux does not tell
//! them) and what is kept. With `-- keep` it compares, over whole circuits, state that is not kept with state whose
//! changes are noted, saved every [`SAVE_ROWS`] rows, and digested as often besides. With `-- lanes` it compares one lane
//! with two, by the CPU of all threads.

#![allow(clippy::print_stdout)]

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::Timestamp;
use tidemill_base::rand::Rng;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::{Column, OnError};
use tidemill_circuit::graph::{Graph, Lowering};
use tidemill_circuit::operator::{Context, Flush, Operator, Output, Sides};
use tidemill_circuit::operators;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, Emit, Node, OutputSpec, Plan, SourceSpec, Spec, TimeDomain,
    WatermarkSpec, Window, WindowKey,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Delta};

const ROWS: usize = 2_000_000;
/// Rows between two saves, and between two roots.
const SAVE_ROWS: usize = 500_000;
const CHUNK: usize = 8_192;
const STEP_CHUNKS: usize = 8;

const AUCTION: usize = 0;
const BIDDER: usize = 1;
const PRICE: usize = 2;
const DAY: usize = 3;
const TIME: usize = 4;
const CHEAP: usize = 5;
const MIDDLE: usize = 6;
const CHANNEL: usize = 7;

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("auction", DataType::Int64),
        field("bidder", DataType::Int64),
        field("price", DataType::Int64),
        field("day", DataType::Utf8),
        field("time", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("cheap", DataType::Boolean),
        field("middle", DataType::Boolean),
        field("channel", DataType::Utf8),
    ]))
}

/// Bids as Nexmark spreads them: half on a hot auction, three quarters by a hot bidder.
fn bids() -> Vec<Delta> {
    let mut rng = Rng::seeded(1);
    let mut chunks = Vec::new();
    for from in (0..ROWS).step_by(CHUNK) {
        let rows: Vec<usize> = (from..(from + CHUNK).min(ROWS)).collect();
        let mut near = |row: usize, hot: bool, per: usize, spread: u64| {
            let newest = (row / per) as u64;
            (if hot { newest / 100 * 100 } else { newest.saturating_sub(rng.below(spread)) }) as i64
        };
        let auctions: Vec<i64> = rows.iter().map(|row| near(*row, row % 2 == 0, 15, 100)).collect();
        let bidders: Vec<i64> = rows.iter().map(|row| near(*row, row % 4 != 0, 46, 1_000)).collect();
        let prices: Vec<i64> =
            rows.iter().map(|_| 100 * 10_i64.pow(rng.below(6) as u32) + rng.below(99) as i64).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(auctions)),
            Arc::new(Int64Array::from(bidders)),
            Arc::new(Int64Array::from(prices.clone())),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("2026-01-{:02}", 1 + row / 400_000)))),
            Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| (*row / 9) as i64))),
            Arc::new(BooleanArray::from_iter(prices.iter().map(|price| Some(*price < 10_000)))),
            Arc::new(BooleanArray::from_iter(prices.iter().map(|price| Some((10_000..1_000_000).contains(price))))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| match row % 2 {
                0 => format!("hot-{}", row / 2 % 4),
                _ => format!("channel-{}", row * 7 % 10_000),
            }))),
        ];
        chunks.push(Delta::inserts(RecordBatch::try_new(schema(), columns).expect("columns of the schema")));
    }
    chunks
}

fn call(function: AggregateFunction, args: &[usize], filter: Option<usize>, distinct: bool) -> AggregateCall {
    AggregateCall { function, args: args.to_vec(), filter, distinct, result: DataType::Int64 }
}

/// What is aggregated, and the columns of the answer.
fn query(keys: &[usize], window: Option<Window>, calls: Vec<AggregateCall>) -> (AggregateSpec, SchemaRef) {
    let emit = if window.is_some() { Emit::OnClose } else { Emit::Changes };
    let mut fields: Vec<Field> = keys.iter().map(|key| schema().field(*key).clone()).collect();
    if window.is_some() {
        fields.extend(["start", "end", "time"].map(|name| Field::new(name, DataType::Int64, false)));
    }
    fields.extend(calls.iter().enumerate().map(|(index, _)| Field::new(format!("c{index}"), DataType::Int64, true)));
    let window = window.map(|window| WindowKey::Time { time: TIME, window, domain: TimeDomain::Event });
    let spec = AggregateSpec { keys: keys.to_vec(), window, calls, emit, allowed_lateness_ms: 0, expiry: None };
    (spec, Arc::new(Schema::new(fields)))
}

fn run(title: &str, keys: &[usize], window: Option<Window>, calls: Vec<AggregateCall>, bids: &[Delta]) {
    let (spec, output) = query(keys, window, calls);
    let node =
        Node { spec: Spec::Aggregate(spec), inputs: vec![], schema: output, position: None, on_error: OnError::Stop };
    let schemas = [schema()];
    let lowering = Lowering {
        node: &node,
        id: 0,
        inputs: &[0],
        input_schemas: &schemas,
        appends: &[true],
        singles: &[false],
        append_only: true,
        ttl_ms: None,
        lanes: 1,
        name: title.to_string(),
    };
    // The aggregate's task reads task 0, which nobody runs here.
    let mut graph = Graph::default();
    let make: tidemill_circuit::graph::MakeOperator = Arc::new(|| Ok(Box::new(Nothing)));
    let (name, position) = (String::new(), None);
    graph.add(tidemill_circuit::graph::Task { node: 0, name, position, inputs: vec![], schema: schema(), make });
    let task = operators::lower(&mut graph, &lowering).expect("the aggregate is supported");
    let mut operator = (graph.tasks[task].make)().expect("the aggregate is supported");
    let before = cpu_nanos();
    let mut said = 0;
    for (step, chunks) in bids.chunks(STEP_CHUNKS).enumerate() {
        let last = (step + 1) * STEP_CHUNKS >= bids.len();
        let watermark = if last { i64::MAX } else { ((step + 1) * STEP_CHUNKS * CHUNK / 9) as i64 };
        let (now, sides) = (Timestamp(0), Sides::default());
        let context = Context { step: step as u64, lane: 0, now, watermark: Timestamp(watermark), sides };
        let mut out = Output::default();
        for chunk in chunks {
            operator.push(0, chunk.clone(), &context, &mut out).expect("rows are taken");
        }
        while operator.flush(&context, &mut out).expect("changes are said") == Flush::More {}
        said += out.deltas.iter().map(Delta::rows).sum::<usize>();
    }
    let nanos = (cpu_nanos() - before) / ROWS as u64;
    let size = operator.state_size();
    println!(
        "{title:40} {nanos:5} ns CPU/row {said:9} rows out {:9} entries {:6.1} MB",
        size.entries,
        size.bytes as f64 / 1e6
    );
}

/// How state is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Keep {
    Off,
    Noted,
    Saved,
    Digested,
}

/// What a run costs, in nanoseconds of CPU.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    row: u64,
    /// The longest step while no save is under way, and while one is.
    steps: [u64; 2],
    slice: u64,
    root: u64,
    saved_bytes: u64,
}

/// A query as a circuit.
fn circuit(spec: &AggregateSpec, output: &SchemaRef, options: Options) -> Circuit {
    let node = |spec, inputs, schema: &SchemaRef| Node {
        spec,
        inputs,
        schema: schema.clone(),
        position: None,
        on_error: OnError::Stop,
    };
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let watermark = WatermarkSpec { time: TIME, bound: Column::new(TIME, "time", time), idle_timeout_ms: None };
    let source = SourceSpec {
        name: "bids".to_string(),
        decoded: schema(),
        origin: false,
        computed: None,
        watermark: Some(watermark),
        append_only: true,
    };
    let mut plan = Plan::default();
    let source = plan.add(node(Spec::Source(source), vec![], &schema()));
    let aggregate = plan.add(node(Spec::Aggregate(spec.clone()), vec![source], output));
    plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![aggregate], output));
    Circuit::new(&plan, &Decoders::new(), options).expect("the plan is supported")
}

/// The next step of rows, of which `record` says how many there were before.
fn step_of(chunks: &[Delta], record: &mut u64) -> StepInput {
    let mut blocks = Vec::new();
    for chunk in chunks {
        let records = chunk.rows() as u64;
        let data = BlockData::Rows(chunk.clone());
        let (from, to) = (*record, *record + records);
        blocks.push(Block { partition: 0, from, to, first_record: from, records: records as u32, data });
        *record = to;
    }
    let news = SourceInput { source: "bids".to_string(), blocks, ..SourceInput::default() };
    StepInput { now: 0, sources: vec![news] }
}

/// Runs a query as a circuit on one lane.
fn kept(spec: &AggregateSpec, output: &SchemaRef, bids: &[Delta], keep: Keep) -> Cost {
    let mut circuit = circuit(spec, output, Options { keep: keep != Keep::Off, ..Options::default() });
    let (mut record, mut since, mut saving, mut cost) = (0, 0, false, Cost::default());
    if keep == Keep::Digested {
        circuit.roots().expect("state is kept");
    }
    let before = cpu_nanos();
    for chunks in bids.chunks(STEP_CHUNKS) {
        since += chunks.iter().map(Delta::rows).sum::<usize>();
        let input = step_of(chunks, &mut record);
        let start = cpu_nanos();
        circuit.step(input).expect("the step runs");
        let longest = &mut cost.steps[usize::from(saving)];
        *longest = (*longest).max(cpu_nanos() - start);
        if keep == Keep::Off || keep == Keep::Noted {
            continue;
        }
        if since >= SAVE_ROWS {
            since = 0;
            if keep == Keep::Digested {
                let start = cpu_nanos();
                circuit.roots().expect("state is kept");
                cost.root = cost.root.max(cpu_nanos() - start);
            } else {
                circuit.begin_save(false).expect("state is kept");
                saving = true;
            }
        }
        if saving {
            let start = cpu_nanos();
            let slice = circuit.save_slice(1 << 20).expect("values can be written");
            cost.slice = cost.slice.max(cpu_nanos() - start);
            let rows = slice.chunks.iter().filter_map(|chunk| chunk.rows.as_ref());
            cost.saved_bytes += rows.map(|rows| rows.len() as u64).sum::<u64>();
            if slice.done {
                circuit.end_save(true);
                saving = false;
            }
        }
    }
    cost.row = (cpu_nanos() - before) / record.max(1);
    cost
}

/// What keeping costs: the least of three runs each.
fn compare(title: &str, keys: &[usize], window: Option<Window>, calls: Vec<AggregateCall>, bids: &[Delta]) {
    let (spec, output) = query(keys, window, calls);
    let least = |keep| (0..3).map(|_| kept(&spec, &output, bids, keep)).min().unwrap_or_default();
    let [off, noted, saved, digested] = [Keep::Off, Keep::Noted, Keep::Saved, Keep::Digested].map(least);
    let percent = |cost: Cost| 100.0 * (cost.row as f64 / off.row.max(1) as f64 - 1.0);
    println!(
        "{title:32} off {:4} ns/row, noted {:4} ({:+5.1} %), saved {:4} ({:+5.1} %), digested {:4} ({:+5.1} %)",
        off.row,
        noted.row,
        percent(noted),
        saved.row,
        percent(saved),
        digested.row,
        percent(digested),
    );
    let millis = |nanos: u64| nanos as f64 / 1e6;
    println!(
        "    {:6.1} MB saved; longest step {:5.2} ms, during a save {:5.2} ms; slice {:5.2} ms; roots {:5.2} ms",
        saved.saved_bytes as f64 / 1e6,
        millis(saved.steps[0]),
        millis(saved.steps[1]),
        millis(saved.slice),
        millis(digested.root),
    );
}

/// What a second lane costs: the least of three runs each.
fn beside(title: &str, keys: &[usize], window: Option<Window>, calls: Vec<AggregateCall>, bids: &[Delta]) {
    let (spec, output) = query(keys, window, calls);
    let run = |lanes| {
        let mut circuit = circuit(&spec, &output, Options { lanes, ..Options::default() });
        let (mut record, before) = (0, all_cpu_nanos());
        for chunks in bids.chunks(STEP_CHUNKS) {
            circuit.step(step_of(chunks, &mut record)).expect("the step runs");
        }
        (all_cpu_nanos() - before) / record.max(1)
    };
    let [one, two] = [1, 2].map(|lanes| (0..3).map(|_| run(lanes)).min().unwrap_or_default());
    println!("{title:40} one lane {one:4} ns CPU/row, two {two:4} ({:+.0} %)", 100.0 * (two as f64 / one as f64 - 1.0));
}

/// Counts by a key of a million values, spread evenly.
fn uniform() -> Vec<Delta> {
    let mut rng = Rng::seeded(2);
    let mut chunks = bids();
    for chunk in &mut chunks {
        let mut columns = chunk.batch().columns().to_vec();
        columns[AUCTION] =
            Arc::new(Int64Array::from_iter_values((0..chunk.rows()).map(|_| rng.below(1_000_000) as i64)));
        *chunk = Delta::inserts(RecordBatch::try_new(schema(), columns).expect("columns of the schema"));
    }
    chunks
}

/// Nanoseconds that this thread has run.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

/// Nanoseconds that all threads that there are have run.
fn all_cpu_nanos() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default());
    texts.filter_map(|text| text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok())).sum()
}

struct Nothing;

impl Operator for Nothing {
    fn push(&mut self, _: usize, _: Delta, _: &Context, _: &mut Output) -> Result<(), tidemill_circuit::Error> {
        Ok(())
    }
}

fn main() {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let bids = bids();
    if std::env::args().any(|argument| argument == "keep") {
        return keeping(&bids);
    }
    let measure = if std::env::args().any(|argument| argument == "lanes") { beside } else { run };
    let counts = |args: &[usize], distinct: bool| {
        [None, Some(CHEAP), Some(MIDDLE)].map(|filter| call(Count, args, filter, distinct)).to_vec()
    };
    let hop = Window::Hop { slide: 2_000, size: 10_000, offset: 0 };
    measure("q5: hop, count by auction", &[AUCTION], Some(hop), counts(&[], false)[..1].to_vec(), &bids);
    let tumble = Window::Tumble { size: 10_000, offset: 0 };
    measure("q7: tumble, max", &[], Some(tumble), vec![call(Max, &[PRICE], None, false)], &bids);
    let session = Window::Session { gap: 1_000 };
    measure("q11: session, count by bidder", &[BIDDER], Some(session), counts(&[], false)[..1].to_vec(), &bids);
    let mut distinct = counts(&[], false);
    distinct.extend(counts(&[BIDDER], true));
    distinct.extend(counts(&[AUCTION], true));
    measure("q15: distinct by day", &[DAY], None, distinct.clone(), &bids);
    distinct.push(call(Max, &[PRICE], None, false));
    measure("q16: distinct by channel, day", &[CHANNEL, DAY], None, distinct, &bids);
    let mut stats = counts(&[], false);
    stats.extend([Min, Max, Avg, Sum].map(|function| call(function, &[PRICE], None, false)));
    measure("q17: statistics by auction, day", &[AUCTION, DAY], None, stats.clone(), &bids);
    measure("q17 shape by auction alone", &[AUCTION], None, stats, &bids);
    measure("distinct auction, bidder", &[AUCTION, BIDDER], None, Vec::new(), &bids);
}

fn keeping(bids: &[Delta]) {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let count = || vec![call(Count, &[], None, false)];
    compare("q11: session, count by bidder", &[BIDDER], Some(Window::Session { gap: 1_000 }), count(), bids);
    let mut distinct: Vec<AggregateCall> = Vec::new();
    for (args, distinct_values) in [(vec![], false), (vec![BIDDER], true), (vec![AUCTION], true)] {
        for filter in [None, Some(CHEAP), Some(MIDDLE)] {
            distinct.push(call(Count, &args, filter, distinct_values));
        }
    }
    distinct.push(call(Max, &[PRICE], None, false));
    compare("q16: distinct by channel, day", &[CHANNEL, DAY], None, distinct, bids);
    let mut stats = count();
    stats.extend([Min, Max, Avg, Sum].map(|function| call(function, &[PRICE], None, false)));
    compare("q17: statistics by auction, day", &[AUCTION, DAY], None, stats, bids);
    compare("count over 1 M keys, uniform", &[AUCTION], None, count(), &uniform());
}

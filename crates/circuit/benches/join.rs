//! What a join costs: bids and auctions in the shape of Nexmark's, joined by the auction, with nothing that expires, with
//! rows that expire, with rows that are taken back, and as an outer join.
//!
//! `cargo bench -p tidemill-circuit --bench join` prints the CPU time of a bid and what is kept; a title after `--` runs that
//! one alone.

// It prints what it measures.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::rand::Rng;
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::{Expr, OnError, Scalar};
use tidemill_circuit::plan::{
    Emit, Expiry, JoinKind, JoinNulls, JoinSpec, Node, OutputSpec, Plan, SourceSpec, Spec, WatermarkSpec,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Delta};

/// The columns of both tables: auction, a number, a time, a time, two texts.
const AUCTION: usize = 0;
const TIME: usize = 2;
const ENDS: usize = 3;
const WIDTH: usize = 6;

/// Bids of a block, and auctions that come with them.
const BIDS: usize = 8_192;
const AUCTIONS: usize = 512;

/// Milliseconds that a block takes, and that an auction lasts.
const BLOCK_MS: i64 = 1_000;
const LASTS_MS: i64 = 10_000;

const TIME_TYPE: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn schema() -> SchemaRef {
    let types = [DataType::Int64, DataType::Int64, TIME_TYPE, TIME_TYPE, DataType::Utf8, DataType::Utf8];
    let names = ["auction", "number", "time", "ends", "name", "extra"];
    let field = |(name, data_type): (&str, DataType)| Field::new(name, data_type, false);
    Arc::new(Schema::new(names.into_iter().zip(types).map(field).collect::<Vec<_>>()))
}

/// `time`, or `bid.time BETWEEN auction.time AND auction.ends`.
#[derive(Debug)]
enum Of {
    Time,
    Open,
}

impl Scalar for Of {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let times = |column: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().values();
        Ok(match self {
            Of::Time => batch.column(TIME).clone(),
            Of::Open => {
                let (bids, starts, ends) = (times(TIME), times(WIDTH + TIME), times(WIDTH + ENDS));
                let open = bids.iter().zip(starts).zip(ends).map(|((bid, start), end)| start <= bid && bid <= end);
                Arc::new(BooleanArray::from(open.collect::<Vec<_>>()))
            }
        })
    }

    fn data_type(&self) -> DataType {
        if matches!(self, Of::Time) { TIME_TYPE } else { DataType::Boolean }
    }

    fn print(&self) -> String {
        format!("{self:?}")
    }

    fn columns(&self) -> Option<Vec<usize>> {
        Some(if matches!(self, Of::Time) { vec![TIME] } else { vec![TIME, WIDTH + TIME, WIDTH + ENDS] })
    }
}

fn plan(kind: JoinKind, expires: bool, appends: bool) -> Plan {
    let mut plan = Plan::default();
    let node = |spec, inputs, schema| Node { spec, inputs, schema, position: None, on_error: OnError::Stop };
    for name in ["bids", "auctions"] {
        let watermark = WatermarkSpec { time: TIME, bound: Arc::new(Of::Time), idle_timeout_ms: None };
        let source = SourceSpec {
            name: name.to_string(),
            decoded: schema(),
            origin: false,
            computed: None,
            watermark: Some(watermark),
            append_only: appends,
        };
        plan.add(node(Spec::Source(source), vec![], schema()));
    }
    let expiry = |time| expires.then_some(Expiry { time, after_ms: 0 });
    let spec = JoinSpec {
        kind,
        left_keys: vec![AUCTION],
        right_keys: vec![AUCTION],
        nulls: JoinNulls::Unequal,
        residual: expires.then(|| Arc::new(Of::Open) as Expr),
        columns: (0..2 * WIDTH).collect(),
        // An auction starts before its bids, and ends.
        expiry: [expiry(TIME), expiry(ENDS)],
        late: [None; 2],
        pad: Emit::Changes,
    };
    let both = [schema(), schema()];
    let fields = both.iter().flat_map(|side| side.fields()).map(|field| field.as_ref().clone().with_nullable(true));
    let output: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    plan.add(node(Spec::Join(spec), vec![0, 1], output.clone()));
    plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![2], output));
    plan
}

/// Bids for one of the last thousand auctions, or auctions.
fn rows(rng: &mut Rng, block: usize, bids: bool) -> RecordBatch {
    let rows = if bids { BIDS } else { AUCTIONS };
    let last = ((block + 1) * AUCTIONS) as u64;
    let auction = |row: usize, rng: &mut Rng| match bids {
        true => last.saturating_sub(1 + rng.below(1_000)) as i64,
        false => (block * AUCTIONS + row) as i64,
    };
    let auctions: Vec<i64> = (0..rows).map(|row| auction(row, rng)).collect();
    let time = |row: usize| block as i64 * BLOCK_MS + (row as i64 * BLOCK_MS) / rows as i64;
    let texts = |length: u64, rng: &mut Rng| -> ArrayRef {
        let text = |_| "x".repeat((length / 2 + rng.below(length)) as usize);
        Arc::new(StringArray::from_iter_values((0..rows).map(text).collect::<Vec<_>>()))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(auctions)),
        Arc::new(Int64Array::from_iter_values((0..rows).map(|_| rng.below(1_000_000) as i64))),
        Arc::new(TimestampMillisecondArray::from_iter_values((0..rows).map(time))),
        Arc::new(TimestampMillisecondArray::from_iter_values((0..rows).map(|row| time(row) + LASTS_MS))),
        texts(20, rng),
        texts(if bids { 100 } else { 400 }, rng),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

/// Runs `blocks` steps, of which with `updating` each takes back what the one before gave, and prints what a bid costs.
fn run(title: &str, plan: &Plan, blocks: usize, updating: bool, keep: bool) {
    let mut circuit = Circuit::new(plan, &Decoders::new(), Options { keep, ..Options::default() }).expect("supported");
    let (mut rng, mut spent, mut out, mut from) = (Rng::seeded(1), 0, 0, 0);
    let mut before: Option<[RecordBatch; 2]> = None;
    for number in 0..blocks {
        let tables = [rows(&mut rng, number, true), rows(&mut rng, number, false)];
        let mut sources = Vec::new();
        for (table, name) in ["bids", "auctions"].into_iter().enumerate() {
            let mut deltas = vec![Delta::inserts(tables[table].clone())];
            if let Some(before) = before.as_ref().filter(|_| updating) {
                deltas.push(Delta::weighted(before[table].clone(), vec![-1; before[table].num_rows()]));
            }
            let blocks = deltas.into_iter().map(|delta| {
                let (first, records) = (from, delta.rows() as u32);
                from += u64::from(records);
                let data = BlockData::Rows(delta);
                Block { partition: 0, from: first, to: from, first_record: first, records, data }
            });
            let (blocks, opened) = (blocks.collect(), if number == 0 { vec![0] } else { vec![] });
            sources.push(SourceInput { source: name.to_string(), blocks, opened, ..SourceInput::default() });
        }
        let start = cpu_nanos();
        let output = circuit.step(StepInput { now: 0, sources }).expect("the step runs");
        out += output.outputs.iter().flat_map(|output| &output.deltas).map(Delta::rows).sum::<usize>();
        drop(output);
        spent += cpu_nanos() - start;
        before = Some(tables);
    }
    let sizes = circuit.state();
    let (entries, bytes) = sizes.iter().fold((0, 0), |sum, (_, size)| (sum.0 + size.entries, sum.1 + size.bytes));
    println!(
        "{title:32} {:6} ns/bid, {:5.2} rows out a bid, {entries:9} rows kept in {:8.1} MB",
        spent / (blocks * BIDS) as u64,
        out as f64 / (blocks * BIDS) as f64,
        bytes as f64 / 1e6
    );
}

/// Nanoseconds that this thread has run.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |title: &str| wanted.as_ref().is_none_or(|wanted| title == wanted);
    let cases = [
        ("inner, all is kept", plan(JoinKind::Inner, false, true), false, false),
        ("inner, all is kept and saved", plan(JoinKind::Inner, false, true), false, true),
        ("inner, rows expire", plan(JoinKind::Inner, true, true), false, false),
        ("inner, rows are taken back", plan(JoinKind::Inner, false, false), true, false),
        ("left, rows expire", plan(JoinKind::Left, true, true), false, false),
        ("left, rows are taken back", plan(JoinKind::Left, false, false), true, false),
    ];
    for (title, plan, updating, keep) in cases.iter().filter(|(title, ..)| wanted(title)) {
        run(title, plan, 200, *updating, *keep);
    }
}

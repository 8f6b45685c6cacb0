//! How often a small step allocates, counted: what a decision costs besides its arithmetic.
//!
//! With `TIDEMILL_TELL_ALLOCATIONS=1` and `--nocapture` each allocation of a step tells where it comes from.

#![allow(unsafe_code, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::expr::OnError;
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, Frame, Node, NodeId, OutputSpec, OverCall, OverSpec, OverTurn, Plan, SourceSpec,
    Spec, TimeDomain,
};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Delta};

thread_local! {
    /// The allocations of this thread, and whether each tells where it comes from.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn count() {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        if TELLS.try_with(|tells| tells.replace(false)).unwrap_or(false) {
            println!("=== {}", std::backtrace::Backtrace::force_capture());
            TELLS.set(true);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const AMOUNT: usize = 3;
const TIME: usize = 4;
const ORIGIN: usize = 5;

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn decoded() -> Vec<Field> {
    let types = [DataType::Int64, DataType::Int64, DataType::Int64, DataType::Float64, time_type()];
    let names = ["card", "device", "address", "amount", "time"];
    names.into_iter().zip(types).map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// A source, `COUNT(*)`, `SUM(amount)` and `AVG(amount)` of the last minute by each of so many keys, and an output.
fn plan(keys: usize) -> Plan {
    let mut plan = Plan::default();
    let mut add = |spec: Spec, inputs: Vec<NodeId>, schema: &SchemaRef| {
        plan.add(Node { spec, inputs, schema: schema.clone(), position: None, on_error: OnError::Stop })
    };
    let source = SourceSpec {
        name: "payments".to_string(),
        decoded: Arc::new(Schema::new(decoded())),
        origin: true,
        computed: None,
        watermark: None,
        append_only: true,
    };
    let mut fields = decoded();
    fields.push(Field::new("$origin", DataType::UInt64, false));
    let mut schema: SchemaRef = Arc::new(Schema::new(fields.clone()));
    let mut node = add(Spec::Source(source), vec![], &schema);
    for key in 0..keys {
        use AggregateFunction::{Avg, Count, Sum};
        let call = |function| {
            let (args, result) = match function {
                Count => (vec![], DataType::Int64),
                _ => (vec![AMOUNT], DataType::Float64),
            };
            OverCall::Aggregate(AggregateCall { function, args, filter: None, distinct: false, result })
        };
        for (name, result) in [("n", DataType::Int64), ("sum", DataType::Float64), ("avg", DataType::Float64)] {
            fields.push(Field::new(format!("{name}_{key}"), result, true));
        }
        schema = Arc::new(Schema::new(fields.clone()));
        let spec = OverSpec {
            keys: vec![key],
            order: Some(TIME),
            domain: TimeDomain::Event,
            origin: Some(ORIGIN),
            turn: OverTurn::Arrival,
            frame: Frame::Range { preceding_ms: Some(60_000), unit_ms: None },
            calls: [Count, Sum, Avg].into_iter().map(call).collect(),
        };
        node = add(Spec::Over(spec), vec![node], &schema);
    }
    add(Spec::Output(OutputSpec { name: "score".to_string(), key: None }), vec![node], &schema);
    plan
}

/// A step of one row.
fn step(number: i64, opened: bool) -> StepInput {
    let whole = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let columns: Vec<ArrayRef> = vec![
        whole(number % 7),
        whole(number % 5),
        whole(number % 3),
        Arc::new(Float64Array::from(vec![number as f64])),
        Arc::new(TimestampMillisecondArray::from(vec![number * 10])),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(decoded())), columns).expect("five columns of one row");
    let from = number as u64;
    let block = Block {
        partition: 0,
        from,
        to: from + 1,
        first_record: from,
        records: 1,
        data: BlockData::Rows(Delta::inserts(batch)),
    };
    let opened = if opened { vec![0] } else { Vec::new() };
    let source = SourceInput { source: "payments".to_string(), blocks: vec![block], opened, ..SourceInput::default() };
    StepInput { now: number * 10, sources: vec![source] }
}

/// Allocations of a step of one row, the least of many: memory that grows for the steps to come is not a step's.
fn allocations(keys: usize) -> u64 {
    let options = Options { keep: true, digests: true, ..Options::default() };
    let mut circuit = Circuit::new(&plan(keys), &Decoders::new(), options).expect("a plan that runs");
    let mut least = u64::MAX;
    for number in 0..2_000 {
        let input = step(number, number == 0);
        TELLS.set(number == 1_999 && std::env::var_os("TIDEMILL_TELL_ALLOCATIONS").is_some());
        let before = COUNT.get();
        let output = circuit.step(input).expect("a step");
        let count = COUNT.get() - before;
        TELLS.set(false);
        assert_eq!(output.outputs[0].deltas[0].rows(), 1);
        if number > 1_000 {
            least = least.min(count);
        }
    }
    least
}

#[test]
fn a_small_step_allocates_little_and_each_over_a_little_more() {
    let [none, one, three] = [0, 1, 3].map(allocations);
    println!("allocations of a step of one row: {none} without OVER, {one} with one, {three} with three");
    assert!(none <= 32, "{none} without OVER");
    assert!(one <= none + 22 && three <= none + 66, "{none} without OVER, {one} with one, {three} with three");
}

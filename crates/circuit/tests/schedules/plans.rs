//! Random plans: a source, perhaps a filter, one or two levels of aggregation with and without windows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::rand::Rng;
use tidemill_circuit::expr::{Expr, OnError, Scalar};
use tidemill_circuit::plan::{
    AggregateCall, AggregateFunction, AggregateSpec, AssignSpec, Emit, Node, OutputSpec, Plan, SourceSpec, Spec,
    TimeDomain, WatermarkSpec, Window, WindowKey,
};

/// The columns of the source: key, text, number, float, flag, time and `$origin`.
pub(crate) const KEY: usize = 0;
pub(crate) const TEXT: usize = 1;
pub(crate) const NUMBER: usize = 2;
pub(crate) const FLOAT: usize = 3;
pub(crate) const FLAG: usize = 4;
pub(crate) const TIME: usize = 5;
pub(crate) const ORIGIN: usize = 6;

/// How far rows may come out of order, in milliseconds.
pub(crate) const DELAY: i64 = 50;

/// A plan and what the naive side has to know of it.
pub(crate) struct Case {
    pub(crate) plan: Plan,
    /// Whether rows are taken back.
    pub(crate) updating: bool,
    /// Whether all state belongs to windows that close at the end.
    pub(crate) closes: bool,
}

impl Case {
    pub(crate) fn describe(&self) -> String {
        let spec = |node: &Node| match &node.spec {
            Spec::Aggregate(spec) => format!("{spec:?}"),
            Spec::AssignWindow(spec) => format!("{spec:?}"),
            Spec::Filter(predicate) => format!("Filter {}", predicate.print()),
            _ => node.title().to_string(),
        };
        self.plan.nodes.iter().map(spec).collect::<Vec<_>>().join("\n")
    }
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// The source's columns, `$origin` left out.
pub(crate) fn decoded() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("time", time_type(), true),
    ]))
}

pub(crate) fn with(schema: &SchemaRef, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let all = schema.fields().iter().map(|field| field.as_ref().clone()).chain(fields);
    Arc::new(Schema::new(all.collect::<Vec<_>>()))
}

/// `column + millis`, of time.
#[derive(Debug)]
pub(crate) struct Shifted {
    pub(crate) column: usize,
    pub(crate) millis: i64,
}

impl Scalar for Shifted {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let times = batch.column(self.column).as_primitive::<arrow_array::types::TimestampMillisecondType>();
        Ok(Arc::new(times.unary::<_, arrow_array::types::TimestampMillisecondType>(|time| time + self.millis))
            as Arc<TimestampMillisecondArray>)
    }

    fn data_type(&self) -> DataType {
        time_type()
    }

    fn print(&self) -> String {
        format!("time + {}", self.millis)
    }
}

/// `number > least`.
#[derive(Debug)]
pub(crate) struct Above(pub(crate) i64);

impl Scalar for Above {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let numbers = batch.column(NUMBER).as_primitive::<Int64Type>();
        Ok(Arc::new(numbers.iter().map(|number| number.map(|number| number > self.0)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        format!("number > {}", self.0)
    }
}

/// The plan's nodes, one after another.
struct Builder {
    plan: Plan,
}

impl Builder {
    fn node(&mut self, spec: Spec, schema: SchemaRef) {
        let inputs = self.plan.nodes.len().checked_sub(1).into_iter().collect();
        self.plan.add(Node { spec, inputs, schema, position: None, on_error: OnError::Stop });
    }

    fn schema(&self) -> SchemaRef {
        self.plan.nodes.last().map(|node| node.schema.clone()).unwrap_or_else(decoded)
    }
}

/// A random plan.
pub(crate) fn random(rng: &mut Rng) -> Case {
    let updating = rng.chance(1, 2);
    let mut builder = Builder { plan: Plan::default() };
    let bound: Expr = Arc::new(Shifted { column: TIME, millis: -DELAY });
    builder.node(
        Spec::Source(SourceSpec {
            name: "rows".to_string(),
            decoded: decoded(),
            origin: true,
            computed: None,
            watermark: Some(WatermarkSpec { time: TIME, bound, idle_timeout_ms: None }),
            append_only: !updating,
        }),
        with(&decoded(), [Field::new("$origin", DataType::UInt64, false)]),
    );
    if rng.chance(1, 3) {
        let schema = builder.schema();
        builder.node(Spec::Filter(Arc::new(Above(rng.below(5) as i64 - 3))), schema);
    }
    let windowed = rng.chance(2, 3);
    if windowed {
        let on_close = rng.chance(3, 4);
        windowed_aggregate(rng, &mut builder, updating, if on_close { Emit::OnClose } else { Emit::Changes });
    } else {
        grouped_aggregate(rng, &mut builder, updating);
    }
    let second = rng.chance(1, 3);
    if second {
        second_aggregate(rng, &mut builder);
    }
    let schema = builder.schema();
    builder.node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), schema);
    Case { plan: builder.plan, updating, closes: windowed && !second }
}

fn random_window(rng: &mut Rng) -> Window {
    let offset = if rng.chance(1, 3) { rng.below(20) as i64 - 10 } else { 0 };
    match rng.below(4) {
        0 => Window::Tumble { size: 10 + rng.below(60) as i64, offset },
        1 => {
            let slide = 5 + rng.below(20) as i64;
            Window::Hop { slide, size: slide * (1 + rng.below(5) as i64), offset }
        }
        2 => {
            let step = 5 + rng.below(20) as i64;
            Window::Cumulate { step, max: step * (1 + rng.below(5) as i64), offset }
        }
        _ => Window::Session { gap: 5 + rng.below(30) as i64 },
    }
}

fn random_keys(rng: &mut Rng) -> Vec<usize> {
    [KEY, TEXT, FLAG].into_iter().filter(|_| rng.chance(1, 3)).collect()
}

pub(crate) fn key_fields(schema: &SchemaRef, keys: &[usize]) -> Vec<Field> {
    keys.iter().map(|key| schema.field(*key).clone()).collect()
}

pub(crate) fn window_fields() -> [Field; 3] {
    ["window_start", "window_end", "window_time"].map(|name| Field::new(name, time_type(), false))
}

fn windowed_aggregate(rng: &mut Rng, builder: &mut Builder, updating: bool, emit: Emit) {
    let window = random_window(rng);
    let domain = TimeDomain::Event;
    let mut keys = random_keys(rng);
    let assigned = !matches!(window, Window::Session { .. }) && rng.chance(1, 4);
    let key = if assigned {
        let schema = with(&builder.schema(), window_fields());
        let width = schema.fields().len();
        builder.node(Spec::AssignWindow(AssignSpec { time: TIME, window, domain }), schema);
        WindowKey::Columns { start: width - 3, end: width - 2, domain }
    } else {
        WindowKey::Time { time: TIME, window, domain }
    };
    if rng.chance(1, 4) {
        keys.clear();
    }
    let schema = builder.schema();
    let calls = random_calls(rng, updating);
    let fields: Vec<Field> =
        key_fields(&schema, &keys).into_iter().chain(window_fields()).chain(call_fields(&calls)).collect();
    let spec = AggregateSpec { keys, window: Some(key), calls, emit, allowed_lateness_ms: 0, expiry: None };
    builder.node(Spec::Aggregate(spec), Arc::new(Schema::new(fields)));
}

fn grouped_aggregate(rng: &mut Rng, builder: &mut Builder, updating: bool) {
    let schema = builder.schema();
    let keys = random_keys(rng);
    let calls = if !keys.is_empty() && rng.chance(1, 5) { Vec::new() } else { random_calls(rng, updating) };
    let fields: Vec<Field> = key_fields(&schema, &keys).into_iter().chain(call_fields(&calls)).collect();
    let spec = AggregateSpec { keys, window: None, calls, emit: Emit::Changes, allowed_lateness_ms: 0, expiry: None };
    builder.node(Spec::Aggregate(spec), Arc::new(Schema::new(fields)));
}

/// Groups the answer of the first aggregate by one of its columns, or by nothing.
fn second_aggregate(rng: &mut Rng, builder: &mut Builder) {
    let schema = builder.schema();
    let column = rng.below(schema.fields().len() as u64) as usize;
    let groupable = !matches!(schema.field(column).data_type(), DataType::List(_) | DataType::Float64);
    let keys = if groupable && rng.chance(3, 4) { vec![column] } else { vec![] };
    let mut calls = vec![call(AggregateFunction::Count, vec![], DataType::Int64)];
    for (index, field) in schema.fields().iter().enumerate() {
        if *field.data_type() == DataType::Int64 && rng.chance(1, 2) {
            let function =
                [AggregateFunction::Sum, AggregateFunction::Max, AggregateFunction::Min, AggregateFunction::Avg];
            calls.push(call(function[rng.below(4) as usize], vec![index], DataType::Int64));
        }
    }
    let fields: Vec<Field> = key_fields(&schema, &keys).into_iter().chain(call_fields(&calls)).collect();
    let spec = AggregateSpec { keys, window: None, calls, emit: Emit::Changes, allowed_lateness_ms: 0, expiry: None };
    builder.node(Spec::Aggregate(spec), Arc::new(Schema::new(fields)));
}

pub(crate) fn call_fields(calls: &[AggregateCall]) -> Vec<Field> {
    calls.iter().enumerate().map(|(index, call)| Field::new(format!("a{index}"), call.result.clone(), true)).collect()
}

pub(crate) fn call(function: AggregateFunction, args: Vec<usize>, result: DataType) -> AggregateCall {
    AggregateCall { function, args, filter: None, distinct: false, result }
}

fn random_calls(rng: &mut Rng, updating: bool) -> Vec<AggregateCall> {
    let count = 1 + rng.below(5);
    (0..count).map(|_| random_call(rng, updating)).collect()
}

fn random_call(rng: &mut Rng, updating: bool) -> AggregateCall {
    use AggregateFunction::*;
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let mut call = match rng.below(if updating { 15 } else { 19 }) {
        0 => call(Count, vec![], DataType::Int64),
        1 => call(Count, vec![[KEY, TEXT, NUMBER, FLOAT][rng.below(4) as usize]], DataType::Int64),
        2 => call(Sum, vec![NUMBER], DataType::Int64),
        3 => call(Sum, vec![FLOAT], DataType::Float64),
        4 => call(Avg, vec![NUMBER], DataType::Int64),
        5 => call(Avg, vec![FLOAT], DataType::Float64),
        6 => call(Min, vec![NUMBER], DataType::Int64),
        7 => call(Max, vec![TEXT], DataType::Utf8),
        8 => call(Max, vec![FLOAT], DataType::Float64),
        9 => call(Min, vec![TIME], time_type()),
        10 => call(VarPop, vec![FLOAT], DataType::Float64),
        11 => call(StddevSamp, vec![NUMBER], DataType::Float64),
        12 => call(BoolAnd, vec![FLAG], DataType::Boolean),
        13 => call(BoolOr, vec![FLAG], DataType::Boolean),
        14 => call(Count, vec![[KEY, TEXT, NUMBER][rng.below(3) as usize]], DataType::Int64),
        15 => call(FirstValue, vec![NUMBER, ORIGIN], DataType::Int64),
        16 => call(LastValue, vec![TEXT, ORIGIN], DataType::Utf8),
        17 => call(ArrayAgg, vec![NUMBER, ORIGIN], list),
        _ => call(Max, vec![NUMBER], DataType::Int64),
    };
    if rng.chance(1, 4) {
        call.filter = Some(FLAG);
    }
    let can_be_distinct =
        matches!((call.function, call.args.as_slice()), (Count | Sum | Avg, [column]) if *column != FLOAT);
    call.distinct = can_be_distinct && rng.chance(1, 2);
    call
}

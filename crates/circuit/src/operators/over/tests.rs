use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::rand::Rng;

use crate::circuit::{Circuit, Options};
use crate::decode::{Block, BlockData, Decoders};
use crate::delta::Delta;
use crate::expr::{Expr, OnError, Scalar};
use crate::operators::testing::lines;
use crate::plan::AggregateFunction::{self, *};
use crate::plan::{
    AggregateCall, Frame, Node, OutputSpec, OverCall, OverSpec, OverTurn, Plan, SourceSpec, Spec, TimeDomain,
    WatermarkSpec,
};
use crate::step::{SourceInput, StepInput};

const KEY: usize = 0;
const NUMBER: usize = 1;
const FLOAT: usize = 2;
const FLAG: usize = 3;
const TIME: usize = 4;
const ORIGIN: usize = 5;

#[derive(Debug, Clone)]
struct Row {
    key: Option<i64>,
    number: Option<i64>,
    float: Option<f64>,
    flag: Option<bool>,
    time: i64,
    partition: u32,
    /// `$origin`.
    origin: i64,
    /// The watermark of its partition before it.
    stood: i64,
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn decoded() -> SchemaRef {
    let types = [DataType::Int64, DataType::Int64, DataType::Float64, DataType::Boolean, time_type()];
    let names = ["key", "number", "float", "flag", "time"];
    let field = |(name, data_type): (&str, DataType)| Field::new(name, data_type, true);
    Arc::new(Schema::new(names.into_iter().zip(types).map(field).collect::<Vec<_>>()))
}

fn with(schema: &SchemaRef, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone()).chain(fields).collect::<Vec<_>>()))
}

/// `time - delay`.
#[derive(Debug)]
struct Behind(i64);

impl Scalar for Behind {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        use arrow_array::cast::AsArray;
        use arrow_array::types::TimestampMillisecondType;
        let times = batch.column(TIME).as_primitive::<TimestampMillisecondType>();
        Ok(Arc::new(times.unary::<_, TimestampMillisecondType>(|time| time - self.0)))
    }

    fn data_type(&self) -> DataType {
        time_type()
    }

    fn print(&self) -> String {
        format!("time - {}", self.0)
    }
}

fn aggregate(function: AggregateFunction, args: &[usize], filter: bool, distinct: bool, result: DataType) -> OverCall {
    let filter = filter.then_some(FLAG);
    OverCall::Aggregate(AggregateCall { function, args: args.to_vec(), filter, distinct, result })
}

fn every_call() -> Vec<OverCall> {
    let (int, float, flag) = (DataType::Int64, DataType::Float64, DataType::Boolean);
    vec![
        aggregate(Count, &[], false, false, int.clone()),
        aggregate(Count, &[NUMBER], true, false, int.clone()),
        aggregate(Sum, &[NUMBER], false, false, int.clone()),
        aggregate(Avg, &[FLOAT], false, false, float.clone()),
        aggregate(Sum, &[FLOAT], true, false, float.clone()),
        aggregate(Min, &[NUMBER], false, false, int.clone()),
        aggregate(Max, &[FLOAT], true, false, float.clone()),
        aggregate(StddevSamp, &[FLOAT], false, false, float.clone()),
        aggregate(VarPop, &[FLOAT], false, false, float.clone()),
        aggregate(BoolAnd, &[FLAG], false, false, flag.clone()),
        aggregate(BoolOr, &[FLAG], false, false, flag),
        aggregate(FirstValue, &[NUMBER, ORIGIN], false, false, int.clone()),
        aggregate(LastValue, &[FLOAT, ORIGIN], true, false, float.clone()),
        aggregate(Count, &[NUMBER], false, true, int.clone()),
        aggregate(Sum, &[NUMBER], true, true, int.clone()),
        aggregate(Avg, &[FLOAT], false, true, float),
        OverCall::RowNumber,
        OverCall::Lag { column: NUMBER, offset: 1, default: None },
        OverCall::Lag { column: FLOAT, offset: 3, default: Some(FLOAT) },
    ]
}

fn result_of(call: &OverCall) -> DataType {
    match call {
        OverCall::Aggregate(call) => call.result.clone(),
        OverCall::RowNumber => DataType::Int64,
        OverCall::Lag { column, .. } => decoded().field(*column).data_type().clone(),
    }
}

fn spec(keys: &[usize], turn: OverTurn, frame: Frame, calls: Vec<OverCall>) -> OverSpec {
    let (order, domain, origin) = (Some(TIME), TimeDomain::Event, Some(ORIGIN));
    OverSpec { keys: keys.to_vec(), order, domain, origin, turn, frame, calls }
}

fn plan(spec: &OverSpec, delay: i64) -> Plan {
    let mut plan = Plan::default();
    let node = |spec, inputs, schema: &SchemaRef| Node {
        spec,
        inputs,
        schema: schema.clone(),
        position: None,
        on_error: OnError::Stop,
    };
    let bound: Expr = Arc::new(Behind(delay));
    let source = SourceSpec {
        name: "rows".to_string(),
        decoded: decoded(),
        origin: true,
        computed: None,
        watermark: Some(WatermarkSpec { time: TIME, bound, idle_timeout_ms: None }),
        append_only: true,
    };
    let schema = with(&decoded(), [Field::new("$origin", DataType::UInt64, false)]);
    let source = plan.add(node(Spec::Source(source), vec![], &schema));
    let answers = spec.calls.iter().enumerate().map(|(n, call)| Field::new(format!("c{n}"), result_of(call), true));
    let schema = with(&schema, answers);
    let over = plan.add(node(Spec::Over(spec.clone()), vec![source], &schema));
    plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![over], &schema));
    plan
}

fn block(rows: &[Row]) -> Block {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.number).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>()),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.time))),
    ];
    let batch = RecordBatch::try_new(decoded(), columns).expect("columns of the schema");
    let first = (rows[0].origin & ((1 << 40) - 1)) as u64;
    let (partition, records) = (rows[0].partition, rows.len() as u32);
    let data = BlockData::Rows(Delta::inserts(batch));
    Block { partition, from: first, to: first + rows.len() as u64, first_record: first, records, data }
}

/// The input of the rows from `from` on, up to `to`.
fn input(rows: &[Row], from: usize, to: usize, partitions: u32, now: i64) -> StepInput {
    let mut news = SourceInput { source: "rows".to_string(), ..SourceInput::default() };
    news.blocks = rows[from..to].chunk_by(|a, b| a.partition == b.partition).map(block).collect();
    if from == 0 {
        news.opened = (0..partitions).collect();
    }
    if to == rows.len() {
        (news.ended, news.complete) = ((0..partitions).collect(), true);
    }
    StepInput { now, sources: vec![news] }
}

/// Random rows, whose times go back by up to `disorder`.
fn random_rows(rng: &mut Rng, count: usize, partitions: u32, keys: u64, disorder: u64, delay: i64) -> Vec<Row> {
    let mut time = 1_000;
    let mut counts = vec![0_i64; partitions as usize];
    let mut marks = vec![i64::MIN; partitions as usize];
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        time += [0, 0, 1, 3, 30][rng.below(5) as usize];
        let partition = rng.below(u64::from(partitions)) as usize;
        let at = time - rng.below(disorder + 1) as i64;
        let some = |rng: &mut Rng| !rng.chance(1, 8);
        rows.push(Row {
            key: some(rng).then(|| rng.below(keys) as i64),
            number: some(rng).then(|| rng.below(9) as i64 - 4),
            float: some(rng).then(|| (rng.below(64) as f64 - 20.0) / 8.0),
            flag: some(rng).then(|| rng.chance(2, 3)),
            time: at,
            partition: partition as u32,
            origin: (partition as i64) << 40 | counts[partition],
            stood: marks[partition],
        });
        counts[partition] += 1;
        marks[partition] = marks[partition].max(at - delay);
    }
    rows
}

/// What a call says of the rows of a frame, oldest first; `before` are all rows of the key before the row, newest last.
fn expected(call: &OverCall, row: &Row, frame: &[&Row], before: &[&Row]) -> Option<f64> {
    let value = |row: &Row, column: usize| match column {
        NUMBER => row.number.map(|number| number as f64),
        FLOAT => row.float,
        FLAG => row.flag.map(|flag| f64::from(u8::from(flag))),
        _ => unreachable!("no call reads column {column}"),
    };
    let call = match call {
        OverCall::RowNumber => return Some(before.len() as f64 + 1.0),
        OverCall::Lag { column, offset, default } => {
            return match before.len().checked_sub(*offset as usize) {
                Some(place) => value(before[place], *column),
                None => default.and_then(|default| value(row, default)),
            };
        }
        OverCall::Aggregate(call) => call,
    };
    let mut counted: Vec<&&Row> = frame.iter().filter(|row| call.filter.is_none() || row.flag == Some(true)).collect();
    if call.args.get(1).is_some() {
        counted.sort_by_key(|row| row.origin);
    }
    let Some(column) = call.args.first() else { return Some(counted.len() as f64) };
    let mut values: Vec<f64> = counted.iter().filter_map(|row| value(row, *column)).collect();
    if call.distinct {
        values.sort_by(f64::total_cmp);
        values.dedup();
    }
    let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
    if call.function == Count {
        return Some(count);
    }
    let squares: f64 = values.iter().map(|value| (value - sum / count).powi(2)).sum();
    let (first, last) = (*values.first()?, *values.last()?);
    match call.function {
        Sum => Some(sum),
        Avg => Some(sum / count),
        Min => values.into_iter().reduce(f64::min),
        Max => values.into_iter().reduce(f64::max),
        VarPop => Some(squares / count),
        StddevSamp => (count > 1.0).then(|| (squares / (count - 1.0)).sqrt()),
        BoolAnd => values.into_iter().reduce(f64::min),
        BoolOr => values.into_iter().reduce(f64::max),
        FirstValue => Some(first),
        LastValue => Some(last),
        other => unreachable!("no case asks for {other:?}"),
    }
}

/// The answer to each row by `$origin`, evaluated from nothing for each: as text, and what the calls say.
fn naive(spec: &OverSpec, rows: &[Row]) -> BTreeMap<i64, Vec<Option<f64>>> {
    let (range, unit) = match spec.frame {
        Frame::Rows { .. } => (None, 1),
        Frame::Range { preceding_ms, unit_ms } => (Some(preceding_ms), unit_ms.unwrap_or(1)),
    };
    let floor = |time: i64| time.div_euclid(unit) * unit;
    let waits = spec.turn == OverTurn::Watermark;
    let late = |row: &Row| row.stood != i64::MIN && floor(row.time) < floor(row.stood);
    let at = |row: &Row| floor(if spec.domain == TimeDomain::Event { row.time.max(row.stood) } else { row.time });
    let mut ordered: Vec<&Row> = rows.iter().filter(|row| !(waits && late(row))).collect();
    if waits {
        // Without a range rows are ordered by their very time.
        ordered.sort_by_key(|row| (floor(row.time), row.origin));
    }
    let at = |row: &Row| if waits { floor(row.time) } else { at(row) };
    let mut answers = BTreeMap::new();
    for (place, row) in ordered.iter().enumerate() {
        let same = |other: &&&Row| spec.keys.is_empty() || other.key == row.key;
        let before: Vec<&Row> = ordered[..place].iter().filter(same).copied().collect();
        let frame: Vec<&Row> = match (range, spec.frame) {
            (Some(preceding), _) => {
                let least = preceding.map_or(i64::MIN, |preceding| at(row).saturating_sub(preceding));
                let end = if waits { ordered.len() } else { place + 1 };
                let within = |other: &&&Row| (least..=at(row)).contains(&at(other));
                ordered[..end].iter().filter(same).filter(within).copied().collect()
            }
            (None, Frame::Rows { preceding: Some(count) }) => {
                let from = before.len().saturating_sub(count as usize);
                before[from..].iter().copied().chain([*row]).collect()
            }
            _ => before.iter().copied().chain([*row]).collect(),
        };
        answers.insert(row.origin, spec.calls.iter().map(|call| expected(call, row, &frame, &before)).collect());
    }
    answers
}

/// What came out, by `$origin`.
#[derive(Default)]
struct Answers {
    by_origin: BTreeMap<i64, Vec<String>>,
    late: u64,
}

fn collect(circuit: &mut Circuit, input: StepInput, answers: &mut Answers) {
    let output = circuit.step(input).unwrap_or_else(|error| panic!("{error}"));
    answers.late += output.trailer.late_rows;
    for delta in output.outputs.iter().flat_map(|output| &output.deltas) {
        for line in lines(delta.batch()) {
            let values: Vec<String> = line.split(' ').map(str::to_string).collect();
            let origin = values[ORIGIN].parse().expect("a number");
            let twice = answers.by_origin.insert(origin, values[ORIGIN + 1..].to_vec());
            assert_eq!(twice, None, "row {origin} was answered twice");
        }
    }
}

fn circuit(plan: &Plan, lanes: usize) -> Circuit {
    let options = Options { lanes, keep: true, chunk_slots: 4, ..Options::default() };
    Circuit::new(plan, &Decoders::new(), options).unwrap_or_else(|error| panic!("{error}"))
}

/// The same state in another circuit, on as many lanes as that has.
fn moved(from: &mut Circuit, plan: &Plan, lanes: usize, told: &str) -> Circuit {
    let start = from.begin_save(true).expect("state is kept");
    let slice = from.save_slice(usize::MAX).expect("values can be written");
    let mut to = circuit(plan, lanes);
    to.restore(&start.blobs).expect("the blobs are whole");
    for chunk in slice.chunks {
        if let Some(rows) = chunk.rows {
            assert!(to.restore_chunk(chunk.id, &rows).unwrap_or_else(|error| panic!("{error}")));
        }
    }
    assert_eq!(to.roots().expect("state is kept"), from.roots().expect("state is kept"), "{told}");
    to
}

fn check_answers(spec: &OverSpec, rows: &[Row], answers: &Answers, told: &str) {
    let expected = naive(spec, rows);
    let close = |text: &String, value: &Option<f64>| match (text.as_str(), value) {
        ("_", None) => true,
        ("true", Some(value)) => *value == 1.0,
        ("false", Some(value)) => *value == 0.0,
        (text, Some(value)) => text.parse::<f64>().is_ok_and(|actual| (actual - value).abs() <= 1e-9),
        _ => false,
    };
    for (origin, values) in &expected {
        let given = answers.by_origin.get(origin).unwrap_or_else(|| panic!("{told}: row {origin} has no answer"));
        for ((call, text), value) in spec.calls.iter().zip(given).zip(values) {
            assert!(close(text, value), "{told}: row {origin}, {call:?}: {text} where {value:?} is expected");
        }
    }
    assert_eq!(answers.by_origin.len(), expected.len(), "{told}");
    assert_eq!(answers.late, (rows.len() - expected.len()) as u64, "{told}");
}

fn random_frame(rng: &mut Rng) -> Frame {
    match rng.below(7) {
        0 => Frame::Rows { preceding: Some([0, 1, 2, 20, 40][rng.below(5) as usize]) },
        1 => Frame::Rows { preceding: None },
        2 => Frame::Range { preceding_ms: None, unit_ms: None },
        3 => Frame::Range { preceding_ms: Some(40), unit_ms: Some(10) },
        4 => Frame::Range { preceding_ms: Some(2_000), unit_ms: Some(100) },
        _ => Frame::Range { preceding_ms: Some([0, 5, 60, 1_000][rng.below(4) as usize]), unit_ms: None },
    }
}

fn random_calls(rng: &mut Rng, with_distinct: bool) -> Vec<OverCall> {
    let is_distinct = |call: &OverCall| matches!(call, OverCall::Aggregate(call) if call.distinct);
    let mut calls: Vec<OverCall> =
        every_call().into_iter().filter(|call| with_distinct || !is_distinct(call)).collect();
    if rng.chance(1, 2) {
        calls.retain(|_| rng.chance(1, 4));
    }
    calls
}

fn check_case(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let turn = if rng.chance(1, 2) { OverTurn::Arrival } else { OverTurn::Watermark };
    let processing = turn == OverTurn::Arrival && rng.chance(1, 3);
    let frame = random_frame(&mut rng);
    let unbounded = matches!(frame, Frame::Range { preceding_ms: None, .. });
    let calls = random_calls(&mut rng, !unbounded || turn == OverTurn::Watermark || processing);
    let keys: &[usize] = if rng.chance(1, 6) { &[] } else { &[KEY] };
    let mut spec = spec(keys, turn, frame, calls);
    // What came first in a step is known within a partition alone.
    let partitions = if turn == OverTurn::Arrival { 1 } else { 1 + rng.below(3) as u32 };
    let (delay, count, spread) = ([0, 20, 50][rng.below(3) as usize], 1 + rng.below(250) as usize, 1 + rng.below(5));
    let disorder = [0, 20, 60][rng.below(3) as usize];
    let mut rows = random_rows(&mut rng, count, partitions, spread, disorder, delay);
    let mut ends: Vec<usize> = (1..count).filter(|_| rng.chance(1, 9)).collect();
    ends.push(count);
    if processing {
        spec.domain = TimeDomain::Processing;
        let mut from = 0;
        for (step, end) in ends.iter().enumerate() {
            rows[from..*end].iter_mut().for_each(|row| row.time = step as i64 * 7);
            from = *end;
        }
    }
    let told = format!("seed {seed}, {spec:?}, delay {delay}, disorder {disorder}, steps end at {ends:?}");
    let plan = plan(&spec, delay);
    let lanes = |rng: &mut Rng| 1 + rng.below(4) as usize;
    let (mut answers, mut from) = (Answers::default(), 0);
    let mut running = circuit(&plan, lanes(&mut rng));
    for (step, end) in ends.iter().enumerate() {
        if rng.chance(1, 6) {
            running = moved(&mut running, &plan, lanes(&mut rng), &told);
        }
        collect(&mut running, input(&rows, from, *end, partitions, step as i64 * 7), &mut answers);
        from = *end;
    }
    if !processing {
        return check_answers(&spec, &rows, &answers, &told);
    }
    rows.iter_mut().for_each(|row| row.stood = i64::MIN);
    check_answers(&spec, &rows, &answers, &told);
}

fn count() -> Vec<OverCall> {
    vec![aggregate(Count, &[], false, false, DataType::Int64)]
}

fn least() -> Vec<OverCall> {
    vec![aggregate(Min, &[NUMBER], false, false, DataType::Int64)]
}

fn range(preceding_ms: i64, unit_ms: Option<i64>) -> Frame {
    Frame::Range { preceding_ms: Some(preceding_ms), unit_ms }
}

/// Rows of one partition that are `(key, number, time)`, in steps of these sizes, on one lane: what each step answers.
fn check(spec: &OverSpec, delay: i64, steps: &[&[(i64, i64, i64)]], expected: &[&str]) -> Circuit {
    let plan = plan(spec, delay);
    let mut circuit = circuit(&plan, 1);
    let (mut rows, mut stood) = (Vec::new(), i64::MIN);
    for (key, number, time) in steps.concat() {
        let (origin, float, flag) = (rows.len() as i64, None, None);
        rows.push(Row { key: Some(key), number: Some(number), float, flag, time, partition: 0, origin, stood });
        stood = stood.max(time - delay);
    }
    // The input goes on after the last row.
    let (mut from, total) = (0, rows.len());
    rows.push(rows[total - 1].clone());
    for (step, expected) in steps.iter().zip(expected) {
        let mut answers = Answers::default();
        collect(&mut circuit, input(&rows, from, from + step.len(), 1, 0), &mut answers);
        let said: Vec<String> = answers.by_origin.values().map(|values| values.join(" ")).collect();
        assert_eq!(said.join(", "), *expected, "after {from} rows");
        from += step.len();
    }
    circuit
}

#[test]
fn a_row_sees_those_that_came_before_it_and_itself_once() {
    let frame = range(10, None);
    let spec = spec(&[KEY], OverTurn::Arrival, frame, [count(), least()].concat());
    check(&spec, 100, &[&[(1, 5, 0), (1, 4, 0), (2, 9, 0), (1, 7, 10)], &[(1, 8, 11)]], &["1 5, 2 4, 1 9, 3 4", "2 7"]);
}

#[test]
fn a_row_out_of_order_sees_what_is_in_its_range_of_what_has_come() {
    let spec = spec(&[KEY], OverTurn::Arrival, range(10, None), [count(), least()].concat());
    let steps: [&[_]; 2] = [&[(1, 5, 0), (1, 3, 20)], &[(1, 6, 9), (1, 7, 19), (1, 8, 21)]];
    check(&spec, 100, &steps, &["1 5, 1 3", "2 5, 2 6, 3 3"]);
}

#[test]
fn a_row_below_the_watermark_counts_as_if_it_had_come_at_it() {
    let spec = spec(&[KEY], OverTurn::Arrival, range(10, None), count());
    // The watermark stands at 95 when the row of time 0 comes, and it counts for those up to 105.
    check(&spec, 5, &[&[(1, 0, 100)], &[(1, 0, 0)], &[(1, 0, 105)], &[(1, 0, 106)]], &["1", "1", "3", "3"]);
}

#[test]
fn rows_wait_for_the_watermark_and_see_their_peers() {
    let frame = range(10, None);
    let spec = spec(&[KEY], OverTurn::Watermark, frame, [count(), vec![OverCall::RowNumber]].concat());
    let steps: [&[_]; 3] = [&[(1, 0, 10), (1, 0, 5), (1, 0, 10)], &[(1, 0, 15)], &[(1, 0, 16), (1, 0, 40)]];
    // Of the rows of time 10 more may come while the watermark stands there.
    check(&spec, 5, &steps, &["", "1 1", "3 2, 3 3, 4 4, 4 5"]);
}

#[test]
fn units_of_time_hold_one_state_each() {
    let spec = spec(&[KEY], OverTurn::Arrival, range(1_000, Some(1_000)), count());
    let rows: Vec<(i64, i64, i64)> = (0..2_000).map(|row| (1, 0, 10_000 + row)).collect();
    let circuit = check_last(&spec, 0, &rows, "2000");
    assert_eq!(entries(&circuit), 1 + 2, "a key and two seconds");
}

fn check_last(spec: &OverSpec, delay: i64, rows: &[(i64, i64, i64)], expected: &str) -> Circuit {
    let (last, before) = rows.split_last().expect("there are rows");
    let plan = plan(spec, delay);
    let mut circuit = circuit(&plan, 1);
    let mut answers = Answers::default();
    let of = |place: usize, (key, number, time): &(i64, i64, i64)| Row {
        key: Some(*key),
        number: Some(*number),
        float: None,
        flag: None,
        time: *time,
        partition: 0,
        origin: place as i64,
        stood: 0,
    };
    let mut all: Vec<Row> = before.iter().enumerate().map(|(place, row)| of(place, row)).collect();
    all.extend([of(before.len(), last), of(before.len() + 1, last)]);
    collect(&mut circuit, input(&all, 0, before.len(), 1, 0), &mut answers);
    collect(&mut circuit, input(&all, before.len(), before.len() + 1, 1, 0), &mut answers);
    assert_eq!(answers.by_origin[&(before.len() as i64)].join(" "), expected);
    circuit
}

fn entries(circuit: &Circuit) -> u64 {
    circuit.state().iter().map(|(_, size)| size.entries).sum()
}

#[test]
fn what_the_watermark_has_passed_is_forgotten_and_keys_with_it() {
    for turn in [OverTurn::Arrival, OverTurn::Watermark] {
        let calls = [count(), least(), vec![aggregate(Count, &[NUMBER], false, true, DataType::Int64)]].concat();
        let spec = spec(&[KEY], turn, range(100, None), calls);
        let rows: Vec<(i64, i64, i64)> = (0..3_000).map(|row| (row % 70, row % 7, row)).collect();
        let circuit = check_many(&spec, 50, &rows);
        // At most 151 rows lie within range and delay: a key, an element and a value each, and a row that waits.
        assert!(entries(&circuit) <= 4 * 151, "{} entries of 3,000 rows", entries(&circuit));
    }
}

fn check_many(spec: &OverSpec, delay: i64, rows: &[(i64, i64, i64)]) -> Circuit {
    let mut circuit = circuit(&plan(spec, delay), 1);
    let row = |(place, (key, number, time)): (usize, &(i64, i64, i64))| Row {
        key: Some(*key),
        number: Some(*number),
        float: None,
        flag: None,
        time: *time,
        partition: 0,
        origin: place as i64,
        stood: 0,
    };
    let mut all: Vec<Row> = rows.iter().enumerate().map(row).collect();
    all.push(all[all.len() - 1].clone());
    for from in (0..rows.len()).step_by(100) {
        circuit.step(input(&all, from, (from + 100).min(rows.len()), 1, 0)).expect("the step runs");
    }
    circuit
}

#[test]
fn rows_of_other_keys_are_forgotten_a_few_a_step_after_a_leap_of_time() {
    let spec = spec(&[KEY], OverTurn::Arrival, range(1_000, None), count());
    let mut rows: Vec<(i64, i64, i64)> = (0..4_000).map(|row| (row, 0, row % 1_000)).collect();
    rows.push((9_999, 0, 1_000_000));
    let mut circuit = check_many(&spec, 0, &rows);
    let left = entries(&circuit);
    assert!((2_000..8_000).contains(&left), "{left} entries are left after the first step");
    circuit.roots().expect("state is kept");
    assert_eq!(entries(&circuit), 2, "a save forgets the rest before it begins");
}

#[test]
fn frames_of_rows_keep_as_many_rows() {
    let spec = spec(&[KEY], OverTurn::Arrival, Frame::Rows { preceding: Some(3) }, [count(), least()].concat());
    let rows: Vec<(i64, i64, i64)> = (0..500).map(|row| (row % 2, row, 0)).collect();
    let circuit = check_last(&spec, 0, &rows, "4 493");
    assert_eq!(entries(&circuit), 2 + 2 * 4);
}

#[test]
fn long_frames_are_summed_from_partial_states() {
    let spec = spec(&[], OverTurn::Arrival, range(100_000, None), [count(), least()].concat());
    let rows: Vec<(i64, i64, i64)> = (0..5_000).map(|row| (0, 10_000 - row, row * 30)).collect();
    // The frame of the last row begins at the time 49,970.
    check_last(&spec, 0, &rows, "3334 5001");
}

fn check_refused(spec: OverSpec, append_only: bool, expected: &str) {
    let mut plan = plan(&spec, 0);
    if let Spec::Source(source) = &mut plan.nodes[0].spec {
        source.append_only = append_only;
    }
    match Circuit::new(&plan, &Decoders::new(), Options::default()) {
        Ok(_) => panic!("{spec:?} is not refused"),
        Err(error) => assert_eq!(error.to_string(), format!("{expected} is not supported")),
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let frame = range(10, None);
    let over = |calls| spec(&[KEY], OverTurn::Arrival, frame, calls);
    let changes = "OVER rows that may be taken back (aggregates that say changes; a windowed aggregate does not)";
    check_refused(over(count()), false, changes);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    check_refused(over(vec![aggregate(ArrayAgg, &[NUMBER, ORIGIN], false, false, list)]), true, "ArrayAgg OVER");
    let quantile = aggregate(ApproxQuantile(0.5), &[FLOAT], false, false, DataType::Float64);
    check_refused(over(vec![quantile]), true, "ApproxQuantile(0.5) OVER");
    let unordered = OverSpec { order: None, ..over(count()) };
    check_refused(unordered.clone(), true, "OVER a RANGE without a time to order by");
    let waiting = OverSpec { turn: OverTurn::Watermark, frame: Frame::Rows { preceding: None }, ..unordered };
    check_refused(waiting, true, "OVER that waits for the watermark without an event time to order by");
    let by_float = OverSpec { order: Some(FLOAT), ..over(count()) };
    check_refused(by_float, true, "OVER ordered by something else than a time");
    let itself = vec![OverCall::Lag { column: NUMBER, offset: 0, default: None }];
    check_refused(over(itself), true, "LAG of the row itself");
    let other = vec![OverCall::Lag { column: NUMBER, offset: 1, default: Some(FLOAT) }];
    check_refused(over(other), true, "LAG with a default of another type");
    let all = Frame::Range { preceding_ms: None, unit_ms: None };
    let distinct = vec![aggregate(Count, &[NUMBER], false, true, DataType::Int64)];
    let distinct = spec(&[KEY], OverTurn::Arrival, all, distinct);
    check_refused(distinct, true, "DISTINCT over all rows so far by event time (say ROWS, or how far back)");
}

#[test]
fn equals_a_naive_evaluation_on_any_lanes_and_steps_with_moves_between() {
    if let Some(seed) = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return check_case(seed);
    }
    for seed in 0..300 {
        let caught = std::panic::catch_unwind(|| check_case(seed));
        assert!(caught.is_ok(), "replay it alone with TIDEMILL_SEED={seed}");
    }
}

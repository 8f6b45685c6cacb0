use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill_base::rand::Rng;

use crate::circuit::{Circuit, Options};
use crate::decode::{Block, BlockData, Decoders};
use crate::delta::Delta;
use crate::error::Error;
use crate::expr::{Expr, OnError, Scalar};
use crate::operators::testing::{Table, add, check};
use crate::plan::{Node, NodeId, OutputSpec, Plan, SourceSpec, Spec, TemporalJoinSpec, WatermarkSpec};
use crate::step::{SourceInput, StepInput};

const KEY: usize = 0;
const VALUE: usize = 1;
const TIME: usize = 2;

/// Key, value, time and weight.
type Row = (Option<i64>, i64, i64, i64);

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn schema() -> SchemaRef {
    let types = [("key", DataType::Int64), ("value", DataType::Int64), ("time", time_type())];
    Arc::new(Schema::new(types.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

fn delta(rows: &[Row]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<TimestampMillisecondArray>()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("the columns are the schema's");
    Delta::weighted(batch, rows.iter().map(|row| row.3).collect())
}

/// `time - delay`.
#[derive(Debug)]
struct Behind(i64);

impl Scalar for Behind {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
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

/// Whether the right value is above the left one; an error for a left value of 666.
#[derive(Debug)]
struct Greater;

impl Scalar for Greater {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let values = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        if values(VALUE).values().contains(&666) {
            return Err("not this one".to_string());
        }
        let (left, right) = (values(VALUE), values(3));
        Ok(Arc::new(left.iter().zip(right).map(|(left, right)| Some(right? > left?)).collect::<BooleanArray>()))
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn print(&self) -> String {
        "right > left".to_string()
    }
}

fn spec(outer: bool) -> TemporalJoinSpec {
    TemporalJoinSpec {
        left_keys: vec![KEY],
        right_keys: vec![KEY],
        left_time: TIME,
        right_time: TIME,
        strict: false,
        ended: None,
        columns: vec![VALUE, TIME],
        residual: None,
        outer,
    }
}

struct Bench {
    circuit: Circuit,
    integral: Table,
    late: u64,
    steps: u64,
    now: i64,
}

impl Bench {
    fn new(spec: &TemporalJoinSpec, delay: i64, lanes: usize, on_error: OnError) -> Result<Self, Error> {
        Self::with_ttl(spec, delay, lanes, on_error, None)
    }

    fn with_ttl(
        spec: &TemporalJoinSpec,
        delay: i64,
        lanes: usize,
        on_error: OnError,
        ttl_ms: Option<i64>,
    ) -> Result<Self, Error> {
        let mut plan = Plan::default();
        let node =
            |spec, inputs: Vec<NodeId>, schema: SchemaRef| Node { spec, inputs, schema, position: None, on_error };
        for name in ["left", "right"] {
            let bound: Expr = Arc::new(Behind(delay));
            let source = SourceSpec {
                name: name.to_string(),
                decoded: schema(),
                origin: false,
                computed: None,
                watermark: Some(WatermarkSpec { time: TIME, bound, idle_timeout_ms: None }),
                append_only: false,
            };
            plan.add(node(Spec::Source(source), vec![], schema()));
        }
        let right = spec.columns.iter().map(|column| schema().field(*column).clone());
        let fields = schema().fields().iter().map(|field| field.as_ref().clone()).chain(right).collect::<Vec<_>>();
        let joined = Arc::new(Schema::new(fields));
        let join = plan.add(node(Spec::TemporalJoin(spec.clone()), vec![0, 1], joined.clone()));
        plan.ttls.extend(ttl_ms.map(|ttl_ms| (join, ttl_ms)));
        plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![join], joined));
        let options = Options { lanes, ..Options::default() };
        let circuit = Circuit::new(&plan, &Decoders::new(), options)?;
        Ok(Bench { circuit, integral: Table::new(), late: 0, steps: 0, now: 0 })
    }

    fn step(&mut self, left: &[Row], right: &[Row], last: bool) {
        let sources = [("left", left), ("right", right)].map(|(source, rows)| {
            let block = |rows: &[Row]| Block {
                partition: 0,
                from: self.steps,
                to: self.steps + 1,
                first_record: 0,
                records: rows.len() as u32,
                data: BlockData::Rows(delta(rows)),
            };
            SourceInput {
                source: source.to_string(),
                blocks: rows.chunks(3).map(block).collect(),
                opened: if self.steps == 0 { vec![0] } else { vec![] },
                ended: if last { vec![0] } else { vec![] },
                idle: vec![],
                complete: last,
            }
        });
        let output =
            self.circuit.step(StepInput { now: self.now, sources: Vec::from(sources) }).expect("the rows are sound");
        self.late += output.trailer.late_rows;
        output.outputs.iter().flat_map(|output| &output.deltas).for_each(|delta| add(&mut self.integral, delta));
        self.integral.retain(|_, weight| *weight != 0);
        self.steps += 1;
    }

    fn entries(&self) -> u64 {
        self.circuit.state().iter().map(|(_, size)| size.entries).sum()
    }
}

fn bench(spec: &TemporalJoinSpec, lanes: usize) -> Bench {
    Bench::new(spec, 0, lanes, OnError::Stop).expect("it is supported")
}

fn time(millis: i64) -> String {
    format!("1970-01-01T00:00:00.{millis:03}").trim_end_matches(".000").to_string()
}

/// A row of the result.
fn line(left: (i64, i64, i64), right: Option<(i64, i64)>) -> String {
    let (value, at) = right.map_or(("_".to_string(), "_".to_string()), |(value, at)| (value.to_string(), time(at)));
    format!("{} {} {} {value} {at}", left.0, left.1, time(left.2))
}

fn lines(lines: &[String]) -> String {
    let mut lines = lines.to_vec();
    lines.sort();
    lines.join("\n")
}

fn row(key: i64, value: i64, time: i64) -> Row {
    (Some(key), value, time, 1)
}

#[test]
fn a_row_waits_for_the_watermark_and_finds_what_was_valid_at_its_time() {
    for lanes in [1, 3] {
        let mut bench = bench(&spec(false), lanes);
        bench.step(&[row(1, 10, 5), row(1, 11, 7), row(2, 12, 8)], &[row(1, 100, 4)], false);
        check(&bench.integral, "");
        bench.step(&[row(9, 0, 20)], &[row(1, 200, 7), row(1, 300, 9)], false);
        check(&bench.integral, &lines(&[line((1, 10, 5), Some((100, 4))), line((1, 11, 7), Some((200, 7)))]));
        bench.step(&[], &[], true);
        assert_eq!(bench.late, 0);
        check(&bench.integral, &lines(&[line((1, 10, 5), Some((100, 4))), line((1, 11, 7), Some((200, 7)))]));
    }
}

#[test]
fn a_strict_join_looks_before_the_time() {
    let strict = TemporalJoinSpec { strict: true, ..spec(true) };
    let mut bench = bench(&strict, 2);
    bench.step(&[row(1, 10, 4), row(1, 11, 5)], &[row(1, 100, 4)], true);
    check(&bench.integral, &lines(&[line((1, 10, 4), None), line((1, 11, 5), Some((100, 4)))]));
}

#[test]
fn a_row_taken_back_ends_what_was_valid() {
    let mut bench = bench(&spec(true), 1);
    let right = [row(1, 100, 2), (Some(1), 100, 5, -1), row(1, 300, 8)];
    bench.step(&[row(1, 10, 4), row(1, 11, 5), row(1, 12, 7), row(1, 13, 8)], &right, true);
    check(
        &bench.integral,
        &lines(&[
            line((1, 10, 4), Some((100, 2))),
            line((1, 11, 5), None),
            line((1, 12, 7), None),
            line((1, 13, 8), Some((300, 8))),
        ]),
    );
}

#[test]
fn a_version_taken_back_at_its_own_time_was_never_there() {
    let mut bench = bench(&spec(true), 1);
    let right = [row(1, 100, 2), (Some(1), 200, 4, -1), row(1, 200, 4), row(1, 250, 4)];
    bench.step(&[row(1, 10, 4)], &right, true);
    check(&bench.integral, &lines(&[line((1, 10, 4), Some((250, 4)))]));
}

#[test]
fn null_keys_find_nothing() {
    let mut bench = bench(&spec(true), 1);
    bench.step(&[(None, 10, 4, 1)], &[(None, 100, 2, 1)], true);
    check(&bench.integral, &format!("_ 10 {} _ _", time(4)));
    assert_eq!(bench.entries(), 0, "what equals nothing is not kept");
}

#[test]
fn versions_that_no_row_can_meet_are_forgotten() {
    for strict in [false, true] {
        let mut bench = bench(&TemporalJoinSpec { strict, ..spec(false) }, 2);
        for at in 0..100 {
            bench.step(&[row(1, at, at)], &[row(1, at, at), row(2, at, at)], false);
            assert!(bench.entries() <= 6, "{} entries", bench.entries());
        }
        bench.step(&[row(1, 0, 200)], &[(Some(2), 0, 150, -1), row(1, 0, 200)], false);
        bench.step(&[row(1, 0, 300)], &[row(1, 0, 300)], false);
        assert!(bench.entries() <= 3, "a key whose validity has ended is gone: {} entries", bench.entries());
    }
}

#[test]
fn rows_below_the_watermark_of_their_partition_are_late() {
    let mut bench = bench(&spec(true), 1);
    bench.step(&[row(1, 10, 5), row(1, 11, 4)], &[row(1, 100, 5), row(1, 200, 3)], true);
    assert_eq!(bench.late, 2);
    check(&bench.integral, &lines(&[line((1, 10, 5), Some((100, 5)))]));
}

#[test]
fn the_rest_of_the_condition_holds_for_what_comes_out() {
    let residual: Option<Expr> = Some(Arc::new(Greater));
    for (outer, expected) in [
        (false, vec![line((1, 10, 5), Some((20, 4)))]),
        (true, vec![line((1, 10, 5), Some((20, 4))), line((1, 30, 6), None), line((2, 1, 6), None)]),
    ] {
        let spec = TemporalJoinSpec { residual: residual.clone(), ..spec(outer) };
        let mut bench = Bench::new(&spec, 0, 1, OnError::DeadLetter).expect("it is supported");
        let right = [row(1, 20, 4), row(1, 5, 4)];
        bench.step(&[row(1, 10, 5), row(1, 30, 6), row(2, 1, 6), row(1, 666, 6)], &right, true);
        check(&bench.integral, &lines(&expected));
    }
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let refused = |spec: TemporalJoinSpec| {
        Bench::new(&spec, 0, 1, OnError::Stop).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let told = refused(TemporalJoinSpec { right_keys: vec![TIME], ..spec(false) });
    assert!(told.contains("columns of different types"), "{told}");
    let told = refused(TemporalJoinSpec { left_time: VALUE, ..spec(false) });
    assert!(told.contains("'value', which is no time"), "{told}");
}

/// The rows of one side that are not late, with the watermark after them.
#[derive(Default)]
struct Side {
    rows: BTreeMap<(Option<i64>, i64, i64), i64>,
    high: Option<i64>,
    late: u64,
}

impl Side {
    fn take(&mut self, (key, value, at, weight): Row, delay: i64) {
        if self.high.is_some_and(|high| at < high - delay) {
            self.late += 1;
            return;
        }
        self.high = self.high.max(Some(at));
        *self.rows.entry((key, at, value)).or_default() += weight;
    }
}

fn naive(spec: &TemporalJoinSpec, left: &Side, right: &Side, watermark: i64) -> Table {
    let mut table = Table::new();
    for ((key, at, value), weight) in left.rows.iter().filter(|((_, at, _), _)| *at < watermark) {
        let is_there = |other: i64| if spec.strict { other < *at } else { other <= *at };
        let before = right
            .rows
            .iter()
            .filter(|((other, then, _), weight)| key.is_some() && other == key && is_there(*then) && **weight != 0);
        let before: Vec<_> = before.collect();
        let newest = before.iter().map(|((_, then, _), _)| *then).max();
        let valid = before.into_iter().filter(|((_, then, _), weight)| Some(*then) == newest && **weight > 0);
        let mut valid: Vec<(Option<(i64, i64)>, i64)> =
            valid.map(|((_, then, v), w)| (Some((*v, *then)), *w)).collect();
        if spec.residual.is_some() {
            valid.retain(|(found, _)| found.is_some_and(|(found, _)| found > *value));
        }
        if valid.is_empty() && spec.outer {
            valid.push((None, 1));
        }
        for (found, times) in valid {
            let text = line((key.unwrap_or(-7), *value, *at), found).replace("-7 ", "_ ");
            *table.entry(text).or_default() += weight * times;
        }
    }
    table.retain(|_, weight| *weight != 0);
    table
}

fn check_random(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let residual: Option<Expr> = if rng.chance(1, 3) { Some(Arc::new(Greater)) } else { None };
    let spec = TemporalJoinSpec { strict: rng.chance(1, 2), residual, ..spec(rng.chance(1, 2)) };
    let (delay, lanes) = ([0, 6][rng.below(2) as usize], 1 + rng.below(4) as usize);
    let mut bench = Bench::new(&spec, delay, lanes, OnError::Stop).expect("it is supported");
    let (mut sides, mut clocks) = ([Side::default(), Side::default()], [50_i64, 50]);
    let steps = 12;
    for step in 0..steps {
        let mut rows: [Vec<Row>; 2] = [vec![], vec![]];
        for (side, rows) in rows.iter_mut().enumerate() {
            for _ in 0..rng.below(9) {
                clocks[side] += rng.below(4) as i64;
                let at = clocks[side] - rng.below(8) as i64;
                let key = if rng.chance(1, 9) { None } else { Some(rng.below(3) as i64) };
                let weight = if rng.chance(1, 6) { 2 } else { 1 };
                let mut row = (key, rng.below(4) as i64, at, weight);
                let live: Vec<_> = sides[side].rows.iter().filter(|(_, weight)| **weight > 0).collect();
                if rng.chance(1, 3) && !live.is_empty() {
                    // A row is taken back, at its own time or, of the right side, at this one.
                    let ((key, then, value), _) = live[rng.below(live.len() as u64) as usize];
                    row = (*key, *value, if side == 1 && rng.chance(1, 2) { at } else { *then }, -1);
                }
                sides[side].take(row, delay);
                rows.push(row);
            }
        }
        let last = step + 1 == steps;
        bench.step(&rows[0], &rows[1], last);
        let of = |side: &Side| side.high.map_or(i64::MIN, |high| high - delay);
        let watermark = if last { i64::MAX } else { of(&sides[0]).min(of(&sides[1])) };
        let expected = naive(&spec, &sides[0], &sides[1], watermark);
        assert_eq!(bench.integral, expected, "seed {seed}, step {step}: {spec:?}");
        assert_eq!(bench.late, sides[0].late + sides[1].late, "seed {seed}, step {step}");
    }
}

#[test]
fn any_rows_find_what_was_valid() {
    (0..300).for_each(check_random);
}

#[test]
fn a_key_to_which_no_row_comes_is_forgotten() {
    for lanes in [1, 3] {
        let mut bench = Bench::with_ttl(&spec(true), 0, lanes, OnError::Stop, Some(100)).expect("it is supported");
        let mut step = |now: i64, left: &[Row], right: &[Row]| {
            bench.now = now;
            bench.step(left, right, false);
            bench.entries()
        };
        assert_eq!(step(1_000, &[row(9, 0, 10)], &[row(1, 100, 5), row(2, 200, 5), row(9, 0, 10)]), 4);
        // Left rows of a key are asked for as they come, and it lives on.
        step(1_090, &[row(1, 10, 11)], &[row(9, 0, 11)]);
        step(1_150, &[row(2, 20, 12), row(9, 0, 13)], &[row(9, 0, 13)]);
        assert_eq!(step(1_300, &[], &[]), 1, "a left row waits");
        assert_eq!(step(1_301, &[row(1, 30, 14)], &[(Some(1), 100, 14, -1), row(9, 0, 20)]), 3);
        bench.step(&[row(9, 0, 30)], &[row(9, 0, 30)], true);
        // One of them had waited for too long.
        let nine = [(10, Some(10)), (13, None), (30, Some(30))];
        let nine = nine.map(|(at, found)| line((9, 0, at), found.map(|found| (0, found))));
        let others = [line((1, 10, 11), Some((100, 5))), line((2, 20, 12), None), line((1, 30, 14), None)];
        check(&bench.integral, &lines(&[nine.to_vec(), others.to_vec()].concat()));
    }
}

//! Joins in a circuit, against pairs searched for anew among all rows after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use tidemill_base::rand::Rng;

use super::*;
use crate::Circuit;
use crate::circuit::Options;
use crate::decode::{Block, BlockData};
use crate::expr::{Expr, OnError, Scalar};
use crate::operator::Sides;
use crate::plan::{Expiry, Node, OrderBy, OutputSpec, Plan, RankFunction, RankSpec, SourceSpec, Spec, WatermarkSpec};
use crate::step::{SourceInput, StepInput, StepOutput};

const TIME_TYPE: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// How far rows may come out of order.
const DELAY: i64 = 40;

/// The length of a window.
const WINDOW: i64 = 50;

/// A key, a text, a number, a time; and the end of its window, which is computed.
type Row = (Option<i64>, &'static str, Option<i64>, i64);

const KEY: usize = 0;
const NUMBER: usize = 2;
const TIME: usize = 3;
const END: usize = 4;
const WIDTH: usize = 5;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("text", DataType::Utf8, false),
        Field::new("number", DataType::Int64, true),
        Field::new("time", TIME_TYPE, false),
        Field::new("end", TIME_TYPE, true),
    ]))
}

fn end_of(time: i64) -> i64 {
    time.div_euclid(WINDOW) * WINDOW + WINDOW
}

fn batch(rows: &[(Row, i64)]) -> RecordBatch {
    let times = || rows.iter().map(|(row, _)| row.3);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(row, _)| row.0).collect::<Int64Array>()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(row, _)| row.1))),
        Arc::new(rows.iter().map(|(row, _)| row.2).collect::<Int64Array>()),
        Arc::new(TimestampMillisecondArray::from_iter_values(times())),
        Arc::new(TimestampMillisecondArray::from_iter_values(times().map(end_of))),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

/// A function of the values of a row of both sides, null where one of them is.
struct Of(&'static str, DataType, Vec<usize>, fn(&[i64]) -> Result<i64, String>);

impl std::fmt::Debug for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Scalar for Of {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let columns: Vec<Vec<Option<i64>>> = self.2.iter().map(|column| numbers(batch.column(*column))).collect();
        let of = |row: usize| {
            let values: Option<Vec<i64>> = columns.iter().map(|column| column[row]).collect();
            values.map(|values| self.3(&values)).transpose()
        };
        let values = (0..batch.num_rows()).map(of).collect::<Result<Vec<Option<i64>>, String>>()?;
        Ok(match self.1 {
            DataType::Boolean => {
                Arc::new(values.into_iter().map(|value| value.map(|value| value != 0)).collect::<BooleanArray>())
            }
            _ => Arc::new(TimestampMillisecondArray::from(values)),
        })
    }

    fn data_type(&self) -> DataType {
        self.1.clone()
    }

    fn print(&self) -> String {
        self.0.to_string()
    }

    fn columns(&self) -> Option<Vec<usize>> {
        Some(self.2.clone())
    }
}

fn numbers(column: &ArrayRef) -> Vec<Option<i64>> {
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().iter().collect(),
        _ => column.as_primitive::<TimestampMillisecondType>().iter().collect(),
    }
}

/// Rows as text, null as `_`.
fn lines(batch: &RecordBatch) -> Vec<String> {
    let columns: Vec<Vec<String>> = batch
        .columns()
        .iter()
        .map(|column| match column.as_string_opt::<i32>() {
            Some(texts) => texts.iter().map(|text| text.unwrap_or("_").to_string()).collect(),
            None => numbers(column).into_iter().map(shown).collect(),
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>().join(" "))
        .collect()
}

fn shown(value: Option<i64>) -> String {
    value.map_or("_".to_string(), |value| value.to_string())
}

/// What a join asks for besides equal keys, and by what its rows expire.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Condition {
    Nothing,
    /// `left.number <= right.number`.
    Less,
    /// `right.time BETWEEN left.time - 20 AND left.time + 30`: rows of both sides expire.
    Near,
    /// The same, but left rows alone are known to expire.
    NearLeft,
    /// Equal ends of windows.
    Window,
}

#[derive(Debug, Clone)]
struct Setup {
    kind: JoinKind,
    nulls: JoinNulls,
    condition: Condition,
    keyed: bool,
    pad: Emit,
    appends: [bool; 2],
    lanes: usize,
    on_error: OnError,
}

impl Setup {
    fn spec(&self) -> JoinSpec {
        let mut keys = if self.keyed { vec![KEY] } else { vec![] };
        if self.condition == Condition::Window {
            keys.push(END);
        }
        let flag = |name, columns: &[usize], of| Arc::new(Of(name, DataType::Boolean, columns.to_vec(), of)) as Expr;
        let residual = match self.condition {
            Condition::Nothing | Condition::Window => None,
            Condition::Less => Some(flag("number <= number", &[NUMBER, WIDTH + NUMBER], |v| match v {
                [_, 13] => Err("13 brings bad luck".to_string()),
                _ => Ok(i64::from(v[0] <= v[1])),
            })),
            Condition::Near | Condition::NearLeft => Some(flag("time near time", &[TIME, WIDTH + TIME], |v| {
                Ok(i64::from(v[0] - 20 <= v[1] && v[1] <= v[0] + 30))
            })),
        };
        let expiry = |time, after_ms| Some(Expiry { time, after_ms });
        let expiry = match self.condition {
            Condition::Nothing | Condition::Less => [None, None],
            Condition::Near => [expiry(TIME, 30), expiry(TIME, 20)],
            Condition::NearLeft => [expiry(TIME, 30), None],
            Condition::Window => [expiry(END, -1), expiry(END, -1)],
        };
        let late = if self.condition == Condition::Window { expiry } else { [None, None] };
        let width = if self.is_one_sided() { WIDTH } else { 2 * WIDTH };
        let columns = (0..width).filter(|column| column % WIDTH != END).collect();
        let (kind, nulls, pad) = (self.kind, self.nulls, self.pad);
        JoinSpec { kind, left_keys: keys.clone(), right_keys: keys, nulls, residual, columns, expiry, late, pad }
    }

    fn is_one_sided(&self) -> bool {
        matches!(self.kind, JoinKind::Semi | JoinKind::Anti)
    }

    fn meets(&self, left: &Row, right: &Row) -> bool {
        let key = match (self.keyed, left.0, right.0) {
            (false, _, _) => true,
            (_, None, None) => self.nulls == JoinNulls::Equal,
            (_, one, other) => one == other,
        };
        key && match self.condition {
            Condition::Nothing => true,
            Condition::Less => matches!((left.2, right.2), (Some(one), Some(other)) if one <= other && other != 13),
            Condition::Near | Condition::NearLeft => left.3 - 20 <= right.3 && right.3 <= left.3 + 30,
            Condition::Window => end_of(left.3) == end_of(right.3),
        }
    }

    /// Whether a pair is not known to differ, where a null may equal anything; else whether it meets.
    fn may_meet(&self, left: &Row, right: &Row) -> bool {
        let may = self.nulls == JoinNulls::Unknown && (left.0.is_none() || right.0.is_none());
        may || self.meets(left, right)
    }

    /// What comes out after a step whose watermark is this.
    fn search(&self, sides: &[Bag; 2], watermark: i64) -> BTreeMap<String, i64> {
        let text = |row: Option<&Row>| match row {
            Some(row) => format!("{} {} {} {}", shown(row.0), row.1, shown(row.2), row.3),
            None => "_ _ _ _".to_string(),
        };
        let mut out = BTreeMap::new();
        let mut say = |left: Option<&Row>, right: Option<&Row>, weight: i64| {
            let line = if self.is_one_sided() { text(left) } else { format!("{} {}", text(left), text(right)) };
            *out.entry(line).or_default() += weight;
        };
        let [lefts, rights] = sides;
        let is_out = |row: &Row, after: i64| {
            let deadline = if self.condition == Condition::Window { end_of(row.3) - 1 } else { row.3 + after };
            self.pad == Emit::Changes || watermark > deadline || watermark == i64::MAX
        };
        for (left, weight) in lefts {
            let mut met = 0;
            for (right, times) in rights.iter().filter(|(right, _)| self.meets(left, right)) {
                met += times;
                if !self.is_one_sided() {
                    say(Some(left), Some(right), weight * times);
                }
            }
            let null = |row: &Row| row.0.is_none();
            let unknown =
                self.nulls == JoinNulls::Unknown && (rights.keys().any(null) || (null(left) && !rights.is_empty()));
            match self.kind {
                JoinKind::Semi if met > 0 => say(Some(left), None, *weight),
                JoinKind::Left | JoinKind::Full | JoinKind::Anti if met == 0 && !unknown && is_out(left, 30) => {
                    say(Some(left), None, *weight);
                }
                _ => {}
            }
        }
        for (right, weight) in rights.iter().filter(|_| self.kind == JoinKind::Full) {
            if !lefts.keys().any(|left| self.meets(left, right)) && is_out(right, 20) {
                say(None, Some(right), *weight);
            }
        }
        out
    }
}

/// Rows, each as often as it is there.
type Bag = BTreeMap<Row, i64>;

/// A circuit of two sources and a join.
struct Rig {
    circuit: Circuit,
    rows: [u64; 2],
    now: i64,
}

impl Rig {
    fn new(setup: &Setup) -> Result<Self, Error> {
        Self::with_ttl(setup, None)
    }

    fn with_ttl(setup: &Setup, ttl_ms: Option<i64>) -> Result<Self, Error> {
        Self::over(setup, ttl_ms, false)
    }

    /// A join whose right side is all rows of its source, or the one of them with the least number.
    fn over(setup: &Setup, ttl_ms: Option<i64>, first_right: bool) -> Result<Self, Error> {
        let spec = setup.spec();
        let mut plan = Plan::default();
        let node = |spec, inputs, schema| Node { spec, inputs, schema, position: None, on_error: setup.on_error };
        let source = |name: &str, append_only| {
            let bound: Expr = Arc::new(Of("time - delay", TIME_TYPE, vec![TIME], |v| Ok(v[0] - DELAY)));
            Spec::Source(SourceSpec {
                name: name.to_string(),
                decoded: schema(),
                origin: false,
                computed: None,
                watermark: Some(WatermarkSpec { time: TIME, bound, idle_timeout_ms: None }),
                append_only,
            })
        };
        let left = plan.add(node(source("left", setup.appends[LEFT]), vec![], schema()));
        let mut right = plan.add(node(source("right", setup.appends[RIGHT]), vec![], schema()));
        if first_right {
            let first = RankSpec {
                keys: vec![],
                order: vec![OrderBy { column: NUMBER, descending: false, nulls_first: false }],
                function: RankFunction::RowNumber,
                from: 1,
                to: Some(1),
                number: false,
                close: None,
                expiry: None,
            };
            right = plan.add(node(Spec::Rank(first), vec![right], schema()));
        }
        let both: Vec<Field> =
            schema().fields().iter().chain(schema().fields()).map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let output = Arc::new(Schema::new(spec.columns.iter().map(|column| both[*column].clone()).collect::<Vec<_>>()));
        let join = plan.add(node(Spec::Join(spec), vec![left, right], output.clone()));
        plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![join], output));
        plan.ttls.extend(ttl_ms.map(|ttl_ms| (join, ttl_ms)));
        let sides = Sides { late: true, dead_letter: true, ..Sides::default() };
        let options = Options { lanes: setup.lanes, sides, ..Options::default() };
        Ok(Rig { circuit: Circuit::new(&plan, &BTreeMap::new(), options)?, rows: [0, 0], now: 0 })
    }

    /// Runs a step of changes of both sides, each in blocks of some rows.
    fn step(&mut self, changes: [&[(Row, i64)]; 2], last: bool) -> Result<StepOutput, Error> {
        let first = self.circuit.steps() == 0;
        let mut sources = Vec::new();
        for ((name, changes), from) in ["left", "right"].into_iter().zip(changes).zip(&mut self.rows) {
            let block = |rows: &[(Row, i64)]| {
                let (first_record, records) = (*from, rows.len() as u32);
                *from += u64::from(records);
                let weights: Vec<i64> = rows.iter().map(|(_, weight)| *weight).collect();
                let plain = weights.iter().all(|weight| *weight == 1);
                let delta = if plain { Delta::inserts(batch(rows)) } else { Delta::weighted(batch(rows), weights) };
                Block {
                    partition: 0,
                    from: first_record,
                    to: *from,
                    first_record,
                    records,
                    data: BlockData::Rows(delta),
                }
            };
            let blocks = changes.chunks(70).map(block).collect();
            let opened = if first { vec![0] } else { vec![] };
            let ended = if last { vec![0] } else { vec![] };
            let source = name.to_string();
            sources.push(SourceInput { source, blocks, opened, ended, complete: last, ..SourceInput::default() });
        }
        self.circuit.step(StepInput { now: self.now, sources })
    }

    fn entries(&self) -> u64 {
        self.circuit.state().iter().map(|(_, size)| size.entries).sum()
    }
}

/// The rows of a step, added up.
fn sum(output: &StepOutput) -> BTreeMap<String, i64> {
    let mut sum = BTreeMap::new();
    for delta in output.outputs.iter().flat_map(|output| &output.deltas) {
        for (row, line) in lines(delta.batch()).into_iter().enumerate() {
            *sum.entry(line).or_default() += delta.weight(row);
        }
    }
    sum
}

fn random_row(rng: &mut Rng, keys: u64, time: i64) -> Row {
    let key = rng.chance(7, 8).then(|| rng.below(keys) as i64);
    let text = ["", "a", "a longer text", "ä"][rng.below(4) as usize];
    (key, text, rng.chance(7, 8).then(|| rng.below(12) as i64), time)
}

/// Changes of one side: rows that come, some of them twice, and where that may be rows that go again.
struct Changes {
    appends: bool,
    doubles: bool,
    keys: u64,
    time: i64,
    live: Vec<(Row, i64)>,
    bag: Bag,
}

impl Changes {
    fn next(&mut self, rng: &mut Rng, count: u64, backwards: bool) -> Vec<(Row, i64)> {
        let mut changes = Vec::new();
        for _ in 0..count {
            self.time += if rng.chance(1, 40) { rng.below(150) as i64 } else { rng.below(5) as i64 };
            self.live.retain(|(row, _)| row.3 >= self.time - DELAY);
            let change = match self.live.len() as u64 {
                live @ 1.. if !self.appends && rng.chance(2, 5) => {
                    let (row, weight) = self.live.swap_remove(rng.below(live) as usize);
                    (row, -weight)
                }
                _ => {
                    let time = self.time - rng.below(DELAY as u64) as i64;
                    let row = random_row(rng, self.keys, time);
                    let weight = if self.doubles && rng.chance(1, 8) { 2 } else { 1 };
                    self.live.push((row, weight));
                    (row, weight)
                }
            };
            *self.bag.entry(change.0).or_default() += change.1;
            changes.push(change);
        }
        self.bag.retain(|_, weight| *weight != 0);
        // Rows of a step may come in any order that makes none of them late.
        if backwards && !self.appends {
            let high = changes.iter().map(|(row, _)| row.3).max().unwrap_or(0);
            if changes.iter().all(|(row, _)| row.3 >= high - DELAY) {
                changes.reverse();
            }
        }
        changes
    }
}

fn against_a_search(seed: u64, setup: &Setup) {
    let mut rng = Rng::seeded(seed);
    let mut rig = Rig::new(setup).unwrap_or_else(|error| panic!("{setup:?}: {error}"));
    let keys = [2, 6, 40][rng.below(3) as usize];
    let doubles = rng.chance(1, 2);
    let side = |appends| Changes { appends, doubles, keys, time: 0, live: Vec::new(), bag: Bag::new() };
    let mut sides = setup.appends.map(side);
    let (mut integral, steps) = (BTreeMap::new(), 8);
    for step in 1..=steps {
        let rows = if setup.keyed { [3, 30, 120] } else { [2, 6, 12] };
        let changes = [LEFT, RIGHT].map(|side| {
            let most = rows[rng.below(3) as usize];
            let (count, backwards) = (rng.below(most), rng.chance(1, 3));
            sides[side].next(&mut rng, count, backwards)
        });
        let output = rig.step([&changes[0], &changes[1]], step == steps).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(output.trailer.late_rows, 0, "no row is late");
        for delta in output.outputs.iter().flat_map(|output| &output.deltas) {
            assert!(delta.rows() <= DELTA_ROWS_MAX && (0..delta.rows()).all(|row| delta.weight(row) != 0));
        }
        let said: usize = output.outputs.iter().flat_map(|output| &output.deltas).map(Delta::rows).sum();
        let sum = sum(&output);
        if setup.kind != JoinKind::Inner && setup.appends == [false; 2] {
            assert_eq!(said, sum.values().filter(|weight| **weight != 0).count(), "a row is said once a step");
        }
        for (line, weight) in sum {
            *integral.entry(line).or_default() += weight;
        }
        integral.retain(|_, weight| *weight != 0);
        let watermark = if step == steps { i64::MAX } else { output.watermark };
        let bags = [sides[LEFT].bag.clone(), sides[RIGHT].bag.clone()];
        assert_eq!(integral, setup.search(&bags, watermark), "seed {seed}, step {step}, {setup:?}");
    }
    if matches!(setup.condition, Condition::Near | Condition::Window) {
        assert_eq!(rig.entries(), 0, "what has expired is gone: {setup:?}");
    }
}

fn setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    use Condition::*;
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Full, JoinKind::Semi, JoinKind::Anti] {
        for condition in [Nothing, Less, Near, NearLeft, Window] {
            for appends in [[true; 2], [false; 2], [true, false], [false, true]] {
                for nulls in [JoinNulls::Unequal, JoinNulls::Equal, JoinNulls::Unknown] {
                    for (keyed, pad) in [(true, Emit::Changes), (false, Emit::Changes), (true, Emit::OnClose)] {
                        let (lanes, on_error) = (1, OnError::Null);
                        setups.push(Setup { kind, nulls, condition, keyed, pad, appends, lanes, on_error });
                    }
                }
            }
        }
    }
    let is_asked = |setup: &Setup| {
        let expires = setup.spec().expiry.map(|expiry| expiry.is_some());
        let not_in = setup.kind == JoinKind::Anti && setup.keyed && matches!(setup.condition, Nothing);
        let padded = matches!(setup.kind, JoinKind::Left | JoinKind::Anti | JoinKind::Full);
        let late = padded && setup.appends == [true; 2] && expires[0] && (expires[1] || setup.kind != JoinKind::Full);
        (setup.nulls != JoinNulls::Unknown || not_in) && (setup.pad == Emit::Changes || late)
    };
    setups.retain(is_asked);
    setups
}

#[test]
fn pairs_of_all_kinds_are_those_of_a_search() {
    for (number, mut setup) in setups().into_iter().enumerate() {
        for seed in [number * 2, number * 2 + 1] {
            setup.lanes = 1 + seed % 3;
            against_a_search(seed as u64, &setup);
        }
    }
}

fn plain(kind: JoinKind, condition: Condition) -> Setup {
    let (nulls, pad, on_error) = (JoinNulls::Unequal, Emit::Changes, OnError::Stop);
    Setup { kind, nulls, condition, keyed: true, pad, appends: [true; 2], lanes: 1, on_error }
}

fn come(key: i64, number: i64, time: i64) -> (Row, i64) {
    ((Some(key), "", Some(number), time), 1)
}

#[test]
fn chunks_of_which_most_rows_are_gone_are_given_up() {
    for (round, appends) in [[true; 2], [false; 2]].into_iter().enumerate() {
        let setup = Setup { appends, ..plain(JoinKind::Left, Condition::Near) };
        let (mut rng, mut rig) = (Rng::seeded(round as u64), Rig::new(&setup).expect("supported"));
        let side =
            |appends| Changes { appends, doubles: false, keys: 20_000, time: 0, live: Vec::new(), bag: Bag::new() };
        let (mut sides, mut integral) = (appends.map(side), BTreeMap::new());
        let mut most = 0;
        for step in 1..=20 {
            let changes = [LEFT, RIGHT].map(|side| sides[side].next(&mut rng, 1_000, false));
            let output = rig.step([&changes[0], &changes[1]], step == 20).unwrap_or_else(|error| panic!("{error}"));
            for (line, weight) in sum(&output) {
                *integral.entry(line).or_default() += weight;
            }
            most = most.max(rig.circuit.state().iter().map(|(_, size)| size.bytes).sum());
        }
        integral.retain(|_, weight: &mut i64| *weight != 0);
        let by_key = |side: usize| {
            let mut rows: BTreeMap<Option<i64>, Bag> = BTreeMap::new();
            for (row, weight) in &sides[side].bag {
                rows.entry(row.0).or_default().insert(*row, *weight);
            }
            rows
        };
        let (mut expected, mut rights) = (BTreeMap::new(), by_key(RIGHT));
        for (key, lefts) in by_key(LEFT) {
            expected.extend(setup.search(&[lefts, rights.remove(&key).unwrap_or_default()], i64::MAX));
        }
        assert_eq!(integral, expected);
        assert_eq!(rig.entries(), 0);
        assert!(most < 3_000_000, "of 40,000 rows a few thousand are kept, but there were {most} bytes");
    }
}

#[test]
fn a_suspect_that_might_miss_rows_is_late() {
    for (condition, late) in [(Condition::Near, [1, 1]), (Condition::NearLeft, [0, 1]), (Condition::Nothing, [0, 0])] {
        let mut rig = Rig::new(&plain(JoinKind::Inner, condition)).expect("supported");
        rig.step([&[come(1, 1, 1_000)], &[come(1, 1, 1_000)]], false).expect("rows in time");
        let suspect = [come(1, 2, 900)];
        let left = rig.step([&suspect, &[]], false).expect("a suspect");
        let right = rig.step([&[], &suspect], false).expect("a suspect");
        assert_eq!([left.trailer.late_rows, right.trailer.late_rows], late.map(u64::from), "{condition:?}");
        assert_eq!(left.side.iter().chain(&right.side).count(), late.iter().sum::<u32>() as usize);
    }
}

#[test]
fn a_suspect_whose_window_is_open_is_in_time() {
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Semi] {
        let pad = if kind == JoinKind::Left { Emit::OnClose } else { Emit::Changes };
        let mut rig = Rig::new(&Setup { pad, ..plain(kind, Condition::Window) }).expect("supported");
        // The watermark of both sides is at 1,055 now: the window up to 1,050 is closed, the next one is open.
        rig.step([&[come(1, 1, 1_095)], &[come(1, 1, 1_095)]], false).expect("rows in time");
        let open = rig.step([&[come(1, 2, 1_051)], &[come(1, 3, 1_052)]], false).expect("suspects");
        assert_eq!(open.trailer.late_rows, 0, "{kind:?}");
        let pairs = if kind == JoinKind::Semi { 1 } else { 3 };
        assert_eq!(sum(&open).values().sum::<i64>(), pairs, "{kind:?}");
        let closed = rig.step([&[come(1, 4, 1_049)], &[come(1, 5, 1_001)]], false).expect("suspects");
        assert_eq!((sum(&closed), closed.trailer.late_rows), (BTreeMap::new(), 2), "{kind:?}");
        assert!(closed.side.iter().all(|row| row.reason.contains("may have expired")), "{:?}", closed.side);
    }
}

#[test]
fn a_pair_on_which_the_condition_fails_is_treated_as_on_error_says() {
    let run = |kind, on_error| {
        let mut rig = Rig::new(&Setup { on_error, ..plain(kind, Condition::Less) }).expect("supported");
        let output = rig.step([&[come(1, 1, 0), come(2, 2, 0)], &[come(1, 13, 0), come(2, 3, 0)]], false)?;
        Ok::<_, Error>((sum(&output).into_keys().collect::<Vec<_>>(), output.trailer.dead_rows))
    };
    let pair = "2  2 0 2  3 0".to_string();
    for (on_error, dead) in [(OnError::Null, 0), (OnError::DeadLetter, 1)] {
        assert_eq!(run(JoinKind::Inner, on_error).expect("a pair is left out"), (vec![pair.clone()], dead));
        let (padded, counted) = run(JoinKind::Left, on_error).expect("a pair is left out");
        assert_eq!((padded, counted), (vec!["1  1 0 _ _ _ _".to_string(), pair.clone()], dead));
    }
    let error = run(JoinKind::Inner, OnError::Stop).expect_err("it stops").to_string();
    assert!(error.contains("13 brings bad luck") && error.contains(r#""number": 13"#), "{error}");
}

#[test]
fn a_row_taken_back_that_is_not_there_stops_the_circuit() {
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Semi] {
        let setup = Setup { appends: [false; 2], ..plain(kind, Condition::Nothing) };
        for side in [LEFT, RIGHT] {
            let mut rig = Rig::new(&setup).expect("supported");
            let (row, _) = come(1, 2, 3);
            let taken = [(row, -1)];
            let mut changes: [&[(Row, i64)]; 2] = [&[], &[]];
            changes[side] = &taken;
            let error = rig.step(changes, false).expect_err("the promise is broken").to_string();
            assert!(error.contains("taken back that"), "{kind:?}: {error}");
        }
    }
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let refused = |setup: Setup| Rig::new(&setup).err().map_or("nothing".to_string(), |error| error.to_string());
    let starts = |message: String, start: &str| assert!(message.starts_with(start), "{message}");
    let not_in = Setup { nulls: JoinNulls::Unknown, ..plain(JoinKind::Anti, Condition::Less) };
    starts(refused(not_in), "NOT IN with a condition besides");
    let late = Setup { pad: Emit::OnClose, ..plain(JoinKind::Left, Condition::Less) };
    starts(refused(late), "rows that are padded for ever");
    let taken = Setup { pad: Emit::OnClose, appends: [true, false], ..plain(JoinKind::Left, Condition::Near) };
    starts(refused(taken), "rows that are padded for ever");
}

#[test]
fn rows_are_forgotten_once_they_have_outlived_their_time() {
    for (kind, condition) in [(JoinKind::Inner, Condition::Nothing), (JoinKind::Left, Condition::Less)] {
        for appends in [[true; 2], [false; 2]] {
            let mut rig = Rig::with_ttl(&Setup { appends, ..plain(kind, condition) }, Some(100)).expect("supported");
            let mut pairs = |now: i64, changes: [&[(Row, i64)]; 2]| {
                rig.now = now;
                let lines = sum(&rig.step(changes, false).unwrap_or_else(|error| panic!("{error}")));
                let pairs = lines.into_iter().filter(|(line, _)| !line.contains('_'));
                (pairs.map(|(_, weight)| weight).collect::<Vec<_>>(), rig.entries())
            };
            assert_eq!(pairs(1_000, [&[come(1, 1, 0)], &[]]), (vec![], 1));
            assert_eq!(pairs(1_099, [&[], &[come(1, 2, 0)]]), (vec![1], 2), "it meets what is just not too old");
            assert_eq!(pairs(1_100, [&[], &[come(1, 3, 0)]]), (vec![], 2), "the first row is gone");
            assert_eq!(pairs(1_150, [&[come(1, 1, 1)], &[]]), (vec![1, 1], 3));
            assert_eq!(pairs(9_000, [&[], &[]]), (vec![], 0));
            if appends == [false; 2] {
                let ((row, _), (other, _)) = (come(1, 1, 1), come(1, 3, 0));
                assert_eq!(pairs(9_001, [&[(row, -1)], &[(other, -1)]]).1, 0, "nothing is left of what is forgotten");
            }
        }
    }
}

/// A row that is kept: how often it is there, how many rows it has met, and when it has changed.
#[derive(Debug, Clone, Copy, Default)]
struct Living {
    weight: i64,
    met: i64,
    changed: i64,
}

/// Both sides as a join with a time to live should keep them.
#[derive(Default)]
struct Lives([BTreeMap<Row, Living>; 2]);

impl Lives {
    /// What comes out of a step.
    fn step(&mut self, setup: &Setup, now: i64, ttl: i64, changes: [&[(Row, i64)]; 2]) -> BTreeMap<String, i64> {
        for side in &mut self.0 {
            side.retain(|_, row| row.changed + ttl > now);
        }
        let before = self.0.clone();
        for (side, changes) in self.0.iter_mut().zip(changes) {
            for (row, weight) in changes {
                let kept = side.entry(*row).or_default();
                (kept.weight, kept.changed) = (kept.weight + weight, now);
            }
            // What is taken back and was forgotten was never there.
            side.values_mut().for_each(|row| row.weight = row.weight.max(0));
        }
        let was = |side: usize, row: &Row| before[side].get(row).map_or(0, |row| row.weight);
        let (mut pairs, mut mets) = (Vec::new(), [BTreeMap::new(), BTreeMap::new()]);
        for (left, l) in &self.0[LEFT] {
            for (right, r) in self.0[RIGHT].iter().filter(|(right, _)| setup.may_meet(left, right)) {
                let (l_was, r_was) = (was(LEFT, left), was(RIGHT, right));
                pairs.push((*left, *right, l.weight * r.weight - l_was * r_was));
                *mets[LEFT].entry(*left).or_insert(0) += if l_was == 0 { r.weight } else { r.weight - r_was };
                *mets[RIGHT].entry(*right).or_insert(0) += if r_was == 0 { l.weight } else { l.weight - l_was };
            }
        }
        let text = |row: &Row| format!("{} {} {} {}", shown(row.0), row.1, shown(row.2), row.3);
        let mut out = BTreeMap::new();
        let mut say = |line: String, weight: i64| *out.entry(line).or_default() += weight;
        if !setup.is_one_sided() {
            pairs.iter().for_each(|(left, right, weight)| say(format!("{} {}", text(left), text(right)), *weight));
        }
        for side in [LEFT, RIGHT] {
            let padded = match setup.kind {
                JoinKind::Inner => false,
                JoinKind::Full => true,
                _ => side == LEFT,
            };
            for (row, kept) in &mut self.0[side] {
                let met_before = if was(side, row) == 0 { 0 } else { kept.met };
                kept.met = met_before + mets[side].get(row).copied().unwrap_or(0);
                let shows = |met: i64| (met > 0) == (setup.kind == JoinKind::Semi);
                let old = if shows(met_before) { was(side, row) } else { 0 };
                let new = if shows(kept.met) { kept.weight } else { 0 };
                let line = match (setup.is_one_sided(), side) {
                    (true, _) => text(row),
                    (false, LEFT) => format!("{} _ _ _ _", text(row)),
                    (false, _) => format!("_ _ _ _ {}", text(row)),
                };
                if padded {
                    say(line, new - old);
                }
            }
            self.0[side].retain(|_, row| row.weight > 0);
        }
        if setup.is_one_sided() && setup.nulls != JoinNulls::Unknown && setup.appends == [true; 2] {
            // Nothing more is said of them.
            self.0[LEFT].retain(|_, row| row.met == 0);
        }
        out.retain(|_, weight| *weight != 0);
        out
    }
}

fn against_lives(seed: u64, setup: &Setup) {
    const LIFE: i64 = 100;
    let mut rng = Rng::seeded(seed);
    let mut rig = Rig::with_ttl(setup, Some(LIFE)).unwrap_or_else(|error| panic!("{setup:?}: {error}"));
    let (mut lives, mut came) = (Lives::default(), [Vec::new(), Vec::new()]);
    for step in 0..25 {
        rig.now += rng.below(60) as i64;
        let mut number = 0;
        let changes = [LEFT, RIGHT].map(|side| {
            let mut changes: BTreeMap<Row, i64> = BTreeMap::new();
            for _ in 0..rng.below(7) {
                let come: &mut Vec<Row> = &mut came[side];
                if !setup.appends[side] && !come.is_empty() && rng.chance(2, 5) {
                    // It may have been forgotten, or be there twice.
                    let row = come.swap_remove(rng.below(come.len() as u64) as usize);
                    *changes.entry(row).or_default() -= 1;
                    continue;
                }
                number += 1;
                // A row that comes again is another one where rows only come.
                let time = if setup.appends[side] { step * 100 + number } else { 0 };
                let (mut row, weight) = come_again(&mut rng, time);
                row.0 = row.0.filter(|_| setup.nulls != JoinNulls::Unknown || !rng.chance(1, 5));
                come.push(row);
                *changes.entry(row).or_default() += weight;
            }
            changes.into_iter().filter(|(_, weight)| *weight != 0).collect::<Vec<_>>()
        });
        let expected = lives.step(setup, rig.now, LIFE, [&changes[0], &changes[1]]);
        let output = rig.step([&changes[0], &changes[1]], false).unwrap_or_else(|error| panic!("{error}"));
        let mut said = sum(&output);
        said.retain(|_, weight| *weight != 0);
        assert_eq!(said, expected, "seed {seed}, step {step}, {setup:?}");
        let kept: usize = lives.0.iter().map(BTreeMap::len).sum();
        assert_eq!(rig.entries(), kept as u64, "seed {seed}, step {step}, {setup:?}");
    }
}

fn come_again(rng: &mut Rng, time: i64) -> (Row, i64) {
    ((Some(rng.below(3) as i64), "", Some(rng.below(3) as i64), time), 1)
}

#[test]
fn rows_live_as_long_as_they_should_in_joins_of_all_kinds() {
    let kinds = [JoinKind::Inner, JoinKind::Left, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];
    for (number, kind) in kinds.into_iter().enumerate() {
        for condition in [Condition::Nothing, Condition::Less] {
            for appends in [[true; 2], [false; 2], [true, false], [false, true]] {
                for round in 0..6 {
                    let lanes = 1 + round as usize % 3;
                    let setup = Setup { appends, lanes, ..plain(kind, condition) };
                    against_lives(number as u64 * 100 + round, &setup);
                    against_lives(number as u64 * 100 + round, &Setup { keyed: false, ..setup.clone() });
                    if kind == JoinKind::Anti && condition == Condition::Nothing {
                        against_lives(number as u64 * 100 + round, &Setup { nulls: JoinNulls::Unknown, ..setup });
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_of_which_nothing_more_can_be_said_goes_once_it_has_met_one() {
    for (kind, condition) in [JoinKind::Semi, JoinKind::Anti]
        .into_iter()
        .flat_map(|kind| [(kind, Condition::Nothing), (kind, Condition::Less)])
    {
        for (appends, goes) in [([true; 2], true), ([false, true], true), ([true, false], false)] {
            let mut rig = Rig::new(&Setup { appends, ..plain(kind, condition) }).expect("supported");
            let mut step = |changes: [&[(Row, i64)]; 2]| {
                let mut said = sum(&rig.step(changes, false).unwrap_or_else(|error| panic!("{error}")));
                said.retain(|_, weight| *weight != 0);
                (said.into_values().collect::<Vec<_>>(), rig.entries())
            };
            let lefts = [come(1, 1, 0), come(2, 1, 0), come(3, 1, 0)];
            let is_semi = kind == JoinKind::Semi;
            assert_eq!(step([&lefts, &[]]), (if is_semi { vec![] } else { vec![1; 3] }, 3));
            let stay = if goes { 0 } else { 2 };
            let change = if is_semi { 1 } else { -1 };
            assert_eq!(
                step([&[], &[come(1, 2, 0), come(2, 2, 0)]]),
                (vec![change; 2], 3 + stay),
                "{kind:?} {appends:?}"
            );
            let said = if is_semi { vec![1] } else { vec![] };
            let stay = if goes { 0 } else { 3 };
            assert_eq!(step([&[come(1, 1, 1)], &[]]), (said, 3 + stay), "it meets what is there");
            if !appends[LEFT] {
                let (row, _) = come(1, 1, 0);
                let said = if is_semi { vec![-1] } else { vec![] };
                assert_eq!(step([&[(row, -1)], &[]]), (said, 3), "it is taken back though it is gone");
            }
        }
    }
}

#[test]
fn a_side_that_no_time_bounds_has_a_time_to_live() {
    let mut rig = Rig::with_ttl(&plain(JoinKind::Left, Condition::NearLeft), Some(100)).expect("supported");
    let mut entries = |now: i64, changes: [&[(Row, i64)]; 2]| {
        rig.now = now;
        rig.step(changes, false).unwrap_or_else(|error| panic!("{error}"));
        rig.entries()
    };
    assert_eq!(entries(1_000, [&[come(1, 1, 1_000)], &[come(1, 1, 1_000)]]), 2);
    assert_eq!(entries(1_099, [&[come(1, 1, 1_000)], &[]]), 3);
    assert_eq!(entries(1_100, [&[], &[]]), 2, "the row of the right side is forgotten");
    assert_eq!(entries(9_000, [&[], &[]]), 2, "rows of the left side wait for the watermark");
    assert_eq!(entries(9_000, [&[come(2, 1, 2_000)], &[come(2, 1, 2_000)]]), 2);
}

#[test]
fn the_only_row_of_a_side_outlives_its_time() {
    for (kind, keyed) in [(JoinKind::Inner, false), (JoinKind::Left, false), (JoinKind::Inner, true)] {
        for appends in [[true; 2], [false; 2]] {
            let setup = Setup { appends, keyed, ..plain(kind, Condition::Nothing) };
            let mut rig = Rig::over(&setup, Some(100), true).expect("supported");
            let mut pairs = |now: i64, changes: [&[(Row, i64)]; 2]| {
                rig.now = now;
                let lines = sum(&rig.step(changes, false).unwrap_or_else(|error| panic!("{error}")));
                let pairs = lines.into_iter().filter(|(line, weight)| !line.contains('_') && *weight != 0);
                pairs.map(|(_, weight)| weight).collect::<Vec<_>>()
            };
            assert_eq!(pairs(1_000, [&[come(1, 1, 0)], &[come(1, 5, 0)]]), [1]);
            assert_eq!(pairs(9_000, [&[come(1, 2, 0)], &[]]), [1], "the row of the right side is there for good");
            assert_eq!(pairs(9_050, [&[], &[come(1, 4, 0)]]), [1, -1], "the first row of the left side is forgotten");
            assert_eq!(pairs(9_051, [&[], &[come(2, 6, 0)]]), [0; 0], "it is not the first");
        }
    }
}

#[test]
fn the_keys_that_take_most_are_known() {
    let spec = plain(JoinKind::Left, Condition::Nothing).spec();
    let both: Vec<_> = schema().fields().iter().chain(schema().fields()).cloned().collect();
    let output = Arc::new(Schema::new(spec.columns.iter().map(|column| both[*column].clone()).collect::<Vec<_>>()));
    let (inputs, on_error) = (vec![0, 1], OnError::Stop);
    let node = Node { spec: Spec::Join(spec.clone()), inputs, schema: output, position: None, on_error };
    let (inputs, input_schemas, appends) = (&[0, 1], &[schema(), schema()], &[true; 2]);
    let (append_only, ttl_ms, lanes, name) = (true, None, 1, "Join".to_string());
    let singles = &[false; 2];
    let lowering =
        Lowering { node: &node, id: 2, inputs, input_schemas, appends, singles, append_only, ttl_ms, lanes, name };
    let mut state = State::new(Arc::new(Design::new(&lowering, &spec).expect("supported")));
    let time = tidemill_base::Timestamp(0);
    let context = Context { step: 1, lane: 0, now: time, watermark: time, sides: Sides::default() };
    let rows: Vec<(Row, i64)> = (0..90).map(|row| come([7, 7, 8][row as usize % 3], row, 0)).collect();
    let delta = Delta::inserts(batch(&rows));
    let (delta, _) = state.admit(LEFT, delta, &context, &mut Output::default()).expect("rows of the left side");
    let (_, rows) = state.enter(LEFT, delta).expect("rows of the left side");
    state.take(LEFT, &rows).expect("rows of the left side");
    let keys = state.largest_keys(1);
    assert_eq!(keys.iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), [r#"{"key": 7}"#]);
    assert!(keys[0].bytes > 0 && keys[0].bytes < state.size().bytes);
}

//! Set operations in a circuit, against rows counted anew after each step.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use tidemill_base::rand::Rng;

use super::*;
use crate::Circuit;
use crate::circuit::Options;
use crate::decode::{Block, BlockData};
use crate::expr::OnError;
use crate::operators::testing::lines;
use crate::plan::{Node, OutputSpec, Plan, SourceSpec, Spec};
use crate::step::{SourceInput, StepInput};

type Row = (Option<i64>, Option<&'static str>);
type Changes = [Vec<(Row, i64)>; 2];

fn schema() -> SchemaRef {
    let fields = vec![Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
    Arc::new(Schema::new(fields))
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let numbers: ArrayRef = Arc::new(rows.iter().map(|(row, _)| row.0).collect::<Int64Array>());
    let texts: ArrayRef = Arc::new(rows.iter().map(|(row, _)| row.1).collect::<StringArray>());
    let batch = RecordBatch::try_new(schema(), vec![numbers, texts]).expect("columns of the schema");
    Delta::weighted(batch, rows.iter().map(|(_, weight)| *weight).collect())
}

struct Rig {
    circuit: Circuit,
    records: u64,
    now: i64,
    integral: BTreeMap<String, i64>,
}

impl Rig {
    fn new(spec: SetSpec, lanes: usize) -> Self {
        Self::with_ttl(spec, lanes, None)
    }

    fn with_ttl(spec: SetSpec, lanes: usize, ttl_ms: Option<i64>) -> Self {
        let mut plan = Plan::default();
        let node = |spec, inputs| Node { spec, inputs, schema: schema(), position: None, on_error: OnError::Stop };
        for name in ["left", "right"] {
            let (name, decoded) = (name.to_string(), schema());
            let (computed, watermark) = (None, None);
            let source = SourceSpec { name, decoded, origin: false, computed, watermark, append_only: false };
            plan.add(node(Spec::Source(source), vec![]));
        }
        let operation = plan.add(node(Spec::SetOperation(spec), vec![0, 1]));
        plan.ttls.extend(ttl_ms.map(|ttl_ms| (operation, ttl_ms)));
        plan.add(node(Spec::Output(OutputSpec { name: "out".to_string(), key: None }), vec![2]));
        let options = Options { lanes, ..Options::default() };
        let circuit = Circuit::new(&plan, &BTreeMap::new(), options).expect("the plan is supported");
        Rig { circuit, records: 0, now: 0, integral: BTreeMap::new() }
    }

    fn step(&mut self, changes: &Changes) -> Result<(), Error> {
        let mut sources = Vec::new();
        for (name, changes) in ["left", "right"].into_iter().zip(changes) {
            let block = |rows: &[(Row, i64)]| {
                let (from, records) = (self.records, rows.len() as u32);
                self.records += u64::from(records);
                let (to, data) = (self.records, BlockData::Rows(delta(rows)));
                Block { partition: 0, from, to, first_record: from, records, data }
            };
            let blocks = changes.chunks(50).map(block).collect();
            sources.push(SourceInput { source: name.to_string(), blocks, ..SourceInput::default() });
        }
        let output = self.circuit.step(StepInput { now: self.now, sources })?;
        let mut said = BTreeMap::new();
        for delta in output.outputs.iter().flat_map(|output| &output.deltas) {
            for (row, line) in lines(delta.batch()).into_iter().enumerate() {
                assert_eq!(said.insert(line, delta.weight(row)), None, "a row is said once a step");
            }
        }
        for (line, weight) in said {
            *self.integral.entry(line).or_default() += weight;
        }
        self.integral.retain(|_, weight| *weight != 0);
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.circuit.state().iter().map(|(_, size)| size.entries).sum()
    }
}

/// What comes out of so many rows of each side, said in another way than the operator says it.
fn expected(spec: SetSpec, sides: &[BTreeMap<Row, i64>; 2]) -> BTreeMap<String, i64> {
    let count = |side: usize, row: &Row| sides[side].get(row).copied().unwrap_or(0);
    // Each copy of the left side meets one of the right side as long as there is one.
    let times = |row: &Row| {
        let (left, right) = (count(0, row), count(1, row));
        let met = (0..left).filter(|copy| *copy < right).count() as i64;
        match (spec.operation, spec.all) {
            (Which::Intersect, true) => met,
            (Which::Intersect, false) => met.min(1),
            (Which::Except, true) => left - met,
            (Which::Except, false) => {
                if met > 0 {
                    0
                } else {
                    left.min(1)
                }
            }
        }
    };
    let shown = |row: &Row| {
        let number = row.0.map_or("_".to_string(), |number| number.to_string());
        format!("{number} {}", row.1.unwrap_or("_"))
    };
    sides[0].keys().map(|row| (shown(row), times(row))).filter(|(_, times)| *times != 0).collect()
}

fn specs() -> impl Iterator<Item = SetSpec> {
    let operations = [Which::Intersect, Which::Except].into_iter();
    operations.flat_map(|operation| [true, false].map(|all| SetSpec { operation, all }))
}

fn random_row(rng: &mut Rng) -> Row {
    let number = rng.chance(5, 6).then(|| rng.below(8) as i64);
    (number, [Some("a"), Some(""), Some("a longer text"), None][rng.below(4) as usize])
}

#[test]
fn rows_come_out_as_often_as_they_are_counted() {
    for (number, spec) in specs().enumerate() {
        for round in 0..12 {
            let mut rng = Rng::seeded((number * 100 + round) as u64);
            let (mut rig, mut sides) = (Rig::new(spec, 1 + round % 3), [BTreeMap::new(), BTreeMap::new()]);
            for step in 0..12 {
                let changes: Changes = [0, 1].map(|side: usize| {
                    let mut changes = Vec::new();
                    for _ in 0..rng.below(60) {
                        let row = random_row(&mut rng);
                        let count: &mut i64 = sides[side].entry(row).or_default();
                        let weight =
                            if *count > 0 && rng.chance(1, 2) { -1 - rng.below(*count as u64) as i64 } else { 1 };
                        *count += weight;
                        changes.push((row, weight));
                    }
                    if rng.chance(1, 2) {
                        changes.reverse();
                    }
                    changes
                });
                rig.step(&changes).unwrap_or_else(|error| panic!("{error}"));
                sides.iter_mut().for_each(|side| side.retain(|_, count| *count != 0));
                assert_eq!(rig.integral, expected(spec, &sides), "{spec:?}, round {round}, step {step}");
            }
            let rest = sides.map(|side| side.into_iter().map(|(row, count)| (row, -count)).collect());
            rig.step(&rest).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((rig.entries(), rig.integral.len()), (0, 0), "nothing is left of rows that are gone");
        }
    }
}

#[test]
fn a_row_taken_back_that_is_not_there_stops_the_circuit() {
    let mut rig = Rig::new(SetSpec { operation: Which::Except, all: true }, 1);
    let error = rig.step(&[vec![], vec![((Some(1), Some("a")), -1)]]).expect_err("the promise is broken").to_string();
    assert_eq!(error, r#"SetOperation: a row is taken back that is not there: {"number": 1, "text": "a"}"#);
}

/// A row with a time to live: how often either side has it, and when that has changed.
type Life = ([i64; 2], i64);

#[test]
fn rows_that_have_not_changed_for_long_are_on_neither_side() {
    const LIFE: i64 = 100;
    for (number, spec) in specs().enumerate() {
        for round in 0..12 {
            let mut rng = Rng::seeded((number * 100 + round) as u64);
            let mut rig = Rig::with_ttl(spec, 1 + round % 3, Some(LIFE));
            let mut lives: BTreeMap<Row, Life> = BTreeMap::new();
            let mut integral: BTreeMap<String, i64> = BTreeMap::new();
            for step in 0..25 {
                rig.now += rng.below(60) as i64;
                lives.retain(|_, (_, changed)| *changed + LIFE > rig.now);
                let before = lives.clone();
                let mut changes: Changes = [Vec::new(), Vec::new()];
                for change in 0..rng.below(14) as usize {
                    // Some of them are taken back that were forgotten, or never came.
                    let (row, weight) = (random_row(&mut rng), if rng.chance(1, 3) { -1 } else { 1 });
                    changes[change % 2].push((row, weight));
                    let (counts, changed) = lives.entry(row).or_default();
                    counts[change % 2] += weight;
                    *changed = rig.now;
                }
                for (row, (counts, _)) in &mut lives {
                    *counts = counts.map(|count| count.max(0));
                    let text = |side: usize, counts: [i64; 2]| BTreeMap::from([(*row, counts[side])]);
                    let out = |counts: [i64; 2]| expected(spec, &[text(0, counts), text(1, counts)]);
                    let old = before.get(row).map_or([0; 2], |(counts, _)| *counts);
                    for (line, weight) in out(*counts) {
                        *integral.entry(line).or_default() += weight;
                    }
                    for (line, weight) in out(old) {
                        *integral.entry(line).or_default() -= weight;
                    }
                }
                lives.retain(|_, (counts, _)| *counts != [0; 2]);
                integral.retain(|_, weight| *weight != 0);
                rig.step(&changes).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(rig.integral, integral, "{spec:?}, round {round}, step {step}");
            }
            rig.now += 10 * LIFE;
            rig.step(&[vec![], vec![]]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(rig.entries(), 0, "all have expired");
        }
    }
}

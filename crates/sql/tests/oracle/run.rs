//! A planned text on a circuit, step by step, with the integral of every output after each.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::operator::{SideKind, Sides};
use tidemill_circuit::plan::{SourceSpec, Spec};
use tidemill_circuit::row::to_json;
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Delta, Error};
use tidemill_sql::Pipeline;

use super::script::{Event, Place, Script, Step};
use super::table::Table;
use super::value;

/// How often each row is there.
pub(crate) type Integral = BTreeMap<String, i64>;

/// One way to run.
pub(crate) struct Run<'s> {
    pub(crate) tables: &'s [Table],
    pub(crate) script: &'s Script,
    pub(crate) lanes: usize,
    pub(crate) seed: u64,
}

/// What came out.
#[derive(Default)]
pub(crate) struct Ran {
    /// After each step, the integral of each output.
    pub(crate) after: Vec<BTreeMap<String, Integral>>,
    /// What each step said, word by word.
    pub(crate) said: Vec<String>,
    /// Rows that came too late, counted and handed to the side.
    pub(crate) late: (u64, u64),
    /// Rows on which an expression failed, counted and handed to the side.
    pub(crate) dead: (u64, u64),
}

impl Run<'_> {
    pub(crate) fn all(&self, pipeline: &Pipeline) -> Result<Ran, Error> {
        let sides = Sides { late: true, dead_letter: true, bad_record: true };
        let options = Options { lanes: self.lanes, seed: self.seed, digests: true, sides, ..Options::default() };
        let mut circuit = Circuit::new(&pipeline.plan, &Decoders::new(), options)?;
        let mut places: BTreeMap<Place, u64> = BTreeMap::new();
        let mut integrals: BTreeMap<String, Integral> = BTreeMap::new();
        let mut ran = Ran::default();
        for index in 0..self.script.steps.len() {
            let step = &self.script.steps[index];
            pipeline.session.step.set(step.now, self.seed);
            let last = index + 1 == self.script.steps.len();
            let mut sources: Vec<SourceInput> = Vec::new();
            for node in &pipeline.plan.nodes {
                let Spec::Source(source) = &node.spec else { continue };
                sources.push(self.news(pipeline, source, step, (index == 0, last), &mut places));
            }
            let output = circuit.step(StepInput { now: step.now, sources })?;
            ran.late.0 += output.trailer.late_rows;
            ran.dead.0 += output.trailer.dead_rows;
            for side in &output.side {
                match side.kind {
                    SideKind::Late => ran.late.1 += 1,
                    SideKind::DeadLetter => ran.dead.1 += 1,
                    SideKind::BadRecord => {}
                }
            }
            let mut said = format!("{:?}\n{:?}\n", output.trailer, output.side);
            for rows in &output.outputs {
                let integral = integrals.entry(rows.name.clone()).or_default();
                for delta in &rows.deltas {
                    add(integral, delta, &mut said);
                }
            }
            ran.said.push(said);
            ran.after.push(integrals.clone());
        }
        Ok(ran)
    }

    /// What a source has in a step.
    fn news(
        &self,
        pipeline: &Pipeline,
        source: &SourceSpec,
        step: &Step,
        (first, last): (bool, bool),
        places: &mut BTreeMap<Place, u64>,
    ) -> SourceInput {
        let nothing = SourceInput { source: source.name.clone(), complete: last, ..SourceInput::default() };
        let Some(table) = self.tables.iter().position(|table| table.name == source.name) else {
            let values = pipeline.values.iter().find(|values| values.source == source.name);
            let rows = values.filter(|_| first).map(|values| Delta::inserts(values.rows.clone()));
            let blocks = rows.filter(|rows| !rows.is_empty()).map(|rows| block(0, 0, rows));
            let all = if first { vec![0] } else { vec![] };
            let blocks = blocks.into_iter().collect();
            return SourceInput { opened: all.clone(), ended: all, complete: true, blocks, ..nothing };
        };
        let of = |list: &[Place]| list.iter().filter(|place| place.0 == table).map(|place| place.1).collect();
        let (opened, ended, idle) = (of(&step.opened), of(&step.ended), of(&step.idle));
        let mut cut: Vec<Vec<&Event>> = Vec::new();
        for event in step.events.iter().filter(|event| event.table == table) {
            let open = cut.iter_mut().rev().find(|block| block[0].partition == event.partition);
            match open {
                Some(block) if !event.cut => block.push(event),
                _ => cut.push(vec![event]),
            }
        }
        let blocks = cut.into_iter().map(|events| {
            let place = places.entry((table, events[0].partition)).or_default();
            let from = *place;
            *place += events.len() as u64;
            block(events[0].partition, from, rows(source, &events))
        });
        SourceInput { opened, ended, idle, blocks: blocks.collect(), ..nothing }
    }
}

/// Events with the columns that a source decodes.
fn rows(source: &SourceSpec, events: &[&Event]) -> Delta {
    let objects: Vec<_> = events.iter().map(|event| &event.values).collect();
    let rows = value::batch(&source.decoded, &objects);
    match events.iter().all(|event| event.weight == 1) {
        true => Delta::inserts(rows),
        false => Delta::weighted(rows, events.iter().map(|event| event.weight).collect()),
    }
}

fn block(partition: u32, from: u64, rows: Delta) -> Block {
    let records = rows.rows() as u32;
    let to = from + u64::from(records);
    Block { partition, from, to, first_record: from, records, data: BlockData::Rows(rows) }
}

fn add(integral: &mut Integral, delta: &Delta, said: &mut String) {
    for row in 0..delta.rows() {
        let key = to_json(delta.batch(), row);
        let weight = delta.weight(row);
        said.push_str(&format!("{weight} {key}\n"));
        let count = integral.entry(key.clone()).or_insert(0);
        *count += weight;
        if *count == 0 {
            integral.remove(&key);
        }
    }
    said.push('\n');
}

/// The rows of a batch answer, counted.
pub(crate) fn counted(batches: &[RecordBatch]) -> Integral {
    let mut integral = Integral::new();
    for batch in batches {
        add(&mut integral, &Delta::inserts(batch.clone()), &mut String::new());
    }
    integral
}

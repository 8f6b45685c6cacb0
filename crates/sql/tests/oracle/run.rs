//! A planned text on a circuit, step by step, with the integral of every output after each.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::plan::{SourceSpec, Spec};
use tidemill_circuit::row::to_json;
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Delta, Error};
use tidemill_sql::Pipeline;

use super::rows::{Row, Step, batch};

/// How often each row is there.
pub(crate) type Integral = BTreeMap<String, i64>;

/// One way to run.
pub(crate) struct Run<'s> {
    pub(crate) steps: &'s [Step],
    pub(crate) lanes: usize,
    pub(crate) seed: u64,
}

/// What came out.
pub(crate) struct Ran {
    /// After each step, the integral of each output.
    pub(crate) after: Vec<BTreeMap<String, Integral>>,
    /// The digests of each step's outputs.
    pub(crate) digests: Vec<String>,
}

impl Run<'_> {
    pub(crate) fn all(&self, pipeline: &Pipeline) -> Result<Ran, Error> {
        let options = Options { lanes: self.lanes, seed: self.seed, digests: true, ..Options::default() };
        let mut circuit = Circuit::new(&pipeline.plan, &Decoders::new(), options)?;
        let sources: Vec<&SourceSpec> = pipeline
            .plan
            .nodes
            .iter()
            .filter_map(|node| if let Spec::Source(source) = &node.spec { Some(source) } else { None })
            .collect();
        let mut integrals: BTreeMap<String, Integral> = BTreeMap::new();
        let mut ran = Ran { after: Vec::new(), digests: Vec::new() };
        let mut taken = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let (first, last) = (index == 0, index + 1 == self.steps.len());
            let news = |source: &&SourceSpec| SourceInput {
                source: source.name.clone(),
                blocks: if step.is_empty() { vec![] } else { vec![block(source, step, taken)] },
                opened: if first { vec![0] } else { vec![] },
                ended: if last { vec![0] } else { vec![] },
                idle: vec![],
                complete: last,
            };
            let now = if last { i64::MAX } else { index as i64 };
            let output = circuit.step(StepInput { now, sources: sources.iter().map(news).collect() })?;
            taken += step.len() as u64;
            for rows in &output.outputs {
                let integral = integrals.entry(rows.name.clone()).or_default();
                for delta in &rows.deltas {
                    add(integral, delta);
                }
            }
            ran.digests.push(format!("{:?}", output.trailer.outputs));
            ran.after.push(integrals.clone());
        }
        Ok(ran)
    }
}

/// The rows of a step with the columns that a source decodes.
fn block(source: &SourceSpec, step: &[Row], taken: u64) -> Block {
    let all = batch(step);
    let places: Vec<usize> = source
        .decoded
        .fields()
        .iter()
        .map(|field| all.schema().index_of(field.name()).expect("the source decodes columns of t"))
        .collect();
    let rows = all.project(&places).expect("the columns are there");
    let delta = match step.iter().all(|row| row.weight == 1) {
        true => Delta::inserts(rows),
        false => Delta::weighted(rows, step.iter().map(|row| row.weight).collect()),
    };
    let records = step.len() as u32;
    Block {
        partition: 0,
        from: taken,
        to: taken + u64::from(records),
        first_record: taken,
        records,
        data: BlockData::Rows(delta),
    }
}

fn add(integral: &mut Integral, delta: &Delta) {
    for row in 0..delta.rows() {
        let key = values(delta.batch(), row);
        let count = integral.entry(key).or_insert(0);
        *count += delta.weight(row);
        if *count == 0 {
            let key = values(delta.batch(), row);
            integral.remove(&key);
        }
    }
}

/// The rows of a batch answer, counted.
pub(crate) fn counted(batches: &[RecordBatch]) -> Integral {
    let mut integral = Integral::new();
    for batch in batches {
        add(&mut integral, &Delta::inserts(batch.clone()));
    }
    integral
}

fn values(batch: &RecordBatch, row: usize) -> String {
    to_json(batch, row)
}

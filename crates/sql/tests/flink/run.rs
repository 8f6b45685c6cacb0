//! One query over the recorded tables: planned, run on a circuit, and integrated.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use tidemill_base::options::Options as TableOptions;
use tidemill_circuit::circuit::{Circuit, Options};
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::plan::{SourceSpec, Spec};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Delta, row};
use tidemill_format::{Decoded, Format};
use tidemill_sql::pipeline::{OutputKind, SelectKind};
use tidemill_sql::{Pipeline, PlanOptions, plan};

/// How the rows of each file come: so many in a step, over so many lanes; and the seed of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) lanes: usize,
    pub(crate) rows: usize,
    pub(crate) seed: u64,
}

/// The folder of the project.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The recorded tables and views, in a time zone.
pub(crate) struct Setup {
    statements: String,
}

impl Setup {
    pub(crate) fn in_zone(zone: &str) -> Setup {
        let folder = root().join("tools/flink-record");
        let tables = std::fs::read_to_string(folder.join("tables.sql")).expect("the tables are there");
        let tables = tables.replace("${data}", &format!("{}/", folder.join("data").display()));
        Setup { statements: format!("SET 'table.local-time-zone' = '{zone}';\n{tables}\n") }
    }

    /// A query over them.
    pub(crate) fn plan(&self, sql: &str) -> Result<Pipeline, String> {
        let text = format!("{}{sql};", self.statements);
        plan(&text, PlanOptions::default()).map_err(|error| error.to_string())
    }
}

/// The rows that a query ends with.
pub(crate) fn answer(pipeline: &Pipeline, cut: Cut) -> Result<RecordBatch, String> {
    let kept = integral(pipeline, cut)?;
    match pipeline.selects.first().map(|select| &select.kind) {
        Some(SelectKind::Circuit { tail, .. }) => tail.rows(&kept).map_err(|error| error.to_string()),
        Some(SelectKind::Views(_)) => Err("it reads a materialised view".to_string()),
        None => Ok(kept),
    }
}

/// The rows that the only output holds once all input is taken.
fn integral(pipeline: &Pipeline, cut: Cut) -> Result<RecordBatch, String> {
    let [output] = pipeline.outputs.as_slice() else { return Err("it has not one output".to_string()) };
    assert!(!matches!(output.kind, OutputKind::MaterializedView { .. }), "a query is a SELECT or an INSERT");
    let options = Options { lanes: cut.lanes, seed: cut.seed, ..Options::default() };
    let mut circuit = Circuit::new(&pipeline.plan, &Decoders::new(), options).map_err(|error| error.to_string())?;
    let mut sources = Vec::new();
    for node in &pipeline.plan.nodes {
        if let Spec::Source(source) = &node.spec {
            sources.push((source.name.clone(), input(pipeline, source)?));
        }
    }
    let rows_max = sources.iter().map(|(_, rows)| rows.num_rows()).max().unwrap_or(0);
    let steps = rows_max.div_ceil(cut.rows).max(1);
    let mut deltas = Vec::new();
    for index in 0..steps {
        let (first, last) = (index == 0, index + 1 == steps);
        let news = |(name, rows): &(String, RecordBatch)| {
            let from = index.saturating_mul(cut.rows).min(rows.num_rows());
            let count = cut.rows.min(rows.num_rows() - from);
            SourceInput {
                source: name.clone(),
                blocks: if count == 0 { vec![] } else { vec![block(rows.slice(from, count), from as u64)] },
                opened: if first { vec![0] } else { vec![] },
                ended: if last { vec![0] } else { vec![] },
                idle: vec![],
                complete: last,
            }
        };
        let now = if last { i64::MAX } else { index as i64 };
        pipeline.session.step.set(now, cut.seed);
        let input = StepInput { now, sources: sources.iter().map(news).collect() };
        let answer = circuit.step(input).map_err(|error| error.to_string())?;
        deltas.extend(answer.outputs.into_iter().flat_map(|rows| rows.deltas));
    }
    integrated(&output.schema, &deltas)
}

/// Each row as often as it is there.
fn integrated(schema: &SchemaRef, deltas: &[Delta]) -> Result<RecordBatch, String> {
    let all = concat_batches(schema, deltas.iter().map(Delta::batch)).map_err(|error| error.to_string())?;
    let weights = deltas.iter().flat_map(|delta| (0..delta.rows()).map(|row| delta.weight(row)));
    let mut counts: BTreeMap<String, (u32, i64)> = BTreeMap::new();
    for (index, weight) in weights.enumerate() {
        counts.entry(row::to_json(&all, index)).or_insert((index as u32, 0)).1 += weight;
    }
    let mut indices = Vec::new();
    for (row, (index, count)) in counts {
        let count = usize::try_from(count).map_err(|_| format!("{row} is there {count} times"))?;
        indices.extend(std::iter::repeat_n(index, count));
    }
    take_record_batch(&all, &UInt32Array::from(indices)).map_err(|error| error.to_string())
}

/// The rows of a source: what stands in the text, or the file of the table.
fn input(pipeline: &Pipeline, source: &SourceSpec) -> Result<RecordBatch, String> {
    if let Some(values) = pipeline.values.iter().find(|values| values.source == source.name) {
        return Ok(values.rows.clone());
    }
    let table = pipeline.table(&source.name).ok_or_else(|| format!("there is no table {}", source.name))?;
    let pairs = table.options.iter().map(|option| (option.key.clone(), option.value.clone()));
    let format = Format::from_options(&mut TableOptions::new("the table", pairs)).map_err(|error| error.to_string())?;
    let path = table.option("path").unwrap_or_default();
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let mut decoder =
        format.decoder_projected(&table.schema, source.decoded.clone()).map_err(|error| error.to_string())?;
    let mut decoded = Decoded::default();
    decoder.decode(&bytes, &mut decoded).map_err(|error| error.to_string())?;
    let batches = decoded.batches.iter().map(|decoded| &decoded.batch);
    concat_batches(&source.decoded, batches).map_err(|error| error.to_string())
}

fn block(rows: RecordBatch, from: u64) -> Block {
    let records = rows.num_rows() as u32;
    let to = from + u64::from(records);
    Block { partition: 0, from, to, first_record: from, records, data: BlockData::Rows(Delta::inserts(rows)) }
}

//! Saved state of circuits: whatever blobs and chunks hold, restoring them is an error or gives a circuit that runs.
//!
//! An input is parts: which query on how many lanes, then blobs and chunks, each behind bytes that say which.

use std::sync::LazyLock;

use tidemill_circuit::circuit::Options;
use tidemill_circuit::decode::{Block, BlockData, Decoders};
use tidemill_circuit::keep::{Blob, ChunkId};
use tidemill_circuit::plan::{Plan, SourceSpec, Spec};
use tidemill_circuit::step::{SourceInput, StepInput};
use tidemill_circuit::{Circuit, Delta, Error};
use tidemill_format::{Decoded, Decoder, JsonDecoder, JsonOptions};
use tidemill_sql::{PlanOptions, plan};

use super::image::{join, split};

const TABLE: &str = "CREATE TABLE t (k STRING, v BIGINT, f DOUBLE, ts TIMESTAMP(3), \
                     WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) \
                     WITH ('connector' = 'filesystem', 'path' = 'x.json', 'format' = 'json');";

/// Queries that keep every kind of state.
const QUERIES: &[&str] = &[
    "SELECT k, COUNT(*), SUM(v), MIN(v), MAX(f), AVG(v) FROM t GROUP BY k",
    "SELECT k, COUNT(DISTINCT v), FIRST_VALUE(v), LAST_VALUE(k) FROM t GROUP BY k",
    "SELECT k, window_start, COUNT(*), APPROX_COUNT_DISTINCT(v), APPROX_QUANTILE(f, 0.5), STDDEV_POP(f) FROM \
     TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end",
    "SELECT k, window_start, SUM(v), MAX(f) FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), \
     INTERVAL '5' SECOND)) GROUP BY k, window_start, window_end",
    "SELECT window_start, COUNT(*), SUM(v) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, \
     INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
    "SELECT DISTINCT k, v FROM t",
    LISTS,
];

/// What it keeps says how often a value stands in a list. A wrong number is a long list: no step is run after that.
const LISTS: &str = "SELECT k, LISTAGG(k), ARRAY_AGG(v) FROM t GROUP BY k";

const LANES_MAX: u8 = 3;

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let plans = QUERIES.iter().map(|query| plan(&format!("{TABLE} {query};"), PlanOptions::default()));
    plans.map(|plan| plan.expect("the queries are supported").plan).collect()
});

/// What the parts of an input are, behind their first byte.
mod tag {
    pub const CIRCUIT: u8 = 0;
    pub const NODE: u8 = 1;
    pub const CHUNK: u8 = 2;
}

/// What each query saves after a step, over one lane and over several.
pub fn seeds() -> Vec<Vec<u8>> {
    let each = (0..QUERIES.len() as u8).flat_map(|query| [(query, 0), (query, 2)]);
    each.map(|(query, lanes)| seed(query, lanes)).collect()
}

fn circuit(query: u8, lanes: u8) -> Circuit {
    let lanes = 1 + usize::from(lanes % LANES_MAX);
    let options = Options { lanes, keep: true, ..Options::default() };
    let plan = &PLANS[usize::from(query) % PLANS.len()];
    Circuit::new(plan, &Decoders::new(), options).expect("the queries are supported")
}

fn seed(query: u8, lanes: u8) -> Vec<u8> {
    let mut circuit = circuit(query, lanes);
    let plan = &PLANS[usize::from(query)];
    circuit.step(input(plan, 0, false)).expect("the rows are as declared");
    let names = names(&mut circuit);
    let start = circuit.begin_save(true).expect("it keeps state");
    let mut parts = vec![vec![query, lanes]];
    for blob in start.blobs {
        let node = names.iter().position(|name| blob.name.ends_with(&format!("{name:016x}")));
        let head = node.map_or(vec![tag::CIRCUIT], |node| vec![tag::NODE, node as u8]);
        parts.push([head, blob.bytes].concat());
    }
    let slice = circuit.save_slice(usize::MAX).expect("a save is under way");
    for chunk in slice.chunks {
        let node = names.iter().position(|name| *name == chunk.id.operator).expect("nodes that keep something");
        let head = vec![tag::CHUNK, node as u8, chunk.id.table as u8];
        parts.push([head, chunk.rows.unwrap_or_default()].concat());
    }
    join(&parts)
}

/// The fingerprints of the nodes that keep something.
fn names(circuit: &mut Circuit) -> Vec<u64> {
    let nodes = circuit.keepers();
    nodes.into_iter().map(|node| circuit.fingerprints()[node]).collect()
}

/// Restores `input`, and when nothing is wrong with it runs steps, saves and digests.
pub fn run(input: &[u8]) -> Vec<String> {
    let parts = split(input);
    let Some(([query, lanes], parts)) =
        parts.split_first().and_then(|(first, rest)| Some((first.first_chunk()?, rest)))
    else {
        return vec!["nothing".to_string()];
    };
    let mut circuit = circuit(*query, *lanes);
    let found = match restore(&mut circuit, parts) {
        Ok(chunks) => {
            let query = usize::from(*query) % PLANS.len();
            let rounds = if QUERIES[query] == LISTS { 0 } else { 2 };
            let ran = go_on(&mut circuit, &PLANS[query], rounds);
            format!("{} chunks, then {}", chunks.min(3), ran.map_or_else(|error| words(&error), |()| "all".to_string()))
        }
        Err(error) => words(&error),
    };
    vec![format!("{}: {found}", usize::from(*query) % PLANS.len())]
}

fn restore(circuit: &mut Circuit, parts: &[&[u8]]) -> Result<usize, Error> {
    let names = names(circuit);
    let name = |node: u8| names[usize::from(node) % names.len()];
    let blobs = parts.iter().filter_map(|part| match part {
        [tag::CIRCUIT, bytes @ ..] => Some(Blob { name: "circuit".to_string(), bytes: bytes.to_vec() }),
        [tag::NODE, node, bytes @ ..] => {
            Some(Blob { name: format!("node/{:016x}", name(*node)), bytes: bytes.to_vec() })
        }
        _ => None,
    });
    circuit.restore(&blobs.collect::<Vec<_>>())?;
    let mut chunks = 0;
    for part in parts {
        if let [tag::CHUNK, node, table, rows @ ..] = part {
            let id = ChunkId { operator: name(*node), table: (*table).into(), lane: 0, chunk: chunks as u32 };
            circuit.restore_chunk(id, rows)?;
            chunks += 1;
        }
    }
    Ok(chunks)
}

/// Steps, saves and digests. Rows that a checksum vouches for and that no circuit wrote may be an error here.
fn go_on(circuit: &mut Circuit, plan: &Plan, rounds: u64) -> Result<(), Error> {
    for round in 0..=rounds {
        if round > 0 {
            circuit.step(input(plan, round, round == rounds))?;
        }
        circuit.begin_save(true)?;
        circuit.save_slice(usize::MAX)?;
        circuit.end_save(true);
        circuit.roots()?;
    }
    Ok(())
}

/// What the table has in a step.
fn input(plan: &Plan, round: u64, last: bool) -> StepInput {
    let sources = plan.nodes.iter().filter_map(|node| match &node.spec {
        Spec::Source(source) => Some(source),
        _ => None,
    });
    let news = |source: &SourceSpec| {
        let rows = rows(source, round);
        let records = rows.rows() as u32;
        let from = 10 * round;
        let to = from + u64::from(records);
        let block = Block { partition: 0, from, to, first_record: from, records, data: BlockData::Rows(rows) };
        let ended = if last { vec![0] } else { Vec::new() };
        SourceInput {
            source: source.name.clone(),
            blocks: vec![block],
            opened: vec![0],
            ended,
            complete: last,
            ..SourceInput::default()
        }
    };
    StepInput { now: 1_700_000_000_000 + round as i64, sources: sources.map(news).collect() }
}

fn rows(source: &SourceSpec, round: u64) -> Delta {
    let line = |row: u64| {
        let (key, second) = (["a", "b", "longer key"][row as usize % 3], (10 * round + row) % 60);
        format!("{{\"k\":\"{key}\",\"v\":{row},\"f\":{row}.5,\"ts\":\"2026-01-01 00:00:{second:02}\"}}\n")
    };
    let text: String = (0..6).map(line).collect();
    let mut decoded = Decoded::default();
    let mut decoder = JsonDecoder::new(JsonOptions::default(), source.decoded.clone()).expect("JSON types");
    decoder.decode(text.as_bytes(), &mut decoded).expect("the rows are as declared");
    Delta::inserts(decoded.batches[0].batch.clone())
}

fn words(error: &Error) -> String {
    assert!(!matches!(error, Error::Panic { .. }), "no saved state makes an operator panic: {error}");
    let text = error.to_string();
    let words = text.split_whitespace().filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    words.collect::<Vec<_>>().join(" ")
}

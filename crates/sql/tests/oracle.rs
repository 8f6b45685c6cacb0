//! The engine against its oracle: the same text planned for the circuit and answered in batch.
//!
//! A case draws a query from a grammar and rows for its tables (with retractions where the table updates), cuts the rows
//! into steps at random, shuffles them within what the watermark allows, and runs 1 to 4 lanes. The integral of every
//! output must be the batch answer: at the end for queries that emit when windows close, after random steps too for the
//! others. The same text without optimiser rules must agree, and the same run twice must give the same bytes.
//!
//! `TIDEMILL_ORACLE_CASES=20000 cargo test -p tidemill-sql --test oracle` runs more, `TIDEMILL_ORACLE_SEED=7` one.

#[path = "oracle/query.rs"]
mod query;
#[path = "oracle/rows.rs"]
mod rows;
#[path = "oracle/run.rs"]
mod run;

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use tidemill_base::rand::Rng;
use tidemill_sql::batch::answers;
use tidemill_sql::{PlanOptions, plan};

use query::Query;
use run::{Integral, Run, counted};

const CASES: u64 = 2_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_circuit_gives_the_batch_answer() {
    let seeds: Vec<u64> = match setting("TIDEMILL_ORACLE_SEED") {
        Some(seed) => vec![seed],
        None => (0..setting("TIDEMILL_ORACLE_CASES").unwrap_or(CASES)).collect(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let (compared, failures) = std::thread::scope(|scope| {
        let run = |first: usize| {
            let mine: Vec<u64> = seeds.iter().copied().skip(first).step_by(threads).collect();
            scope.spawn(move || cases(&mine))
        };
        let handles: Vec<_> = (0..threads).map(run).collect();
        handles.into_iter().fold((0, Vec::new()), |(compared, mut failures), handle| {
            let (more, found) = handle.join().expect("a case does not panic");
            failures.extend(found);
            (compared + more, failures)
        })
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(compared > seeds.len() as u64 || seeds.len() == 1, "only {compared} rows were compared");
}

/// Runs cases until a few have failed: the rows compared, and what is wrong.
fn cases(seeds: &[u64]) -> (u64, Vec<String>) {
    let mut compared = 0;
    let mut failures = Vec::new();
    for seed in seeds {
        match case(*seed) {
            Ok(rows) => compared += rows,
            Err(problem) => failures.push(format!("seed {seed}: {problem}")),
        }
        if failures.len() >= 3 {
            break;
        }
    }
    (compared, failures)
}

/// Runs one case; the number of rows compared, or what is wrong.
fn case(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::seeded(seed);
    let query = Query::draw(&mut rng);
    let input = rows::draw(&mut rng, query.updating);
    let text = query.text();
    let told = |problem: String| format!("{problem}\n{text}");
    let optimised = plan(&text, PlanOptions::default()).map_err(|error| told(format!("{error:?}")))?;
    let plain = plan(&text, PlanOptions { rules: false }).map_err(|error| told(format!("{error:?}")))?;
    let lanes = 1 + rng.below(4) as usize;
    let steps = rows::cut(&mut rng, &input);
    let run = Run { steps: &steps, lanes, seed };
    let first = run.all(&optimised).map_err(|error| told(error.to_string()))?;
    let again = run.all(&optimised).map_err(|error| told(error.to_string()))?;
    if first.digests != again.digests {
        return Err(told("the same run twice gave different bytes".to_string()));
    }
    let mut compared = 0;
    let without = Run { steps: &steps, lanes: 1, seed }.all(&plain).map_err(|error| told(error.to_string()))?;
    for (step, taken) in rows::prefixes(&steps).into_iter().enumerate() {
        let last = step + 1 == steps.len();
        if !last && (query.on_close || !rng.chance(1, 3)) {
            continue;
        }
        let tables: BTreeMap<String, RecordBatch> = [("t".to_string(), taken)].into();
        let expected = answers(&text, &tables).map_err(|error| told(format!("the oracle failed: {error:?}")))?;
        for (name, batches) in expected {
            let expected = counted(&batches);
            for (kind, found) in [("optimised", &first), ("without rules", &without)] {
                let found = found.after[step].get(&name).cloned().unwrap_or_default();
                if found != expected {
                    let differing = difference(&expected, &found);
                    return Err(told(format!("{kind}, {lanes} lanes, step {step}, output {name}:\n{differing}")));
                }
            }
            compared += expected.values().sum::<i64>() as u64;
        }
    }
    Ok(compared)
}

fn difference(expected: &Integral, found: &Integral) -> String {
    let mut lines = Vec::new();
    for (row, count) in expected {
        let other = found.get(row).copied().unwrap_or(0);
        if other != *count {
            lines.push(format!("  expected {count}, found {other}: {row}"));
        }
    }
    for (row, count) in found {
        if !expected.contains_key(row) {
            lines.push(format!("  expected 0, found {count}: {row}"));
        }
    }
    lines.truncate(12);
    lines.join("\n")
}

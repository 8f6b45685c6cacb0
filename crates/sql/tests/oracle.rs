//! The engine against its oracle: a text planned for the circuit, and what it means answered in batch.
//!
//! A case draws a query from the whole grammar and rows for its tables: with retractions where a table updates, in up to
//! three partitions, cut into steps and blocks at random, shuffled within what the watermark allows, or beyond it. It
//! runs over 1 to 4 lanes, and over one lane without optimiser rules. The integral of every output must be the
//! reference's, after random steps and at the end; what is left out (too late, failing) must be counted and handed to the
//! side; and the same run twice must give the same bytes.
//!
//! `TIDEMILL_ORACLE_CASES=20000 cargo test -p tidemill-sql --test oracle` runs more (from `TIDEMILL_ORACLE_FIRST` on),
//! `TIDEMILL_ORACLE_SEED=7` one, `TIDEMILL_ORACLE_ONLY=SESSION` those whose text has that word. A failing case is made small and printed as SQL, with what arrives as comments.

#[path = "oracle/case.rs"]
mod case;
#[path = "oracle/choice.rs"]
mod choice;
#[path = "oracle/compare.rs"]
mod compare;
#[path = "oracle/query.rs"]
mod query;
#[path = "oracle/run.rs"]
mod run;
#[path = "oracle/script.rs"]
mod script;
#[path = "oracle/shrink.rs"]
mod shrink;
#[path = "oracle/table.rs"]
mod table;
#[path = "oracle/value.rs"]
mod value;

use case::Case;

/// The cases of one run, unless `TIDEMILL_ORACLE_CASES` says otherwise.
const CASES: u64 = 5_000;

/// A thread stops after so many failing cases.
const FAILURES_MAX: usize = 3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_circuit_gives_the_batch_answer() {
    let first = setting("TIDEMILL_ORACLE_FIRST").unwrap_or(0);
    let seeds: Vec<u64> = match setting("TIDEMILL_ORACLE_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + setting("TIDEMILL_ORACLE_CASES").unwrap_or(CASES)).collect(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let (compared, failures) = std::thread::scope(|scope| {
        let run = |first: usize| {
            let mine: Vec<u64> = seeds.iter().copied().skip(first).step_by(threads).collect();
            scope.spawn(move || cases(&mine))
        };
        let handles: Vec<_> = (0..threads).map(run).collect();
        handles.into_iter().fold((0, Vec::new()), |(compared, mut failures), handle| {
            let (more, found) = handle.join().expect("panics of a case are caught");
            failures.extend(found);
            (compared + more, failures)
        })
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(
        compared > seeds.len() as u64 || seeds.len() == 1 || std::env::var_os("TIDEMILL_ORACLE_ONLY").is_some(),
        "only {compared} rows were compared"
    );
}

/// Runs cases until a few have failed: the rows compared, and what is wrong.
fn cases(seeds: &[u64]) -> (u64, Vec<String>) {
    let mut compared = 0;
    let mut failures = Vec::new();
    let only = std::env::var("TIDEMILL_ORACLE_ONLY").unwrap_or_default();
    for seed in seeds {
        let case = Case::of(*seed);
        if !case.query.text().contains(&only) {
            continue;
        }
        match case.check() {
            Ok(rows) => compared += rows,
            Err(failure) => {
                let (case, failure) = shrink::shrunk(case, failure);
                failures.push(case.told(&failure));
            }
        }
        if failures.len() >= FAILURES_MAX {
            break;
        }
    }
    (compared, failures)
}

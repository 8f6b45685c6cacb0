//! RAND, RAND_INTEGER and UUID: the same run gives the same values, however it is cut into steps and lanes.

#[path = "flink/run.rs"]
mod run;

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use tidemill_circuit::row::to_json;
use tidemill_sql::{PlanOptions, plan};

use run::{Cut, Setup, answer};

const WHOLE: Cut = Cut { lanes: 1, rows: usize::MAX, seed: 7 };

fn rows(sql: &str, cut: Cut) -> Vec<String> {
    let pipeline = Setup::in_zone("UTC").plan(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batch: RecordBatch = answer(&pipeline, cut).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut rows: Vec<String> = (0..batch.num_rows()).map(|row| to_json(&batch, row)).collect();
    rows.sort();
    rows
}

fn check_same_however_cut(sql: &str) {
    let whole = rows(sql, WHOLE);
    assert!(!whole.is_empty(), "{sql}");
    for (lanes, step) in [(1, 1), (2, 3), (4, 2), (3, usize::MAX)] {
        assert_eq!(rows(sql, Cut { lanes, rows: step, seed: 7 }), whole, "{sql}: {lanes} lanes, {step} rows a step");
    }
}

#[test]
fn values_depend_on_seed_row_and_call_and_on_nothing_else() {
    check_same_however_cut("SELECT g, i, RAND() AS a, RAND() AS b, RAND_INTEGER(1000) AS c, UUID() AS u FROM numbers");
    check_same_however_cut("SELECT g, i FROM numbers WHERE RAND() < 0.7");
    check_same_however_cut(
        "SELECT bucket, COUNT(*) AS n, MIN(u) AS u FROM (SELECT RAND_INTEGER(3) AS bucket, UUID() AS u FROM numbers) \
         GROUP BY bucket",
    );
    check_same_however_cut("SELECT id, UUID() AS u FROM orders UNION ALL SELECT g, UUID() FROM numbers");
    check_same_however_cut("SELECT a, RAND() AS r FROM (VALUES (1), (2), (3)) AS t (a)");
    check_same_however_cut("SELECT RAND() AS r, UUID() AS u");
}

/// How many different rows there are.
fn check_different(sql: &str, different: usize) {
    let rows = rows(sql, WHOLE);
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), different, "{sql}: {rows:?}");
}

#[test]
fn every_row_and_every_call_has_values_of_its_own() {
    check_different("SELECT UUID() AS u FROM numbers", 9);
    check_different("SELECT RAND() AS r FROM numbers", 9);
    check_different("SELECT RAND() = RAND() AS same, UUID() = UUID() AS twin FROM numbers", 1);
    check_different("SELECT UUID() AS u FROM numbers UNION ALL SELECT UUID() FROM numbers", 18);
    check_different("SELECT u = v AS same FROM (SELECT UUID() AS u, UUID() AS v FROM numbers) WHERE u = v", 0);
}

#[test]
fn a_call_in_a_view_has_one_value_a_row_wherever_the_view_is_read() {
    check_different("WITH v AS (SELECT g, i, UUID() AS u FROM numbers) SELECT u FROM v UNION ALL SELECT u FROM v", 9);
}

#[test]
fn another_seed_gives_other_values() {
    let sql = "SELECT UUID() AS u, RAND() AS r FROM numbers";
    let (one, other) = (rows(sql, WHOLE), rows(sql, Cut { seed: 8, ..WHOLE }));
    assert!(one.iter().all(|row| !other.contains(row)), "{one:?}\n{other:?}");
    let given = "SELECT RAND(42) AS r FROM numbers";
    assert_eq!(rows(given, WHOLE), rows(given, Cut { seed: 8, ..WHOLE }), "the seed that is given counts");
}

#[test]
fn a_call_where_no_row_has_a_place_is_refused() {
    let check = |sql: &str| {
        let error = Setup::in_zone("UTC").plan(sql).expect_err(sql);
        assert!(error.contains("follow the order of a source"), "{sql}: {error}");
    };
    check("SELECT g, RAND() AS r FROM (SELECT g, COUNT(*) AS c FROM numbers GROUP BY g)");
    check("SELECT tag, UUID() AS u FROM orders CROSS JOIN UNNEST(tags) AS t (tag)");
}

#[test]
fn a_call_without_a_row_of_a_source_is_refused() {
    let check = |sql: &str| {
        let error = plan(sql, PlanOptions::default()).expect_err(sql).to_string();
        assert!(error.contains("needs the ordinal of its row"), "{sql}: {error}");
    };
    check("CREATE TABLE t (a INT, u AS UUID()) WITH ('connector' = 'x'); SELECT u FROM t");
    check(
        "CREATE TABLE t (a INT) WITH ('connector' = 'x'); CREATE MATERIALIZED VIEW v AS SELECT a FROM t; \
         SELECT a, RAND() AS r FROM v",
    );
}

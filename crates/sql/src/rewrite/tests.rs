//! Each rewrite, before and after.

use crate::error::Error;
use crate::statement::{Body, parse};

fn check(text: &str, expected: &str) {
    let statements = parse(text).unwrap_or_else(|error| panic!("{}", crate::error::render(&error, "test.sql", text)));
    let [statement] = statements.as_slice() else { panic!("{text} is one statement") };
    let Body::Query(query) = &statement.body else { panic!("{text} is a query") };
    assert_eq!(query.ast.to_string(), expected, "{text}");
}

fn fails(text: &str, problem: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!((error.to_string().as_str(), matches!(error, Error::Window { .. })), (problem, true), "{text}");
}

#[test]
fn group_windows_become_table_functions() {
    check(
        "SELECT k, TUMBLE_START(ts, INTERVAL '1' HOUR) AS s, COUNT(*) FROM t WHERE a > 1 GROUP BY TUMBLE(ts, INTERVAL '1' HOUR), k",
        "SELECT k, window_start AS s, COUNT(*) FROM TABLE(TUMBLE($table(t), DESCRIPTOR(ts), INTERVAL '3600000' MILLISECONDS)) AS t \
         WHERE a > 1 GROUP BY window_start, window_end, k",
    );
    check(
        "SELECT HOP_END(b.ts, INTERVAL '1' SECOND, INTERVAL '2' SECOND), SUM(b.x) FROM bid AS b \
         GROUP BY HOP(b.ts, INTERVAL '1' SECOND, INTERVAL '2' SECOND) HAVING HOP_START(b.ts, INTERVAL '1' SECOND, INTERVAL '2' SECOND) > x",
        "SELECT window_end, SUM(b.x) FROM TABLE(HOP($table(bid), DESCRIPTOR(ts), INTERVAL '1000' MILLISECONDS, \
         INTERVAL '2000' MILLISECONDS)) AS b GROUP BY window_start, window_end HAVING window_start > x",
    );
}

#[test]
fn window_time_is_a_key_when_it_is_used() {
    check(
        "SELECT TUMBLE_ROWTIME(ts, INTERVAL '1' HOUR) AS ts, COUNT(*) FROM t GROUP BY TUMBLE(ts, INTERVAL '1' HOUR)",
        "SELECT window_time AS ts, COUNT(*) FROM TABLE(TUMBLE($table(t), DESCRIPTOR(ts), INTERVAL '3600000' MILLISECONDS)) AS t \
         GROUP BY window_start, window_end, window_time",
    );
}

#[test]
fn sessions_are_of_the_other_keys_and_after_the_filter() {
    check(
        "SELECT k, COUNT(*) FROM t GROUP BY k, SESSION(ts, INTERVAL '1' MINUTE)",
        "SELECT k, COUNT(*) FROM TABLE(SESSION($table(t) OVER (PARTITION BY k), DESCRIPTOR(ts), \
         INTERVAL '60000' MILLISECONDS)) AS t GROUP BY k, window_start, window_end",
    );
    check(
        "SELECT COUNT(*) FROM t WHERE a > 1 GROUP BY SESSION(ts, INTERVAL '1' MINUTE)",
        "SELECT COUNT(*) FROM TABLE(SESSION($table(SELECT * FROM t WHERE a > 1), DESCRIPTOR(ts), \
         INTERVAL '60000' MILLISECONDS)) AS t GROUP BY window_start, window_end",
    );
}

#[test]
fn group_windows_read_queries_too() {
    check(
        "SELECT COUNT(*) FROM (SELECT * FROM t) AS s GROUP BY TUMBLE(ts, INTERVAL '1' SECOND)",
        "SELECT COUNT(*) FROM TABLE(TUMBLE($table(SELECT * FROM t), DESCRIPTOR(ts), INTERVAL '1000' MILLISECONDS)) AS s \
         GROUP BY window_start, window_end",
    );
}

#[test]
fn refuses_group_windows_that_are_none() {
    fails("SELECT TUMBLE(ts, INTERVAL '1' HOUR) FROM t", "TUMBLE has no group window to belong to here");
    fails("SELECT COUNT(*) FROM t GROUP BY TUMBLE(ts, 10)", "the SIZE of TUMBLE has to be an interval, written out");
    fails("SELECT COUNT(*) FROM t GROUP BY TUMBLE()", "TUMBLE needs a time column and an interval");
    fails(
        "SELECT COUNT(*) FROM t GROUP BY a + 1, SESSION(ts, INTERVAL '1' HOUR)",
        "beside SESSION only columns can be grouped by",
    );
    fails(
        "SELECT COUNT(*) FROM t, UNNEST(a) AS u (x) GROUP BY TUMBLE(ts, INTERVAL '1' HOUR)",
        "a group window reads one table, view or query",
    );
}

#[test]
fn queries_in_an_expression_have_windows_of_their_own() {
    check(
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' SECOND)) AS w)",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM TABLE(TUMBLE($table(u), DESCRIPTOR(ts), INTERVAL '1000' \
         MILLISECONDS)) AS w)",
    );
    fails(
        "SELECT a FROM t WHERE a IN (SELECT TUMBLE_START(ts, INTERVAL '1' HOUR) FROM u)",
        "TUMBLE_START has no group window to belong to here",
    );
}

#[test]
fn fields_of_elements_are_named_by_texts() {
    check("SELECT a.b.c, d.e[1].f.g FROM t", "SELECT a.b.c, d.e[1].'f'.'g' FROM t");
    check("SELECT (a).b, f(x).y FROM t", "SELECT (a).'b', f(x).'y' FROM t");
}

#[test]
fn casts_in_values_are_calls() {
    check(
        "SELECT * FROM (VALUES (CAST(NULL AS STRING), DATE '2024-02-29'), (TRY_CAST('1' AS INT), 2)) AS t (a, b)",
        "SELECT * FROM (VALUES ($cast(NULL, 'STRING'), $cast('2024-02-29', 'DATE')), ($try_cast('1', 'INT'), 2)) AS t (a, b)",
    );
}

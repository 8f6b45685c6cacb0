//! What IN, EXISTS, queries that stand for a value, set operations and joins of columns of one name mean, NULL included: by
//! hand, apart from the oracle, which rewrites them as the circuit does.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use tidemill_circuit::row::to_json;
use tidemill_sql::batch::BatchSession;

fn table(columns: &[(&str, &[Option<i64>])]) -> RecordBatch {
    let columns = columns.iter().map(|(name, values)| {
        let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        (*name, values, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("the columns are as long as each other")
}

/// `a` has 1, 2 and NULL; `b` has 2 and NULL; `c` and `d` are joined by `k`; `e` has rows several times.
fn session() -> BatchSession {
    let mut session = BatchSession::new(&Arc::default());
    session.register("a", table(&[("x", &[Some(1), Some(2), None])]));
    session.register("b", table(&[("y", &[Some(2), None])]));
    session.register(
        "c",
        table(&[("k", &[Some(1), Some(1), Some(2), Some(3)]), ("v", &[Some(5), Some(6), Some(5), None])]),
    );
    session.register("d", table(&[("k", &[Some(1), Some(2), Some(2)]), ("w", &[Some(5), None, Some(7)])]));
    session.register("e", table(&[("x", &[Some(1), Some(1), Some(1), Some(2), None, None])]));
    session
}

/// The rows of a query, each as its values, in any order.
fn check(query: &str, expected: &str) {
    let rows = session().select(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut found: Vec<String> = (0..rows.num_rows())
        .map(|row| {
            let text = to_json(&rows, row);
            let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("an object");
            values.values().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        })
        .collect();
    found.sort();
    assert_eq!(found.join(", "), expected, "{query}");
}

#[test]
fn in_is_true_false_or_unknown() {
    check("SELECT x FROM a WHERE x IN (SELECT y FROM b)", "2");
    check("SELECT x FROM a WHERE x NOT IN (SELECT y FROM b)", "");
    check("SELECT x FROM a WHERE x NOT IN (SELECT y FROM b WHERE y IS NOT NULL)", "1");
    check("SELECT x FROM a WHERE x NOT IN (SELECT y FROM b WHERE y > 5)", "1, 2, null");
    check("SELECT x FROM a WHERE NOT x IN (SELECT y FROM b WHERE y IS NOT NULL)", "1");
    check("SELECT x FROM a WHERE 5 NOT IN (SELECT y FROM b)", "");
    check("SELECT x FROM a WHERE x = ANY (SELECT y FROM b)", "2");
    check("SELECT x FROM a WHERE x = SOME (SELECT y FROM b)", "2");
    check("SELECT x FROM a WHERE x <> ALL (SELECT y FROM b)", "");
    check("SELECT x FROM a WHERE x <> ALL (SELECT y FROM b WHERE y IS NOT NULL)", "1");
    check("SELECT x FROM a WHERE x <> ALL (SELECT y FROM b WHERE y > 5)", "1, 2, null");
    check("SELECT x FROM a WHERE 5 NOT IN (SELECT y FROM b WHERE y IS NOT NULL)", "1, 2, null");
}

#[test]
fn a_denied_in_is_unknown_inside_a_larger_condition_too() {
    check("SELECT x FROM a WHERE x = 1 OR x IN (SELECT y FROM b)", "1, 2");
    check("SELECT x FROM a WHERE x = 1 OR x NOT IN (SELECT y FROM b WHERE y IS NOT NULL)", "1");
    check("SELECT x FROM a WHERE x = 2 OR x NOT IN (SELECT y FROM b)", "2");
    check("SELECT x FROM a WHERE x = 2 OR NOT (x IN (SELECT y FROM b))", "2");
    check("SELECT x FROM a WHERE x = 7 OR x NOT IN (SELECT y FROM b WHERE y > 5)", "1, 2, null");
    check("SELECT x FROM a WHERE NOT (x = 1 AND x IN (SELECT y FROM b))", "2");
    check("SELECT x FROM a WHERE NOT (x = 1 OR x NOT IN (SELECT y FROM b))", "2");
}

#[test]
fn in_and_exists_are_values_too() {
    check("SELECT x, x IN (SELECT y FROM b) AS z FROM a", "1 null, 2 true, null null");
    check("SELECT x, x NOT IN (SELECT y FROM b) AS z FROM a", "1 null, 2 false, null null");
    check("SELECT x, x IN (SELECT y FROM b WHERE y IS NOT NULL) AS z FROM a", "1 false, 2 true, null null");
    check("SELECT x, NOT x IN (SELECT y FROM b WHERE y IS NOT NULL) AS z FROM a", "1 true, 2 false, null null");
    check("SELECT x, x IN (SELECT y FROM b WHERE y > 5) AS z FROM a", "1 false, 2 false, null false");
    check("SELECT x, x NOT IN (SELECT y FROM b WHERE y > 5) AS z FROM a", "1 true, 2 true, null true");
    check(
        "SELECT x, x = ANY (SELECT y FROM b) AS y, x <> ALL (SELECT y FROM b) AS z FROM a",
        "1 null null, 2 true false, null null null",
    );
    check(
        "SELECT k, EXISTS (SELECT 1 FROM d WHERE d.k = c.k AND d.w > 5) AS z FROM c",
        "1 false, 1 false, 2 true, 3 false",
    );
    check(
        "SELECT k, NOT EXISTS (SELECT 1 FROM d WHERE d.k = c.k) AS z FROM c WHERE v > 0",
        "1 false, 1 false, 2 false",
    );
    check(
        "SELECT k, EXISTS (SELECT 1 FROM d WHERE d.k = c.k AND d.w > c.v) AS z FROM c",
        "1 false, 1 false, 2 true, 3 false",
    );
    check("SELECT k, v IN (SELECT w FROM d WHERE d.k = c.k) AS z FROM c", "1 false, 1 true, 2 null, 3 false");
    check(
        "SELECT x, CASE WHEN x IN (SELECT y FROM b) THEN 'in' ELSE 'out' END AS z FROM a",
        "1 \"out\", 2 \"in\", null \"out\"",
    );
    check(
        "SELECT x, CASE x IN (SELECT y FROM b) WHEN TRUE THEN 1 WHEN FALSE THEN 2 ELSE 3 END AS z FROM a",
        "1 3, 2 1, null 3",
    );
    check("SELECT x, (x IN (SELECT y FROM b)) IS NULL AS z FROM a", "1 true, 2 false, null true");
    check(
        "SELECT 7 IN (SELECT y FROM b) AS y, EXISTS (SELECT 1 FROM b WHERE y = 9) AS z FROM a WHERE x = 1",
        "null false",
    );
    check("SELECT x FROM a WHERE (x IN (SELECT y FROM b)) IS NULL", "1, null");
    check("SELECT x FROM a WHERE CASE WHEN x IN (SELECT y FROM b) THEN FALSE ELSE TRUE END", "1, null");
    check("SELECT x FROM a WHERE (x IN (SELECT y FROM b WHERE y > 0)) = EXISTS (SELECT 1 FROM b)", "2");
}

#[test]
fn in_the_one_row_of_a_query_is_an_equation() {
    check("SELECT k, 0 IN (SELECT COUNT(*) FROM d WHERE d.k = c.k) AS z FROM c", "1 false, 1 false, 2 false, 3 true");
    check("SELECT k FROM c WHERE 0 IN (SELECT COUNT(*) FROM d WHERE d.k = c.k)", "3");
    check("SELECT k FROM c WHERE 5 NOT IN (SELECT MAX(w) FROM d WHERE d.k = c.k)", "2");
    check("SELECT k, 5 NOT IN (SELECT MAX(w) FROM d WHERE d.k = c.k) AS z FROM c", "1 false, 1 false, 2 true, 3 null");
    check("SELECT x FROM a WHERE x IN (SELECT MAX(y) FROM b)", "2");
    check("SELECT x FROM a WHERE x NOT IN (SELECT MAX(y) FROM b)", "1");
    check("SELECT x, x IN (SELECT MAX(y) FROM b WHERE y > 9) AS z FROM a", "1 null, 2 null, null null");
}

#[test]
fn queries_stand_in_aggregates_and_over_and_on() {
    check("SELECT SUM(x - (SELECT MAX(y) FROM b)) AS s FROM a", "-1");
    check("SELECT k, SUM(v - (SELECT MIN(w) FROM d WHERE d.k = c.k)) AS s FROM c GROUP BY k", "1 1, 2 -2, 3 null");
    check(
        "SELECT a.x AS a, c.v AS b FROM a JOIN c ON a.x = c.k AND c.v = (SELECT MIN(w) FROM d WHERE d.k = c.k)",
        "1 5",
    );
    check(
        "SELECT a.x AS a, c.v AS b FROM a LEFT JOIN c ON a.x = c.k AND c.v < (SELECT MAX(w) FROM d WHERE d.k = c.k)",
        "1 null, 2 5, null null",
    );
    check(
        "SELECT k, SUM((SELECT COUNT(*) FROM d WHERE d.k = c.k)) OVER (PARTITION BY k) AS n FROM c",
        "1 2, 1 2, 2 2, 3 0",
    );
    check("SELECT COUNT(*) FILTER (WHERE x IN (SELECT y FROM b)) AS n FROM a", "1");
    check(
        "SELECT SUM(CASE WHEN EXISTS (SELECT 1 FROM d WHERE d.k = c.k) THEN 1 ELSE 0 END) AS m, COUNT(*) AS n FROM c",
        "3 4",
    );
    check("SELECT x IN (SELECT y FROM b) AS a, COUNT(*) AS n FROM a GROUP BY x IN (SELECT y FROM b)", "null 2, true 1");
    check(
        "SELECT k, SUM(CASE WHEN v IN (SELECT w FROM d) THEN 1 ELSE 0 END) OVER (PARTITION BY k) AS n FROM c",
        "1 1, 1 1, 2 1, 3 0",
    );
    check("SELECT a.x AS a, c.v AS b FROM a JOIN c ON a.x = c.k AND c.v IN (SELECT w FROM d)", "1 5, 2 5");
    check(
        "SELECT a.x AS a, c.v AS b FROM a JOIN c ON a.x = c.k AND a.x + c.v > (SELECT MIN(w) + 1 FROM d)",
        "1 6, 2 5",
    );
    check(
        "SELECT a.x AS a, c.v AS b FROM a LEFT JOIN c ON a.x = c.k AND c.v IN (SELECT w FROM d)",
        "1 5, 2 5, null null",
    );
    check(
        "SELECT a.x AS a, c.v AS b FROM a LEFT JOIN c ON a.x = c.k AND a.x IN (SELECT y FROM b)",
        "1 null, 2 5, null null",
    );
    check(
        "SELECT a.x AS a, c.v AS b FROM a LEFT JOIN c ON a.x = c.k AND NOT a.x IN (SELECT y FROM b WHERE y > 0)",
        "1 5, 1 6, 2 null, null null",
    );
    check(
        "SELECT a.x AS a, c.v AS b FROM a FULL JOIN c ON a.x = c.k AND c.v > (SELECT MIN(w) FROM d)",
        "1 6, 2 null, null 5, null 5, null null, null null",
    );
    check(
        "SELECT a.x AS a, c.v AS b FROM a LEFT JOIN c ON a.x = c.k AND EXISTS (SELECT 1 FROM d WHERE d.k = c.k AND w > 5)",
        "1 null, 2 5, null null",
    );
}

#[test]
fn comparisons_with_any_and_all_rows_know_of_null() {
    let queries =
        [("SELECT y FROM b WHERE y IS NOT NULL", "2"), ("SELECT y FROM b", "2?"), ("SELECT y FROM b WHERE y > 5", "")];
    // Of values 1, 2, 3 and NULL with 2, with 2 and NULL, and with nothing.
    let (t, f, n) = ("true", "false", "null");
    let expected = [
        ("<", [[t, f, f, n], [t, n, n, n]], [[t, f, f, n], [n, f, f, n]]),
        ("<=", [[t, t, f, n], [t, t, n, n]], [[t, t, f, n], [n, n, f, n]]),
        (">", [[f, f, t, n], [n, n, t, n]], [[f, f, t, n], [f, f, n, n]]),
        (">=", [[f, t, t, n], [n, t, t, n]], [[f, t, t, n], [f, n, n, n]]),
        ("=", [[f, t, f, n], [n, t, n, n]], [[f, t, f, n], [f, n, f, n]]),
        ("<>", [[t, f, t, n], [t, n, t, n]], [[t, f, t, n], [n, f, n, n]]),
    ];
    for (op, any, all) in expected {
        for (word, known, empty) in [("ANY", any, f), ("ALL", all, t)] {
            for ((query, _), answers) in queries.iter().zip([known[0], known[1], [empty; 4]]) {
                let rows = ["1", "2", "3", "null"].iter().zip(answers).map(|(x, answer)| format!("{x} {answer}"));
                let rows = rows.collect::<Vec<_>>().join(", ");
                check(
                    &format!("SELECT x, x {op} {word} ({query}) AS z FROM (SELECT x FROM a UNION ALL SELECT 3) AS a"),
                    &rows,
                );
            }
        }
    }
    check(
        "SELECT k, v, v > ALL (SELECT w FROM d WHERE d.k = c.k) AS z FROM c",
        "1 5 false, 1 6 true, 2 5 false, 3 null true",
    );
    check("SELECT k FROM c WHERE v >= ANY (SELECT w FROM d WHERE d.k = c.k) OR k = 3", "1, 1, 3");
}

#[test]
fn the_first_rows_are_those_of_the_row_around_them() {
    let greatest = "(SELECT w FROM d WHERE d.k = c.k ORDER BY w DESC LIMIT 1)";
    check(&format!("SELECT c.k, c.v, t.w FROM c, LATERAL {greatest} AS t"), "1 5 5, 1 6 5, 2 5 7");
    check(&format!("SELECT c.k, c.v, t.w FROM c CROSS JOIN LATERAL {greatest} AS t"), "1 5 5, 1 6 5, 2 5 7");
    check(
        &format!("SELECT c.k, c.v, t.w FROM c LEFT JOIN LATERAL {greatest} AS t ON TRUE"),
        "1 5 5, 1 6 5, 2 5 7, 3 null null",
    );
    check(&format!("SELECT c.k, c.v, t.z FROM c, LATERAL {greatest} AS t(z)"), "1 5 5, 1 6 5, 2 5 7");
    check(&format!("SELECT k, v, {greatest} AS w FROM c"), "1 5 5, 1 6 5, 2 5 7, 3 null null");
    check(&format!("SELECT k FROM c WHERE v >= {greatest}"), "1, 1");
    check("SELECT c.k, t.w FROM c, LATERAL (SELECT w FROM d WHERE d.k = c.k ORDER BY w LIMIT 1 OFFSET 1) AS t", "2 7");
    check("SELECT k FROM c WHERE v IN (SELECT w FROM d WHERE d.k = c.k ORDER BY w LIMIT 1)", "1");
    check("SELECT k FROM c WHERE EXISTS (SELECT 1 FROM d WHERE d.k = c.k ORDER BY w LIMIT 1 OFFSET 1)", "2");
    check(
        "SELECT g.k, t.n, t.v FROM (SELECT DISTINCT k FROM c) AS g, \
         LATERAL (SELECT v, COUNT(*) AS n FROM c AS i WHERE i.k = g.k GROUP BY v ORDER BY v DESC LIMIT 1) AS t",
        "1 1 6, 2 1 5, 3 1 null",
    );
    check(
        "SELECT c.k, t.w FROM c, LATERAL (SELECT w FROM (SELECT * FROM d WHERE d.k = c.k) AS i WHERE w > 0 ORDER BY w LIMIT 1) AS t",
        "1 5, 1 5, 2 7",
    );
    check(
        "SELECT c.k, t.w FROM c, LATERAL (SELECT w FROM d WHERE d.k IS NOT DISTINCT FROM c.k ORDER BY w DESC LIMIT 1) AS t",
        "1 5, 1 5, 2 7",
    );
    check(
        "SELECT c.k, t.w FROM c, LATERAL (SELECT w FROM d WHERE d.k + 1 = c.k AND c.v - 0 = d.w ORDER BY w LIMIT 1) AS t",
        "2 5",
    );
}

#[test]
fn a_query_in_from_sees_the_row_around_the_query_around_it() {
    let first = |n: u32| format!("(SELECT w AS x FROM d WHERE d.k = c.k ORDER BY w DESC LIMIT {n}) AS q");
    check(&format!("SELECT k, (SELECT MAX(x) FROM {}) AS m FROM c", first(2)), "1 5, 1 5, 2 7, 3 null");
    check(&format!("SELECT k, (SELECT COUNT(*) FROM {}) AS n FROM c", first(1)), "1 1, 1 1, 2 1, 3 0");
    check(&format!("SELECT k, (SELECT COUNT(x) FROM {}) AS n FROM c", first(2)), "1 1, 1 1, 2 1, 3 0");
    check(
        "SELECT c.k, t.x FROM c, LATERAL (SELECT x FROM (SELECT w AS x FROM d WHERE d.k = c.k) AS q WHERE x > 0) AS t",
        "1 5, 1 5, 2 7",
    );
    check(
        "SELECT c.k, t.n FROM c, LATERAL (SELECT COUNT(x) AS n FROM (SELECT w AS x FROM d WHERE d.k = c.k) AS q) AS t",
        "1 1, 1 1, 2 1, 3 0",
    );
    check("SELECT k FROM c WHERE v IN (SELECT x FROM (SELECT w AS x FROM d WHERE d.k = c.k) AS q)", "1");
    check("SELECT k FROM c WHERE v NOT IN (SELECT x FROM (SELECT w AS x FROM d WHERE d.k = c.k) AS q)", "1, 3");
}

#[test]
fn having_of_all_rows_keeps_the_value_or_not() {
    let value = |value: &str, having: &str| {
        format!("SELECT k, (SELECT {value} FROM d WHERE d.k = c.k HAVING {having}) AS n FROM c")
    };
    check(&value("COUNT(*)", "COUNT(*) < 1"), "1 null, 1 null, 2 null, 3 0");
    check(&value("COUNT(*)", "COUNT(*) > 1"), "1 null, 1 null, 2 2, 3 null");
    check(&value("MAX(w)", "COUNT(*) < 2"), "1 5, 1 5, 2 null, 3 null");
    check(&value("COUNT(*) + 1", "MAX(w) IS NULL"), "1 null, 1 null, 2 null, 3 1");
    let refused = [
        "SELECT k FROM c WHERE EXISTS (SELECT 1 FROM d WHERE d.k = c.k HAVING COUNT(*) = 0)",
        "SELECT k FROM c WHERE 0 IN (SELECT COUNT(*) FROM d WHERE d.k = c.k HAVING COUNT(*) < 5)",
        "SELECT c.k, t.n FROM c, LATERAL (SELECT COUNT(*) AS n FROM d WHERE d.k = c.k HAVING COUNT(*) > 1) AS t",
    ];
    for query in refused {
        let error = session().select(query).expect_err(query).to_string();
        assert!(error.contains("HAVING without GROUP BY"), "{query}: {error}");
    }
}

#[test]
fn over_in_a_query_is_over_the_rows_that_it_sees() {
    check(
        "SELECT c.k, t.n, t.w FROM c, LATERAL (SELECT w, ROW_NUMBER() OVER (ORDER BY w DESC) AS n FROM d WHERE d.k = c.k) AS t \
         WHERE c.v = 5",
        "1 1 5, 2 1 7, 2 2 null",
    );
    check(
        "SELECT c.k, t.n, t.s FROM c, LATERAL (SELECT w AS n, SUM(w) OVER (ORDER BY w) AS s FROM d WHERE d.k = c.k) AS t \
         WHERE c.v = 5",
        "1 5 5, 2 7 7, 2 null null",
    );
}

#[test]
fn a_query_calls_columns_as_those_are_called_that_it_compares() {
    check("SELECT c.k, t.w FROM c, LATERAL (SELECT w FROM d WHERE d.k = c.k AND d.w >= c.v) AS t(w)", "1 5, 2 7");
    check(
        "SELECT t.k AS k, c.v AS v FROM c, LATERAL (SELECT w AS k FROM d WHERE d.k = c.k) AS t WHERE c.v = 5",
        "5 5, 7 5, null 5",
    );
    check("SELECT k FROM c WHERE v IN (SELECT w AS k FROM d WHERE d.k = c.k)", "1");
    check("SELECT k FROM c WHERE EXISTS (SELECT w AS k FROM d WHERE d.k = c.k)", "1, 1, 2");
    check("SELECT k, (SELECT MAX(w) AS k FROM d WHERE d.k = c.k) AS m FROM c", "1 5, 1 5, 2 7, 3 null");
}

#[test]
fn rows_are_ordered_by_what_queries_say() {
    check("SELECT k, v FROM c ORDER BY (SELECT MAX(w) FROM d WHERE d.k = c.k) DESC LIMIT 1", "2 5");
    check("SELECT x FROM a ORDER BY x IN (SELECT y FROM b WHERE y > 0) DESC LIMIT 1", "2");
    check("SELECT x FROM a ORDER BY CASE WHEN EXISTS (SELECT 1 FROM b WHERE y = x) THEN 0 ELSE 1 END LIMIT 1", "2");
}

#[test]
fn subqueries_see_the_row_around_them() {
    check("SELECT k, v FROM c WHERE v IN (SELECT w FROM d WHERE d.k = c.k)", "1 5");
    check("SELECT k, v FROM c WHERE v NOT IN (SELECT w FROM d WHERE d.k = c.k)", "1 6, 3 null");
    check("SELECT k, v FROM c WHERE EXISTS (SELECT 1 FROM d WHERE d.k = c.k AND d.w > 5)", "2 5");
    check("SELECT k, v FROM c WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.k = c.k)", "3 null");
    check("SELECT k, (SELECT COUNT(*) FROM d WHERE d.k = c.k) AS n FROM c", "1 1, 1 1, 2 2, 3 0");
    check("SELECT k, (SELECT MAX(w) FROM d WHERE d.k = c.k) AS m FROM c", "1 5, 1 5, 2 7, 3 null");
    check("SELECT v FROM c WHERE v > (SELECT MIN(w) FROM d)", "6");
    check(
        "SELECT c.v, l.n AS z FROM c, LATERAL (SELECT COUNT(*) AS n FROM d WHERE d.w = c.v) AS l",
        "5 1, 5 1, 6 0, null 0",
    );
}

#[test]
fn set_operations_count_rows_where_they_are_asked_to() {
    check("SELECT x FROM e INTERSECT SELECT x FROM a", "1, 2, null");
    check("SELECT x FROM e EXCEPT SELECT y FROM b", "1");
    check("SELECT x FROM e INTERSECT ALL SELECT x FROM e WHERE x IS NULL OR x = 1", "1, 1, 1, null, null");
    check("SELECT x FROM e EXCEPT ALL SELECT x FROM a", "1, 1, null");
    check("SELECT x FROM e EXCEPT ALL (SELECT x FROM a UNION ALL SELECT y FROM b)", "1, 1");
    check("SELECT x FROM a UNION SELECT x FROM e", "1, 2, null");
    check("SELECT x FROM a INTERSECT SELECT y FROM b UNION ALL SELECT x FROM a WHERE x = 1", "1, 2, null");
}

#[test]
fn a_query_may_read_the_table_around_it() {
    check("SELECT x, x IN (SELECT x FROM a WHERE x > 1) AS z FROM a", "1 false, 2 true, null null");
    check("SELECT x, x NOT IN (SELECT x FROM a WHERE x > 1) AS z FROM a", "1 true, 2 false, null null");
    check("SELECT x, x IN (SELECT x FROM a) AS z FROM a", "1 true, 2 true, null null");
    check("SELECT x FROM a WHERE x NOT IN (SELECT x FROM a WHERE x > 1) OR x = 7", "1");
    check("SELECT x FROM a WHERE x NOT IN (SELECT x FROM a WHERE x > 1)", "1");
    check("SELECT x FROM a WHERE x IN (SELECT x FROM a WHERE x > 1) IS FALSE", "1");
    check("SELECT x FROM a WHERE CASE WHEN x IN (SELECT x FROM a WHERE x > 1) THEN 1 ELSE 2 END = 2", "1, null");
    check("SELECT x, x = ANY (SELECT x FROM a WHERE x > 1) AS z FROM a", "1 false, 2 true, null null");
    check("SELECT x, x > ALL (SELECT x FROM a WHERE x < 2) AS z FROM a", "1 false, 2 true, null null");
    check("SELECT k, v, v IN (SELECT v FROM c WHERE k = 2) AS z FROM c", "1 5 true, 1 6 false, 2 5 true, 3 null null");
    check("SELECT k, v FROM c AS o WHERE v IN (SELECT v FROM c WHERE c.k > o.k) OR k = 7", "1 5");
    check(
        "SELECT k, v, v IN (SELECT v FROM c WHERE c.k = o.k + 1) AS z FROM c AS o",
        "1 5 true, 1 6 false, 2 5 null, 3 null false",
    );
    check("SELECT x, (SELECT MAX(x) FROM a WHERE x < 2) AS z FROM a", "1 1, 2 1, null 1");
}

#[test]
fn columns_of_one_name_are_one_column_of_the_joined_rows() {
    let kinds = [
        ("JOIN", "1 5 5, 1 6 5, 2 5 7, 2 5 null"),
        ("LEFT JOIN", "1 5 5, 1 6 5, 2 5 7, 2 5 null, 3 null null"),
        ("RIGHT JOIN", "1 5 5, 1 6 5, 2 5 7, 2 5 null, 4 null 9"),
        ("FULL JOIN", "1 5 5, 1 6 5, 2 5 7, 2 5 null, 3 null null, 4 null 9"),
    ];
    let more = "(SELECT * FROM d UNION ALL SELECT 4, 9) AS d";
    for (kind, rows) in kinds {
        check(&format!("SELECT * FROM c {kind} {more} USING (k)"), rows);
        check(&format!("SELECT * FROM c NATURAL {kind} {more}"), rows);
        check(&format!("SELECT k, v, w FROM c NATURAL {kind} {more}"), rows);
        check(
            &format!("SELECT k, d.w AS z FROM c NATURAL {kind} {more} WHERE k > 3"),
            match kind {
                "RIGHT JOIN" | "FULL JOIN" => "4 9",
                _ => "",
            },
        );
    }
    check("SELECT k, COUNT(*) AS n FROM c FULL JOIN d USING (k) GROUP BY k", "1 2, 2 2, 3 1");
    check("SELECT k, a.x FROM a FULL JOIN c ON a.x = c.v NATURAL FULL JOIN d WHERE k = 3", "3 null");
    check(
        "SELECT k, v, f.w AS z FROM c FULL JOIN (SELECT 7 AS k, 1 AS u) AS s USING (k) NATURAL RIGHT JOIN (SELECT 7 AS k, 2 AS w) AS f",
        "7 null 2",
    );
    check(
        "SELECT s.k, n FROM (c NATURAL FULL JOIN d) JOIN (SELECT 3 AS k, 1 AS n) AS s ON s.k = v - 2",
        "3 1, 3 1, 3 1",
    );
    check(
        "SELECT k, v, d.w AS x, n FROM c JOIN d USING (k) LEFT JOIN (SELECT 2 AS k, 1 AS n) AS s USING (k)",
        "1 null 5 5, 1 null 6 5, 2 1 5 7, 2 1 5 null",
    );
    check("SELECT x FROM a NATURAL FULL JOIN e WHERE x > 1", "2");
}

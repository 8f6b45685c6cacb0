//! Where a whole query answers otherwise than Flink, on purpose, each with its reason; one that is equal must not be listed.

const LATER: &str = "refused when planned: not supported yet";
const EXACT: &str = "sums of squares are exact: two equal numbers have variance 0, however large they are";
const NOTHING: &str =
    "an aggregate without GROUP BY has one row even of nothing, as in batch; Flink has none when streaming";
const FLOATS: &str = "FLOAT with DOUBLE is DOUBLE in either order";
const MORE_ALLOWED: &str = "Flink refuses or cannot run it; the answer here is the natural one";
const NULL_ROWS: &str = "an element that is NULL is a row of NULLs; Flink leaves out a ROW that is NULL";
const TRUSTED: &str = "Flink takes the length of a type on trust where no value was cast to it, and cuts nothing then";
const PADDED: &str = "what is no CHAR is cut and filled for CHAR(n) as CAST does; Flink asks for the CAST";
const SESSIONS: &str =
    "WHERE chooses rows of sessions that are there; Flink filters first and makes sessions of what is left";
const LOST: &str = "Flink loses two rows of one window, which the same query with other windows has";

/// Why our answer to a query of a family differs, when it does.
pub(crate) fn known(family: &str, sql: &str) -> Option<&'static str> {
    let in_family = format!("{family}: {sql}");
    DIFFERENCES.iter().find(|(other, _)| *other == sql || *other == in_family).map(|(_, reason)| *reason)
}

/// SQL, behind the name of its family where only that differs, and why our answer differs.
pub(crate) const DIFFERENCES: &[(&str, &str)] = &[
    ("SELECT g, COLLECT(s) AS a FROM numbers GROUP BY g", LATER),
    ("SELECT customer, COUNT(*) AS c FROM orders GROUP BY customer", LATER),
    ("SELECT g, STDDEV_POP(b) AS a, VAR_POP(b) AS d, VAR_POP(f) AS e FROM numbers GROUP BY g", EXACT),
    ("SELECT COUNT(*) AS a, SUM(i) AS b FROM numbers WHERE g > 100", NOTHING),
    ("SELECT g, ti + si AS a, i + b AS b, f + d AS c, n * 2 AS d, n + d AS e FROM numbers WHERE g <> 2", FLOATS),
    ("SELECT COUNT(g, p) AS a FROM numbers", MORE_ALLOWED),
    ("SELECT COUNT(DISTINCT g, p) AS a FROM numbers", MORE_ALLOWED),
    (
        "SELECT window_start, window_end, SUM(DISTINCT v) AS a, COUNT(DISTINCT k) AS b FROM TABLE(HOP(TABLE events, \
         DESCRIPTOR(ts), INTERVAL '5' MINUTES, INTERVAL '15' MINUTES)) GROUP BY window_start, window_end",
        MORE_ALLOWED,
    ),
    ("SELECT id, sku, qty, qty * price AS cost FROM orders CROSS JOIN UNNEST(items) AS t (sku, qty, price)", NULL_ROWS),
    ("SELECT id, sku FROM orders LEFT JOIN UNNEST(items) AS t (sku, qty, price) ON TRUE", NULL_ROWS),
    ("SELECT id, CAST(c AS CHAR(5)) AS a, CAST(v AS VARCHAR(3)) AS b FROM lengths", TRUSTED),
    ("INSERT INTO written (id, v) SELECT id, UPPER(v) FROM lengths", TRUSTED),
    ("INSERT INTO written SELECT id, s, s, s FROM lengths", PADDED),
    ("INSERT INTO written VALUES (1, 'a', 'a', 'a'), (2, 'abcdefgh', 'abcdefgh', 'abcdefgh')", PADDED),
    ("INSERT INTO written SELECT id, CAST(s AS VARCHAR(2)), CAST(s AS VARCHAR(8)), v FROM lengths", PADDED),
    ("INSERT INTO written (id, c) SELECT id, s FROM lengths", PADDED),
    ("INSERT INTO written (id, c) SELECT id, v FROM lengths", PADDED),
    ("INSERT INTO written (id, c) SELECT id, CAST(s AS VARCHAR(2)) FROM lengths", PADDED),
    (
        "SELECT k, window_start, window_end, COUNT(*) AS c, SUM(v) AS s FROM TABLE(SESSION(TABLE events PARTITION BY k, \
         DESCRIPTOR(ts), INTERVAL '5' MINUTES)) WHERE v > 2 GROUP BY k, window_start, window_end",
        SESSIONS,
    ),
    (
        "SELECT k, window_start, window_end, COUNT(*) AS c FROM TABLE(SESSION(TABLE events PARTITION BY k, \
         DESCRIPTOR(ts), INTERVAL '10' MINUTES)) WHERE v <> 5 GROUP BY k, window_start, window_end",
        SESSIONS,
    ),
    (
        "SELECT window_start, window_end, COUNT(*) AS c FROM TABLE(SESSION(TABLE events, DESCRIPTOR(ts), \
         INTERVAL '6' MINUTES)) WHERE k = 'b' GROUP BY window_start, window_end",
        SESSIONS,
    ),
    (
        "zone_kathmandu: SELECT window_start, window_end, window_time, SUM(v) AS s FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(lt), \
         INTERVAL '1' DAY)) GROUP BY window_start, window_end, window_time",
        LOST,
    ),
];

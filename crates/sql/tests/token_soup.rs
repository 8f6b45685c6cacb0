//! No text makes the parser panic or hang: statements from a bag of words, in any order, and damaged real ones.
//!
//! `PROPTEST_CASES=100000` runs more than the thousand cases of each that always run.

use proptest::prelude::*;
use tidemill_base::Explain;
use tidemill_sql::error::render;
use tidemill_sql::statement::parse;

const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "ORDER",
    "LIMIT",
    "UNION",
    "ALL",
    "INSERT",
    "INTO",
    "VALUES",
    "CREATE",
    "TABLE",
    "VIEW",
    "MATERIALIZED",
    "FUNCTION",
    "WITH",
    "AS",
    "WATERMARK",
    "FOR",
    "PRIMARY",
    "KEY",
    "NOT",
    "ENFORCED",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "INTERVAL",
    "SECOND",
    "TO",
    "MONTH",
    "EXTRACT",
    "FLOOR",
    "POSITION",
    "IN",
    "TRIM",
    "BOTH",
    "OVERLAY",
    "PLACING",
    "TUMBLE",
    "HOP",
    "SESSION",
    "TUMBLE_START",
    "DESCRIPTOR",
    "PARTITION",
    "JOIN",
    "CROSS",
    "LATERAL",
    "UNNEST",
    "OVER",
    "FILTER",
    "EMIT",
    "CHANGES",
    "EXPLAIN",
    "PLAN",
    "SET",
    "STATEMENT",
    "EXECUTE",
    "BEGIN",
    "ARRAY",
    "MAP",
    "ROW",
    "ROW<a INT>",
    "INT",
    "DECIMAL",
    "TIMESTAMP",
    "DATE",
    "NULL",
    "IS",
    "LIKE",
    "BETWEEN",
    "AND",
    "OR",
    "EXISTS",
    "DISTINCT",
    "COMMENT",
    "METADATA",
    "SYSTEM_TIME",
    "OF",
    "a",
    "b",
    "t",
    "ts",
    "`x y`",
    "'10'",
    "'2024-02-29'",
    "1",
    "2.5",
    "1e3",
    "(",
    ")",
    "(",
    ")",
    ",",
    ",",
    ";",
    ".",
    "=",
    "<",
    ">",
    ">>",
    "=>",
    "*",
    "+",
    "-",
    "/",
    "%",
    "||",
    "[",
    "]",
    "::",
    "/*+ OPTIONS('k'='v') */",
    "-- note\n",
    "{",
    "}",
    "é",
    "\\",
    "\"q\"",
    "$1",
    "?",
    "@",
    "^",
];

const REAL: &str = "CREATE TABLE t (a ROW<b INT, c ARRAY<STRING>>, ts TIMESTAMP(3), d AS a.b + 1, WATERMARK FOR ts AS ts - \
    INTERVAL '1' SECOND) WITH ('connector' = 'x'); INSERT INTO s SELECT k, TUMBLE_START(ts, INTERVAL '1' HOUR), COUNT(*) \
    FILTER (WHERE x > 1) FROM t /*+ OPTIONS('a'='b') */ GROUP BY k, TUMBLE(ts, INTERVAL '1' HOUR); SELECT CAST(a AS MAP<INT, \
    INT>)[1] FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)) EMIT CHANGES;";

/// Parses; an error has to be shown without trouble, and to lie in the text.
fn survives(text: &str) {
    if let Err(error) = parse(text) {
        let shown = render(&error, "soup.sql", text);
        assert!(shown.starts_with("error[TM10"), "{shown}");
        let line = error.position().map_or(1, |position| position.line);
        assert!(line as usize <= text.split('\n').count(), "{shown}");
    }
}

/// The start of a statement that the soup goes on with.
fn opening() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "SELECT",
        "SELECT a FROM",
        "SELECT a FROM t WHERE",
        "CREATE TABLE t (a",
        "INSERT INTO t",
        "SET",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn token_soup_is_read_or_refused(start in opening(), words in prop::collection::vec(prop::sample::select(WORDS), 0..60)) {
        survives(&format!("{start} {}", words.join(" ")));
    }

    #[test]
    fn any_characters_are_read_or_refused(text in any::<String>()) {
        survives(&text);
        survives(&format!("SELECT {text}"));
    }

    #[test]
    fn damaged_statements_are_read_or_refused(cut in 0..REAL.len(), length in 0_usize..20, word in prop::sample::select(WORDS)) {
        let end = (cut + length).min(REAL.len());
        survives(&format!("{} {word} {}", &REAL[..cut], &REAL[end..]));
    }
}

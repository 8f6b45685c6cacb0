//! What is accepted, and as what.

use datafusion::sql::sqlparser::ast::{SetExpr, TableFactor};

use super::*;
use crate::dialect::{WindowInput, WindowKind, window_call};

/// The statements of a text that has to be right.
fn read(text: &str) -> Vec<Statement> {
    parse(text).unwrap_or_else(|error| panic!("{}", crate::error::render(&error, "test.sql", text)))
}

fn one(text: &str) -> Body {
    let mut statements = read(text);
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).body
}

fn table(text: &str) -> CreateTable {
    match one(text) {
        Body::CreateTable(table) => table,
        other => panic!("{text} is {other:?}"),
    }
}

/// A query as the planner gets it.
fn query(text: &str) -> Query {
    match one(text) {
        Body::Query(query) => query,
        other => panic!("{text} is {other:?}"),
    }
}

fn factor(text: &str) -> TableFactor {
    match *query(text).ast.body {
        SetExpr::Select(mut select) => select.from.remove(0).relation,
        other => panic!("{text} is {other:?}"),
    }
}

/// What an expression is read as.
fn check(expr: &str, expected: &str) {
    let text = format!("SELECT {expr} FROM t");
    let shown = query(&text).ast.to_string();
    assert_eq!(shown, format!("SELECT {expected} FROM t"), "{expr}");
}

fn fails(text: &str) -> Error {
    match parse(text) {
        Ok(read) => panic!("{text} was read as {read:?}"),
        Err(error) => error,
    }
}

#[test]
fn statements_know_their_place_and_text() {
    let statements = read("-- a comment; with a semicolon\nSELECT 1;\n\n  SELECT ';' ;; SELECT 3 -- the end\n");
    let seen: Vec<_> =
        statements.iter().map(|one| (one.position.line, one.position.column, one.text.as_str())).collect();
    assert_eq!(seen[..2], [(2, 1, "SELECT 1"), (4, 3, "SELECT ';'")]);
    assert_eq!((seen[2].0, seen[2].1), (4, 17));
    assert!(read("").is_empty() && read(" ; -- nothing\n;").is_empty());
}

#[test]
fn tables_have_all_parts() {
    let table = table(
        "create temporary table if not exists `my table` (
            id BIGINT NOT NULL COMMENT 'the id',
            person ROW<id BIGINT, name VARCHAR, tags ARRAY<ROW<a INT>>>,
            ts AS TO_TIMESTAMP_LTZ(id, 3) COMMENT 'computed',
            at TIMESTAMP(3) WITH LOCAL TIME ZONE METADATA FROM 'timestamp' VIRTUAL,
            `partition` INT METADATA,
            p AS PROCTIME(),
            WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
            CONSTRAINT pk PRIMARY KEY (id) NOT ENFORCED
        ) COMMENT 'events' PARTITIONED BY (id) WITH ('connector' = 'datagen', 'rows' = '10')",
    );
    assert!(table.temporary && table.if_not_exists);
    assert_eq!(table.name.text, "my table");
    let names: Vec<_> = table.columns.iter().map(|column| column.name.text.as_str()).collect();
    assert_eq!(names, ["id", "person", "ts", "at", "partition", "p"]);
    let ColumnKind::Physical(id) = &table.columns[0].kind else { panic!("id is physical") };
    assert_eq!(id.to_string(), "BIGINT NOT NULL");
    let ColumnKind::Metadata { key, is_virtual, data_type } = &table.columns[3].kind else { panic!("at is metadata") };
    assert_eq!(
        (key.as_deref(), is_virtual, data_type.to_string().as_str()),
        (Some("timestamp"), &true, "TIMESTAMP_LTZ(3)")
    );
    assert!(matches!(table.columns[4].kind, ColumnKind::Metadata { key: None, is_virtual: false, .. }));
    assert_eq!(table.columns[2].comment.as_deref(), Some("computed"));
    let watermark = table.watermark.expect("a watermark");
    assert_eq!(
        (watermark.column.text.as_str(), watermark.expr.to_string().as_str()),
        ("ts", "ts - INTERVAL '5000' MILLISECONDS")
    );
    assert_eq!(table.primary_key.expect("a key").columns[0].text, "id");
    assert_eq!(table.comment.as_deref(), Some("events"));
    assert_eq!(table.partitioned_by[0].text, "id");
    assert_eq!((table.options[1].key.as_str(), table.options[1].value.as_str()), ("rows", "10"));
    assert_eq!(table.options[1].key_position.line, 10);
}

#[test]
fn tables_can_be_like_others() {
    let like =
        table("CREATE TABLE u WITH ('path' = 'x') LIKE t (INCLUDING ALL EXCLUDING OPTIONS OVERWRITING WATERMARKS)");
    let like = like.like.expect("a LIKE clause");
    assert_eq!(like.table.text, "t");
    assert_eq!(like.options[1], (Including::Excluding, LikeFeature::Options));
    assert!(table("CREATE TABLE u (WATERMARK FOR ts AS ts) LIKE t").like.is_some());
    assert_eq!(
        table("CREATE TABLE t (id INT PRIMARY KEY NOT ENFORCED) WITH ('a'='b')")
            .primary_key
            .map(|key| key.columns.len()),
        Some(1)
    );
    assert_eq!(table("CREATE TABLE default_catalog.default_database.t (id INT) WITH ('a'='b')").name.text, "t");
}

#[test]
fn views_functions_and_drops() {
    let Body::CreateView(view) = one("CREATE TEMPORARY VIEW v (a, b) COMMENT 'c' AS SELECT 1, 2") else {
        panic!("a view")
    };
    assert_eq!((view.columns.len(), view.comment.as_deref()), (2, Some("c")));
    let text = "CREATE MATERIALIZED VIEW v (PRIMARY KEY (a) NOT ENFORCED) AS SELECT a FROM t";
    let Body::CreateMaterializedView(view) = one(text) else { panic!("a materialized view") };
    assert_eq!(view.primary_key.expect("a key").columns[0].text, "a");
    let text = "CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar' LANGUAGE JAVA";
    let Body::CreateFunction(function) = one(text) else { panic!("a function") };
    assert_eq!(function.class, "com.github.nexmark.flink.udf.CountChar");
    let Body::Drop(drop) = one("DROP TEMPORARY VIEW IF EXISTS v") else { panic!("a drop") };
    assert_eq!((drop.kind, drop.if_exists, drop.name.text.as_str()), (DropKind::View, true, "v"));
}

#[test]
fn settings_with_and_without_quotes() {
    for (text, key, value) in [
        ("SET 'a.b' = 'c d'", "a.b", "c d"),
        ("set execution.runtime-mode = batch;", "execution.runtime-mode", "batch"),
        ("SET table.exec.state.ttl=1 h", "table.exec.state.ttl", "1 h"),
        ("SET 'x' = 10", "x", "10"),
    ] {
        assert!(matches!(one(text), Body::Set(set) if set.key == key && set.value == value), "{text}");
    }
}

#[test]
fn inserts_alone_and_in_sets() {
    let Body::Insert(insert) = one("INSERT INTO t (a, b) VALUES (1, 'x'), (2, NULL)") else { panic!("an insert") };
    assert_eq!(insert.columns.len(), 2);
    let Body::Insert(insert) = one("INSERT INTO t /*+ OPTIONS('k'='v') */ (SELECT 1)") else { panic!("an insert") };
    assert_eq!((insert.options[0].key.as_str(), insert.columns.len()), ("k", 0));
    for text in [
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
        "execute statement set begin insert into a select 1; insert into b select 2; end",
    ] {
        assert!(matches!(one(text), Body::StatementSet(inserts) if inserts.len() == 2), "{text}");
    }
    let text = "EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1; END; SELECT 2;";
    assert!(
        matches!(&read(text)[..], [Statement { body: Body::Explain(set), .. }, _] if matches!(set.body, Body::StatementSet(_)))
    );
}

#[test]
fn explains_and_emits() {
    assert!(matches!(one("EXPLAIN PLAN FOR SELECT 1"), Body::Explain(inner) if inner.text == "SELECT 1"));
    assert!(matches!(one("EXPLAIN INSERT INTO t SELECT 1"), Body::Explain(_)));
    assert!(query("SELECT * FROM t EMIT CHANGES").emit_changes);
    assert!(query("SELECT a FROM t WHERE a > 1 EMIT CHANGES").emit_changes);
    assert!(!query("SELECT * FROM t").emit_changes);
    assert!(matches!(fails("SELECT a FROM (SELECT a FROM t EMIT CHANGES)"), Error::Unexpected { .. }));
}

#[test]
fn forms_become_plain_calls() {
    check("EXTRACT(hour FROM ts)", "EXTRACT('HOUR', ts)");
    check("FLOOR(ts TO minute)", "FLOOR(ts, 'MINUTE')");
    check("FLOOR(x), CEILING(x)", "FLOOR(x), CEIL(x)");
    check("TIMESTAMPADD(DAY, 1, ts)", "TIMESTAMPADD('DAY', 1, ts)");
    check("TIMESTAMPDIFF(SQL_TSI_SECOND, a, b)", "TIMESTAMPDIFF('SECOND', a, b)");
    check("POSITION('a' IN b)", "POSITION('a', b)");
    check("SUBSTRING(a FROM 2 FOR 3)", "SUBSTRING(a, 2, 3)");
    check("SUBSTR(a, 2)", "SUBSTRING(a, 2)");
    check("OVERLAY(a PLACING b FROM 1 FOR 2)", "OVERLAY(a, b, 1, 2)");
    check("TRIM(a)", "TRIM(a)");
    check("TRIM(BOTH 'x' FROM a)", "BTRIM(a, 'x')");
    check("TRIM('x' FROM a)", "BTRIM(a, 'x')");
    check("TRIM(LEADING FROM a)", "LTRIM(a)");
    check("TRIM(TRAILING 'x' FROM a)", "RTRIM(a, 'x')");
    check("MAP['a', 1]", "MAP('a', 1)");
    check("ARRAY[1, 2]", "ARRAY(1, 2)");
    check("ROW(1, 'a')", "ROW(1, 'a')");
    check("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP");
}

#[test]
fn casts_and_literals_carry_our_types() {
    check("CAST(a AS ROW<b INT>)", "$cast(a, 'ROW<`b` INT>')");
    check("TRY_CAST(a AS TIMESTAMP(3) WITH LOCAL TIME ZONE)", "$try_cast(a, 'TIMESTAMP_LTZ(3)')");
    check("DATE '2024-02-29'", "$type(DATE) '2024-02-29'");
    check("TIMESTAMP '2024-02-29 01:02:03.45'", "$type(TIMESTAMP(2)) '2024-02-29 01:02:03.45'");
    check("1.5e3", "$cast('1.5e3', 'DOUBLE')");
    check("INTERVAL '1:30' MINUTE TO SECOND", "INTERVAL '90000' MILLISECONDS");
    check("INTERVAL -'2' YEAR", "INTERVAL '-24' MONTHS");
    check("'it''s'", "'it''s'");
}

#[test]
fn words_can_be_names_where_nothing_else_fits() {
    check("bid.auction, t.`select`, t.end, a.b.c", "bid.auction, t.`select`, t.end, a.b.c");
    check("date, `timestamp`, value, interval, a.date", "date, `timestamp`, value, interval, a.date");
    check("arr[1], m['k'].x", "arr[1], m['k'].'x'");
    check("COUNT(DISTINCT a) FILTER (WHERE b > 1)", "COUNT(DISTINCT a) FILTER (WHERE b > 1)");
    check("CASE WHEN a THEN 1 ELSE 2 END", "CASE WHEN a THEN 1 ELSE 2 END");
    check("LEFT(a, 1), IF(a, 1, 2)", "LEFT(a, 1), IF(a, 1, 2)");
    check("NOT a IS NULL AND b NOT IN (1, 2)", "NOT a IS NULL AND b NOT IN (1, 2)");
}

#[test]
fn hints_reach_their_tables() {
    let factor = factor("SELECT * FROM t /*+ OPTIONS('rows'='10', 'x'='y') */ AS u");
    let options = table_options(&factor);
    assert_eq!((options[0].key.as_str(), options[0].value.as_str()), ("rows", "10"));
    assert_eq!((options.len(), options[0].key_position.column), (2, 17));
}

fn window(call: &str) -> Result<crate::dialect::WindowCall, Error> {
    window_call(&factor(&format!("SELECT * FROM {call} AS w"))).unwrap_or_else(|| panic!("{call} is no window"))
}

fn kind(call: &str) -> WindowKind {
    window(call).unwrap_or_else(|error| panic!("{call}: {error}")).kind
}

#[test]
fn window_functions_are_read_in_every_spelling() {
    let tumble = WindowKind::Tumble { size_millis: 10_000 };
    assert_eq!(kind("TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))"), tumble);
    assert_eq!(kind("tumble(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)"), tumble);
    assert_eq!(kind("TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND))"), tumble);
    assert_eq!(kind("TABLE(TUMBLE(SIZE => INTERVAL '10' SECOND, DATA => TABLE t, TIMECOL => DESCRIPTOR(ts)))"), tumble);
    let hop = WindowKind::Hop { slide_millis: 2_000, size_millis: 10_000 };
    assert_eq!(kind("TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))"), hop);
    let cumulate = WindowKind::Cumulate { step_millis: 3_600_000, max_millis: 86_400_000 };
    assert_eq!(kind("TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY))"), cumulate);
    let session = WindowKind::Session { gap_millis: 300_000 };
    assert_eq!(kind("TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE))"), session);
}

#[test]
fn window_functions_know_table_partition_and_offset() {
    let call =
        window("TABLE(SESSION(TABLE t PARTITION BY a, b, DESCRIPTOR(ts), INTERVAL '5' MINUTE))").expect("a window");
    assert_eq!(call.partition_by.iter().map(|name| name.value.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(call.time.value, "ts");
    assert!(matches!(call.input, WindowInput::Table(name) if name.to_string() == "t"));
    assert_eq!(call.alias.map(|alias| alias.name.value), Some("w".to_string()));
    assert_eq!((call.position.line, call.position.column), (1, 21));
    let call = window(
        "TABLE(SESSION(DATA => TABLE t PARTITION BY (a), TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '5' MINUTE))",
    );
    assert_eq!(call.expect("a window").partition_by.len(), 1);
    let call =
        window("TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY, INTERVAL -'8' HOUR))").expect("a window");
    assert_eq!(call.offset_millis, -28_800_000);
    let call = window("TABLE(TUMBLE(TABLE (SELECT * FROM t WHERE a > 1), DESCRIPTOR(ts), INTERVAL '1' DAY))")
        .expect("a window");
    assert!(matches!(call.input, WindowInput::Query(_)));
}

#[test]
fn the_public_nexmark_source_is_read() {
    let statements = read(
        "CREATE TABLE datagen (
            event_type int,
            person ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
            auction ROW<id BIGINT, itemName VARCHAR, expires TIMESTAMP(3), seller BIGINT, category BIGINT>,
            bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3)>,
            `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` ELSE bid.`dateTime` END,
            WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
        ) WITH ('connector' = 'nexmark');
        CREATE VIEW bid AS SELECT bid.auction, bid.bidder, `dateTime` FROM datagen WHERE event_type = 2;
        CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar';
        CREATE TABLE sink (auction BIGINT, c BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector' = 'blackhole');
        INSERT INTO sink
        SELECT auction, bidder, 0.908 * price AS price,
            CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime' ELSE 'otherTime' END AS bidTimeType,
            DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), count_char(extra, 'c') AS c_counts, SPLIT_INDEX(url, '/', 3) AS dir1,
            REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2)
        FROM bid WHERE 0.908 * price > 1000000 AND MOD(auction, 123) = 0;
        INSERT INTO sink SELECT bidder, COUNT(*) AS bid_count, SESSION_START(`dateTime`, INTERVAL '10' SECOND) AS starttime
        FROM bid GROUP BY bidder, SESSION(`dateTime`, INTERVAL '10' SECOND);
        INSERT INTO sink SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, max(DATE_FORMAT(`dateTime`, 'HH:mm')) AS `minute`,
            count(*) filter (where price < 10000) AS rank1_bids, count(distinct bidder) filter (where price >= 10000 and price < 1000000) AS r
        FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd');",
    );
    assert_eq!(statements.len(), 7);
}

#[test]
fn unions_and_unnest_are_accepted() {
    let text = "SELECT id, tag FROM t CROSS JOIN UNNEST(tags) AS u (tag)";
    assert_eq!(query(text).ast.to_string(), "SELECT id, tag FROM t CROSS JOIN UNNEST(tags) AS u (tag)");
    let text = "SELECT id, tag FROM t, UNNEST(t.tags) AS u (tag)";
    assert_eq!(query(text).ast.to_string(), "SELECT id, tag FROM t CROSS JOIN UNNEST(t.tags) AS u (tag)");
    query(
        "WITH a AS (SELECT 1 AS x), b AS (SELECT 2 AS x) SELECT x FROM a UNION ALL SELECT x FROM b ORDER BY x LIMIT 3",
    );
    query("SELECT x FROM (SELECT DISTINCT a AS x FROM t) AS s HAVING COUNT(*) > 1");
}

#[test]
fn deep_and_long_texts_end_in_an_error() {
    for text in [
        format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT {}1", "NOT ".repeat(5_000)),
        format!("SELECT {}1", "- ".repeat(5_000)),
        format!("SELECT {}a", "a.".repeat(5_000)),
        format!("SELECT {}", "CASE WHEN ".repeat(5_000)),
        format!("SELECT {}", "INTERVAL ".repeat(5_000)),
        format!("SELECT {}", "POSITION(".repeat(59)),
        format!("SELECT {}", "FLOOR(".repeat(59)),
        format!("SELECT {}", "CAST(".repeat(59)),
        format!("SELECT * FROM {}t", "(".repeat(59)),
        format!("SELECT * FROM {}t", "((SELECT a FROM ".repeat(29)),
        format!("CREATE TABLE t (a {}INT", "ARRAY<".repeat(5_000)),
        format!("SELECT CAST(a AS {}INT)", "ARRAY<".repeat(5_000)),
        format!("SELECT 1{}", " + 1".repeat(5_000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(5_000)),
    ] {
        fails(&text);
    }
}

#[test]
fn the_longest_chains_are_read() {
    query(&format!("SELECT 1{} FROM t", " + 1".repeat(950)));
    query(&format!("SELECT a FROM t WHERE a = 1{}", " OR a = 1".repeat(450)));
    query(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(450)));
    query(&format!("SELECT a{} FROM t", " IS NULL".repeat(950)));
    query(&format!("SELECT {}1{}", "(".repeat(55), ")".repeat(55)));
    query(&format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(12), ")".repeat(12)));
    query(&format!("SELECT * FROM {}SELECT 1{}", "(".repeat(12), ")".repeat(12)));
}

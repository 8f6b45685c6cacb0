//! Golden plans: each `plans/NAME.sql` is planned and explained, and what comes out is `plans/NAME.expected`.
//!
//! A text that cannot be planned has its rendered error there. `UPDATE_EXPECTED=1 cargo test -p tidemill-sql` writes the
//! files anew; read the difference before committing it.

use std::fs;
use std::path::Path;

use tidemill_sql::error::render;
use tidemill_sql::{PlanOptions, explain, plan};

fn explained(name: &str, text: &str) -> String {
    match plan(text, PlanOptions::default()) {
        Ok(pipeline) => {
            let mut out = explain::text(&pipeline);
            for explain in &pipeline.explains {
                out += &format!("EXPLAIN {}\n{}", explain.text, explain.plan);
            }
            out
        }
        Err(error) => render(&error, name, text),
    }
}

#[test]
fn plans_are_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder is there").map(|file| file.expect("a file").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "sql")) {
        count += 1;
        let text = fs::read_to_string(file).expect("the query is readable");
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let found = explained(&name, &text);
        let golden = file.with_extension("expected");
        if update {
            fs::write(&golden, &found).expect("the folder is writable");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{name}\n--- expected\n{expected}--- found\n{found}"));
        }
    }
    assert!(count >= 20, "only {count} plans found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Options that the SQL crate carries without understanding them are not looked at here.
fn check_error(text: &str, line: u64, column: u64, message: &str, help: &str) {
    use tidemill_base::Explain;
    let bids = "CREATE TABLE bid (auction BIGINT, price BIGINT, channel STRING, ok BOOLEAN, ts TIMESTAMP(3), tags ARRAY<STRING>, \
                WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');\n\
                CREATE TABLE out (a BIGINT, b STRING NOT NULL) WITH ('connector' = 'y');\n";
    let whole = format!("{bids}{text}");
    let error = plan(&whole, PlanOptions::default()).expect_err(text);
    let shown = render(&error, "t.sql", &whole);
    assert_eq!(error.to_string(), message, "{text}\n{shown}");
    let place = error.position().map(|position| (position.line, position.column));
    assert_eq!(place, Some((line, column)), "{text}\n{shown}");
    assert!(error.help().unwrap_or_default().contains(help), "{text}\n{shown}");
}

#[test]
fn joins_of_columns_of_one_name_need_one_on_each_side() {
    check_error(
        "SELECT * FROM bid NATURAL JOIN (SELECT 1 AS one) AS s",
        3,
        33,
        "NATURAL JOIN of two sides that have no column in common",
        "CROSS JOIN",
    );
    check_error(
        "SELECT * FROM bid FULL JOIN (SELECT 1 AS one) AS s USING (auction)",
        3,
        59,
        "there is no column auction",
        "its columns are one",
    );
    check_error(
        "SELECT b.auction FROM bid AS b FULL JOIN (SELECT 1 AS auction) AS s USING (auction)",
        3,
        8,
        "there is no column b.auction",
        "write auction alone",
    );
    check_error(
        "SELECT 1 AS n FROM bid AS a JOIN bid AS b ON a.ok RIGHT JOIN bid AS c USING (price)",
        3,
        62,
        "the column price is in more than one of the tables on one side of the join",
        "write ON",
    );
}

#[test]
fn rows_are_not_numbered_that_are_other_rows_for_each_row_around_them() {
    for (inner, column) in [
        ("SELECT price FROM bid AS o WHERE o.auction < b.auction ORDER BY price LIMIT 1", 79),
        (
            "SELECT n FROM (SELECT ROW_NUMBER() OVER (ORDER BY price) AS n FROM bid AS o WHERE o.auction <> b.auction) WHERE n < 2",
            128,
        ),
    ] {
        check_error(
            &format!("SELECT auction FROM bid AS b WHERE price IN ({inner})"),
            3,
            column,
            "OVER and LIMIT in a query inside another cannot be over rows that depend on the query around it in this way",
            "compare columns with those around by =",
        );
    }
}

/// Tables whose rows are taken back, for what is said of their clock.
const UPDATING: &str = "CREATE TABLE paid (id BIGINT, amount BIGINT, day AS DATE_FORMAT(NOW(), 'dd'), pt AS PROCTIME()) \
                        WITH ('connector' = 'z', 'format' = 'debezium-json');\n\
                        CREATE TABLE come (id BIGINT, pt AS PROCTIME()) WITH ('connector' = 'z');\n";

#[test]
fn rows_that_are_taken_back_do_not_read_the_clock() {
    let read = "pt is the time at which a row is read, and rows of paid are taken back: what is taken back would have another \
                value than what came";
    let check = |query: &str, column: u64, message: &str, help: &str| {
        check_error(&format!("{UPDATING}{query}"), 5, column, message, help);
    };
    check("SELECT id, pt FROM paid", 12, read, "let the rows carry their time");
    check("SELECT p.id, p.pt FROM paid AS p JOIN bid AS b ON p.id = b.auction", 14, read, "in place of pt");
    check(
        "SELECT b.price FROM paid AS p JOIN bid AS b ON p.id = b.auction WHERE p.pt > b.ts",
        71,
        read,
        "leave it out",
    );
    check(
        "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE paid, DESCRIPTOR(pt), INTERVAL '1' HOUR)) \
         GROUP BY window_start, window_end",
        1,
        read,
        "",
    );
    check(
        "SELECT DISTINCT day FROM paid",
        17,
        &read.replace("pt is the time at which a row is read", "day reads the clock"),
        "",
    );
    let over = |expr: &str| {
        format!(
            "{expr} reads the clock over rows that may be taken back: what is taken back would have another value than what came"
        )
    };
    check("SELECT id, NOW() AS n FROM paid", 1, &over("CURRENT_TIMESTAMP()"), "MAX(PROCTIME())");
    check(
        "SELECT id, COUNT(*) AS n, NOW() AS at FROM come GROUP BY id",
        1,
        &over("CURRENT_TIMESTAMP()"),
        "MAX(PROCTIME())",
    );
    check(
        "SELECT c.id FROM come AS c JOIN paid AS p ON c.id = p.id AND c.id + p.amount > EXTRACT(HOUR FROM NOW())",
        1,
        &over("(id + amount) > EXTRACT('HOUR', CURRENT_TIMESTAMP())"),
        "",
    );
}

#[test]
fn the_clock_over_rows_that_only_come_is_read_once() {
    let check = |query: &str| {
        let whole = format!("{UPDATING}{query}");
        plan(&whole, PlanOptions::default()).unwrap_or_else(|error| panic!("{}", render(&error, "t.sql", &whole)));
    };
    check("SELECT id, amount FROM paid");
    check("SELECT id FROM (SELECT id, pt FROM paid)");
    check("SELECT id, pt, NOW() AS at FROM come WHERE pt < CURRENT_TIMESTAMP");
    check("SELECT id, MAX(pt) AS last, MIN(NOW()) AS first FROM come GROUP BY id");
    check("SELECT c.pt, p.amount FROM come AS c LEFT JOIN paid AS p ON c.id = p.id");
    check(
        "SELECT window_start, COUNT(*) AS n, NOW() AS at FROM TABLE(TUMBLE(TABLE come, DESCRIPTOR(pt), INTERVAL '1' HOUR)) \
           GROUP BY window_start, window_end",
    );
}

#[test]
fn random_values_of_rows_that_are_taken_back_are_refused() {
    for call in ["UUID()", "RAND()", "RAND_INTEGER(9)"] {
        check_error(
            &format!("{UPDATING}SELECT id, {call} AS r FROM paid"),
            5,
            1,
            "FIRST_VALUE, LAST_VALUE, ARRAY_AGG, LISTAGG, RAND and UUID follow the order of a source, and a table whose rows are \
             taken back has none",
            "use MIN or MAX",
        );
    }
}

#[test]
fn errors_say_what_and_where_and_how_to_fix_it() {
    check_error("SELECT acution FROM bid", 3, 8, "there is no column acution", "did you mean auction?");
    check_error("SELECT auction FROM bids", 3, 21, "there is no table or view bids", "did you mean bid?");
    check_error("SELECT UPER(channel) FROM bid", 3, 8, "there is no function UPER", "did you mean UPPER?");
    check_error("SELECT b.acution FROM bid AS b", 3, 8, "there is no column acution", "did you mean auction?");
    check_error(
        "SELECT auction, price, COUNT(*) FROM bid GROUP BY auction",
        3,
        17,
        "the column price in SELECT is neither in GROUP BY nor inside an aggregate function",
        "add price to GROUP BY",
    );
    check_error(
        "SELECT auction FROM bid WHERE COUNT(*) > 1",
        3,
        1,
        "WHERE is decided row by row and cannot hold an aggregate function",
        "HAVING",
    );
    check_error(
        "SELECT auction FROM bid UNION ALL SELECT auction, price FROM bid",
        3,
        1,
        "the queries of UNION have different numbers of columns",
        "as many",
    );
    check_error(
        "INSERT INTO out SELECT auction FROM bid",
        3,
        17,
        "the query gives 1 column, and out takes 2 columns",
        "a, b",
    );
    check_error(
        "INSERT INTO out SELECT channel, channel FROM bid",
        3,
        17,
        "column 1 of the query is STRING, and a of out is BIGINT",
        "CAST(... AS BIGINT)",
    );
    check_error(
        "INSERT INTO out (a) SELECT auction FROM bid",
        3,
        21,
        "the column b of out is NOT NULL and gets no value",
        "add b",
    );
    check_error(
        "INSERT INTO out (a, zz) SELECT auction, channel FROM bid",
        3,
        21,
        "there is no column zz in the table out",
        "it takes a, b",
    );
    check_error(
        "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '1' HOUR)) GROUP BY window_start, window_end",
        3,
        71,
        "price is BIGINT and no time: windows need a TIMESTAMP or TIMESTAMP_LTZ",
        "WATERMARK",
    );
    check_error(
        "CREATE VIEW v AS SELECT ts + INTERVAL '1' SECOND AS later FROM bid;\n\
         SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(later), INTERVAL '1' HOUR)) GROUP BY window_start, window_end",
        4,
        55,
        "later is no time attribute: nothing says how far it has moved on",
        "WATERMARK FOR later",
    );
    check_error("SELECT SUM(channel) FROM bid", 3, 1, "SUM takes one number, not (STRING)", "");
    check_error("SELECT SUM(COUNT(*)) FROM bid", 3, 1, "an aggregate function cannot be inside another", "subquery");
    check_error(
        "SELECT a.price FROM bid AS a NATURAL JOIN bid AS b",
        3,
        8,
        "there is no column a.price",
        "write price alone",
    );
    check_error(
        "SELECT * FROM bid WHERE price",
        3,
        1,
        "WHERE and HAVING take a condition, and this is BIGINT",
        "compare",
    );
    check_error("SET 'on-eror' = 'stop'", 3, 5, "SET has no option 'on-eror'", "did you mean 'on-error'?");
    check_error("CREATE TABLE bid (a INT) WITH ('connector' = 'x')", 3, 14, "bid exists already", "another name");
    check_error(
        "CREATE VIEW v AS SELECT 1 AS a; INSERT INTO v SELECT 1",
        3,
        45,
        "v is a view: rows cannot be inserted into it",
        "table",
    );
    check_error(
        "CREATE TABLE a (x INT) WITH ('connector' = 'datagen');\n\
         INSERT INTO out SELECT COUNT(*), FIRST_VALUE(b) FROM (SELECT x, CAST(COUNT(*) AS STRING) AS b FROM a GROUP BY x)",
        4,
        1,
        "FIRST_VALUE, LAST_VALUE, ARRAY_AGG, LISTAGG, RAND and UUID follow the order of a source, and an aggregate has none",
        "MIN or MAX",
    );
}

#[test]
fn the_public_nexmark_files_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/nexmark");
    let tables = fs::read_to_string(root.join("generator.sql")).expect("the tables are there");
    for number in (0..=23).filter(|number| *number != 13) {
        let query = format!("q{number}");
        let text = fs::read_to_string(root.join(format!("{query}.sql"))).expect("the query is there");
        let whole = format!("{tables}\n{text}");
        if let Err(error) = plan(&whole, PlanOptions::default()) {
            panic!("{query}: {}", render(&error, &query, &whole));
        }
    }
}

#[test]
fn joins_of_nexmark_that_say_when_forget() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/nexmark");
    for tables in ["generator.sql", "tables.sql"] {
        let tables = fs::read_to_string(root.join(tables)).expect("the tables are there");
        for (query, forgets) in
            [("q3", false), ("q4", true), ("q5", true), ("q7", true), ("q8", true), ("q20", false), ("q23", false)]
        {
            let text = fs::read_to_string(root.join(format!("{query}.sql"))).expect("the query is there");
            let pipeline = plan(&format!("{tables}\n{text}"), PlanOptions::default()).expect("it is planned");
            let shown = explain::text(&pipeline);
            assert!(shown.contains("Join ["), "{query}\n{shown}");
            assert_eq!(!shown.contains("warning: Join"), forgets, "{query}\n{shown}");
        }
    }
}

/// [`check_error`] with a versioned table: the text stands on the fourth line.
fn check_lookup_error(text: &str, column: u64, message: &str, help: &str) {
    let table = "CREATE TABLE side (k BIGINT, name STRING, since TIMESTAMP(3), PRIMARY KEY (k, name) NOT ENFORCED) \
                 WITH ('connector' = 'versioned');\n";
    check_error(&format!("{table}{text}"), 4, column, message, help);
}

#[test]
fn lookups_that_cannot_be_say_why() {
    let help =
        "FROM s JOIN side FOR SYSTEM_TIME AS OF PROCTIME() ON s.key = side.key; tidemill table show side prints it";
    let no_source = "side is a versioned table: rows are looked up in it, it is not read from end to end";
    check_lookup_error("SELECT * FROM side", 15, no_source, help);
    check_lookup_error("SELECT auction FROM bid UNION ALL SELECT k FROM side AS s", 49, no_source, help);
    check_lookup_error(
        "SELECT * FROM TABLE(TUMBLE(TABLE side, DESCRIPTOR(since), INTERVAL '1' HOUR))",
        1,
        no_source,
        help,
    );
    let no_sink = "rows of a pipeline cannot go into side, a versioned table";
    check_lookup_error(
        "INSERT INTO side SELECT auction, channel, 1.0 FROM bid",
        13,
        no_sink,
        "tidemill table insert side",
    );
    let join = |version: &str, on: &str| format!("SELECT auction FROM bid AS b JOIN {version} AS s ON {on}");
    let (now, whole) = ("side FOR SYSTEM_TIME AS OF PROCTIME()", "b.auction = s.k AND b.channel = s.name");
    check_lookup_error(
        &join(now, "b.auction < s.k AND s.name = s.name"),
        35,
        "rows are looked up by columns of the table side, and nothing of the left side is said to equal one",
        "write ON b.k = ..",
    );
    check_lookup_error(
        &format!(
            "SELECT b.auction, FIRST_VALUE(s.since) FROM bid AS b JOIN {now} AS s ON b.auction = s.k GROUP BY b.auction"
        ),
        1,
        "FIRST_VALUE, LAST_VALUE, ARRAY_AGG, LISTAGG, RAND and UUID follow the order of a source, and a lookup that may find \
         several rows has none",
        "use MIN or MAX",
    );
    let processing = "a versioned table is read as it is when a row comes";
    check_lookup_error(&join("side FOR SYSTEM_TIME AS OF b.ts", whole), 64, processing, "p AS PROCTIME()");
    let time = "rows are looked up as of a time that moves on with the rows";
    check_lookup_error(&join("side FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP", whole), 62, time, "p AS PROCTIME()");
    check_lookup_error(
        &join("side FOR SYSTEM_TIME AS OF b.never", whole),
        64,
        "there is no column b.never",
        "PROCTIME()",
    );
    check_lookup_error(
        &join("sidee FOR SYSTEM_TIME AS OF PROCTIME()", whole),
        35,
        "there is no table or view sidee",
        "did you mean side?",
    );
    check_lookup_error(
        &join(now, "b.auction = s.k AND b.auction = s.name"),
        101,
        "a text and a number cannot be compared: auction is BIGINT and name is STRING",
        "CAST one of them",
    );
    check_lookup_error(
        &format!(
            "SELECT b.n FROM (SELECT auction, channel, COUNT(*) AS n FROM bid GROUP BY auction, channel) AS b \
                  JOIN {now} AS s ON {whole}"
        ),
        103,
        "rows that may be taken back cannot be looked up in side",
        "join before rows are grouped",
    );
    check_lookup_error(
        &join("side /*+ OPTIONS('path' = '/x') */ FOR SYSTEM_TIME AS OF PROCTIME()", whole),
        40,
        "side is a versioned table and takes no options in a query",
        "in CREATE TABLE",
    );
    check_lookup_error(
        &join(now, "CAST(b.auction AS DOUBLE) = s.k AND b.channel = s.name"),
        35,
        "the key k is BIGINT, and CAST(auction AS DOUBLE) cannot be looked up in it as it is",
        "CAST(CAST(auction AS DOUBLE) AS BIGINT)",
    );
    check_lookup_error(
        &format!("SELECT TABLE_VERSION(s), COUNT(*) FROM bid AS b JOIN {now} AS s ON {whole} GROUP BY auction"),
        1,
        "TABLE_VERSION(s) is asked for where rows are grouped already",
        "GROUP BY TABLE_VERSION(s) too",
    );
}

#[test]
fn versioned_tables_that_cannot_be_say_why() {
    let check = |columns: &str, column: u64, message: &str, help: &str| {
        let text = format!("CREATE TABLE side ({columns}) WITH ('connector' = 'versioned')");
        check_error(&text, 3, column, message, help);
    };
    check("k BIGINT", 14, "the versioned table side has no primary key", "PRIMARY KEY (ip) NOT ENFORCED");
    let no = "which a column of a versioned table cannot be";
    check(
        "k BIGINT, tags ARRAY<STRING>, PRIMARY KEY (k) NOT ENFORCED",
        30,
        &format!("tags is ARRAY<STRING>, {no}"),
        "BOOLEAN",
    );
    check("k BIGINT, l AS k + 1, PRIMARY KEY (k) NOT ENFORCED", 30, &format!("l is computed, {no}"), "in the query");
    check("k BIGINT METADATA, PRIMARY KEY (k) NOT ENFORCED", 20, &format!("k is metadata, {no}"), "in the query");
    let watermark = "the versioned table side has no event time, and so no watermark";
    check("k TIMESTAMP(3), PRIMARY KEY (k) NOT ENFORCED, WATERMARK FOR k AS k", 66, watermark, "remove WATERMARK");
    let inexact = "k is no exact number, and the key of a versioned table has to be";
    check("k DOUBLE, PRIMARY KEY (k) NOT ENFORCED", 43, inexact, "DECIMAL");
    let text = "CREATE TABLE side (k BIGINT, PRIMARY KEY (k) NOT ENFORCED) PARTITIONED BY (k) WITH ('connector' = 'versioned')";
    check_error(text, 3, 76, "the versioned table side has no partitions", "remove PARTITIONED BY");
}

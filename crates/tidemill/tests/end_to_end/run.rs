//! Pipelines that come to an end.

use crate::command::{Ended, Folder};

/// Three orders as NDJSON, and the table that reads them.
pub const ORDERS: &str = "CREATE TABLE orders (id BIGINT, name STRING, price DOUBLE)
WITH ('connector' = 'filesystem', 'path' = 'orders.json', 'format' = 'json');
";

/// The orders.
pub const ORDERS_JSON: &str = "{\"id\": 1, \"name\": \"ant\", \"price\": 2.5}
{\"id\": 2, \"name\": \"bee\", \"price\": 4}
{\"id\": 3, \"name\": \"ant\", \"price\": 0.5}
";

fn orders(sql: &str) -> Folder {
    let folder = Folder::with(&format!("{ORDERS}{sql}"));
    folder.write("orders.json", ORDERS_JSON);
    folder
}

const BY_NAME: &str = "SELECT name, COUNT(*) AS n, SUM(price) AS total FROM orders GROUP BY name ORDER BY name;";

#[test]
fn prints_a_select_in_every_form() {
    let folder = orders(BY_NAME);
    let run = |form: &str| folder.run(&["run", "pipeline.sql", "-o", form]).printed();
    assert_eq!(run("ndjson"), "{\"name\":\"ant\",\"n\":2,\"total\":3.0}\n{\"name\":\"bee\",\"n\":1,\"total\":4.0}\n");
    assert_eq!(run("json"), "[{\"name\":\"ant\",\"n\":2,\"total\":3.0},{\"name\":\"bee\",\"n\":1,\"total\":4.0}]\n");
    assert_eq!(run("csv"), "name,n,total\nant,2,3.0\nbee,1,4.0\n");
    let text = run("text");
    assert!(text.starts_with("-- SELECT name, COUNT(*) AS n, SUM(price) AS total FROM orders"), "{text}");
    assert!(text.contains("ant  | 2 |"), "{text}");
    assert!(text.ends_with("(2 rows)\n"), "{text}");
}

#[test]
fn prints_selects_in_the_order_of_the_file() {
    let folder = orders("SELECT id FROM orders WHERE price > 1 ORDER BY id; SELECT COUNT(*) AS n FROM orders;");
    let printed = folder.run(&["run", "pipeline.sql", "-o", "ndjson"]).printed();
    assert_eq!(printed, "{\"id\":1}\n{\"id\":2}\n{\"n\":3}\n");
}

#[test]
fn reads_what_a_materialized_view_holds_at_the_end() {
    let folder = orders(
        "CREATE MATERIALIZED VIEW totals AS SELECT name, SUM(price) AS total FROM orders GROUP BY name;
         SELECT total FROM totals WHERE name = 'ant';",
    );
    assert_eq!(folder.run(&["run", "pipeline.sql", "-o", "ndjson"]).printed(), "{\"total\":3.0}\n");
}

#[test]
fn writes_files_whole() {
    for (format, expected) in [("json", "{\"id\":2,\"name\":\"bee\"}\n"), ("csv", "2,bee\n")] {
        let folder = orders(&format!(
            "CREATE TABLE out (id BIGINT, name STRING)
             WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = '{format}');
             INSERT INTO out SELECT id, name FROM orders WHERE name = 'bee';"
        ));
        assert_eq!(folder.run(&["run", "pipeline.sql"]).printed(), "");
        let files = folder.files("out");
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(files[0].1, expected);
    }
}

#[test]
fn lanes_do_not_change_the_answer() {
    let folder = Folder::with(
        "CREATE TABLE t (k BIGINT, v BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '20000',
             'rows-per-second' = '100000000', 'fields.k.min' = '0', 'fields.k.max' = '99', 'fields.v.min' = '0',
             'fields.v.max' = '1000');
         SELECT k, COUNT(*) AS n, SUM(v) AS s FROM t GROUP BY k ORDER BY k;",
    );
    let run = |lanes: &str| folder.run(&["run", "pipeline.sql", "-o", "csv", "--lanes", lanes]).printed();
    let one = run("1");
    assert_eq!(one.lines().count(), 101);
    assert_eq!(run("3"), one);
}

#[test]
fn the_same_run_twice_gives_the_same_bytes() {
    let folder = Folder::with(
        "CREATE TABLE n (event_type INT, bid ROW<auction BIGINT, price BIGINT>)
             WITH ('connector' = 'nexmark', 'events.num' = '30000');
         CREATE TABLE out (auction BIGINT, price BIGINT)
             WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT INTO out SELECT bid.auction, bid.price FROM n WHERE event_type = 2 AND bid.price > 1000000;",
    );
    let mut runs = Vec::new();
    for _ in 0..2 {
        folder.run(&["run", "pipeline.sql", "--lanes", "2"]).printed();
        runs.push(folder.files("out").into_iter().map(|(_, text)| text).collect::<Vec<_>>());
        std::fs::remove_dir_all(folder.path("out")).expect("the folder is ours");
    }
    assert!(runs[0].iter().any(|text| !text.is_empty()));
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn reads_standard_input() {
    let folder = Folder::with(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'stdin', 'format' = 'json');
         SELECT SUM(a) AS s FROM t;",
    );
    let ended = folder.run_with(&["run", "pipeline.sql", "-o", "ndjson"], "{\"a\": 1}\n{\"a\": 41}\n");
    assert_eq!(ended.printed(), "{\"s\":42}\n");
}

#[test]
fn rows_may_stand_in_the_file() {
    let folder = Folder::with("SELECT a + 1 AS b FROM (VALUES (1), (2)) AS t (a) ORDER BY b;");
    assert_eq!(folder.run(&["run", "pipeline.sql", "-o", "ndjson"]).printed(), "{\"b\":2}\n{\"b\":3}\n");
}

#[test]
fn counts_records_that_were_left_out() {
    let folder = Folder::with(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'filesystem', 'path' = 't.json', 'format' = 'json',
             'json.ignore-parse-errors' = 'true');
         CREATE TABLE bad (reason STRING, `row` STRING)
             WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'json');
         SET 'side-output.bad-records' = 'bad';
         SELECT SUM(a) AS s FROM t;",
    );
    folder.write("t.json", "{\"a\": 1}\nnonsense\n{\"a\": 2}\n");
    let ended = folder.run(&["run", "pipeline.sql", "-o", "ndjson"]);
    assert!(ended.stderr.contains("1 record could not be decoded"), "{ended:?}");
    assert_eq!(ended.printed(), "{\"s\":3}\n");
    let files = folder.files("bad");
    assert!(files.len() == 1 && files[0].1.contains("nonsense"), "{files:?}");
}

#[test]
fn explains_and_checks_without_running() {
    let folder = orders(BY_NAME);
    let check = folder.run(&["check", "pipeline.sql"]);
    assert_eq!((check.code, check.stdout.as_str()), (Some(0), ""), "{check:?}");
    assert!(check.stderr.contains("pipeline.sql: 1 table, 1 output"), "{check:?}");
    assert!(folder.run(&["explain", "pipeline.sql"]).printed().contains("Aggregate"));
    let json = folder.run(&["explain", "pipeline.sql", "-o", "json"]).printed();
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert!(json["operators"].as_array().is_some_and(|operators| operators.len() > 1), "{json}");
    assert!(folder.run(&["explain", "pipeline.sql", "-o", "mermaid"]).printed().starts_with("flowchart"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::with(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '200000',
             'rows-per-second' = '100000000');
         CREATE TABLE out (a BIGINT) WITH ('connector' = 'print', 'format' = 'json');
         INSERT INTO out SELECT a FROM t;",
    );
    let shell = format!("{} run pipeline.sql | head -n 1; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_tidemill"));
    let ended = std::process::Command::new("bash").args(["-c", &shell]).current_dir(folder.path("")).output();
    let ended = ended.expect("there is a bash");
    let (stdout, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    assert_eq!((stdout.lines().last(), stderr.as_ref()), (Some("0"), ""));
}

#[test]
fn the_example_of_joins_answers_what_the_readme_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = Folder::new();
    let output = folder.command(&["run", "examples/shop.sql"]).current_dir(&root).output();
    let printed = Ended::of(output.expect("the command runs")).printed();
    let readme = std::fs::read_to_string(root.join("README.md")).expect("it is kept");
    let (_, told) = readme.split_once("id | customer | carrier").expect("the README shows it");
    let (told, _) = told.split_once("(4 rows)").expect("all of it");
    assert!(printed.contains(told), "{printed}");
}

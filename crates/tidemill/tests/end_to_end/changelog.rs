//! What sinks are told of queries that update their rows.

use serde_json::json;

use crate::command::{Ended, Folder};
use crate::http::{get, request};
use crate::run::{ORDERS, ORDERS_JSON};

/// Orders that are created.
const CREATED: &str = r#"{"before":null,"after":{"id":1,"name":"ant","price":2},"op":"c"}
{"before":null,"after":{"id":2,"name":"bee","price":4},"op":"c"}
{"before":null,"after":{"id":3,"name":"ant","price":1},"op":"c"}
"#;

/// What happens to them later.
const LATER: &str = r#"{"before":{"id":1,"name":"ant","price":2},"after":{"id":1,"name":"ant","price":7},"op":"u"}
{"before":{"id":2,"name":"bee","price":4},"after":null,"op":"d"}
{"before":null,"after":{"id":4,"name":"cow","price":9},"op":"c"}
"#;

/// A pipeline over orders that writes `query` to `out`, a list of columns and options.
fn pipeline(out: &str, query: &str) -> Folder {
    Folder::with(&format!(
        "CREATE TABLE orders (id BIGINT, name STRING, price BIGINT)
             WITH ('connector' = 'http', 'format' = 'debezium-json');
         CREATE TABLE out {out};
         CREATE MATERIALIZED VIEW seen AS SELECT COUNT(*) AS n, MAX(id) AS last FROM orders;
         INSERT INTO out {query};"
    ))
}

/// Runs it over the orders as they are created, and then over what happens later, in steps of their own.
fn run(folder: &Folder) -> Ended {
    let mut running =
        folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "none", "--lanes", "2"]);
    let address = running.address();
    for (body, seen) in [(CREATED, json!([{"n": 3, "last": 3}])), (LATER, json!([{"n": 3, "last": 4}]))] {
        let (status, _, answer) = request(&address, "POST", "/v1/sources/orders", body);
        assert_eq!(status, 202, "{answer}");
        running.until("what was sent", |_, _| (get(&address, "/v1/views/seen") == seen).then_some(()));
    }
    running.signal("INT");
    let ended = running.end();
    ended.failed(130, &[]);
    ended
}

const BY_NAME: &str = "SELECT name, COUNT(*), SUM(price) FROM orders GROUP BY name";

/// Checks the lines of both steps; which key comes first within a step is not said.
fn check_lines(text: &str, first: &[&str], later: &[&str]) {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), first.len() + later.len(), "{text}");
    let (mut before, mut after) = (lines[..first.len()].to_vec(), lines[first.len()..].to_vec());
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!((before.as_slice(), after.as_slice()), (first, later));
}

/// The text of the only file of the sink.
fn only_file(folder: &Folder) -> String {
    let files = folder.files("out");
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn print_says_what_happens_to_each_row() {
    let folder = pipeline("(name STRING, n BIGINT, s BIGINT) WITH ('connector' = 'print', 'format' = 'json')", BY_NAME);
    let printed = run(&folder).stdout;
    let (before, after) = (r#"{"op":"-U","name":"ant","n":2,"s":3}"#, r#"{"op":"+U","name":"ant","n":2,"s":8}"#);
    check_lines(
        &printed,
        &[r#"{"op":"+I","name":"ant","n":2,"s":3}"#, r#"{"op":"+I","name":"bee","n":1,"s":4}"#],
        &[r#"{"op":"+I","name":"cow","n":1,"s":9}"#, after, r#"{"op":"-D","name":"bee","n":1,"s":4}"#, before],
    );
    assert!(
        printed.contains(&format!("{before}\n{after}\n")),
        "what goes stands before what takes its place: {printed}"
    );
}

#[test]
fn debezium_json_is_read_back_as_it_was_written() {
    let columns = "(name STRING, n BIGINT, s BIGINT)
             WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'debezium-json')";
    let folder = pipeline(columns, BY_NAME);
    run(&folder);
    check_lines(
        &only_file(&folder),
        &[
            r#"{"before":null,"after":{"name":"ant","n":2,"s":3},"op":"c"}"#,
            r#"{"before":null,"after":{"name":"bee","n":1,"s":4},"op":"c"}"#,
        ],
        &[
            r#"{"before":null,"after":{"name":"ant","n":2,"s":8},"op":"c"}"#,
            r#"{"before":null,"after":{"name":"cow","n":1,"s":9},"op":"c"}"#,
            r#"{"before":{"name":"ant","n":2,"s":3},"after":null,"op":"d"}"#,
            r#"{"before":{"name":"bee","n":1,"s":4},"after":null,"op":"d"}"#,
        ],
    );
    folder.write("back.sql", &format!("CREATE TABLE out {columns}; SELECT name, n, s FROM out ORDER BY name;"));
    assert_eq!(folder.run(&["run", "back.sql", "-o", "csv"]).printed(), "name,n,s\nant,2,8\ncow,1,9\n");
}

#[test]
fn a_primary_key_makes_upserts_of_json() {
    let folder = pipeline(
        "(name STRING, n BIGINT, s BIGINT, PRIMARY KEY (name) NOT ENFORCED)
             WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json')",
        BY_NAME,
    );
    run(&folder);
    check_lines(
        &only_file(&folder),
        &[r#"{"op":"+U","name":"ant","n":2,"s":3}"#, r#"{"op":"+U","name":"bee","n":1,"s":4}"#],
        &[
            r#"{"op":"+U","name":"ant","n":2,"s":8}"#,
            r#"{"op":"+U","name":"cow","n":1,"s":9}"#,
            r#"{"op":"-D","name":"bee"}"#,
        ],
    );
}

#[test]
fn a_key_that_does_not_name_one_row_is_refused() {
    let check = |table: &str, query: &str, parts: &[&str]| {
        let folder = pipeline(table, query);
        for verb in ["check", "run"] {
            folder.run(&[verb, "pipeline.sql"]).failed(3, parts);
        }
        assert!(folder.files("out").is_empty());
    };
    let json = "WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json')";
    check(
        &format!("(name STRING, n BIGINT, s BIGINT, PRIMARY KEY (n) NOT ENFORCED) {json}"),
        BY_NAME,
        &["error[TM6040]", "one row for each (n)", "PRIMARY KEY (name) NOT ENFORCED", "pipeline.sql:5:"],
    );
    check(
        &format!("(id BIGINT, price BIGINT, PRIMARY KEY (id) NOT ENFORCED) {json}"),
        "SELECT id, price FROM orders",
        &["error[TM6040]", "one row for each (id)", "group or rank the query by id", "debezium-json"],
    );
    check(
        &format!("(name STRING, n BIGINT, op BIGINT, PRIMARY KEY (name) NOT ENFORCED) {json}"),
        BY_NAME,
        &["error[TM3", "'op'", "another name"],
    );
}

#[test]
fn the_operator_that_takes_rows_back_is_named_with_its_place() {
    let folder = Folder::with(&format!(
        "{ORDERS}CREATE TABLE out (n BIGINT, names BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO out
SELECT n, COUNT(*) FROM (
  SELECT name, COUNT(*) AS n FROM orders GROUP BY name
) GROUP BY n;"
    ));
    folder.write("orders.json", ORDERS_JSON);
    let parts =
        ["error[TM6002]", "'out'", "Aggregate takes rows back", "pipeline.sql:", "PRIMARY KEY", "debezium-json"];
    folder.run(&["check", "pipeline.sql"]).failed(3, &parts);
}

#[test]
fn rows_that_only_come_are_plain_json_whatever_the_key() {
    let folder = Folder::with(&format!(
        "{ORDERS}CREATE TABLE out (id BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED)
             WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
         INSERT INTO out SELECT id, name FROM orders WHERE id > 1;"
    ));
    folder.write("orders.json", ORDERS_JSON);
    folder.run(&["run", "pipeline.sql"]).printed();
    assert_eq!(only_file(&folder), "{\"id\":2,\"name\":\"bee\"}\n{\"id\":3,\"name\":\"ant\"}\n");
}

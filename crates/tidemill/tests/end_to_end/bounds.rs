//! State that is bounded: by a time to live, and by a budget of bytes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{Folder, Running};
use crate::http::{get, request};

const CLICKS: &str = "CREATE TABLE clicks (id BIGINT, page STRING) WITH ('connector' = 'http');\n";

fn start(folder: &Folder) -> (Running, String) {
    let arguments = ["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--lanes", "2", "--state", "state"];
    let mut running = folder.start(&arguments);
    let address = running.address();
    (running, address)
}

fn post(address: &str, rows: impl Iterator<Item = (u32, &'static str)>) {
    let body: String = rows.map(|(id, page)| format!("{{\"id\": {id}, \"page\": \"{page}\"}}\n")).collect();
    let (status, _, answer) = request(address, "POST", "/v1/sources/clicks", &body);
    assert_eq!(status, 202, "{answer}");
}

/// The rows of a view with one page once its last click is `id`.
fn page(running: &mut Running, address: &str, view: &str, page: &str, id: u32) -> Value {
    running.until("the last click", |_, _| {
        let rows = get(address, &format!("/v1/views/{view}?key={page}"));
        rows.get(0).filter(|row| row["last"] == json!(id)).cloned()
    })
}

#[test]
fn a_group_that_has_not_changed_for_its_time_to_live_begins_anew() {
    let count = "SELECT page, COUNT(*) AS n, MAX(id) AS last FROM clicks GROUP BY page";
    let folder = Folder::with(&format!(
        "SET 'state.ttl' = '300 ms';
         {CLICKS}
         CREATE MATERIALIZED VIEW expiring AS {count};
         CREATE MATERIALIZED VIEW lasting WITH ('state.ttl' = '0') AS {count};
         CREATE TABLE printed (page STRING, n BIGINT, last BIGINT) WITH ('connector' = 'print', 'format' = 'json');
         INSERT INTO printed {count};"
    ));
    let explained = folder.run(&["explain", "pipeline.sql"]).printed();
    assert!(explained.contains("what has not changed for 300 ms of processing time is forgotten"), "{explained}");
    assert_eq!(explained.matches("nothing bounds it").count(), 1, "the view that lasts: {explained}");

    let (mut running, address) = start(&folder);
    post(&address, [(1, "a"), (2, "a")].into_iter());
    assert_eq!(page(&mut running, &address, "expiring", "a", 2)["n"], json!(2));
    std::thread::sleep(Duration::from_millis(320));
    post(&address, [(3, "a")].into_iter());
    assert_eq!(page(&mut running, &address, "expiring", "a", 3)["n"], json!(1));
    assert_eq!(page(&mut running, &address, "lasting", "a", 3)["n"], json!(3));
    running.signal("INT");
    let ended = running.end();
    ended.failed(130, &[]);
    let said = "{\"op\":\"+I\",\"page\":\"a\",\"n\":2,\"last\":2}\n{\"op\":\"+I\",\"page\":\"a\",\"n\":1,\"last\":3}\n";
    assert_eq!(ended.stdout, said, "what was said of the group before is not taken back");

    // It is forgotten by the time of steps, so that steps that are run again forget the same.
    let replayed = folder.run(&["replay", "state", "--verify"]);
    assert!(replayed.stderr.contains("gave what they gave"), "{replayed:?}");

    // When a group was last changed is known after a restart.
    let (mut running, address) = start(&folder);
    std::thread::sleep(Duration::from_millis(320));
    post(&address, [(4, "a")].into_iter());
    assert_eq!(page(&mut running, &address, "expiring", "a", 4)["n"], json!(1));
    assert_eq!(page(&mut running, &address, "lasting", "a", 4)["n"], json!(4));
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn a_pipeline_that_holds_too_much_stops_in_order_and_goes_on_with_a_larger_budget() {
    let sql = |budget: &str| {
        format!(
            "SET 'state.memory' = '{budget}';
{CLICKS}CREATE MATERIALIZED VIEW pages AS
SELECT page, COUNT(DISTINCT id) AS ids, MAX(id) AS last FROM clicks GROUP BY page;"
        )
    };
    let folder = Folder::with(&sql("128 KiB"));
    let (running, address) = start(&folder);
    let rows = (0..20_000).map(|id| (id, if id % 100 == 7 { "cold" } else { "hot" }));
    post(&address, rows.chain([(20_000, "last")]));
    let ended = running.end();
    let parts =
        ["error[TM6041]", "allows 128.0 KiB", "Aggregate", "{\"page\": \"hot\"}", "pipeline.sql:3:", "state.memory"];
    ended.failed(1, &parts);
    assert!(ended.stderr.find("\"hot\"") < ended.stderr.find("\"cold\""), "the largest key first: {}", ended.stderr);

    // A budget that is still too small stops it again, before it takes anything.
    let again =
        folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--lanes", "2", "--state", "state"]).end();
    again.failed(1, &["error[TM6041]"]);

    folder.write("pipeline.sql", &sql("64 MiB"));
    let (mut running, address) = start(&folder);
    page(&mut running, &address, "pages", "last", 20_000);
    assert_eq!(page(&mut running, &address, "pages", "hot", 19_999)["ids"], json!(19_800));
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn wrong_bounds_are_refused_with_their_place() {
    let check = |sql: &str, parts: &[&str]| Folder::with(sql).run(&["check", "pipeline.sql"]).failed(3, parts);
    check("SET 'state.ttl' = 'soon';", &["'soon'", "a duration", "pipeline.sql:1:"]);
    check("SET 'state.memory' = '0';", &["a size above 0", "pipeline.sql:1:"]);
    check("SET 'state.ttls' = '1 h';", &["did you mean 'state.ttl'?"]);
    let view =
        |options: &str| format!("{CLICKS}CREATE MATERIALIZED VIEW v\nWITH ({options}) AS SELECT page FROM clicks;");
    check(&view("'state.tll' = '1 h'"), &["did you mean 'state.ttl'?", "pipeline.sql:3:7"]);
    check(&view("'state.ttl' = 'x'"), &["a duration", "pipeline.sql:3:21"]);
}

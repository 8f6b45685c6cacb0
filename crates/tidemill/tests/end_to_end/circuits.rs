//! Endpoints beside everything else: circuits of their own over one journal, each recovered, checked and trimmed.

use serde_json::{Value, json};

use crate::command::{Folder, Running};
use crate::http::{get, request};

const TABLES: &str = "SET 'state.snapshot-interval' = '200 ms';
 SET 'journal.segment-size' = '1 MiB';
 CREATE TABLE clicks (id BIGINT, page STRING, seen AS PROCTIME()) WITH ('connector' = 'http');
 CREATE MATERIALIZED VIEW pages AS SELECT page, COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM clicks GROUP BY page;
";

const SCORE: &str = "CREATE ENDPOINT score (id BIGINT, page STRING) WITH ('record' = 'clicks', 'deadline' = '30 s') AS
   SELECT id, COUNT(*) OVER (PARTITION BY page ORDER BY seen ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n
   FROM clicks;
";

fn both() -> String {
    format!("{TABLES}{SCORE}")
}

fn start(folder: &Folder) -> (Running, String) {
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    let address = running.address();
    (running, address)
}

fn stop(running: Running) -> String {
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    ended.stderr
}

fn kill(running: Running) {
    running.signal("KILL");
    assert_eq!(running.end().code, None, "it was killed");
}

/// Events that nobody waits for.
fn post(address: &str, ids: std::ops::Range<u64>) {
    let body: String = ids.map(|id| format!("{{\"id\": {id}, \"page\": \"a\"}}\n")).collect();
    let (status, _, answer) = request(address, "POST", "/v1/sources/clicks", &body);
    assert_eq!(status, 202, "{answer}");
}

/// How many clicks of its page a request has seen, itself among them.
fn ask(address: &str, id: u64) -> u64 {
    let body = format!("{{\"id\": {id}, \"page\": \"a\"}}");
    let (status, _, answer) = request(address, "POST", "/v1/endpoints/score", &body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["rows"][0]["id"], answer["rows"].as_array().map(Vec::len)), (&json!(id), Some(1)), "{answer}");
    answer["rows"][0]["n"].as_u64().expect("a count")
}

fn count(address: &str) -> u64 {
    let rows = get(address, "/v1/views/pages");
    rows.as_array().expect("rows").iter().map(|row| row["n"].as_u64().expect("a count")).sum()
}

/// Runs all steps of both circuits again, and compares every version.
fn verified(folder: &Folder) {
    for circuit in ["main", "clicks"] {
        let replayed = folder.run(&["replay", "pipeline.state", "--verify", "--circuit", circuit]);
        assert!(replayed.stderr.contains("gave what they gave"), "{circuit}: {replayed:?}");
        replayed.printed();
    }
}

fn versions(folder: &Folder, circuit: &str) -> Vec<Value> {
    let listed = folder.run(&["versions", "ls", "pipeline.state", "--circuit", circuit, "-o", "json"]).printed();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    listed.as_array().expect("a list").clone()
}

#[test]
fn a_request_sees_every_event_before_it_and_itself_once() {
    let folder = Folder::with(&both());
    let (mut running, address) = start(&folder);
    let mut sent = 0;
    for round in 0..20 {
        post(&address, sent..sent + round);
        sent += round;
        assert_eq!(ask(&address, sent), sent + 1);
        sent += 1;
    }
    running.until("the view", |_, _| (count(&address) == sent).then_some(()));
    stop(running);
    verified(&folder);
    let inspected = folder.run(&["journal", "inspect", "pipeline.state", "1"]).printed();
    assert!(inspected.contains("'clicks' step 1: takes") && inspected.contains(" step 1: takes"), "{inspected}");
}

#[test]
fn both_circuits_go_on_after_kills_each_from_where_it_was() {
    let folder = Folder::with(&both());
    let mut sent = 0;
    for round in 0..5 {
        let (running, address) = start(&folder);
        for _ in 0..5 {
            post(&address, sent..sent + 7);
            sent += 7;
            assert_eq!(ask(&address, sent), sent + 1, "in round {round}");
            sent += 1;
        }
        kill(running);
    }
    let (mut running, address) = start(&folder);
    assert_eq!(ask(&address, sent), sent + 1);
    sent += 1;
    running.until("the view", |_, _| (count(&address) == sent).then_some(()));
    stop(running);
    verified(&folder);
    for circuit in ["main", "clicks"] {
        let listed = versions(&folder, circuit);
        assert!(!listed.is_empty(), "{circuit}");
    }
    // What is stopped in order goes on from its last version alone.
    let (running, address) = start(&folder);
    assert_eq!(ask(&address, sent), sent + 1);
    let said = stop(running);
    assert!(said.contains("circuit 'clicks'") && !said.contains("run again"), "{said}");
}

#[test]
fn an_endpoint_that_comes_later_takes_in_what_the_journal_has() {
    let folder = Folder::with(TABLES);
    let (running, address) = start(&folder);
    post(&address, 0..50);
    stop(running);
    folder.write("pipeline.sql", &both());
    let dry = folder.run(&["run", "pipeline.sql", "--dry-run", "--circuit", "score"]).printed();
    assert!(dry.contains("starts empty"), "{dry}");
    let (mut running, address) = start(&folder);
    assert_eq!(ask(&address, 50), 51, "it is as if it had always been there");
    running.until("the view", |_, _| (count(&address) == 51).then_some(()));
    stop(running);

    // Gone it leaves what it kept, and nobody minds.
    folder.write("pipeline.sql", TABLES);
    let (running, address) = start(&folder);
    post(&address, 51..60);
    let said = stop(running);
    assert!(said.contains("no endpoint takes requests into 'clicks' any more"), "{said}");
    assert!(!versions(&folder, "clicks").is_empty());
    let refused = folder.run(&["versions", "ls", "pipeline.state", "--circuit", "scores"]);
    refused.failed(3, &["TM6030", "'main', 'clicks'"]);

    // Back again, and with another beside it, it goes on where it was.
    folder
        .write("pipeline.sql", &format!("{}{}", both(), SCORE.replace("score", "other").replace("AS n", "AS others")));
    let (running, address) = start(&folder);
    assert_eq!(ask(&address, 60), 61);
    let said = stop(running);
    assert!(said.contains("circuit 'clicks'") && !said.contains("(new)"), "{said}");
}

#[test]
fn endpoints_alone_need_no_other_circuit() {
    let folder =
        Folder::with("CREATE ENDPOINT twice (a BIGINT) WITH ('deadline' = '30 s') AS SELECT a * 2 AS b FROM request;");
    let (running, address) = start(&folder);
    for a in 0..10 {
        let (status, _, answer) = request(&address, "POST", "/v1/endpoints/twice", &format!("{{\"a\": {a}}}"));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["rows"]), (200, &json!([{ "b": a * 2 }])), "{answer}");
    }
    stop(running);
    let refused = folder.run(&["run", "pipeline.sql", "--record", "run.log", "--listen", "127.0.0.1:0"]);
    refused.failed(3, &["TM6031", "'twice'"]);
}

#[test]
fn a_circuit_that_sleeps_does_not_keep_the_journal_from_being_trimmed() {
    let quiet = "SET 'journal.retain-size' = '1 MiB'; SET 'journal.retain-time' = '1 s'; SET 'journal.quota' = '8 MiB';
     CREATE ENDPOINT twice (a BIGINT) WITH ('deadline' = '30 s') AS SELECT a * 2 AS b FROM request;";
    let folder = Folder::with(&format!("{TABLES}{quiet}"));
    let (mut running, address) = start(&folder);
    let asked = |a: u64| request(&address, "POST", "/v1/endpoints/twice", &format!("{{\"a\": {a}}}")).0;
    assert_eq!(asked(1), 200);
    // Several times the quota, never more at once than the journal holds.
    let page = "x".repeat(2_000);
    let mut sent = 0;
    while sent < 12_000 {
        let body: String = (sent..sent + 400).map(|id| format!("{{\"id\": {id}, \"page\": \"{page}\"}}\n")).collect();
        let taken = running.until("room in the journal", |_, _| {
            let (status, _, answer) = request(&address, "POST", "/v1/sources/clicks", &body);
            assert!(matches!(status, 202 | 429), "{answer}");
            (status == 202).then_some(400)
        });
        sent += taken;
        running.until("the view", |_, _| (count(&address) == sent).then_some(()));
    }
    assert_eq!(asked(2), 200);
    stop(running);
    let (running, address) = start(&folder);
    assert_eq!(count(&address), sent);
    assert_eq!(request(&address, "POST", "/v1/endpoints/twice", "{\"a\": 3}").0, 200);
    stop(running);
}

//! Versioned tables: edited by the command and over HTTP, and looked up in by pipelines that run.

use serde_json::{Value, json};

use crate::command::{Folder, Running};
use crate::http::{get, request};

const JUDGED: &str = "SET 'state.snapshot-interval' = '1 h';
 CREATE TABLE payments (id BIGINT, ip STRING) WITH ('connector' = 'http');
 CREATE TABLE blocklist (ip STRING, reason STRING, score INT, PRIMARY KEY (ip) NOT ENFORCED)
   WITH ('connector' = 'versioned');
 CREATE MATERIALIZED VIEW judged AS
 SELECT p.id, p.ip, b.reason, TABLE_VERSION(b) AS version
 FROM payments AS p LEFT JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON p.ip = b.ip;
";

const VERSIONS: &str = "/v1/tables/blocklist/versions";

/// A folder with the pipeline and its table, made by the command.
fn judged() -> Folder {
    let folder = Folder::with(JUDGED);
    let columns = "ip STRING, reason STRING, score INT";
    let made = table(&folder, "create", &["--columns", columns, "--key", "ip", "--merge", "score=max"]);
    assert_eq!(made, "table 'blocklist' at version 0-0-0, 0 rows\n");
    folder
}

fn table(folder: &Folder, verb: &str, arguments: &[&str]) -> String {
    let mut all = vec!["table", verb, "pipeline.state", "blocklist"];
    all.extend(arguments);
    folder.run(&all).printed()
}

/// Runs a change by the command, and gives its version.
fn change(folder: &Folder, verb: &str, arguments: &[&str]) -> String {
    let answer = table(folder, verb, &[arguments, &["-o", "json"]].concat());
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["version"].as_str().expect("a version").to_string()
}

fn start(folder: &Folder) -> (Running, String) {
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--lanes", "2"]);
    let address = running.address();
    (running, address)
}

/// Posts JSON: the status, and the answer.
fn post(address: &str, target: &str, body: &Value) -> (u16, Value) {
    let (status, _, answer) = request(address, "POST", target, &body.to_string());
    (status, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// Pays, and waits for what was said of it.
fn pay(running: &mut Running, address: &str, id: u64, ip: &str) -> (Value, Value) {
    assert_eq!(post(address, "/v1/sources/payments", &json!({"id": id, "ip": ip})).0, 202);
    running.until("the payment", |_, _| {
        let row = rows(address).into_iter().find(|row| row["id"] == json!(id))?;
        Some((row["reason"].clone(), row["version"].clone()))
    })
}

fn rows(address: &str) -> Vec<Value> {
    let mut rows = get(address, "/v1/views/judged").as_array().expect("rows").clone();
    rows.sort_by_key(|row| row["id"].as_u64());
    rows
}

fn stop(running: Running) {
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn a_running_pipeline_answers_with_the_version_it_read() {
    let folder = judged();
    let first = change(&folder, "insert", &["ip=6.6.6.6", "reason=fraud", "-m", "seen yesterday"]);
    let (mut running, address) = start(&folder);
    assert_eq!(pay(&mut running, &address, 1, "6.6.6.6"), (json!("fraud"), json!(first)));
    assert_eq!(pay(&mut running, &address, 2, "1.1.1.1"), (Value::Null, json!(first)));
    // What comes in through this door is read by the next step.
    let body = json!({"deps": [first], "puts": [{"ip": "1.1.1.1", "reason": "spam", "score": 3}],
                      "deletes": [{"ip": "6.6.6.6"}], "author": "ann", "message": "swapped"});
    let (status, answer) = post(&address, VERSIONS, &body);
    assert_eq!((status, &answer["merged"]), (201, &json!(false)), "{answer}");
    let second = answer["version"].clone();
    assert_eq!(pay(&mut running, &address, 3, "6.6.6.6"), (Value::Null, second.clone()));
    assert_eq!(pay(&mut running, &address, 4, "1.1.1.1"), (json!("spam"), second.clone()));
    // What another process writes is read soon after.
    let third = change(&folder, "insert", &["ip=2.2.2.2", "reason=bot"]);
    running.until("the other's edit", |_, _| {
        let newest = request(&address, "GET", "/v1/tables/blocklist/at/newest?key=2.2.2.2", "");
        newest.1.contains(&third).then_some(())
    });
    running.until("a step that reads it", |_, _| {
        let id = rows(&address).len() as u64 + 1;
        assert_eq!(post(&address, "/v1/sources/payments", &json!({"id": id, "ip": "2.2.2.2"})).0, 202);
        rows(&address).iter().any(|row| row["version"] == json!(third) && row["reason"] == json!("bot")).then_some(())
    });
    let log: Value = serde_json::from_str(&table(&folder, "log", &["-o", "json"])).expect("JSON");
    let told: Vec<_> = log.as_array().expect("a list").iter().map(|one| (&one["version"], &one["message"])).collect();
    assert_eq!(told[..2], [(&json!(third), &json!("")), (&second, &json!("swapped"))]);
    stop(running);
}

#[test]
fn a_restart_after_a_kill_gives_the_rows_that_were_given() {
    let folder = judged();
    change(&folder, "insert", &["ip=a", "reason=one"]);
    let (mut running, address) = start(&folder);
    for round in 0..4_u64 {
        for id in 0..5 {
            pay(&mut running, &address, round * 10 + id, ["a", "b"][id as usize % 2]);
        }
        let body = json!({"puts": [{"ip": "a", "reason": format!("round {round}")}, {"ip": "b", "reason": "new"}]});
        assert_eq!(post(&address, VERSIONS, &body).0, 201);
    }
    let before = rows(&address);
    let versions: std::collections::BTreeSet<String> = before.iter().map(|row| row["version"].to_string()).collect();
    assert_eq!(versions.len(), 4, "each round read a version of its own");
    running.signal("KILL");
    assert_eq!(running.end().code, None, "it was killed");
    // The table has gone on since.
    change(&folder, "delete", &["a"]);
    let newest = change(&folder, "insert", &["--json", r#"[{"ip": "b", "reason": "later", "score": 1}]"#]);
    let (mut running, address) = start(&folder);
    running.until("what was there", |_, _| (rows(&address).len() == before.len()).then_some(()));
    assert_eq!(rows(&address), before);
    assert_eq!(pay(&mut running, &address, 99, "b"), (json!("later"), json!(newest)));
    stop(running);
    let (running, address) = start(&folder);
    assert_eq!(rows(&address)[..before.len()], before);
    assert!(get_plain(&address, "/v1/versions").as_array().is_some_and(|versions| !versions.is_empty()));
    assert!(get_plain(&address, "/v1/versions/newest")["sources"].is_array());
    assert!(get_plain(&address, "/v1/versions/diff/newest..newest")["records"].is_object());
    stop(running);
}

fn get_plain(address: &str, target: &str) -> Value {
    let (status, _, body) = request(address, "GET", target, "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

#[test]
fn a_recorded_run_is_replayed_with_the_versions_it_read() {
    let folder = judged();
    let columns = "ip STRING, reason STRING, score INT";
    folder.run(&["table", "create", "rules", "blocklist", "--columns", columns, "--key", "ip"]).printed();
    folder.run(&["table", "insert", "rules", "blocklist", "ip=a", "reason=then"]).printed();
    let sql = "CREATE TABLE payments (id BIGINT, ip STRING)
         WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json');
        CREATE TABLE blocklist (ip STRING, reason STRING, score INT, PRIMARY KEY (ip) NOT ENFORCED)
         WITH ('connector' = 'versioned', 'path' = 'rules');
        SELECT p.id, b.reason FROM payments AS p JOIN blocklist FOR SYSTEM_TIME AS OF PROCTIME() AS b ON p.ip = b.ip;";
    folder.write("pipeline.sql", sql);
    folder.write("in.json", "{\"id\": 1, \"ip\": \"a\"}\n{\"id\": 2, \"ip\": \"b\"}\n");
    let printed = folder.run(&["run", "pipeline.sql", "-o", "csv", "--record", "run.record"]).printed();
    assert_eq!(printed, "id,reason\n1,then\n");
    folder.run(&["table", "insert", "rules", "blocklist", "ip=a", "reason=now"]).printed();
    let replayed = folder.run(&["replay", "run.record"]);
    assert!(replayed.stderr.contains("gave what they gave"), "{replayed:?}");
    replayed.printed();
    assert_eq!(folder.run(&["run", "pipeline.sql", "-o", "csv"]).printed(), "id,reason\n1,now\n");
}

#[test]
fn a_change_that_does_not_go_with_others_is_a_409() {
    let folder = judged();
    let first = change(&folder, "insert", &["ip=a", "reason=x", "score=1"]);
    let (running, address) = start(&folder);
    let second = post(&address, VERSIONS, &json!({"puts": [{"ip": "b"}]})).1["version"].clone();
    let third = post(&address, VERSIONS, &json!({"puts": [{"ip": "c", "reason": "z"}]})).1["version"].clone();
    let refused = |body: Value, code: &str, reason: &str| {
        let (status, problem) = post(&address, VERSIONS, &body);
        assert_eq!((status, &problem["code"], &problem["reason"]), (409, &json!(code), &json!(reason)), "{problem}");
        problem
    };
    let stale = refused(json!({"deps": [first], "puts": [{"ip": "d"}]}), "TM1213", "Stale");
    assert_eq!((&stale["head"], &stale["deps"]), (&third, &json!([first])));
    let merged = post(&address, VERSIONS, &json!({"deps": [first], "puts": [{"ip": "d"}], "merge": true}));
    assert_eq!((merged.0, &merged.1["merged"]), (201, &json!(true)), "{merged:?}");
    let overlap =
        refused(json!({"deps": [second], "puts": [{"ip": "c", "reason": "y"}], "merge": true}), "TM1212", "Overlap");
    assert_eq!(overlap["keys"][0]["key"], json!({"ip": "c"}));
    assert_eq!(
        (&overlap["keys"][0]["head"]["reason"], &overlap["keys"][0]["submitted"]["reason"]),
        (&json!("z"), &json!("y"))
    );
    let unreachable = refused(json!({"deps": ["900-1-1"], "puts": [{"ip": "e"}]}), "TM1211", "Unreachable");
    assert_eq!(unreachable["missing"], json!(["900-1-1"]));
    assert_eq!(post(&address, VERSIONS, &json!({"epoch": 2, "puts": [{"ip": "f"}]})).0, 201);
    refused(json!({"epoch": 1, "puts": [{"ip": "g"}]}), "TM1210", "Fenced");
    // What is wrong in itself is a 400, what is not there a 404.
    let wrong = |body: Value, status: u16, code: &str| {
        let (found, problem) = post(&address, VERSIONS, &body);
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{problem}");
    };
    wrong(json!({"epoch": 2, "puts": [{"ip": "a", "score": "many"}]}), 400, "TM1203");
    wrong(json!({"epoch": 2, "puts": [{"ip": "a", "scor": 1}]}), 400, "TM1204");
    wrong(json!({"put": []}), 400, "TM6028");
    let (status, _, body) = request(&address, "GET", "/v1/tables/blocklist/at/77-1-1", "");
    assert!(status == 404 && body.contains("TM1209"), "{body}");
    stop(running);
}

#[test]
fn a_change_waits_for_a_version_that_another_is_writing() {
    let folder = judged();
    let (running, address) = start(&folder);
    let sent = json!({"deps": ["1-9-9"], "puts": [{"ip": "b"}]});
    let waiting = {
        let address = address.clone();
        std::thread::spawn(move || post(&address, VERSIONS, &sent))
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = json!({"version": "1-9-9", "deps": [], "puts": [{"ip": "a"}]});
    assert_eq!(post(&address, VERSIONS, &first).0, 201);
    let (status, answer) = waiting.join().expect("it only asks");
    assert_eq!((status, &answer["merged"]), (201, &json!(false)), "{answer}");
    stop(running);
}

#[test]
fn the_command_edits_compares_and_takes_back() {
    let folder = judged();
    folder.write("rows.csv", "score,ip,reason\n3,a,\"old, bad\"\n,b,\n");
    assert!(table(&folder, "import", &["rows.csv", "-m", "from ops"]).contains(": 2 rows put"));
    let first = change(&folder, "insert", &["ip=c", "reason=", "score=5"]);
    assert_eq!(table(&folder, "show", &["-o", "csv"]), "ip,reason,score\na,\"old, bad\",3\nb,,\nc,,5\n");
    let second = change(&folder, "delete", &["a"]);
    let diff: Value =
        serde_json::from_str(&table(&folder, "diff", &[&format!("{first}..newest"), "-o", "json"])).expect("JSON");
    let expected =
        json!([{"key": {"ip": "a"}, "before": {"ip": "a", "reason": "old, bad", "score": 3}, "after": null}]);
    assert_eq!((&diff["to"], &diff["changes"]), (&json!(second), &expected));
    let dry = table(&folder, "rollback", &[&first, "--dry-run"]);
    assert!(dry.contains("nothing was changed") && dry.contains("old, bad"), "{dry}");
    assert_eq!(table(&folder, "show", &["-o", "csv"]), "ip,reason,score\nb,,\nc,,5\n");
    table(&folder, "rollback", &[&first]);
    assert_eq!(table(&folder, "show", &["-o", "csv"]), table(&folder, "show", &["--at", &first, "-o", "csv"]));
    assert!(table(&folder, "merge", &[&second]).contains(&format!("version {second} merged")));
    assert_eq!(table(&folder, "show", &["-o", "ndjson"]).lines().count(), 2);
    let ls = folder.run(&["table", "ls", "pipeline.state"]).printed();
    assert!(ls.contains("blocklist") && ls.contains("ip STRING, reason STRING, score INT"), "{ls}");
    let log = table(&folder, "log", &[]);
    assert!(log.contains("from ops") && log.contains(&format!("rollback to {first}")), "{log}");
}

#[test]
fn the_command_says_why_not() {
    let folder = judged();
    let first = change(&folder, "insert", &["ip=a", "reason=x"]);
    change(&folder, "insert", &["ip=a", "reason=y"]);
    change(&folder, "insert", &["ip=b"]);
    let run = |arguments: &[&str]| folder.run(&[&["table"], arguments].concat());
    let on = ["insert", "pipeline.state", "blocklist", "ip=a", "reason=z", "--on", &first];
    run(&on).failed(1, &["TM1213", &first, "head"]);
    run(&[&on[..], &["--merge"]].concat()).failed(1, &["TM1212", "key {\"ip\":\"a\"}", "\"y\"", "\"z\""]);
    run(&["show", "nowhere", "blocklist"]).failed(3, &["TM6026", "'nowhere'"]);
    assert!(!folder.path("nowhere").exists());
    run(&["show", "pipeline.state", "blocklst"]).failed(3, &["TM1208", "blocklst"]);
    run(&["show", "pipeline.state", "blocklist", "--at", "9-9-9"]).failed(1, &["TM1209", "table log"]);
    run(&["insert", "pipeline.state", "blocklist", "ip"]).failed(2, &["COLUMN=VALUE"]);
    run(&["insert", "pipeline.state", "blocklist", "ip=a", "score=many"]).failed(1, &["TM1203", "'score' wants INT"]);
    run(&["delete", "pipeline.state", "blocklist", "a", "b"]).failed(1, &["TM6027", "1 columns, not 2"]);
    run(&["create", "pipeline.state", "blocklist", "--columns", "ip STRING", "--key", "ip"]).failed(3, &["TM1202"]);
    run(&["create", "pipeline.state", "t", "--columns", "ip TEXT", "--key", "ip"]).failed(1, &["TM6024", "'TEXT'"]);
}

#[test]
fn old_versions_are_forgotten_when_that_is_asked_for() {
    let folder = judged();
    let versions: Vec<String> = (0..5).map(|at| change(&folder, "insert", &[&format!("ip={at}")])).collect();
    assert_eq!(
        table(&folder, "prune", &[&versions[2], "--dry-run"]),
        "3 versions would be forgotten; nothing was changed\n"
    );
    assert!(table(&folder, "log", &[]).contains(&versions[0]));
    let said = format!("3 versions forgotten, 3 kept from {} on\n", versions[2]);
    assert_eq!(table(&folder, "prune", &[&versions[2]]), said);
    let log = table(&folder, "log", &[]);
    let named = |version: &String| log.lines().any(|line| line.starts_with(version.as_str()));
    assert!(named(&versions[2]) && !named(&versions[1]), "{log}");
    let run = |arguments: &[&str]| folder.run(&[&["table"], arguments].concat());
    run(&["show", "pipeline.state", "blocklist", "--at", &versions[0]]).failed(1, &["TM1214", &versions[2]]);
    run(&["prune", "pipeline.state", "blocklist", &versions[0]]).failed(1, &["TM1214"]);
    let nothing = table(&folder, "prune", &[&versions[2], "-o", "json"]);
    let nothing: Value = serde_json::from_str(&nothing).expect("JSON");
    assert_eq!(nothing, json!({"oldest": versions[2], "forgotten": 0, "kept": 3}));
    let (mut running, address) = start(&folder);
    assert_eq!(pay(&mut running, &address, 1, "0").1, json!(versions[4]));
    stop(running);
}

#[test]
fn a_bucket_is_reached_as_is_said() {
    let folder = Folder::new();
    let reach = ["--s3", "endpoint=http://127.0.0.1:9", "--s3", "region=eu-1"];
    let ls = |rest: &[&str]| folder.run(&[&["table", "ls", "s3://rules/all"], rest].concat());
    ls(&reach).failed(3, &["TM1235", "s3.allow-http"]);
    ls(&["--s3", "endpiont=x"]).failed(2, &["'endpiont'", "did you mean 'endpoint'?"]);
    let versions = ["versions", "ls", "p.state", "--store", "s3://bucket/all"];
    folder.run(&[&versions[..], &reach].concat()).failed(3, &["TM1235", "s3.allow-http"]);
}

#[test]
fn a_declared_table_is_as_it_is_declared() {
    let elsewhere = JUDGED.replace("'versioned')", "'versioned', 'path' = 'rules')");
    assert_ne!(elsewhere, JUDGED);
    let folder = Folder::with(&elsewhere);
    let run = || folder.run(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    let missing = run();
    missing.failed(3, &["TM6020", "'blocklist'", "pipeline.sql:3:", "help: make it: tidemill table create"]);
    let command = missing.stderr.split("make it: ").nth(1).and_then(|rest| rest.lines().next()).expect("a command");
    let words: Vec<&str> = command.split('"').collect();
    let [before, columns, after] = words[..] else { panic!("{command}") };
    let mut arguments: Vec<&str> = before.split_whitespace().skip(1).collect();
    arguments.push(columns);
    arguments.extend(after.split_whitespace());
    folder.run(&arguments).printed();
    let (running, _) = start(&folder);
    stop(running);
    folder.write("pipeline.sql", JUDGED);
    let (running, _) = start(&folder);
    stop(running);
    let made = folder.run(&["table", "log", "pipeline.state", "blocklist"]).printed();
    assert!(made.contains("0-0-0"), "what is kept with the pipeline's state is made when it is not there: {made}");
    folder.write("pipeline.sql", &JUDGED.replace("score INT", "score BIGINT"));
    run().failed(3, &["TM6021", "column 'score' INT, not 'score' BIGINT", "declare it as it is"]);
    folder.write("pipeline.sql", &JUDGED.replace("'versioned')", "'versioned', 'pth' = 'x')"));
    run().failed(3, &["TM6023", "'pth'"]);
    folder.write("pipeline.sql", JUDGED);
    folder.run(&["run", "pipeline.sql", "--state", "none"]).failed(3, &["TM6023", "'path'", "--state"]);
    assert_eq!(folder.run(&["check", "pipeline.sql"]).code, Some(0), "a check opens nothing");
}

//! Pipelines that keep state: stopped, killed, changed, taken back, and damaged.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{Folder, Running};
use crate::http::{get, request};

const CLICKS: &str = "SET 'state.snapshot-interval' = '200 ms';
 SET 'journal.segment-size' = '1 MiB';
 CREATE TABLE clicks (id BIGINT, page STRING) WITH ('connector' = 'http');
 CREATE TABLE out (id BIGINT, page STRING) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
 CREATE MATERIALIZED VIEW pages AS SELECT page, COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM clicks GROUP BY page;
 INSERT INTO out SELECT id, page FROM clicks;
";

/// Starts the pipeline and waits for its door.
fn start(folder: &Folder, lanes: &str) -> (Running, String) {
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--lanes", lanes]);
    let address = running.address();
    (running, address)
}

fn post(address: &str, ids: std::ops::Range<u32>) -> Value {
    let body: String = ids.map(|id| format!("{{\"id\": {id}, \"page\": \"p{}\"}}\n", id % 7)).collect();
    let (status, _, answer) = request(address, "POST", "/v1/sources/clicks", &body);
    assert_eq!(status, 202, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// The sum of a column of the view.
fn total(address: &str, column: &str) -> u64 {
    let rows = get(address, "/v1/views/pages");
    rows.as_array().expect("rows").iter().map(|row| row[column].as_u64().expect("a count")).sum()
}

/// Kills the command as a machine would.
fn kill(running: Running) {
    running.signal("KILL");
    assert_eq!(running.end().code, None, "it was killed");
}

/// The ids in the files that are shown.
fn shown(folder: &Folder) -> Vec<u32> {
    let mut ids: Vec<u32> = folder
        .files("out")
        .iter()
        .filter(|(name, _)| !name.ends_with(".tmp"))
        .flat_map(|(_, text)| {
            text.lines().map(|line| line.split(',').next().expect("a column").to_string()).collect::<Vec<_>>()
        })
        .map(|id| id.parse().expect("an id"))
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn what_was_acknowledged_is_there_once_after_kills() {
    let folder = Folder::with(CLICKS);
    let mut sent = 0;
    for round in 0..6_u32 {
        let (mut running, address) = start(&folder, ["1", "2", "3"][round as usize % 3]);
        running.until("what came before", |_, _| (total(&address, "n") == u64::from(sent)).then_some(()));
        for _ in 0..10 {
            let answer = post(&address, sent..sent + 20);
            assert_eq!((&answer["durability"], &answer["offset"]), (&json!("flushed"), &json!(sent)));
            sent += 20;
        }
        kill(running);
    }
    let (mut running, address) = start(&folder, "2");
    running.until("everything", |_, _| (total(&address, "n") == u64::from(sent)).then_some(()));
    assert_eq!(total(&address, "ids"), u64::from(sent), "nothing was counted twice");
    running.signal("INT");
    running.end().failed(130, &[]);
    assert_eq!(shown(&folder), (0..sent).collect::<Vec<_>>());
    assert!(folder.files("out").iter().all(|(name, _)| !name.ends_with(".tmp")), "nothing unfinished is left");
    let replayed = folder.run(&["replay", "pipeline.state", "--verify"]);
    assert!(replayed.stderr.contains("gave what they gave"), "{replayed:?}");
    replayed.printed();
}

#[test]
fn a_stop_in_order_leaves_nothing_to_run_again() {
    let folder = Folder::with(CLICKS);
    let (running, address) = start(&folder, "2");
    post(&address, 0..100);
    running.signal("INT");
    running.end().failed(130, &[]);
    assert_eq!(shown(&folder).len(), 100);
    let (running, address) = start(&folder, "2");
    assert_eq!(total(&address, "n"), 100, "the view is there before anything runs");
    running.signal("INT");
    let ended = running.end();
    assert!(ended.stderr.contains("at step") && !ended.stderr.contains("run again"), "{}", ended.stderr);
}

#[test]
fn a_request_says_what_it_wants_to_survive() {
    let folder = Folder::with(CLICKS);
    let (running, address) = start(&folder, "1");
    let body = "{\"id\": 1, \"page\": \"a\"}";
    let level = |target: &str| {
        let (status, _, answer) = request(&address, "POST", target, body);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        (status, answer["durability"].clone())
    };
    assert_eq!(level("/v1/sources/clicks?durability=process"), (202, json!("process")));
    assert_eq!(level("/v1/sources/clicks?durability=flushed"), (202, json!("flushed")));
    running.signal("INT");
    drop(running.end());
    let (running, address) = {
        let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "none"]);
        let address = running.address();
        (running, address)
    };
    let (status, _, answer) = request(&address, "POST", "/v1/sources/clicks", body);
    assert_eq!((status, answer.contains("\"memory\"")), (202, true), "{answer}");
    let (status, _, answer) = request(&address, "POST", "/v1/sources/clicks?durability=flushed", body);
    assert_eq!((status, answer.contains("no journal")), (400, true), "{answer}");
    running.signal("INT");
    drop(running.end());
}

/// A pipeline over files, slow enough to be killed in the middle.
fn files(folder: &Folder, count: u32) {
    for file in 0..count {
        let text: String = (0..20_000).map(|row| format!("{{\"id\": {}}}\n", u64::from(file) * 20_000 + row)).collect();
        folder.write(&format!("in/{file:02}.json"), &text);
    }
}

const FILES: &str = "SET 'state.path' = 'kept';
 SET 'state.snapshot-size' = '200 kB';
 SET 'journal.segment-size' = '1 MiB';
 CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json' FOLLOW);
 CREATE TABLE out (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
 INSERT INTO out SELECT id FROM numbers;
 SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids, SUM(id) AS total FROM numbers;
";

#[test]
fn files_are_read_once_through_kills() {
    let folder = Folder::with(&FILES.replace(" FOLLOW", ""));
    files(&folder, 10);
    for _ in 0..5 {
        let mut running = folder.start(&["run", "pipeline.sql", "-o", "csv"]);
        // Killed as soon as something is shown, or when it has ended by itself.
        let before = shown(&folder).len();
        let mut waited = 0;
        while shown(&folder).len() == before && waited < 200 && running.is_running() {
            std::thread::sleep(std::time::Duration::from_millis(5));
            waited += 1;
        }
        if running.is_running() {
            running.signal("KILL");
        }
        drop(running.end());
    }
    let expected = "n,ids,total\n200000,200000,19999900000\n";
    assert_eq!(folder.run(&["run", "pipeline.sql", "-o", "csv"]).printed(), expected);
    assert_eq!(shown(&folder), (0..200_000).collect::<Vec<_>>());
    assert_eq!(folder.run(&["run", "pipeline.sql", "-o", "csv"]).printed(), expected, "it stays at its end");
    assert_eq!(shown(&folder).len(), 200_000);
}

#[test]
fn new_files_are_followed_through_kills() {
    let folder = Folder::with(
        &FILES.replace(" FOLLOW", ", 'source.monitor-interval' = '20 ms'").replace("SELECT COUNT", "-- SELECT COUNT"),
    );
    fs::create_dir(folder.path("in")).expect("the folder is ours");
    let text = |file: u32| (0..50).map(|row| format!("{{\"id\": {}}}\n", file * 50 + row)).collect::<String>();
    for round in 0..4 {
        folder.write(&format!("in/{round}.json"), &text(round));
        let mut running = folder.start(&["run", "pipeline.sql"]);
        if round % 2 == 0 {
            running.until("the file", |_, _| {
                (fs::read_dir(folder.path("kept/journal")).is_ok_and(|files| files.count() > 2)).then_some(())
            });
            running.signal("KILL");
            drop(running.end());
        } else {
            std::thread::sleep(std::time::Duration::from_millis(500));
            running.signal("INT");
            running.end().failed(130, &[]);
        }
    }
    let running = folder.start(&["run", "pipeline.sql"]);
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    running.signal("INT");
    running.end().failed(130, &[]);
    assert_eq!(shown(&folder), (0..200).collect::<Vec<_>>());
}

#[test]
fn standard_input_cannot_be_gone_on_with() {
    let folder = Folder::with(
        "CREATE TABLE t (a BIGINT) WITH ('connector' = 'stdin', 'format' = 'json');\nSELECT COUNT(*) AS n FROM t;",
    );
    folder.run(&["run", "pipeline.sql", "--state", "kept"]).failed(3, &["TM3018", "standard input", "--state none"]);
    assert_eq!(folder.run_with(&["run", "pipeline.sql", "-o", "csv"], "{\"a\": 1}\n").printed(), "n\n1\n");
}

#[test]
fn changed_sql_keeps_what_it_can_and_rebuilds_the_rest() {
    let folder = Folder::with(CLICKS);
    let (running, address) = start(&folder, "2");
    post(&address, 0..70);
    running.signal("INT");
    running.end().failed(130, &[]);
    let more = "CREATE MATERIALIZED VIEW evens AS SELECT page, COUNT(*) AS n FROM clicks WHERE MOD(id, 2) = 0 GROUP BY page;\n";
    folder.write("pipeline.sql", &format!("{CLICKS}{more}"));
    let dry = folder.run(&["run", "pipeline.sql", "--dry-run"]).printed();
    let fate = |of: &str| dry.lines().find(|line| line.starts_with(of)).unwrap_or_else(|| panic!("{of}:\n{dry}"));
    assert!(fate("view 'pages'").contains("kept") && fate("view 'evens'").contains("rebuilt"), "{dry}");
    let (running, address) = start(&folder, "1");
    assert_eq!(total(&address, "n"), 70);
    let evens = get(&address, "/v1/views/evens");
    let count: u64 = evens.as_array().expect("rows").iter().map(|row| row["n"].as_u64().expect("a count")).sum();
    assert_eq!(count, 35, "it is as if it had always been there: {evens}");
    post(&address, 70..80);
    kill(running);
    folder.write("pipeline.sql", CLICKS);
    let refused = folder.run(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    refused.failed(1, &["TM6011", "pipeline.sql", "Ctrl-C"]);
}

#[test]
fn state_is_taken_back_and_what_came_since_is_taken_in_again() {
    let folder = Folder::with(CLICKS);
    for round in 0..3 {
        let (running, address) = start(&folder, "2");
        post(&address, round * 10..round * 10 + 10);
        running.signal("INT");
        running.end().failed(130, &[]);
    }
    let listed: Value =
        serde_json::from_str(&folder.run(&["versions", "ls", "pipeline.state", "-o", "json"]).printed()).expect("JSON");
    let listed = listed.as_array().expect("a list");
    let first = listed.first().expect("three versions")["number"].to_string();
    folder.run(&["versions", "savepoint", "pipeline.state", "before", &first]).printed();
    let dry = folder.run(&["versions", "rollback", "pipeline.state", "before", "--dry-run"]);
    assert!(dry.stderr.contains("would be") && dry.stderr.contains("nothing was changed"), "{dry:?}");
    let roots = |name: &str| {
        let shown = folder.run(&["versions", "show", "pipeline.state", name, "-o", "json"]).printed();
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown["content_root"].clone()
    };
    let head = roots("newest");
    let done = folder.run(&["versions", "rollback", "pipeline.state", "before"]);
    assert!(done.stderr.contains("start the pipeline again"), "{done:?}");
    assert_eq!(roots("newest"), roots("before"));
    let (mut running, address) = start(&folder, "2");
    running.until("all of it again", |_, _| (total(&address, "ids") == 30).then_some(()));
    assert_eq!(total(&address, "n"), 30);
    running.signal("INT");
    running.end().failed(130, &[]);
    assert_eq!(roots("newest"), head, "the same input gives the same content, however it came to it");
    folder.run(&["versions", "rollback", "pipeline.state", "nowhere"]).failed(3, &["'nowhere' is no version"]);
}

#[test]
fn what_looks_at_state_takes_its_folder_by_option_too_and_says_what_is_not_there() {
    let folder = Folder::with(CLICKS);
    let (running, address) = start(&folder, "1");
    post(&address, 0..10);
    running.signal("INT");
    running.end().failed(130, &[]);
    let by_place = folder.run(&["versions", "ls", "pipeline.state"]).printed();
    assert_eq!(folder.run(&["versions", "ls", "--state", "pipeline.state"]).printed(), by_place);
    for name in ["12", "newest", "oldest", "3-0-1"] {
        let refused = folder.run(&["versions", "savepoint", "pipeline.state", name]);
        refused.failed(2, &[&format!("cannot be named '{name}'")]);
    }
    folder.run(&["journal", "inspect", "pipeline.state", "77"]).failed(2, &["no segment 77", "from 1 to 1"]);
    for action in ["ls", "inspect", "verify", "repair"] {
        folder.run(&["journal", action, "nowhere"]).failed(2, &["nowhere is no folder with a journal"]);
        assert!(!folder.path("nowhere").exists(), "{action} makes none");
    }
}

#[test]
fn a_flipped_bit_is_named_and_not_gone_on_from() {
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).expect("it is there");
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 4;
        fs::write(path, bytes).expect("it is ours");
    };
    let below = |folder: &Folder, name: &str| -> Vec<std::path::PathBuf> {
        let mut paths: Vec<_> = folder.files(name).into_iter().map(|(path, _)| folder.path(&path)).collect();
        paths.sort();
        paths
    };
    let made = || {
        let folder = Folder::with(CLICKS);
        for round in 0..2 {
            let (running, address) = start(&folder, "1");
            post(&address, round * 100..round * 100 + 100);
            running.signal("INT");
            running.end().failed(130, &[]);
        }
        folder
    };
    for kind in ["snapshots", "packs"] {
        let folder = made();
        let newest = below(&folder, &format!("pipeline.state/store/instances/main/{kind}")).pop().expect("some");
        flip(&newest, 150);
        let refused = folder.run(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
        refused.failed(1, &["TM1241", kind, "rollback"]);
        let name = newest.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(refused.stderr.contains(&name), "{}", refused.stderr);
        // The versions before it are served.
        assert!(!folder.run(&["versions", "ls", "pipeline.state"]).stdout.is_empty());
    }
    let folder = made();
    let segment =
        below(&folder, "pipeline.state/journal").into_iter().find(|path| path.to_string_lossy().contains("seg"));
    flip(&segment.expect("a segment"), 1_400);
    folder.run(&["journal", "verify", "pipeline.state"]).failed(1, &["segment 1", "damaged"]);
}

/// Sends a body with a key.
fn post_keyed(address: &str, key: u32, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the door listens");
    let head = format!(
        "POST /v1/sources/clicks HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nIdempotency-Key: \"{key}\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("the door reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the door answers");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn a_pipeline_whose_journal_is_full_turns_input_away_starts_again_and_goes_on() {
    let folder = Folder::with(
        "SET 'state.snapshot-interval' = '200 ms'; SET 'journal.segment-size' = '1 MiB'; SET 'journal.quota' = '2 MiB';
         CREATE TABLE clicks (id BIGINT, page STRING) WITH ('connector' = 'http', 'idempotency.window' = '5 s');
         CREATE MATERIALIZED VIEW pages AS SELECT 'all' AS page, COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM clicks;",
    );
    let (rows, page) = (50_u32, "x".repeat(2_000));
    let body = |key: u32| -> String {
        (key * rows..(key + 1) * rows).map(|id| format!("{{\"id\": {id}, \"page\": \"{page}\"}}\n")).collect()
    };
    let (mut running, address) = start(&folder, "1");
    // Requests with keys are held for their window, so the journal fills up however fast they are taken.
    let mut key = 0;
    running.until("a full journal", |_, _| {
        let status = post_keyed(&address, key, &body(key));
        assert!(matches!(status, 202 | 429), "{status}");
        key += u32::from(status == 202);
        (status == 429).then_some(())
    });
    assert!(key >= 5, "{key} requests are in one segment");
    let all = |key: u32| u64::from(key * rows);
    running.until("what was taken", |_, _| (total(&address, "n") == all(key)).then_some(()));
    kill(running);

    let (mut running, address) = start(&folder, "1");
    running.until("what came before", |_, _| (total(&address, "n") == all(key)).then_some(()));
    assert_eq!(post_keyed(&address, 0, &body(0)), 202, "what is remembered takes no room");
    for _ in 0..20 {
        running.until("room in the journal", |_, _| {
            let status = post_keyed(&address, key, &body(key));
            assert!(matches!(status, 202 | 429), "{status}");
            (status == 202).then_some(())
        });
        key += 1;
    }
    running.until("all", |_, _| (total(&address, "n") == all(key)).then_some(()));
    assert_eq!(total(&address, "ids"), all(key), "nothing was counted twice");
    running.signal("INT");
    running.end().failed(130, &[]);
    let (mut running, address) = start(&folder, "1");
    running.until("all of it again", |_, _| (total(&address, "n") == all(key)).then_some(()));
}

#[test]
fn a_state_folder_belongs_to_one_run() {
    let folder = Folder::with(CLICKS);
    let (running, _) = start(&folder, "1");
    let refused = folder.run(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    refused.failed(1, &["TM1110", "in use by process"]);
    running.signal("INT");
    running.end().failed(130, &[]);
    let ls = folder.run(&["journal", "ls", "pipeline.state"]).printed();
    assert!(ls.contains("segments in"), "{ls}");
    let inspected = folder.run(&["journal", "inspect", "pipeline.state"]).printed();
    assert!(inspected.contains("start: pipeline.sql"), "{inspected}");
    folder.run(&["journal", "repair", "pipeline.state"]).printed();
}

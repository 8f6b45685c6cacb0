//! Events in and views out over HTTP, while a pipeline runs.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::command::{Folder, Running};

const CLICKS: &str = "CREATE TABLE clicks (page STRING, ms INT)
     WITH ('connector' = 'http', 'inbox.rows' = '1000');
 CREATE MATERIALIZED VIEW pages AS SELECT page, COUNT(*) AS n, MAX(ms) AS slowest FROM clicks GROUP BY page;
";

/// Sends a request on a connection of its own: status, head, body.
pub fn request(address: &str, method: &str, target: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("the door listens");
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("the door reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the door answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_string(), body.to_string())
}

fn post(address: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = request(address, "POST", "/v1/sources/clicks", body);
    (status, serde_json::from_str(&body).expect("JSON"))
}

pub fn get(address: &str, target: &str) -> Value {
    let (status, head, body) = request(address, "GET", target, "");
    assert_eq!(status, 200, "{body}");
    assert!(head.to_lowercase().contains("tidemill-version:"), "{head}");
    serde_json::from_str(&body).expect("JSON")
}

fn start(folder: &Folder) -> (Running, String) {
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    let address = running.address();
    (running, address)
}

#[test]
fn what_is_posted_can_be_read() {
    let folder = Folder::with(CLICKS);
    let (mut running, address) = start(&folder);
    let (status, answer) =
        post(&address, "{\"page\": \"a\", \"ms\": 3}\n{\"page\": \"b\", \"ms\": 1}\n{\"page\": \"a\"}");
    assert_eq!((status, answer), (202, json!({"accepted": 3, "offset": 0, "durability": "flushed"})));
    let row = running.until("the view", |_, _| {
        let rows = get(&address, "/v1/views/pages?key=a");
        rows.get(0).filter(|row| row["n"] == json!(2)).cloned()
    });
    assert_eq!(row, json!({"page": "a", "n": 2, "slowest": 3}));
    assert_eq!(get(&address, "/v1/views/pages?limit=9").as_array().map(Vec::len), Some(2));
    let (status, answer) = post(&address, "{\"page\": \"a\",\n \"ms\": \"slow\"}");
    assert_eq!((status, &answer["errors"][0]["line"], &answer["errors"][0]["column"]), (400, &json!(2), &json!(8)));
    let (status, _, body) = request(&address, "GET", "/v1/views/page", "");
    assert!(status == 404 && body.contains("did you mean 'pages'?"), "{body}");
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn what_was_accepted_is_processed_after_a_stop() {
    let folder = Folder::with(
        "CREATE TABLE clicks (page STRING, ms INT) WITH ('connector' = 'http');
         CREATE TABLE out (page STRING, ms INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
         INSERT INTO out SELECT page, ms FROM clicks;",
    );
    let (running, address) = start(&folder);
    let mut accepted = 0;
    for ms in 0..200 {
        let (status, _) = post(&address, &format!("{{\"page\": \"a\", \"ms\": {ms}}}"));
        assert_eq!(status, 202);
        accepted += 1;
    }
    running.signal("INT");
    running.end().failed(130, &[]);
    let lines: usize = folder.files("out").iter().map(|(_, text)| text.lines().count()).sum();
    assert_eq!(lines, accepted);
}

#[test]
fn a_stopped_engine_pushes_back() {
    // The sink cannot be reached and tries again and again, so rows pile up behind it, in bounded queues.
    let folder = Folder::with(
        "CREATE TABLE clicks (page STRING, ms INT) WITH ('connector' = 'http', 'inbox.rows' = '1000');
         CREATE TABLE slow (page STRING, ms INT) WITH ('connector' = 'http', 'url' = 'http://127.0.0.1:9/none', 'format' = 'json',
             'sink.batch.rows' = '1', 'sink.retries' = '1000000');
         INSERT INTO slow SELECT page, ms FROM clicks;",
    );
    let (running, address) = start(&folder);
    let batch = "{\"page\": \"a\", \"ms\": 1}\n".repeat(900);
    let refused = (0..1_000).find_map(|_| {
        let (status, head, _) = request(&address, "POST", "/v1/sources/clicks", &batch);
        (status != 202).then_some((status, head))
    });
    let (status, head) = refused.expect("the queues are bounded");
    assert_eq!(status, 429);
    assert!(head.to_lowercase().contains("retry-after: 1"), "{head}");
    running.signal("INT");
    running.signal("INT");
    drop(running);
}

/// The CPU time of a process, user and system, in hundredths of a second.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ').skip(12).take(2);
    fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// With state and without, and beside a circuit that answers requests.
#[test]
fn a_pipeline_whose_events_are_done_rests() {
    const SCORE: &str = "CREATE ENDPOINT score WITH ('record' = 'clicks') AS SELECT page, ms FROM clicks;";
    for (sql, state) in
        [(CLICKS.to_string(), "none"), (CLICKS.to_string(), "state"), (format!("{CLICKS}{SCORE}"), "state")]
    {
        let folder = Folder::with(&sql);
        let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", state]);
        let address = running.address();
        assert_eq!(post(&address, "{\"page\": \"a\", \"ms\": 3}").0, 202);
        running.until("the view", |_, _| get(&address, "/v1/views/pages?key=a").get(0).cloned());
        // Whoever waits in a loop takes all it is given: it has to take next to nothing at some time.
        let process = running.id();
        running.until("a moment of rest", |_, _| {
            let before = cpu_ticks(process);
            std::thread::sleep(std::time::Duration::from_millis(500));
            (cpu_ticks(process) - before < 3).then_some(())
        });
        running.signal("INT");
        assert_eq!(running.end().code, Some(130));
    }
}

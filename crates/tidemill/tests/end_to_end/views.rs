//! Materialised views, read while input flows.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{Folder, Running};
use crate::http::{get, request};

/// How many groups there are.
const GROUPS: u64 = 20;

/// Clients that read at the same time.
const CLIENTS: usize = 32;

/// Events, and how many a request brings.
const EVENTS: u64 = 24_000;
const EVENTS_PER_REQUEST: u64 = 80;

const PIPELINE: &str = "CREATE TABLE clicks (id BIGINT) WITH ('connector' = 'http');
 CREATE MATERIALIZED VIEW totals AS SELECT id % 20 AS k, COUNT(*) AS n, SUM(id) AS s FROM clicks GROUP BY id % 20;
 CREATE INDEX totals_n ON totals (n);
";

/// The row of a group: its number, its count and its sum.
type Row = (u64, u64, u64);

fn start(sql: &str) -> (Folder, Running, String) {
    let folder = Folder::with(sql);
    let arguments = ["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--lanes", "2", "--state", "none"];
    let mut running = folder.start(&arguments);
    let address = running.address();
    (folder, running, address)
}

fn post(address: &str, ids: std::ops::Range<u64>) {
    let body: String = ids.map(|id| format!("{{\"id\": {id}}}\n")).collect();
    let (status, _, answer) = request(address, "POST", "/v1/sources/clicks", &body);
    assert_eq!(status, 202, "{answer}");
}

/// The answer over the first `count` events.
fn batch(count: u64) -> Vec<Row> {
    let row = |k| (k, (k..count).step_by(GROUPS as usize).count() as u64, (k..count).step_by(GROUPS as usize).sum());
    (0..GROUPS.min(count)).map(row).collect()
}

/// The rows of an answer, and the version that it names.
fn read(address: &str, target: &str) -> (u64, Vec<Row>) {
    let (status, head, body) = request(address, "GET", target, "");
    assert_eq!(status, 200, "{body}");
    let version = head.lines().find_map(|line| line.strip_prefix("tidemill-version: ")).expect("a version");
    let rows: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    let number = |row: &Value, name: &str| row[name].as_u64().expect("a number");
    let mut rows: Vec<Row> = rows.iter().map(|row| (number(row, "k"), number(row, "n"), number(row, "s"))).collect();
    rows.sort_unstable();
    (version.parse().expect("a number"), rows)
}

/// What the clients have learnt: how many events each version has, and answers that are about a part of the rows.
#[derive(Default)]
struct Learnt {
    events: BTreeMap<u64, u64>,
    parts: Vec<(u64, Part, Vec<Row>)>,
}

#[derive(Clone, Copy)]
enum Part {
    /// The row of a group.
    Key(u64),
    /// The rows with a count.
    Count(u64),
}

fn ask(address: &str, client: usize, turn: u64, learnt: &Mutex<Learnt>) {
    let (version, rows) = read(address, "/v1/views/totals");
    let events = rows.iter().map(|row| row.1).sum();
    assert_eq!(rows, batch(events), "version {version}");
    let before = learnt.lock().expect("no client has failed").events.insert(version, events);
    assert!(before.is_none_or(|before| before == events), "version {version} is {before:?} and {events} events");
    let part = match client % 2 {
        0 => Part::Key((client as u64 + turn) % GROUPS),
        _ => Part::Count(events / GROUPS),
    };
    let (version, rows) = match part {
        Part::Key(key) => read(address, &format!("/v1/views/totals?{}={key}", ["key", "k"][client / 2 % 2])),
        Part::Count(count) => read(address, &format!("/v1/views/totals?n={count}")),
    };
    learnt.lock().expect("no client has failed").parts.push((version, part, rows));
}

#[test]
fn every_answer_to_32_clients_is_the_batch_answer_at_the_version_it_names() {
    let (_folder, mut running, address) = start(PIPELINE);
    let (learnt, done, turns) = (Mutex::<Learnt>::default(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (learnt, done, turns, address) = (&learnt, &done, &turns, &address);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let turn = turns.fetch_add(1, Ordering::Relaxed);
                        ask(address, client, turn, learnt);
                    }
                })
            })
            .collect();
        for first in (0..EVENTS).step_by(EVENTS_PER_REQUEST as usize) {
            post(&address, first..first + EVENTS_PER_REQUEST);
        }
        done.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("a client has failed"));
    });
    running.until("everything", |_, _| (read(&address, "/v1/views/totals").1 == batch(EVENTS)).then_some(()));
    running.signal("INT");
    running.end().failed(130, &[]);

    let Learnt { events, parts } = learnt.into_inner().expect("no client has failed");
    assert!(events.len() > 10, "only {} versions were seen while events came", events.len());
    assert!(events.values().is_sorted(), "a later version has no fewer events");
    let mut compared = [0, 0];
    for (version, part, rows) in &parts {
        let Some(events) = events.get(version) else { continue };
        let wanted = |row: &Row| match part {
            Part::Key(key) => row.0 == *key,
            Part::Count(count) => row.1 == *count,
        };
        let expected: Vec<Row> = batch(*events).into_iter().filter(wanted).collect();
        assert_eq!(*rows, expected, "version {version}, of {events} events");
        compared[usize::from(matches!(part, Part::Count(_)))] += 1;
    }
    assert!(compared[0] > 10 && compared[1] > 10, "few answers could be compared: {compared:?} of {}", parts.len());
}

#[test]
fn rows_are_answered_as_arrow_with_their_version() {
    let (_folder, mut running, address) = start(PIPELINE);
    post(&address, 0..100);
    running.until("the view", |_, _| (read(&address, "/v1/views/totals").1 == batch(100)).then_some(()));
    let mut stream = TcpStream::connect(&address).expect("the door listens");
    let head = "GET /v1/views/totals HTTP/1.0\r\nAccept: application/vnd.apache.arrow.stream\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the door reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the door answers");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.contains("content-type: application/vnd.apache.arrow.stream"), "{head}");
    let reader = arrow_ipc::reader::StreamReader::try_new(&answer[end..], None).expect("it is a stream of Arrow's");
    let version = reader.schema().metadata()["tidemill.version"].clone();
    assert!(head.contains(&format!("tidemill-version: {version}\r\n")), "{head}");
    let rows: usize = reader.map(|batch| batch.expect("it is whole").num_rows()).sum();
    assert_eq!(rows, GROUPS as usize);
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn rows_are_found_by_the_columns_of_an_index_and_no_others() {
    let (_folder, mut running, address) = start(PIPELINE);
    post(&address, 0..50);
    running.until("the view", |_, _| (read(&address, "/v1/views/totals").1 == batch(50)).then_some(()));
    let found = |query: &str| read(&address, &format!("/v1/views/totals?{query}")).1.len();
    assert_eq!((found("n=3"), found("n=2"), found("n=1"), found("n=3&limit=4")), (10, 10, 0, 4));
    let refused = |query: &str, parts: &[&str]| {
        let (status, _, body) = request(&address, "GET", &format!("/v1/views/totals?{query}"), "");
        assert_eq!(status, 400, "{body}");
        parts.iter().for_each(|part| assert!(body.contains(part), "'{part}' is not in {body}"));
    };
    refused("s=3", &["no index by (s)", "rows are found by (k), (n)", "CREATE INDEX .. ON totals (s)"]);
    refused("n=three", &["'three' is no BIGINT"]);
    refused("m=3", &["no parameter 'm'"]);
    refused("n=3&key=1", &["not by both"]);
    running.signal("INT");
    running.end().failed(130, &[]);
    let wrong = |statement: &str, parts: &[&str]| {
        Folder::with(&format!("{PIPELINE}{statement}")).run(&["check", "pipeline.sql"]).failed(3, parts);
    };
    wrong("CREATE INDEX i ON totals (m);", &["there is no column m", "pipeline.sql:4:27"]);
    wrong("CREATE INDEX i ON total (n);", &["did you mean totals?", "pipeline.sql:4:19"]);
    wrong("CREATE INDEX i ON clicks (id);", &["clicks is no materialised view", "pipeline.sql:4:19"]);
    wrong("CREATE INDEX totals_n ON totals (s);", &["totals_n exists already", "pipeline.sql:4:14"]);
    wrong("CREATE INDEX i ON totals (n, n);", &["twice", "pipeline.sql:4:30"]);
}

#[test]
fn a_stream_goes_on_from_the_version_of_an_answer() {
    let (_folder, mut running, address) = start(PIPELINE);
    post(&address, 0..40);
    running.until("the view", |_, _| (read(&address, "/v1/views/totals").1 == batch(40)).then_some(()));
    let (version, before) = read(&address, "/v1/views/totals");
    post(&address, 40..41);
    running.until("another event", |_, _| (read(&address, "/v1/views/totals").1 == batch(41)).then_some(()));
    let events = |from: u64, count: usize| {
        let mut stream = TcpStream::connect(&address).expect("the door listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has time-outs");
        let head = format!("GET /v1/views/totals/stream?from={from} HTTP/1.0\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the door reads");
        let lines = BufReader::new(stream).lines().map(|line| line.expect("the door writes"));
        let data = lines.filter(|line| line.starts_with("event: ") || line.starts_with("data: "));
        data.take(2 * count).collect::<Vec<String>>()
    };
    let said = events(version, 2);
    assert_eq!(
        (said[0].as_str(), said[1].as_str()),
        ("event: ready", format!("data: {{\"version\":{version}}}").as_str())
    );
    assert_eq!(said[2], "event: change");
    let change: Value = serde_json::from_str(said[3].trim_start_matches("data: ")).expect("JSON");
    assert_eq!(before[0], (0, 2, 20));
    assert_eq!(change["deletes"], json!([{"k": 0, "n": 2, "s": 20}]));
    assert_eq!(change["inserts"], json!([{"k": 0, "n": 3, "s": 60}]));
    // A version that has not come is no place to go on from.
    assert_eq!(events(version + 1_000_000, 1)[0], "event: reset");
    assert_eq!(get(&address, "/v1/views/totals?key=0"), json!([{"k": 0, "n": 3, "s": 60}]));
    running.signal("INT");
    running.end().failed(130, &[]);
}

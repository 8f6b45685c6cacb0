//! Clients that send events without pause and remember which of them were acknowledged.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::command::Folder;

/// A pipeline that counts and writes what comes in; `rows` of the view are per page.
pub const PIPELINE: &str = "SET 'state.snapshot-interval' = '150 ms';
 SET 'journal.segment-size' = '1 MiB';
 CREATE TABLE clicks (id BIGINT, page STRING) WITH ('connector' = 'http');
 CREATE TABLE out (id BIGINT, page STRING) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
 CREATE MATERIALIZED VIEW pages AS SELECT page, COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM clicks GROUP BY page;
 INSERT INTO out SELECT id, page FROM clicks;
";

/// Clients at most.
const CLIENTS: usize = 4;

/// Events of a request.
const EVENTS: u64 = 5;

/// What was sent so far, over all starts of the command.
#[derive(Default)]
pub struct Sent {
    next: AtomicU64,
    acknowledged: Mutex<BTreeSet<u64>>,
}

impl Sent {
    /// The ids of acknowledged events.
    pub fn acknowledged(&self) -> BTreeSet<u64> {
        self.acknowledged.lock().expect("no client panics").clone()
    }

    /// The number of ids that were ever sent.
    pub fn count(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }
}

/// Clients that send until they are stopped, or the door is gone.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins to send to a door; every other client asks for the level `process`, which a kill does not touch.
    pub fn begin(address: &str, sent: &Arc<Sent>, level: Option<&'static str>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (address, sent, stop) = (address.to_string(), sent.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let first = sent.next.fetch_add(EVENTS, Ordering::SeqCst);
                    if send(&address, first, level) {
                        sent.acknowledged.lock().expect("no client panics").extend(first..first + EVENTS);
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, clients }
    }

    /// Stops and waits for the clients.
    pub fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|client| client.join().expect("no client panics"));
    }
}

/// The body with the events from `first` on.
fn body(ids: impl Iterator<Item = u64>) -> String {
    ids.map(|id| format!("{{\"id\": {id}, \"page\": \"p{}\"}}\n", id % 13)).collect()
}

/// Sends events; true when they were acknowledged.
fn send(address: &str, first: u64, level: Option<&str>) -> bool {
    post(address, &body(first..first + EVENTS), level).is_some_and(|(status, _)| status == 202)
}

/// Posts a body; none when the connection broke.
pub fn post(address: &str, body: &str, level: Option<&str>) -> Option<(u16, String)> {
    let target = level.map_or(String::new(), |level| format!("?durability={level}"));
    let mut stream = TcpStream::connect(address).ok()?;
    // A door that is gone answers at once; one that hangs is a failure of the test.
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST /v1/sources/clicks{target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

/// The ids in the files that `out` shows; each must be there once.
pub fn shown(out: &Path) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(out).expect("the sink has made it") {
        let path = entry.expect("it is ours").path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            for line in std::fs::read_to_string(&path).expect("it is text").lines() {
                let id = line.split(',').next().and_then(|id| id.parse().ok()).expect("an id");
                assert!(ids.insert(id), "event {id} was written twice");
            }
        }
    }
    ids
}

/// The content root of the newest version.
pub fn root(folder: &Folder, state: &str) -> String {
    let shown = folder.run(&["versions", "show", state, "-o", "json"]).printed();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["content_root"].as_str().expect("a root").to_string()
}

/// The content root of a run that takes these ids in one go and is never disturbed.
pub fn undisturbed(ids: &BTreeSet<u64>) -> String {
    let folder = Folder::with(PIPELINE);
    let mut running =
        folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "kept", "--lanes", "1"]);
    let address = running.address();
    let all: Vec<u64> = ids.iter().copied().collect();
    for chunk in all.chunks(1_000) {
        let answer = post(&address, &body(chunk.iter().copied()), Some("process"));
        if !matches!(answer, Some((202, _))) {
            running.signal("KILL");
            panic!("it was not taken: {answer:?}\n{}", running.end().stderr);
        }
    }
    running.signal("INT");
    running.end().failed(130, &[]);
    root(&folder, "kept")
}

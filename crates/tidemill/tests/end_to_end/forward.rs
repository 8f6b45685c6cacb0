//! A pipeline that forwards: events in over HTTP, and out over HTTP to a collector.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::command::{Folder, Running};
use crate::http::request;

/// A server that takes lines, or says for now that it cannot.
#[derive(Default)]
struct Collector {
    open: AtomicBool,
    asked: AtomicBool,
    ids: Mutex<BTreeSet<u64>>,
}

impl Collector {
    /// Listens until the test ends; where.
    fn listen() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let collector = Arc::new(Collector::default());
        let serving = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                // Who was killed in the middle is not answered.
                std::thread::spawn(move || serving.serve(stream).unwrap_or_default());
            }
        });
        (collector, address)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut read = Vec::new();
        loop {
            let head = loop {
                if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                more(&mut stream, &mut read)?;
            };
            let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok())?;
            while read.len() < head + length {
                more(&mut stream, &mut read)?;
            }
            let body = String::from_utf8_lossy(&read[head..head + length]).to_string();
            read.drain(..head + length);
            self.asked.store(true, Ordering::SeqCst);
            let status = if self.open.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
            if status.starts_with("200") {
                let ids = body.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_u64());
                self.ids.lock().expect("nothing panics with it").extend(ids.map(|id| id.expect("a number")));
            }
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()?;
        }
    }
}

fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&buffer[..count]);
    Some(())
}

fn start(folder: &Folder) -> (Running, String) {
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    let address = running.address();
    (running, address)
}

#[test]
fn what_was_acknowledged_reaches_the_collector_after_kills() {
    let (collector, url) = Collector::listen();
    let folder = Folder::with(&format!(
        "CREATE TABLE logs (id BIGINT, line STRING) WITH ('connector' = 'http');
         CREATE TABLE collector (id BIGINT, line STRING) WITH ('connector' = 'http', 'url' = 'http://{url}/logs',
             'format' = 'json', 'sink.retries' = '1000000', 'sink.batch.rows' = '7');
         INSERT INTO collector SELECT id, line FROM logs;"
    ));
    let mut acknowledged = BTreeSet::new();
    for round in 0..3_u64 {
        let (mut running, address) = start(&folder);
        for id in 40 * round..40 * (round + 1) {
            let body = json!({"id": id, "line": "x"}).to_string();
            let (status, _, answer) = request(&address, "POST", "/v1/sources/logs", &body);
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            // The collector has taken nothing: it is the journal that the answer rests on.
            assert_eq!((status, &answer["durability"]), (202, &json!("flushed")), "{answer}");
            acknowledged.insert(id);
        }
        running.until("an attempt", |_, _| collector.asked.swap(false, Ordering::SeqCst).then_some(()));
        running.signal("KILL");
        assert_eq!(running.end().code, None, "it was killed");
    }
    assert!(collector.ids.lock().expect("nothing panics with it").is_empty());
    collector.open.store(true, Ordering::SeqCst);
    let (mut running, _) = start(&folder);
    running.until("all of them", |_, _| {
        (*collector.ids.lock().expect("nothing panics with it") == acknowledged).then_some(())
    });
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn without_a_journal_nothing_more_than_memory_is_promised() {
    let (_collector, url) = Collector::listen();
    let folder = Folder::with(&format!(
        "CREATE TABLE logs (id BIGINT) WITH ('connector' = 'http');
         CREATE TABLE collector (id BIGINT) WITH ('connector' = 'http', 'url' = 'http://{url}/logs', 'format' = 'json');
         INSERT INTO collector SELECT id FROM logs;"
    ));
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0", "--state", "none"]);
    let address = running.address();
    let (status, _, answer) = request(&address, "POST", "/v1/sources/logs", "{\"id\": 1}");
    assert!(status == 202 && answer.contains("\"durability\":\"memory\""), "{answer}");
    let (status, _, answer) = request(&address, "POST", "/v1/sources/logs?durability=flushed", "{\"id\": 1}");
    assert!(status == 400 && answer.contains("no journal"), "{answer}");
    running.signal("KILL");
    running.end();
}

//! Decisions under fire: many clients at once, connections cut at random, the server killed and started again. Whatever was
//! answered is what a replay of the accepted rows, one by one, answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tidemill_base::rand::Rng;

use crate::command::{Folder, Running};

const CLIENTS: u64 = 64;
const CALLS: u64 = 20;
const CARDS: u64 = 7;

const SQL: &str = "SET 'state.snapshot-interval' = '300 ms';
 SET 'journal.segment-size' = '1 MiB';
 SET 'state.durability' = 'process';
 CREATE TABLE payments (id BIGINT, card BIGINT, seen AS PROCTIME()) WITH ('connector' = 'http');
 CREATE MATERIALIZED VIEW cards AS SELECT card, COUNT(*) AS n FROM payments GROUP BY card;
 CREATE ENDPOINT score (id BIGINT, card BIGINT) WITH ('record' = 'payments', 'deadline' = '60 s') AS
   SELECT id,
     COUNT(*) OVER (PARTITION BY card ORDER BY seen ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n,
     COUNT(*) OVER (ORDER BY seen ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS place
   FROM payments;
";

/// A row that was accepted: its place among all, its card, and how many of its card it was told there are.
struct Row {
    place: u64,
    card: u64,
    counted: Option<u64>,
}

/// Sends a request and reads its answer; none when the connection fails, or is cut by chance.
fn attempt(address: &str, target: &str, key: &str, body: &str, rng: &mut Rng) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nIdempotency-Key: \"{key}\"\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let request = format!("{head}{body}");
    let cut = rng.below(4) == 0;
    let sent = if cut && rng.below(3) == 0 { rng.below(request.len() as u64) as usize } else { request.len() };
    stream.write_all(&request.as_bytes()[..sent]).ok()?;
    if cut {
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    let mut answer = BufReader::new(stream);
    let (mut line, mut length, mut status) = (String::new(), 0, None);
    while answer.read_line(&mut line).ok()? > 0 && line != "\r\n" {
        if status.is_none() {
            status = Some(line.split(' ').nth(1)?.parse().ok()?);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).ok()?;
    Some((status?, String::from_utf8(body).ok()?))
}

/// The address of the server that runs now.
struct Server(Mutex<String>);

impl Server {
    fn address(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn moved(&self, address: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Sends a request with its key again and again until it is answered, and now and then once more.
    fn insist(&self, target: &str, key: &str, body: &str, good: u16, rng: &mut Rng) -> String {
        let mut first: Option<String> = None;
        for tried in 0..5_000 {
            match attempt(&self.address(), target, key, body, rng) {
                Some((status, answer)) if status == good => match &first {
                    Some(first) => {
                        assert_eq!(*first, answer, "key {key} was answered in two ways");
                        return answer;
                    }
                    None if rng.below(3) == 0 => first = Some(answer),
                    None => return answer,
                },
                Some((503 | 429, _)) | None => thread::sleep(Duration::from_millis(1 + tried.min(20))),
                Some((status, answer)) => panic!("{status} to {key}: {answer}"),
            }
        }
        panic!("key {key} was never answered")
    }
}

/// What a client does.
fn client(server: &Server, number: u64, done: &AtomicU64) -> Vec<Row> {
    let (mut rng, mut rows) = (Rng::seeded(number), Vec::new());
    for call in 0..CALLS {
        let (card, key) = (rng.below(CARDS), format!("{number}-{call}"));
        let id = number * CALLS + call;
        if rng.below(3) == 0 {
            let count = 1 + rng.below(3);
            let body = format!("{{\"id\": {id}, \"card\": {card}}}\n").repeat(count as usize);
            let answer = server.insist("/v1/sources/payments", &key, &body, 202, &mut rng);
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!(answer["accepted"].as_u64(), Some(count));
            let offset = answer["offset"].as_u64().expect("an offset");
            rows.extend((offset..offset + count).map(|row| Row { place: row + 1, card, counted: None }));
        } else {
            let body = format!("{{\"id\": {id}, \"card\": {card}}}");
            let answer = server.insist("/v1/endpoints/score", &key, &body, 200, &mut rng);
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            let row = &answer["rows"][0];
            assert_eq!(row["id"].as_u64(), Some(id), "{answer}");
            let place = row["place"].as_u64().expect("a place");
            rows.push(Row { place, card, counted: row["n"].as_u64() });
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    rows
}

fn start(folder: &Folder) -> (Running, String) {
    let mut running = folder.start(&["run", "pipeline.sql", "--listen", "127.0.0.1:0"]);
    let address = running.address();
    (running, address)
}

#[test]
fn decisions_are_those_of_a_replay_whatever_is_cut_or_killed() {
    let folder = Folder::with(SQL);
    let (mut running, address) = start(&folder);
    let (server, done) = (Server(Mutex::new(address)), AtomicU64::new(0));
    let (rows, running): (Vec<Row>, Running) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let (server, done) = (&server, &done);
                    move || client(server, number, done)
                })
            })
            .collect();
        for kill in 1..=2 {
            while done.load(Ordering::Relaxed) < kill * CLIENTS * CALLS / 3
                && !clients.iter().all(|client| client.is_finished())
            {
                thread::sleep(Duration::from_millis(5));
            }
            running.signal("KILL");
            assert_eq!(running.end().code, None, "it was killed");
            let (next, address) = start(&folder);
            running = next;
            server.moved(address);
        }
        let rows = clients.into_iter().flat_map(|client| client.join().expect("a client is content")).collect();
        (rows, running)
    });

    let mut places: BTreeMap<u64, &Row> = BTreeMap::new();
    for row in &rows {
        assert!(places.insert(row.place, row).is_none(), "two rows have place {}", row.place);
    }
    assert!(places.keys().copied().eq(1..=places.len() as u64), "every accepted row was told to somebody");
    let mut counts = vec![0; CARDS as usize];
    for row in places.values() {
        counts[row.card as usize] += 1;
        if let Some(counted) = row.counted {
            assert_eq!(counted, counts[row.card as usize], "place {}", row.place);
        }
    }
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
}

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

/// The heads and bodies of `count` answers on a connection.
fn answers(stream: &TcpStream, count: usize) -> Vec<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut all = Vec::new();
    for _ in 0..count {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let from = head.len();
            assert!(reader.read_line(&mut head).expect("the server answers") > 0, "it hung up after {}", all.len());
            let line = head[from..].to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the whole body comes");
        all.push((head, serde_json::from_slice(&body).expect("JSON")));
    }
    all
}

/// Sends requests of one connection at once, and gives their answers.
fn flood(address: &str, from: usize, count: usize) -> Vec<(String, Value)> {
    let stream = TcpStream::connect(address).expect("the door listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("sockets have time-outs");
    let requests = (from..from + count).map(|id| {
        let body = format!("{{\"id\":{id},\"card\":{}}}", id % 7);
        let length = body.len();
        format!(
            "POST /v1/endpoints/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    });
    let requests: String = requests.collect();
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(requests.as_bytes()).expect("the server reads"));
        answers(&stream, count)
    })
}

/// Floods an endpoint that lets 50 requests wait at once, and checks that each is answered in one way: by the rule, which has
/// counted it, or as `shed` says, and then it has not.
fn check_overload(stack: &str, shed: &str, is_shed: impl Fn(&str, &Value) -> bool) {
    const CLIENTS: usize = 16;
    const EACH: usize = 200;
    let options = format!("'deadline' = '60 s', 'waiting.max' = '50', 'fallback' = '{{\"n\": -1}}', 'shed' = '{shed}'");
    let folder = Folder::with(&SQL.replace("'deadline' = '60 s'", &options));
    folder.write("doors.toml", &format!("[[door]]\nlisten = \"127.0.0.1:0\"\nstack = \"{stack}\"\nworkers = 1\n"));
    let mut running = folder.start(&["run", "pipeline.sql", "--config", "doors.toml"]);
    let address = running.address();
    let all: Vec<(String, Value)> = thread::scope(|scope| {
        let floods = (0..CLIENTS).map(|client| {
            scope.spawn({
                let address = &address;
                move || flood(address, client * EACH, EACH)
            })
        });
        let floods: Vec<_> = floods.collect();
        floods.into_iter().flat_map(|flood| flood.join().expect("no client panics")).collect()
    });
    let (turned_away, judged): (Vec<_>, Vec<_>) = all.into_iter().partition(|(head, body)| is_shed(head, body));
    assert!(stack != "fast" || !turned_away.is_empty(), "no more than 50 wait at once");
    let mut places: Vec<u64> = judged
        .iter()
        .map(|(head, body)| {
            assert!(head.starts_with("HTTP/1.1 200") && body.get("fallback").is_none(), "{head}{body}");
            body["rows"][0]["place"].as_u64().expect("a place")
        })
        .collect();
    places.sort_unstable();
    assert!(places.iter().copied().eq(1..=judged.len() as u64), "each was counted once, and no other");
    let after = flood(&address, CLIENTS * EACH, 1);
    assert_eq!(after[0].1["rows"][0]["place"].as_u64(), Some(judged.len() as u64 + 1), "{after:?}");
    running.signal("INT");
    running.end().failed(130, &[]);
}

#[test]
fn more_than_can_be_answered_is_turned_away_at_once_and_counts_nowhere() {
    let is_fallback = |head: &str, body: &Value| {
        let flagged = body["fallback"] == "overload";
        assert_eq!(flagged, head.contains("tidemill-fallback: overload"), "{head}{body}");
        assert!(!flagged || (head.starts_with("HTTP/1.1 200") && body["rows"][0]["n"] == -1), "{head}{body}");
        flagged
    };
    let is_refused = |head: &str, _: &Value| {
        let refused = head.starts_with("HTTP/1.1 429");
        assert!(!refused || head.contains("retry-after: "), "{head}");
        refused
    };
    for stack in ["fast", "standard"] {
        check_overload(stack, "fallback", is_fallback);
        check_overload(stack, "reject", is_refused);
    }
}

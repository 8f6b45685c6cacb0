//! An open-loop load generator for HTTP/1.1: requests leave at their appointed times, whether or not earlier ones were
//! answered, and a request's time counts from its appointment. So a server that stalls is charged for every request that
//! should have been sent meanwhile (Tene, "How NOT to Measure Latency").
//!
//! ```sh
//! cargo run --release -p tidemill-gateway --example open_loop -- \
//!     127.0.0.1:8080 /v1/endpoints/score --rate 20000 --seconds 10 --connections 64 --keys 100000 \
//!     --body '{"card":"c{key}","amount":{n}}'
//! ```
//! prints one JSON object: sent, answered by status, fallbacks, and percentiles in microseconds. `{key}` in the body is a random key,
//! `{n}` the request's number, `{ms}` the time in milliseconds. One thread spins: give it a core of its own.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::event::epoll;
use tidemill_base::rand::Rng;
use tidemill_base::time::{Clock, Stopwatch, SystemClock};

struct Load {
    address: String,
    path: String,
    body: String,
    rate: f64,
    seconds: f64,
    connections: usize,
    keys: u64,
    headers: String,
}

impl Load {
    fn of(mut arguments: impl Iterator<Item = String>) -> Result<Load, String> {
        let address = arguments.next().ok_or("the first argument is HOST:PORT")?;
        let path = arguments.next().ok_or("the second argument is the path")?;
        let mut load = Load {
            address,
            path,
            body: "{}".to_string(),
            rate: 1_000.0,
            seconds: 5.0,
            connections: 64,
            keys: 100_000,
            headers: String::new(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
            let wrong = |_| format!("{name} {value} is no number");
            match name.as_str() {
                "--rate" => load.rate = value.parse().map_err(wrong)?,
                "--seconds" => load.seconds = value.parse().map_err(wrong)?,
                "--connections" => load.connections = value.parse().map_err(|_| format!("{value} is no number"))?,
                "--keys" => load.keys = value.parse().map_err(|_| format!("{value} is no number"))?,
                "--body" => load.body = value,
                "--header" => load.headers.push_str(&format!("{value}\r\n")),
                other => return Err(format!("{other} is not known")),
            }
        }
        if load.connections == 0 || load.keys == 0 || !load.rate.is_finite() || load.rate <= 0.0 {
            return Err("connections, keys and rate are above 0".to_string());
        }
        Ok(load)
    }

    fn write(&self, out: &mut Vec<u8>, number: u64, rng: &mut Rng, clock: &SystemClock) {
        let body = self
            .body
            .replace("{key}", &(rng.next_u64() % self.keys).to_string())
            .replace("{n}", &number.to_string())
            .replace("{ms}", &clock.now().millis().to_string());
        let (path, host, length, headers) = (&self.path, &self.address, body.len(), &self.headers);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// When each request that is not answered yet should have been sent.
    appointed: VecDeque<Duration>,
}

impl Connection {
    fn send(&mut self) -> std::io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; false when the server hung up.
    fn receive(&mut self, tally: &mut Tally, now: impl Fn() -> Duration) -> std::io::Result<bool> {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => self.input.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let at = now();
        let mut used = 0;
        while let Some((length, status, fallback)) = response(&self.input[used..]) {
            used += length;
            let Some(appointed) = self.appointed.pop_front() else { break };
            tally.count(status, fallback, at.saturating_sub(appointed));
        }
        self.input.drain(..used);
        Ok(true)
    }
}

/// The length of the first whole response, its status, and whether a fallback answered.
fn response(bytes: &[u8]) -> Option<(usize, u16, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(start)) = head.parse(bytes) else { return None };
    let find = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length = find("content-length").and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let end = start + length.unwrap_or(0_usize);
    (bytes.len() >= end).then(|| (end, head.code.unwrap_or_default(), find("tidemill-fallback").is_some()))
}

struct Tally {
    histogram: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    fallbacks: u64,
    good: u64,
}

impl Tally {
    fn count(&mut self, status: u16, fallback: bool, took: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.fallbacks += u64::from(fallback);
        if (200..300).contains(&status) {
            self.good += u64::from(!fallback);
            self.histogram.saturating_record((took.as_nanos() / 1_000) as u64);
        }
    }
}

fn run(load: &Load) -> Result<serde_json::Value, Box<dyn Error>> {
    let (clock, mut rng) = (SystemClock::new(), Rng::seeded(1));
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(load.connections);
    for index in 0..load.connections {
        let stream = TcpStream::connect(&load.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        connections.push(Connection { stream, out: Vec::new(), input: Vec::new(), appointed: VecDeque::new() });
    }
    let histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut tally = Tally { histogram, statuses: BTreeMap::new(), fallbacks: 0, good: 0 };
    let watch = Stopwatch::start();
    let total = (load.rate * load.seconds) as u64;
    let (mut sent, mut hung_up) = (0, 0);
    let mut events = Vec::with_capacity(load.connections);
    let grace = Duration::from_secs_f64(load.seconds) + Duration::from_secs(5);
    while (sent < total || connections.iter().any(|one| !one.appointed.is_empty())) && watch.elapsed() < grace {
        while sent < total {
            let due = Duration::from_secs_f64(sent as f64 / load.rate);
            if watch.elapsed() < due {
                break;
            }
            let connection = &mut connections[sent as usize % load.connections];
            load.write(&mut connection.out, sent, &mut rng, &clock);
            connection.appointed.push_back(due);
            connection.send()?;
            sent += 1;
        }
        events.clear();
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
        for event in &events {
            let index = event.data.u64() as usize;
            let connection = &mut connections[index];
            connection.send()?;
            if !connection.receive(&mut tally, || watch.elapsed())? {
                hung_up += connection.appointed.len();
                connection.appointed.clear();
                epoll::delete(&poll, &connection.stream)?;
            }
        }
    }
    let unanswered: usize = connections.iter().map(|one| one.appointed.len()).sum();
    let at = |quantile| tally.histogram.value_at_quantile(quantile);
    Ok(serde_json::json!({
        "sent": sent, "seconds": watch.elapsed().as_secs_f64(), "statuses": tally.statuses, "good": tally.good,
        "fallbacks": tally.fallbacks, "unanswered": unanswered, "hung_up": hung_up,
        "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": tally.histogram.max(),
    }))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]
fn main() -> std::process::ExitCode {
    let result = match Load::of(std::env::args().skip(1)) {
        Ok(load) => run(&load).map_err(|error| error.to_string()),
        Err(problem) => Err(problem),
    };
    match result {
        Ok(report) => {
            println!("{report}");
            std::process::ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("open_loop: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

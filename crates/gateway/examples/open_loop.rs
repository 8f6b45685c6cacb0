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
//!
//! `--phases 8000x2,30000x4,8000x2` instead of a rate sends so many requests a second for so many seconds, one after the
//! other on the same connections, and prints a list with one object for each; a request counts where it was due. Requests
//! that are due together leave a connection together. `late_p99_us` says how much later than due requests left: when that
//! is more than a server's answers take, the client is what is measured.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::event::epoll;
use tidemill_base::rand::Rng;
use tidemill_base::time::{Clock, Stopwatch, SystemClock};

/// How long answers are waited for after the last request.
const GRACE: Duration = Duration::from_secs(5);

struct Load {
    address: String,
    path: String,
    body: String,
    phases: Vec<Phase>,
    /// Answers after more than this count as late.
    within: Duration,
    connections: usize,
    keys: u64,
    headers: String,
}

/// So many requests a second for so many seconds.
#[derive(Clone, Copy)]
struct Phase {
    rate: f64,
    seconds: f64,
}

impl Phase {
    fn count(self) -> u64 {
        (self.rate * self.seconds) as u64
    }

    fn of(text: &str) -> Option<Phase> {
        let (rate, seconds) = text.split_once('x')?;
        let phase = Phase { rate: rate.parse().ok()?, seconds: seconds.parse().ok()? };
        (phase.rate.is_finite() && phase.rate > 0.0 && phase.seconds > 0.0).then_some(phase)
    }
}

impl Load {
    fn of(mut arguments: impl Iterator<Item = String>) -> Result<Load, String> {
        let address = arguments.next().ok_or("the first argument is HOST:PORT")?;
        let path = arguments.next().ok_or("the second argument is the path")?;
        let mut load = Load {
            address,
            path,
            body: "{}".to_string(),
            phases: Vec::new(),
            within: Duration::from_millis(50),
            connections: 64,
            keys: 100_000,
            headers: String::new(),
        };
        let mut phase = Phase { rate: 1_000.0, seconds: 5.0 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
            let wrong = |_| format!("{name} {value} is no number");
            match name.as_str() {
                "--rate" => phase.rate = value.parse().map_err(wrong)?,
                "--seconds" => phase.seconds = value.parse().map_err(wrong)?,
                "--phases" => {
                    let phases: Option<_> = value.split(',').map(Phase::of).collect();
                    load.phases = phases.ok_or_else(|| format!("{value} is no list like 8000x2,30000x4"))?;
                }
                "--within-ms" => load.within = Duration::from_secs_f64(value.parse::<f64>().map_err(wrong)? / 1_000.0),
                "--connections" => load.connections = value.parse().map_err(|_| format!("{value} is no number"))?,
                "--keys" => load.keys = value.parse().map_err(|_| format!("{value} is no number"))?,
                "--body" => load.body = value,
                "--header" => load.headers.push_str(&format!("{value}\r\n")),
                other => return Err(format!("{other} is not known")),
            }
        }
        if load.phases.is_empty() {
            load.phases.push(phase);
        }
        if load.connections == 0 || load.keys == 0 || !phase.rate.is_finite() || phase.rate <= 0.0 {
            return Err("connections, keys and rate are above 0".to_string());
        }
        Ok(load)
    }

    fn write(&self, out: &mut Vec<u8>, number: u64, rng: &mut Rng, clock: &SystemClock) {
        let (mut body, key) = (String::with_capacity(2 * self.body.len()), rng.next_u64() % self.keys);
        let mut rest = self.body.as_str();
        while let Some(at) = rest.find('{') {
            body.push_str(&rest[..at]);
            rest = &rest[at..];
            // Memory takes everything.
            let _ = match () {
                () if rest.starts_with("{key}") => write!(body, "{key}"),
                () if rest.starts_with("{n}") => write!(body, "{number}"),
                () if rest.starts_with("{ms}") => write!(body, "{}", clock.now().millis()),
                () => {
                    body.push('{');
                    rest = &rest[1..];
                    continue;
                }
            };
            rest = rest.split_once('}').map_or("", |(_, rest)| rest);
        }
        body.push_str(rest);
        let (path, host, length, headers) = (&self.path, &self.address, body.len(), &self.headers);
        let _ = write!(
            out,
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// When each request that is not answered yet should have been sent, and in which phase.
    appointed: VecDeque<(Duration, usize)>,
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
    fn receive(&mut self, tallies: &mut [Tally], now: impl Fn() -> Duration) -> std::io::Result<bool> {
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
            let Some((appointed, phase)) = self.appointed.pop_front() else { break };
            tallies[phase].count(status, fallback, appointed, at.saturating_sub(appointed));
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

/// What became of the requests of a phase.
struct Tally {
    begin: Duration,
    within: Duration,
    /// Answers by the rule.
    rule: Histogram<u64>,
    /// All answers.
    all: Histogram<u64>,
    /// How much later than due requests left.
    late: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    sent: u64,
    fallbacks: u64,
    good: u64,
    in_time: u64,
    /// Answers of any kind in time.
    all_in_time: u64,
    unanswered: u64,
    hung_up: u64,
    /// Answers by the rule in time, by the tenth of a second in which they were due.
    tenths: Vec<u64>,
}

impl Tally {
    fn new(begin: Duration, phase: Phase, within: Duration) -> Result<Self, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3);
        Ok(Tally {
            begin,
            within,
            rule: histogram()?,
            all: histogram()?,
            late: histogram()?,
            statuses: BTreeMap::new(),
            sent: 0,
            fallbacks: 0,
            good: 0,
            in_time: 0,
            all_in_time: 0,
            unanswered: 0,
            hung_up: 0,
            tenths: vec![0; (phase.seconds * 10.0).ceil() as usize + 1],
        })
    }

    fn count(&mut self, status: u16, fallback: bool, due: Duration, took: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.fallbacks += u64::from(fallback);
        let micros = took.as_micros() as u64;
        self.all.saturating_record(micros);
        self.all_in_time += u64::from(took <= self.within);
        if !(200..300).contains(&status) || fallback {
            return;
        }
        self.good += 1;
        self.rule.saturating_record(micros);
        if took <= self.within {
            self.in_time += 1;
            let tenth = (due.saturating_sub(self.begin).as_millis() / 100) as usize;
            if let Some(count) = self.tenths.get_mut(tenth) {
                *count += 1;
            }
        }
    }

    fn report(&self, phase: Phase) -> serde_json::Value {
        let at = |quantile| self.rule.value_at_quantile(quantile);
        serde_json::json!({
            "rate": phase.rate, "seconds": phase.seconds, "sent": self.sent, "statuses": self.statuses, "good": self.good,
            "in_time": self.in_time, "all_in_time": self.all_in_time, "fallbacks": self.fallbacks, "unanswered": self.unanswered, "hung_up": self.hung_up,
            "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": self.rule.max(),
            "all_p99_us": self.all.value_at_quantile(0.99), "all_max_us": self.all.max(),
            "late_p99_us": self.late.value_at_quantile(0.99), "tenths": self.tenths,
        })
    }
}

/// The connections, and what waits for them.
struct Client {
    poll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    tallies: Vec<Tally>,
    watch: Stopwatch,
}

impl Client {
    fn connect(load: &Load) -> Result<Client, Box<dyn Error>> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let stream = TcpStream::connect(&load.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&poll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
            connections.push(Connection { stream, out: Vec::new(), input: Vec::new(), appointed: VecDeque::new() });
        }
        let (mut tallies, mut begin) = (Vec::new(), Duration::ZERO);
        for phase in &load.phases {
            tallies.push(Tally::new(begin, *phase, load.within)?);
            begin += Duration::from_secs_f64(phase.seconds);
        }
        Ok(Client { poll, connections, tallies, watch: Stopwatch::start() })
    }

    /// Sends what can be sent and takes the answers that are there.
    fn turn(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Box<dyn Error>> {
        for connection in &mut self.connections {
            connection.send()?;
        }
        events.clear();
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.poll, rustix::buffer::spare_capacity(events), Some(&at_once))?;
        for event in events {
            let connection = &mut self.connections[event.data.u64() as usize];
            if !connection.receive(&mut self.tallies, || self.watch.elapsed())? {
                connection.appointed.drain(..).for_each(|(_, phase)| self.tallies[phase].hung_up += 1);
                epoll::delete(&self.poll, &connection.stream)?;
            }
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        self.connections.iter().any(|one| !one.appointed.is_empty())
    }
}

fn run(load: &Load) -> Result<serde_json::Value, Box<dyn Error>> {
    let (clock, mut rng) = (SystemClock::new(), Rng::seeded(1));
    let mut client = Client::connect(load)?;
    let mut events = Vec::with_capacity(load.connections);
    let (mut number, mut end) = (0, Duration::ZERO);
    for (index, phase) in load.phases.iter().enumerate() {
        let (begin, total) = (end, phase.count());
        end += Duration::from_secs_f64(phase.seconds);
        let mut sent = 0;
        while sent < total {
            let now = client.watch.elapsed();
            while sent < total {
                let due = begin + Duration::from_secs_f64(sent as f64 / phase.rate);
                if now < due {
                    break;
                }
                let connection = &mut client.connections[number as usize % load.connections];
                load.write(&mut connection.out, number, &mut rng, &clock);
                connection.appointed.push_back((due, index));
                client.tallies[index].sent += 1;
                client.tallies[index].late.saturating_record((now - due).as_micros() as u64);
                (sent, number) = (sent + 1, number + 1);
            }
            client.turn(&mut events)?;
        }
    }
    while client.is_waiting() && client.watch.elapsed() < end + GRACE {
        client.turn(&mut events)?;
    }
    for (_, phase) in client.connections.iter().flat_map(|one| &one.appointed) {
        client.tallies[*phase].unanswered += 1;
    }
    let reports = load.phases.iter().zip(&client.tallies).map(|(phase, tally)| tally.report(*phase));
    let reports: Vec<serde_json::Value> = reports.collect();
    Ok(match <[serde_json::Value; 1]>::try_from(reports) {
        Ok([only]) => only,
        Err(reports) => reports.into(),
    })
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

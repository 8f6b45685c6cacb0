//! The doors with the real intake behind them and an engine that throws rows away, to measure what a door costs.
//!
//! ```sh
//! cargo run --release -p tidemill-gateway --example intake -- fast 8080 1
//! ```
//! serves `POST /v1/sources/logs` (nine columns, decoded into Arrow) and `POST /v1/endpoints/echo` (answered at once) on the
//! stack of that name, on so many threads, with a token bucket for each address.

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_circuit::decode::BlockData;
use tidemill_connect::{Connector, Full, InboxHandle, NotTaken, Note, Puller, Reading, SHORT_BYTES, Short, Table};
use tidemill_format::{JsonDecoder, JsonOptions};
use tidemill_gateway::{
    Answered, Config, Decoded, Doors, Durability, Endpoint, Hall, Inbox, Options, Question, Rate, Rates, Receipt,
    Refusal, Rejection, Stack, Taken, Tell, Terms, Ticket,
};

fn columns() -> SchemaRef {
    let column = |name: &str, kind| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        column("ts", DataType::Int64),
        column("level", DataType::Utf8),
        column("service", DataType::Utf8),
        column("host", DataType::Utf8),
        column("user_id", DataType::Int64),
        column("ip", DataType::Utf8),
        column("latency_ms", DataType::Float64),
        column("status", DataType::Int32),
        column("msg", DataType::Utf8),
    ]))
}

/// The inbox as a door sees it. Short bodies go straight into its columns.
struct Source {
    handle: InboxHandle,
    decoders: Mutex<Vec<JsonDecoder>>,
}

impl Inbox for Source {
    fn room(&self) -> Result<(), Refusal> {
        self.handle.room().map_err(refusal)
    }

    fn decode(&self, body: &[u8]) -> Result<Decoded, String> {
        let kept = self.decoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = match kept {
            Some(decoder) => decoder,
            None => JsonDecoder::new(JsonOptions::default(), columns()).map_err(|error| error.to_string())?,
        };
        let mut out = tidemill_format::Decoded::default();
        decoder.decode_body(body, &mut out).map_err(|error| error.to_string())?;
        self.decoders.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
        let rows = out.batches.into_iter().map(|decoded| Delta::inserts(decoded.batch)).collect();
        Ok(Decoded { rows, stopped: out.rejected.len() >= 100, rejected: out.rejected })
    }

    fn offer(&self, rows: Vec<Delta>, body: &[u8], _level: Option<Durability>) -> Result<Taken, Refusal> {
        let rows = Delta::concat(&columns(), &rows).map_err(|_| Refusal::Closed)?;
        let records = rows.rows() as u32;
        let taken = self.handle.push(BlockData::Rows(rows), records, &Note::default(), body, |_| ());
        let taken = taken.map_err(refusal)?;
        Ok(Taken { offset: taken.offset, durability: Durability::Memory, durable: None })
    }

    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        if body.len() > SHORT_BYTES {
            let Decoded { rows, rejected, stopped } = self.decode(body).map_err(Rejection::Body)?;
            if !rejected.is_empty() && (!terms.skip_bad || stopped) {
                return Err(Rejection::Records { rejected, stopped });
            }
            let accepted = rows.iter().map(Delta::rows).sum();
            let offset = self.offer(rows, body, None).map_err(Rejection::Refused)?.offset;
            return Ok(Receipt { accepted, rejected, offset, ..Receipt::default() });
        }
        let short = Short { body, skip_bad: terms.skip_bad, quiet: terms.quiet, ..Short::default() };
        let (accepted, rejected) = self.handle.take(&short, |_| ()).map_err(|not_taken| match not_taken {
            NotTaken::Full(full) => Rejection::Refused(refusal(full)),
            NotTaken::Records { rejected, stopped } => Rejection::Records { rejected, stopped },
            NotTaken::Body(reason) => Rejection::Body(reason),
            NotTaken::NotOne { records } => Rejection::Body(format!("{records} records are not one")),
        })?;
        Ok(Receipt { accepted: accepted.records as usize, rejected, offset: accepted.offset, ..Receipt::default() })
    }

    fn wake(&self) {
        self.handle.wake();
    }

    fn durable(&self, _level: Durability) -> u64 {
        u64::MAX
    }

    fn when_durable(&self, _place: u64, _level: Durability, tell: Tell) {
        tell(Ok(()));
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::Waiting { .. } => Refusal::Full,
        Full::TooLarge { .. } => Refusal::TooLarge,
        Full::Closed => Refusal::Closed,
        Full::Lost => Refusal::Lost,
    }
}

/// Answers with a fixed decision where it is asked.
struct Echo;

impl Endpoint for Echo {
    fn deadline(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn ask(&self, _body: &[u8], _terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        let body = br#"{"rows":[{"decision":"allow"}],"rule":"9f3a","version":1}"#;
        let answer = Answered { status: 200, body, fallback: None, rule: "9f3a", version: 1, repeated: false };
        ticket.door.answer(ticket.number, answer);
        Ok(Question(ticket.number))
    }

    fn expire(&self, _question: Question) {}
}

/// Throws rows away, as soon as they come.
fn drain(mut puller: Puller) {
    let mut blocks = VecDeque::new();
    loop {
        if puller.pull(65_536, &mut blocks).is_err() {
            return;
        }
        let nothing = blocks.is_empty();
        blocks.clear();
        if nothing && puller.bell().recv().is_err() {
            return;
        }
        // An engine's step takes a while, in which more comes.
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stack, port, workers] = arguments.as_slice() else {
        return Err("usage: intake fast|standard PORT THREADS".into());
    };
    let stack = match stack.as_str() {
        "fast" => Stack::Fast,
        "standard" => Stack::Standard,
        other => return Err(format!("there is no stack '{other}'").into()),
    };
    let options = vec![("connector".to_string(), "http".to_string())];
    let table = Table { name: "logs".to_string(), columns: columns(), partitioned_by: Vec::new(), options };
    let source = Connector::new(table)?.source(columns())?;
    let handle = source.inbox().ok_or("an inbox can be filled")?;
    let puller = handle.reader(Reading::Following);
    drop(source);
    handle.read_json(JsonOptions::default(), columns(), columns())?;
    std::thread::Builder::new().name("engine".to_string()).spawn(move || drain(puller))?;

    let mut hall = Hall::new();
    hall.add_inbox("logs", Arc::new(Source { handle, decoders: Mutex::default() }));
    hall.add_endpoint("echo", Arc::new(Echo));
    let rate = Rate { count: 100_000_000, per: Duration::from_secs(1), burst: 100_000_000 };
    let options = Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?)),
        stack,
        workers: workers.parse()?,
        rates: Rates { address: Some(rate), ..Rates::default() },
        ..Options::default()
    };
    let _doors = Doors::open(Config::one(options), hall)?;
    std::thread::park();
    Ok(())
}

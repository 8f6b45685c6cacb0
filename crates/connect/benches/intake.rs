//! What taking a body in costs: one JSON object of 200 bytes, kept in a journal or not, handed to a reader now and then.
//!
//! `cargo bench -p tidemill-connect --bench intake` prints nanoseconds a body.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use tidemill_base::time::{Stopwatch, SystemClock};
use tidemill_connect::{Connector, Full, InboxHandle, Keep, Note, Puller, Reading, Short, Table};
use tidemill_format::JsonOptions;
use tidemill_journal::{Disk, Journal, Options};

const BODIES: u64 = 1_000_000;

/// Keeps bodies in a journal, of which nothing is needed again.
struct Kept(Journal);

impl Keep for Kept {
    fn keep(&self, first_record: u64, records: u32, _: &Note<'_>, body: &[u8]) -> Result<u64, Full> {
        let (first_record, records) = (first_record.to_le_bytes(), records.to_le_bytes());
        self.0.append(1, 7, &[&first_record, &records, body]).map(|place| place.0).map_err(|_| Full::Lost)
    }

    fn is_durable(&self, _: u64) -> bool {
        true
    }

    fn let_go(&self, _: u64) {}
}

fn open() -> Result<(InboxHandle, Puller), Box<dyn std::error::Error>> {
    let fields = vec![
        Field::new("card", DataType::Utf8, true),
        Field::new("device", DataType::Utf8, true),
        Field::new("address", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("items", DataType::Int64, true),
    ];
    let decoded = Arc::new(Schema::new(fields.clone()));
    let rows = Arc::new(Schema::new([fields, vec![Field::new("asked", DataType::Boolean, false)]].concat()));
    let options = vec![("connector".to_string(), "http".to_string())];
    let table = Table { name: "payments".into(), columns: decoded.clone(), partitioned_by: vec![], options };
    let source = Connector::new(table)?.source(decoded.clone())?;
    let inbox = source.inbox().ok_or("it is an inbox")?;
    inbox.read_json(JsonOptions::default(), decoded, rows)?;
    let reader = inbox.reader(Reading::Deciding);
    Ok((inbox, reader))
}

/// Takes bodies in, and hands them to the reader after every `step` of them.
fn run(inbox: &InboxHandle, reader: &mut Puller, step: u64) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let body = br#"{"card":"4929-1111-2222-3333","device":"d-0123456789abcdef","address":"203.0.113.117","amount":1234.50,"at":"2026-11-22T10:00:00.123","items":3,"merchant":"m-77","note":"a gift for a friend of mine"}"#;
    let short = Short { body, one: true, ..Short::default() };
    let mut blocks = VecDeque::new();
    let (mut taking, mut handing) = (0, 0);
    for _ in 0..BODIES / step {
        let stopwatch = Stopwatch::start();
        for _ in 0..step {
            inbox.take(&short, |_| {}).map_err(|error| format!("{error:?}"))?;
        }
        taking += stopwatch.elapsed().as_nanos();
        let stopwatch = Stopwatch::start();
        reader.pull(u64::MAX, &mut blocks)?;
        blocks.clear();
        handing += stopwatch.elapsed().as_nanos();
    }
    Ok((taking as f64 / BODIES as f64, handing as f64 / BODIES as f64))
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for kept in [false, true] {
        for step in [1, 16, 256, 4_096] {
            let (inbox, mut reader) = open()?;
            let folder = tempfile::tempdir()?;
            if kept {
                let disk = Arc::new(Disk::open(folder.path().join("journal"))?);
                let options = Options { retain_bytes: 0, ..Options::default() };
                inbox.keep_in(Arc::new(Kept(Journal::open(disk, options, Arc::new(SystemClock::new()))?.0)));
            }
            run(&inbox, &mut reader, step)?;
            let (taking, handing) = run(&inbox, &mut reader, step)?;
            let kept = if kept { "journal" } else { "memory" };
            println!("{kept:8} steps of {step:5}: {taking:7.0} ns to take a body, {handing:7.0} ns to hand it on");
        }
    }
    Ok(())
}

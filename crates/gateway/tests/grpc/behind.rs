//! What stands behind the doors of these tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_circuit::view::{Change, Followed};
use tidemill_format::protobuf::ProtobufDecoder;
use tidemill_format::{JsonDecoder, JsonOptions};
use tidemill_gateway::{
    Answered, BodyKind, Decoded, Durability, Endpoint, Fallback, Follow, Inbox, Lookup, LookupError, Question, Receipt,
    Refusal, Rejection, Rows, Taken, Tell, Terms, Ticket, View,
};

/// The columns of `orders`: (a BIGINT, b STRING).
pub fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]))
}

/// An inbox that holds what it is given, up to `room` rows, and is durable when it is told.
pub struct Orders {
    state: Mutex<Held>,
}

struct Held {
    rows: Vec<i64>,
    room: usize,
    /// Records up to here are flushed; none of them ever will be when the disk is gone.
    flushed: u64,
    waiting: Vec<(u64, Tell)>,
    keys: Vec<String>,
}

impl Default for Orders {
    fn default() -> Self {
        let held = Held { rows: Vec::new(), room: 100_000, flushed: 0, waiting: Vec::new(), keys: Vec::new() };
        Orders { state: Mutex::new(held) }
    }
}

impl Orders {
    /// The values of `a` that were taken.
    pub fn values(&self) -> Vec<i64> {
        self.with(|held| held.rows.clone())
    }

    /// Holds so many rows from now on.
    pub fn hold(&self, room: usize) {
        self.with(|held| held.room = room);
    }

    /// The first `records` are flushed; or the disk is gone.
    pub fn flush(&self, records: Result<u64, &str>) {
        let told = self.with(|held| {
            held.flushed = records.unwrap_or(held.flushed);
            let reached = |place: u64| records.map_or(true, |flushed| place <= flushed);
            held.waiting.extract_if(.., |(place, _)| reached(*place)).collect::<Vec<_>>()
        });
        told.into_iter().for_each(|(_, tell)| tell(records.map(drop).map_err(str::to_string)));
    }

    /// How many acknowledgements wait for the disk.
    pub fn waiting(&self) -> usize {
        self.with(|held| held.waiting.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Held) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inbox for Orders {
    fn room(&self) -> Result<(), Refusal> {
        self.with(|held| if held.rows.len() < held.room { Ok(()) } else { Err(Refusal::Full) })
    }

    fn decode(&self, body: &[u8]) -> Result<Decoded, String> {
        self.decode_kind(body, BodyKind::Json)
    }

    fn offer(&self, rows: Vec<Delta>, _body: &[u8], level: Option<Durability>) -> Result<Taken, Refusal> {
        let (offset, _) = self.push(&rows)?;
        Ok(Taken { offset, durability: level.unwrap_or(Durability::Memory), durable: None })
    }

    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        let Decoded { rows, rejected, stopped } = self.decode_kind(body, terms.kind).map_err(Rejection::Body)?;
        if !rejected.is_empty() && (!terms.skip_bad || stopped) {
            return Err(Rejection::Records { rejected, stopped });
        }
        if let Some(key) = terms.idempotency_key {
            if self.with(|held| held.keys.contains(&key.to_string())) {
                return Ok(Receipt { repeated: true, accepted: 1, ..Receipt::default() });
            }
            self.with(|held| held.keys.push(key.to_string()));
        }
        let accepted = rows.iter().map(Delta::rows).sum();
        let (offset, place) = self.push(&rows).map_err(Rejection::Refused)?;
        let place = terms.durability.map(|_| place);
        Ok(Receipt { accepted, rejected, offset, durability: terms.durability, place, repeated: false })
    }

    fn durable(&self, level: Durability) -> u64 {
        if level == Durability::Flushed { self.with(|held| held.flushed) } else { u64::MAX }
    }

    fn when_durable(&self, place: u64, _level: Durability, tell: Tell) {
        self.with(|held| held.waiting.push((place, tell)));
    }

    fn columns(&self) -> Option<SchemaRef> {
        Some(columns())
    }
}

impl Orders {
    fn decode_kind(&self, body: &[u8], kind: BodyKind) -> Result<Decoded, String> {
        let mut out = tidemill_format::Decoded::default();
        let read = match kind {
            BodyKind::Json => {
                let decoder = JsonDecoder::new(JsonOptions::default(), columns());
                decoder.and_then(|mut decoder| decoder.decode_body(body, &mut out))
            }
            BodyKind::Rows => {
                ProtobufDecoder::new(&columns(), columns()).and_then(|mut decoder| decoder.decode_rows(body, &mut out))
            }
            BodyKind::Columns => ProtobufDecoder::new(&columns(), columns())
                .and_then(|mut decoder| decoder.decode_columns(body, &mut out)),
        };
        read.map_err(|error| error.to_string())?;
        let stopped = out.rejected.len() >= 100;
        let rows = out.batches.into_iter().map(|batch| Delta::inserts(batch.batch)).collect();
        Ok(Decoded { rows, rejected: out.rejected, stopped })
    }

    /// The rows before these, and the place behind them.
    fn push(&self, rows: &[Delta]) -> Result<(u64, u64), Refusal> {
        let values: Vec<i64> =
            rows.iter().flat_map(|delta| delta.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        self.with(|held| {
            let offset = held.rows.len();
            if offset + values.len() > held.room {
                return Err(Refusal::Full);
            }
            held.rows.extend(values);
            Ok((offset as u64, held.rows.len() as u64))
        })
    }
}

/// An endpoint that answers what a request says, at once, later, or never.
#[derive(Default)]
pub struct Score {
    waiting: Mutex<Vec<Option<Ticket>>>,
}

const RULE: &str = "9f3a";

fn answered(body: &[u8], fallback: Option<Fallback>) -> Answered<'_> {
    let version = if fallback.is_some() { 0 } else { 7 };
    Answered { status: 200, body, fallback, rule: RULE, version, repeated: false }
}

impl Score {
    /// Answers those who wait, the last first.
    pub fn answer_waiting(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        for (number, ticket) in waiting.into_iter().enumerate().rev() {
            if let Some(ticket) = ticket {
                ticket.door.answer(ticket.number, answered(format!("{{\"late\":{number}}}").as_bytes(), None));
            }
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.lock().iter().flatten().count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Ticket>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint for Score {
    fn deadline(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn columns(&self) -> Option<SchemaRef> {
        Some(Arc::new(Schema::new(vec![
            Field::new("decision", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
        ])))
    }

    fn ask(&self, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        let text = String::from_utf8_lossy(body);
        let answer = |answered| ticket.door.answer(ticket.number, answered);
        match text.as_ref() {
            _ if terms.kind == BodyKind::Rows => {
                answer(answered(format!("{{\"bytes\":{}}}", body.len()).as_bytes(), None))
            }
            "wait" => {
                let mut waiting = self.lock();
                waiting.push(Some(ticket));
                return Ok(Question(waiting.len() as u64 - 1));
            }
            "full" => return Err(Rejection::Refused(Refusal::Full)),
            "bad" => return Err(Rejection::Body("this is no JSON".to_string())),
            "late" => answer(Answered { status: 504, ..answered(b"", None) }),
            "told" => answer(Answered {
                status: 500,
                ..answered(br#"{"code":"TM9999","detail":"an expression failed","help":"mend it"}"#, None)
            }),
            "again" => answer(Answered { repeated: true, ..answered(b"{}", None) }),
            _ => answer(answered(body, None)),
        }
        Ok(Question(u64::MAX))
    }

    fn expire(&self, Question(number): Question) {
        let ticket = self.lock().get_mut(number as usize).and_then(Option::take);
        if let Some(ticket) = ticket {
            ticket.door.answer(ticket.number, answered(b"{\"fallback\":true}", Some(Fallback::Deadline)));
        }
    }
}

/// Ten rows (k STRING, n BIGINT), found by k; followed, it takes one back and adds two, and the follower falls behind.
pub struct Ten;

fn ten(numbers: std::ops::Range<i64>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| format!("k{n}"))));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).expect("two columns")
}

impl View for Ten {
    fn read(&self, lookup: &Lookup) -> Result<Rows, LookupError> {
        let batch = match lookup.key.as_slice() {
            [] => ten(0..10),
            [part] if part.column.as_deref().is_none_or(|column| column == "k") => {
                let number = part.value.trim_start_matches('k').parse().unwrap_or(10);
                ten(number..10.min(number + 1))
            }
            _ => {
                let problem = "the key of this view is 'k' alone".to_string();
                return Err(LookupError::Key { problem, help: "ask ?key=..".to_string() });
            }
        };
        let more = batch.num_rows() > lookup.limit;
        let batch = batch.slice(0, batch.num_rows().min(lookup.limit));
        Ok(Rows { version: 42, batches: vec![batch], more })
    }

    fn follow(&self) -> Result<(Rows, Box<dyn Follow>), LookupError> {
        let rows = self.read(&Lookup { limit: usize::MAX, ..Default::default() })?;
        let update = vec![Delta::weighted(ten(3..5), vec![-1, 2]), Delta::inserts(ten(20..21))];
        let steps = vec![Followed::Lost, Followed::Changed(Change { version: 43, deltas: update })];
        Ok((rows, Box::new(Steps(steps))))
    }

    fn columns(&self) -> Option<SchemaRef> {
        Some(ten(0..0).schema())
    }
}

struct Steps(Vec<Followed>);

impl Follow for Steps {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Followed> {
        Poll::Ready(self.0.pop().unwrap_or(Followed::Ended))
    }
}

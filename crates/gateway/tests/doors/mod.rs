//! Doors over real sockets: what comes in, what goes out, and what is refused.
//!
//! They are built twice, for the two stacks: `doors.rs` and `doors_fast.rs` beside this folder.

mod callers;
mod client;
mod decide;
mod floods;
mod h2spec;
mod hostile;
mod http2;
mod ingest;
mod secure;
mod server;
mod stream;
mod tables;
mod views;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tidemill_circuit::Delta;
use tidemill_format::{JsonDecoder, JsonOptions};
use tidemill_gateway::{
    Decoded, Durability, Durable, Hall, Inbox, Lookup, LookupError, Options, Receipt, Refusal, Rejection, Rows, Taken,
    Tell, Terms, View,
};

use self::server::Server;

/// An inbox of rows (a BIGINT, b STRING) that holds a few of them.
struct Box7 {
    rows: Mutex<Vec<Delta>>,
    rows_max: usize,
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]))
}

impl Box7 {
    fn count(&self) -> usize {
        self.rows.lock().expect("no test panics with it").iter().map(Delta::rows).sum()
    }

    fn values(&self) -> Vec<i64> {
        let rows = self.rows.lock().expect("no test panics with it");
        let columns = rows.iter().map(|delta| delta.column(0).as_any().downcast_ref::<Int64Array>());
        columns.flat_map(|column| column.expect("a is BIGINT").iter().flatten().collect::<Vec<_>>()).collect()
    }
}

impl Inbox for Box7 {
    fn room(&self) -> Result<(), Refusal> {
        if self.count() < self.rows_max { Ok(()) } else { Err(Refusal::Full) }
    }

    fn decode(&self, body: &[u8]) -> Result<Decoded, String> {
        let mut decoder = JsonDecoder::new(JsonOptions::default(), columns()).map_err(|error| error.to_string())?;
        let mut out = tidemill_format::Decoded::default();
        decoder.decode_body(body, &mut out).map_err(|error| error.to_string())?;
        let stopped = out.rejected.len() >= 100;
        let rows = out.batches.into_iter().map(|batch| Delta::inserts(batch.batch)).collect();
        Ok(Decoded { rows, rejected: out.rejected, stopped })
    }

    fn offer(&self, rows: Vec<Delta>, _body: &[u8], level: Option<Durability>) -> Result<Taken, Refusal> {
        let offset = self.count();
        let more: usize = rows.iter().map(Delta::rows).sum();
        if more > self.rows_max {
            return Err(Refusal::TooLarge);
        }
        if offset + more > self.rows_max {
            return Err(Refusal::Full);
        }
        self.rows.lock().expect("no test panics with it").extend(rows);
        let durable: Option<Durable> = match level {
            None | Some(Durability::Memory) => None,
            Some(Durability::Process) => Some(Box::pin(async {
                tokio::task::yield_now().await;
                Ok(())
            })),
            Some(Durability::Flushed) => Some(Box::pin(async { Err("the disk is gone".to_string()) })),
        };
        Ok(Taken { offset: offset as u64, durability: level.unwrap_or(Durability::Memory), durable })
    }

    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        let Decoded { rows, rejected, stopped } = self.decode(body).map_err(Rejection::Body)?;
        if !rejected.is_empty() && (!terms.skip_bad || stopped) {
            return Err(Rejection::Records { rejected, stopped });
        }
        let accepted = rows.iter().map(Delta::rows).sum();
        let taken = self.offer(rows, body, terms.durability).map_err(Rejection::Refused)?;
        let place = taken.durable.is_some().then_some(taken.offset + 1);
        let (offset, durability) = (taken.offset, Some(taken.durability));
        Ok(Receipt { accepted, rejected, offset, durability, place, repeated: false })
    }

    fn durable(&self, _level: Durability) -> u64 {
        0
    }

    fn when_durable(&self, _place: u64, level: Durability, tell: Tell) {
        tell(if level == Durability::Flushed { Err("the disk is gone".to_string()) } else { Ok(()) });
    }
}

/// Ten rows (k STRING, n BIGINT), found by k.
struct Ten;

impl View for Ten {
    fn read(&self, lookup: &Lookup) -> Result<Rows, LookupError> {
        let all: Vec<(String, i64)> = (0..10).map(|n| (format!("k{n}"), n)).collect();
        let kept: Vec<_> = match lookup.key.as_slice() {
            [] => all,
            [part] if part.column.as_deref().is_none_or(|column| column == "k") => {
                all.into_iter().filter(|(key, _)| *key == part.value).collect()
            }
            _ => {
                let problem = "the key of this view is 'k' alone".to_string();
                return Err(LookupError::Key { problem, help: "ask ?key=..".to_string() });
            }
        };
        let more = kept.len() > lookup.limit;
        let kept = &kept[..kept.len().min(lookup.limit)];
        let schema = Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("n", DataType::Int64, false)]);
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(kept.iter().map(|(key, _)| key)));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(kept.iter().map(|(_, n)| *n)));
        let batch = RecordBatch::try_new(Arc::new(schema), vec![keys, numbers]);
        let batch = batch.map_err(|error| LookupError::Failed(error.to_string()))?;
        Ok(Rows { version: 42, batches: vec![batch], more })
    }
}

/// A hall with source `orders` and view `ten`.
fn hall() -> (Hall, Arc<Box7>) {
    let orders = Arc::new(Box7 { rows: Mutex::default(), rows_max: 1_000 });
    let mut hall = Hall::new();
    hall.add_inbox("orders", orders.clone());
    hall.add_view("ten", Arc::new(Ten));
    (hall, orders)
}

/// A door on a port of the system's choice, with source `orders`, view `ten` and table `rules` behind it.
struct Door {
    server: Option<Server>,
    orders: Arc<Box7>,
    rules: Arc<tables::Rules>,
}

impl Door {
    fn open() -> Self {
        Door::with(Options::default())
    }

    fn without_tables() -> Self {
        Door::of(Options::default(), false)
    }

    fn with(options: Options) -> Self {
        Door::of(options, true)
    }

    fn of(options: Options, tables: bool) -> Self {
        let (mut hall, orders) = hall();
        let rules = Arc::new(tables::Rules::default());
        if tables {
            hall.add_table("rules", rules.clone());
            hall.show_versions(Arc::new(tables::States));
        }
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(Options { listen, ..options }, hall).expect("the loopback has free ports");
        Door { server: Some(server), orders, rules }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("taken on drop only")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::from_secs(5));
        }
    }
}

#[test]
fn an_address_others_can_reach_is_refused_unless_allowed() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let options = Options { listen: address.parse().expect("an address"), ..Options::default() };
        let Err(error) = Server::start(options, Hall::new()) else { panic!("{address} was opened") };
        assert!(error.to_string().contains("other machines"), "{error}");
    }
    let listen = "0.0.0.0:0".parse().expect("an address");
    let server = Server::start(Options { listen, insecure: true, ..Options::default() }, Hall::new());
    server.expect("it was allowed").stop(Duration::from_secs(1));
}

#[test]
fn an_address_in_use_is_an_error() {
    let door = Door::open();
    let options = Options { listen: door.server().address(), ..Options::default() };
    let Err(error) = Server::start(options, Hall::new()) else { panic!("two doors on one port") };
    assert!(error.to_string().contains("cannot listen on 127.0.0.1:"), "{error}");
}

//! The changes of a view, as server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use serde_json::json;
use tidemill_circuit::Delta;
use tidemill_circuit::view::{self, ViewSpec, ViewWriter};
use tidemill_gateway::{Follow, Hall, Lookup, LookupError, Options, Rows, Server, View};

use super::client::request;

/// A view of numbers; the second says whether it knows what changed before.
struct Numbers(view::View, bool);

impl View for Numbers {
    fn read(&self, _lookup: &Lookup) -> Result<Rows, LookupError> {
        Err(LookupError::Failed("it is followed only".to_string()))
    }

    fn follow(&self) -> Result<(Rows, Box<dyn Follow>), LookupError> {
        let (snapshot, follower) = self.0.follow().map_err(|error| LookupError::Failed(error.to_string()))?;
        let view::Snapshot { version, batches } = snapshot;
        Ok((Rows { version, batches, more: false }, Box::new(follower)))
    }

    fn follow_from(&self, version: u64) -> Result<Option<Box<dyn Follow>>, LookupError> {
        let follower = self.0.follow_from(version).filter(|_| self.1);
        Ok(follower.map(|follower| Box::new(follower) as Box<dyn Follow>))
    }
}

fn rows(values: Vec<i64>) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(values)) as _)]).expect("one column")
}

fn open() -> (Server, ViewWriter) {
    open_knowing(false)
}

fn open_knowing(before: bool) -> (Server, ViewWriter) {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let spec = ViewSpec { name: "numbers".to_string(), schema, key: None, append_only: false };
    let (mut writer, view) = view::view(spec).expect("integers can be compared");
    writer.apply(4, &[Delta::inserts(rows(vec![1, 2]))]).expect("rows come");
    let mut hall = Hall::new();
    hall.add_view("numbers", Arc::new(Numbers(view, before)));
    let listen = "127.0.0.1:0".parse().expect("an address");
    (Server::start(Options { listen, ..Options::default() }, hall).expect("the loopback has free ports"), writer)
}

/// A stream that is read line by line.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(server: &Server, seen: Option<&str>) -> Self {
        Events::at(server, "/v1/views/numbers/stream", seen)
    }

    fn at(server: &Server, target: &str, seen: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(server.address()).expect("the door listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has time-outs");
        let headers: Vec<_> = seen.map(|seen| ("Last-Event-ID", seen)).into_iter().collect();
        stream.write_all(&request("GET", target, &headers, b"")).expect("the door reads");
        Events(BufReader::new(stream))
    }

    /// The next event's name, id and data.
    fn next(&mut self) -> Option<(String, Option<u64>, serde_json::Value)> {
        let (mut name, mut id) = (String::new(), None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("the door writes") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => name = value.to_string(),
                Some(("id", value)) => id = value.parse().ok(),
                Some(("data", value)) => return Some((name, id, serde_json::from_str(value).expect("JSON"))),
                _ => {}
            }
        }
    }
}

#[test]
fn begins_with_the_rows_and_misses_no_change() {
    let (server, mut writer) = open();
    let mut events = Events::of(&server, None);
    let event = |name: &str, id: Option<u64>, data| Some((name.to_string(), id, data));
    assert_eq!(events.next(), event("rows", None, json!({"version": 4, "rows": [{"n": 1}, {"n": 2}]})));
    assert_eq!(events.next(), event("ready", Some(4), json!({"version": 4})));
    writer.apply(5, &[Delta::weighted(rows(vec![1, 3]), vec![-1, 2])]).expect("rows come and go");
    let change = json!({"version": 5, "deletes": [{"n": 1}], "inserts": [{"n": 3}, {"n": 3}]});
    assert_eq!(events.next(), event("change", Some(5), change));
    drop(writer);
    assert_eq!(events.next().map(|(name, ..)| name).as_deref(), Some("ended"));
    server.stop(Duration::from_secs(5));
}

#[test]
fn goes_on_where_nothing_was_missed_and_begins_anew_else() {
    let (server, mut writer) = open();
    let mut events = Events::of(&server, Some("4"));
    assert_eq!(events.next().map(|(name, ..)| name).as_deref(), Some("ready"));
    writer.apply(6, &[Delta::inserts(rows(vec![9]))]).expect("rows come");
    assert_eq!(events.next().map(|(name, ..)| name).as_deref(), Some("change"));
    let mut events = Events::of(&server, Some("5"));
    let names: Vec<String> =
        std::iter::from_fn(|| events.next()).take_while(|(name, ..)| name != "ready").map(|(name, ..)| name).collect();
    assert_eq!(names, ["reset", "rows", "rows"]);
    server.stop(Duration::from_secs(5));
}

#[test]
fn goes_on_with_what_came_after_a_version() {
    let (server, mut writer) = open_knowing(true);
    writer.apply(6, &[Delta::inserts(rows(vec![9]))]).expect("rows come");
    writer.apply(7, &[Delta::inserts(rows(vec![8]))]).expect("rows come");
    let check = |target: &str, seen: Option<&str>, expected: &[(&str, Option<u64>)]| {
        let mut events = Events::at(&server, target, seen);
        let said: Vec<_> = expected.iter().filter_map(|_| events.next().map(|(name, id, _)| (name, id))).collect();
        let expected: Vec<_> = expected.iter().map(|(name, id)| (name.to_string(), *id)).collect();
        assert_eq!(said, expected, "{target} {seen:?}");
    };
    let stream = "/v1/views/numbers/stream";
    let from = "/v1/views/numbers/stream?from=4";
    check(from, None, &[("ready", Some(4)), ("change", Some(6)), ("change", Some(7))]);
    check(stream, Some("6"), &[("ready", Some(6)), ("change", Some(7))]);
    // Who comes back goes on from there, and not from where it once began.
    check(from, Some("6"), &[("ready", Some(6)), ("change", Some(7))]);
    check("/v1/views/numbers/stream?from=8", None, &[("reset", None), ("rows", None)]);
    server.stop(Duration::from_secs(5));
}

#[test]
fn a_stream_ends_when_the_door_closes() {
    let (server, _writer) = open();
    let mut events = Events::of(&server, Some("4"));
    assert_eq!(events.next().map(|(name, ..)| name).as_deref(), Some("ready"));
    let stopping = std::thread::spawn(move || server.stop(Duration::from_secs(20)));
    assert_eq!(events.next().map(|(name, ..)| name).as_deref(), Some("ended"));
    assert_eq!(events.next(), None);
    stopping.join().expect("stopping does not panic");
}

#[test]
fn an_id_that_is_none_is_refused() {
    let (server, _writer) = open();
    let mut line = String::new();
    Events::of(&server, Some("yesterday")).0.read_line(&mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 400"), "{line}");
}

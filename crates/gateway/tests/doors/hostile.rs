//! Clients that send nonsense, half of it, or nothing.

use std::time::Duration;

use tidemill_gateway::Options;

use super::Door;
use super::client::{Client, get, post, request};

/// Sends bytes and gives the status of each answer until the door closes the connection.
fn statuses(door: &Door, bytes: &[u8]) -> Vec<u16> {
    let mut client = Client::new(door);
    client.send(bytes);
    client.finish();
    std::iter::from_fn(|| client.answer()).map(|answer| answer.status).collect()
}

#[test]
fn refuses_what_is_not_http() {
    let door = Door::open();
    let nothing_accepted = |bytes: &[u8]| {
        let statuses = statuses(&door, bytes);
        assert!(statuses.iter().all(|status| *status >= 400), "{statuses:?}: {}", String::from_utf8_lossy(bytes));
        assert_eq!(door.orders.count(), 0, "{}", String::from_utf8_lossy(bytes));
    };
    let head = "POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    nothing_accepted(b"\0\x01\x02garbage\r\n\r\n");
    nothing_accepted(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage instead of a frame");
    nothing_accepted(b"GET\r\n\r\n");
    nothing_accepted(format!("{head}Content-Length: 8\r\nContent-Length: 9\r\n\r\n{{\"a\": 1}}").as_bytes());
    nothing_accepted(format!("{head}Content-Length: -8\r\n\r\n{{\"a\": 1}}").as_bytes());
    nothing_accepted(format!("{head}Content-Length: 8 \r\nBad Header: 1\r\n\r\n{{\"a\": 1}}").as_bytes());
    nothing_accepted(format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{\"a\": 1}}\r\n0\r\n\r\n").as_bytes());
    nothing_accepted(format!("{head}Content-Length: 99\r\n\r\n{{\"a\": 1}}").as_bytes());
    nothing_accepted(format!("{head}X: {}\r\n\r\n", "y".repeat(1 << 20)).as_bytes());
    nothing_accepted(format!("{head}{}\r\n", "X: y\r\n".repeat(10_000)).as_bytes());
    assert_eq!(get(&door, "/v1/health").status, 200, "the door still stands");
}

#[test]
fn answers_pipelined_requests_in_order() {
    let door = Door::open();
    let one = request("POST", "/v1/sources/orders", &[("Content-Type", "application/json")], b"{\"a\": 1}");
    let other = request("GET", "/v1/views/none", &[], b"");
    let all: Vec<u8> = [one.clone(), other, one].concat();
    assert_eq!(statuses(&door, &all), [202, 404, 202]);
    assert_eq!(door.orders.count(), 2);
}

#[test]
fn drops_a_client_that_does_not_finish_its_request() {
    let short = Duration::from_millis(200);
    let door = Door::with(Options { header_timeout: short, body_timeout: short, ..Options::default() });
    for beginning in ["", "P", "PRI * HT", "GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut client = Client::new(&door);
        client.send(beginning.as_bytes());
        assert!(client.answer().is_none_or(|answer| answer.status == 408), "{beginning:?}");
        assert!(client.answer().is_none(), "the connection is closed");
    }
    let mut client = Client::new(&door);
    client.send(b"POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    client.send(b"Content-Length: 8\r\n\r\n{\"a\":");
    assert_eq!(client.answer().map(|answer| answer.status), Some(408));
    assert!(client.answer().is_none(), "the connection is closed");
}

#[test]
fn a_connection_waits_until_another_ends() {
    let door = Door::with(Options { connections_max: 1, ..Options::default() });
    let mut first = Client::new(&door);
    let health = request("GET", "/v1/health", &[], b"");
    first.send(&health);
    assert_eq!(first.answer().map(|answer| answer.status), Some(200));
    let mut second = Client::new(&door);
    second.send(&health);
    first.send(&health);
    assert_eq!(first.answer().map(|answer| answer.status), Some(200));
    drop(first);
    assert_eq!(second.answer().map(|answer| answer.status), Some(200));
}

#[test]
fn an_open_request_is_answered_before_the_door_closes() {
    let mut door = Door::open();
    let mut client = Client::new(&door);
    client.send(b"POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    client.send(b"Expect: 100-continue\r\nContent-Length: 8\r\n\r\n");
    assert_eq!(client.answer().map(|answer| answer.status), Some(100));
    let server = door.server.take().expect("it runs");
    let address = server.address();
    let stopping = std::thread::spawn(move || server.stop(Duration::from_secs(20)));
    client.send(b"{\"a\": 1}");
    assert_eq!(client.answer().map(|answer| answer.status), Some(202));
    stopping.join().expect("stopping does not panic");
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is closed");
    assert_eq!(door.orders.count(), 1);
}

#[test]
fn a_stalled_request_does_not_keep_the_door_open() {
    let mut door = Door::open();
    let mut client = Client::new(&door);
    client.send(b"POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    client.send(b"Expect: 100-continue\r\nContent-Length: 8\r\n\r\n");
    assert_eq!(client.answer().map(|answer| answer.status), Some(100));
    door.server.take().expect("it runs").stop(Duration::from_millis(100));
    assert!(client.answer().is_none(), "it was cut off");
    assert_eq!(door.orders.count(), 0);
}

#[test]
fn many_clients_lose_nothing() {
    let door = Door::open();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = Client::new(&door);
                for a in 0..20 {
                    let body = format!("{{\"a\": {a}}}");
                    let kind = ("Content-Type", "application/json");
                    client.send(&request("POST", "/v1/sources/orders", &[kind], body.as_bytes()));
                    assert_eq!(client.answer().map(|answer| answer.status), Some(202));
                }
            });
        }
    });
    assert_eq!(door.orders.count(), 400);
    assert_eq!(post(&door, "/v1/sources/orders", "{\"a\": 1}").json()["offset"], 400);
}

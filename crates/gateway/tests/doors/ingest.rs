//! Events in.

use std::io::Write;

use serde_json::json;
use tidemill_gateway::Options;

use super::Door;
use super::client::{Client, exchange, post, request};

const ORDERS: &str = "/v1/sources/orders";

fn send(door: &Door, headers: &[(&str, &str)], body: &[u8]) -> super::client::Answer {
    exchange(door, &request("POST", ORDERS, headers, body))
}

#[test]
fn takes_an_object_an_array_and_lines() {
    let door = Door::open();
    let check = |kind: &str, body: &str, accepted: u64, offset: u64| {
        let answer = send(&door, &[("Content-Type", kind)], body.as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
        let expected = json!({"accepted": accepted, "offset": offset, "durability": "memory"});
        assert_eq!(answer.json(), expected, "{body}");
    };
    check("application/json", r#"{"a": 1, "b": "x"}"#, 1, 0);
    check("application/json; charset=UTF-8", "[{\"a\": 2},\n {\"a\": 3}]", 2, 1);
    check("application/x-ndjson", "{\"a\": 4}\n{\"a\": 5}\n\n{\"a\": 6}", 3, 3);
    check("application/json", "[]", 0, 6);
    assert_eq!(door.orders.values(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn names_each_bad_record_and_takes_nothing() {
    let door = Door::open();
    let answer = post(&door, ORDERS, "{\"a\": 1}\n{\"a\": \"x\"}\n{\"a\": 3}\n{\"a\": }\n");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!((&body["code"], &body["rejected"], &body["status"]), (&json!("TM5101"), &json!(2), &json!(400)));
    let places: Vec<_> =
        body["errors"].as_array().expect("a list").iter().map(|e| (&e["line"], &e["column"])).collect();
    assert_eq!(places, [(&json!(2), &json!(7)), (&json!(4), &json!(7))], "{body}");
    assert_eq!(door.orders.count(), 0);
}

#[test]
fn skips_bad_records_when_asked() {
    let door = Door::open();
    let target = format!("{ORDERS}?on_error=skip");
    let answer = post(&door, &target, "[{\"a\": 1}, {\"a\": true}, {\"a\": 3}]");
    assert_eq!(answer.status, 202);
    let body = answer.json();
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(2), &json!(1)));
    assert_eq!((&body["errors"][0]["line"], &body["errors"][0]["column"]), (&json!(1), &json!(18)));
    let answer = post(&door, &target, &"{\"a\": true}\n".repeat(150));
    assert_eq!(answer.status, 400, "what comes after the hundredth bad record is not known: {answer:?}");
    assert_eq!(door.orders.values(), [1, 3]);
}

#[test]
fn names_at_most_a_hundred_bad_records() {
    let door = Door::open();
    let answer = post(&door, ORDERS, &"{\"a\": true}\n".repeat(150));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["errors"].as_array().map(Vec::len), Some(100));
}

#[test]
fn suggests_the_source_that_was_meant() {
    let answer = post(&Door::open(), "/v1/sources/ordres", "{}");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["help"], json!("did you mean 'orders'?"));
    assert_eq!(
        post(&Door::open(), "/v1/source/orders", "{}").json()["help"],
        json!("did you mean /v1/sources/{name}?")
    );
}

#[test]
fn refuses_what_it_does_not_understand() {
    let door = Door::open();
    let json = ("Content-Type", "application/json");
    let check = |bytes: Vec<u8>, status: u16, part: &str| {
        let answer = exchange(&door, &bytes);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
        assert_eq!(answer.json()["status"], json!(status));
    };
    check(request("GET", ORDERS, &[], b""), 405, "use POST");
    check(request("POST", ORDERS, &[], b"{}"), 415, "Content-Type: application/json");
    check(request("POST", ORDERS, &[("Content-Type", "text/csv")], b"1,2"), 415, "text/csv");
    check(request("POST", ORDERS, &[("Content-Type", "application/json; charset=latin1")], b"{}"), 415, "latin1");
    check(request("POST", ORDERS, &[json, ("Content-Encoding", "br")], b"{}"), 415, "gzip, zstd");
    check(request("POST", "/v1/sources/orders?on_eror=skip", &[json], b"{}"), 400, "did you mean 'on_error'?");
    check(request("POST", "/v1/sources/orders?on_error=drop", &[json], b"{}"), 400, "'skip'");
    check(request("POST", "/v1/sources/%ff", &[json], b"{}"), 400, "percent-encoded");
    check(
        b"POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n".to_vec(),
        411,
        "body",
    );
    check(request("POST", ORDERS, &[json, ("Content-Encoding", "gzip")], b"{\"a\": 1}"), 400, "unpacked");
    check(request("POST", "/nowhere", &[json], b"{}"), 404, "/v1/health");
    assert_eq!(door.orders.count(), 0);
}

#[test]
fn unpacks_bodies() {
    let door = Door::open();
    let text = "{\"a\": 7}\n".repeat(200);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).expect("memory takes everything");
    let gzip = gzip.finish().expect("memory takes everything");
    let zstd = zstd::encode_all(text.as_bytes(), 3).expect("memory takes everything");
    for (encoding, packed) in [("gzip", gzip), ("zstd", zstd)] {
        let headers = [("Content-Type", "application/x-ndjson"), ("Content-Encoding", encoding)];
        let answer = send(&door, &headers, &packed);
        assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(200)), "{encoding}");
    }
}

#[test]
fn refuses_bodies_that_are_or_become_too_large() {
    let door = Door::with(Options { body_bytes_max: 1_000, inflated_bytes_max: 5_000, ..Options::default() });
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "zstd")];
    let bomb = zstd::encode_all([b' '; 5_001].as_slice(), 3).expect("memory takes everything");
    assert!(bomb.len() < 1_000);
    assert_eq!(send(&door, &headers, &bomb).status, 413);
    assert_eq!(post(&door, ORDERS, &" ".repeat(1_001)).status, 413);
    assert_eq!(post(&door, ORDERS, &" ".repeat(1_000)).status, 202);

    let mut client = Client::new(&door);
    client.send(b"POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    client.send(b"Transfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send(format!("190\r\n{}\r\n", " ".repeat(400)).as_bytes());
    }
    assert_eq!(client.answer().map(|answer| answer.status), Some(413));
}

#[test]
fn tells_the_sender_to_come_back_when_the_inbox_is_full() {
    let door = Door::open();
    assert_eq!(post(&door, ORDERS, &"{\"a\": 1}\n".repeat(1_001)).status, 413, "it would never fit");
    assert_eq!(post(&door, ORDERS, &"{\"a\": 1}\n".repeat(990)).status, 202);
    for count in [11, 20] {
        let answer = post(&door, ORDERS, &"{\"a\": 1}\n".repeat(count));
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    }
    assert_eq!(post(&door, ORDERS, &"{\"a\": 1}\n".repeat(10)).status, 202);
    assert_eq!(post(&door, ORDERS, "{\"a\": 1}").status, 429, "it is full now");
    assert_eq!(door.orders.count(), 1_000);
}

#[test]
fn holds_no_more_than_its_budget() {
    let door = Door::with(Options { inflight_bytes_max: 64 << 10, ..Options::default() });
    let mut slow = Client::new(&door);
    slow.send(b"POST /v1/sources/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    slow.send(b"Expect: 100-continue\r\nContent-Length: 60000\r\n\r\n");
    assert_eq!(slow.answer().map(|answer| answer.status), Some(100), "the door waits for the body, which is paid for");
    let answer = post(&door, ORDERS, &" ".repeat(10_000));
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    slow.send(&b" ".repeat(60_000));
    assert_eq!(slow.answer().map(|answer| answer.status), Some(202));
    assert_eq!(post(&door, ORDERS, &" ".repeat(10_000)).status, 202);
}

#[test]
fn refuses_events_while_draining_and_still_answers_views() {
    let door = Door::open();
    assert_eq!(super::client::get(&door, "/v1/health").json()["status"], json!("ok"));
    door.server().refuse_events();
    let answer = post(&door, ORDERS, "{\"a\": 1}");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(super::client::get(&door, "/v1/health").status, 503);
    assert_eq!(super::client::get(&door, "/v1/views/ten").status, 200);
}

#[test]
fn acknowledges_when_the_events_are_as_durable_as_was_asked() {
    let door = Door::open();
    let answer = post(&door, &format!("{ORDERS}?durability=process"), "{\"a\": 1}");
    assert_eq!((answer.status, &answer.json()["durability"]), (202, &json!("process")));
    let answer = post(&door, &format!("{ORDERS}?durability=flushed"), "{\"a\": 1}");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("TM5115")));
    for word in ["memory", "forever"] {
        let answer = post(&door, &format!("{ORDERS}?durability={word}"), "{\"a\": 1}");
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("TM5103")), "{word}");
    }
}

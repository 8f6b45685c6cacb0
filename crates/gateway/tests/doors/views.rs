//! Rows out.

use serde_json::json;

use super::Door;
use super::client::{exchange, get, request};

#[test]
fn answers_rows_as_json() {
    let door = Door::open();
    let answer = get(&door, "/v1/views/ten?limit=2");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!([{"k": "k0", "n": 0}, {"k": "k1", "n": 1}]));
    assert_eq!((answer.header("tidemill-version"), answer.header("tidemill-more")), (Some("42"), Some("true")));
    let answer = get(&door, "/v1/views/ten");
    assert_eq!(answer.json().as_array().map(Vec::len), Some(10));
    assert_eq!(answer.header("tidemill-more"), Some("false"));
}

#[test]
fn answers_rows_as_lines() {
    let door = Door::open();
    let answer = exchange(&door, &request("GET", "/v1/views/ten?limit=2", &[("Accept", "application/x-ndjson")], b""));
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.body, "{\"k\":\"k0\",\"n\":0}\n{\"k\":\"k1\",\"n\":1}\n");
}

#[test]
fn finds_rows_by_key() {
    let door = Door::open();
    for target in ["/v1/views/ten?key=k7", "/v1/views/ten?key.k=k%37"] {
        assert_eq!(get(&door, target).json(), json!([{"k": "k7", "n": 7}]), "{target}");
    }
    assert_eq!(get(&door, "/v1/views/ten?key=none").json(), json!([]));
}

#[test]
fn says_what_is_wrong_with_a_question() {
    let door = Door::open();
    let check = |target: &str, status: u16, part: &str| {
        let answer = get(&door, target);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    };
    check("/v1/views/tenn", 404, "did you mean 'ten'?");
    check("/v1/views/ten?key=1&key=2", 400, "'k' alone");
    check("/v1/views/ten?limit=many", 400, "whole number");
    check("/v1/views/ten?sort=n", 400, "no parameter 'sort'");
    let answer = exchange(&door, &request("GET", "/v1/views/ten", &[("Accept", "text/html")], b""));
    assert_eq!(answer.status, 406);
    let answer = exchange(&door, &request("DELETE", "/v1/views/ten", &[], b""));
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn lists_what_there_is() {
    let door = Door::open();
    assert_eq!(get(&door, "/v1/sources").json(), json!(["orders"]));
    assert_eq!(get(&door, "/v1/views").json(), json!(["ten"]));
}

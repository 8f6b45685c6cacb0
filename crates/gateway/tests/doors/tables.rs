//! Versioned tables and the versions of state: what is asked of them gets there, and what they say gets out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value as Json, json};
use tidemill_gateway::{Denial, Ground, KeyPart, Submitted, Table, TableRows, Versions};

use super::Door;
use super::client::{Client, exchange, get, post, request};

/// A table that says yes to most, and what it was asked.
#[derive(Default)]
pub struct Rules {
    asked: Mutex<Vec<String>>,
    pub looked: AtomicU64,
    pub forgotten: AtomicU64,
}

/// How many looks a submit waits that rests on `soon`.
const LOOKS: u64 = 3;

fn denial(ground: Ground, code: &'static str, more: Json) -> Denial {
    let more = if let Json::Object(more) = more { more } else { Map::new() };
    Denial { ground, code, problem: "it is not so".to_string(), help: Some("look again".to_string()), more }
}

impl Rules {
    fn note(&self, what: String) -> Json {
        self.asked.lock().expect("no test panics with it").push(what.clone());
        json!(what)
    }
}

impl Table for Rules {
    fn submit(&self, body: &[u8]) -> Result<Submitted, Denial> {
        match String::from_utf8_lossy(body).as_ref() {
            "stale" => Err(denial(Ground::Conflict, "TM1213", json!({"reason": "Stale", "head": "2-1-1"}))),
            "busy" => Err(denial(Ground::Busy, "TM1218", json!({}))),
            "soon" => Ok(Submitted::Waiting(7)),
            "never" => Ok(Submitted::Waiting(8)),
            body => Ok(Submitted::Accepted(self.note(format!("submit {body}")))),
        }
    }

    fn look(&self, ticket: u64) -> Option<Result<Json, Denial>> {
        let looked = self.looked.fetch_add(1, Ordering::SeqCst) + 1;
        (ticket == 7 && looked >= LOOKS).then(|| Ok(self.note(format!("looked {looked} times"))))
    }

    fn forget(&self, ticket: u64) {
        self.forgotten.store(ticket, Ordering::SeqCst);
    }

    fn roll_back(&self, body: &[u8]) -> Result<Json, Denial> {
        Ok(self.note(format!("roll back {}", String::from_utf8_lossy(body))))
    }

    fn versions(&self, graph: bool, limit: usize) -> Result<Json, Denial> {
        Ok(self.note(format!("versions {graph} {limit}")))
    }

    fn at(&self, version: &str, key: &[KeyPart], limit: usize) -> Result<TableRows, Denial> {
        if version == "old" {
            return Err(denial(Ground::Missing, "TM1214", json!({})));
        }
        let key: Vec<&str> = key.iter().map(|part| part.value.as_str()).collect();
        let rows = (0..limit.min(2)).map(|row| json!({"row": row, "key": key})).collect();
        Ok(TableRows { version: version.to_string(), rows, more: limit < 2 })
    }

    fn diff(&self, from: &str, to: &str) -> Result<Json, Denial> {
        Ok(self.note(format!("diff {from} {to}")))
    }
}

/// The versions of some state.
pub struct States;

impl Versions for States {
    fn list(&self) -> Result<Json, Denial> {
        Ok(json!([1, 2]))
    }

    fn show(&self, version: &str) -> Result<Json, Denial> {
        if version == "3" { Err(denial(Ground::Missing, "TM1242", json!({}))) } else { Ok(json!(version)) }
    }

    fn diff(&self, from: &str, to: &str) -> Result<Json, Denial> {
        Ok(json!([from, to]))
    }
}

const VERSIONS: &str = "/v1/tables/rules/versions";

#[test]
fn a_change_is_answered_201() {
    let door = Door::open();
    let answer = post(&door, VERSIONS, "{}");
    assert_eq!((answer.status, answer.json()), (201, json!("submit {}")));
    let answer = post(&door, "/v1/tables/rules/rollback", "{\"version\": 1}");
    assert_eq!((answer.status, answer.json()), (201, json!("roll back {\"version\": 1}")));
}

#[test]
fn a_conflict_is_a_problem_document_with_its_reason() {
    let door = Door::open();
    let answer = post(&door, VERSIONS, "stale");
    assert_eq!((answer.status, answer.header("content-type")), (409, Some("application/problem+json")));
    let problem = answer.json();
    let told = (&problem["code"], &problem["reason"], &problem["head"], &problem["help"]);
    assert_eq!(told, (&json!("TM1213"), &json!("Stale"), &json!("2-1-1"), &json!("look again")));
    let answer = post(&door, VERSIONS, "busy");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
}

#[test]
fn a_change_that_waits_is_answered_when_its_time_has_come() {
    let door = Door::open();
    let answer = post(&door, VERSIONS, "soon");
    assert_eq!((answer.status, answer.json()), (201, json!(format!("looked {LOOKS} times"))));
}

#[test]
fn many_changes_wait_without_a_thread_each() {
    let door = Door::open();
    let mut clients: Vec<Client> = (0..600).map(|_| Client::new(&door)).collect();
    for client in &mut clients {
        client.send(&request("POST", VERSIONS, &[("Content-Type", "application/json")], b"never"));
    }
    while door.rules.looked.load(Ordering::SeqCst) < 1_200 {
        std::thread::yield_now();
    }
    assert_eq!(get(&door, "/v1/tables/rules/versions").status, 200, "others are still served");
}

#[test]
fn reads_versions_rows_and_differences() {
    let door = Door::open();
    let check = |target: &str, expected: Json| {
        let answer = get(&door, target);
        assert_eq!((answer.status, answer.json()), (200, expected), "{target}");
    };
    check("/v1/tables", json!(["rules"]));
    check(VERSIONS, json!("versions false 100"));
    check("/v1/tables/rules/versions?graph&limit=5", json!("versions true 5"));
    check("/v1/tables/rules/diff/1-1-1..newest", json!("diff 1-1-1 newest"));
    check("/v1/tables/rules/at/newest?key=a&limit=1", json!([{"row": 0, "key": ["a"]}]));
    check("/v1/versions", json!([1, 2]));
    check("/v1/versions/newest", json!("newest"));
    check("/v1/versions/diff/1..2", json!(["1", "2"]));
    let answer = get(&door, "/v1/tables/rules/at/4-1-1?limit=1");
    assert_eq!((answer.header("tidemill-version"), answer.header("tidemill-more")), (Some("4-1-1"), Some("true")));
    let lines = request("GET", "/v1/tables/rules/at/newest", &[("Accept", "application/x-ndjson")], b"");
    assert_eq!(exchange(&door, &lines).body.lines().count(), 2);
}

#[test]
fn says_what_is_wrong_with_a_question() {
    let door = Door::open();
    let check = |target: &str, status: u16, part: &str| {
        let answer = get(&door, target);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    };
    check("/v1/tables/rule/versions", 404, "did you mean 'rules'?");
    check("/v1/tables/rules/rows", 404, "at/{version}");
    check("/v1/tables/rules/at/old", 404, "TM1214");
    check("/v1/tables/rules/diff/1-1-1", 400, "TM5121");
    check("/v1/tables/rules/versions?grap", 400, "did you mean 'graph'?");
    check("/v1/tables/rules/diff/1..2?limit=1", 400, "no parameter 'limit'");
    check("/v1/tabels/rules/versions", 404, "did you mean /v1/tables/{name}/versions?");
    check("/v1/versions/3", 404, "TM1242");
    check("/v1/versions/3/4", 404, "diff/{a}..{b}");
    check("/v1/tables/rules/rollback", 405, "use POST");
    let answer = exchange(&door, &request("POST", VERSIONS, &[], b"{}"));
    assert_eq!(answer.status, 415, "{answer:?}");
    assert_eq!(post(&door, "/v1/versions", "{}").status, 405);
}

#[test]
fn a_pipeline_without_state_has_no_versions() {
    let door = Door::without_tables();
    let answer = get(&door, "/v1/versions");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["code"], json!("TM5120"));
    assert_eq!(get(&door, "/v1/tables").json(), json!([]));
}

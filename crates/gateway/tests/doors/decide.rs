//! Decisions while the request is open.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tidemill_gateway::{Answered, Endpoint, Fallback, Hall, Options, Question, Rejection, Server, Terms, Ticket};

use super::client::{Answer, Client, request};

/// An endpoint that answers `now` at once, `soon` from another thread, and else waits until its time is over. The body
/// `twice` is a key that means another request.
#[derive(Default)]
pub struct Score {
    waiting: Mutex<Vec<Ticket>>,
    asked: Mutex<Vec<String>>,
}

const FALLBACK: Answered<'static> = Answered {
    status: 200,
    body: b"{\"rows\":[{\"decision\":\"review\"}],\"rule\":\"9f3a\",\"fallback\":\"deadline\"}",
    fallback: Some(Fallback::Deadline),
    rule: "9f3a",
    version: 0,
    repeated: false,
};

impl Endpoint for Score {
    fn deadline(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn ask(&self, body: &[u8], terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        let text = String::from_utf8_lossy(body).to_string();
        self.asked.lock().expect("nothing panics").push(format!("{:?} {:?}", terms.idempotency_key, terms.durability));
        let answer = Answered { body: b"{\"rows\":[]}", fallback: None, version: 7, ..FALLBACK };
        match text.as_str() {
            "now" => {
                ticket.door.answer(ticket.number, Answered { repeated: terms.idempotency_key.is_some(), ..answer })
            }
            "soon" => drop(std::thread::spawn(move || ticket.door.answer(ticket.number, answer))),
            "twice" => return Err(Rejection::KeyReused),
            "bare" => ticket.door.answer(ticket.number, Answered { status: 504, body: b"", ..answer }),
            _ => self.waiting.lock().expect("nothing panics").push(ticket),
        }
        Ok(Question(0))
    }

    fn expire(&self, _question: Question) {
        for ticket in self.waiting.lock().expect("nothing panics").drain(..) {
            ticket.door.answer(ticket.number, FALLBACK);
        }
    }
}

fn open() -> (Server, Arc<Score>) {
    let score = Arc::new(Score::default());
    let mut hall = Hall::new();
    hall.add_endpoint("score", score.clone());
    let listen = "127.0.0.1:0".parse().expect("an address");
    (Server::start(Options { listen, ..Options::default() }, hall).expect("the loopback has free ports"), score)
}

fn ask(server: &Server, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: Vec<_> = [("Content-Type", "application/json")].iter().chain(headers).copied().collect();
    let mut client = Client::to(server.address());
    client.send(&request("POST", target, &headers, body.as_bytes()));
    client.answer().expect("an answer")
}

const SCORE: &str = "/v1/endpoints/score";

#[test]
fn answers_what_the_endpoint_says_at_once_or_later() {
    let (server, score) = open();
    for body in ["now", "soon"] {
        let answer = ask(&server, SCORE, &[], body);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"rows\":[]}"), "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("idempotency-replayed"), None);
    }
    let answer = ask(&server, "/v1/endpoints/score?durability=flushed", &[("Idempotency-Key", "\"k-1\"")], "now");
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(
        score.asked.lock().expect("nothing panics").last().map(String::as_str),
        Some("Some(\"k-1\") Some(Flushed)")
    );
}

#[test]
fn a_deadline_brings_the_fallback() {
    let (server, _) = open();
    let answer = ask(&server, SCORE, &[("Prefer", "wait=0.005")], "never");
    assert_eq!((answer.status, answer.header("tidemill-fallback")), (200, Some("deadline")));
    assert_eq!(answer.header("preference-applied"), Some("wait=0.005"));
    assert_eq!(answer.json()["rows"][0]["decision"], json!("review"));
}

#[test]
fn refusals_are_problems() {
    let (server, _) = open();
    let check = |answer: Answer, status: u16, code: &str| {
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{answer:?}"
        );
        assert_eq!(answer.json()["code"], json!(code));
    };
    check(ask(&server, SCORE, &[], "twice"), 422, "TM5117");
    check(ask(&server, SCORE, &[], "bare"), 504, "TM5116");
    check(ask(&server, SCORE, &[("Idempotency-Key", "")], "now"), 400, "TM5118");
    check(ask(&server, "/v1/endpoints/scor", &[], "now"), 404, "TM5104");
    check(ask(&server, "/v1/endpoints/score?on_error=skip", &[], "now"), 400, "TM5103");
    check(ask(&server, SCORE, &[], &"x".repeat(65 << 10)), 413, "TM5107");
    server.refuse_events();
    check(ask(&server, SCORE, &[], "now"), 503, "TM5112");
}

#[test]
fn the_names_of_endpoints_are_listed() {
    let (server, _) = open();
    let mut client = Client::to(server.address());
    client.send(&request("GET", "/v1/endpoints", &[], b""));
    assert_eq!(client.answer().expect("an answer").json(), json!(["score"]));
}

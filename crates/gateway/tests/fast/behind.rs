//! What stands behind the doors of these tests: sources and endpoints that say what came to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_circuit::Delta;
use tidemill_gateway::{
    Answered, Decoded, Durability, Endpoint, Hall, Inbox, Question, Receipt, Refusal, Rejection, Taken, Tell, Terms,
    Ticket,
};

/// A source that keeps the bodies which begin like an object.
#[derive(Default)]
pub struct Source {
    bodies: Mutex<Vec<Vec<u8>>>,
}

impl Source {
    /// What has come since it was last asked.
    pub fn collect(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.bodies.lock().expect("no test panics with it"))
    }
}

impl Inbox for Source {
    fn room(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn decode(&self, _body: &[u8]) -> Result<Decoded, String> {
        Err("only short bodies are taken here".to_string())
    }

    fn offer(&self, _rows: Vec<Delta>, _body: &[u8], _level: Option<Durability>) -> Result<Taken, Refusal> {
        Err(Refusal::Closed)
    }

    fn take(&self, body: &[u8], terms: Terms<'_>) -> Result<Receipt, Rejection> {
        if body.first() != Some(&b'{') {
            return Err(Rejection::Body("there is no object".to_string()));
        }
        if terms.durability == Some(Durability::Flushed) {
            return Err(Rejection::Refused(Refusal::NoSuchDurability));
        }
        let mut bodies = self.bodies.lock().expect("no test panics with it");
        bodies.push(body.to_vec());
        Ok(Receipt { accepted: body.len(), repeated: terms.idempotency_key == Some("again"), ..Receipt::default() })
    }

    fn durable(&self, _level: Durability) -> u64 {
        u64::MAX
    }

    fn when_durable(&self, _place: u64, _level: Durability, tell: Tell) {
        tell(Ok(()));
    }
}

/// An endpoint that answers with the question, at once.
pub struct Echo;

impl Endpoint for Echo {
    fn deadline(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn ask(&self, body: &[u8], _terms: Terms<'_>, ticket: Ticket) -> Result<Question, Rejection> {
        if body.is_empty() {
            return Err(Rejection::Body("there is no question".to_string()));
        }
        let answer = Answered { status: 200, body, fallback: None, rule: "r", version: 1, repeated: false };
        ticket.door.answer(ticket.number, answer);
        Ok(Question(ticket.number))
    }

    fn expire(&self, _question: Question) {}
}

/// A hall with sources of these names and endpoint `echo`.
pub fn hall(names: &[&str]) -> (Hall, Vec<Arc<Source>>) {
    let mut hall = Hall::new();
    let sources: Vec<Arc<Source>> = names.iter().map(|_| Arc::default()).collect();
    for (name, source) in names.iter().zip(&sources) {
        hall.add_inbox(*name, source.clone());
    }
    hall.add_endpoint("echo", Arc::new(Echo));
    (hall, sources)
}

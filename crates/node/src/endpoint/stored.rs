//! [`Store`]: the answers to requests with keys, and who waits for one of them a second time.
//!
//! An answer is written into the journal before it is sent, so that the same request gets it after a restart too. The
//! journal holds what is needed for that as long as the keys are remembered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_gateway::{Fallback, Ticket};
use tidemill_journal::{Journal, Sequence};
use tidemill_sql::pipeline::EndpointDef;

use crate::doors::{Keys, Window};
use crate::keep::line::{ANSWERED, Input};

/// The bytes before the key of an answer in the journal: version, status, fallback, length of the key.
const HEAD: usize = 13;

/// What is known of a request with a key.
pub(super) enum Stored {
    /// It has no answer yet.
    Waiting {
        /// The row that it became.
        offset: u64,
        /// Those who sent it again.
        tickets: Vec<Ticket>,
    },
    /// It was answered.
    Answered(Arc<Answer>),
}

/// An answer that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Box<[u8]>,
    pub(super) fallback: Option<Fallback>,
    pub(super) version: u64,
}

/// What is known of the requests with keys of an endpoint.
pub(crate) struct Store {
    keys: Mutex<Keys<Stored>>,
    journal: Option<Arc<Journal>>,
    /// The endpoint's number, by which the journal names its answers.
    number: u32,
    holder: String,
}

impl Store {
    pub(super) fn new(def: &EndpointDef, number: u32, journal: Option<Arc<Journal>>) -> Self {
        let options = &def.options;
        let window = Window::new(options.idempotency_window, options.idempotency_bytes);
        let waits = |stored: &Stored| matches!(stored, Stored::Waiting { .. });
        let holder = format!("keys of endpoint '{}'", def.name);
        Store { keys: Mutex::new(Keys::new(window, waits)), journal, number, holder }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Keys<Stored>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered.
    pub(super) fn window(&self) -> Window {
        self.lock().window()
    }

    /// Has the journal hold what is remembered.
    pub(super) fn hold(&self, keys: &Keys<Stored>) {
        let Some(journal) = &self.journal else { return };
        match keys.oldest() {
            Some(place) => journal.retain(&self.holder, Sequence(place)),
            None => journal.release(&self.holder),
        }
    }

    /// Forgets what the window does not hold any more at time `now`.
    pub(super) fn tend(&self, now: i64) {
        let mut keys = self.lock();
        keys.forget(now);
        self.hold(&keys);
    }

    /// A request has its answer; gives those who sent it again and wait.
    pub(super) fn answered(&self, key: &str, answer: Answer) -> Vec<Ticket> {
        let mut keys = self.lock();
        let bytes = answer.body.len() as u64;
        let tickets = keys.change(key, bytes, |stored| match stored {
            Stored::Answered(_) => None,
            Stored::Waiting { tickets, .. } => {
                let tickets = std::mem::take(tickets);
                self.write(key, &answer);
                *stored = Stored::Answered(Arc::new(answer));
                Some(tickets)
            }
        });
        tickets.flatten().unwrap_or_default()
    }

    /// Gives those who sent a request again and wait: they are told that there is no answer now.
    pub(super) fn abandoned(&self, key: &str) -> Vec<Ticket> {
        let tickets = self.lock().change(key, 0, |stored| match stored {
            Stored::Waiting { tickets, .. } => std::mem::take(tickets),
            Stored::Answered(_) => Vec::new(),
        });
        tickets.unwrap_or_default()
    }

    fn write(&self, key: &str, answer: &Answer) {
        let Some(journal) = &self.journal else { return };
        if let Err(error) = journal.append(ANSWERED, self.number, &[&answer.head(key), key.as_bytes(), &answer.body]) {
            tracing::warn!(holder = %self.holder, %error, "An answer is not remembered beyond this run.");
        }
    }

    /// A request of an earlier run, kept at `place`.
    pub(super) fn recall(&self, input: &Input, place: u64) {
        let Some(key) = &input.key else { return };
        let waiting = Stored::Waiting { offset: input.first_record, tickets: Vec::new() };
        self.lock().remember(key, &input.body, input.at, Some(place), waiting);
    }

    /// An answer of an earlier run.
    pub(super) fn recall_answer(&self, payload: &[u8]) -> Result<(), String> {
        let (key, answer) = Answer::decode(payload)?;
        let bytes = answer.body.len() as u64;
        self.lock().change(key, bytes, |stored| *stored = Stored::Answered(Arc::new(answer)));
        Ok(())
    }

    /// What was recalled counts up to time `now`; gives the requests without an answer, in the order of their rows.
    pub(super) fn recalled(&self, now: i64) -> Vec<(u64, Arc<str>)> {
        self.tend(now);
        let keys = self.lock();
        let waiting = |(key, stored): (&Arc<str>, &Stored)| match stored {
            Stored::Waiting { offset, .. } => Some((*offset, key.clone())),
            Stored::Answered(_) => None,
        };
        let mut waiting: Vec<(u64, Arc<str>)> = keys.all().filter_map(waiting).collect();
        waiting.sort();
        waiting
    }
}

impl Answer {
    fn head(&self, key: &str) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.version.to_le_bytes());
        head[8..10].copy_from_slice(&self.status.to_le_bytes());
        head[10] = match self.fallback {
            None => 0,
            Some(Fallback::Deadline) => 1,
            Some(Fallback::Overload) => 2,
            Some(Fallback::Failed) => 3,
        };
        head[11..].copy_from_slice(&(key.len() as u16).to_le_bytes());
        head
    }

    /// The key and the answer of a journal record.
    fn decode(payload: &[u8]) -> Result<(&str, Answer), String> {
        let wrong = || format!("an answer of {} bytes does not hold what it says", payload.len());
        let (head, rest) = payload.split_first_chunk::<HEAD>().ok_or_else(wrong)?;
        let [v0, v1, v2, v3, v4, v5, v6, v7, s0, s1, fallback, k0, k1] = *head;
        let (key, body) = rest.split_at_checked(u16::from_le_bytes([k0, k1]).into()).ok_or_else(wrong)?;
        let fallback = match fallback {
            0 => None,
            1 => Some(Fallback::Deadline),
            2 => Some(Fallback::Overload),
            3 => Some(Fallback::Failed),
            _ => return Err(wrong()),
        };
        let answer = Answer {
            status: u16::from_le_bytes([s0, s1]),
            body: body.into(),
            fallback,
            version: u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]),
        };
        Ok((str::from_utf8(key).map_err(|_| wrong())?, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was_written() {
        for fallback in [None, Some(Fallback::Deadline), Some(Fallback::Overload), Some(Fallback::Failed)] {
            let answer = Answer { status: 200, body: (*b"{\"rows\":[]}").into(), fallback, version: 1 << 50 };
            let payload = [&answer.head("k-1")[..], b"k-1", &answer.body].concat();
            assert_eq!(Answer::decode(&payload), Ok(("k-1", answer)));
        }
        assert!(Answer::decode(b"short").is_err());
        assert!(Answer::decode(&[255; 40]).is_err());
    }
}

//! What the peers share: the event of the measurements, read into a struct and looked at.

use std::borrow::Cow;

use serde::Deserialize;

/// The event.
#[derive(Deserialize)]
pub struct Event<'a> {
    ts: u64,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    user_id: u64,
    #[serde(borrow)]
    ip: Cow<'a, str>,
    latency_ms: f64,
    status: u16,
    #[serde(borrow)]
    msg: Cow<'a, str>,
}

impl Event<'_> {
    fn is_right(&self) -> bool {
        let texts = [&self.level, &self.host, &self.ip, &self.msg];
        let known = self.user_id > 0 && self.status > 0 && texts.iter().all(|text| !text.is_empty());
        known && self.ts > 0 && !self.service.is_empty() && self.latency_ms.is_finite()
    }
}

/// Whether a body is an event a line, and at least one.
pub fn is_right(body: &[u8]) -> bool {
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
    let right = |line: &[u8]| serde_json::from_slice::<Event<'_>>(line).is_ok_and(|event| event.is_right());
    lines.peek().is_some() && lines.all(right)
}

/// The port from the command line.
pub fn port() -> u16 {
    std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080)
}

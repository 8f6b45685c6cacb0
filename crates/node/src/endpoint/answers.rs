//! [`Shapes`]: what the bodies of an endpoint's answers look like, and [`Found`]: which rows a step gave which request.

use std::ops::Range;

use serde_json::json;
use tidemill_circuit::Delta;
use tidemill_circuit::decode::ORIGIN;
use tidemill_format::{JsonOptions, JsonRows};
use tidemill_gateway::Fallback;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;

/// The bodies of an endpoint's answers, as far as they are known before.
pub(super) struct Shapes {
    name: String,
    /// What follows the rows, up to the version.
    tail: Vec<u8>,
    /// The answers without a rule, by why; none when the endpoint declares no fallback.
    fallbacks: Option<[Vec<u8>; 3]>,
}

impl Shapes {
    pub(super) fn new(name: &str, rule: &str, fallback: Option<&str>) -> Self {
        let rule = json!(rule);
        let body = |row: &str, why: Fallback| {
            format!("{{\"rows\":[{row}],\"rule\":{rule},\"fallback\":\"{}\"}}", why.as_str()).into_bytes()
        };
        let reasons = [Fallback::Deadline, Fallback::Overload, Fallback::Failed];
        Shapes {
            name: name.to_string(),
            tail: format!("],\"rule\":{rule},\"version\":").into_bytes(),
            fallbacks: fallback.map(|row| reasons.map(|why| body(row.trim(), why))),
        }
    }

    /// The body of the fallback, when there is one.
    pub(super) fn fallback(&self, why: Fallback) -> Option<&[u8]> {
        let [deadline, overload, failed] = self.fallbacks.as_ref()?;
        Some(match why {
            Fallback::Deadline => deadline,
            Fallback::Overload => overload,
            Fallback::Failed => failed,
        })
    }

    /// Writes the body of an answer.
    pub(super) fn answer(&self, found: &Found, rows: Range<usize>, version: u64, body: &mut Vec<u8>) {
        body.clear();
        body.extend_from_slice(b"{\"rows\":[");
        for (at, row) in rows.enumerate() {
            if at > 0 {
                body.push(b',');
            }
            found.write(row, body);
        }
        body.extend_from_slice(&self.tail);
        // Memory takes everything.
        let _ = std::io::Write::write_fmt(body, format_args!("{version}}}"));
    }

    /// The problem of a request on which an expression failed.
    pub(super) fn failed(&self, reason: &str) -> Vec<u8> {
        let detail = format!("endpoint '{}' could not judge this request: {reason}", self.name);
        let problem = json!({
            "type": "urn:tidemill:error:TM6032",
            "title": "the rule failed",
            "status": 500,
            "code": "TM6032",
            "detail": detail,
            "help": "correct the request, or declare a 'fallback' for the endpoint",
        });
        problem.to_string().into_bytes()
    }
}

/// The rows of a step, by the request they are for.
#[derive(Default)]
pub(super) struct Found {
    /// The request's row, which delta, and which row of it.
    rows: Vec<(u64, u32, u32)>,
    deltas: Vec<JsonRows>,
}

impl Found {
    /// Sorts the rows of a step by the request they are for; in their order where they are for one.
    pub(super) fn fill(&mut self, deltas: &[Delta]) -> Result<(), String> {
        self.rows.clear();
        self.deltas.clear();
        for (index, delta) in deltas.iter().enumerate() {
            let batch = delta.batch();
            let last = batch.num_columns().saturating_sub(1);
            let origins = batch.columns().last().and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let origins = origins.ok_or_else(|| format!("an answer has no column '{ORIGIN}'"))?;
            for (row, origin) in origins.values().iter().enumerate() {
                let times = usize::try_from(delta.weight(row)).map_err(|_| "an answer is taken back".to_string())?;
                self.rows.extend(std::iter::repeat_n((*origin, index as u32, row as u32), times));
            }
            let columns: Vec<usize> = (0..last).collect();
            let answer = batch.project(&columns).map_err(|error| error.to_string())?;
            self.deltas.push(JsonRows::new(&answer, JsonOptions::default()).map_err(|error| error.to_string())?);
        }
        self.rows.sort_by_key(|(origin, _, _)| *origin);
        Ok(())
    }

    /// The rows for a request; requests are asked for in their order, from `at` on.
    pub(super) fn of(&self, origin: u64, at: usize) -> Range<usize> {
        let from = at + self.rows[at..].partition_point(|(other, _, _)| *other < origin);
        let count = self.rows[from..].iter().take_while(|(other, _, _)| *other == origin).count();
        from..from + count
    }

    fn write(&self, row: usize, body: &mut Vec<u8>) {
        let (_, delta, row) = self.rows[row];
        self.deltas[delta as usize].write(row as usize, body);
    }
}

//! [`Line`]: what a pipeline writes into its journal besides its input, one JSON object a record.
//!
//! Every circuit of the pipeline has lines of its own, told apart by the record's stream ([`circuit_stream`]). Input is
//! nobody's: each circuit takes it when it comes to it.
//!
//! Input stands in records of its own ([`INPUT`]): 8 bytes with the records of the source before it, 4 bytes with its own
//! records, and the body as it came. Where more is known of it ([`NOTED`]) that follows the 12 bytes: 1 byte for what the
//! body is, 4 with who asked, 8 with the milliseconds when it came, 2 with the bytes of the key that names the request, and
//! the key. A step's header names the input it takes by the source's records, so header and input together are all that is
//! needed to run the step again.

use serde::{Deserialize, Serialize};
use tidemill_base::hash;
use tidemill_circuit::step::{StepHeader, StepTrailer};
use tidemill_connect::{Note, Origin};

use crate::part::MAIN;

/// The version of what is written here; a reader refuses a newer one.
pub(crate) const FORMAT: u32 = 1;

/// The kind of a journal record that holds input.
pub(crate) const INPUT: u8 = 1;

/// The kind of a journal record that holds a [`Line`].
pub(crate) const LINE: u8 = 2;

/// The kind of a journal record that holds input and what is known of it.
pub(crate) const NOTED: u8 = 3;

/// The kind of a journal record that holds the answer to a request with a key; its stream names the endpoint.
pub(crate) const ANSWERED: u8 = 4;

/// The bytes before the body of an input record.
const HEAD: usize = 12;

/// The longest key of a request.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// The bytes before the key of a noted one.
const NOTED_HEAD: usize = 27;

/// A line of a pipeline's journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// The pipeline starts.
    Run(Run),
    /// A partition is there.
    Opened {
        /// The source.
        source: String,
        /// The partition's number.
        partition: u32,
        /// What it is.
        origin: Origin,
    },
    /// A step is about to run.
    Step {
        /// What it takes in.
        header: StepHeader,
        /// The step up to which every sink that shows rows at once has shown them.
        delivered: u64,
    },
    /// A step has run.
    Done(StepTrailer),
    /// What was staged for a snapshot has been shown.
    Shown {
        /// The snapshot's number.
        sequence: u64,
    },
    /// A snapshot has become durable.
    Snapshot {
        /// Its number.
        sequence: u64,
        /// The step whose state it holds.
        step: u64,
    },
}

/// A start of a circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The version of the lines' form.
    pub(crate) format: u32,
    /// The circuit.
    #[serde(default = "main_circuit", skip_serializing_if = "is_main")]
    pub(crate) circuit: String,
    /// What was built: version and, where it is known, the commit.
    pub(crate) build: String,
    /// What the SQL is called.
    pub(crate) name: String,
    /// The SQL.
    pub(crate) sql: String,
    /// The number of lanes.
    pub(crate) lanes: usize,
    /// The seed of RAND and UUID.
    pub(crate) seed: u64,
    /// The snapshot that it began with; 0 when there was none.
    pub(crate) snapshot: u64,
    /// The journal's name.
    pub(crate) journal: String,
}

fn main_circuit() -> String {
    MAIN.to_string()
}

fn is_main(circuit: &str) -> bool {
    circuit == MAIN
}

impl Line {
    /// The bytes of the line.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    /// The line of these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Line, String> {
        let line = serde_json::from_slice(bytes).map_err(|error| format!("a line cannot be read: {error}"))?;
        match line {
            Line::Run(run) if run.format > FORMAT => Err(format!(
                "it was written in form {} by {}, and this version reads up to form {FORMAT}",
                run.format, run.build
            )),
            line => Ok(line),
        }
    }
}

/// Input as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// The records of the source before it.
    pub(crate) first_record: u64,
    /// Its records.
    pub(crate) records: u32,
    /// What the body is, as [`tidemill_gateway::BodyKind`] has it.
    pub(crate) kind: u8,
    /// Who waits for an answer; 0 is nobody.
    pub(crate) asked: u32,
    /// What names the request when it is sent again.
    pub(crate) key: Option<String>,
    /// When a request with a key came, milliseconds UTC.
    pub(crate) at: i64,
    /// The body as it came.
    pub(crate) body: bytes::Bytes,
}

impl Input {
    /// What stands before the body.
    pub(crate) fn head(first_record: u64, records: u32) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&first_record.to_le_bytes());
        head[8..].copy_from_slice(&records.to_le_bytes());
        head
    }

    /// The same, in memory of its own: what was read from a journal keeps a file mapped.
    pub(crate) fn detached(self) -> Input {
        Input { body: bytes::Bytes::copy_from_slice(&self.body), ..self }
    }

    /// What stands before the key and the body of input of which more is known.
    pub(crate) fn noted_head(first_record: u64, records: u32, note: &Note<'_>) -> [u8; NOTED_HEAD] {
        let mut head = [0; NOTED_HEAD];
        head[..HEAD].copy_from_slice(&Input::head(first_record, records));
        head[12] = note.kind;
        head[13..17].copy_from_slice(&note.asked.to_le_bytes());
        head[17..25].copy_from_slice(&note.at.to_le_bytes());
        let key = note.key.map_or(0, |key| key.len().min(KEY_BYTES_MAX)) as u16;
        head[25..].copy_from_slice(&key.to_le_bytes());
        head
    }

    /// The input of a journal record; [`is_input`] says that it is one.
    pub(crate) fn decode(kind: u8, payload: &bytes::Bytes) -> Result<Input, String> {
        let (Some(first_record), Some(records)) = (number(payload, 0), number(payload, 8)) else {
            return Err(format!("an input record has {} bytes, and {HEAD} are its head", payload.len()));
        };
        let plain = Input {
            first_record: u64::from_le_bytes(first_record),
            records: u32::from_le_bytes(records),
            kind: 0,
            asked: 0,
            key: None,
            at: 0,
            body: bytes::Bytes::new(),
        };
        if kind == INPUT {
            return Ok(Input { body: payload.slice(HEAD..), ..plain });
        }
        let (Some(asked), Some(at), Some(length)) = (number(payload, 13), number(payload, 17), number(payload, 25))
        else {
            return Err(format!("a noted input record has {} bytes, and {NOTED_HEAD} are its head", payload.len()));
        };
        let end = NOTED_HEAD + usize::from(u16::from_le_bytes(length));
        let key = payload.get(NOTED_HEAD..end).and_then(|key| str::from_utf8(key).ok());
        let key = key.ok_or("the key of a noted input record does not end, or is no text")?;
        Ok(Input {
            kind: payload[HEAD],
            asked: u32::from_le_bytes(asked),
            at: i64::from_le_bytes(at),
            key: (!key.is_empty()).then(|| key.to_string()),
            body: payload.slice(end..),
            ..plain
        })
    }
}

/// The bytes of a number at a place.
fn number<const N: usize>(payload: &[u8], at: usize) -> Option<[u8; N]> {
    payload.get(at..)?.first_chunk().copied()
}

/// Whether journal records of this kind hold input.
pub(crate) fn is_input(kind: u8) -> bool {
    matches!(kind, INPUT | NOTED)
}

/// The number by which the journal names a source: the same in every version of the pipeline.
pub(crate) fn stream(source: &str) -> u32 {
    hash::bytes(source.as_bytes()) as u32
}

/// The number by which the journal names a circuit: the stream of its lines.
pub(crate) fn circuit_stream(circuit: &str) -> u32 {
    match circuit {
        MAIN => 0,
        other => (hash::bytes(other.as_bytes()) as u32).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_comes_back_as_it_went_in() {
        for body in [&b""[..], b"{}", "Zürich".as_bytes()] {
            let plain = Input {
                first_record: 1 << 40,
                records: 7,
                kind: 0,
                asked: 0,
                key: None,
                at: 0,
                body: bytes::Bytes::copy_from_slice(body),
            };
            let payload: bytes::Bytes = [&Input::head(1 << 40, 7)[..], body].concat().into();
            assert_eq!(Input::decode(INPUT, &payload), Ok(plain.clone()));
            for key in [None, Some("order-7 é")] {
                let note = Note { kind: 2, asked: 77, key, at: -5 };
                let head = Input::noted_head(1 << 40, 7, &note);
                let payload: bytes::Bytes = [&head[..], key.unwrap_or_default().as_bytes(), body].concat().into();
                let key = key.map(str::to_string);
                let noted = Input { kind: 2, asked: 77, key, at: -5, ..plain.clone() };
                assert_eq!(Input::decode(NOTED, &payload), Ok(noted));
            }
        }
        assert!(Input::decode(INPUT, &bytes::Bytes::from_static(b"short")).is_err());
        assert!(Input::decode(NOTED, &bytes::Bytes::from_static(b"twelve bytes")).is_err());
        let head = Input::noted_head(0, 1, &Note { key: Some("lost"), ..Note::default() });
        assert!(Input::decode(NOTED, &bytes::Bytes::copy_from_slice(&head)).is_err());
    }

    #[test]
    fn lines_of_before_circuits_had_names_are_the_main_one_s() {
        let old = r#"{"run":{"format":1,"build":"0.1.0","name":"p.sql","sql":"","lanes":2,"seed":7,"snapshot":0,"journal":"x"}}"#;
        let Ok(Line::Run(run)) = Line::decode(old.as_bytes()) else { panic!("it is a start") };
        assert_eq!(run.circuit, MAIN);
        assert_eq!(Line::Run(run).encode().expect("plain data"), old.as_bytes());
        assert_eq!(circuit_stream(MAIN), 0);
        assert_ne!(circuit_stream("score"), 0);
    }

    #[test]
    fn a_newer_form_is_refused_by_name() {
        let run = Run {
            format: FORMAT + 1,
            circuit: MAIN.to_string(),
            build: "9.9.9".to_string(),
            name: String::new(),
            sql: String::new(),
            lanes: 1,
            seed: 0,
            snapshot: 0,
            journal: String::new(),
        };
        let bytes = Line::Run(run).encode().expect("plain data");
        let error = Line::decode(&bytes).expect_err("it is newer");
        assert!(error.contains("form 2 by 9.9.9"), "{error}");
    }
}

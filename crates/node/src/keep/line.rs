//! [`Line`]: what a pipeline writes into its journal besides its input, one JSON object a record.
//!
//! Input stands in records of its own ([`INPUT`]): 8 bytes with the records of the source before it, 4 bytes with its own
//! records, and the body as it came. A step's header names the input it takes by the journal's numbers, so header and
//! input together are all that is needed to run the step again.

use serde::{Deserialize, Serialize};
use tidemill_base::hash;
use tidemill_circuit::step::{StepHeader, StepTrailer};
use tidemill_connect::Origin;

/// The version of what is written here; a reader refuses a newer one.
pub(crate) const FORMAT: u32 = 1;

/// The kind of a journal record that holds input.
pub(crate) const INPUT: u8 = 1;

/// The kind of a journal record that holds a [`Line`].
pub(crate) const LINE: u8 = 2;

/// The bytes before the body of an input record.
const HEAD: usize = 12;

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

/// A start of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The version of the lines' form.
    pub(crate) format: u32,
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

    /// The input of a journal record.
    pub(crate) fn decode(payload: &bytes::Bytes) -> Result<Input, String> {
        let (Some(first_record), Some(records)) = (payload.first_chunk::<8>(), payload.get(8..HEAD)) else {
            return Err(format!("an input record has {} bytes, and {HEAD} are its head", payload.len()));
        };
        let records = records.try_into().map_or(0, u32::from_le_bytes);
        let first_record = u64::from_le_bytes(*first_record);
        Ok(Input { first_record, records, body: payload.slice(HEAD..) })
    }
}

/// The number by which the journal names a source: the same in every version of the pipeline.
pub(crate) fn stream(source: &str) -> u32 {
    hash::bytes(source.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_comes_back_as_it_went_in() {
        for body in [&b""[..], b"{}", "Zürich".as_bytes()] {
            let payload: bytes::Bytes = [&Input::head(1 << 40, 7)[..], body].concat().into();
            let expected = Input { first_record: 1 << 40, records: 7, body: bytes::Bytes::copy_from_slice(body) };
            assert_eq!(Input::decode(&payload), Ok(expected));
        }
        assert!(Input::decode(&bytes::Bytes::from_static(b"short")).is_err());
    }

    #[test]
    fn a_newer_form_is_refused_by_name() {
        let run = Run {
            format: FORMAT + 1,
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

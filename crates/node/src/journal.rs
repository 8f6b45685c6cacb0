//! What stands in a pipeline's journal, in words.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::keep::folder;
use crate::keep::line::{Input, LINE, Line, circuit_stream, is_input};
use crate::part::MAIN;

/// The characters of a body that are shown.
const SHOWN: usize = 80;

/// Tells the records of a pipeline's journal.
pub struct Teller {
    /// The circuits by the streams of their lines.
    circuits: BTreeMap<u32, String>,
}

impl Teller {
    /// For the journal in a state folder.
    pub fn of(state: &Path) -> Teller {
        let names = folder::circuits(state).into_iter().chain([MAIN.to_string()]);
        Teller { circuits: names.map(|name| (circuit_stream(&name), name)).collect() }
    }

    /// A record, in a line.
    pub fn describe(&mut self, kind: u8, stream: u32, payload: &Bytes) -> String {
        if let Ok(Line::Run(run)) = Line::decode(payload) {
            self.circuits.insert(stream, run.circuit);
        }
        let circuit = match (kind, self.circuits.get(&stream)) {
            (LINE, Some(name)) if name == MAIN => String::new(),
            (LINE, Some(name)) => format!("'{name}' "),
            (LINE, None) => format!("circuit {stream:08x} "),
            _ => String::new(),
        };
        // Names and bodies come from outside, and may have line ends and escapes in them.
        (circuit + &tell(kind, payload)).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

fn tell(kind: u8, payload: &Bytes) -> String {
    match kind {
        kind if is_input(kind) => match Input::decode(kind, payload) {
            Ok(input) => {
                let body = String::from_utf8_lossy(&input.body);
                let shown: String = body.chars().take(SHOWN).collect();
                let (records, first) = (input.records, input.first_record);
                format!("input: {records} records from {first} on: {shown}")
            }
            Err(problem) => format!("input that cannot be read: {problem}"),
        },
        LINE => match Line::decode(payload) {
            Ok(Line::Run(run)) => format!("start: {} on {} lanes, build {}", run.name, run.lanes, run.build),
            Ok(Line::Opened { source, partition, origin }) => {
                format!("opened: partition {partition} of '{source}' is {}", origin.name)
            }
            Ok(Line::Step { header, .. }) => {
                let blocks = header.sources.iter().flat_map(|range| &range.blocks);
                let records: u64 = blocks.map(|block| u64::from(block.records)).sum();
                format!("step {}: takes {records} records", header.step)
            }
            Ok(Line::Done(trailer)) => {
                let rows: u64 = trailer.outputs.iter().map(|output| output.rows).sum();
                format!("step {}: gave {rows} rows", trailer.step)
            }
            Ok(Line::Snapshot { sequence, step }) => format!("snapshot {sequence} of step {step} is durable"),
            Ok(Line::Shown { sequence }) => format!("what was staged for snapshot {sequence} is shown"),
            Err(problem) => format!("a line that cannot be read: {problem}"),
        },
        other => format!("kind {other}, which this version does not know"),
    }
}

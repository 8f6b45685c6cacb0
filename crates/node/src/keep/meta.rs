//! [`Meta`]: what a snapshot says besides the rows, and [`Positions`]: how far the sources have been taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_circuit::step::StepHeader;
use tidemill_connect::{Origin, Position, Staged};

use super::line::{FORMAT, Run};

/// What a snapshot says of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The version of this form.
    pub(crate) format: u32,
    /// The run that took the snapshot.
    pub(crate) run: Run,
    /// The step whose state it is.
    pub(crate) step: u64,
    /// Processing time of that step.
    pub(crate) now: i64,
    /// Whether every source had come to its end, so that nothing is left to do.
    pub(crate) finished: bool,
    /// The first record of the journal that may be needed besides the snapshot.
    pub(crate) journal: u64,
    /// The step up to which every sink that shows rows at once had shown them.
    pub(crate) delivered: u64,
    /// How far the sources had been taken.
    pub(crate) positions: Positions,
    /// What the sinks have staged for this snapshot, by table.
    pub(crate) staged: BTreeMap<String, Staged>,
    /// What kept state, to say what has changed when the SQL does.
    pub(crate) keepers: Vec<Keeper>,
}

/// A node of the plan that keeps state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keeper {
    /// Its fingerprint.
    pub(crate) fingerprint: u64,
    /// What it is called.
    pub(crate) title: String,
}

impl Meta {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Meta, String> {
        let wrong = |error: serde_json::Error| format!("its description cannot be read: {error}");
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(wrong)?;
        match value["format"].as_u64() {
            Some(format) if format > u64::from(FORMAT) => {
                Err(format!("it was written in form {format}, and this version of tidemill reads up to form {FORMAT}"))
            }
            _ => serde_json::from_value(value).map_err(wrong),
        }
    }
}

/// How far each source has been taken, by its name; a source's partitions by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Positions {
    sources: BTreeMap<String, Vec<Position>>,
}

impl Positions {
    /// A partition is there.
    pub(crate) fn open(&mut self, source: &str, partition: u32, origin: Origin) {
        let positions = self.sources.entry(source.to_string()).or_default();
        if positions.len() == partition as usize {
            positions.push(Position::start(origin));
        }
    }

    /// Opens every partition that `others` knows.
    pub(crate) fn open_all(&mut self, others: &Positions) {
        for (source, positions) in others.all() {
            for (position, partition) in positions.iter().zip(0..) {
                self.open(source, partition, position.origin.clone());
            }
        }
    }

    /// A step takes what its header says; false when it names a partition that was never opened.
    pub(crate) fn take(&mut self, header: &StepHeader) -> bool {
        let mut known = true;
        for range in &header.sources {
            let mut at = |partition: u32, change: &dyn Fn(&mut Position)| {
                let positions = self.sources.get_mut(&range.source);
                match positions.and_then(|positions| positions.get_mut(partition as usize)) {
                    Some(position) => change(position),
                    None => known = false,
                }
            };
            for block in &range.blocks {
                at(block.partition, &|position| {
                    position.to = block.to;
                    position.records += u64::from(block.records);
                });
            }
            range.ended.iter().for_each(|partition| at(*partition, &|position| position.ended = true));
        }
        known
    }

    /// Every source with its partitions.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &[Position])> {
        self.sources.iter().map(|(source, positions)| (source.as_str(), positions.as_slice()))
    }

    /// The partitions of a source.
    pub(crate) fn of(&self, source: &str) -> &[Position] {
        self.sources.get(source).map_or(&[], Vec::as_slice)
    }
}

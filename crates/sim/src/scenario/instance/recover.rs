//! A start: the newest snapshot, and the steps since run again.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_base::planted::{self, Bug};
use tidemill_circuit::Circuit;
use tidemill_circuit::keep::{Blob, SourcePosition};
use tidemill_circuit::step::{StepHeader, StepTrailer};
use tidemill_journal::{Journal, Level, Sequence};
use tidemill_state::snapshot::Manifest;

use super::life::{HEADER, INPUT, TRAILER};
use super::pipeline::{self, Input};
use super::{Outside, Site};
use crate::scenario::{Violation, promise};
use crate::world::World;

/// What a start comes to.
pub(super) struct Recovered {
    pub(super) journal: Arc<Journal>,
    pub(super) circuit: Circuit,
    pub(super) newest: Option<Manifest>,
    /// Input that no step has taken yet.
    pub(super) waiting: VecDeque<Input>,
    /// The last record that a step has taken, and the number of the key that comes next.
    pub(super) taken: Sequence,
    pub(super) next: u64,
}

/// Why a start did not come about, when something failed on the way.
pub(super) type Failed = String;

/// Says of an error that it stands in the way.
fn failed(error: impl ToString) -> Failed {
    error.to_string()
}

impl Site {
    /// Recovers, unless something fails on the way.
    pub(super) fn recover(&mut self) -> Result<Result<Recovered, Failed>, Violation> {
        let (journal, found) = match self.open() {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(failed(error))),
        };
        self.world.note(format_args!("journal: {found}"));
        self.outside.reopened(&found)?;
        let (newest, circuit) = match self.restore()? {
            Ok(restored) => restored,
            Err(error) => return Ok(Err(error)),
        };
        let from = newest.as_ref().map_or(1, |newest| newest.meta.journal);
        let next = circuit.positions().iter().flat_map(next_of).max().unwrap_or(0);
        let recovered = Recovered {
            journal: Arc::new(journal),
            circuit,
            newest,
            waiting: VecDeque::new(),
            taken: Sequence(from - 1),
            next,
        };
        recovered.replay(&self.world, &mut self.outside)
    }

    /// The newest snapshot and a circuit with its state.
    pub(super) fn restore(&mut self) -> Result<Result<(Option<Manifest>, Circuit), Failed>, Violation> {
        let newest = match self.instance.newest() {
            Ok(newest) => newest,
            Err(error) => return Ok(Err(failed(error))),
        };
        let mut circuit = pipeline::circuit(self.world.between(1, 3) as usize)?;
        let Some(manifest) = &newest else { return Ok(Ok((newest, circuit))) };
        let blobs = manifest.blobs.iter().map(|(name, bytes)| Blob { name: name.clone(), bytes: bytes.to_vec() });
        let restored = circuit.restore(&blobs.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        promise!(restored.fresh.is_empty() && restored.dropped.is_empty(), "the plan is the same: {restored:?}");
        promise!(restored.step == manifest.meta.step, "the state is that of step {}", restored.step);
        for chunk in self.instance.reader(manifest) {
            let (id, rows) = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Err(failed(error))),
            };
            let known = circuit.restore_chunk(id, &rows);
            promise!(known.map_err(|error| error.to_string())?, "chunk {id} belongs to nobody");
        }
        circuit.resume_saves();
        let roots = circuit.roots().map_err(|error| error.to_string())?;
        let (state, content) = (manifest.meta.state_hash, manifest.meta.content_root);
        promise!(roots.state == state, "the restored state is {}, not {state}", roots.state);
        promise!(roots.content == content, "the restored content is {}, not {content}", roots.content);
        self.world.note(format_args!("restored snapshot {} of step {}", manifest.sequence, manifest.meta.step));
        Ok(Ok((newest, circuit)))
    }
}

fn next_of(position: &SourcePosition) -> Option<u64> {
    position.partitions.iter().map(|partition| partition.next).max()
}

impl Recovered {
    /// Runs the recorded steps again and gathers the input that none of them took.
    fn replay(mut self, world: &World, outside: &mut Outside) -> Result<Result<Self, Failed>, Violation> {
        let mut reader = match self.journal.reader(self.taken.next(), Level::Flushed) {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(failed(error))),
        };
        let mut next = self.next;
        let mut digest: Option<(u64, String)> = None;
        loop {
            let record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return Ok(Err(failed(error))),
            };
            match record.kind {
                INPUT => {
                    let keys = record.payload.to_vec();
                    let sent = outside.inputs.get(&record.sequence.0);
                    promise!(sent == Some(&keys), "record {} holds {keys:?}, not {sent:?}", record.sequence);
                    let input = Input { sequence: record.sequence, first: next, keys };
                    next = input.end();
                    self.waiting.push_back(input);
                }
                HEADER => {
                    let header = parse::<StepHeader>(&record.payload)?;
                    if header.step > self.circuit.steps() {
                        digest = Some((header.step, self.again(&header, outside)?));
                    }
                }
                TRAILER => {
                    let trailer = parse::<StepTrailer>(&record.payload)?;
                    let given: String = trailer.outputs.iter().map(|output| output.digest.as_str()).collect();
                    if let Some((step, now)) = digest.as_ref().filter(|(step, _)| *step == trailer.step) {
                        promise!(*now == given, "step {step} gave {given}, and now gives {now}");
                    }
                }
                kind => return Err(format!("record {} is of kind {kind}", record.sequence)),
            }
        }
        let (steps, shown) = (self.circuit.steps(), outside.sink.step);
        promise!(steps >= shown, "the sink shows step {shown}, but the journal knows of {steps} only");
        outside.sink.shows(&outside.counts(self.taken))?;
        self.next = next;
        world.note(format_args!("recovered to step {steps}, {} records wait", self.waiting.len()));
        Ok(Ok(self))
    }

    /// Runs a recorded step again; returns the digest of what it gave.
    fn again(&mut self, header: &StepHeader, outside: &mut Outside) -> Result<String, Violation> {
        let step = header.step;
        promise!(step == self.circuit.steps() + 1, "step {step} follows step {}", self.circuit.steps());
        let blocks = header.sources.iter().flat_map(|source| &source.blocks);
        let inputs: Vec<Input> = self.waiting.drain(..blocks.clone().count().min(self.waiting.len())).collect();
        let same = inputs.iter().map(|input| (input.first, input.end())).eq(blocks.map(|block| (block.from, block.to)));
        promise!(same, "step {step} took {:?}, but there are {inputs:?}", header.sources);
        let opened = header.sources.iter().all(|source| source.opened.is_empty());
        let output = self.circuit.step(pipeline::step(header.now, &inputs, opened)?);
        let output = output.map_err(|error| format!("step {step} fails when it runs again: {error}"))?;
        self.taken = inputs.last().map_or(self.taken, |input| input.sequence);
        if step > outside.sink.step || planted::is(Bug::RepeatOutput) {
            outside.sink.take(&output)?;
        } else {
            outside.sink.check(&output)?;
        }
        Ok(pipeline::digest(&output))
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Violation> {
    serde_json::from_slice(payload).map_err(|error| format!("a line of the journal cannot be read: {error}"))
}

//! [`Survey`]: what the journal holds for a circuit beyond its newest snapshot, read once before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_connect::source::KEPT_BYTES;
use tidemill_journal::{Journal, Level, Sequence};

use super::input::{remove, taken};
use super::line::{ANSWERED, Input, LINE, Line, Run, circuit_stream, is_input, stream};
use super::meta::{Meta, Positions};
use crate::error::Error;

/// What the journal holds for a circuit beyond its newest snapshot.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The first record that was read.
    pub(crate) from: Sequence,
    /// The last start of the circuit.
    pub(crate) run: Option<Run>,
    /// Steps to run again.
    pub(crate) steps: u64,
    /// The last of them, or the snapshot's.
    pub(crate) step: u64,
    /// Processing time of that step.
    pub(crate) now: i64,
    /// Whether nothing is left to do after it.
    pub(crate) finished: bool,
    /// The step up to which every sink that shows rows at once has shown them.
    pub(crate) delivered: u64,
    /// How far the steps take the sources.
    pub(crate) positions: Positions,
    /// Input that no step has taken, by source and first record.
    pub(crate) pending: BTreeMap<String, BTreeMap<u64, Pending>>,
    /// The beginning of what each source had kept last, whether a step has taken it or not.
    pub(crate) last: BTreeMap<String, bytes::Bytes>,
    /// The newest snapshot whose files have been shown.
    pub(crate) shown: u64,
    /// The newest snapshot that the journal knows of.
    pub(crate) saved: u64,
    /// The snapshot that rolled back what the journal's steps are about, until a run begins that knew of it.
    pub(crate) abandoned_before: Option<u64>,
}

/// Input that waits in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Where in the journal it stands.
    pub(crate) sequence: u64,
    /// Its records.
    pub(crate) records: u32,
}

impl Survey {
    /// Reads the journal for a circuit from where `snapshot` needs it; `journaled` are those of its sources whose input
    /// stands in it.
    ///
    /// With `abandoned_before`, that snapshot took state back: steps of runs that did not know of it do not count, and
    /// what they took is taken again.
    pub(crate) fn read(
        journal: &Journal,
        circuit: &str,
        snapshot: Option<&Meta>,
        abandoned_before: Option<u64>,
        journaled: &BTreeSet<String>,
    ) -> Result<Survey, Error> {
        // What stood before the first record there is was needed by no circuit when it went.
        let from = snapshot.map_or(Sequence::FIRST, |meta| Sequence(meta.journal)).max(journal.usage().first);
        let mut survey = Survey { from, now: i64::MIN, abandoned_before, ..Survey::default() };
        if let Some(meta) = snapshot {
            survey.run = Some(meta.run.clone());
            (survey.step, survey.now, survey.finished) = (meta.step, meta.now, meta.finished);
            (survey.delivered, survey.positions) = (meta.delivered, meta.positions.clone());
        }
        let lines = circuit_stream(circuit);
        let streams: BTreeMap<u32, &String> = journaled.iter().map(|source| (stream(source), source)).collect();
        let mut reader = journal.reader(from, Level::Process)?;
        while let Some(record) = reader.next()? {
            let wrong = |problem| Error::Journaled { sequence: record.sequence.0, problem };
            match record.kind {
                kind if is_input(kind) => {
                    let Some(source) = streams.get(&record.stream) else { continue };
                    let input = Input::decode(kind, &record.payload).map_err(wrong)?;
                    let beginning = &input.body[..input.body.len().min(KEPT_BYTES)];
                    survey.last.insert(source.to_string(), bytes::Bytes::copy_from_slice(beginning));
                    // What the snapshot's steps have taken stands before where they left the source.
                    if survey.positions.of(source).first().is_some_and(|taken| input.first_record < taken.to) {
                        continue;
                    }
                    let pending = survey.pending.entry(source.to_string()).or_default();
                    let waiting = Pending { sequence: record.sequence.0, records: input.records };
                    pending.insert(input.first_record, waiting);
                }
                LINE if record.stream == lines => {
                    survey.take(Line::decode(&record.payload).map_err(wrong)?).map_err(wrong)?;
                }
                LINE | ANSWERED => {}
                other => return Err(wrong(format!("it is of kind {other}, which this version does not know"))),
            }
        }
        Ok(survey)
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Run(run) => {
                self.abandoned_before.take_if(|snapshot| run.snapshot >= *snapshot);
                self.saved = self.saved.max(run.snapshot);
                self.run = Some(run);
            }
            Line::Opened { source, partition, origin } => self.positions.open(&source, partition, origin),
            Line::Step { header, delivered } => {
                self.delivered = self.delivered.max(delivered);
                if header.step <= self.step || self.abandoned_before.is_some() {
                    return Ok(());
                }
                if header.step != self.step + 1 {
                    return Err(format!("step {} follows step {}", header.step, self.step));
                }
                if !self.positions.take(&header) {
                    return Err(format!("step {} takes from a partition that was never opened", header.step));
                }
                for range in &header.sources {
                    if let Some(pending) = self.pending.get_mut(&range.source) {
                        range.blocks.iter().for_each(|block| remove(pending, taken(block)));
                    }
                }
                (self.step, self.now, self.finished) = (header.step, self.now.max(header.now), header.last);
                self.steps += 1;
            }
            Line::Done(_) => {}
            Line::Snapshot { sequence, .. } => self.saved = self.saved.max(sequence),
            Line::Shown { sequence } => self.shown = self.shown.max(sequence),
        }
        Ok(())
    }
}

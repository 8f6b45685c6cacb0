//! [`Survey`]: what the journal holds beyond the newest snapshot, read once before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_connect::source::KEPT_BYTES;
use tidemill_journal::{Journal, Level, Sequence};

use super::line::{INPUT, Input, LINE, Line, Run, stream};
use super::meta::{Meta, Positions};
use crate::error::Error;

/// What the journal holds beyond the newest snapshot.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The first record that was read.
    pub(crate) from: Sequence,
    /// The last start of the pipeline.
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
    /// Input that no step has taken, by source and first record, and where in the journal it stands.
    pub(crate) pending: BTreeMap<String, BTreeMap<u64, (u64, Input)>>,
    /// The beginning of what each source had kept last, whether a step has taken it or not.
    pub(crate) last: BTreeMap<String, bytes::Bytes>,
    /// The newest snapshot whose files have been shown.
    pub(crate) shown: u64,
    /// The snapshot that rolled back what the journal's steps are about, until a run begins that knew of it.
    pub(crate) abandoned_before: Option<u64>,
}

impl Survey {
    /// Reads the journal from where `snapshot` needs it; `journaled` are the sources whose input stands in it.
    ///
    /// With `abandoned_before`, that snapshot took state back: steps of runs that did not know of it do not count, and
    /// what they took is taken again.
    pub(crate) fn read(
        journal: &Journal,
        snapshot: Option<&Meta>,
        abandoned_before: Option<u64>,
        journaled: &BTreeSet<String>,
    ) -> Result<Survey, Error> {
        let from = snapshot.map_or(Sequence::FIRST, |meta| Sequence(meta.journal)).max(Sequence::FIRST);
        let mut survey = Survey { from, now: i64::MIN, abandoned_before, ..Survey::default() };
        if let Some(meta) = snapshot {
            survey.run = Some(meta.run.clone());
            (survey.step, survey.now, survey.finished) = (meta.step, meta.now, meta.finished);
            (survey.delivered, survey.positions) = (meta.delivered, meta.positions.clone());
        }
        let streams: BTreeMap<u32, &String> = journaled.iter().map(|source| (stream(source), source)).collect();
        let mut reader = journal.reader(from, Level::Process)?;
        while let Some(record) = reader.next()? {
            let wrong = |problem| Error::Journaled { sequence: record.sequence.0, problem };
            match record.kind {
                INPUT => {
                    let Some(source) = streams.get(&record.stream) else { continue };
                    let mut input = Input::decode(&record.payload).map_err(wrong)?;
                    let beginning = &input.body[..input.body.len().min(KEPT_BYTES)];
                    survey.last.insert(source.to_string(), bytes::Bytes::copy_from_slice(beginning));
                    // What the snapshot's steps have taken stands before where they left the source.
                    if survey.positions.of(source).first().is_some_and(|taken| input.first_record < taken.to) {
                        continue;
                    }
                    input.body = bytes::Bytes::copy_from_slice(&input.body);
                    let pending = survey.pending.entry(source.to_string()).or_default();
                    pending.insert(input.first_record, (record.sequence.0, input));
                }
                LINE => survey.take(Line::decode(&record.payload).map_err(wrong)?).map_err(wrong)?,
                other => return Err(wrong(format!("it is of kind {other}, which this version does not know"))),
            }
        }
        Ok(survey)
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Run(run) => {
                self.abandoned_before.take_if(|snapshot| run.snapshot >= *snapshot);
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
                        range.blocks.iter().for_each(|block| {
                            pending.remove(&block.from);
                        });
                    }
                }
                (self.step, self.now, self.finished) = (header.step, self.now.max(header.now), header.last);
                self.steps += 1;
            }
            Line::Done(_) => {}
            Line::Snapshot { .. } => {}
            Line::Shown { sequence } => self.shown = self.shown.max(sequence),
        }
        Ok(())
    }
}

//! [`Again`]: runs steps of the journal again, as their headers say; [`Recovery`]: does so after a restart.
//!
//! Every step has to give what it gave: its trailer is compared. What it gave changes the views and goes to the sinks
//! that stage their rows, for those lost what they had not published; sinks that show rows at once are only given what
//! they had not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_base::time::Stopwatch;
use tidemill_circuit::decode::{Block, BlockData};
use tidemill_circuit::step::{BlockRange, SourceInput, SourceRange, StepHeader, StepInput, StepOutput};
use tidemill_circuit::{Circuit, Delta};
use tidemill_connect::Replay;
use tidemill_journal::{Journal, Level, Sequence};
use tidemill_stage::{Halt, Sender};

use super::line::{Input, LINE, Line, circuit_stream, is_input, stream};
use crate::doors::InboxDoor;
use crate::driver::Driver;
use crate::error::Error;
use crate::intake::{Doorway, fit};
use crate::outputs::Work;
use crate::replay::{compare, compare_headers};
use crate::versioned::feed::Lookups;

/// What is to be done before a restarted run goes on.
pub(crate) struct Recovery {
    /// How many steps are to be run again.
    pub(crate) steps: u64,
    /// The step up to which sinks that show rows at once have shown them.
    pub(crate) delivered: u64,
    /// How they are.
    pub(crate) again: Again,
    /// The lanes to go on with.
    pub(crate) lanes: usize,
}

/// Makes a circuit for a number of lanes.
pub(crate) type MakeCircuit = Arc<dyn Fn(usize) -> Result<Circuit, tidemill_circuit::Error> + Send + Sync>;

/// What is needed to run steps of a journal again.
pub(crate) struct Again {
    /// Where the journal is read from.
    pub(crate) from: Sequence,
    /// The steps after this one are run.
    pub(crate) after: u64,
    /// And none after that one.
    pub(crate) until: u64,
    /// The snapshot that took back the journal's steps, until a run begins that knew of it.
    pub(crate) abandoned_before: Option<u64>,
    /// Whether each step has to give what it gave; else another plan is filled from the same input.
    pub(crate) strict: bool,
    /// What reads the sources again whose input is not in the journal.
    pub(crate) replays: BTreeMap<String, Box<dyn Replay>>,
    /// What decodes the input that is, where it came in through a door.
    pub(crate) doors: BTreeMap<String, Doorway>,
    /// The versioned tables that rows are looked up in.
    pub(crate) lookups: Arc<Lookups>,
    /// The circuit whose steps they are.
    pub(crate) circuit: String,
    /// The sources it reads.
    pub(crate) sources: Vec<String>,
    /// Makes a circuit of the same plan with no state and no log.
    pub(crate) make: MakeCircuit,
    /// Partitions that steps have opened, when not strict: the journal may begin after that.
    pub(crate) opened: BTreeSet<(String, u32)>,
}

/// Input of the journal that the next steps take, by stream and first record, and where it stands.
type Inputs = BTreeMap<(u32, u64), (u64, Input)>;

impl Driver {
    /// Runs the steps since the snapshot again, and spreads the state over the lanes of this run.
    pub(crate) fn recover(&mut self, sinks: &mut [Sender<Work>]) -> Result<(), Halt> {
        let Some(Recovery { steps, delivered, mut again, lanes }) =
            self.keep.as_mut().and_then(|keep| keep.recovery.take())
        else {
            return Ok(());
        };
        let Driver { circuit, outputs, announce, progress, keep: Some(keep), now, .. } = self else { return Ok(()) };
        if steps > 0 {
            let stopwatch = Stopwatch::start();
            let journal = keep.folder.journal.clone();
            again.run(&journal, circuit, announce, &mut |output, _| {
                progress.count(&output);
                *now = (*now).max(output.header.now);
                keep.note(&output.header);
                let shown = output.header.step <= delivered;
                outputs.take_again(output, shown, sinks)
            })?;
            tracing::info!(
                steps,
                millis = stopwatch.elapsed().as_millis() as u64,
                "The steps since the snapshot were run again."
            );
        }
        spread(circuit, &again.make, lanes)?;
        circuit.log_to(Some(Box::new(keep.log.clone())));
        Ok(())
    }
}

/// Moves a circuit's state to one with so many lanes.
pub(crate) fn spread(circuit: &mut Circuit, make: &MakeCircuit, lanes: usize) -> Result<(), Error> {
    if circuit.lanes() == lanes {
        return Ok(());
    }
    let mut wider = make(lanes)?;
    let start = circuit.begin_save(true)?;
    wider.restore(&start.blobs)?;
    loop {
        let slice = circuit.save_slice(usize::MAX)?;
        for chunk in slice.chunks {
            if let Some(rows) = chunk.rows {
                wider.restore_chunk(chunk.id, &rows)?;
            }
        }
        if slice.done {
            break;
        }
    }
    *circuit = wider;
    Ok(())
}

impl Again {
    /// Runs the steps on `circuit`; `announce` tells its functions the time and the seed, `each` takes what each gives.
    pub(crate) fn run(
        &mut self,
        journal: &Journal,
        circuit: &mut Circuit,
        announce: &dyn Fn(i64, u64),
        each: &mut dyn FnMut(StepOutput, &mut Circuit) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut reader = journal.reader(self.from, Level::Process).map_err(Error::Journal)?;
        let (mut inputs, mut last) = (Inputs::new(), None::<StepOutput>);
        let lines = circuit_stream(&self.circuit);
        // Input that this circuit does not read waits for others.
        let sources: BTreeSet<u32> = self.sources.iter().map(|source| stream(source)).collect();
        while let Some(record) = reader.next().map_err(Error::Journal)? {
            let wrong = |problem| Error::Journaled { sequence: record.sequence.0, problem };
            if is_input(record.kind) {
                if sources.contains(&record.stream) {
                    let input = Input::decode(record.kind, &record.payload).map_err(wrong)?.detached();
                    inputs.insert((record.stream, input.first_record), (record.sequence.0, input));
                }
                continue;
            }
            if record.kind != LINE || record.stream != lines {
                continue;
            }
            match Line::decode(&record.payload).map_err(wrong)? {
                Line::Run(run) => {
                    self.abandoned_before.take_if(|snapshot| run.snapshot >= *snapshot);
                }
                Line::Step { header, .. } if !self.strict && header.step <= self.after => {
                    let problem = format!("step {} was taken back and taken again", header.step);
                    return Err(wrong(problem).into());
                }
                Line::Step { header, .. } if header.step > self.after && self.abandoned_before.is_none() => {
                    if let Some(output) = last.take() {
                        each(output, circuit)?;
                    }
                    if header.step > self.until {
                        break;
                    }
                    last = Some(self.step(circuit, announce, &mut inputs, &header)?);
                    self.after = header.step;
                }
                Line::Done(trailer) if self.strict => {
                    if let Some(output) = last.as_ref().filter(|output| output.trailer.step == trailer.step) {
                        compare(&trailer, &output.trailer)?;
                    }
                }
                _ => {}
            }
        }
        last.map_or(Ok(()), |output| each(output, circuit))
    }

    /// Runs one step again.
    fn step(
        &mut self,
        circuit: &mut Circuit,
        announce: &dyn Fn(i64, u64),
        inputs: &mut Inputs,
        header: &StepHeader,
    ) -> Result<StepOutput, Halt> {
        if self.strict {
            spread(circuit, &self.make, header.lanes)?;
        }
        let mut sources = Vec::new();
        for range in &header.sources {
            let SourceRange { source, blocks, opened, ended, idle, complete, watermark: _ } = range;
            if !self.strict && !circuit.has_source(source) {
                continue;
            }
            let blocks: Vec<Block> =
                blocks.iter().map(|block| self.block(source, block, inputs)).collect::<Result<_, _>>()?;
            let (mut opened, ended, idle) = (opened.clone(), ended.clone(), idle.clone());
            if !self.strict {
                self.open_earlier(range, &mut opened);
            }
            sources.push(SourceInput { source: source.clone(), blocks, opened, ended, idle, complete: *complete });
        }
        self.lookups.recall(&self.circuit, &header.tables)?;
        announce(header.now, header.seed);
        let output = circuit.step(StepInput { now: header.now, sources }).map_err(Error::Circuit)?;
        if self.strict {
            compare_headers(header, &output.header)?;
        }
        Ok(output)
    }

    /// Opens partitions that were opened before the journal begins.
    fn open_earlier(&mut self, range: &SourceRange, opened: &mut Vec<u32>) {
        for partition in range.blocks.iter().map(|block| block.partition).chain(range.ended.iter().copied()) {
            if !opened.contains(&partition) && !self.opened.contains(&(range.source.clone(), partition)) {
                opened.push(partition);
            }
        }
        self.opened.extend(opened.iter().map(|partition| (range.source.clone(), *partition)));
    }

    /// A block as it was.
    fn block(&mut self, source: &str, range: &BlockRange, inputs: &mut Inputs) -> Result<Block, Error> {
        if let Some(replay) = self.replays.get_mut(source) {
            return Ok(replay.block(range)?);
        }
        let missing = || Error::Journaled {
            sequence: self.from.0,
            problem: format!(
                "record {} of source '{source}', which a step takes, is not in it or after it",
                range.from
            ),
        };
        let (number, mut at, mut taken) = (stream(source), range.from, Vec::new());
        loop {
            let (sequence, input) = inputs.remove(&(number, at)).ok_or_else(missing)?;
            at += u64::from(input.records);
            taken.push((sequence, input));
            if at >= range.to {
                break;
            }
        }
        block(self.doors.get(source), taken)
    }
}

/// A block of input as it was kept: several bodies, where they came in through a door; else one, which lanes decode.
pub(crate) fn block(doorway: Option<&Doorway>, inputs: Vec<(u64, Input)>) -> Result<Block, Error> {
    let (sequence, first_record) = inputs.first().map_or((0, 0), |(sequence, input)| (*sequence, input.first_record));
    let records: u32 = inputs.iter().map(|(_, input)| input.records).sum();
    let wrong = |problem: String| Error::Journaled { sequence, problem };
    let data = match doorway {
        None => BlockData::Bytes(match inputs.into_iter().next() {
            Some((_, input)) => input.body,
            None => return Err(wrong("a step takes nothing of it".to_string())),
        }),
        Some(Doorway { door, columns }) => {
            let mut rows = Vec::with_capacity(inputs.len());
            for (sequence, input) in inputs {
                rows.push(rows_of(door, sequence, &input)?);
            }
            let rows = Delta::concat(&door.schema(), &rows).map_err(|error| wrong(error.to_string()))?;
            BlockData::Rows(fit(rows, columns).map_err(wrong)?)
        }
    };
    let to = first_record + u64::from(records);
    Ok(Block { partition: 0, from: first_record, to, first_record, records, data })
}

/// The rows of a body that was taken through a door.
fn rows_of(door: &InboxDoor, sequence: u64, input: &Input) -> Result<Delta, Error> {
    door.rows(input).map_err(|problem| Error::Journaled { sequence, problem })
}

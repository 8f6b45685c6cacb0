//! A recorded run, run again: every step takes in what it took then, and must give what it gave.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};

use tidemill_circuit::decode::{Block, Decoders};
use tidemill_circuit::step::{BlockRange, SourceInput, SourceRange, StepHeader, StepInput, StepOutput, StepTrailer};
use tidemill_circuit::{Circuit, circuit};
use tidemill_connect::{Origin, Position, Replay};
use tidemill_sql::Pipeline;

use crate::error::Error;
use crate::part::{MAIN, Part};
use crate::record::{FORMAT, Line, Payload, Run};
use crate::tables::Tables;
use crate::versioned::feed::Lookups;

/// A record of a run that is about to be run again.
pub struct Replayer {
    path: PathBuf,
    run: Run,
}

/// What a replay has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Steps that gave what they gave when they were recorded.
    pub steps: u64,
    /// Records taken in.
    pub records: u64,
    /// Whether the record has its end: else the run was cut off, and what was recorded before has been checked.
    pub complete: bool,
}

impl Replayer {
    /// Opens a record.
    ///
    /// # Errors
    /// [`Error::RecordRead`] when it is none.
    pub fn open(path: &Path) -> Result<Replayer, Error> {
        match Reader::new(path)?.next()? {
            Some(Line::Run(run)) if run.format == FORMAT => Ok(Replayer { path: path.to_path_buf(), run }),
            Some(Line::Run(run)) => {
                let problem = format!("it has form {}, and this version of tidemill reads form {FORMAT}", run.format);
                Err(Error::RecordRead { path: path.to_path_buf(), problem })
            }
            _ => {
                let problem = "it is not a record of a run (tidemill run --record FILE writes one)".to_string();
                Err(Error::RecordRead { path: path.to_path_buf(), problem })
            }
        }
    }

    /// The SQL that ran.
    pub fn sql(&self) -> &str {
        &self.run.sql
    }

    /// What the SQL was called.
    pub fn name(&self) -> &str {
        &self.run.name
    }

    /// Runs every recorded step again; `pipeline` is [`Replayer::sql`], planned.
    ///
    /// # Errors
    /// When a source is another than it was, or a step gives something else.
    pub fn run(&self, pipeline: &Pipeline) -> Result<Replayed, Error> {
        let (mut sources, decoders) = self.sources(pipeline)?;
        let options = circuit::Options {
            lanes: self.run.lanes,
            seed: self.run.seed,
            digests: true,
            ..circuit::Options::default()
        };
        let mut circuit = Circuit::new(&pipeline.plan, &decoders, options)?;
        let lookups = Lookups::open(pipeline, &[Part::main(pipeline)], self.run.state.as_deref())?;
        let mut reader = Reader::new(&self.path)?;
        let mut replayed = Replayed { steps: 0, records: 0, complete: false };
        let mut last: Option<StepOutput> = None;
        while let Some(line) = reader.next()? {
            match line {
                Line::Run(_) | Line::Opened { .. } => {}
                Line::Step { header, data } => {
                    let input = sources.input(&header, &data)?;
                    lookups.recall(MAIN, &header.tables)?;
                    pipeline.session.step.set(header.now, header.seed);
                    let output = circuit.step(input)?;
                    compare_headers(&header, &output.header)?;
                    replayed.records += output.records;
                    last = Some(output);
                }
                Line::Done(trailer) => {
                    let output = last.take().ok_or_else(|| reader.problem("a trailer has no header before it"))?;
                    compare(&trailer, &output.trailer)?;
                    replayed.steps += 1;
                }
                Line::End => replayed.complete = true,
            }
        }
        Ok(replayed)
    }

    /// Opens what can be read again, as it was when it was recorded; and the decoders of all sources, which have to be
    /// those of the same opening.
    fn sources(&self, pipeline: &Pipeline) -> Result<(Sources, Decoders), Error> {
        let mut origins: BTreeMap<String, Vec<Origin>> = BTreeMap::new();
        let mut reader = Reader::new(&self.path)?;
        while let Some(line) = reader.next()? {
            if let Line::Opened { source, origin, .. } = line {
                origins.entry(source).or_default().push(origin);
            }
        }
        let mut decoders = Decoders::new();
        let mut sources = Sources { path: self.path.clone(), readable: BTreeMap::new() };
        for table in Tables::of(pipeline, &Part::main(pipeline))?.sources {
            decoders.extend(table.source.decoder().map(|decoder| (table.name.clone(), decoder)));
            // A source that never came to open a partition gave nothing.
            let Some(origins) = origins.remove(&table.name).filter(|_| !table.is_fleeting) else { continue };
            let positions: Vec<Position> = origins.into_iter().map(Position::start).collect();
            sources.readable.insert(table.name, table.source.replay(&positions)?);
        }
        Ok((sources, decoders))
    }
}

/// Where a replay takes blocks from.
struct Sources {
    path: PathBuf,
    readable: BTreeMap<String, Box<dyn Replay>>,
}

impl Sources {
    /// What a step takes in, read again.
    fn input(&mut self, header: &StepHeader, data: &[Payload]) -> Result<StepInput, Error> {
        let mut sources = Vec::new();
        for range in &header.sources {
            let SourceRange { source, blocks, opened, ended, idle, complete, watermark: _ } = range;
            let blocks = self.blocks(source, blocks, data)?;
            let (opened, ended, idle) = (opened.clone(), ended.clone(), idle.clone());
            sources.push(SourceInput { source: source.clone(), blocks, opened, ended, idle, complete: *complete });
        }
        Ok(StepInput { now: header.now, sources })
    }

    fn blocks(&mut self, source: &str, ranges: &[BlockRange], data: &[Payload]) -> Result<Vec<Block>, Error> {
        let mut blocks = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.iter().enumerate() {
            let payload = data.iter().find(|payload| payload.source == source && payload.block == index);
            blocks.push(match (payload, self.readable.get_mut(source)) {
                (Some(payload), _) => Block {
                    partition: range.partition,
                    from: range.from,
                    to: range.to,
                    first_record: payload.first_record,
                    records: range.records,
                    data: payload.data().map_err(|problem| self.problem(problem))?,
                },
                (None, Some(readable)) => readable.block(range)?,
                (None, None) => return Err(self.problem(format!("it lacks the rows of source '{source}'"))),
            });
        }
        Ok(blocks)
    }

    fn problem(&self, problem: String) -> Error {
        Error::RecordRead { path: self.path.clone(), problem }
    }
}

/// Compares what decides a step: it was given, but for the watermark, which the circuit finds itself.
pub(crate) fn compare_headers(recorded: &StepHeader, found: &StepHeader) -> Result<(), Error> {
    for (recorded_range, found_range) in recorded.sources.iter().zip(&found.sources) {
        if recorded_range != found_range {
            let difference = format!(
                "source '{}' has come to {:?}, and had come to {:?}",
                found_range.source, found_range, recorded_range
            );
            return Err(Error::Differs { step: recorded.step, difference });
        }
    }
    if recorded != found {
        let difference = format!("its header is {found:?}, and was {recorded:?}");
        return Err(Error::Differs { step: recorded.step, difference });
    }
    Ok(())
}

/// Compares what came out of a step.
pub(crate) fn compare(recorded: &StepTrailer, found: &StepTrailer) -> Result<(), Error> {
    let differs = |difference: String| Err(Error::Differs { step: recorded.step, difference });
    for (then, now) in recorded.outputs.iter().zip(&found.outputs) {
        if then != now {
            return differs(format!(
                "output '{}' gave {} rows with digest {}, and had given {} with {}",
                now.name, now.rows, now.digest, then.rows, then.digest
            ));
        }
    }
    if recorded != found {
        return differs(format!("it gave {found:?}, and had given {recorded:?}"));
    }
    Ok(())
}

/// The lines of a record.
struct Reader {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
    number: u64,
}

impl Reader {
    fn new(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)
            .map_err(|error| Error::RecordRead { path: path.to_path_buf(), problem: error.to_string() })?;
        Ok(Reader { path: path.to_path_buf(), lines: BufReader::new(file).lines(), number: 0 })
    }

    /// The next line; none at the end. A last line that was cut off ends the record.
    fn next(&mut self) -> Result<Option<Line>, Error> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.number += 1;
        let line = line.map_err(|error| self.problem(&error.to_string()))?;
        match serde_json::from_str(&line) {
            Ok(line) => Ok(Some(line)),
            Err(error) if error.is_eof() && self.number > 1 && self.lines.next().is_none() => Ok(None),
            Err(error) => Err(self.problem(&format!("line {}: {error}", self.number))),
        }
    }

    fn problem(&self, problem: &str) -> Error {
        Error::RecordRead { path: self.path.clone(), problem: problem.to_string() }
    }
}
